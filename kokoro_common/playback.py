"""The player: begin, feed, finish; play, abort, pause. The only room that knows sounddevice and PortAudio.

A run is the audio of one utterance, from `begin` until it has been heard. All that may block happens on the one thread
that calls `play`: it opens the device, starts it, watches it, closes it. Every other thread only leaves word under the
state lock, so it never feels a sound server that hangs. PortAudio's own thread calls `_fill` for each block.

A stream lives from the first sample to the last, a pause, an abort or a loss. It is never kept stopped: PortAudio 19.6
blocks for ever when it starts a stopped stream whose sound server has died, and an open one keeps a card without a
sound server from the other voices. Opening takes 1 to 2 ms. Closing drops what the device holds; so the end of a run is
heard out (zeros follow the last sample until the device's clock has passed it), and what was handed over but not heard
is kept until it is: after a pause or a loss it comes again.
"""

from __future__ import annotations

import collections
import ctypes
import functools
import logging
import math
import threading
import time

from kokoro_common.audio import SAMPLE_RATE, Resampler, to_pcm16
from kokoro_common.errors import NoAudioDevice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol, TypeVar

    from kokoro_common.audio import Samples

    class Stream(Protocol):
        """An open output stream of one channel of int16."""

        sample_rate: int  # Hz; the rate asked for, or the device's own where it refuses that

        def start(self) -> None: ...  # raises NoAudioDevice
        def close(self) -> float: ...  # drops what the device holds; returns its clock when it fell silent, in seconds

    # (block to fill, time now, time at which the block's first frame will be heard), in seconds of one clock
    Fill = Callable[[memoryview, float, float], None]
    # (sample rate, fill, finished, device) -> Stream; raises NoAudioDevice. `finished` is called when a started stream
    # ends, by `close` or by itself.
    OpenStream = Callable[[int, Fill, Callable[[], None], str], Stream]
    Result = TypeVar("Result")

LATENCY = 0.1  # seconds; at "low" and "high" a busy machine had underruns, at 0.1 none; abort is not slower for it
STALL_SECONDS = 1.0  # without a callback while playing: the sound server hangs
LOST_SECONDS = 5.0  # a device that has vanished may come back for so long
REOPEN_SECONDS = 0.25  # between two attempts to open it again
IDLE_SECONDS = 5.0  # without sound: a device may have fallen asleep and gets the lead-in

_FRAME_BYTES = 2
_REMEDY = "plug one in, or write a file with -o out.wav"

log = logging.getLogger("kokoro.playback")


