"""What the tests of `socketless.lowlevel` share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bytes_client import app
from socketless import IpcThread
from socketless._host.worker import Worker
from support import nothing_leaks


@pytest.fixture
def worker() -> Iterator[Worker]:
    with nothing_leaks(), IpcThread(app, max_connections=2) as worker:
        yield worker
