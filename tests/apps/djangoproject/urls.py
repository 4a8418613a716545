"""Where the views are."""

from __future__ import annotations

from django.urls import path

from apps.djangoproject.notes import views

urlpatterns = [
    path("notes/", views.notes),
    path("notes/<int:pk>/", views.note),
    path("notes/page/", views.page),
    path("notes/form/", views.form),
    path("async/notes/", views.notes_async),
    path("async/count/", views.count_async),
    path("visits/", views.visits),
    path("color/", views.color),
    path("upload/", views.upload),
    path("where/sync/", views.where_sync),
    path("where/async/", views.where_async),
    path("meet/sync/", views.meet_sync),
    path("meet/async/", views.meet_async),
    path("rollback/", views.rollback),
    path("crash/", views.crash),
]
