"""Server-sent events: what httpx-sse and httpx2's own EventSource receive from Flask, Django, Starlette and FastAPI."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from typing import Any, NamedTuple

import anyio
import httpx
import httpx2
import httpx_sse
import pytest
import trio

from apps.streaming.testing import Workers, new_topic, new_worker, nothing_left
from clients import run_asyncio
from socketless import IpcAsyncTransport, IpcProcess, IpcTransport, switch_to_ipc_connection
from socketless.errors import IncompleteResponse
from support import LIMIT, traceback_of

Event = tuple[str, str]  # its id and its data

pytestmark = pytest.mark.one_in(4, "kind", "sender")  # what a sender does is the same for all kinds of receiver

OPTIONS: dict[str, Any] = {"base_url": "http://testserver", "timeout": LIMIT}


# Who receives


class Library(NamedTuple):
    """How a client library receives events."""

    module: Any
    connect: Callable[..., Any]  # a context manager of a source
    connect_async: Callable[..., Any]
    iterate: Callable[[Any], Any]  # the events of a source
    iterate_async: Callable[[Any], Any]


LIBRARIES = {
    "httpx": Library(
        httpx,
        lambda client, url, method="GET", **options: httpx_sse.connect_sse(client, method, url, **options),
        lambda client, url, method="GET", **options: httpx_sse.aconnect_sse(client, method, url, **options),
        httpx_sse.EventSource.iter_sse,
        httpx_sse.EventSource.aiter_sse,
    ),
    "httpx2": Library(httpx2, httpx2.Client.sse, httpx2.AsyncClient.sse, iter, aiter),
}


class AsyncReceiver:
    """An async client."""

    def __init__(self, library: Library, worker: IpcProcess, **options: Any) -> None:
        self._library = library
        transport = IpcAsyncTransport(worker, **options)
        self.client = library.module.AsyncClient(transport=transport, **OPTIONS)

    async def request(self, method: str, url: str, **options: Any) -> Any:
        return (await self.client.request(method, url, **options)).raise_for_status()

    @asynccontextmanager
    async def connect(self, url: str, **options: Any) -> AsyncIterator[AsyncIterator[Event]]:
        async def events() -> AsyncIterator[Event]:
            async with aclosing(self._library.iterate_async(source)) as all_events:
                async for each in all_events:
                    yield each.id, each.data

        async with self._library.connect_async(self.client, url, **options) as source, aclosing(events()) as received:
            yield received

    async def close(self) -> None:
        await self.client.aclose()

    async def __aenter__(self) -> AsyncReceiver:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()


class SyncReceiver:
    """A sync client behind the methods of an async one, which here never wait for a loop."""

    def __init__(self, library: Library, worker: IpcProcess, **options: Any) -> None:
        self._library = library
        self.client = library.module.Client(transport=IpcTransport(worker, **options), **OPTIONS)

    async def request(self, method: str, url: str, **options: Any) -> Any:
        return self.client.request(method, url, **options).raise_for_status()

    @asynccontextmanager
    async def connect(self, url: str, **options: Any) -> AsyncIterator[AsyncIterator[Event]]:
        async def events() -> AsyncIterator[Event]:
            for each in self._library.iterate(source):
                yield each.id, each.data

        with self._library.connect(self.client, url, **options) as source:
            async with aclosing(events()) as received:
                yield received

    async def close(self) -> None:
        self.client.close()

    async def __aenter__(self) -> SyncReceiver:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()


Receiver = AsyncReceiver | SyncReceiver
Scenario = Callable[[Any], Coroutine[Any, Any, None]]


def run_sync(function: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with pytest.raises(StopIteration):  # its end; it never waits
        function().send(None)


class Kind(NamedTuple):
    """A kind of receiver, and what runs its scenarios."""

    library: Library
    receiver: Callable[..., Receiver]
    run: Callable[..., Any]

    def play(self, worker: IpcProcess, scenario: Scenario, **options: Any) -> None:
        """Run the scenario with a receiver that is closed after it, and leaves nothing behind."""

        async def main() -> None:
            async with self.receiver(self.library, worker, **options) as receiver:
                await scenario(receiver)

        with nothing_left():
            self.run(main)


KINDS = {
    f"{name}-{world}": Kind(library, receiver, run)
    for name, library in LIBRARIES.items()
    for world, receiver, run in (
        ("sync", SyncReceiver, run_sync),
        ("asyncio", AsyncReceiver, run_asyncio),
        ("trio", AsyncReceiver, trio.run),
    )
}

# trio says of every async generator that is left that it should have been closed; httpx's own are left.
trio_mark = pytest.mark.filterwarnings("ignore:Async generator .* was garbage collected:ResourceWarning")
KIND_PARAMS = [pytest.param(name, marks=trio_mark if "trio" in name else ()) for name in KINDS]

async_kinds = pytest.mark.parametrize(
    "kind", [each for each in KIND_PARAMS if not str(each.values[0]).endswith("-sync")], indirect=True
)


@pytest.fixture(params=KIND_PARAMS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


# Who sends


class Sender(NamedTuple):
    """An app, and where its routes for server-sent events are."""

    app: str
    prefix: str = ""


SENDERS = {
    "flask": Sender("flask_app:app"),
    "flask-context": Sender("flask_app:app", "/context"),
    "django-wsgi": Sender("django_app:wsgi"),
    "django-asgi": Sender("django_app:asgi", "/async"),
    "starlette": Sender("starlette_app:app"),
    "starlette-sync": Sender("starlette_app:app", "/sync"),
    "sse-starlette": Sender("starlette_app:app", "/sse"),
    "fastapi": Sender("fastapi_app:app"),
    "fastapi-sync": Sender("fastapi_app:app", "/sync"),
}


def senders(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("sender", names, indirect=True)


# Some hear that their client has gone while they wait for an event. The others hear of it when they send the next one:
# nobody can end a thread that waits.
HEARING = ["django-asgi", "starlette", "sse-starlette", "fastapi"]
hearing_senders = senders(*HEARING)
waiting_senders = senders(*(name for name in SENDERS if name not in HEARING))


@pytest.fixture(params=SENDERS)
def sender(request: pytest.FixtureRequest) -> Sender:
    return SENDERS[request.param]


class Board:
    """The tests' side of the board (`apps.streaming.board`) for one topic."""

    def __init__(self, receiver: Receiver, topic: str) -> None:
        self._receiver = receiver
        self._topic = topic

    async def publish(self, data: str) -> None:
        await self._receiver.request("POST", f"/publish/{self._topic}", content=data.encode())

    async def publish_unheard(self) -> None:
        """Publish what nobody receives: more than FastAPI takes from a sender before it looks at its client."""
        for _ in range(8):
            await self.publish("unheard")

    async def wait_for(self, note: str, times: int = 1) -> None:
        await self._receiver.request("GET", f"/wait/{self._topic}/{note}/{times}")

    async def notes(self) -> Any:
        return (await self._receiver.request("GET", f"/notes/{self._topic}")).json()


