"""Apps that others have written: httpbin (WSGI) and datasette (ASGI)."""

from __future__ import annotations

import asyncio
import json
import random
import re
import sqlite3
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pytest

from socketless import IpcAsyncTransport, IpcProcess, IpcTransport

# datasette leaves its connections to the collector, which tells from Python 3.13 on.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")

# httpbin

HEADERS = {"User-Agent": "test", "Accept": "*/*", "Accept-Encoding": "gzip, deflate, br", "Connection": "close"}
SEEN_HEADERS = {"Host": "testserver", **HEADERS}
CORS = [("access-control-allow-origin", "*"), ("access-control-allow-credentials", "true")]
TEAPOT = r'''
    -=[ teapot ]=-

       _...._
     .'  _ _ `.
    | ."` ^ `". _,
    \_;`"---"`|//
      |       ;/
      \_     _/
        `"""`
'''


@pytest.fixture(scope="module")
def httpbin_worker() -> Iterator[IpcProcess]:
    with IpcProcess("httpbin:app") as worker:
        yield worker


@pytest.fixture
def httpbin(httpbin_worker: IpcProcess) -> Iterator[httpx.Client]:
    transport = IpcTransport(httpbin_worker)
    with httpx.Client(transport=transport, base_url="http://testserver", headers=HEADERS) as client:
        yield client


def hops(response: httpx.Response) -> list[tuple[int, str]]:
    return [(hop.status_code, hop.headers["location"]) for hop in response.history]


def test_httpbin_is_wsgi(httpbin_worker: IpcProcess) -> None:
    """httpbin is told to be a WSGI app."""
    assert httpbin_worker.app_kind == "wsgi"


def test_httpbin_get(httpbin: httpx.Client) -> None:
    """/get shows the whole request: repeated and escaped arguments, headers, the client's address, the URL."""
    response = httpbin.get("/get", params={"a": ["1", "2"], "b": "x y&ü"})
    assert response.json() == {
        "args": {"a": ["1", "2"], "b": "x y&ü"},
        "headers": SEEN_HEADERS,
        "origin": "127.0.0.1",
        "url": "http://testserver/get?a=1&a=2&b=x+y%26ü",
    }
    length = str(len(response.content))
    assert response.headers.multi_items() == [
        ("content-type", "application/json"),
        ("content-length", length),
        *CORS,
    ]


def test_httpbin_head(httpbin: httpx.Client) -> None:
    """HEAD has the headers of GET, with its length, and no body."""
    response = httpbin.head("/get")
    assert response.content == b""
    assert response.headers == httpbin.get("/get").headers


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_httpbin_bodies(httpbin: httpx.Client, method: str) -> None:
    """The endpoint of each method shows a JSON body, a form, raw text and uploaded files."""
    path = f"/{method.lower()}"
    as_json = httpbin.request(method, path, json={"ü": [1]}).json()
    assert (as_json["json"], as_json["data"], as_json["url"]) == ({"ü": [1]}, '{"ü":[1]}', f"http://testserver{path}")
    assert httpbin.request(method, path, data={"a": ["1", "2"], "b": "é"}).json()["form"] == {"a": ["1", "2"], "b": "é"}
    assert httpbin.request(method, path, content=b"raw").json()["data"] == "raw"
    upload = httpbin.request(method, path, data={"a": "1"}, files={"f": ("n.txt", b"text")}).json()
    assert (upload["form"], upload["files"]) == ({"a": "1"}, {"f": "text"})
    assert httpbin.request(method, path).json() == {
        "args": {},
        "data": "",
        "files": {},
        "form": {},
        "headers": SEEN_HEADERS | ({} if method == "DELETE" else {"Content-Length": "0"}),
        "json": None,
        "origin": "127.0.0.1",
        "url": f"http://testserver{path}",
    }


def test_httpbin_large_body(httpbin: httpx.Client) -> None:
    """A body of 2 MB goes there and comes back."""
    body = "0123456789" * 200_000
    assert httpbin.post("/post", content=body).json()["data"] == body


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "TRACE"])
def test_httpbin_anything(httpbin: httpx.Client, method: str) -> None:
    """/anything shows any method and an escaped path."""
    answer = httpbin.request(method, "/anything/a%2Bb/%C3%A9").json()
    assert (answer["method"], answer["url"]) == (method, "http://testserver/anything/a+b/é")


def test_httpbin_options(httpbin: httpx.Client) -> None:
    """OPTIONS says which methods there are."""
    response = httpbin.options("/get")
    assert sorted(response.headers["allow"].split(", ")) == ["GET", "HEAD", "OPTIONS"]
    assert response.headers["access-control-max-age"] == "3600"


def test_httpbin_method_not_allowed(httpbin: httpx.Client) -> None:
    """A method that an endpoint does not take is a 405."""
    assert (httpbin.post("/get").status_code, httpbin.get("/post").status_code) == (405, 405)


