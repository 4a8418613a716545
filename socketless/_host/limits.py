"""What an exchange may take: time, and bytes."""

from __future__ import annotations

from dataclasses import dataclass

from socketless.errors import BodyTooLarge


@dataclass
class Timeouts:
    """The time limits of one exchange, in seconds; `None` means for ever.

    `pool` is for a free channel, `write` and `read` for each time that the pipe is waited for. Code that measures the
    time itself may set them when it has passed.
    """

    pool: float | None = None
    write: float | None = None
    read: float | None = None


NO_LIMITS = Timeouts()


def check_body_size(size: int, limit: int | None, label: str) -> None:
    """Refuse a body of a request that is too large.

    Raises:
        BodyTooLarge: it is.
    """
    if limit is not None and size > limit:
        raise BodyTooLarge(f"{label}: the body of the request is larger than max_body_bytes={limit}")
