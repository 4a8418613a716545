"""What every client must see of every kind of worker: a list of checks.

Each check gets a client of `tests/clients.py` for a worker that serves `apps.conformance_app`. It leaves the worker as
usable as it was, with all its channels.
"""

from __future__ import annotations

import io
import os
import random
import tempfile
import traceback
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import reduce
from itertools import count, product
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from apps.conformance_app import Odd
from clients import Client, Stream, can
from socketless import IpcProcess, IpcThread, errors
from support import LIMIT, traceback_of

CHECKS: list[Callable[[Client], None]] = []
LIMITED: list[Callable[[Client], None]] = []  # of a worker with a max_body_bytes

MAX_BODY_BYTES = 1000


def check(function: Callable[[Client], None]) -> Callable[[Client], None]:
    CHECKS.append(function)
    return function


def check_limited(function: Callable[[Client], None]) -> Callable[[Client], None]:
    LIMITED.append(function)
    return function


@check
def methods(client: Client) -> None:
    """Every method arrives, one that nobody has heard of included."""
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "QUERY"):
        assert client.request(method, "/seen").json()["method"] == method


@check
def raw_target(client: Client) -> None:
    """Path and query arrive as they were written, and the path also decoded."""
    seen = client.request("GET", "/a%2Fb/caf%C3%A9%20c?x=%26&y=1+2&x=%F0%9F%90%8D").json()
    assert seen["target"] == "/a%2Fb/caf%C3%A9%20c?x=%26&y=1+2&x=%F0%9F%90%8D"
    assert seen["query"] == "x=%26&y=1+2&x=%F0%9F%90%8D"
    assert seen["path"].encode("latin-1").decode() == "/a/b/caf\xe9 c"


@check
def request_headers(client: Client) -> None:
    """Repeated headers, latin-1 values and the Host header arrive."""
    headers = [("X-One", "a"), ("X-One", "b"), ("X-Name", "caf\xe9".encode("latin-1"))]
    seen = dict(client.request("GET", "/seen", headers=headers).json()["headers"])
    assert seen["x-one"].replace(" ", "") == "a,b"
    assert seen["x-name"] == "caf\xe9"
    assert seen["host"] == "testserver"


@check
def response_headers(client: Client) -> None:
    """Repeated headers come back in order, and nothing is added."""
    response = client.request("GET", "/headers")
    names = [(name.lower(), value) for name, value in response.headers.multi_items()]
    assert names == [("x-one", "a"), ("x-two", "b"), ("x-one", "c"), ("content-length", "2")]
    assert client.request("GET", "/latin-1").headers["x-name"] == "caf\xe9"


NO_HTTP = "the app's response is not HTTP/1.1: "
ILLEGAL_HEADS = {
    "status=200&x+y=1": "{app} app's header {header} is bad; ",
    "status=200&x:y=1": "{app} app's header {header} is bad; ",
    "status=200&caf%E9=1": "{app} app's header {header} is bad; ",
    "status=200&=1": "{app} app's header {header} is bad; ",
    **{f"status=200&x=a%{code:02X}b": "{app} app's header {header} is bad; " for code in (*range(9), 0xA, 0x1F, 0x7F)},
    "status=200&content-length=five": f"{NO_HTTP}bad Content-Length",
    "status=200&content-length=-5": f"{NO_HTTP}bad Content-Length",
    "status=200&content-length=": f"{NO_HTTP}bad Content-Length",
    "status=200&content-length=5&content-length=6": f"{NO_HTTP}conflicting Content-Length headers",
    "status=200&content-length=5,+6": f"{NO_HTTP}conflicting Content-Length headers",
    "status=200&transfer-encoding=gzip": f"{NO_HTTP}Only Transfer-Encoding: chunked is supported",
    "status=200&transfer-encoding=gzip,+chunked": f"{NO_HTTP}Only Transfer-Encoding: chunked is supported",
    "status=101": "the app's status is 101; a response ends with a status from 200 on",
    "status=103&link=x": "the app's status is 103; a response ends with a status from 200 on",
}


@check
def illegal_response_heads(client: Client) -> None:
    """A head that no server lets through is an error of the app's, in the same words for every client; or a 500."""
    is_wsgi = client.worker.app_kind == "wsgi"
    lenient = client.configure(raise_app_exceptions=False)
    for query, expected in ILLEGAL_HEADS.items():
        with pytest.raises(errors.AppProtocolError) as caught:
            client.request("GET", f"/head?{query}")
        name, value = parse_qsl(query, keep_blank_values=True, encoding="latin-1")[-1]
        header: Any = (name, value) if is_wsgi else (name.encode("latin-1"), value.encode("latin-1"))
        assert str(caught.value).startswith(expected.format(app="the WSGI" if is_wsgi else "the ASGI", header=header))
        assert isinstance(caught.value, client.library.TransportError)
        assert lenient.request("GET", f"/head?{query}").status_code == 500


