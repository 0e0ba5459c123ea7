"""The player: feed, sync, abort. The only room that knows sounddevice and PortAudio.

A run is what is fed from one start of the device to its silence; the stream lives as long. Opening one takes 1 to 2 ms
with a sound server, and it is closed between runs because an idle stream costs up to 8 % of a core, a stopped one keeps
a card without a sound server from the other voices, and PortAudio 19.6 blocks for ever when it starts a stopped stream
whose sound server has died meanwhile. Closing drops what the device holds, so the end of a run is heard out first:
zeros follow the last sample until the device's clock has passed it.

Threads: one feeds (`open`, `feed`, `wait`, `sync`, `close`); any may `abort` or read `heard`; PortAudio's own calls
`_fill`. `_control` orders what is done to the stream and is held while PortAudio works; `_state` guards the rest, is
held for microseconds, and is the only one that the callback takes. Who takes both takes `_control` first.
"""

from __future__ import annotations

import collections
import ctypes
import logging
import threading

from kokoro_common.audio import SAMPLE_RATE, Resampler, to_pcm16
from kokoro_common.errors import NoAudioDevice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from kokoro_common.audio import Samples

    class Stream(Protocol):
        """An open output stream of one channel of int16."""

        sample_rate: int  # Hz; the rate asked for, or the device's own where it refuses that

        def start(self) -> None: ...  # raises NoAudioDevice
        def close(self) -> None: ...  # silent at once, dropping what the device holds; no callback after it returns

    # (block to fill, time now, time at which the block's first frame will be heard), in seconds of one clock
    Fill = Callable[[memoryview, float, float], None]
    # (sample rate, fill, finished, device) -> Stream; raises NoAudioDevice. `finished` is called when a started stream
    # ends, by `close` or by itself.
    OpenStream = Callable[[int, Fill, Callable[[], None], str], Stream]

LATENCY = 0.1  # seconds; at "low" and "high" a busy machine had underruns, at 0.1 none; abort is not slower for it
STALL_SECONDS = 1.0  # without a callback while playing: the sound server hangs

_FRAME_BYTES = 2
_LOST = "the audio device was lost"
_STALLED = "the audio device hangs"
_REMEDY = "plug one in, or write a file with -o out.wav"

log = logging.getLogger("kokoro.playback")