class Player:
    """Plays mono float32 at SAMPLE_RATE as int16, one run at a time. Several players may play side by side."""

    def __init__(self, open_stream: OpenStream | None = None, *, lead_in: float = 0.0) -> None:
        """`lead_in`: seconds of silence before the first sample of a device that has been idle."""
        self.busy_since: float | None = None  # time.monotonic() of a call into PortAudio that has not returned yet
        self._open_stream = open_stream or _PortAudioStream
        self._lead_in = lead_in
        self._state = threading.Condition(threading.Lock())
        self._run = _Run("")
        self._run.aborted = True
        self._playing = self._run  # whose stream is open
        self._stream: Stream | None = None  # of the thread in `play`
        self._generation = 0  # of the stream: what an earlier one still has to say does not count
        self._lost = False
        self._blocks = 0  # callbacks so far
        self._last_sound = -IDLE_SECONDS

    # --- Any thread; nothing here waits ------------------------------------------------------------------------------

    def begin(self, device: str = "") -> None:
        """A new run, for the device of which this is part of the name; empty: the default. Aborts an unfinished one."""
        with self._state:
            self._run.abort()
            self._run = _Run(device)
            self._state.notify_all()

    def feed(self, samples: Samples) -> None:
        """Appends float32 (frames,) to the run. An aborted run takes nothing."""
        with self._state:
            self._run.append(samples)
            self._state.notify_all()

    def finish(self) -> None:
        """All of the run has been fed. Idempotent."""
        with self._state:
            self._run.finish()
            self._state.notify_all()

    def abort(self) -> None:
        """Forgets the run. The next block is silent; `play` drops what the device holds. Idempotent."""
        with self._state:
            self._run.abort()
            self._state.notify_all()

    def pause(self) -> None:
        """Silences as `abort` does, and keeps the place by the device's clock."""
        with self._state:
            self._run.paused = not self._run.aborted
            self._state.notify_all()

    def resume(self) -> None:
        with self._state:
            self._run.paused = False
            self._state.notify_all()

    @property
    def paused(self) -> bool:
        with self._state:
            return self._run.paused and not self._run.aborted

    @property
    def heard(self) -> int:
        """Frames at SAMPLE_RATE of the current run, or the last one, that have been heard by the device's clock."""
        with self._state:
            return self._run.heard_samples()

    @property
    def underflows(self) -> int:
        """Times that the current run, or the last one, had nothing to play before its end."""
        with self._state:
            return self._run.underflows

    # --- The thread that plays ---------------------------------------------------------------------------------------

    def play(self, sounding: Callable[[], None] | None = None) -> bool:
        """Blocks until the run has been heard (True) or aborted (False). `sounding` is called with its first sample.

        A device that vanishes is opened again for LOST_SECONDS, and playing goes on where the ear was. Raises
        NoAudioDevice: there is none, it did not come back, or it stalls; after a stall PortAudio is not touched again.
        """
        run = self._run
        while True:
            # 1. Something to play, or nothing any more.
            with self._state:
                self._state.wait_for(lambda: run.over or (run.has_audio and not run.paused))
                if run.over:
                    return not run.aborted
            # 2. A device that plays it.
            if not self._start(run):
                return False
            # 3. Until it has been heard, or something happens to it or to the device.
            self._watch(run, sounding)
            # 4. Silence. What the device held and nobody heard goes back, for a pause or a loss.
            self._stop(run)

    def _start(self, run: _Run) -> bool:
        """Opens and starts the device. False: the run was aborted while a lost one was waited for."""
        deadline = time.monotonic() + (LOST_SECONDS if run.sounded else 0.0)
        while True:
            with self._state:
                self._playing, self._lost = run, False
                self._generation += 1
                finished = functools.partial(self._finished, self._generation)
            opening = functools.partial(self._open_stream, SAMPLE_RATE, self._fill, finished, run.device)
            try:
                self._stream = self._call(opening)
                idle = time.monotonic() - self._last_sound > IDLE_SECONDS
                with self._state:
                    run.start(self._stream.sample_rate, self._lead_in if idle else 0.0)
                self._call(self._stream.start)
                return True
            except NoAudioDevice:
                self._stop(run)
                if time.monotonic() >= deadline:
                    raise
            with self._state:
                if self._state.wait_for(lambda: run.aborted, REOPEN_SECONDS):
                    return False

    def _watch(self, run: _Run, sounding: Callable[[], None] | None) -> None:
        """Blocks while the device plays the run. Raises NoAudioDevice when it stalls."""
        told, idle = run.sounded, 0
        while True:
            with self._state:
                blocks = self._blocks
                self._state.wait_for(functools.partial(self._news, run, told), STALL_SECONDS / 2)
                done = self._interrupted(run)
                # Twice, so that a process that was suspended gets time for its next block.
                idle = idle + 1 if self._blocks == blocks and not done else 0
                if idle == 2:
                    run.abort()  # should the device wake up, it must not go on with what has failed
                    self._stream = None
                    raise NoAudioDevice("the audio device hangs", "restart the sound server, or write a file with -o")
            if run.sounded and not told:
                told = True
                if sounding is not None:
                    sounding()
            if done:
                return

    def _interrupted(self, run: _Run) -> bool:
        return run.over or run.paused or self._lost

    def _news(self, run: _Run, told: bool) -> bool:
        return self._interrupted(run) or run.sounded != told

    def _stop(self, run: _Run) -> None:
        """Closes the device, so that it is silent now."""
        stream, self._stream = self._stream, None
        if stream is not None:
            clock = self._call(stream.close)
            with self._state:
                run.stop(clock)
            self._last_sound = time.monotonic()

    def _call(self, function: Callable[[], Result]) -> Result:
        """A call into PortAudio, which a hung sound server may hold for half a minute: others can see that."""
        self.busy_since = time.monotonic()
        try:
            return function()
        finally:
            self.busy_since = None

    # --- PortAudio's thread ------------------------------------------------------------------------------------------

    def _fill(self, block: memoryview, now: float, dac: float) -> None:
        with self._state:
            self._blocks += 1
            if self._playing.fill(block, now, dac):
                self._state.notify_all()

    def _finished(self, generation: int) -> None:
        """A stream that ends unasked has lost its device: the only sign of it. One that was asked to is not watched."""
        with self._state:
            self._lost = self._lost or generation == self._generation
            self._state.notify_all()


