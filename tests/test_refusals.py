"""A test that fails for want of a socket says in its report what helps."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from projects import run_pytest, write

TESTS = """
    import asyncio, pytest, socket, urllib.request

    def test_that_elsewhere_is_refused():
        with pytest.raises(OSError):
            urllib.request.urlopen("http://192.0.2.1/")

    def test_of_another_kind():
        assert 1 == 2

    def test_elsewhere():
        urllib.request.urlopen("http://192.0.2.1/")

    def test_hidden():
        async def main():
            server = await asyncio.start_server(print, "127.0.0.1", 0)
            server.sockets[0].getsockname()
        asyncio.run(main())

    def test_nobody():
        socket.create_connection(("127.0.0.1", 9))
"""
ELSEWHERE = """\
This sandbox refuses sockets to anything but Python processes on this machine:
    connect(('192.0.2.1', 80)): Operation not permitted
The app under test needs no socket with: socketless_app = package.module:app
In place of other servers, use mocks, such as httpx.MockTransport or responses.
More: socketless docs rescue
"""
LOOPBACK = """\
This sandbox refuses socket(): Operation not permitted, for TCP over 127.0.0.1.
Servers and clients on this machine work without sockets with: socketless_loopback = auto
or, from outside pytest, with: socketless rescue python -m pytest
More: socketless docs rescue
"""


@pytest.mark.parametrize("profile", ["none", "codex", "strict"])
@pytest.mark.parametrize("wanted", ["auto", "off"])
def test_report(profile: str, wanted: str, tmp_path: Path) -> None:
    """What was refused is named where a failure comes from it, also if a library hides it; others are as ever."""
    write(tmp_path, {"test_x.py": TESTS})
    # Nothing of this goes anywhere: what is not refused is not tried.
    which = ["-k", "not elsewhere"] if profile == "none" else []
    seen = run_pytest(tmp_path, profile, "-o", f"socketless_loopback={wanted}", *which, http_proxy=None)
    said = dict(
        re.findall(r"^_+ (test_\w+) _+$.*?^-+ socketless -+\n(.*?)(?=^[_=]|\Z)", without_silent(seen.text), re.M | re.S)
    )
    expected = {
        "none": {},
        "auto": {"test_elsewhere": ELSEWHERE},
        "off": dict.fromkeys(["test_elsewhere", "test_hidden", "test_nobody"], LOOPBACK),
    }
    assert said == expected["none" if profile == "none" else wanted]


def without_silent(text: str) -> str:
    """Return a report without the failures that say nothing of sockets."""
    parts = re.split(r"(?=^_{3,} test_\w+ _{3,}$)", text, flags=re.M)
    return "".join(part for part in parts if "- socketless -" in part)


def test_sockets_that_are_mocked(tmp_path: Path) -> None:
    """A test that fails while a mock stands for all sockets is reported as ever: what is refused is the system's."""
    test = """
        import pytest, socket

        def test_mocked(monkeypatch):
            monkeypatch.setattr(socket, "socket", type("Mock", (), {}))
            raise ConnectionRefusedError(111, "Connection refused")
    """
    write(tmp_path, {"test_x.py": test})
    for profile, says in (("none", False), ("strict", True)):
        seen = run_pytest(tmp_path, profile, "-o", "socketless_loopback=off")
        assert (seen.exit_code, LOOPBACK in seen.text) == (1, says), seen.text
