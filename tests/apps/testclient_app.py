"""The apps of `test_testclient.py`: `app`, which is Starlette's and a raw one, and some with lifespans of their own.

What an app does while no request looks, it writes into the file that the environment variable `TESTCLIENT_NOTES` names.
All but `wsgi` run under asyncio and under trio.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import jinja2
from starlette.applications import Starlette
from starlette.background import BackgroundTask, BackgroundTasks
from starlette.datastructures import UploadFile
from starlette.endpoints import HTTPEndpoint
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.templating import Jinja2Templates
from starlette.websockets import WebSocket, WebSocketDisconnect
from validators import valid_asgi

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]

LIMIT = 30.0  # seconds for what takes milliseconds; only a defect reaches it

caller: ContextVar[str] = ContextVar("caller", default="nobody")


class Broken(Exception):
    """What these apps raise."""

    def __init__(self, what: str, code: int = 0) -> None:
        super().__init__(what, code)
        self.what = what
        self.code = code


class Refused(Exception):
    """What the app has a handler for."""


def note(text: str) -> None:
    """Write a line into the file of notes, if there is one."""
    if "TESTCLIENT_NOTES" in os.environ:
        with open(os.environ["TESTCLIENT_NOTES"], "a") as file:
            file.write(f"{text}\n")


# What one request waits for, and another one tells. Each may have an event loop of its own.

_told: dict[str, threading.Event] = {}
_lock = threading.Lock()


def _event(name: str) -> threading.Event:
    with _lock:
        return _told.setdefault(name, threading.Event())


def tell(name: str) -> None:
    """Let those go on that wait for a name."""
    _event(name).set()


def wait(name: str) -> bool:
    """Wait until a name is told, and return whether it was."""
    return _event(name).wait(LIMIT)


# The raw app: the second part of the path is a function, the third its argument


async def _respond(send: Send, body: bytes = b"", *, status: int = 200, headers: Iterable[Any] = ()) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})


async def _read(receive: Receive) -> bytes:
    body = b""
    while True:
        event = await receive()
        assert event["type"] == "http.request"
        body += event.get("body", b"")
        if not event.get("more_body", False):
            return body


async def scope_(argument: str, scope: Event, receive: Receive, send: Send) -> None:
    """Send the scope, as Python writes it."""
    text = repr(dict(scope))
    if scope["type"] == "http":
        await _respond(send, text.encode())
    else:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": text})
        await send({"type": "websocket.close"})


async def body(argument: str, scope: Event, receive: Receive, send: Send) -> None:
    """Send back what was received."""
    await _respond(send, await _read(receive))


async def unread(argument: str, scope: Event, receive: Receive, send: Send) -> None:
    """Answer without a look at the request's body."""
    await _respond(send, b"unread")


async def after(name: str, scope: Event, receive: Receive, send: Send) -> None:
    """Answer, ask what comes then, and tell the name if it is what ASGI says."""
    assert await _read(receive) == b"all of it"
    await _respond(send, b"complete")
    assert (await receive())["type"] == "http.disconnect"
    assert (await receive())["type"] == "http.disconnect"
    tell(name)


async def endless(name: str, scope: Event, receive: Receive, send: Send) -> None:
    """Stream for ever, and tell the name at the end of that."""
    try:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-endless", b"yes")]})
        while True:
            await send({"type": "http.response.body", "body": b"piece", "more_body": True})
    finally:
        tell(name)


async def stuck(name: str, scope: Event, receive: Receive, send: Send) -> None:
    """Stream one piece, then wait for ever, and tell the name at the end of that."""
    try:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"piece", "more_body": True})
        await anyio.sleep_forever()
    finally:
        tell(name)


async def never(name: str, scope: Event, receive: Receive, send: Send) -> None:
    """Never answer."""
    await anyio.sleep_forever()


