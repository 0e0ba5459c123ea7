"""One utterance's course in its voice server: admission, engine, floor, audio, and exactly one last message.

A state machine without I/O: messages, events and ticks go in, with the time; what it does to others goes out through
the ports below. One thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kokoro_common.errors import KokoroError, NoAudioDevice
from kokoro_common.sound.samples import SAMPLE_RATE
from kokoro_common.speaking.in_flight import BYTES_PER_FRAME, Backlog
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
HUNGRY_FRAMES = SAMPLE_RATE  # so little audio ahead of the ear that a half sentence is better than none
MIN_FOLLOW_SECONDS = 0.02  # least interval between two Progress messages to a client that follows the words


class Turn:
    """From Speak to the last message. Raises nothing but what a message's own fault is: see VoiceServer._dispatch."""

    def __init__(
        self,
        utterance: Utterance,
        client: Client,
        speakers: Speakers | None,
        model: Model,
        waits: Waits,
        backlog: Backlog,
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
        self._model = model
        self._waits = waits
        self._backlog = backlog
        self._ended = ended
        self._fed = False
        self._progress: Progress | None = None  # told last
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
        return self.speakers.heard if self.floor == "held" else 0

    @property
    def speaking(self) -> bool:
        """Whether the speakers are its own now."""
        return self.floor == "held"

    @property
    def paused(self) -> bool:
        return self.speakers is not None and self.floor == "held" and self.speakers.paused

    @property
    def underflows(self) -> int:
        return self.speakers.underflows if self.speakers is not None and self.floor == "held" else 0

    def report(self, now: float) -> UtteranceReport:
        state = "writing" if self.speakers is None else "waiting" if self.floor != "held" else "speaking"
        return UtteranceReport(
            utterance=self.utterance.id,
            voice=self.utterance.voice.name,
            state="paused" if self.paused else state,
            seconds=round(self.taken / SAMPLE_RATE, 1),
            client=self.utterance.route.client,
            age_s=round(now - self.utterance.began, 3),
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

    def pause(self) -> None:
        assert self.speakers is not None
        self.speakers.pause()

    def resume(self) -> None:
        assert self.speakers is not None
        self.speakers.resume()

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
            self.tell(Notice(utterance=utterance.id, text=f"the embedded default voice speaks: {state.detail}"))
        self._pump(now)

    def model_lost(self) -> None:
        """What has been synthesized is played on."""
        try:
            self.utterance.in_flight.server_lost()
        except KokoroError as error:
            self.fail(error)

    def model_found(self, now: float) -> None:
        """Another model server is told what it must know; `resume_requests` goes on then."""
        if not self.admitted:
            self._model.post(UtteranceOpened(utterance=self.utterance.id))
        if self.utterance.engine != "espeak":
            self._model.post(ModelWanted())
        if self.floor and self.utterance.route.floor != "overlap":
            self._model.post(FloorRequest(utterance=self.utterance.id, age=now - self._floor_asked))

    def resume_requests(self, now: float) -> None:
        self._pump(now)

    def add_audio(self, message: AudioChunk, payload: bytes, now: float) -> None:
        before = self.utterance.in_flight.frames
        self.utterance.add_audio(message, payload)
        if self.speakers is None:
            self._backlog.bytes += BYTES_PER_FRAME * (self.utterance.in_flight.frames - before)
        self._pump(now)

    def explained(self, message: Explained, now: float) -> None:
        self._start(now)
        self.tell(message)

    def synthesized(self, message: Synthesized, now: float) -> None:
        if credit := self.utterance.synthesized(message, now):
            self.tell(Credit(utterance=message.utterance, bytes=credit))
        self._pump(now)

    def floor_next(self, now: float) -> None:
        self.floor = "next" if self.floor == "asked" else self.floor
        self._pump(now)

    def floor_granted(self, now: float) -> None:
        if self.floor in ("asked", "next"):  # not again, when another model server grants it too
            self._take_floor()
            self._pump(now)

    # --- from the speakers -------------------------------------------------------------------------------------------

    def floor_taken(self, now: float) -> None:
        self.floor = "held"
        self._pump(now)

    def starting(self, told: threading.Event) -> None:
        """The client knows before the ear hears: whatever becomes of us, it does not say again what was heard."""
        if self.client is None:
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
        if since is not None and now > since + HANG_SECONDS:
            self.fail(NoAudioDevice("the audio device hangs", "restart the sound server, or write a file with -o"))

    # --- the course --------------------------------------------------------------------------------------------------

    def _pump(self, now: float) -> None:
        """Moves audio and requests on as far as they can go now. Called whenever something has changed."""
        if self.over:
            return
        if self.utterance.silent:
            self._finish()
            return
        if self.speakers is None:
            self._relay(now)
        elif not self.floor and self.utterance.has_words:
            self._ask_for_floor(now)
        elif self.floor == "held":
            self._feed()
        try:
            self._request(now)
        except KokoroError as error:  # in the text, which is cut as it is needed: SSML that is none
            self.fail(error)

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
        self.speakers.speak(self.utterance.id, self.utterance.route.audio_device)

    def _request(self, now: float) -> None:
        """Asks for the next text chunks: as far as the window is open for who has the floor, or takes a file."""
        utterance = self.utterance
        waits_for_model = not utterance.engine or (utterance.engine == "kokoro" and self._model.state.state != "ready")
        waits_for_floor = self.speakers is not None and self.floor in ("", "asked")
        if self.over or not self._model.connected or waits_for_model or waits_for_floor:
            return
        ahead = utterance.frames - self.taken
        sparing = self.speakers is None and self._backlog.large
        while message := utterance.next_synthesize(ahead, now, only_first=self.floor == "next", sparing=sparing):
            self._model.post(message)
        while utterance.intake.notices:
            self.tell(Notice(utterance=utterance.id, text=utterance.intake.notices.popleft()))

    def _relay(self, now: float) -> None:
        utterance = self.utterance
        audio = utterance.in_flight.audio
        while audio and self._credit >= len(audio[0][1]):
            message, payload = audio.popleft()
            self._credit -= len(payload)
            self._backlog.bytes -= len(payload)
            if payload and utterance.speech.volume != 1.0:
                payload = (np.frombuffer(payload, np.float32) * np.float32(utterance.speech.volume)).tobytes()
            if payload:
                self._start(now)
            self.tell(message, payload)
        if utterance.complete and not audio:
            self._finish()

    def _feed(self) -> None:
        utterance, speakers = self.utterance, self.speakers
        assert speakers is not None
        if not self._fed and not utterance.cushion_is_filled():
            return
        while utterance.in_flight.audio:
            self._fed = True
            samples = np.frombuffer(utterance.in_flight.audio.popleft()[1], np.float32)
            speakers.feed(samples * np.float32(utterance.speech.volume))
        if utterance.complete:
            speakers.finish()

    def _start(self, now: float) -> None:
        if not self.started:
            self.started = True
            self.utterance.first_audio = now - self.utterance.began
            if self.speakers is None:
                self.tell(Started(utterance=self.utterance.id, engine=self.utterance.engine))

    def _finish(self) -> None:
        utterance = self.utterance
        if utterance.route.follow:
            self._tell_progress()  # the last words may be younger than the last tick
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
        if self.speakers is None:
            self._backlog.bytes -= utterance.in_flight.bytes_waiting
        elif utterance.route.floor == "overlap":
            self.speakers.close()
        else:
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
