"""What our errors are called in the client libraries, which are to be installed for this."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from socketless import errors
from socketless._aiohttp import connector as aiohttp
from socketless._clients.error_mixins import as_theirs
from socketless._httpx import families
from socketless._requests import errors as requests
from socketless._switch import http_client

# For each library its table, and the errors that it has no name for.
TABLES: dict[str, tuple[Any, set[type[Exception]]]] = {
    "requests": (requests.NAMES, {errors.TransferError}),
    "requests, in a body": (requests.NAMES_IN_BODY, set()),
    "aiohttp": (aiohttp._NAMES, set()),
    # A TypeError and TimeoutErrors are what they should be.
    "http.client": (http_client._NAMES, {errors.TransferError, *errors.ExchangeTimeout.__subclasses__()}),
    "urllib3": (http_client._URLLIB3_NAMES, {errors.TransferError}),
}


@pytest.mark.parametrize("library", TABLES)
def test_every_error_of_an_exchange(library: str) -> None:
    """Each error has a counterpart in the library, or needs none; it is both then, and can be pickled."""
    names, without = TABLES[library]
    for cls in families._NAMES:  # of which another test knows that they are all
        error = cls(*({errors.WorkerDied: ("GET /", 5, -9, "end")}.get(cls, ("text",))))
        both: Any = as_theirs(error, names)
        assert (type(both) is cls) == (cls in without)
        assert isinstance(both, cls)
        copy = pickle.loads(pickle.dumps(both))
        assert (type(copy), str(copy), copy.args) == (type(both), str(error), error.args)
        assert as_theirs(both, names) is both
