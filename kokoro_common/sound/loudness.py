"""Loudness: how loud a recording is by ITU-R BS.1770-4 and EBU R 128, and the gain that makes it as loud as wanted.

Samples are mono, float32, shape (frames,), finite, nominally -1.0 to 1.0, at any sample rate. Loudness is in LUFS, a
difference of it in LU (both are decibels). A recording is read at least twice: `gain_for()` finds the gain, then a
`PeakLimiter` applies it. numpy is imported when first needed, so importing this module is cheap.
"""

from __future__ import annotations

import math
from array import array

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy as np
    from numpy.typing import NDArray

    from kokoro_common.sound.samples import Samples

    Numbers = NDArray[np.float64]

CEILING = 10 ** (-1 / 20)  # -1 dBFS: the highest true peak that EBU R 128 permits; here that of the samples

# BS.1770-4, annex 1, tables 1 and 2: the head as a high shelf, then a high-pass. Powers of 1/z, numerator, denominator.
_K_RATE = 48_000  # Hz
_K_STAGES = (
    ((1.53512485958697, -2.69169618940638, 1.19839281085285), (1.0, -1.69065929318241, 0.73248077421585)),
    ((1.0, -2.0, 1.0), (1.0, -1.99004745483398, 0.99007225036621)),
)
_OFFSET = -0.691  # dB, BS.1770-4: undoes the gain of the filter at 997 Hz

_STEP = 0.1  # seconds from one gating block to the next, BS.1770-4
_STEPS_PER_BLOCK = 4  # 400 ms, which overlap by 75 %
_SILENCE = -70.0  # LUFS, the absolute gate
_QUIET = 0.1  # -10 LU: the relative gate, as a share of the mean power

_LIMITED_AT_ONCE = 0.1  # seconds; not a frame of the result depends on it
_LOOK_AHEAD = 0.005  # seconds over which the gain falls before a peak: too short to be heard as fading
_RELEASE = 0.1  # seconds in which it comes back by a factor of e: about half a syllable
_REST = 0.001  # the release aims so far beyond "no reduction" to arrive there in finite time: from 0.5 in 0.6 s
_NO_REDUCTION = 1e-9  # far less than the spacing of float32, 6e-8

_CLOSE_ENOUGH = 0.05  # LU: half of what is promised
_MOST_PASSES = 8  # through a recording whose peaks are limited; three are usual
_MOST_LOST = 20.0  # dB of gain to make up for the limiter; more would only lift the noise


class Meter:
    """Measures a recording while it arrives. For one thread. It keeps one number for each 100 ms.

    `peak` is the greatest absolute sample so far.
    """

    def __init__(self, rate: int) -> None:
        """`rate` in Hz."""
        import numpy as np

        self.peak = 0.0
        self._step = round(_STEP * rate)  # frames
        self._window = np.zeros(2 * self._step)  # the last step, and the one that fills up
        self._filled = 0  # frames of the latter
        self._weighting = _k_weighting(2 * self._step, rate)
        self._powers = array("d")  # mean square of each step, weighted

    def feed(self, samples: Samples) -> None:
        """Takes float32 (frames,), any number of them. How a recording is cut makes no difference."""
        if len(samples):
            self.peak = max(self.peak, float(samples.max()), -float(samples.min()))
        start = 0
        while start < len(samples):
            piece = samples[start : start + self._step - self._filled]
            place = self._step + self._filled
            self._window[place : place + len(piece)] = piece
            self._filled += len(piece)
            start += len(piece)
            if self._filled == self._step:
                self._end_step()

    def integrated(self, gain: float = 1.0) -> float:
        """LUFS of the audio so far, as if every sample were `gain` times as great; -inf for silence or under 400 ms."""
        import numpy as np

        steps = np.array(self._powers) * gain**2
        if len(steps) < _STEPS_PER_BLOCK:
            return -math.inf
        blocks = np.lib.stride_tricks.sliding_window_view(steps, _STEPS_PER_BLOCK).mean(axis=1)
        audible = blocks[blocks > 10 ** ((_SILENCE - _OFFSET) / 10)]
        if not len(audible):
            return -math.inf
        return _OFFSET + 10 * math.log10(audible[audible > _QUIET * audible.mean()].mean())

    def _end_step(self) -> None:
        """Filters the window in the frequency domain, and keeps the power of its second half.

        The first half is wrong, since what lies before it is missing. The second half is right: the filter rings for
        100 ms until it is below 1e-9. That holds at 48 kHz; at lower rates the response ends at half the rate, which
        makes it ring on, at a level that changes the reading by less than 0.001 LU (at 8 kHz, 997 Hz).
        """
        import numpy as np

        weighted = np.fft.irfft(np.fft.rfft(self._window) * self._weighting, 2 * self._step)[self._step :]
        self._powers.append(float(np.square(weighted).mean()))
        self._window[: self._step] = self._window[self._step :]
        self._filled = 0


