"""The sample apps in Flask, FastAPI and Django, each with what its framework is used for."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from socketless import IpcAsyncTransport, IpcProcess, IpcTransport

TESTS = Path(__file__).parent
KINDS = ("wsgi", "asgi")


def client_of(worker: IpcProcess, *, raise_app_exceptions: bool = True) -> httpx.Client:
    transport = IpcTransport(worker, raise_app_exceptions=raise_app_exceptions)
    return httpx.Client(transport=transport, base_url="http://testserver")


def async_client_of(worker: IpcProcess) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=IpcAsyncTransport(worker), base_url="http://testserver")


# Flask


@pytest.fixture(scope="module")
def flask_worker() -> Iterator[IpcProcess]:
    with IpcProcess("apps.flask_app:app", reset_hook_path="apps.flask_app:reset_state") as worker:
        yield worker


@pytest.fixture
def flask(flask_worker: IpcProcess) -> Iterator[httpx.Client]:
    flask_worker.reset()
    with client_of(flask_worker) as client:
        yield client


def test_flask_is_wsgi(flask_worker: IpcProcess) -> None:
    """A Flask app is told to be a WSGI app."""
    assert flask_worker.app_kind == "wsgi"


def test_flask_crud(flask: httpx.Client) -> None:
    """Items of a Flask app are created, read, changed, listed and deleted by JSON."""
    created = flask.put("/items/tea", json={"stock": 2, "note": "grün"})
    assert (created.status_code, created.json()) == (201, {"name": "tea", "stock": 2, "note": "grün"})
    assert flask.put("/items/tea", json={"stock": 3}).status_code == 200
    assert flask.patch("/items/tea", json={"price": 1.5}).json() == {"name": "tea", "stock": 3, "price": 1.5}
    assert flask.get("/items/tea").json() == {"name": "tea", "stock": 3, "price": 1.5}
    assert flask.get("/items").json() == {"items": [{"name": "tea", "stock": 3, "price": 1.5}]}
    deleted = flask.delete("/items/tea")
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert flask.get("/items").json() == {"items": []}


def test_flask_abort(flask: httpx.Client) -> None:
    """`abort(404)` answers Flask's own page."""
    response = flask.get("/items/none")
    assert response.status_code == 404
    assert response.reason_phrase == "NOT FOUND"
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.text == (
        "<!doctype html>\n<html lang=en>\n<title>404 Not Found</title>\n<h1>Not Found</h1>\n"
        "<p>The requested URL was not found on the server. If you entered the URL manually please check your spelling "
        "and try again.</p>\n"
    )


def test_flask_method_not_allowed(flask: httpx.Client) -> None:
    """A method that no view takes is refused with those that it takes."""
    response = flask.post("/items")
    assert (response.status_code, response.reason_phrase) == (405, "METHOD NOT ALLOWED")
    assert sorted(response.headers["allow"].split(", ")) == ["GET", "HEAD", "OPTIONS"]


def test_flask_bad_json(flask: httpx.Client) -> None:
    """A body that is no JSON is refused by Flask."""
    response = flask.put("/items/tea", content=b"{", headers={"content-type": "application/json"})
    assert (response.status_code, response.reason_phrase) == (400, "BAD REQUEST")


def test_flask_error_handler(flask: httpx.Client) -> None:
    """An exception that has an error handler is answered by it."""
    flask.put("/items/tea", json={"stock": 1})
    assert flask.post("/items/tea/sell").json() == {"name": "tea", "stock": 0}
    response = flask.post("/items/tea/sell")
    assert (response.status_code, response.json()) == (409, {"error": "no tea is left"})


