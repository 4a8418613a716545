"""asyncio on sockets: streams, servers, transports, datagrams, TLS, and the sock_ methods of the loop."""

from __future__ import annotations

import asyncio
import errno
import os
import select
import socket
import ssl
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from loopback.checks import IP, LIMIT, MOMENT, STREAMS, Net, check, fails, receive, receive_all
from loopback.tls import of_client, of_server

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter
Handler = Callable[[Reader, Writer], Awaitable[None]]


def running(function: Callable[[Net], Coroutine[Any, Any, None]]) -> Callable[[Net], None]:
    """Let a check be a coroutine."""

    def run(net: Net) -> None:
        asyncio.run(asyncio.wait_for(function(net), LIMIT))

    run.__name__, run.__doc__, run.__module__ = function.__name__, function.__doc__, function.__module__
    return run


async def upper(reader: Reader, writer: Writer) -> None:
    """A server that answers in capitals until the end."""
    while data := await reader.read(1 << 16):
        writer.write(data.upper())
        await writer.drain()
    writer.close()
    await writer.wait_closed()


@asynccontextmanager
async def serving(net: Net, handler: Handler = upper, **options: Any) -> AsyncIterator[asyncio.Server]:
    if net.is_ip:
        server = await asyncio.start_server(handler, net.host, 0, **options)
    else:
        server = await asyncio.start_unix_server(handler, net.address(), **options)
    async with server:
        yield server


async def opened(net: Net, server: asyncio.Server, **options: Any) -> tuple[Reader, Writer]:
    address = server.sockets[0].getsockname()
    if net.is_ip:
        return await asyncio.open_connection(*address[:2], **options)
    return await asyncio.open_unix_connection(address, **options)


async def closed(writer: Writer) -> None:
    writer.close()
    await writer.wait_closed()


@check(*STREAMS)
@running
async def streams(net: Net) -> None:
    """A client asks, and the server answers, until the end."""
    async with serving(net) as server:
        reader, writer = await opened(net, server)
        for question in (b"tea", b"coffee"):
            writer.write(question)
            assert await reader.readexactly(len(question)) == question.upper()
        writer.write_eof()
        assert await reader.read() == b""
        await closed(writer)


@check(*STREAMS)
@running
async def many(net: Net) -> None:
    """A hundred clients at once."""

    async def ask(number: int) -> None:
        reader, writer = await opened(net, server)
        for turn in range(5):
            question = b"number %d, turn %d\n" % (number, turn)
            writer.write(question)
            assert await reader.readline() == question.upper()
        await closed(writer)

    async with serving(net) as server:
        await asyncio.gather(*(ask(number) for number in range(100)))


@check(*STREAMS)
@running
async def large(net: Net) -> None:
    """Much goes both ways at once, and the writer waits for the reader."""
    data = os.urandom(1 << 20) * 8

    async def echo(reader: Reader, writer: Writer) -> None:
        while part := await reader.read(1 << 16):
            writer.write(part)
            await writer.drain()
        await closed(writer)

    async def send() -> None:
        for start in range(0, len(data), 1 << 18):
            writer.write(data[start : start + (1 << 18)])
            await writer.drain()
        writer.write_eof()

    async with serving(net, echo) as server:
        reader, writer = await opened(net, server)
        sending = asyncio.create_task(send())
        assert await reader.read() == data
        await sending
        await closed(writer)


@check(*STREAMS)
@running
async def back_pressure(net: Net) -> None:
    """drain() waits while the peer does not read, and goes on once it does."""
    read = asyncio.Event()
    got = 0

    async def later(reader: Reader, writer: Writer) -> None:
        nonlocal got
        await read.wait()
        while part := await reader.read(1 << 20):
            got += len(part)
        await closed(writer)

    async with serving(net, later) as server:
        reader, writer = await opened(net, server)
        writer.write(b"x" * (32 << 20))
        draining = asyncio.create_task(writer.drain())
        await asyncio.wait([draining], timeout=2 * MOMENT)
        assert not draining.done()
        read.set()
        await draining
        writer.write_eof()
        await reader.read()
        assert got == 32 << 20
        await closed(writer)


