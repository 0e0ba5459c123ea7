"""Phonemes and their words: nothing lost where they are split, and the frames that each word takes."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kokoro_common.phonemes.spoken import PhonemeWord, Spoken, split_spoken, word_frames


def split_phonemes(phonemes: str, limit: int) -> list[str]:
    return [piece.phonemes for piece in split_spoken(Spoken(phonemes=phonemes, words=()), limit)]


def joined(pieces: list[str]) -> str:
    return "".join("".join(pieces).split())


def word(place: int, first: int, last: int) -> PhonemeWord:
    return PhonemeWord(start=place, end=place + 1, first=first, last=last)


@given(st.text(alphabet="aɪˈː .,!?;:—…”)\n\t", max_size=400), st.integers(1, 60))
def test_splitting_loses_nothing_and_keeps_the_limit(phonemes: str, limit: int) -> None:
    pieces = split_phonemes(phonemes, limit)
    assert all(0 < len(piece) <= limit and piece == piece.strip() for piece in pieces)
    assert joined(pieces) == joined([phonemes])


def test_a_cut_prefers_a_sentence_then_a_clause_then_a_blank() -> None:
    assert split_phonemes("aaaa bb. cc, dd ee", 14) == ["aaaa bb.", "cc, dd ee"]
    assert split_phonemes("aaaa bb, cc dd ee", 14) == ["aaaa bb,", "cc dd ee"]
    assert split_phonemes("a. aaa bbbb ccc dd", 14) == ["a. aaa bbbb", "ccc dd"]  # no scrap of a piece for a full stop
    assert split_phonemes("aaaaa bbb.” cccccc", 12) == ["aaaaa bbb.”", "cccccc"]
    assert split_phonemes(" \n", 5) == []


def test_a_cut_inside_a_word_is_logged_without_the_word(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "kokoro.g2p"):
        assert split_phonemes("ab" * 4, 3) == ["aba", "bab", "ab"]
    assert "cut" in caplog.text
    assert "aba" not in caplog.text


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="limit"):
        split_phonemes("a", 0)


@given(
    st.lists(st.tuples(st.text("aɪˈ", min_size=1, max_size=9), st.sampled_from([" ", ", ", ". ", "—", "  "]))),
    st.integers(1, 40),
)
def test_splitting_keeps_every_word_with_its_phonemes(sounds: list[tuple[str, str]], limit: int) -> None:
    phonemes, words = "", []
    for sound, gap in sounds:
        words.append(
            PhonemeWord(start=len(words), end=len(words) + 1, first=len(phonemes), last=len(phonemes) + len(sound))
        )
        phonemes += sound + gap
    pieces = split_spoken(Spoken(phonemes=phonemes, words=tuple(words)), limit)
    for piece in pieces:
        spans = [place for word in piece.words for place in (word.first, word.last)]
        assert spans == sorted(spans)
        assert not spans or spans[-1] <= len(piece.phonemes)
    found = [(piece.phonemes[word.first : word.last], word.start) for piece in pieces for word in piece.words]
    assert [start for _, start in found] == list(range(len(sounds)))
    for (sound, _), (part, _) in zip(sounds, found, strict=True):
        assert part == sound or (part and sound.startswith(part) and len(sound) > 1)
        assert part == sound or limit < len(sound) + 2 or "—" in phonemes


def test_a_word_that_is_cut_is_where_it_begins() -> None:
    spoken = Spoken(phonemes="aa bbbbbb", words=(word(0, 0, 2), word(1, 3, 9)))
    assert split_spoken(spoken, 4) == [
        Spoken(phonemes="aa", words=(word(0, 0, 2),)),
        Spoken(phonemes="bbbb", words=(word(1, 0, 4),)),
        Spoken(phonemes="bb", words=()),
    ]


def test_the_frames_of_words_are_those_of_their_phonemes_in_the_vocabulary() -> None:
    spoken = Spoken(phonemes="a-b, cd.", words=(word(0, 0, 3), word(1, 5, 7)))
    durations = [9, 1, 2, 3, 4, 5, 6, 7, 8]  # at the ends, and of a b , blank c d .
    assert word_frames(spoken, durations, set("abcd, .")) == [(9 * 600, 12 * 600), (15 * 600, 30 * 600)]
    assert word_frames(spoken, durations[:-1], set("abcd ,"), 1) == [(9, 12), (15, 30)]
    assert word_frames(spoken, [1, 1, 1, 1], set("ad"), 1) == [(1, 2), (2, 3)]
    assert word_frames(spoken, [], set("x")) == [(0, 0), (0, 0)]


def test_durations_of_other_phonemes_are_refused() -> None:
    spoken = Spoken(phonemes="ab", words=())
    for durations in ([], [1, 1, 1], [1] * 5):
        with pytest.raises(ValueError, match="durations"):
            word_frames(spoken, durations, set("ab"))
