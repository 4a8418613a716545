"""How bytes travel over a connection: every call that sends or receives, its flags, and how much fits in between."""

from __future__ import annotations

import array
import errno
import os
import random
import select
import socket
import struct
import tempfile

import pytest

from loopback.checks import (
    CONNECTED,
    IP,
    UNIX,
    Net,
    becomes,
    check,
    fails,
    fill,
    is_writable,
    receive,
    receive_all,
    says,
)


@check(*CONNECTED)
def both_ways(net: Net) -> None:
    """Bytes arrive in order, and stay where they are until they are read."""
    for one, other in (net.pair(), net.pair()[::-1]):
        assert one.send(b"abc") == 3
        assert one.sendall(b"def") is None
        assert one.send(bytearray(b"g")) == 1
        assert one.send(memoryview(b"xhx")[1:2]) == 1
        assert one.send(array.array("H", [0x6A69])) == 2
        assert receive(other, 10) == b"abcdefghij"


@check(*CONNECTED)
def any_buffer(net: Net) -> None:
    """What is sent is a bytes-like object."""
    one, _ = net.pair()
    for call in (one.send, one.sendall):
        for wrong in ("text", 1, None):
            with says(TypeError, f"a bytes-like object is required, not '{type(wrong).__name__}'"):
                call(wrong)
        with pytest.raises(BufferError):
            call(memoryview(b"abcd")[::2])


@check(*CONNECTED)
def nothing_at_all(net: Net) -> None:
    """Nothing sent is nothing received, and nothing wanted is had at once."""
    one, other = net.pair()
    assert one.send(b"") == 0
    one.sendall(b"")
    assert one.sendmsg([]) == 0
    assert one.sendmsg([b"", b""]) == 0
    becomes(other, "w")
    other.setblocking(False)
    with fails(errno.EAGAIN):
        other.recv(1)


@check(*CONNECTED)
def none_wanted(net: Net) -> None:
    """recv(0) does nothing and returns at once, whatever there is."""
    one, other = net.pair()
    assert other.recv(0) == b""
    assert other.recv_into(bytearray()) == 0
    one.sendall(b"x")
    assert other.recv(0) == b""
    assert other.recv(1) == b"x"
    if net.kind != "pair":
        assert net.stream().recv(0) == b""


@check(*CONNECTED)
def as_much_as_there_is(net: Net) -> None:
    """recv() returns what there is, up to the size."""
    one, other = net.pair()
    one.sendall(b"abcdef")
    assert other.recv(4) == b"abcd"
    assert other.recv(4) == b"ef"


@check(*CONNECTED)
def into_a_buffer(net: Net) -> None:
    """recv_into() fills the front of a buffer, and leaves the rest."""
    one, other = net.pair()
    one.sendall(b"abcdefghij")
    buffer = bytearray(b"." * 6)
    assert other.recv_into(buffer, 2) == 2
    assert buffer == b"ab...."
    assert other.recv_into(memoryview(buffer)[4:]) == 2
    assert buffer == b"ab..cd"
    assert other.recv_into(buffer, 0) == 6
    assert buffer == b"efghij"
    one.sendall(b"z")
    target = array.array("B", [0, 0])
    count, address = other.recvfrom_into(target)
    assert (count, target.tolist()) == (1, [ord("z"), 0])
    assert not address


