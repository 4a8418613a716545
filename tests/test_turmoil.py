"""Threads and tasks ask a worker that is killed, leave in the middle, and are cancelled; every answer is its own.

`tox -e soak` does it for a minute on each kind of worker, and prints what it has seen.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import httpx
import pytest

from socketless import IpcAsyncTransport, IpcProcess, IpcThread, IpcTransport, errors
from socketless._host.worker import Worker
from support import LIMIT, nothing_leaks

CHANNELS = 16
URL = "http://testserver"
PATIENCE = httpx.Timeout(LIMIT)

# What may become of a request whose worker is killed, or that is too late.
ENDS = (errors.WorkerDied, errors.WorkerStartError, errors.ExchangeTimeout, errors.IncompleteResponse)


def wsgi(environ: dict[str, Any], start_response: Any) -> Any:
    """Answer with the nonce, with the body, or with the nonce for ever."""
    start_response("200 OK", [])
    nonce = environ["QUERY_STRING"].encode()
    if environ["PATH_INFO"] == "/for-ever":
        return again(nonce)
    return [nonce, environ["wsgi.input"].read()]


def again(nonce: bytes) -> Iterator[bytes]:
    while True:
        yield nonce


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    nonce, body = scope["query_string"], b""
    while scope["path"] == "/for-ever":
        await send({"type": "http.response.body", "body": nonce, "more_body": True})
    while (event := await receive())["type"] == "http.request":
        body += event["body"]
        if not event.get("more_body"):
            break
    await send({"type": "http.response.body", "body": nonce + body})


class Turmoil:
    """What threads and tasks do to one worker, until there is enough of it, and what has come of it."""

    def __init__(self, worker: Worker, seed: int, is_enough: Callable[[Counter[str]], bool]) -> None:
        self.seen: Counter[str] = Counter()
        self._worker, self._seed, self._is_enough = worker, seed, is_enough
        self._lock = threading.Lock()
        self._never = threading.Event()

    def _go_on(self, what: str) -> bool:
        with self._lock:
            self.seen[what] += 1
            return not self._is_enough(self.seen)

    def in_thread(self, number: int) -> None:
        choices = random.Random(self._seed + number)
        with httpx.Client(transport=IpcTransport(self._worker), base_url=URL, timeout=PATIENCE) as client:
            what = "threads"
            while self._go_on(what):
                nonce = f"{number}.{choices.random()}"
                try:
                    what = choices.choice([self._get, self._post, self._leave, self._be_late])(client, nonce, choices)
                except ENDS as error:
                    what = type(error).__mro__[1].__name__

    def _get(self, client: httpx.Client, nonce: str, choices: random.Random) -> str:
        assert client.get(f"/?{nonce}").text == nonce
        return "exchanges"

    def _post(self, client: httpx.Client, nonce: str, choices: random.Random) -> str:
        piece = nonce.encode() * choices.choice([1, 100, 10_000])
        body: Any = piece if choices.random() < 0.5 else iter([piece, piece])
        text = client.post(f"/?{nonce}", content=body).content
        assert text in (nonce.encode() + piece, nonce.encode() + piece + piece)
        return "exchanges"

    def _leave(self, client: httpx.Client, nonce: str, choices: random.Random) -> str:
        with client.stream("GET", f"/for-ever?{nonce}") as response:
            for piece, _ in zip(response.iter_raw(), range(choices.randrange(20)), strict=False):
                assert piece.replace(nonce.encode(), b"") == b""
        return "left streams"

    def _be_late(self, client: httpx.Client, nonce: str, choices: random.Random) -> str:
        timeout = httpx.Timeout(LIMIT, read=choices.choice([0, 0.0003, 0.001, 0.003]))
        assert client.get(f"/?{nonce}", timeout=timeout).text == nonce
        return "exchanges"

    async def in_tasks(self, count: int) -> None:
        choices = random.Random(self._seed - 1)
        transport = IpcAsyncTransport(self._worker)
        async with httpx.AsyncClient(transport=transport, base_url=URL, timeout=PATIENCE) as client:
            tasks = {number: asyncio.ensure_future(self._in_task(client, number)) for number in range(count)}
            while self._go_on("looks"):
                await asyncio.sleep(0)
                number = choices.randrange(count)
                if choices.random() < 0.1:
                    tasks[number].cancel()
                    with suppress(asyncio.CancelledError):
                        await tasks[number]
                    self.seen["cancelled tasks"] += 1
                    tasks[number] = asyncio.ensure_future(self._in_task(client, number))
            await asyncio.gather(*tasks.values())

    async def _in_task(self, client: httpx.AsyncClient, number: int) -> None:
        choices = random.Random(self._seed - 2 - number)
        what = "tasks"
        while self._go_on(what):
            nonce = f"t{number}.{choices.random()}"
            try:
                if choices.random() < 0.5:
                    assert (await client.get(f"/?{nonce}")).text == nonce
                else:
                    response = await client.post(f"/?{nonce}", content=doubled(nonce))
                    assert response.text == nonce * 3
                what = "exchanges"
            except ENDS as error:
                what = type(error).__mro__[1].__name__

    def kill(self) -> None:
        # A worker has to answer some requests before it is killed, or a slow machine would see nothing else.
        choices, before = random.Random(self._seed), 0
        while not self._is_enough(self.seen):
            wanted = before + choices.randrange(1, 100)
            while self.seen["exchanges"] < wanted and not self._is_enough(self.seen):
                self._never.wait(0.01)
            before = self.seen["exchanges"]
            if isinstance(self._worker, IpcProcess) and (pid := self._worker.pid) is not None:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                self._go_on("kills")


async def doubled(nonce: str) -> AsyncIterator[bytes]:
    for _ in range(2):
        yield nonce.encode()
        await asyncio.sleep(0)


def start_spawned(app: str) -> Worker:
    return IpcProcess(f"{__name__}:{app}", max_connections=CHANNELS, max_restarts=10**9, lifespan=False)


def start_forked(app: str) -> Worker:
    return IpcProcess(
        f"{__name__}:{app}", max_connections=CHANNELS, max_restarts=10**9, lifespan=False, start_method="fork"
    )


def start_thread(app: str) -> Worker:
    return IpcThread(f"{__name__}:{app}", max_connections=CHANNELS, lifespan=False)


KINDS = {"spawn": start_spawned, "fork": start_forked, "thread": start_thread}


def all_is_free(worker: Worker) -> bool:
    """Whether as many requests as there are channels can be in the app at once, and none is held by anybody."""
    with ThreadPoolExecutor(CHANNELS) as threads:
        client = httpx.Client(transport=IpcTransport(worker), base_url=URL, timeout=PATIENCE)
        barrier = threading.Barrier(CHANNELS)

        def hold(_: int) -> bool:
            with client.stream("GET", "/for-ever?x") as response:
                next(response.iter_raw())
                barrier.wait(LIMIT)
            return True

        return all(threads.map(hold, range(CHANNELS)))


def turmoil(kind: str, app: str, threads: int, tasks: int, is_enough: Callable[[Counter[str]], bool]) -> Counter[str]:
    """Let threads and tasks loose on a worker, and return what they have seen."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # pytest shows it where this fails
    with nothing_leaks():
        worker = KINDS[kind](app)
        each = Turmoil(worker, seed, is_enough)
        with ThreadPoolExecutor(threads + 2) as pool:
            futures = [pool.submit(each.in_thread, number) for number in range(threads)]
            futures.append(pool.submit(asyncio.run, each.in_tasks(tasks)))
            if kind != "thread":
                futures.append(pool.submit(each.kill))
            for future in futures:
                future.result()
        worker.renew()
        assert all_is_free(worker)
        worker.close()
    return each.seen


@pytest.mark.one_in(2, "app", "kind")
@pytest.mark.parametrize("app", ["wsgi", "asgi"])
@pytest.mark.parametrize("kind", KINDS)
def test_turmoil(kind: str, app: str) -> None:
    """Whoever is killed, cancelled, late or gone, each answer is that to its own request, and nothing is left."""
    seen = turmoil(kind, app, 8, 20, lambda seen: seen["exchanges"] >= 200 and (kind == "thread" or seen["kills"] > 3))
    assert seen["exchanges"] >= 200


@pytest.mark.soak
@pytest.mark.parametrize("app", ["wsgi", "asgi"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_minute_of_turmoil(kind: str, app: str) -> None:
    """The same, a minute long, with 32 threads and 200 tasks."""
    end = time.monotonic() + float(os.environ.get("SOCKETLESS_SOAK_SECONDS", "60"))
    seen = turmoil(kind, app, 32, 200, lambda seen: time.monotonic() > end)
    print(f"{kind} {app}:", ", ".join(f"{count} {what}" for what, count in sorted(seen.items()) if what != "looks"))
