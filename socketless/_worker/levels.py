"""The levels of the host's loggers, which hold for the app's: `caplog.set_level()` is called there."""

from __future__ import annotations

import logging


class HostLevels:
    """Which levels the host has set here, and what was there before. One thread at a time may use it."""

    def __init__(self) -> None:
        self._set: dict[str, tuple[int, int]] = {}  # by the logger's name: its own level, and the host's

    def apply(self, levels: dict[str, int]) -> None:
        """Set `levels`, and give the other loggers back what they had, unless the app has changed it meanwhile."""
        for name in self._set.keys() - levels.keys():
            logger = logging.getLogger(name)
            own, hosts = self._set.pop(name)
            if logger.level == hosts:
                logger.setLevel(own)
        for name, level in levels.items():
            logger = logging.getLogger(name)
            own, hosts = self._set.get(name, (logger.level, logger.level))
            self._set[name] = own if logger.level == hosts else logger.level, level
            if logger.level != level:
                logger.setLevel(level)
