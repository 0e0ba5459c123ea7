"""A stub engine: its samples say which utterance, which text chunk and which frame they are.

Every 8 samples are one block: tag of the utterance, index of the chunk, number of the block, checksum. After the
conversion to 16 bits `decode_samples` reads them back, so a gap, a repeat or a foreign sample shows, down to one.
"""

from __future__ import annotations

import threading
import zlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 24_000
BLOCK = 8  # samples; a level is 1 + place in the block * 2,048 + 11 bits: never 0, never twice in a block
_BITS = 11
_MASK = (1 << _BITS) - 1

SILENCE = 0  # tag of a run of zeros
FOREIGN = -1  # tag of a run of anything else


class Run(NamedTuple):
    """Samples that follow each other without a break.

    Neighbouring blocks share samples, so a break may be placed a few samples late; what it took or doubled is exact.
    """

    tag: int  # tag_of(utterance), or SILENCE or FOREIGN
    chunk: int  # index of the text chunk; -1 for silence and foreign samples
    first_frame: int  # of the run, within what encode_samples gave
    frames: int

    @property
    def end(self) -> int:
        return self.first_frame + self.frames


def tag_of(utterance: str) -> int:
    """32 bits, never SILENCE."""
    return zlib.crc32(utterance.encode("utf-8", "surrogatepass")) or 1


def encode_samples(utterance: str, index: int, frames: int) -> NDArray[np.float32]:
    """float32 (frames,), up to 0.5. Index below 4 million, at most 33 million frames."""
    levels = _levels(tag_of(utterance), index, 0, -(-frames // BLOCK))
    return (levels[:frames] / 32_767).astype(np.float32)


def decode_samples(samples: NDArray[np.float32] | NDArray[np.int16]) -> list[Run]:
    """The runs in float32 or int16 (frames,). Audio that is whole is one run for each chunk.

    A run of less than 15 samples may hold no whole block; then it is FOREIGN.
    """
    levels = samples.astype(np.int64) if samples.dtype == np.int16 else np.rint(samples * 32_767).astype(np.int64)
    runs: list[Run] = []
    starts = _block_starts(levels)
    position = 0
    while position < len(levels):
        run = _run_at(levels, starts, position)
        if runs and run.tag == runs[-1].tag == FOREIGN:
            runs[-1] = runs[-1]._replace(frames=runs[-1].frames + run.frames)
        else:
            runs.append(run)
        position += run.frames
    return runs


class StubEngine:
    """Takes the place of EspeakEngine: the utterance in its samples is the text, the index is 0."""

    def __init__(self, *, rtf: float = 0.0, frames_per_character: int = 1_200) -> None:
        self._rtf = rtf  # seconds of waiting for a second of audio
        self._frames_per_character = frames_per_character
        self._closed = threading.Event()  # ends the waiting
        self.spoken: list[str] = []

    def synthesize(self, text: str, lang: str, speed: float, female: bool) -> NDArray[np.float32]:
        frames = round(len(text) * self._frames_per_character / speed)
        self._closed.wait(self._rtf * frames / SAMPLE_RATE)
        self.spoken.append(text)
        return encode_samples(text, 0, frames)

    def close(self) -> None:
        self._closed.set()


def _levels(tag: int, index: int, first_block: int, blocks: int) -> NDArray[np.int64]:
    """int64 (blocks * BLOCK,)."""
    number = np.arange(first_block, first_block + blocks)
    fields = np.empty((blocks, BLOCK), np.int64)
    fields[:, 1] = tag >> 2 * _BITS
    fields[:, 2] = tag >> _BITS & _MASK
    fields[:, 3] = tag & _MASK
    fields[:, 4] = index >> _BITS
    fields[:, 5] = index & _MASK
    fields[:, 6] = number >> _BITS
    fields[:, 7] = number & _MASK
    fields[:, 0] = _checksum(fields)
    return (1 + (np.arange(BLOCK) << _BITS) + fields).reshape(-1)


def _checksum(fields: NDArray[np.int64]) -> NDArray[np.int64]:
    checksum: NDArray[np.int64] = fields[:, 1:] @ np.array([3, 5, 7, 11, 13, 17, 19]) + 1_234 & _MASK
    return checksum


def _block_starts(levels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The positions where a whole block begins."""
    if len(levels) < BLOCK:
        return np.empty(0, np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(levels - 1, BLOCK)
    fields = windows & _MASK
    whole = (windows >> _BITS == np.arange(BLOCK)).all(axis=1) & (fields[:, 0] == _checksum(fields))
    return np.flatnonzero(whole)


def _run_at(levels: NDArray[np.int64], starts: NDArray[np.int64], position: int) -> Run:
    if levels[position] == 0:
        return Run(SILENCE, -1, 0, _length(levels[position:] == 0))
    following = starts[np.searchsorted(starts, position) :]
    if not len(following) or following[0] - position >= BLOCK:
        return Run(FOREIGN, -1, 0, 1)
    start = int(following[0])
    _, high, middle, low, index_high, index_low, number_high, number_low = (
        (levels[start : start + BLOCK] - 1) & _MASK
    ).tolist()
    tag, index = high << 2 * _BITS | middle << _BITS | low, index_high << _BITS | index_low
    number = number_high << _BITS | number_low
    before = start - position  # samples of a block whose beginning is missing
    if before and number == 0:
        return Run(FOREIGN, -1, 0, 1)
    first_block = number - 1 if before else number
    expected = _levels(tag, index, first_block, -(-(len(levels) - position) // BLOCK) + 1)[-before % BLOCK :]
    same = expected[: len(levels) - position] == levels[position:]
    if not same[: before + 1].all():
        return Run(FOREIGN, -1, 0, 1)
    return Run(tag, index, number * BLOCK - before, _length(same))


def _length(same: NDArray[np.bool_]) -> int:
    """How many are true from the beginning on."""
    return len(same) if same.all() else int(same.argmin())
