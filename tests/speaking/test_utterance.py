"""The books of one utterance: chunks in order, a window ahead of the ear, credit for text, the engine's pace."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kokoro_common.errors import KokoroError, UnknownVoice, UsageError
from kokoro_common.sound.samples import SAMPLE_RATE
from kokoro_common.speaking.in_flight import AHEAD_FRAMES, CHUNKS_IN_FLIGHT, Backlog
from kokoro_common.speaking.pace import Pace
from kokoro_common.speaking.utterance import Utterance
from kokoro_common.text.chunker import MAX_SAID
from kokoro_common.text.speech import ChunkRequest, Pronunciation, Role, Speech, TimedWord
from kokoro_common.wire.messages import (
    MAX_TEXT_PART_BYTES,
    TEXT_CREDIT,
    AudioChunk,
    ChunkSpoken,
    ProtocolError,
    Route,
    Speak,
    Synthesize,
    Synthesized,
)

NOW = 1_000.0
SENTENCE = "The first sentence is here. "
LONG = "It began, as such things do, on a quiet morning, when nobody had thought of it, and it went on, so they say. "


def utterance(pace: Pace | None = None, **fields: Any) -> Utterance:
    route = {name: value for name, value in fields.items() if name in Route._fields}
    speech = {name: value for name, value in fields.items() if name not in Route._fields}
    speak = Speak(
        utterance="0" * 32, speech=Speech(**{"lang": "a", "engine": "kokoro", **speech}), route=Route(**route)
    )
    return Utterance(speak, pace or Pace(), NOW)


def answer(speech: Utterance, request: ChunkRequest, seconds: float, work: float = 0.0) -> int:
    speech.add_audio(audio(request.index), b"\0" * 4 * int(seconds * SAMPLE_RATE))
    times = Synthesized(utterance=speech.id, index=request.index, g2p=0.0, queue=0.0, model=work)
    speech.synthesized(times, NOW)
    return speech.take_credit()


def audio(index: int, *words: list[int]) -> AudioChunk:
    names = ("start", "end", "first_frame", "last_frame")
    timed = [TimedWord(**dict(zip(names, word, strict=True))) for word in words]
    return AudioChunk(utterance="u", index=index, words=tuple(timed))


def asked(speech: Utterance, ahead: float = 0.0) -> ChunkRequest:
    message = speech.next_synthesize(int(ahead * SAMPLE_RATE), NOW)
    assert message is not None
    return message.request


@pytest.mark.parametrize(
    ("fields", "error"),
    [({"speed": 9.0}, UsageError), ({"speed": float("nan")}, UsageError), ({"sink": "file"}, UsageError),
     ({"engine": "x"}, UsageError), ({"floor": "x"}, UsageError), ({"lang": "x"}, UsageError),
     ({"volume": 2.1}, UsageError), ({"volume": -0.1}, UsageError), ({"voice": "../x"}, UnknownVoice)],
)  # fmt: skip
def test_fields_that_make_no_sense_are_refused(fields: dict[str, object], error: type[KokoroError]) -> None:
    with pytest.raises(error):
        utterance(**fields)


def test_a_first_chunk_without_sound_is_no_measure() -> None:
    speech = utterance()
    speech.add_text(SENTENCE * 9, NOW)
    first = asked(speech)
    speech.synthesized(Synthesized(utterance=speech.id, index=first.index, g2p=0.0, queue=0.0, model=0.1), NOW)
    assert speech.cushion_is_filled(speech.frames) and asked(speech).index == 1


def test_pauses_say_nothing_about_the_engine() -> None:
    pace = Pace()
    speech = utterance(pace, sink="client")
    speech.add_text("Hello there. [pause:10s] And again. [pause:10s] ", NOW)
    speech.end_text()
    first = asked(speech)
    speech.add_audio(audio(first.index), b"\0" * 4 * SAMPLE_RATE)
    speech.next_synthesize(0, NOW)  # the pause is taken while audio arrives
    answer(speech, first, 1.0, work=2.4)
    assert pace.real_time_factor == {"kokoro": pytest.approx(1.2)}


def test_what_was_asked_for_counts_as_audio_until_it_has_come() -> None:
    backlog = Backlog()
    speak = Speak(utterance="0" * 32, speech=Speech(lang="a", engine="kokoro"), route=Route(sink="client"))
    speech = Utterance(speak, Pace(), NOW, backlog=backlog)
    speech.add_text(SENTENCE * 9, NOW)
    message = speech.next_synthesize(0, NOW)
    assert message is not None and backlog.bytes > SAMPLE_RATE
    answer(speech, message.request, 1.0)
    assert backlog.bytes == 4 * SAMPLE_RATE
    speech.next_synthesize(0, NOW)
    speech.in_flight.drop()
    assert backlog.bytes == 0


def test_what_is_said_instead_is_no_more_than_a_chunk_can_answer() -> None:
    speech = utterance(lexicon=(Pronunciation(word="a", said="x" * 190),))
    speech.add_text("a " * 190 + ". Next", NOW)
    assert sum(len(str(edit[2])) for edit in asked(speech).edits) <= MAX_SAID
    with pytest.raises(UsageError):
        utterance(dialogue=True, cast=tuple(Role(name=f"n{number}", voice="af_heart") for number in range(101)))


def test_chunks_are_asked_for_in_order_and_few_at_a_time() -> None:
    speech = utterance()
    speech.add_text(SENTENCE * 9, NOW)
    messages = [asked(speech) for _ in range(CHUNKS_IN_FLIGHT)]
    assert [message.index for message in messages] == list(range(CHUNKS_IN_FLIGHT))
    assert speech.next_synthesize(0, NOW) is None
    answer(speech, messages[0], 1.0)
    assert asked(speech).index == CHUNKS_IN_FLIGHT


def test_the_window_ahead_of_the_ear_is_kept() -> None:
    speech = utterance()
    speech.add_text(SENTENCE * 9, NOW)
    assert speech.next_synthesize(AHEAD_FRAMES, NOW) is None
    assert speech.next_synthesize(AHEAD_FRAMES - 1, NOW) is not None


def test_audio_out_of_order_is_refused() -> None:
    speech = utterance()
    speech.add_text(SENTENCE * 3, NOW)
    with pytest.raises(ProtocolError):
        speech.add_audio(audio(0), b"")
    first = asked(speech)
    with pytest.raises(ProtocolError):
        speech.add_audio(audio(first.index + 1), b"")
    with pytest.raises(ProtocolError):
        speech.add_audio(audio(first.index, [0, 1000, 0, 1]), b"")
    with pytest.raises(ProtocolError):
        speech.synthesized(Synthesized(utterance="u", index=7, g2p=0.0, queue=0.0, model=0.0), NOW)


@given(st.lists(st.text(st.sampled_from("ab. ,\n"), max_size=60), max_size=30))
def test_all_credit_for_text_comes_back_when_all_is_spoken(parts: list[str]) -> None:
    speech = utterance(sink="client")
    spent = sum(len(part) for part in parts)
    returned = sum(speech.add_text(part, NOW) for part in parts)
    speech.end_text()
    while message := speech.next_synthesize(0, NOW):
        returned += answer(speech, message.request, 0.1)
    returned += speech.take_credit()
    assert speech.complete
    assert spent - returned <= 400  # at most what the chunker held to the end


def test_text_beyond_the_credit_or_after_its_end_is_refused() -> None:
    speech = utterance()
    with pytest.raises(ProtocolError):
        speech.add_text("x" * (MAX_TEXT_PART_BYTES + 1), NOW)
    speech = utterance()
    with pytest.raises(ProtocolError):
        for _ in range(TEXT_CREDIT // 50_000 + 2):
            speech.add_text("word " * 10_000, NOW)
    speech = utterance()
    speech.end_text()
    with pytest.raises(ProtocolError):
        speech.add_text("late", NOW)


def test_what_has_nothing_to_say_is_not_asked_for() -> None:
    speech = utterance()
    speech.add_text("!!! *** --- ~~~. ", NOW)
    speech.end_text()
    assert speech.next_synthesize(0, NOW) is None
    assert speech.complete


def test_a_half_sentence_is_taken_when_its_writer_pauses() -> None:
    speech = utterance()
    speech.add_text("Well, I wonder", NOW)
    assert speech.next_synthesize(0, NOW) is None
    assert speech.half_sentence
    speech.intake.writer_paused(clauses_only=True)
    first = asked(speech)
    assert first.text == "Well,"
    assert not speech.half_sentence  # something is under way
    answer(speech, first, 0.5)
    assert speech.half_sentence
    speech.intake.writer_paused(clauses_only=True)
    assert speech.next_synthesize(0, NOW) is None
    speech.intake.writer_paused(clauses_only=False)
    assert asked(speech).text == "I wonder"
    speech.add_text(" why. ", NOW)
    assert asked(speech).text == "why."


def test_a_long_sentence_is_parted_where_the_engine_is_slow_and_not_where_it_is_fast() -> None:
    for factor, parted in ((0.8, True), (0.02, False)):
        pace = Pace()
        pace.measure("kokoro", factor * 10, 10.0)
        speech = utterance(pace)
        speech.add_text("Hello there. " + LONG, NOW)
        speech.end_text()
        answer(speech, asked(speech), 1.0)
        text = asked(speech, ahead=1.0).text
        assert text.endswith(",") == parted
        assert (text == LONG.strip()) != parted


def test_the_borders_of_a_file_do_not_depend_on_the_engines_speed() -> None:
    spoken = []
    for factor in (0.02, 3.0):
        pace = Pace()
        pace.measure("kokoro", factor * 10, 10.0)
        speech = utterance(pace, sink="client")
        speech.add_text("Hello there. " + LONG * 3, NOW)
        speech.end_text()
        texts = []
        while message := speech.next_synthesize(0, NOW):
            texts.append(message.request.text)
            answer(speech, message.request, 1.0)
        spoken.append(texts)
    assert spoken[0] == spoken[1]


@pytest.mark.parametrize("factor", [0.1, 0.9, 1.5, 3.0])
def test_with_a_cushion_playing_never_runs_dry(factor: float) -> None:
    pace = Pace()
    pace.measure("kokoro", factor * 10, 10.0)
    speech = utterance(pace)
    speech.add_text(SENTENCE * 8, NOW)
    speech.end_text()
    clock, play_began, seconds = 0.0, None, 0.07 * len(SENTENCE)
    while not speech.complete:
        ahead = speech.seconds - (clock - play_began if play_began is not None else 0.0)
        assert ahead >= -1e-6, f"dry at {clock}"
        message = asked(speech, ahead=max(0.0, ahead))
        if play_began is None and speech.cushion_is_filled(speech.frames) and speech.seconds:
            play_began = clock
        clock += factor * seconds
        answer(speech, message, seconds, work=factor * seconds)
    assert play_began is not None or factor > 1
    if factor <= 1:
        assert play_began == pytest.approx(factor * seconds)  # after the first chunk: no needless wait


def test_the_word_that_is_heard_is_told_by_its_place_in_the_text_as_it_was_sent() -> None:
    speech = utterance()
    text = "One  \x1b[1mtwo\x1b[0m. And three."
    speech.add_text(text, NOW)
    speech.end_text()
    for index, words in enumerate(([[0, 3, 0, 9], [4, 7, 10, 20]], [[0, 3, 5, 9], [4, 9, 10, 20]])):
        assert asked(speech).index == index
        speech.add_audio(audio(index, *words), b"\0" * 4 * 100)
        speech.synthesized(Synthesized(utterance="u", index=index, g2p=0.0, queue=0.0, model=0.0), NOW)
    heard = [text[slice(*speech.words.word_at(frame))] for frame in (0, 9, 10, 104, 105, 110, 500)]
    assert heard == ["One", "One", "two", "two", "And", "three", "three"]


def rendered(parts: list[str], first_chunk: int) -> tuple[list[Synthesize], list[ChunkSpoken], int]:
    """What is asked for, what is told of each text chunk, and the credit for text that did not come back."""
    speech = utterance(sink="client", words=True, first_chunk=first_chunk)
    spent = sum(map(len, parts))
    returned = 0
    for part in parts:
        returned += speech.add_text(part, NOW)
        while speech.intake.skipping:
            returned += speech.skip_on()
    speech.end_text()
    while speech.intake.skipping:
        returned += speech.skip_on()
    asked_for = []
    while message := speech.next_synthesize(0, NOW):
        asked_for.append(message.request)
        returned += answer(speech, message.request, 0.1)
    returned += speech.take_credit()
    assert speech.complete
    return asked_for, [each for each, _ in speech.in_flight.audio if isinstance(each, ChunkSpoken)], spent - returned


@given(st.lists(st.text(st.sampled_from("ab. ,\n[pause:1s]"), max_size=90), max_size=12), st.integers(0, 9))
def test_text_chunks_before_the_first_one_wanted_are_left_out(parts: list[str], first: int) -> None:
    whole, told, _ = rendered(parts, 0)
    part, told_of_part, missing = rendered(parts, first)
    assert part == whole[first:]
    assert told_of_part == told[first:]
    assert missing <= 400


def test_a_book_that_is_left_out_is_left_out_in_slices() -> None:
    speech = utterance(sink="client", first_chunk=10**6)
    speech.add_text(SENTENCE * 1_000, NOW)
    slices = 1
    while speech.intake.skipping:
        speech.skip_on()
        slices += 1
    assert slices == 28_000 // 4_000


def test_only_a_file_begins_elsewhere_than_at_its_beginning() -> None:
    for fields in ({"first_chunk": 1}, {"first_chunk": -1, "sink": "client"}):
        with pytest.raises(UsageError, match="first text chunk"):
            utterance(**fields)


def test_behind_its_audio_stand_the_words_of_a_text_chunk_also_when_the_model_server_was_lost() -> None:
    speech = utterance(sink="client", words=True)
    speech.add_text("One  \x1b[1mtwo\x1b[0m. And three.", NOW)
    speech.end_text()
    message = asked(speech)
    speech.add_audio(audio(0, [0, 3, 0, 9], [4, 7, 90, 120]), b"\0" * 4 * 100)
    speech.in_flight.server_lost()
    assert asked(speech) == message
    speech.add_audio(audio(0, [0, 3, 0, 9]), b"\0" * 4 * 60)  # cut in another way
    speech.add_audio(audio(0, [4, 7, 30, 60]), b"\0" * 4 * 80)
    speech.synthesized(Synthesized(utterance=speech.id, index=0, g2p=0.0, queue=0.0, model=0.0), NOW)
    told = speech.in_flight.audio[-1][0]
    assert told == ChunkSpoken(
        utterance=speech.id,
        index=0,
        text="One two.",
        start=0,
        places=(0, 1, 2, 3, 9, 10, 11, 16),
        words=audio(0, [0, 3, 0, 9], [4, 7, 90, 120]).words,
        frames=140,
    )
    assert speech.in_flight.frames_handed_on == 0
    assert utterance(sink="client").route.words is False


def test_the_speakers_get_no_words() -> None:
    speech = utterance(words=True)
    speech.add_text(SENTENCE, NOW)
    speech.end_text()
    answer(speech, asked(speech), 1.0)
    assert [type(each) for each, _ in speech.in_flight.audio] == [AudioChunk]
