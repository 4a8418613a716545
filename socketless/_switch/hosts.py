"""Which worker answers which host: what everything that the switch replaces asks before it does anything else.

A host is named by a pattern. Where several fit, the most particular one counts, in this order:

    "api.test:8000", "http://api.test"    this host, at this port (of a URL that names none, the scheme's own)
    "api.test"                            this host, at any port
    "*.api.test:8000", "*.api.test"       every host below it
    "*:8000", "*"                         every host

The scheme does not count beyond its port: behind one port there is one server.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

import idna

from socketless._host.limits import NO_LIMITS, Timeouts
from socketless._wire.drivers import run_blocking
from socketless._wire.messages import DEFAULT_PORTS, WEBSOCKET_SCHEMES, Request, port_of
from socketless._wire.steps import Pull, PullingSteps
from socketless.errors import UnknownHost

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

Others = Literal["pass", "refuse"]
OTHERS = ("pass", "refuse")

ALL = "*"
_PATTERN = re.compile(
    r"(?:(https?|wss?)://)?(\[[0-9a-f:.]+\]|(?:\*\.)?[^\s:/?#@*\[\]]+|\*)(?::([0-9]{1,5}))?(/?)", re.I
)


class Hosts:
    """The workers of a switch, by the hosts that they answer.

    Args:
        workers: what answers, by the pattern of its hosts.
        others: what becomes of requests to other hosts: ``"pass"``, they go on as without the switch; ``"refuse"``,
            they are an `UnknownHost`.

    Raises:
        ValueError: a pattern is none, or stands for the same hosts as another.
    """

    def __init__(self, workers: Mapping[str, Any], others: Others) -> None:
        self.workers: dict[str, Any] = dict(workers)
        self._table: dict[tuple[str, int | None], Any] = {}
        for pattern, worker in workers.items():
            key = parse_host(pattern)
            if key in self._table:
                raise ValueError(f"{pattern!r} names hosts that another pattern names already")
            self._table[key] = worker
        self._for_others = Refusal(self.workers) if others == "refuse" else None
        self._for_all = self._table[ALL, None] if list(self._table) == [(ALL, None)] else None

    @property
    def passes(self) -> bool:
        """Whether there are requests that go on as without the switch."""
        return self._for_others is None and (ALL, None) not in self._table

    def find(self, host: Any, port: int) -> Any:
        """Return what answers a host: a worker, or a `Refusal`; `None`: the request goes on as without the switch."""
        if self._for_all is not None:
            return self._for_all
        for name in _names_of(host):
            for key in ((name, port), (name, None)):
                if key in self._table:
                    return self._table[key]
        return self._for_others

    def find_any(self, host: Any) -> Any:
        """Return what answers a host at one port or another."""
        names = set(_names_of(host))
        return next((worker for (name, _), worker in self._table.items() if name in names), self._for_others)

    def find_text(self, url: str) -> Any:
        """Return what answers an absolute URL."""
        parts = urlsplit(url)
        return self.find(parts.hostname, port_of(parts.port, parts.scheme))

    def find_url(self, url: Any) -> Any:
        """Return what answers a URL of httpx; `None` also for one that is relative."""
        scheme = WEBSOCKET_SCHEMES.get(url.scheme, url.scheme)
        if scheme not in DEFAULT_PORTS:
            return self._for_all
        return self.find(url.raw_host, port_of(url.port, scheme))


def parse_host(pattern: str) -> tuple[str, int | None]:
    """Return the name and the port of a pattern; `None`: any port.

    Raises:
        ValueError: it is no such pattern.
    """
    found = _PATTERN.fullmatch(pattern) if isinstance(pattern, str) else None
    if found is None or (found[4] and not found[1]):
        raise ValueError(
            f"{pattern!r} is not a host: write 'api.test', 'api.test:8000', 'http://api.test' or '*.api.test'"
        )
    scheme, name, port, _ = found.groups()
    if port is None and scheme is not None:
        port = DEFAULT_PORTS[WEBSOCKET_SCHEMES.get(scheme.lower(), scheme.lower())]
    try:
        return _normal(name), None if port is None else int(port)
    except UnicodeError as error:
        raise ValueError(f"{pattern!r} is not a host: {error}") from error


def _names_of(host: Any) -> Iterator[str]:
    """Yield the names by which a table may have a host, the most particular one first."""
    try:
        name = _normal(host)
    except UnicodeError:  # no pattern can be it
        yield ALL
        return
    yield name
    while "." in name:
        name = name.partition(".")[2]
        yield f"*.{name}"
    yield ALL


def _normal(host: Any) -> str:
    # Raises UnicodeError: it is no name. As the clients do, by IDNA 2008; the codec "idna" is that of 2003.
    name = host.decode("latin-1") if isinstance(host, bytes) else str(host)
    name = name.strip("[]").rstrip(".").lower()
    if name.isascii():
        return name
    return ".".join(label if label.isascii() else idna.encode(label, uts46=True).decode() for label in name.split("."))


class Refusal:
    """What stands where a worker would be, for hosts that nobody has."""

    app_kind = "asgi"  # it takes, and refuses, WebSockets as well
    max_body_bytes = None
    max_connections = None

    def __init__(self, known: Mapping[str, Any]) -> None:
        self._known = known

    def exchange(self, message: Request, timeouts: Timeouts = NO_LIMITS, body: Pull | None = None) -> PullingSteps[Any]:
        """Refuse a request.

        Raises:
            UnknownHost: always.
        """
        yield from ()
        raise self.error(message.label, message.server)

    def exchange_blocking(self, message: Request, timeouts: Timeouts = NO_LIMITS, body: Pull | None = None) -> Any:
        """Refuse a request, as `exchange()`."""
        return run_blocking(self.exchange(message, timeouts, body))

    def error(self, what: str, server: tuple[str, int]) -> UnknownHost:
        """Return the error for a request, or a connection."""
        host, port = server
        known = ", ".join(self._known)
        return UnknownHost(
            f"{what}: no app has the host {host}:{port}, and others='refuse'; there are apps for {known}"
        )