class _Run:
    """The audio of one run, on its way from `feed` to the ear. Frames are the device's unless said otherwise.

    Positions count what the current stream was given, silence included; `_offset` ties them to the device's clock.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.paused = False
        self.aborted = False
        self.sounded = False  # a sample has been handed over
        self.underflows = 0
        self.waiting: collections.deque[memoryview] = collections.deque()  # int16, not handed over
        self._early: list[Samples] = []  # fed before the device's rate was known
        self._unheard: collections.deque[tuple[int, memoryview]] = collections.deque()  # (position, int16 handed over)
        self._ended = False
        self._sample_rate = 0
        self._resampler: Resampler | None = None
        self._samples = 0  # fed, at SAMPLE_RATE
        self._heard = 0
        self._position = 0
        self._offset = 0.0  # device clock in seconds at position 0
        self._dry = False

    @property
    def over(self) -> bool:
        """Heard to its end, or aborted."""
        return self.aborted or (self._ended and not self.has_audio and not self._unheard)

    @property
    def has_audio(self) -> bool:
        """That has not been handed over."""
        return bool(self.waiting or self._early)

    def append(self, samples: Samples) -> None:
        if self.aborted or self._ended:
            return
        self._samples += len(samples)
        if self._sample_rate:
            self._convert(samples)
        else:
            self._early.append(samples)

    def finish(self) -> None:
        if not self._ended:
            self._ended = True
            self._flush()

    def abort(self) -> None:
        self.aborted = True
        self.waiting.clear()
        self._unheard.clear()
        self._early.clear()

    def start(self, sample_rate: int, lead_in: float) -> None:
        """A stream of this rate begins."""
        if sample_rate != self._sample_rate:  # the first, or another device after a loss: its rate may differ
            kept, before = self.waiting, self._sample_rate
            self._sample_rate = sample_rate
            self._resampler = None if sample_rate == SAMPLE_RATE else Resampler(SAMPLE_RATE, sample_rate)
            if before:
                self.waiting = collections.deque(_at_rate(kept, before, sample_rate))
                self._heard = self._heard * sample_rate // before
            else:
                self.waiting = collections.deque()
            for samples in self._early:
                self._convert(samples)
            self._early.clear()
            if self._ended:
                self._flush()
        self._position = 0
        self._dry = False
        if lead_in and not self.sounded:
            self._position = -int(lead_in * sample_rate)

    def stop(self, clock: float) -> None:
        """The stream fell silent at this time of its clock: what was not heard by then comes again."""
        if self._position > 0:
            self._listen(clock)
        for _, pcm in reversed(self._unheard):
            self.waiting.appendleft(pcm)
        self._unheard.clear()

    def fill(self, block: memoryview, now: float, dac: float) -> bool:
        """Hands over the next frames, then zeros. True: somebody may be waiting for what has changed."""
        frames = len(block) // _FRAME_BYTES
        was_over, had_sounded = self.over, self.sounded
        self._offset = dac - self._position / self._sample_rate
        self._listen(now)
        filled = 0
        if self._position >= 0 and not self.paused:
            filled = self._hand_over(block)
        if filled < len(block):
            block[filled:] = bytes(len(block) - filled)
        self._position += frames
        was_dry, self._dry = self._dry, filled < len(block) and self.sounded and not self._ended and not self.paused
        self.underflows += self._dry and not was_dry
        return self.over != was_over or self.sounded != had_sounded

    def _hand_over(self, block: memoryview) -> int:
        """Returns the bytes filled."""
        filled = 0
        while self.waiting and filled < len(block):
            pcm = self.waiting.popleft()
            taken = min(len(pcm), len(block) - filled)
            block[filled : filled + taken] = pcm[:taken]
            if taken:
                self._unheard.append((self._position + filled // _FRAME_BYTES, pcm[:taken]))
                self.sounded = True
            if taken < len(pcm):
                self.waiting.appendleft(pcm[taken:])
            filled += taken
        return filled

    def _listen(self, now: float) -> None:
        """The clock says where the ear is in what was handed over."""
        ear = math.floor((now - self._offset) * self._sample_rate + 0.01)  # a hundredth for the floats' rounding
        while self._unheard and self._unheard[0][0] < ear:
            position, pcm = self._unheard.popleft()
            frames = min(len(pcm) // _FRAME_BYTES, ear - position)
            self._heard += frames
            if frames * _FRAME_BYTES < len(pcm):
                self._unheard.appendleft((ear, pcm[frames * _FRAME_BYTES :]))

    def heard_samples(self) -> int:
        """Frames at SAMPLE_RATE."""
        if self._ended and self.over and not self.aborted:  # exact at the end, whatever the resampler's rounding
            return self._samples
        return min(self._heard * SAMPLE_RATE // (self._sample_rate or SAMPLE_RATE), self._samples)

    def _convert(self, samples: Samples) -> None:
        if self._resampler is not None:
            samples = self._resampler.feed(samples)
        self.waiting.append(memoryview(to_pcm16(samples).tobytes()))

    def _flush(self) -> None:
        """What the resampler still holds."""
        if self._resampler is not None and self._sample_rate:
            self.waiting.append(memoryview(to_pcm16(self._resampler.flush()).tobytes()))


def _at_rate(waiting: collections.deque[memoryview], before: int, after: int) -> list[memoryview]:
    """int16 at one rate to another: a device that came back with a rate of its own."""
    import numpy as np

    samples = np.frombuffer(b"".join(waiting), np.int16).astype(np.float32) / np.float32(32_767)
    resampler = Resampler(before, after)
    return [memoryview(to_pcm16(part).tobytes()) for part in (resampler.feed(samples), resampler.flush())]


def devices() -> list[str]:
    """Names of the output devices, the default one marked. Raises NoAudioDevice when there is none."""
    sounddevice = _sounddevice()
    outputs = [each for each in sounddevice.query_devices() if each["max_output_channels"]]
    if not outputs:
        raise NoAudioDevice("no audio device", _REMEDY)
    default = sounddevice.default.device[1]
    return [f"{each['name']}{'   (default)' if each['index'] == default else ''}" for each in outputs]


class _PortAudioStream:
    """A sounddevice.RawOutputStream in callback mode: closing one beside a blocking write() crashes the process."""

    def __init__(self, sample_rate: int, fill: Fill, finished: Callable[[], None], device: str) -> None:
        sounddevice = _sounddevice()

        def callback(block: Any, frames: int, time: Any, status: Any) -> None:
            fill(memoryview(block), time.currentTime, time.outputBufferDacTime)

        def opened(rate: int | None) -> Any:
            return sounddevice.RawOutputStream(
                samplerate=rate,
                device=device or None,
                channels=1,
                dtype="int16",
                latency=LATENCY,
                callback=callback,
                finished_callback=finished,
            )

        self._error = sounddevice.PortAudioError
        with _open_streams_lock:
            self._stream = _opened(sounddevice, opened, sample_rate, device)
            _open_streams.add(self)
        self.sample_rate = int(self._stream.samplerate)

    def start(self) -> None:
        try:
            self._stream.start()
        except self._error as error:
            raise NoAudioDevice(f"the audio device was lost ({error})", _REMEDY) from error

    def close(self) -> float:
        clock: float = self._stream.time  # a little before it falls silent: rather a millisecond twice than not at all
        self._stream.abort()
        self._stream.close()
        with _open_streams_lock:
            _open_streams.discard(self)
        return clock


_open_streams: set[_PortAudioStream] = set()  # PortAudio is one per process
_open_streams_lock = threading.Lock()


def _sounddevice() -> Any:
    """The library. Raises NoAudioDevice where it cannot work."""
    if _alsa_is_empty():
        raise NoAudioDevice("no audio device (ALSA knows none)", _REMEDY)
    try:
        import sounddevice
    except OSError as error:  # its wheels for Linux bring no PortAudio
        raise NoAudioDevice(f"PortAudio is missing ({error})", "install libportaudio2") from error
    return sounddevice


def _opened(sounddevice: Any, opened: Callable[[int | None], Any], sample_rate: int, device: str) -> Any:
    """A stream at the sample rate or, where the device refuses that, at its own."""

    def attempt() -> Any:
        try:
            return opened(sample_rate)
        except sounddevice.PortAudioError:
            return opened(None)

    try:
        return attempt()
    except (sounddevice.PortAudioError, ValueError):
        log.debug("no audio device so far; looking for new ones")
    try:
        # PortAudio lists the devices once, when it is initialized (60 to 160 ms). Not under a stream that plays.
        if not _open_streams:
            if sounddevice._initialized:
                sounddevice._terminate()
            sounddevice._initialize()
        return attempt()
    except sounddevice.PortAudioError as error:
        raise NoAudioDevice(f"no audio device ({error})", _REMEDY) from error
    except ValueError as error:  # none, or several, of that name
        names = sorted({each["name"] for each in sounddevice.query_devices() if each["max_output_channels"]})
        remedy = f"choose from: {', '.join(names)}" if names else _REMEDY
        raise NoAudioDevice(f"{device!r} does not name one audio device", remedy) from error


def _alsa_is_empty() -> bool:
    """Neither a card nor a configured device: PortAudio's start would abort the process (an assertion)."""
    try:
        alsa = ctypes.CDLL("libasound.so.2")
    except OSError:
        return False  # not Linux, or a PortAudio without ALSA
    card, found = ctypes.c_int(-1), ctypes.c_void_p()
    alsa.snd_card_next(ctypes.byref(card))
    alsa.snd_config_update()
    configuration = ctypes.c_void_p.in_dll(alsa, "snd_config")
    return card.value < 0 and alsa.snd_config_search(configuration, b"pcm", ctypes.byref(found)) < 0
