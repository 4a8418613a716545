"""`Session`: a `requests.Session` for a worker, or for UNIX sockets."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import requests

from socketless._host.arguments import check_worker
from socketless._host.worker import Worker
from socketless._requests.adapter import IpcAdapter
from socketless._requests.unix import DEFAULT_SCHEME, UnixAdapter

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

__all__ = ["Session"]


class Session(requests.Session):
    """A `requests.Session` that sends its requests to a worker; without a worker, it reaches UNIX sockets as well.

        with IpcProcess("myapp:app") as worker, Session(worker=worker) as session:
            session.get("/")

        with Session() as session:
            session.get("http+unix://%2Ftmp%2Fapp.sock/")

    Args:
        url_scheme: the beginning of the URLs of UNIX sockets; the socket's percent-encoded path follows. Not for a
            worker.
        worker: the worker that answers ``http://`` and ``https://``, whatever the host.
        base_url: the base of relative URLs; with a worker, the default is ``http://testserver``.
        options: for a worker, those of `IpcAdapter`: `raise_app_exceptions`, `root_path` and `client`.

    Raises:
        TypeError: there are `options` without a worker, or a `url_scheme` with one; or `url_scheme` is not a string.
    """

    __attrs__ = [*requests.Session.__attrs__, "base_url"]  # what is pickled

    def __init__(
        self,
        url_scheme: str = DEFAULT_SCHEME,
        *,
        worker: Worker | None = None,
        base_url: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.base_url = base_url
        scheme: Any = url_scheme  # of UNIX sockets, as in requests-unixsocket; a worker here gets a hint
        if not isinstance(scheme, str):
            raise TypeError(f"write Session(worker=...) for a worker; url_scheme must be a string, not {scheme!r}")
        if worker is None:
            if options:
                raise TypeError(f"without a worker, Session takes no {', '.join(options)}")
            self.mount(url_scheme, UnixAdapter())
            return
        if url_scheme != DEFAULT_SCHEME:
            raise TypeError("with a worker, Session takes no url_scheme: it answers http:// and https://")
        if base_url is None:
            self.base_url = "http://testserver"
        check_worker(worker, "Session(worker={})")
        adapter = IpcAdapter(worker, **options)
        self.mount("http://", adapter)
        self.mount("https://", adapter)

    def prepare_request(self, request: requests.Request) -> requests.PreparedRequest:
        """Prepare a request as requests does, after making its URL absolute and encoding null characters in it."""
        if isinstance(request.url, str) and "\0" in request.url:
            request = _with_url(request, request.url.replace("\0", "%00"))
        if self.base_url:
            request = with_absolute_url(request, self.base_url)
        return super().prepare_request(request)


def with_absolute_url(request: requests.Request, base_url: str) -> requests.Request:
    """Return a request whose URL is relative as one whose URL begins with `base_url`; any other as it is."""
    url: Any = request.url
    text = url.decode() if isinstance(url, bytes) else str(url)
    parts = urlsplit(text)
    if parts.scheme or parts.netloc:
        return request
    return _with_url(request, f"{base_url.rstrip('/')}/{text.lstrip('/')}")


def _with_url(request: requests.Request, url: str) -> requests.Request:
    copy = requests.Request()
    vars(copy).update(vars(request), url=url)
    return copy
