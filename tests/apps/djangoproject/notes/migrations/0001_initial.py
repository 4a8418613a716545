"""Creates the table of the notes."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    """The first one."""

    initial = True

    operations = [
        migrations.CreateModel(
            name="Note",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("title", models.CharField(max_length=100, unique=True)),
                ("text", models.TextField(blank=True)),
            ],
            options={"ordering": ["pk"]},
        ),
    ]
