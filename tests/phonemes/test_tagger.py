"""The built-in tagger: tags by shape and table, and the share of words that sound otherwise than with hand tags."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kokoro_common.phonemes.tagger import tag

DATA = Path(__file__).parent.parent / "data"
SHARE_OF_WRONG_WORDS = {"tagger_tuned.txt": 0.05, "tagger_heldout.txt": 0.05}  # 7 of 194 and 7 of 230 measured


def tagged(line: str) -> list[tuple[str, str]]:
    """Tags of tokens given as they stand in a text, split before punctuation and contractions."""
    tokens = re.findall(r"(n't|'\w+|\d[\d.,:/]*\d|\w+(?=n't)|\w+|[^\w\s])(\s*)", line)
    words = [word for word, _ in tokens]
    return list(zip(words, tag(words, [bool(blank) for _, blank in tokens]), strict=True))


def of(line: str, word: str) -> list[str]:
    return [its_tag for text, its_tag in tagged(line) if text == word]


def test_there_is_a_tag_for_every_word_and_none_is_internal() -> None:
    penn = re.compile(r"[A-Z]{2,4}\$?|_SP|-[LR]RB-|``|''|[.,:$#]")
    for name in SHARE_OF_WRONG_WORDS:
        for line in (DATA / name).read_text(encoding="utf-8").splitlines():
            assert all(penn.fullmatch(its_tag) for _, its_tag in tagged(line)), line
    assert tag([], []) == []


@given(st.lists(st.tuples(st.text(min_size=1, max_size=12), st.booleans()), max_size=30))
def test_any_tokens_get_tags(tokens: list[tuple[str, bool]]) -> None:
    assert len(tag([word for word, _ in tokens], [blank for _, blank in tokens])) == len(tokens)


def test_money_and_numbers_are_tagged_so_that_they_are_read() -> None:
    assert tagged("$3.50 or £2 million")[:2] == [("$", "$"), ("3.50", "CD")]
    assert [t for _, t in tagged("£2 million")] == ["$", "CD", "CD"]
    assert of("On 3/4/2024 at 5 AM", "3/4/2024") == ["CD"]
    assert of("On 3/4/2024 at 5 AM", "AM") == ["NN"]


def test_punctuation_keeps_its_tag() -> None:
    tags = [t for _, t in tagged('Yes, "no" (maybe); well-known - really? “So” … #1!')]
    assert " ".join(tags) == "NN , `` DT '' -LRB- RB -RRB- : RB HYPH NN : RB . `` CC '' : # CD ."


def test_apostrophes_are_possessive_or_quotes() -> None:
    assert of("the cats' toys", "'") == ["POS"]
    assert tag(["'", "hello", "'", "he", "said"], [False, False, True, True, False])[:3:2] == ["``", "''"]


def test_acronyms_are_spelled_and_shouting_is_not() -> None:
    assert of("The US economy", "US") == ["NNP"]
    assert of("PLEASE TELL US WHO IT WAS", "US") == ["PRP"]


class HandTagged:
    """misaki's English, with tags from the built-in tagger that `hand` overrides by the place of a word in the text."""

    def __init__(self) -> None:
        spacy = pytest.importorskip("spacy")
        from misaki import en

        tokenizer = spacy.blank("en").tokenizer
        self.hand: dict[int, str] = {}

        def analyse(text: str) -> Any:
            doc = tokenizer(text)
            tags = tag([t.text for t in doc], [bool(t.whitespace_) for t in doc])
            for token, its_tag in zip(doc, tags, strict=True):
                token.tag_ = self.hand.get(token.idx, its_tag)
            return doc

        self.g2p = en.G2P.__new__(en.G2P)
        self.g2p.version, self.g2p.british, self.g2p.unk, self.g2p.fallback = None, False, "", None
        self.g2p.nlp, self.g2p.lexicon = analyse, en.Lexicon(False)

    def words(self, text: str, hand: dict[int, str]) -> dict[int, str]:
        """Phonemes of each word, by its place in the text."""
        self.hand = hand
        place, sounds = 0, {}
        for token in self.g2p(text)[1]:
            sounds[place] = token.phonemes
            place += len(token.text + token.whitespace)
        return sounds


@pytest.fixture(scope="module")
def misaki() -> Iterator[HandTagged]:
    yield HandTagged()


def sentences(name: str) -> Iterator[tuple[str, dict[int, str]]]:
    """Each sentence of a list and the tags set by hand: place of the word to tag."""
    for line in (DATA / name).read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        text, hand = "", {}
        for part in re.split(r"(\w+_[A-Z]+\$?)", line):
            word, _, its_tag = part.partition("_")
            if its_tag:
                hand[len(text)] = its_tag
            text += word
        yield text, hand


@pytest.mark.model
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of misaki, spaCy and torch, on import
@pytest.mark.parametrize("name", SHARE_OF_WRONG_WORDS)
def test_words_with_two_sounds_get_the_right_one(misaki: HandTagged, name: str) -> None:
    """Counts only the words that carry a hand tag, which are those with two sounds; all other words cannot differ."""
    words, wrong = 0, []
    for text, hand in sentences(name):
        expected, heard = misaki.words(text, hand), misaki.words(text, {})
        words += len(hand)
        wrong += [(text, text[place:].split()[0]) for place in hand if expected.get(place) != heard.get(place)]
        assert expected.keys() == heard.keys()
    assert words >= (200 if "heldout" in name else 150)
    assert len(wrong) <= SHARE_OF_WRONG_WORDS[name] * words, f"{len(wrong)} of {words}"


def test_the_tagger_imports_nothing_but_re() -> None:
    source = Path(sys.modules[tag.__module__].__file__ or "").read_text(encoding="utf-8")
    assert set(re.findall(r"^(?:import|from) (\S+)", source, re.M)) == {"__future__", "re"}
