"""A WebSocket is the same over a worker, uvicorn on loopback and Starlette's TestClient: what is said, and its end.

The end of an endpoint that does not close it, and codes that may not be sent, are in test_websocket.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from differential.talks import SIDES, Side, Talk
from differential.test_same_everywhere import ON_LOOPBACK
from hypothesis import given, settings
from hypothesis import strategies as st

OTHERS = [pytest.param(side, marks=[ON_LOOPBACK] if side == "uvicorn" else []) for side in SIDES if side != "threads"]

# Those that an endpoint may send (RFC 6455, section 7.4).
CODES = st.sampled_from([1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011]) | st.integers(3000, 4999)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
DATA = st.lists(TEXT | st.binary(max_size=12), max_size=3).map(tuple)
TALKS = st.builds(
    Talk,
    said=DATA,
    answers=DATA,
    subprotocol=st.none() | st.sampled_from(["chat", "v2.json"]),
    app_closes=st.booleans(),
    code=CODES,
    reason=TEXT,
)


class Theatre:
    """All sides, opened when they are needed."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._open: dict[str, Side] = {}

    def talk(self, side: str, talk: Talk) -> dict[str, Any]:
        """Play a scene on a side, and return what both have heard."""
        if side not in self._open:
            self._open[side] = self._stack.enter_context(SIDES[side]())
        return self._open[side].talk(talk)


@pytest.fixture(scope="module")
def theatre() -> Iterator[Theatre]:
    with ExitStack() as stack:
        yield Theatre(stack)


@pytest.mark.parametrize("side", OTHERS)
@settings(max_examples=40, deadline=None)
@given(talk=TALKS)
def test_same_websocket(theatre: Theatre, side: str, talk: Talk) -> None:
    """Subprotocol, messages, and the code and the reason of the end are the same for both ends of a WebSocket."""
    assert theatre.talk(side, talk) == theatre.talk("threads", talk)
