"""Borders to chapters: the rules that all formats share."""

from __future__ import annotations

import pytest

from kokoro_common.documents.document import OWN_TEXT, Chapter, by_headings, chapters_at, lowest_level, without_empty

TEXT = "x" * 1_000


def test_chapters_cover_the_text_without_gap() -> None:
    assert chapters_at(TEXT, [(300, "One"), (700, "Two")]) == (
        Chapter(title="", start=0, end=300),
        Chapter(title="One", start=300, end=700),
        Chapter(title="Two", start=700, end=1_000),
    )


@pytest.mark.parametrize("letters", [OWN_TEXT - 1, OWN_TEXT])
def test_little_text_before_the_first_border_belongs_to_its_chapter(letters: int) -> None:
    text = "x" * letters + " " * 500 + TEXT
    chapters = chapters_at(text, [(letters + 500, "One")])
    assert [chapter.title for chapter in chapters] == (["One"] if letters < OWN_TEXT else ["", "One"])
    assert (chapters[0].start, chapters[-1].end) == (0, len(text))


def test_of_several_borders_at_one_place_the_last_counts_and_none_lies_behind_the_text() -> None:
    chapters = chapters_at(TEXT, [(0, "Part"), (0, "Chapter"), (1_000, "beyond")])
    assert chapters == (Chapter(title="Chapter", start=0, end=1_000),)


def test_the_first_level_with_two_headings_makes_the_chapters() -> None:
    title, chapters = by_headings(
        TEXT, [(1, 0, "Book"), (2, 300, "One"), (3, 400, "a"), (2, 600, "Two"), (3, 800, "b")]
    )
    assert title == "Book"
    assert [chapter.title for chapter in chapters] == ["", "One", "Two"]


@pytest.mark.parametrize(("levels", "lowest"), [([1, 2, 2, 3, 3], 3), ([1, 1, 2], 2), ([1, 2, 3], 4), ([], 1)], ids=str)
def test_sections_of_a_table_of_contents_make_no_chapters(levels: list[int], lowest: int) -> None:
    assert lowest_level(levels) == lowest


def test_a_chapter_that_is_nothing_but_headings_begins_the_next_one() -> None:
    text = "Part I\n\nChapter 1\n\nIt began.\n"
    assert without_empty(text, [(0, "Part I"), (8, "Chapter 1")]) == [(0, "Chapter 1")]
    assert without_empty(text, [(0, "Part"), (8, "Chapter 1")]) == [(0, "Part"), (8, "Chapter 1")]
