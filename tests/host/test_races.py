"""Several at once: tasks, threads, processes, interrupted and cancelled."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from socketless import IpcAsyncTransport, IpcProcess, IpcTransport, errors
from socketless._forking import fork
from support import LIMIT, nothing_leaks

APP = "apps.conformance_app:wsgi"


def sync_client(worker: IpcProcess) -> httpx.Client:
    return httpx.Client(transport=IpcTransport(worker), base_url="http://testserver", timeout=None)


def async_client(worker: IpcProcess) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=IpcAsyncTransport(worker), base_url="http://testserver", timeout=None)


def wait_until_ended(pid: int | None) -> None:
    for thread in threading.enumerate():
        if thread.name == f"socketless-watch-{pid}":
            thread.join(LIMIT)


def test_trio_tasks() -> None:
    """Many trio tasks at once get their own answers, also when they wait for a channel."""

    async def main() -> None:
        async with async_client(worker) as client, trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(ask, client, number)

    async def ask(client: httpx.AsyncClient, number: int) -> None:
        answers[number] = (await client.get(f"/seen?{number}")).json()["query"]

    answers: dict[int, str] = {}
    with nothing_leaks(), IpcProcess(APP, max_connections=4) as worker:
        trio.run(main)
    assert answers == {number: str(number) for number in range(30)}


def test_asyncio_tasks_when_a_grandchild_keeps_the_pipes(tmp_path: Path) -> None:
    """Every task in flight hears of the worker's end, though a process that it has started still holds its pipes."""
    os.mkfifo(tmp_path / "fifo")

    async def main() -> list[Any]:
        async with async_client(worker) as client:
            await client.get(f"/grandchild?{tmp_path}/fifo")
            hanging = [asyncio.create_task(client.get("/hang")) for _ in range(3)]
            while len(worker._pool._busy) < 3:
                await asyncio.sleep(0)
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)
            return await asyncio.wait_for(asyncio.gather(*hanging, return_exceptions=True), LIMIT)

    with IpcProcess(f"{__name__}:grandchild") as worker:
        results = asyncio.run(main())
    with open(tmp_path / "fifo", "w"):
        pass  # lets the grandchild go
    assert [type(result).__name__ for result in results] == ["WorkerDied"] * 3


