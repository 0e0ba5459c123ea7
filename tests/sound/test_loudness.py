"""Loudness: the meter against the standard's numbers, plain loops and ffmpeg; the limiter; the gain for a target."""

from __future__ import annotations

import math
import os
import re
import subprocess
from collections.abc import Iterable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kokoro_common.sound.loudness import CEILING, Meter, PeakLimiter, gain_for
from tests.helpers.requirements import program

RATE = 24_000  # Hz
AHEAD = RATE // 200  # frames: the limiter's 5 ms
TOP = np.float32(CEILING)
Float = NDArray[np.float32]
CUTS = st.lists(st.integers(0, 6_000), max_size=12)


def sine(seconds: float, level: float, frequency: float = 997.0, rate: int = RATE) -> Float:
    """`level`: of the peak, dBFS."""
    phase = 2 * np.pi * frequency / rate * np.arange(round(seconds * rate))
    return np.asarray(10 ** (level / 20) * np.sin(phase), np.float32)


def noise(frames: int, level: float = 0.0) -> Float:
    """`level`: of its power, dB to a square wave of full scale."""
    return np.asarray(10 ** (level / 20) * np.random.default_rng(1).normal(0, 1, frames), np.float32)


def bursts(seconds: int, rate: int = RATE) -> Float:
    """Like speech: noise of 0 to 3.4 kHz in syllables of changing level, with pauses; peaks far above its loudness."""
    random = np.random.default_rng(3)
    frames = seconds * rate
    hertz = np.fft.rfftfreq(frames, 1 / rate)
    voice = np.fft.irfft(
        np.fft.rfft(random.laplace(0, 1, frames)) * (hertz < 3_400) / (1 + (hertz / 1_500) ** 2), frames
    )
    syllables = np.sin(2 * np.pi * 2 * np.arange(frames) / rate) ** 2  # four per second
    words = np.repeat(random.uniform(0, 1, 2 * seconds) ** 3 * (random.uniform(0, 1, 2 * seconds) > 0.2), rate // 2)
    speech = voice * syllables * words
    return np.asarray(0.9 * speech / np.abs(speech).max(), np.float32)


def cut(samples: Float, sizes: list[int]) -> list[Float]:
    """Pieces of these sizes, as far as it goes; the rest is the last."""
    return np.split(samples, np.minimum(np.cumsum(sizes, dtype=int), len(samples)))


def measured(pieces: Iterable[Float], rate: int = RATE) -> float:
    """LUFS."""
    meter = Meter(rate)
    for piece in pieces:
        meter.feed(piece)
    return meter.integrated()


def limited(pieces: Iterable[Float], gain: float, rate: int = RATE) -> Float:
    limiter = PeakLimiter(rate, gain)
    return np.concatenate([*(limiter.feed(piece) for piece in pieces), limiter.flush()])


@pytest.fixture(scope="session")
def ffmpeg() -> str:
    """As a second meter."""
    return program("ffmpeg", "ffmpeg")


def measured_by(ffmpeg: str, samples: Float, rate: int = RATE) -> float:
    """LUFS by ffmpeg's own meter, at the rate for which the standard gives its filter."""
    chain = "aresample=48000,ebur128=metadata=1,ametadata=print:key=lavfi.r128.I:file=-"
    source = ["-f", "f32le", "-ar", str(rate), "-ac", "1", "-i", "-"]
    command = [ffmpeg, "-v", "error", *source, "-af", chain, "-f", "null", os.devnull]
    done = subprocess.run(command, input=samples.astype("<f4").tobytes(), capture_output=True, check=True)
    return float(re.findall(rb"lavfi\.r128\.I=(\S+)", done.stdout)[-1])


# The meter


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000, 96_000])
def test_a_sine_of_full_scale_reads_what_the_standard_says(rate: int) -> None:
    assert measured([sine(5, 0.0, rate=rate)], rate) == pytest.approx(-3.01, abs=0.005)


