"""Apps that play a scene, the same one on every side, and note what they saw of the request."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

RawHeaders = tuple[tuple[bytes, bytes], ...]


class Broken(Exception):
    """What an app raises where the scene says so."""


@dataclass(frozen=True)
class Scene:
    """A request, and the answer to it.

    The app raises before the chunk of that number, or after all of them; at -1, before its response begins.
    """

    method: str = "GET"
    target: str = "/"
    sent_headers: RawHeaders = ()
    sent: tuple[bytes, ...] = ()  # one chunk: a body with its length; more: a stream
    status: int = 200
    headers: RawHeaders = ()
    chunks: tuple[bytes, ...] = (b"",)
    raises_at: int | None = None

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def is_bodiless(self) -> bool:
        """Whether the response has no body (RFC 9110, section 6.4.1)."""
        return self.method == "HEAD" or self.status in (204, 304)

    @property
    def length(self) -> int | None:
        """What the response's Content-Length says."""
        return next((int(value) for name, value in self.headers if name == b"content-length"), None)


@dataclass
class Stage:
    """What is being played in this process."""

    scene: Scene = field(default_factory=Scene)
    seen: Any = None


STAGE = Stage()


def play(scene: Scene) -> None:
    """Have the apps of this process play a scene."""
    STAGE.scene, STAGE.seen = scene, None


def seen() -> Any:
    """Return what the app has seen of the request."""
    return STAGE.seen


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """Play the scene."""
    assert scope["type"] == "http"
    body, more = b"", True
    while more:
        event = await receive()
        body, more = body + event.get("body", b""), event.get("more_body", False)
    STAGE.seen = {
        "method": scope["method"],
        "path": scope["path"],
        "raw_path": scope["raw_path"],
        "query": scope["query_string"],
        "headers": sorted((bytes(name), bytes(value)) for name, value in scope["headers"]),
        "body": body,
    }
    scene = STAGE.scene
    if scene.raises_at == -1:
        raise Broken
    await send({"type": "http.response.start", "status": scene.status, "headers": list(scene.headers)})
    for number, chunk in enumerate(scene.chunks):
        if scene.raises_at == number:
            raise Broken
        is_last = number == len(scene.chunks) - 1
        await send({"type": "http.response.body", "body": chunk, "more_body": not is_last})
    if scene.raises_at is not None:
        raise Broken


def wsgi(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    """Play the scene."""
    STAGE.seen = {
        "method": environ["REQUEST_METHOD"],
        "path": environ["PATH_INFO"],
        "query": environ["QUERY_STRING"],
        "headers": sorted(
            (name, value)
            for name, value in environ.items()
            if name.startswith("HTTP_") or (name in ("CONTENT_TYPE", "CONTENT_LENGTH") and value)
        ),
        "body": environ["wsgi.input"].read(),
    }
    scene = STAGE.scene
    if scene.raises_at == -1:
        raise Broken
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scene.headers]
    start_response(f"{scene.status} Whatever", headers)
    return _pieces(scene)


def _pieces(scene: Scene) -> Iterator[bytes]:
    for number, chunk in enumerate(scene.chunks):
        if scene.raises_at == number:
            raise Broken
        yield chunk
    if scene.raises_at is not None:
        raise Broken