@check(*CONNECTED)
def into_any_view(net: Net) -> None:
    """What recv_into() is given may be a view of any shape, if its bytes are in a row and may be written."""
    one, other = net.pair()
    for code in "Bbci":
        for shape in ([8 // struct.calcsize(code)], [2, 4 // struct.calcsize(code)]):
            buffer = bytearray(8)
            one.sendall(b"abcdefg\xf7")
            assert other.recv_into(memoryview(buffer).cast(code, shape=shape)) == 8  # type: ignore[call-overload]
            assert buffer == b"abcdefg\xf7"
    one.sendall(b"ab")
    for view in (memoryview(bytearray(4))[::2], memoryview(bytes(4))):
        with pytest.raises((BufferError, TypeError)):
            other.recv_into(view)
    assert other.recv_into(memoryview(bytearray())) == 0
    assert other.recv(2) == b"ab"


@check(*CONNECTED)
def any_last_byte(net: Net) -> None:
    """What is read may end with any byte, whatever it is read by, also at the end of all."""
    one, other = net.pair()
    file = net.keep(other.makefile("rb"))
    view = memoryview(bytearray(4))
    for number in range(256):
        byte = bytes([number])
        one.sendall(byte)
        assert other.recv(1) == byte
        one.sendall(byte)
        assert (other.recv_into(view), bytes(view[:1])) == (1, byte)
        one.sendall(byte)
        assert file.read(1) == byte
    one.sendall(b"\xf7\xf7")
    one.shutdown(socket.SHUT_WR)
    assert (other.recv_into(view[:1]), file.read(4)) == (1, b"\xf7")


@check(*CONNECTED)
def sizes_that_cannot_be(net: Net) -> None:
    """A size is not negative, and a buffer holds it."""
    one, _ = net.pair()
    buffer = bytearray(2)
    for call, text in (
        (lambda: one.recv(-1), "negative buffersize in recv"),
        (lambda: one.recvfrom(-1), "negative buffersize in recvfrom"),
        (lambda: one.recv_into(buffer, -1), "negative buffersize in recv_into"),
        (lambda: one.recv_into(buffer, 3), "buffer too small for requested bytes"),
        (lambda: one.recvfrom_into(buffer, -1), "negative buffersize in recvfrom_into"),
        (lambda: one.recvfrom_into(buffer, 3), "nbytes is greater than the length of the buffer"),
        (lambda: one.recvmsg(-1), "negative buffer size in recvmsg()"),
        (lambda: one.recvmsg(1, -1), "invalid ancillary data buffer length"),
    ):
        with says(ValueError, text):
            call()
    with pytest.raises(TypeError):
        one.recv_into(b"read-only")
    with pytest.raises(TypeError):
        one.recv()


@check(*CONNECTED)
def looks_ahead(net: Net) -> None:
    """MSG_PEEK leaves what it returns."""
    one, other = net.pair()
    one.sendall(b"abcdef")
    buffer = bytearray(3)
    for _ in range(2):
        assert other.recv(4, socket.MSG_PEEK) == b"abcd"
        assert other.recv_into(buffer, 0, socket.MSG_PEEK) == 3
        assert buffer == b"abc"
        assert other.recvmsg(2, 0, socket.MSG_PEEK)[0] == b"ab"
        assert other.recvfrom(2, socket.MSG_PEEK)[0] == b"ab"
    assert other.recv(10) == b"abcdef"


@check(*CONNECTED)
def waits_for_all(net: Net) -> None:
    """MSG_WAITALL returns once it has all, or at the end."""
    one, other = net.pair()
    task = net.in_thread(lambda: other.recv(6, socket.MSG_WAITALL))
    one.sendall(b"abc")
    assert task.still_runs()
    one.sendall(b"defg")
    assert task.result() == b"abcdef"
    one.sendall(b"h")
    one.close()
    assert other.recv(10, socket.MSG_WAITALL) == b"gh"


@check(*CONNECTED)
def flags_that_change_little(net: Net) -> None:
    """MSG_NOSIGNAL, and MSG_MORE with what follows, send as ever."""
    one, other = net.pair()
    one.sendall(b"abc", socket.MSG_NOSIGNAL)
    if net.is_ip:
        one.send(b"def", socket.MSG_MORE)
        one.send(b"ghi")
        assert receive(other, 9) == b"abcdefghi"


@check(*CONNECTED)
def in_messages(net: Net) -> None:
    """sendmsg() sends several buffers as one, and recvmsg_into() fills several."""
    one, other = net.pair()
    assert one.sendmsg([b"ab", bytearray(b"cd"), memoryview(b"ef")]) == 6
    first, second = bytearray(4), bytearray(4)
    count, ancillary, flags, address = other.recvmsg_into([first, second])
    assert (count, bytes(first), bytes(second)) == (6, b"abcd", b"ef\0\0")
    assert (ancillary, flags & ~socket.MSG_CMSG_CLOEXEC) == ([], 0)
    assert not address
    one.sendmsg(iter([b"gh", b"ij"]))
    data, ancillary, flags, address = other.recvmsg(100)
    assert (data, ancillary) == (b"ghij", [])
    assert one.sendmsg([b"k"], [], 0, None) == 1
    assert other.recv(1) == b"k"


@check(*IP)
def no_address_of_a_stream(net: Net) -> None:
    """recvfrom() of a connected IP socket tells no address, and sendto() takes any."""
    one, other = net.pair()
    assert one.sendto(b"abc", ("192.0.2.1" if net.kind == "tcp4" else "2001:db8::1", 80)) == 3
    assert other.recvfrom(3) == (b"abc", None)


@check(*UNIX, "pair")
def no_address_of_a_unix_stream(net: Net) -> None:
    """sendto() of a connected UNIX socket takes no address, and recvfrom() tells that of the sender, if he has one."""
    one, other = net.pair()
    with fails(errno.EISCONN):
        one.sendto(b"x", net.nobody() if net.kind != "pair" else net.path())
    one.sendall(b"abc")
    assert not other.recvfrom(3)[1]
    with fails(errno.EOPNOTSUPP):
        net.stream().sendto(b"x", net.nobody() if net.kind != "pair" else net.path())


@check(*CONNECTED)
def fills_up(net: Net) -> None:
    """Only so much fits in between; then it is not writable, and becomes so once it is read."""
    one, other = net.pair()
    one.setblocking(False)
    sent = 0
    with fails(errno.EAGAIN):
        while True:
            sent += one.send(random.randbytes(1 << 16) if not sent else b"x" * 65536)
    assert 2048 <= sent <= 64 << 20
    becomes(one, "")
    other.setblocking(False)
    received = 0
    while received < sent:
        select.select([other], [], [])
        received += len(other.recv(1 << 20))
    assert received == sent
    assert is_writable(one)
    assert one.send(b"y") == 1


@check(*CONNECTED)
def part_of_it(net: Net) -> None:
    """A non-blocking send() takes a part of what is too much, and the rest is left to the caller."""
    one, other = net.pair()
    one.setblocking(False)
    data = random.randbytes(32 << 20)
    sent = one.send(data)
    assert 0 < sent < len(data)
    one.setblocking(True)
    one.shutdown(socket.SHUT_WR)
    assert receive_all(other) == data[:sent]


@check(*IP)
def room_for_many(net: Net) -> None:
    """A connection takes some hundred thousand bytes whole, in whatever pieces, before anybody reads."""
    one, other = net.pair()
    one.setblocking(False)
    for _ in range(10):
        assert one.send(b"x" * 20_000) == 20_000
        assert one.sendmsg([b"y" * 3, b"z" * 4_997]) == 5_000
    one.shutdown(socket.SHUT_WR)
    assert receive_all(other) == (b"x" * 20_000 + b"y" * 3 + b"z" * 4_997) * 10


@check(*IP)
def no_errors_in_the_queue(net: Net) -> None:
    """MSG_ERRQUEUE asks for errors, of which there are none, and never waits."""
    one, other = net.pair()
    one.sendall(b"abc")
    receive(other, 1)
    with fails(errno.EAGAIN):
        other.recvmsg(10, 100, socket.MSG_ERRQUEUE)
    assert receive(other, 2) == b"bc"


@check(*CONNECTED)
def nonblocking_sendall(net: Net) -> None:
    """A non-blocking sendall() that cannot send all says so, after a part has gone."""
    one, other = net.pair()
    one.setblocking(False)
    data = random.randbytes(32 << 20)
    with fails(errno.EAGAIN):
        one.sendall(data)
    one.shutdown(socket.SHUT_WR)
    received = receive_all(other)
    assert 0 < len(received) < len(data)
    assert data.startswith(received)


@check(*CONNECTED)
def blocking_send(net: Net) -> None:
    """A blocking send() waits until all is sent, as sendall() does."""
    one, other = net.pair()
    data = random.randbytes(16 << 20)
    for send in (
        one.send,
        one.sendall,
        lambda data: one.send(memoryview(data).cast("Q")),
        lambda data: one.sendall(memoryview(data).cast("Q", [2, len(data) // 16])),
        lambda data: one.sendmsg([data[:100], memoryview(data)[100:]]),
    ):
        task = net.in_thread(lambda: send(data))  # noqa: B023
        assert receive(other, len(data)) == data
        assert task.result() in (len(data), None)


@check(*CONNECTED)
def little_at_once(net: Net) -> None:
    """A reader that takes little each time gets all of what is large."""
    one, other = net.pair()
    data = random.randbytes(4 << 20)
    for send in (one.send, one.sendall):
        task = net.in_thread(lambda: send(data))  # noqa: B023
        received = bytearray()
        while len(received) < len(data):
            received += other.recv(8192)
        assert received == data
        assert task.result() in (len(data), None)


@check(*CONNECTED)
def large_both_ways(net: Net) -> None:
    """Both ends can send much at the same time while both are read."""
    one, other = net.pair()
    there, back = random.randbytes(8 << 20), random.randbytes(8 << 20)
    tasks = [net.in_thread(lambda: one.sendall(there)), net.in_thread(lambda: other.sendall(back))]
    reading = net.in_thread(lambda: receive(one, len(back)))
    assert receive(other, len(there)) == there
    assert reading.result() == back
    for task in tasks:
        task.result()


@check(*CONNECTED)
def many_small(net: Net) -> None:
    """Many small pieces arrive as they were sent, in order."""
    one, other = net.pair()
    pieces = [b"%d," % number for number in range(20_000)]
    task = net.in_thread(lambda: [one.sendall(piece) for piece in pieces])
    whole = b"".join(pieces)
    assert receive(other, len(whole)) == whole
    task.result()


@check(*CONNECTED)
def changes_after_send(net: Net) -> None:
    """What is sent is what the buffer held at that time."""
    one, other = net.pair()
    buffer = bytearray(b"before")
    one.sendall(buffer)
    buffer[:] = b"after!"
    buffer.clear()  # and nobody holds it
    assert receive(other, 6) == b"before"


@check(*CONNECTED)
def small_buffers(net: Net) -> None:
    """Small SO_SNDBUF and SO_RCVBUF let less fit in between."""
    one, other = net.pair()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    other.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    assert fill(one) < 200_000
    data = random.randbytes(1 << 20)
    one, other = net.pair()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    task = net.in_thread(lambda: one.sendall(data))
    assert receive(other, len(data)) == data
    task.result()


@check("path", "abstract", "pair")
def sends_descriptors(net: Net) -> None:
    """Descriptors travel over UNIX sockets with the bytes, and the receiver has others for the same files."""
    one, other = net.pair()
    reading, writing = os.pipe()
    try:
        assert socket.send_fds(one, [b"two"], [reading, writing]) == 3
        data, numbers, flags, _address = socket.recv_fds(other, 100, 5)
        assert (data, len(numbers), flags & socket.MSG_CTRUNC) == (b"two", 2, 0)
        try:
            assert {reading, writing}.isdisjoint(numbers)
            assert all(os.get_inheritable(number) for number in numbers)
            os.write(numbers[1], b"through")
            assert os.read(reading, 7) == b"through"
        finally:
            for number in numbers:
                os.close(number)
    finally:
        os.close(reading)
        os.close(writing)


@check("path", "abstract", "pair")
def sends_sockets(net: Net) -> None:
    """A socket can be sent over a UNIX socket, and is the same connection there."""
    one, other = net.pair()
    near, far = socket.socketpair()
    with near:
        with far:
            socket.send_fds(one, [b"x"], [far.fileno()])
        _, [number], _, _ = socket.recv_fds(other, 1, 1)
        with socket.socket(fileno=number) as arrived:
            near.sendall(b"to the one that was sent")
            assert arrived.recv(100) == b"to the one that was sent"
        assert near.recv(1) == b""


@check("path", "abstract", "pair")
def descriptors_that_nobody_takes(net: Net) -> None:
    """Descriptors that are not asked for, or never read, are closed."""
    one, other = net.pair()
    for take in (True, False):
        reading, writing = os.pipe()
        try:
            socket.send_fds(one, [b"x"], [writing])
            os.close(writing)
            if take:
                data, ancillary, flags, _address = other.recvmsg(1)
                assert (data, ancillary, flags & socket.MSG_CTRUNC) == (b"x", [], socket.MSG_CTRUNC)
            else:
                other.close()
            assert os.read(reading, 1) == b""  # nobody has the other end any more
        finally:
            os.close(reading)


@check(*IP)
def no_descriptors_over_ip(net: Net) -> None:
    """IP sockets carry no descriptors: only the bytes arrive."""
    one, other = net.pair()
    socket.send_fds(one, [b"x"], [one.fileno()])
    assert socket.recv_fds(other, 10, 1)[:2] == (b"x", [])


@check(*CONNECTED)
def sends_a_file(net: Net) -> None:
    """sendfile() sends a file from where it is told, and leaves its position after what was sent."""
    one, other = net.pair()
    data = random.randbytes(3 << 20)
    with tempfile.TemporaryFile() as file:
        file.write(data)
        for offset, count, wanted in (
            (0, None, data),
            (100, None, data[100:]),
            (5, 10, data[5:15]),
            (len(data), 5, b""),
        ):
            task = net.in_thread(lambda: one.sendfile(file, offset, count))  # noqa: B023
            assert receive(other, len(wanted)) == wanted
            assert task.result() == len(wanted)
            assert not wanted or file.tell() == offset + len(wanted)


@check(*CONNECTED)
def sends_no_file(net: Net) -> None:
    """sendfile() wants a binary file, a count that is positive, and a socket that may block."""
    one, _ = net.pair()
    with tempfile.TemporaryFile("w") as text, says(ValueError, "file should be opened in binary mode"):
        one.sendfile(text)
    with tempfile.TemporaryFile() as file:
        with says(ValueError, "count must be a positive integer (got 0)"):
            one.sendfile(file, count=0)
        file.write(b"x")
        file.flush()
        one.setblocking(False)
        with says(ValueError, "non-blocking sockets are not supported"):
            one.sendfile(file)
    with tempfile.TemporaryFile() as file, says(ValueError, "only SOCK_STREAM type sockets are supported"):
        net.stream(socket.SOCK_DGRAM).sendfile(file)


@check(*CONNECTED)
def sends_a_file_that_is_none(net: Net) -> None:
    """sendfile() sends what has no descriptor as well."""
    import io

    one, other = net.pair()
    assert one.sendfile(io.BytesIO(b"abcdef"), 2) == 4
    assert receive(other, 4) == b"cdef"


@check(*IP)
def out_of_band(net: Net) -> None:
    """One byte may be urgent: select() finds it exceptional, and it is not among the others."""
    one, other = net.pair()
    one.sendall(b"before")
    one.send(b"!", socket.MSG_OOB)
    one.sendall(b"after")
    assert select.select([], [], [other], 30)[2] == [other]
    assert other.recv(1, socket.MSG_OOB) == b"!"
    with fails(errno.EINVAL):
        other.recv(1, socket.MSG_OOB)
    assert other.recv(100) == b"before"
    assert other.recv(100) == b"after"


@check(*CONNECTED)
def by_the_descriptor(net: Net) -> None:
    """os.read() and os.write() of the descriptor are recv() and send()."""
    one, other = net.pair()
    os.write(one.fileno(), b"abc")
    assert os.read(other.fileno(), 100) == b"abc"
    one.close()
    assert os.read(other.fileno(), 100) == b""