async def two(name: str, scope: Event, receive: Receive, send: Send) -> None:
    """Stream two pieces, the second one when the name is told."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"one", "more_body": True})
    assert await anyio.to_thread.run_sync(wait, name)
    await send({"type": "http.response.body", "body": b"two", "more_body": False})


async def pieces(argument: str, scope: Event, receive: Receive, send: Send) -> None:
    """Stream pieces, an empty one among them, and end with an empty one."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for piece in (b"a", b"", b"b" * 100_000):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body"})


async def duplex(argument: str, scope: Event, receive: Receive, send: Send) -> None:
    """Send back each piece of the request's body when it has come."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while (event := await receive()).get("more_body", False):
        await send({"type": "http.response.body", "body": event["body"], "more_body": True})
    await send({"type": "http.response.body", "body": event["body"]})


async def trailers(argument: str, scope: Event, receive: Receive, send: Send) -> None:
    """Send a body in two pieces and trailers in two events."""
    await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": True})
    await send({"type": "http.response.body", "body": b"bo", "more_body": True})
    await send({"type": "http.response.body", "body": b"dy"})
    await send({"type": "http.response.trailers", "headers": [(b"x-one", b"1")], "more_trailers": True})
    await send({"type": "http.response.trailers", "headers": [(b"x-two", b"2"), (b"x-two", b"3")]})


async def no_trailers(argument: str, scope: Event, receive: Receive, send: Send) -> None:
    """Announce trailers, and send an empty list of them."""
    await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": True})
    await send({"type": "http.response.body", "body": b"body"})
    await send({"type": "http.response.trailers", "headers": []})


async def debug(argument: str, scope: Event, receive: Receive, send: Send) -> None:
    """Send what only the test is to see."""
    info = {"template": "a name", "context": {"number": 1, "list": ["a"]}, "more": True}
    await send({"type": "http.response.debug", "info": info})
    await _respond(send, b"page")


async def headers(argument: str, scope: Event, receive: Receive, send: Send) -> None:
    """Send headers with the same name."""
    pairs = [(b"x-many", b"1"), (b"X-Many", b"2"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"x-empty", b"")]
    await _respond(send, headers=pairs)


async def silent(argument: str, scope: Event, receive: Receive, send: Send) -> None:
    """Return without an answer."""


async def broken(when: str, scope: Event, receive: Receive, send: Send) -> None:
    """Raise before the response, in its middle, or after it."""
    if when == "before":
        raise Broken(when, 1)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if when.startswith("start"):
        if when == "start-late":
            await _checkpoints()
        raise Broken(when, 1)
    await send({"type": "http.response.body", "body": b"piece", "more_body": when == "within"})
    if when == "after-late":
        await _checkpoints()
    raise Broken(when, 2)


async def _checkpoints() -> None:
    for _ in range(100):
        await anyio.sleep(0)


async def stepwise(name: str, scope: Event, receive: Receive, send: Send) -> None:
    """Stream pieces, empty ones among them, and note each that was taken."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for number, piece in enumerate((b"", b"one", b"", b"two")):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        note(str(number))
    await send({"type": "http.response.body"})
    note("complete")