# The tests


def test_events_arrive_when_they_are_sent(kind: Kind, sender: Sender, workers: Workers, topic: str) -> None:
    """An event is there before the next one is sent, and the stream ends when its sender does."""

    async def scenario(receiver: Receiver) -> None:
        board = Board(receiver, topic)
        await board.publish("one")
        async with receiver.connect(f"{sender.prefix}/events/{topic}") as events:
            assert await anext(events) == ("1", "one")
            await board.publish("zwölf \N{SNAKE}")
            assert await anext(events) == ("2", "zwölf \N{SNAKE}")
            await board.publish("three")
            assert await anext(events) == ("3", "three")
            assert await board.notes() == ["begun"]
            await board.publish("end")
            assert [event async for event in events] == []
        assert await board.notes() == ["begun", "ended"]

    kind.play(workers(sender.app), scenario)


def test_leaving_an_endless_stream(kind: Kind, sender: Sender, workers: Workers, topic: str) -> None:
    """A sender that never ends is stopped when its stream is left; the only channel then serves the next request."""

    async def scenario(receiver: Receiver) -> None:
        board = Board(receiver, topic)
        async with receiver.connect(f"{sender.prefix}/endless/{topic}") as events:
            assert [await anext(events) for _ in range(100)] == [(str(n), str(n)) for n in range(1, 101)]
        await board.wait_for("left")
        assert await board.notes() == ["begun", "left"]

    kind.play(workers(sender.app, max_connections=1), scenario)


