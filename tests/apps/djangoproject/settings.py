"""Settings. The database is the file that the environment variable DJANGO_TEST_DB names."""

from __future__ import annotations

import os

SECRET_KEY = "secret for tests"
DEBUG = False
ALLOWED_HOSTS = ["testserver"]
USE_TZ = True
TIME_ZONE = "UTC"
ROOT_URLCONF = "apps.djangoproject.urls"
WSGI_APPLICATION = "apps.djangoproject.wsgi.application"
ASGI_APPLICATION = "apps.djangoproject.asgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = ["django.contrib.sessions", "apps.djangoproject.notes"]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ["DJANGO_TEST_DB"],
        "OPTIONS": {"timeout": 30},
    }
}
