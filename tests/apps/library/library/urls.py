"""Which view answers what. It queries the database when it is imported, if LIBRARY_EAGER says so."""

from books import views
from books.eager import look
from django.urls import path

look("urls")

urlpatterns = [
    path("books", views.books),
    path("async-books", views.async_books),
    path("elsewhere", views.elsewhere),
    path("stream", views.stream),
    path("crash", views.crash),
    path("async-crash", views.async_crash),
    path("half", views.half),
    path("talk", views.talk),
    path("mail", views.mail),
    path("mailer", views.mailer),
    path("settings", views.settings_seen),
    path("database", views.database),
    path("die", views.die),
    path("thread", views.thread),
]
