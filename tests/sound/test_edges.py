import numpy as np
import pytest

from kokoro_common.sound.edges import BEFORE, FADE, FADE_AT_LEAST, STEP, TAIL_SECONDS, WINDOW, first_above, trimmed
from kokoro_common.sound.samples import SAMPLE_RATE

TAIL = round(TAIL_SECONDS * SAMPLE_RATE)
RESOLUTION = WINDOW + STEP  # frames that the gate may be off


def tone(seconds: float, decibels: float) -> np.ndarray:
    """A sine of this RMS, whose whole periods fit into a window."""
    frames = round(seconds * SAMPLE_RATE)
    wave = np.sin(2 * np.pi * 400 * np.arange(frames) / SAMPLE_RATE) * np.sqrt(2) * 10 ** (decibels / 20)
    return wave.astype(np.float32)


def silence(seconds: float) -> np.ndarray:
    return tone(seconds, -90)


def test_silence_around_speech_is_cut_to_what_is_kept() -> None:
    part = trimmed(np.concatenate([silence(0.4), tone(1.0, -20), silence(0.9)]))
    assert part.cut == pytest.approx(0.4 * SAMPLE_RATE - BEFORE, abs=RESOLUTION)
    assert part.audible == part.loud == pytest.approx(BEFORE, abs=RESOLUTION)
    assert len(part.samples) - TAIL - part.loud == pytest.approx(SAMPLE_RATE, abs=2 * RESOLUTION)


@pytest.mark.parametrize("soft", [-58, -50])
def test_a_soft_onset_and_a_released_ending_are_kept(soft: float) -> None:
    onset, ending = tone(0.11, soft), tone(0.09, soft)
    whole = np.concatenate([silence(0.3), onset, tone(0.5, -20), ending, silence(0.6)])
    part = trimmed(whole)
    begin = round(0.3 * SAMPLE_RATE) - part.cut
    kept = part.samples[begin : begin + len(onset) + SAMPLE_RATE // 2 + len(ending)]
    assert begin >= BEFORE - RESOLUTION
    assert np.array_equal(kept, whole[part.cut + begin : part.cut + begin + len(kept)])
    assert part.loud - part.audible == pytest.approx(len(onset), abs=RESOLUTION)


def test_breath_behind_the_speech_is_faded_and_cut() -> None:
    part = trimmed(np.concatenate([silence(0.3), tone(0.5, -20), tone(0.65, -52)]))
    assert len(part.samples) == pytest.approx(BEFORE + 0.5 * SAMPLE_RATE + TAIL, abs=2 * RESOLUTION)
    assert abs(part.samples[-1]) < 1e-6
    assert np.abs(part.samples[-2 * FADE : -FADE]).max() > 1e-3


def test_a_tail_is_made_where_there_is_none() -> None:
    part = trimmed(tone(0.5, -20))
    assert (part.cut, part.audible, part.loud) == (0, 0, 0)
    assert len(part.samples) == SAMPLE_RATE // 2 + TAIL
    assert not part.samples[-TAIL:].any()
    sound = SAMPLE_RATE // 2 - FADE_AT_LEAST
    assert np.array_equal(part.samples[:sound], tone(0.5, -20)[:sound])


@pytest.mark.parametrize("samples", [np.zeros(0, np.float32), silence(0.5), np.zeros(100, np.float32)])
def test_what_is_silent_is_left_as_it_is(samples: np.ndarray) -> None:
    part = trimmed(samples)
    assert np.array_equal(part.samples, samples)
    assert (part.cut, part.audible, part.loud) == (0, 0, 0)


def test_a_whisper_that_is_never_loud_is_kept() -> None:
    part = trimmed(np.concatenate([silence(0.3), tone(0.5, -50), silence(0.3)]))
    assert part.loud == part.audible
    assert len(part.samples) == pytest.approx(BEFORE + 0.5 * SAMPLE_RATE + TAIL, abs=2 * RESOLUTION)


def test_the_first_sample_above_a_level() -> None:
    assert first_above(np.concatenate([np.zeros(7, np.float32), tone(0.1, -20)]), 0.01) in range(8, 20)
    assert first_above(np.zeros(7, np.float32), 0.01) is None


@pytest.mark.parametrize("seed", range(20))
def test_any_audio_keeps_all_that_is_audible(seed: int) -> None:
    """Of sounds and silences of any level and length: not a frame before the first audible one is lost."""
    chance = np.random.default_rng(seed)
    parts = [tone(float(chance.uniform(0.0, 0.3)), float(chance.uniform(-90, -10))) for _ in range(8)]
    whole = np.concatenate(parts)
    part = trimmed(whole)
    level = np.sqrt(np.convolve(whole.astype(np.float64) ** 2, np.ones(WINDOW) / WINDOW, "valid"))
    loud = np.flatnonzero(level > 10 ** (-45 / 20))
    if len(loud):
        assert part.cut <= max(0, int(np.flatnonzero(level > 10 ** (-59 / 20))[0]))
        end = part.cut + len(part.samples) - TAIL
        assert end == pytest.approx(int(loud[-1]) + WINDOW, abs=RESOLUTION)
