"""What a client needs only for the network: under the switch it is not made, until something of it is wanted.

An `ssl.SSLContext` reads the certificates of all authorities, which takes tens of milliseconds; and a proxy may need a
package that is not installed. The client may outlive the switch, and then has what it would have had without.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import RLock
from typing import Any

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

_lock = RLock()  # of all of them: one may be made while another is, and the environment is everybody's
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")  # what contexts are made by


class Deferred:
    """Stands for an object, which is made when an attribute of it, its class too, is first read or set.

    Any thread may use it. What making it raises is raised there, each time.

    Args:
        make: what makes it; it finds the certificates of the environment as they are now.
        idle: methods to answer with as long as there is no object, by name: they want none.
    """

    def __init__(self, make: Callable[[], Any], idle: Mapping[str, Callable[..., Any]] | None = None) -> None:
        certificates = {name: os.environ.get(name) for name in _CERTIFICATES}
        _vars_of(self).update(make=make, idle=idle or {}, certificates=certificates)

    def __getattribute__(self, name: str) -> Any:
        own = _vars_of(self)
        if "object" not in own and name in own["idle"]:
            return own["idle"][name]
        return getattr(object_of(self), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(object_of(self), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(object_of(self), name)

    def __repr__(self) -> str:
        return repr(object_of(self))

    def __reduce_ex__(self, protocol: Any) -> Any:
        return object_of(self).__reduce_ex__(protocol)


def _vars_of(deferred: Deferred) -> dict[str, Any]:
    own: dict[str, Any] = object.__getattribute__(deferred, "__dict__")
    return own


def found_in(pool: Any) -> Any:
    """Return a thing itself: what one that is deferred stands for, and `None` as long as there is none."""
    return _vars_of(pool).get("object") if type(pool) is Deferred else pool


def object_of(deferred: Deferred) -> Any:
    """Return what it stands for, which is made if need be."""
    own = _vars_of(deferred)
    if "object" not in own:
        with _lock:
            if "object" not in own:
                with _environment(own["certificates"]):
                    own["object"] = own["make"]()
                del own["make"]  # and what it holds
    return own["object"]


@contextmanager
def _environment(wanted: Mapping[str, str | None]) -> Iterator[None]:
    # Must be called with _lock held. As a rule, nothing has changed.
    found = {name: os.environ.get(name) for name in wanted}
    _set(found, wanted)
    try:
        yield
    finally:
        _set(wanted, found)


def _set(found: Mapping[str, str | None], wanted: Mapping[str, str | None]) -> None:
    for name, value in wanted.items():
        if value == found[name]:
            continue
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value
