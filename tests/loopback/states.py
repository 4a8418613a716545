"""What a connection does in each of its states, down to its end: closed, half closed, reset."""

from __future__ import annotations

import errno
import os
import select
import socket
import tempfile

from loopback.checks import (
    CONNECTED,
    IP,
    LIMIT,
    MOMENT,
    STREAMS,
    UNIX,
    Net,
    becomes,
    check,
    fails,
    fill,
    is_readable,
    receive,
    receive_all,
    reset,
    tells_of_a_reset,
    times_out,
)

UNIX_CONNECTED = (*UNIX, "pair")
ERROR = socket.SOL_SOCKET, socket.SO_ERROR


@check(*STREAMS)
def not_connected(net: Net) -> None:
    """Who is not connected neither sends nor receives, and has no peer."""
    for one in (net.stream(), net.bound()):
        with fails(errno.EPIPE if net.is_ip else errno.ENOTCONN):
            one.send(b"x")
        with fails(errno.EPIPE if net.is_ip else errno.ENOTCONN):
            one.sendall(b"x")
        with fails(errno.ENOTCONN if net.is_ip else errno.EINVAL):
            one.recv(1)
        with fails(errno.ENOTCONN if net.is_ip else errno.EINVAL):
            one.recv(1, socket.MSG_PEEK)
        with fails(errno.ENOTCONN):
            one.getpeername()
        assert one.getsockopt(*ERROR) == 0


@check(*IP)
def not_connected_is_not_shut(net: Net) -> None:
    """Who is not connected cannot be shut down, though a UNIX socket can."""
    for how in (socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR):
        with fails(errno.ENOTCONN):
            net.stream().shutdown(how)


@check(*UNIX)
def unix_is_shut_unconnected(net: Net) -> None:
    """A UNIX socket may be shut down before it is connected."""
    for how in (socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR):
        net.stream().shutdown(how)


@check(*CONNECTED)
def closed(net: Net) -> None:
    """A closed socket has no number, and everything fails with EBADF; closing it again does nothing."""
    one = net.pair()[0]
    one.close()
    one.close()
    assert one.fileno() == -1
    for call in (
        lambda: one.recv(1),
        lambda: one.recv_into(bytearray(1)),
        lambda: one.recvfrom(1),
        lambda: one.recvmsg(1),
        lambda: one.send(b"x"),
        lambda: one.sendall(b"x"),
        lambda: one.sendmsg([b"x"]),
        one.getsockname,
        one.getpeername,
        lambda: one.shutdown(socket.SHUT_RDWR),
        lambda: one.getsockopt(*ERROR),
        lambda: one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        lambda: one.setblocking(False),
        lambda: one.settimeout(1),
        one.dup,
        one.get_inheritable,
    ):
        with fails(errno.EBADF):
            call()


@check(*CONNECTED)
def end(net: Net) -> None:
    """After the last byte of a peer that has closed there is an end, again and again."""
    one, other = net.pair()
    other.sendall(b"last")
    other.close()
    assert receive_all(one) == b"last"
    for call in (lambda: one.recv(1), lambda: one.recv(1, socket.MSG_PEEK), lambda: one.recv(1, socket.MSG_WAITALL)):
        assert call() == b""
    assert one.recv_into(bytearray(1)) == 0
    assert one.recvmsg(1)[:2] == (b"", [])
    one.setblocking(False)
    assert one.recv(1) == b""


@check(*UNIX_CONNECTED)
def sends_to_a_closed_unix_peer(net: Net) -> None:
    """To send to a UNIX peer that has closed is EPIPE at once; its name is known still."""
    one, other = net.pair()
    name = one.getpeername()
    other.close()
    for _ in range(2):
        with fails(errno.EPIPE):
            one.send(b"x")
    assert one.recv(1) == b""
    assert one.getpeername() == name