@check(*IP)
@running
async def refused(net: Net) -> None:
    """Nobody there: the error says where."""
    host, port = net.nobody()[:2]
    address = (host, port, 0, 0) if net.family == socket.AF_INET6 else (host, port)
    with pytest.raises(ConnectionRefusedError) as raised:
        await asyncio.open_connection(host, port)
    assert str(raised.value) == f"[Errno {errno.ECONNREFUSED}] Connect call failed {address}"


@check("tcp4")
@running
async def refused_by_name(net: Net) -> None:
    """So it does for localhost, whichever addresses that has."""
    with pytest.raises(OSError, match="Connect call failed") as raised:
        await asyncio.open_connection("localhost", net.nobody()[1])
    assert raised.value.errno in (errno.ECONNREFUSED, None)


@check("path", "abstract")
@running
async def refused_by_path(net: Net) -> None:
    """A path that nobody has."""
    with pytest.raises(FileNotFoundError if net.kind == "path" else ConnectionRefusedError):
        await asyncio.open_unix_connection(net.address())


@check("tcp4")
@running
async def in_use(net: Net) -> None:
    """A port that is in use: the error says which."""
    async with serving(net) as server:
        address = server.sockets[0].getsockname()
        with pytest.raises(OSError, match="while attempting to bind on address") as raised:
            await asyncio.start_server(upper, *address)
        assert raised.value.errno == errno.EADDRINUSE


@check("tcp4")
@running
async def everywhere(net: Net) -> None:
    """A server on all addresses is reached by each, and localhost finds it."""
    for host in (None, "", "0.0.0.0", "localhost"):
        async with await asyncio.start_server(upper, host, 0) as server:
            ports = {one.family: one.getsockname()[1] for one in server.sockets}
            reader, writer = await asyncio.open_connection("127.0.0.1", ports[socket.AF_INET])
            writer.write(b"x")
            assert await reader.readexactly(1) == b"X"
            await closed(writer)
    async with await asyncio.start_server(upper, "localhost", 0) as server:
        port = server.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("localhost", port, happy_eyeballs_delay=0.25)
        await closed(writer)


@check("tcp4")
@running
async def shared_port(net: Net) -> None:
    """reuse_port lets two servers have one port; reuse_address lets one come back at once."""
    async with await asyncio.start_server(upper, net.host, 0, reuse_port=True) as one:
        port = one.sockets[0].getsockname()[1]
        async with await asyncio.start_server(upper, net.host, port, reuse_port=True):
            reader, writer = await asyncio.open_connection(net.host, port)
            writer.write(b"x")
            assert await reader.readexactly(1) == b"X"
            await closed(writer)
    async with await asyncio.start_server(upper, net.host, port):
        pass


@check(*STREAMS)
@running
async def what_is_known(net: Net) -> None:
    """Transports and servers tell names and sockets."""
    names: list[Any] = []

    async def note(reader: Reader, writer: Writer) -> None:
        names.extend(writer.get_extra_info(name) for name in ("peername", "sockname"))
        names.append(writer.get_extra_info("socket").family)
        await closed(writer)

    async with serving(net, note) as server:
        listening = server.sockets[0]
        assert listening.type == socket.SOCK_STREAM
        reader, writer = await opened(net, server)
        mine = writer.get_extra_info("sockname")
        assert writer.get_extra_info("peername") == listening.getsockname()
        assert writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM
        await reader.read()
        await closed(writer)
        assert names == [mine, listening.getsockname(), net.family]


@check(*STREAMS)
@running
async def ends(net: Net) -> None:
    """A peer that closes, and one that has said all but goes on to read, are an end to who reads."""

    async def end(reader: Reader, writer: Writer) -> None:
        way = await reader.readexactly(1)
        writer.write(b"last")
        if way == b"h":
            writer.write_eof()
            assert await reader.read() == b"more"
        await closed(writer)

    async with serving(net, end) as server:
        for way in (b"c", b"h"):
            reader, writer = await opened(net, server)
            writer.write(way)
            assert await reader.read() == b"last"
            assert reader.at_eof()
            if way == b"h":
                writer.write(b"more")
            await closed(writer)


