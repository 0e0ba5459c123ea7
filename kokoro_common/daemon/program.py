"""The files that a server runs from, looked at again and again: they may be moved away, or replaced by another version.

A version number says nothing of either. What is compared is what any replacement changes: a file's size, inode and time
of modification. A look takes a few milliseconds.
"""

from __future__ import annotations

import contextlib
import os
import sys

from kokoro_common.installed import ROOT

PROGRAMS = ("model_server.py", "voice_server.py")
PACKAGE = "kokoro_common"
_GONE = (FileNotFoundError, NotADirectoryError)


class ProgramFiles:
    """What the program's files were when this was made."""

    def __init__(self, root: str = ROOT, interpreter: str = sys.executable) -> None:
        """Reads the directories, no file. Does not raise."""
        self._root = root
        self._interpreter = interpreter
        self._seen = self._look()  # None: not known

    def missing(self) -> str:
        """The path of what is gone, so that nothing can be started from here any more; empty if nothing is."""
        paths = (self._interpreter, os.path.join(self._root, PACKAGE), *self._programs())
        return next((path for path in paths if not os.path.exists(path)), "")

    def problem(self) -> str:
        """Why this process is no longer what its files would start; empty if it is."""
        if missing := self.missing():
            return f"{missing} is gone"
        found = self._look()
        if self._seen is None or found is None:  # what cannot be seen now is not taken for replaced
            self._seen = self._seen or found
            return ""
        return "" if found == self._seen else f"the program in {self._root} was replaced"

    def _programs(self) -> list[str]:
        return [os.path.join(self._root, name) for name in PROGRAMS]

    def _look(self) -> dict[str, tuple[int, int, int]] | None:
        """By path: size, inode, time of modification. What is gone is left out. None: it cannot be seen, for want of
        descriptors above all."""
        found: dict[str, tuple[int, int, int]] = {}
        directories = [os.path.join(self._root, PACKAGE)]
        try:
            for path in self._programs():
                with contextlib.suppress(*_GONE):
                    found[path] = _state(os.stat(path))
            while directories:
                with contextlib.suppress(*_GONE), os.scandir(directories.pop()) as entries:
                    for entry in entries:
                        if entry.is_dir():
                            directories += [entry.path] if entry.name != "__pycache__" else []
                        elif entry.name.endswith((".py", ".json", ".so")):
                            found[entry.path] = _state(entry.stat())
        except OSError:
            return None
        return found


def _state(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_size, found.st_ino, found.st_mtime_ns
