"""Cleaning: what of a text is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kokoro_common.text.clean import clean


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\0b", "a b"),
        ("a\x07b\x9cc\x7fd", "a b c d"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x9b1mbold", "bold"),
        ("10%\x1b[2K20%", "10% 20%"),
        ("\x1b]8;;http://x.y\x1b\\link\x1b]8;;\x07", "link"),
        ("\x1b(Bplain", " plain"),
        ("l\udce9ger", "l ger"),
        ("a\u202eb\u202cc\ufeffd\u00ade", "abcde"),
        ("a\r\nb\rc\x0bd\u2028e\u0085f", "a\nb\nc\nd\ne\nf"),
        ("tab\tnewline\n", "tab\tnewline\n"),
        ("👩\u200d👧 नमस्\u200dते می\u200cخواهم ❤\ufe0f", "👩\u200d👧 नमस्\u200dते می\u200cخواهم ❤\ufe0f"),
    ],
)
def test_clean(text: str, expected: str) -> None:
    assert clean(text) == expected


@given(st.text())
def test_cleaning_leaves_no_control_character_and_changes_nothing_the_second_time(text: str) -> None:
    once = clean(text)
    assert clean(once) == once
    assert not {character for character in once if character in "\r\0\x1b\x7f" or 0xD800 <= ord(character) < 0xE000}
