"""The switch: sends the clients of a whole process to a worker, or to several by their hosts.

These are httpx's, httpx2's, requests', aiohttp's, urllib3's, those of `http.client` and `urllib.request`, and
Starlette's TestClient.

It replaces methods of the client libraries' own classes, not the classes: a client that was imported, subclassed or
created before the switch goes to the worker too, and `isinstance` holds. What is replaced is the way to the network:
httpx's `HTTPTransport`, requests' `HTTPAdapter`, aiohttp's `TCPConnector`, the connections of `http.client` and
urllib3, the TestClient's transport. A client that was given another (`MockTransport`, `ASGITransport`) keeps it.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from types import MappingProxyType, TracebackType
from typing import Any

from socketless._host.arguments import AppKind, Backend, LifespanMode, StartMethod
from socketless._host.outside import OutsideWorker
from socketless._host.process import IpcProcess
from socketless._host.processes import IpcProcesses
from socketless._host.trace import logger
from socketless._host.upstreams import Upstreams
from socketless._host.worker import Worker
from socketless._http11.pipe_socket import end_pipe_sockets
from socketless._http11.worker_socket import end_connections
from socketless._import_watch import Watch
from socketless._switch import aiohttp, http_client, httpcore, httpx, stand_ins, starlette, websockets
from socketless._switch.apps import (
    DEFAULT_BASE_URL,
    App,
    ResetHook,
    base_url_of,
    by_host,
    hooks_of,
    renew,
    reset,
    start_workers,
    worker_of,
)
from socketless._switch.hosts import Hosts, Others
from socketless._switch.replacing import Patch
from socketless.errors import StateError

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

__all__ = ["Switch", "active_switch", "reset_ipc_state", "switch_to_ipc_connection"]


class Switch:
    """What `switch_to_ipc_connection` returns: call it to switch back, or use it as a context manager."""

    def __init__(
        self,
        hosts: Hosts,
        arguments: Mapping[str, Any],
        end_workers: Callable[[], object],
    ) -> None:
        self._hosts = hosts
        self.arguments = arguments  # of `switch_to_ipc_connection`, for another process that shall have the same
        self._patches: list[Patch] = []  # guarded by _lock; those that are applied, or being so
        self._watches: list[Watch] = []
        self._end_workers = end_workers
        self._undone = False
        self._owner_pid = os.getpid()

    @property
    def workers(self) -> Mapping[str, Worker]:
        """The workers, by the hosts that they answer, written as in the call; a single app has the host ``"*"``."""
        return MappingProxyType(self._hosts.workers)

    @property
    def worker(self) -> Worker:
        """The worker that answers relative URLs: the one with the host of `base_url`.

        Raises:
            StateError: there are several workers, and none has that host.
        """
        found: Worker | None = worker_of(self.workers, self.arguments["base_url"])
        if found is not None:
            return found
        raise StateError(
            f"there are several workers: take one by its host, switch.workers[{next(iter(self.workers))!r}], or give "
            "the switch a base_url"
        )

    @property
    def description(self) -> str:
        """What the workers serve, in words."""
        return ", ".join(dict.fromkeys(worker.description for worker in self.workers.values()))

    def reset(self) -> None:
        """Call the reset hook of each app in its worker, all of them even if one raises.

        Raises:
            Exception: a hook raised it.
        """
        reset(self.workers)

    def renew(self) -> None:
        """Make all workers ready for the next test: restart those that have died, and call the reset hooks.

        Raises:
            Exception: a hook raised it, or a worker could not start.
        """
        renew(self.workers)

    def __call__(self) -> None:
        """Restore the client libraries and stop the workers that the switch has started. May be called twice."""
        global _active
        with _lock:
            if self._undone:
                return
            self._undone = True
            for watch in self._watches:
                watch.close()
            for patch in reversed(self._patches):
                patch.undo()
            _active = None
        if os.getpid() == self._owner_pid:  # else forked: they are the parent's, and its locks may be locked for ever
            self._end_workers()

    def apply(self, patches: Iterable[Patch]) -> None:
        """Replace methods. Must be called with _lock held."""
        for patch in patches:
            self._patches.append(patch)  # first, as it may fail half-way
            patch.apply()

    def apply_on_import(self, name: str, make_patches: Callable[[], Iterable[Patch]]) -> None:
        """Replace methods of a library now, if it is imported, and whenever it is."""

        def on_import() -> None:
            patches = list(make_patches())  # not under the lock, as it imports
            with _lock:
                if not self._undone:
                    self.apply(patches)

        self._watches.append(Watch(name, on_import))
        if name in sys.modules:
            on_import()

    def __enter__(self) -> Switch:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self()


_lock = threading.Lock()
_active: Switch | None = None  # guarded by _lock
_switching = False  # guarded by _lock; true while a switch starts its worker


def switch_to_ipc_connection(
    app_import: App | Mapping[str, App],
    *,
    reset_hook: ResetHook | Mapping[str, ResetHook] | None = None,
    base_url: str = DEFAULT_BASE_URL,
    others: Others | None = None,
    startup_timeout: float | None = 30.0,
    app_kind: AppKind = "auto",
    debug: bool = False,
    raise_app_exceptions: bool = True,
    root_path: str = "",
    start_method: StartMethod = "spawn",
    max_connections: int = 32,
    max_restarts: int = 1,
    max_body_bytes: int | None = None,
    env: Mapping[str, str | None] | None = None,
    shutdown_timeout: float | None = 5.0,
    lifespan: bool | LifespanMode = True,
    backend: Backend = "asyncio",
    backend_options: Mapping[str, Any] | None = None,
) -> Switch:
    """Start a worker for an app, or for each of several, and send the requests of this process's HTTP clients there.

    `httpx.Client`, `httpx.AsyncClient`, `requests.Session`, `httpx.get()` and the like reach the app, whatever host
    they name; the app sees that host. So do the sessions of aiohttp, the connections of `http.client` and urllib3, and
    the `TestClient` of Starlette and FastAPI, whatever app it was given. A client with a transport, adapter or
    connector other than its library's own for the network keeps using that.

    Args:
        app_import: ``"package.module:attribute"``, ``"package.module:factory()"``, an app object, a callable that
            returns one, or an existing worker, which keeps its own options and is left running at the end.
            Or a dict of several of these, by the hosts that they answer: ``{"api.test": "shop:app",
            "http://localhost:9000": worker, "*.s3.test": app}``. An app object in such a dict runs on threads, unless
            `start_method` is ``"fork"``.
        reset_hook: the function that `reset_ipc_state()` calls in the worker, as an import string or a callable. For
            several apps, a dict by the same hosts.
        base_url: the base of relative URLs, for clients that have no `base_url` of their own. Of several apps, the one
            with this host answers them.
        others: what happens to requests to hosts that no app has. With ``"pass"``, they are sent as without the switch;
            with ``"refuse"``, they raise `UnknownHost`, which is a connection error of the client library as well. With
            `None`, a single app answers all hosts; with several apps, `None` means ``"pass"``. If a single app is given
            together with `others`, it answers the host of `base_url` only.
        startup_timeout, app_kind, debug, start_method, max_connections, max_restarts, max_body_bytes, env,
            shutdown_timeout, lifespan, backend, backend_options: see `IpcProcess`.
        raise_app_exceptions, root_path: see `IpcTransport`; a `TestClient` uses its own settings.

    Returns:
        The switch: call it to switch back and to stop the workers that it has started, or use it as a context manager.

    Raises:
        StateError: the process is switched already.
        WorkerStartError, TransferError, ValueError: see `IpcProcess`. Nothing was switched.
        ValueError: also if a host or a hook is wrong, or if there are options for workers and all of these exist
            already.
    """
    global _switching
    with _lock:
        if _active is not None or _switching:
            what = f"switched to {_active.description}" if _active is not None else "being switched to a worker"
            raise StateError(
                f"this process is {what} already; call what the first switch_to_ipc_connection() returned before the "
                "next, or use IpcProcess and IpcTransport for one of the two"
            )
        _switching = True
    try:
        on_worker: dict[str, Any] = {
            "app_kind": app_kind,
            "startup_timeout": startup_timeout,
            "start_method": start_method,
            "max_connections": max_connections,
            "max_restarts": max_restarts,
            "max_body_bytes": max_body_bytes,
            "env": env,
            "shutdown_timeout": shutdown_timeout,
            "lifespan": lifespan,
            "backend": backend,
            "backend_options": backend_options,
            "debug": debug,
        }
        on_requests: dict[str, Any] = {"raise_app_exceptions": raise_app_exceptions, "root_path": root_path}
        arguments = {"app_import": app_import, "reset_hook": reset_hook, "base_url": base_url, "others": others}
        arguments |= on_worker | on_requests
        apps = by_host(app_import, base_url, others)
        base_url_or_none = base_url_of(apps, base_url)  # before anything is started
        hooks = hooks_of(apps, reset_hook)
        _refuse_options(apps, hooks, on_worker)
        with ExitStack() as on_error:
            workers = start_workers(
                apps, hooks, on_worker, on_error, objects_on_threads=isinstance(app_import, Mapping)
            )
            hosts = Hosts(workers, others or "pass")
            if isinstance(app_import, Mapping) or others is not None:
                own = [worker for host, worker in workers.items() if worker is not apps[host]]
                _switch_processes(hosts, others or "pass", on_requests, on_error, own)
            return _apply(hosts, arguments, base_url_or_none, on_requests, on_error)
    finally:
        with _lock:
            _switching = False


def _apply(
    hosts: Hosts, arguments: Mapping[str, Any], base_url: str | None, options: Mapping[str, Any], stack: ExitStack
) -> Switch:
    """Replace what there is to replace. What `stack` has to close is the switch's, once this returns."""
    global _active
    patches = [
        *_patches_of(stand_ins.replacements),
        *_patches_of(httpx.replacements, hosts, base_url, options),
        *_patches_of(starlette.replacements, hosts, options),
    ]
    aiohttp_connections = aiohttp.Connections(hosts, options)
    stack.callback(aiohttp_connections.close)
    for worker in hosts.workers.values():
        stack.callback(end_connections, worker)
        stack.callback(end_pipe_sockets, worker)
    with ExitStack() as on_error:
        switch = Switch(hosts, arguments, stack.pop_all().close)
        on_error.callback(switch)
        with _lock:
            switch.apply(patches)
            _active = switch
        switch.apply_on_import("requests", partial(_requests_patches, hosts, base_url, options))
        for name in httpcore.MODULES:
            switch.apply_on_import(name, partial(_patches_of, httpcore.replacements, name, hosts, options))
        switch.apply_on_import(aiohttp.MODULE, partial(_patches_of, aiohttp_connections.replacements))
        switch.apply_on_import(aiohttp.PROXIES_MODULE, partial(_patches_of, aiohttp.proxy_replacements, hosts))
        for name, replacements in (http_client.REPLACEMENTS | websockets.REPLACEMENTS).items():
            switch.apply_on_import(name, partial(_patches_of, replacements, hosts, options))
        on_error.pop_all()
    return switch


