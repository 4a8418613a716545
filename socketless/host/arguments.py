"""What a worker's arguments may be."""

from __future__ import annotations

from socketless.worker.loading import BACKENDS, KINDS


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse an argument that is none of its possible values.

    Raises:
        ValueError: it is not.
    """
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, not {value!r}")


def check_backend(backend: str) -> None:
    """Refuse a backend that there is not.

    Raises:
        ValueError: it is none.
    """
    check_choice("backend", backend, BACKENDS)


def check_common(app_kind: str, backend: str, max_connections: int | None, max_body_bytes: int | None) -> None:
    """Refuse what no kind of worker takes.

    Raises:
        ValueError: one of the arguments.
    """
    check_choice("app_kind", app_kind, KINDS)
    check_backend(backend)
    if max_connections is not None and max_connections < 1:
        raise ValueError(f"max_connections must be at least 1, not {max_connections!r}")
    if max_body_bytes is not None and max_body_bytes < 0:
        raise ValueError(f"max_body_bytes must not be negative; None is for no limit, not {max_body_bytes!r}")


def check_seconds(name: str, value: float | None) -> None:
    """Refuse what is no time limit.

    Raises:
        ValueError: it is none.
    """
    if value is not None and not (isinstance(value, (int, float)) and value >= 0):
        raise ValueError(f"{name} must be a number of seconds, or None for ever, not {value!r}")
