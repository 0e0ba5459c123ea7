"""The thread of a voice server that may block on the sound device and on floor.lock, for as long as speech lasts.

Commands go in; what came of them comes out as Records through `report`, called on this thread.
"""

from __future__ import annotations

import os
import queue
import threading
from typing import TYPE_CHECKING

from kokoro_common.errors import KokoroError
from kokoro_common.paths import RuntimeDirectory
from kokoro_common.playback import Player
from kokoro_common.record import Record

if TYPE_CHECKING:
    from collections.abc import Callable


class FloorTaken(Record):
    """The device is open and the floor is ours."""

    utterance: str


class Heard(Record):
    """Everything fed has been heard, or was aborted."""

    utterance: str


class MouthFailed(Record):
    utterance: str
    error: KokoroError


class Mouth:
    """Owns the player's opening and closing and the floor's lock. The verbs never block."""

    def __init__(self, runtime: RuntimeDirectory, make_player: Callable[[], Player], report: Callable[[Record], None]):
        self._runtime = runtime
        self._make_player = make_player
        self._report = report
        self._commands: queue.SimpleQueue[tuple[Callable[[str], None], str] | None] = queue.SimpleQueue()
        self._floor_lock: int | None = None
        self.player: Player | None = None  # made here; others may feed and abort it once FloorTaken was reported
        self._thread = threading.Thread(target=self._run, name="mouth", daemon=True)
        self._thread.start()

    def take_floor(self, utterance: str) -> None:
        """Reports FloorTaken or MouthFailed."""
        self._commands.put((self._take_floor, utterance))

    def sync(self, utterance: str) -> None:
        """Reports Heard or MouthFailed."""
        self._commands.put((self._sync, utterance))

    def release_floor(self) -> None:
        self._commands.put((self._release_floor, ""))

    def rest(self) -> None:
        """Closes the device."""
        self._commands.put((self._rest, ""))

    def close(self) -> None:
        """Silences the device, closes it and ends the thread. Blocks shortly; a hung device does not hold us."""
        if self.player is not None:
            self.player.abort()
        self.release_floor()
        self.rest()
        self._commands.put(None)
        self._thread.join(1.0)

    def _run(self) -> None:
        while (command := self._commands.get()) is not None:
            action, utterance = command
            try:
                action(utterance)
            except KokoroError as error:
                self._report(MouthFailed(utterance=utterance, error=error))

    def _take_floor(self, utterance: str) -> None:
        self._floor_lock = self._runtime.lock("floor.lock", wait=True)
        if self.player is None:
            self.player = self._make_player()
        self.player.open()
        self._report(FloorTaken(utterance=utterance))

    def _sync(self, utterance: str) -> None:
        assert self.player is not None
        self.player.sync()
        self._report(Heard(utterance=utterance))

    def _release_floor(self, _: str) -> None:
        if self._floor_lock is not None:
            os.close(self._floor_lock)
            self._floor_lock = None

    def _rest(self, _: str) -> None:
        if self.player is not None:
            self.player.close()
