"""What runs beside the app. May import: `socketless._wire`, `socketless.eventloop`, `socketless.errors`.

`wsgi` imports werkzeug and `asgi` imports asgiref; each only when an app of its kind is served.
"""
