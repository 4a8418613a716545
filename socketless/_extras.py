"""What comes with an extra of the distribution, and what to say where it is missing."""

from __future__ import annotations

from importlib import import_module

__all__ = ["DISTRIBUTION", "install_hint", "require"]

DISTRIBUTION = "socketless-testing"  # the name `socketless` on PyPI is somebody else's


def install_hint(extra: str) -> str:
    """Return what to type to get an extra."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"


def require(library: str, extra: str, *, by: str) -> None:
    """Import a library that an extra brings.

    Raises:
        ModuleNotFoundError: it is not installed; the text says by what it is needed, and what to install.
    """
    try:
        import_module(library)
    except ModuleNotFoundError as error:
        if error.name != library:
            raise
        raise ModuleNotFoundError(f"{by} needs {library}: {install_hint(extra)}", name=library) from None
