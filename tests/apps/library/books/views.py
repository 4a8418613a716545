"""What the library answers."""

import logging
import os
import sys
import threading

from django.conf import settings
from django.core.mail import send_mail
from django.db import connection
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.views.decorators.csrf import csrf_exempt

from .models import Book


def titles(using: str = "default") -> list[str]:
    return list(Book.objects.using(using).values_list("title", flat=True))


@csrf_exempt
def books(request):
    if request.method == "POST":
        Book.objects.create(title=request.POST["title"])
    return JsonResponse(titles(), safe=False)


async def async_books(request):
    if request.GET:
        await Book.objects.acreate(title=request.GET["title"])
    return JsonResponse([book.title async for book in Book.objects.all()], safe=False)


def elsewhere(request):
    return JsonResponse(titles("other"), safe=False)


def stream(request):
    return StreamingHttpResponse(f"{title}\n" for title in Book.objects.values_list("title", flat=True).iterator())


def crash(request):
    Book.objects.create(title="Half a book")
    raise ValueError("no such shelf")


async def async_crash(request):
    raise ValueError("no such shelf")


def half(request):
    def pieces():
        yield "first\n"
        raise ValueError("torn")

    return StreamingHttpResponse(pieces())


def talk(request):
    print("printed by the view")
    print("an error by the view", file=sys.stderr)
    logging.getLogger("books").warning("logged by the view")
    return HttpResponse("said")


def mail(request):
    send_mail("Overdue", "Bring it back.", "library@example.com", ["ada@example.com"])
    return HttpResponse("sent")


def settings_seen(request):
    names = ("DEBUG", "GREETING", "ALLOWED_HOSTS")
    return JsonResponse({name: getattr(settings, name) for name in names})


def mailer(request):
    return HttpResponse(
        settings.MAILERS["default"]["BACKEND"] if hasattr(settings, "MAILERS") else settings.EMAIL_BACKEND
    )


def database(request):
    return JsonResponse({"name": str(connection.settings_dict["NAME"]), "pid": os.getpid()})


def die(request):
    os._exit(3)


def thread(request):
    found = []
    thread = threading.Thread(target=lambda: found.append(titles()))
    thread.start()
    thread.join()
    return JsonResponse(found[0], safe=False)
