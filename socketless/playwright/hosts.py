"""Which app answers which host, and the workers of these apps.

A host is named by a pattern. Where several fit, the most particular one counts, in this order:

    "api.test:8000", "http://api.test"    this host, at this port (of a URL that names none, the scheme's own)
    "api.test"                            this host, at any port
    "*.api.test:8000", "*.api.test"       every host below it
    "*:8000", "*"                         every host
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

from socketless.host.process import IpcProcess
from socketless.host.thread import IpcThread
from socketless.host.worker import Worker
from socketless.wire.messages import DEFAULT_PORTS, WEBSOCKET_SCHEMES

App = str | Callable[..., Any] | Worker

_PATTERN = re.compile(
    r"(?:(https?|wss?)://)?(\[[0-9a-f:.]+\]|(?:\*\.)?[^\s:/?#@*\[\]]+|\*)(?::([0-9]{1,5}))?(/?)", re.I
)


class Hosts:
    """What answers, by the patterns of its hosts.

    Raises:
        ValueError: a pattern is none.
    """

    def __init__(self, apps: Mapping[str, App]) -> None:
        self.patterns = list(apps)
        self._apps = {_parsed(pattern): app for pattern, app in apps.items()}
        self._workers: dict[tuple[str, int | None], Worker] = {}

    def start(self, stack: ExitStack) -> None:
        """Start the workers that are not there yet, one for each app; `stack` closes them."""
        started: list[tuple[App, Worker]] = []
        for key, app in self._apps.items():
            if isinstance(app, Worker):
                self._workers[key] = app
                continue
            worker: Worker | None = next((each for other, each in started if _same(other, app)), None)
            if worker is None:
                worker = IpcProcess(app) if isinstance(app, str) else IpcThread(app)
                stack.callback(worker.close)
                started.append((app, worker))
            self._workers[key] = worker

    def find(self, url: str) -> Worker | None:
        """Return the worker that answers an absolute URL."""
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORTS.get(WEBSOCKET_SCHEMES.get(parts.scheme, ""))
        keys = ((name, at) for name in _names_of(parts.hostname or "") for at in (port, None))
        return next((self._workers[key] for key in keys if key in self._workers), None)


def by_host(apps: App | Mapping[str, App], base_url: str) -> Mapping[str, App]:
    """Return apps by their hosts; one app has that of `base_url`.

    Raises:
        ValueError: there is no app, or `base_url` is none.
    """
    if isinstance(apps, Mapping):
        if not apps:
            raise ValueError("there is no app: write {'api.test': 'package.module:app'}")
        return apps
    if not isinstance(base_url, str) or not base_url.startswith(("http://", "https://")):
        raise ValueError(f"base_url must be a string that begins with http:// or https://, not {base_url!r}")
    scheme, address = urlsplit(base_url)[:2]
    return {f"{scheme}://{address.rpartition('@')[2]}": apps}


def _same(app: App, other: App) -> bool:
    return app is other or (isinstance(app, str) and app == other)


def _parsed(pattern: str) -> tuple[str, int | None]:
    found = _PATTERN.fullmatch(pattern) if isinstance(pattern, str) else None
    if found is None or (found[4] and not found[1]):
        raise ValueError(
            f"{pattern!r} names no host: write 'api.test', 'api.test:8000', 'http://api.test' or '*.api.test'"
        )
    scheme, name, port, _ = found.groups()
    if port is None and scheme is not None:
        port = DEFAULT_PORTS[WEBSOCKET_SCHEMES[scheme.lower()]]
    return _normal(name), None if port is None else int(port)


def _names_of(host: str) -> Iterator[str]:
    name = _normal(host)
    yield name
    while "." in name:
        name = name.partition(".")[2]
        yield f"*.{name}"
    yield "*"


def _normal(host: str) -> str:
    name = host.strip("[]").rstrip(".").lower()
    return name if name.isascii() else name.encode("idna").decode()
