"""Queries a database as soon as it is asked to, and takes note of which one that was."""

import os

from django.db import DatabaseError, connection


def look(where: str) -> None:
    """Query the database, if LIBRARY_EAGER names a file; the process and the database's name go there."""
    log = os.environ.get("LIBRARY_EAGER")
    if log:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT count(*) FROM books_book")
        except DatabaseError:
            pass  # there is no such table yet
        with open(log, "a") as file:
            file.write(f"{where} {os.getpid()} {connection.settings_dict['NAME']}\n")
