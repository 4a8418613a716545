"""A process that does with sockets what it is told, and tells what comes of it: `player.py real|virtual KIND`.

`test_sequences.py` lets two of them do the same, one with real sockets and one with virtual ones. What they tell is the
same as far as they behave alike: errors, data, readiness, and addresses by the order in which they are first seen.
"""

from __future__ import annotations

import errno
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Any, BinaryIO

FAMILIES = {"tcp4": socket.AF_INET, "tcp6": socket.AF_INET6, "path": socket.AF_UNIX, "abstract": socket.AF_UNIX}
PATIENCE = 30  # seconds in which every answer comes


class Player:
    """The host's side: starts the process, and asks it."""

    def __init__(self, sockets: str, kind: str) -> None:
        command = [sys.executable, __file__, sockets, kind]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests: BinaryIO = self._process.stdin  # type: ignore[assignment]
        self._answers: BinaryIO = self._process.stdout  # type: ignore[assignment]

    def ask(self, name: str, *args: Any) -> Any:
        pickle.dump((name, args), self._requests)
        self._requests.flush()
        assert select.select([self._answers], [], [], PATIENCE)[0], f"{name} does not return"
        return pickle.load(self._answers)

    def close(self) -> None:
        self._requests.close()
        self._process.kill()
        self._answers.close()
        self._process.wait()


class Sockets:
    """The process's side: the sockets of one sequence, each by its place in the list. None of them blocks."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._all: list[socket.socket] = []
        self._names: dict[Any, str] = {}  # addresses and ports, as they are told
        self._folder = tempfile.TemporaryDirectory(prefix="player-")

    def begin(self) -> None:
        """Forget everything."""
        for one in self._all:
            try:
                one.close()
            except OSError:
                pass
        self._all.clear()
        self._names.clear()

    def call(self, name: str, args: tuple[Any, ...]) -> tuple[str, Any]:
        """Return what a method returns, or the name of its error."""
        try:
            return "returned", self._told(getattr(self, name)(*args))
        except OSError as error:
            return "raised", errno.errorcode.get(error.errno or 0, str(error))

    def readiness(self) -> str:
        """What a selector sees of each socket that is open."""
        poll = select.poll()
        numbers = [one.fileno() for one in self._all]
        for number in numbers:
            if number >= 0:
                poll.register(number, select.POLLIN | select.POLLOUT)
        seen = dict(poll.poll(0))
        return " ".join(self._seen(seen.get(number, 0)) if number >= 0 else "x" for number in numbers)

    @staticmethod
    def _seen(events: int) -> str:
        # As selectors has it: an error, or to be hung up, is to be readable and writable.
        return ("r" if events & ~select.POLLOUT else "") + ("w" if events & ~select.POLLIN else "") or "-"

    def _told(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(self._told(part) for part in value)
        is_port = isinstance(value, int) and value >= 1024
        is_path = isinstance(value, str) and value.startswith(self._folder.name)
        is_abstract = isinstance(value, bytes) and value.startswith(b"\0")
        if is_port or is_path or is_abstract:
            return self._names.setdefault(value, f"name {len(self._names)}")
        return value

    def _keep(self, one: socket.socket) -> int:
        one.setblocking(False)
        self._all.append(one)
        return len(self._all) - 1

    def open(self, type: int) -> int:
        return self._keep(socket.socket(FAMILIES[self._kind], type))

    def pair(self) -> int:
        one, other = socket.socketpair()
        self._keep(one)
        return self._keep(other)

    def bind(self, index: int, other: int | None) -> Any:
        address = self._address() if other is None else self._all[other].getsockname()
        self._all[index].bind(address)
        return self._all[index].getsockname()

    def _address(self) -> Any:
        if self._kind == "path":
            return f"{self._folder.name}/{len(os.listdir(self._folder.name))}"
        if self._kind == "abstract":
            return ""
        return "::1" if self._kind == "tcp6" else "127.0.0.1", 0

    def listen(self, index: int) -> None:
        self._all[index].listen(20)

    def connect(self, index: int, other: int) -> None:
        self._all[index].connect(self._all[other].getsockname())

    def accept(self, index: int) -> tuple[int, Any]:
        one, address = self._all[index].accept()
        return self._keep(one), address

    def dup(self, index: int) -> int:
        return self._keep(self._all[index].dup())

    def send(self, index: int, data: bytes) -> int:
        return self._all[index].send(data)

    def sendto(self, index: int, data: bytes, other: int) -> int:
        return self._all[index].sendto(data, self._all[other].getsockname())

    def recv(self, index: int, size: int, peek: bool) -> bytes:
        return self._all[index].recv(size, socket.MSG_PEEK if peek else 0)

    def recvfrom(self, index: int, size: int) -> tuple[bytes, Any]:
        data, address = self._all[index].recvfrom(size)
        return data, address or None

    def shutdown(self, index: int, how: int) -> None:
        self._all[index].shutdown(how)

    def names(self, index: int) -> tuple[Any, Any]:
        one = self._all[index]
        return one.getsockname(), one.getpeername()

    def error(self, index: int) -> str:
        number = self._all[index].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return errno.errorcode.get(number, "none")

    def option(self, index: int, name: str, value: int) -> int:
        option = getattr(socket, name)
        self._all[index].setsockopt(socket.SOL_SOCKET, option, value)
        return self._all[index].getsockopt(socket.SOL_SOCKET, option)

    def linger(self, index: int) -> None:
        self._all[index].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    def close(self, index: int) -> None:
        self._all[index].close()


def main(sockets: str, kind: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # that is for whoever asks
    if sockets == "virtual":
        from socketless import loopback

        loopback.install()
    playing = Sockets(kind)
    methods: dict[str, Callable[..., Any]] = {"begin": playing.begin, "readiness": playing.readiness}
    while True:
        try:
            name, args = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        answer = methods[name]() if name in methods else playing.call(name, args)
        pickle.dump(answer, sys.stdout.buffer)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.path.pop(0)  # the modules beside this one are not for everybody
    main(*sys.argv[1:])
