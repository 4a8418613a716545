"""What is behind `socketless.requests`."""