def test_httpbin_headers(httpbin: httpx.Client) -> None:
    """/headers shows the request's headers; those of one name are joined."""
    sent = [("X-One", "1"), ("X-Two", "a"), ("X-Two", "b")]
    assert httpbin.get("/headers", headers=sent).json() == {"headers": SEEN_HEADERS | {"X-One": "1", "X-Two": "a,b"}}


def test_httpbin_ip(httpbin_worker: IpcProcess, httpbin: httpx.Client) -> None:
    """/ip shows the address that the transport gives for the client."""
    assert httpbin.get("/ip").json() == {"origin": "127.0.0.1"}
    transport = IpcTransport(httpbin_worker, client=("203.0.113.7", 4711))
    with httpx.Client(transport=transport, base_url="http://testserver") as client:
        assert client.get("/ip").json() == {"origin": "203.0.113.7"}


def test_httpbin_user_agent(httpbin: httpx.Client) -> None:
    """/user-agent shows the client's name."""
    assert httpbin.get("/user-agent").json() == {"user-agent": "test"}


def test_httpbin_teapot(httpbin: httpx.Client) -> None:
    """Status 418 comes with its reason, its header and its picture."""
    response = httpbin.get("/status/418")
    assert (response.status_code, response.reason_phrase, response.text) == (418, "I'M A TEAPOT", TEAPOT)
    assert response.headers["x-more-info"] == "http://tools.ietf.org/html/rfc2324"


@pytest.mark.parametrize(
    ("status", "reason"),
    [(201, "CREATED"), (204, "NO CONTENT"), (304, "NOT MODIFIED"), (404, "NOT FOUND"), (503, "SERVICE UNAVAILABLE")],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_httpbin_status(httpbin: httpx.Client, method: str, status: int, reason: str) -> None:
    """A status comes with its reason and an empty body, whatever the method."""
    response = httpbin.request(method, f"/status/{status}")
    assert (response.status_code, response.reason_phrase, response.content) == (status, reason, b"")


@pytest.mark.parametrize(
    ("path", "locations"),
    [
        ("/redirect/3", ["/relative-redirect/2", "/relative-redirect/1", "/get"]),
        ("/relative-redirect/3", ["/relative-redirect/2", "/relative-redirect/1", "/get"]),
        (
            "/absolute-redirect/3",
            [f"http://testserver/{path}" for path in ("absolute-redirect/2", "absolute-redirect/1", "get")],
        ),
    ],
)
def test_httpbin_redirects(httpbin: httpx.Client, path: str, locations: list[str]) -> None:
    """Relative and absolute redirects are followed to their end."""
    response = httpbin.get(path, follow_redirects=True)
    assert hops(response) == [(302, location) for location in locations]
    assert response.json()["url"] == "http://testserver/get"


@pytest.mark.parametrize(("status", "method"), [(302, "GET"), (303, "GET"), (307, "POST"), (308, "POST")])
def test_httpbin_redirect_to(httpbin: httpx.Client, status: int, method: str) -> None:
    """A POST that is redirected stays one, with its body, after 307 and 308 only."""
    params = {"url": "/anything", "status_code": str(status)}
    answer = httpbin.post("/redirect-to", params=params, content=b"body", follow_redirects=True).json()
    assert (answer["method"], answer["data"]) == (method, "body" if method == "POST" else "")


def test_httpbin_endless_redirects(httpbin: httpx.Client) -> None:
    """More redirects than the client follows are its own error."""
    with pytest.raises(httpx.TooManyRedirects, match="^Exceeded maximum allowed redirects.$"):
        httpbin.get("/redirect/21", follow_redirects=True)


def test_httpbin_cookies(httpbin: httpx.Client) -> None:
    """Cookies are set by a redirect's response, shown, and deleted."""
    assert httpbin.get("/cookies").json() == {"cookies": {}}
    response = httpbin.get("/cookies/set", params={"a": "1", "b": "2"}, follow_redirects=True)
    assert response.history[0].headers.get_list("set-cookie") == ["a=1; Path=/", "b=2; Path=/"]
    assert response.json() == {"cookies": {"a": "1", "b": "2"}}
    assert dict(httpbin.cookies) == {"a": "1", "b": "2"}
    assert httpbin.get("/cookies/set/c/3", follow_redirects=True).json() == {"cookies": {"a": "1", "b": "2", "c": "3"}}
    assert httpbin.get("/cookies/delete?a", follow_redirects=True).json() == {"cookies": {"b": "2", "c": "3"}}


def test_httpbin_basic_auth(httpbin: httpx.Client) -> None:
    """Basic authentication is asked for, refused and taken."""
    refused = httpbin.get("/basic-auth/user/päss")
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, 'Basic realm="Fake Realm"')
    assert httpbin.get("/basic-auth/user/pass", auth=("user", "other")).status_code == 401
    assert httpbin.get("/basic-auth/user/pass", auth=("user", "pass")).json() == {"authenticated": True, "user": "user"}


