"""The text on a terminal while it is heard, the current word highlighted: what `say.py --follow` shows."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from kokoro_common.command.terminal import columns, width_of
from kokoro_common.errors import shown
from kokoro_common.text.clean import clean

if TYPE_CHECKING:
    from kokoro_common.client.text_source import TextSource

_HIGHLIGHT, _PLAIN = "\x1b[7m", "\x1b[0m"
_NARROWEST = 3  # columns, in which a wide character still leaves the last column free


class Follower:
    """Prints on stdout. A line is broken before a word that would not fit, so the word can be overwritten in place.

    The last column stays free: terminals differ in where the cursor is after a character there.
    """

    def __init__(self, source: TextSource) -> None:
        source.keep_text()
        self._source = source
        self._shown = 0  # characters of the text that are on the screen
        self._word = ""  # what is shown highlighted: the word, or the end of one that fills lines
        self._column = 0
        self._room_then = 0  # as the word was shown
        self._terminal = sys.stdout.isatty()  # without one: plain words

    def show(self, start: int, end: int) -> None:
        """The word text[start:end] is heard now."""
        if end <= self._shown or start == end:
            return
        text = self._source.text
        self._settle()
        self._write(text[self._shown : start])
        word = _printable(text[start:end]).replace("\n", " ")
        if not self._terminal:
            sys.stdout.write(word)
        else:
            signs = re.match(r"\S*", text[end : end + self._room]) or [""]  # go with it into the next line
            *lines, self._word = self._lines(word, columns(signs[0]))
            for line in lines:
                sys.stdout.write(f"{line}\n")
            sys.stdout.write(f"{_HIGHLIGHT}{self._word}{_PLAIN}")
            self._room_then = self._room
        sys.stdout.flush()
        self._shown = end

    def begin_line(self) -> None:
        """Something else was written since, so the last word cannot be overwritten any more. For a signal handler."""
        self._word = ""
        self._column = self._room

    def end(self, *, complete: bool) -> None:
        """Ends the line; what is shown stays. `complete`: all was heard, so the signs after the last word are shown."""
        self._settle()
        if complete:
            rest = self._source.text[self._shown :].rstrip()
            self._write(rest)
            self._shown += len(rest)
        if self._shown:
            sys.stdout.write("\n")
        sys.stdout.flush()

    @property
    def _room(self) -> int:
        """Columns of a line, as wide as the terminal is now."""
        return max(_NARROWEST, width_of(1)) - 1

    def _settle(self) -> None:
        """Shows the last word plain; not on a terminal that has another width since, where it may be anywhere."""
        if self._word and self._room_then != self._room:
            self.begin_line()
        if self._word:
            sys.stdout.write("\b" * columns(self._word) + self._word)
        self._word = ""

    def _write(self, text: str) -> None:
        if not self._terminal:
            sys.stdout.write(_printable(text))
            return
        for part in re.findall(r"\n|[^\S\n]+|\S+", _printable(text)):
            if part == "\n":
                sys.stdout.write(part)
                self._column = 0
            elif part.isspace():
                kept = part[: max(0, self._room - self._column)]  # the rest would begin the next line
                sys.stdout.write(kept)
                self._column += columns(kept)
            else:
                sys.stdout.write("\n".join(self._lines(part)))

    def _lines(self, word: str, signs: int = 0) -> list[str]:
        """The word in lines, the first one empty if it does not fit into what is left of the current one.

        `signs`: columns of what follows it without a blank, for which there should be room too. Moves the column.
        """
        room, size = self._room, columns(word)
        lines = [""]
        wanted = size + signs if size + signs <= room else size
        if self._column and self._column + wanted > room:
            lines.append("")
            self._column = 0
        for letter in word:
            if self._column + columns(letter) > room:
                lines.append("")
                self._column = 0
            lines[-1] += letter
            self._column += columns(letter)
        return lines


def _printable(text: str) -> str:
    return "\n".join(map(shown, clean(text).split("\n")))
