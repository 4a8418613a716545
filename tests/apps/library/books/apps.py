"""The app, which is ready to query the database."""

from django.apps import AppConfig
from django.db.backends.signals import connection_created

from .eager import look


class BooksConfig(AppConfig):
    """Its configuration."""

    name = "books"

    def ready(self) -> None:
        """Query the database, if LIBRARY_EAGER says so."""
        connection_created.connect(hurry)
        look("ready")


def hurry(connection, **kwargs):
    """Let SQLite wait for no disk: that is most of what these tests take."""
    if connection.vendor == "sqlite":
        connection.cursor().execute("PRAGMA synchronous = OFF")
