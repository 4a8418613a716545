"""Settings. The environment says which databases there are, LIBRARY_DATABASES in JSON, and what else is special."""

import json
import os
from pathlib import Path

import django
from books.eager import look

BASE_DIR = Path(__file__).parent.parent
SECRET_KEY = "secret for tests"
DEBUG = True
ALLOWED_HOSTS = ["library.example"]
USE_TZ = True
ROOT_URLCONF = "library.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "books",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "books.eager.middleware",
]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "collected"
MEDIA_URL = "media/"
MEDIA_ROOT = BASE_DIR / "media"
GREETING = "hello"
if django.VERSION >= (6, 1):
    MAILERS = {"default": {"BACKEND": "django.core.mail.backends.smtp.EmailBackend"}}

REAL = {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "real.sqlite3"}
DATABASES = json.loads(os.environ["LIBRARY_DATABASES"]) if "LIBRARY_DATABASES" in os.environ else {"default": REAL}

look("settings")
