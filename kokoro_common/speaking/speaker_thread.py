"""A thread that may block on the sound device and on floor.lock, for as long as speech lasts.

The server's main thread says what is to be spoken and silenced and never waits; what comes of it comes back as Records
through `report`, called on the mouth's thread. Holding the lock is possession of the speakers, across all processes.
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


class MouthFailed(Record):
    utterance: str
    error: NoAudioDevice


class Mouth:
    """Speaks one utterance after the other. The verbs never block; `player` may be fed between FloorTaken and Heard."""

    def __init__(self, runtime: RuntimeDirectory, player: Player, report: Callable[[Record], None]) -> None:
        self.player = player
        self._runtime = runtime
        self._report = report
        self._commands: queue.SimpleQueue[tuple[str, str, bool] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waiting: set[str] = set()  # utterances that were asked for and not silenced
        self._speaking = ""
        self._thread = threading.Thread(target=self._run, name="mouth", daemon=True)
        self._thread.start()

    def speak(self, utterance: str, device: str, *, floor: bool) -> None:
        """Reports FloorTaken, Starting, Sounding, Heard; or MouthFailed; or nothing more once it was silenced."""
        with self._lock:
            self._waiting.add(utterance)
        self._commands.put((utterance, device, floor))

    def silence(self, utterance: str) -> None:
        """At once, wherever it stands."""
        with self._lock:
            self._waiting.discard(utterance)
            if self._speaking == utterance:
                self.player.abort()

    def close(self) -> None:
        """Silences, and ends the thread when the device lets it."""
        with self._lock:
            self._waiting.clear()
            self.player.abort()
        self._commands.put(None)

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)

    def _run(self) -> None:
        while (command := self._commands.get()) is not None:
            utterance, device, needs_floor = command
            lock = self._runtime.lock("floor.lock", wait=True) if needs_floor else None
            try:
                self._speak(utterance, device)
            except NoAudioDevice as error:
                self._report(MouthFailed(utterance=utterance, error=error))
            finally:
                if lock is not None:
                    os.close(lock)

    def _speak(self, utterance: str, device: str) -> None:
        with self._lock:
            if utterance not in self._waiting:
                return
            self._waiting.discard(utterance)
            self._speaking = utterance
            self.player.begin(device)
        self._report(FloorTaken(utterance=utterance))

        def starting() -> None:
            told = threading.Event()
            self._report(Starting(utterance=utterance, told=told))
            told.wait(TELL_SECONDS)

        try:
            if self.player.play(lambda: self._report(Sounding(utterance=utterance)), starting):
                self._report(Heard(utterance=utterance))
        finally:
            with self._lock:
                self._speaking = ""