async def file(path: str, scope: Event, receive: Receive, send: Send) -> None:
    """Send a file by its path, if that is offered."""
    assert "http.response.pathsend" in scope["extensions"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.pathsend", "path": f"/{path}"})


async def ws_echo(argument: str, scope: Event, receive: Receive, send: Send) -> None:
    """Accept, send back what comes, and tell the end's code and reason by a note."""
    assert await receive() == {"type": "websocket.connect"}
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({**event, "type": "websocket.send"})
    note(f"{event['code']} {event['reason']}")


async def ws_accept(argument: str, scope: Event, receive: Receive, send: Send) -> None:
    """Accept with the last subprotocol that is offered, and with headers."""
    await receive()
    pairs = [(b"x-one", b"1"), (b"set-cookie", b"a=1")]
    await send({"type": "websocket.accept", "subprotocol": (scope["subprotocols"] or [None])[-1], "headers": pairs})
    await receive()


async def ws_close(argument: str, scope: Event, receive: Receive, send: Send) -> None:
    """Accept, send one message, and close with a code and a reason."""
    code, _, reason = argument.partition("-")
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": "last"})
    await send({"type": "websocket.close", "code": int(code), "reason": reason})


async def ws_deny(how: str, scope: Event, receive: Receive, send: Send) -> None:
    """Refuse the WebSocket: without a word, with a code and a reason, or by a response in two pieces."""
    await receive()
    if how == "silently":
        await send({"type": "websocket.close"})
    elif how == "with-reason":
        await send({"type": "websocket.close", "code": 4003, "reason": "not you"})
    else:
        start = {"type": "websocket.http.response.start", "status": 401, "headers": [(b"www-authenticate", b"Basic")]}
        await send(start)
        await send({"type": "websocket.http.response.body", "body": b"who ", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"are you?"})


async def ws_broken(when: str, scope: Event, receive: Receive, send: Send) -> None:
    """Raise before the WebSocket is accepted, after that, in answer to a message, or when the client has closed it."""
    await receive()
    if when == "before":
        raise Broken(when)
    await send({"type": "websocket.accept"})
    if when == "after":
        raise Broken(when)
    if when == "message":
        await send({"type": "websocket.send", "text": "one"})
        assert (await receive())["text"] == "one"
    else:
        assert (await receive())["type"] == "websocket.disconnect"
    raise Broken(when)


async def ws_deaf(name: str, scope: Event, receive: Receive, send: Send) -> None:
    """Accept, never look whether the client is still there, and tell the name at the end."""
    await receive()
    await send({"type": "websocket.accept"})
    try:
        await anyio.sleep_forever()
    finally:
        tell(name)


_RAW: dict[str, Callable[[str, Event, Receive, Send], Awaitable[None]]] = {
    function.__name__.strip("_"): function
    for function in (
        scope_, body, unread, after, endless, stuck, never, two, pieces, duplex, trailers, no_trailers, debug, headers,
        silent, broken, stepwise, file, ws_echo, ws_accept, ws_close, ws_deny, ws_broken, ws_deaf,
    )
}  # fmt: skip


async def raw(scope: Event, receive: Receive, send: Send) -> None:
    """Call the function that the path names."""
    function, _, argument = scope["path"].removeprefix(scope["root_path"]).removeprefix("/raw/").partition("/")
    await _RAW[function](argument, scope, receive, send)


# Starlette's


async def echo(request: Request) -> JSONResponse:
    """Return what has come."""
    return JSONResponse(
        {
            "method": request.method,
            "url": str(request.url),
            "path": request.url.path,
            "query": request.query_params.multi_items(),
            "body": (await request.body()).decode("latin-1"),
            "type": request.headers.get("content-type"),
            "cookies": request.cookies,
            "agent": request.headers.get("user-agent"),
            "client": list(request.client or ()),
        }
    )


async def header(request: Request) -> JSONResponse:
    """Return all values of one header."""
    return JSONResponse(request.headers.getlist(request.path_params["name"]))


async def form(request: Request) -> JSONResponse:
    """Return a form's fields and files, in order."""
    async with request.form() as data:
        fields: list[Any] = []
        for name, value in data.multi_items():
            if isinstance(value, UploadFile):
                content = (await value.read()).decode("latin-1")
                fields.append([name, value.filename, value.content_type, content])
            else:
                fields.append([name, value])
    return JSONResponse(fields)


async def stream_body(request: Request) -> JSONResponse:
    """Return how large the request's body is, read in pieces."""
    size = 0
    async for piece in request.stream():
        size += len(piece)
    return JSONResponse(size)


async def set_cookies(request: Request) -> Response:
    """Set what the query says, and send the client on, if asked to."""
    response: Response = PlainTextResponse("set")
    if "to" in request.query_params:
        response = RedirectResponse(request.query_params["to"])
    for name, value in request.query_params.multi_items():
        if name != "to":
            response.set_cookie(name, value)
    return response


async def delete_cookie(request: Request) -> Response:
    """Let the client forget a cookie."""
    response = PlainTextResponse("deleted")
    response.delete_cookie(request.path_params["name"])
    return response


async def path_cookie(request: Request) -> Response:
    """Set a cookie that is for one path only."""
    response = PlainTextResponse("set")
    response.set_cookie("narrow", "1", path="/narrow")
    return response


async def redirect(request: Request) -> Response:
    """Send the client on with a status."""
    return RedirectResponse(request.query_params["to"], request.path_params["status"])


async def loop(request: Request) -> Response:
    """Send the client on to here for ever."""
    return RedirectResponse("/loop")


async def status(request: Request) -> Response:
    """Return a status and nothing else."""
    return Response(status_code=request.path_params["status"])


async def basic(request: Request) -> Response:
    """Want a password: that of RFC 7617."""
    if request.headers.get("authorization") == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==":
        return PlainTextResponse("come in")
    return PlainTextResponse("who?", 401, {"www-authenticate": "Basic"})


async def digest(request: Request) -> Response:
    """Want a digest, and take any."""
    authorization = request.headers.get("authorization", "")
    if authorization.startswith('Digest username="me", realm="here", nonce="n", uri="/digest"'):
        return PlainTextResponse("come in")
    return PlainTextResponse("who?", 401, {"www-authenticate": 'Digest realm="here", nonce="n", algorithm=MD5'})


async def large(request: Request) -> Response:
    """Return a body of the size that is asked for."""
    return PlainTextResponse("x" * request.path_params["size"])


async def file(request: Request) -> Response:
    """Return this file."""
    return FileResponse(__file__, media_type="text/x-python")


async def state(request: Request) -> JSONResponse:
    """Return the request's state as it is, and change it."""
    seen = dict(request.state._state)
    request.state.greeting = "changed"
    request.state.mine = "only mine"
    return JSONResponse(seen)


def sync_caller(request: Request) -> PlainTextResponse:
    """Return the context variable, in a thread of Starlette's; change it."""
    seen = caller.get()
    caller.set("the app")
    return PlainTextResponse(seen)


async def async_caller(request: Request) -> PlainTextResponse:
    """Return the context variable; change it."""
    seen = caller.get()
    caller.set("the app")
    return PlainTextResponse(seen)


def told(request: Request) -> JSONResponse:
    """Wait until a name is told."""
    return JSONResponse(wait(request.path_params["name"]))


async def tell_(request: Request) -> Response:
    """Tell a name."""
    tell(request.path_params["name"])
    return Response()


_meetings: dict[str, threading.Barrier] = {}


def meet(request: Request) -> JSONResponse:
    """Wait until as many requests are here as the path says."""
    with _lock:
        barrier = _meetings.setdefault(request.url.path, threading.Barrier(request.path_params["count"]))
    barrier.wait(LIMIT)
    return JSONResponse(request.query_params["number"])


_done: list[str] = []


async def _work(text: str) -> None:
    for _ in range(10):
        await anyio.lowlevel.checkpoint()
    _done.append(text)


def _sync_work(text: str) -> None:
    _done.append(text)


async def _broken_work() -> None:
    raise Broken("in the background", 3)


async def background(request: Request) -> Response:
    """Return at once, and work then."""
    tasks = BackgroundTasks()
    tasks.add_task(_work, request.path_params["text"])
    tasks.add_task(_sync_work, "and more")
    return PlainTextResponse("soon", background=tasks)


async def stream_background(request: Request) -> Response:
    """Stream, and work then."""
    return StreamingResponse(iter(["a", "b"]), background=BackgroundTask(_work, request.path_params["text"]))


async def broken_background(request: Request) -> Response:
    """Return at once, and raise then."""
    return PlainTextResponse("fine", background=BackgroundTask(_broken_work))


async def done(request: Request) -> JSONResponse:
    """Return what was worked, and forget it."""
    result = _done[:]
    _done.clear()
    return JSONResponse(result)


async def fail(request: Request) -> Response:
    """Raise what the path says."""
    kinds: dict[str, Callable[[], BaseException]] = {
        "broken": lambda: Broken("as asked for", 42),
        "value": lambda: ValueError("not a value", 1),
        "os": lambda: FileNotFoundError(2, "No such file or directory", "/nowhere"),
        "refused": lambda: Refused("handled"),
        "http": lambda: HTTPException(409, "in conflict", {"x-why": "conflict"}),
    }
    raise kinds[request.path_params["kind"]]()


async def chained(request: Request) -> Response:
    """Raise one exception because of another."""
    try:
        raise KeyError("cause")
    except KeyError as error:
        raise Broken("effect") from error


async def refused(request: Request, error: Exception) -> Response:
    """Answer in the place of what raised Refused."""
    return PlainTextResponse(f"refused: {error}", 418)


async def numbers() -> AsyncIterator[str]:
    """Yield some lines."""
    for number in range(5):
        yield f"{number}\n"
        await anyio.lowlevel.checkpoint()


async def streamed(request: Request) -> Response:
    """Stream some lines."""
    return StreamingResponse(numbers(), media_type="text/plain")


async def backend(request: Request) -> JSONResponse:
    """Return what runs this: its name, and whether it is in debug mode."""
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        return JSONResponse(["trio", None])
    return JSONResponse(["asyncio", running.get_debug()])


async def loop_is_lifespans(request: Request) -> JSONResponse:
    """Return whether this runs in the loop that the lifespan runs in."""
    return JSONResponse(_running() == request.state.loop)


def _running() -> int:
    # An event loop has one thread, and here each has a thread of its own.
    return threading.get_ident()


templates = Jinja2Templates(env=jinja2.Environment(loader=jinja2.DictLoader({"hello.html": "<p>Hello, {{ name }}!"})))


async def template(request: Request) -> Response:
    """Render a template."""
    return templates.TemplateResponse(request, "hello.html", {"name": "you", "numbers": [1, 2]})


class Endpoint(HTTPEndpoint):
    """A class of Starlette's, with a method for two of HTTP's."""

    async def get(self, request: Request) -> Response:
        return PlainTextResponse("got")

    def post(self, request: Request) -> Response:
        return PlainTextResponse("posted", 201)


async def ws_info(websocket: WebSocket) -> None:
    """Send what the handshake says."""
    await websocket.accept()
    await websocket.send_json(
        {
            "url": str(websocket.url),
            "query": websocket.query_params.multi_items(),
            "cookies": websocket.cookies,
            "agent": websocket.headers.get("user-agent"),
            "x-test": websocket.headers.getlist("x-test"),
            "authorization": websocket.headers.get("authorization"),
            "state": dict(websocket.state._state),
            "caller": caller.get(),
            "root_path": websocket.scope["root_path"],
        }
    )
    await websocket.close()


async def ws_json(websocket: WebSocket) -> None:
    """Send back JSON, in text messages or in binary ones."""
    mode = websocket.path_params["mode"]
    await websocket.accept()
    try:
        while True:
            await websocket.send_json(await websocket.receive_json(mode), mode)
    except WebSocketDisconnect:
        pass


async def ws_denial(websocket: WebSocket) -> None:
    """Refuse the WebSocket by a response of Starlette's."""
    await websocket.send_denial_response(JSONResponse({"detail": "no"}, 403, {"x-why": "because"}))


async def ws_iterate(websocket: WebSocket) -> None:
    """Send numbers, and close."""
    await websocket.accept(websocket.query_params.get("subprotocol"))
    for number in range(3):
        await websocket.send_text(str(number))
    await websocket.close(1001, "no more")


async def inside(request: Request) -> JSONResponse:
    """Return where a mounted app says it is."""
    return JSONResponse([request.scope["root_path"], str(request.url_for("inside")), str(request.base_url)])


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
    """Note when it starts and ends."""
    note("start")
    yield {"greeting": "hello"}
    note("end")


ANY = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY", "TRACE", "PURGE"]

site = Starlette(
    routes=[
        Route("/echo", echo, methods=ANY),
        Route("/echo/{rest:path}", echo, methods=ANY),
        Route("/header/{name}", header),
        Route("/form", form, methods=["POST"]),
        Route("/stream-body", stream_body, methods=["POST"]),
        Route("/cookies", set_cookies),
        Route("/cookies/delete/{name}", delete_cookie),
        Route("/cookies/narrow", path_cookie),
        Route("/narrow", echo),
        Route("/redirect/{status:int}", redirect, methods=["GET", "POST"]),
        Route("/loop", loop),
        Route("/status/{status:int}", status),
        Route("/basic", basic),
        Route("/digest", digest),
        Route("/large/{size:int}", large),
        Route("/file", file),
        Route("/state", state),
        Route("/caller/sync", sync_caller),
        Route("/caller/async", async_caller),
        Route("/told/{name}", told),
        Route("/tell/{name}", tell_),
        Route("/meet/{name}/{count:int}", meet),
        Route("/background/{text}", background),
        Route("/stream-background/{text}", stream_background),
        Route("/broken-background", broken_background),
        Route("/done", done),
        Route("/fail/{kind}", fail),
        Route("/chained", chained),
        Route("/streamed", streamed),
        Route("/backend", backend),
        Route("/template", template),
        Route("/endpoint", Endpoint),
        Mount("/mounted", routes=[Route("/inside", inside)], name="mounted"),
        Route("/inside", inside, name="inside"),
        WebSocketRoute("/ws/info", ws_info),
        WebSocketRoute("/ws/json/{mode}", ws_json),
        WebSocketRoute("/ws/denial", ws_denial),
        WebSocketRoute("/ws/iterate", ws_iterate),
    ],
    exception_handlers={Refused: refused},
    lifespan=lifespan,
)


@valid_asgi
async def app(scope: Event, receive: Receive, send: Send) -> None:
    """Call the raw app for paths that begin with /raw/, and Starlette's for all else."""
    if scope["type"] != "lifespan" and scope["path"].removeprefix(scope["root_path"]).startswith("/raw/"):
        await raw(scope, receive, send)
    else:
        await site(scope, receive, send)


# With lifespans of their own


@asynccontextmanager
async def _start_fails(app: Starlette) -> AsyncIterator[None]:
    note("start")
    raise Broken("at the start", 7)
    yield


@asynccontextmanager
async def _end_fails(app: Starlette) -> AsyncIterator[None]:
    note("start")
    yield
    note("end")
    raise Broken("at the end", 8)


@asynccontextmanager
async def _with_task(app: Starlette) -> AsyncIterator[dict[str, Any]]:
    # A task that squares numbers for the requests.
    ask, questions = anyio.create_memory_object_stream[Any](1)

    async def square() -> None:
        async for number, answer in questions:
            await answer.send(number * number)
            answer.close()
        note("the task ends")

    async with questions, anyio.create_task_group() as group:
        group.start_soon(square)
        async with ask:
            yield {"ask": ask, "loop": _running()}
        note("end")


async def _squared(request: Request) -> JSONResponse:
    tell_answer, answer = anyio.create_memory_object_stream[int](1)
    await request.state.ask.send((request.path_params["number"], tell_answer))
    async with answer:
        return JSONResponse(await answer.receive())


async def _noted(request: Request) -> Response:
    note(f"request {request.url.path}")
    return PlainTextResponse("noted", background=BackgroundTask(note, "background"))


async def _ws_noted(websocket: WebSocket) -> None:
    await websocket.accept()
    note("websocket")
    await websocket.close()


noting = Starlette(routes=[Route("/", _noted), WebSocketRoute("/ws", _ws_noted)], lifespan=lifespan)
failing_start = Starlette(routes=[Route("/", _noted)], lifespan=_start_fails)
failing_end = Starlette(routes=[Route("/", _noted)], lifespan=_end_fails)
with_task = Starlette(
    routes=[Route("/square/{number:int}", _squared), Route("/loop", loop_is_lifespans)], lifespan=_with_task
)
without_lifespan = Starlette(routes=[Route("/", _noted), Route("/state", state)])


async def http_only(scope: Event, receive: Receive, send: Send) -> None:
    """Refuse all but HTTP, the lifespan included, as many an example does."""
    assert scope["type"] == "http", "HTTP only"
    await _respond(send, b"http only")


async def without(scope: Event, receive: Receive, send: Send) -> None:
    """Refuse the lifespan by its name, as Django, Channels and strawberry do."""
    if scope["type"] == "lifespan":
        raise ValueError("No application configured for scope type 'lifespan'")
    await _respond(send, b"without")


async def late(scope: Event, receive: Receive, send: Send) -> None:
    """Fail in the lifespan, which it knows."""
    if scope["type"] == "lifespan":
        await receive()
        raise ValueError("the lifespan fails")


async def ignorant(scope: Event, receive: Receive, send: Send) -> None:
    """Return at once when it is called for the lifespan."""
    if scope["type"] == "http":
        await _respond(send, b"ignorant")


async def start_refused(scope: Event, receive: Receive, send: Send) -> None:
    """Say that the start has failed, without an exception."""
    assert scope["type"] == "lifespan"
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "not today"})