def test_flask_crash(flask: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    """An exception that nobody handles is Flask's 500, and it is logged with its traceback."""
    response = flask.get("/crash")
    assert (response.status_code, response.reason_phrase) == (500, "INTERNAL SERVER ERROR")
    assert caplog.messages == ["Exception on /crash [GET]"]
    assert caplog.text.rstrip().endswith("LookupError: nobody handles this")


def test_flask_async_view(flask: httpx.Client) -> None:
    """An `async def` view of Flask runs tasks and threads in an event loop of its own."""
    for name in ("tea", "coffee"):
        flask.put(f"/items/{name}", json={})
    for _ in range(3):
        assert flask.get("/async/items").json() == {"names": ["COFFEE", "TEA"], "thread": "asyncio"}


def test_flask_async_views_at_once(flask_worker: IpcProcess, flask: httpx.Client) -> None:
    """Async views of Flask run in several threads at once."""
    flask.put("/items/tea", json={})
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: flask.get("/async/items").json(), range(40)))
    assert answers == [{"names": ["TEA"], "thread": "asyncio"}] * 40


def test_flask_session(flask: httpx.Client) -> None:
    """Flask's signed session cookie is kept by the client from a login through a redirect to the logout."""
    assert flask.get("/user").json() == {"user": None}
    response = flask.post("/login", data={"user": "Zoë"}, follow_redirects=True)
    assert [(hop.status_code, hop.headers["location"]) for hop in response.history] == [(302, "/user")]
    assert (str(response.url), response.json()) == ("http://testserver/user", {"user": "Zoë"})
    assert list(flask.cookies) == ["session"]
    assert flask.post("/logout").status_code == 204
    assert flask.get("/user").json() == {"user": None}


def test_flask_sessions_apart(flask_worker: IpcProcess, flask: httpx.Client) -> None:
    """Two clients of one worker have a session each."""
    flask.post("/login", data={"user": "one"})
    with client_of(flask_worker) as other:
        other.post("/login", data={"user": "two"})
        assert other.get("/user").json() == {"user": "two"}
    assert flask.get("/user").json() == {"user": "one"}


def test_flask_cookies(flask: httpx.Client) -> None:
    """Two cookies of one response arrive as two headers with their attributes, and are sent back by path."""
    response = flask.get("/theme", params={"set": "dark"})
    assert response.text == "light"
    assert response.headers.get_list("set-cookie") == [
        "theme=dark; HttpOnly; Path=/theme; SameSite=Lax",
        "seen=yes; Path=/",
    ]
    assert flask.get("/theme").text == "dark"


def test_flask_upload(flask: httpx.Client) -> None:
    """Several files of one form arrive with their names and sizes, a large one too."""
    files = [("files", ("small.txt", b"abc")), ("files", ("large ü.bin", bytes(3_000_000)))]
    response = flask.post("/upload", data={"comment": "two files"}, files=files)
    assert response.json() == {"comment": "two files", "sizes": {"small.txt": 3, "large ü.bin": 3_000_000}}


def test_flask_template(flask: httpx.Client) -> None:
    """A template is rendered with escaping and `url_for`."""
    flask.put("/items/bread & butter", json={})
    assert flask.get("/page").text == (
        "<!doctype html>\n<title>Ham &amp; eggs</title>\n<ul>\n"
        '<li><a href="/items/bread%20&amp;%20butter">bread &amp; butter</a>\n</ul>'
    )


def test_flask_generator(flask: httpx.Client) -> None:
    """A response that a generator yields arrives whole, and its header has no length."""
    for name in ("b", "a"):
        flask.put(f"/items/{name}", json={})
    response = flask.get("/export")
    assert response.text == "a\nb\n"
    assert response.headers.multi_items() == [("content-type", "text/plain; charset=utf-8")]


def test_flask_print(flask: httpx.Client, capsys: pytest.CaptureFixture[str]) -> None:
    """What a view prints is on the test's stdout when the response is there."""
    assert flask.get("/print", params={"text": "größer"}).text == "printed"
    assert capsys.readouterr().out == "a view prints größer\n"


def test_flask_context_variables(flask: httpx.Client) -> None:
    """A context variable that one request sets is not seen by the next."""
    assert flask.get("/visitor", params={"name": "Ann"}).text == "nobody, then Ann"
    assert flask.get("/visitor").text == "nobody, then nobody"


