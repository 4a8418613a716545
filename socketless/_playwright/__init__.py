"""What is behind `socketless.playwright`."""
