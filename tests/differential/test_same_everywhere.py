"""Requests and responses are the same over a worker, a server on loopback and an in-process client.

Where they are not, `differences` says so, with the paragraph of a standard.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from differential.differences import DIFFERENCES, OF_THE_CONNECTION, Difference, expected, for_wsgi_transport
from differential.sides import ASGI, BROKEN, WSGI, Outcome, Side
from differential.stage import Scene, asgi, wsgi
from hypothesis import given, settings
from hypothesis import strategies as st

SIDES = {"asgi": ASGI, "wsgi": WSGI}
APPS = {"asgi": asgi, "wsgi": wsgi}


def loopback_is_refused() -> bool:
    try:
        socket.create_server(("127.0.0.1", 0)).close()
    except OSError:
        return True
    return False


ON_LOOPBACK = pytest.mark.skipif(loopback_is_refused(), reason="sockets on loopback are refused here")
OTHERS = [
    pytest.param(kind, side, marks=[ON_LOOPBACK] if side in ("uvicorn", "waitress") else [])
    for kind, sides in SIDES.items()
    for side in sides
    if side != "threads"
]


class Theatre:
    """All sides, opened when they are needed."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._open: dict[tuple[str, str], Side] = {}

    def ask(self, kind: str, side: str, scene: Scene) -> Outcome:
        """Play a scene on a side, and return what has come of it, without what is of a connection only."""
        key = kind, side
        if key not in self._open:
            self._open[key] = self._stack.enter_context(SIDES[kind][side](APPS[kind]))
        return normal(self._open[key].ask(scene))


def normal(outcome: Outcome) -> Outcome:
    """Sort the header lines by their names, which know no case (RFC 9110, 5.1 and 5.3)."""
    if outcome["got"] == BROKEN:
        return outcome
    status, raw, body = outcome["got"]
    headers = [(name.lower(), value) for name, value in raw if name.lower() not in OF_THE_CONNECTION]
    return {**outcome, "got": (status, tuple(sorted(headers, key=lambda header: header[0])), body)}


@pytest.fixture(scope="module")
def theatre() -> Iterator[Theatre]:
    logging.disable(logging.CRITICAL)  # servers log each error of the app
    try:
        with ExitStack() as stack:
            yield Theatre(stack)
    finally:
        logging.disable(logging.NOTSET)


TOKEN = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=8)
NAMES = TOKEN.map(lambda token: f"x-{token}".rstrip("-").encode())  # wsgiref.validate lets none end by a hyphen
VALUES = st.text([*map(chr, range(0x21, 0x7F)), " ", "\xe9", "\xff"], max_size=12).map(
    lambda text: text.strip().encode("latin-1")
)
HEADERS = st.lists(st.tuples(st.sampled_from([b"x-a", b"X-B", b"x-c"]) | NAMES, VALUES), max_size=4).map(tuple)
SEGMENTS = st.text("abz09-._~!$&'()*+,;=:@", max_size=6) | st.binary(min_size=1, max_size=4).map(
    lambda data: "".join(f"%{byte:02X}" for byte in data)
)
TARGETS = st.builds(
    lambda segments, query: "/" + "/".join(segments) + query,
    st.lists(SEGMENTS.filter(lambda segment: segment.strip(".") != ""), max_size=3),
    st.just("") | SEGMENTS.map("?{}".format),
)


@st.composite
def scenes(draw: Any) -> Scene:
    """Draw a request and a response: heads, bodies, how they are cut into chunks, and where the app raises."""
    chunks = draw(st.lists(st.binary(max_size=6) | st.just(b""), min_size=1, max_size=4).map(tuple))
    size = len(b"".join(chunks))
    headers = draw(HEADERS)
    if draw(st.booleans()):
        length = draw(st.sampled_from([size, size, size, size + 1, max(0, size - 1)]))
        headers = (*headers, (b"content-length", str(length).encode()))
    return Scene(
        method=draw(st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"])),
        target=draw(TARGETS),
        sent_headers=draw(HEADERS),
        sent=draw(st.lists(st.binary(min_size=1, max_size=6), max_size=3).map(tuple)),
        status=draw(st.sampled_from([200, 200, 201, 204, 206, 304, 400, 404, 418, 500, 503, 599])),
        headers=headers,
        chunks=chunks,
        raises_at=draw(st.none() | st.none() | st.integers(-1, len(chunks))),
    )


@pytest.mark.parametrize(("kind", "side"), OTHERS)
@settings(max_examples=40, deadline=None)
@given(scene=scenes())
def test_same_everywhere(theatre: Theatre, kind: str, side: str, scene: Scene) -> None:
    """What the app sees of a request, and the client of its response, is the same but for the differences."""
    if side == "wsgi_transport":
        scene = for_wsgi_transport(scene)
    ours = theatre.ask(kind, "threads", scene)
    assert theatre.ask(kind, side, scene) == expected(side, scene, ours)


@pytest.mark.parametrize(
    ("difference", "kind", "side"),
    [
        pytest.param(difference, kind, side, id=f"{kind}-{side}-{difference.what}", marks=param.marks)
        for difference in DIFFERENCES
        for param in OTHERS
        for kind, side in [param.values]
        if side in difference.sides
    ],
)
def test_differences(theatre: Theatre, difference: Difference, kind: str, side: str) -> None:
    """Each difference is one, and is what the table says."""
    scene = difference.scene
    ours, theirs = theatre.ask(kind, "threads", scene), theatre.ask(kind, side, scene)
    assert theirs != expected(side, scene, ours, but=difference)
    assert theirs == expected(side, scene, ours)
