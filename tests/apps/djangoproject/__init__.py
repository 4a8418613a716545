"""A small Django project: notes in SQLite, by sync and async views, under WSGI and ASGI."""
