"""How the user called the command, for every line that names it: kokoro-say, ./say.py, python say.py, /opt/x/say.py.

Errors and texts of the servers have SAY where the name belongs.
"""

from __future__ import annotations

import os
import sys

from kokoro_common.errors import SAY

_SHEBANG_BYTES = 256


class Name:
    """Of one process. Until take() is called, as in a program that imports say.py, it is say.py."""

    def __init__(self) -> None:
        self.prefix = "say.py"  # of notes and errors
        self._typed = "say.py"  # what repeats the call, in a remedy; empty: not found out yet

    def take(self) -> None:
        """For the program itself, when it starts. Looks at nothing but the arguments."""
        if not sys.argv[0].startswith("-"):  # python -c
            self.prefix = os.path.basename(sys.argv[0])
        self._typed = ""

    def filled(self, text: str) -> str:
        """A text for the user, with the command's name in the place of each SAY. May look into PATH."""
        if SAY not in text:
            return text
        self._typed = self._typed or typed(sys.argv, sys.orig_argv)
        return text.replace(SAY, self._typed)


def typed(argv: list[str], orig_argv: list[str]) -> str:
    """What the user has to type to call the command again, from sys.argv and sys.orig_argv."""
    script, before = argv[0], orig_argv[: len(orig_argv) - len(argv) + 1]  # the interpreter, its options, the script
    if not (os.sep in script and before[-1] == script and _is_run_by(script, before[:-1])):
        return _quoted(before)  # python say.py, python -m say
    name = os.path.basename(script)
    for directory in os.environ.get("PATH", "").split(os.pathsep):
        path = os.path.join(directory, name)
        if directory and os.access(path, os.X_OK):
            return _quoted([name if os.path.samefile(path, script) else script])
    return _quoted([script])


def _is_run_by(script: str, interpreter: list[str]) -> bool:
    """Whether the first line of a file starts this interpreter: the user may have typed the file's name alone."""
    if not os.access(script, os.X_OK):
        return False
    try:
        with open(script, "rb") as file:
            line = os.fsdecode(file.readline(_SHEBANG_BYTES)).strip()
    except OSError:
        return False
    program, _, argument = line.removeprefix("#!").strip().partition(" ")
    if os.path.basename(program) == "sh":
        return True  # pip's way for an interpreter whose path is long or has a blank
    return interpreter == ([argument] if os.path.basename(program) == "env" else [program, *argument.split()])


def _quoted(words: list[str]) -> str:
    import shlex

    return shlex.join(words)


NAME = Name()
