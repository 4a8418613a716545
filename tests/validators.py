"""Whether both sides keep to PEP 3333 and to the ASGI specification, for the apps of the tests: as middleware.

What the server gives must be right. What an ASGI app gives is checked, too: it must be an error if, and only if, it is
wrong. So one that breaks the rules on purpose can be wrapped as well. `tox -e validate` wraps those of all tests.
"""

from __future__ import annotations

import wsgiref.validate
from collections.abc import Callable
from functools import wraps
from types import SimpleNamespace
from typing import Any

from socketless.errors import AppProtocolError

# Of PEP 3333, these are none: that each response has a Content-Type, and that there are eight methods.
wsgiref.validate.check_content_type = lambda status, headers: None  # type: ignore[attr-defined]
wsgiref.validate.warnings = SimpleNamespace(warn=lambda *args: None)  # type: ignore[attr-defined]


def assert_of_wsgi(condition: object, *details: object) -> None:
    if not condition:
        on_break(f"WSGI: {' '.join(map(str, details))}")
        raise AssertionError(*details)


def read(self: Any, *args: Any) -> bytes:
    """Of `wsgi.input`. A server should let it be called without a size (PEP 3333, "Input and Error Streams")."""
    data = self.input.read(*args)
    assert_of_wsgi(type(data) is bytes, "read() returns bytes")
    return data  # type: ignore[no-any-return]


wsgiref.validate.assert_ = assert_of_wsgi  # type: ignore[attr-defined]
wsgiref.validate.InputWrapper.read = read  # type: ignore[method-assign]


def valid_wsgi(app: Any) -> Any:
    """Return a WSGI app under `wsgiref.validate`, but for `/head`, which breaks the rules on purpose."""
    validated = wsgiref.validate.validator(app)

    @wraps(app)
    def either(environ: Any, start_response: Any) -> Any:
        return (app if environ["PATH_INFO"] == "/head" else validated)(environ, start_response)

    return either


def on_break(text: str) -> None:
    """Take notice of a rule that is broken, before that is raised; `validating/sitecustomize.py` replaces it."""


def check(condition: object, rule: str, seen: object) -> None:
    if not condition:
        on_break(f"ASGI: {rule}, not {seen!r}")
    assert condition, f"ASGI: {rule}, not {seen!r}"


def valid_asgi(app: Any) -> Any:
    """Return an ASGI 3 app whose exchanges are validated, in both directions."""

    @wraps(app)
    async def validated(scope: Any, receive: Any, send: Any) -> None:
        if "spec_version" not in scope.get("asgi", ()):  # Starlette's TestClient, beside which ours is tested
            await app(scope, receive, send)
            return
        kind = KINDS[scope["type"]](scope)
        await app(scope, kind.receiving(receive), kind.sending(send))

    return validated


class Lifespan:
    """An exchange of any kind. Subclasses say what may be received, and what may be sent next."""

    state = "lifespan.startup"  # what the app's next answer is to

    def __init__(self, scope: Any) -> None:
        check(type(scope) is dict, "a scope is a dict", type(scope))
        check(set(scope["asgi"]) == {"version", "spec_version"}, "scope['asgi'] has two versions", scope["asgi"])
        check(isinstance(scope.get("state", {}), dict), "a state is a dict", scope.get("state"))

    def receiving(self, receive: Any) -> Callable[[], Any]:
        async def validated() -> Any:
            event = await receive()
            check(type(event) is dict and type(event["type"]) is str, "an event is a dict with a type", event)
            self.received(event)
            return event

        return validated

    def sending(self, send: Any) -> Callable[[Any], Any]:
        async def validated(event: Any) -> None:
            after = self.after(event)
            try:
                await send(event)
            except AppProtocolError as error:
                check(after is None, f"this may be sent ({error})", event)
                raise
            check(after is not None, f"what may be sent here is something else ({type(self).__name__})", event)
            self.sent(event, after)

        return validated

    def received(self, event: Any) -> None:
        check(event["type"] in ("lifespan.startup", "lifespan.shutdown"), "a lifespan has two events", event)

    def after(self, event: Any) -> Any:
        """Return the state after the app has sent an event; `None`: it must not."""
        is_answer = event["type"] in (f"{self.state}.complete", f"{self.state}.failed")
        return {"lifespan.startup": "lifespan.shutdown", "lifespan.shutdown": "over"}[self.state] if is_answer else None

    def sent(self, event: Any, after: Any) -> None:
        """Take notice that it has."""
        self.state = after


