"""What a worker's arguments may be; and what is said where a worker is given for something else, or that for one."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any, Literal

from socketless._wire.apps import BACKENDS, KINDS, LIFESPANS

AppKind = Literal["auto", "wsgi", "asgi"]
Backend = Literal["asyncio", "trio"]
StartMethod = Literal["spawn", "fork"]
LifespanMode = Literal["auto", "on", "off"]
ENTERED: Any = "entered"  # a mode for the block of a test client: "on", unless the app says that it knows no lifespan
Env = Mapping[str, "str | None"]  # `None` takes a variable away


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
        ValueError: it is not one.
    """
    check_choice("backend", backend, BACKENDS)


def check_kind(app_kind: str) -> None:
    """Refuse a kind of app that there is not.

    Raises:
        ValueError: it is not one.
    """
    check_choice("app_kind", app_kind, KINDS)


def check_common(
    *,
    app_kind: str,
    backend: str,
    backend_options: Mapping[str, Any] | None,
    max_connections: int | None,
    max_restarts: int,
    max_body_bytes: int | None,
) -> None:
    """Refuse what no kind of worker takes.

    Raises:
        ValueError: one of the arguments.
    """
    check_kind(app_kind)
    check_backend(backend)
    if backend_options is not None and not isinstance(backend_options, Mapping):
        raise ValueError(f"backend_options must be a dict, not {backend_options!r}")
    if max_connections is not None:
        _check_number("max_connections", max_connections, at_least=1)
    _check_number("max_restarts", max_restarts, at_least=0)
    if max_body_bytes is not None:
        _check_number("max_body_bytes", max_body_bytes, at_least=0)


def lifespan_mode(lifespan: bool | LifespanMode) -> LifespanMode:
    """Return the mode that a worker's argument stands for.

    Raises:
        ValueError: it stands for none.
    """
    if isinstance(lifespan, bool):
        return "auto" if lifespan else "off"
    if lifespan not in (*LIFESPANS, ENTERED):
        raise ValueError(f"lifespan must be True, False, 'auto', 'on' or 'off', not {lifespan!r}")
    return lifespan


def _check_number(name: str, value: Any, *, at_least: int) -> None:
    if not isinstance(value, int) or value < at_least:
        raise ValueError(f"{name} must be a number, at least {at_least}, not {value!r}")


def check_seconds(name: str, value: float | None) -> None:
    """Refuse what is no time limit.

    Raises:
        ValueError: it is not one.
    """
    if value is not None and not (isinstance(value, (int, float)) and value >= 0):
        raise ValueError(f"{name} must be a number of seconds, or None for no limit, not {value!r}")


def check_env(env: Env | None) -> None:
    """Refuse environment variables that are no strings, and not `None` either.

    Raises:
        TypeError: one of them is neither.
    """
    if env is not None and not isinstance(env, Mapping):
        raise TypeError(f"env must be a dict of strings, not {env!r}")
    for name, value in (env or {}).items():
        if not (isinstance(name, str) and isinstance(value, (str, bytes, os.PathLike, type(None)))):
            raise TypeError(f"env must be a dict of strings: write {str(name)!r}: {str(value)!r}, not {value!r}")


def changed_environ(env: Env) -> dict[str, Any]:
    """Return the environment of this process with the changes for a worker."""
    return {name: value for name, value in {**os.environ, **env}.items() if value is not None}


def argv_of_host() -> list[str]:
    """Return `sys.argv` for a worker, of which a test may have made anything."""
    return [_text_of(arg) for arg in getattr(sys, "argv", None) or []]


def _text_of(arg: object) -> str:
    try:
        return str.__str__(str(arg))  # of no class of its own
    except Exception:
        return object.__repr__(arg)


def newer_name(name: str, value: Any, older_name: str, older_value: Any) -> Any:
    """Return the value of an argument that has an older name as well.

    Raises:
        TypeError: it is given by both.
    """
    if value is not None and older_value is not None:
        raise TypeError(f"{name} and {older_name}, its older name, are both given; leave out {older_name}")
    return older_value if value is None else value


def check_worker(value: Any, form: str) -> None:
    """Refuse what is no worker, where one is wanted; `form` is what to write, with the worker as ``{}``.

    Raises:
        TypeError: it is not one.
    """
    if hasattr(type(value), "app_kind"):  # a worker, or what stands for one
        return
    if isinstance(value, type) and hasattr(value, "exchange_blocking"):
        worker = f"{value.__name__}('package.module:app')"
    elif isinstance(value, str):
        worker = f"IpcProcess({value!r})"
    else:
        worker = "IpcThread(app)" if callable(value) else "IpcProcess('package.module:app')"
    raise TypeError(f"{form.partition('(')[0]} takes a worker, {form.format(worker)}, not {value!r}")


def no_attribute(value: object, name: str, instead: Mapping[str, str]) -> AttributeError:
    """Return the error of an attribute that there is not; `instead` says what to write for names that are looked for.

    These are the methods that client libraries call, when a worker or a transport is where another belongs.
    """
    hint = f": {instead[name]}" if name in instead else ""
    return AttributeError(f"{type(value).__name__!r} object has no attribute {name!r}{hint}")
