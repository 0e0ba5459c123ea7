"""The player: begin, feed, finish, pause, resume, abort; play. Plays to any Stream; portaudio.py has the real one.

A run is what is fed between one `begin` and its end. Its stream is open only while it sounds: opening takes 1 to 2 ms
with a sound server, and an idle stream costs up to 8 % of a core, while a stopped one keeps a card without a sound
server from the other voices, stays on what was the default device then, and PortAudio 19.6 never returns from starting
it if its sound server has died since. Stopping drops what the device holds, so the end of a run is heard out first:
zeros follow the last sample until the device's clock has passed it. What was handed over is kept until the clock has
passed it too: after a pause or a loss the run goes on there.

Threads: the one that calls `play` makes all calls into PortAudio, which may block for half a minute with the sound
server. The others only set fields under `_state`, held for microseconds; so does PortAudio's own, in `_fill`.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import logging
import threading
import time

from kokoro_common.errors import NoAudioDevice
from kokoro_common.sound.samples import SAMPLE_RATE, to_pcm16

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Protocol

    from kokoro_common.sound.samples import Samples

    class Stream(Protocol):
        """An open output stream: one channel of int16 at SAMPLE_RATE. No call but `stop` after a failed `start`."""

        device: str  # its full name, if one was asked for

        def start(self) -> None: ...  # raises NoAudioDevice
        # Silent at once: drops what the device holds, and closes it; no callback after it returns. Returns the time, by
        # the clock of Fill, until which it surely played; -inf if unknown.
        def stop(self) -> float: ...

    class Fill(Protocol):
        def __call__(self, block: memoryview, now: float, dac: float, gap: bool = False) -> None:
            """Fills a block. `now` and the time its first frame will be heard, in seconds of one clock.

            `gap`: the device has inserted silence since the last block, because it did not get one in time.
            """

    # (fill, finished, device) -> Stream; raises NoAudioDevice. `device` is part of a name; empty: the default device.
    # `finished` is called when a started stream ends, by `stop` or by itself.
    OpenStream = Callable[[Fill, Callable[[], None], str], Stream]
    Adopt = Callable[[tuple[str, ...] | None], bool]  # of an environment; whether it was another

STALL_SECONDS = 2.0  # without a callback while playing, after which the sound server counts as hung (a busy machine: 1)
REOPEN_SECONDS = 5.0  # during which a lost device is tried again
RETRY_SECONDS = 0.25  # between two tries

DEVICE_LOST = "the audio device was lost"
DEVICE_HANGS = "the audio device hangs"
NO_DEVICE_REMEDY = "plug one in, or write a file with -o out.wav"
HANGS_REMEDY = "restart the sound server, or write a file with -o out.wav"

log = logging.getLogger("kokoro.playback")


class Player:
    """Plays mono float32 at SAMPLE_RATE as int16. Several may play in one process, each with a thread of its own.

    `lead_in`: seconds of silence before the first sample on a device that may be asleep (Bluetooth): the first time,
    after `close`, a pause or a loss, and on another device than before.
    """

    def __init__(
        self,
        open_stream: OpenStream,
        lead_in: float = 0.0,
        adopt: Callable[[tuple[str, ...] | None], bool] | None = None,
    ) -> None:
        """Opens nothing: `play` opens the device and closes it before it returns.

        `adopt` is given the environment of a run whose device cannot be opened; if it returns True that is tried again.
        """
        self._adopt = adopt
        self.busy_since: float | None = None  # time.monotonic() at which `play` called PortAudio, until that returns
        self._open_stream = open_stream
        self._lead_in = round(lead_in * SAMPLE_RATE)  # frames
        self._awake: str | None = None  # device that needs no lead-in; for the thread that plays
        self._stalled = False
        self._state = threading.Condition(threading.Lock())  # guards all below
        self._run = _Run("")
        self._run.abort()
        self._playing = False  # between the start of the stream and its stop or loss
        self._blocks = 0  # callbacks so far

    # From any thread; none of these blocks.

    def begin(self, device: str = "", environment: tuple[str, ...] | None = None) -> None:
        """Opens a new run, on the device of that name or part of it, else the default one. Aborts an unfinished run.

        Call `play` once for it; what is fed before that waits.
        """
        with self._state:
            self._run.abort()
            self._run = _Run(device, environment)
            self._state.notify_all()

    def feed(self, samples: Samples) -> None:
        """Appends float32 (frames,) to the run; ignored if that is over. Only the caller bounds how much is held."""
        pcm = memoryview(to_pcm16(samples).tobytes()).cast("h")
        with self._state:
            self._run.append(pcm)
            self._state.notify_all()

    def finish(self) -> None:
        """Marks the end of the run. Idempotent."""
        with self._state:
            self._run.ended = True
            self._state.notify_all()

    def abort(self) -> None:
        """Forgets the run, from the very next block on; `play` wakes and drops what the device holds. Idempotent."""
        with self._state:
            self._run.abort()
            self._state.notify_all()

    def pause(self) -> None:
        """Silences like `abort`, but `resume` goes on where the device's clock was. Ends with the run. Idempotent."""
        with self._state:
            self._run.paused = True
            self._state.notify_all()

    def resume(self) -> None:
        with self._state:
            self._run.paused = False
            self._state.notify_all()

    @property
    def paused(self) -> bool:
        with self._state:
            return self._run.paused and not self._run.over

    @property
    def heard(self) -> int:
        """Frames of the current run, or the last one, heard by the device's clock when it took its last block."""
        with self._state:
            return self._run.heard

    @property
    def underflows(self) -> int:
        """Gaps between the first sample and the end of the current run, or the last one.

        Nothing was fed in time, or the device got its block too late.
        """
        with self._state:
            return self._run.underflows

    # On the thread that owns the device:

    def play(self, sounding: Callable[[], None] | None = None, starting: Callable[[], None] | None = None) -> bool:
        """Blocks until all of the current run has been heard (True) or it was aborted (False).

        Calls `starting` before the first sample is handed to the device, which waits for its return, and `sounding`
        after that. Raises NoAudioDevice: there is none, or none of that name; it was lost, and for 5 s no other try
        brought it back; it stalls, then end the process without further ado (`os._exit`), for PortAudio would wait with
        the sound server, 30 s and more.
        """
        with self._state:
            run = self._run
        run.sounding, run.starting = sounding, starting
        try:
            # 1. Fail now if there is no device, not only when the model is loaded.
            if not (run.waiting or run.ended or run.aborted):
                with self._calling():
                    self._open(run).stop()
            # 2. Wait for the first samples, or for the end of a pause.
            while self._await_samples(run):
                try:
                    # 3. Open the device and play until all is heard, or an abort or a pause; close it.
                    self._sound(run)
                    run.heard_when_lost = -1
                except NoAudioDevice as error:
                    # 4. Lost: try 3 again for REOPEN_SECONDS.
                    self._survive(run, error)
        except NoAudioDevice:
            with self._state:
                run.abort()  # a stalled device that wakes up must not go on with a run that has failed
            raise
        return not run.aborted

    def close(self) -> None:
        """The device may fall asleep: the next run begins with the lead-in. (Between runs none is open.) Idempotent."""
        self._awake = None

    def _open(self, run: _Run) -> Stream:
        if self._stalled:
            raise NoAudioDevice(DEVICE_HANGS, HANGS_REMEDY)
        open_stream = functools.partial(self._open_stream, functools.partial(self._fill, run), self._finished)
        with self._calling():
            try:
                stream = open_stream(run.found or run.device)
            except NoAudioDevice:
                if self._adopt is None or not self._adopt(run.environment):
                    raise
                stream = open_stream(run.found or run.device)
            if run.found and stream.device != run.found:  # part of another one's name, too
                stream.stop()
                raise NoAudioDevice(DEVICE_LOST, NO_DEVICE_REMEDY)
        run.opened = True
        run.found = stream.device if run.device else ""
        return stream

    def _await_samples(self, run: _Run) -> bool:
        """Blocks until there is something to play (True) or nothing will come (False)."""
        with self._state:
            self._state.wait_for(lambda: run.over or (run.waiting and not run.paused))
            return not run.over

    def _sound(self, run: _Run) -> None:
        """Started with samples at hand: an earlier start would put the device's latency of silence before them."""
        lead_in = 0 if self._awake == run.device else self._lead_in
        self._awake = None
        stream = self._open(run)
        with self._state:
            run.lead_in = lead_in
            self._playing = True
        try:
            if run.starting is not None:
                starting, run.starting = run.starting, None
                starting()
            with self._calling():
                stream.start()
            if self._await(run, lambda: run.begun) and run.sounding is not None:
                sounding, run.sounding = run.sounding, None
                sounding()
            self._await(run, lambda: run.over)
        finally:
            self._stop(run, stream)
        if not run.paused:
            self._awake = run.device

    def _await(self, run: _Run, reached: Callable[[], bool]) -> bool:
        """Blocks until the playing run has got there (True), or was aborted or paused (False)."""
        idle = 0
        while idle < 2:  # twice, so that a process that was suspended gets time for its next block
            with self._state:
                blocks = self._blocks
                self._state.wait_for(
                    lambda: reached() or run.aborted or run.paused or not self._playing, STALL_SECONDS / 2
                )
                if run.aborted or run.paused:
                    return False
                if reached():
                    return True
                if not self._playing:
                    raise NoAudioDevice(DEVICE_LOST, NO_DEVICE_REMEDY)
                idle = idle + 1 if self._blocks == blocks else 0
        self._stalled = True
        raise NoAudioDevice(DEVICE_HANGS, HANGS_REMEDY)

    def _stop(self, run: _Run, stream: Stream) -> None:
        """Leaves a stalled stream alone: closing it would block."""
        with self._state:
            lost, self._playing = not self._playing, False
        if self._stalled:
            return
        with self._calling():
            now = stream.stop()
        with self._state:
            if not lost:  # else the clock has gone on without the device
                run.listen(now)
            run.rewind()

    def _survive(self, run: _Run, error: NoAudioDevice) -> None:
        """Returns when a lost device is to be tried again, the first time at once. Else raises."""
        if self._stalled or not run.opened:
            raise error
        now = time.monotonic()
        if run.heard > run.heard_when_lost:
            run.heard_when_lost, run.lost_at = run.heard, now
            log.info("audio device lost after %.3f s", run.heard / SAMPLE_RATE)
        elif now - run.lost_at > REOPEN_SECONDS:
            raise NoAudioDevice(f"{DEVICE_LOST} and did not come back", NO_DEVICE_REMEDY) from error
        else:
            with self._state:
                self._state.wait_for(lambda: run.aborted, RETRY_SECONDS)

    @contextlib.contextmanager
    def _calling(self) -> Iterator[None]:
        before, self.busy_since = self.busy_since, time.monotonic()
        try:
            yield
        finally:
            self.busy_since = before

    # On PortAudio's thread:

    def _fill(self, run: _Run, block: memoryview, now: float, dac: float, gap: bool = False) -> None:
        with self._state:
            self._blocks += 1
            begun = run.begun
            run.fill(block.cast("h"), now, dac, gap)
            if run.over or run.begun != begun:
                self._state.notify_all()

    def _finished(self) -> None:
        """Called when the stream ends. Unasked, that is the only sign of a lost device."""
        with self._state:
            self._playing = False
            self._state.notify_all()