@check
def odd_response_heads(client: Client) -> None:
    """What servers let through passes: tabs, latin-1, a length said twice, white space around a value, any status."""
    response = client.request("GET", "/head?status=299&x-one=a%09b&x-two=%20%09caf%E9%20&content-length=5,+5")
    assert (response.status_code, response.text) == (299, "hello")
    assert (response.headers["x-one"], response.headers["x-two"]) == ("a\tb", "caf\xe9")


@check
def illegal_request_heads(client: Client) -> None:
    """No app sees a request whose head is none: the library refuses it, or it is answered with 400, as by a server."""
    options: list[dict[str, Any]] = [
        *({"headers": [("X-One", f"a{character}b")]} for character in "\0\r\n\v\f"),
        *({"headers": [(name, "a")]} for name in ("x one", "x\0one", "x(one", "x/one")),
        {"headers": [("Content-Length", "many")]},
        {"headers": [("Transfer-Encoding", "gzip")]},
        {"method": "GE T"},
    ]
    for each in options:
        try:
            status = client.request(**{"method": "GET", "url": "/seen", **each}).status_code
        except ValueError:
            continue
        assert status in (400, 501), each


@check
def status_and_reason(client: Client) -> None:
    """Any status comes back, with a reason phrase."""
    for status in (200, 201, 404, 418, 500, 599):
        response = client.request("GET", f"/status/{status}")
        assert (response.status_code, response.text) == (status, "hello")
        assert response.http_version == "HTTP/1.1"


@check
def no_body(client: Client) -> None:
    """HEAD, 204 and 304 have no body, whatever the app says; the Content-Length of a HEAD stays."""
    head = client.request("HEAD", "/status/200")
    assert (head.content, head.headers["content-length"]) == (b"", "5")
    assert client.request("GET", "/status/204").content == b""
    assert client.request("GET", "/status/304").content == b""


@check
def bodies(client: Client) -> None:
    """A body of any size and any bytes crosses both ways."""
    for body in (b"", b"x", bytes(range(256)), b"a" * 65_535, b"b" * 65_536, b"c" * 65_537, b"d" * (8 << 20)):
        assert client.request("POST", "/echo", content=body).content == body
    assert len(client.request("GET", f"/large?{20 << 20}").content) == 20 << 20


@check
def length_of_a_body(client: Client) -> None:
    """The app is told the length of a body, and of none."""
    assert dict(client.request("POST", "/seen", content=b"12345").json()["headers"])["content-length"] == "5"
    assert "content-length" not in dict(client.request("GET", "/seen").json()["headers"])


@check
def forms_and_files(client: Client) -> None:
    """JSON, forms and multipart uploads arrive as the library encodes them."""
    assert client.request("POST", "/echo", json={"a": [1]}).json() == {"a": [1]}
    assert client.request("POST", "/echo", data={"a": "1", "b": "x y"}).text == "a=1&b=x+y"
    assert b'filename="n.txt"' in client.request("POST", "/echo", files={"f": ("n.txt", b"text")}).content


@check
def redirects(client: Client) -> None:
    """The library follows redirects if it is told to."""
    assert client.request("GET", "/redirect").headers["location"] == "/echo-redirected"
    followed = client.request("GET", "/redirect", follow_redirects=True)
    assert (followed.json()["path"], len(followed.history)) == ("/echo-redirected", 1)


@check
def cookies(client: Client) -> None:
    """Two Set-Cookie headers are two cookies."""
    response = client.request("GET", "/set-cookies")
    assert dict(response.cookies) == {"a": "1", "b": "2"}


@check
def basic_auth(client: Client) -> None:
    """The library's authentication arrives."""
    seen = dict(client.request("GET", "/seen", auth=("me", "secret")).json()["headers"])
    assert seen["authorization"] == "Basic bWU6c2VjcmV0"


@check
def addresses(client: Client) -> None:
    """The app sees scheme, host and port of the URL, and a client address."""
    seen = client.request("GET", "/seen").json()
    assert (seen["scheme"], seen["server"], seen["client"]) == ("http", ["testserver", 80], ["127.0.0.1", 123])
    secure = client.request("GET", "/seen", base_url="https://example.org").json()
    assert (secure["scheme"], secure["server"]) == ("https", ["example.org", 443])
    other = client.request("GET", "http://[::1]:8000/seen").json()
    assert other["server"] == ["::1", 8000]


@check
def mounted(client: Client) -> None:
    """The app can be mounted below a path, which the URL may leave out, and see another client address."""
    path = "/seen" if client.worker.app_kind == "wsgi" else "/api/seen"
    mounted = client.configure(root_path="/api", client=("10.0.0.1", 5))
    for url in ("/seen", "/api/seen"):
        seen = mounted.request("GET", url).json()
        assert (seen["root_path"], seen["path"], seen["client"]) == ("/api", path, ["10.0.0.1", 5])
    assert mounted.request("GET", "/apish/seen").json()["path"] == path.replace("/seen", "/apish/seen")
    assert mounted.request("GET", "/api").json()["path"] == path.removesuffix("/seen")


