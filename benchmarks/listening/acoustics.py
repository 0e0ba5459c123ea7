"""What can be measured of a clip without knowing what is said: levels, edges, silences, clicks, onsets. numpy only.

Samples are mono, float, nominally -1 to 1, shape (samples,); levels are in dBFS (0 is a full-scale square wave); times
are in seconds from the beginning of the clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]
    Levels = NDArray[np.float64]

RATE = 24_000  # Hz, the model's
FRAME = 0.010  # seconds: levels are RMS over frames of it, unless said otherwise
LOWEST = -200.0  # dBFS of digital silence
AUDIBLE = -60.0  # dBFS: below it nothing of a soft onset or ending is
SOUNDING = -50.0  # dBFS: what counts as the first sound
SPEAKING = -45.0  # dBFS: pauses are counted from edge to edge at it, for some voices breathe between it and AUDIBLE
SHORTEST_SILENCE = 0.05  # seconds; the closure of a stop is about as long


class Span(NamedTuple):
    start: float
    end: float

    @property
    def length(self) -> float:
        return self.end - self.start


def levels(samples: Samples, window: float = FRAME, hop: float = 0.0) -> Levels:
    """Of each window, the first at 0, one each `hop` seconds (default: no overlap). The last one may be cut short."""
    width = round(window * RATE)
    step = round(hop * RATE) or width
    squares = np.concatenate([[0.0], np.cumsum(samples.astype(np.float64) ** 2)])
    starts = np.arange(0, max(len(samples), 1), step)
    ends = np.minimum(starts + width, len(samples))
    power = (squares[ends] - squares[starts]) / np.maximum(ends - starts, 1)
    return decibels(np.sqrt(np.maximum(power, 0)))


def decibels(amplitudes: Levels) -> Levels:
    return np.asarray(20 * np.log10(np.maximum(np.abs(amplitudes), 10 ** (LOWEST / 20))))


def sound(samples: Samples, gate: float) -> Span | None:
    """From the first frame above the gate to the end of the last one; None if there is none."""
    loud = np.flatnonzero(levels(samples) > gate)
    if not len(loud):
        return None
    return Span(loud[0] * FRAME, min((loud[-1] + 1) * FRAME, len(samples) / RATE))


def lead_in(samples: Samples, gate: float) -> float:
    """Seconds in front of the first sound; all of it where there is none."""
    found = sound(samples, gate)
    return found.start if found else len(samples) / RATE


def tail(samples: Samples, gate: float) -> float:
    """Seconds behind the last sound."""
    found = sound(samples, gate)
    return len(samples) / RATE - found.end if found else 0.0


def silences(samples: Samples, gate: float = SPEAKING, shortest: float = SHORTEST_SILENCE) -> list[Span]:
    """Between the first and the last sound, from edge to edge, in their order."""
    loud = np.flatnonzero(levels(samples) > gate)
    gaps = [
        Span((before + 1) * FRAME, after * FRAME)
        for before, after in zip(loud[:-1].tolist(), loud[1:].tolist(), strict=True)
    ]
    return [gap for gap in gaps if gap.length >= shortest - FRAME / 2]


# Word times are not exact: the silence of a mark begins up to 0.2 s before the time that is told, and ends about at it.
_BEFORE_END, _AFTER_START = 0.30, 0.10


def silence_between(found: Sequence[Span], end: float, start: float) -> Span | None:
    """The longest of the silences that touch the border of two words, which end and start about then."""
    near = [each for each in found if each.end > end - _BEFORE_END and each.start < start + _AFTER_START]
    return max(near, key=lambda each: each.length, default=None)


# --- Clicks ----------------------------------------------------------------------------------------------------------

_SHORTEST_ZEROS = 0.010  # seconds of exact zeros that somebody must have put there
_LONGEST_CLICK, _QUIET_AROUND = 0.020, 0.030  # seconds: a sound of one or two frames alone among silence is no speech


def loudest_click(samples: Samples) -> float:
    """The greatest step into or out of made silence and at both ends, or sound alone in silence; dBFS, LOWEST: none."""
    return max(_step_at_zeros(samples), _sound_alone(samples))


def _step_at_zeros(samples: Samples) -> float:
    zero = np.concatenate([[False], samples == 0, [False]])
    starts, ends = _runs(zero)
    long = ends - starts >= _SHORTEST_ZEROS * RATE
    padded = np.concatenate([[0.0], samples, [0.0]])  # as `zero`, one sample further on
    neighbours = [padded[starts[long] - 1], padded[ends[long]], padded[1:2], padded[-2:-1]]
    return float(decibels(np.max(np.abs(np.concatenate(neighbours)), initial=0.0)))


def _sound_alone(samples: Samples) -> float:
    starts, ends = _runs(np.concatenate([[False], levels(samples) > AUDIBLE, [False]]))
    loudest = LOWEST
    quiet = np.concatenate([[np.inf], starts[1:] - ends[:-1], [np.inf]]) * FRAME if len(starts) else np.empty(0)
    for number, (start, end) in enumerate(zip(starts - 1, ends - 1, strict=True)):
        if (end - start) * FRAME <= _LONGEST_CLICK and min(quiet[number], quiet[number + 1]) >= _QUIET_AROUND:
            first, last = (round(each * FRAME * RATE) for each in (start, end))
            loudest = max(loudest, float(decibels(np.max(np.abs(samples[first:last])))))
    return loudest


def _runs(flags: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Starts and ends of the runs of True, in flags that begin and end with False."""
    changes = np.flatnonzero(flags[1:] != flags[:-1]) + 1
    return changes[::2], changes[1::2]


