"""A text chunk's audio made ready to be heard: silence cut away, the rest in front of it made, its level that of all.

It depends on nothing but the audio and its request, so an interrupted render and a repeated one give the same bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kokoro_common.sound.edges import TAIL_SECONDS, Trimmed, trimmed
from kokoro_common.sound.loudness import CEILING, PeakLimiter
from kokoro_common.sound.samples import SAMPLE_RATE, Sound

if TYPE_CHECKING:
    from kokoro_common.sound.samples import Samples
    from kokoro_common.text.speech import TimedWord


def finished(sound: Sound, *, rest: float, speed: float, gain: float) -> Sound:
    """The sound with `rest` seconds from the last loud sound before it to its own first one; 0.0: nothing is before it.

    Each sound ends a tail after its last loud sound, and the next one counts on that. At a higher speed both are
    shorter, so `speed` has to be the same for what is spoken one after the other, or nearly so. `gain`: a factor.
    """
    part = trimmed(sound.samples, _tail(speed))
    silence = max(0, round((rest - _tail(speed)) * SAMPLE_RATE) - part.loud) if rest else 0
    samples = _amplified(part.samples, gain)
    return Sound(
        samples=np.concatenate([np.zeros(silence, np.float32), samples]),
        words=tuple(_moved(word, number, part, silence) for number, word in enumerate(sound.words)),
    )


def _amplified(samples: Samples, gain: float) -> Samples:
    """A voice's gain leaves room for its usual peaks; one that is higher is limited, from 5 ms before it on."""
    if not len(samples) or np.abs(samples).max() * gain <= CEILING:
        return samples * np.float32(gain)
    limiter = PeakLimiter(SAMPLE_RATE, gain)
    return np.concatenate([limiter.feed(samples), limiter.flush()])


def _tail(speed: float) -> float:
    return TAIL_SECONDS / max(1.0, speed)


def _moved(word: TimedWord, number: int, part: Trimmed, silence: int) -> TimedWord:
    """The first word begins with the first audible sound: the model counts the silence before it as its own."""
    first = part.audible if number == 0 else word.first_frame - part.cut
    last = min(max(word.last_frame - part.cut, first), len(part.samples))
    moved: TimedWord = word.replace(first_frame=silence + min(max(first, 0), last), last_frame=silence + last)
    return moved