def _switch_processes(
    hosts: Hosts, others: Others, options: Mapping[str, Any], stack: ExitStack, own: Collection[Worker]
) -> None:
    """Send what apps in worker processes ask others for to the workers of this process, until `stack` is closed.

    Then those that are not the switch's `own`, which end with it, are as they were.
    """
    processes = [each for each in dict.fromkeys(hosts.workers.values()) if isinstance(each, (IpcProcess, IpcProcesses))]
    if not processes:
        return
    try:
        upstreams = Upstreams(hosts.find)
    except OSError as error:
        logger.warning("apps in worker processes cannot reach the other apps of the switch: %s", error)
        return
    stack.callback(upstreams.close)
    for process in processes:
        if process not in own:
            stack.callback(process._leave, leave_worker_process)  # also if it is interrupted while it enters
        process._enter(partial(switch_worker_process, upstreams.path, tuple(hosts.workers), others, options))


def switch_worker_process(path: str, patterns: Iterable[str], others: Others, options: Mapping[str, Any]) -> None:
    """Send the clients of this worker process to the workers of its parent, which listens at `path`."""
    leave_worker_process()  # what it was forked with
    with ExitStack() as on_error:
        worker = OutsideWorker(path)
        on_error.callback(worker.close)
        arguments = {"base_url": DEFAULT_BASE_URL}
        _apply(Hosts(dict.fromkeys(patterns, worker), others), arguments, None, options, on_error)