def test_flask_reset(flask_worker: IpcProcess, flask: httpx.Client) -> None:
    """A sync reset hook forgets what the requests before it have stored."""
    flask.put("/items/tea", json={})
    flask_worker.reset()
    assert flask.get("/items").json() == {"items": []}


@pytest.mark.parametrize(
    ("app", "name"),
    [
        ("apps.flask_app:create_app", "app"),
        ("apps.flask_app:create_app()", "app"),
        ("apps.flask_app:create_app('shop')", "shop"),
        ("apps.flask_app:create_app(name='shop')", "shop"),
    ],
)
def test_flask_factory(app: str, name: str) -> None:
    """A factory is called with the arguments of the import string, or without any."""
    with IpcProcess(app) as worker, client_of(worker) as client:
        assert client.get("/name").text == name


def test_flask_async_client(flask_worker: IpcProcess, flask: httpx.Client) -> None:
    """An async client reaches a Flask app, with 20 requests at once."""

    async def requests() -> list[int]:
        async with async_client_of(flask_worker) as client:
            responses = await asyncio.gather(*(client.put(f"/items/{n}", json={"stock": n}) for n in range(20)))
        return [response.json()["stock"] for response in responses]

    assert asyncio.run(requests()) == list(range(20))
    assert len(flask.get("/items").json()["items"]) == 20


# FastAPI


@pytest.fixture(scope="module")
def fastapi_worker() -> Iterator[IpcProcess]:
    with IpcProcess("apps.fastapi_app:app", reset_hook_path="apps.fastapi_app:reset_state") as worker:
        yield worker


@pytest.fixture
def fastapi(fastapi_worker: IpcProcess) -> Iterator[httpx.Client]:
    fastapi_worker.reset()
    with client_of(fastapi_worker) as client:
        yield client


ANN = {"X-Reader": "Ann"}
EMMA = {"title": "Emma", "year": 1815, "tags": ["novel"]}


def test_fastapi_is_asgi(fastapi_worker: IpcProcess) -> None:
    """A FastAPI app is told to be an ASGI app."""
    assert fastapi_worker.app_kind == "asgi"


def test_fastapi_lifespan_state(fastapi: httpx.Client) -> None:
    """What the lifespan yields is the state of every request."""
    assert [fastapi.get("/state").json() for _ in range(2)] == [{"started": True}] * 2


def test_fastapi_lifespan_task(fastapi: httpx.Client) -> None:
    """A task that the lifespan has started answers requests: they run in the same event loop."""
    first = fastapi.get("/question").json()
    with ThreadPoolExecutor(8) as threads:
        answers = sorted(threads.map(lambda _: fastapi.get("/question").json(), range(20)))
    assert answers == list(range(first + 1, first + 21))


def test_fastapi_lifespan_shutdown(capfd: pytest.CaptureFixture[str]) -> None:
    """Closing a worker runs the lifespan to its end, and what it prints there is not lost."""
    with IpcProcess("apps.fastapi_app:app") as worker, client_of(worker) as client:
        assert client.get("/state").json() == {"started": True}
    assert capfd.readouterr().out == "the library closes\n"


def test_fastapi_sync_route(fastapi: httpx.Client) -> None:
    """A sync route runs in a thread, and sees the context variable that an async dependency has set."""
    answer = fastapi.get("/where/sync", headers=ANN).json()
    assert answer == {"thread": "AnyIO worker thread", "dependency": "Ann", "context": "Ann"}


def test_fastapi_async_route(fastapi: httpx.Client) -> None:
    """An async route runs in the event loop of the main thread, and sees the same context variable."""
    answer = fastapi.get("/where/async", headers=ANN).json()
    assert answer == {"thread": "MainThread", "dependency": "Ann", "context": "Ann"}


@pytest.mark.parametrize("path", ["/where/sync", "/where/async"])
def test_fastapi_context_ends(fastapi: httpx.Client, path: str) -> None:
    """A context variable that one request sets is not seen by the next."""
    fastapi.get(path, headers=ANN)
    assert fastapi.get(path).json()["context"] == "nobody"


