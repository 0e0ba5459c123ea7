"""Lines that fit a terminal of any width."""

from __future__ import annotations

import fcntl
import io
import os
import struct
import sys
import termios

import pytest

from kokoro_common.command.arguments import note
from kokoro_common.command.terminal import columns, cut, fitting, gauge, megabytes, width_of
from kokoro_common.errors import UsageError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


TEXTS = [
    "say.py: the model server died 5 times within 60 s, the last time: it was killed; see the log, then try again",
    "model server   pid 123, port 5000, up 3 h 02 min, 1200 MB",
    "say.py: 日本語 の 文章 です。 " * 9,
    "x",
    "",
]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("width", [20, 33, 50, 80, 200])
def test_a_note_is_folded_between_words_and_loses_none(monkeypatch: pytest.MonkeyPatch, text: str, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    folded = fitting(text, Terminal(), 8)
    assert folded.split() == text.split()
    assert max(map(columns, folded.splitlines()), default=0) < width
    if columns(text) < width:
        assert folded == text
    assert fitting(text, io.StringIO(), 8) == text


def test_what_would_be_copied_stays_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    path = "/a/very/long/path/of/a/file/that/is/longer/than/a/line.pth"
    assert fitting(f"put it at {path} please", Terminal(), 2).splitlines() == ["put it at", f"  {path}", "  please"]


def test_errors_and_notes_are_one_line_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    note(str(UsageError("a long problem " * 9, "with a remedy")), quiet=False)
    assert stream.getvalue().count("\n") == 1


@pytest.mark.parametrize("room", range(12, 90))
def test_a_gauge_takes_its_room_and_always_tells_the_percentage(room: int) -> None:
    line = gauge("downloading", 0.41, ("134 of 327 MB", "12 min left", "2.1 MB/s"), room)
    assert columns(line) <= room
    assert "41%" in line


def test_the_width_is_the_users_or_the_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    master, terminal = os.openpty()
    try:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 61, 0, 0))
        for given, width in (("47", 47), ("0", 61)):
            monkeypatch.setenv("COLUMNS", given)
            assert width_of(terminal) == width
        with open(os.devnull) as none:
            assert width_of(none.fileno()) == 80
    finally:
        os.close(master)
        os.close(terminal)


def test_bytes_are_told_with_the_digits_that_change() -> None:
    assert [megabytes(*pair) for pair in ((0, 327_212_226), (1_234_567, 2_345_678), (100, 2_351))] == [
        "0 of 327 MB", "1.2 of 2.3 MB", "0.000 of 0.002 MB",
    ]  # fmt: skip


def test_a_cut_ends_with_dots_and_counts_columns() -> None:
    assert (cut("short", 9), cut("日本語日本語", 7), cut("abcdef", 2)) == ("short", "日本...", "..")