@check(*IP)
@running
async def resets(net: Net) -> None:
    """A peer that resets the connection is a ConnectionResetError to who reads."""

    async def abort(reader: Reader, writer: Writer) -> None:
        linger = b"\1\0\0\0\0\0\0\0"
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    async with serving(net, abort) as server:
        reader, writer = await opened(net, server)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        with pytest.raises(ConnectionResetError):
            await writer.wait_closed()


@check(*STREAMS)
@running
async def writes_to_the_gone(net: Net) -> None:
    """Who goes on writing to a peer that has gone is told."""

    async def leave(reader: Reader, writer: Writer) -> None:
        await closed(writer)

    async with serving(net, leave) as server:
        reader, writer = await opened(net, server)
        await reader.read()
        with pytest.raises(ConnectionError):  # noqa: PT012
            while True:
                writer.write(b"x" * 1000)
                await writer.drain()
                await asyncio.sleep(0)
        writer.close()


@check(*STREAMS)
@running
async def cancelled(net: Net) -> None:
    """What is cancelled while it waits leaves a connection that works."""
    async with serving(net) as server:
        reader, writer = await opened(net, server)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(reader.read(1), MOMENT)
        writer.write(b"x")
        assert await reader.read(1) == b"X"
        await closed(writer)


@check(*STREAMS)
@running
async def paused(net: Net) -> None:
    """A transport that is paused receives nothing until it is resumed."""
    async with serving(net) as server:
        reader, writer = await opened(net, server)
        transport = writer.transport
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()
        writer.write(b"x")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(reader.read(1), MOMENT)
        transport.resume_reading()
        assert await reader.read(1) == b"X"
        await closed(writer)


@check(*STREAMS)
@running
async def low_level(net: Net) -> None:
    """The sock_ methods of the loop connect, accept, send and receive."""
    loop = asyncio.get_running_loop()
    listener, client = net.listener(), net.nonblocking()
    listener.setblocking(False)
    accepting = asyncio.create_task(loop.sock_accept(listener))
    await asyncio.sleep(0)
    await loop.sock_connect(client, listener.getsockname())
    server, _ = await accepting
    with server:
        assert server.gettimeout() == 0
        receiving = asyncio.create_task(loop.sock_recv(server, 10))
        await asyncio.sleep(0)
        await loop.sock_sendall(client, b"tea")
        assert await receiving == b"tea"
        buffer = bytearray(10)
        filling = asyncio.create_task(loop.sock_recv_into(client, buffer))
        await asyncio.sleep(0)
        await loop.sock_sendall(server, b"TEA")
        assert await filling == 3
        assert buffer[:3] == b"TEA"
        data = os.urandom(1 << 20) * 4
        sending = asyncio.create_task(loop.sock_sendall(client, data))
        received = b""
        while len(received) < len(data):
            received += await loop.sock_recv(server, 1 << 20)
        assert received == data
        await sending
        client.close()
        assert await loop.sock_recv(server, 1) == b""


@check(*STREAMS)
@running
async def low_level_fails(net: Net) -> None:
    """They fail as the calls do, and can be cancelled."""
    loop = asyncio.get_running_loop()
    with pytest.raises(ConnectionRefusedError):
        await loop.sock_connect(net.nonblocking(), net.nobody())
    listener = net.listener()
    listener.setblocking(False)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(loop.sock_accept(listener), MOMENT)
    client = net.connected_to(listener)
    server, _ = await loop.sock_accept(listener)
    with server:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(loop.sock_recv(server, 1), MOMENT)
        client.sendall(b"x")
        assert await loop.sock_recv(server, 1) == b"x"
        server.send(b"never read")
        client.close()
        with pytest.raises(ConnectionResetError):
            await loop.sock_recv(server, 1)


@check(*STREAMS)
@running
async def low_level_datagrams(net: Net) -> None:
    """From Python 3.11 on, there are such methods for datagrams."""
    if sys.version_info < (3, 11):
        return
    loop = asyncio.get_running_loop()
    one, other = net.datagram(), net.datagram()
    for each in (one, other):
        each.setblocking(False)
    receiving = asyncio.create_task(loop.sock_recvfrom(one, 100))
    await asyncio.sleep(0)
    await loop.sock_sendto(other, b"tea", one.getsockname())
    data, address = await receiving
    assert (data, address) == (b"tea", other.getsockname())
    await loop.sock_sendto(one, b"TEA", address)
    buffer = bytearray(10)
    assert await loop.sock_recvfrom_into(other, buffer) == (3, one.getsockname())