@check
def names_with_underscores(client: Client) -> None:
    """A WSGI app would take a header for the one with dashes, so it does not see it; an ASGI app does."""
    headers = [("X-User", "ada"), ("X_User", "root"), ("api_key", "secret")]
    seen = dict(client.request("GET", "/seen", headers=headers).json()["headers"])
    assert seen["x-user"] == "ada"
    assert {"x_user", "api_key", "api-key"} & seen.keys() == (
        set() if client.worker.app_kind == "wsgi" else {"x_user", "api_key"}
    )


@check
def app_error(client: Client) -> None:
    """What the app raises is raised here as its own type, with the worker's traceback; the next request is served."""
    with pytest.raises(LookupError) as caught:
        client.request("GET", "/boom")
    assert caught.value.args == ("boom", 42)
    assert 'raise LookupError("boom", 42)' in traceback_of(caught.value)
    assert client.request("GET", "/status/200").status_code == 200


@check
def app_error_as_response(client: Client) -> None:
    """With raise_app_exceptions=False it is a 500."""
    response = client.configure(raise_app_exceptions=False).request("GET", "/boom")
    assert (response.status_code, response.reason_phrase, response.text) == (
        500,
        "Internal Server Error",
        "Internal Server Error",
    )


@check
def app_error_that_cannot_cross(client: Client) -> None:
    """An exception that cannot be pickled arrives as AppError with the traceback's text; a thread's, as itself."""
    if isinstance(client.worker, IpcThread):
        with pytest.raises(Odd, match="^here and there$"):
            client.request("GET", "/boom-odd")
        return
    with pytest.raises(errors.AppError) as caught:
        client.request("GET", "/boom-odd")
    assert caught.value.summary == "apps.conformance_app.Odd: here and there"
    assert 'raise Odd("here", "there")' in str(caught.value)


@check
def unsupported_scheme(client: Client) -> None:
    """A URL without http:// is refused as the library refuses it."""
    with pytest.raises(client.library.UnsupportedProtocol, match="give the client a base_url"):
        client.request("GET", "/seen", base_url="")


@check
def prints(client: Client) -> None:
    """The app may print and, in a process, read its standard input, which is empty."""
    assert client.request("GET", "/print").status_code == 200
    if isinstance(client.worker, IpcProcess):
        assert client.request("GET", "/stdin").text == "''"


# What takes its time. `token` tells one call of a script of the app from all others.

MIB = 1 << 20
_tokens = map("token-{}".format, count())


def say(client: Client, word: str) -> None:
    assert client.request("POST", f"/stream/say?word={word}").status_code == 200


def notes_on(client: Client, token: str) -> list[str]:
    """Return what has become of a script, once it is over."""
    notes: list[str] = client.request("GET", f"/stream/noted?of={token}&word={token}/over").json()
    return notes


def ways(client: Client) -> list[str]:
    """Return in how many ways an app can answer piece by piece."""
    return ["iterable", "write"] if client.worker.app_kind == "wsgi" else ["send"]


def all_channels_work(client: Client) -> None:
    """Use both channels of the worker at the same time."""
    token = next(_tokens)
    with client.stream("GET", f"/stream/held?token={token}") as stream:
        assert next(stream.chunks) == b"held"
        say(client, f"{token}/go")
        assert list(stream.chunks) == [b"told"]


class Source:
    """Chunks for a request's body, and how many of them were taken."""

    def __init__(self, chunks: Iterable[Any]) -> None:
        self._chunks = iter(chunks)
        self.taken = 0
        self.is_closed = False

    def __iter__(self) -> Iterator[Any]:
        try:
            for chunk in self._chunks:
                self.taken += 1
                yield chunk
        finally:
            self.is_closed = True


@check
def chunks_come_as_they_are_made(client: Client) -> None:
    """Each chunk is here before the next is made, and from ASGI the headers before the first; the end is by itself."""
    for how, more in product(ways(client), ["", "&length_is=3"]):
        token = next(_tokens)
        if how != "send":  # headers come with the first bytes (PEP 3333, "The start_response() Callable")
            say(client, f"{token}/0")
        with client.stream("GET", f"/stream/numbers?token={token}&how={how}{more}") as stream:
            assert (stream.status, stream.headers.get_list("x-one")) == (200, ["a", "b"])
            if how == "send":
                say(client, f"{token}/0")
            assert next(stream.chunks) == b"0"
            say(client, f"{token}/1")
            assert next(stream.chunks) == b"1"
            say(client, f"{token}/2")
            assert next(stream.chunks) == b"2"
            say(client, f"{token}/end")
            assert list(stream.chunks) == []


