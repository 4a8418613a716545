"""Short rounds in which all take turns, so that what else the machine does falls on all of them alike.

What is compared from one run to another, and from one machine to another, is a ratio: the median of the ratios of the
rounds. A round whose two turns met another load counts as one of many.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from statistics import median

Turn = Callable[[], object]  # it may return the seconds that count, as a float
Samples = dict[str, list[float]]  # by contestant: the seconds that one unit of its work took, in each round


def take_turns(turns: Mapping[str, Turn], rounds: int, units: Mapping[str, int] | int = 1) -> Samples:
    """Let all take turns, once more to warm up; `units` is how much of its work each does in one turn."""
    samples: Samples = {name: [] for name in turns}
    for number in range(rounds + 1):
        for name, turn in turns.items():
            start = time.perf_counter()
            returned = turn()
            seconds = returned if isinstance(returned, float) else time.perf_counter() - start
            if number:
                samples[name].append(seconds / (units if isinstance(units, int) else units[name]))
    return samples


def ratio(samples: Samples, ours: str, peer: str) -> float:
    """Return how long one takes beside another one."""
    return median(mine / other for mine, other in zip(samples[ours], samples[peer], strict=True))


def load() -> str:
    """Say what else the machine does."""
    return "load " + ", ".join(f"{number:.2f}" for number in os.getloadavg())