@check("pair")
@running
async def watched(net: Net) -> None:
    """add_reader() and add_writer() watch a socket, by object or number."""
    loop = asyncio.get_running_loop()
    one, other = net.pair()
    for what in (one, one.fileno()):
        readable, writable = asyncio.Event(), asyncio.Event()
        loop.add_reader(what, readable.set)
        loop.add_writer(what, writable.set)
        await writable.wait()
        assert loop.remove_writer(what)
        assert not readable.is_set()
        other.send(b"x")
        await readable.wait()
        assert loop.remove_reader(what)
        assert not loop.remove_reader(what)
        assert one.recv(1) == b"x"


@check("pair", "tcp4")
@running
async def sockets_of_others(net: Net) -> None:
    """A socket that was made elsewhere can be given to the loop: connected, accepted, or listening."""
    one, other = net.pair()
    reader, writer = await asyncio.open_connection(sock=one)
    other.sendall(b"x")
    assert await reader.read(1) == b"x"
    loop = asyncio.get_running_loop()
    protocol = asyncio.StreamReaderProtocol(far := asyncio.StreamReader())
    transport, _ = await loop.connect_accepted_socket(lambda: protocol, other)
    writer.write(b"y")
    assert await far.read(1) == b"y"
    transport.close()
    assert await reader.read() == b""
    await closed(writer)
    if net.is_ip:
        async with await asyncio.start_server(upper, sock=net.listener()) as server:
            reader, writer = await opened(net, server)
            writer.write(b"x")
            assert await reader.readexactly(1) == b"X"
            await closed(writer)


class Datagrams(asyncio.DatagramProtocol):
    """Notes what happens."""

    def __init__(self, answers: bool = False) -> None:
        self.answers = answers
        self.seen: asyncio.Queue[Any] = asyncio.Queue()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        if self.answers:
            self.transport.sendto(data.upper(), address)
        self.seen.put_nowait((data, address))

    def error_received(self, error: Exception) -> None:
        self.seen.put_nowait(error)

    def connection_lost(self, error: Exception | None) -> None:
        self.seen.put_nowait(("lost", error))


@check(*IP)
@running
async def datagram_endpoints(net: Net) -> None:
    """Datagram endpoints meet, connected and not; who is refused is told."""
    loop = asyncio.get_running_loop()
    server, protocol = await loop.create_datagram_endpoint(lambda: Datagrams(True), local_addr=(net.host, 0))
    address = server.get_extra_info("sockname")
    client, seen = await loop.create_datagram_endpoint(Datagrams, remote_addr=address[:2])
    assert client.get_extra_info("peername") == address
    client.sendto(b"tea")
    assert await seen.seen.get() == (b"TEA", address)
    assert await protocol.seen.get() == (b"tea", client.get_extra_info("sockname"))
    client.sendto(b"x", address)
    assert (await seen.seen.get())[0] == b"X"
    server.close()
    assert (await protocol.seen.get())[0] == b"x"
    assert await protocol.seen.get() == ("lost", None)
    client.sendto(b"to nobody")
    error = await seen.seen.get()
    assert isinstance(error, ConnectionRefusedError)
    client.close()
    assert await seen.seen.get() == ("lost", None)


@check("path")
@running
async def unix_datagram_endpoints(net: Net) -> None:
    """So do those of UNIX sockets."""
    loop = asyncio.get_running_loop()
    name = net.address()
    server, protocol = await loop.create_datagram_endpoint(
        lambda: Datagrams(True), local_addr=name, family=socket.AF_UNIX
    )
    mine = net.address()
    client, seen = await loop.create_datagram_endpoint(Datagrams, mine, name, family=socket.AF_UNIX)
    client.sendto(b"tea")
    assert await seen.seen.get() == (b"TEA", name)
    assert await protocol.seen.get() == (b"tea", mine)
    server.close()
    client.close()
    await protocol.seen.get()


