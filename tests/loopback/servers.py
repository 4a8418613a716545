"""The standard library's servers and clients on sockets."""

from __future__ import annotations

import http.client
import http.server
import logging.handlers
import pickle
import socket
import socketserver
import struct
import sys
import threading
import urllib.error
import urllib.request
import warnings
import xmlrpc.client
import xmlrpc.server
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from loopback.checks import LIMIT, MOMENT, Net, check, receive_all


class Upper(socketserver.StreamRequestHandler):
    """Answers a line in capitals."""

    timeout = LIMIT

    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line.upper())


class UpperDatagram(socketserver.DatagramRequestHandler):
    """Answers a datagram in capitals."""

    def handle(self) -> None:
        self.wfile.write(self.rfile.read().upper())


@contextmanager
def serving(net: Net, server: socketserver.BaseServer) -> Iterator[socketserver.BaseServer]:
    with server:
        task = net.in_thread(lambda: server.serve_forever(MOMENT))
        try:
            yield server
        finally:
            server.shutdown()
            task.result()


def made(net: Net, base: type, *mixins: type) -> type:
    return type("Made", (*mixins, base), {"address_family": net.family, "daemon_threads": True})


@check("tcp4", "tcp6", "path")
def of_streams(net: Net) -> None:
    """The stream servers of socketserver, one at a time and with threads."""
    base = socketserver.TCPServer if net.is_ip else socketserver.UnixStreamServer
    for mixins in ((), (socketserver.ThreadingMixIn,)):
        with serving(net, made(net, base, *mixins)(net.address(), Upper)) as server:
            for _ in range(3):
                client = net.stream()
                client.connect(server.server_address)
                client.sendall(b"tea\ncoffee\n")
                client.shutdown(socket.SHUT_WR)
                assert receive_all(client) == b"TEA\nCOFFEE\n"


@check("tcp4", "path")
def that_forks(net: Net) -> None:
    """The stream server that forks for each request."""
    base = socketserver.TCPServer if net.is_ip else socketserver.UnixStreamServer
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with serving(net, made(net, base, socketserver.ForkingMixIn)(net.address(), Upper)) as server:
            for _ in range(3):
                client = net.stream()
                client.connect(server.server_address)
                client.sendall(b"tea\n")
                client.shutdown(socket.SHUT_WR)
                assert receive_all(client) == b"TEA\n"


@check("tcp4", "tcp6", "path")
def of_datagrams(net: Net) -> None:
    """The datagram servers of socketserver."""
    base = socketserver.UDPServer if net.is_ip else socketserver.UnixDatagramServer
    for mixins in ((), (socketserver.ThreadingMixIn,)):
        with serving(net, made(net, base, *mixins)(net.address(), UpperDatagram)) as server:
            client = net.datagram()
            client.settimeout(LIMIT)
            client.sendto(b"tea", server.server_address)
            assert client.recv(10) == b"TEA"
        for thread in threading.enumerate():
            if "process_request_thread" in thread.name:  # it has answered, and is about to end
                thread.join(LIMIT)


@check("tcp4", "path")
def one_request(net: Net) -> None:
    """handle_request() waits for one, and has a timeout."""
    base = socketserver.TCPServer if net.is_ip else socketserver.UnixStreamServer
    called = threading.Event()
    with made(net, base)(net.address(), Upper) as server:
        server.timeout = MOMENT
        server.handle_timeout = called.set
        server.handle_request()
        assert called.is_set()
        client = net.stream()
        client.connect(server.server_address)
        client.sendall(b"tea\n")
        client.shutdown(socket.SHUT_WR)
        server.handle_request()
        assert receive_all(client) == b"TEA\n"


