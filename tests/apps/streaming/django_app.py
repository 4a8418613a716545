"""Streams in Django, as a WSGI and as an ASGI app: server-sent events, uploads, files, compression."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import django
from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.files.uploadhandler import TemporaryFileUploadHandler
from django.core.wsgi import get_wsgi_application
from django.http import (
    FileResponse,
    HttpRequest,
    HttpResponse,
    JsonResponse,
    StreamingHttpResponse,
    UnreadablePostError,
)
from django.urls import path
from django.views.decorators.gzip import gzip_page

from apps.streaming.board import END, ODD_PIECES, as_event, describe_file, topics

settings.configure(
    SECRET_KEY="secret for tests",
    ALLOWED_HOSTS=["testserver"],
    ROOT_URLCONF=__name__,
    LOGGING_CONFIG=None,  # so that whatever is logged is on stderr
    USE_TZ=True,
)
django.setup()


async def publish(request: HttpRequest, topic: str) -> HttpResponse:
    topics[topic].publish(request.body.decode())
    return HttpResponse(status=204)


def read_notes(request: HttpRequest, topic: str) -> HttpResponse:
    return JsonResponse(topics[topic].notes, safe=False)


def wait_for_note(request: HttpRequest, topic: str, note: str, times: int) -> HttpResponse:
    topics[topic].wait_for_note(note, times)
    return HttpResponse(status=204)


def event_stream(events: object) -> StreamingHttpResponse:
    return StreamingHttpResponse(events, content_type="text/event-stream", headers={"Cache-Control": "no-cache"})


def last_event_id(request: HttpRequest) -> int:
    return int(request.headers.get("Last-Event-ID", 0))


def follow(request: HttpRequest, topic: str) -> HttpResponse:
    return event_stream(as_event(*each) for each in topics[topic].follow(last_event_id(request)))


def count(request: HttpRequest, topic: str) -> HttpResponse:
    return event_stream(as_event(number) for number in topics[topic].count())


def fail(request: HttpRequest, topic: str) -> HttpResponse:
    return event_stream(as_event(number) for number in topics[topic].fail())


def ask(request: HttpRequest, topic: str) -> HttpResponse:
    """Answer the lines of a POST request by an event each."""
    for line in [*request.body.decode().splitlines(), END]:
        topics[topic].publish(line)
    return follow(request, topic)


async def ask_async(request: HttpRequest, topic: str) -> HttpResponse:
    ask(request, topic)
    return await follow_async(request, topic)


def send_three(request: HttpRequest) -> HttpResponse:
    return event_stream(as_event(number) for number in (1, 2, 3))


async def send_three_async(request: HttpRequest) -> HttpResponse:
    async def events() -> AsyncIterator[str]:
        for number in (1, 2, 3):
            yield as_event(number)

    return event_stream(events())


async def follow_async(request: HttpRequest, topic: str) -> HttpResponse:
    async def events() -> AsyncIterator[str]:
        async for each in topics[topic].follow_async(last_event_id(request)):
            yield as_event(*each)

    return event_stream(events())


async def count_async(request: HttpRequest, topic: str) -> HttpResponse:
    async def events() -> AsyncIterator[str]:
        async for number in topics[topic].count_async():
            yield as_event(number)

    return event_stream(events())


async def fail_async(request: HttpRequest, topic: str) -> HttpResponse:
    async def events() -> AsyncIterator[str]:
        async for number in topics[topic].fail_async():
            yield as_event(number)

    return event_stream(events())


# Uploads


def upload(request: HttpRequest, topic: str) -> HttpResponse:
    """Read the request in pieces of five bytes, and note each."""
    with topics[topic].noting():
        while piece := request.read(5):
            topics[topic].note(piece.decode())
    return HttpResponse("read")


def upload_and_catch(request: HttpRequest, topic: str) -> HttpResponse:
    """Do the same, and catch the error of a client that leaves."""
    try:
        return upload(request, topic)
    except UnreadablePostError:
        return HttpResponse(status=204)


def take_files(request: HttpRequest) -> HttpResponse:
    request.upload_handlers = [TemporaryFileUploadHandler(request)]
    files = {name: describe_file(file.file) for name, file in request.FILES.items()}
    return JsonResponse({"form": request.POST.dict(), "files": files, "length": int(request.META["CONTENT_LENGTH"])})


# Files


class NotingFile(io.FileIO):
    """A file that notes when it is closed."""

    def __init__(self, path: str, topic: str) -> None:
        super().__init__(path)
        self._topic = topics[topic]

    def close(self) -> None:
        if not self.closed:
            self._topic.note("closed")
        super().close()


def give_file(request: HttpRequest, topic: str) -> HttpResponse:
    return FileResponse(NotingFile(request.GET["path"], topic), content_type="application/octet-stream")


# Streams of other kinds


def send_odd_pieces(request: HttpRequest) -> HttpResponse:
    return StreamingHttpResponse(iter(ODD_PIECES), content_type="text/plain")


async def send_odd_pieces_async(request: HttpRequest) -> HttpResponse:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in ODD_PIECES:
            yield piece

    return StreamingHttpResponse(pieces(), content_type="text/plain")


def lines_of(topic: str) -> Iterator[str]:
    return (f"{number}\n" for number in topics[topic].count())


async def lines_of_async(topic: str) -> AsyncIterator[str]:
    async for number, data in topics[topic].follow_async():
        yield f"{number} {data}\n"


@gzip_page
def zipped(request: HttpRequest, topic: str) -> HttpResponse:
    return StreamingHttpResponse(lines_of(topic), content_type="text/plain")


@gzip_page
def zipped_lines(request: HttpRequest, topic: str) -> HttpResponse:
    lines = (f"{number} {data}\n" for number, data in topics[topic].follow())
    return StreamingHttpResponse(lines, content_type="text/plain")


@gzip_page
async def zipped_async(request: HttpRequest, topic: str) -> HttpResponse:
    return StreamingHttpResponse(lines_of_async(topic), content_type="text/plain")


def note_closing(request: HttpRequest, topic: str) -> HttpResponse:
    """Note when the response is closed, which is when Django closes its database connections."""
    response = StreamingHttpResponse(lines_of(topic), content_type="text/plain")
    response._resource_closers.append(lambda: topics[topic].note("response closed"))
    return response


async def note_closing_async(request: HttpRequest, topic: str) -> HttpResponse:
    response = StreamingHttpResponse(lines_of_async(topic), content_type="text/plain")
    response._resource_closers.append(lambda: topics[topic].note("response closed"))
    return response


async def stream_from_thread(request: HttpRequest, topic: str) -> HttpResponse:
    """Get each line from sync code, as an async view does from the database."""

    async def lines() -> AsyncIterator[str]:
        events = topics[topic].follow()
        try:
            while (event := await sync_to_async(next)(events, None)) is not None:
                yield "{} {}\n".format(*event)
        finally:
            await sync_to_async(events.close)()

    return StreamingHttpResponse(lines(), content_type="text/plain")


async def fail_to_clean_up(request: HttpRequest, topic: str) -> HttpResponse:
    async def lines() -> AsyncIterator[str]:
        try:
            async for line in lines_of_async(topic):
                yield line
        finally:
            raise ValueError("the clean-up fails")

    return StreamingHttpResponse(lines(), content_type="text/plain")


urlpatterns = [
    path("publish/<topic>", publish),
    path("notes/<topic>", read_notes),
    path("wait/<topic>/<note>/<int:times>", wait_for_note),
    path("events/<topic>", follow),
    path("endless/<topic>", count),
    path("failing/<topic>", fail),
    path("three", send_three),
    path("async/three", send_three_async),
    path("async/events/<topic>", follow_async),
    path("async/endless/<topic>", count_async),
    path("async/failing/<topic>", fail_async),
    path("upload/<topic>", upload),
    path("upload-and-catch/<topic>", upload_and_catch),
    path("files", take_files),
    path("file/<topic>", give_file),
    path("odd", send_odd_pieces),
    path("async/odd", send_odd_pieces_async),
    path("zipped/<topic>", zipped),
    path("zipped-lines/<topic>", zipped_lines),
    path("async/zipped/<topic>", zipped_async),
    path("closing/<topic>", note_closing),
    path("async/closing/<topic>", note_closing_async),
    path("async/threaded/<topic>", stream_from_thread),
    path("asking/<topic>", ask),
    path("async/asking/<topic>", ask_async),
    path("async/littering/<topic>", fail_to_clean_up),
]

wsgi = get_wsgi_application()
asgi = get_asgi_application()


async def slow_asgi(scope: Any, receive: Any, send: Any) -> None:
    """The same app, on a loop where a turn takes longer than the time between http.disconnect and a cancellation."""

    async def be_slow() -> None:
        while True:
            time.sleep(0.06)
            await asyncio.sleep(0)

    slowing = asyncio.create_task(be_slow())
    try:
        await asgi(scope, receive, send)
    finally:
        slowing.cancel()