@pytest.mark.parametrize(
    "levels",
    [
        [(20, -23)],
        [(10, -36), (60, -23), (10, -36)],
        [(10, -72), (10, -36), (60, -23), (10, -36), (10, -72)],
        [(20, -26), (20.1, -20), (20, -26)],
    ],
    ids=["case 1", "case 3", "case 4", "case 5"],
)
def test_the_minimum_requirements_of_ebu_tech_3341(levels: list[tuple[float, float]]) -> None:
    """They read -23 LUFS of two channels; one of them has half the power, 3.01 dB less."""
    assert measured(sine(seconds, level, 1_000) for seconds, level in levels) == pytest.approx(-26.01, abs=0.03)


def test_a_lower_sine_reads_lower_by_as_much() -> None:
    assert measured([sine(20, -33, 1_000)]) == pytest.approx(measured([sine(20, -23, 1_000)]) - 10, abs=1e-4)


def test_the_meter_equals_the_standard_as_plain_loops() -> None:
    rate = 48_000  # the standard's coefficients are for this one
    samples = np.concatenate([noise(rate, -20), noise(rate // 2, -45), noise(rate + 777, -26)])
    weighted = samples.tolist()
    for b, a in (
        ((1.53512485958697, -2.69169618940638, 1.19839281085285), (-1.69065929318241, 0.73248077421585)),
        ((1.0, -2.0, 1.0), (-1.99004745483398, 0.99007225036621)),
    ):
        first = second = 0.0
        for place, sample in enumerate(weighted):
            weighted[place] = b[0] * sample + first
            first = b[1] * sample - a[0] * weighted[place] + second
            second = b[2] * sample - a[1] * weighted[place]
    starts = range(0, len(weighted) - 19_200 + 1, 4_800)
    powers = [sum(value * value for value in weighted[start : start + 19_200]) / 19_200 for start in starts]
    powers = [power for power in powers if 10 * math.log10(power) - 0.691 > -70]
    gate = 10 * math.log10(sum(powers) / len(powers)) - 0.691 - 10
    powers = [power for power in powers if 10 * math.log10(power) - 0.691 > gate]
    assert measured([samples], rate) == pytest.approx(10 * math.log10(sum(powers) / len(powers)) - 0.691, abs=1e-7)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 24_000, 44_100])
def test_the_rate_makes_no_difference_to_the_same_sound(rate: int) -> None:
    """Not even near half the rate, where filters made for each rate part."""
    tones = [(60, -40), (200, -26), (1_100, -30), (2_900, -20), (3_700, -20)]  # Hz, dBFS
    here, there = (sum(sine(3, level, frequency, r) for frequency, level in tones) for r in (rate, 48_000))
    assert measured([np.asarray(here)], rate) == pytest.approx(measured([np.asarray(there)], 48_000), abs=0.01)


@given(CUTS)
@settings(max_examples=40, deadline=None)
def test_loudness_does_not_depend_on_how_the_audio_was_cut(sizes: list[int]) -> None:
    samples = noise(30_000, -20)
    assert measured(cut(samples, sizes)) == measured([samples])


def test_the_meter_can_be_read_at_any_time() -> None:
    meter = Meter(RATE)
    meter.feed(noise(25_000, -20))
    assert meter.integrated() == measured([noise(25_000, -20)])
    meter.feed(noise(25_000, -30))
    assert meter.integrated() == measured([noise(25_000, -20), noise(25_000, -30)])


def test_what_would_be_read_with_a_gain_is_what_is_read_with_it() -> None:
    meter = Meter(RATE)
    samples = np.concatenate([noise(30_000, -66), noise(30_000, -74)])  # half of it below the absolute gate
    meter.feed(samples)
    assert meter.integrated(100.0) == pytest.approx(measured([samples * np.float32(100)]), abs=1e-5)
    assert meter.integrated(100.0) < meter.integrated() + 39


def test_the_peak_is_the_greatest_sample_of_either_sign() -> None:
    meter = Meter(RATE)
    assert meter.peak == 0.0
    for piece, peak in (([0.25, -0.5], 0.5), ([], 0.5), ([0.125], 0.5), ([0.75], 0.75)):
        meter.feed(np.array(piece, np.float32))
        assert meter.peak == peak


@pytest.mark.parametrize("samples", [noise(0), noise(9_599), np.zeros(RATE, np.float32), sine(2, -71)])
def test_silence_and_less_than_400_ms_have_no_loudness(samples: Float) -> None:
    assert measured([samples]) == -math.inf


def test_400_ms_have_a_loudness() -> None:
    assert measured([noise(9_600)]) > -10


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 24_000, 44_100, 48_000])
def test_ffmpeg_reads_the_same(ffmpeg: str, rate: int) -> None:
    samples = bursts(12, rate)
    assert measured([samples], rate) == pytest.approx(measured_by(ffmpeg, samples, rate), abs=0.02)


