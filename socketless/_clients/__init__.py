"""What the modules of the client libraries share: requests on their way to a worker, and responses from it."""
