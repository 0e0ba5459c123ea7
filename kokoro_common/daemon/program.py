"""The files that a server runs from, looked at again and again: they may be moved away, or replaced by another version.

A version number says nothing of either. What is compared is what any replacement changes: a file's size, inode and time
of modification. A look takes a few milliseconds.
"""

from __future__ import annotations

import os
import sys

from kokoro_common.worker import ROOT

PROGRAMS = ("model_server.py", "voice_server.py")
PACKAGE = "kokoro_common"


class ProgramFiles:
    """What the program's files were when this was made."""

    def __init__(self, root: str = ROOT, interpreter: str = sys.executable) -> None:
        """Reads the directories, no file. Does not raise."""
        self._root = root
        self._interpreter = interpreter
        self._seen = self._look()

    def missing(self) -> str:
        """The path of what is gone, so that nothing can be started from here any more; empty if nothing is."""
        paths = (self._interpreter, os.path.join(self._root, PACKAGE), *self._programs())
        return next((path for path in paths if not os.path.exists(path)), "")

    def problem(self) -> str:
        """Why this process is no longer what its files would start; empty if it is."""
        if missing := self.missing():
            return f"{missing} is gone"
        return "" if self._look() == self._seen else f"the program in {self._root} was replaced"

    def _programs(self) -> list[str]:
        return [os.path.join(self._root, name) for name in PROGRAMS]

    def _look(self) -> dict[str, tuple[int, int, int]]:
        """By path: size, inode, time of modification. What cannot be read is left out."""
        found: dict[str, tuple[int, int, int]] = {}
        for path in self._programs():
            try:
                found[path] = _state(os.stat(path))
            except OSError:
                pass
        directories = [os.path.join(self._root, PACKAGE)]
        while directories:
            try:
                with os.scandir(directories.pop()) as entries:
                    for entry in entries:
                        if entry.is_dir():
                            directories += [entry.path] if entry.name != "__pycache__" else []
                        elif entry.name.endswith((".py", ".json", ".so")):
                            found[entry.path] = _state(entry.stat())
            except OSError:
                pass
        return found


def _state(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_size, found.st_ino, found.st_mtime_ns
