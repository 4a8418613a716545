"""Streams in Flask: server-sent events from generators, uploads, files, templates."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterable, Iterator
from contextvars import ContextVar

import flask
from flask import (
    Flask,
    Response,
    jsonify,
    request,
    send_file,
    stream_template_string,
    stream_with_context,
)
from flask.typing import ResponseReturnValue
from werkzeug.wsgi import wrap_file

from apps.streaming.board import END, ODD_PIECES, as_event, describe_file, topics

app = Flask(__name__)


@app.post("/publish/<topic>")
def publish(topic: str) -> ResponseReturnValue:
    topics[topic].publish(request.get_data(as_text=True))
    return "", 204


@app.get("/notes/<topic>")
def read_notes(topic: str) -> ResponseReturnValue:
    return jsonify(topics[topic].notes)


@app.get("/wait/<topic>/<note>/<int:times>")
def wait_for_note(topic: str, note: str, times: int) -> ResponseReturnValue:
    topics[topic].wait_for_note(note, times)
    return "", 204


def event_stream(events: Iterable[str] | Iterable[bytes]) -> Response:
    return Response(events, mimetype="text/event-stream", headers={"Cache-Control": "no-cache"})


def last_event_id() -> int:
    return request.headers.get("Last-Event-ID", 0, type=int)


@app.get("/events/<topic>")
def follow(topic: str) -> Response:
    return event_stream(as_event(*each) for each in topics[topic].follow(last_event_id()))


@app.post("/asking/<topic>")
def ask(topic: str) -> Response:
    """Answer the lines of a request by an event each."""
    for line in [*request.get_data(as_text=True).splitlines(), END]:
        topics[topic].publish(line)
    return follow(topic)


@app.get("/endless/<topic>")
def count(topic: str) -> Response:
    return event_stream(as_event(number) for number in topics[topic].count())


@app.get("/failing/<topic>")
def fail(topic: str) -> Response:
    return event_stream(as_event(number) for number in topics[topic].fail())


@app.get("/pinging/<topic>")
def ping(topic: str) -> Response:
    """Send a comment where there is no event, as senders do to hear of clients that have gone."""
    events = topics[topic].follow_with_pings(last_event_id())
    return event_stream(": ping\n\n" if each is None else as_event(*each) for each in events)


# stream_with_context: the generators read the request that they answer


@app.get("/context/events/<topic>")
def follow_with_context(topic: str) -> Response:
    def events() -> Iterator[str]:
        for each in topics[topic].follow(last_event_id()):
            yield as_event(*each)

    return event_stream(stream_with_context(events()))


@app.get("/context/endless/<topic>")
def count_with_context(topic: str) -> Response:
    def events() -> Iterator[str]:
        for number in topics[topic].count():
            yield as_event(number) if request.path else ""

    return event_stream(stream_with_context(events()))


@app.get("/context/failing/<topic>")
def fail_with_context(topic: str) -> Response:
    def events() -> Iterator[str]:
        for number in topics[topic].fail():
            yield as_event(number) if request.path else ""

    return event_stream(stream_with_context(events()))


@app.get("/bytes/<topic>")
def send_bytes(topic: str) -> Response:
    """Send two events byte by byte."""
    stream = (
        'retry: 10\r\nid: 1\r\ndata: {"snake":\r\ndata: "\N{SNAKE}"}\r\n: ping\r\n\r\nevent: bye\nid: 2\ndata: é\n\n'
    )
    return event_stream(bytes([byte]) for byte in stream.encode())


@app.get("/numbers/<topic>")
def send_numbers(topic: str) -> Response:
    return Response((f"{number}\n" for number in topics[topic].count()), mimetype="text/plain")


# Uploads


@app.post("/upload/<topic>")
def upload(topic: str) -> ResponseReturnValue:
    """Read the request in pieces of five bytes, and note each."""
    with topics[topic].noting():
        while piece := request.stream.read(5):
            topics[topic].note(piece.decode())
    return "read"


@app.post("/upload-lines/<topic>")
def upload_lines(topic: str) -> ResponseReturnValue:
    with topics[topic].noting():
        for line in request.stream:
            topics[topic].note(line.decode().strip())
    return "read"


@app.post("/relay")
def relay() -> Response:
    """Answer each piece of the request as soon as it is there."""
    size = request.args.get("size", 5, type=int)
    return Response(stream_with_context(iter(lambda: request.stream.read(size), b"")))


@app.post("/unread")
def leave_unread() -> ResponseReturnValue:
    return "not read"


@app.post("/files")
def take_files() -> ResponseReturnValue:
    files = {name: describe_file(file.stream) for name, file in request.files.items()}
    return jsonify(form=request.form, files=files, length=request.content_length)


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


@app.get("/file/<topic>")
def give_file(topic: str) -> Response:
    return send_file(request.args["path"], mimetype="application/octet-stream", conditional=True)


@app.get("/open-file/<topic>")
def give_open_file(topic: str) -> Response:
    file = NotingFile(request.args["path"], topic)
    return send_file(file, mimetype="application/octet-stream")


@app.get("/wrapped-file/<topic>")
def give_wrapped_file(topic: str) -> Response:
    file = NotingFile(request.args["path"], topic)
    return Response(wrap_file(request.environ, file, 1000), direct_passthrough=True)


# Streams of other kinds


@app.get("/odd")
def send_odd_pieces() -> Response:
    return Response(iter(ODD_PIECES), mimetype="text/plain")


@app.get("/async/<topic>")
async def stream_from_async_view(topic: str) -> Response:
    """Wait in an event loop, and stream after it has ended."""
    await asyncio.sleep(0)
    return Response((f"{number}\n" for number in topics[topic].count()), mimetype="text/plain")


@app.get("/template/<topic>")
def stream_template(topic: str) -> Response:
    template = "{% for number in numbers %}<li>{{ number }}</li>\n{% endfor %}"
    return Response(stream_template_string(template, numbers=topics[topic].count()))


@app.get("/closing/<topic>")
def note_closing(topic: str) -> Response:
    """Note what comes after the stream."""
    flask.g.topic = topics[topic]
    response = Response(stream_with_context(f"{number}\n" for number in topics[topic].count()), mimetype="text/plain")
    response.call_on_close(lambda: topics[topic].note("response closed"))
    return response


@app.teardown_request
def note_teardown(error: BaseException | None) -> None:
    if "topic" in flask.g:
        flask.g.topic.note("request torn down")


_visitor: ContextVar[str] = ContextVar("visitor", default="nobody")


@app.get("/visitor/<topic>")
def stream_visitor(topic: str) -> Response:
    """Set a context variable in the view, and another value in its stream, which sets the first one back."""
    before = _visitor.get()
    _visitor.set(topic)

    def lines() -> Iterator[str]:
        token = _visitor.set(f"{_visitor.get()} in its stream")
        try:
            for _ in topics[topic].count():
                yield f"{before}, then {_visitor.get()}\n"
        finally:
            _visitor.reset(token)
            topics[topic].note(_visitor.get())

    return Response(lines(), mimetype="text/plain")


@app.get("/littering/<topic>")
def fail_to_clean_up(topic: str) -> Response:
    def lines() -> Iterator[str]:
        try:
            for number in topics[topic].count():
                yield f"{number}\n"
        finally:
            raise ValueError("the clean-up fails")

    return Response(lines(), mimetype="text/plain")