def test_httpbin_hidden_basic_auth(httpbin: httpx.Client) -> None:
    """Hidden basic authentication answers 404 instead of asking."""
    refused = httpbin.get("/hidden-basic-auth/user/pass")
    assert (refused.status_code, "www-authenticate" in refused.headers) == (404, False)
    accepted = httpbin.get("/hidden-basic-auth/user/pass", auth=("user", "pass"))
    assert accepted.json() == {"authenticated": True, "user": "user"}


@pytest.mark.parametrize("qop", ["auth", "auth-int"])
def test_httpbin_digest_auth_asks(httpbin: httpx.Client, qop: str) -> None:
    """Digest authentication is asked for, with two cookies of which each has its header."""
    refused = httpbin.get(f"/digest-auth/{qop}/user/pass")
    assert refused.status_code == 401
    assert re.fullmatch(
        rf'Digest realm="me@kennethreitz\.com", nonce="\w{{32}}", opaque="\w{{32}}", qop="{qop}", '
        r"algorithm=MD5, stale=False",
        refused.headers["www-authenticate"],
    )
    assert sorted(refused.headers.get_list("set-cookie")) == ["fake=fake_value; Path=/", "stale_after=never; Path=/"]


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256", "SHA-512"])
def test_httpbin_digest_auth(httpbin: httpx.Client, algorithm: str) -> None:
    """`httpx.DigestAuth` answers the challenge of a first exchange in a second one."""
    path = f"/digest-auth/auth/user/pass/{algorithm}"
    assert httpbin.get(path, auth=httpx.DigestAuth("user", "wrong")).status_code == 401
    accepted = httpbin.get(path, auth=httpx.DigestAuth("user", "pass"))
    assert accepted.json() == {"authenticated": True, "user": "user"}


def test_httpbin_bearer(httpbin: httpx.Client) -> None:
    """A bearer token is asked for and taken."""
    refused = httpbin.get("/bearer")
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    accepted = httpbin.get("/bearer", headers={"Authorization": "Bearer token"})
    assert accepted.json() == {"authenticated": True, "token": "token"}


@pytest.mark.parametrize(
    ("path", "flag", "encoding"), [("/gzip", "gzipped", "gzip"), ("/deflate", "deflated", "deflate")]
)
def test_httpbin_compressed(httpbin: httpx.Client, path: str, flag: str, encoding: str) -> None:
    """A compressed body arrives as it is, and the client unpacks it."""
    response = httpbin.get(path)
    assert response.headers["content-encoding"] == encoding
    assert int(response.headers["content-length"]) != len(response.content)
    assert response.json() == {flag: True, "headers": SEEN_HEADERS, "method": "GET", "origin": "127.0.0.1"}


def test_httpbin_brotli(httpbin: httpx.Client) -> None:
    """A Brotli body arrives as it is; httpbin brings along what httpx needs to unpack it."""
    response = httpbin.get("/brotli")
    assert response.headers["content-encoding"] == "br"
    assert response.json() == {"brotli": True, "headers": SEEN_HEADERS, "method": "GET", "origin": "127.0.0.1"}


def test_httpbin_utf8(httpbin: httpx.Client) -> None:
    """A page in UTF-8 arrives unharmed."""
    response = httpbin.get("/encoding/utf8")
    assert (response.encoding, len(response.content)) == ("utf-8", int(response.headers["content-length"]))
    assert "∮ E⋅da = Q,  n → ∞, ∑ f(i) = ∏ g(i)" in response.text
    assert "STARGΛ̊TE SG-1" in response.text


def test_httpbin_html(httpbin: httpx.Client) -> None:
    """/html is a page."""
    response = httpbin.get("/html")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.text.startswith("<!DOCTYPE html>\n<html>\n")
    assert "<h1>Herman Melville - Moby-Dick</h1>" in response.text
    assert response.text.endswith("</html>")


def test_httpbin_xml(httpbin: httpx.Client) -> None:
    """/xml is a document with its declaration."""
    response = httpbin.get("/xml")
    assert response.headers["content-type"] == "application/xml"
    assert response.text.startswith("<?xml version='1.0' encoding='us-ascii'?>\n")
    assert re.findall(r"<title>(.*)</title>", response.text) == ["Wake up to WonderWidgets!", "Overview"]


def test_httpbin_json(httpbin: httpx.Client) -> None:
    """/json is an object."""
    items = ["Why <em>WonderWidgets</em> are great", "Who <em>buys</em> WonderWidgets"]
    assert httpbin.get("/json").json() == {
        "slideshow": {
            "author": "Yours Truly",
            "date": "date of publication",
            "slides": [
                {"title": "Wake up to WonderWidgets!", "type": "all"},
                {"items": items, "title": "Overview", "type": "all"},
            ],
            "title": "Sample Slide Show",
        }
    }


