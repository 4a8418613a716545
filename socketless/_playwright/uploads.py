"""The bodies of a page's requests, with the files in them.

What a page has in memory comes with the request. Of a file on the disk, as `set_input_files(path)` selects it, there is
a gap in its place. Nothing can be asked of a page while it leaves for another, so it tells beforehand: a script in each
page says which files are selected, and then what is in them.
"""

from __future__ import annotations

import asyncio
import re
from base64 import b64decode
from collections.abc import Mapping
from typing import Any

from socketless._playwright.apis import Api
from socketless.errors import TransferError

_PATIENCE = 30.0  # seconds, for a page to read a file
_NAME = "__socketless_file"  # of a function of the page

_PART = re.compile(rb'content-disposition: form-data; name="([^"]*)"; filename="([^"]+)"\r\n.*\r\n\r\n\Z', re.I | re.S)

# An "input" event, unlike "change", leaves the shadow tree that its element is in.
# document.open(), as of `page.set_content()`, removes listeners, but no observer.
_SCRIPT = f"""
(() => {{
const onInput = event => {{
    const input = event.composedPath()[0];
    if (!(input instanceof HTMLInputElement) || input.type !== "file") return;
    const tell = globalThis["{_NAME}"];
    [...input.files].forEach((file, index) => {{
        const key = [input.name, file.name, index];
        tell(...key, null);
        const reader = new FileReader();
        reader.onloadend = () => tell(...key, reader.result === null ? "" : reader.result);
        reader.readAsDataURL(file);
    }});
}};
const listen = () => addEventListener("input", onInput, true);
new MutationObserver(listen).observe(document, {{childList: true}});
listen();
}})();
"""


class Uploads:
    """The files that are selected in the pages of a context."""

    def __init__(self) -> None:
        # By field and name, in their order; `None` is a file that the page cannot read.
        self._files: dict[tuple[str, str], dict[int, asyncio.Future[bytes | None]]] = {}

    async def install(self, api: Api, context: Any) -> None:
        """Let the pages of a context, from their next document on, tell about their files."""
        await api.call(context.expose_binding, _NAME, self._on_file)
        await api.call(context.add_init_script, _SCRIPT)

    def _on_file(self, source: Any, field: str, name: str, index: int, url: str | None) -> None:
        files = self._files.setdefault((field, name), {})
        if url is None:
            files.pop(index, None)
            for other in [each for each in files if each > index]:  # of the selection before
                del files[other]
            files[index] = asyncio.get_running_loop().create_future()
        elif index in files and not files[index].done():
            files[index].set_result(b64decode(url.partition(",")[2]) if url else None)

    async def body_of(self, request: Mapping[str, Any]) -> bytes:
        """Return the body of a request that the DevTools protocol shows.

        Raises:
            TransferError: a part of it is nowhere to be found.
        """
        entries = request.get("postDataEntries", [])
        if request.get("hasPostData") and not entries:
            raise self._missing(request)
        body, used = b"", dict[tuple[str, str], int]()
        for entry in entries:
            body += b64decode(entry["bytes"]) if "bytes" in entry else await self._file_after(body, used, request)
        return body

    async def _file_after(self, body: bytes, used: dict[tuple[str, str], int], request: Mapping[str, Any]) -> bytes:
        part = _PART.search(body.rpartition(b"\r\n--")[2])
        key = (part[1].decode(), part[2].decode()) if part is not None else ("", "")
        futures = [*self._files.get(key, {}).values()]
        number = used[key] = used.get(key, -1) + 1
        if number >= len(futures):
            raise self._missing(request)
        content = await asyncio.wait_for(asyncio.shield(futures[number]), _PATIENCE)
        if content is None:
            raise self._missing(request)
        return content

    def _missing(self, request: Mapping[str, Any]) -> TransferError:
        return TransferError(
            f"{request['method']} {request['url']}: Chromium does not show the whole body of this request; a file can "
            "be given by set_input_files({'name': ..., 'mimeType': ..., 'buffer': ...}), and no stream at all"
        )