@hearing_senders
def test_leaving_a_sender_that_waits(kind: Kind, sender: Sender, workers: Workers, topic: str) -> None:
    """A sender that waits for its next event is stopped when its stream is left; the only channel then serves on."""

    async def scenario(receiver: Receiver) -> None:
        board = Board(receiver, topic)
        await board.publish("one")
        async with receiver.connect(f"{sender.prefix}/events/{topic}") as events:
            assert await anext(events) == ("1", "one")
        assert await board.notes() == ["begun", "left"]

    kind.play(workers(sender.app, max_connections=1), scenario)


@waiting_senders
def test_leaving_a_sender_that_cannot_hear(kind: Kind, sender: Sender, workers: Workers, topic: str) -> None:
    """A sender that waits in a thread is stopped at its next event, and its channel serves again."""

    async def scenario(receiver: Receiver) -> None:
        board = Board(receiver, topic)
        await board.publish("one")
        async with receiver.connect(f"{sender.prefix}/events/{topic}") as events:
            assert await anext(events) == ("1", "one")
        await board.publish_unheard()
        await board.wait_for("left")
        assert await board.notes() == ["begun", "left"]
        async with receiver.connect(f"{sender.prefix}/endless/{topic}") as events:
            assert await anext(events) == ("1", "1")
            assert await board.notes() == ["begun", "left", "begun"]  # by the other channel

    kind.play(workers(sender.app, max_connections=2), scenario)


def test_leaving_a_sender_that_pings(kind: Kind, workers: Workers, topic: str) -> None:
    """A WSGI sender that pings while it waits hears by itself that its client has gone."""

    async def scenario(receiver: Receiver) -> None:
        board = Board(receiver, topic)
        await board.publish("one")
        async with receiver.connect(f"/pinging/{topic}") as events:
            assert await anext(events) == ("1", "one")
        assert await board.notes() == ["begun", "left"]

    kind.play(workers("flask_app:app", max_connections=1), scenario)


def test_streams_side_by_side(kind: Kind, sender: Sender, workers: Workers) -> None:
    """Several streams of one client are read in any order; leaving one leaves the others as they are."""
    topics = [new_topic() for _ in range(4)]

    async def scenario(receiver: Receiver) -> None:
        boards = [Board(receiver, topic) for topic in topics]
        async with AsyncExitStack() as stack:
            streams, stacks = [], []
            for board, topic in zip(boards, topics, strict=True):
                await board.publish(topic)
                stacks.append(await stack.enter_async_context(AsyncExitStack()))
                events = await stacks[-1].enter_async_context(receiver.connect(f"{sender.prefix}/events/{topic}"))
                streams.append(events)
            assert [await anext(events) for events in streams] == [("1", topic) for topic in topics]
            for board in boards:
                await board.publish("two")
            assert [await anext(events) for events in reversed(streams)] == [("2", "two")] * 4
            await stacks[1].aclose()
            for board in boards:
                await board.publish("three")
            assert [await anext(streams[n]) for n in (3, 0, 2)] == [("3", "three")] * 3
            await boards[1].publish_unheard()
            await boards[1].wait_for("left")
            assert await boards[0].notes() == ["begun"]
            for board in boards:
                await board.publish("end")
            for n in (0, 2, 3):
                assert [event async for event in streams[n]] == []
        assert [(await board.notes())[-1] for board in boards] == ["ended", "left", "ended", "ended"]

    kind.play(workers(sender.app), scenario)


