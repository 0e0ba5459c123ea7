#!/usr/bin/env python3
"""say.py: the command. All of it is in kokoro_common/command/main.py; this file only refuses a Python that is too old.

So it is written in what Python 2.7 can read, too.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - that is the question
    sys.stderr.write(
        "%s: this is Python %d.%d (%s); run it with 3.11 or newer, as python3.11 say.py\n"  # noqa: UP031
        % (sys.argv[0], sys.version_info[0], sys.version_info[1], sys.executable)
    )
    sys.exit(1)

from kokoro_common.command.main import command, main

__all__ = ["command", "main"]

if __name__ == "__main__":
    command()
