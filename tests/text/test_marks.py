"""The one table of punctuation, scripts and columns."""

from __future__ import annotations

import re
import string
import unicodedata

import pytest

from kokoro_common.text import marks
from kokoro_common.text.marks import CLOSERS, OPENERS, STRAIGHT_QUOTES, UNSPACED, WIDE_PUNCTUATION, columns, speakable


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0),
        ("plain", 5),
        ("日本", 4),
        ("ｶﾀｶﾅ", 4),
        ("한국", 4),
        ("e\u0301a\u0308", 2),  # accents of their own
        ("か\u3099", 2),
        ("bɔ\u0303", 2),
        ("👍\ufe0f", 2),
        ("a\u200bb", 2),
    ],
)
def test_columns_are_those_of_a_terminal(text: str, expected: int) -> None:
    assert columns(text) == expected


def test_scripts_without_blanks() -> None:
    assert re.fullmatch(f"[{UNSPACED}]+", "กาລາວខ្មែរမြန်မာかなｶﾞ々漢字豈")
    assert not re.search(f"[{UNSPACED}]", "한국어नमस्तेabcＡＢ１")


def test_no_character_is_in_two_sets_that_exclude_each_other() -> None:
    assert set(OPENERS) & set(CLOSERS) == set(STRAIGHT_QUOTES + marks.EMPHASIS)
    ends = [marks.STOPS, marks.WIDE_STOPS, marks.COMMAS, marks.WIDE_COMMAS, OPENERS + CLOSERS]
    assert sum(map(len, map(set, ends))) == len(set("".join(ends)))
    wide = (character for character in map(chr, range(0x3000, 0x10000)) if re.match(f"[{WIDE_PUNCTUATION}]", character))
    assert not any(map(str.isalnum, wide))


def test_all_brackets_of_unicode_in_the_table_have_their_partner() -> None:
    for opening, closing in zip(marks.OPENING_BRACKETS, marks.CLOSING_BRACKETS, strict=True):
        assert unicodedata.category(opening) == "Ps" and unicodedata.category(closing) == "Pe"


@pytest.mark.parametrize(
    "text", ["a", "7", "é", "中", "न", "٣", "½", "50 %", "$", "€", "&", "@", "-x-", "🎉👍🏽", *string.ascii_letters]
)
def test_speakable(text: str) -> None:
    assert speakable(text)


@pytest.mark.parametrize("text", ["", " \n", "...", "?!", "—", "()", "***", "====", "#", "\u200d", "。", "\ufffd"])
def test_not_speakable(text: str) -> None:
    assert not speakable(text)
