"""`start_method="fork"`: a copy of this process, which has the app in its memory, whatever the app is."""

from __future__ import annotations

import io
import logging
import sys
import traceback
from typing import Any

from socketless._forking import fork
from socketless._genuine import os
from socketless._host.arguments import Env
from socketless._host.output import WorkerOutput
from socketless._wire import pickling
from socketless._wire.channel import Channel
from socketless._wire.messages import Start


class Forked:
    """A worker process that was forked."""

    needs_start_message = False

    def __init__(self, ends: list[Channel], start: Start, output: WorkerOutput, env: Env | None) -> None:
        # What Python has buffered would be written twice otherwise.
        for stream in (sys.stdout, sys.stderr):
            if stream is not None and not stream.closed:
                stream.flush()
        self.pid = fork()  # beside other threads as well: the person has asked for it by its name
        if self.pid == 0:
            _be_worker(ends, start, output, env or {})

    def forget(self) -> None:
        """Let go of the process: it has been reaped, or it is no child of this process."""


def _be_worker(ends: list[Channel], start: Start, output: WorkerOutput, env: Env) -> None:
    # Runs in the child. It never returns: the frames below belong to the host.
    code = 1
    try:
        os.setsid()
        for name, value in env.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = os.fsdecode(value)
        _take_standard_streams(output)
        pickling.set_forked()
        _forget_loops()
        _forget_logging()
        from socketless._worker.main import run_worker

        run_worker(ends[0], ends[1:], start, output.fileno()[2])
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            sys.modules["os"]._exit(code)  # which coverage.py may have patched, to save what it has counted


def _take_standard_streams(output: WorkerOutput) -> None:
    stdin = os.open(os.devnull, os.O_RDONLY)
    for fd, number in ((stdin, 0), (output.fileno()[0], 1), (output.fileno()[1], 2)):
        os.dup2(fd, number)
    # New objects: the host's may be pytest's, and hold text that the host has yet to write.
    sys.stdin = sys.__stdin__ = io.TextIOWrapper(io.BufferedReader(_file(0, "rb")))  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = io.TextIOWrapper(io.BufferedWriter(_file(1, "wb")))  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = io.TextIOWrapper(io.BufferedWriter(_file(2, "wb")))  # type: ignore[misc]


def _file(fd: int, mode: str) -> io.FileIO:
    # What open() begins with, which may be pyfakefs's.
    return io.FileIO(fd, mode, closefd=False)


def _forget_logging() -> None:
    # The host has a copy of all that is logged here, and there its handlers take it, at the levels and along the ways
    # that it has set by then.
    for logger in [logging.root, *logging.root.manager.loggerDict.values()]:
        if isinstance(logger, logging.Logger):  # no placeholder
            logger.handlers.clear()
            logger.disabled, logger.propagate = False, True
            logger.level = logging.WARNING if logger is logging.root else logging.NOTSET
    logging.disable(logging.NOTSET)  # which also empties the loggers' caches


def _forget_loops() -> None:
    # The host may have forked inside a running loop, or with asgiref's thread in use; neither exists here.
    asyncio: Any = sys.modules.get("asyncio")
    if asyncio is not None:
        asyncio._set_running_loop(None)
        asyncio.set_event_loop(None)
    sync: Any = sys.modules.get("asgiref.sync")
    if sync is not None:
        sync.SyncToAsync.single_thread_executor = sync.ThreadPoolExecutor(max_workers=1)
        sync.AsyncToSync.executors = sync.Local()
        sync.AsyncToSync.loop_thread_executors = {}
