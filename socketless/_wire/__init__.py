"""What crosses between host and worker, and how. May import: `socketless.errors`."""