class Connection(Lifespan):
    """What HTTP and WebSockets have in common."""

    schemes: tuple[str, ...]
    state = "begun"
    has_ended = False  # the client's events

    def __init__(self, scope: Any) -> None:
        super().__init__(scope)
        check(scope["http_version"] == "1.1", "there is one version of HTTP", scope["http_version"])
        check(scope["scheme"] in self.schemes, f"a scheme is one of {self.schemes}", scope["scheme"])
        for key, kind in {"path": str, "raw_path": bytes, "query_string": bytes, "root_path": str}.items():
            check(type(scope[key]) is kind, f"{key} is {kind.__name__}", scope[key])
        check(not scope["root_path"].endswith("/"), "a root path does not end with a slash", scope["root_path"])
        for address in (scope["client"], scope["server"]):
            check(is_address(address), "an address is host and port", address)
        check(type(scope["extensions"]) is dict, "extensions are a dict", scope["extensions"])
        for header in scope["headers"]:
            check(is_header(header), "a header is two byte strings", header)
            check(header[0] == header[0].lower(), "names of headers are in small letters", header)


class Http(Connection):
    schemes = ("http", "https")
    length: int | None = None
    size = 0

    def __init__(self, scope: Any) -> None:
        super().__init__(scope)
        check(scope["method"] == scope["method"].upper(), "a method is in capitals", scope["method"])
        self.is_lenient = ("testclient", 50000) == tuple(scope["client"] or ())
        self.is_head = scope["method"] == "HEAD"

    def received(self, event: Any) -> None:
        if event["type"] == "http.request":
            check(not self.has_ended, "nothing comes after the last piece of a body", event)
            check(type(event["body"]) is bytes and type(event["more_body"]) is bool, "a body is bytes", event)
            self.has_ended = not event["more_body"]
        else:
            check(event == {"type": "http.disconnect"}, "HTTP has two events", event)

    def after(self, event: Any) -> Any:
        kind = event["type"]
        if kind == "http.response.start" and self.state == "begun":
            return self.after_start(event)
        if kind == "http.response.body" and self.state in ("started", "started, with trailers"):
            return self.after_body(event)
        if kind == "http.response.pathsend" and self.state in ("started", "started, with trailers"):
            return self.state.replace("started", "ended") if type(event["path"]) is str else None
        if kind == "http.response.trailers" and self.state == "ended, with trailers":
            return self.state if event.get("more_trailers") else "ended"
        return self.state if kind == "http.response.debug" else None

    def after_start(self, event: Any) -> Any:
        lengths = lengths_of(event.get("headers", ()))
        if not is_status(event.get("status"), 100 if self.is_lenient else 200) or lengths is None:
            return None
        is_bodiless = self.is_head or event["status"] in (204, 304)
        self.length = lengths.pop() if lengths and not is_bodiless else None
        return "started, with trailers" if event.get("trailers") else "started"

    def after_body(self, event: Any) -> Any:
        body, more = event.get("body", b""), event.get("more_body", False)
        if not isinstance(body, (bytes, bytearray, memoryview)):
            return None
        size = self.size + len(body)
        if self.length is not None and (size > self.length or (size < self.length and not more)):
            return None
        return self.state if more else self.state.replace("started", "ended")

    def sent(self, event: Any, after: Any) -> None:
        self.state = after
        self.size += len(event.get("body", b""))


