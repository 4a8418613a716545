"""300 tests for a whole run of pytest with `--socketless-app`; `SUITE` says how many requests each one sends."""

from __future__ import annotations

import os

import httpx
import pytest

TWO, NONE = "two GETs each", "no requests"
REQUESTS = {TWO: 2, NONE: 0}


@pytest.mark.parametrize("number", range(300))
def test_requests(number: int) -> None:
    """Each of the requests is answered."""
    for _ in range(REQUESTS[os.environ["SUITE"]]):
        assert httpx.get("http://testserver/").json() == {"hello": "world"}
