"""What a worker prints arrives, whatever the app or the host has done to their streams."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from socketless import IpcProcess, IpcTransport
from support import nothing_leaks


@pytest.fixture(params=["spawn", "fork"])
def client(request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    with (
        nothing_leaks(),
        IpcProcess("apps.output_app:app", start_method=request.param) as worker,
        httpx.Client(transport=IpcTransport(worker), base_url="http://testserver") as client,
    ):
        yield client


@pytest.mark.parametrize(
    ("path", "printed"),
    [
        ("/", ""),
        ("/only-write", ""),
        ("/dev-stdout", "before\nbeside\n"),
        ("/bytes", "caf\ufffd \u2603\n"),
        ("/partial", "no line end"),
    ],
)
def test_prints(client: httpx.Client, path: str, printed: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What the app prints is there when its response is, in order."""
    for _ in range(2):
        client.get(path)
        assert capsys.readouterr().out == printed + "h\xe9llo \u2603 and plain\n"


def test_stream_that_cannot_encode_it(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A character that the host's stdout cannot write is escaped, and nothing else is lost."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "ascii"))
    client.get("/")
    assert raw.getvalue() == b"h\\xe9llo \\u2603 and plain\n"


class Nowhere:
    """A stream that has no `flush`."""

    def write(self, text: str) -> int:
        return len(text)


@pytest.mark.parametrize("stream", [None, object(), Nowhere()])
def test_host_without_stdout(client: httpx.Client, stream: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host whose stdout is none gets its response all the same."""
    monkeypatch.setattr(sys, "stdout", stream)
    assert client.get("/").status_code == 200


def test_argv(client: httpx.Client) -> None:
    """The app sees the host's command line, as in-process."""
    assert client.get("/").text == " ".join(sys.argv)
