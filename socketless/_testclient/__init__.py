"""What is behind `socketless.testclient`."""