def test_httpbin_robots(httpbin: httpx.Client) -> None:
    """/robots.txt refuses robots /deny, which is plain text."""
    robots = httpbin.get("/robots.txt")
    assert (robots.headers["content-type"], robots.text) == ("text/plain", "User-agent: *\nDisallow: /deny\n")
    denied = httpbin.get("/deny")
    assert denied.headers["content-type"] == "text/plain"
    assert denied.text.endswith("\n     YOU SHOULDN'T BE HERE\n")


@pytest.mark.parametrize("header", ["If-Modified-Since", "If-None-Match"])
def test_httpbin_cache(httpbin: httpx.Client, header: str) -> None:
    """/cache has validators, and a request with one is a 304 without body."""
    response = httpbin.get("/cache")
    assert re.fullmatch(r"\w{32}", response.headers["etag"])
    assert response.headers["last-modified"].endswith(" GMT")
    unchanged = httpbin.get("/cache", headers={header: "anything"})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert unchanged.headers.multi_items() == CORS


def test_httpbin_cache_control(httpbin: httpx.Client) -> None:
    """/cache/60 may be cached for a minute."""
    assert httpbin.get("/cache/60").headers["cache-control"] == "public, max-age=60"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"If-None-Match": "tag"}, 304),
        ({"If-None-Match": '"other", W/"tag"'}, 304),
        ({"If-None-Match": "other"}, 200),
        ({"If-Match": "tag"}, 200),
        ({"If-Match": "other"}, 412),
    ],
)
def test_httpbin_etag(httpbin: httpx.Client, headers: dict[str, str], status: int) -> None:
    """Conditional requests reach the app."""
    assert httpbin.get("/etag/tag", headers=headers).status_code == status


def test_httpbin_response_headers(httpbin: httpx.Client) -> None:
    """Repeated response headers stay apart and in order."""
    response = httpbin.get("/response-headers?x-a=1&x-a=2&x-b=%C3%A9")
    assert response.headers.get_list("x-a") == ["1", "2"]
    assert response.headers["x-b"] == "é"
    assert response.json() == {
        "Content-Length": response.headers["content-length"],
        "Content-Type": "application/json",
        "x-a": ["1", "2"],
        "x-b": "é",
    }


@pytest.mark.parametrize("path", ["/bytes/1024", "/stream-bytes/1024", "/stream-bytes/1024?chunk_size=7"])
def test_httpbin_bytes(httpbin: httpx.Client, path: str) -> None:
    """Random bytes of a known seed arrive unharmed, in one piece or streamed in many."""
    numbers = random.Random(7)
    expected = bytes(numbers.randint(0, 255) for _ in range(1024))
    response = httpbin.get(path, params={**httpx.QueryParams(path.partition("?")[2]), "seed": "7"})
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.content == expected


def test_httpbin_stream(httpbin: httpx.Client) -> None:
    """/stream/5 is five lines, each the request in JSON, and the client iterates over them."""
    with httpbin.stream("GET", "/stream/5", params={"a": "1"}) as response:
        lines = [json.loads(line) for line in response.iter_lines()]
    url = "http://testserver/stream/5?a=1"
    request = {"url": url, "args": {"a": "1"}, "headers": SEEN_HEADERS, "origin": "127.0.0.1"}
    assert lines == [{**request, "id": number} for number in range(5)]


def test_httpbin_drip(httpbin: httpx.Client) -> None:
    """/drip sends so many bytes with that status."""
    response = httpbin.get("/drip", params={"duration": 0, "delay": 0, "numbytes": 5, "code": 203})
    assert (response.status_code, response.content, response.headers["content-length"]) == (203, b"*****", "5")


@pytest.mark.parametrize(
    ("asked", "status", "content_range", "body"),
    [
        (None, 200, "bytes 0-255/256", ("abcdefghijklmnopqrstuvwxyz" * 10)[:256]),
        ("bytes=10-19", 206, "bytes 10-19/256", "klmnopqrst"),
        ("bytes=-4", 206, "bytes 252-255/256", "stuv"),
        ("bytes=250-", 206, "bytes 250-255/256", "qrstuv"),
        ("bytes=999-", 416, "bytes */256", ""),
    ],
)
def test_httpbin_range(httpbin: httpx.Client, asked: str | None, status: int, content_range: str, body: str) -> None:
    """A range of a resource is served as asked for."""
    response = httpbin.get("/range/256", headers={} if asked is None else {"Range": asked})
    assert (response.status_code, response.headers["content-range"], response.text) == (status, content_range, body)
    assert response.headers["etag"] == "range256"


def test_httpbin_links(httpbin: httpx.Client) -> None:
    """/links/3 redirects to a page of links."""
    response = httpbin.get("/links/3", follow_redirects=True)
    assert hops(response) == [(302, "/links/3/0")]
    assert response.text == (
        "<html><head><title>Links</title></head><body>"
        "0 <a href='/links/3/1'>1</a> <a href='/links/3/2'>2</a> </body></html>"
    )


