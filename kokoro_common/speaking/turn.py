"""One utterance's course in its voice server: admission, engine, floor, audio, and exactly one last message.

A state machine without I/O: messages, events and ticks go in, with the time; what it does to others goes out through
ports.py. One thread. Over 400 lines, as its states are told best in one place.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from kokoro_common.errors import MAX_LINE, SAY, NoAudioDevice, shown
from kokoro_common.sound.player import DEVICE_HANGS, HANGS_REMEDY
from kokoro_common.sound.samples import SAMPLE_RATE
from kokoro_common.speaking.utterance import Utterance
from kokoro_common.wire.failure import failed
from kokoro_common.wire.messages import (
    Accepted,
    AudioChunk,
    Cancel,
    Cancelled,
    Credit,
    Explained,
    Failed,
    Finished,
    FloorPaused,
    FloorReleased,
    FloorRequest,
    Message,
    ModelWanted,
    Notice,
    Progress,
    Started,
    Synthesized,
    TextAccepted,
    UtteranceEnded,
    UtteranceOpened,
)
from kokoro_common.wire.reports import UtteranceReport

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from kokoro_common.speaking.ports import Client, Model, Speakers, Waits

HANG_SECONDS = 4.0  # in one call of PortAudio: the sound server will not answer any more
AWAKE_SECONDS = 0.4  # in which a call returns that has lasted so long because this process was suspended
HUNGRY_FRAMES = SAMPLE_RATE  # so little audio ahead of the ear that a half sentence is better than none
REST_SECONDS = 2.0  # with the speakers and nothing to say, until it gives them back
PAUSED_SECONDS = 2.0  # that it waits for one that is paused, until its client is told
DEFAULT_SPEAKS = f"espeak-ng speaks, for want of the model: {SAY} --download fetches it"
SPEECH_IS_PAUSED = f"speech is paused, and this waits for it: {SAY} --resume"
MIN_FOLLOW_SECONDS = 0.02  # least interval between two Progress messages to a client that follows the words


class Hang:
    """Tells whether a call of the device does not return. A process that was suspended looks so too, but not twice."""

    def __init__(self) -> None:
        self._since: float | None = None  # of the call that was too long at the last look
        self._seen = 0.0  # seconds, when it first was

    def lasts(self, since: float | None, now: float) -> bool:
        """`since`: when the call began, or None. To be called about twice a second."""
        if since is None or now <= since + HANG_SECONDS:
            self._since = None
        elif since != self._since:
            self._since, self._seen = since, now
        else:
            return now >= self._seen + AWAKE_SECONDS
        return False


class Turn:
    """From Speak to the last message. Raises nothing but what a message's own fault is: see VoiceServer.dispatch."""

    def __init__(
        self,
        utterance: Utterance,
        client: Client,
        speakers: Speakers | None,
        model: Model,
        waits: Waits,
        ended: Callable[[Turn, str, Message], None],
    ) -> None:
        """`speakers`: None if the audio goes to the client. `ended` hears the outcome, with the last message to the
        client: finished, cancelled, failed; or busy, if it was never accepted."""
        self.utterance = utterance
        self.client: Client | None = client  # None: it has left and did not want to wait
        self.speakers = speakers
        self.admitted = False  # by the model server: it is in the ledger
        self.started = False
        self.over = False
        self.floor = ""  # "", asked, next, granted (the speakers are being taken) or held (they take its audio)
        self._floor_asked = 0.0  # seconds, when it was asked for
        self._in_state = utterance.began  # seconds, since when it waits, is spoken, is paused
        self._paused_before = math.inf  # seconds, since when it waits for one that is paused; -inf: its client knows
        self._interrupts = utterance.route.floor == "interrupt"  # as it asks for the first time
        self._model = model
        self._waits = waits
        self._ended = ended
        self._fed = False
        self._paused_early = False  # before it had the speakers: it will get them, and be silent
        self._heard = self._underflowed = 0  # before it gave the floor back, if it did: frames, and times
        self._nothing_to_say_since: float | None = None  # seconds, while it has the speakers
        self._progress: Progress | None = None  # told last
        self._hang = Hang()
        self._credit = 0  # bytes of audio that the client will take

    def begin(self, now: float, interrupt: Callable[[], None]) -> None:
        """Asks to be accepted. `interrupt` cancels what else this voice server speaks, if the floor policy says so."""
        self._model.post(UtteranceOpened(utterance=self.utterance.id))
        if self.utterance.engine != "espeak":
            self._model.post(ModelWanted())
            if self._model.state.state != "ready":
                self.tell(self._model.state)
        if self.speakers is not None and self.utterance.route.floor == "interrupt":
            self._ask_for_floor(now, interrupt)
        self.model_changed(now)

    # --- what others ask about it ------------------------------------------------------------------------------------

    @property
    def taken(self) -> int:
        """Frames heard, or sent to the client."""
        if self.speakers is None:
            return self.utterance.in_flight.frames_handed_on
        return self._heard + (self.speakers.heard if self.floor == "held" else 0)

    @property
    def speaking(self) -> bool:
        """Whether the speakers are its own now."""
        return self.floor == "held"

    @property
    def paused(self) -> bool:
        """Silent until it is resumed, now or when it gets the speakers."""
        return self._paused_early or (self.speakers is not None and self.floor == "held" and self.speakers.paused)

    @property
    def underflows(self) -> int:
        now = self.speakers.underflows if self.speakers is not None and self.floor == "held" else 0
        return self._underflowed + now

    def report(self, now: float) -> UtteranceReport:
        state = "writing" if self.speakers is None else "waiting" if self.floor != "held" else "speaking"
        return UtteranceReport(
            utterance=self.utterance.id,
            voice=self.utterance.voice.name,
            state="paused" if self.paused and self.speaking else state,
            seconds=round(self.taken / SAMPLE_RATE, 1),
            client=self.utterance.route.client,
            age_s=round(now - self.utterance.began, 3),
            state_s=round(now - self._in_state, 1),
        )

    def tell(self, message: Message, payload: bytes = b"") -> None:
        if self.client is not None:
            self.client.post(message, payload)

    def offer(self, message: Message) -> bool:
        """Tells what the next message of its kind replaces, unless the client is behind. Whether it did."""
        return self.client is not None and self.client.offer(message)

    # --- from the client ---------------------------------------------------------------------------------------------

    def add_text(self, text: str, now: float) -> None:
        if credit := self.utterance.add_text(text, now):
            self.tell(Credit(utterance=self.utterance.id, bytes=credit))
        self._pump(now)

    def end_text(self, now: float) -> None:
        self.utterance.end_text()
        self.tell(TextAccepted(utterance=self.utterance.id))
        self._pump(now)

    def add_credit(self, size: int, now: float) -> None:
        self._credit += size
        self._pump(now)

    def client_gone(self) -> None:
        """Its connection has ended: so does the utterance, unless all its text is here and nobody was to wait."""
        if self.utterance.intake.ended and not self.utterance.route.wait:
            self.client = None
        else:
            self.cancel()

    def pause(self, now: float) -> None:
        assert self.speakers is not None
        self._in_state = now
        if self.floor == "held":
            self.speakers.pause()
            self._tell_paused(True)
        else:
            self._paused_early = True

    def resume(self, now: float) -> None:
        assert self.speakers is not None
        self._in_state = now
        self._paused_early = False
        if self.floor == "held":
            self.speakers.resume()
            self._tell_paused(False)

    def _tell_paused(self, paused: bool) -> None:
        """Others may wait for its floor."""
        if self.utterance.route.floor != "overlap":
            self._model.post(FloorPaused(utterance=self.utterance.id, paused=paused))

    def silence(self) -> None:
        if self.speakers is not None:
            self.speakers.silence(self.utterance.id)

    def cancel(self) -> None:
        self._end("cancelled", Cancelled(utterance=self.utterance.id))

    def fail(self, error: Exception) -> None:
        self._end("failed", failed(self.utterance.id, error, log="voice server"))

    # --- from the model server ---------------------------------------------------------------------------------------

    def admit(self) -> None:
        """The model server has room for it. Said again by another model server, it is passed over."""
        if self.admitted:
            return
        self.admitted = True
        self.tell(Accepted(utterance=self.utterance.id, text_credit=self.utterance.text_credit))

    def refuse(self, message: Failed) -> None:
        """The model server has failed it, or has no room for it."""
        self._end("busy" if message.retry_after else "failed", message)

    def model_changed(self, now: float) -> None:
        """The model's state is another: the engine is decided, once, as soon as that allows."""
        state, utterance = self._model.state, self.utterance
        wanted = utterance.speech.engine
        if utterance.engine == "espeak" or state.state == "ready":
            utterance.engine = utterance.engine or "kokoro"
        elif state.state == "failed" or (state.state == "default" and "kokoro" in (wanted, utterance.engine)):
            self._end("failed", Failed(utterance=utterance.id, code=state.exit_code, text=state.detail))
        elif state.state == "default" and not utterance.engine:
            utterance.engine = "espeak"
            if self.client is not None and self._model.has_new_reason():
                self.tell(Notice(utterance=utterance.id, text=DEFAULT_SPEAKS))
        self._pump(now)

    def model_lost(self) -> None:
        """What has been synthesized is played on. Raises ServersUnreachable when model servers die of this text."""
        self.utterance.in_flight.server_lost()

    def model_found(self, now: float) -> None:
        """Another model server is told what it must know; `resume_requests` goes on then."""
        if not self.admitted:
            self._model.post(UtteranceOpened(utterance=self.utterance.id))
        if self.utterance.engine != "espeak":
            self._model.post(ModelWanted())
        if self.floor and self.utterance.route.floor != "overlap":
            age, interrupt = now - self._floor_asked, self._interrupts and self.floor in ("asked", "next")
            self._model.post(FloorRequest(utterance=self.utterance.id, age=age, interrupt=interrupt))
            if self.paused and self.speaking:  # one that waits keeps nobody waiting
                self._tell_paused(True)

    def resume_requests(self, now: float) -> None:
        self._pump(now)

    def add_audio(self, message: AudioChunk, payload: bytes, now: float) -> None:
        self.utterance.add_audio(message, payload)
        self._pump(now)

    def explained(self, message: Explained, now: float) -> None:
        self._start(now)
        self.tell(message)

    def synthesized(self, message: Synthesized, now: float) -> None:
        self.utterance.synthesized(message, now)
        self._pump(now)

    def floor_next(self, now: float) -> None:
        self.floor = "next" if self.floor == "asked" else self.floor
        self._pump(now)

    def floor_paused(self, paused: bool, now: float) -> None:
        """Whether what has the floor, for which it waits, is paused."""
        if self._paused_before != -math.inf:
            self._paused_before = min(self._paused_before, now) if paused else math.inf

    def floor_granted(self, now: float) -> None:
        if self.floor in ("asked", "next"):  # not again, when another model server grants it too
            self._take_floor()
            self._pump(now)

    # --- from the speakers -------------------------------------------------------------------------------------------

    def floor_taken(self, now: float) -> None:
        self.floor = "held"
        self._in_state = now
        if self._paused_early:
            self._paused_early = False
            self.pause(now)
        self._pump(now)

    def starting(self, told: threading.Event) -> None:
        """The client knows before the ear hears: whatever becomes of us, it does not say again what was heard."""
        if self.client is None or self.started:
            told.set()
        else:
            started = Started(utterance=self.utterance.id, engine=self.utterance.engine)
            self.client.post(started, written=told)

    def sounding(self, now: float) -> None:
        self._start(now)

    def all_heard(self) -> None:
        self._finish()

    # --- the clock ---------------------------------------------------------------------------------------------------

    def tick(self, now: float, *, progress: bool) -> None:
        """To be called by `deadline`. `progress`: it is time for a Progress message."""
        if self.started and (progress or self.utterance.route.follow):
            self._tell_progress()
        if self.utterance.intake.skipping and (credit := self.utterance.skip_on()):
            self.tell(Credit(utterance=self.utterance.id, bytes=credit))
        self._hear_silence(now)
        self._watch_device(now)
        self._give_back_floor(now)
        if self.floor in ("asked", "next") and now >= self._paused_before + PAUSED_SECONDS:
            if self._paused_before != -math.inf:
                self.tell(Notice(utterance=self.utterance.id, text=SPEECH_IS_PAUSED))
            self._paused_before = -math.inf
        self._pump(now)

    def deadline(self, now: float) -> float:
        """When something is due though nobody says anything; infinity: nothing."""
        utterance = self.utterance
        deadlines = [float("inf")]
        if utterance.intake.skipping:
            deadlines.append(now)  # a slice, and then whatever else has come
        if self.started and utterance.route.follow and utterance.words.next_frame is not None:
            wait = (utterance.words.next_frame - self.taken) / SAMPLE_RATE
            deadlines.append(now + max(MIN_FOLLOW_SECONDS, wait))
        if self.speakers is not None and utterance.half_sentence:
            waits = (self._waits.clause, self._waits.word)
            deadlines += [due for wait in waits if (due := utterance.intake.last_text + wait) > now]
        if self._nothing_to_say_since is not None:
            deadlines.append(self._nothing_to_say_since + REST_SECONDS)
        if self.floor in ("asked", "next") and self._paused_before != -math.inf:
            deadlines.append(self._paused_before + PAUSED_SECONDS)
        return min(deadlines)

    def _tell_progress(self) -> None:
        taken = self.taken
        start, end = self.utterance.words.word_at(taken)
        news = Progress(utterance=self.utterance.id, seconds=taken / SAMPLE_RATE, word_start=start, word_end=end)
        if news != self._progress and self.offer(news):
            self._progress = news

    def _hear_silence(self, now: float) -> None:
        """A writer that has paused in a sentence: what there is of it is spoken, if else the ear would have to wait."""
        utterance = self.utterance
        hungry = self.speakers is not None and utterance.frames - self.taken < HUNGRY_FRAMES
        if hungry and utterance.half_sentence and now >= utterance.intake.last_text + self._waits.clause:
            utterance.intake.writer_paused(clauses_only=now < utterance.intake.last_text + self._waits.word)

    def _watch_device(self, now: float) -> None:
        has_device = self.speakers is not None and self.floor in ("granted", "held")
        since = self.speakers.busy_since if self.speakers is not None and has_device else None
        if self._hang.lasts(since, now):
            self.fail(NoAudioDevice(DEVICE_HANGS, HANGS_REMEDY))

    def _give_back_floor(self, now: float) -> None:
        """A pipe that rests keeps nobody waiting: the floor is asked for again with its next words."""
        if not self._has_nothing_to_say():
            self._nothing_to_say_since = None
        elif self._nothing_to_say_since is None:
            self._nothing_to_say_since = now
        elif now >= self._nothing_to_say_since + REST_SECONDS:
            assert self.speakers is not None
            self._heard, self._underflowed = self.taken, self.underflows
            self._nothing_to_say_since = None
            self._fed = self._interrupts = False
            self.floor = ""
            self._in_state = now
            self.speakers.silence(self.utterance.id)
            self._model.post(FloorReleased(utterance=self.utterance.id))

    def _has_nothing_to_say(self) -> bool:
        """Whether it has the speakers, all was heard, and more text may come."""
        utterance = self.utterance
        if self.floor != "held" or self.paused or utterance.intake.ended or utterance.route.floor == "overlap":
            return False
        waits = utterance.has_words or utterance.intake.raw or utterance.in_flight or utterance.in_flight.audio
        return not waits and self.taken >= utterance.frames

    # --- the course --------------------------------------------------------------------------------------------------

    def _pump(self, now: float) -> None:
        """Moves audio and requests on as far as they can go now. Called whenever something has changed."""
        if self.over:
            return
        if self.utterance.silent:
            self._finish()
            return
        self._move(now)
        while not self.over and self._request(now):  # pauses need no answer: their audio is here already
            self._move(now)

    def _move(self, now: float) -> None:
        """Audio to the ear or the client; and asks for the floor, if there is something to say."""
        utterance = self.utterance
        if self.speakers is None:
            self._relay(now)
        elif self.floor == "held":
            self._feed()
        elif not self.floor and utterance.has_words:
            self._ask_for_floor(now)
        elif not self.floor and utterance.complete:  # it had given the floor back
            self._finish()

    def _ask_for_floor(self, now: float, interrupt: Callable[[], None] | None = None) -> None:
        """With the first words: a pipe that has said nothing yet keeps nobody waiting. To interrupt, at once."""
        if self.utterance.route.floor == "overlap":
            self._take_floor()
            return
        self.floor = "asked"
        self._floor_asked = now
        if interrupt is not None:  # here at once; other voice servers hear it from the model server
            interrupt()
        self._model.post(FloorRequest(utterance=self.utterance.id, interrupt=interrupt is not None))

    def _take_floor(self) -> None:
        assert self.speakers is not None
        self.floor = "granted"
        route = self.utterance.route
        self.speakers.speak(self.utterance.id, route.audio_device, route.environment)

    def _request(self, now: float) -> bool:
        """Asks for the next text chunks, as far as the window is open. Whether there were pauses between them."""
        utterance = self.utterance
        waits_for_model = not utterance.engine or (utterance.engine == "kokoro" and self._model.state.state != "ready")
        waits_for_floor = self.speakers is not None and self.floor in ("", "asked")
        if not self._model.connected or waits_for_model or waits_for_floor:
            return False
        first = passed = utterance.intake.taken  # the next index
        only_first = self.floor == "next"
        while message := utterance.next_synthesize(utterance.frames - self.taken, now, only_first=only_first):
            self._model.post(message)
            passed += message.request.index >= first  # else it is asked again
        self._tell_notices()
        if credit := utterance.take_credit():
            self.tell(Credit(utterance=utterance.id, bytes=credit))
        return utterance.intake.taken > passed

    def _tell_notices(self) -> None:
        notices = self.utterance.intake.notices
        while notices:
            text = shown(notices.popleft(), MAX_LINE)  # it may quote the text
            self.tell(Notice(utterance=self.utterance.id, text=text))

    def _relay(self, now: float) -> None:
        utterance = self.utterance
        while (taken := utterance.in_flight.take(self._credit)) is not None:
            message, payload = taken
            self._credit -= len(payload)
            if payload and utterance.speech.volume != 1.0:
                payload = (np.frombuffer(payload, np.float32) * np.float32(utterance.speech.volume)).tobytes()
            if payload:
                self._start(now)
            self.tell(message, payload)
        if utterance.complete and not utterance.in_flight.audio:
            self._finish()

    def _feed(self) -> None:
        utterance, speakers = self.utterance, self.speakers
        assert speakers is not None
        if not self._fed and not utterance.cushion_is_filled(utterance.frames - self.taken):
            return
        while (taken := utterance.in_flight.take()) is not None:
            self._fed = True
            speakers.feed(np.frombuffer(taken[1], np.float32) * np.float32(utterance.speech.volume))
        if utterance.complete:
            speakers.finish()

    def _start(self, now: float) -> None:
        if not self.started:
            self.started = True
            self.utterance.handed_on = now - self.utterance.began
            if self.speakers is None:
                self.tell(Started(utterance=self.utterance.id, engine=self.utterance.engine))

    def _finish(self) -> None:
        utterance = self.utterance
        if utterance.route.follow:
            self._tell_progress()  # the last words may be younger than the last tick
        utterance.intake.sum_up()
        self._tell_notices()
        finished = Finished(
            utterance=utterance.id, seconds=utterance.seconds, timing=utterance.timing(), underflows=self.underflows
        )
        self._end("finished", finished)

    def _end(self, outcome: str, message: Message) -> None:
        """The one way out: exactly one last message, the floor freed, the ledger told."""
        if self.over:
            return
        self.over = True
        utterance = self.utterance
        self.silence()  # first of all: the ear comes before the books, and the speakers may have nothing to end them
        if outcome not in ("finished", "busy"):
            self._model.post(Cancel(utterance=utterance.id))
        utterance.in_flight.drop()
        if self.speakers is not None and utterance.route.floor == "overlap":
            self.speakers.close()
        elif self.speakers is not None:
            self._model.post(FloorReleased(utterance=utterance.id))
        if outcome != "busy":
            self._model.post(
                UtteranceEnded(
                    utterance=utterance.id,
                    outcome=outcome,
                    seconds=utterance.seconds,
                    first_audio=utterance.first_audio,
                    underflows=self.underflows,
                )
            )
        self.tell(message)
        self._ended(self, outcome, message)
