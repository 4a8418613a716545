"""Creates the table of the books, and the one that every library has."""

from django.db import migrations, models


def add_dictionary(apps, schema_editor):
    apps.get_model("books", "Book").objects.using(schema_editor.connection.alias).create(title="Dictionary")


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
        migrations.RunPython(add_dictionary),
    ]