def test_httpbin_png(httpbin: httpx.Client) -> None:
    """A PNG arrives whole: its signature, its size in pixels, its end."""
    image = httpbin.get("/image/png")
    assert (image.headers["content-type"], len(image.content)) == ("image/png", int(image.headers["content-length"]))
    assert image.content.startswith(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00d\x00\x00\x00d")
    assert image.content.endswith(b"IEND\xaeB`\x82")


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "svg+xml"])
def test_httpbin_image(httpbin: httpx.Client, kind: str) -> None:
    """The Accept header chooses the kind of the image."""
    accepted = httpbin.get("/image", headers={"Accept": f"image/{kind}"})
    assert accepted.headers["content-type"] == f"image/{kind}"
    assert accepted.content == httpbin.get(f"/image/{kind.removesuffix('+xml')}").content
    assert httpbin.get("/image", headers={"Accept": "text/html"}).status_code == 406


def test_httpbin_base64(httpbin: httpx.Client) -> None:
    """/base64 decodes what is in the path."""
    assert httpbin.get("/base64/R3LDvMOfZQ==").text == "Grüße"


def test_httpbin_uuid(httpbin: httpx.Client) -> None:
    """/uuid is another random UUID each time."""
    found = {uuid.UUID(httpbin.get("/uuid").json()["uuid"]) for _ in range(3)}
    assert (len(found), {one.version for one in found}) == (3, {4})


def test_httpbin_delay(httpbin: httpx.Client) -> None:
    """/delay/0 answers as /anything does."""
    assert httpbin.get("/delay/0").json()["url"] == "http://testserver/delay/0"


def test_httpbin_not_found(httpbin: httpx.Client) -> None:
    """A path that httpbin does not have is a 404."""
    assert "<title>404 Not Found</title>" in httpbin.get("/no/such/path").text


def test_httpbin_threads(httpbin: httpx.Client) -> None:
    """Eight threads get the bytes that each of them has asked for."""
    with ThreadPoolExecutor(8) as threads:
        answers = threads.map(lambda n: httpbin.get(f"/anything/{n}", params={"n": n}).json(), range(80))
        assert [(answer["args"]["n"], answer["url"]) for answer in answers] == [
            (str(n), f"http://testserver/anything/{n}?n={n}") for n in range(80)
        ]


def test_httpbin_async_client(httpbin_worker: IpcProcess) -> None:
    """An async client has 20 requests to httpbin at once, redirects and digest authentication among them."""

    async def requests() -> list[int]:
        transport = IpcAsyncTransport(httpbin_worker)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://testserver", follow_redirects=True, auth=httpx.DigestAuth("u", "p")
        ) as client:
            paths = ["/redirect/2", "/digest-auth/auth/u/p", "/bytes/100000", "/status/404"] * 5
            return [response.status_code for response in await asyncio.gather(*map(client.get, paths))]

    assert asyncio.run(requests()) == [200, 200, 200, 404] * 5


# datasette

TABLES = """
    create table authors (id integer primary key, name text not null);
    create table books (
        id integer primary key, title text, year integer, genre text, author_id integer references authors(id)
    );
    create table events (n integer primary key);
    create table prices (shop text, item text, cents integer, primary key (shop, item));
    create view modern as select id, title, year from books where year >= 1900;
    create virtual table books_fts using fts5 (title, content="books", content_rowid="id");
    insert into authors values (1, 'Herman Melville'), (2, 'Mary Shelley'), (3, 'Émile Zola');
    insert into books values
        (1, 'Moby-Dick', 1851, 'sea', 1),
        (2, 'Frankenstein', 1818, 'horror', 2),
        (3, 'L''Œuvre', 1886, 'city', 3),
        (4, 'The Last Man', 1826, 'horror', 2),
        (5, 'Billy Budd <b>', 1924, 'sea', 1);
    insert into books_fts (rowid, title) select id, title from books;
    insert into prices values ('north', 'tea/green', 250), ('north', 'rice', 90), ('south', 'rice', 85);
    with recursive count (n) as (select 1 union all select n + 1 from count where n < 250)
        insert into events select n from count;
"""

MODULE = """
from datasette.app import Datasette

settings = {{"max_returned_rows": 120, "sql_time_limit_ms": 20000, "facet_time_limit_ms": 20000}}
app = Datasette([{path!r}], settings=settings).app()
"""

BOOKS = [
    {"id": 1, "title": "Moby-Dick", "year": 1851, "genre": "sea", "author_id": 1},
    {"id": 2, "title": "Frankenstein", "year": 1818, "genre": "horror", "author_id": 2},
    {"id": 3, "title": "L'Œuvre", "year": 1886, "genre": "city", "author_id": 3},
    {"id": 4, "title": "The Last Man", "year": 1826, "genre": "horror", "author_id": 2},
    {"id": 5, "title": "Billy Budd <b>", "year": 1924, "genre": "sea", "author_id": 1},
]