@pytest.mark.filterwarnings("ignore:Unclosed file <tempfile:ResourceWarning")  # Django's, of a request that fails
def test_a_sender_that_raises(kind: Kind, sender: Sender, workers: Workers, topic: str) -> None:
    """What a sender raises is raised after the events that it has sent; its channel serves again."""

    async def scenario(receiver: Receiver) -> None:
        board = Board(receiver, topic)
        async with receiver.connect(f"{sender.prefix}/failing/{topic}") as events:
            assert await anext(events) == ("1", "1")
            await board.publish("now")
            with pytest.raises(Exception, match="in the middle|TaskGroup") as caught:
                await anext(events)
        error = caught.value
        if sender.app == "fastapi_app:app":  # which raises all errors of its streams together
            (error,) = error.exceptions  # type: ignore[attr-defined]
        assert (type(error), error.args) == (LookupError, ("in the middle", 42))
        assert 'raise LookupError("in the middle", 42)' in traceback_of(caught.value)
        assert await board.notes() == ["begun", "LookupError"]
        async with receiver.connect(f"{sender.prefix}/endless/{topic}") as events:
            assert await anext(events) == ("1", "1")
            assert await board.notes() == ["begun", "LookupError", "begun"]  # both channels serve

    kind.play(workers(sender.app, max_connections=2), scenario)


@pytest.mark.filterwarnings("ignore:Unclosed file <tempfile:ResourceWarning")
# FastAPI completes the response of a sender that raises, and raises after that.
@senders(*(name for name in SENDERS if "fastapi" not in name))
def test_a_sender_that_breaks_off(kind: Kind, sender: Sender, workers: Workers, topic: str) -> None:
    """With raise_app_exceptions=False the client sees a connection that breaks off after the events that were sent."""

    async def scenario(receiver: Receiver) -> None:
        board = Board(receiver, topic)
        async with receiver.connect(f"{sender.prefix}/failing/{topic}") as events:
            assert await anext(events) == ("1", "1")
            await board.publish("now")
            with pytest.raises(kind.library.module.RemoteProtocolError, match="LookupError") as caught:
                await anext(events)
        assert isinstance(caught.value, IncompleteResponse)
        assert await board.notes() == ["begun", "LookupError"]
        async with receiver.connect(f"{sender.prefix}/endless/{topic}") as events:
            assert await anext(events) == ("1", "1")
            assert await board.notes() == ["begun", "LookupError", "begun"]  # both channels serve

    kind.play(workers(sender.app, max_connections=2), scenario, raise_app_exceptions=False)


def test_reconnecting(kind: Kind, sender: Sender, workers: Workers, topic: str) -> None:
    """A client that comes back with Last-Event-ID gets what it has missed, and what comes after that."""

    async def scenario(receiver: Receiver) -> None:
        board = Board(receiver, topic)
        url = f"{sender.prefix}/events/{topic}"
        await board.publish("one")
        await board.publish("two")
        async with receiver.connect(url) as events:
            last = [await anext(events), await anext(events)][-1]
        await board.publish("three")
        async with receiver.connect(url, headers={"Last-Event-ID": last[0]}) as events:
            assert await anext(events) == ("3", "three")
            await board.publish("four")
            assert await anext(events) == ("4", "four")
        await board.publish_unheard()
        await board.wait_for("left", times=2)

    kind.play(workers(sender.app), scenario)


