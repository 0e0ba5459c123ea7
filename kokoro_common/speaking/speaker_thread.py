"""A thread that may block on the sound device and on floor.lock, for as long as speech lasts.

The server's main thread says what is to be spoken and silenced and never waits; what comes of it comes back as Records
through `report`, called on this thread. Holding the lock is possession of the speakers, across all processes. Its
holder writes its name into it, so that whoever waits for it can see whether the holder hangs, and end it then: a model
server that was started since may know nothing of that one.
"""

from __future__ import annotations

import logging
import os
import queue
import re
import threading
from typing import TYPE_CHECKING

from kokoro_common.daemon import starter
from kokoro_common.daemon.awaited_lock import AwaitedLock
from kokoro_common.daemon.runtime_directory import RuntimeDirectory
from kokoro_common.errors import KokoroError, ServersUnreachable
from kokoro_common.record import Record
from kokoro_common.sound.player import Player

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray


FLOOR = "floor.lock"
HOLDER_SECONDS = 2.0  # of waiting for floor.lock, until its holder is looked at, and between two looks
TELL_SECONDS = 1.0  # for word to a client before its first sample; one that does not read keeps nobody silent

log = logging.getLogger("kokoro")


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
    error: Exception


class SpeakerThread:
    """Speaks one utterance after the other. No method blocks, but `join`. The thread is started with the first.

    `heard`, `underflows`, `paused` and `busy_since` are those of the utterance that is spoken now: it has them between
    FloorTaken and Heard.
    """

    def __init__(
        self, runtime: RuntimeDirectory, player: Player, report: Callable[[Record], None], *, floor_for: str
    ) -> None:
        """`report` is called on the thread, and must not block. `floor_for`: the name of the server that takes
        floor.lock while it speaks; empty: it speaks without."""
        self._player = player
        self._runtime = runtime
        self._report = report
        self._floor_for = floor_for
        self._floor: int | None = None  # descriptor that holds floor.lock
        self._commands: queue.SimpleQueue[tuple[str, str, tuple[str, ...] | None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waiting: set[str] = set()  # utterances that were asked for and not silenced
        self._speaking = ""
        self._thread = threading.Thread(target=self._run, name="speakers", daemon=True)
        self._started = False

    def speak(self, utterance: str, device: str, environment: tuple[str, ...] | None = None) -> None:
        """Reports FloorTaken, Starting, Sounding, Heard; or SpeakersFailed; or nothing more once it was silenced.

        `environment`: as in Route.
        """
        with self._lock:
            self._waiting.add(utterance)
        self._commands.put((utterance, device, environment))
        if not self._started:
            self._thread.start()  # RuntimeError: the next utterance tries again
            self._started = True

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

    def let_go(self) -> None:
        """Gives the floor back while a call of the device does not return. What is spoken is over: silence it first."""
        self._put_down_floor()

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
            utterance, device, environment = command
            try:
                if self._floor_for:
                    self._take_floor()
                self._speak(utterance, device, environment)
            except KokoroError as error:  # no device; or floor.lock cannot be opened, for want of descriptors
                self._report(SpeakersFailed(utterance=utterance, error=error))
            except Exception as error:  # of one utterance: without the thread every later one would wait for ever
                log.exception("the speakers failed", extra={"utterance": utterance})
                self._report(SpeakersFailed(utterance=utterance, error=error))
            finally:
                self._put_down_floor()

    def _take_floor(self) -> None:
        """Blocks until floor.lock is ours. A server that hangs with it is ended. Raises ServersUnreachable."""
        lock = self._awaited_floor()
        with self._lock:
            self._floor = lock
        try:
            self._runtime.overwrite(lock, self._floor_for.encode())
        except ServersUnreachable as error:
            log.warning("the floor is ours without our name", extra={"reason": str(error)})

    def _awaited_floor(self) -> int:
        """Looks at its holder from time to time."""
        look: threading.Thread | None = None
        with AwaitedLock(self._runtime, FLOOR) as floor:
            while (lock := floor.within(HOLDER_SECONDS)) is None:
                if look is None or not look.is_alive():
                    look = threading.Thread(target=self._look_at_holder, name="end-holder", daemon=True)
                    try:
                        look.start()
                    except RuntimeError as error:  # the next time, perhaps
                        log.warning("the holder of the floor goes on", extra={"reason": str(error)})
            return lock

    def _look_at_holder(self) -> None:
        """Ends it if it neither answers nor works. Blocks for seconds."""
        name = (self._runtime.read(FLOOR) or b"").decode("ascii", "replace").strip()
        if not re.fullmatch("voice-[a-z]{2}_[a-z0-9]{1,32}", name) or name == self._floor_for:
            return  # it has not written its name yet, or could not
        try:
            starter.end_hung(self._runtime, name)
        except (KokoroError, OSError) as error:
            log.warning("the holder of the floor goes on", extra={"holder": name, "reason": str(error)})

    def _put_down_floor(self) -> None:
        """Idempotent: closed once, for the number may be another file's descriptor by then."""
        with self._lock:
            lock, self._floor = self._floor, None
        if lock is not None:
            os.close(lock)

    def _speak(self, utterance: str, device: str, environment: tuple[str, ...] | None) -> None:
        with self._lock:
            if utterance not in self._waiting:
                return
            self._waiting.discard(utterance)
            self._speaking = utterance
            self._player.begin(device, environment)
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