@pytest.fixture(scope="module")
def datasette_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IpcProcess]:
    folder = tmp_path_factory.mktemp("datasette")
    make_datasette(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        with IpcProcess("datasette_of_a_test:app") as worker:
            yield worker


def make_datasette(folder: Path) -> None:
    path = folder / "library.db"
    with closing(sqlite3.connect(path)) as database:
        database.executescript(TABLES)
        database.commit()
    (folder / "datasette_of_a_test.py").write_text(MODULE.format(path=str(path)), encoding="utf-8")


@pytest.fixture
def datasette(datasette_worker: IpcProcess) -> Iterator[httpx.Client]:
    with httpx.Client(transport=IpcTransport(datasette_worker), base_url="http://testserver") as client:
        yield client


def ids(response: httpx.Response) -> list[int]:
    return [row["id"] for row in response.json()]


def cells(page: str) -> list[str]:
    """Return the texts of a page's table cells."""
    return [
        unescape(re.sub(r"<[^>]+>", "", cell)).strip() for cell in re.findall(r"<td[^>]*>(.*?)</td>", page, re.DOTALL)
    ]


def test_datasette_is_asgi(datasette_worker: IpcProcess) -> None:
    """datasette is told to be an ASGI app."""
    assert datasette_worker.app_kind == "asgi"


def test_datasette_databases(datasette: httpx.Client) -> None:
    """The index in JSON counts the tables, rows and views."""
    library = datasette.get("/.json").json()["library"]
    assert (library["path"], library["tables_count"], library["views_count"]) == ("/library", 4, 1)
    assert library["table_rows_sum"] == 3 + 5 + 250 + 3


def test_datasette_database(datasette: httpx.Client) -> None:
    """A database in JSON shows its tables with columns, counts and foreign keys, and its views."""
    response = datasette.get("/library.json")
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    library = response.json()
    tables = {table["name"]: table for table in library["tables"] if not table["hidden"]}
    assert {name: table["count"] for name, table in tables.items()} == {
        "authors": 3,
        "books": 5,
        "events": 250,
        "prices": 3,
    }
    assert tables["books"] == {
        "name": "books",
        "columns": ["id", "title", "year", "genre", "author_id"],
        "primary_keys": ["id"],
        "count": 5,
        "hidden": False,
        "fts_table": "books_fts",
        "foreign_keys": {
            "incoming": [],
            "outgoing": [{"other_table": "authors", "column": "author_id", "other_column": "id"}],
        },
        "private": False,
    }
    assert library["views"] == [{"name": "modern", "private": False}]


def test_datasette_table(datasette: httpx.Client) -> None:
    """A table in JSON has its rows as lists or objects."""
    as_lists = datasette.get("/library/books.json").json()
    assert as_lists["columns"] == ["id", "title", "year", "genre", "author_id"]
    assert as_lists["rows"] == [list(book.values()) for book in BOOKS]
    assert as_lists["query"] == {
        "sql": "select id, title, year, genre, author_id from books order by id limit 101",
        "params": {},
    }
    assert datasette.get("/library/books.json?_shape=objects").json()["rows"] == BOOKS
    assert datasette.get("/library/books.json?_shape=array").json() == BOOKS


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("genre=sea", [1, 5]),
        ("genre__not=sea", [2, 3, 4]),
        ("year__gt=1850", [1, 3, 5]),
        ("year__lte=1826&genre=horror", [2, 4]),
        ("title__contains=%C5%93", []),
        ("title__contains=%C5%92", [3]),
        ("genre__in=sea,city", [1, 3, 5]),
        ("_sort=year", [2, 4, 1, 3, 5]),
        ("_sort_desc=year", [5, 3, 1, 4, 2]),
        ("_where=length(title)%3C10", [1, 3]),
        ("author_id=9", []),
    ],
)
def test_datasette_filters(datasette: httpx.Client, query: str, expected: list[int]) -> None:
    """The query string filters and sorts a table."""
    assert ids(datasette.get(f"/library/books.json?_shape=array&{query}")) == expected


@pytest.mark.parametrize(
    ("words", "expected"), [("frankenstein", [2]), ("BILLY", [5]), ("last man", [4]), ("none", [])]
)
def test_datasette_search(datasette: httpx.Client, words: str, expected: list[int]) -> None:
    """The full text search finds books."""
    params = {"_search": words, "_shape": "array"}
    assert ids(datasette.get("/library/books.json", params=params)) == expected


def test_datasette_raw_search(datasette: httpx.Client) -> None:
    """A raw full text search takes FTS5's own operators."""
    params = {"_search": "frank* OR bill*", "_searchmode": "raw", "_shape": "array"}
    assert ids(datasette.get("/library/books.json", params=params)) == [2, 5]


def test_datasette_facets(datasette: httpx.Client) -> None:
    """A facet counts the values of a column; one of a foreign key shows their labels."""
    url = "/library/books.json?_facet=genre&_facet=author_id&_size=0"
    facets = datasette.get(url).json()["facet_results"]
    found = {name: [(one["label"], one["count"]) for one in facet["results"]] for name, facet in facets.items()}
    assert found == {
        "genre": [("horror", 2), ("sea", 2), ("city", 1)],
        "author_id": [("Herman Melville", 2), ("Mary Shelley", 2), ("Émile Zola", 1)],
    }


