"""What happens, for people who look for the reason of something: the logger `socketless`, and stderr with `debug`."""

from __future__ import annotations

import logging

from socketless._wire.messages import Message
from socketless._wire.trace import describe, say

logger = logging.getLogger("socketless")


class Trace:
    """Tells what a worker and its host do."""

    def __init__(self, debug: bool) -> None:
        self._debug = debug

    def __call__(self, text: str) -> None:
        logger.debug("%s", text)
        if self._debug:
            say(text)

    def sent(self, message: Message) -> None:
        """Tell of a message, in a line that costs nothing while nobody looks."""
        if self._debug or logger.isEnabledFor(logging.DEBUG):
            self(f"> {describe(message)}")

    def got(self, label: str, message: Message) -> None:
        """Tell of the answer to it."""
        if self._debug or logger.isEnabledFor(logging.DEBUG):
            self(f"< {label}: {describe(message)}")
