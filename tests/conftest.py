"""What all tests share."""

from __future__ import annotations

from socketless import eventloop

# So that the async tests of this process can run where sockets are refused, too.
eventloop.install()
