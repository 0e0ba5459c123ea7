"""One request to speak, from its text to its audio in order: text in (Intake), text chunks with the model server
(InFlight), audio out, and where the ear is (WordClock). No I/O; the time is passed in. One thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kokoro_common.errors import UsageError
from kokoro_common.sound.edges import HEARD, first_above
from kokoro_common.sound.samples import SAMPLE_RATE
from kokoro_common.speaking.in_flight import (
    AHEAD_FRAMES,
    CHUNKS_IN_FLIGHT,
    FILE_CHUNKS_IN_FLIGHT,
    SPARING_FRAMES,
    Backlog,
    InFlight,
)
from kokoro_common.speaking.intake import TOGETHER, Intake
from kokoro_common.speaking.pace import Pace, Tempo
from kokoro_common.speaking.word_clock import WordClock
from kokoro_common.text.speech import check_speech
from kokoro_common.voices.catalogue import parse_voice
from kokoro_common.wire.messages import (
    FLOORS,
    SINKS,
    TEXT_CREDIT,
    AudioChunk,
    Route,
    Speak,
    Synthesize,
    Synthesized,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kokoro_common.text.chunker import TextChunk


TOGETHER_NEAR = 150  # characters that are spoken together while there is little audio ahead of the ear
FAR_AHEAD_FRAMES = 10 * SAMPLE_RATE


class Utterance:
    """Raises a KokoroError for a Speak whose fields make no sense, later ones for what is wrong with its text."""

    def __init__(
        self,
        speak: Speak,
        pace: Pace,
        now: float,
        text_credit: int = TEXT_CREDIT,
        own_voices: Mapping[str, str] | None = None,
        backlog: Backlog | None = None,
    ) -> None:
        """`text_credit`: UTF-8 bytes of text that may wait here. `own_voices`: the user's, see voices.user_voices.

        `backlog`: where the audio is counted that waits for clients.
        """
        self.id = speak.utterance
        self.speech, self.route = speak.speech, speak.route
        check_speech(self.speech)
        _check_route(self.route)
        self.voice = parse_voice(self.speech.voice, own_voices)
        self.engine = "" if self.speech.engine == "auto" else self.speech.engine
        self.text_credit = text_credit
        self.began = now
        self.handed_on = 0.0  # seconds from `began` to the first audio that was handed on; 0 until then
        self._lead: int | None = None  # frames of all its audio before the first one that is heard; None: not yet known
        self.intake = Intake(
            self.speech,
            self.voice,
            own_voices,
            credit=text_credit,
            leave_out=self.route.first_chunk,
            together=self.route.together,
        )
        self.intake.last_text = now
        to_client = self.route.sink == "client"
        self._backlog = backlog if backlog is not None and to_client else Backlog()
        self.in_flight = InFlight(self.id, self._backlog, tells_words=self.route.words and to_client)
        self.words = WordClock()
        self._pace = pace
        self._tempo = Tempo(pace, self.speech.speed)
        self._first_times: Synthesized | None = None  # the first text chunk's, for --timing
        self._engine_seconds = 0.0
        self._asked_at = self._answered_at = 0.0  # seconds; the first request and the last answer
        self._credit_due = 0  # bytes of text that is done, and for which the client has not got credit again

    # --- text in -----------------------------------------------------------------------------------------------------

    def add_text(self, text: str, now: float) -> int:
        """Returns the credit to give back at once. Raises ProtocolError for more text than there was credit for."""
        self.intake.add(text, now)
        if self.intake.waiting or self.in_flight or self.intake.raw:
            return 0
        return self.intake.credit_for()  # blanks, or the beginning of a sentence: nothing will be answered

    def end_text(self) -> None:
        self.intake.end()

    def skip_on(self) -> int:
        """Passes over more of the text that is left out. Returns UTF-8 bytes of credit for the client."""
        return self.intake.credit_for() if self.intake.skip_on() else 0

    @property
    def half_sentence(self) -> bool:
        """Whether the rest of a sentence is still to be written, and all before it was asked for and has come."""
        return self.intake.half_sentence and not self.in_flight

    # --- requests and audio ------------------------------------------------------------------------------------------

    def next_synthesize(self, frames_ahead: int, now: float, *, only_first: bool = False) -> Synthesize | None:
        """The next text chunk to ask for, or None while enough is under way. `engine` must have been decided.

        `frames_ahead`: received and not yet taken. Pauses on the way to it are complete at once, so that there may be
        more audio afterwards. For the speakers, a chunk that would take longer to synthesize than the audio ahead lasts
        is parted where a speaker would breathe.
        """
        if again := self.in_flight.ask_again():
            return again
        aloud = self.route.sink == "speakers"
        while self._wants_more(frames_ahead) and not (only_first and self.intake.taken):
            chunk = self._take(frames_ahead) if aloud else self.intake.take()
            if not chunk.pause:
                request = self.intake.request(chunk, self.engine)
                route = self.route
                message = Synthesize(utterance=self.id, request=request, explain=route.explain, debug=route.debug)
                self.in_flight.ask(chunk, message, self._tempo.seconds_of([chunk]))
                self._asked_at = self._asked_at or now
                return message
            frames = 0 if self.route.explain else round(chunk.pause * SAMPLE_RATE)
            self._completed(self.in_flight.pause(chunk, self.intake.next_index(), frames))
            frames_ahead += frames
        return None

    def _take(self, frames_ahead: int) -> TextChunk:
        """The next text chunk for the speakers: the first one is short, what is read ahead may be several sentences."""
        if not self.intake.taken:
            return self.intake.take()
        most = self._characters_in_time(frames_ahead)
        together = TOGETHER if frames_ahead > FAR_AHEAD_FRAMES else TOGETHER_NEAR
        alone = self.speech.untouched or self.route.explain
        return self.intake.take(most, 0 if alone else min(most, together))

    def _wants_more(self, frames_ahead: int) -> bool:
        """Whether there is text, and not enough under way."""
        aloud, sparing = self.route.sink == "speakers", self._backlog.large
        most = CHUNKS_IN_FLIGHT if aloud else 1 if sparing else FILE_CHUNKS_IN_FLIGHT
        window = SPARING_FRAMES if sparing else AHEAD_FRAMES
        return bool(self.intake.waiting) and frames_ahead < window and len(self.in_flight) < most

    def _characters_in_time(self, frames_ahead: int) -> int:
        in_flight = self._tempo.seconds_of(self.in_flight.chunks)
        return self._tempo.characters_in_time(self.engine, frames_ahead / SAMPLE_RATE, in_flight)

    def add_audio(self, message: AudioChunk, payload: bytes) -> None:
        """Raises ProtocolError when audio comes out of order."""
        before = self.in_flight.frames
        if self._lead is None:
            first = first_above(np.frombuffer(payload, np.float32), HEARD)
            self._lead = None if first is None else before + first
        self.words.add(self.in_flight.add_audio(message, payload), before)

    def synthesized(self, message: Synthesized, now: float) -> None:
        """A text chunk is complete."""
        frames, chunks = self.in_flight.complete(message)
        self._first_times = self._first_times or message
        self._engine_seconds += message.model
        self._answered_at = now
        if message.model:  # else it was kept from an earlier time
            self._pace.measure(self.engine, message.model, frames / SAMPLE_RATE)
        self._completed(chunks)

    def _completed(self, chunks: list[TextChunk]) -> None:
        for chunk in chunks:
            self._tempo.measured(len(chunk.text), self.seconds)
            nothing_left = not (self.intake.waiting or self.in_flight or self.intake.raw)
            self._credit_due += self.intake.credit_for(None if nothing_left else chunk.end)

    def take_credit(self) -> int:
        """UTF-8 bytes of text that is done, for which the client gets credit again."""
        credit, self._credit_due = self._credit_due, 0
        return credit

    def cushion_is_filled(self, frames_ahead: int) -> bool:
        """Whether playing may begin: at once, or where the engine is slower than speech, with what it will lack."""
        missing = self._tempo.seconds_of([*self.intake.waiting, *self.in_flight.chunks])
        return self.complete or frames_ahead / SAMPLE_RATE >= self._tempo.cushion(self.engine, missing)

    # --- how far it is -----------------------------------------------------------------------------------------------

    @property
    def complete(self) -> bool:
        """Whether all of its audio has been received."""
        return self.intake.exhausted and not self.in_flight

    @property
    def has_words(self) -> bool:
        """Whether there is anything to synthesize now."""
        return bool(self.intake.waiting)

    @property
    def silent(self) -> bool:
        """Whether it has ended with nothing to say."""
        return self.complete and not self.intake.taken

    @property
    def frames(self) -> int:
        """Of audio and of pauses, so far."""
        return self.in_flight.frames

    @property
    def seconds(self) -> float:
        """Of audio received."""
        return self.frames / SAMPLE_RATE

    @property
    def first_audio(self) -> float:
        """Seconds from `began` to the first sound; 0 until audio has been handed on."""
        return self.handed_on + self.lead if self.handed_on else 0.0

    @property
    def lead(self) -> float:
        """Seconds of near silence before the first sound."""
        return (self._lead or 0) / SAMPLE_RATE

    def timing(self) -> dict[str, float]:
        """Seconds, as Finished carries them."""
        times = {
            "first_audio": round(self.first_audio, 4),
            "lead": round(self.lead, 4),
            "engine": round(self._engine_seconds, 4),
            "synthesis": round(self._answered_at - self._asked_at, 4),
        }
        if self._first_times is not None:
            times |= {name: getattr(self._first_times, name) for name in ("g2p", "queue", "model")}
        return times


def _check_route(route: Route) -> None:
    for name, choices in (("sink", SINKS), ("floor", FLOORS)):
        if getattr(route, name) not in choices:
            raise UsageError(f"{name} is {getattr(route, name)!r}", f"choose one of {', '.join(choices)}")
    if route.sink == "client" and not route.wait:
        raise UsageError("audio that comes to the client has to be waited for", "wait, or use the speakers")
    if route.first_chunk < 0 or (route.first_chunk and route.sink == "speakers"):
        raise UsageError(f"the first text chunk is {route.first_chunk}", "only a file begins elsewhere than at 0")