def test_fastapi_sync_routes_at_once(fastapi: httpx.Client) -> None:
    """Four requests are in a sync route at the same time."""
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda _: fastapi.get("/meet").json(), range(4))) == [4] * 4


def test_fastapi_body(fastapi: httpx.Client) -> None:
    """A pydantic model is read from the body and answered with its defaults."""
    response = fastapi.post("/books", json={"title": "Emma"}, headers=ANN)
    assert (response.status_code, response.json()) == (201, {"id": 1, "title": "Emma", "year": 2000, "tags": []})
    assert response.headers["x-path"] == "/books"
    fastapi.post("/books", json=EMMA, headers=ANN)
    assert fastapi.get("/books/2").json() == EMMA
    assert fastapi.get("/books", params={"skip": 1, "limit": 5}).json() == [EMMA]


def test_fastapi_validation(fastapi: httpx.Client) -> None:
    """A body that the model refuses is a 422 that says where."""
    response = fastapi.post("/books", json={"title": "", "year": "soon"}, headers=ANN)
    assert response.status_code == 422
    assert [(error["type"], error["loc"]) for error in response.json()["detail"]] == [
        ("string_too_short", ["body", "title"]),
        ("int_parsing", ["body", "year"]),
    ]


def test_fastapi_http_exception(fastapi: httpx.Client) -> None:
    """An HTTPException of a route is its status and detail."""
    response = fastapi.get("/books/7")
    assert (response.status_code, response.json()) == (404, {"detail": "no book 7"})


def test_fastapi_dependency_refuses(fastapi: httpx.Client) -> None:
    """An HTTPException of a dependency answers for the route, with its headers."""
    response = fastapi.post("/books", json=EMMA)
    assert (response.status_code, response.json()) == (401, {"detail": "who are you?"})
    assert response.headers["www-authenticate"] == "X-Reader"
    assert fastapi.get("/books").json() == []


def test_fastapi_exception_handler(fastapi: httpx.Client) -> None:
    """An exception that has a handler is answered by it."""
    fastapi.post("/books", json=EMMA, headers=ANN)
    response = fastapi.post("/books/1/lend")
    assert (response.status_code, response.json()) == (423, {"lent": "Emma"})


def test_fastapi_no_content(fastapi: httpx.Client) -> None:
    """A 204 of FastAPI has its headers and no body."""
    fastapi.post("/books", json=EMMA, headers=ANN)
    response = fastapi.delete("/books/1")
    assert (response.status_code, response.content) == (204, b"")
    assert response.headers.multi_items() == [("content-type", "application/json"), ("x-path", "/books/1")]


def test_fastapi_crash(fastapi: httpx.Client) -> None:
    """An exception that nobody handles is raised in the test."""
    with pytest.raises(LookupError, match="^nobody handles this$"):
        fastapi.get("/crash")


def test_fastapi_crash_as_response(fastapi_worker: IpcProcess) -> None:
    """With `raise_app_exceptions=False`, it is Starlette's 500."""
    with client_of(fastapi_worker, raise_app_exceptions=False) as client:
        response = client.get("/crash")
    assert (response.status_code, response.text) == (500, "Internal Server Error")


def test_fastapi_yield_dependency(fastapi: httpx.Client) -> None:
    """A `yield` dependency is torn down before the client has the response."""
    assert fastapi.get("/trail").json() == 1
    assert fastapi.get("/audit").json() == ["trail opened", "trail closed"]


def test_fastapi_background_tasks(fastapi: httpx.Client) -> None:
    """Background tasks, sync and async, are done in their order before the client has the response."""
    fastapi.post("/books", json=EMMA, headers=ANN)
    assert fastapi.get("/audit").json() == ["Ann added Emma", "1 in all"]


def test_fastapi_form(fastapi: httpx.Client) -> None:
    """A form's fields are read and validated."""
    assert fastapi.post("/form", data={"name": "Zoë & co", "age": "7"}).json() == {"name": "Zoë & co", "age": 7}
    assert fastapi.post("/form", data={"name": "Zoë"}).json()["detail"][0]["loc"] == ["body", "age"]