class Player:
    """Plays mono float32 at SAMPLE_RATE as int16. `device` is part of a device's name; empty: the default device.

    PortAudio is one per process, and so must the player be.
    """

    def __init__(self, device: str = "", open_stream: OpenStream | None = None) -> None:
        self.underflows = 0  # times the callback had nothing to play within a run, since the player was made
        self._device = device
        self._open_stream = open_stream or _PortAudioStream
        self._control = threading.Lock()
        self._stream: Stream | None = None
        self._state = threading.Condition(threading.Lock())
        self._run = _Run(SAMPLE_RATE)
        self._run.ended = True
        self._running = False  # between the start of the stream and its close or loss
        self._failure = ""
        self._blocks = 0  # callbacks so far

    def open(self) -> None:
        """Opens the device for the next run, which else its first `feed` does. Raises NoAudioDevice.

        From then on other processes may be kept from it: for whoever is about to speak. 2 ms with a sound server, more
        without; 30 s and more if that hangs.
        """
        with self._control:
            self._ensure_open()

    def feed(self, samples: Samples) -> None:
        """Appends float32 (frames,) to the run; the first of a run begins it.

        Does not wait for the ear: what is held is bounded by the caller only. An abort that comes meanwhile drops it.
        Raises NoAudioDevice, after a loss again and again until `sync` or `abort` has ended the run.
        """
        with self._control:
            run = self._run
            if run.over:
                self._begin(samples)
                return
        pcm = run.convert(samples)
        with self._state:
            self._raise_failure()
            run.append(pcm, len(samples))

    def wait(self, frames: int) -> bool:
        """Blocks until so many frames of the run, or all so far, have been heard: keeps a window. Else as `sync`."""
        run = self._run
        return self._await(run, min(run.device_frames(frames), run.fed))

    def sync(self) -> bool:
        """Marks the end of the run, blocks until all of it has been heard, closes the stream. False: it was aborted.

        Raises NoAudioDevice when the device is lost, or stalls: then end the process without further ado (`os._exit`),
        for PortAudio would wait with the sound server, 30 s and more. True at once if nothing was fed.
        """
        run = self._run
        if not run.over:
            rest = run.flush()
            with self._state:
                run.append(rest, 0)
                run.ended = True
        try:
            return self._await(run, run.fed)
        finally:
            with self._control:
                if self._run is run:
                    self._close_stream()

    def abort(self) -> None:
        """Silences the device now (1 ms) and forgets what was fed; the next `feed` begins a new run. Idempotent.

        Whoever decides between `abort` and a `feed` of the same utterance has to keep them in order.
        """
        with self._control:
            with self._state:
                self._run.abort()
                self._state.notify_all()
            self._close_stream()

    @property
    def heard(self) -> int:
        """Frames at SAMPLE_RATE of the current run, or the last one, that have been heard by the device's clock."""
        with self._state:
            return self._run.heard_samples()

    def close(self) -> None:
        """Aborts, and closes what `open` has opened. Idempotent; a closed player opens again when it is fed."""
        self.abort()

    # With _control held:

    def _ensure_open(self) -> None:
        if self._failure == _STALLED:
            self._raise_failure()
        if self._stream is None:
            self._stream = self._open_stream(SAMPLE_RATE, self._fill, self._finished, self._device)
            self._failure = ""
            log.debug("audio device open, %d Hz", self._stream.sample_rate)

    def _begin(self, samples: Samples) -> None:
        """Starts the stream with samples at hand: an earlier start would put LATENCY of silence before them."""
        self._ensure_open()
        assert self._stream is not None
        run = _Run(self._stream.sample_rate)
        run.append(run.convert(samples), len(samples))
        with self._state:
            self._run, self._running = run, True
        try:
            self._stream.start()
        except NoAudioDevice:
            run.abort()
            self._close_stream()
            raise

    def _close_stream(self) -> None:
        """Leaves a stalled one alone: closing it would block."""
        with self._state:
            self._running = False
        if self._stream is not None and self._failure != _STALLED:
            self._stream.close()
            self._stream = None

    # With _state held, or taking it:

    def _await(self, run: _Run, target: int) -> bool:
        """Blocks until `target` device frames of the run have been heard (True), or until it is aborted (False)."""
        with self._state:
            run.awaited = target
            blocks, idle = self._blocks, 0
            while run.heard < target and not run.aborted:
                self._raise_failure()
                if self._state.wait(STALL_SECONDS / 2):
                    continue
                # Twice, so that a process that was suspended gets time for its next block.
                idle = idle + 1 if self._blocks == blocks else 0
                blocks = self._blocks
                if idle == 2:
                    self._failure = _STALLED
                    run.abort()  # should the device wake up, it must not go on with what has failed
                    self._raise_failure()
            return not run.aborted

    def _raise_failure(self) -> None:
        if self._failure:
            raise NoAudioDevice(self._failure, _REMEDY)

    def _fill(self, block: memoryview, now: float, dac: float) -> None:
        """PortAudio's thread."""
        with self._state:
            self._blocks += 1
            run = self._run
            run.listen(now, dac)
            self.underflows += run.fill(block)
            if run.heard >= run.awaited:
                self._state.notify_all()

    def _finished(self) -> None:
        """PortAudio's thread, or the one that closes. A stream that ends unasked has lost its device: the only sign."""
        with self._state:
            if self._running:
                self._running = False
                self._failure = _LOST
                self._state.notify_all()


