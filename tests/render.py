"""Has docutils render every document, for `tox -e lint`: README.rst, CHANGELOG.rst, the pages, and those of .github."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def main() -> None:
    """End with 1 if a document is not reStructuredText without a warning; docutils says where."""
    documents = [path for folder in (".", ".github", "socketless/docs") for path in (ROOT / folder).glob("*.rst")]
    command = [sys.executable, "-m", "docutils", "--halt=2"]
    done = [subprocess.run([*command, path], stdout=subprocess.DEVNULL, check=False) for path in sorted(documents)]
    sys.exit(any(each.returncode for each in done))


if __name__ == "__main__":
    main()