# --- Onsets of words -------------------------------------------------------------------------------------------------

_FINE, _FINE_HOP = 0.004, 0.001  # seconds: a burst has some 5 ms
_HISS = 4_000.0  # Hz: s has its energy above, vowels below
_BURST = 1_000.0  # Hz: the voicing that goes on through a closure is below
_NOTHING = -75.0  # dBFS in such a band: what is below is as good as silent, and its ups and downs are no onsets
_LEAST_RISE = 15.0  # dB: less is no onset that anyone could point at
_BURST_TIME = 0.006  # seconds in which it rises


def onset_after_silence(samples: Samples, near: float) -> float | None:
    """The first sound above AUDIBLE after the silence that ends nearest to `near`, at most 0.3 s away."""
    loud = levels(samples, _FINE, _FINE_HOP) > AUDIBLE
    starts, ends = _runs(np.concatenate([[False], ~loud, [False]]))
    long = (ends - starts) * _FINE_HOP >= SHORTEST_SILENCE
    # A window is loud as soon as its end is: the sound begins there.
    onsets = [float(end - 1) * _FINE_HOP + _FINE for end in ends[long] if end - 1 < len(loud)]
    if len(loud) and loud[0]:
        onsets.append(0.0)
    return _nearest(onsets, near, 0.3)


def onset_of_hiss(samples: Samples, span: Span) -> float | None:
    """Where energy above 4 kHz comes half the way, in dB, from the least before to the most within the span."""
    width, hop = 0.010, 0.002
    band = _band_levels(samples, span, width, hop, _HISS)
    if not len(band):
        return None
    top = int(np.argmax(band))
    floor = float(np.min(band[: top + 1]))
    if band[top] - floor < _LEAST_RISE:
        return None
    below = np.flatnonzero(band[:top] < (band[top] + floor) / 2)
    return span.start + (float(below[-1]) + 1) * hop + width / 2


def onset_of_burst(samples: Samples, span: Span) -> float | None:
    """Where energy above 1 kHz rises the most within 6 ms in the span."""
    band = _band_levels(samples, span, _FINE, _FINE_HOP, _BURST)
    steps = round(_BURST_TIME / _FINE_HOP)
    if len(band) <= steps:
        return None
    rises = band[steps:] - np.maximum(band[:-steps], np.max(band) - 40)  # what is 40 dB down is silence
    steepest = int(np.argmax(rises))
    if rises[steepest] < _LEAST_RISE:
        return None
    return span.start + (steepest + steps / 2) * _FINE_HOP + _FINE / 2


def _band_levels(samples: Samples, span: Span, width: float, hop: float, above: float) -> Levels:
    """Levels of what lies above a frequency, in windows that begin each `hop` seconds from the span's start."""
    first, last = round(max(span.start, 0) * RATE), round(span.end * RATE)
    size, step = round(width * RATE), round(hop * RATE)
    part = samples[first:last]
    if len(part) < size:
        return np.empty(0)
    frames = np.lib.stride_tricks.sliding_window_view(part, size)[::step] * np.hanning(size)
    spectra = np.fft.rfft(frames, n=4 * size)
    high = np.fft.rfftfreq(4 * size, 1 / RATE) >= above
    return np.maximum(decibels(np.sqrt((np.abs(spectra[:, high]) ** 2).sum(axis=1)) / size), _NOTHING)


def _nearest(times: Sequence[float], near: float, at_most: float) -> float | None:
    return min((each for each in times if abs(each - near) <= at_most), key=lambda each: abs(each - near), default=None)


# --- What trimming took ----------------------------------------------------------------------------------------------


class Loss(NamedTuple):
    seconds: float  # of frames that were audible and are not, or are 3 dB softer
    loudest: float  # dBFS of the loudest of them; LOWEST: none
    gain: float  # dB by which the rest is louder than it was


def loss(untouched: Samples, kept: Samples) -> Loss:
    """What of an utterance a trimmed and perhaps louder copy lacks."""
    size = 1 << (len(untouched) + len(kept)).bit_length()
    product = np.fft.irfft(np.fft.rfft(untouched, size) * np.conj(np.fft.rfft(kept, size)), size)
    offset = int(np.argmax(product))  # where `kept` begins in `untouched`
    offset -= size if offset > size // 2 else 0
    aligned = np.zeros(len(untouched))
    first, last = max(offset, 0), min(offset + len(kept), len(untouched))
    aligned[first:last] = kept[first - offset : last - offset]
    gain = float(np.dot(aligned, untouched) / max(np.dot(untouched[first:last], untouched[first:last]), 1e-12))
    before = levels(untouched)
    after = levels(np.asarray(aligned / (gain or 1.0), np.float32))
    lost = before[(before > AUDIBLE) & (after < before - 3)]
    return Loss(len(lost) * FRAME, float(np.max(lost, initial=LOWEST)), float(decibels(np.asarray(gain))))
