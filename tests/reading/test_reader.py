"""How text is read aloud: a table of what people write and what they say, and promises that hold for any text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kokoro_common.reading.reader import read
from kokoro_common.text.edits import applied

LANGUAGES = "abefhijpz"
GOLDEN = Path(__file__).parent.parent / "data" / "reading.tsv"
TABLE = [line.split("\t") for line in GOLDEN.read_text("utf-8").splitlines()]
# What real text is made of: random characters alone would hardly ever form an address, a date or a tag.
_PIECES = r"""
https://www.a-b.com/x_y?q=1#z john.doe@example.com 10:30 7pm 2026-11-26 3.14 1,234 -5 $3.50 €5 5 km m² ½ 1/2 v1.2.3 0x1F
3f2a9bc --flag -o ~/x C:\Users main.py:4:2 [a](b.c) [x][y] ![i](j.k) [w](/f/) [w](+1) [^1] <b> </b> &amp; &lt; ** * _ __
~~ ` ``` # #5 #tag @me § ≈ ± × → • │ 👍 👍🏽 👨‍👩‍👧 🇺🇸 1️⃣ ❤️ Dr. St. etc. e.g. Louis XIV I U.S.A. camelCase snake_case mp3
HTTPServer 24/7 and/or 10-20 1914-1918 50% ¥ ₹ 1990s '90s 5'10" 2^10 1e6 °C 三 é क ² ٣ ( ) [ ] < > . ,
"""
PIECES = _PIECES.split()
texts = st.one_of(
    st.text(max_size=80),
    st.lists(st.sampled_from([*PIECES, " ", " "]), max_size=20).map("".join),
    st.text(alphabet="ab1XI_*-./:[]()<>&#@$%^~+= '\"", max_size=60),
)
# Letters and digits that are not said: targets of links, references and footnotes, HTML tags.
UNSAID = re.compile(r"\].*|\[\^[^\[\]\s]*\]:?|</?[A-Za-z].*>", re.DOTALL)


def said(text: str, lang: str, *, emoji: bool = True) -> str:
    """What is said, blanks as a typist would set them."""
    whole = "".join(stretch for stretch, *_ in applied(text, read(text, lang, emoji=emoji)))
    return re.sub(r" +(?=[,.;:!?])", "", re.sub(r"\s+", " ", whole)).strip()


@pytest.mark.parametrize(("lang", "kind", "text", "spoken"), TABLE, ids=lambda field: field[:40])
def test_it_is_said_as_a_careful_reader_would(lang: str, kind: str, text: str, spoken: str) -> None:
    assert said(text, lang) == spoken


def test_the_table_covers_every_language() -> None:
    assert len(TABLE) >= 330
    for lang in LANGUAGES:
        assert sum(row[0] == lang for row in TABLE) >= 6, lang


@given(texts, st.sampled_from(LANGUAGES + "?"), st.booleans())
@settings(max_examples=400, deadline=None)
def test_edits_are_in_order_within_the_text_and_lose_no_letter(text: str, lang: str, emoji: bool) -> None:
    place = 0
    for edit in read(text, lang, emoji=emoji):
        stretch = text[edit.start : edit.end]
        assert place <= edit.start < edit.end <= len(text)
        assert edit.said != stretch and not edit.phonemes
        if not edit.said.strip() and any(map(str.isalnum, stretch)):
            keycap = not emoji and "\u20e3" in stretch
            assert UNSAID.fullmatch(stretch) or keycap, (stretch, edit)
        place = edit.end


@given(st.lists(st.from_regex(r"[a-z]{3,10}", fullmatch=True), min_size=1, max_size=12), st.sampled_from(LANGUAGES))
@settings(deadline=None)
def test_plain_words_are_left_alone(words: list[str], lang: str) -> None:
    if not any(re.fullmatch(r"[a-f]{7,}", word) for word in words):
        assert read(" ".join(words), lang) == []
        assert read(" ".join(words).capitalize() + ".", lang) == []


@pytest.mark.parametrize("lang", "afz")
@pytest.mark.parametrize(
    "unit", [*PIECES, "a_", "a.", "a/", "1.", "1,", "1-", "[a](", "](", "*a", "<b ", "&a", "-a", "A.", "1:"]
)
def test_the_same_800_times_is_read(unit: str, lang: str) -> None:
    text = (unit * 800)[:800]
    assert all(edit.end <= len(text) for edit in read(text, lang))


@pytest.mark.parametrize("text", ["ab" + "A" * 300 + "1", "no" + "O" * 400 + "_", "A" * 300 + "b1", "Ab" * 300 + "1"])
def test_a_word_in_mixed_case_is_read_at_once(text: str) -> None:
    assert all(edit.end <= len(text) for edit in read(text, "a"))  # exponential once: it would not end


def test_emoji_can_be_left_out() -> None:
    assert said("great 👍🏽👍🏽 work 👨‍👩‍👧 🇺🇸 1️⃣ now", "a", emoji=False) == "great work now"
    assert said("genial 👍", "e", emoji=False) == "genial"
    assert said("genial 👍", "e") == "genial 👍"  # espeak-ng knows its name


def test_an_unknown_language_is_left_alone() -> None:
    assert read("5 km", "x") == [] and read("", "a") == []


def test_a_mark_of_any_script_at_its_end_is_not_the_urls() -> None:
    for mark in "。，！？」』》،؟":
        assert said(f"https://kokoro.io/say{mark}", "a") == f"kokoro dot I O slash say{mark}"


def test_a_range_of_grouped_numbers_is_read() -> None:
    assert said("de 10 555-20 000 euros", "f") == "de dix mille cinq cent cinquante-cinq à vingt mille euros"
    assert said("5 555-1234", "f") == "5 555-1234"  # may be a code; raised ValueError once


def test_numbers_are_not_longer_than_their_library_can_say() -> None:
    assert said("9" * 400, "a") == " ".join(["nine"] * 400)
    for lang in LANGUAGES:
        assert read("1" * 5000 + "." + "2" * 5000, lang) is not None
