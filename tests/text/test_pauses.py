import itertools

import pytest

from kokoro_common.text.chunker import Chunker, TextChunk, fit_together, joined
from kokoro_common.text.markup import Markup
from kokoro_common.text.pauses import CLAUSE_SECONDS, PARAGRAPH_SECONDS, QUESTION_SECONDS, SENTENCE_SECONDS, pause_after


def chunks(text: str, *, early: bool = False, size: int = 10_000) -> list[TextChunk]:
    chunker = Chunker("a", Markup("a"), early=early)
    found = [each for start in range(0, len(text), size) for each in chunker.feed(text[start : start + size])]
    return found + chunker.finish()


@pytest.mark.parametrize(
    ("end", "seconds"),
    [
        *((f"It is{mark}", SENTENCE_SECONDS) for mark in (".", "。", "।", ".”", ".)")),
        *((f"It is{mark}", QUESTION_SECONDS) for mark in ("!", "?", "…", "?!", '!"', "？")),
        *((f"It is{mark}", CLAUSE_SECONDS) for mark in (",", ";", ":", "—", "、", ",”")),
        *((f"It is{mark}", 0.0) for mark in ("", " a", "'s", ")")),
    ],
)
def test_a_voice_rests_by_the_mark_at_the_end(end: str, seconds: float) -> None:
    assert pause_after(end) == seconds
    assert pause_after(f"{end} \n") == seconds


@pytest.mark.parametrize(
    ("between", "rest"),
    [
        (" ", SENTENCE_SECONDS),
        ("\n", SENTENCE_SECONDS),
        ("\n\n", PARAGRAPH_SECONDS),
        (" \n \n ", PARAGRAPH_SECONDS),
        ("\n\n***\n\n", PARAGRAPH_SECONDS),
        (" [pause:2s] ", 0.0),  # what was asked for, and no more
        (" [pause:2s]\n\n", 0.0),
    ],
)
def test_the_rest_before_a_text_chunk_is_by_what_stands_between(between: str, rest: float) -> None:
    spoken = [each for each in chunks(f"One is here.{between}Two is there.") if "is" in each.text]
    assert [each.rest for each in spoken] == [0.0, rest]


def test_a_heading_without_a_stop_and_a_change_of_voice_have_a_rest_too() -> None:
    assert chunks("A heading\n\nThe text.")[1].rest == PARAGRAPH_SECONDS
    _, quoted, after = chunks("She said [voice:am_adam]no[voice:af_heart] and left.")
    assert (quoted.rest, after.rest) == (CLAUSE_SECONDS, CLAUSE_SECONDS)


def test_a_sentence_that_is_too_long_is_cut_without_a_rest_where_there_is_no_mark() -> None:
    long = " ".join(["word"] * 120) + ", " + " ".join(["word"] * 20) + "."
    found = chunks(long)
    assert len(found) > 1
    assert {each.rest for each in found[1:]} <= {0.0, CLAUSE_SECONDS}
    assert found[1].rest == pause_after(found[0].text)


@pytest.mark.parametrize("size", [1, 3, 7])
def test_rests_do_not_depend_on_how_the_text_comes(size: int) -> None:
    text = "One.\n\nTwo etc.\nThree,\nfour! [pause:1s] Five\n\n- six\n- seven\n\n\n\nEight: nine."
    assert chunks(text, size=size) == chunks(text)


def test_joined_chunks_say_the_same_and_know_their_places() -> None:
    text = "One is  here.  Two\nis there? “Three!” (Four.)"
    whole = joined(chunks(text))
    assert whole.text == "One is here. Two is there? “Three!” (Four.)"
    assert (whole.start, whole.end) == (0, len(text))
    assert len(whole.places) == len(whole.text)
    assert list(whole.places) == sorted(whole.places)
    letters = [(sign, text[place]) for sign, place in zip(whole.text, whole.places, strict=True) if sign.isalnum()]
    assert all(sign == source for sign, source in letters)
    edited = chunks("Say [Kokoro](/kˈOkəɹO/). And [it](/ˈɪt/) again.")
    both = joined(edited)
    assert [both.text[edit.start : edit.end] for edit in both.edits] == ["Kokoro", "it"]


@pytest.mark.parametrize(
    ("text", "together"),
    [
        ("One is here. Two is there.", True),
        ("One is here.\nTwo is there.", True),
        ("One is here.\n\nTwo is there.", False),
        ("One is here. [voice:am_adam]Two is there.", False),
        ("One is here. [pause:1s] Two is there.", False),
        ("A heading\nTwo is there.", True),
    ],
)
def test_only_sentences_of_one_paragraph_voice_and_manner_fit_together(text: str, together: bool) -> None:
    found = chunks(text)
    assert all(fit_together(*pair) for pair in itertools.pairwise(found)) is together