class _Run:
    """The audio of one run, on its way from `feed` to the ear. Frames are the device's unless said otherwise."""

    def __init__(self, sample_rate: int) -> None:
        self.fed = 0
        self.heard = 0
        self.awaited = 0  # `heard` that somebody waits for
        self.ended = False  # all is fed
        self.aborted = False
        self._sample_rate = sample_rate
        self._resampler = None if sample_rate == SAMPLE_RATE else Resampler(SAMPLE_RATE, sample_rate)
        self._samples = 0  # fed, at SAMPLE_RATE
        self._waiting: collections.deque[memoryview] = collections.deque()  # int16, not yet handed to the device
        self._handed = 0
        self._written = 0  # handed, and the zeros among and after that
        self._marks: collections.deque[tuple[int, int]] = collections.deque()  # (written, handed) after unheard blocks
        self._dry = False

    @property
    def over(self) -> bool:
        return self.ended or self.aborted

    def convert(self, samples: Samples) -> memoryview:
        """float32 (frames,) at SAMPLE_RATE to what `append` takes. For the feeding thread, without a lock."""
        if self._resampler is not None:
            samples = self._resampler.feed(samples)
        return memoryview(to_pcm16(samples).tobytes())

    def flush(self) -> memoryview:
        """What the resampler still holds, for `append`."""
        return memoryview(to_pcm16(self._resampler.flush()).tobytes() if self._resampler is not None else b"")

    def append(self, pcm: memoryview, samples: int) -> None:
        """`samples`: how many frames at SAMPLE_RATE it stands for."""
        self._waiting.append(pcm)
        self.fed += len(pcm) // _FRAME_BYTES
        self._samples += samples

    def abort(self) -> None:
        self._waiting.clear()
        self.aborted = True

    def fill(self, block: memoryview) -> bool:
        """Hands over the next frames, then zeros. True: a gap has begun that the ear will notice."""
        filled = 0
        while self._waiting and filled < len(block):
            pcm = self._waiting.popleft()
            taken = min(len(pcm), len(block) - filled)
            block[filled : filled + taken] = pcm[:taken]
            filled += taken
            if taken < len(pcm):
                self._waiting.appendleft(pcm[taken:])
        if filled < len(block):
            block[filled:] = bytes(len(block) - filled)
        if filled:
            self._handed += filled // _FRAME_BYTES
            self._marks.append((self._written + filled // _FRAME_BYTES, self._handed))
        self._written += len(block) // _FRAME_BYTES
        was_dry, self._dry = self._dry, filled < len(block) and self._handed > 0 and not self.over
        return self._dry and (filled > 0 or not was_dry)

    def listen(self, now: float, dac: float) -> None:
        """Before each `fill`: the clock says where the ear is in what has been written so far."""
        position = self._written - max(dac - now, 0.0) * self._sample_rate
        while self._marks and self._marks[0][0] <= position:
            self.heard = self._marks.popleft()[1]

    def device_frames(self, samples: int) -> int:
        return -(-samples * self._sample_rate // SAMPLE_RATE)  # rounded up

    def heard_samples(self) -> int:
        """Frames at SAMPLE_RATE."""
        if self.ended and self.heard == self.fed:  # exact at the end, whatever the resampler's rounding
            return self._samples
        return min(self.heard * SAMPLE_RATE // self._sample_rate, self._samples)


class _PortAudioStream:
    """A sounddevice.RawOutputStream in callback mode: closing one beside a blocking write() crashes the process."""

    def __init__(self, sample_rate: int, fill: Fill, finished: Callable[[], None], device: str) -> None:
        if _alsa_is_empty():
            raise NoAudioDevice("no audio device (ALSA knows none)", _REMEDY)
        try:
            import sounddevice
        except OSError as error:  # its wheels for Linux bring no PortAudio
            raise NoAudioDevice(f"PortAudio is missing ({error})", "install libportaudio2") from error

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
        self._stream = _opened(sounddevice, opened, sample_rate, device)
        self.sample_rate = int(self._stream.samplerate)

    def start(self) -> None:
        try:
            self._stream.start()
        except self._error as error:
            raise NoAudioDevice(f"{_LOST} ({error})", _REMEDY) from error

    def close(self) -> None:
        self._stream.abort()
        self._stream.close()


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
        # PortAudio lists the devices once, when it is initialized (60 to 160 ms).
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
