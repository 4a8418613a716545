"""What is behind `socketless.lowlevel`."""
