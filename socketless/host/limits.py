"""What an exchange may take: time, and bytes."""

from __future__ import annotations

from typing import NamedTuple

from socketless.errors import BodyTooLarge


class Timeouts(NamedTuple):
    """The time limits of one exchange, in seconds; `None` means for ever.

    `pool` is for a free channel, `write` and `read` for each time that the pipe is waited for.
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
