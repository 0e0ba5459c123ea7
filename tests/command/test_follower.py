"""The follower: what stands on the terminal while a text is heard."""

from __future__ import annotations

import io
import sys

import pytest

from kokoro_common.client.text_source import TextSource
from kokoro_common.command.follower import Follower


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("text", ["日本 語", "cafe\u0301 x", "plain words"])
def test_a_word_that_was_heard_is_overwritten_in_place(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    first, second = text.split()
    columns = {"日本": 4, "cafe\u0301": 4, "plain": 5}[first]
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "40")
    follower = Follower(TextSource(text))
    follower.show(0, len(first))
    follower.show(len(first) + 1, len(text))
    assert terminal.getvalue() == f"\x1b[7m{first}\x1b[0m" + "\b" * columns + f"{first} \x1b[7m{second}\x1b[0m"


def test_a_line_of_wide_characters_is_broken_where_the_terminal_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "10")
    follower = Follower(TextSource("日本語 日本語"))
    follower.show(0, 3)
    follower.show(4, 7)
    assert terminal.getvalue().count("\n") == 1
