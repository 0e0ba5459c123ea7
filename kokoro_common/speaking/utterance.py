"""One request to speak, from its text to its audio in order. Pure bookkeeping: no sockets, no device, one thread.

The voice server owns an utterance: its text, its order, and how far it has been taken by ear or client.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from kokoro_common.errors import ServersUnreachable, UnknownVoice, UsageError
from kokoro_common.sound.samples import SAMPLE_RATE
from kokoro_common.text.chunker import MAX_SAID, Chunker, TextChunk, parted
from kokoro_common.text.edits import Edit, merged
from kokoro_common.text.lexicon import Lexicon
from kokoro_common.text.marks import speakable
from kokoro_common.text.markup import Markup
from kokoro_common.text.speech import MAX_SPEED, MIN_SPEED, ChunkRequest, TimedWord, check_speech
from kokoro_common.text.ssml import Ssml, Unknown
from kokoro_common.voices.catalogue import VOICES, parse_language, parse_voice
from kokoro_common.wire.messages import (
    FLOORS,
    MAX_TEXT_PART_BYTES,
    SINKS,
    TEXT_CREDIT,
    AudioChunk,
    ChunkSpoken,
    ProtocolError,
    Speak,
    Synthesize,
    Synthesized,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

AHEAD_FRAMES = 30 * SAMPLE_RATE  # audio synthesized ahead of the ear, or of the client that writes a file
HUNGRY_FRAMES = SAMPLE_RATE  # so little audio ahead of the ear that a half sentence is better than none
CUSHION_SECONDS = 25.0  # at the most, where the engine is slower than speech: less than AHEAD_FRAMES
SLICE_CHARACTERS = 4_000  # of text cut at once: some 15 ms
MIN_PART_CHARACTERS = 40  # of a text chunk that is parted: a clause
SECONDS_PER_CHARACTER = 0.07  # of English at speed 1, until an utterance has measured its own
MAX_LOSSES = 3  # of model servers while the same text chunk was with them: then it is the text that kills them
CHUNKS_IN_FLIGHT = 2  # one in the engine and one behind it, so the engine never waits for a round trip
FILE_CHUNKS_IN_FLIGHT = 4  # a file has no ear that waits, and short sentences take less than a round trip


class Pace:
    """How fast this machine's engine is, measured as it goes. One per voice server, for all its utterances."""

    def __init__(self) -> None:
        self.real_time_factor: dict[str, float] = {}  # by engine: seconds of work for a second of audio

    def measure(self, engine: str, seconds_of_work: float, seconds_of_audio: float) -> None:
        if seconds_of_audio > 0.2:  # less says more about the overhead
            factor = seconds_of_work / seconds_of_audio
            known = self.real_time_factor.get(engine, factor)
            self.real_time_factor[engine] = 0.7 * known + 0.3 * factor


