"""HTTP/1.1 as bytes (RFC 9112), for whoever insists on them: one bridge, and three ways to be connected with it."""
