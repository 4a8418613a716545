"""What replaces client libraries' classes: `socketless.switch` has what is public of it."""