def test_datasette_facet_links(datasette: httpx.Client) -> None:
    """The link of a facet's value, which holds the host of the request, leads to its rows."""
    facets = datasette.get("http://books.example/library/books.json?_facet=genre").json()["facet_results"]
    link = facets["genre"]["results"][1]["toggle_url"]
    assert link == "http://books.example/library/books.json?_facet=genre&genre=sea"
    assert [row[0] for row in datasette.get(link).json()["rows"]] == [1, 5]


def test_datasette_pages(datasette: httpx.Client) -> None:
    """Following `next_url` from page to page meets every row once."""
    found: list[int] = []
    tokens: list[str | None] = []
    url: str | None = "/library/events.json?_size=80"
    while url is not None:
        page = datasette.get(url).json()
        found += [row[0] for row in page["rows"]]
        tokens.append(page["next"])
        url = page["next_url"]
    assert found == list(range(1, 251))
    assert tokens == ["80", "160", "240", None]


def test_datasette_next(datasette: httpx.Client) -> None:
    """`_next` starts a page after a key; the Link header leads to the one after it."""
    response = datasette.get("/library/events.json?_size=2&_next=7&_shape=array")
    assert response.json() == [{"n": 8}, {"n": 9}]
    assert response.links["next"]["url"] == "http://testserver/library/events.json?_size=2&_shape=array&_next=9"


def test_datasette_view(datasette: httpx.Client) -> None:
    """A view is read like a table."""
    answer = datasette.get("/library/modern.json?_shape=objects").json()
    assert (answer["is_view"], answer["rows"]) == (True, [{"id": 5, "title": "Billy Budd <b>", "year": 1924}])


def test_datasette_row(datasette: httpx.Client) -> None:
    """A row in JSON is found by its key."""
    answer = datasette.get("/library/books/3.json?_shape=objects").json()
    assert (answer["rows"], answer["primary_key_values"]) == ([BOOKS[2]], ["3"])


def test_datasette_compound_key(datasette: httpx.Client) -> None:
    """A row of two keys, one with a slash in datasette's own escaping, is found."""
    answer = datasette.get("/library/prices/north,tea~2Fgreen.json").json()
    assert answer["rows"] == [["north", "tea/green", 250]]


def test_datasette_foreign_rows(datasette: httpx.Client) -> None:
    """A row counts the rows of other tables that refer to it."""
    answer = datasette.get("/library/authors/2.json?_extras=foreign_key_tables").json()
    assert answer["foreign_key_tables"] == [
        {
            "other_table": "books",
            "column": "id",
            "other_column": "author_id",
            "count": 2,
            "link": "/library/books?author_id=2",
        }
    ]


def test_datasette_sql(datasette: httpx.Client) -> None:
    """A query in SQL is answered, with its parameters from the query string."""
    sql = "select name, count(*) as books from authors join books on author_id = authors.id where name like :like"
    params = {"sql": f"{sql} group by name order by name", "like": "%m%", "_shape": "array"}
    assert datasette.get("/library.json", params=params).json() == [
        {"name": "Herman Melville", "books": 2},
        {"name": "Mary Shelley", "books": 2},
        {"name": "Émile Zola", "books": 1},
    ]


def test_datasette_sql_truncated(datasette: httpx.Client) -> None:
    """More rows than `max_returned_rows` are cut off, and the answer says so."""
    answer = datasette.get("/library.json", params={"sql": "select n from events"}).json()
    assert (len(answer["rows"]), answer["truncated"]) == (120, True)


@pytest.mark.parametrize(
    ("sql", "error"),
    [("select none", "no such column: none"), ("delete from books", "Statement must be a SELECT")],
)
def test_datasette_bad_sql(datasette: httpx.Client, sql: str, error: str) -> None:
    """A query that fails, or that would write, is a 400 with the reason."""
    response = datasette.get("/library.json", params={"sql": sql})
    assert response.status_code == 400
    assert (response.json()["ok"], response.json()["error"]) == (False, error)


def test_datasette_versions(datasette: httpx.Client) -> None:
    """datasette says that it runs on ASGI 3 and on this Python and SQLite."""
    versions = datasette.get("/-/versions.json").json()
    assert versions["asgi"] == "3.0"
    assert versions["sqlite"]["version"] == sqlite3.sqlite_version
    assert "FTS5" in versions["sqlite"]["fts_versions"]


def test_datasette_plugins(datasette: httpx.Client) -> None:
    """datasette lists its own plugins on request, and knows no others."""
    assert datasette.get("/-/plugins.json").json() == []
    names = [plugin["name"] for plugin in datasette.get("/-/plugins.json?all=1").json()]
    assert {"datasette.facets", "datasette.filters", "datasette.sql_functions"} <= set(names)


