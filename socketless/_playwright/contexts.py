"""What is known of a browser context: its frames, by which the DevTools protocol names where a request comes from; and
what is put into it once, since Playwright takes none of that back: its WebSockets and its uploads.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from socketless._playwright.apis import Api
from socketless._playwright.uploads import Uploads

if TYPE_CHECKING:
    from socketless._playwright.serving import Serving

_ALL_URLS = re.compile("")


class Served:
    """A context that is, or was, served."""

    def __init__(self) -> None:
        self.servings: list[Serving] = []  # those that are open, the innermost last
        self.uploads = Uploads()
        self._is_prepared = False

    async def prepare(self, api: Api, context: Any) -> None:
        """Take over the WebSockets of the context, and learn of the files that are selected in its pages."""
        if self._is_prepared:
            return

        async def on_websocket(route: Any) -> None:
            if self.servings:
                await self.servings[-1].connect(route)
            else:
                route.connect_to_server()

        # The sync API, too, awaits what this returns; before 1.50 or so it gives it no greenlet to wait in.
        await api.call(context.route_web_socket, _ALL_URLS, on_websocket)
        await self.uploads.install(api, context)
        self._is_prepared = True


def served(context: Any) -> Served:
    """Return what is known of a context."""
    return _served.setdefault(context, Served())


_served: WeakKeyDictionary[Any, Served] = WeakKeyDictionary()  # no value may hold its context, or that stays for ever


class Frames:
    """The frames of one context. Playwright's API has no ids of frames; a session with a page has those in it.

    Args:
        cdp: a session with the browser.
    """

    def __init__(self, api: Api, context: Any, cdp: Any) -> None:
        self._api = api
        self._context = context
        self._cdp = cdp
        self._context_id: str | None = None  # the protocol's own; unknown until the context has a page
        self._known: dict[str, bool] = {}
        self._sessions: dict[Any, Any] = {}  # with pages

    async def have(self, frame_id: str) -> bool:
        """Return whether a frame, or a worker, is of this context."""
        if len(self._context.browser.contexts) == 1:
            return True
        if frame_id not in self._known:
            self._known[frame_id] = await self.find(frame_id)
        return self._known[frame_id]

    async def find(self, frame_id: str) -> bool:
        """Return whether a frame, or a worker, is there now, and of this context."""
        context_id = await self._context_id_of(self._cdp, {"targetId": frame_id})
        if context_id is None:  # a frame inside of a page
            return frame_id in [each async for each in self._frame_ids()]
        if self._context_id is None and self._context.pages:
            self._context_id = await self._context_id_of(await self._session(self._context.pages[0]), {})
        return context_id == self._context_id

    async def _context_id_of(self, session: Any, target: dict[str, str]) -> str | None:
        from playwright.async_api import Error

        try:
            answer = await self._api.call(session.send, "Target.getTargetInfo", target)
        except Error:
            return None
        context_id: str | None = answer["targetInfo"].get("browserContextId")
        return context_id

    async def _frame_ids(self) -> AsyncIterator[str]:
        for page in self._context.pages:
            session = await self._session(page)
            tree = (await self._api.call(session.send, "Page.getFrameTree"))["frameTree"]
            for each in _flat(tree):
                yield each

    async def _session(self, page: Any) -> Any:
        if page not in self._sessions:
            self._sessions[page] = await self._api.call(self._context.new_cdp_session, page)
        return self._sessions[page]


def _flat(tree: dict[str, Any]) -> Iterator[str]:
    yield tree["frame"]["id"]
    for child in tree.get("childFrames", ()):
        yield from _flat(child)
