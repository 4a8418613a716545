"""Finds out what this sandbox refuses. It really tries everything, and leaves nothing open.

It reaches nothing outside this machine, except that the name `localhost` may be looked up elsewhere.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

from socketless._forking import fork

__all__ = ["Check", "examine", "is_fatal", "loopback_refusals", "product", "refusals", "wakeup_refusal"]

_LIMIT = 5.0  # seconds, for what takes a few milliseconds
_KILLED = "sockets: killed by "


# What sandboxes set in the environment of what they run, and whose they are.
_PRODUCTS = {
    "CODEX_SANDBOX": "OpenAI Codex",
    "CODEX_SANDBOX_NETWORK_DISABLED": "OpenAI Codex, without a network",
    "SANDBOX_RUNTIME": "Anthropic's sandbox-runtime, as in Claude Code",
    "GEMINI_SANDBOX": "Gemini CLI",
    "CURSOR_SANDBOX": "Cursor",
}


def product() -> str | None:
    """Return the name of this sandbox, with the environment variables that tell it; `None` if none does."""
    found = {name: os.environ[name] for name in _PRODUCTS if os.environ.get(name, "") not in ("", "0", "false")}
    if not found:
        return None
    return f"{_PRODUCTS[[*found][-1]]} ({', '.join(f'{name}={value}' for name, value in found.items())})"


def wakeup_refusal() -> str | None:
    """Return which of the calls that wake a loop of asyncio or trio is refused here, and how; `None`: none of them."""
    return _refusal(_wake_up)


def loopback_refusals() -> dict[str, str]:
    """Return which kinds of sockets cannot reach each other on this machine, and how that is refused.

    Returns:
        The refusals, by the families of `socketless.loopback.install()`: ``"inet"`` (tried as TCP over 127.0.0.1) and
        ``"unix"``. Families that work are left out.
    """
    tried = {family: _refusal(probe) for family, probe in (("inet", _meet_by_tcp), ("unix", _meet_by_path))}
    return {family: refusal for family, refusal in tried.items() if refusal is not None}


def refusals() -> tuple[str | None, dict[str, str]]:
    """Return the results of `wakeup_refusal()` and `loopback_refusals()`; one child process does for both."""
    if _is_filtered() and threading.active_count() == 1:
        probes = (_wake_up, _meet_by_tcp, _meet_by_path)
        with suppress(OSError):  # no process is to be had
            ending = _try_in_child(partial(_try_each, probes), _LIMIT)
            if ending.died is None:  # else it has to be found out which one was its death
                wakeup, *others = json.loads(ending.refused or "")
                found = zip(("inet", "unix"), others, strict=True)
                return wakeup, {family: refusal for family, refusal in found if refusal is not None}
    return wakeup_refusal(), loopback_refusals()


def _try_each(probes: Iterable[Callable[[], None]]) -> None:
    # Runs in the child: its only answer is what it raises.
    refused: list[str | None] = []
    for probe in probes:
        try:
            probe()
            refused.append(None)
        except Exception as error:
            refused.append(_reason_of(error))
    raise RuntimeError(json.dumps(refused))


def is_fatal(refusals: Mapping[str, str]) -> bool:
    """Return whether one of these refusals is not an error: the process that tries is killed."""
    return any(refusal.startswith(_KILLED) for refusal in refusals.values())


def _refusal(probe: Callable[[], None]) -> str | None:
    if _is_filtered() and threading.active_count() == 1:
        with suppress(OSError):  # no process is to be had
            ending = _try_in_child(probe, _LIMIT)
            return f"sockets: {ending.died}" if ending.died else ending.refused
    try:
        probe()
    except OSError as error:
        return str(error)
    return None


def _is_filtered() -> bool:
    # A filter of system calls (seccomp) may kill who tries.
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            return "\nSeccomp:\t2\n" in status.read()
    except OSError:  # not Linux
        return False


def _wake_up() -> None:
    step = "socketpair()"
    try:
        reader, writer = socket.socketpair()
        with reader, writer:
            step = "send()"
            writer.setblocking(False)
            writer.send(b"\0")
            step = "recv()"
            reader.setblocking(False)
            with suppress(BlockingIOError):  # it has yet to arrive, where such a pair is made of TCP
                reader.recv(1)
            step = "setsockopt()"  # of trio
            writer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    except Exception as error:  # pytest-socket's is no OSError
        raise OSError(f"{step}: {getattr(error, 'strerror', None) or error}") from None


_Socket = socket.socket  # before anybody mocks it


def _meet_by_tcp() -> None:
    _meet(socket.AF_INET, ("127.0.0.1", 0))


def _meet_by_ipv6() -> None:
    _meet(socket.AF_INET6, ("::1", 0))


def _meet_by_path() -> None:
    with tempfile.TemporaryDirectory() as folder:
        _meet(socket.AF_UNIX, os.path.join(folder, "s"))


def _meet(family: int, address: Any) -> None:
    # This is about the system: pytest-socket and its like put a subclass in the place of Python's class, and mocks one
    # of their own.
    python_socket = next((each for each in socket.socket.__mro__ if each.__module__ == "socket"), _Socket)
    step = "socket()"
    try:
        with python_socket(family, socket.SOCK_STREAM) as listener, python_socket(family, socket.SOCK_STREAM) as client:
            step = "bind()"
            listener.bind(address)
            step = "listen()"
            listener.listen()
            step = "connect()"
            client.settimeout(_LIMIT)
            client.connect(listener.getsockname())
            step = "accept()"
            number, _ = listener._accept()  # accept() would make an object of theirs
            with python_socket(family, socket.SOCK_STREAM, fileno=number) as accepted:
                step = "send()"
                client.sendall(b"ping")
                accepted.sendall(accepted.recv(4))
                client.recv(4)
    except OSError as error:
        raise OSError(f"{step}: {error.strerror or error}") from None


@dataclass(frozen=True)
class Check:
    """The result of one check: whether one thing is possible here.

    Args:
        name: the name of the check; names are stable.
        what: a description of it, in words or as a call.
        error: the error with which it is refused; `None` if it works.
    """

    name: str
    what: str
    error: str | None

    @property
    def works(self) -> bool:
        """Whether the thing is possible here."""
        return self.error is None


def examine(limit: float = _LIMIT) -> list[Check]:
    """Try everything that tests need from a system.

    Each check runs in a forked child, since a sandbox may kill the process that tries, or make it wait for ever. So
    call it before this process has other threads. `/dev/shm` is left out on systems without it, such as macOS.

    Args:
        limit: seconds that each check may take.

    Raises:
        OSError: this process cannot fork, or has no file descriptors left.
    """
    checks = []
    for name, what, probe in _probes():
        ending = _try_in_child(probe, limit)
        checks.append(Check(name, what, ending.refused or ending.died))
    return checks


def _probes() -> Iterator[tuple[str, str, Callable[[], None]]]:
    yield "inet_socket", "socket(AF_INET)", _inet_socket
    yield "unix_socket", "socket(AF_UNIX)", _unix_socket
    yield "socketpair", "socketpair()", _socketpair
    yield "send", "send() and recv() on a socket pair", _send
    yield "setsockopt", "setsockopt() on a socket pair", _setsockopt
    yield "bind", "bind() and listen() on 127.0.0.1", _bind
    yield "loopback", "a connection over 127.0.0.1", _meet_by_tcp
    yield "ipv6", "a connection over ::1", _meet_by_ipv6
    yield "unix_server", "a connection over a UNIX socket", _meet_by_path
    yield "name_lookup", "the name localhost", _name_lookup
    if sys.platform == "linux":
        yield "shm", "a file in /dev/shm", _shm
    yield "sysconf", 'os.sysconf("SC_SEM_NSEMS_MAX")', _sysconf
    yield "semaphore", "a semaphore of multiprocessing", _semaphore
    yield "process", f"a process of multiprocessing ({_start_method()})", _process


def _inet_socket() -> None:
    socket.socket(socket.AF_INET, socket.SOCK_STREAM).close()


def _unix_socket() -> None:
    socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).close()


def _socketpair() -> None:
    for end in socket.socketpair():
        end.close()


def _send() -> None:
    reader, writer = socket.socketpair()
    with reader, writer:
        writer.send(b"\0")
        reader.recv(1)


def _setsockopt() -> None:
    reader, writer = socket.socketpair()
    with reader, writer:
        writer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)


def _bind() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()


def _name_lookup() -> None:
    socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)


def _shm() -> None:
    with tempfile.TemporaryFile(dir="/dev/shm") as file:
        file.write(b"\0" * 4096)
        file.flush()


def _sysconf() -> None:
    os.sysconf("SC_SEM_NSEMS_MAX")  # asked by concurrent.futures.ProcessPoolExecutor


def _semaphore() -> None:
    import multiprocessing

    multiprocessing.get_context("fork").Lock()  # the other methods would start a process to clean up after it


def _start_method() -> str:
    import multiprocessing

    # Asked otherwise, it would settle it for good. The first of all is the default.
    return multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]


def _process() -> None:
    import multiprocessing

    from socketless.errors import describe_exit

    # What is started may import the script, write what this process has yet to write, or say what is refused to it.
    sys.modules["__main__"] = ModuleType("__main__")
    sys.stdout = sys.stderr = None
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    process = multiprocessing.Process(target=len, args=("",))
    process.start()
    process.join()
    if process.exitcode != 0:
        raise ChildProcessError(f"it {describe_exit(process.exitcode)}")


class _Ending(NamedTuple):
    refused: str | None = None  # what the probe has raised
    died: str | None = None  # how the child has ended, without an answer


def _try_in_child(probe: Callable[[], None], limit: float) -> _Ending:
    reader, writer = os.pipe()
    try:
        pid = fork()
        if pid == 0:
            _be_child(probe, writer)
        os.close(writer)
        writer = -1
        poll = select.poll()
        poll.register(reader, select.POLLIN)
        in_time: object = None
        try:
            in_time = poll.poll(limit * 1000)
            answer = os.read(reader, 4096).decode("utf-8", "replace") if in_time else ""
        finally:
            if not in_time:  # or somebody is in a hurry (Ctrl-C)
                os.kill(pid, signal.SIGKILL)
            status = 0
            with suppress(ChildProcessError):  # where SIGCHLD is ignored, the system has reaped it
                _, status = os.waitpid(pid, 0)
    finally:
        for fd in (reader, writer):
            if fd >= 0:
                os.close(fd)
    if answer:
        return _Ending(refused=None if answer == "works" else answer.removeprefix("refused: "))
    if not in_time:
        return _Ending(died=f"no answer within {limit:g} s")
    if os.WIFSIGNALED(status):
        return _Ending(died=f"killed by {signal.Signals(os.WTERMSIG(status)).name}")
    return _Ending(died="no answer")


def _reason_of(error: BaseException) -> str:
    reason = error.strerror if isinstance(error, OSError) else None
    return reason or str(error) or type(error).__name__


def _be_child(probe: Callable[[], None], writer: int) -> None:
    # Runs in the child, and ends it.
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # who is killed leaves no file behind
        try:
            probe()
            answer = "works"
        except BaseException as error:
            answer = f"refused: {_reason_of(error)}"
        os.write(writer, answer.encode("utf-8", "replace")[:4096])
    finally:
        os._exit(0)