@senders("flask", "django-wsgi", "django-asgi", "starlette", "sse-starlette", "fastapi")
def test_events_in_answer_to_a_post(kind: Kind, sender: Sender, workers: Workers, topic: str) -> None:
    """A request with a body is answered by events, as language models answer."""

    async def scenario(receiver: Receiver) -> None:
        url = f"{sender.prefix}/asking/{topic}"
        async with receiver.connect(url, method="POST", content="eins\nzwölf\n".encode()) as events:
            assert [event async for event in events] == [("1", "eins"), ("2", "zwölf")]

    kind.play(workers(sender.app, max_connections=1), scenario)


def test_events_in_pieces(kind: Kind, workers: Workers, topic: str) -> None:
    """Events that come byte by byte, in the middle of a character too, are put together."""

    async def scenario(receiver: Receiver) -> None:
        async with receiver.connect(f"/bytes/{topic}") as events:
            assert [event async for event in events] == [("1", '{"snake":\n"\N{SNAKE}"}'), ("2", "é")]

    kind.play(workers("flask_app:app", max_connections=1), scenario)


def test_what_is_no_event_stream(kind: Kind, workers: Workers, topic: str) -> None:
    """A response of another content type is refused by the library, and let go."""

    async def scenario(receiver: Receiver) -> None:
        for path in ("notes", "numbers"):
            async with receiver.connect(f"/{path}/{topic}") as events:
                with pytest.raises((httpx_sse.SSEError, httpx2.TransportError), match="text/event-stream"):
                    await anext(events)
        await Board(receiver, topic).wait_for("left")

    kind.play(workers("flask_app:app", max_connections=1), scenario)


# sse-starlette's own


def test_pings(kind: Kind, workers: Workers, topic: str) -> None:
    """sse-starlette's pings come while there is no event, and its handler hears that the client has gone."""

    async def scenario(receiver: Receiver) -> None:
        board = Board(receiver, topic)
        await board.publish("one")
        async with receiver.connect(f"/sse/pinging/{topic}") as events:
            assert [await anext(events) for _ in range(2)] == [("1", "one"), ("1", "a ping")]
            await board.publish("two")
            async for event in events:
                if event != ("1", "a ping"):
                    assert event == ("2", "two")
                    break
            assert await anext(events) == ("2", "a ping")
        for note in ("http.disconnect", "left"):
            await board.wait_for(note)
        assert sorted(await board.notes()) == ["begun", "http.disconnect", "left"]

    kind.play(workers("starlette_app:app"), scenario)


def test_closing_a_worker_with_a_watcher(capsys: pytest.CaptureFixture[str]) -> None:
    """A task that a library leaves behind, such as sse-starlette's watcher, is cancelled at the end."""
    topic = new_topic()

    async def scenario(receiver: Receiver) -> None:
        async with receiver.connect(f"/sse/endless/{topic}") as events:
            assert await anext(events) == ("1", "1")

    with nothing_left(), new_worker("starlette_app:app") as worker:
        KINDS["httpx-sync"].play(worker, scenario)
    assert capsys.readouterr().err == ""


# Django's own


@pytest.mark.parametrize(
    ("app", "path", "warning"),
    [
        ("django_app:wsgi", "/async/three", "must consume asynchronous iterators in order to serve them synchronously"),
        ("django_app:asgi", "/three", "must consume synchronous iterators in order to serve them asynchronously"),
    ],
    ids=["wsgi", "asgi"],
)
def test_the_other_iterator(kind: Kind, app: str, path: str, warning: str) -> None:
    """Django collects an async iterator for WSGI, and a sync one for ASGI, and warns of it; all events arrive."""

    async def scenario(receiver: Receiver) -> None:
        async with receiver.connect(path) as events:
            assert [event async for event in events] == [("1", "1"), ("2", "2"), ("3", "3")]

    with nothing_left(), new_worker(app) as worker, pytest.warns(Warning, match=f"^StreamingHttpResponse {warning}"):
        kind.play(worker, scenario)


