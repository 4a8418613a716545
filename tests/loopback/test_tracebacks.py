"""What a person reads of a failure on a virtual socket is his own lines, and none of the package's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from projects import run_pytest, write

FAILURES = {
    "pytest.ini": "[pytest]\nsocketless_loopback = on\n",
    "test_failures.py": """
        import asyncio, select, socket, ssl, urllib.request

        import pytest

        STREAM = socket.SOCK_STREAM


        def pair():
            with socket.create_server(("127.0.0.1", 0)) as listener:
                return socket.create_connection(listener.getsockname()), listener.accept()[0]


        def reset(one, other):
            one.sendall(b"never read")
            other.close()
            one.recv(1)


        def closed(one, other):
            one.close()
            one.send(b"x")


        def twice(one, other):
            socket.socket().bind(one.getsockname()[:1] + (socket.create_server(("", 0)).getsockname()[1], 1))


        def times_out(one, other):
            one.settimeout(0.01)
            one.recv(1)


        def speaks_no_tls(one, other):
            other.sendall(b"no TLS at all")
            ssl.create_default_context().wrap_socket(one, server_hostname="localhost")


        def polls_nothing(one, other):
            one.close()
            select.poll().register(one)


        def refused():
            with socket.create_server(("127.0.0.1", 0)) as listener:
                address = listener.getsockname()
            return address


        CALLS = {
            "refused": lambda one, other: socket.create_connection(refused()),
            "refused to urllib": lambda one, other: urllib.request.urlopen("http://127.0.0.1:%d/" % refused()[1]),
            "refused to asyncio": lambda one, other: asyncio.run(asyncio.open_connection(*refused())),
            "refused by UNIX": lambda one, other: socket.socket(socket.AF_UNIX).connect("/nowhere"),
            "no host": lambda one, other: socket.getaddrinfo("", 80),
            "no address": lambda one, other: socket.socket().bind("127.0.0.1"),
            "no port": lambda one, other: socket.socket().connect(("127.0.0.1", 99999)),
            "no option": lambda one, other: one.setsockopt(socket.SOL_SOCKET, 9999, 1),
            "no timeout": lambda one, other: one.settimeout(-1),
            "no bytes": lambda one, other: one.send("text"),
            "no datagram": lambda one, other: socket.socket(type=socket.SOCK_DGRAM).send(b"x"),
            "not connected": lambda one, other: socket.socket().recv(1),
            "not connected either": lambda one, other: socket.socket().getpeername(),
            "does not listen": lambda one, other: one.listen(),
            "descriptors": lambda one, other: socket.send_fds(socket.socketpair()[0], [b"x"], [0]),
            "too large": lambda one, other: socket.socket(type=socket.SOCK_DGRAM).sendto(bytes(70000), refused()),
            **{call.__name__: call for call in (reset, closed, twice, times_out, speaks_no_tls, polls_nothing)},
        }


        @pytest.mark.parametrize("name", CALLS)
        def test_failure(name):
            CALLS[name](*pair())
    """,
}


@pytest.mark.parametrize("profile", ["none", "strict"])
def test_no_line_is_ours(tmp_path: Path, profile: str) -> None:
    """No error of a socket shows a line of the package in pytest's report, whatever raises it."""
    write(tmp_path, FAILURES)
    seen = run_pytest(tmp_path, profile, "-Wignore", "-q")
    assert seen.exit_code == 1
    assert re.fullmatch(r"22 failed in .*", seen.text.splitlines()[-1])
    ours = [line for line in seen.text.splitlines() if "socketless/" in line]
    assert ours == []
