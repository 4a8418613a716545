"""Queries a database as soon as it is asked to, and takes note of which one that was."""

import os

from django.db import DatabaseError, connection


def look(where: str) -> None:
    """Query the database, if LIBRARY_EAGER names the place; the database, process and session go to a file."""
    if where in os.environ.get("LIBRARY_EAGER", "").split():
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT count(*) FROM books_book")
        except DatabaseError:
            pass  # there is no such table yet
        with open("eager.log", "a") as file:
            session = connection.connection.info.backend_pid if connection.vendor == "postgresql" else 0
            file.write(f"{where} {connection.settings_dict['NAME']} {os.getpid()} {session}\n")


def middleware(get_response):
    """Query the database when the handler is made."""
    look("middleware")
    return get_response
