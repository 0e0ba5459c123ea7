from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.helpers.stub_engine import FOREIGN, SILENCE, Run, StubEngine, decode_samples, encode_samples, tag_of

A, B = tag_of("a"), tag_of("b")
AUDIO = encode_samples("a", 3, 1_000)


def pcm(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    return np.rint(samples * 32_767).astype(np.int16)


@given(st.text(), st.integers(0, 4_000_000), st.integers(15, 3_000))
def test_what_was_encoded_is_one_run_before_and_after_the_conversion(utterance: str, index: int, frames: int) -> None:
    samples = encode_samples(utterance, index, frames)
    assert samples.dtype == np.float32 and samples.shape == (frames,)
    assert decode_samples(samples) == decode_samples(pcm(samples)) == [Run(tag_of(utterance), index, 0, frames)]


def test_chunks_that_follow_each_other_are_one_run_each() -> None:
    whole = np.concatenate([AUDIO, encode_samples("a", 4, 500), encode_samples("b", 0, 77)])
    assert decode_samples(pcm(whole)) == [Run(A, 3, 0, 1_000), Run(A, 4, 0, 500), Run(B, 0, 0, 77)]


@pytest.mark.parametrize("at", range(400, 409))
@pytest.mark.parametrize("lost", [1, 2, 7, 8, 9, 100])
def test_a_gap_shows_to_the_sample(at: int, lost: int) -> None:
    before, after = decode_samples(np.delete(AUDIO, np.s_[at : at + lost]))
    assert (before.first_frame, after.first_frame - before.end, after.end) == (0, lost, 1_000)
    assert at <= before.end < at + 8


@pytest.mark.parametrize("at", range(400, 409))
@pytest.mark.parametrize("again", [15, 16, 17, 100])
def test_a_repeat_shows_to_the_sample(at: int, again: int) -> None:
    before, after = decode_samples(np.concatenate([AUDIO[:at], AUDIO[at - again :]]))
    assert (before.first_frame, before.end - after.first_frame, after.end) == (0, again, 1_000)
    assert at <= before.end < at + 8


@pytest.mark.parametrize("at", range(400, 409))
def test_one_sample_twice_is_not_one_run(at: int) -> None:
    runs = decode_samples(np.insert(AUDIO, at, AUDIO[at]))
    assert len(runs) > 1 and sum(run.frames for run in runs) == 1_001


@pytest.mark.parametrize("at", range(400, 409))
def test_silence_within_shows_to_the_sample(at: int) -> None:
    runs = decode_samples(np.insert(AUDIO, at, np.zeros(5)))
    assert runs == [Run(A, 3, 0, at), Run(SILENCE, -1, 0, 5), Run(A, 3, at, 1_000 - at)]


@pytest.mark.parametrize("at", range(400, 409))
def test_a_foreign_sample_shows(at: int) -> None:
    foreign = AUDIO.copy()
    foreign[at] += 1 / 32_767
    runs = decode_samples(foreign)
    assert runs == [Run(A, 3, 0, at), Run(FOREIGN, -1, 0, 1), Run(A, 3, at + 1, 999 - at)]


def test_samples_of_another_utterance_within_show() -> None:
    mixed = np.concatenate([AUDIO[:100], encode_samples("b", 3, 1_000)[100:200], AUDIO[200:]])
    one, two, three = decode_samples(mixed)
    assert [(run.tag, run.chunk) for run in (one, two, three)] == [(A, 3), (B, 3), (A, 3)]
    assert (one.end, two.end, three.end) == (two.first_frame, three.first_frame, 1_000)
    assert 100 <= one.end < 108 and 200 <= two.end < 208


def test_head_and_tail_that_are_missing_show() -> None:
    assert decode_samples(AUDIO[5:-3]) == [Run(A, 3, 5, 992)]


@given(st.lists(st.integers(-32_768, 32_767), max_size=200))
def test_no_noise_is_taken_for_speech(noise: list[int]) -> None:
    runs = decode_samples(np.array(noise, np.int16))
    assert all(run.tag in (SILENCE, FOREIGN) for run in runs)
    assert sum(run.frames for run in runs) == len(noise)


def test_the_engine_encodes_its_text() -> None:
    engine = StubEngine(frames_per_character=100)
    assert decode_samples(engine.synthesize("hello", "a", 2.0, True)) == [Run(tag_of("hello"), 0, 0, 250)]
    assert engine.spoken == ["hello"]
