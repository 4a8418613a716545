"""Streams in FastAPI: server-sent events and JSON lines from path operations that yield, uploads, dependencies."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Annotated, Any

from fastapi import BackgroundTasks, Depends, FastAPI, Form, Header, Request, UploadFile
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from apps.streaming.board import Topic, describe_file, topics
from apps.streaming.starlette_app import BOARD

app = FastAPI(routes=BOARD)

LastEventId = Annotated[int, Header(alias="Last-Event-ID")]
Length = Annotated[int | None, Header(alias="Content-Length")]


def event(number: int, data: str | None = None) -> ServerSentEvent:
    return ServerSentEvent(id=str(number), raw_data=data or str(number))


@app.get("/events/{topic}", response_class=EventSourceResponse)
async def follow(topic: str, last_event_id: LastEventId = 0) -> AsyncIterable[ServerSentEvent]:
    async for each in topics[topic].follow_async(last_event_id):
        yield event(*each)


@app.post("/asking/{topic}", response_class=EventSourceResponse)
async def ask(topic: str, request: Request) -> AsyncIterable[ServerSentEvent]:
    """Answer the lines of a request by an event each."""
    for number, line in enumerate((await request.body()).decode().splitlines(), 1):
        yield event(number, line)


@app.get("/endless/{topic}", response_class=EventSourceResponse)
async def count(topic: str) -> AsyncIterable[ServerSentEvent]:
    async for number in topics[topic].count_async():
        yield event(number)


@app.get("/failing/{topic}", response_class=EventSourceResponse)
async def fail(topic: str) -> AsyncIterable[ServerSentEvent]:
    async for number in topics[topic].fail_async():
        yield event(number)


@app.get("/sync/events/{topic}", response_class=EventSourceResponse)
def follow_sync(topic: str, last_event_id: LastEventId = 0) -> Iterable[ServerSentEvent]:
    for each in topics[topic].follow(last_event_id):
        yield event(*each)


@app.get("/sync/endless/{topic}", response_class=EventSourceResponse)
def count_sync(topic: str) -> Iterable[ServerSentEvent]:
    for number in topics[topic].count():
        yield event(number)


@app.get("/sync/failing/{topic}", response_class=EventSourceResponse)
def fail_sync(topic: str) -> Iterable[ServerSentEvent]:
    for number in topics[topic].fail():
        yield event(number)


# Uploads


@app.post("/files")
async def take_files(file: UploadFile, comment: Annotated[str, Form()] = "", length: Length = None) -> dict[str, Any]:
    return {"form": {"comment": comment}, "files": {"file": describe_file(file.file)}, "length": length}


@app.post("/upload/{topic}")
async def upload(topic: str, request: Request) -> str:
    with topics[topic].noting():
        async for piece in request.stream():
            if piece:
                topics[topic].note(piece.decode())
    return "read"


# Dependencies that are torn down


async def session(topic: str) -> AsyncIterator[Topic]:
    topics[topic].note("opened")
    try:
        yield topics[topic]
    finally:
        topics[topic].note("closed")


def session_in_thread(topic: str) -> Iterator[Topic]:
    topics[topic].note("opened in a thread")
    try:
        yield topics[topic]
    finally:
        topics[topic].note("closed in a thread")


async def lines_of(topic: Topic) -> AsyncIterator[str]:
    async for number, data in topic.follow_async():
        yield f"{number} {data}\n"


@app.get("/session/{topic}")
async def stream_from_session(
    topic: Annotated[Topic, Depends(session)],
    other: Annotated[Topic, Depends(session_in_thread)],
    tasks: BackgroundTasks,
) -> StreamingResponse:
    tasks.add_task(topic.note, "task")
    return StreamingResponse(lines_of(other), media_type="text/plain")


@app.get("/items/{topic}")
async def yield_items(topic: Annotated[Topic, Depends(session)]) -> AsyncIterable[dict[str, Any]]:
    """Send JSON lines."""
    async for number, data in topic.follow_async():
        yield {"number": number, "data": data}


async def littering_session(topic: str) -> AsyncIterator[Topic]:
    try:
        yield topics[topic]
    finally:
        raise ValueError("the clean-up fails")


@app.get("/littering/{topic}")
async def stream_from_littering_session(topic: Annotated[Topic, Depends(littering_session)]) -> StreamingResponse:
    return StreamingResponse(lines_of(topic), media_type="text/plain")
