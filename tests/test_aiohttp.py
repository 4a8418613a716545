"""aiohttp's sessions over apps and workers: what `tests/conformance.py` does not ask."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
from aiohttp_support import EACH_WAY, hello, note, run, run_with, say, session_for

from apps import aiohttp_app
from socketless import IpcProcess, IpcThread, errors
from socketless.aiohttp import ASGIApplicationConnector
from support import traceback_of


@EACH_WAY
def test_headers(way: str) -> None:
    """Repeated headers and the Host of the URL arrive; the response has its reason phrase."""

    async def test(session: aiohttp.ClientSession) -> None:
        async with session.get("/hello", headers={"Host": "example.org:81"}) as response:
            assert (response.status, response.reason) == (200, "OK")
            assert (await response.json())["host"] == "example.org:81"
        assert session.connector is not None
        async with aiohttp.ClientSession(connector=session.connector, connector_owner=False) as other:
            assert (await (await other.get("https://example.org/hello")).json())["host"] == "example.org"

    run_with(way, test)


def test_import_string() -> None:
    """An import string is a worker process, which ends with the connector."""

    async def main() -> None:
        connector = ASGIApplicationConnector("apps.aiohttp_app:app")
        async with aiohttp.ClientSession("http://testserver", connector=connector) as session:
            assert (await hello(session))["state"] == "the lifespan"

    run(main)


def test_wsgi() -> None:
    """A WSGI app runs on threads, which end with the connector, in the context of the request."""

    async def main() -> None:
        aiohttp_app.user.set("ada")
        connector = ASGIApplicationConnector(aiohttp_app.wsgi)
        async with aiohttp.ClientSession("http://testserver", connector=connector) as session:
            async with session.post("/", data=b"body") as response:
                assert (await response.read(), response.reason, response.headers["X-User"]) == (b"body", "Fine", "ada")

    run(main)


@pytest.mark.parametrize("kind", [IpcThread, IpcProcess])
def test_given_worker(kind: Any) -> None:
    """A worker that is given outlives its connectors."""
    with kind("apps.aiohttp_app:app") as worker:

        async def main() -> None:
            async with ASGIApplicationConnector(worker) as connector:
                async with aiohttp.ClientSession("http://testserver", connector=connector) as session:
                    await hello(session)

        asyncio.run(main())
        asyncio.run(main())


def test_no_app() -> None:
    """What is no app is refused, with a text that says why."""

    async def main() -> None:
        with pytest.raises(TypeError, match="^the app must be an import string or a callable, not 3$"):
            ASGIApplicationConnector(3)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"^cannot tell whether the app object is a WSGI or an ASGI app, it takes"):
            ASGIApplicationConnector(lambda one, two, three, four: None)

    run(main)


# The lifespan


def test_lifespan() -> None:
    """`async with` runs the app's lifespan, whose state requests have; closing the connector ends it, once."""

    async def main() -> None:
        aiohttp_app.events.clear()
        async with ASGIApplicationConnector(aiohttp_app.app) as connector:
            assert aiohttp_app.events == ["startup"]
            async with aiohttp.ClientSession("http://testserver", connector=connector, connector_owner=False) as first:
                assert (await hello(first))["state"] == "the lifespan"
            assert aiohttp_app.events == ["startup"]
            async with aiohttp.ClientSession("http://testserver", connector=connector) as second:
                await hello(second)
            assert aiohttp_app.events == ["startup", "shutdown"]
        assert aiohttp_app.events == ["startup", "shutdown"]

    run(main)


def test_no_lifespan() -> None:
    """Without `async with` there is no lifespan."""

    async def main() -> None:
        aiohttp_app.events.clear()
        connector = ASGIApplicationConnector(aiohttp_app.app)
        async with aiohttp.ClientSession("http://testserver", connector=connector) as session:
            assert (await hello(session))["state"] is None
        assert aiohttp_app.events == []

    run(main)