@check(*UNIX_CONNECTED)
def sends_nothing_to_a_closed_unix_peer(net: Net) -> None:
    """Even if that is nothing at all."""
    one, other = net.pair()
    other.close()
    with fails(errno.EPIPE):
        one.send(b"")


@check(*IP)
def sends_to_a_closed_peer(net: Net) -> None:
    """What is first sent to a peer that has closed is lost, and resets the connection; after that it is EPIPE."""
    one, other = net.pair()
    other.close()
    becomes(one, "rw")
    assert one.send(b"lost") == 4
    becomes(one, "rw")
    with fails(errno.EPIPE):
        one.send(b"x")
    assert one.recv(1) == b""
    with fails(errno.ENOTCONN):
        one.getpeername()
    with fails(errno.ENOTCONN):
        one.shutdown(socket.SHUT_RDWR)


@check(*IP)
def sends_much_to_a_closed_peer(net: Net) -> None:
    """Of what is first sent to a peer that has closed, no more is lost than there is room for: the rest is EPIPE."""
    much = bytes(1 << 24)
    for timeout in (None, LIMIT, 0):
        one, other = net.pair()
        other.close()
        becomes(one, "rw")
        one.settimeout(timeout)
        assert 0 < one.send(much) < len(much)
        poll = select.poll()
        poll.register(one, 0)
        assert poll.poll(LIMIT * 1000)
        with fails(errno.EPIPE):
            one.send(b"x")
    for timeout in (None, LIMIT):
        one, other = net.pair()
        other.close()
        becomes(one, "rw")
        one.settimeout(timeout)
        with fails(errno.EPIPE):
            one.sendall(much)
        assert one.recv(1) == b""


@check(*IP)
def sends_a_file_to_a_closed_peer(net: Net) -> None:
    """A file that is sent to a peer that has closed is lost as bytes are, and its end is no error."""
    with tempfile.TemporaryFile() as file:
        file.write(b"abcdef")
        file.flush()
        for offset, position in ((None, 5), (1, 6)):
            os.lseek(file.fileno(), 1 if offset is None else 6, os.SEEK_SET)
            one, other = net.pair()
            other.close()
            becomes(one, "rw")
            assert os.sendfile(one.fileno(), file.fileno(), 6, 4) == 0
            assert os.sendfile(one.fileno(), file.fileno(), offset, 4) == 4
            assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == position
            with fails(errno.EPIPE):
                os.sendfile(one.fileno(), file.fileno(), 0, 4)


@check(*IP)
def error_of_a_closed_peer(net: Net) -> None:
    """That EPIPE is in SO_ERROR."""
    one, other = net.pair()
    other.close()
    assert one.recv(1) == b""
    one.send(b"lost")
    assert [one.getsockopt(*ERROR) for _ in range(2)] == [errno.EPIPE, 0]


@check(*CONNECTED)
def closes_with_unread_data(net: Net) -> None:
    """Who closes with unread data resets the connection: once ECONNRESET, then an end and EPIPE."""
    one, other = net.pair()
    one.sendall(b"never read")
    other.close()
    becomes(one, "rw")
    tells_of_a_reset(one)


@check(*IP)
def reset_before_send(net: Net) -> None:
    """The first send() after a reset says ECONNRESET as well."""
    one, other = net.pair()
    one.sendall(b"never read")
    other.close()
    becomes(one, "rw")
    with fails(errno.ECONNRESET):
        one.send(b"x")
    with fails(errno.EPIPE):
        one.send(b"x")
    assert one.recv(1) == b""


@check(*IP)
def reset_before_nothing_is_sent(net: Net) -> None:
    """Even if that is nothing at all; but who has only closed is sent nothing without an error."""
    one, other = net.pair()
    one.sendall(b"never read")
    other.close()
    becomes(one, "rw")
    for number in (errno.ECONNRESET, errno.EPIPE):
        with fails(number):
            one.send(b"")
    one, other = net.pair()
    other.close()
    assert is_readable(one)
    assert [one.send(b""), one.send(b""), one.send(b"x")] == [0, 0, 1]