def _k_weighting(frames: int, rate: int) -> NDArray[np.complex128]:
    """The K filter's response at the frequencies of a real FFT over `frames`, complex (frames // 2 + 1,).

    BS.1770-4 gives coefficients for 48 kHz and wants "the same frequency response" at other rates: so this is theirs,
    at the same frequencies in Hz. Two biquads at another rate could only come near it: near half the rate they part.
    """
    import numpy as np

    frequencies = np.minimum(np.fft.rfftfreq(frames, 1 / rate), _K_RATE / 2)  # above 24 kHz the filter is flat
    delay = np.exp(-2j * np.pi * frequencies / _K_RATE)  # 1/z
    response = np.ones(len(delay), np.complex128)
    for numerator, denominator in _K_STAGES:
        response *= np.polyval(numerator[::-1], delay) / np.polyval(denominator[::-1], delay)
    return response


class PeakLimiter:
    """Applies a gain, and less of it for as long as samples would exceed the ceiling. For one thread.

    The gain is a continuous curve: it falls during the 5 ms before a peak and comes back within some 100 ms. No sample
    is greater than the ceiling. Where no peak is near, a sample comes out as itself times the gain, exactly.

    All `feed()` results and one `flush()` together are as many frames as were fed, each in its place, and the same to
    the last bit however the audio was cut: inside, it is always cut alike, from its first frame on.
    """

    _lead: int
    _waiting: Samples
    _reduction: Numbers

    def __init__(self, rate: int, gain: float, ceiling: float = CEILING) -> None:
        """`rate` in Hz; `gain` and `ceiling` are factors, 1.0 being full scale."""
        import numpy as np

        self._gain = np.float32(gain)
        self._ceiling = float(np.float32(ceiling))
        self._ahead = round(_LOOK_AHEAD * rate)  # frames
        self._frames = round(_LIMITED_AT_ONCE * rate)
        self._release = np.exp(-np.arange(self._frames + 1) / (_RELEASE * rate))
        attack = np.hanning(self._ahead + 3)[1:-1]  # without its two zeros
        self._attack = np.fft.rfft(attack / attack.sum(), self._frames + self._ahead)
        self._begin()

    def feed(self, samples: Samples) -> Samples:
        """Returns float32 (frames,), up to 110 ms later than its input, so possibly nothing."""
        import numpy as np

        self._waiting = np.concatenate((self._waiting, samples * self._gain))
        starts = range(0, len(self._waiting) - self._ahead - self._frames + 1, self._frames)
        limited = [self._limited(self._waiting[start : start + self._frames + self._ahead]) for start in starts]
        self._waiting = self._waiting[len(starts) * self._frames :].copy()
        result = np.concatenate([np.zeros(0, np.float32), *limited])
        lead = min(self._lead, len(result))
        self._lead -= lead
        return result[lead:]

    def flush(self) -> Samples:
        """The rest, float32 (frames,). The next `feed()` begins a new signal."""
        import numpy as np

        frames = len(self._waiting) - self._lead
        rest = self.feed(np.zeros(self._frames + self._ahead, np.float32))[:frames]
        self._begin()
        return rest

    def _begin(self) -> None:
        import numpy as np

        self._lead = self._ahead  # frames of silence in front, never given out: for a peak that the audio begins with
        self._waiting = np.zeros(self._lead, np.float32)  # amplified, not limited
        self._reduction = np.zeros(self._ahead)  # share of the gain taken away in the frames before, 0.0 to 1.0

    def _limited(self, amplified: Samples) -> Samples:
        """(frames + ahead,) to (frames,).

        1. What each sample must lose, held for the 5 ms before it: so the reduction is complete when the sample comes.
        2. Release: the reduction, plus _REST, decays exponentially. `d[n] = max(held[n], decay * d[n - 1])` is a
           running maximum once every value is divided by what will have decayed at its place.
        3. Attack: a weighted mean over the last 5 ms. All of what it averages is enough for the sample, thus the mean.
        """
        import numpy as np

        samples = amplified[: self._frames]
        if max(amplified.max(), -amplified.min()) <= self._ceiling and not self._reduction.any():
            return samples
        needed = 1 - self._ceiling / np.maximum(np.abs(amplified.astype(np.float64)), self._ceiling)
        held = np.concatenate((self._reduction[-1:], _highest_ahead(needed, self._ahead)))  # (1 + frames,)
        reduction = np.maximum.accumulate((held + _REST) / self._release) * self._release - _REST
        reduction[reduction < _NO_REDUCTION] = 0.0
        reduction = np.concatenate((self._reduction, reduction[1:]))  # (ahead + frames,)
        self._reduction = reduction[-self._ahead :]
        # Not np.convolve: it leaves sums to BLAS, whose last bit may depend on where in memory the numbers lie.
        averaged = np.fft.irfft(np.fft.rfft(reduction) * self._attack, len(reduction))
        gain = 1 - averaged[self._ahead :]  # (frames,)
        limited: Samples = np.clip(samples * gain, -self._ceiling, self._ceiling).astype(np.float32)  # against rounding
        return limited


