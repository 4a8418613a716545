"""What happens, for people who look for the reason of something: the logger `socketless`, and stderr with `debug`."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress

from socketless.wire.messages import Event, Failed, Message, Request, Response

logger = logging.getLogger("socketless")


class Trace:
    """Tells what a worker and its host do."""

    def __init__(self, debug: bool) -> None:
        self._debug = debug

    def __call__(self, text: str) -> None:
        logger.debug("%s", text)
        if self._debug:
            with suppress(ValueError, OSError):  # stderr is closed
                print(f"[socketless] {text}", file=sys.stderr, flush=True)

    def message(self, direction: str, label: str, message: Message) -> None:
        """Tell of a message, in a line that costs nothing while nobody looks."""
        if self._debug or logger.isEnabledFor(logging.DEBUG):
            self(f"{direction} {label}{_describe(message)}")


def _describe(message: Message) -> str:
    if isinstance(message, Failed):
        return f": raised {message.summary}"
    if isinstance(message, Event):
        return f": {message.event['type']}"
    if not isinstance(message, (Request, Response)):
        return ""
    status = f": {message.status}" if isinstance(message, Response) else ""
    more = " and more" if message.more_body else ""
    return f"{status} ({len(message.headers)} headers, {len(message.body)} bytes{more})"
