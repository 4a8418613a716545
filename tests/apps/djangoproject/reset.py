"""Reset hooks. Import them once Django has been set up."""

from __future__ import annotations

from django.contrib.sessions.models import Session

from apps.djangoproject.notes.models import Note


def reset_database() -> None:
    """Delete all notes and sessions."""
    Note.objects.all().delete()
    Session.objects.all().delete()


async def reset_database_async() -> None:
    """Delete all notes and sessions."""
    await Note.objects.all().adelete()
    await Session.objects.all().adelete()
