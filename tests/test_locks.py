"""Whatever comes out of a signal's handler, a lock is released."""

from __future__ import annotations

import sys
import threading
from types import FrameType
from typing import Any

import pytest

from socketless import _locks as locks
from socketless._locks import make_lock


class Interrupt(Exception):
    """What the handler raises."""


@pytest.fixture(params=[True, False], ids=["3.14", "others"])
def lock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what there is in Python 3.14, and elsewhere."""
    if request.param and sys.version_info < (3, 12):
        pytest.skip("an RLock cannot be asked how often it is held")
    monkeypatch.setattr(locks, "_LEAVES_LOCKS", request.param)
    return make_lock()


def is_free(lock: Any) -> bool:
    """Whether another thread can have a lock."""
    seen = []
    thread = threading.Thread(target=lambda: seen.append(lock.acquire(blocking=False)))
    thread.start()
    thread.join()
    return seen == [True]


def test_of_one_thread(lock: Any) -> None:
    """It is held within the block, also where the block takes it once more, and free afterwards."""
    with lock:
        with lock:
            assert not is_free(lock)
        assert not is_free(lock)
    assert is_free(lock)


def test_interrupted_block(lock: Any) -> None:
    """An exception out of the block releases it."""
    with pytest.raises(Interrupt), lock:
        raise Interrupt
    assert is_free(lock)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="an RLock cannot be asked how often it is held")
@pytest.mark.parametrize("held", [False, True])
def test_interrupted_when_taken(monkeypatch: pytest.MonkeyPatch, held: bool) -> None:
    """An exception between the taking and the block leaves it as it was."""
    monkeypatch.setattr(locks, "_LEAVES_LOCKS", True)
    lock = make_lock()

    def look(frame: FrameType, event: str, arg: Any) -> None:
        if event == "c_return" and arg.__name__ == "acquire":
            sys.setprofile(None)
            raise Interrupt

    def take() -> None:
        sys.setprofile(look)
        with lock:
            raise AssertionError("not interrupted")

    if held:
        with lock:
            with pytest.raises(Interrupt):
                take()
            assert not is_free(lock)
    else:
        with pytest.raises(Interrupt):
            take()
    assert is_free(lock)