class Pages(http.server.SimpleHTTPRequestHandler):
    """Files, silently."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass


@check("tcp4", "tcp6")
def pages(net: Net) -> None:
    """http.server and http.client meet, with kept connections, and by urllib."""
    with open(net.folder() + "/page.txt", "wb") as file:
        file.write(b"hello" * 50_000)

    class Server(http.server.ThreadingHTTPServer):
        address_family = net.family
        daemon_threads = True

        def finish_request(self, request: Any, address: Any) -> None:
            Pages(request, address, self, directory=net.folder())

    with serving(net, Server((net.host, 0), Pages)) as server:
        host, port = server.server_address[:2]  # type: ignore[index]
        client = http.client.HTTPConnection(host, port, timeout=LIMIT)
        for _ in range(3):
            client.request("GET", "/page.txt")
            assert client.getresponse().read() == b"hello" * 50_000
        client.close()
        url = f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
        with urllib.request.urlopen(url + "page.txt", timeout=LIMIT) as response:
            assert len(response.read()) == 250_000
        with pytest.raises(urllib.error.HTTPError) as raised:
            urllib.request.urlopen(url + "missing", timeout=LIMIT)
        raised.value.close()
    with pytest.raises(urllib.error.URLError, match="Connection refused"):
        urllib.request.urlopen(url, timeout=LIMIT)


@check("tcp4")
def calls(net: Net) -> None:
    """xmlrpc's server and client meet."""
    with serving(net, xmlrpc.server.SimpleXMLRPCServer((net.host, 0), logRequests=False)) as server:
        server.register_function(pow)  # type: ignore[attr-defined]
        host, port = server.server_address  # type: ignore[misc]
        with xmlrpc.client.ServerProxy(f"http://{host}:{port}") as proxy:
            assert proxy.pow(2, 5) == 32


@check("tcp4")
def logs(net: Net) -> None:
    """The handlers of logging send to a listener, and to a datagram socket."""
    record = logging.LogRecord("name", logging.INFO, "path", 1, "text", None, None)
    listener, datagram = net.listener(), net.datagram()
    stream = logging.handlers.SocketHandler(*listener.getsockname())
    stream.emit(record)
    server = net.accepted(listener)
    stream.close()
    data = receive_all(server)
    [size] = struct.unpack(">L", data[:4])
    assert pickle.loads(data[4 : 4 + size])["msg"] == "text"
    udp = logging.handlers.DatagramHandler(*datagram.getsockname())
    udp.emit(record)
    udp.close()
    assert pickle.loads(datagram.recv(10_000)[4:])["msg"] == "text"


@check("path")
def syslog(net: Net) -> None:
    """SysLogHandler finds a UNIX datagram socket, or a stream."""
    record = logging.LogRecord("name", logging.INFO, "path", 1, "text", None, None)
    datagram = net.datagram()
    handler = logging.handlers.SysLogHandler(datagram.getsockname())
    handler.emit(record)
    handler.close()
    assert datagram.recv(1000).endswith(b"text\0")


@check("tcp4", "tcp6")
def dispatchers(net: Net) -> None:
    """asyncore's dispatchers meet, in those Pythons that have it."""
    if sys.version_info >= (3, 12):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import asyncore

    got: list[bytes] = []
    channels: dict[int, Any] = {}

    class Echo(asyncore.dispatcher_with_send):
        def handle_read(self) -> None:
            self.send(self.recv(100).upper())

        def handle_close(self) -> None:
            self.close()

    class Listener(asyncore.dispatcher):
        def handle_accepted(self, one: socket.socket, address: Any) -> None:
            Echo(one, channels)

    class Client(asyncore.dispatcher):
        def handle_connect(self) -> None:
            self.send(b"tea")

        def writable(self) -> bool:
            return not self.connected

        def handle_read(self) -> None:
            got.append(self.recv(100))
            self.close()

    listener = Listener(map=channels)
    listener.create_socket(net.family)
    listener.bind((net.host, 0))
    listener.listen(5)
    client = Client(map=channels)
    client.create_socket(net.family)
    client.connect(listener.socket.getsockname())
    for use_poll in (False, True):
        while not got:
            asyncore.loop(LIMIT, use_poll=use_poll, map=channels, count=1)
    while len(channels) > 1:
        asyncore.loop(LIMIT, map=channels, count=1)
    asyncore.close_all(channels)
    assert got == [b"TEA"]