@check
def chunks_are_what_the_app_has_sent(client: Client) -> None:
    """Chunks are not merged, empty ones are none; a Content-Length stays; the library makes lines of them."""
    for how in ways(client):
        url = f"/stream/chunks?how={how}"
        with client.stream("GET", f"{url}&chunks=,ab,,c,") as stream:
            assert "content-length" not in stream.headers
            assert list(stream.chunks) == [b"ab", b"c"]
        with client.stream("GET", f"{url}&chunks=one%0Atw,o%0A,three") as stream:
            assert list(stream.iterate("lines")) == ["one", "two", "three"]
        with client.stream("GET", f"{url}&chunks=ab,cd&length_is=4") as stream:
            assert stream.headers["content-length"] == "4"
            assert list(stream.chunks) == [b"ab", b"cd"]
        with client.stream("GET", f"{url}&chunks=") as stream:
            assert list(stream.chunks) == []
        assert client.request("GET", f"{url}&chunks=,ab,,c,").content == b"abc"


@check
def body_of_another_length(client: Client) -> None:
    """A body that is not as long as its Content-Length says is an error, which no server would let pass, either."""
    for how in ways(client):
        for length, kind in ((3, "longer"), (5, "shorter")):
            with pytest.raises(errors.AppProtocolError, match=f"the app's body is {kind} than its") as caught:
                client.request("GET", f"/stream/chunks?how={how}&chunks=ab,cd&length_is={length}")
            assert isinstance(caught.value, client.library.TransportError)
            if client.worker.app_kind == "asgi" and kind == "longer":  # where it is raised in the app
                assert "conformance_app.py" in "".join(traceback.format_exception(caught.value))


@check
def streams_without_a_body(client: Client) -> None:
    """HEAD, 204 and 304 have no body, however many chunks the app sends; the Content-Length of a HEAD stays."""
    for how in ways(client):
        url = f"/stream/chunks?how={how}&chunks=ab,cd"
        for method, more in (("HEAD", "&length_is=4"), ("HEAD", ""), ("GET", "&status=204"), ("GET", "&status=304")):
            with client.stream(method, url + more) as stream:
                assert list(stream.chunks) == []
                assert stream.headers.get("content-length") == ("4" if "length" in more else None)
            assert client.request(method, url + more).content == b""


@check
def leaving_an_endless_answer(client: Client) -> None:
    """An app that answers for ever is usable, and is told when the client closes the response, itself or its block."""
    expected = {
        "iterable": {"closed"},
        "write": {"ClientDisconnected"},
        "send": {"CancelledError", "ClientDisconnected"},
    }

    def was_told(token: str) -> bool:
        (note,) = notes_on(client, token)
        return note in expected[how]

    for how, close in product(ways(client), [Stream.close, Stream.close_client, None]):
        token = next(_tokens)
        with client.stream("GET", f"/stream/endless?token={token}&how={how}&size=5000") as stream:
            assert b"".join(next(stream.chunks) for _ in range(100)) == b"x" * 500_000
            if close is not None:
                close(stream)
                assert was_told(token)
        assert was_told(token)


@check
def reading_on_after_closing(client: Client) -> None:
    """A response that was closed before its end does not look like a whole one to who reads on."""
    for close in (Stream.close, Stream.close_client):
        with client.stream("GET", "/stream/endless?size=5000") as stream:
            assert next(stream.chunks) == b"x" * 5000
            close(stream)
            with pytest.raises((client.library.TransportError, errors.StateError)):
                b"".join(stream.chunks)


def leave_a_busy_app(client: Client) -> list[str]:
    """Leave an app that waits for something else, and return the notes on it."""
    token = next(_tokens)
    with client.stream("GET", f"/stream/held?token={token}") as stream:
        assert next(stream.chunks) == b"held"
    if client.worker.app_kind == "wsgi":
        say(client, f"{token}/go")
    return notes_on(client, token)


@check
def leaving_an_app_that_sends_nothing(client: Client) -> None:
    """It hears of it by http.disconnect, or is cancelled; a WSGI app, at its next yield."""
    told = {"iterable": "closed", "write": "ClientDisconnected", "send": "disconnected"}
    for how in ways(client):
        token = next(_tokens)
        with client.stream("GET", f"/stream/quiet?token={token}&how={how}") as stream:
            assert next(stream.chunks) == b"quiet"
        assert notes_on(client, token) == [told[how]]
    assert leave_a_busy_app(client) == ["closed" if client.worker.app_kind == "wsgi" else "CancelledError"]


@check
def app_error_before_the_first_byte(client: Client) -> None:
    """What the app raises after the headers is raised. Else it is a 500 of a WSGI app: they go with the first byte."""
    for how in ways(client):
        url = f"/stream/boom?at=start&how={how}"
        with pytest.raises(LookupError) as caught, client.stream("GET", url):
            pass
        assert caught.value.args == ("boom", 42)
        if how != "send":
            with client.configure(raise_app_exceptions=False).stream("GET", url) as stream:
                assert (stream.status, list(stream.chunks)) == (500, [b"Internal Server Error"])