@check(*STREAMS)
@running
async def secure(net: Net) -> None:
    """A server with TLS and its client: certificates, names and protocols are told."""
    server_context, client_context = of_server(), of_client()
    for context in (server_context, client_context):
        context.set_alpn_protocols(["h2"])
    async with serving(net, ssl=server_context) as server:
        reader, writer = await opened(net, server, ssl=client_context, server_hostname="localhost")
        writer.write(b"tea")
        assert await reader.readexactly(3) == b"TEA"
        info = writer.get_extra_info("ssl_object")
        assert info.selected_alpn_protocol() == "h2"
        assert writer.get_extra_info("peercert")["subjectAltName"] == (("DNS", "localhost"),)
        await closed(writer)


@check("tcp4", "path")
@running
async def large_and_secure(net: Net) -> None:
    """Much goes through TLS both ways."""
    data = os.urandom(1 << 20) * 4

    async def echo(reader: Reader, writer: Writer) -> None:
        writer.write(await reader.readexactly(len(data)))
        await writer.drain()
        await closed(writer)

    async with serving(net, echo, ssl=of_server()) as server:
        reader, writer = await opened(net, server, ssl=of_client(), server_hostname="localhost")
        writer.write(data)
        assert await reader.readexactly(len(data)) == data
        await closed(writer)


@check("tcp4")
@running
async def insecure(net: Net) -> None:
    """A server that is not trusted, one that speaks no TLS, and one that says nothing at all."""
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)  # the server's side complains, too
    async with serving(net, ssl=of_server()) as server:
        with pytest.raises(ssl.SSLCertVerificationError):
            await opened(net, server, ssl=ssl.create_default_context(), server_hostname="localhost")
        with pytest.raises(ssl.SSLCertVerificationError):
            await opened(net, server, ssl=of_client(), server_hostname="elsewhere.example")
    async with serving(net) as server:
        with pytest.raises(ssl.SSLError):
            await opened(net, server, ssl=of_client(), server_hostname="localhost")
    silent = net.listener()
    with pytest.raises(ConnectionAbortedError, match="SSL handshake is taking longer"):
        await asyncio.open_connection(
            *silent.getsockname(), ssl=of_client(), server_hostname="localhost", ssl_handshake_timeout=MOMENT
        )


@check("tcp4", "path", "pair")
@running
async def upgraded(net: Net) -> None:
    """start_tls() on both sides makes a plain connection a secure one."""
    loop = asyncio.get_running_loop()
    one, other = net.pair()
    _, mine = await asyncio.open_connection(sock=one)
    far, theirs = await asyncio.open_connection(sock=other)
    mine.write(b"STARTTLS\n")
    assert await far.readline() == b"STARTTLS\n"

    async def upgrade(writer: Writer, reader: Reader, context: ssl.SSLContext, **options: Any) -> asyncio.Transport:
        protocol = asyncio.StreamReaderProtocol(reader)
        transport = await loop.start_tls(writer.transport, protocol, context, **options)  # type: ignore[arg-type]
        assert transport is not None
        reader._transport = transport  # type: ignore[attr-defined]
        return transport

    secure_near, secure_far = asyncio.StreamReader(), asyncio.StreamReader()
    client, server = await asyncio.gather(
        upgrade(mine, secure_near, of_client(), server_hostname="localhost"),
        upgrade(theirs, secure_far, of_server(), server_side=True),
    )
    client.write(b"tea")
    assert await secure_far.readexactly(3) == b"tea"
    server.write(b"TEA")
    assert await secure_near.readexactly(3) == b"TEA"
    client.close()
    assert await secure_far.read() == b""
    server.close()
    await asyncio.sleep(0)
    for writer in (mine, theirs):
        writer.close()


@check("tcp4", "path")
@running
async def sends_a_file(net: Net) -> None:
    """loop.sendfile() and loop.sock_sendfile() send a file, in plain and through TLS."""
    data = os.urandom(300_000)
    loop = asyncio.get_running_loop()
    got: asyncio.Queue[bytes] = asyncio.Queue()

    async def note(reader: Reader, writer: Writer) -> None:
        got.put_nowait(await reader.read())
        await closed(writer)

    with tempfile.TemporaryFile() as file:
        file.write(data)
        for options in ({}, {"ssl": of_server()}):
            client_options = {"ssl": of_client(), "server_hostname": "localhost"} if options else {}
            async with serving(net, note, **options) as server:
                _, writer = await opened(net, server, **client_options)
                assert await loop.sendfile(writer.transport, file, 100, 200_000) == 200_000
                await closed(writer)
                assert await got.get() == data[100:200_100]
        async with serving(net, note) as server:
            client = net.nonblocking()
            await loop.sock_connect(client, server.sockets[0].getsockname())
            assert await loop.sock_sendfile(client, file, 5, None) == len(data) - 5
            client.close()
            assert await got.get() == data[5:]


