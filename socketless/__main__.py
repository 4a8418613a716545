"""`python -m socketless`, and the console script `socketless`."""

from __future__ import annotations

import os
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line."""
    if getattr(sys.flags, "safe_path", sys.flags.isolated):  # safe_path is of Python 3.11
        sys.path.insert(0, "")
    else:
        sys.path[0] = ""  # APP is in the current directory; Python has put that of the script there
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # it was closed when Python started
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # for as long as Python runs
    try:
        from socketless._cli import AfterClick, cli, output
    except KeyboardInterrupt:  # for which click has these words, once it is there
        print("\nAborted!", file=sys.stderr)
        sys.exit(1)
    try:
        cli(prog_name="socketless")
    except AfterClick as leaving:
        after_click = leaving
    except OSError as error:  # what click itself prints cannot be written
        output.drop_stdout()
        output.print_error(error)
        sys.exit(1)
    after_click.do()


if __name__ == "__main__":
    main()