class WebSocket(Connection):
    schemes = ("ws", "wss")

    def __init__(self, scope: Any) -> None:
        super().__init__(scope)
        check(all(type(each) is str for each in scope["subprotocols"]), "subprotocols are text", scope["subprotocols"])
        self.is_connected = False
        self.end: Any = None

    def received(self, event: Any) -> None:
        kind = event["type"]
        check(self.is_connected or kind == "websocket.connect", "the first event is websocket.connect", event)
        check(self.end in (None, event), "after the end there is nothing else", event)
        if kind == "websocket.connect":
            check(not self.is_connected, "websocket.connect comes once", event)
            self.is_connected = True
        elif kind == "websocket.receive":
            values = [value for value in (event.get("text"), event.get("bytes")) if value is not None]
            check([type(value) for value in values] in ([str], [bytes]), "a message is text, or bytes", event)
        else:
            check(kind == "websocket.disconnect", "WebSockets have three events", event)
            check(
                type(event["code"]) is int and isinstance(event["reason"], (str, type(None))), "an end says why", event
            )
            self.end = event

    def after(self, event: Any) -> Any:
        after = {
            ("begun", "websocket.accept"): self.after_accept,
            ("begun", "websocket.close"): self.after_close,
            ("begun", "websocket.http.response.start"): self.after_start,
            ("denying", "websocket.http.response.body"): self.after_body,
            ("open", "websocket.send"): self.after_send,
            ("open", "websocket.close"): self.after_close,
        }.get((self.state, event["type"]))
        return None if after is None else after(event)

    def after_accept(self, event: Any) -> Any:
        is_right = lengths_of(event.get("headers", ())) is not None
        return "open" if is_right and isinstance(event.get("subprotocol"), (str, type(None))) else None

    def after_close(self, event: Any) -> Any:
        code, reason = event.get("code", 1000), event.get("reason") or ""
        if not isinstance(code, int) or not 1000 <= code <= 4999:
            return None
        if self.state == "open":
            is_sendable = code in (1000, 1001, 1002, 1003, *range(1007, 1015)) or code >= 3000
            if not is_sendable or not isinstance(reason, str) or len(reason.encode(errors="replace")) > 123:
                return None
        return "closed"

    def after_start(self, event: Any) -> Any:
        lengths = lengths_of(event.get("headers", ()))
        if lengths is None or not is_status(event.get("status"), 200):
            return None
        self.length, self.size = next(iter(lengths), None), 0
        return "denying"

    def after_body(self, event: Any) -> Any:
        return Http.after_body(self, event) and ("denying" if event.get("more_body") else "closed")  # type: ignore[arg-type]

    def after_send(self, event: Any) -> Any:
        text, raw = event.get("text"), event.get("bytes")
        is_text = isinstance(text, str) and raw is None
        return "open" if is_text or (isinstance(raw, (bytes, bytearray, memoryview)) and text is None) else None

    sent = Http.sent
    size = 0


KINDS = {"lifespan": Lifespan, "http": Http, "websocket": WebSocket}
TOKEN = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def is_address(address: Any) -> bool:
    return address is None or (len(address) == 2 and type(address[0]) is str and type(address[1]) in (int, type(None)))


def is_header(header: Any) -> bool:
    return len(header) == 2 and {type(part) for part in header} == {bytes}


def is_status(status: Any, least: int) -> bool:
    return isinstance(status, int) and least <= status <= 999


def lengths_of(headers: Any) -> set[int] | None:
    """Return what headers say of the body's length; `None`: a server would not send them."""
    lengths: set[bytes] = set()
    codings = []
    try:
        for name, value in headers:
            raw_name, raw_value = bytes(memoryview(name)), bytes(memoryview(value))
            if not raw_name.strip(TOKEN) == b"" != raw_name or any(code in raw_value for code in CONTROLS):
                return None
            if raw_name.lower() == b"content-length":
                lengths.update(length.strip() for length in raw_value.split(b","))
            if raw_name.lower() == b"transfer-encoding":
                codings.append(raw_value.strip().lower())
    except (TypeError, ValueError):
        return None
    is_right = len(lengths) <= 1 and all(length.isdigit() for length in lengths) and codings in ([], [b"chunked"])
    return {int(length) for length in lengths if not codings} if is_right else None


CONTROLS = {*range(9), *range(10, 32), 127}