def test_datasette_databases_page(datasette: httpx.Client) -> None:
    """The index page links to the database, its tables and its view."""
    response = datasette.get("/")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert "<title>Datasette: library</title>" in response.text
    links = re.findall(r'<a href="(/library[^"]*)"', response.text)
    assert links[0] == "/library"
    names = ("authors", "books", "events", "modern", "prices")
    assert sorted(links[1:]) == [f"/library/{name}" for name in names]


def test_datasette_database_page(datasette: httpx.Client) -> None:
    """The page of a database shows its tables and a form for SQL."""
    page = datasette.get("/library").text
    assert "<title>library</title>" in page
    tables = re.findall(r'<h3><a href="/library/(\w+)">', page)
    assert sorted(tables) == ["authors", "books", "events", "prices"]
    assert '<form class="sql" action="/library" method="get">' in page


def test_datasette_table_page(datasette: httpx.Client) -> None:
    """The page of a table shows the rows that are filtered, escaped, with the labels of their foreign keys."""
    page = datasette.get("/library/books?year__gt=1880").text
    assert "<title>library: books: 2 rows where year &gt; 1880</title>" in re.sub(r"\s+", " ", page)
    assert cells(page) == [
        *("3", "L'Œuvre", "1886", "city", "Émile Zola\xa03"),
        *("5", "Billy Budd <b>", "1924", "sea", "Herman Melville\xa01"),
    ]


def test_datasette_row_page(datasette: httpx.Client) -> None:
    """The page of a row shows its values."""
    page = datasette.get("/library/books/2").text
    assert cells(page) == ["2", "Frankenstein", "1818", "horror", "2"]


@pytest.mark.parametrize(
    ("path", "kind", "start"),
    [
        ("/-/static/app.css", "text/css", "/* Reset and Page Setup ="),
        ("/-/static/table.js", "text/javascript", "var DROPDOWN_HTML = "),
    ],
)
def test_datasette_static(datasette: httpx.Client, path: str, kind: str, start: str) -> None:
    """A file is streamed with its type and its whole length."""
    response = datasette.get(path)
    assert response.headers["content-type"].partition(";")[0] == kind
    assert len(response.content) == int(response.headers["content-length"]) > 1000
    assert response.text.startswith(start)


def test_datasette_not_found(datasette: httpx.Client) -> None:
    """What is not there is a 404 that says what, in HTML and in JSON."""
    page = datasette.get("/library/none")
    assert page.status_code == 404
    assert "<title>Error 404</title>" in page.text
    missing = {"/none.json": "Database not found", "/library/books/99.json": "Record not found"}
    for path, error in missing.items():
        response = datasette.get(path)
        assert (response.status_code, response.json()) == (
            404,
            {"ok": False, "error": error, "status": 404, "title": None},
        )


def test_datasette_csv(datasette: httpx.Client) -> None:
    """A table is exported as CSV, with labels, as a file to save."""
    response = datasette.get("/library/books.csv?_labels=on&_dl=on&genre=sea")
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    assert response.headers["content-disposition"] == 'attachment; filename="books.csv"'
    assert response.text == (
        "id,title,year,genre,author_id,author_id_label\r\n"
        "1,Moby-Dick,1851,sea,1,Herman Melville\r\n"
        "5,Billy Budd <b>,1924,sea,1,Herman Melville\r\n"
    )


def test_datasette_csv_stream(datasette: httpx.Client) -> None:
    """A CSV export that datasette streams page by page holds all rows."""
    with datasette.stream("GET", "/library/events.csv?_stream=on") as response:
        lines = list(response.iter_lines())
    assert lines == ["n", *(str(number) for number in range(1, 251))]


def test_datasette_csv_of_sql(datasette: httpx.Client) -> None:
    """A query's result is exported as CSV, with characters beyond ASCII and quotes."""
    params = {"sql": "select 'a,\"b\"' as one, 'Œ' as two"}
    assert datasette.get("/library.csv", params=params).text == 'one,two\r\n"a,""b""",Œ\r\n'


def test_datasette_threads(datasette: httpx.Client) -> None:
    """Eight threads run different queries at once, and each gets its own result."""

    def query(number: int) -> Any:
        params = {"sql": "select n, :text as text from events where n = :n", "n": str(number), "text": f"é{number}"}
        return datasette.get("/library.json", params={**params, "_shape": "array"}).json()

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(query, range(1, 81)))
    assert answers == [[{"n": number, "text": f"é{number}"}] for number in range(1, 81)]


def test_datasette_async_client(datasette_worker: IpcProcess) -> None:
    """An async client gets 20 rows at once."""

    async def requests() -> list[int]:
        transport = IpcAsyncTransport(datasette_worker)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            urls = [f"/library/events/{number}.json" for number in range(1, 21)]
            return [response.json()["rows"][0][0] for response in await asyncio.gather(*map(client.get, urls))]

    assert asyncio.run(requests()) == list(range(1, 21))
