"""Loops that wait in C open their sockets in C, too, where nobody can help: asyncio's take the place of uvloop's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from socketless._loopback.patches import Patches

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these


def _new_event_loop() -> asyncio.AbstractEventLoop:
    # Replaces uvloop.new_event_loop.
    return asyncio.SelectorEventLoop()


def _run(
    main: Coroutine[Any, Any, Any],
    *,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    debug: bool | None = None,
    **options: Any,
) -> Any:
    # Replaces uvloop.run, which insists on a loop of its own.
    if not hasattr(asyncio, "Runner"):  # before Python 3.11
        return asyncio.run(main, debug=debug)
    with asyncio.Runner(loop_factory=_new_event_loop, debug=debug, **options) as runner:
        return runner.run(main)


def patch(uvloop: Any, patches: Patches) -> None:
    """Let uvloop make loops of asyncio: `uvloop.run()`, `new_event_loop()` and its policy."""
    patches.set(uvloop, "new_event_loop", _new_event_loop)
    if hasattr(uvloop, "run"):
        patches.set(uvloop, "run", _run)