@pytest.mark.parametrize("at", ["startup", "shutdown"])
def test_lifespan_that_fails(at: str) -> None:
    """What the lifespan fails with is raised by entering the connector, or by closing it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while True:
            event = (await receive())["type"]
            how = "failed" if event == f"lifespan.{at}" else "complete"
            await send({"type": f"{event}.{how}", "message": "no database"})
            if how == "failed":
                return

    async def main() -> None:
        with pytest.raises(Exception, match="^the app's lifespan failed: no database$"):
            async with ASGIApplicationConnector(app):
                assert at == "shutdown"

    run(main)


# One loop


def test_same_loop() -> None:
    """An app that is given itself runs on the loop of the test."""

    async def test(session: aiohttp.ClientSession) -> None:
        aiohttp_app.note("loop")
        assert await (await session.get("/loop")).json() is True

    run_with("app", test)


@pytest.mark.parametrize("way", ["app", "thread"])
def test_context(way: str) -> None:
    """Each request runs in the context of who sends it, on a connection that is used again, too."""

    async def test(session: aiohttp.ClientSession) -> None:
        async def ask(name: str) -> str:
            aiohttp_app.user.set(name)
            async with session.get("/hello") as response:
                seen: str = (await response.json())["user"]
                return seen

        for name in ("ada", "grace"):
            assert await asyncio.create_task(ask(name)) == name
        assert await asyncio.gather(*map(ask, "abcdef")) == list("abcdef")

    run_with(way, test)


@EACH_WAY
def test_several_at_once(way: str) -> None:
    """Requests are answered side by side: the last one lets the others go on."""

    async def test(session: aiohttp.ClientSession) -> None:
        waiting = [asyncio.create_task(note(session, "go")) for _ in range(20)]
        await say(session, "go")
        assert await asyncio.gather(*waiting) == ["said"] * 20

    run_with(way, test)


# Connections


def tracing(events: list[str]) -> aiohttp.TraceConfig:
    trace = aiohttp.TraceConfig()

    async def created(*args: Any) -> None:
        events.append("created")

    async def reused(*args: Any) -> None:
        events.append("reused")

    trace.on_connection_create_end.append(created)
    trace.on_connection_reuseconn.append(reused)
    return trace


@pytest.mark.parametrize(("options", "second"), [({}, "reused"), ({"force_close": True}, "created")])
@EACH_WAY
def test_keep_alive(way: str, options: dict[str, Any], second: str) -> None:
    """A connection is used again, unless aiohttp is told not to, and not after an error."""

    async def test(session: aiohttp.ClientSession) -> None:
        events: list[str] = []
        async with aiohttp.ClientSession(
            "http://testserver", connector=session.connector, connector_owner=False, trace_configs=[tracing(events)]
        ) as traced:
            for _ in range(2):
                async with traced.post("/echo", data=b"body", chunked=True) as response:
                    assert await response.read() == b"body"
            assert events == ["created", second]
            with pytest.raises(LookupError):
                await traced.get("/boom/keep")
            await hello(traced)
            assert events[2:] == [second, "created"]

    run_with(way, test, **options)


def test_limit() -> None:
    """There are as many requests at once as the connector's limit says; the others wait, as long as they may."""

    async def test(session: aiohttp.ClientSession) -> None:
        async with session.get("/numbers/limit?most=1000000"), session.get("/numbers/limit?most=1000000"):
            with pytest.raises(aiohttp.ServerTimeoutError) as caught:
                await session.get("/hello", timeout=aiohttp.ClientTimeout(connect=0.01))
            assert not isinstance(caught.value, errors.SocketlessError)
        await hello(session)

    run_with("app", test, limit=2)


def test_no_free_channel() -> None:
    """That all channels of a worker are busy is aiohttp's timeout for connecting, and says with what."""

    async def main() -> None:
        with IpcThread(aiohttp_app.app, max_connections=1) as worker:
            connector = ASGIApplicationConnector(worker)
            async with aiohttp.ClientSession("http://testserver", connector=connector) as session:
                async with session.get("/numbers/channel?most=1000000"):
                    with pytest.raises(aiohttp.ServerTimeoutError) as caught:
                        await session.get("/hello", timeout=aiohttp.ClientTimeout(connect=0.01))
                    assert isinstance(caught.value, errors.PoolTimeout)
                    assert "GET /numbers/channel, " in str(caught.value)

    run(main)


@EACH_WAY
def test_session_closed_in_the_middle(way: str) -> None:
    """Who waits for a response, or reads it, gets an error when the session is closed; the app is told."""

    async def main() -> None:
        async with session_for(way) as session:
            waiting = asyncio.create_task(session.get("/wait/closed"))
            assert await note(session, "closed-waits") == "yes"
            response = await session.get("/quiet")
            assert await response.content.readany() == b"quiet"
            reading = asyncio.create_task(response.content.readany())
            ended = asyncio.create_task(note(session, "nobody"))
            await hello(session)  # so that all have begun to wait
            await session.close()
            for task in (waiting, reading, ended):
                with pytest.raises(aiohttp.ClientConnectionError):
                    await task
            response.close()  # or its connection would warn that it was dropped
        if way != "process":
            assert await aiohttp_app.note("closed-ended") == "cancelled"

    run(main)