@pytest.mark.parametrize("size", [0, 5, 3_000_000])
def test_fastapi_upload(fastapi: httpx.Client, size: int) -> None:
    """An upload arrives with its name, type and size; one that Starlette spools to a file, too."""
    response = fastapi.post("/upload", files={"file": ("ü.bin", bytes(size), "image/x-none")}, data={"comment": "c"})
    assert response.json() == {"filename": "ü.bin", "type": "image/x-none", "size": size, "comment": "c"}
    assert fastapi.post("/upload-bytes", files={"file": bytes(size)}).json() == size


def test_fastapi_cookies(fastapi: httpx.Client) -> None:
    """A cookie is set, kept by the client and read by a parameter."""
    assert [fastapi.get("/cookie").json() for _ in range(3)] == [0, 1, 2]
    assert fastapi.get("/cookie").headers["set-cookie"] == "count=4; HttpOnly; Path=/; SameSite=lax"


def test_fastapi_stream(fastapi: httpx.Client) -> None:
    """A streamed response arrives whole and in order."""
    lines = fastapi.get("/lines", params={"count": 500}).text.splitlines()
    assert lines == [f"line {number}" for number in range(500)]


def test_fastapi_openapi(fastapi: httpx.Client) -> None:
    """The schema and the documentation page are served."""
    schema = fastapi.get("/openapi.json").json()
    assert schema["info"] == {"title": "Library", "version": "1.2"}
    assert sorted(schema["paths"]["/books"]) == ["get", "post"]
    assert "<title>Library - Swagger UI</title>" in fastapi.get("/docs").text


def test_fastapi_reset(fastapi_worker: IpcProcess, fastapi: httpx.Client) -> None:
    """A sync reset hook of an ASGI app forgets what the requests before it have stored."""
    fastapi.post("/books", json=EMMA, headers=ANN)
    fastapi_worker.reset()
    assert (fastapi.get("/books").json(), fastapi.get("/audit").json()) == ([], [])


def test_fastapi_async_reset() -> None:
    """An async reset hook runs in the event loop of the app, and the lifespan's state outlives it."""
    hook = "apps.fastapi_app:reset_async"
    with IpcProcess("apps.fastapi_app:app", reset_hook_path=hook) as worker, client_of(worker) as client:
        client.post("/books", json=EMMA, headers=ANN)
        worker.reset()
        assert client.get("/books").json() == []
        assert client.get("/audit").json() == ["reset in MainThread"]
        assert client.get("/question").json() == 1


def test_fastapi_async_client(fastapi_worker: IpcProcess, fastapi: httpx.Client) -> None:
    """An async client reaches sync and async routes, with 40 requests at once."""

    async def requests() -> list[str]:
        async with async_client_of(fastapi_worker) as client:
            paths = ["/where/sync", "/where/async"] * 20
            headers = [{"X-Reader": str(number)} for number in range(40)]
            responses = await asyncio.gather(*map(lambda path, head: client.get(path, headers=head), paths, headers))
        return [response.json()["context"] for response in responses]

    assert asyncio.run(requests()) == [str(number) for number in range(40)]


# Django, as WSGI and as ASGI app


def django_env(database: Path) -> dict[str, str]:
    return {"DJANGO_TEST_DB": str(database), "DJANGO_SETTINGS_MODULE": "apps.djangoproject.settings"}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("django") / "notes.sqlite3"
    search_path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    subprocess.run(
        [sys.executable, "-m", "django", "migrate", "--verbosity", "0"],
        env={**os.environ, **django_env(path), "PYTHONPATH": search_path},
        check=True,
    )
    return path


def django_process(database: Path, kind: str, hook: str = "reset_database") -> IpcProcess:
    return IpcProcess(
        f"apps.djangoproject.{kind}:application",
        reset_hook_path=f"apps.djangoproject.reset:{hook}",
        env=django_env(database),
    )


@pytest.fixture(scope="module", params=KINDS)
def django_worker(request: pytest.FixtureRequest, database: Path) -> Iterator[IpcProcess]:
    with django_process(database, request.param) as worker:
        assert worker.app_kind == request.param
        yield worker


