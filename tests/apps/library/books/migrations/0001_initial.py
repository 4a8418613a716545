"""Creates the table of the books, and a first one, if LIBRARY_INITIAL names it."""

import os

from django.db import migrations, models


def add_first(apps, schema_editor):
    if "LIBRARY_INITIAL" in os.environ:
        books = apps.get_model("books", "Book").objects.using(schema_editor.connection.alias)
        books.create(title=os.environ["LIBRARY_INITIAL"])


class Migration(migrations.Migration):
    """The first one."""

    initial = True

    operations = [
        migrations.CreateModel(
            name="Book",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("title", models.CharField(max_length=100, unique=True)),
            ],
            options={"ordering": ["title"]},
        ),
        migrations.RunPython(add_first),
    ]
