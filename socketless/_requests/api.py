"""The functions of requests' own module, for UNIX sockets too, and `monkeypatch`, which puts them there."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

import requests

from socketless._requests.session import Session
from socketless._requests.unix import DEFAULT_SCHEME

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["delete", "get", "head", "monkeypatch", "options", "patch", "post", "put", "request"]


class _Api:
    """The functions of requests' own module, each of which has a session of its own."""

    def __init__(self, url_scheme: str) -> None:
        self._url_scheme = url_scheme

    def request(self, method: str, url: str, **options: Any) -> requests.Response:
        """Send a request; `options` are those of `requests.request()`."""
        with Session(self._url_scheme) as session:
            return session.request(method, url, **options)

    def get(self, url: str, params: Any = None, **options: Any) -> requests.Response:
        """Send a GET request."""
        return self.request("get", url, params=params, **options)

    def options(self, url: str, **options: Any) -> requests.Response:
        """Send an OPTIONS request."""
        return self.request("options", url, **options)

    def head(self, url: str, **options: Any) -> requests.Response:
        """Send a HEAD request; redirects are followed only with `allow_redirects=True`."""
        return self.request("head", url, **{"allow_redirects": False, **options})

    def post(self, url: str, data: Any = None, json: Any = None, **options: Any) -> requests.Response:
        """Send a POST request."""
        return self.request("post", url, data=data, json=json, **options)

    def put(self, url: str, data: Any = None, **options: Any) -> requests.Response:
        """Send a PUT request."""
        return self.request("put", url, data=data, **options)

    def patch(self, url: str, data: Any = None, **options: Any) -> requests.Response:
        """Send a PATCH request."""
        return self.request("patch", url, data=data, **options)

    def delete(self, url: str, **options: Any) -> requests.Response:
        """Send a DELETE request."""
        return self.request("delete", url, **options)


_api = _Api(DEFAULT_SCHEME)
request, get, options, head = _api.request, _api.get, _api.options, _api.head
post, put, patch, delete = _api.post, _api.put, _api.patch, _api.delete


_NAMES = ("request", "get", "options", "head", "post", "put", "patch", "delete")
_originals: dict[str, Any] = {}
_active: list[_Api] = []  # of each monkeypatch, the last one on top


def _patch() -> None:
    for name in _NAMES:
        setattr(requests, name, getattr(_active[-1], name) if _active else _originals[name])


class monkeypatch:
    """Makes the functions of the module requests, such as `requests.get()`, reach UNIX sockets as well.

    Calling it is enough. The end of a `with` block reverts it, and so does `undo()`. Sessions are not changed, nor are
    functions that were imported from the module before.

    Args:
        url_scheme: the beginning of the URLs of UNIX sockets.
    """

    def __init__(self, url_scheme: str = DEFAULT_SCHEME) -> None:
        if not _active:
            _originals.update((name, getattr(requests, name)) for name in _NAMES)
        self._api = _Api(url_scheme)
        _active.append(self._api)
        _patch()

    def undo(self) -> None:
        """Restore the functions; if another `monkeypatch` is still on, its own. May be called twice."""
        if self._api in _active:
            _active.remove(self._api)
            _patch()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.undo()
