"""The messages that cross a pipe. They hold plain values only: never a client library's or a framework's objects.

Between threads the messages themselves cross, and what the app has made (an exception, a result) as it is.

One exchange on a channel is one message each way, for an ordinary request:

    host                         worker
    Request  ─────────────────▶           an HTTP request, its body inside
             ◀─────────────────  Response | Failed
    Reset    ─────────────────▶           call the reset hook
             ◀─────────────────  Done | Failed
    Call     ─────────────────▶           call a function
             ◀─────────────────  Result | Failed

A body that is streamed comes in chunks. That of a request is pulled: the host writes one when the app has asked for it.
That of a response is pushed: the pipe's capacity is the back-pressure. The two may overlap. In a response that is
paced, the app waits after each chunk until its reader has taken it.

    Request(more_body) ───────▶
             ◀─────────────────  WantBody         before each
    Chunk    ─────────────────▶
             ◀─────────────────  Response(more_body)
             ◀─────────────────  Chunk            as often as it likes; the last one says more_body=False
    Taken    ─────────────────▶           after each that says is_held

A WebSocket is the ASGI events themselves, both ways as they come. A worker always reads them, and keeps those that its
app has yet to receive. When they are `MOST_AHEAD`, the client has to wait, and goes on reading meanwhile.

    Request(scheme="ws") ─────▶
             ◀─────────────────  Event(accept) | Event(close) | Response, which denies it
    Event    ◀────────────────▶  Event
             ◀─────────────────  Received         now and then: the app has received as much
    Echo     ◀────────────────▶  Echo             the same comes back: it wakes who reads at the host
             ◀─────────────────  Done | Failed    the app has returned

    Cancel   ─────────────────▶           at any time: the client has gone. The worker's last message still comes.

An exchange is over with the worker's last message (`is_last`). What arrives at a worker after that, because the two
have crossed in the pipes, belongs to nobody, and is dropped.

The control channel starts the worker, and is asked where it is stuck:

    Start    ─────────────────▶
             ◀─────────────────  Ready | Failed
    GetStack ─────────────────▶
             ◀─────────────────  Stack
    SetLevels ────────────────▶           the host's loggers have other levels now
             ◀─────────────────  Done
    EndChannel ───────────────▶           one has ended at the host, of which the worker may know nothing
             ◀─────────────────  Done
    OpenChannel ──────────────▶           in the place of one that has ended
             ◀─────────────────  Done | Failed
    Stop     ─────────────────▶           leave; so does the end of the pipe
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import Context
from dataclasses import field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as message

    from socketless._wire.exceptions import Packed
else:
    import dataclasses

    def message(*, frozen: bool) -> Any:
        """Return the decorator. Frozen for type checkers alone: each would take three times as long to define."""
        return dataclasses.dataclass


DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
WEBSOCKET_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}

RawHeaders = list[tuple[bytes, bytes]]

# What a client may send before its app receives it, counted by `room_of()`: what sockets hold. [Over loopback to
# uvicorn, 27,000 messages of 100 bytes, or 290 to 920 of 10 kB.]
MOST_AHEAD = 4 * 1024 * 1024
_HOLDER = 256  # bytes: what an event takes beside its data


def port_of(port: int | None, scheme: str) -> int:
    """Return the port of a URL, which may name none; 0 is one."""
    return DEFAULT_PORTS[scheme] if port is None else port


@message(frozen=True)
class Request:
    """An HTTP request (RFC 9110), or, if the scheme is "ws" or "wss", a WebSocket's opening handshake (RFC 6455).

    With `more_body`, its body is to be asked for. `is_paced` and `offers_files` are how in-process clients differ.
    """

    method: str
    scheme: str
    server: tuple[str, int]
    raw_target: bytes  # path and query as the client wrote them, still percent-encoded
    headers: RawHeaders
    body: bytes = b""
    root_path: str = ""
    client: tuple[str, int] | None = None
    more_body: bool = False
    context: Context | None = None  # what the app runs in; only between threads
    # As from Starlette's TestClient: wrong lengths pass, and a final 1xx; the path is what was asked for.
    is_lenient: bool = False
    is_paced: bool = False  # the app waits until each piece of its response has been taken
    offers_files: bool = True  # the app may send the path of a file

    @property
    def is_websocket(self) -> bool:
        return self.scheme in ("ws", "wss")

    @property
    def label(self) -> str:
        """Method and target for messages to people."""
        method = "WebSocket" if self.is_websocket else self.method
        return f"{method} {self.raw_target.decode('latin-1')}"


@message(frozen=True)
class Response:
    """An HTTP response (RFC 9110). With `more_body`, chunks follow, if only one that says how the app has ended.

    `is_whole`: the app goes on after its body. `is_held`: it waits until this has been taken.

    `extensions` holds what the app has sent by an extension of ASGI, by its name: "http.response.debug" and
    "http.response.trailers".
    """

    status: int
    reason: str
    headers: RawHeaders
    body: bytes = b""
    more_body: bool = False
    extensions: dict[str, Any] = field(default_factory=dict)
    is_whole: bool = False
    is_held: bool = False


@message(frozen=True)
class Chunk:
    """A piece of a body that is streamed; the fields are those of a `Response`."""

    body: bytes
    more_body: bool
    extensions: dict[str, Any] = field(default_factory=dict)
    is_whole: bool = False
    is_held: bool = False


@message(frozen=True)
class Taken:
    """What was held has been taken: the app goes on."""


@message(frozen=True)
class WantBody:
    """The app reads its request: send the next chunk."""


@message(frozen=True)
class Cancel:
    """The client has gone: nobody wants the answer any more."""


@message(frozen=True)
class Event:
    """An event of the ASGI specification's WebSocket protocol, such as "websocket.send"."""

    event: dict[str, Any]


