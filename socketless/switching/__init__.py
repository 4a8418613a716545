"""What the switch replaces of each client library: classes, and functions for their methods of the same name."""
