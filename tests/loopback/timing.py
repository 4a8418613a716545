"""Blocking, non-blocking, and with a timeout; and what signals do to those who wait."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from loopback.checks import (
    CONNECTED,
    LIMIT,
    MOMENT,
    STREAMS,
    Net,
    check,
    fails,
    fill,
    says,
    times_out,
)


def mode(one: socket.socket) -> tuple[float | None, bool, bool]:
    return one.gettimeout(), one.getblocking(), os.get_blocking(one.fileno())


@check(*CONNECTED)
def modes(net: Net) -> None:
    """settimeout() and setblocking() are two ways to say the same; a timeout makes the descriptor non-blocking."""
    for one in net.pair():
        assert mode(one) == (None, True, True)
        one.settimeout(0)
        assert mode(one) == (0.0, False, False)
        one.settimeout(None)
        assert mode(one) == (None, True, True)
        one.settimeout(2)
        assert mode(one) == (2.0, True, False)
        one.setblocking(True)
        assert mode(one) == (None, True, True)
        one.setblocking(False)
        assert mode(one) == (0.0, False, False)
        assert one.timeout == 0.0
        one.setblocking(1 << 40)
        assert mode(one) == (None, True, True)


@check(*CONNECTED)
def is_it_true(net: Net) -> None:
    """setblocking() takes what is true or false since Python 3.12; it took numbers."""
    one = net.pair()[0]
    for flag, timeout in (("no", None), ([], 0.0)):
        if sys.version_info >= (3, 12):
            one.setblocking(flag)
            assert one.gettimeout() == timeout
        else:
            with pytest.raises(TypeError, match="cannot be interpreted as an integer$"):
                one.setblocking(flag)


@check(*STREAMS)
def flag_of_the_type(net: Net) -> None:
    """SOCK_NONBLOCK and SOCK_CLOEXEC are flags: they are not in the type."""
    one = net.stream(socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    assert mode(one) == (0.0, False, False)
    assert (one.type, one.get_inheritable()) == (socket.SOCK_STREAM, False)


@check(*STREAMS)
def default_timeout(net: Net) -> None:
    """setdefaulttimeout() is for all sockets that are made after it."""
    before = net.stream()
    for timeout in (3.0, 0.0):
        socket.setdefaulttimeout(timeout)
        try:
            after = net.stream()
            assert socket.getdefaulttimeout() == timeout
        finally:
            socket.setdefaulttimeout(None)
        assert mode(before) == (None, True, True)
        assert mode(after) == (timeout, bool(timeout), False)


@check("tcp4", "path", "pair")
def timeouts_that_cannot_be(net: Net) -> None:
    """A timeout is a number that is not negative."""
    one = net.pair()[0]
    for call in (one.settimeout, socket.setdefaulttimeout):
        with says(ValueError, "Timeout value out of range"):
            call(-1)
        with says(ValueError, "Invalid value NaN (not a number)"):
            call(float("nan"))
        with pytest.raises(TypeError):
            call("1")
        for timeout in (float("inf"), 10**10, 1e300):
            with pytest.raises(OverflowError):
                call(timeout)
    assert mode(one) == (None, True, True)


@check(*CONNECTED)
def timeouts_of_years(net: Net) -> None:
    """A timeout may be longer than poll() can wait, and as long as those of locks."""
    one, other = net.pair()
    for timeout in (10**9, 3e6, threading.TIMEOUT_MAX):
        one.settimeout(timeout)
        one.sendall(b"x")
        task = net.in_thread(lambda: [one.recv(1), one.recv(1)])
        for _ in range(2):
            assert task.still_runs()
            other.sendall(b"x")
        assert task.result() == [b"x", b"x"]


def calls_that_wait(one: socket.socket) -> list[Callable[[], object]]:
    """Return every call that waits, of a socket that has nothing to read and no room to write."""
    buffer = bytearray(1)
    return [
        lambda: one.recv(1),
        lambda: one.recvfrom(1),
        lambda: one.recv_into(buffer),
        lambda: one.recvfrom_into(buffer),
        lambda: one.recvmsg(1),
        lambda: one.recvmsg_into([buffer]),
        lambda: one.recv(1, socket.MSG_PEEK),
        lambda: one.recv(1, socket.MSG_WAITALL),
        lambda: one.send(b"x"),
        lambda: one.sendall(b"x" * (4 << 20)),
        lambda: one.sendmsg([b"x"]),
    ]


@check(*CONNECTED)
def times_out_everywhere(net: Net) -> None:
    """Every call that waits ends with TimeoutError after the timeout, not before."""
    one, _ = net.pair()
    fill(one)
    one.settimeout(MOMENT)
    for call in calls_that_wait(one):
        started = time.monotonic()
        with times_out():
            call()
        assert MOMENT <= time.monotonic() - started < LIMIT
    assert socket.timeout is TimeoutError


@check(*CONNECTED)
def would_block_everywhere(net: Net) -> None:
    """Every call of a non-blocking socket that would wait raises BlockingIOError at once."""
    one, _ = net.pair()
    fill(one)
    one.setblocking(False)
    for call in calls_that_wait(one):
        with fails(errno.EAGAIN):
            call()


@check(*CONNECTED)
def for_one_call(net: Net) -> None:
    """MSG_DONTWAIT makes one call non-blocking, with a timeout, too."""
    one, _ = net.pair()
    fill(one)
    with fails(errno.EAGAIN):
        one.recv(1, socket.MSG_DONTWAIT)
    with fails(errno.EAGAIN):
        one.send(b"x", socket.MSG_DONTWAIT)
    assert mode(one) == (None, True, True)


@check(*CONNECTED)
def flag_of_the_descriptor(net: Net) -> None:
    """Whoever makes the descriptor itself non-blocking makes the socket so."""
    one, other = net.pair()
    os.set_blocking(one.fileno(), False)
    assert one.gettimeout() is None
    with fails(errno.EAGAIN):
        one.recv(1)
    flags = fcntl.fcntl(one.fileno(), fcntl.F_GETFL)
    fcntl.fcntl(one.fileno(), fcntl.F_SETFL, flags & ~os.O_NONBLOCK)
    other.sendall(b"x")
    assert one.recv(1) == b"x"


@check(*CONNECTED)
def timeouts_of_the_kernel(net: Net) -> None:
    """SO_RCVTIMEO and SO_SNDTIMEO limit blocking calls, which are EAGAIN then."""
    one, _ = net.pair()
    moment = struct.pack("@ll", 0, int(MOMENT * 1_000_000))
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        one.setsockopt(socket.SOL_SOCKET, option, moment)
    with fails(errno.EAGAIN):
        one.recv(1)
    fill(one)
    for _ in range(2):
        with fails(errno.EAGAIN):
            one.recv(1)
    fill(one)  # the kernel has made room meanwhile
    with fails(errno.EAGAIN):
        one.send(b"x" * (1 << 20))


@check(*CONNECTED)
def time_of_the_whole(net: Net) -> None:
    """The timeout of sendall() is for all of it, however many pieces it goes in."""
    one, other = net.pair()
    one.settimeout(5 * MOMENT)
    stop = threading.Event()

    def reads_slowly() -> None:
        while not stop.wait(MOMENT):
            other.recv(1024)

    task = net.in_thread(reads_slowly)
    try:
        with times_out():
            one.sendall(b"x" * (64 << 20))
    finally:
        stop.set()
        task.result()


@check(*CONNECTED)
def timeout_is_for_each_wait(net: Net) -> None:
    """A timeout changed while nobody waits holds for the next call."""
    one, other = net.pair()
    one.settimeout(MOMENT)
    with times_out():
        one.recv(1)
    one.settimeout(LIMIT)
    task = net.in_thread(lambda: one.recv(1))
    assert task.still_runs()
    other.sendall(b"x")
    assert task.result() == b"x"


class Stop(Exception):
    """What a signal's handler raises."""


