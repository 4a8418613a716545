"""An app that logs and warns. The tests must not import it: its classes are to be unknown to them."""

from __future__ import annotations

import asyncio
import logging
import logging.config
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote

from socketless._forking import fork

logger = logging.getLogger("apps.web")
quiet = logging.getLogger("apps.quiet")


class OwnError(Exception):
    """Known to the app only."""


class OwnWarning(FutureWarning):
    """Known to the app only."""


class Thing:
    """Pickled, it would be rebuilt by importing this module."""

    def __str__(self) -> str:
        return "a thing"


class ApiError(Exception):
    """Cannot be rebuilt from its args."""

    def __init__(self, code: int, *, reason: str) -> None:
        super().__init__(code)
        self.reason = reason


def in_order() -> None:
    print("one")
    logger.warning("two")
    print("three", file=sys.stderr)
    warnings.warn("four", UserWarning, stacklevel=1)
    sys.stdout.write("fi")
    logger.error("ve, in two parts")
    print("ve")


def twice() -> None:
    logger.warning("first")
    logger.warning("second")


def streamed(go: str) -> None:
    """See below."""


def wait_for(go: str) -> None:
    with open(go):
        logger.warning("between the chunks")


def at_levels() -> None:
    logger.debug("fine")
    logger.info("as usual")
    logger.warning("odd")
    logging.getLogger("apps.other").info("elsewhere")


def with_values() -> None:
    logger.warning("%s of %r", 1, ["a", {"b": None}], extra={"user": "ada", "sizes": [1, 2], "thing": Thing()})
    logger.warning("%(n)d by name", {"n": 2})
    logger.warning("%s and %s", Thing(), 3)
    logger.warning(Thing())
    logger.warning({"event": "structured"})


def with_errors() -> None:
    for make in (lambda: KeyError("no such key"), lambda: OwnError("own"), lambda: ApiError(3, reason="none")):
        try:
            raise make()
        except Exception:
            logger.exception("failed")
    logger.warning("no exception", exc_info=True)
    logger.warning("where", stack_info=True)


def badly() -> None:
    logger.warning("%d of them", Thing())
    logger.warning("after it")


def by_own_handlers() -> None:
    handlers = [logging.StreamHandler(sys.stdout), logging.StreamHandler(sys.stderr)]
    handlers[0].addFilter(lambda record: setattr(record, "request_id", "r7") or True)  # type: ignore[func-returns-value]
    handlers[1].setLevel(logging.ERROR)
    for handler in handlers:
        logger.addHandler(handler)
        quiet.addHandler(handler)
    quiet.propagate = False
    try:
        logger.warning("handled")
        quiet.warning("hushed")
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
            quiet.removeHandler(handler)
        quiet.propagate = True


def with_warnings() -> None:
    for warning in (DeprecationWarning("old"), OwnWarning("own")):
        warnings.warn(warning, stacklevel=1)
    logger.warning("after the warnings")


def carelessly() -> None:
    open(os.devnull, "rb", buffering=0)  # and it is never closed
    asyncio.sleep(0)  # type: ignore[unused-coroutine]
    logger.warning("done")


def with_warnings_as_records() -> None:
    logging.captureWarnings(True)
    try:
        warnings.warn("to be logged", UserWarning, stacklevel=1)
    finally:
        logging.captureWarnings(False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.warn("for the app itself", UserWarning, stacklevel=1)
    print([str(each.message) for each in caught])


def later(go: str, gone: str) -> None:
    def wait() -> None:
        with open(go):
            logger.warning("at last")
        with open(gone, "w"):
            pass

    threading.Thread(target=wait, daemon=True).start()


def in_a_child() -> None:
    pid = fork()
    if pid == 0:
        logger.warning("of the child")
        warnings.warn("of the child, too", UserWarning, stacklevel=1)
        os._exit(0)
    os.waitpid(pid, 0)


def and_die() -> None:
    logger.warning("last words")
    os.kill(os.getpid(), signal.SIGKILL)


def say(text: str) -> None:
    logger.warning("%s", text)


def reset() -> None:
    logger.warning("reset")


def wsgi(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    name, *args = [unquote(part) for part in environ["PATH_INFO"][1:].split(";")]
    actions: dict[str, Callable[..., None]] = globals()
    actions[name](*args)
    start_response("200 OK", [])
    yield b"first"
    if name == "streamed":
        wait_for(*args)
    yield b"second"


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while (await receive())["type"] == "lifespan.startup":
            logger.warning("starting")
            await send({"type": "lifespan.startup.complete"})
        logger.warning("stopping")
        warnings.warn("stopped", UserWarning, stacklevel=1)
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            logger.warning("heard %s", message["text"])
            await send({"type": "websocket.send", "text": "yes"})
    else:
        name, *args = scope["path"][1:].split(";")
        globals()[name](*args)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        if name == "streamed":
            await asyncio.to_thread(wait_for, *args)
        await send({"type": "http.response.body", "body": b"second"})


def by_dict() -> Callable[..., Any]:
    """Make an app whose configuration takes the handlers away that were there."""
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"short": {"format": "[%(levelname)s] %(message)s"}},
            "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "short"}},
            "root": {"handlers": ["console"], "level": "INFO"},
        }
    )
    return wsgi


def by_basic_config() -> Callable[..., Any]:
    logging.basicConfig(level=logging.INFO)
    return wsgi


def at_import() -> Callable[..., Any]:
    print("loading")
    logger.warning("loaded")
    warnings.warn("do not load it", DeprecationWarning, stacklevel=1)
    return wsgi