@check("tcp4", "path")
@running
async def closes_a_server(net: Net) -> None:
    """A server that is closed refuses, and its connections go on; serve_forever() ends when the server is closed."""
    async with serving(net) as server:
        reader, writer = await opened(net, server)
        address = server.sockets[0].getsockname()
        writer.write(b"x")
        assert await reader.readexactly(1) == b"X"
        server.close()
        with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
            net.stream().connect(address)
        writer.write(b"y")
        assert await reader.readexactly(1) == b"Y"
        await closed(writer)
    async with serving(net) as server:
        forever = asyncio.create_task(server.serve_forever())
        await asyncio.sleep(0)
        server.close()
        with pytest.raises(asyncio.CancelledError):
            await forever


@check(*STREAMS)
def two_loops(net: Net) -> None:
    """A loop in one thread serves another loop, and threads without a loop."""
    started: list[tuple[asyncio.AbstractEventLoop, Any, asyncio.Event]] = []
    reading, writing = os.pipe()

    async def serve() -> None:
        stop = asyncio.Event()
        async with serving(net) as server:
            started.append((asyncio.get_running_loop(), server, stop))
            os.write(writing, b"x")
            await stop.wait()

    async def ask() -> None:
        reader, writer = await opened(net, server)
        writer.write(b"tea")
        assert await reader.readexactly(3) == b"TEA"
        await closed(writer)

    task = net.in_thread(lambda: asyncio.run(serve()))
    try:
        assert select.select([reading], [], [], LIMIT)[0]
        loop, server, stop = started[0]
        asyncio.run(ask())
        client = net.stream()
        client.connect(server.sockets[0].getsockname())
        client.sendall(b"coffee")
        assert receive(client, 6) == b"COFFEE"
        client.shutdown(socket.SHUT_WR)
        assert receive_all(client) == b""
        loop.call_soon_threadsafe(stop.set)
        task.result()
    finally:
        os.close(reading)
        os.close(writing)


@check("pair")
@running
async def children(net: Net) -> None:
    """A child with pipes for its input and output works, for which asyncio may take a socketpair()."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "import sys; print(sys.stdin.read().upper(), end='')",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert (await child.communicate(b"tea"))[0] == b"TEA"
    assert child.returncode == 0
    for thread in threading.enumerate():  # until Python 3.12, and then where there are no pidfds
        if thread.name.startswith("asyncio-waitpid"):
            thread.join(LIMIT)


@check("pair")
@running
async def as_pipes(net: Net) -> None:
    """A socket may be given to connect_read_pipe() and connect_write_pipe()."""
    loop = asyncio.get_running_loop()
    one, other = net.pair()
    reader = asyncio.StreamReader()
    reading, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), one.makefile("rb", 0))
    writing, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, other.makefile("wb", 0))
    writing.write(b"tea")
    assert await reader.read(3) == b"tea"
    reading.close()
    writing.close()
    await asyncio.sleep(0)


@check("pair")
def wakes(net: Net) -> None:
    """A loop is woken by other threads, by signals, and by what it gives to threads."""

    async def wait() -> None:
        loop = asyncio.get_running_loop()
        event = asyncio.Event()
        net.in_thread(lambda: loop.call_soon_threadsafe(event.set))
        await event.wait()
        assert await asyncio.to_thread(lambda: 5) == 5
        assert (await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM))[0][4] == ("127.0.0.1", 80)

    asyncio.run(wait())


@check("tcp4")
@running
async def unresolved(net: Net) -> None:
    """A host that nobody has is not found."""
    with pytest.raises(socket.gaierror):
        await asyncio.open_connection("no such host", 80)
    with fails(errno.EADDRNOTAVAIL):
        net.stream().bind(("192.0.2.1", 0))
