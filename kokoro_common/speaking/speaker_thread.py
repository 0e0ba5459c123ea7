"""A thread that may block on the sound device and on floor.lock, for as long as speech lasts.

The server's main thread says what is to be spoken and silenced and never waits; what comes of it comes back as Records
through `report`, called on this thread. Holding the lock is possession of the speakers, across all processes.
"""

from __future__ import annotations

import os
import queue
import threading
from typing import TYPE_CHECKING

from kokoro_common.daemon.runtime_directory import RuntimeDirectory
from kokoro_common.errors import NoAudioDevice
from kokoro_common.record import Record
from kokoro_common.sound.player import Player

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray


TELL_SECONDS = 1.0  # for word to a client before its first sample; one that does not read keeps nobody silent


class FloorTaken(Record):
    """The speakers are ours: the player takes this utterance's audio from now on."""

    utterance: str


class Starting(Record):
    """Its first sample is about to be handed to the device, as soon as `told` is set."""

    utterance: str
    told: threading.Event


class Sounding(Record):
    """Its first sample has been handed to the device."""

    utterance: str


class Heard(Record):
    """All of it has been heard."""

    utterance: str


class SpeakersFailed(Record):
    utterance: str
    error: NoAudioDevice


class SpeakerThread:
    """Speaks one utterance after the other. No method blocks, but `join`. The thread is started with the first.

    `heard`, `underflows`, `paused` and `busy_since` are those of the utterance that is spoken now: it has them between
    FloorTaken and Heard.
    """

    def __init__(
        self, runtime: RuntimeDirectory, player: Player, report: Callable[[Record], None], *, needs_floor: bool
    ) -> None:
        """`report` is called on the thread, and must not block. `needs_floor`: floor.lock is taken while it speaks."""
        self._player = player
        self._runtime = runtime
        self._report = report
        self._needs_floor = needs_floor
        self._commands: queue.SimpleQueue[tuple[str, str] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waiting: set[str] = set()  # utterances that were asked for and not silenced
        self._speaking = ""
        self._thread = threading.Thread(target=self._run, name="speakers", daemon=True)
        self._started = False

    def speak(self, utterance: str, device: str) -> None:
        """Reports FloorTaken, Starting, Sounding, Heard; or SpeakersFailed; or nothing more once it was silenced."""
        with self._lock:
            self._waiting.add(utterance)
        self._commands.put((utterance, device))
        if not self._started:
            self._started = True
            self._thread.start()

    def silence(self, utterance: str) -> None:
        """At once, wherever it stands."""
        with self._lock:
            self._waiting.discard(utterance)
            if self._speaking == utterance:
                self._player.abort()

    def feed(self, samples: NDArray[np.float32]) -> None:
        self._player.feed(samples)

    def finish(self) -> None:
        """All of the utterance that is spoken now has been fed. Idempotent."""
        self._player.finish()

    def pause(self) -> None:
        self._player.pause()

    def resume(self) -> None:
        self._player.resume()

    @property
    def heard(self) -> int:
        """Frames."""
        return self._player.heard

    @property
    def underflows(self) -> int:
        return self._player.underflows

    @property
    def paused(self) -> bool:
        return self._player.paused

    @property
    def busy_since(self) -> float | None:
        """time.monotonic() since when the thread has been in one call of PortAudio; None: it is not in one."""
        return self._player.busy_since

    def close(self) -> None:
        """Silences, and ends the thread when the device lets it."""
        with self._lock:
            self._waiting.clear()
            self._player.abort()
        self._commands.put(None)

    def join(self, seconds: float) -> None:
        if self._started:
            self._thread.join(seconds)

    def _run(self) -> None:
        while (command := self._commands.get()) is not None:
            utterance, device = command
            lock = self._runtime.lock("floor.lock", wait=True) if self._needs_floor else None
            try:
                self._speak(utterance, device)
            except NoAudioDevice as error:
                self._report(SpeakersFailed(utterance=utterance, error=error))
            finally:
                if lock is not None:
                    os.close(lock)

    def _speak(self, utterance: str, device: str) -> None:
        with self._lock:
            if utterance not in self._waiting:
                return
            self._waiting.discard(utterance)
            self._speaking = utterance
            self._player.begin(device)
        self._report(FloorTaken(utterance=utterance))

        def starting() -> None:
            told = threading.Event()
            self._report(Starting(utterance=utterance, told=told))
            told.wait(TELL_SECONDS)

        try:
            if self._player.play(lambda: self._report(Sounding(utterance=utterance)), starting):
                self._report(Heard(utterance=utterance))
        finally:
            with self._lock:
                self._speaking = ""