def grandchild(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """An app that forks a process which leaves the worker's process group and keeps what it inherits."""
    if environ["PATH_INFO"] == "/hang":
        threading.Event().wait()
    kept = [os.dup(int(fd)) for fd in os.listdir("/proc/self/fd") if "pipe" in _target(fd)]
    left_read, left_write = os.pipe()
    if fork() == 0:
        os.setsid()
        os.write(left_write, b"left")
        os.open(environ["QUERY_STRING"], os.O_RDONLY)
        os._exit(0)
    os.read(left_read, 4)
    for fd in (*kept, left_read, left_write):
        os.close(fd)
    start_response("200 OK", [])
    return []


def _target(fd: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return ""


def test_queue_behind_a_channel_that_was_given_up(tmp_path: Path) -> None:
    """When an app lets go, the next in the queue gets the channel, though the first has lost patience."""
    os.mkfifo(tmp_path / "fifo")
    with nothing_leaks(), IpcProcess(APP, max_connections=1) as worker, ThreadPoolExecutor(1) as threads:
        client = sync_client(worker)
        with pytest.raises(httpx.ReadTimeout):
            client.get(f"/fifo?{tmp_path}/fifo", timeout=httpx.Timeout(None, read=0.01))
        patient = threads.submit(client.get, "/seen")
        while not worker._pool._waiters:
            pass
        with pytest.raises(httpx.PoolTimeout):
            client.get("/seen", timeout=httpx.Timeout(None, pool=0.01))
        with open(tmp_path / "fifo", "w"):
            pass
        assert patient.result(LIMIT).status_code == 200


def test_more_tasks_than_descriptors() -> None:
    """Hundreds of tasks that wait for a channel need no descriptor each."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def main() -> list[int]:
        async with async_client(worker) as client:
            responses = await asyncio.gather(*(client.get("/count") for _ in range(300)))
        return sorted(int(response.text) for response in responses)

    with IpcProcess(APP, max_connections=4) as worker:
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/dev/fd")) + 40, limits[1]))
        try:
            assert asyncio.run(main()) == list(range(1, 301))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_hundreds_of_tasks_that_are_late_together() -> None:
    """Tasks whose pool timeout passes in the same turn of the loop all get that, and no OSError."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def main() -> set[str]:
        async with async_client(worker) as client:
            hanging = asyncio.create_task(client.get("/hang"))
            while not worker._pool._busy:
                await asyncio.sleep(0)
            timeout = httpx.Timeout(None, pool=0.01)
            tasks = [asyncio.create_task(client.get("/count", timeout=timeout)) for _ in range(300)]
            await asyncio.sleep(0)
            threading.Event().wait(0.05)  # the loop is busy while all of them become late
            results = await asyncio.gather(*tasks, return_exceptions=True)
            hanging.cancel()
            return {type(result).__name__ for result in results}

    with IpcProcess(APP, max_connections=1) as worker:
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/dev/fd")) + 40, limits[1]))
        try:
            assert asyncio.run(main()) == {"PoolTimeout"}
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_pool_timeout_of_a_task_in_the_queue() -> None:
    """A task that waits behind others for longer than its pool timeout is told what holds the channels."""

    async def main() -> None:
        async with async_client(worker) as client:
            hanging = asyncio.create_task(client.get("/hang"))
            while not worker._pool._busy:
                await asyncio.sleep(0)
            with pytest.raises(httpx.PoolTimeout, match="GET /hang, for "):
                await client.get("/seen", timeout=httpx.Timeout(None, pool=0.01))
            hanging.cancel()

    with nothing_leaks(), IpcProcess(APP, max_connections=1) as worker:
        asyncio.run(main())


def test_cancelled_tasks_leave_usable_channels() -> None:
    """Tasks that are cancelled in flight, or in the queue, leave every channel usable, and no answer is mixed up."""

    async def main() -> None:
        async with async_client(worker) as client:
            for turn in range(40):
                tasks = [asyncio.create_task(client.post("/echo", content=b"%d" % n * 9999)) for n in range(8)]
                for _ in range(turn):
                    await asyncio.sleep(0)
                for task in tasks[::2]:
                    task.cancel()
                answers = await asyncio.gather(*tasks, return_exceptions=True)
                for number, answer in enumerate(answers):
                    if isinstance(answer, httpx.Response):
                        assert answer.content == b"%d" % number * 9999
                    else:
                        assert isinstance(answer, asyncio.CancelledError)

    with nothing_leaks(), IpcProcess(APP, max_connections=3) as worker:
        asyncio.run(main())
        assert sync_client(worker).get("/seen").status_code == 200


def test_cancelled_restart_is_not_counted() -> None:
    """A task that is cancelled while it restarts the worker does not use up the restart."""

    async def main() -> int:
        async with async_client(worker) as client:
            restarting = asyncio.create_task(client.get("/seen"))
            while not worker._starting:
                await asyncio.sleep(0)
            waiting = asyncio.create_task(client.get("/seen"))
            await asyncio.sleep(0)
            restarting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await restarting
            return (await waiting).status_code

    with nothing_leaks(), IpcProcess(APP, max_restarts=1, shutdown_timeout=0.5) as worker:
        assert worker.pid is not None
        pid = worker.pid
        os.kill(pid, signal.SIGKILL)
        wait_until_ended(pid)
        assert asyncio.run(main()) == 200


def test_close_during_a_restart() -> None:
    """Closing a worker that another thread is just starting again ends that, too."""
    with nothing_leaks():
        worker = IpcProcess(APP)
        pid = worker.pid
        assert pid is not None
        with ThreadPoolExecutor(1) as threads:
            os.kill(pid, signal.SIGKILL)
            wait_until_ended(pid)
            request = threads.submit(sync_client(worker).get, "/")
            while not worker._starting:
                pass
            worker.close()
            with pytest.raises(errors.SocketlessError):
                request.result(LIMIT)


@pytest.mark.parametrize("outer", ["spawn", "fork"])
@pytest.mark.parametrize("inner", ["spawn", "fork"])
def test_worker_in_a_worker(outer: str, inner: str) -> None:
    """An app may use a worker of its own, whichever way the two are started."""
    with nothing_leaks(), IpcProcess(f"{__name__}:nested", start_method=outer) as worker:
        assert sync_client(worker).get(f"/?{inner}").text == "GET"


def nested(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    with IpcProcess(APP, start_method=environ["QUERY_STRING"]) as worker:
        text = sync_client(worker).get("/seen").json()["method"]
    start_response("200 OK", [])
    return [text.encode()]


def test_close_in_a_forked_child() -> None:
    """A forked child can close its copy of a worker, also when another thread held the lock at that moment."""
    with nothing_leaks(), IpcProcess(APP) as worker:
        with worker._lock:
            pid = fork()
            if pid == 0:
                signal.alarm(int(LIMIT))
                worker.close()
                os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert sync_client(worker).get("/seen").status_code == 200


def test_child_that_the_app_forks_does_not_serve() -> None:
    """A process that the app forks, and that returns from the app, answers nobody."""
    with nothing_leaks(), IpcProcess(f"{__name__}:forking", max_connections=1) as worker:
        client = sync_client(worker)
        for _ in range(3):
            assert client.get("/fork").text == "parent"
            assert client.get("/").text == "parent"


def forking(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    pid = fork() if environ["PATH_INFO"] == "/fork" else 1
    if pid > 1:
        os.waitpid(pid, 0)
    start_response("200 OK", [])
    return [b"parent" if pid else b"child"]
