"""The place where listening stopped: what keeps it, what removes it, and where it is found again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import say  # noqa: F401 - registers the flags
from kokoro_common.command import books
from kokoro_common.command.arguments import parser
from kokoro_common.command.books import Listening
from kokoro_common.documents.bookmark import Bookmark, Bookmarks
from kokoro_common.documents.choice import chosen, numbers_of
from kokoro_common.documents.load import load
from kokoro_common.settings import Settings
from kokoro_common.wire.messages import Progress

if TYPE_CHECKING:
    from pathlib import Path

BOOK = "\n\n".join(f"# Chapter {number}\n\nWhat chapter {number} tells." for number in range(1, 6))


def hear(folder: Path, chapters: str) -> None:
    """Some chapters to their end, "" all of them; the place is written down on the way."""
    document = load(str(folder / "book.md"))
    if chapters:
        document = chosen(document, numbers_of(chapters, len(document.chapters)))
    options = parser().parse_args(["-q", "-f", str(folder / "book.md")])
    listening = Listening(options, Settings(cache_dir=str(folder)), document, chapters)
    listening.hear(Progress(utterance="", seconds=0.5, word_start=3, word_end=9))
    listening.end(heard_all=True)


@pytest.mark.parametrize("seconds", [0.0, 5.0])
def test_hearing_other_chapters_to_their_end_leaves_the_bookmark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    monkeypatch.setattr(books, "KEEP_SECONDS", seconds)
    (tmp_path / "book.md").write_text(BOOK)
    marks = Bookmarks(str(tmp_path))
    mark = Bookmark(paths=(str((tmp_path / "book.md").resolve()),), digest="x", place=7, chapters="4-", number=5)
    for chapters in ("1", "2,3"):
        marks.keep(mark)
        hear(tmp_path, chapters)
        assert marks.of(mark.paths) == mark
    for chapters in ("4-", "", "1-"):  # its own chapters, or all of the book
        marks.keep(mark)
        hear(tmp_path, chapters)
        assert marks.of(mark.paths) is None
    hear(tmp_path, "1")
    assert marks.of(mark.paths) is None


@pytest.mark.parametrize("width", [40, 50, 54, 55, 80, 200])
def test_the_list_of_chapters_fits_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int
) -> None:
    long = "A chapter whose title is far longer than any terminal in this test, and than most others"
    (tmp_path / "book.md").write_text(f"{BOOK}\n\n# {long}\n\n{'word ' * 5_000}")
    monkeypatch.setenv("COLUMNS", str(width))
    books.list_chapters(parser().parse_args(["-q", "--list-chapters", "-f", str(tmp_path / "book.md")]))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and max(map(len, lines)) <= width
    assert ("words" in lines[0]) == (width >= 55)
    assert all(line.rstrip()[-1] in "sn" for line in lines)  # s, min
