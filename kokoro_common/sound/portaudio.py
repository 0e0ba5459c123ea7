"""PortAudio by way of sounddevice, which no other module imports: the stream for a Player, and the list of devices.

sounddevice is imported at the first use. Calls may block for half a minute with the sound server.
"""

from __future__ import annotations

import ctypes
import logging
import threading

from kokoro_common.errors import NoAudioDevice
from kokoro_common.sound.player import DEVICE_LOST, NO_DEVICE_REMEDY
from kokoro_common.sound.samples import SAMPLE_RATE, Resampler, to_pcm16

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from kokoro_common.sound.player import Fill

LATENCY = 0.1  # seconds; at "low" and "high" a busy machine had underruns, at 0.1 none; abort is not slower for it

log = logging.getLogger("kokoro.playback")


def devices() -> list[str]:
    """Names of the output devices, the default one first and marked. Blocks as Player.play. Raises NoAudioDevice."""
    sounddevice = _import_sounddevice()
    with PortAudioStream.lock:
        PortAudioStream.refresh(sounddevice)
        try:
            default = sounddevice.query_devices(kind="output")["name"]
        except sounddevice.PortAudioError as error:
            raise NoAudioDevice(f"no audio device ({error})", NO_DEVICE_REMEDY) from error
        return [f"{default} (default)", *(name for name in _names(sounddevice) if name != default)]


class PortAudioStream:
    """A sounddevice.RawOutputStream in callback mode: closing one beside a blocking write() crashes the process."""

    lock = threading.Lock()  # opening, closing and listing the devices are not safe for threads; guards the two below
    count = 0  # open streams: PortAudio cannot be initialized again beneath them
    stale = False  # a device was lost since the devices were listed

    def __init__(self, fill: Fill, finished: Callable[[], None], device: str) -> None:
        sounddevice = _import_sounddevice()
        self._fill = fill
        self._finished = finished
        self._stopping = False
        self._error = sounddevice.PortAudioError
        with self.lock:
            self._stream = self._opened(sounddevice, device)
            PortAudioStream.count += 1
            self.device = _full_name(sounddevice, self._stream.device) if device else ""
        rate = round(self._stream.samplerate)
        if rate != SAMPLE_RATE:
            self._fill = ResampledFill(fill, rate)
        log.debug("audio device open, %d Hz", rate)

    def start(self) -> None:
        try:
            self._stream.start()
        except self._error as error:
            PortAudioStream.stale = True
            raise NoAudioDevice(f"{DEVICE_LOST} ({error})", NO_DEVICE_REMEDY) from error

    def stop(self) -> float:
        self._stopping = True
        try:
            now: float = self._stream.time
        except self._error:
            now = float("-inf")
        self._stream.abort()
        with self.lock:
            self._stream.close()
            PortAudioStream.count -= 1
        return now

    def _callback(self, block: Any, frames: int, times: Any, status: Any) -> None:
        self._fill(memoryview(block), times.currentTime, times.outputBufferDacTime, status.output_underflow)

    def _end(self) -> None:
        if not self._stopping:
            PortAudioStream.stale = True
        self._finished()

    def _opened(self, sounddevice: Any, device: str) -> Any:
        """A stream at SAMPLE_RATE or, where the device refuses that, at its own rate."""

        def attempt(rate: int | None = SAMPLE_RATE) -> Any:
            try:
                return sounddevice.RawOutputStream(
                    samplerate=rate,
                    device=device or None,
                    channels=1,
                    dtype="int16",
                    latency=LATENCY,
                    callback=self._callback,
                    finished_callback=self._end,
                )
            except sounddevice.PortAudioError:
                if rate is None:
                    raise
                return attempt(None)

        try:
            if not self.stale:
                return attempt()
        except (sounddevice.PortAudioError, ValueError):
            log.debug("no audio device so far; looking for new ones")
        try:
            self.refresh(sounddevice)
            return attempt()
        except sounddevice.PortAudioError as error:
            raise NoAudioDevice(f"no audio device ({error})", NO_DEVICE_REMEDY) from error
        except ValueError as error:  # none, or several, of that name
            names = _names(sounddevice)
            remedy = f"choose from: {', '.join(names)}" if names else NO_DEVICE_REMEDY
            raise NoAudioDevice(f"{device!r} does not name one audio device", remedy) from error

    @classmethod
    def refresh(cls, sounddevice: Any) -> None:
        """Unless a stream is open: PortAudio lists the devices once, when it is initialized (5 to 160 ms)."""
        if cls.count:
            return
        if sounddevice._initialized:
            sounddevice._terminate()
        sounddevice._initialize()
        cls.stale = False


class ResampledFill:
    """Adapts a Fill at SAMPLE_RATE to a device with another rate."""

    def __init__(self, fill: Fill, rate: int) -> None:
        self._fill = fill
        self._rate = rate
        self._resampler = Resampler(SAMPLE_RATE, rate)
        self._ready = bytearray()  # int16 at `rate`
        self._taken = 0  # frames, from `fill`
        self._given = 0  # frames, at `rate`

    def __call__(self, block: memoryview, now: float, dac: float, gap: bool = False) -> None:
        import numpy as np

        while len(self._ready) < len(block):
            source = bytearray(480)  # 10 ms of int16
            # However late it leaves the filter, input frame n is heard at n / SAMPLE_RATE.
            ahead = self._taken / SAMPLE_RATE - self._given / self._rate
            self._fill(memoryview(source), now, dac + ahead, gap)
            gap = False
            self._taken += len(source) // 2
            samples = np.frombuffer(source, np.int16).astype(np.float32) / np.float32(32_767)
            self._ready += to_pcm16(self._resampler.feed(samples)).tobytes()
        block[:] = self._ready[: len(block)]
        del self._ready[: len(block)]
        self._given += len(block) // 2


def _import_sounddevice() -> Any:
    if _alsa_is_empty():
        raise NoAudioDevice("no audio device (ALSA knows none)", NO_DEVICE_REMEDY)
    try:
        import sounddevice
    except OSError as error:  # its wheels for Linux bring no PortAudio
        raise NoAudioDevice(f"PortAudio is missing ({error})", "install libportaudio2") from error
    return sounddevice


def _names(sounddevice: Any) -> list[str]:
    return list(dict.fromkeys(each["name"] for each in sounddevice.query_devices() if each["max_output_channels"]))


def _full_name(sounddevice: Any, device: int) -> str:
    """The name that means exactly this device to sounddevice, even if it is part of another device's name."""
    info = sounddevice.query_devices(device)
    return f"{info['name']}, {sounddevice.query_hostapis(info['hostapi'])['name']}"


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
