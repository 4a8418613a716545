"""What is there for httpx and httpx2: the transports, and our errors as theirs. `socketless.transport` names them."""