def _highest_ahead(values: Numbers, ahead: int) -> Numbers:
    """For each value the highest among it and the `ahead` next ones: (frames + ahead,) to (frames,)."""
    import numpy as np

    seen = 1
    while seen <= ahead:
        further = min(seen, ahead + 1 - seen)
        values = np.maximum(values[:-further], values[further:])
        seen += further
    return values


def gain_for(blocks: Callable[[], Iterable[Samples]], rate: int, target: float) -> float:
    """The factor with which a `PeakLimiter` makes the recording `target` LUFS loud, to 0.1 LU.

    Each call of `blocks` gives the whole recording, at `rate` Hz. It is called once if no peak has to be limited,
    otherwise up to 9 times: the effect of the limiter can only be measured. Returns 1.0 for a recording without
    loudness (silence, less than 400 ms). If the limiter would take more than 20 dB, the recording comes out quieter
    than `target`.
    """
    meter = Meter(rate)
    for samples in blocks():
        meter.feed(samples)
    if math.isinf(meter.integrated()):
        return 1.0
    gain = _plain_gain(meter, target)
    return gain if meter.peak * gain <= CEILING else _limited_gain(blocks, rate, target, gain)


def _plain_gain(meter: Meter, target: float) -> float:
    """The gain without a limiter. One step is enough unless the gain brings more of the recording over _SILENCE."""
    gain = 1.0
    for _ in range(_MOST_PASSES):
        missing = target - meter.integrated(gain)  # LU
        if math.isinf(missing):
            break
        gain *= _factor(missing)
        if abs(missing) < _CLOSE_ENOUGH / 10:
            break
    return gain


def _limited_gain(blocks: Callable[[], Iterable[Samples]], rate: int, target: float, gain: float) -> float:
    """Goes up from `gain`, the one without a limiter, by the secant method: loudness rises with gain, less and less."""
    extra = 0.0  # dB over `gain`
    slope = 0.5  # LU per dB, until two passes say what it is
    tried: dict[float, float] = {}  # extra: LU that are missing with it
    while extra not in tried and len(tried) < _MOST_PASSES:
        missing = target - _limited_loudness(blocks, PeakLimiter(rate, gain * _factor(extra)), Meter(rate))
        tried[extra] = missing
        if abs(missing) <= _CLOSE_ENOUGH:
            break
        if len(tried) > 1:
            (extra_before, missing_before), _ = list(tried.items())[-2:]
            slope = max(0.1, (missing_before - missing) / (extra - extra_before))
        extra = min(max(extra + missing / slope, 0.0), _MOST_LOST)
    return gain * _factor(min(tried, key=lambda extra: abs(tried[extra])))


def _limited_loudness(blocks: Callable[[], Iterable[Samples]], limiter: PeakLimiter, meter: Meter) -> float:
    """LUFS of what a new limiter makes of the recording."""
    for samples in blocks():
        meter.feed(limiter.feed(samples))
    meter.feed(limiter.flush())
    return meter.integrated()


def _factor(decibels: float) -> float:
    """Decibels as a factor of amplitude."""
    return float(10 ** (decibels / 20))
