"""Text in, text chunks out: whose voice and language the markup asks for, and what becomes of a misspelt one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kokoro_common.errors import UsageError
from kokoro_common.speaking.intake import SLICE_CHARACTERS, TOGETHER, Intake
from kokoro_common.text.chunker import TextChunk
from kokoro_common.text.markup import Manner
from kokoro_common.text.pauses import SENTENCE_SECONDS
from kokoro_common.text.speech import (
    MAX_PAUSES,
    MAX_SPEED,
    MIN_SPEED,
    PAUSES_PER_CHARACTER,
    ChunkRequest,
    Pronunciation,
    Role,
    Speech,
)
from kokoro_common.voices.catalogue import parse_voice
from kokoro_common.wire.messages import MAX_TEXT_PART_BYTES, TEXT_CREDIT, ProtocolError

NOW = 1_000.0
OWN = {"af_mine": "", "bm_mix": "af_heart:0.5,bm_george:0.5"}
SENTENCE = "The first sentence is here. "


def intake(speech: Speech | None = None, *, credit: int = TEXT_CREDIT, leave_out: int = 0) -> Intake:
    speech = speech or Speech(lang="a")
    return Intake(speech, parse_voice(speech.voice, OWN), OWN, credit=credit, leave_out=leave_out)


def requests(text: str, speech: Speech | None = None) -> tuple[list[ChunkRequest], list[str]]:
    """All text chunks of a text, and the notices that they give."""
    taken = intake(speech)
    taken.add(text, NOW)
    taken.end()
    found = []
    while taken.waiting:
        found.append(taken.request(taken.take(), "kokoro"))
    taken.sum_up()
    return found, list(taken.notices)


def spoken_by(voice: str, *, speech: Speech | None = None, lang: str = "") -> tuple[str, str, list[str]]:
    """Voice, language and notices for a text chunk whose markup asks for this voice and this language."""
    taken = intake(speech)
    request = taken.request(
        TextChunk(text="word", start=0, end=4, voice=voice, manner=Manner(1.0, 1.0, lang)), "kokoro"
    )
    return request.speech.voice, request.speech.lang, list(taken.notices)


# --- voices and languages of the markup ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "voice", "lang"),
    [
        ("", "af_heart", "a"),
        ("bm_george", "bm_george", "b"),  # with its own language, as the utterance's voice has
        ("af_mine", "af_mine", "a"),
        ("female", "af_heart", "a"),  # it is one already
        ("male", "am_adam", "a"),
    ],
)
def test_the_markup_chooses_the_voice(asked: str, voice: str, lang: str) -> None:
    assert spoken_by(asked) == (voice, lang, [])


def test_a_voice_by_its_gender_speaks_the_language_of_the_utterance() -> None:
    assert spoken_by("female", speech=Speech(voice="bm_george", lang="b"))[:2] == ("bf_alice", "b")


def test_a_language_that_the_user_chose_stays_when_the_voice_changes() -> None:
    speech = Speech(voice="af_heart", lang="f")
    assert spoken_by("bm_george", speech=speech) == ("bm_george", "f", [])


@pytest.mark.parametrize(("tag", "lang"), [("en-GB", "b"), ("fr-CA", "f"), ("es", "e")])
def test_the_markup_chooses_the_language(tag: str, lang: str) -> None:
    assert spoken_by("", lang=tag) == ("af_heart", lang, [])


def test_a_language_that_nobody_speaks_is_told_and_the_utterances_own_is_used() -> None:
    voice, lang, (notice,) = spoken_by("", lang="tlh")
    assert (voice, lang) == ("af_heart", "a") and "tlh" in notice


def test_a_language_without_a_voice_of_that_gender_keeps_the_utterances_own() -> None:
    speech = Speech(voice="ff_siwis", lang="f")
    assert spoken_by("male", speech=speech) == ("ff_siwis", "f", ["there is no male voice"])


def test_a_misspelt_voice_is_told_once_and_costs_no_words() -> None:
    text = f"[voice:am_nobody] {SENTENCE}{SENTENCE}[voice:am_noone] {SENTENCE}"
    found, notices = requests(text)
    assert [request.speech.voice for request in found] == ["af_heart"] * 3
    assert len(notices) == 2 and "am_nobody" in notices[0] and "am_noone" in notices[1]


def test_elements_of_ssml_that_are_not_obeyed_are_told_once() -> None:
    found, notices = requests(f"<speak><audio>{SENTENCE}</audio>{SENTENCE}<audio>{SENTENCE}</audio></speak>")
    assert [request.text for request in found] == [SENTENCE.strip()] * 3
    assert len(notices) == 1 and "audio" in notices[0]


def test_a_dialogue_is_read_by_its_cast() -> None:
    speech = Speech(lang="a", dialogue=True, cast=(Role(name="Ann", voice="af_mine"),))
    found, _ = requests("ANN: Hello there.\nBob: Good morning.\n", speech)
    ann, bob = (request.speech.voice for request in found)
    assert ann == "af_mine" and bob not in ("af_mine", "")


# --- what the model server is asked for ------------------------------------------------------------------------------


def test_a_request_has_what_its_audio_depends_on_and_no_more() -> None:
    speech = Speech(lang="a", lexicon=(Pronunciation(word="first", said="last"),), seed=7)
    (request,), _ = requests(SENTENCE, speech)
    assert (request.speech.engine, request.speech.seed) == ("kokoro", 7)
    assert request.speech.lexicon == () and request.speech.cast == ()
    assert [edit.said for edit in request.edits] == ["last"]


@pytest.mark.parametrize(("speed", "rate", "spoken"), [(2.0, 3.0, MAX_SPEED), (0.5, 0.25, MIN_SPEED), (1.5, 2.0, 3.0)])
def test_the_markups_speed_is_on_top_of_the_utterances_within_the_limits(
    speed: float, rate: float, spoken: float
) -> None:
    chunk = TextChunk(text="word", start=0, end=4, manner=Manner(rate, 0.5, ""))
    request = intake(Speech(lang="a", speed=speed)).request(chunk, "kokoro")
    assert (request.speech.speed, request.gain) == (spoken, 0.5)


def test_a_lexicon_that_cannot_be_used_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="the lexicon cannot be used"):
        intake(Speech(lang="a", lexicon=(Pronunciation(word="", said="x"),)))


# --- credit, and the end ---------------------------------------------------------------------------------------------


def test_text_beyond_the_credit_or_after_the_end_is_refused() -> None:
    short = intake(credit=10)
    short.add("a" * 10, NOW)
    with pytest.raises(ProtocolError, match="beyond the credit"):
        short.add("a", NOW)
    with pytest.raises(ProtocolError):
        intake().add("a" * (MAX_TEXT_PART_BYTES + 1), NOW)
    ended = intake()
    ended.end()
    ended.end()  # idempotent
    with pytest.raises(ProtocolError, match="after its end"):
        ended.add("a", NOW)


@settings(deadline=None)
@given(st.lists(st.text("aé。 .\n*", max_size=40), max_size=12))
def test_each_byte_of_text_gives_its_credit_back_once(parts: list[str]) -> None:
    size = sum(len(part.encode()) for part in parts)
    taken = intake(credit=size)
    credit = 0
    for part in parts:
        taken.add(part, NOW)
        while taken.waiting:
            credit += taken.credit_for(taken.take().end)
    taken.end()
    while taken.waiting:
        credit += taken.credit_for(taken.take().end)
    assert taken.exhausted and credit + taken.credit_for() == size and taken.credit_for() == 0


def test_a_book_is_cut_no_further_than_the_next_text_chunk_needs() -> None:
    taken = intake()
    taken.add(SENTENCE * 1_000, NOW)
    assert taken.raw and len(taken.waiting) <= SLICE_CHARACTERS / len(SENTENCE) + 1


def test_text_that_is_left_out_is_passed_over_a_slice_at_a_time() -> None:
    whole, _ = requests(SENTENCE * 500)
    taken = intake(leave_out=300)
    taken.add(SENTENCE * 500, NOW)
    taken.end()
    assert taken.skipping
    while taken.skipping:
        taken.skip_on()
    rest = []
    while taken.waiting:
        rest.append(taken.request(taken.take(), "kokoro"))
    assert [request.index for request in rest] == list(range(300, len(whole)))
    assert [request.text for request in rest] == [request.text for request in whole[300:]]


def test_half_a_sentence_is_seen_and_can_be_taken() -> None:
    taken = intake()
    taken.add("One thing, and then", NOW)
    assert taken.half_sentence and not taken.waiting
    taken.writer_paused(clauses_only=True)
    assert [chunk.text for chunk in taken.waiting] == ["One thing,"]
    assert not taken.half_sentence  # what is there comes first
    taken.take()
    taken.writer_paused(clauses_only=False)
    assert [taken.take().text] == ["and then"]
    assert not taken.half_sentence and not taken.exhausted
    taken.end()
    assert taken.exhausted


def test_a_text_chunk_that_is_too_long_is_parted_and_the_rest_comes_next() -> None:
    text = "It began, as such things do, on a quiet morning, when nobody had thought of it, and it went on. "
    taken = intake()
    taken.add(SENTENCE + text, NOW)
    taken.take()
    parts = []
    while taken.waiting:
        parts.append(taken.take(40).text)
    assert len(parts) > 1 and " ".join(parts) == text.strip()


# --- no more silence, and no more lines, than a text is worth ---------------------------------------------------------


def taken_of(text: str, speech: Speech | None = None, *, leave_out: int = 0) -> tuple[list[TextChunk], list[str]]:
    """All text chunks of a text, pauses too, and all notices about it."""
    intake_of = intake(speech, leave_out=leave_out)
    intake_of.add(text, NOW)
    intake_of.end()
    chunks = []
    while intake_of.skipping:
        intake_of.skip_on()
    while intake_of.waiting:
        chunks.append(intake_of.take())
        intake_of.request(chunks[-1], "kokoro")
    intake_of.sum_up()
    return chunks, list(intake_of.notices)


@pytest.mark.parametrize(
    "text",
    [
        "[pause:60s]" * 60,
        "[pause:59999ms]" * 60,
        "<speak>" + '<break time="60s"/>' * 600 + "</speak>",
        '<speak>Now<break time="1000s"/>' + "<p/>a<break strength='x-strong'/>" * 2000 + "</speak>",
        "a [pause:60s] b\n\n" * 200,
    ],
)
def test_all_pauses_of_a_text_together_have_a_limit_and_one_note(text: str) -> None:
    chunks, notices = taken_of(text)
    letters = sum(len(chunk.text) for chunk in chunks)
    assert sum(chunk.pause for chunk in chunks) <= MAX_PAUSES + PAUSES_PER_CHARACTER * letters + 0.01
    assert len(notices) == 1 and "pauses" in notices[0]


def test_pauses_within_the_limit_stay_as_they_are() -> None:
    text = "A paragraph of a book that is read with a rest after it, as listeners like it. [pause:3s]\n\n" * 500
    chunks, notices = taken_of(text)
    assert [chunk.pause for chunk in chunks if chunk.pause] == [3.0] * 500 and notices == []


def test_pauses_do_not_depend_on_where_a_render_goes_on() -> None:
    text = "one two three. [pause:50s] " * 30
    whole, _ = taken_of(text)
    for first in (1, 13, 30):
        assert taken_of(text, leave_out=first)[0] == whole[first:]


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"[voice:xx_n{number}] word {number}. " for number in range(600)),
        "".join(f"[pause:{number} weeks] word. " for number in range(600)),
        " ".join(f"[word](/wɔ{chr(0x4E00 + number)}d/)" for number in range(600)),
        "<speak>" + "".join(f"<x{number}>word</x{number}>. " for number in range(600)) + "</speak>",
        "<speak>" + "".join(f'<break time="{number} years"/>word. ' for number in range(600)) + "</speak>",
        "<speak>" + "".join(f'<s xml:lang="q{number}">word</s>' for number in range(600)) + "</speak>",
    ],
)
def test_six_hundred_mistakes_are_one_line_and_their_number(text: str) -> None:
    _, notices = taken_of(text)
    assert len(notices) == 2, notices[:5]
    assert notices[1].startswith("599 other ")
    assert all(len(notice) < 300 for notice in notices)


def test_the_same_mistake_again_is_not_told_again() -> None:
    _, notices = taken_of("[voice:xx_none] one. [voice:-] two. " * 50)
    assert len(notices) == 1


# --- sentences together ----------------------------------------------------------------------------------------------

PROSE = (
    "The river bends twice before the mill. Nobody knows who built it, or when. It stands there still! "
    "Why does it? Some say that the stones were brought from the quarry beyond the hills, by oxen. Others laugh.\n\n"
    "No. Yes.\n\n"
    "A heading\n\n"
    "One more paragraph is here, and it is short. [pause:1s] After the pause it goes on, with a longer sentence, which "
    "is of some length. And so it ends. [voice:am_adam]Says another, at some length too. "
    "[voice:af_heart]Indeed it does. Well."
)


def grouped(text: str, *, size: int = 10_000, leave_out: int = 0, together: bool = True) -> list[TextChunk]:
    taken = Intake(
        Speech(lang="a"),
        parse_voice("af_heart"),
        {},
        credit=TEXT_CREDIT,
        leave_out=leave_out,
        together=together,
    )
    chunks = []
    for start in range(0, len(text), size):
        taken.add(text[start : start + size], NOW)
        while taken.waiting:
            chunks.append(taken.take())
    taken.end()
    while taken.waiting:
        chunks.append(taken.take())
    return chunks


def test_a_files_sentences_are_spoken_together_within_their_paragraph() -> None:
    chunks = grouped(PROSE)
    assert [chunk.text for chunk in chunks if not chunk.pause] == [
        "The river bends twice before the mill. Nobody knows who built it, or when. It stands there still! "
        "Why does it? Some say that the stones were brought from the quarry beyond the hills, by oxen. Others laugh.",
        "No.",
        "Yes.",
        "A heading",
        "One more paragraph is here, and it is short.",
        "After the pause it goes on, with a longer sentence, which is of some length.",
        "And so it ends.",
        "Says another, at some length too.",
        "Indeed it does.",
        "Well.",
    ]
    assert all(len(chunk.text) <= TOGETHER for chunk in chunks)


@pytest.mark.parametrize("size", [1, 5, 17, 60])
def test_the_borders_of_what_is_spoken_together_depend_on_the_text_alone(size: int) -> None:
    assert grouped(PROSE * 3, size=size) == grouped(PROSE * 3)


@pytest.mark.parametrize("first", range(1, 9))
def test_a_render_that_goes_on_has_the_same_text_chunks_and_rests(first: int) -> None:
    assert grouped(PROSE, leave_out=first)[0] == grouped(PROSE)[first]


def test_a_stream_and_untouched_speech_are_a_sentence_at_a_time() -> None:
    sentences = [chunk.text for chunk in grouped(PROSE, together=False)]
    assert "It stands there still!" in sentences
    untouched, _ = requests(PROSE, Speech(lang="a", untouched=True))
    assert [request.text for request in untouched] == sentences
    assert {request.rest for request in untouched} == {0.0}


def test_for_the_ear_sentences_are_taken_together_up_to_what_is_asked_for() -> None:
    taken = intake()
    taken.add(PROSE, NOW)
    taken.end()
    assert taken.take().text == "The river bends twice before the mill."
    assert taken.take(400, 150).text == "Nobody knows who built it, or when."  # with two more it would be too short
    texts = []
    while taken.waiting:
        texts.append(taken.take(400, TOGETHER).text)
    assert " ".join(text for text in texts if text).endswith("Indeed it does. Well.")
    assert max(map(len, texts)) > 100


def test_rests_are_shorter_at_a_higher_speed() -> None:
    for speed in (0.5, 1.0, 2.0):
        _, second = requests("One is here. Two is there.", Speech(lang="a", speed=speed))[0]
        assert second.rest == pytest.approx(SENTENCE_SECONDS / speed)