# The limiter

HOSTILE = {
    "impulses": (np.arange(20_000) % 1_999 == 7).astype(np.float32) * np.float32(40),
    "a square wave": np.where(np.arange(20_000) // 37 % 2, 3.0, -3.0).astype(np.float32),
    "noise": noise(20_000, 20),
    "a first and a last sample": np.array([9.0, *[0.1] * 7_000, -9.0], np.float32),
    "one far beyond": np.array([*[0.1] * 3_000, 1e6, *[0.1] * 3_000], np.float32),
    "a step": np.repeat(np.array([0.1, 5.0, 0.1], np.float32), 5_000),
    "just above": np.full(9_000, np.nextafter(TOP, np.float32(2)), np.float32),
}


@pytest.mark.parametrize("rate", [8_000, RATE, 44_100])
@pytest.mark.parametrize("name", HOSTILE)
def test_no_sample_exceeds_the_ceiling(name: str, rate: int) -> None:
    samples = HOSTILE[name]
    result = limited([samples], 1.0, rate)
    assert len(result) == len(samples)
    assert result.dtype == np.float32
    assert np.abs(result).max() <= TOP
    assert np.abs(result).max() > 0.5 * TOP  # nor is there silence instead
    assert np.array_equal(np.sign(result), np.sign(samples))


def test_not_even_a_sample_that_no_gain_can_be_exact_enough_for_exceeds_the_ceiling() -> None:
    assert np.abs(limited([np.repeat(np.array([0.1, 1e30, 0.1], np.float32), 3_000)], 1.0)).max() <= TOP


@given(CUTS, st.sampled_from([0.3, 1.0, 7.0]))
@settings(max_examples=60, deadline=None)
def test_limited_audio_does_not_depend_on_how_it_was_cut(sizes: list[int], gain: float) -> None:
    samples = np.concatenate([noise(9_000, -30), noise(3_000, 0), noise(15_000, -30)])
    assert limited(cut(samples, sizes), gain).tobytes() == limited([samples], gain).tobytes()


@pytest.mark.parametrize("frames", [0, 1, AHEAD, 2_279, 2_280, 2_399, 2_400, 2_401, 2_520, 7_200])
@pytest.mark.parametrize("gain", [0.1, 100.0])
def test_as_many_frames_come_out_as_went_in(frames: int, gain: float) -> None:
    assert len(limited([noise(frames)], gain)) == frames


def test_below_the_ceiling_only_the_gain_is_applied() -> None:
    samples = np.clip(noise(50_000, -20), -0.5, 0.5)
    assert np.array_equal(limited([samples], 1.7), samples * np.float32(1.7))
    assert np.array_equal(limited([np.full(9_000, TOP)], 1.0), np.full(9_000, TOP))


def test_only_the_surroundings_of_a_peak_are_changed() -> None:
    samples = sine(3, -12)
    samples[RATE] = 4.0
    result = limited([samples], 1.0)
    assert result[RATE] == pytest.approx(CEILING, abs=1e-6)
    changed = np.flatnonzero(result != samples)
    assert RATE - AHEAD <= changed[0] < RATE
    assert changed[-1] < 1.7 * RATE


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000])
def test_once_the_gain_is_back_nothing_is_computed_for_it(rate: int) -> None:
    limiter = PeakLimiter(rate, 1.0)
    for expected in (True, False):
        limiter.feed(noise(rate, 20.0 if expected else -30.0))
        assert limiter._reduction.any() == expected