@check
def app_error_after_the_headers_as_incomplete_response(client: Client) -> None:
    """With raise_app_exceptions=False, an ASGI app that raises after its headers breaks off, however soon it does."""
    if client.worker.app_kind == "wsgi":
        return
    quiet, token = client.configure(raise_app_exceptions=False), next(_tokens)
    say(client, f"{token}/go")
    for url in ("/stream/boom?at=start", f"/stream/boom?at=headers&token={token}"):
        with quiet.stream("GET", url) as stream:
            assert stream.status == 200
            with pytest.raises(errors.IncompleteResponse):
                next(stream.chunks)
        with pytest.raises(errors.IncompleteResponse):
            quiet.request("GET", url)
        assert quiet.request("HEAD", url).status_code == 200  # which is whole without a body


@check
def app_error_after_a_whole_body(client: Client) -> None:
    """A body that is whole by its Content-Length does not break off, whatever the app does then (RFC 9112, 6.3)."""
    url = "/stream/boom?at=whole"
    with pytest.raises(LookupError):
        client.request("GET", url)
    response = client.configure(raise_app_exceptions=False).request("GET", url)
    assert (response.status_code, response.content) == (200, b"first")


@check
def app_error_after_the_headers(client: Client) -> None:
    """What an ASGI app raises when its headers have gone is raised where its first bytes would be."""
    token = next(_tokens)
    if client.worker.app_kind == "wsgi":  # whose headers wait for the first bytes
        return
    with client.stream("GET", f"/stream/boom?at=headers&token={token}") as stream:
        assert stream.status == 200
        say(client, f"{token}/go")
        with pytest.raises(LookupError):
            next(stream.chunks)


@check
def app_error_in_the_middle(client: Client) -> None:
    """What the app raises after the first byte is raised where its next bytes would be, after those that came."""
    for how in ways(client):
        url = f"/stream/boom?at=middle&how={how}"
        with client.stream("GET", url) as stream:
            assert next(stream.chunks) == b"first"
            with pytest.raises(LookupError) as caught:
                next(stream.chunks)
        assert caught.value.args == ("boom", 42)
        assert 'raise LookupError("boom", 42)' in traceback_of(caught.value)
        with pytest.raises(LookupError):
            client.request("GET", url)


@check
def app_error_in_the_middle_as_incomplete_response(client: Client) -> None:
    """With raise_app_exceptions=False it is IncompleteResponse: the status was sent, and the rest is missing."""
    quiet = client.configure(raise_app_exceptions=False)
    for how in ways(client):
        url = f"/stream/boom?at=middle&how={how}"
        with quiet.stream("GET", url) as stream:
            assert (stream.status, next(stream.chunks)) == (200, b"first")
            with pytest.raises(errors.IncompleteResponse) as caught:
                next(stream.chunks)
        assert isinstance(caught.value, client.library.RemoteProtocolError)
        assert str(caught.value) == f"GET {url}: the app raised in the middle: LookupError: ('boom', 42)"
        with pytest.raises(errors.IncompleteResponse):
            quiet.request("GET", url)


@check
def app_error_at_the_end(client: Client) -> None:
    """What the app raises when its response is complete is raised at its end; else the response is whole."""
    url = "/stream/boom?at=end"
    with client.stream("GET", url) as stream:
        assert [next(stream.chunks), next(stream.chunks)] == [b"first", b"last"]
        with pytest.raises(LookupError):
            next(stream.chunks)
    with pytest.raises(LookupError):
        client.request("GET", url)
    quiet = client.configure(raise_app_exceptions=False)
    with quiet.stream("GET", url) as stream:
        assert list(stream.chunks) == [b"first", b"last"]
    response = quiet.request("GET", url)
    assert (response.status_code, response.content) == (200, b"firstlast")


@check
def background_task(client: Client) -> None:
    """What the app does after its response (ASGI: after the last body, WSGI: in close()) is done at its end."""
    token = next(_tokens)
    assert client.request("GET", f"/stream/background?token={token}").content == b"body"
    assert client.request("GET", f"/stream/noted?of={token}").json() == ["the task has run"]
    token = next(_tokens)
    with client.stream("GET", f"/stream/background?token={token}") as stream:
        assert list(stream.chunks) == [b"body"]
        assert client.request("GET", f"/stream/noted?of={token}").json() == ["the task has run"]


@check
def response_begins_before_the_background_task(client: Client) -> None:
    """A complete response is there while the app goes on after it, and is at its end when the app is."""
    if client.worker.app_kind == "wsgi":
        return
    for length in ("", "&length_is=4"):
        token = next(_tokens)
        with client.stream("GET", f"/stream/whole?token={token}{length}") as stream:
            assert stream.status == 200
            say(client, f"{token}/go")
            assert list(stream.chunks) == [b"body"]
            assert client.request("GET", f"/stream/noted?of={token}").json() == ["the task has run"]
        with client.stream("GET", f"/stream/whole?token={token + 'left'}{length}") as stream:
            assert stream.status == 200
        say(client, f"{token}left/go")
        assert notes_on(client, token + "left") == ["the task has run"]


