"""From what the host sent to an app that can be called, and which kind of app it is."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from socketless._wire.apps import WAYS_OUT, loading
from socketless._wire.import_strings import FIRST_ARGUMENTS, LoadError, load_path
from socketless._wire.messages import AppSource, ImportSource, PickledSource
from socketless._wire.pickling import loads

_ARGUMENTS = {"wsgi": ({2}, "(environ, start_response)"), "asgi": ({1, 3}, "(scope, receive, send)")}  # and how many
_SHOWN = 5  # arguments


def load_app(source: AppSource, kind: str) -> tuple[Callable[..., Any], str]:
    """Return the app and its kind: "wsgi", "asgi" (version 3) or "asgi2".

    A callable that takes no argument is a factory and is called.

    Raises:
        LoadError: there is no such app, or its kind cannot be told.
    """
    with loading():
        return _load_app(source, kind)


def _load_app(source: AppSource, kind: str) -> tuple[Callable[..., Any], str]:
    app = load(source)
    found = app_kind(app, kind, source.description)
    if found == "factory":
        app = app()
        where = f"what {source.description} returned"
        if inspect.iscoroutine(app):
            app.close()
            raise LoadError(f"{source.description} is an async factory; write a sync one, it may call asyncio.run()")
        found = app_kind(app, kind, where)
        if found == "factory":
            raise LoadError(f"{where} takes no argument, so it is not a WSGI or ASGI app: {app!r}")
    return app, found


def load_hook(source: AppSource) -> Callable[[], Any]:
    """Return the reset hook.

    Raises:
        LoadError: there is no such hook, or it cannot be called.
    """
    try:
        hook: Callable[[], Any] = load(source)
    except LoadError as error:
        raise LoadError(f"the reset hook is not usable: {error}") from None
    if not callable(hook):
        raise LoadError(f"the reset hook {source.description} is not callable: {hook!r}")
    return hook


def load(source: AppSource) -> Any:
    """Return the object that a source stands for. Exceptions of the module's own code pass through."""
    if isinstance(source, ImportSource):
        return load_path(source.path)
    if isinstance(source, PickledSource):
        try:
            return loads(source.pickled)
        except Exception as error:
            what = f"{source.description} was sent by value, and cannot be rebuilt: {type(error).__name__}: {error}."
            raise LoadError(f"{what}\n{WAYS_OUT}") from None
    return source.value


def app_kind(app: Any, wanted: str, where: str) -> str:
    """Tell "wsgi", "asgi" (version 3), "asgi2" and "factory" apart, by how many arguments the app takes.

    WSGI takes `(environ, start_response)` (PEP 3333), ASGI 3 `(scope, receive, send)`, ASGI 2 `(scope)`. Functions,
    instances, classes and partials all count by their signature. `wanted` forces a kind where it is not "auto".

    Raises:
        LoadError: not callable, or it could be several kinds.
    """
    if not callable(app):
        raise LoadError(f"{where} is not callable, so it is not a WSGI or ASGI app: {app!r}")
    if _is_of_werkzeug(app) and wanted != "asgi":
        return "wsgi"
    counts, names = _parameters(app)
    first = names[0] if names else ""
    if 0 in counts and first not in FIRST_ARGUMENTS:
        if first != "*" or inspect.isclass(app):
            return "factory"  # def create_app(config=None), or a class with defaults for all
    if wanted != "auto":
        possible_counts, arguments = _ARGUMENTS[wanted]
        if names and not counts & possible_counts:
            raise LoadError(
                f"{where} cannot be run as {wanted.upper()}: it takes ({', '.join(names)}), not {arguments}; leave out "
                f"app_kind={wanted!r}"
            )
        return "asgi2" if wanted == "asgi" and counts == {1} else wanted
    if getattr(app, "_asgi_double_callable", False) is True:  # a mock has every attribute
        return "asgi2"
    if getattr(app, "_asgi_single_callable", False) is True or _is_async(app):
        return "asgi"
    if first == "scope":
        return "asgi2" if counts == {1} else "asgi"
    if first in ("environ", "env"):
        return "wsgi"
    if inspect.isclass(app) and any("__call__" in vars(base) for base in app.__mro__):
        raise LoadError(f"{where} is a class; perhaps its objects are apps: give {app.__name__}(...)")
    possible = [kind for count, kind in ((2, "wsgi"), (3, "asgi")) if count in counts]
    if len(possible) == 1:
        return possible[0]
    if possible or not names:
        what = "it may be either; give app_kind='wsgi' or 'asgi'"
    else:
        arguments = ", ".join(names[:_SHOWN]) + ", ..." * (len(names) > _SHOWN)
        what = f"it takes ({arguments}); if it is a factory, write the call: 'package.module:factory({arguments})'"
    raise LoadError(f"cannot tell whether {where} is a WSGI or an ASGI app, {what}")


def _parameters(app: Any) -> tuple[set[int], list[str]]:
    """Return which of 0 to 3 positional arguments `app` takes, and its parameters' names, `*args` as `*`."""
    try:
        signature = inspect.signature(app)
    except (ValueError, TypeError):
        return set(), []
    counts = set()
    for count in range(4):
        try:
            signature.bind(*[None] * count)
        except TypeError:
            continue
        counts.add(count)
    parameters = signature.parameters.values()
    return counts, ["*" if parameter.kind is parameter.VAR_POSITIONAL else parameter.name for parameter in parameters]


def _is_of_werkzeug(app: Any) -> bool:
    """Return whether an app is decorated by `werkzeug.Request.application`: its signature is that of the function."""
    names = getattr(getattr(app, "__func__", app), "__globals__", None)
    return isinstance(names, dict) and names.get("__name__") == "werkzeug.wrappers.request"


def _is_async(app: Any) -> bool:
    call = app if inspect.isroutine(app) else getattr(app, "func", None) or type(app).__call__
    return not inspect.isclass(app) and (inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(call))