@pytest.fixture
def django(django_worker: IpcProcess) -> Iterator[httpx.Client]:
    django_worker.reset()
    with client_of(django_worker) as client:
        yield client


MILK = {"title": "Milk", "text": "two bottles"}
BREAD = {"title": "Brød", "text": ""}


@pytest.mark.parametrize("path", ["/notes/", "/async/notes/"])
def test_django_notes(django: httpx.Client, path: str) -> None:
    """A view, sync or async, of a Django project, WSGI or ASGI, writes and reads the database."""
    created = django.post(path, json=MILK)
    assert (created.status_code, created.json()) == (201, MILK)
    assert django.post(path, json=BREAD).status_code == 201
    assert django.get(path).json() == {"notes": [MILK, BREAD]}
    where = created.headers["location"]
    assert django.get(where).json() == MILK
    deleted = django.delete(where)
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert django.get(where).status_code == 404
    assert django.get(path).json() == {"notes": [BREAD]}


def test_django_async_orm(django: httpx.Client) -> None:
    """What sync views have written, an async view counts, and the other way round."""
    for path, title in [("/notes/", "a1"), ("/async/notes/", "a2"), ("/notes/", "b1")]:
        django.post(path, json={"title": title})
    assert django.get("/async/count/").json() == {"count": 3}
    assert django.get("/async/count/", params={"prefix": "a"}).json() == {"count": 2}
    assert len(django.get("/notes/").json()["notes"]) == 3


def test_django_transaction(django: httpx.Client) -> None:
    """A transaction that an exception leaves is rolled back."""
    assert django.post("/rollback/").json() == {"count": 0}


def test_django_page(django: httpx.Client) -> None:
    """A template shows what is in the database, escaped."""
    assert "<p>None yet.</p>" in django.get("/notes/page/").text
    django.post("/notes/", json={"title": "Salt & <pepper>", "text": "one\ntwo"})
    response = django.get("/notes/page/")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["x-frame-options"] == "DENY"
    assert response.text.partition("<form")[0] == (
        "<!doctype html>\n<title>Notes</title>\n<h2>Salt &amp; &lt;pepper&gt;</h2><p>one<br>two</p>\n"
    )


def test_django_csrf(django: httpx.Client) -> None:
    """A form without its CSRF token is refused; with the token of the page it is taken and redirects."""
    refused = django.post("/notes/form/", data={"title": "Milk"})
    assert (refused.status_code, django.get("/notes/").json()) == (403, {"notes": []})
    field = re.search(r'name="csrfmiddlewaretoken" value="(\w{64})"', django.get("/notes/page/").text)
    assert field is not None
    form = {"title": "Milk", "csrfmiddlewaretoken": field[1]}
    response = django.post("/notes/form/", data=form, follow_redirects=True)
    assert [(hop.status_code, hop.headers["location"]) for hop in response.history] == [(302, "/notes/page/")]
    assert "<h2>Milk</h2>" in response.text


def test_django_session(django: httpx.Client, django_worker: IpcProcess) -> None:
    """A session in the database counts the visits of each client."""
    assert [django.get("/visits/").json()["visits"] for _ in range(3)] == [1, 2, 3]
    with client_of(django_worker) as other:
        assert other.get("/visits/").json() == {"visits": 1}
    assert django.get("/visits/").json() == {"visits": 4}


def test_django_cookie(django: httpx.Client) -> None:
    """A cookie is set with its attributes, kept by the client and read by a view."""
    response = django.get("/color/", params={"set": "red"})
    assert response.text == "no color"
    attributes = response.headers["set-cookie"].split("; ")
    assert attributes[0] == "color=red"
    assert attributes[2:] == ["Max-Age=60", "Path=/", "SameSite=Strict"]
    assert django.get("/color/").text == "red"