def leave_worker_process() -> None:
    """Let the clients of this worker process be as they were."""
    active = _active
    if active is not None:
        active()


def _renew_lock() -> None:
    # Runs in every forked child: another thread of the parent may have had it.
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


def _refuse_options(apps: Mapping[str, App], hooks: Mapping[str, ResetHook], options: Mapping[str, Any]) -> None:
    """Refuse what is said about workers that are there already."""
    defaults = switch_to_ipc_connection.__kwdefaults__ or {}
    given = ["reset_hook"] if any(isinstance(apps[host], Worker) for host in hooks) else []
    if all(isinstance(app, Worker) for app in apps.values()):
        given += [name for name, value in options.items() if value != defaults[name]]
    if given:
        raise ValueError(f"{', '.join(given)}: only for workers that the switch starts; give it to the worker itself")


def active_switch() -> Switch | None:
    """Return the switch that is on in this process."""
    return _active


def reset_ipc_state() -> None:
    """Call the reset hook of each app of the switch, in its worker. Without a switch or a hook, do nothing.

    Raises:
        Exception: the hook raised it.
    """
    active = _active
    if active is not None:
        active.reset()


def _patches_of(replacements: Callable[..., Iterator[Any]], *arguments: Any) -> Iterator[Patch]:
    for pair in replacements(*arguments):
        yield Patch(*pair)


def _requests_patches(hosts: Hosts, base_url: str | None, options: Mapping[str, Any]) -> Iterator[Patch]:
    from socketless._switch.requests import replacements  # which imports requests

    return _patches_of(replacements, hosts, base_url, options)
