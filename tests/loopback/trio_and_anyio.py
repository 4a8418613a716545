"""trio and anyio on sockets."""

from __future__ import annotations

import errno
import os
import socket
import threading
import warnings
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import anyio
import anyio.abc
import pytest
import trio
import trio.testing
from anyio.streams.tls import TLSListener, TLSStream

from loopback.checks import LIMIT, MOMENT, Net, check
from loopback.tls import of_client, of_server


def in_trio(function: Callable[[Net], Coroutine[Any, Any, None]]) -> Callable[[Net], None]:
    """Let a check be a coroutine of trio."""

    async def limited(net: Net) -> None:
        with trio.fail_after(LIMIT):
            await function(net)

    def run(net: Net) -> None:
        trio.run(limited, net)

    run.__name__, run.__doc__, run.__module__ = function.__name__, function.__doc__, function.__module__
    return run


def in_anyio(*backends: str) -> Callable[[Callable[[Net], Coroutine[Any, Any, None]]], Callable[[Net], None]]:
    """Let a check be a coroutine of anyio, on each of these backends."""

    def decorate(function: Callable[[Net], Coroutine[Any, Any, None]]) -> Callable[[Net], None]:
        async def limited(net: Net) -> None:
            with anyio.fail_after(LIMIT):
                await function(net)

        def run(net: Net) -> None:
            for backend in backends:
                anyio.run(limited, net, backend=backend)
            for thread in threading.enumerate():
                if thread.name == "AnyIO worker thread":  # it has been told to end
                    thread.join(LIMIT)

        run.__name__, run.__doc__, run.__module__ = function.__name__, function.__doc__, function.__module__
        return run

    return decorate


async def upper(stream: trio.abc.Stream) -> None:
    async with stream:
        async for data in stream:  # type: ignore[attr-defined]
            await stream.send_all(data.upper())


@check("tcp4", "tcp6")
@in_trio
async def serves(net: Net) -> None:
    """trio serves TCP, by number and by localhost, in plain and with TLS."""
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(
            lambda task_status: trio.serve_tcp(upper, 0, host=net.host, task_status=task_status)
        )
        stream = await trio.open_tcp_stream(*listeners[0].socket.getsockname()[:2])
        async with stream:
            await stream.send_all(b"tea")
            assert await stream.receive_some() == b"TEA"
            await stream.send_eof()
            assert await stream.receive_some() == b""
        secure = await nursery.start(
            lambda task_status: trio.serve_ssl_over_tcp(upper, 0, of_server(), host=net.host, task_status=task_status)
        )
        tcp = await trio.open_tcp_stream(*secure[0].transport_listener.socket.getsockname()[:2])
        async with trio.SSLStream(tcp, of_client(), server_hostname="localhost") as encrypted:
            await encrypted.send_all(b"tea")
            assert await encrypted.receive_some() == b"TEA"
        nursery.cancel_scope.cancel()


@check("tcp4")
@in_trio
async def refused(net: Net) -> None:
    """trio says where nobody is."""
    with pytest.raises(OSError, match="all attempts to connect to 127.0.0.1:"):
        await trio.open_tcp_stream("127.0.0.1", net.nobody()[1])


@check("path")
@in_trio
async def unix(net: Net) -> None:
    """trio opens UNIX sockets."""
    listener = net.listener()
    async with await trio.open_unix_socket(listener.getsockname()) as stream:
        server = trio.SocketStream(trio.socket.from_stdlib_socket(listener.accept()[0]))
        await server.send_all(b"x")
        assert await stream.receive_some() == b"x"
        await server.aclose()
        assert await stream.receive_some() == b""


async def make_pair(net: Net) -> tuple[trio.SocketStream, trio.SocketStream]:
    one, other = net.pair()
    return tuple(trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in (one, other))  # type: ignore[return-value]


@check("tcp4", "path", "pair")
@in_trio
async def as_trio_wants_it(net: Net) -> None:
    """Streams on sockets are what trio's own checks of streams say."""
    listener = None if net.kind == "pair" else net.listener()

    async def make() -> tuple[trio.SocketStream, trio.SocketStream]:
        if listener is None:
            ends = socket.socketpair()
        else:
            client = socket.socket(net.family)
            client.connect(listener.getsockname())
            ends = client, listener.accept()[0]
        one, other = (trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in ends)
        return one, other

    async def make_clogged() -> tuple[trio.SocketStream, trio.SocketStream]:
        one, other = await make()
        for stream in (one, other):
            with suppress(BlockingIOError):
                while True:
                    stream.socket._sock.send(b"x" * 65536)  # type: ignore[attr-defined]
        return one, other

    await trio.testing.check_half_closeable_stream(make, make_clogged)


@check("tcp4", "pair")
@in_trio
async def closes(net: Net) -> None:
    """Who waits when his own task group closes the stream is told, and one that was cancelled can go on."""
    one, other = await make_pair(net)
    with trio.move_on_after(MOMENT) as scope:
        await one.receive_some()
    assert scope.cancelled_caught
    await other.send_all(b"x")
    assert await one.receive_some() == b"x"

    async def wait() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await one.receive_some()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        await one.aclose()
    assert await other.receive_some() == b""
    with pytest.raises(trio.BrokenResourceError):  # noqa: PT012
        while True:
            await other.send_all(b"x")
    await other.aclose()


