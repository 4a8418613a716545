"""Virtual sockets: `socketless.loopback` says how they work."""
