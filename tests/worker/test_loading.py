"""Import strings, and which kind of app it is."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import werkzeug
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from fastapi import FastAPI
from flask import Flask
from starlette.endpoints import HTTPEndpoint

from socketless._host.app_source import find_import_path
from socketless._wire.import_strings import LoadError, load_path, parse_path
from socketless._wire.messages import InheritedSource
from socketless._worker.loading import app_kind, load_app


def wsgi_function(environ: Any, start_response: Any) -> Any: ...
async def asgi_function(scope: Any, receive: Any, send: Any) -> None: ...
def asgi_returns_awaitable(scope: Any, receive: Any, send: Any) -> Any: ...
def asgi2_function(scope: Any) -> Any: ...
def factory(config: Any = None) -> Any: ...
def wsgi_more(environ: Any, start_response: Any, extra: Any = None) -> Any: ...
def wsgi_any(*args: Any) -> Any: ...
async def asgi_any(*args: Any) -> None: ...


class WsgiInstance:
    def __call__(self, environ: Any, start_response: Any) -> Any: ...


class AsgiInstance:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


class AsgiMethods:
    async def handle(self, scope: Any, receive: Any, send: Any) -> None: ...


class WsgiClass:
    """The app class of PEP 3333: calling it makes the iterable."""

    def __init__(self, environ: Any, start_response: Any) -> None: ...
    def __iter__(self) -> Any: ...


class Asgi2Class:
    def __init__(self, scope: Any) -> None: ...
    async def __call__(self, receive: Any, send: Any) -> None: ...


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


KINDS: list[tuple[Any, str]] = [
    (wsgi_function, "wsgi"),
    (wsgi_more, "wsgi"),
    (WsgiInstance(), "wsgi"),
    (WsgiClass, "wsgi"),
    (functools.partial(wsgi_function), "wsgi"),
    (functools.partial(wsgi_more, extra=1), "wsgi"),
    (decorated(wsgi_function), "wsgi"),
    (werkzeug.Request.application(lambda request: None), "wsgi"),  # type: ignore[arg-type,return-value]
    (Flask(__name__), "wsgi"),
    (Flask(__name__).wsgi_app, "wsgi"),
    (WSGIHandler, "factory"),
    (asgi_function, "asgi"),
    (asgi_any, "asgi"),
    (asgi_returns_awaitable, "asgi"),
    (AsgiInstance(), "asgi"),
    (AsgiMethods().handle, "asgi"),
    (functools.partial(asgi_function), "asgi"),
    (functools.partial(AsgiInstance()), "asgi"),
    (decorated(asgi_function), "asgi"),
    (FastAPI(), "asgi"),
    (HTTPEndpoint, "asgi"),
    (ASGIHandler, "factory"),
    (asgi2_function, "asgi2"),
    (Asgi2Class, "asgi2"),
    (functools.partial(Asgi2Class), "asgi2"),
    (factory, "factory"),
    (lambda: None, "factory"),
    (lambda config=None, debug=False: None, "factory"),
]


@pytest.mark.parametrize(("app", "kind"), KINDS)
def test_app_kind(app: Any, kind: str) -> None:
    """The kind of an app is told by its signature."""
    assert app_kind(app, "auto", "it") == kind


def test_forced_kind() -> None:
    """app_kind decides where the signature does not, and a factory stays one."""
    assert app_kind(wsgi_any, "wsgi", "it") == "wsgi"
    assert app_kind(wsgi_any, "asgi", "it") == "asgi"
    assert app_kind(asgi2_function, "asgi", "it") == "asgi2"
    for kind in ("wsgi", "asgi"):
        assert app_kind(lambda: None, kind, "it") == "factory"
        assert app_kind(factory, kind, "it") == "factory"
    with pytest.raises(LoadError, match="^cannot tell whether it is a WSGI or an ASGI app, it may be either"):
        app_kind(wsgi_any, "auto", "it")


def test_builtin_without_signature() -> None:
    """A callable whose signature nobody knows needs app_kind."""
    with pytest.raises(LoadError, match="it may be either; give app_kind="):
        app_kind(max, "auto", "it")


@pytest.mark.parametrize(
    ("path", "parsed"),
    [
        ("a:b", ("a", "b", None)),
        ("a.b.c:d.e", ("a.b.c", "d.e", None)),
        ("a:make()", ("a", "make", ([], {}))),
        ("a:Make.app('x', 2, key=[True, None])", ("a", "Make.app", (["x", 2], {"key": [True, None]}))),
    ],
)
def test_parse_path(path: str, parsed: Any) -> None:
    """An import string is a module, a dotted attribute, and maybe a call with literals."""
    assert parse_path(path) == parsed


@pytest.mark.parametrize(
    "path", ["", "a", "a:", ":b", "a:b:c", "a b:c", "a:1", "a:b[0]", "a:b(c)", "a:b(**{})", "a:b()()"]
)
def test_malformed_path(path: str) -> None:
    """Anything else is refused."""
    with pytest.raises(LoadError):
        parse_path(path)


def test_load_path() -> None:
    """Dotted attributes are followed and factories called."""
    assert load_path("collections:OrderedDict.fromkeys('ab', 1)") == {"a": 1, "b": 1}
    with pytest.raises(LoadError, match="^collections:__name__ is not callable"):
        load_path("collections:__name__()")


def test_factory_is_called() -> None:
    """A callable that takes no argument is called for the app; once."""
    app, kind = load_app(InheritedSource(lambda: asgi_function, "it"), "auto")
    assert (app, kind) == (asgi_function, "asgi")
    with pytest.raises(LoadError, match="^what it returned takes no argument"):
        load_app(InheritedSource(lambda: lambda: asgi_function, "it"), "auto")


def test_find_import_path() -> None:
    """An object is found under the module that made it, rather than where it was imported to."""
    from apps import conformance_app

    assert find_import_path(conformance_app.wsgi) == "apps.conformance_app:wsgi"
    assert find_import_path(asgi_function) == f"{__name__}:asgi_function"
    assert find_import_path(WsgiInstance()) is None


def test_wrapped_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """An app that a decorator has wrapped is found where it is, though it says that it was made elsewhere."""
    import sys

    wrapped = decorated(asgi_function)
    wrapped.__module__ = "somewhere.else"
    monkeypatch.setattr(sys.modules[__name__], "asgi_function", wrapped)
    assert find_import_path(wrapped) == f"{__name__}:asgi_function"


def test_function_that_was_put_into_a_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that a test puts into a module is not looked for there: a fresh interpreter finds another."""
    from apps import conformance_app

    def patched(environ: Any, start_response: Any) -> list[bytes]:
        return []

    monkeypatch.setattr(conformance_app, "wsgi", patched)
    assert find_import_path(patched) is None
