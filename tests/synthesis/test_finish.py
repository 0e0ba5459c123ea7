from collections.abc import Iterable

import numpy as np
import pytest

from kokoro_common.sound.edges import BEFORE, LOUD, TAIL_SECONDS, WINDOW
from kokoro_common.sound.samples import SAMPLE_RATE, Sound
from kokoro_common.synthesis.finish import finished
from kokoro_common.text.speech import TimedWord

OFF = WINDOW  # frames that the gate may be off


def speech(lead: float, sound: float, tail: float, amplitude: float = 0.2) -> Sound:
    """Seconds of near silence, of a hum and of near silence again; two words share the hum."""
    frames = [round(each * SAMPLE_RATE) for each in (lead, sound, tail)]
    hum = amplitude * np.sin(2 * np.pi * 200 * np.arange(frames[1]) / SAMPLE_RATE)
    samples = np.concatenate([np.full(frames[0], 1e-5), hum, np.full(frames[2], 1e-5)]).astype(np.float32)
    middle = frames[0] + frames[1] // 2
    words = (
        TimedWord(start=0, end=1, first_frame=0, last_frame=middle),
        TimedWord(start=2, end=3, first_frame=middle, last_frame=sum(frames)),
    )
    return Sound(samples=samples, words=words)


def rests(samples: np.ndarray) -> list[float]:
    """Seconds between loud sounds."""
    power = np.convolve(samples.astype(np.float64) ** 2, np.ones(WINDOW) / WINDOW, "same")
    loud = np.flatnonzero(np.sqrt(power) > LOUD)
    gaps = np.diff(loud)
    return [(gap - WINDOW) / SAMPLE_RATE for gap in gaps if gap > SAMPLE_RATE // 20]


def one_after_the_other(sounds: Iterable[Sound]) -> np.ndarray:
    return np.concatenate([sound.samples for sound in sounds])


@pytest.mark.parametrize(("lead", "tail"), [(0.0, 0.0), (0.5, 1.1), (0.2, 0.01), (0.02, 0.4)])
@pytest.mark.parametrize("rest", [0.44, 0.7, 0.2])
def test_the_rest_between_two_sounds_is_what_was_asked_for_whatever_silence_they_had(
    lead: float, tail: float, rest: float
) -> None:
    first = finished(speech(0.3, 0.8, tail), rest=0.0, speed=1.0, gain=1.0)
    second = finished(speech(lead, 0.8, 0.5), rest=rest, speed=1.0, gain=1.0)
    (found,) = rests(one_after_the_other([first, second]))
    assert found == pytest.approx(rest, abs=0.025)


def test_the_first_sound_has_no_silence_in_front_but_what_is_kept() -> None:
    sound = finished(speech(0.5, 0.8, 0.5), rest=0.0, speed=1.0, gain=1.0)
    assert len(sound.samples) == pytest.approx(BEFORE + (0.8 + TAIL_SECONDS) * SAMPLE_RATE, abs=2 * OFF)


def test_words_move_with_their_sound() -> None:
    sound = finished(speech(0.5, 0.8, 0.5), rest=0.7, speed=1.0, gain=1.0)
    begin = int(np.flatnonzero(np.abs(sound.samples) > 0.01)[0])
    first, second = sound.words
    assert first.first_frame == pytest.approx(begin, abs=OFF)
    assert (first.last_frame, second.first_frame) == (second.first_frame, first.last_frame)
    assert first.last_frame == pytest.approx(begin + 0.4 * SAMPLE_RATE, abs=OFF)
    assert second.last_frame == len(sound.samples)


def test_at_a_higher_speed_tails_are_shorter() -> None:
    natural, fast = (finished(speech(0.5, 0.8, 0.5), rest=0.0, speed=speed, gain=1.0) for speed in (1.0, 2.0))
    assert len(natural.samples) - len(fast.samples) == TAIL_SECONDS / 2 * SAMPLE_RATE


def test_the_gain_is_on_the_samples_and_peaks_stay_below_the_ceiling() -> None:
    soft = finished(speech(0.0, 0.5, 0.0), rest=0.0, speed=1.0, gain=2.0).samples
    assert np.abs(soft).max() == pytest.approx(0.4, abs=0.001)
    loud = finished(speech(0.0, 0.5, 0.0, amplitude=0.9), rest=0.0, speed=1.0, gain=2.0).samples
    assert np.abs(loud).max() <= 10 ** (-1 / 20)
    assert len(loud) == len(soft)


@pytest.mark.parametrize("samples", [np.zeros(0, np.float32), np.zeros(SAMPLE_RATE, np.float32)])
def test_silence_and_nothing_stay_what_they_are(samples: np.ndarray) -> None:
    sound = finished(Sound(samples=samples), rest=0.0, speed=1.0, gain=1.5)
    assert np.array_equal(sound.samples, samples)
