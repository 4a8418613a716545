"""The switch: sends the requests of all clients of a process to a worker, or to several by their hosts.

It is in `socketless/_switch/active.py`. The other modules there each say what is replaced in one client library: its
classes, and functions for their methods of the same name.
"""

from __future__ import annotations

from socketless._switch.active import Switch, active_switch, reset_ipc_state, switch_to_ipc_connection

__all__ = ["Switch", "active_switch", "reset_ipc_state", "switch_to_ipc_connection"]
