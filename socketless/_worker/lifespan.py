"""The lifespan of an ASGI app (https://asgi.readthedocs.io/en/latest/specs/lifespan.html)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from socketless._wire.import_strings import LoadError
from socketless._worker.failures import failed
from socketless.errors import AppProtocolError

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
App = Callable[[Scope, Callable[[], Awaitable[Event]], Callable[[Event], Awaitable[None]]], Awaitable[None]]

ASGI = {"version": "3.0", "spec_version": "2.5"}

logger = logging.getLogger("socketless")

# What the app may answer next, once it has answered: it may do so before it is asked.
_NEXT = {"lifespan.startup": "lifespan.shutdown", "lifespan.shutdown": "nothing any more"}


class LifespanError(LoadError):
    """The app answered `lifespan.startup.failed` or `lifespan.shutdown.failed`; the text is the app's."""


class Lifespan:
    """The lifespan task: `start_up()` before the first request, `shut_down()` after the last.

    An app that raises instead of an answer, or returns, knows no lifespan, and is served without, as the specification
    says: many look at the type of the scope late, or never. With `is_required`, what it raises is an error; but
    with `may_refuse`, it may refuse that type by name, as Django, Channels and strawberry do. `aio` is asyncio, or has
    names of that module.
    """

    def __init__(
        self,
        app: App,
        state: dict[str, Any] | None = None,
        *,
        is_required: bool = False,
        may_refuse: bool = False,
        aio: Any = asyncio,
    ) -> None:
        self._app = app
        self._is_required = is_required
        self._may_refuse = may_refuse
        self._aio = aio
        self._events: asyncio.Queue[Event] = aio.Queue()
        self._answers: asyncio.Queue[Event | None] = aio.Queue()
        self._question = "lifespan.startup"  # what the app's next answer is to
        self.task: asyncio.Task[None] | None = None
        self._is_supported = False
        self._has_received = False
        self._error: BaseException | None = None
        self._state: dict[str, Any] = {} if state is None else state
        self._has_state = state is not None

    @property
    def state(self) -> dict[str, Any] | None:
        """What the scope of each request has a copy of; `None` if the app knows no lifespan."""
        return self._state if self._has_state or self._is_supported else None

    async def start_up(self) -> None:
        """Start the app's lifespan, if it has one.

        Raises:
            LifespanError: the app answered that it failed, has raised after its answer, or is leaving (`SystemExit`);
                or it has raised at all, and a lifespan is required.
        """
        self.task = self._aio.create_task(self._run())
        answer = await self._ask("lifespan.startup")
        if answer is not None and answer["type"] == "lifespan.startup.failed":
            await self.task
            raise LifespanError(f"the app's lifespan failed: {answer.get('message', '')}") from self._error
        self._is_supported = answer is not None
        if self._error is None:
            return
        is_failure = self._is_supported or (self._is_required and not (self._may_refuse and self._is_refused))
        if is_failure or not isinstance(self._error, Exception):
            raise LifespanError(f"the app's lifespan raised {self._error!r}") from self._error
        logger.info("the ASGI app raised at its lifespan, so it goes on without", exc_info=self._error)

    @property
    def _is_refused(self) -> bool:
        # It has raised before it took the first event, and what it raises is about the lifespan.
        error = self._error
        return error is not None and not self._has_received and "lifespan" in failed(error).summary

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

    def cancel(self) -> None:
        """Cancel the lifespan task, if there is one."""
        if self.task is not None:
            self.task.cancel()

    async def _ask(self, event: str) -> Event | None:
        self._events.put_nowait({"type": event})
        return await self._answers.get()

    async def _receive(self) -> Event:
        self._has_received = True
        return await self._events.get()

    async def _send(self, event: Event) -> None:
        # The `send()` of the ASGI specification, which raises for what is no answer: so an app finds out that it has
        # taken the lifespan's scope for a request.
        kind = event["type"]
        if kind not in (f"{self._question}.complete", f"{self._question}.failed"):
            raise AppProtocolError(f"the ASGI app sent {kind!r} in answer to {self._question}")
        self._question = _NEXT[self._question]
        self._answers.put_nowait(event)

    async def _run(self) -> None:
        # Runs in the event loop, as the lifespan task.
        scope: Scope = {"type": "lifespan", "asgi": ASGI.copy(), "state": self._state}
        try:
            await self._app(scope, self._receive, self._send)
        except BaseException as error:
            self._error = error
        finally:
            self._answers.put_nowait(None)