@check("tcp4", "tcp6")
@in_trio
async def sockets_of_trio(net: Net) -> None:
    """trio.socket is what socket is, but for waiting."""
    with trio.socket.socket(net.family) as listener, trio.socket.socket(net.family) as client:
        await listener.bind(net.address())
        listener.listen()
        async with trio.open_nursery() as nursery:

            async def accept() -> None:
                server, _ = await listener.accept()
                with server:
                    assert await server.recv(10) == b"tea"
                    assert await server.send(b"TEA") == 3

            nursery.start_soon(accept)
            await trio.testing.wait_all_tasks_blocked()
            await client.connect(listener.getsockname())
            await client.send(b"tea")
            assert await client.recv(10) == b"TEA"
        assert await client.recv(10) == b""
    with trio.socket.socket(net.family) as lonely, pytest.raises(ConnectionRefusedError):
        await lonely.connect(net.nobody())


@check("tcp4", "tcp6")
@in_trio
async def datagrams_of_trio(net: Net) -> None:
    """Datagrams go by trio, too."""
    with (
        trio.socket.socket(net.family, socket.SOCK_DGRAM) as one,
        trio.socket.socket(net.family, socket.SOCK_DGRAM) as two,
    ):
        for each in (one, two):
            await each.bind((net.host, 0))
        await one.sendto(b"tea", two.getsockname())
        data, address = await two.recvfrom(10)
        assert (data, address) == (b"tea", one.getsockname())


@check("tcp4", "pair")
@in_trio
async def waits(net: Net) -> None:
    """trio.lowlevel waits for sockets, and is told when one is about to be closed."""
    one, other = net.pair()
    await trio.lowlevel.wait_writable(one)
    other.send(b"x")
    await trio.lowlevel.wait_readable(one)
    assert one.recv(1) == b"x"

    async def wait() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await trio.lowlevel.wait_readable(one)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.notify_closing(one)
    a, b = trio.socket.socketpair()
    with a, b:
        await a.send(b"x")
        assert await b.recv(1) == b"x"


async def echo(stream: anyio.abc.ByteStream) -> None:
    async with stream:
        async for data in stream:
            await stream.send(data.upper())


@check("tcp4", "tcp6")
@in_anyio("asyncio", "trio")
async def anyio_tcp(net: Net) -> None:
    """anyio serves TCP and connects to it, in plain and with TLS."""
    async with await anyio.create_tcp_listener(local_host=net.host) as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, echo)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with await anyio.connect_tcp(net.host, port) as stream:
            await stream.send(b"tea")
            assert await stream.receive() == b"TEA"
            assert stream.extra(anyio.abc.SocketAttribute.remote_address) == (net.host, port)
            await stream.send_eof()
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()
        group.cancel_scope.cancel()
    with pytest.raises(OSError, match="All connection attempts failed|refused"):
        await anyio.connect_tcp(net.host, net.nobody()[1])
    below = await anyio.create_tcp_listener(local_host=net.host)
    async with TLSListener(below, of_server()) as secure:
        async with anyio.create_task_group() as group:
            group.start_soon(secure.serve, echo)
            port = below.extra(anyio.abc.SocketAttribute.local_port)
            plain = await anyio.connect_tcp(net.host, port)
            async with await TLSStream.wrap(plain, hostname="localhost", ssl_context=of_client()) as stream:
                await stream.send(b"tea")
                assert await stream.receive() == b"TEA"
            group.cancel_scope.cancel()


@check("tcp4")
@in_anyio("asyncio")  # trio keeps the thread that has looked the name up
async def anyio_by_name(net: Net) -> None:
    """anyio finds localhost, whichever family the listener has."""
    async with await anyio.create_tcp_listener(local_host="localhost") as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, echo)
        async with await anyio.connect_tcp("localhost", listener.extra(anyio.abc.SocketAttribute.local_port)) as stream:
            data = os.urandom(1 << 20)
            group.start_soon(stream.send, data)
            received = b""
            while len(received) < len(data):
                received += await stream.receive()
            assert received == data.upper()
        group.cancel_scope.cancel()


@check("path")
@in_anyio("asyncio")  # trio keeps the thread that has looked at the path
async def anyio_unix(net: Net) -> None:
    """anyio has UNIX sockets."""
    path = net.path()
    async with await anyio.create_unix_listener(path) as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, echo)
        async with await anyio.connect_unix(path) as stream:
            await stream.send(b"tea")
            assert await stream.receive() == b"TEA"
        group.cancel_scope.cancel()


@check("tcp4", "tcp6")
@in_anyio("asyncio", "trio")
async def anyio_udp(net: Net) -> None:
    """anyio has datagrams, connected and not."""
    async with await anyio.create_udp_socket(local_host=net.host, family=net.family) as one:
        port = one.extra(anyio.abc.SocketAttribute.local_port)
        async with await anyio.create_connected_udp_socket(net.host, port) as other:
            await other.send(b"tea")
            data, (host, far, *_) = await one.receive()
            assert data == b"tea"
            await one.sendto(data.upper(), host, far)
            assert await other.receive() == b"TEA"


@check("pair")
@in_anyio("asyncio", "trio")
async def anyio_waits(net: Net) -> None:
    """anyio waits for sockets."""
    one, other = net.pair()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        await anyio.wait_writable(one)
        other.send(b"x")
        await anyio.wait_readable(one)
    assert one.recv(1) == b"x"
    with anyio.move_on_after(MOMENT) as scope:
        await anyio.wait_readable(one)
    assert scope.cancelled_caught


@check("tcp4")
@in_anyio("asyncio", "trio")
async def anyio_closes(net: Net) -> None:
    """A peer that has gone is a broken stream, or its end."""
    async with await anyio.create_tcp_listener(local_host=net.host) as listener:
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with await anyio.connect_tcp(net.host, port) as stream, await listener.listeners[0].accept() as server:
            await server.aclose()
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()
            with pytest.raises(anyio.BrokenResourceError):  # noqa: PT012
                while True:
                    await stream.send(b"x" * 1000)
    assert net.stream().connect_ex((net.host, port)) == errno.ECONNREFUSED
