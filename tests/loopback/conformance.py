"""What unchanged code must see of sockets, real and virtual ones alike: a list of checks.

The checks are in the modules that are imported here, each of which is about one subject; `checks.CHECKS` has them all.
"""

from __future__ import annotations

from loopback import (  # noqa: F401
    binding,
    connecting,
    datagrams,
    loops,
    names,
    objects,
    options,
    processes,
    readiness,
    servers,
    states,
    threads,
    timing,
    tls,
    transfer,
    trio_and_anyio,
)
from loopback.checks import CHECKS

__all__ = ["CHECKS"]