@check(*UNIX_CONNECTED)
def reset_of_unix_before_send(net: Net) -> None:
    """To a UNIX socket it says EPIPE, and the reset waits for recv()."""
    one, other = net.pair()
    one.sendall(b"never read")
    other.close()
    with fails(errno.EPIPE):
        one.send(b"x")


@check(*CONNECTED)
def error_of_a_reset(net: Net) -> None:
    """A reset is in SO_ERROR until somebody has asked."""
    one, other = net.pair()
    one.sendall(b"never read")
    other.close()
    becomes(one, "rw")
    assert [one.getsockopt(*ERROR) for _ in range(2)] == [errno.ECONNRESET, 0]
    assert one.recv(1) == b""


@check(*CONNECTED)
def reset_after_it_was_shut(net: Net) -> None:
    """Who has shut its own writing, or its reading, is told of a reset as well."""
    for how in (socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR):
        asked, unasked = net.pair(), net.pair()
        for one, other in (asked, unasked):
            one.sendall(b"never read")
            one.shutdown(how)
            other.close()
            becomes(one, "rw")
        assert [asked[0].getsockopt(*ERROR) for _ in range(2)] == [errno.ECONNRESET, 0]
        assert asked[0].recv(1) == b""
        tells_of_a_reset(unasked[0])


@check(*IP)
def reset_before_send_after_it_was_shut(net: Net) -> None:
    """So is who sends first."""
    one, other = net.pair()
    one.sendall(b"never read")
    one.shutdown(socket.SHUT_WR)
    other.close()
    for number in (errno.ECONNRESET, errno.EPIPE):
        with fails(number):
            one.send(b"x")


@check(*CONNECTED)
def data_before_a_reset(net: Net) -> None:
    """What came before a reset is read first."""
    one, other = net.pair()
    one.sendall(b"never read")
    other.sendall(b"data")
    other.close()
    assert receive(one, 4) == b"data"
    with fails(errno.ECONNRESET):
        one.recv(1)
    assert one.recv(1) == b""


@check(*IP)
def reset_by_linger(net: Net) -> None:
    """Who closes with a linger of 0 resets the connection, with nothing unread."""
    one, other = net.pair()
    reset(other)
    becomes(one, "rw")
    with fails(errno.ENOTCONN):
        one.getpeername()
    tells_of_a_reset(one)
    assert one.getsockname()[0] == net.host


@check(*UNIX_CONNECTED)
def no_linger_of_unix(net: Net) -> None:
    """To a UNIX socket, a linger of 0 is nothing."""
    one, other = net.pair()
    other.sendall(b"x")
    reset(other)
    assert receive_all(one) == b"x"


@check(*CONNECTED)
def linger_keeps_what_is_sent(net: Net) -> None:
    """A closed socket's last data arrive, however much, with a linger time and without."""
    for linger in (None, b"\1\0\0\0\5\0\0\0"):
        one, other = net.pair()
        sent = fill(one)
        if linger:
            task = net.in_thread(lambda: receive_all(other))  # noqa: B023
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            one.close()
            assert len(task.result()) == sent
        else:
            one.close()
            assert len(receive_all(other)) == sent


@check(*CONNECTED)
def reset_while_it_waits(net: Net) -> None:
    """Who waits in recv() is told of a reset."""
    one, other = net.pair()
    one.sendall(b"never read")
    task = net.in_thread(lambda: one.recv(1))
    assert task.still_runs()
    other.close()
    with fails(errno.ECONNRESET):
        task.result()


@check(*CONNECTED)
def end_while_it_waits(net: Net) -> None:
    """Who waits in recv() is told of the end."""
    one, other = net.pair()
    task = net.in_thread(lambda: one.recv(1))
    assert task.still_runs()
    other.close()
    assert task.result() == b""


