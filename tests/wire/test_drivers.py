"""How steps wait."""

from __future__ import annotations

import asyncio
import os
import sys
from types import ModuleType

import pytest

from socketless._wire.drivers import run_async, until_readable
from socketless._wire.pipes import make_pipe


def test_half_imported_trio(monkeypatch: pytest.MonkeyPatch) -> None:
    """While another thread imports trio, which has nothing yet, those who wait on asyncio are not on trio."""
    monkeypatch.setitem(sys.modules, "trio", ModuleType("trio"))
    reader, writer = make_pipe()
    os.write(writer.fileno(), b"\0")
    assert asyncio.run(run_async(until_readable(reader.fileno(), None)))
    reader.close()
    writer.close()
