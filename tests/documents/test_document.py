"""Plain text and Markdown have the chapters that their writers meant, and stay as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kokoro_common.documents.document import Chapter
from tests.helpers.shelf import BODY, loaded, parts, titles

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_chapters_are_records() -> None:
    assert Chapter(title="", start=0, end=1) == Chapter(title="", start=0, end=1)


# --- plain text ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "Chapter 1",
        "chapter 12",
        "CHAPTER XII. The Thing",
        "Chapter One",
        "Chapter Twenty-Three: Home",
        "Part II",
        "Book One",
        "BOOK THE FIRST",
        "Prologue",
        "EPILOGUE.",
        "Introduction",
        "Preface",
        "Chapter 3 – The Hill",
        "Chapitre 3",
        "Chapitre premier",
        "Première partie",
        "Capítulo 4",
        "Capi\u0301tulo 4",
        "Capitolo 5",
        "Kapitel 6",
        "Erstes Kapitel",
        "2. Kapitel",
        "第三章",
        "第1章 題",
        "第十二回　石",
        "序章",
        "プロローグ",
        "अध्याय २",
        "  Chapter 7  ",
    ],
)
def test_a_line_that_reads_like_a_heading_begins_a_chapter(tmp_path: Path, line: str) -> None:
    document = loaded(tmp_path / "a.txt", f"{BODY}\n\n{line}\n\n{BODY}\n")
    assert [title.replace("í", "i\u0301") for title in titles(document)][1:] == [
        " ".join(line.split()).replace("í", "i\u0301")
    ]
    assert document.text[document.chapters[1].start :].startswith(line)


@pytest.mark.parametrize(
    "line",
    [
        "Part one was easy.",
        "Chapter and verse",
        "Book now",
        "the prologue of the play",
        "Chapter 1 " + "x" * 120,
        "Introduction to cooking",
        "Partly 1",
        "第三章では、雨が降った。",
        "I. The Beginning",
        "Actor one",
        "Mid part",
    ],
)
def test_a_sentence_begins_no_chapter(tmp_path: Path, line: str) -> None:
    assert titles(loaded(tmp_path / "a.txt", f"{BODY}\n\n{line}\n\n{BODY}\n")) == [""]


def test_a_heading_in_a_paragraph_is_none(tmp_path: Path) -> None:
    assert titles(loaded(tmp_path / "a.txt", f"{BODY}\nChapter 1\n\n{BODY}")) == [""]
    assert titles(loaded(tmp_path / "a.txt", f"{BODY}\n\nChapter 1\n{BODY}\n{BODY}")) == [""]


def test_a_title_below_its_number_belongs_to_the_heading(tmp_path: Path) -> None:
    document = loaded(tmp_path / "a.txt", f"CHAPTER I.\r\nThe River\r\n\r\n{BODY}\r\n\r\nCHAPTER II.\r\n\r\n{BODY}")
    assert titles(document) == ["CHAPTER I. The River", "CHAPTER II."]


def test_a_part_without_text_begins_with_its_first_chapter(tmp_path: Path) -> None:
    document = loaded(tmp_path / "a.txt", f"Part I\n\nChapter 1\n\n{BODY}\n\nPart II\n\nChapter 2\n\n{BODY}")
    assert parts(document) == [("Chapter 1", "Part I\n\nChap"), ("Chapter 2", "Part II\n\nCha")]


def test_few_words_before_the_first_heading_belong_to_it(tmp_path: Path) -> None:
    assert titles(loaded(tmp_path / "a.txt", f"My Book\n\nChapter 1\n\n{BODY}")) == ["Chapter 1"]


@pytest.mark.parametrize("between", ["\n", "\n\n"], ids=["in a block", "line by line"])
@pytest.mark.parametrize("preface", ["", f"{BODY}\n\n\n"])
def test_a_table_of_contents_makes_no_chapters(tmp_path: Path, between: str, preface: str) -> None:
    names = ["The River", "The Hill", "The Town", "The Sea"]
    lines = [f"CHAPTER {number}. {name}" for number, name in zip(["I", "II", "III", "IV"], names, strict=True)]
    table = between.join(f"  {line}" for line in lines)
    chapters = "\n\n\n".join(f"{line}\n\n{BODY}" for line in lines)
    document = loaded(tmp_path / "a.txt", f"The Book\n\n{BODY}\n\nCONTENTS\n\n{table}\n\n\n{preface}{chapters}\n")
    assert titles(document) == ["", *lines]
    assert all(len(document.text[each.start : each.end]) > 200 for each in document.chapters)


def test_a_first_part_behind_the_contents_begins_the_first_chapter(tmp_path: Path) -> None:
    lines = ["Part One", "Chapter 1", "Chapter 2", "Chapter 3"]
    table = "\n\n".join(lines)
    text = f"{BODY}\n\n{table}\n\nPart One\n\nChapter 1\n\n{BODY}\n\nChapter 2\n\n{BODY}\n\nChapter 3\n\n{BODY}"
    assert parts(loaded(tmp_path / "a.txt", text))[1:] == [
        ("Chapter 1", "Part One\n\nCh"), ("Chapter 2", "Chapter 2\n\nI"), ("Chapter 3", "Chapter 3\n\nI"),
    ]  # fmt: skip


# --- Markdown --------------------------------------------------------------------------------------------------------


def test_the_only_highest_heading_is_the_title_and_the_next_level_chapters(tmp_path: Path) -> None:
    document = loaded(
        tmp_path / "a.md", "# Book *of* `x`\n\n## One ##\n\na\n\n### sub\n\n### sub\n\n## [Two](http://x)\n"
    )
    assert document.title == "Book of x"
    assert titles(document) == ["One", "Two"]


def test_setext_headings_make_chapters(tmp_path: Path) -> None:
    document = loaded(
        tmp_path / "a.md", "Title\n=====\n\nOne\n---\ntext\n\n- item\n---\n\n> q\n---\n\nTwo\nlines\n---\nb"
    )
    assert (document.title, titles(document)) == ("Title", ["One", "Two lines"])


def test_headings_in_code_and_comments_are_none(tmp_path: Path) -> None:
    text = "# A\n\n```sh\n# no\n~~~\n# no\n```\n\n<!-- x\n# no\n-->\n\n    # no\n\n#no\n\n# B\n\n~~~\n# no"
    assert titles(loaded(tmp_path / "a.md", text)) == ["A", "B"]
    assert titles(loaded(tmp_path / "a.md", "<!-- never ends\n\n# A\n\n# B")) == ["A", "B"]


def test_headings_that_are_all_different_make_one_chapter(tmp_path: Path) -> None:
    assert titles(loaded(tmp_path / "a.md", "# A\n\n## B\n\n### C\n")) == [""]


def test_front_matter_says_who_wrote_it(tmp_path: Path) -> None:
    text = "---\ntitle: 'The Book'\nauthor: A. Writer\nlang: en-GB\n# no\nx:\n  - y\n---\n\n# One\n\n# Two\n"
    document = loaded(tmp_path / "a.md", text)
    assert (document.title, document.author, document.language) == ("The Book", "A. Writer", "en-GB")
    assert (document.text, titles(document)) == (text, ["One", "Two"])
    assert loaded(tmp_path / "a.md", "---\ntitle: x\n\n# One\n").title == "One"  # it never ends, so it is none


# --- anybody's -------------------------------------------------------------------------------------------------------

HOSTILE: dict[str, tuple[str, Callable[[], bytes]]] = {
    "text of headings": ("a.txt", lambda: b"Chapter 1\n\n" * 10_000),
    "a long line": ("a.txt", lambda: b"chapter " * 1_000_000),
    "blank lines": ("a.txt", lambda: b"Chapter 1\n" + b"\n" * 300_000 + b"Chapter 2\n" + b" " * 3_000_000),
    "brackets": ("a.md", lambda: b"# " + b"[" * 1_000_000 + b"\n" + b"# [a](\n" * 20_000),
    "comments": ("a.md", lambda: b"<!--\n" * 50_000),
    "fences": ("a.md", lambda: b"```\n~~~\n" * 100_000 + b"`" * 2_000_000),
    "signs": ("a.md", lambda: b"# " + b"#" * 2_000_000 + b" x\n" + b"=" * 1_000_000 + b"\n---\n" * 100_000),
    "a title": ("a.md", lambda: b"word\n" * 50_000 + b"---\n"),
}


@pytest.mark.parametrize(("name", "data"), HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_text_takes_time_in_proportion(tmp_path: Path, name: str, data: Callable[[], bytes]) -> None:
    loaded(tmp_path / name, data())