@check
def leaving_during_the_background_task(client: Client) -> None:
    """What the app does after its response is done though the client has left."""
    token = next(_tokens)
    with client.stream("GET", f"/stream/background?token={token}&wait_for={token}/go") as stream:
        assert next(stream.chunks) == b"body"
        client.request("GET", f"/stream/noted?of={token}&word={token}/complete")
    if client.worker.app_kind == "asgi":  # so that the first would have been cancelled by then
        leave_a_busy_app(client)
    say(client, f"{token}/go")
    assert notes_on(client, token) == ["the task has run"]


@check
def request_in_chunks(client: Client) -> None:
    """A body in chunks arrives as one, of any kind of bytes, without the empty ones, chunked or with its length."""
    chunks = [b"", b"one ", bytearray(b"two "), b"", memoryview(b"three"), b""]
    response = client.request("POST", "/stream/echo?size=100", content=client.body(chunks))
    assert (response.content, response.headers["x-length"], response.headers["x-encoding"]) == (
        b"one two three",
        "none",
        "chunked",
    )
    response = client.request(
        "POST", "/stream/echo?size=100", content=client.body(chunks), headers={"Content-Length": "13"}
    )
    assert (response.content, response.headers["x-length"], response.headers["x-encoding"]) == (
        b"one two three",
        "13",
        "none",
    )
    for nothing in ([], [b"", b""]):
        assert client.request("POST", "/stream/echo?size=100", content=client.body(nothing)).content == b""
    assert client.request("POST", "/echo", content=client.body(chunks)).content == b"one two three"


@check
def uploads(client: Client) -> None:
    """A file is streamed, and a multipart upload: with its length, or chunked if the file does not tell it."""
    content = random.Random(3).randbytes(256_000)

    class Unsized:
        """A file that can be read, and nothing else."""

        def __init__(self) -> None:
            self.read = io.BytesIO(content).read

    for file, is_sized in ((io.BytesIO(content), True), (Unsized(), False)):
        response = client.request("POST", "/stream/echo?size=65536", files={"file": ("name", file)}, data={"a": "b"})
        seen = response.headers["x-length"], response.headers["x-encoding"]
        assert seen == ((str(len(response.content)), "none") if is_sized else ("none", "chunked"))
        assert response.content.count(content) == response.content.count(b'filename="name"') == 1
    with open(__file__, "rb") as text:
        response = client.request("POST", "/stream/echo?size=65536", content=client.body(text))
    assert response.content == Path(__file__).read_bytes()


@check
def echo_while_it_is_sent(client: Client) -> None:
    """A body is taken piece by piece, when the app reads it: the answer is under way before the body is at its end."""
    token = next(_tokens)
    source = Source(b"%04d" % number for number in range(1000))
    url = f"/stream/echo?token={token}&size=4"
    with client.stream("POST", url, content=client.body(source)) as stream:
        assert source.taken <= 1
        for number in range(5):
            assert next(stream.chunks) == b"%04d" % number
            assert source.taken == number + 1
    assert notes_on(client, token)[0] in {"closed", "disconnected", "ClientDisconnected"}
    assert source.taken == 5
    source = Source([b"1", b"22", b"333"])
    with client.stream("POST", "/stream/echo?size=3", content=client.body(source)) as stream:
        assert (b"".join(stream.chunks), source.taken) == (b"122333", 3)


@check
def answer_before_the_body(client: Client) -> None:
    """An app may answer before it reads the body, read only a part of it, or nothing."""
    for reads, answer in ((9, b"6 "), (1, b"3 "), (0, b"0 ")):
        source = Source([b"abc", b"def"])
        url = f"/stream/answer_first?chunks=1&size=3&reads={reads}"
        with client.stream("POST", url, content=client.body(source)) as stream:
            assert (next(stream.chunks), source.taken) == (b"xxx", 0)
            assert b"".join(stream.chunks).startswith(answer)
        assert source.taken == min(reads, 2)
        source = Source([b"abc", b"def"])
        assert client.request("POST", url, content=client.body(source)).content.startswith(b"xxx" + answer)
        assert source.taken == min(reads, 2)
    assert client.request("POST", "/stream/chunks?chunks=a", content=client.body(Source([b"x"]))).content == b"a"


@check
def body_that_is_not_used_up(client: Client) -> None:
    """A body that the app does not read to its end is closed when the exchange is over."""
    source = Source([b"abc", b"def"])
    url = "/stream/answer_first?chunks=0&size=3&reads=1"
    with client.stream("POST", url, content=client.body(source)) as stream:
        assert b"".join(stream.chunks).startswith(b"3 ")
        assert (source.taken, source.is_closed) == (1, True)


