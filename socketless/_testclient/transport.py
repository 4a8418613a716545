"""The transport of a `TestClient`, and what that of an `AsyncTestClient` has in common with it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from socketless._httpx.transport import IpcTransport
from socketless._testclient.requests import SESSION, STREAMED
from socketless._wire.messages import Request, Response
from socketless.websocket import WebSocketSession, session_of

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

if TYPE_CHECKING:
    from socketless._httpx.transport import _Transport as _Base
else:
    _Base = object


class Connected(Exception):
    """The session that a request has asked for, which is no response."""

    def __init__(self, session: Any) -> None:
        self.session = session


class Lenient(_Base):
    """What the transport of a test client does as Starlette's does."""

    _is_lenient = True  # Starlette's own tests need it
    _error_page = Response(500, "", [])
    _breaks_off = False

    def _message(self, request: Any) -> Request:
        is_paced = request.extensions.get(STREAMED, False)
        return replace(super()._message(request), is_paced=is_paced, offers_files=False)

    def _response(self, request: Any, *args: Any) -> Any:
        response = super()._response(request, *args)
        debug = response.extensions.get("http.response.debug", {})
        for name in ("template", "context"):
            if name in debug:
                setattr(response, name, debug[name])
        return response

    def connect(self, request: Any, kind: type[Any]) -> None:
        """Raise a session of that kind, if the request asks for one."""
        if SESSION in request.extensions and request.url.scheme in ("ws", "wss"):
            session = session_of(self.worker, request, kind, root_path=self.root_path, client=self.client)
            raise Connected(session)


class TestTransport(Lenient, IpcTransport):
    """The transport of a test client, whose responses tell of their template, and which does as Starlette's does.

    Of a response that is `STREAMED`, the app waits after each piece until somebody has taken it. It gets no offer to
    send a file by its path, so all middleware sees the file.
    """

    __test__ = False

    def handle_request(self, request: Any) -> Any:
        """Carry a request to the worker and return the app's response; see `IpcTransport.handle_request`.

        Raises:
            Connected: it asks for a session.
        """
        self.connect(request, WebSocketSession)
        return super().handle_request(request)
