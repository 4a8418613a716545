"""Tests of the virtual sockets, and the checks that real and virtual ones must pass."""

import pkgutil

import pytest

# An `assert` in a check shows what it has compared, as one in a test module does.
pytest.register_assert_rewrite(*(f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__)))