@check
def body_that_raises(client: Client) -> None:
    """What the request's body raises is raised here as it is, before or during the answer; the app is told."""

    def chunks(error: Exception) -> Iterator[bytes]:
        yield b"one"
        raise error

    error = ZeroDivisionError("the source of the body")
    for url in ("/stream/answer_first?chunks=0", "/stream/echo?x"):
        token = next(_tokens)
        with pytest.raises(ZeroDivisionError) as caught:
            client.request("POST", f"{url}&size=3&token={token}", content=client.body(chunks(error)))
        assert caught.value is error
        assert notes_on(client, token)[0] == "disconnected"
    token = next(_tokens)
    with client.stream("POST", f"/stream/echo?size=3&token={token}", content=client.body(chunks(error))) as stream:
        assert next(stream.chunks) == b"one"
        with pytest.raises(ZeroDivisionError) as caught:
            next(stream.chunks)
        assert caught.value is error
        assert notes_on(client, token)[0] == "disconnected"


@check
def body_that_is_no_bytes(client: Client) -> None:
    """A chunk that is no bytes is refused, and the app is told."""
    wrong: list[Any] = ["two", 2]
    for chunk in wrong:
        token = next(_tokens)
        url = f"/stream/answer_first?chunks=0&size=3&token={token}"
        with pytest.raises(errors.TransferError) as caught:
            client.request("POST", url, content=client.body([b"one", chunk]))
        assert isinstance(caught.value, client.library.LocalProtocolError)
        assert str(caught.value) == f"POST {url}: the request's body holds {type(chunk).__name__}, which is not bytes"
        assert notes_on(client, token)[0] == "disconnected"


LARGE = 16  # MiB


def large() -> Iterator[bytes]:
    """Yield more than all buffers on the way hold together, each MiB another."""
    return (bytes([number]) * MIB for number in range(LARGE))


LARGE_CRC = reduce(lambda crc, chunk: zlib.crc32(chunk, crc), large(), 0)


def size_and_crc(chunks: Iterable[bytes]) -> tuple[int, int]:
    size, crc = 0, 0
    for chunk in chunks:
        size, crc = size + len(chunk), zlib.crc32(chunk, crc)
    return size, crc


@check
def large_bodies_both_ways(client: Client) -> None:
    """Large bodies go each way at once, in step or not."""
    for content in (client.body(large()), b"".join(large())):
        with client.stream("POST", f"/stream/echo?size={MIB}", content=content) as stream:
            assert size_and_crc(stream.chunks) == (LARGE * MIB, LARGE_CRC)
    url = f"/stream/answer_first?chunks={LARGE}&size={MIB}"
    source = Source(large())
    with client.stream("POST", url, content=client.body(source)) as stream:
        size = 0
        while size < LARGE * MIB:
            size += len(next(stream.chunks))
            assert source.taken == 0
        assert b"".join(stream.chunks) == b"%d %d" % (LARGE * MIB, LARGE_CRC)


@check
def trailers(client: Client) -> None:
    """What an ASGI app sends as trailers is there at the end of the response."""
    expected = [(b"x-one", b"1"), (b"x-two", b"2")] if client.worker.app_kind == "asgi" else None
    response = client.request("GET", "/stream/trailers")
    assert (response.content, response.extensions.get("http.response.trailers")) == (b"body", expected)
    with client.stream("GET", "/stream/trailers") as stream:
        assert list(stream.chunks) == [b"body"]
        assert stream.extensions.get("http.response.trailers") == expected


@check
def debug(client: Client) -> None:
    """What an ASGI app says for debugging is there; of what cannot cross, the name is."""
    with client.stream("GET", "/stream/debug") as stream:
        first = stream.extensions.get("http.response.debug")
        assert list(stream.chunks) == [b"first", b"last"]
        last = stream.extensions.get("http.response.debug")
    if client.worker.app_kind == "wsgi":
        assert first is last is None
        return
    assert first["template"].name == "index.html"
    form = first["context"].pop("form")
    if isinstance(client.worker, IpcThread):  # whose context is the app's own
        del first["context"]["request"], first["context"][3]
    assert (first["context"], form.name) == ({"user": "ada", "items": [1, 2]}, "login")
    assert (last["template"].name, last["context"]) == ("other.html", {})
    assert client.request("GET", "/stream/debug").extensions["http.response.debug"]["template"].name == "other.html"


@check
def path_of_a_slow_file(client: Client) -> None:
    """A file that cannot be opened at once keeps no other request waiting."""
    if client.worker.app_kind == "wsgi":
        return
    with tempfile.TemporaryDirectory() as folder:
        fifo = Path(folder, "fifo")
        os.mkfifo(fifo)
        with client.stream("GET", f"/stream/file?path={fifo}") as stream:
            say(client, f"{next(_tokens)}/go")
            fifo.write_bytes(b"content")  # which waits for the reader
            assert list(stream.chunks) == [b"content"]


