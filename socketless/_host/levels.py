"""Which levels this process's loggers have, for a worker that is to have them too."""

from __future__ import annotations

import itertools
import logging

# `logging` empties the cache of every logger when a level changes anywhere. Nobody logs by this one.
_cache: dict[int, bool] = logging.getLogger("socketless.levels")._cache  # type: ignore[attr-defined]
_marks = itertools.count(1)


class Levels:
    """The levels that were set in this process, beside those that a worker has been told. Any thread may call it."""

    def __init__(self) -> None:
        self._mark = -next(_marks)  # no level, and no other worker's
        self._now: dict[str, int] = {}
        self._told: dict[str, int] = {}  # the same object as `_now`, unless the worker has to be told

    def current(self) -> dict[str, int]:
        """Return the levels for a worker that is about to start, and take them as told."""
        self._look()
        self._told = self._now
        return self._now

    def changed(self) -> dict[str, int] | None:
        """Return the levels if the worker has others, else `None`; that costs next to nothing."""
        if self._mark not in _cache:
            self._look()
        return None if self._now is self._told else self._now

    def tell(self, levels: dict[str, int]) -> None:
        """Take note that the worker has these now; until then, every exchange tries to tell it."""
        self._told = levels

    def _look(self) -> None:
        _cache[self._mark] = True  # first: what changes from here on is for the next look
        now = _levels()
        self._now = self._told if now == self._told else now


def _levels() -> dict[str, int]:
    loggers = list(logging.root.manager.loggerDict.items())  # a copy at once: threads may add to it
    levels = {name: logger.level for name, logger in loggers if isinstance(logger, logging.Logger) and logger.level}
    if logging.root.level != logging.WARNING:
        levels[""] = logging.root.level
    return levels