@check(*CONNECTED)
def sender_waits_for_a_peer_that_closes(net: Net) -> None:
    """Who waits in sendall() for a peer that never reads is told when that closes."""
    one, other = net.pair()
    fill(one)
    task = net.in_thread(lambda: one.sendall(b"x" * (1 << 20)))
    assert task.still_runs()
    other.close()
    with fails(errno.ECONNRESET):
        task.result()


@check(*CONNECTED)
def half_closed(net: Net) -> None:
    """After shutdown(SHUT_WR) the peer reads to the end, and can answer."""
    one, other = net.pair()
    one.sendall(b"question")
    one.shutdown(socket.SHUT_WR)
    assert receive_all(other) == b"question"
    other.sendall(b"answer")
    assert receive(one, 6) == b"answer"
    for _ in range(2):
        with fails(errno.EPIPE):
            one.send(b"x")
    one.setblocking(False)
    with fails(errno.EAGAIN):
        one.recv(1)
    one.shutdown(socket.SHUT_WR)
    other.shutdown(socket.SHUT_WR)
    assert is_readable(one)
    assert one.recv(1) == b""


@check(*IP)
def half_closed_both_ways(net: Net) -> None:
    """Two ends that have both said their last are not connected any more."""
    one, other = net.pair()
    one.shutdown(socket.SHUT_WR)
    assert other.recv(1) == b""
    other.shutdown(socket.SHUT_WR)
    assert one.recv(1) == b""
    for each in (one, other):
        with fails(errno.EPIPE):
            each.send(b"x")
        with fails(errno.ENOTCONN):
            each.getpeername()


@check(*IP)
def half_closed_both_ways_and_unread(net: Net) -> None:
    """Nor are they if nobody has read so far."""
    one, other = net.pair()
    other.sendall(b"unread")
    for each in (one, other):
        each.shutdown(socket.SHUT_WR)
    becomes(one, "rw")
    becomes(other, "rw")
    for each in (one, other):
        with fails(errno.ENOTCONN):
            each.getpeername()
        with fails(errno.ENOTCONN):
            each.shutdown(socket.SHUT_RDWR)
    assert receive_all(one) == b"unread"


@check(*UNIX_CONNECTED)
def half_closed_both_ways_of_unix(net: Net) -> None:
    """The two ends of a UNIX connection stay connected all the same."""
    one, other = net.pair()
    for each in (one, other):
        each.shutdown(socket.SHUT_WR)
    for each in (one, other):
        assert each.recv(1) == b""
        with fails(errno.EPIPE):
            each.send(b"x")
        each.getpeername()
        each.shutdown(socket.SHUT_RDWR)


@check(*IP)
def no_more_reading(net: Net) -> None:
    """After shutdown(SHUT_RD) there is an end, save for what comes even so; the peer may send."""
    one, other = net.pair()
    one.shutdown(socket.SHUT_RD)
    assert one.recv(1) == b""
    other.sendall(b"even so")
    assert is_readable(one)
    assert receive(one, 7) == b"even so"
    assert one.recv(1) == b""
    one.sendall(b"x")
    assert other.recv(1) == b"x"


@check(*UNIX_CONNECTED)
def no_more_reading_of_unix(net: Net) -> None:
    """After shutdown(SHUT_RD) of a UNIX socket there is an end after what came before, and the peer cannot send."""
    one, other = net.pair()
    other.sendall(b"before")
    one.shutdown(socket.SHUT_RD)
    assert receive_all(one) == b"before"
    with fails(errno.EPIPE):
        other.send(b"x")
    one.sendall(b"x")
    assert other.recv(1) == b"x"


@check(*CONNECTED)
def shut_both_ways(net: Net) -> None:
    """shutdown(SHUT_RDWR) ends both directions, for both ends, before anybody closes."""
    one, other = net.pair()
    one.sendall(b"last")
    one.shutdown(socket.SHUT_RDWR)
    assert one.recv(1) == b""
    with fails(errno.EPIPE):
        one.send(b"x")
    assert receive_all(other) == b"last"
    other.close()
    assert one.recv(1) == b""


