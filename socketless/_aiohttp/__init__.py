"""What is behind `socketless.aiohttp`."""
