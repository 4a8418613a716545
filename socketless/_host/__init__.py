"""Starts, watches, restarts and stops workers, and carries exchanges. May import: `socketless._wire`,
`socketless.errors`; of `socketless._worker` only its entry points, and `loading`, to read an import string.
"""

import sys

if sys.platform == "win32":
    raise ImportError(
        "socketless runs apps in workers over POSIX pipes, which Windows does not have; "
        "use it on Linux or macOS, or in WSL"
    )