def pairs(net: Net) -> list[tuple[socket.socket, socket.socket]]:
    """Return a new pair, and one whose first end waits for an answer."""
    new, (one, other) = net.pair(), net.pair()
    one.sendall(b"?")
    assert other.recv(1) == b"?"
    return [new, (one, other)]


@check(*CONNECTED)
def shut_while_it_waits(net: Net) -> None:
    """Who waits in recv() is woken when another thread shuts the socket down: how servers stop their threads."""
    for how in (socket.SHUT_RD, socket.SHUT_RDWR):
        for one, _ in pairs(net):
            task = net.in_thread(lambda: one.recv(1))  # noqa: B023
            assert task.still_runs()
            one.shutdown(how)
            assert task.result() == b""


@check(*CONNECTED)
def shut_while_it_sends(net: Net) -> None:
    """Who waits in sendall() is woken when another thread shuts the socket down."""
    one, _ = net.pair()
    fill(one)
    task = net.in_thread(lambda: one.sendall(b"x" * (1 << 20)))
    assert task.still_runs()
    one.shutdown(socket.SHUT_RDWR)
    with fails(errno.EPIPE):
        task.result()


@check(*CONNECTED)
def shut_in_no_way(net: Net) -> None:
    """There are three ways to shut a socket down."""
    for one in net.pair():
        for how in (3, -1):
            with fails(errno.EINVAL):
                one.shutdown(how)


@check(*CONNECTED)
def closes_while_it_waits(net: Net) -> None:
    """Who waits in recv() while another thread closes the socket goes on to wait, and gets what comes."""
    for one, other in pairs(net):
        task = net.in_thread(lambda: one.recv(1))  # noqa: B023
        assert task.still_runs()
        one.close()
        assert task.still_runs()
        other.sendall(b"x")
        assert task.result() == b"x"


@check(*CONNECTED)
def closes_while_it_waits_with_a_timeout(net: Net) -> None:
    """With a timeout, it looks whether there is something, and finds that its socket has gone."""
    for one, other in pairs(net):
        one.settimeout(30)
        task = net.in_thread(lambda: one.recv(1))  # noqa: B023
        assert task.still_runs()
        one.close()
        other.close()
        with fails(errno.EBADF):
            task.result()


@check(*STREAMS)
def closes_while_it_accepts(net: Net) -> None:
    """Who waits in accept() while another thread closes the listener goes on to wait, and takes who comes."""
    listener = net.listener()
    address = listener.getsockname()
    task = net.in_thread(listener.accept)
    assert task.still_runs()
    listener.close()
    assert task.still_runs()
    client = net.stream()
    client.connect(address)
    server = net.keep(task.result()[0])
    server.sendall(b"x")
    assert client.recv(1) == b"x"


@check(*STREAMS)
def closes_while_it_accepts_with_a_timeout(net: Net) -> None:
    """A timeout of accept() holds when another thread has closed the listener; then it finds that it has gone."""
    listener = net.listener()
    listener.settimeout(4 * MOMENT)
    task = net.in_thread(listener.accept)
    assert task.still_runs()
    listener.close()
    with fails(errno.EBADF):
        task.result()


@check(*CONNECTED)
def one_end_is_dropped(net: Net) -> None:
    """A socket that nobody holds is closed."""
    one, other = net.pair()
    held = one.dup()
    one.close()
    try:
        held.sendall(b"x")
        assert other.recv(1) == b"x"
    finally:
        held.close()
    assert other.recv(1) == b""


@check(*CONNECTED)
def waits_in_vain(net: Net) -> None:
    """An idle connection has nothing to read."""
    for one in net.pair():
        one.settimeout(MOMENT)
        with times_out():
            one.recv(1)
        one.setblocking(False)
        with fails(errno.EAGAIN):
            one.recv(1)
        one.setblocking(True)
        with fails(errno.EAGAIN):
            one.recv(1, socket.MSG_DONTWAIT)
