"""An utterance's text on its way in: what the client sends, cut into text chunks as soon as each is complete.

No I/O and no clock: the time is passed in. One thread.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from kokoro_common.errors import SAY, UnknownVoice, UsageError
from kokoro_common.text.chunker import MAX_SAID, Chunker, TextChunk, fit_together, joined, parted
from kokoro_common.text.edits import Edit, merged
from kokoro_common.text.foreign import foreign_words
from kokoro_common.text.lexicon import PHONEMES, Lexicon
from kokoro_common.text.marks import speakable
from kokoro_common.text.markup import Markup
from kokoro_common.text.speech import (
    MAX_PAUSES,
    MAX_SPEED,
    MIN_SPEED,
    PAUSES_PER_CHARACTER,
    ChunkRequest,
    Speech,
)
from kokoro_common.text.ssml import Ssml, Unknown
from kokoro_common.voices.catalogue import VOICES, parse_language, parse_voice
from kokoro_common.wire.messages import MAX_TEXT_PART_BYTES, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from kokoro_common.voices.catalogue import Voice

MOST_COUNTED = 1_000  # different mistakes of one kind
SLICE_CHARACTERS = 4_000  # of text cut at once: some 15 ms
# Characters, about as many as phonemes, of sentences that are spoken together. Kokoro gives a paragraph its melody; but
# beyond 350 phonemes it rushes, and short sentences lose their full stop unless there are 100 phonemes in all.
TOGETHER = 240
LEAST_TOGETHER = 100
_SHARE = {"j": 0.25, "z": 0.25}  # of these: one character is 2 to 5 phonemes there


class Notices:
    """What the user is told about a text: of each kind the first line at once, and of all others one with their number
    at the end. A text with a thousand mistakes must not become a thousand lines."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque()  # to be told; whoever tells one takes it
        self._told: dict[str, dict[str, None]] = {}  # in order

    def add(self, kind: str, line: str) -> None:
        """`kind`: as the others are told of: "other voices are unknown, too"."""
        told = self._told.setdefault(kind, {})
        if not told:
            self.lines.append(line)
        if len(told) < MOST_COUNTED:
            told[line] = None

    def sum_up(self) -> None:
        """To be called once, at the end."""
        for kind, told in self._told.items():
            others = len(told) - 1
            if others == 1:
                self.lines.append(list(told)[1])
            elif others:
                self.lines.append(f"{others} {kind}" if len(told) < MOST_COUNTED else f"more than {others} {kind}")


