"""The switch and requests: every session goes to the worker, and comes back."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.adapters import BaseAdapter, HTTPAdapter

from socketless import switch_to_ipc_connection
from socketless.errors import WorkerDied
from socketless.requests import UnixAdapter
from support import LIMIT, nothing_leaks

APP = "apps.conformance_app:wsgi"


class Subclass(requests.Session):
    """A session class that was written before the switch."""

    def ping(self) -> Any:
        return self.get("/seen").json()


from requests import get as imported_before  # noqa: E402  # as a test module would


@pytest.fixture
def switched() -> Iterator[Any]:
    with nothing_leaks(), switch_to_ipc_connection(APP, base_url="http://testserver/seen/") as switch:
        yield switch


def test_sessions(switched: Any) -> None:
    """Sessions, their subclasses, and the functions of the module reach the worker, relative URLs too."""
    assert requests.get("http://example.org:8080/seen", timeout=LIMIT).json()["server"] == ["example.org", 8080]
    assert imported_before("https://example.org/seen", timeout=LIMIT).json()["scheme"] == "https"
    seen = requests.get("/a", params={"b": "c"}, timeout=LIMIT).json()
    assert (seen["server"], seen["target"]) == (["testserver", 80], "/seen/a?b=c")
    with Subclass() as session:
        assert session.ping()["path"] == "/seen/seen"
        request = requests.Request("GET", b"/a")
        assert session.send(session.prepare_request(request)).json()["path"] == "/seen/a"
        assert request.url == b"/a"
    response = requests.get("http://testserver/set-cookies", timeout=LIMIT)
    assert type(response.connection) is HTTPAdapter
    assert response.cookies.get_dict() == {"a": "1", "b": "2"}


def test_session_that_was_made_before() -> None:
    """A session that is older than the switch goes to the worker for as long as that is on, with its own adapters."""

    class Signing(HTTPAdapter):
        def add_headers(self, request: Any, **options: Any) -> None:
            request.headers["X-Signed"] = "yes"

    with requests.Session() as session, nothing_leaks():
        session.mount("http://", Signing(max_retries=3))
        with switch_to_ipc_connection(APP):
            headers = dict(session.get("http://testserver/seen", timeout=LIMIT).json()["headers"])
            assert headers["x-signed"] == "yes"


def test_stream_of_a_function(switched: Any) -> None:
    """A response of `requests.get(stream=True)` is open, though the function has closed its session."""
    url = "http://testserver/stream/chunks?chunks=one,two"
    with requests.get(url, stream=True, timeout=LIMIT) as response:
        assert list(response.iter_content(None)) == [b"one", b"two"]


def test_adapters_of_their_own(switched: Any) -> None:
    """A session with another adapter than requests' own keeps it, and so do the ways to UNIX sockets."""

    class Own(BaseAdapter):
        def send(self, request: Any, *args: Any, **options: Any) -> Any:
            raise ZeroDivisionError(request.url)

        def close(self) -> None:
            pass

    with requests.Session() as session:
        session.mount("http://", Own())
        with pytest.raises(ZeroDivisionError, match="^http://testserver/seen/a$"):
            session.get("/a", timeout=LIMIT)
        session.mount("http://", UnixAdapter())
        with pytest.raises(requests.ConnectionError, match="UNIX socket 'nothing'"):
            session.get("http://nothing/", timeout=LIMIT)
        with pytest.raises(requests.exceptions.InvalidSchema):
            session.get("ftp://testserver/", timeout=LIMIT)


def test_dead_worker(switched: Any) -> None:
    """A dead worker is requests' ConnectionError, with the request; the next request is served."""
    with pytest.raises(requests.ConnectionError) as caught:
        requests.get("http://testserver/exit", timeout=LIMIT)
    assert isinstance(caught.value, WorkerDied)
    assert caught.value.exitcode == 7
    assert caught.value.request is not None
    assert caught.value.request.url == "http://testserver/exit"
    assert requests.get("/", timeout=LIMIT).status_code == 200


def attributes() -> list[Any]:
    return [dict(vars(cls)) for cls in (HTTPAdapter, requests.Session)] + [dict(vars(requests)), [*sys.meta_path]]


def test_everything_is_restored() -> None:
    """Leaving the switch restores every attribute, and what watches imports is gone."""
    before = attributes()
    with switch_to_ipc_connection(APP) as switch:
        assert attributes() != before
    assert attributes() == before
    switch()
    assert attributes() == before


IMPORTED_LATER = f"""
import sys
from socketless import switch_to_ipc_connection

with switch_to_ipc_connection({APP!r}):
    assert "requests" not in sys.modules and "socketless.requests" not in sys.modules
    import requests
    assert requests.get("/seen").json()["method"] == "GET"
    assert vars(requests.__spec__.loader).keys() == {{"name", "path"}}
    for name in [name for name in sys.modules if name.partition(".")[0] == "requests"]:
        del sys.modules[name]
from requests import Session
assert Session.prepare_request.__module__ == "requests.sessions"
"""


def test_imported_later() -> None:
    """The switch does not import requests; if somebody does, it is switched, and only then."""
    subprocess.run([sys.executable, "-c", IMPORTED_LATER], check=True, timeout=LIMIT, cwd=Path(__file__).parent)
