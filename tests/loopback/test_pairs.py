"""Other people's servers and clients meet on loopback without a socket, in one process, unchanged."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache

import pairs
import pytest

from projects import everywhere, under
from support import LIMIT


@cache
def problems(profile: str) -> dict[str, str]:
    command = [*under(profile), sys.executable, pairs.__file__]
    seen = subprocess.run(command, capture_output=True, text=True, timeout=4 * LIMIT)
    lines = [json.loads(line) for line in seen.stdout.splitlines() if line.startswith("[")]
    return dict(lines) or {"": seen.stderr}


@everywhere
@pytest.mark.parametrize("pair", pairs.CHECKS)
def test_pairs(pair: str, profile: str) -> None:
    """The two meet."""
    seen = problems(profile)
    assert seen.get(pair, seen) == ""