@check
def path(client: Client) -> None:
    """A file that an ASGI app names is the body."""
    if client.worker.app_kind == "wsgi":
        return
    with tempfile.NamedTemporaryFile() as file:
        file.write(content := bytes(range(256)) * 4000)
        file.flush()
        url = f"/stream/file?path={file.name}"
        assert client.request("GET", url).content == content
        with client.stream("GET", url) as stream:
            assert b"".join(stream.chunks) == content
        assert client.request("HEAD", url).content == b""


def read_until_late(client: Client, url: str, seconds: float) -> tuple[list[bytes], Any]:
    """Read a response until the read timeout; return the chunks that came before, and the error."""
    chunks: list[bytes] = []
    timeout = client.library.Timeout(LIMIT, read=seconds)
    with pytest.raises(client.library.ReadTimeout) as caught, client.stream("GET", url, timeout=timeout) as stream:
        chunks.extend(stream.chunks)
    return chunks, caught.value


@check
def read_timeout_in_the_middle(client: Client) -> None:
    """An app that does not go on gives the library's read timeout, which says where it is."""
    for seconds in (0.02, 0.2, 2.0, LIMIT):  # more of them, where the first byte takes so long
        token = next(_tokens)
        url = f"/stream/held?token={token}"
        chunks, error = read_until_late(client, url, seconds)
        say(client, f"{token}/go")  # a WSGI app lets go when it comes to its next yield
        if chunks:
            break
    assert chunks == [b"held"]
    assert isinstance(error, errors.ReadTimeout)
    assert str(error).splitlines()[0] == f"GET {url}: the app did not go on with its answer within {seconds:g} s"
    assert 'conformance_app.py", line ' in error.stack
    assert "in wait_in_" in error.stack
    assert f"The app is at:\n{error.stack.rstrip()}" in "".join(traceback.format_exception(error))
    notes_on(client, token)


@check
def read_timeout_of_empty_chunks(client: Client) -> None:
    """An app that sends empty chunks does not go on with its answer: no byte has come."""
    for seconds in (0.05, 0.5):  # more of them, where the first byte takes so long
        if read_until_late(client, "/stream/empty", seconds)[0] == [b"first"]:
            break


@check_limited
def request_over_the_limit(client: Client) -> None:
    """A request's body that is over max_body_bytes is refused, and the app is told if it has begun to read it."""
    for content in (b"x" * MAX_BODY_BYTES, client.body([b"x" * 600, b"x" * 400])):
        assert client.request("POST", "/stream/answer_first?chunks=0&size=600", content=content).text.startswith("1000")
    token = next(_tokens)
    url = f"/stream/answer_first?chunks=0&size=600&token={token}"
    for content in (b"x" * (MAX_BODY_BYTES + 1), client.body([b"x" * 600, b"x" * 401])):
        with pytest.raises(errors.BodyTooLarge) as caught:
            client.request("POST", url, content=content)
        assert isinstance(caught.value, client.library.ProtocolError)
        assert str(caught.value) == f"POST {url}: the body of the request is larger than max_body_bytes=1000"
    assert notes_on(client, token)[0] == "disconnected"


@check_limited
def response_over_the_limit(client: Client) -> None:
    """A response's body that is over max_body_bytes is an error, after what came before; an endless one, too."""
    assert len(client.request("GET", f"/large?{MAX_BODY_BYTES}").content) == MAX_BODY_BYTES
    paths = [f"/stream/endless?size=300&how={how}" for how in ways(client)]
    for url in (f"/large?{MAX_BODY_BYTES + 1}", *paths):
        with pytest.raises(errors.BodyTooLarge) as caught:
            client.request("GET", url)
        assert isinstance(caught.value, client.library.ProtocolError)
        assert str(caught.value) == f"GET {url}: the body of the response is larger than max_body_bytes=1000"
    for url in paths:
        with client.stream("GET", url) as stream:
            assert b"".join(next(stream.chunks) for _ in range(3)) == b"x" * 900
            with pytest.raises(errors.BodyTooLarge) as caught:
                next(stream.chunks)
        assert isinstance(caught.value, client.library.ProtocolError)


@check_limited
def response_over_the_limit_of_an_app_that_does_not_care(client: Client) -> None:
    """An app that swallows the error does not make a shorter response of it."""
    for how in ways(client):
        with pytest.raises((errors.BodyTooLarge, errors.AppProtocolError)):
            client.request("GET", f"/stream/endless?size=300&how={how}&swallow=yes")


def for_each(clients: Iterable[str], checks: list[Callable[[Client], None]]) -> list[Any]:
    """Return pairs of a client's name and a check that can hold for it."""
    return [
        pytest.param(name, function, id=f"{function.__name__}-{name}")
        for function, name in product(checks, clients)
        if can(name, function)
    ]