def test_the_gain_comes_back_by_a_factor_of_e_in_100_ms() -> None:
    samples = np.full(RATE, 0.1, np.float32)
    samples[3_000] = 2 * CEILING
    reduction = 1 - limited([samples], 1.0) / samples
    assert reduction[3_000] == pytest.approx(0.5, abs=1e-3)
    assert reduction[3_000 + AHEAD // 2 + 2_400] == pytest.approx(0.5 / math.e, abs=0.01)


@pytest.mark.parametrize("name", HOSTILE)
def test_the_gain_is_continuous(name: str) -> None:
    samples = HOSTILE[name] + np.float32(1e-3) * (HOSTILE[name] == 0)  # to see the gain everywhere
    gain = limited([samples], 1.0).astype(np.float64) / samples
    assert np.abs(np.diff(gain)).max() <= 2 / AHEAD + 1e-6  # were it a straight line within 5 ms: 1 / AHEAD
    assert gain.max() <= 1.0


def test_a_flushed_limiter_begins_a_new_signal() -> None:
    limiter = PeakLimiter(RATE, 5.0)
    first, second = (np.concatenate([limiter.feed(noise(9_000)), limiter.flush()]) for _ in range(2))
    assert np.array_equal(first, second)


# The gain for a target


@pytest.mark.parametrize("target", [-14, -16, -19, -23, -30])
def test_a_recording_comes_out_as_loud_as_wanted(ffmpeg: str, target: float) -> None:
    samples = bursts(15)
    gain = gain_for(lambda: cut(samples, [7_777] * 50), RATE, target)
    result = limited([samples], gain)
    peaks_are_limited = not np.array_equal(result, samples * np.float32(gain))
    assert peaks_are_limited == (target > -30)
    assert measured([result]) == pytest.approx(target, abs=0.1)
    assert measured_by(ffmpeg, result) == pytest.approx(target, abs=0.1)


def test_how_a_recording_is_cut_does_not_change_its_gain() -> None:
    samples = bursts(6)
    assert gain_for(lambda: [samples], RATE, -16) == gain_for(lambda: cut(samples, [1, 4_000, 333]), RATE, -16)


class Recording:
    """Counts how often it is read."""

    def __init__(self, samples: Float) -> None:
        self.samples = samples
        self.passes = 0

    def __call__(self) -> Iterator[Float]:
        self.passes += 1
        yield self.samples


@pytest.mark.parametrize("samples", [noise(0), np.zeros(5 * RATE, np.float32), noise(RATE * 3 // 10)])
def test_what_has_no_loudness_gets_no_gain(samples: Float) -> None:
    recording = Recording(samples)
    assert gain_for(recording, RATE, -16) == 1.0
    assert recording.passes == 1


def test_without_a_peak_to_limit_the_recording_is_read_once() -> None:
    recording = Recording(bursts(6))
    assert measured([recording.samples * np.float32(gain_for(recording, RATE, -35))]) == pytest.approx(-35, abs=1e-3)
    assert recording.passes == 1


def test_audio_below_the_absolute_gate_that_the_gain_lifts_above_it_counts() -> None:
    samples = np.concatenate([noise(5 * RATE, -66), noise(10 * RATE, -74)])
    result = limited([samples], gain_for(lambda: [samples], RATE, -30))
    assert measured([result]) == pytest.approx(-30, abs=0.1)


def test_one_click_does_not_keep_a_quiet_recording_quiet() -> None:
    samples = sine(8, -50)
    samples[4 * RATE] = 1.0
    result = limited([samples], gain_for(lambda: [samples], RATE, -16))
    assert measured([result]) == pytest.approx(-16, abs=0.1)


@pytest.mark.parametrize("target", [-3.0, 20.0])
def test_a_target_out_of_reach_ends_with_a_bounded_gain(target: float) -> None:
    recording = Recording(bursts(6))
    gain = gain_for(recording, RATE, target)
    assert recording.passes <= 9
    needed = target - measured([recording.samples])
    assert 0 < 20 * math.log10(gain) - needed < 21
