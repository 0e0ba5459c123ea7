"""A playback device without hardware: `Player(open_stream=Recorder())`; its `runs` are what an ear would have heard.

Its clock counts frames and stands still while no block can be taken, so its times are exact. Like ALSA it takes blocks
at once until its latency is filled, then one each time a block has been heard; like PortAudio it drops on `stop` what
has not been heard.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from kokoro_common.errors import NoAudioDevice
from kokoro_common.sound.portaudio import ResampledFill
from kokoro_common.sound.samples import SAMPLE_RATE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from kokoro_common.sound.player import Fill, Player

Float = NDArray[np.float32]

BLOCK_FRAMES = 240


def ramp(frames: int, first: int = 1, sign: int = 1) -> Float:
    """Each sample another 16-bit integer, none of them 0: a gap, a repeat or a foreign sample shows."""
    return (sign * (np.arange(first, first + frames) % 32_000 + 1) / 32_767).astype(np.float32)


def feed_all(player: Player, *chunks: Float, device: str = "") -> None:
    """Begins a run, feeds all of it and finishes it, for `play`."""
    player.begin(device)
    for chunk in chunks:
        player.feed(chunk)
    player.finish()


def no_device(match: str = "no audio device") -> Any:
    """For `with`: NoAudioDevice is raised with this message."""
    import pytest  # not in the servers that play to a recorder

    return pytest.raises(NoAudioDevice, match=match)


class Recorder:
    """The device. Calling it opens a stream on it (it is an `OpenStream`). The attributes below are its knobs."""

    def __init__(self, *, sample_rate: int = SAMPLE_RATE, latency_blocks: int = 10, speed: float = 40.0) -> None:
        self.sample_rate = sample_rate  # Hz
        self.latency = latency_blocks * BLOCK_FRAMES  # frames
        self.speed = speed  # times faster than real
        self.name = "recorder"
        self.present = True  # opening and starting fail without it
        self.lost_at: int | None = None  # block, counted over the device's life, at which the stream ends by itself
        self.back_after: int | None = None  # openings that fail after a loss, before the device is there again
        self.hung_at: int | None = None  # block that never comes
        self.may_stop = threading.Event()  # while cleared, a stream's `stop` blocks
        self.may_stop.set()
        self.asked: list[str] = []  # device, per opening tried
        self.streams: list[RecorderStream] = []
        self.blocks: list[tuple[float, bytes]] = []  # (seconds of its clock at which it is due, int16)
        self.runs: list[NDArray[np.int16]] = []  # heard, per start of a stream, its silence included
        self.spans: list[tuple[float, float]] = []  # when a stream was open, in time.monotonic()
        self.clock = 0  # frames
        self.state = threading.Condition()
        self.held = False

    def __call__(self, fill: Fill, finished: Callable[[], None], device: str) -> RecorderStream:
        with self.state:
            self.asked.append(device)
            self.state.notify_all()
        if not self.present and self.back_after is not None:
            self.present, self.back_after = self.back_after == 0, self.back_after - 1
        if not self.present or device not in self.name:
            raise NoAudioDevice("no audio device")
        self.streams.append(RecorderStream(self, fill, finished))
        return self.streams[-1]

    @property
    def openings(self) -> int:
        return len(self.asked)

    def hold(self) -> None:
        """The clock stands still: what is fed until `release` is all there before the next block is taken."""
        with self.state:
            self.held = True

    def release(self) -> None:
        with self.state:
            self.held = False
            self.state.notify_all()

    def wait_for(self, reached: Callable[[], bool]) -> None:
        """Blocks until it is so; looks after each opening, block, call of `stop` and end of that."""
        with self.state:
            assert self.state.wait_for(reached, 30), "it never came to that"

    def wait_for_blocks(self, count: int) -> None:
        """Blocks until so many blocks more have been taken."""
        target = len(self.blocks) + count
        self.wait_for(lambda: len(self.blocks) >= target)

    def wait_for_silence(self) -> None:
        """Blocks until no stream is open."""
        self.wait_for(lambda: all(stream.closed for stream in self.streams))

    def wake(self) -> None:
        """A hung device goes on."""
        with self.state:
            self.hung_at = None
            self.state.notify_all()

    def take(self, due: float, block: bytes) -> None:
        """What the device has been given; it sounds later, or never."""
        self.blocks.append((due, block))

    def heard(self) -> list[NDArray[np.int16]]:
        """`runs` without the silence around them."""
        return [np.trim_zeros(run) for run in self.runs]


class RecorderStream:
    def __init__(self, recorder: Recorder, fill: Fill, finished: Callable[[], None]) -> None:
        self.device = recorder.name
        self._opened = time.monotonic()
        self._lost = False
        self.stopping = False
        self.closed = False
        self._recorder = recorder
        self._fill = fill if recorder.sample_rate == SAMPLE_RATE else ResampledFill(fill, recorder.sample_rate)
        self._finished = finished
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        recorder = self._recorder
        assert self._thread is None, "started twice"
        assert not self.closed
        if not recorder.present:
            raise NoAudioDevice("the audio device was lost")
        self._stopping = False
        self._first_block = len(recorder.blocks)
        self._began = recorder.clock
        self._thread = threading.Thread(target=self._take_blocks, name="recorder", daemon=True)
        self._thread.start()

    def stop(self) -> float:
        assert self._recorder.hung_at != len(self._recorder.blocks), "touching a hung device blocks"
        assert not self.closed
        with self._recorder.state:
            self.stopping = True
            self._recorder.state.notify_all()
        self._recorder.may_stop.wait()
        self.end()
        with self._recorder.state:
            self._recorder.spans.append((self._opened, time.monotonic()))
            self.closed = True
            self._recorder.state.notify_all()
        return self._recorder.clock / self._recorder.sample_rate + self._lost  # the clock goes on, the device does not

    def end(self) -> None:
        """Ends the thread of a hung stream too: for the end of a test."""
        if self._thread is None:
            return
        with self._recorder.state:
            self._stopping = True
            self._recorder.state.notify_all()
        self._thread.join(30)
        self._thread = None
        pcm = b"".join(block for _, block in self._recorder.blocks[self._first_block :])
        self._recorder.runs.append(np.frombuffer(pcm, np.int16)[: self._recorder.clock - self._began])

    def _take_blocks(self) -> None:
        recorder = self._recorder
        written = 0
        while True:
            with recorder.state:
                recorder.state.wait_for(lambda: self._stopping or not recorder.held)
                if self._began + written - recorder.clock >= recorder.latency and not self._stopping:
                    recorder.state.wait_for(
                        lambda: self._stopping, BLOCK_FRAMES / recorder.sample_rate / recorder.speed
                    )
                    recorder.clock += BLOCK_FRAMES
                recorder.state.wait_for(lambda: self._stopping or len(recorder.blocks) != recorder.hung_at)
                if self._stopping:
                    break
                if len(recorder.blocks) == recorder.lost_at:
                    recorder.present, recorder.lost_at, self._lost = False, None, True
                    break
            block = bytearray(2 * BLOCK_FRAMES)
            due = (self._began + written) / recorder.sample_rate
            self._fill(memoryview(block), recorder.clock / recorder.sample_rate, due)
            with recorder.state:
                written += BLOCK_FRAMES
                recorder.take(due, bytes(block))
                recorder.state.notify_all()
        self._finished()
