"""Tests with a real Chromium: Debian's package of that name, or that of the variable CHROMIUM."""

from __future__ import annotations

import os
import shutil
from typing import Any

import pytest

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="session")
def browser_type_launch_args() -> dict[str, Any]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium: apt-get install chromium, or set CHROMIUM")
    return {"executable_path": CHROMIUM, "args": ["--no-sandbox"]}
