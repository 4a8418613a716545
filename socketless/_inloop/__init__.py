"""An ASGI app on the event loop of its client: aiohttp's connector, and `AsyncTestClient`."""
