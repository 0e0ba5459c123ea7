"""The text on a terminal while it is heard, the current word highlighted: what `say.py --follow` shows."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

from kokoro_common.errors import shown
from kokoro_common.text.clean import clean
from kokoro_common.text.marks import columns

if TYPE_CHECKING:
    from kokoro_common.client.text_source import TextSource

_HIGHLIGHT, _PLAIN = "\x1b[7m", "\x1b[0m"


class Follower:
    """Prints on stdout. A line is broken before a word that would not fit, so the word can be overwritten in place."""

    def __init__(self, source: TextSource) -> None:
        source.keep_text()
        self._source = source
        self._shown = 0  # characters of the text that are on the screen
        self._word = ""  # the one shown highlighted
        self._column = 0
        self._width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0  # 0: no terminal, plain words

    def show(self, start: int, end: int) -> None:
        """The word text[start:end] is heard now."""
        if end <= self._shown or start == end:
            return
        self._settle()
        self._write(self._source.text[self._shown : start])
        self._word = _printable(self._source.text[start:end])
        if self._width and self._column + columns(self._word) >= self._width:
            self._write("\n")
        self._column += columns(self._word)
        sys.stdout.write(f"{_HIGHLIGHT}{self._word}{_PLAIN}" if self._width else self._word)
        sys.stdout.flush()
        self._shown = end

    def end(self) -> None:
        """Ends the line; what is shown stays."""
        self._settle()
        if self._shown:
            sys.stdout.write("\n")
        sys.stdout.flush()

    def _settle(self) -> None:
        """Shows the last word plain."""
        if self._width and self._word:
            sys.stdout.write("\b" * columns(self._word) + self._word)
        self._word = ""

    def _write(self, text: str) -> None:
        printable = _printable(text)
        sys.stdout.write(printable)
        line = printable.rpartition("\n")
        self._column = columns(line[2]) if line[1] else self._column + columns(printable)


def _printable(text: str) -> str:
    return "\n".join(map(shown, clean(text).split("\n")))
