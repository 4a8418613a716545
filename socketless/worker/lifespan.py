"""The lifespan of an ASGI app (https://asgi.readthedocs.io/en/latest/specs/lifespan.html)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from socketless.errors import AppProtocolError
from socketless.worker.import_strings import LoadError

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
App = Callable[[Scope, Callable[[], Awaitable[Event]], Callable[[Event], Awaitable[None]]], Awaitable[None]]

ASGI = {"version": "3.0", "spec_version": "2.5"}


class LifespanError(LoadError):
    """The app answered `lifespan.startup.failed` or `lifespan.shutdown.failed`; the text is the app's."""


class Lifespan:
    """The lifespan task: `start_up()` before the first request, `shut_down()` after the last."""

    def __init__(self, app: App, state: dict[str, Any] | None = None) -> None:
        self._app = app
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._answers: asyncio.Queue[Event | None] = asyncio.Queue()
        self.task: asyncio.Task[None] | None = None
        self._is_supported = False
        self._error: BaseException | None = None
        self._has_begun = False  # the app has received lifespan.startup
        self._state: dict[str, Any] = {} if state is None else state
        self._has_state = state is not None

    @property
    def state(self) -> dict[str, Any] | None:
        """What the scope of each request has a copy of; `None` if the app knows no lifespan."""
        return self._state if self._has_state or self._is_supported else None

    async def start_up(self) -> None:
        """Start the app's lifespan.

        An app that raises instead of asking for lifespan.startup supports none: go on without it.

        Raises:
            LifespanError: the app answered that it failed, or raised instead of an answer.
            AppProtocolError: it answered something else.
        """
        self.task = asyncio.get_running_loop().create_task(self._run())
        answer = await self._ask("lifespan.startup")
        if answer is None:
            if self._has_begun and self._error is not None:
                raise LifespanError(f"the app's lifespan raised {self._error!r}") from self._error
            return
        if answer["type"] == "lifespan.startup.failed":
            await self.task
            raise LifespanError(f"the app's lifespan failed: {answer.get('message', '')}") from self._error
        if answer["type"] != "lifespan.startup.complete":
            raise AppProtocolError(f"the ASGI app sent {answer['type']!r} in answer to lifespan.startup")
        self._is_supported = True

    async def shut_down(self) -> None:
        """Shut the app's lifespan down, if it has one.

        Raises:
            LifespanError: the app answered that it failed.
            Exception: what it raised.
        """
        if not self._is_supported or self.task is None:
            return
        answer = await self._ask("lifespan.shutdown")
        await self.task
        if answer is not None and answer["type"] == "lifespan.shutdown.failed":
            raise LifespanError(f"the app's lifespan failed: {answer.get('message', '')}") from self._error
        if self._error is not None:
            raise self._error

    async def _ask(self, event: str) -> Event | None:
        self._events.put_nowait({"type": event})
        return await self._answers.get()

    async def _receive(self) -> Event:
        event = await self._events.get()
        self._has_begun = True
        return event

    async def _run(self) -> None:
        # Runs in the event loop, as the lifespan task.
        scope: Scope = {"type": "lifespan", "asgi": ASGI.copy(), "state": self._state}
        try:
            await self._app(scope, self._receive, self._answers.put)
        except BaseException as error:
            self._error = error
        finally:
            self._answers.put_nowait(None)