@contextmanager
def signals(handle: Callable[[int, object], None]) -> Iterator[None]:
    """Send signals to this, the main thread, again and again."""
    left, main = threading.Event(), threading.get_ident()

    def send() -> None:
        while not left.wait(MOMENT / 4):
            signal.pthread_kill(main, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handle)
    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        left.set()
        thread.join()
        signal.signal(signal.SIGUSR1, before)


def do_nothing(number: int, frame: object) -> None:
    """A signal's handler."""


def is_stopped(call: Callable[[], object]) -> None:
    """Assert that a call, which waits for ever, ends by what a signal's handler raises."""
    waits = False

    def handle(number: int, frame: object) -> None:
        nonlocal waits
        if waits:
            waits = False
            raise Stop

    with signals(handle):
        try:
            waits = True
            call()
        except Stop:
            return
    raise AssertionError("nothing was raised")


@check(*CONNECTED)
def handler_raises(net: Net) -> None:
    """What a signal's handler raises, as Ctrl-C does, ends recv() and sendall(), and the socket lives on."""
    for timeout in (None, LIMIT):
        one, other = net.pair()
        one.settimeout(timeout)
        is_stopped(lambda: one.recv(1))  # noqa: B023
        fill(one)
        one.settimeout(timeout)
        is_stopped(lambda: one.sendall(b"x" * (64 << 20)))  # noqa: B023
        other.sendall(b"x")
        assert one.recv(1) == b"x"


