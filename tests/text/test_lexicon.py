"""Pronunciations: which entry counts, what goes with a text, and where it matches."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kokoro_common.errors import UsageError
from kokoro_common.text.edits import applied
from kokoro_common.text.lexicon import MAX_BYTES, MAX_CHARACTERS, PHONEMES, Entry, Lexicon, counting, explained
from kokoro_common.text.speech import Pronunciation
from tests.helpers.toy_kokoro import VOCABULARY
from tests.text.test_lexicon_file import loaded


def lexicon_of(*pairs: tuple[str, str]) -> Lexicon:
    return Lexicon(Pronunciation(word=word, said=said) for word, said in pairs)


def said(text: str, *pairs: tuple[str, str]) -> str:
    """The text with what is said in braces."""
    stretches = applied(text, lexicon_of(*pairs).edits(text))
    return "".join(f"{{{spoken}}}" if spoken != text[start:end] else spoken for spoken, start, end, _ in stretches)


# --- Which entry counts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "lang", "text", "expected"),
    [
        ("a = 1\na = 2", "a", "a", "{2}"),
        ("[fr]\na = 1\n[*]\na = 2", "f", "a", "{1}"),
        ("[fr]\na = 1\n[*]\na = 2", "e", "a", "{2}"),
        ("[fr]\na = 1", "a", "a", "a"),
        ("SQL = 1\nsql = 2", "a", "SQL Sql sql", "{1} {2} {2}"),
        ("[fr]\nsql = 1\n[*]\nSQL = 2", "f", "SQL", "{1}"),
        ("a = 1\nA b = 2\na = 3", "a", "A b, a b", "{2}, {3} b"),
    ],
)  # fmt: skip
def test_language_then_exact_spelling_then_the_later_line_wins(
    tmp_path: Path, lines: str, lang: str, text: str, expected: str
) -> None:
    entries = loaded(tmp_path, lines)
    for found in (counting(entries, lang, text), counting(entries, lang, None)):
        assert said(text, *((each.word, each.said) for each in found)) == expected


def test_a_projects_word_in_any_case_wins_over_the_users_exact_one() -> None:
    user = Entry(word="SQL", said="user", phonemes=False)
    project = Entry(word="sql", said="project", phonemes=False, source="project")
    assert explained([user, project], "a", "SQL") == "SQL -> project"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nothing", []),
        ("NGUYEN and new\n york", ["Nguyen", "New York"]),
        ("Nguyens", []),
        ("in 東京都", ["東京"]),
        ("R&D", ["&"]),
        ("WEISS", ["weiß"]),
        (None, ["東京", "&", "weiß", "Nguyen", "New York"]),
    ],
)
def test_what_occurs_in_the_text_goes_with_it(text: str | None, words: list[str]) -> None:
    entries = [Entry(word=word, said="x", phonemes=False) for word in ("Nguyen", "New York", "東京", "&", "weiß")]
    assert [each.word for each in counting(entries, "a", text)] == words


def test_more_than_goes_with_a_text_is_an_error_with_a_remedy() -> None:
    entries = [Entry(word=f"w{number:04}", said="ééééé", phonemes=False) for number in range(5000)]
    assert len(counting(entries, "a", "w0001 w4999 w5000")) == 2
    with pytest.raises(UsageError, match="5000 pronunciations of 75000 bytes") as caught:
        counting(entries, "a", None)
    assert caught.value.remedy


# --- Where it matches ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "text", "expected"),
    [
        ("Nguyen", "Nguyen", "{x}"),
        ("Nguyen", "nguyen NGUYEN", "nguyen NGUYEN"),
        ("nguyen", "Nguyen NGUYEN", "{x} {x}"),
        ("Nguyen", "Nguyen's, (Nguyen) «Nguyen»-Nguyen’s", "{x}'s, ({x}) «{x}»-{x}’s"),
        ("nguyen", "NGUYEN'S 'nguyen'", "{x}'S '{x}'"),
        ("won", "won, won't, won’t 'won'", "{x}, won't, won’t '{x}'"),
        ("eau", "l'eau d’eau", "l'{x} d’{x}"),
        ("Nguyen", "Nguyens xNguyen Nguyen2 _Nguyen Nguyen\u0301", "Nguyens xNguyen Nguyen2 _Nguyen Nguyen\u0301"),
        ("New York", "New York, New\nYork New  York, NewYork", "{x}, {x} {x}, NewYork"),
        ("C++", "C++, C++11 (C++)", "{x}, C++11 ({x})"),
        (".NET", ".NET ASP.NET", "{x} ASP.NET"),
        ("&", "this & that, R&D", "this {x} that, R&D"),
        ("straße", "STRASSE", "{x}"),
        ("東京", "東京都と東京。", "{x}都と{x}。"),
        ("Tシャツ", "のTシャツは XTシャツ", "の{x}は XTシャツ"),
        ("Nguyen", "彼はNguyenです", "彼は{x}です"),
        ("か", "か\u3099 か", "か\u3099 {x}"),
        ("กา", "อีกากา ก่า", "อี{x}{x} ก่า"),
        ("हिन्दी", "हिन्दी हिन्दीं", "{x} हिन्दीं"),
        (".*", "(.*) a", "({x}) a"),
    ],
)
def test_a_word_matches_between_what_is_no_word(word: str, text: str, expected: str) -> None:
    assert said(text, (word, "x")) == expected


def test_the_longest_match_wins_from_left_to_right() -> None:
    pairs = (("new", "1"), ("new york", "2"), ("york city hall", "3"), ("city", "4"))
    assert said("New York City Hall, new York, new Yorks", *pairs) == "{2} {4} Hall, {2}, {1} Yorks"


def test_phonemes_come_without_their_slashes() -> None:
    assert lexicon_of(("Nguyen", "/wˈɪn/"), ("SQL", "sequel")).edits("Nguyen SQL") == [
        (0, 6, "wˈɪn", True),
        (7, 10, "sequel", False),
    ]


WORDS = st.text(st.sampled_from("aAbBßİ'’ .1_東かไก\u0301\u3099é&/"), min_size=1, max_size=5)


@given(st.lists(WORDS, max_size=8), st.text(st.sampled_from("aAbBßsİ'’ \n.1_東かไก\u0301\u3099é&/"), max_size=40))
def test_edits_are_in_order_apart_and_equal_to_their_words(words: list[str], text: str) -> None:
    entries = [
        Entry(word=" ".join(word.split()), said=str(number), phonemes=False)
        for number, word in enumerate(words)
        if word.strip()
    ]
    lexicon = Lexicon(counting(entries, "a", None))
    edits = lexicon.edits(text)
    place = 0
    for edit in edits:
        assert place <= edit.start < edit.end <= len(text)
        word = entries[[entry.said for entry in entries].index(edit.said)].word
        stretch = " ".join(text[edit.start : edit.end].split())
        assert stretch == word or (stretch.casefold() == word.casefold() and word == word.lower())
        place = edit.end
    assert Lexicon(counting(entries, "a", text)).edits(text) == edits, "what is sent with a text is enough for it"


@given(st.text(max_size=60), st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), max_size=6))
def test_whatever_comes_over_the_network_is_refused_or_taken(text: str, pairs: list[tuple[str, str]]) -> None:
    try:
        lexicon = lexicon_of(*pairs)
    except ValueError:
        return
    assert all(edit.said for edit in lexicon.edits(text))


@pytest.mark.parametrize(
    "pair",
    [
        ["", "b"],
        [" ", "b"],
        ["a", ""],
        ["a ", "b"],
        ["a\tb", "b"],
        ["a", "b  b"],
        ["a", "/ b/"],
        ["a=b", "b"],
        ["#a", "b"],
        ["a\n", "b"],
        ["a", "\x1b[31m"],
        ["a", "\x9b"],
        ["a", "\ud800"],
        ["a", "/g/"],
        ["a", "//"],
        ["a" * (MAX_CHARACTERS + 1), "b"],
        ["a", "b" * (MAX_CHARACTERS + 1)],
    ],
    ids=ascii,
)
def test_a_malformed_pair_is_refused(pair: list[str]) -> None:
    with pytest.raises(ValueError):
        lexicon_of(("fine", "this is"), (pair[0], pair[1]))


def test_as_many_bytes_as_go_with_a_text_are_taken_and_no_more() -> None:
    pairs = [(f"{number:04}", "é" * 126) for number in range(MAX_BYTES // 256)]
    assert len(counting([Entry(word=word, said=spoken, phonemes=False) for word, spoken in pairs], "a", None)) == 256
    lexicon_of(*pairs)
    with pytest.raises(ValueError, match="more than 65536 bytes"):
        lexicon_of(*pairs, ("a", "b"))


def seconds(directory: Path, count: int) -> float:
    """Processor time to load, send and find `count` words, half of them in a text that has as many others."""
    lines = "".join(f"w{number:05} = s{number}\n" for number in range(count))
    text = " ".join(f"W{number:05}" for number in range(0, 2 * count, 2))
    began = time.process_time()
    pairs = counting(loaded(directory, lines), "a", text)
    assert len(Lexicon(pairs).edits(text)) == len(pairs) == count // 2
    return time.process_time() - began


def test_time_grows_with_the_number_of_entries_and_not_with_its_square(tmp_path: Path) -> None:
    few, many = (min(seconds(tmp_path, count) for _ in range(3)) for count in (500, 5000))
    assert many < 40 * few  # 10 times as much, on an idle machine; 100 times if it were quadratic


@pytest.mark.parametrize("unit", ["a ", "a", "a" + " " * 40, "'"], ids=repr)
def test_time_grows_with_the_text_and_not_with_its_square(unit: str) -> None:
    lexicon = lexicon_of(*((" ".join("a" * count) + " b", "x") for count in range(1, 99, 4)), ("'" * 99 + "a", "x"))

    def seconds(characters: int) -> float:
        text = (unit * characters)[:characters]
        began = time.process_time()
        assert lexicon.edits(text) == []
        return time.process_time() - began

    short, long = (min(seconds(characters) for _ in range(3)) for characters in (4_000, 40_000))
    assert long < 40 * short


# --- The rest --------------------------------------------------------------------------------------------------------


def test_an_explanation_has_a_line_for_each_match() -> None:
    entries = [Entry(word="nguyen", said="wˈɪn", phonemes=True), Entry(word="new york", said="x y", phonemes=False)]
    assert explained(entries, "a", "Nguyen's New\n York") == "Nguyen -> /wˈɪn/\nNew York -> x y"
    assert explained(entries, "a", "nothing") == explained([], "a", "") == "no entry matches"


def test_the_phonemes_are_the_models() -> None:
    assert set(PHONEMES) == set(VOCABULARY)
    assert len(PHONEMES) == len(VOCABULARY)