def test_leaving_when_the_loop_is_slow(workers: Workers, topic: str) -> None:
    """An app that waits for its own tasks is not cancelled before it could: Django leaves no task's error unseen."""

    async def scenario(receiver: Receiver) -> None:
        async with receiver.connect(f"/async/endless/{topic}") as events:
            assert await anext(events) == ("1", "1")
        await Board(receiver, topic).wait_for("left")

    KINDS["httpx-sync"].play(workers("django_app:slow_asgi", max_connections=1), scenario)


def test_closing_when_the_loop_is_slow(workers: Workers, topic: str) -> None:
    """Nor before Django has closed its response, and with it its database connections."""
    with httpx.Client(transport=IpcTransport(workers("django_app:slow_asgi", max_connections=1)), **OPTIONS) as client:
        client.post(f"/publish/{topic}", content="one")
        with client.stream("GET", f"/async/closing/{topic}") as response:
            assert next(response.iter_lines()) == "1 one"
        assert client.get(f"/notes/{topic}").json() == ["begun", "left", "response closed"]


# Ways to leave


class Left(Exception):
    """What a test raises in the block of a stream."""


async def leave_by_error(receiver: Any, url: str) -> None:
    with suppress(Left):
        async with receiver.connect(url) as events:
            await anext(events)
            raise Left


async def leave_by_closing_the_client(receiver: Any, url: str) -> None:
    async with receiver.connect(url) as events:
        await anext(events)
        await receiver.close()


async def leave_by_cancelling(receiver: Any, url: str) -> None:
    async with anyio.create_task_group() as tasks:
        is_reading = anyio.Event()

        async def read() -> None:
            async with receiver.connect(url) as events:
                await anext(events)
                is_reading.set()
                await anext(events)

        tasks.start_soon(read)
        await is_reading.wait()
        tasks.cancel_scope.cancel()


def check_leaving(leave: Callable[..., Any], kind: Kind, sender: Sender, workers: Workers, topic: str) -> None:
    worker = workers(sender.app, max_connections=1)

    async def publish(receiver: Receiver) -> None:
        await Board(receiver, topic).publish("one")

    async def look(receiver: Receiver) -> None:
        assert await Board(receiver, topic).notes() == ["begun", "left"]

    kind.play(worker, publish)
    kind.play(worker, lambda receiver: leave(receiver, f"{sender.prefix}/events/{topic}"))
    kind.play(worker, look)


@hearing_senders
@pytest.mark.parametrize("leave", [leave_by_error, leave_by_closing_the_client])
def test_ways_to_leave(leave: Any, kind: Kind, sender: Sender, workers: Workers, topic: str) -> None:
    """However a stream is left, its sender hears of it, and the only channel serves the next request."""
    check_leaving(leave, kind, sender, workers, topic)


@hearing_senders
@async_kinds
def test_cancelling(kind: Kind, sender: Sender, workers: Workers, topic: str) -> None:
    """A task that is cancelled while it waits for an event has left the stream."""
    check_leaving(leave_by_cancelling, kind, sender, workers, topic)


# The switch


@senders("flask", "starlette")
def test_under_the_switch(sender: Sender, topic: str) -> None:
    """Under the switch, both libraries receive events by relative URLs, without a client of one's own too."""
    with nothing_left(), switch_to_ipc_connection(f"apps.streaming.{sender.app}"):
        httpx.post(f"/publish/{topic}", content="one")
        with httpx.stream("GET", f"/events/{topic}") as response:
            events = httpx_sse.EventSource(response).iter_sse()
            assert next(events).data == "one"
            httpx.post(f"/publish/{topic}", content="two")
            assert next(events).data == "two"
        with httpx2.Client() as client, client.sse(f"/events/{topic}") as source:
            events2 = iter(source)
            assert [next(events2).data for _ in range(2)] == ["one", "two"]
            httpx2.post(f"/publish/{topic}", content="end")
            assert list(events2) == []

        async def receive() -> list[str]:
            async with httpx2.AsyncClient() as client, client.sse(f"/events/{topic}") as source:
                return [event.data async for event in source]

        assert asyncio.run(receive()) == ["one", "two"]
