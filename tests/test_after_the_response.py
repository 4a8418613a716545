"""What an ASGI app does after its response: no time limit counts it, and a served client does not wait for it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import Any

from socketless import IpcThread
from socketless.clients.answer import Body
from socketless.host.limits import Timeouts
from socketless.wire.channel import Steps, Wait
from socketless.wire.drivers import run_blocking
from socketless.wire.messages import Request
from support import LIMIT


def resumed(steps: Steps[Any], wait: Wait) -> Steps[Any]:
    """Go on with steps that were left when they waited for `wait`."""
    try:
        while True:
            wait = steps.send((yield wait))
    except StopIteration as stop:
        return stop.value


def test_time_limits() -> None:
    """A read timeout ends with the body: the app may take any time after it, until the response is at its end."""
    may_end = threading.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        import anyio.to_thread

        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"body"})
        assert await anyio.to_thread.run_sync(may_end.wait, LIMIT)

    with IpcThread(app, lifespan=False) as worker:
        request = Request("GET", "http", ("testserver", 80), b"/", [])
        exchange = worker.exchange_blocking(request, Timeouts(read=LIMIT))
        response: Any = exchange.answer
        assert (response.body, response.is_whole) == (b"body", True)
        body = Body(exchange, "GET", response, lambda error: error, raise_app_exceptions=True)
        assert run_blocking(body.next_chunk()) == b"body"
        steps = body.next_chunk()
        wait = next(steps)
        assert isinstance(wait, Wait)
        assert wait.deadline is None
        may_end.set()
        assert run_blocking(resumed(steps, wait)) is None


def test_served_connections(tmp_path: Any) -> None:
    """`socketless serve` ends a response when it is complete, and answers the next request while the app goes on.

    It stops once the app has finished what it does then.
    """
    fifos = [tmp_path / "length", tmp_path / "chunked"]
    for fifo in fifos:
        os.mkfifo(fifo)
    (tmp_path / "served.py").write_text(
        "import asyncio\n"
        "async def app(scope, receive, send):\n"
        "    headers = [(b'content-length', b'4')] if scope['path'] == '/length' else []\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': headers})\n"
        "    await send({'type': 'http.response.body', 'body': b'body'})\n"
        "    if scope['path'] != '/end':\n"
        f"        await asyncio.to_thread(lambda: open({str(tmp_path)!r} + scope['path']).read())\n"
        "        print('the task of', scope['path'], 'has run', flush=True)\n"
    )
    command = [sys.executable, "-m", "socketless", "serve", "served:app", "--stdio", "--no-lifespan"]
    served = subprocess.Popen(
        command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with served:
        assert served.stdin is not None
        assert served.stdout is not None
        assert served.stderr is not None
        for path, end in (("/length", "content-length: 4\n\nbody"), ("/chunked", "4\nbody\n0\n\n"), ("/end", "0\n\n")):
            served.stdin.write(f"GET {path} HTTP/1.1\r\nHost: testserver\r\n\r\n")
            served.stdin.flush()
            read = ""
            while not read.endswith(end):
                read += served.stdout.read(1)
        served.stdin.close()
        for fifo in fifos:
            fifo.write_text("go on")
        printed = served.stderr.read()
        assert "the task of /length has run" in printed
        assert "the task of /chunked has run" in printed
