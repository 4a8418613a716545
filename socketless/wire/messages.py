"""The messages that cross a pipe. They hold plain values only: never a client library's or a framework's objects.

One exchange on a channel is one message each way:

    host                         worker
    Request  ─────────────────▶           an HTTP request, its body inside
             ◀─────────────────  Response | Failed
    Reset    ─────────────────▶           call the reset hook
             ◀─────────────────  Done | Failed

The control channel starts the worker, and is asked where it is stuck:

    Start    ─────────────────▶
             ◀─────────────────  Ready | Failed
    GetStack ─────────────────▶
             ◀─────────────────  Stack
    Stop     ─────────────────▶           leave; so does the end of the pipe
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

RawHeaders = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Request:
    """An HTTP request (RFC 9110)."""

    method: str
    scheme: str
    server: tuple[str, int]
    raw_target: bytes  # path and query as the client wrote them, still percent-encoded
    headers: RawHeaders
    body: bytes = b""
    root_path: str = ""
    client: tuple[str, int] | None = None

    @property
    def label(self) -> str:
        """Method and target for messages to people."""
        return f"{self.method} {self.raw_target.decode('latin-1')}"


@dataclass(frozen=True)
class Response:
    """An HTTP response (RFC 9110). `more_body` is for streamed ones and false in a whole one."""

    status: int
    reason: str
    headers: RawHeaders
    body: bytes = b""
    more_body: bool = False


@dataclass(frozen=True)
class Failed:
    """The app, the hook or the start raised. `response` is what the app had answered before it raised, if anything."""

    pickled: bytes | None  # the exception, where it can be pickled and rebuilt
    summary: str
    traceback: str
    response: Response | None = None


@dataclass(frozen=True)
class Reset:
    """Call the reset hook."""

    label = "the reset hook"


@dataclass(frozen=True)
class Done:
    """The reset hook has returned."""


@dataclass(frozen=True)
class ImportSource:
    """`module:attribute`, `module:dotted.attribute` or `module:factory("literal", key=1)`: the worker imports it."""

    path: str

    @property
    def description(self) -> str:
        return repr(self.path)


@dataclass(frozen=True)
class PickledSource:
    """An object by value."""

    pickled: bytes
    description: str


@dataclass(frozen=True)
class InheritedSource:
    """An object that a forked worker has in its memory. It never crosses a pipe."""

    value: Any
    description: str


AppSource = ImportSource | PickledSource | InheritedSource  # the ways in which an app, or a hook, gets there


@dataclass(frozen=True)
class Start:
    """What a worker needs to know. `app_kind` is "auto", "wsgi" or "asgi"."""

    app: AppSource
    app_kind: str
    reset_hook: AppSource | None
    argv: list[str]  # what apps see in-process, too: some ask whether "test" is in it


@dataclass(frozen=True)
class Ready:
    """The app is loaded, its lifespan started, and requests may come. `app_kind` is "wsgi" or "asgi"."""

    app_kind: str


@dataclass(frozen=True)
class GetStack:
    """Say where the exchange on a channel is; without a number, where the main thread is."""

    channel: int | None = None


@dataclass(frozen=True)
class Stack:
    """A stack as text, innermost call last."""

    text: str


@dataclass(frozen=True)
class Stop:
    """Leave: shut the lifespan down and exit."""


Message = Request | Response | Failed | Reset | Done | Start | Ready | GetStack | Stack | Stop
