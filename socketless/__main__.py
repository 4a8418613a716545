"""`python -m socketless`, and the console script `socketless`."""

from __future__ import annotations

import os
import sys

from socketless.extras import install_hint

__all__ = ["main"]

_EXTRA = ("click", "rich", "pygments")  # what the extra `cli` installs
_HINT = f"The command line needs click and rich; install them with: {install_hint('cli')}"


def main() -> None:
    """Run the command line. Exits with 1, and says what to install, where the extra `cli` is missing."""
    if getattr(sys.flags, "safe_path", sys.flags.isolated):  # safe_path is of Python 3.11
        sys.path.insert(0, "")
    else:
        sys.path[0] = ""  # APP is in the current directory; Python has put that of the script there
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # it was closed when Python started
            setattr(sys, name, open(os.devnull, "w"))  # for as long as Python runs
    try:
        from socketless.cli import AfterClick, cli

        try:
            cli(prog_name="socketless")
        except AfterClick as leaving:
            after_click = leaving
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        print(_HINT, file=sys.stderr)
        sys.exit(1)
    after_click.do()


if __name__ == "__main__":
    main()
