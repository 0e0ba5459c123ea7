"""Conversion and resampling."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kokoro_common.sound.samples import SAMPLE_RATE, Resampler, to_pcm16, to_pcm24

ROOT = Path(__file__).parent.parent.parent
Float = NDArray[np.float32]


def noise(frames: int) -> Float:
    """Louder than full scale here and there, and hardly compressible."""
    return np.random.default_rng(1).normal(0, 0.4, frames).astype(np.float32)


@pytest.mark.parametrize(
    ("sample", "pcm"),
    [(0.0, 0), (1.0, 32_767), (-1.0, -32_767), (1.5, 32_767), (-np.inf, -32_767), (0.5, 16_384), (1.5 / 32_767, 2)],
)
def test_pcm16_is_clipped_and_rounded_to_nearest(sample: float, pcm: int) -> None:
    converted = to_pcm16(np.array([sample], np.float32))
    assert converted.dtype == np.int16
    assert converted.tolist() == [pcm]


def test_every_16_bit_sample_survives_the_way_to_float_and_back() -> None:
    pcm = np.arange(-32_767, 32_768, dtype=np.int16)
    assert to_pcm16((pcm / 32_767).astype(np.float32)).tolist() == pcm.tolist()


def test_pcm24_is_clipped_rounded_and_loses_no_integer() -> None:
    few = np.array([0, 1, -1, 8_388_607, -8_388_607, 4_194_303, 8_388_605], np.int64)
    assert to_pcm24((few / 8_388_607).astype(np.float32)).tolist()[:5] == few.tolist()[:5]
    assert to_pcm24(np.array([2.0, -np.inf, 0.5], np.float32)).tolist() == [8_388_607, -8_388_607, 4_194_304]


def test_pcm16_refuses_nan() -> None:
    with pytest.raises(ValueError, match="NaN"):
        to_pcm16(np.array([0.0, np.nan], np.float32))


@given(st.lists(st.integers(0, 4_000), max_size=8), st.sampled_from([16_000, 22_050, 44_100, 48_000]))
@settings(max_examples=40, deadline=None)
def test_resampling_does_not_depend_on_how_the_audio_was_cut(sizes: list[int], rate: int) -> None:
    samples = noise(sum(sizes))
    whole, cut = Resampler(SAMPLE_RATE, rate), Resampler(SAMPLE_RATE, rate)
    expected = np.concatenate([whole.feed(samples), whole.flush()])
    pieces = [cut.feed(piece) for piece in np.split(samples, np.cumsum(sizes)[:-1])] if sizes else []
    assert np.array_equal(np.concatenate([*pieces, cut.flush()]), expected)
    assert abs(len(expected) - len(samples) * rate / SAMPLE_RATE) <= 1


def test_a_flushed_resampler_begins_a_new_signal() -> None:
    resampler = Resampler(22_050, SAMPLE_RATE)
    first = np.concatenate([resampler.feed(noise(5_000)), resampler.flush()])
    assert np.array_equal(np.concatenate([resampler.feed(noise(5_000)), resampler.flush()]), first)


def test_resampling_keeps_a_tone() -> None:
    resampler = Resampler(22_050, SAMPLE_RATE)
    tone = np.sin(2 * np.pi * 440 * np.arange(22_050) / 22_050).astype(np.float32)
    resampled = np.concatenate([resampler.feed(tone), resampler.flush()])
    expected = np.sin(2 * np.pi * 440 * np.arange(SAMPLE_RATE) / SAMPLE_RATE)
    assert np.abs(resampled - expected)[100:-100].max() < 1e-4


def test_importing_the_room_imports_nothing_heavy() -> None:
    code = "import sys, kokoro_common.sound.samples; print({'numpy', 'soundfile', 'soxr'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert done.stdout == b"set()\n"
