"""The app, which is ready to query the database."""

from django.apps import AppConfig

from .eager import look


class BooksConfig(AppConfig):
    """Its configuration."""

    name = "books"

    def ready(self) -> None:
        """Query the database, if LIBRARY_EAGER says so."""
        look("ready")
