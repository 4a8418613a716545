"""`python -m socketless`, and the console script `socketless`."""

from __future__ import annotations

import sys

__all__ = ["main"]

_EXTRA = ("click", "rich", "pygments")  # what the extra `cli` installs
_HINT = "The command line needs click and rich; install them with: pip install 'socketless[cli]'"


def main() -> None:
    """Run the command line. Exits with 1, and says what to install, where the extra `cli` is missing."""
    if "" not in sys.path[:1]:
        sys.path.insert(0, "")  # a script has its own directory there, and APP is in the current one
    try:
        from socketless.cli import cli
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        print(_HINT, file=sys.stderr)
        sys.exit(1)
    cli(prog_name="socketless")


if __name__ == "__main__":
    main()
