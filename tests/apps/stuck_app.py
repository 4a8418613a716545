"""Apps that wait, for tests/worker/test_stacks.py: a worker imports them sooner than the tests."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from fastapi import FastAPI

api = FastAPI()
never = threading.Event()


def wsgi(environ: Any, start_response: Any) -> list[bytes]:
    return wait_in_thread()


def wait_in_thread() -> list[bytes]:
    never.wait()  # the line of a thread
    return []


@api.get("/await")
async def waits() -> None:
    await inner()


async def inner() -> None:
    await asyncio.Event().wait()  # the line of a task


@api.get("/generator")
async def waits_in_generator() -> None:
    async for _ in generator():
        pass


async def generator() -> Any:
    await asyncio.Event().wait()  # the line of a generator
    yield


@api.get("/quick")
def quick() -> None:
    pass


@api.get("/thread")
def sync_route() -> None:
    never.wait(60)  # the line of a sync route


@api.get("/block")
async def blocks() -> None:
    never.wait()  # the line that blocks the loop
