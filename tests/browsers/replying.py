"""An ASGI app that replies as its URL asks it to, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any
from urllib.parse import parse_qs

# What a request says about the page. Chromium shows its requests before it adds the rest.
SEEN = ("host", "cookie", "origin", "referer", "content-type", "content-length", "authorization", "x-own", "accept",
        "accept-encoding", "accept-language", "access-control-request-method", "access-control-request-headers",
        "user-agent")  # fmt: skip

START = """<!doctype html><title>start</title><link rel=icon href=data:,><script>
function at(host, {status = 200, h = [], body = "", path = "/r", more = ""} = {}) {
    const query = new URLSearchParams([["status", status], ["body", body], ...h.map(each => ["h", each])]);
    return (host ? "http://" + host : "") + path + "?" + query + more;
}
async function told(promise) {
    try {
        const r = await promise;
        const headers = [...r.headers].filter(([name]) => name[0] === "x" || name === "content-type");
        return [r.type, r.status, r.redirected, r.url, await r.text(), headers];
    } catch (error) { return error.name; }
}
function chat(path, messages, then = w => w.close(1000), protocols = ["first", "second"]) {
    const events = [];
    return new Promise(ok => {
        const w = new WebSocket("ws://" + location.host + path, protocols);
        w.binaryType = "arraybuffer";
        w.onopen = () => { events.push(["open", w.protocol]); messages.forEach(each => w.send(each)); };
        w.onmessage = e => {
            events.push(typeof e.data === "string" ? e.data : [...new Uint8Array(e.data)]);
            if (events.length === messages.length + 1) then(w);
        };
        w.onerror = () => events.push("error");
        w.onclose = e => { events.push(["close", e.code, e.reason, e.wasClean]); ok(events); };
    });
}
function submit(action, method = "post", fields = {a: "1"}, enctype = "application/x-www-form-urlencoded") {
    const form = document.createElement("form");
    Object.assign(form, {action, method, enctype});
    for (const [name, value] of Object.entries(fields)) {
        const input = document.createElement("input");
        Object.assign(input, {name, value});
        form.append(input);
    }
    document.body.append(form);
    form.submit();
}
</script><body>start"""


class Replying:
    """The app. `seen` is what it was asked, `gone` the paths whose clients have left."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.gone: list[str] = []

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": message["type"] + ".complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        if scope["type"] == "websocket":
            self.seen.append({name: headers[name] for name in ("host", "origin", "cookie") if name in headers})
            await self._websocket(scope, receive, send)
            return
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        if scope["path"] != "/favicon.ico":
            entry = {
                "method": scope["method"],
                "target": scope["raw_path"].decode() + "?" + scope["query_string"].decode(),
            }
            seen = {name: headers[name] for name in SEEN if name in headers}
            self.seen.append({**entry, **seen, "body": body.decode("latin-1")})
        await self._reply(scope, body, receive, send)

    async def _reply(self, scope: dict[str, Any], body: bytes, receive: Any, send: Any) -> None:
        asked = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        query = parse_qs(scope["query_string"].decode(), keep_blank_values=True)
        path = scope["path"]
        status, content = int(query.get("status", ["200"])[0]), query.get("body", [""])[0].encode("latin-1")
        out = [(b"content-type", b"text/html; charset=utf-8")]
        for line in query.get("h", []):
            name, _, value = line.partition(": ")
            out = [each for each in out if each[0] != b"content-type" or name.lower() != "content-type"]
            out.append((name.lower().encode(), value.encode("latin-1")))
        if path == "/start":
            content = START.encode()
        elif path == "/binary":
            content = bytes(range(256)) * int(query.get("times", ["1"])[0])
        elif path == "/metadata":
            content = json.dumps({name: value for name, value in asked.items() if name.startswith("sec-")}).encode()
        elif path == "/secret" and "authorization" not in asked:
            status = 401
            out.append((b"www-authenticate", b'Basic realm="x"'))
        elif path == "/echo":
            content = body
        elif path == "/json":
            content = json.dumps(self.seen[-1]).encode()
        elif path == "/packed":
            out.append((b"content-encoding", b"gzip"))
            content = gzip.compress(b"packed " * 100)
        elif path == "/hang":
            try:
                await receive()
            finally:  # it is cancelled as well
                self.gone.append(scope["query_string"].decode())
            return
        await send({"type": "http.response.start", "status": status, "headers": out})
        if path == "/stream":
            for each in range(3):
                await send({"type": "http.response.body", "body": b"chunk %d " % each, "more_body": True})
                await asyncio.sleep(0)
        if path == "/breaks":
            await send({"type": "http.response.body", "body": b"begun ", "more_body": True})
            raise RuntimeError("it breaks off")
        await send({"type": "http.response.body", "body": content})

    async def _websocket(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        await receive()
        if scope["path"] == "/denied":
            await send({"type": "websocket.close", "code": 1008})
            return
        offered = scope["subprotocols"]
        await send({"type": "websocket.accept", "subprotocol": "first" if "first" in offered else None})
        while (event := await receive())["type"] == "websocket.receive":
            text = event.get("text")
            if text == "leave":
                await send({"type": "websocket.close", "code": 4001, "reason": "as asked"})
                return
            if text == "raise":
                raise RuntimeError("as asked")
            kind = "text" if text is not None else "bytes"
            await send({"type": "websocket.send", kind: event[kind]})
        self.gone.append(f"{event['code']} {event.get('reason') or ''}")
