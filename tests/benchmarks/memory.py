"""Measure what streaming adds to the memory of both processes: `python tests/benchmarks/memory.py`.

Linux only: the peaks are read, and reset, in /proc. Exits with 1 if one has grown by more than the goal.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

HERE = str(Path(__file__).resolve().parent)
sys.path.insert(0, HERE)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [HERE, os.environ.get("PYTHONPATH")]))  # for the workers

import httpx
from app_streams import CHUNK

from socketless import IpcProcess, IpcTransport

GIB = 1024 * 1024 * 1024
GOAL = 16.0  # MiB


def main() -> None:
    missed = False
    print(f"{'1 GiB streamed':<36}{'host, MiB':>12}{'worker, MiB':>12}{'MiB/s':>12}")
    for app in ("wsgi", "asgi"):
        with IpcProcess(f"app_streams:{app}") as worker:
            assert worker.pid is not None
            client = httpx.Client(transport=IpcTransport(worker), base_url="http://testserver", timeout=None)
            stream(client, "echo", 16)  # to warm up
            for title, query in {"up, and back": "echo", "down": str(GIB // len(CHUNK))}.items():
                before = peaks(worker.pid)
                began = time.perf_counter()
                stream(client, query, GIB // len(CHUNK))
                seconds = time.perf_counter() - began
                grown = [after - then for after, then in zip(peaks(worker.pid, reset=False), before, strict=True)]
                print(f"  {f'{app}, {title}':<34}{grown[0]:>12.1f}{grown[1]:>12.1f}{1024 / seconds:>12.0f}", flush=True)
                missed |= max(grown) > GOAL
    print(f"\n{'MISSED ' if missed else 'reached'}  at most {GOAL:g} MiB")
    sys.exit(missed)


def stream(client: httpx.Client, query: str, chunks: int) -> None:
    content = (CHUNK for _ in range(chunks)) if query == "echo" else None
    size = 0
    with client.stream("POST", f"/?{query}", content=content) as response:
        for piece in response.iter_raw():
            size += len(piece)
    assert size == chunks * len(CHUNK)


def peaks(worker: int, *, reset: bool = True) -> list[float]:
    """Return the peaks of the resident memory of this process and of the worker, in MiB; let them begin anew."""
    return list(_peaks([os.getpid(), worker], reset))


def _peaks(pids: list[int], reset: bool) -> Iterator[float]:
    for pid in pids:
        if reset:
            Path(f"/proc/{pid}/clear_refs").write_text("5")
        status = Path(f"/proc/{pid}/status").read_text()
        yield int(status.partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    main()
