"""The notes."""

from __future__ import annotations

from typing import Any

from django.db import models


class Note(models.Model):
    """A text with a title that no other note has."""

    title = models.CharField(max_length=100, unique=True)
    text = models.TextField(blank=True)

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return str(self.title)

    def as_json(self) -> dict[str, Any]:
        """Return what the views answer."""
        return {"title": self.title, "text": self.text}
