"""TLS over sockets, by `SSLContext.wrap_socket`: both sides, their certificates, their errors and their ends."""

from __future__ import annotations

import errno
import os
import select
import socket
import ssl
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

import pytest
import trustme

from loopback.checks import MOMENT, Net, check, receive, receive_all, reset, says
from socketless.loopback import is_installed

KINDS = ("tcp4", "tcp6", "path", "pair")


AUTHORITY = trustme.CA()
STRANGER = trustme.CA()


def of_server(name: str = "localhost", **settings: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate_for(name).configure_cert(context)
    return changed(context, settings)


def of_client(**settings: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    AUTHORITY.configure_trust(context)
    return changed(context, settings)


def changed(context: ssl.SSLContext, settings: dict[str, Any]) -> ssl.SSLContext:
    for name, value in settings.items():
        setattr(context, name, value)
    return context


@cache
def certificate_for(name: str) -> trustme.LeafCert:
    return AUTHORITY.issue_cert(name)


def wrapped(
    net: Net, client: ssl.SSLContext | None = None, server: ssl.SSLContext | None = None, name: str = "localhost"
) -> tuple[ssl.SSLSocket, ssl.SSLSocket]:
    """Two ends of a connection after their handshake."""
    one, other = net.pair()
    serving = net.in_thread(lambda: (server or of_server()).wrap_socket(other, server_side=True))
    secure = net.keep((client or of_client()).wrap_socket(one, server_hostname=name))
    return secure, net.keep(serving.result())


@check(*KINDS)
def both_ways(net: Net) -> None:
    """Bytes go both ways after a handshake, and both sides know with whom they talk, and how."""
    client, server = wrapped(net)
    client.sendall(b"tea")
    assert server.recv(10) == b"tea"
    server.sendall(b"TEA")
    assert client.read(10) == b"TEA"
    assert client.write(b"x") == 1
    assert server.read(1) == b"x"
    assert client.version() == server.version() == "TLSv1.3"
    assert client.cipher() == server.cipher()
    certificate = client.getpeercert()
    assert certificate is not None
    assert certificate["subjectAltName"] == (("DNS", "localhost"),)
    assert server.getpeercert() is None
    assert (client.server_side, server.server_side, client.server_hostname) == (False, True, "localhost")
    assert isinstance(client, ssl.SSLSocket)
    assert isinstance(client, socket.socket)
    assert (client.family, client.type) == (net.family, socket.SOCK_STREAM)
    assert client.getpeername() == server.getsockname()


@check("tcp4", "pair")
def takes_the_socket_over(net: Net) -> None:
    """The socket that was wrapped is detached; its number and its timeout are those of the new one."""
    one, other = net.pair()
    number = one.fileno()
    one.settimeout(20)
    secure = net.keep(of_client(check_hostname=False).wrap_socket(one, do_handshake_on_connect=False))
    assert (one.fileno(), secure.fileno()) == (-1, number)
    assert secure.gettimeout() == 20
    one.close()
    other.setblocking(False)
    with pytest.raises(BlockingIOError):
        other.recv(1)
    assert repr(secure).startswith(f"<ssl.SSLSocket fd={number}, ")
    secure.close()
    assert other.recv(1) == b""


@check("tcp4", "path")
def old_and_new(net: Net) -> None:
    """Both versions of the protocol that are in use work."""
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        client, server = wrapped(net, of_client(minimum_version=version, maximum_version=version))
        client.sendall(b"x")
        assert server.recv(1) == b"x"
        assert client.version() == version.name.replace("_", ".")
    with pytest.raises(ssl.SSLError):
        wrapped(
            net,
            of_client(maximum_version=ssl.TLSVersion.TLSv1_2),
            of_server(minimum_version=ssl.TLSVersion.TLSv1_3),
        )


@check("tcp4", "pair")
def protocols(net: Net) -> None:
    """ALPN chooses the first protocol of the server that the client knows, or none."""
    for of_the_client, wanted in ((["http/1.1", "h2"], "h2"), (["x"], None)):
        client_context, server_context = of_client(), of_server()
        client_context.set_alpn_protocols(of_the_client)
        server_context.set_alpn_protocols(["h2", "http/1.1"])
        client, server = wrapped(net, client_context, server_context)
        assert client.selected_alpn_protocol() == server.selected_alpn_protocol() == wanted


@check("tcp4", "pair")
def names(net: Net) -> None:
    """SNI tells the server which name the client wants, and it may answer with another certificate."""
    contexts = {"one.example": of_server("one.example"), "two.example": of_server("two.example")}
    asked: list[str | None] = []

    def choose(secure: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        asked.append(name)
        secure.context = contexts[name or ""]

    first = of_server()
    first.sni_callback = choose  # type: ignore[assignment]
    for name in contexts:
        client, _ = wrapped(net, server=first, name=name)
        certificate = client.getpeercert()
        assert certificate is not None
        assert certificate["subjectAltName"] == (("DNS", name),)
    assert asked == list(contexts)


@check("tcp4", "pair")
def certificates_of_clients(net: Net) -> None:
    """A server that asks for a certificate sees it."""
    server_context = of_server(verify_mode=ssl.CERT_REQUIRED)
    AUTHORITY.configure_trust(server_context)
    client_context = of_client()
    certificate_for("client.example").configure_cert(client_context)
    _, server = wrapped(net, client_context, server_context)
    certificate = server.getpeercert()
    assert certificate is not None
    assert certificate["subjectAltName"] == (("DNS", "client.example"),)


def both_fail(
    net: Net, client: ssl.SSLContext, server: ssl.SSLContext, name: str = "localhost"
) -> tuple[BaseException, BaseException]:
    """The errors of both sides of a handshake that fails, or of what the client reads after it."""
    one, other = net.pair()

    def serve() -> BaseException:
        with pytest.raises(OSError) as raised:
            server.wrap_socket(other, server_side=True).close()
        other.close()
        return raised.value

    serving = net.in_thread(serve)
    with pytest.raises(OSError) as raised:
        with client.wrap_socket(one, server_hostname=name) as secure:
            secure.recv(1)
    one.close()
    return raised.value, serving.result()


@check("tcp4", "pair")
def client_without_a_certificate(net: Net) -> None:
    """A server that requires a certificate refuses who has none, and tells him."""
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        server_context = of_server(verify_mode=ssl.CERT_REQUIRED)
        AUTHORITY.configure_trust(server_context)
        of_the_client, of_the_server = both_fail(net, of_client(maximum_version=version), server_context)
        assert isinstance(of_the_server, ssl.SSLError)
        assert of_the_server.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE"
        assert isinstance(of_the_client, ssl.SSLError)
        assert "ALERT" in str(of_the_client.reason)


@check("tcp4")
def sends_before_it_reads_the_alert(net: Net) -> None:
    """A client that was refused may fail to send, and reads why."""
    server_context = of_server(verify_mode=ssl.CERT_REQUIRED)
    AUTHORITY.configure_trust(server_context)
    one, other = net.pair()

    def serve() -> None:
        with pytest.raises(ssl.SSLError):
            server_context.wrap_socket(other, server_side=True).close()
        other.close()

    serving = net.in_thread(serve)
    with of_client(minimum_version=ssl.TLSVersion.TLSv1_3).wrap_socket(one, server_hostname="localhost") as secure:
        serving.result()
        with suppress(OSError):
            while secure.send(b"tea"):  # the kernel tells of it a moment later
                pass
        with pytest.raises(ssl.SSLError, match="ALERT_CERTIFICATE_REQUIRED"):
            secure.recv(1)


@check("tcp4", "pair")
def wrong_authority(net: Net) -> None:
    """A client does not trust whom it does not know, and the server is told."""
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    STRANGER.configure_trust(client_context)
    of_the_client, of_the_server = both_fail(net, client_context, of_server())
    assert isinstance(of_the_client, ssl.SSLCertVerificationError)
    assert of_the_client.verify_code in (20, 18, 19)
    assert "certificate verify failed" in str(of_the_client)
    assert isinstance(of_the_server, ssl.SSLError)
    assert of_the_server.reason == "TLSV1_ALERT_UNKNOWN_CA"


@check("tcp4", "pair")
def wrong_name(net: Net) -> None:
    """A certificate is for a name."""
    of_the_client, _ = both_fail(net, of_client(), of_server(), name="elsewhere.example")
    assert isinstance(of_the_client, ssl.SSLCertVerificationError)
    assert "elsewhere.example" in of_the_client.verify_message


@check("tcp4", "pair")
def plain_client(net: Net) -> None:
    """Who speaks no TLS to a server that does is found out, and sees a connection that ends."""
    one, other = net.pair()
    one.sendall(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(ssl.SSLError) as raised:
        of_server().wrap_socket(other, server_side=True)
    assert raised.value.reason == "HTTP_REQUEST"
    other.close()
    try:
        receive_all(one)  # an alert, perhaps
    except ConnectionResetError:
        pass


@check("tcp4", "pair")
def plain_server(net: Net) -> None:
    """A client that is answered without TLS is told so."""
    one, other = net.pair()
    other.sendall(b"220 hello, this is no TLS\r\n")
    with pytest.raises(ssl.SSLError) as raised:
        of_client().wrap_socket(one, server_hostname="localhost")
    assert raised.value.reason == "WRONG_VERSION_NUMBER"
    one.close()


@check("tcp4", "pair")
def peer_goes_in_the_handshake(net: Net) -> None:
    """Who goes away in the middle of a handshake ends it: an end, or a reset."""
    for leave in (lambda other: other.shutdown(socket.SHUT_WR), lambda other: other.close()):
        one, other = net.pair()
        leave(other)
        with pytest.raises((ssl.SSLEOFError, ConnectionResetError, BrokenPipeError)):
            of_client().wrap_socket(one, server_hostname="localhost")
        one.close()


@check("tcp4", "pair")
def handshake_times_out(net: Net) -> None:
    """A handshake has the socket's timeout, as reading has."""
    one, other = net.pair()
    one.settimeout(MOMENT)
    with pytest.raises(TimeoutError, match="handshake operation timed out"):
        of_client().wrap_socket(one, server_hostname="localhost")
    assert other.recv(1)
    client, _ = wrapped(net)
    client.settimeout(MOMENT)
    with pytest.raises(TimeoutError, match="read operation timed out"):
        client.recv(1)
    with pytest.raises(TimeoutError, match="write operation timed out"):
        client.sendall(b"x" * (64 << 20))


def until_done(secure: ssl.SSLSocket, call: Callable[[], Any]) -> Any:
    """Call what must be called again whenever the socket is ready."""
    while True:
        try:
            return call()
        except ssl.SSLWantReadError:
            assert select.select([secure], [], [], 30)[0]
        except ssl.SSLWantWriteError:
            assert select.select([], [secure], [], 30)[1]


@check(*KINDS)
def nonblocking(net: Net) -> None:
    """A non-blocking handshake says what it waits for, and so do reading and writing."""
    one, other = net.pair()
    one.setblocking(False)
    other.setblocking(False)
    client = net.keep(of_client().wrap_socket(one, server_hostname="localhost", do_handshake_on_connect=False))
    server = net.keep(of_server().wrap_socket(other, server_side=True, do_handshake_on_connect=False))
    with pytest.raises(ssl.SSLWantReadError) as raised:
        server.do_handshake()
    assert raised.value.errno == ssl.SSL_ERROR_WANT_READ
    serving = net.in_thread(lambda: until_done(server, server.do_handshake))
    until_done(client, client.do_handshake)
    serving.result()
    with pytest.raises(ssl.SSLWantReadError):
        server.recv(1)
    data = os.urandom(1 << 20) * 4
    receiving = net.in_thread(lambda: b"".join(pieces(server, len(data))))
    sent = 0
    while sent < len(data):
        sent += until_done(client, lambda: client.send(data[sent : sent + 100_000]))  # noqa: B023
    assert receiving.result() == data


def pieces(secure: ssl.SSLSocket, size: int) -> list[bytes]:
    got: list[bytes] = []
    while sum(map(len, got)) < size:
        got.append(until_done(secure, lambda: secure.recv(1 << 16)))
    return got


@check("tcp4", "pair")
def nonblocking_is_full(net: Net) -> None:
    """A non-blocking writer whose peer does not read is told to wait."""
    client, server = wrapped(net)
    client.setblocking(False)
    sent = 0
    with pytest.raises(ssl.SSLWantWriteError):  # noqa: PT012
        while True:
            sent += client.send(b"x" * 16384)
    receiving = net.in_thread(lambda: receive(server, sent))
    assert len(receiving.result()) == sent


@check(*KINDS)
def unwraps(net: Net) -> None:
    """unwrap() on both sides ends TLS, and the connection goes on in plain."""
    client, server = wrapped(net)
    unwrapping = net.in_thread(server.unwrap)
    plain = net.keep(client.unwrap())
    other = net.keep(unwrapping.result())
    plain.sendall(b"plain")
    assert receive(other, 5) == b"plain"
    other.sendall(b"text")
    assert receive(plain, 4) == b"text"
    with pytest.raises(ValueError):
        plain.unwrap()


@check(*KINDS)
def unwraps_before_it_is_collected(net: Net) -> None:
    """What follows TLS is the socket's, whenever what is left of TLS is collected."""
    client, server = wrapped(net)
    unwrapping = net.in_thread(server.unwrap)
    left = client._sslobj
    plain = net.keep(client.unwrap())
    net.keep(unwrapping.result()).sendall(b"tea")
    del left
    assert plain.recv(10) == b"tea"


@check("tcp4", "pair")
def end_with_a_word(net: Net) -> None:
    """Who unwraps says that he has said all: an end to the peer."""
    client, server = wrapped(net)
    server.sendall(b"last")
    unwrapping = net.in_thread(server.unwrap)
    assert receive_all(client) == b"last"
    client.unwrap()
    unwrapping.result()


@check(*KINDS)
def end_without_a_word(net: Net) -> None:
    """Who closes without that is an end, or an error to those who want to know."""
    client, server = wrapped(net, of_client(maximum_version=ssl.TLSVersion.TLSv1_2))
    server.sendall(b"last")
    server.close()
    assert client.suppress_ragged_eofs
    assert receive_all(client) == b"last"
    one, other = net.pair()
    serving = net.in_thread(lambda: of_server().wrap_socket(other, server_side=True))
    strict = net.keep(of_client().wrap_socket(one, server_hostname="localhost", suppress_ragged_eofs=False))
    net.keep(serving.result()).close()
    with pytest.raises(ssl.SSLEOFError):
        strict.recv(1)


@check("tcp4", "tcp6")
def reset_within(net: Net) -> None:
    """A reset of the connection is one of TLS."""
    client, server = wrapped(net)
    client.sendall(b"x")
    server.recv(1)
    reset(server)
    if is_installed() or sys.version_info >= (3, 13):  # before, CPython takes it for an end: its gh-115627
        with pytest.raises(ConnectionResetError):
            client.recv(1)


@check("tcp4", "pair")
def half_closed(net: Net) -> None:
    """shutdown() shuts the connection below down: the peer sees an end, and TLS is over."""
    client, server = wrapped(net, of_client(maximum_version=ssl.TLSVersion.TLSv1_2))
    client.shutdown(socket.SHUT_WR)
    assert server.recv(1) == b""
    with pytest.raises((ssl.SSLError, BrokenPipeError, ValueError)):
        client.unwrap()


@check(*KINDS)
def large(net: Net) -> None:
    """Much goes both ways at once."""
    client, server = wrapped(net)
    data = os.urandom(1 << 20) * 8

    def echo() -> None:
        for _ in range(16):
            server.sendall(receive(server, 1 << 19))

    echoing = net.in_thread(echo)
    sending = net.in_thread(lambda: client.sendall(data))
    assert receive(client, len(data)) == data
    sending.result()
    echoing.result()


@check("tcp4", "pair")
def what_waits_within(net: Net) -> None:
    """What TLS has read and nobody has asked for is pending, and select() does not see it."""
    client, server = wrapped(net)
    server.sendall(b"abcdef")
    assert client.recv(2) == b"ab"
    assert client.pending() == 4
    buffer = bytearray(2)
    assert client.recv_into(buffer) == 2
    assert buffer == b"cd"
    assert client.read(10, bytearray(10)) == 2  # type: ignore[call-overload]
    assert client.pending() == 0


@check("tcp4", "pair")
def files(net: Net) -> None:
    """makefile() and sendfile() go through TLS."""
    client, server = wrapped(net)
    with client.makefile("rwb") as file:
        file.write(b"tea\n")
        file.flush()
        assert server.recv(10) == b"tea\n"
        server.sendall(b"TEA\n")
        assert file.readline() == b"TEA\n"
    with tempfile.TemporaryFile() as source:
        source.write(b"x" * 100_000)
        source.seek(0)
        sending = net.in_thread(lambda: client.sendfile(source))
        assert receive(server, 100_000) == b"x" * 100_000
        assert sending.result() == 100_000


@check("tcp4", "pair")
def what_it_cannot(net: Net) -> None:
    """TLS has no flags, no messages, no addresses and no copies."""
    client, _ = wrapped(net)
    for name, call in (
        ("recv", lambda: client.recv(1, socket.MSG_PEEK)),
        ("send", lambda: client.send(b"x", socket.MSG_DONTWAIT)),
        ("recv_into", lambda: client.recv_into(bytearray(1), 1, socket.MSG_PEEK)),
        ("sendall", lambda: client.sendall(b"x", socket.MSG_DONTWAIT)),
    ):
        with says(ValueError, f"non-zero flags not allowed in calls to {name}() on <class 'ssl.SSLSocket'>"):
            call()
    for call in (lambda: client.recvmsg(1), lambda: client.sendmsg([b"x"]), client.dup):
        with pytest.raises(NotImplementedError):
            call()
    with pytest.raises(ValueError):
        client.recvfrom(1)
    with pytest.raises(NotImplementedError, match="only stream sockets are supported"):
        of_client().wrap_socket(net.stream(socket.SOCK_DGRAM), server_hostname="localhost")


@check("tcp4", "tcp6", "path")
def listener(net: Net) -> None:
    """A listener that was wrapped accepts with a handshake; a socket that was wrapped connects with one."""
    with of_server().wrap_socket(net.listener(), server_side=True) as secure:

        def serve() -> None:
            accepted, _ = secure.accept()
            with accepted:
                assert isinstance(accepted, ssl.SSLSocket)
                accepted.sendall(accepted.recv(10).upper())

        serving = net.in_thread(serve)
        with of_client().wrap_socket(net.stream(), server_hostname="localhost") as client:
            client.connect(secure.getsockname())
            client.sendall(b"tea")
            assert receive_all(client) == b"TEA"
            with says(ValueError, "attempt to connect already-connected SSLSocket!"):
                client.connect(secure.getsockname())
        serving.result()


@check("tcp4")
def connects_to_nobody(net: Net) -> None:
    """A wrapped socket that connects to nobody is refused."""
    with of_client().wrap_socket(net.stream(), server_hostname="localhost") as client:
        with pytest.raises(ConnectionRefusedError):
            client.connect(net.nobody())
        with pytest.raises(OSError) as raised:
            client.do_handshake()
        assert raised.value.errno == errno.ENOTCONN


@check("tcp4")
def server_certificate(net: Net) -> None:
    """ssl.get_server_certificate() asks a server for its certificate."""
    listener = net.listener()

    def serve() -> None:
        try:
            with of_server().wrap_socket(listener.accept()[0], server_side=True) as server:
                server.recv(1)
        except OSError:
            pass  # the client has gone

    serving = net.in_thread(serve)
    pem = ssl.get_server_certificate(listener.getsockname(), timeout=30)
    assert pem.startswith("-----BEGIN CERTIFICATE-----")
    serving.result()


@check("tcp4", "pair")
def sessions(net: Net) -> None:
    """A session may be used again."""
    context = of_client(maximum_version=ssl.TLSVersion.TLSv1_2)
    server_context = of_server()
    first, _ = wrapped(net, context, server_context)
    one, other = net.pair()
    serving = net.in_thread(lambda: server_context.wrap_socket(other, server_side=True))
    again = net.keep(context.wrap_socket(one, server_hostname="localhost", session=first.session))
    net.keep(serving.result())
    assert again.session_reused
    assert len(again.get_channel_binding("tls-unique") or b"") > 8


@check("tcp4", "pair")
def detached(net: Net) -> None:
    """detach() leaves TLS behind, and gives the descriptor."""
    client, server = wrapped(net)
    plain = net.keep(socket.socket(fileno=client.detach()))
    plain.sendall(b"no TLS any more")
    with pytest.raises(ssl.SSLError):
        server.recv(1)


@check("tcp4", "pair")
def subclass(net: Net) -> None:
    """A context may make sockets of another class."""

    class Named(ssl.SSLSocket):
        """A class of its own."""

    context = of_client()
    context.sslsocket_class = Named
    client, _ = wrapped(net, context)
    assert type(client) is Named


@check("tcp4", "pair")
def many_threads(net: Net) -> None:
    """One thread may read while another writes."""
    client, server = wrapped(net)
    data = os.urandom(1 << 19) * 4
    tasks = [net.in_thread(lambda one=one: one.sendall(data)) for one in (client, server)]  # type: ignore[misc]
    reading = net.in_thread(lambda: receive(server, len(data)))
    assert receive(client, len(data)) == data
    assert reading.result() == data
    for task in tasks:
        task.result()


@check("tcp4")
def closed(net: Net) -> None:
    """A closed one does nothing more."""
    client, _ = wrapped(net)
    client.close()
    for call in (lambda: client.recv(1), lambda: client.send(b"x"), client.getsockname):
        with pytest.raises(OSError) as raised:
            call()
        assert raised.value.errno == errno.EBADF
    assert client.fileno() == -1
