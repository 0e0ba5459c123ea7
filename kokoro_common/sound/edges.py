"""Where speech begins and ends in its audio, and the audio cut to that.

Kokoro puts 0.2 to 0.5 s of silence in front of what it speaks, and 0.2 to 1.1 s behind it. A gate finds the speech: the
level of 10 ms. AUDIBLE is low enough for the softest f, s and θ and for released consonants (240 clips of eight voices
lost nothing above it; gates of -50 and -45 dBFS cut 60 to 112 ms of them). Rests between sentences count from LOUD
to LOUD, as some voices breathe between the two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kokoro_common.sound.samples import SAMPLE_RATE

if TYPE_CHECKING:
    from kokoro_common.sound.samples import Samples

AUDIBLE = 10 ** (-60 / 20)  # RMS of WINDOW frames
LOUD = 10 ** (-45 / 20)
HEARD = 10 ** (-50 / 20)  # of a sample: the first one above it is what is meant by the first sound
WINDOW = SAMPLE_RATE // 100  # frames
STEP = WINDOW // 4  # frames between two looks
BEFORE = round(0.030 * SAMPLE_RATE)  # frames that are kept in front of the first audible ones
BEHIND = round(0.050 * SAMPLE_RATE)  # frames that are kept behind the last audible ones
TAIL_SECONDS = 0.15  # from the last loud sound to the end, at speed 1: more would be breath
FADE = round(0.020 * SAMPLE_RATE)  # frames at the end, of what is not loud
FADE_AT_LEAST = round(0.002 * SAMPLE_RATE)  # frames: some audio ends in the midst of a sound, which would click


class Trimmed(NamedTuple):
    """Speech without the silence around it; all in frames."""

    samples: Samples
    cut: int  # taken away in front
    audible: int  # where in `samples` the first audible sound begins
    loud: int  # where the first loud one does


def trimmed(samples: Samples, tail_seconds: float = TAIL_SECONDS) -> Trimmed:
    """float32 (frames,) without the silence around it: BEFORE in front, and exactly `tail_seconds` behind the last loud
    sound, made where there is less. Audio without an audible sound is returned as it is.
    """
    level = _level(samples)
    audible = _ends(level > AUDIBLE, len(samples))
    if audible is None:
        return Trimmed(samples, 0, 0, 0)
    loud = _ends(level > LOUD, len(samples)) or audible
    first = max(0, audible[0] - BEFORE)
    last = min(audible[1] + BEHIND, loud[1] + round(tail_seconds * SAMPLE_RATE), len(samples))
    kept = samples[first:last].copy()
    fade = min(max(FADE_AT_LEAST, min(FADE, last - loud[1])), len(kept))
    kept[len(kept) - fade :] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
    missing = loud[1] + round(tail_seconds * SAMPLE_RATE) - (first + len(kept))
    kept = np.concatenate([kept, np.zeros(missing, np.float32)])
    return Trimmed(kept, first, audible[0] - first, loud[0] - first)


def first_above(samples: Samples, level: float) -> int | None:
    """The first frame whose sample is above this level, 0.0 to 1.0; None: there is none."""
    above = np.flatnonzero(np.abs(samples) > level)
    return int(above[0]) if len(above) else None


def _level(samples: Samples) -> Samples:
    """RMS of each WINDOW, one for each STEP; the last one may reach beyond the end."""
    squares = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    begins = np.arange(0, max(1, len(samples) - WINDOW + STEP), STEP)
    sums = squares[np.minimum(begins + WINDOW, len(samples))] - squares[np.minimum(begins, len(samples))]
    level: Samples = np.sqrt(np.maximum(sums, 0.0) / WINDOW)
    return level


def _ends(above: np.ndarray, frames: int) -> tuple[int, int] | None:
    """First frame and the one behind the last, of the windows that are above a level."""
    windows = np.flatnonzero(above)
    if not len(windows):
        return None
    return int(windows[0]) * STEP, min(frames, int(windows[-1]) * STEP + WINDOW)