class Utterance:
    """Raises a KokoroError for a Speak whose fields make no sense."""

    def __init__(
        self, speak: Speak, pace: Pace, text_credit: int = TEXT_CREDIT, own: Mapping[str, str] | None = None
    ) -> None:
        """`text_credit`: UTF-8 bytes of text that may wait here. `own`: the user's voices, see own_voices."""
        self._own = own
        self.speech, self.route = speak.speech, speak.route
        check_speech(self.speech)
        for name, choices in (("sink", SINKS), ("floor", FLOORS)):
            if getattr(self.route, name) not in choices:
                raise UsageError(f"{name} is {getattr(self.route, name)!r}", f"choose one of {', '.join(choices)}")
        if self.route.first_chunk < 0 or (self.route.first_chunk and self.route.sink == "speakers"):
            raise UsageError(
                f"the first text chunk is {self.route.first_chunk}", "only a file begins elsewhere than at 0"
            )
        self.id = speak.utterance
        self.voice = parse_voice(self.speech.voice, own)
        self.engine = "" if self.speech.engine == "auto" else self.speech.engine
        self.began = time.monotonic()
        self.last_text = self.began  # time.monotonic() of the last TextPart
        self.first_audio = 0.0  # seconds from `began`; 0 until audio has been handed on
        self.first_chunk: Synthesized | None = None  # its times, for --timing
        self.text_ended = False
        # With float32 PCM, that nobody has taken yet; behind that of a text chunk its words, if they are wanted.
        self.audio: deque[tuple[AudioChunk | ChunkSpoken, bytes]] = deque()
        self._words: deque[tuple[int, int, int]] = deque()  # (frame at which it begins, start, end in the text)
        self.frames = 0  # received from the engine in all
        self.notices: deque[str] = deque()  # for the client
        self._told: set[str] = set()  # of notices, about voices
        self._pace = pace
        self._ssml = Ssml()
        self._chunker = Chunker(self.speech.lang, self._reader())
        try:
            self._lexicon = Lexicon([(each.word, each.said) for each in self.speech.lexicon])
        except ValueError as error:
            raise UsageError(f"the lexicon cannot be used: {error}", "see say.py --lex list") from error
        self._word = [0, 0]  # heard last: start and end in the text
        self._raw: deque[str] = deque()  # text not yet cut into chunks
        self._cut = False  # all of it is
        self._unsent: deque[TextChunk] = deque()
        self._in_flight: deque[tuple[TextChunk, Synthesize]] = deque()  # asked of the model server, in order
        self._again: deque[Synthesize] = deque()  # of those, to be asked again: that model server is no more
        self._losses = 0  # of model servers, since a text chunk was last completed
        self._received = 0  # frames of the text chunk that comes now
        self._skip = 0  # frames of it that come once more
        self._sent = 0  # text chunks asked for, or left out: the next index
        self._tells_words = self.route.words and self.route.sink == "client"
        self._chunk_words: list[TimedWord] = []  # of the text chunk that comes now, as ChunkSpoken has them
        self._engine_seconds = 0.0
        self._asked_at = self._answered_at = 0.0  # time.monotonic() of the first request and of the last answer
        self._spoken = 0  # characters whose audio is complete
        self._seconds_before = 0.0  # of audio, before the text chunk that comes now
        self._parts: deque[tuple[int, int]] = deque()  # of the text not yet synthesized: (end in characters, bytes)
        self._characters = 0
        self._credit = self.text_credit = text_credit

    def _reader(self) -> Ssml | Unknown | None:
        roles = self.speech.cast if self.speech.dialogue else None
        cast = None if roles is None else {role.name: parse_voice(role.voice, self._own).name for role in roles}
        others = [name for name in VOICES if name[0] == self.voice.lang]
        markup = Markup(self.speech.lang, read_code=self.speech.read_code, cast=cast, voices=others)
        return self._ssml if self.speech.ssml else None if self.speech.plain else Unknown(markup, self._ssml)

    def add_text(self, text: str) -> int:
        """Returns the credit to give back at once. Raises ProtocolError for more text than there was credit for."""
        size = len(text.encode("utf-8", "replace"))
        self._credit -= size
        self.last_text = time.monotonic()
        if self.text_ended or size > MAX_TEXT_PART_BYTES or self._credit < 0:
            raise ProtocolError(f"text of {size} bytes after its end or beyond the credit")
        self._characters += len(text)
        self._parts.append((self._characters, size))
        self._raw.append(text)
        self._take_text()
        if self._unsent or self._in_flight or self._raw:
            return 0
        return self._credit_up_to(self._characters)  # blanks, or the beginning of a sentence: nothing will be answered

    def end_text(self) -> None:
        if not self.text_ended:
            self.text_ended = True
            self._take_text()

    def _take_text(self) -> None:
        """Cuts text into chunks no further than the next one needs: a book must not hold up a Cancel.

        Of text that is left out, one slice: see `skip_on`.
        """
        while self._raw and not self._unsent:
            part = self._raw.popleft()
            if len(part) > SLICE_CHARACTERS:
                self._raw.appendleft(part[SLICE_CHARACTERS:])
            self._queue(self._chunker.feed(part[:SLICE_CHARACTERS]))
            if self.skipping:
                return
        if self.text_ended and not self._raw and not self._cut:
            self._cut = True
            self._queue(self._chunker.finish())

    def _queue(self, chunks: Iterable[TextChunk]) -> None:
        for chunk in chunks:
            if not (chunk.pause or speakable(chunk.text)):
                continue
            if self._sent < self.route.first_chunk:
                self._sent += 1
            else:
                self._unsent.append(chunk)

    @property
    def skipping(self) -> bool:
        """Whether there is text to leave out before the first text chunk that is wanted."""
        return bool(self._raw) and self._sent < self.route.first_chunk

    def skip_on(self) -> int:
        """Leaves out some more. Returns the UTF-8 bytes of text for which the client gets credit again."""
        self._take_text()
        return 0 if self._raw else self._credit_up_to(self._characters)

    @property
    def half_sentence(self) -> bool:
        """Whether the rest of a sentence is still to be written, and all before it has been asked for."""
        waits = self._unsent or self._in_flight or self._raw
        return not self.text_ended and self._chunker.pending and not waits

    def writer_paused(self, *, clauses_only: bool) -> None:
        """Takes of the half sentence what there is. Not for files: their borders depend on the text alone."""
        self._queue(self._chunker.flush(clauses_only=clauses_only))

    def next_synthesize(self, frames_ahead: int, *, only_first: bool = False) -> Synthesize | None:
        """The next text chunk to ask for, or None while enough is under way. `engine` must have been decided.

        `frames_ahead`: received and not yet taken. For the speakers, a chunk that would take longer to synthesize than
        the audio ahead lasts is parted where a speaker would breathe.
        """
        if self._again:
            return self._again.popleft()
        most = CHUNKS_IN_FLIGHT if self.route.sink == "speakers" else FILE_CHUNKS_IN_FLIGHT
        enough = frames_ahead >= AHEAD_FRAMES or len(self._in_flight) >= most
        if enough or not self._unsent or (only_first and self._sent):
            return None
        chunk = self._unsent.popleft()
        self._take_text()
        if self.route.sink == "speakers" and self._sent:
            chunk, rest = parted(chunk, self._characters_in_time(frames_ahead))
            if rest is not None:
                self._unsent.appendleft(rest)
        index, self._sent = self._sent, self._sent + 1
        voice, lang = self._voice_of(chunk)
        request = ChunkRequest(
            index=index,
            text=chunk.text,
            speech=self.speech.replace(
                voice=voice,
                lang=lang,
                speed=min(MAX_SPEED, max(MIN_SPEED, self.speech.speed * chunk.manner.speed)),
                engine=self.engine,
                cast=(),
                lexicon=(),
            ),
            edits=tuple(self._edits(chunk)),
            pause=chunk.pause,
            gain=chunk.manner.gain,
        )
        message = Synthesize(utterance=self.id, request=request, explain=self.route.explain, debug=self.route.debug)
        self._in_flight.append((chunk, message))
        self._asked_at = self._asked_at or time.monotonic()
        return message

    def _edits(self, chunk: TextChunk) -> list[Edit]:
        """What its writer wants, then what the lexicon has. Beyond MAX_SAID characters in all, words are said as they
        are written: a chunk must not become hours of audio."""
        edits: list[Edit] = []
        length = 0
        for edit in merged(chunk.edits, self._lexicon.edits(chunk.text)):
            length += len(edit.said)
            if length <= MAX_SAID:
                edits.append(edit)
        return edits

    def _voice_of(self, chunk: TextChunk) -> tuple[str, str]:
        """Voice and language. What its writer misspelt is the utterance's own, and the user is told."""
        self.notices += self._ssml.notices
        self._ssml.notices.clear()
        voice, lang = self.voice, self.speech.lang
        try:
            if chunk.voice in ("female", "male"):
                if voice.female != (chunk.voice == "female"):
                    voice = parse_voice(next(name for name in VOICES if name[:2] == lang + chunk.voice[0]))
            elif chunk.voice:
                voice = parse_voice(chunk.voice, self._own)
                lang = voice.lang if self.speech.lang == self.voice.lang else lang
            if chunk.manner.lang:
                lang = _language(chunk.manner.lang)
        except (UnknownVoice, UsageError, StopIteration) as error:
            problem = str(error) or f"there is no {chunk.voice} voice"
            if problem not in self._told:
                self._told.add(problem)
                self.notices.append(problem)
        return voice.name, lang

    def server_lost(self) -> None:
        """What it was asked for and has not answered is asked again; audio that came already is not taken twice.

        Raises ServersUnreachable when model servers die of this text.
        """
        self._again = deque(message for _, message in self._in_flight)
        self._skip = self._received
        self._losses += bool(self._in_flight)
        if self._losses > MAX_LOSSES:
            raise ServersUnreachable(f"the model server died {self._losses} times at the same text", "see its log")

    def cushion_is_filled(self) -> bool:
        """Whether playing may begin: at once, or where the engine is slower than speech, with what it will lack."""
        factor = self._pace.real_time_factor.get(self.engine, 0.0)
        missing = self._seconds_of(self._unsent) + self._seconds_in_flight
        cushion = min(CUSHION_SECONDS, missing * (factor - 1.0))
        return self.complete or self.seconds >= cushion

    def _characters_in_time(self, frames_ahead: int) -> int:
        """How much text the engine can speak before the ear has caught up."""
        ahead = frames_ahead / SAMPLE_RATE + self._seconds_in_flight
        factor = max(self._pace.real_time_factor.get(self.engine, 0.0), 0.01)
        work_waiting = self._seconds_in_flight * factor
        return max(MIN_PART_CHARACTERS, int((ahead - work_waiting) / factor / self._seconds_per_character))

    def _seconds_of(self, chunks: Iterable[TextChunk]) -> float:
        """Of audio, as far as one can tell."""
        return self._seconds_per_character * sum(len(chunk.text) for chunk in chunks)

    @property
    def _seconds_in_flight(self) -> float:
        return self._seconds_of(chunk for chunk, _ in self._in_flight)

    @property
    def _seconds_per_character(self) -> float:
        return (
            self.seconds / self._spoken if self._spoken and self.frames else SECONDS_PER_CHARACTER / self.speech.speed
        )

    def add_audio(self, message: AudioChunk, payload: bytes) -> None:
        """Raises ProtocolError when audio comes out of order: better no speech than scrambled speech."""
        expected = self._sent - len(self._in_flight)
        if not self._in_flight or message.index != expected:
            raise ProtocolError(f"audio of text chunk {message.index}, expected {expected}")
        places = self._in_flight[0][0].places
        if any(not 0 <= word.start < word.end <= len(places) for word in message.words):
            raise ProtocolError(f"words beyond text chunk {message.index}")
        skip = min(self._skip, len(payload) // 4)
        self._skip -= skip
        payload = payload[4 * skip :]
        new = [_moved(word, -skip) for word in message.words if word.first_frame >= skip]
        if self._tells_words:
            self._chunk_words += (_moved(word, self._received) for word in new)
        if not payload:
            return
        words = tuple(word.replace(start=places[word.start], end=places[word.end - 1] + 1) for word in new)
        self._words += ((self.frames + word.first_frame, word.start, word.end) for word in words)
        self.audio.append((message.replace(words=words, payload_bytes=len(payload)), payload))
        self.frames += len(payload) // 4
        self._received += len(payload) // 4

    def word_at(self, frame: int) -> tuple[int, int]:
        """Where in the text the word stands that is heard at this frame, or was last; frames may not go back far."""
        while self._words and self._words[0][0] <= frame:
            _, *self._word = self._words.popleft()
        start, end = self._word
        return start, end

    @property
    def next_word(self) -> int | None:
        """The frame at which the next word begins, if it is known."""
        return self._words[0][0] if self._words else None

    def synthesized(self, message: Synthesized) -> int:
        """A text chunk is complete. Returns the UTF-8 bytes of text for which the client gets credit again."""
        if not self._in_flight or message.index != self._sent - len(self._in_flight):
            raise ProtocolError(f"text chunk {message.index} is done, expected {self._sent - len(self._in_flight)}")
        if self.first_chunk is None:
            self.first_chunk = message
        chunk, _ = self._in_flight.popleft()
        if self._tells_words:
            self._tell_words(chunk, message.index)
        self._engine_seconds += message.model
        self._answered_at = time.monotonic()
        self._losses = self._received = self._skip = 0
        self._spoken += len(chunk.text)
        if not chunk.pause:
            self._pace.measure(self.engine, message.model, self.seconds - self._seconds_before)
        self._seconds_before = self.seconds
        nothing_left = not (self._unsent or self._in_flight or self._raw)
        return self._credit_up_to(self._characters if nothing_left else chunk.end)

    def _tell_words(self, chunk: TextChunk, index: int) -> None:
        spoken = ChunkSpoken(
            utterance=self.id,
            index=index,
            text=chunk.text,
            start=chunk.start,
            places=tuple(chunk.places),
            words=tuple(self._chunk_words),
            frames=self._received,
        )
        self._chunk_words = []
        self.audio.append((spoken, b""))

    def _credit_up_to(self, character: int) -> int:
        credit = 0
        while self._parts and self._parts[0][0] <= character:
            credit += self._parts.popleft()[1]
        self._credit += credit
        return credit

    @property
    def complete(self) -> bool:
        """Whether all of its audio has been received."""
        return self._cut and not self._unsent and not self._in_flight

    @property
    def has_words(self) -> bool:
        """Whether there is anything to synthesize now."""
        return bool(self._unsent)

    @property
    def silent(self) -> bool:
        """Whether it has ended with nothing to say."""
        return self.complete and not self._sent

    @property
    def seconds(self) -> float:
        """Of audio received."""
        return self.frames / SAMPLE_RATE

    @property
    def frames_handed_on(self) -> int:
        """Received, and no longer waiting in `audio`."""
        return self.frames - sum(len(payload) for _, payload in self.audio) // 4

    def timing(self) -> dict[str, float]:
        """Seconds, as Finished carries them."""
        times = {
            "first_audio": self.first_audio,
            "engine": round(self._engine_seconds, 4),
            "synthesis": round(self._answered_at - self._asked_at, 4),
        }
        if self.first_chunk is not None:
            times |= {name: getattr(self.first_chunk, name) for name in ("g2p", "queue", "model")}
        return times


def _language(tag: str) -> str:
    """Of a tag as XML has it: en-US, or fr-CA for want of which fr is spoken."""
    try:
        return parse_language(tag)
    except UsageError:
        return parse_language(tag.partition("-")[0])


def _moved(word: TimedWord, frames: int) -> TimedWord:
    return word.replace(first_frame=word.first_frame + frames, last_frame=word.last_frame + frames)
