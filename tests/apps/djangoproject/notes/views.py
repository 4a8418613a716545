"""The views, sync and async ones. Each of them works under WSGI and ASGI."""

from __future__ import annotations

import asyncio
import json
import threading

from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from apps.djangoproject.notes.models import Note


@csrf_exempt
def notes(request: HttpRequest) -> HttpResponse:
    if request.method == "POST":
        note = Note.objects.create(**json.loads(request.body))
        return JsonResponse(note.as_json(), status=201, headers={"Location": f"/notes/{note.pk}/"})
    return JsonResponse({"notes": [note.as_json() for note in Note.objects.all()]})


@csrf_exempt
def note(request: HttpRequest, pk: int) -> HttpResponse:
    note = get_object_or_404(Note, pk=pk)
    if request.method == "DELETE":
        note.delete()
        return HttpResponse(status=204)
    return JsonResponse(note.as_json())


def page(request: HttpRequest) -> HttpResponse:
    return render(request, "notes/page.html", {"notes": Note.objects.all()})


@require_POST
def form(request: HttpRequest) -> HttpResponse:
    Note.objects.create(title=request.POST["title"])
    return HttpResponseRedirect("/notes/page/")


@csrf_exempt
async def notes_async(request: HttpRequest) -> HttpResponse:
    if request.method == "POST":
        note = await Note.objects.acreate(**json.loads(request.body))
        return JsonResponse(note.as_json(), status=201, headers={"Location": f"/notes/{note.pk}/"})
    return JsonResponse({"notes": [note.as_json() async for note in Note.objects.all()]})


async def count_async(request: HttpRequest) -> HttpResponse:
    prefix = request.GET.get("prefix", "")
    return JsonResponse({"count": await Note.objects.filter(title__startswith=prefix).acount()})


def visits(request: HttpRequest) -> HttpResponse:
    request.session["visits"] = request.session.get("visits", 0) + 1
    return JsonResponse({"visits": request.session["visits"]})


def color(request: HttpRequest) -> HttpResponse:
    response = HttpResponse(request.COOKIES.get("color", "no color"), content_type="text/plain")
    if "set" in request.GET:
        response.set_cookie("color", request.GET["set"], max_age=60, samesite="Strict")
    return response


@csrf_exempt
def upload(request: HttpRequest) -> HttpResponse:
    file = request.FILES["file"]
    return JsonResponse({"name": file.name, "size": file.size, "kind": type(file).__name__})


def where_sync(request: HttpRequest) -> HttpResponse:
    return HttpResponse(threading.current_thread().name)


async def where_async(request: HttpRequest) -> HttpResponse:
    return HttpResponse(threading.current_thread().name)


_sync_barrier = threading.Barrier(4)
_async_barrier = threading.Barrier(4)


def meet_sync(request: HttpRequest) -> HttpResponse:
    """Answer once four requests are here at the same time."""
    before = Note.objects.count()
    _sync_barrier.wait(timeout=30)
    return JsonResponse({"before": before, "after": Note.objects.count()})


async def meet_async(request: HttpRequest) -> HttpResponse:
    """Answer once four requests are here at the same time."""
    before = await Note.objects.acount()
    await asyncio.to_thread(_async_barrier.wait, 30)
    return JsonResponse({"before": before, "after": await Note.objects.acount()})


@csrf_exempt
def rollback(request: HttpRequest) -> HttpResponse:
    try:
        with transaction.atomic():
            Note.objects.create(title="never seen")
            raise LookupError
    except LookupError:
        return JsonResponse({"count": Note.objects.count()})


def crash(request: HttpRequest) -> HttpResponse:
    print("the view is about to fail")
    raise LookupError("nobody handles this")
