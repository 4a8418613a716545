"""Playwright's two APIs behind one: everything here is written as coroutines, on the event loop of Playwright's own.

A call of the sync API blocks a greenlet until that loop has its answer, so it is made in a greenlet of its own where a
coroutine needs it; and a callback of the sync API runs in one, which may wait for a coroutine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

CoroutineFunction = Callable[..., Coroutine[Any, Any, Any]]


class Api(Protocol):
    """One of the two."""

    async def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a method of the API from a coroutine."""

    def callback(self, function: CoroutineFunction) -> Callable[..., Any]:
        """Make of a coroutine function, with one argument, what the API takes for a callback."""


class AsyncApi:
    """That of `playwright.async_api`."""

    async def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Await it."""
        return await function(*args, **kwargs)

    def callback(self, function: CoroutineFunction) -> Callable[..., Any]:
        """Return it under a name of its own: Playwright writes into it."""

        async def run(argument: Any) -> None:
            await function(argument)

        return run


class SyncApi:
    """That of `playwright.sync_api`.

    Args:
        owner: any object of the API.
    """

    def __init__(self, owner: Any) -> None:
        self._owner = owner

    def wait(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Block this greenlet until a coroutine has ended, and return its result."""
        return self._owner._sync(coroutine)

    async def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call it in a greenlet, and wait for that."""
        from greenlet import greenlet  # Playwright needs it

        future = asyncio.get_running_loop().create_future()

        def run() -> None:
            try:
                result = function(*args, **kwargs)
            except Exception as error:
                _settle(future.set_exception, error)
            else:
                _settle(future.set_result, result)

        def _settle(settle: Callable[[Any], None], value: Any) -> None:
            if not future.done():  # who waited for it was cancelled
                settle(value)

        greenlet(run).switch()
        return await future

    def callback(self, function: CoroutineFunction) -> Callable[..., Any]:
        """Return a function that waits for it."""

        def run(argument: Any) -> None:
            self.wait(function(argument))

        return run


def api_of(owner: Any) -> AsyncApi | SyncApi:
    """Return the API that an object belongs to."""
    is_async = any(each.__module__.startswith("playwright.async_api") for each in type(owner).__mro__)
    return AsyncApi() if is_async else SyncApi(owner)