async def lifespan_scope(scope: Event, receive: Receive, send: Send) -> None:
    """Answer with the scope and the events that the lifespan has had, as Python writes them."""
    if scope["type"] == "http":
        await _respond(send, repr(scope["state"]["seen"]).encode())
        return
    seen = {**scope, "state": dict(scope["state"])}
    event = await receive()
    scope["state"]["seen"] = [seen, dict(event)]
    await send({"type": "lifespan.startup.complete"})
    note(repr(dict(await receive())))
    await send({"type": "lifespan.shutdown.complete"})


# In other styles


def asgi2(scope: Event) -> Callable[[Receive, Send], Awaitable[None]]:
    """An app as ASGI 2 has it."""

    async def instance(receive: Receive, send: Send) -> None:
        await _respond(send, f"ASGI 2 {scope['path']}".encode())

    return instance


class Asgi2:
    """An app as ASGI 2 has it, in its usual style."""

    def __init__(self, scope: Event) -> None:
        self.scope = scope

    async def __call__(self, receive: Receive, send: Send) -> None:
        await asgi2(self.scope)(receive, send)


class Callable3:
    """An object that is an app."""

    async def __call__(self, scope: Event, receive: Receive, send: Send) -> None:
        await http_only(scope, receive, send)


callable3 = Callable3()


class Awaitable3:
    """A class whose instances are awaited, as Starlette's endpoints are."""

    def __init__(self, scope: Event, receive: Receive, send: Send) -> None:
        self.arguments = scope, receive, send

    def __await__(self) -> Any:
        return http_only(*self.arguments).__await__()


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """An app as PEP 3333 has it."""
    if environ["PATH_INFO"] == "/fail":
        raise Broken("in WSGI", 9)
    if environ["PATH_INFO"] == "/cookies":
        start_response("200 OK", [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
        return [environ.get("HTTP_COOKIE", "").encode()]
    if environ["PATH_INFO"] == "/away":
        start_response("302 Found", [("Location", "/there?a=1")])
        return []
    if environ["PATH_INFO"] == "/endless":
        start_response("200 OK", [])
        return iter(lambda: b"piece", b"")
    start_response("200 OK", [("Content-Type", "text/plain")])
    names = "REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "SERVER_NAME", "SERVER_PORT", "REMOTE_ADDR"
    body = environ["wsgi.input"].read().decode("latin-1")
    return ["\n".join([*(environ.get(name, "") for name in names), environ["HTTP_USER_AGENT"], body]).encode()]
