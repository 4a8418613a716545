"""Which browser context a request comes from: the DevTools protocol names its frame.

Playwright's API has no ids of frames. A session with a page has those in it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from socketless.playwright.apis import Api


class Frames:
    """The frames of one context.

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
            self._known[frame_id] = await self._find(frame_id)
        return self._known[frame_id]

    async def _find(self, frame_id: str) -> bool:
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
