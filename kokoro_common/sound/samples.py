"""Audio as numbers: the sample rate, integers of 16 and 24 bits, resampling.

Samples are mono, float32, shape (frames,), nominally -1.0 to 1.0. No other module imports soxr; it and numpy are
imported when first needed, so that importing this module costs nothing.
"""

from __future__ import annotations

from kokoro_common.record import Record
from kokoro_common.text.speech import TimedWord

TYPE_CHECKING = False
if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

SAMPLE_RATE = 24_000  # Hz, Kokoro's
SAMPLES_PER_DURATION = 600  # in one unit of Kokoro's durations, 25 ms


class Sound(Record):
    """Audio, and the words that are said in it."""

    samples: Samples  # (frames,) float32
    sample_rate: int = SAMPLE_RATE  # Hz
    text: str = ""  # that is said; empty for a pause, and where only the words' places are known
    words: tuple[TimedWord, ...] = ()  # places in `text`, frames from the start of `samples`

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.sample_rate

    def word_times(self) -> list[tuple[str, float, float]]:
        """Each word of `words`, with the seconds from the start of this audio at which it begins and ends."""
        return [
            (self.text[word.start : word.end], word.first_frame / self.sample_rate, word.last_frame / self.sample_rate)
            for word in self.words
        ]


def to_pcm16(samples: Samples) -> NDArray[np.int16]:
    """int16 (frames,): clipped to -1.0..1.0, times 32,767, rounded to nearest, ties to even. NaN is a ValueError.

    The only such conversion in the project: a wav file and the sound device get the same integers.
    """
    import numpy as np

    pcm: NDArray[np.int16] = _to_integers(samples, 32_767).astype(np.int16)
    return pcm


def to_pcm24(samples: Samples) -> NDArray[np.int32]:
    """int32 (frames,): as `to_pcm16`, times 8,388,607."""
    import numpy as np

    pcm: NDArray[np.int32] = _to_integers(samples, 8_388_607).astype(np.int32)
    return pcm


def _to_integers(samples: Samples, greatest: int) -> Samples:
    import numpy as np

    kind = np.float32 if greatest < 1 << 23 else np.float64  # which has room for every one of the integers
    scaled: Samples = np.rint(np.clip(samples, -1.0, 1.0) * kind(greatest))
    if np.isnan(scaled).any():
        raise ValueError("samples hold NaN")
    return scaled


class Resampler:
    """Streaming soxr (HQ): what comes out of all `feed()` calls and one `flush()` does not depend on how it was cut."""

    def __init__(self, source_rate: int, target_rate: int) -> None:
        import soxr

        self._stream = soxr.ResampleStream(source_rate, target_rate, 1, dtype="float32")

    def feed(self, samples: Samples) -> Samples:
        """float32 (frames,) at the target rate; lags behind its input by soxr's filter, so it may be empty."""
        resampled: Samples = self._stream.resample_chunk(samples)
        return resampled

    def flush(self) -> Samples:
        """The rest, float32 (frames,). The next `feed()` begins a new signal."""
        import numpy as np

        rest: Samples = self._stream.resample_chunk(np.zeros(0, np.float32), last=True)
        self._stream.clear()
        return rest
