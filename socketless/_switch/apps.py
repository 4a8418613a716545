"""The apps of a switch: which hosts they have, and their workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from types import MethodType
from typing import Any
from urllib.parse import urlsplit

from socketless._host.process import IpcProcess
from socketless._host.thread import IpcThread
from socketless._host.worker import Worker
from socketless._switch.hosts import ALL, OTHERS, Hosts, Others

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

App = str | Callable[..., Any] | Worker
ResetHook = str | Callable[[], Any]

DEFAULT_BASE_URL = "http://testserver"
_OF_PROCESSES = ("start_method", "env", "max_connections")  # options that threads do not have


def by_host(apps: App | Mapping[str, App], base_url: str, others: Others | None) -> Mapping[str, App]:
    """Return the apps of a switch by their hosts. One app has all; only that of `base_url`, where `others` is given.

    Raises:
        ValueError: a host or `others` is not what it can be.
    """
    if others is not None and others not in OTHERS:
        raise ValueError(f"others must be one of {', '.join(map(repr, OTHERS))}, not {others!r}")
    if not isinstance(base_url, str) or not base_url.startswith(("http://", "https://")):
        raise ValueError(f"base_url must be a string that begins with http:// or https://, not {base_url!r}")
    if isinstance(apps, Mapping):
        if not apps:
            raise ValueError("there is no app: write {'api.test': 'package.module:app'}")
        return apps
    if others is None:
        return {ALL: apps}
    return {origin_of(base_url): apps}


def origin_of(url: str) -> str:
    """Return a URL without its path, and without a user, as a pattern of hosts."""
    scheme, address = urlsplit(url)[:2]
    return f"{scheme}://{address.rpartition('@')[2]}"


def base_url_of(workers: Mapping[str, Any], base_url: str) -> str | None:
    """Return what relative URLs are relative to; `None`: no app has the host, and nobody has said that one has.

    Raises:
        ValueError: somebody has.
    """
    if worker_of(workers, base_url) is not None:
        return base_url
    if base_url == DEFAULT_BASE_URL:
        return None
    raise ValueError(f"no app has the host of base_url={base_url!r}; there are apps for {', '.join(workers)}")


def check(
    apps: App | Mapping[str, App],
    base_url: str,
    others: Others | None,
    reset_hook: ResetHook | Mapping[str, ResetHook] | None,
) -> None:
    """Refuse what is wrong with the hosts of a switch.

    Raises:
        ValueError: something is.
    """
    named = by_host(apps, base_url, others)
    base_url_of(named, base_url)
    hooks_of(named, reset_hook)


def worker_of(workers: Mapping[str, Any], url: str) -> Any:
    """Return the worker that answers a URL, or `None`."""
    return Hosts(workers, "pass").find_text(url)


def hooks_of(apps: Mapping[str, App], reset_hook: ResetHook | Mapping[str, ResetHook] | None) -> dict[str, ResetHook]:
    """Return the reset hooks by the hosts of their apps.

    Raises:
        ValueError: one is nobody's.
    """
    if reset_hook is None:
        return {}
    if not isinstance(reset_hook, Mapping):
        if ALL in apps:
            return {ALL: reset_hook}
        if len(apps) > 1:
            raise ValueError(f"reset_hook={reset_hook!r}: name the host of its app: reset_hook={{'api.test': ...}}")
        return dict.fromkeys(apps, reset_hook)
    unknown = [host for host in reset_hook if host not in apps]
    if unknown:
        raise ValueError(f"reset_hook: no app has the host {unknown[0]!r}; there are apps for {', '.join(apps)}")
    return dict(reset_hook)


def start_workers(
    apps: Mapping[str, App],
    hooks: Mapping[str, ResetHook],
    options: Mapping[str, Any],
    stack: ExitStack,
    *,
    objects_on_threads: bool,
) -> dict[str, Worker]:
    """Return the workers of apps by their hosts; what was started is closed by `stack`.

    One app for several hosts has one worker. `options` are those of `IpcProcess`. With `objects_on_threads`, an app
    object is run by an `IpcThread`, unless it can be forked.

    Raises:
        WorkerStartError, TransferError, ValueError: see `IpcProcess`.
    """
    started: list[tuple[Any, Worker]] = []
    workers: dict[str, Worker] = {}
    for host, app in apps.items():
        if isinstance(app, Worker):
            workers[host] = app
            continue
        worker = next((each for other, each in started if _same(other, app)), None)
        if worker is None:
            same = [other for other in apps if _same(apps[other], app)]
            hook = next((hooks[other] for other in same if other in hooks), None)
            if isinstance(app, str) or options.get("start_method") == "fork" or not objects_on_threads:
                worker = IpcProcess(app, reset_hook=hook, **options)
            else:
                own = {name: value for name, value in options.items() if name not in _OF_PROCESSES}
                worker = IpcThread(app, reset_hook=hook, **own)
            stack.callback(worker.close)
            started.append((app, worker))
        workers[host] = worker
    return workers


def reset(workers: Mapping[str, Worker]) -> None:
    """Call the reset hook of each worker once; of all of them, whatever one raises.

    Raises:
        Exception: what a hook has raised.
    """
    _call_all(worker.reset for worker in dict.fromkeys(workers.values()))


def renew(workers: Mapping[str, Worker]) -> None:
    """Make all workers ready for the next test, see `Worker.renew`, whatever one raises.

    Raises:
        Exception: as `reset()`, or what keeps a worker from starting.
    """
    _call_all(worker.renew for worker in dict.fromkeys(workers.values()))


def _call_all(functions: Iterable[Callable[[], object]]) -> None:
    with ExitStack() as stack:  # which calls the last one first
        for function in reversed(list(functions)):
            stack.callback(function)


def _same(app: App, other: App) -> bool:
    # A method is another object each time that it is looked up.
    return app is other or (isinstance(app, (str, MethodType)) and app == other)