@check(*STREAMS)
def handler_raises_in_accept(net: Net) -> None:
    """It ends accept(), and the listener accepts after that."""
    for timeout in (None, LIMIT):
        listener = net.listener()
        listener.settimeout(timeout)
        is_stopped(listener.accept)
        net.connected_to(listener)
        net.accepted(listener)


@check(*STREAMS)
def handler_raises_in_connect(net: Net) -> None:
    """It ends connect() to a full backlog."""
    listener = net.listener(0)
    net.connected_to(listener)
    is_stopped(lambda: net.stream().connect(listener.getsockname()))


@contextmanager
def signalled(number: int) -> Iterator[None]:
    """Send one signal to this thread while it is in the block."""
    main, left = threading.get_ident(), threading.Event()

    def send() -> None:
        if not left.wait(MOMENT):
            signal.pthread_kill(main, number)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        left.set()
        thread.join()


@check(*CONNECTED)
def ctrl_c(net: Net) -> None:
    """Ctrl-C is such a signal."""
    one, _ = net.pair()
    with signalled(signal.SIGINT):
        with pytest.raises(KeyboardInterrupt):
            one.recv(1)


@contextmanager
def handling(handle: Callable[[], object]) -> Iterator[None]:
    """Let a signal come to this thread while it is in the block."""
    before = signal.signal(signal.SIGUSR1, lambda *_: handle())
    try:
        with signalled(signal.SIGUSR1):
            yield
    finally:
        signal.signal(signal.SIGUSR1, before)


@check(*STREAMS)
def handler_closes(net: Net) -> None:
    """A signal's handler may close what its own thread waits for, as servers end: the call fails then."""
    buffer = bytearray(10)
    with net.listener() as listener, handling(listener.close), fails(errno.EBADF):
        listener.accept()
    calls: list[Callable[[socket.socket], object]] = [
        lambda one: one.recv(10),
        lambda one: one.recv_into(memoryview(buffer)),
        lambda one: one.recvfrom(10),
        lambda one: one.recvmsg(10),
        lambda one: [one.sendall(bytes(1 << 20)) for _ in range(100)],
    ]
    for call in calls:
        for question in (b"", b"?"):
            one, other = net.pair()
            one.sendall(question)
            with handling(one.close), fails(errno.EBADF):
                call(one)
            other.close()


@check(*CONNECTED)
def handler_returns(net: Net) -> None:
    """After a handler that returns, the call goes on, and its timeout is not longer for it (PEP 475)."""
    one, _ = net.pair()
    one.settimeout(5 * MOMENT)
    with signals(do_nothing):
        started = time.monotonic()
        with times_out():
            one.recv(1)
        assert 5 * MOMENT <= time.monotonic() - started < LIMIT
        fill(one)
        one.settimeout(5 * MOMENT)
        with times_out():
            one.sendall(b"x" * (64 << 20))


@check(*CONNECTED)
def handler_returns_and_it_arrives(net: Net) -> None:
    """Nothing is lost of what is sent and received meanwhile."""
    one, other = net.pair()
    data = bytes(range(256)) * (16 << 10)
    with signals(do_nothing):
        task = net.in_thread(lambda: one.sendall(data))
        received = b""
        while len(received) < len(data):
            received += other.recv(100_000)
        task.result()
    assert received == data


@check(*STREAMS)
def handler_returns_in_accept(net: Net) -> None:
    """accept() goes on, too."""
    listener = net.listener()
    listener.settimeout(5 * MOMENT)
    with signals(do_nothing), times_out():
        listener.accept()
    net.connected_to(listener)
    net.accepted(listener)


@check(*STREAMS)
def handler_uses_sockets(net: Net) -> None:
    """A signal's handler may use the very sockets that its thread waits for."""
    one, other = net.pair()

    def handle(number: int, frame: object) -> None:
        other.sendall(b"from the handler")

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        with signalled(signal.SIGUSR1):
            assert one.recv(100) == b"from the handler"
    finally:
        signal.signal(signal.SIGUSR1, before)
