"""Markdown has the chapters that its writer meant, and stays as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.helpers.shelf import loaded, titles

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


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


HOSTILE: dict[str, Callable[[], bytes]] = {
    "brackets": lambda: b"# " + b"[" * 1_000_000 + b"\n" + b"# [a](\n" * 20_000,
    "comments": lambda: b"<!--\n" * 50_000,
    "fences": lambda: b"```\n~~~\n" * 100_000 + b"`" * 2_000_000,
    "signs": lambda: b"# " + b"#" * 2_000_000 + b" x\n" + b"=" * 1_000_000 + b"\n---\n" * 100_000,
    "a title": lambda: b"word\n" * 50_000 + b"---\n",
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_text_takes_time_in_proportion(tmp_path: Path, data: Callable[[], bytes]) -> None:
    loaded(tmp_path / "a.md", data())
