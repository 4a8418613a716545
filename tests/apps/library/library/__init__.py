"""A Django project whose tests use socketless. `tests/test_django.py` copies it, and adds the tests."""
