"""A test that does nothing, to see how long pytest takes to come to it."""


def test_nothing() -> None:
    """There is nothing to do."""
