"""What the pytest plugin consists of, beside what it is called by: `socketless.pytest_plugin`."""