@message(frozen=True)
class Received:
    """The app has received events that take up as much room as this says, since the last one of these."""

    room: int


@message(frozen=True)
class Echo:
    """To be sent back as it is."""

    raw: bytes


@message(frozen=True)
class Failed:
    """The app, a function or the start raised.

    `response` is what was not sent yet of the app's response, if that had begun. With `more_body` it is not complete,
    and breaks off there.
    """

    error: BaseException | Packed  # packed where it has come from another process
    summary: str
    traceback: str
    response: Response | Chunk | None = None


@message(frozen=True)
class Reset:
    """Call the reset hook."""

    context: Context | None = None

    label = "the reset hook"


@message(frozen=True)
class Call:
    """Call a function that takes no argument, and await what it returns if that can be awaited."""

    function: Callable[[], Any] | bytes  # pickled, for another process
    name: str
    context: Context | None = None

    @property
    def label(self) -> str:
        return f"run({self.name})"


@message(frozen=True)
class Result:
    """What the function has returned."""

    value: Any  # pickled, from another process


@message(frozen=True)
class Done:
    """The reset hook, or the app behind a WebSocket, has returned; what was cancelled has come to its end; the levels
    are set; the channel is open."""


@message(frozen=True)
class ImportSource:
    """`module:attribute`, `module:dotted.attribute` or `module:factory("literal", key=1)`: the worker imports it."""

    path: str

    @property
    def description(self) -> str:
        return repr(self.path)


@message(frozen=True)
class PickledSource:
    """An object by value."""

    pickled: bytes = field(repr=False)  # there may be passwords in it
    description: str


@message(frozen=True)
class InheritedSource:
    """An object that a forked worker, or one of threads, has in its memory. It never crosses a pipe."""

    value: Any
    description: str


AppSource = ImportSource | PickledSource | InheritedSource  # the ways in which an app, or a hook, gets there


@message(frozen=True)
class Start:
    """What a worker needs to know. `app_kind` is "auto", "wsgi" or "asgi"."""

    app: AppSource
    app_kind: str
    reset_hook: AppSource | None
    argv: list[str]  # what apps see in-process, too: some ask whether "test" is in it
    max_body_bytes: int | None = None  # of a response
    lifespan: str = "auto"  # "on": an ASGI app must have one; "entered": or say it has none; "off": not run
    state: dict[str, Any] | None = None  # the lifespan's; the test's own dictionary, between threads
    backend: str = "asyncio"  # what an ASGI app runs on, or "trio"
    backend_options: Mapping[str, Any] = field(default_factory=dict)
    levels: dict[str, int] = field(default_factory=dict)  # as in `SetLevels`
    has_log_handlers: bool = False  # the host's root logger
    debug: bool = False  # write to stderr what arrives
    spins: bool = False  # see `may_spin()`
    prepare: Callable[[], object] | None = None  # what a process calls before it loads the app


@message(frozen=True)
class Ready:
    """The app is loaded, its lifespan started, and requests may come. `app_kind` is "wsgi" or "asgi"."""

    app_kind: str


@message(frozen=True)
class OpenChannel:
    """Serve one more channel: read from one FIFO, and write to the other."""

    number: int
    requests: str
    responses: str


@message(frozen=True)
class EndChannel:
    """A channel has ended at the host: let it end at the worker as well. The answer says that the worker lives on."""

    number: int


@message(frozen=True)
class GetStack:
    """Say where the exchange on a channel is; without a number, where the start is."""

    channel: int | None = None


@message(frozen=True)
class Stack:
    """A stack as text, innermost call last."""

    text: str


@message(frozen=True)
class SetLevels:
    """Give loggers the levels that the host's have, by name, the root's is ""; those not named get their own back."""

    levels: dict[str, int]


@message(frozen=True)
class Stop:
    """Leave: shut the lifespan down and exit."""


# What a message is in a frame is its place here (`socketless._wire.codec`).
Message = (
    Request
    | Response
    | Chunk
    | WantBody
    | Cancel
    | Taken
    | Event
    | Received
    | Echo
    | Failed
    | Reset
    | Call
    | Result
    | Done
    | Start
    | Ready
    | GetStack
    | Stack
    | SetLevels
    | Stop
    | OpenChannel
    | EndChannel
)

Opening = Request | Reset | Call  # begins an exchange


def is_last(message: Message) -> bool:
    """Return whether a message of the worker ends its exchange."""
    if isinstance(message, (Response, Chunk)):
        return not message.more_body
    return not isinstance(message, (WantBody, Event, Received, Echo))


def is_bodiless(method: str, status: int) -> bool:
    """Return whether a response has no body, whatever the app says (RFC 9110, section 6.4.1)."""
    return method == "HEAD" or status in (204, 304) or status < 200


def size_of(message: Message) -> int:
    """Return how long the body is, or the data of an event."""
    return _size_of_data(message.event) if isinstance(message, Event) else len(getattr(message, "body", b""))


def _size_of_data(event: Mapping[str, Any]) -> int:
    data = event.get("bytes") or event.get("text")
    return len(data) if isinstance(data, (bytes, str)) else 0  # a client may send anything


def room_of(event: Mapping[str, Any]) -> int:
    """Return how much of `MOST_AHEAD` an event takes up until the app has received it."""
    return _HOLDER + _size_of_data(event) if event.get("type") == "websocket.receive" else 0
