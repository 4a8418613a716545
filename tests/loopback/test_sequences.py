"""Whatever is done with sockets, in whatever order, real and virtual ones return, raise and become ready alike."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from loopback.player import Player
from loopback.probe import why_not_real

if sys.platform != "linux":
    pytest.skip("virtual sockets are for Linux", allow_module_level=True)

KINDS = ("tcp4", "tcp6", "path", "abstract")
TURNS = 200  # to look again, before it is said that readiness differs

a_socket = st.integers(0, 7)
some_data = st.sampled_from([b"", b"a", b"bcd", b"e" * 700])
a_size = st.sampled_from([1, 2, 1000])


class Machine(RuleBasedStateMachine):
    """Does the same with both, and compares. A socket is meant by its number, counted round among those that may do it.

    What is left out is what no program does: to go on with a socket whose connect() was refused, to shut down what is
    not connected, to bind what has a name, to send a datagram to who has connected to another one. There virtual ones
    differ in the small print; see lacks.py for the rest.
    """

    players: tuple[Player, Player]
    kind: str
    datagrams: bool

    def __init__(self) -> None:
        super().__init__()
        self._states: list[str] = []  # of each socket: new, bound, listening, connected, over; copies share it
        self._files: list[int] = []  # of each socket: whose copy it is, or itself
        for player in self.players:
            player.ask("begin")

    def _do(self, name: str, *args: Any) -> tuple[str, Any]:
        real, virtual = (player.ask(name, *args) for player in self.players)
        assert virtual == real
        self._compare_readiness()
        return real

    def _compare_readiness(self) -> None:
        for _ in range(TURNS):  # the kernel may hand something over a little later
            real, virtual = (player.ask("readiness") for player in self.players)
            if virtual == real:
                return
        assert virtual == real

    def _one(self, number: int, *states: str) -> int | None:
        """Return one of the sockets that are in one of these states; `None`: there is none."""
        found = [one for one, file in enumerate(self._files) if not states or self._states[file] in states]
        return found[number % len(found)] if found else None

    def _add(self, state: str, file: int | None = None) -> None:
        self._states.append(state)
        self._files.append(len(self._files) if file is None else file)

    def _becomes(self, one: int, state: str) -> None:
        self._states[self._files[one]] = state

    @property
    def type(self) -> int:
        return int(socket.SOCK_DGRAM if self.datagrams else socket.SOCK_STREAM)

    @initialize(pair=st.booleans())
    def begin(self, pair: bool) -> None:
        for _ in range(2):
            self.open()
        if pair and self.kind in ("path", "abstract") and not self.datagrams:
            self._do("pair")
            self._add("connected")
            self._add("connected")

    @rule()
    def open(self) -> None:
        self._do("open", self.type)
        self._add("new")

    @rule(number=a_socket)
    def dup(self, number: int) -> None:
        one = self._one(number, "new", "bound", "listening", "connected")
        if one is not None and self._do("dup", one)[0] == "returned":
            self._add("", self._files[one])

    @rule(number=a_socket)
    def bind(self, number: int) -> None:
        one = self._one(number, "new")
        if one is not None:
            self._do("bind", one, None)
            self._becomes(one, "bound")

    @rule(number=a_socket, other=a_socket)
    def bind_alike(self, number: int, other: int) -> None:
        one, like = self._one(number, "new"), self._one(other, "bound", "listening")
        if one is not None and like is not None and self._do("bind", one, like)[0] == "returned":
            self._becomes(one, "bound")

    @rule(number=a_socket)
    def listen(self, number: int) -> None:
        one = self._one(number, "new", "bound", "listening", "connected")
        if one is not None and self._do("listen", one)[0] == "returned":
            self._becomes(one, "listening")

    @rule(number=a_socket, other=a_socket)
    def connect(self, number: int, other: int) -> None:
        one, listener = self._one(number, "new", "bound", "connected"), self._one(other, "listening")
        if self.datagrams:
            one, listener = self._one(number, "new", "connected"), self._one(other, "bound")
        if one is None or listener is None or self._files[one] == self._files[listener]:
            return
        if (what := self._do("connect", one, listener))[0] == "returned" or what[1] in ("EINPROGRESS", "EISCONN"):
            self._becomes(one, "connected")
        else:
            self._becomes(one, "over")

    @rule(number=a_socket)
    def accept(self, number: int) -> None:
        one = self._one(number)
        if one is not None and self._do("accept", one)[0] == "returned":
            self._add("connected")

    @rule(number=a_socket, data=some_data)
    def send(self, number: int, data: bytes) -> None:
        one = self._one(number, "connected") if self.datagrams else self._one(number, "new", "listening", "connected")
        if one is not None:
            self._do("send", one, data)

    @rule(number=a_socket, data=some_data, other=a_socket)
    def sendto(self, number: int, data: bytes, other: int) -> None:
        one, target = self._one(number, "bound"), self._one(other, "bound")
        if self.datagrams and one is not None and target is not None:
            self._do("sendto", one, data, target)

    @rule(number=a_socket, size=a_size, peek=st.booleans())
    def recv(self, number: int, size: int, peek: bool) -> None:
        one = self._one(number, "new", "bound", "listening", "connected")
        if one is not None:
            self._do("recv", one, size, peek)

    @rule(number=a_socket, size=a_size)
    def recvfrom(self, number: int, size: int) -> None:
        one = self._one(number, "bound", "connected")
        if one is not None:
            self._do("recvfrom", one, size)

    @rule(number=a_socket, how=st.integers(1, 2))
    def shutdown(self, number: int, how: int) -> None:
        one = self._one(number, "connected")
        if one is not None and not self.datagrams:
            self._do("shutdown", one, how)

    @rule(number=a_socket)
    def names(self, number: int) -> None:
        one = self._one(number, "new", "bound", "listening", "connected")
        if one is not None:
            self._do("names", one)

    @rule(number=a_socket)
    def error(self, number: int) -> None:
        one = self._one(number)
        if one is not None:
            self._do("error", one)

    @rule(number=a_socket, name=st.sampled_from(["SO_REUSEADDR", "SO_KEEPALIVE"]), value=st.integers(0, 1))
    def option(self, number: int, name: str, value: int) -> None:
        one = self._one(number, "new")
        if one is not None:
            self._do("option", one, name, value)

    @rule(number=a_socket)
    def linger(self, number: int) -> None:
        one = self._one(number)
        if one is not None:
            self._do("linger", one)

    @rule(number=a_socket)
    def close(self, number: int) -> None:
        one = self._one(number)
        if one is not None:
            self._do("close", one)
            if self._files.count(self._files[one]) == 1:
                self._becomes(one, "closed")


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def players(kind: str) -> Iterator[tuple[Player, Player]]:
    if reason := why_not_real():
        pytest.skip(reason)
    pair = Player("real", kind), Player("virtual", kind)
    yield pair
    for player in pair:
        player.close()


@pytest.mark.slow
@pytest.mark.parametrize("datagrams", [False, True], ids=["streams", "datagrams"])
def test_sequences(players: tuple[Player, Player], kind: str, datagrams: bool) -> None:
    """Any sequence of calls does the same with both."""
    machine = type("Sequence", (Machine,), {"players": players, "kind": kind, "datagrams": datagrams})
    limits = settings(
        max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    run_state_machine_as_test(machine, settings=limits)
