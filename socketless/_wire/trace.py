"""Messages in words, for the traces of `debug=True`: the host writes them, and the worker what has arrived there."""

from __future__ import annotations

import sys
from contextlib import suppress

from socketless._wire.messages import Event, Failed, Message, Request, Response


def say(text: str) -> None:
    """Write a line of a trace to standard error."""
    with suppress(ValueError, OSError):  # it is closed
        print(f"[socketless] {text}", file=sys.stderr, flush=True)


def describe(message: Message) -> str:
    """Say what a message is."""
    if isinstance(message, Request):
        host, port = message.server
        url = f"{message.scheme}://{host}:{port}{message.raw_target.decode('latin-1')}"
        return f"{message.method} {url} {_sizes(message)}"
    if isinstance(message, Response):
        return f"{message.status} {_sizes(message)}"
    if isinstance(message, Failed):
        return f"raised {message.summary}"
    if isinstance(message, Event):
        return str(message.event["type"])
    return str(getattr(message, "label", type(message).__name__))


def _sizes(message: Request | Response) -> str:
    return f"({len(message.headers)} headers, {len(message.body)} bytes{' and more' if message.more_body else ''})"
