"""Other people's servers and clients meet on loopback without a socket, in one process and across, unchanged."""

from __future__ import annotations

import json
import subprocess
import sys

import across
import pairs
import pytest

from commands import MODULE
from projects import PROFILES, under
from support import LIMIT

PROGRAMS = {program.__name__: program for program in (pairs, across)}


@pytest.mark.one_in(2, "profile", "name")
@pytest.mark.parametrize("profile", [*PROFILES, "fatal"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_pairs(name: str, profile: str) -> None:
    """All of them meet by `socketless rescue`; under `fatal`, which kills who tries a socket, nobody has tried one."""
    program = PROGRAMS[name]
    assert program.__file__ is not None
    command = [*under(profile), *MODULE, "rescue", sys.executable, program.__file__]
    seen = subprocess.run(command, capture_output=True, text=True, timeout=4 * LIMIT)
    problems = dict(json.loads(line) for line in seen.stdout.splitlines() if line.startswith("["))
    assert problems == dict.fromkeys(program.CHECKS, ""), seen.stderr
