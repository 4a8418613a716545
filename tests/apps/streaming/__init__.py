"""Sample apps that stream, in Flask, Django, Starlette and FastAPI, and what their tests share."""
