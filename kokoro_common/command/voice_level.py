"""How loud an imported voice is, measured once: it speaks four sentences, which nobody hears."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from kokoro_common.api import synthesize
from kokoro_common.sound.edges import trimmed
from kokoro_common.sound.loudness import Meter
from kokoro_common.sound.samples import SAMPLE_RATE, Resampler
from kokoro_common.voices.levels import Level

if TYPE_CHECKING:
    from kokoro_common.sound.samples import Samples

# Of about as many phonemes as LENGTHS has. English for every voice: its phonemes need no extra.
SENTENCES = (
    "The kettle is on the stove.",
    "She asked whether the train had left, and he shook his head.",
    "The river bends twice before it reaches the mill, and nobody in the village remembers who built it.",
    "Please read this page slowly, because the numbers on it are older than the house in which we found them, and "
    "whoever wrote them down had neither a lamp nor much time, and a pen that scratched the paper at each turn.",
)


def measured_level(voice: str) -> Level:
    """Of a voice of the user's own. Blocks until the model has spoken. Raises ModelUnavailable, ServersUnreachable."""
    text = " ".join(SENTENCES)
    with synthesize(text, voice=voice, lang="en-us", speed=1.0, seed=0, engine="kokoro", untouched=True) as stream:
        spoken = [sound.samples for sound in stream]
    lufs = tuple(_loudness(trimmed(samples).samples) for samples in spoken)
    return Level(lufs, float(np.median([_true_peak(samples) for samples in spoken])))


def _loudness(samples: Samples) -> float:
    meter = Meter(SAMPLE_RATE)
    meter.feed(samples)
    return meter.integrated()


def _true_peak(samples: Samples) -> float:
    """dBTP, at four times the rate as BS.1770-4 has it."""
    resampler = Resampler(SAMPLE_RATE, 4 * SAMPLE_RATE)
    peak = max(np.abs(part).max(initial=0.0) for part in (resampler.feed(samples), resampler.flush()))
    return 20 * math.log10(max(float(peak), 1e-6))
