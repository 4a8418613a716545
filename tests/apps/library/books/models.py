"""The books."""

from django.db import models


class Book(models.Model):
    """One that the library has."""

    title = models.CharField(max_length=100, unique=True)

    class Meta:
        ordering = ["title"]

    def __str__(self) -> str:
        return str(self.title)
