"""Runs CPython's own tests of sockets, and of what is built on them, on virtual sockets: `tox -e cpython`.

`python cpython.py [PROFILE [MODULE ...]]` prints a line for each module of the Python that runs it, and for each test
that fails, why it cannot pass. It exits with 1 if there is one of which nobody knows that. PROFILE is one of nosock.py,
or `none`; with `real` the sockets are the kernel's, to compare.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

LIMIT = 900  # seconds, for a module
NOSOCK = str(Path(__file__).resolve().parent.parent / "nosock.py")

ASYNCIO = ("streams", "server", "sslproto", "sendfile", "sock_lowlevel", "selector_events", "unix_events")
MODULES = (
    *("socketserver", "httpservers", "ftplib", "smtplib", "poplib", "imaplib", "xmlrpc", "wsgiref", "httplib"),
    *(f"asyncio.test_{part}" for part in ASYNCIO),
    *("socket", "timeout", "ssl", "select", "poll", "epoll", "selectors", "asyncore", "asynchat"),
)

# What cannot pass, and why.
CANNOT = {
    "*UDPLITE*": "UDP-Lite is a protocol of its own, for a real socket",
    "*VSOCK*": "a family of its own, for a real socket",
    "*.Basic*CAN*": "a family of its own, for a real socket",
    "*SCMRights*": "pipes carry no descriptors (SCM_RIGHTS)",
    "*SendRecvFds*": "pipes carry no descriptors (SCM_RIGHTS)",
    "*RFC3542*": "nothing tells of hops and traffic classes: there is no packet",
    "*.test_csocket_repr": "makes a `_socket.socket`, a real one",
    "*_ipv6_scopeid_symbolic": "asks the kernel for its interfaces, by a real socket",
    "*.testRefCountGetNameInfo": "the traceback of the error has one more line, and that its argument",
    "*.test__sendfile_use_sendfile": "a socket that nobody has asked for its number has none, and others get it before",
    "*.test_unknown_socket_family_repr": "an object of a number has the family that the number has, whatever is said",
    "*.test_handle_expt": "a pipe has no urgent data",
    "*.test_fromfd": "an epoll object made of a number does not know which descriptors are watched for writing",
    "test.test_select.*.test_disallow_instantiation": "select.poll is a class here, which can be called",
    "*.test_timeout_connect_ex": "a real host is asked for",
    "*.test_wrong_cert_tls13": "a race, which newer versions of this test know of: the reset may come before the alert",
}


class Result(NamedTuple):
    ran: int
    skipped: int
    failed: list[str]
    text: str


def run(module: str, profile: str) -> Result:
    """Run the tests of a module."""
    rescue = [] if profile == "real" else [sys.executable, "-m", "socketless", "rescue"]
    command = [*rescue, sys.executable, "-m", "unittest", f"test.test_{module}"]
    if profile not in ("real", "none"):
        command = [sys.executable, NOSOCK, profile, *command]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=LIMIT, errors="replace")
    counts = re.search(r"^Ran (\d+) tests? in", done.stderr, re.M)
    skipped = re.search(r"skipped=(\d+)", done.stderr)
    failed = sorted(set(re.findall(r"^(?:FAIL|ERROR): .*?\(([\w.]+)\)", done.stderr, re.M)))
    if counts is None or (done.returncode and not failed):
        failed.append(f"test.test_{module}")  # it has not come to its end
    return Result(int(counts[1]) if counts else 0, int(skipped[1]) if skipped else 0, failed, done.stderr)


def why_not(test: str) -> str | None:
    return next((reason for pattern, reason in CANNOT.items() if fnmatch(test, pattern)), None)


def there_are(modules: list[str]) -> Iterator[str]:
    for module in modules or MODULES:
        if importlib.util.find_spec(f"test.test_{module}"):  # asyncore and asynchat are gone since Python 3.12
            yield module


def main(profile: str = "strict", *modules: str) -> int:
    os.environ.pop("PYTHONWARNINGS", None)
    unexpected = 0
    for module in there_are([*modules]):
        result = run(module, profile)
        passed = result.ran - result.skipped - len(result.failed)
        print(f"test_{module}: {passed} of {result.ran} pass, {result.skipped} are skipped", flush=True)
        reasons = {test: why_not(test) for test in result.failed}
        for reason in dict.fromkeys(reasons.values()):
            tests = [test for test in reasons if reasons[test] == reason]
            if reason is not None and len(tests) > 1:
                print(f"    {len(tests)} cannot: {reason}")
            else:
                print(*(f"    {test}: {reason or 'NOBODY KNOWS WHY'}" for test in tests), sep="\n", flush=True)
        if None in reasons.values():
            unexpected += 1
            print(result.text)
    return bool(unexpected)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
