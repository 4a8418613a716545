"""What runs an app: one class for each kind, behind one small interface."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from socketless._genuine import is_green
from socketless._wire.channel import Channel
from socketless._wire.import_strings import LoadError
from socketless._wire.messages import Start
from socketless._worker import loading
from socketless._worker.app_threads import AppThread

# asyncio, and asgiref, ask the system which thread they are in.
_GREEN_ASGI = (
    "an ASGI app cannot run where gevent or eventlet has patched threading: its event loop and its other threads would "
    "be one; call monkey.patch_all(thread=False), or, if only the tests are patched, take IpcProcess with "
    "start_method='spawn'"
)


class Runner(Protocol):
    """Runs one kind of app."""

    kind: str
    app: Any  # as it was loaded

    @property
    def threads(self) -> list[AppThread]:
        """Those in which it runs the app, beside the one of `run()`."""

    @property
    def is_ending(self) -> bool:
        """Whether it serves no channel any more. Any thread may ask."""

    @property
    def is_on_loop(self) -> bool:
        """Whether this is called in the thread of the app's event loop."""

    def run(self, on_ready: Callable[[], None]) -> None:
        """Get the app ready, say so, and return after `stop()`, and after what the app is in the middle of."""

    def stop(self) -> None:
        """Let `run()` return. Any thread may call it."""

    def serve(self, channel: Channel) -> None:
        """Answer what comes over `channel`, in a thread that this starts, until the pipe ends.

        Any thread may call it.
        """

    def end_channel(self, number: int) -> None:
        """Let a channel end that has ended at the host, though its pipe may not say so. Any thread may call it.

        Raises:
            OSError: no descriptors are to be had for it.
        """

    def stack_of(self, number: int | None) -> str:
        """Return where the exchange on a channel is, as in a traceback; without a number, where the start is.

        Any thread may call it.
        """


def make_runner(start: Start, *, outlives_its_worker: bool) -> Runner:
    """Load the app and the reset hook.

    Args:
        outlives_its_worker: whether the process goes on after the worker, which then has to leave nothing behind.

    Raises:
        LoadError: there is no such app, or no such hook, or the app cannot run beside gevent.
        Exception: what the app's own code has raised.
    """
    app, kind = loading.load_app(start.app, start.app_kind)
    hook = loading.load_hook(start.reset_hook) if start.reset_hook is not None else None
    if kind == "wsgi":
        from socketless._worker.wsgi import WsgiRunner

        return WsgiRunner(app, hook, start, outlives_its_worker=outlives_its_worker)
    if is_green():
        raise LoadError(_GREEN_ASGI)
    from socketless._worker.asgi import AsgiRunner, as_asgi3

    runner_class = AsgiRunner
    if start.backend == "trio":
        try:
            from socketless._worker.trio_runner import TrioRunner as runner_class
        except ModuleNotFoundError as error:
            if error.name != "trio":
                raise
            raise LoadError("backend='trio' needs trio: pip install trio") from None
    runner = runner_class(
        as_asgi3(app) if kind == "asgi2" else app, hook, start, outlives_its_worker=outlives_its_worker
    )
    runner.app = app
    return runner
