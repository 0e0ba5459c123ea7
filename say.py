#!/usr/bin/env python3
"""say.py: the command. All of it is in kokoro_common/command/main.py; this file refuses a Python that is too old, and
settles what Ctrl-C does before all other imports.

So it is written in what Python 2.7 can read, too.
"""
# ruff: noqa: E402

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - that is the question
    sys.stderr.write(
        "%s: this is Python %d.%d (%s); run it with 3.11 or newer, as python3.11 say.py\n"  # noqa: UP031
        % (sys.argv[0], sys.version_info[0], sys.version_info[1], sys.executable)
    )
    sys.exit(1)

import _signal  # type: ignore[import-not-found] # signal itself imports enum, which takes long

# The program, not a module that somebody imports: no traceback out of the imports, there is nothing to clean up yet.
_IS_PROGRAM = __name__ == "__main__" or sys.argv[0].endswith("kokoro-say")
if _IS_PROGRAM and _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)

from kokoro_common.command.main import command, main

__all__ = ["command", "main"]

if __name__ == "__main__":
    command()
