"""Runs `tests/conformance.py` for each client over each kind of worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest

import conformance
from clients import CLIENTS, NOT_FOR, Client
from socketless import IpcProcess, IpcThread
from socketless.host.worker import Worker

APPS = ("wsgi", "asgi", "outer")


KINDS: dict[str, Callable[..., Worker]] = {
    "spawn": IpcProcess,
    "fork": partial(IpcProcess, start_method="fork"),
    "thread": IpcThread,
}


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=APPS)
def app(request: pytest.FixtureRequest) -> str:
    return f"apps.conformance_app:{request.param}"


@pytest.fixture(scope="module")
def worker(app: str, kind: str) -> Iterator[Worker]:
    with KINDS[kind](app, max_connections=2) as worker:
        yield worker


@pytest.fixture(scope="module")
def limited_worker(app: str, kind: str) -> Iterator[Worker]:
    with KINDS[kind](app, max_connections=2, max_body_bytes=conformance.MAX_BODY_BYTES) as worker:
        yield worker


# Checks that cannot hold for a client: which ones, and why.
SENT_AHEAD = "bytes wait between client and app, as in a socket's buffers: a body is not taken in step with the app"
NOT_IN_BYTES = "HTTP/1.1 has no place for the extensions of ASGI"
CANNOT_HOLD = {
    "lowlevel": {
        "echo_while_it_is_sent": SENT_AHEAD,
        "answer_before_the_body": SENT_AHEAD,
        "body_that_is_not_used_up": SENT_AHEAD,
        "body_that_raises": SENT_AHEAD,
        "large_bodies_both_ways": SENT_AHEAD,
        "trailers": NOT_IN_BYTES,
        "debug": NOT_IN_BYTES,
        "body_that_is_no_bytes": "it is the caller who makes the bytes",
    }
}


def skip_what_cannot_hold(function: Callable[[Client], None], name: str) -> None:
    reason = CANNOT_HOLD.get(name, {}).get(function.__name__)
    if reason is not None:
        pytest.skip(reason)


every_client = pytest.mark.parametrize("name", CLIENTS)
PAIRS = [
    pytest.param(function, name, id=f"{function.__name__}-{name}")
    for name in CLIENTS
    for function in conformance.CHECKS
    if function.__name__ not in NOT_FOR.get(name, {})
]


@pytest.mark.parametrize(("function", "name"), PAIRS)
def test_conformance(function: Callable[[Client], None], name: str, worker: Worker) -> None:
    """A client sees of a worker what `conformance` says, which leaves all channels usable."""
    skip_what_cannot_hold(function, name)
    client = CLIENTS[name](worker)
    function(client)
    conformance.all_channels_work(client)


@every_client
@pytest.mark.parametrize("function", conformance.names(conformance.LIMITED))
def test_conformance_with_a_limit(function: Callable[[Client], None], name: str, limited_worker: Worker) -> None:
    """The same for a worker that limits bodies."""
    client = CLIENTS[name](limited_worker)
    function(client)
    conformance.all_channels_work(client)


def test_debug_that_only_the_worker_can_rebuild() -> None:
    """Of a template whose module only the worker has, the name crosses; the channel is kept."""
    with IpcProcess("apps.conformance_app:asgi", max_connections=1) as worker:
        client, pid = CLIENTS["httpx"](worker), worker.pid
        debug = client.request("GET", "/stream/debug_of_its_own").extensions["http.response.debug"]
        assert (debug["template"].name, worker.pid) == ("index.html", pid)


@pytest.mark.parametrize("app", ["wsgi", "asgi"])
def test_head_of_an_endless_answer(app: str) -> None:
    """The answer to a HEAD is its headers: an app that goes on for ever is told that nobody wants more."""
    with IpcProcess(f"apps.conformance_app:{app}", max_connections=1) as worker:
        client = CLIENTS["httpx"](worker)
        assert client.request("HEAD", "/stream/endless?token=head&size=1").content == b""
        assert conformance.notes_on(client, "head") == ["closed" if app == "wsgi" else "ClientDisconnected"]
