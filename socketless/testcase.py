"""`SocketlessTestCase`: a `unittest.TestCase` with a worker of its own and a client for it."""

from __future__ import annotations

import unittest
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

from socketless._host.process import IpcProcess
from socketless._host.thread import IpcThread
from socketless._host.worker import Worker, check_worker_class
from socketless.testclient import TestClient

__all__ = ["SocketlessTestCase"]


class SocketlessTestCase(unittest.TestCase):
    """Tests of one app. A worker runs it from the first test of the class to the last, and is reset before each.

    A `setUpClass` or `setUp` of your own must first call that of `super()`. For async tests, add
    `unittest.IsolatedAsyncioTestCase` as a second base class.

    Attributes:
        app: ``"package.module:app"`` or ``"package.module:factory()"``, or an app object.
        worker_class: `IpcProcess` or `IpcThread`; `None`: a process for a string, threads for an object, as with
            `TestClient`.
        worker_options: further arguments of that class.
        reset_hook: the function to call in the worker before each test, as an import string or a callable; `None`: no
            function.
        base_url: the base of the client's relative URLs.
        apps: further apps, by their hosts. `app` and the test reach them at these hosts: if there are any, the switch
            is on from the first test of the class to the last (see `switch_to_ipc_connection`).
        others: what happens to requests to other hosts, ``"pass"`` or ``"refuse"``, while the switch is on. Setting it
            turns the switch on without `apps`, too. `None` with `apps`: ``"pass"``.
        workers: the workers of `app` and `apps`, by their hosts; without a switch, that of `app` has the host ``"*"``.
        worker: the worker of `app`, while the tests of the class run.
        client: a `socketless.testclient.TestClient` for `worker`, a new one for each test.

    Raises:
        TypeError: there is no `app`, `worker_class` is not a worker class, or a class has not called `super()`.
        WorkerStartError: in `setUpClass`, the app could not start; no test of the class is run.
        Exception: in `setUp`, the reset hook raised it.
    """

    app: ClassVar[str | Callable[..., Any]]
    worker_class: ClassVar[type[IpcProcess] | type[IpcThread] | None] = None
    worker_options: ClassVar[Mapping[str, Any]] = {}
    reset_hook: ClassVar[str | Callable[[], Any] | None] = None
    base_url: ClassVar[str] = "http://testserver"
    apps: ClassVar[Mapping[str, Any]] = {}
    others: ClassVar[Literal["pass", "refuse"] | None] = None
    worker: ClassVar[Worker]
    workers: ClassVar[Mapping[str, Worker]]

    _client: TestClient | None = None

    @property
    def client(self) -> TestClient:
        if self._client is None:
            raise TypeError(f"{type(self).__qualname__}.setUp() must call super().setUp()")
        return self._client

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        app = getattr(cls, "app", None)
        if app is None:
            raise TypeError(f"{cls.__qualname__} has no app; write in the class: app = 'package.module:app'")
        worker_class = cls.worker_class or (IpcProcess if isinstance(app, str) else IpcThread)
        check_worker_class(worker_class)
        cls.worker = worker_class(app, reset_hook=cls.reset_hook, **cls.worker_options)
        cls.addClassCleanup(cls.worker.close)
        cls.workers = {"*": cls.worker}
        if cls.apps or cls.others is not None:
            from socketless._switch.apps import origin_of
            from socketless.switch import switch_to_ipc_connection  # it imports client libraries

            apps = {origin_of(cls.base_url): cls.worker, **cls.apps}
            switch = switch_to_ipc_connection(apps, base_url=cls.base_url, others=cls.others)
            cls.addClassCleanup(switch)
            cls.workers = switch.workers

    def setUp(self) -> None:
        super().setUp()
        if "worker" not in vars(type(self)):
            raise TypeError(f"{type(self).__qualname__}.setUpClass() must call super().setUpClass()")
        for worker in dict.fromkeys(self.workers.values()):
            worker.renew()
        self._client = TestClient(self.worker, base_url=self.base_url)
        self.addCleanup(self._client.close)
