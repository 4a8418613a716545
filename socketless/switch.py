"""The switch: sends the clients of a whole process to one worker.

`active` has it; each other module says what it replaces of one client library: classes, and functions for their methods
of the same name.
"""

from __future__ import annotations

from socketless._switch.active import Switch, active_switch, reset_ipc_state, switch_to_ipc_connection

__all__ = ["Switch", "active_switch", "reset_ipc_state", "switch_to_ipc_connection"]
