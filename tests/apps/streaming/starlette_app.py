"""Streams in Starlette: server-sent events (sse-starlette's, too), uploads, files, templates, middleware."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

import jinja2
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.datastructures import UploadFile
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.templating import Jinja2Templates

from apps.streaming.board import END, ODD_PIECES, Topic, as_event, describe_file, topics


def topic_of(request: Request) -> Topic:
    return topics[request.path_params["topic"]]


async def publish(request: Request) -> Response:
    topic_of(request).publish((await request.body()).decode())
    return Response(status_code=204)


async def read_notes(request: Request) -> Response:
    return JSONResponse(topic_of(request).notes)


def wait_for_note(request: Request) -> Response:
    topic_of(request).wait_for_note(request.path_params["note"], request.path_params["times"])
    return Response(status_code=204)


BOARD = [
    Route("/publish/{topic}", publish, methods=["POST"]),
    Route("/notes/{topic}", read_notes),
    Route("/wait/{topic}/{note}/{times:int}", wait_for_note),
]


def event_stream(events: Any) -> Response:
    return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


def last_event_id(request: Request) -> int:
    return int(request.headers.get("Last-Event-ID", 0))


# Async generators


async def follow(request: Request) -> Response:
    async def events() -> AsyncIterator[str]:
        async for each in topic_of(request).follow_async(last_event_id(request)):
            yield as_event(*each)

    return event_stream(events())


async def publish_lines(request: Request) -> None:
    for line in [*(await request.body()).decode().splitlines(), END]:
        topic_of(request).publish(line)


async def ask(request: Request) -> Response:
    """Answer the lines of a POST request by an event each."""
    await publish_lines(request)
    return await follow(request)


async def count(request: Request) -> Response:
    async def events() -> AsyncIterator[str]:
        async for number in topic_of(request).count_async():
            yield as_event(number)

    return event_stream(events())


async def fail(request: Request) -> Response:
    async def events() -> AsyncIterator[str]:
        async for number in topic_of(request).fail_async():
            yield as_event(number)

    return event_stream(events())


# Sync generators, which Starlette runs in threads


def follow_sync(request: Request) -> Response:
    return event_stream(as_event(*each) for each in topic_of(request).follow(last_event_id(request)))


def count_sync(request: Request) -> Response:
    return event_stream(as_event(number) for number in topic_of(request).count())


def fail_sync(request: Request) -> Response:
    return event_stream(as_event(number) for number in topic_of(request).fail())


# sse-starlette


async def sse_follow(request: Request) -> Response:
    async def events() -> AsyncIterator[dict[str, Any]]:
        async for number, data in topic_of(request).follow_async(last_event_id(request)):
            yield {"id": str(number), "data": data}

    return EventSourceResponse(events())


async def sse_ask(request: Request) -> Response:
    await publish_lines(request)
    return await sse_follow(request)


async def sse_count(request: Request) -> Response:
    async def events() -> AsyncIterator[ServerSentEvent]:
        async for number in topic_of(request).count_async():
            yield ServerSentEvent(str(number), id=str(number))

    return EventSourceResponse(events())


async def sse_fail(request: Request) -> Response:
    async def events() -> AsyncIterator[dict[str, Any]]:
        async for number in topic_of(request).fail_async():
            yield {"id": str(number), "data": str(number)}

    return EventSourceResponse(events())


async def sse_ping(request: Request) -> Response:
    """Send pings all the time, as events that can be seen, and note what of the client is heard."""

    async def events() -> AsyncIterator[dict[str, Any]]:
        async for number, data in topic_of(request).follow_async():
            yield {"id": str(number), "data": data}

    async def on_close(message: Any) -> None:
        topic_of(request).note(message["type"])

    def ping() -> ServerSentEvent:
        return ServerSentEvent("a ping")

    return EventSourceResponse(events(), ping=0.001, ping_message_factory=ping, client_close_handler_callable=on_close)


# Uploads


async def upload(request: Request) -> Response:
    """Read the request as it comes, and note each piece."""
    topic = topic_of(request)
    with topic.noting():
        async for piece in request.stream():
            if piece:
                topic.note(piece.decode())
    return PlainTextResponse("read")


async def relay(request: Request) -> Response:
    """Answer each piece of the request as soon as it is there."""
    return StreamingResponse(request.stream())


async def leave_unread(request: Request) -> Response:
    return PlainTextResponse("not read")


async def take_files(request: Request) -> Response:
    async with request.form() as form:
        files = {name: describe_file(file.file) for name, file in form.items() if isinstance(file, UploadFile)}
        texts = {name: text for name, text in form.items() if isinstance(text, str)}
    length = request.headers.get("content-length")
    return JSONResponse({"form": texts, "files": files, "length": length and int(length)})


# Files and templates


async def give_file(request: Request) -> Response:
    task = BackgroundTask(topic_of(request).note, "task")
    return FileResponse(request.query_params["path"], media_type="application/octet-stream", background=task)


async def list_open_files(request: Request) -> Response:
    return JSONResponse([os.path.realpath(f"/dev/fd/{fd}") for fd in os.listdir("/dev/fd")])


templates = Jinja2Templates(
    env=jinja2.Environment(loader=jinja2.DictLoader({"page.html": "<p>{{ name }}, {{ n }}</p>"}))
)


async def show_page(request: Request) -> Response:
    return templates.TemplateResponse(request, "page.html", {"name": "Ada", "n": 3, "unsendable": lambda: None})


# Streams of other kinds


async def send_odd_pieces(request: Request) -> Response:
    return StreamingResponse(iter(ODD_PIECES), media_type="text/plain")


async def lines_of(topic: Topic) -> AsyncIterator[str]:
    async for number, data in topic.follow_async():
        yield f"{number} {data}\n"


async def stream_lines(request: Request) -> Response:
    return StreamingResponse(lines_of(topic_of(request)), media_type="text/plain")


async def stream_with_task(request: Request) -> Response:
    topic = topic_of(request)

    async def run() -> None:
        topic.note("task begun")
        await asyncio.sleep(0)
        topic.note("task ended")

    return StreamingResponse(lines_of(topic), media_type="text/plain", background=BackgroundTask(run))


async def poll(request: Request) -> Response:
    """Ask again and again whether the client is still there."""
    topic = topic_of(request)

    async def lines() -> AsyncIterator[str]:
        topic.note("begun")
        yield "there\n"
        while not await request.is_disconnected():
            await asyncio.sleep(0)
        topic.note("not there")

    return StreamingResponse(lines(), media_type="text/plain")


_visitor: ContextVar[str] = ContextVar("visitor", default="nobody")


async def stream_visitor(request: Request) -> Response:
    """Set a context variable in the route, and another value in its stream, which sets the first one back."""
    topic = topic_of(request)
    before = _visitor.get()
    _visitor.set(request.path_params["topic"])

    async def lines() -> AsyncIterator[str]:
        token = _visitor.set(f"{_visitor.get()} in its stream")
        try:
            async for _ in topic.follow_async():
                yield f"{before}, then {_visitor.get()}\n"
        finally:
            _visitor.reset(token)
            topic.note(_visitor.get())

    return StreamingResponse(lines(), media_type="text/plain")


async def stream_visitor_in_threads(request: Request) -> Response:
    before = _visitor.get()
    _visitor.set(request.path_params["topic"])
    return StreamingResponse((f"{before}, then {_visitor.get()}\n" for _ in range(3)), media_type="text/plain")


async def cancel_twice(request: Request) -> Response:
    """End as an asyncio.TaskGroup with an error does since Python 3.13: with one more cancellation."""

    async def lines() -> AsyncIterator[str]:
        try:
            async for line in lines_of(topic_of(request)):
                yield line
        except asyncio.CancelledError:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            raise

    return StreamingResponse(lines(), media_type="text/plain")


async def stream_from_group(request: Request) -> Response:
    """Stream what a task of a group makes, which fails when it is cancelled."""
    lines: asyncio.Queue[str] = asyncio.Queue()

    async def make() -> None:
        try:
            async for line in lines_of(topic_of(request)):
                lines.put_nowait(line)
        finally:
            raise ValueError("the clean-up fails")

    async def group() -> AsyncIterator[str]:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(make())
            while True:
                yield await lines.get()

    return StreamingResponse(group(), media_type="text/plain")


async def fail_to_clean_up(request: Request) -> Response:
    async def lines() -> AsyncIterator[str]:
        try:
            async for line in lines_of(topic_of(request)):
                yield line
        finally:
            raise ValueError("the clean-up fails")

    return StreamingResponse(lines(), media_type="text/plain")


ROUTES = [
    *BOARD,
    Route("/events/{topic}", follow),
    Route("/asking/{topic}", ask, methods=["POST"]),
    Route("/sse/asking/{topic}", sse_ask, methods=["POST"]),
    Route("/endless/{topic}", count),
    Route("/failing/{topic}", fail),
    Route("/sync/events/{topic}", follow_sync),
    Route("/sync/endless/{topic}", count_sync),
    Route("/sync/failing/{topic}", fail_sync),
    Route("/sse/events/{topic}", sse_follow),
    Route("/sse/endless/{topic}", sse_count),
    Route("/sse/pinging/{topic}", sse_ping),
    Route("/sse/failing/{topic}", sse_fail),
    Route("/upload/{topic}", upload, methods=["POST"]),
    Route("/relay", relay, methods=["POST"]),
    Route("/unread", leave_unread, methods=["POST"]),
    Route("/files", take_files, methods=["POST"]),
    Route("/file/{topic}", give_file),
    Route("/open-files", list_open_files),
    Route("/page", show_page),
    Route("/odd", send_odd_pieces),
    Route("/lines/{topic}", stream_lines),
    Route("/task/{topic}", stream_with_task),
    Route("/polling/{topic}", poll),
    Route("/visitor/{topic}", stream_visitor),
    Route("/sync/visitor/{topic}", stream_visitor_in_threads),
    Route("/cancelling-twice/{topic}", cancel_twice),
    Route("/group/{topic}", stream_from_group),
    Route("/littering/{topic}", fail_to_clean_up),
]


class AddHeader(BaseHTTPMiddleware):
    """Adds a header."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers["X-Middleware"] = "was here"
        return response


app = Starlette(routes=ROUTES)
app_with_middleware = Starlette(routes=ROUTES, middleware=[Middleware(AddHeader), Middleware(AddHeader)])
app_with_gzip = Starlette(routes=ROUTES, middleware=[Middleware(GZipMiddleware, minimum_size=1)])