# Timeouts and cancellation


@EACH_WAY
def test_read_timeout(way: str) -> None:
    """aiohttp's `sock_read` is our ReadTimeout as well, which says where the app is; the app is cancelled."""

    async def test(session: aiohttp.ClientSession) -> None:
        with pytest.raises(aiohttp.ServerTimeoutError) as caught:
            await session.get("/wait/read", timeout=aiohttp.ClientTimeout(sock_read=0.2))
        assert isinstance(caught.value, errors.ReadTimeout)
        assert caught.value.args[0] == "GET /wait/read: the app did not answer within 0.2 s"
        assert "await asyncio.Event().wait()" in caught.value.stack
        assert await note(session, "read-ended") == "cancelled"

    run_with(way, test)


@EACH_WAY
def test_total_timeout(way: str) -> None:
    """aiohttp's `total` is a TimeoutError, and the app is cancelled."""

    async def test(session: aiohttp.ClientSession) -> None:
        with pytest.raises(asyncio.TimeoutError):
            await session.get("/wait/total", timeout=aiohttp.ClientTimeout(total=0.2))
        assert await note(session, "total-ended") == "cancelled"

    run_with(way, test)


@EACH_WAY
def test_cancelled_task(way: str) -> None:
    """A task that is cancelled in a request cancels the app, and no other request."""

    async def test(session: aiohttp.ClientSession) -> None:
        other = asyncio.create_task(note(session, "other"))
        task = asyncio.create_task(session.get("/wait/task"))
        assert await note(session, "task-waits") == "yes"
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await note(session, "task-ended") == "cancelled"
        await say(session, "other")
        assert await other == "said"

    run_with(way, test)


# Errors


@EACH_WAY
def test_exceptions(way: str) -> None:
    """What the app raises is raised by the request: once, as its own type, with the app's lines."""

    async def test(session: aiohttp.ClientSession) -> None:
        with pytest.raises(LookupError) as caught:
            await session.get("/boom/own")
        assert (type(caught.value), caught.value.args) == (LookupError, ("boom", 42))
        assert 'raise LookupError("boom", 42)' in traceback_of(caught.value)
        with pytest.raises(FileNotFoundError) as missing:
            await session.get("/boom/own?error=file")
        assert str(missing.value) == "[Errno 2] No such file: 'menu.txt'"
        assert not isinstance(missing.value, aiohttp.ClientOSError)
        assert 'raise FileNotFoundError(2, "No such file", "menu.txt")' in traceback_of(missing.value)
        with pytest.raises(TimeoutError, match="^of the app's own$"):
            await session.get("/boom/own?error=timeout")
        assert await (await session.get("/count/own")).json() == 3

    run_with(way, test)


@EACH_WAY
def test_exceptions_as_responses(way: str) -> None:
    """With propagate_exceptions=False it is a 500."""

    async def test(session: aiohttp.ClientSession) -> None:
        async with session.get("/boom/500") as response:
            assert (response.status, response.reason) == (500, "Internal Server Error")

    run_with(way, test, propagate_exceptions=False)


@EACH_WAY
def test_exception_in_the_middle(way: str) -> None:
    """What the app raises in its response is raised after what came before, however slowly that is read."""

    async def test(session: aiohttp.ClientSession) -> None:
        async with session.get("/broken") as response:
            await hello(session)
            assert b"".join([await response.content.readexactly(1) for _ in range(6)]) == b"onetwo"
            with pytest.raises(LookupError, match="in the middle"):
                await response.content.read()

    run_with(way, test)


def test_dead_worker() -> None:
    """A worker that dies is a WorkerDied and a ServerConnectionError; aiohttp does not send the request again."""

    async def test(session: aiohttp.ClientSession) -> None:
        await hello(session)
        with pytest.raises(aiohttp.ServerConnectionError) as caught:
            await session.get("/boom/died?error=exit")
        assert isinstance(caught.value, errors.WorkerDied)
        assert caught.value.exitcode == 7
        await hello(session)  # the one restart that there is

    run_with("process", test)


def test_broken_app() -> None:
    """An app that breaks the specification is an AppProtocolError and aiohttp's error."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        return

    async def main() -> None:
        async with aiohttp.ClientSession("http://testserver", connector=ASGIApplicationConnector(app)) as session:
            with pytest.raises(aiohttp.ClientError) as caught:
                await session.get("/")
            assert isinstance(caught.value, errors.AppProtocolError)
            assert str(caught.value) == "the ASGI app returned without sending http.response.start"

    run(main)