@pytest.mark.parametrize(("size", "kind"), [(5, "InMemoryUploadedFile"), (3_000_000, "TemporaryUploadedFile")])
def test_django_upload(django: httpx.Client, size: int, kind: str) -> None:
    """An upload arrives, be it small or so large that Django puts it into a file."""
    response = django.post("/upload/", files={"file": ("ü.bin", bytes(size))})
    assert response.json() == {"name": "ü.bin", "size": size, "kind": kind}


def test_django_append_slash(django: httpx.Client) -> None:
    """Django's redirect to the path with a slash is followed."""
    response = django.get("/notes", follow_redirects=True)
    assert [(hop.status_code, hop.headers["location"]) for hop in response.history] == [(301, "/notes/")]
    assert response.json() == {"notes": []}


def test_django_foreign_host(django: httpx.Client) -> None:
    """The app sees the host of the URL, so Django refuses one that is not allowed."""
    assert django.get("http://elsewhere/notes/").status_code == 400


def test_django_crash(django: httpx.Client, capsys: pytest.CaptureFixture[str]) -> None:
    """An exception of a view is Django's 500, and what the view has printed is on the test's stdout."""
    response = django.get("/crash/")
    assert (response.status_code, response.reason_phrase) == (500, "Internal Server Error")
    assert "<h1>Server Error (500)</h1>" in response.text
    assert capsys.readouterr().out == "the view is about to fail\n"


def test_django_thread_of_sync_view(django: httpx.Client) -> None:
    """A sync view runs in the thread of its channel, under WSGI and ASGI alike."""
    assert re.fullmatch(r"socketless-channel-\d+", django.get("/where/sync/").text)


def test_django_thread_of_async_view(database: Path) -> None:
    """An async view of an ASGI project runs in the event loop of the main thread."""
    with django_process(database, "asgi") as worker, client_of(worker) as client:
        assert client.get("/where/async/").text == "MainThread"


@pytest.mark.parametrize("path", ["/meet/sync/", "/meet/async/"])
def test_django_views_at_once(django: httpx.Client, path: str) -> None:
    """Four requests are in one view at the same time, and each reads the database before and after."""
    django.post("/notes/", json=MILK)
    for _ in range(2):
        with ThreadPoolExecutor(4) as threads:
            answers = list(threads.map(lambda _: django.get(path).json(), range(4)))
        assert answers == [{"before": 1, "after": 1}] * 4


@pytest.mark.parametrize("path", ["/notes/", "/async/notes/"])
def test_django_writes_at_once(django: httpx.Client, path: str) -> None:
    """Eight threads write the database through one worker, and nothing is lost."""
    with ThreadPoolExecutor(8) as threads:
        statuses = list(threads.map(lambda n: django.post(path, json={"title": f"{n:02}"}).status_code, range(40)))
    assert statuses == [201] * 40
    titles = sorted(note["title"] for note in django.get(path).json()["notes"])
    assert titles == [f"{number:02}" for number in range(40)]


@pytest.mark.parametrize("path", ["/notes/", "/async/notes/"])
def test_django_async_client(django_worker: IpcProcess, django: httpx.Client, path: str) -> None:
    """An async client writes and reads the database of a Django project, with 20 requests at once."""

    async def requests() -> int:
        async with async_client_of(django_worker) as client:
            await asyncio.gather(*(client.post(path, json={"title": str(number)}) for number in range(20)))
            return int((await client.get("/async/count/")).json()["count"])

    assert asyncio.run(requests()) == 20


@pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")  # of a thread that has ended, in the app
@pytest.mark.parametrize("hook", ["reset_database", "reset_database_async"])
@pytest.mark.parametrize("kind", KINDS)
def test_django_reset(database: Path, kind: str, hook: str) -> None:
    """A reset hook, sync or async, empties the database and the sessions, time and again."""
    with django_process(database, kind, hook) as worker, client_of(worker) as client:
        for path in ("/notes/", "/async/notes/"):
            worker.reset()
            assert client.get("/visits/").json() == {"visits": 1}
            assert client.post(path, json=MILK).status_code == 201
        worker.reset()
        assert client.get("/notes/").json() == {"notes": []}
        assert client.get("/async/count/").json() == {"count": 0}
