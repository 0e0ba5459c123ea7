"""The follower: what stands on the terminal while a text is heard. A small terminal of our own shows it."""

from __future__ import annotations

import io
import re
import sys
import unicodedata

import pytest

from kokoro_common.client.text_source import TextSource
from kokoro_common.command.follower import Follower


class Screen(io.StringIO):
    """Rows of a terminal that knows \\n, \\b, colours, wide and combining characters, and wraps in its last column."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.rows: list[list[str]] = [[]]
        self.column = 0
        self.wrapped = 0

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        for part in re.findall("\x1b\\[[0-9]*m|.", text, re.DOTALL):
            if part == "\n":
                self.rows.append([])
                self.column = 0
            elif part == "\b":
                self.column = max(0, self.column - 1)
            elif not part.startswith("\x1b"):
                self._put(part)
        return super().write(text)

    def _put(self, character: str) -> None:
        size = 2 if unicodedata.east_asian_width(character) in "WF" else 0 if unicodedata.combining(character) else 1
        if self.column + size > self.width:
            self.wrapped += 1
            self.rows.append([])
            self.column = 0
        row = self.rows[-1]
        if size == 0:
            row[self.column - 1] += "" if character in row[self.column - 1] else character
            return
        row.extend([" "] * (self.column + size - len(row)))
        row[self.column : self.column + size] = [character] + [""] * (size - 1)
        self.column += size

    @property
    def lines(self) -> list[str]:
        return ["".join(row).rstrip() for row in self.rows]


def followed(monkeypatch: pytest.MonkeyPatch, text: str, width: int, *, complete: bool = True) -> Screen:
    """The screen after all words have been heard; a word is what is letters, digits and marks."""
    screen = Screen(width)
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("COLUMNS", str(width))
    follower = Follower(TextSource(text))
    for word in re.finditer("[^\\W_][\\w\u0301']*", text):
        follower.show(word.start(), word.end())
    follower.end(complete=complete)
    return screen


@pytest.mark.parametrize(
    "text",
    [
        "Is it so?",
        "“Is it?” (So!) ...",
        "1, 2; 3 -- *bold*.",
        "日本語、これは。",
        "cafe\u0301 cafe\u0301!",
        "a\n\nb. ***\n\n- - -",
    ],
)
@pytest.mark.parametrize("width", [3, 8, 20, 80])
def test_all_of_the_text_is_there_in_the_end_and_no_line_wraps(
    monkeypatch: pytest.MonkeyPatch, text: str, width: int
) -> None:
    screen = followed(monkeypatch, text, width)
    assert "".join("".join(screen.lines).split()) == "".join(text.split())
    assert screen.wrapped == 0
    assert screen.lines[-1] == ""  # the shell's prompt begins a line
    assert screen.getvalue().count("\x1b[7m") == screen.getvalue().count("\x1b[0m")


def test_of_speech_that_was_cancelled_only_what_was_heard_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert followed(monkeypatch, "Is it so?", 80, complete=False).lines == ["Is it so", ""]


def test_the_signs_after_a_word_go_with_it_into_the_next_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert followed(monkeypatch, "one two three.", 14).lines == ["one two", "three.", ""]


def test_elsewhere_the_words_are_plain_and_all_of_the_text_is_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    follower = Follower(TextSource("Is it so?\n"))
    follower.show(0, 2)
    follower.show(3, 5)
    follower.show(6, 8)
    follower.end(complete=True)
    assert capsys.readouterr().out == "Is it so?\n"


def test_a_terminal_that_becomes_narrower_gets_narrower_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(20)
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("COLUMNS", "20")
    text = "one two three four five six"
    follower = Follower(TextSource(text))
    for word in re.finditer(r"\w+", text):
        if word[0] == "four":
            monkeypatch.setenv("COLUMNS", "10")
            screen.width = 10
        follower.show(word.start(), word.end())
    follower.end(complete=True)
    assert screen.lines == ["one two three", "four five", "six", ""]


@pytest.mark.parametrize("text", ["日本 語", "cafe\u0301 x", "plain words"])
def test_a_word_that_was_heard_is_overwritten_in_place(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    first, second = text.split()
    columns = {"日本": 4, "cafe\u0301": 4, "plain": 5}[first]
    terminal = Screen(40)
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "40")
    follower = Follower(TextSource(text))
    follower.show(0, len(first))
    follower.show(len(first) + 1, len(text))
    assert terminal.getvalue() == f"\x1b[7m{first}\x1b[0m" + "\b" * columns + f"{first} \x1b[7m{second}\x1b[0m"


def test_after_others_have_written_a_new_line_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Screen(40)
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "40")
    follower = Follower(TextSource("one two three"))
    follower.show(0, 3)
    follower.begin_line()
    follower.show(4, 7)
    follower.show(8, 13)
    assert terminal.lines == ["one", "two three"]