class Intake:
    """Text in, text chunks out, in order. Raises a KokoroError for what is wrong with the text, wherever it is cut."""

    def __init__(
        self,
        speech: Speech,
        voice: Voice,
        own_voices: Mapping[str, str] | None,
        *,
        credit: int,
        leave_out: int = 0,
        together: bool = False,
    ) -> None:
        """`credit`: UTF-8 bytes of text that the client may send ahead. `leave_out`: text chunks to pass over.
        `together`: text chunks of several sentences, whose borders depend on the text alone.

        Raises UsageError for a lexicon or a cast that cannot be used.
        """
        self.ended = False  # the client has sent all of it
        self.last_text = 0.0  # seconds, when the last text came
        self.taken = 0  # text chunks taken or left out: the next index
        self._speech = speech
        self._voice = voice
        self._own_voices = own_voices
        self._leave_out = leave_out
        self._credit = credit  # bytes that may still come
        self._notices = Notices()
        self._pauses_left = MAX_PAUSES  # seconds of silence that the tags may still ask for
        self._ssml = Ssml()
        others = [name for name in VOICES if name[0] == voice.lang]
        self._markup = Markup(speech.lang, read_code=speech.read_code, cast=self._cast(), voices=others)
        together = together and not speech.untouched
        self._chunker = Chunker(speech.lang, self._reader(), early=not together)
        self._share = _SHARE.get(speech.lang, 1.0)
        self._group: list[TextChunk] | None = [] if together else None  # sentences that may be spoken with the next one
        self._begun = False  # a text chunk with something to say was taken or left out
        try:
            self._lexicon = Lexicon(speech.lexicon)
        except ValueError as error:
            raise UsageError(f"the lexicon cannot be used: {error}", f"see {SAY} --lex list") from error
        self._raw: deque[str] = deque()  # not yet cut
        self._cut = False  # all of it is
        self._chunks: deque[TextChunk] = deque()  # cut, not yet taken
        self._parts: deque[tuple[int, int]] = deque()  # not yet synthesized: (end in characters, bytes)
        self._characters = 0

    def _cast(self) -> dict[str, str] | None:
        """Voices by name, if the text is a dialogue."""
        if not self._speech.dialogue:
            return None
        return {role.name: parse_voice(role.voice, self._own_voices).name for role in self._speech.cast}

    def _reader(self) -> Ssml | Unknown | None:
        if self._speech.ssml:
            return self._ssml
        return None if self._speech.plain else Unknown(self._markup, self._ssml)

    @property
    def notices(self) -> deque[str]:
        """Lines for the user, about markup that cannot be followed. Whoever tells one takes it out."""
        return self._notices.lines

    def sum_up(self) -> None:
        """Adds the last notices. To be called once, when all text chunks have been spoken."""
        self._notices.sum_up()

    # --- text in -----------------------------------------------------------------------------------------------------

    def add(self, text: str, now: float) -> None:
        """Raises ProtocolError for text behind its end, or more than there was credit for."""
        size = len(text.encode("utf-8", "replace"))
        self._credit -= size
        self.last_text = now
        if self.ended or size > MAX_TEXT_PART_BYTES or self._credit < 0:
            raise ProtocolError(f"text of {size} bytes after its end or beyond the credit")
        self._characters += len(text)
        self._parts.append((self._characters, size))
        self._raw.append(text)
        self._advance()

    def end(self) -> None:
        """All text has come. Idempotent."""
        if not self.ended:
            self.ended = True
            self._advance()

    def _advance(self) -> None:
        """Cuts no further than the next text chunk needs: a book must not hold up a Cancel.

        Of text that is left out, one slice: see `skip_on`.
        """
        while self._raw and not self._chunks:
            part = self._raw.popleft()
            if len(part) > SLICE_CHARACTERS:
                self._raw.appendleft(part[SLICE_CHARACTERS:])
            self._queue(self._chunker.feed(part[:SLICE_CHARACTERS]))
            if self.skipping:
                return
        if self.ended and not self._raw and not self._cut:
            self._cut = True
            self._queue(self._chunker.finish())
            if self._group:
                self._close_group()
        self._hear_markup()

    def _queue(self, chunks: Iterable[TextChunk]) -> None:
        for chunk in chunks:
            if chunk.pause:
                chunk = self._with_limits(chunk)
            else:
                self._pauses_left += PAUSES_PER_CHARACTER * len(chunk.text)
            if not (chunk.pause or speakable(chunk.text)):
                continue
            if self._group is None:
                self._add(chunk)
                continue
            if self._group and not self._fits(self._group, chunk, TOGETHER):
                self._close_group()
            self._group.append(chunk)

    def _fits(self, group: Sequence[TextChunk], chunk: TextChunk, characters: int) -> bool:
        length = sum(len(each.text) + 1 for each in group) + len(chunk.text)
        return fit_together(group[-1], chunk) and length <= characters * self._share

    def _close_group(self) -> None:
        for chunk in self._together(self._group or []):
            self._add(chunk)
        self._group = []

    def _together(self, group: list[TextChunk]) -> list[TextChunk]:
        """As one text chunk, if it is long enough."""
        long_enough = sum(len(each.text) + 1 for each in group) > LEAST_TOGETHER * self._share
        return [joined(group)] if len(group) > 1 and long_enough else group

    def _add(self, chunk: TextChunk) -> None:
        if not self._begun or self._speech.untouched:
            chunk = chunk.replace(rest=0.0)
        self._begun = True
        if self.taken < self._leave_out:
            self.taken += 1
        else:
            self._chunks.append(chunk)

    def _with_limits(self, pause: TextChunk) -> TextChunk:
        """A pause, shortened where those of this text would be too long in all."""
        seconds = min(pause.pause, self._pauses_left)
        if seconds < pause.pause:
            most = f"{MAX_PAUSES:.0f} s and {PAUSES_PER_CHARACTER} s for each character before them"
            self._notices.add("", f"the pauses of this text are too long: in all they get {most}")
        self._pauses_left -= seconds
        limited: TextChunk = pause.replace(pause=seconds)
        return limited

    def _hear_markup(self) -> None:
        for kind, notices in (
            ("other SSML elements or values are not supported either", self._ssml.notices),
            ("other tags are read out", self._markup.notices),
        ):
            while notices:
                self._notices.add(kind, notices.popleft())

    @property
    def skipping(self) -> bool:
        """Whether there is text to pass over before the first text chunk that is wanted."""
        return bool(self._raw) and self.taken < self._leave_out

    def skip_on(self) -> bool:
        """Passes over one slice more. Returns whether that was all."""
        self._advance()
        return not self._raw

    def writer_paused(self, *, clauses_only: bool) -> None:
        """Cuts what there is of a half sentence. Not for files: their borders depend on the text alone."""
        self._queue(self._chunker.flush(clauses_only=clauses_only))

    # --- text chunks out ---------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> deque[TextChunk]:
        """Text chunks that are complete and not yet taken. Not to be changed."""
        return self._chunks

    @property
    def raw(self) -> bool:
        """Whether text waits that is not cut yet."""
        return bool(self._raw)

    @property
    def exhausted(self) -> bool:
        """Whether all text has come and every text chunk of it was taken."""
        return self._cut and not self._chunks

    @property
    def half_sentence(self) -> bool:
        """Whether the rest of a sentence is still to be written, and all before it was taken."""
        return not self.ended and self._chunker.pending and not (self._chunks or self._raw)

    def take(self, characters: int | None = None, together: int = 0) -> TextChunk:
        """The next text chunk; of about so many `characters` at most, cut where a speaker would breathe. Sentences that
        fit into `together` characters are taken as one."""
        chunk = self._chunks.popleft()
        self._advance()
        if characters is not None:
            chunk, rest = parted(chunk, characters)
            if rest is not None:
                self._chunks.appendleft(rest)
                return chunk
        group = [chunk]
        while self._chunks and self._fits(group, self._chunks[0], together):
            group.append(self._chunks.popleft())
            self._advance()
        first, *others = self._together(group)
        self._chunks.extendleft(reversed(others))
        return first

    def request(self, chunk: TextChunk, engine: str) -> ChunkRequest:
        """What the model server is asked for: the next index, and voice, language and speed as the markup has them."""
        voice, lang = self._voice_of(chunk)
        speed = min(MAX_SPEED, max(MIN_SPEED, self._speech.speed * chunk.manner.speed))
        return ChunkRequest(
            index=self.next_index(),
            text=chunk.text,
            speech=self._speech.replace(
                voice=voice,
                lang=lang,
                speed=speed,
                engine=engine,
                cast=(),
                lexicon=(),
            ),
            edits=tuple(self._edits(chunk, lang, engine)),
            gain=chunk.manner.gain,
            rest=chunk.rest / speed,
        )

    def next_index(self) -> int:
        """The index of the text chunk that was just taken."""
        self.taken += 1
        return self.taken - 1

    def _edits(self, chunk: TextChunk, lang: str, engine: str) -> list[Edit]:
        """What the writer wants, then what the lexicon has, then words that no voice can say.

        Beyond MAX_SAID characters in all, words are said as they are written: a chunk must not become hours of audio.
        """
        edits: list[Edit] = []
        length = 0
        for edit in chunk.edits:
            if edit.phonemes and (wrong := edit.said.strip(PHONEMES)):
                line = f"{wrong[0]!r} in /{edit.said[:48]}/ is no phoneme of Kokoro's and is left out"
                self._notices.add("other pronunciations have unknown symbols, too", line)
        wanted = merged(chunk.edits, self._lexicon.edits(chunk.text))
        for edit in merged(wanted, self._unsayable(chunk, wanted, lang, engine)):
            length += len(edit.said)
            if length <= MAX_SAID:
                edits.append(edit)
        return edits

    def _unsayable(self, chunk: TextChunk, wanted: list[Edit], lang: str, engine: str) -> list[Edit]:
        """Edits that leave out words in letters which the voice cannot read. The user is told of these."""
        edits: list[Edit] = []
        for words in foreign_words(chunk.text, lang, espeak=engine == "espeak", plain=self._speech.plain):
            if merged(wanted, words.edits) != wanted or not words.edits:  # nobody has said how they are read
                self._notices.add(words.kind, words.line)
                edits += words.edits
        return edits

    def _voice_of(self, chunk: TextChunk) -> tuple[str, str]:
        """Voice and language. Where the writer misspelt one the utterance's own is used, and the user is told."""
        voice, lang = self._voice, self._speech.lang
        try:
            if chunk.voice in ("female", "male"):
                if voice.female != (chunk.voice == "female"):
                    voice = parse_voice(next(name for name in VOICES if name[:2] == lang + chunk.voice[0]))
            elif chunk.voice:
                voice = parse_voice(chunk.voice, self._own_voices)
                lang = voice.lang if self._speech.lang == self._voice.lang else lang
            if chunk.manner.lang:
                lang = _language(chunk.manner.lang)
        except (UnknownVoice, UsageError, StopIteration) as error:
            problem = str(error) or f"there is no {chunk.voice} voice"
            self._notices.add("other voices or languages are unknown", problem)
        return voice.name, lang

    # --- credit ------------------------------------------------------------------------------------------------------

    def credit_for(self, end: int | None = None) -> int:
        """UTF-8 bytes that the client may send again: the text up to character `end` is done; None: all that came."""
        credit = 0
        end = self._characters if end is None else end
        while self._parts and self._parts[0][0] <= end:
            credit += self._parts.popleft()[1]
        self._credit += credit
        return credit


def _language(tag: str) -> str:
    """The letter of a tag as XML has it: en-US; fr-CA is fr, as there is no other French."""
    try:
        return parse_language(tag)
    except UsageError:
        return parse_language(tag.partition("-")[0])