class _Run:
    """The audio of one run on its way to the ear, in frames at SAMPLE_RATE. The player's `_state` guards it."""

    def __init__(self, device: str, environment: tuple[str, ...] | None = None) -> None:
        self.device = device  # asked for
        self.environment = environment  # of who asked
        self.heard = 0
        self.underflows = 0
        self.begun = False  # samples have been handed over
        self.ended = False  # all is fed
        self.aborted = False
        self.paused = False
        self.waiting: collections.deque[memoryview] = collections.deque()  # int16, not yet handed over
        self.lead_in = 0  # silence to be handed over before them
        # (where in the stream, int16), handed over and not yet heard
        self._handed: collections.deque[tuple[int, memoryview]] = collections.deque()
        self._written = 0  # to the stream, zeros included
        self._clock = (0, 0.0)  # where in the stream the last block begins, when that will be heard
        self._dry = False
        # Only for the thread that plays:
        self.found = ""  # full name of the device, once opened, if one was asked for
        self.opened = False
        self.sounding: Callable[[], None] | None = None
        self.starting: Callable[[], None] | None = None
        self.lost_at = 0.0  # time.monotonic()
        self.heard_when_lost = -1

    @property
    def over(self) -> bool:
        """Heard to its end, or aborted."""
        return self.aborted or (self.ended and not self.waiting and not self._handed)

    def append(self, pcm: memoryview) -> None:
        if len(pcm) and not self.ended and not self.aborted:
            self.waiting.append(pcm)

    def abort(self) -> None:
        if not self.over:
            self.aborted = True
            self.waiting.clear()

    def fill(self, block: memoryview, now: float, dac: float, gap: bool) -> None:
        """Hands over the next frames, and zeros where there are none."""
        self.underflows += gap and bool(self._handed) and not self._dry  # in the midst of speech, and not counted yet
        self._clock = (self._written, dac)
        self.listen(now)
        block[:] = memoryview(bytes(block.nbytes)).cast("h")
        filled = silence = min(self.lead_in, len(block))
        self.lead_in -= silence
        while self.waiting and filled < len(block) and not self.paused:
            pcm = self.waiting.popleft()
            taken = pcm[: len(block) - filled]
            if len(taken) < len(pcm):
                self.waiting.appendleft(pcm[len(taken) :])
            block[filled : filled + len(taken)] = taken
            self._handed.append((self._written + filled, taken))
            filled += len(taken)
        self._written += len(block)
        self.begun |= filled > silence
        was_dry, self._dry = self._dry, filled < len(block) and not (self.ended or self.aborted or self.paused)
        self.underflows += self._dry and (filled > 0 or not was_dry)  # a gap begins that the ear will notice

    def listen(self, now: float) -> None:
        """Moves `heard` to where the device's clock is."""
        begin, dac = self._clock
        position = begin + (now - dac) * SAMPLE_RATE
        while self._handed and self._handed[0][0] < position:
            start, pcm = self._handed.popleft()
            heard = pcm[: round(position - start)]
            self.heard += len(heard)
            if len(heard) < len(pcm):
                self._handed.appendleft((start + len(heard), pcm[len(heard) :]))
                break

    def rewind(self) -> None:
        """After the stream was stopped: samples that were not heard will be handed over again, to another stream."""
        self.waiting.extendleft(pcm for _, pcm in reversed(self._handed))
        self._handed.clear()
        self._written = 0
        self._dry = False
