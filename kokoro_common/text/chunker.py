"""Text to text chunks of speakable size, nothing lost, while it arrives: in any pieces, the borders are the same.

The chunker takes one character at a time and decides with what it has, so what it decides cannot depend on how the
text was cut into `feed()` calls, its time is linear and its memory is one chunk.
"""

from __future__ import annotations

import re
import unicodedata

from kokoro_common.record import Record
from kokoro_common.text.clean import UNFINISHED, cleaned
from kokoro_common.text.edits import Edit
from kokoro_common.text.marks import (
    CLOSERS,
    COMMAS,
    OPENERS,
    OPENING_QUOTES,
    STOPS,
    STRAIGHT_QUOTES,
    WIDE_COMMAS,
    WIDE_STOPS,
    speakable,
)
from kokoro_common.text.markup import Manner, Marked, PauseTag, Sign, Speaker
from kokoro_common.text.pauses import CLAUSE_SECONDS, PARAGRAPH_SECONDS, SENTENCE_SECONDS, pause_after

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Protocol

    from kokoro_common.text.markup import Event

    class Reader(Protocol):
        """Takes markup out of the text: markup.Markup, ssml.Ssml or ssml.Unknown."""

        def take(self, character: str, place: int) -> Iterator[Event]: ...

        def finish(self) -> Iterator[Event]: ...

        def give_up(self) -> Iterator[Event]: ...


# Characters, about as many as phonemes. Kokoro takes 510 of them in a call; a chunk with more (numbers) is split again.
MAX_CHUNK_CHARACTERS = 400
MAX_SAID = 4 * MAX_CHUNK_CHARACTERS  # characters of what is said in place of parts of a chunk
_MAX_CHARACTERS = {"j": 100, "z": 100}  # one character is 2 to 5 phonemes there


# --- Chunks ----------------------------------------------------------------------------------------------------------

_QUOTES_BEFORE = STRAIGHT_QUOTES + OPENING_QUOTES
_ENDS = (*STOPS, *WIDE_STOPS)
_WIDE_ENDS = (*WIDE_STOPS, *CLOSERS)
_NO_BEGINNING = frozenset((*_ENDS, *CLOSERS, *WIDE_COMMAS, "…"))  # what belongs to the sentence before it
_CLOSED = f"[{re.escape(CLOSERS)}]*"
_CLAUSE_END = re.compile(rf"(?:[{COMMAS}–]{_CLOSED}(?=\s)|[—{WIDE_COMMAS}]{_CLOSED})")
_LINE_END = re.compile(r"(?=\n)")
_BLANK = re.compile(r"(?=\s)")

# A point after these never ends a sentence; after the others it does when a capital follows. Lower case, no last point.
_ALWAYS_SHORT = {
    "a": "mr mrs ms messrs dr prof st mt ft gen col maj capt lt sgt rev hon gov sen rep vs e.g i.e viz cf",
    "e": "sr sra srta dr dra d dña ud uds ee p.ej ej",
    "f": "m mm mme mmes mlle dr pr me p.ex ex",
    "h": "डॉ श्री",
    "i": "sig dott dr prof ing avv on p.es es",
    "p": "sr sra srta dr dra prof profa exmo exma p.ex ex",
}
_OFTEN_SHORT = {
    "a": "etc al no nos inc ltd co corp jr sr fig vol pp p ch sec approx dept est ph.d "
    "jan feb mar apr jun jul aug sep sept oct nov dec mon tue wed thu fri sat sun",
    "e": "etc pág págs núm art tel aprox uu",
    "f": "etc p pp vol art env apr av",
    "i": "ecc pag pagg n art tel",
    "p": "etc pág págs núm n art tel aprox",
}
_LETTERS_WITH_POINTS = re.compile(r"(?:[^\W\d_]\.)*[^\W\d_]")  # J, U.S.A, p.m


class TextChunk(Record):
    text: str  # clean, blanks single, no blank at either end; for speakable() to judge
    start: int  # place of its first character, in characters of the text as fed
    end: int  # after its last character
    places: tuple[int, ...] = ()  # place of each character of `text`, in characters of the text as fed
    edits: tuple[Edit, ...] = ()  # what the markup wants said in another way
    voice: str = ""  # the markup's; "": the utterance's
    manner: Manner = Manner(1.0, 1.0, "")
    pause: float = 0.0  # seconds of silence instead of a text
    rest: float = 0.0  # seconds between what comes before it and its own first sound, at speed 1


class Chunker:
    """Text in, chunks out as soon as they are complete. One per utterance; for one thread; never blocks.

    A chunk is a sentence: it ends where a blank follows the full stop and its closing quotes, or at a blank line, or in
    Chinese, Japanese and Hindi at the stop itself. A longer one is cut after a comma, between lines, at a blank, or in
    the word. The ranges of all chunks cover every character that is not blank, junk or markup, in order; a chunk may
    have nothing to say (a row of stars).
    """

    def __init__(self, lang: str, markup: Reader | None = None, *, early: bool = True) -> None:
        """`markup` takes tags and markup out of the text; without it all is text. What it raises is raised here.

        `early`: the first sentence is cut after its first clause, so that the first sound comes early.
        """
        self._markup = markup
        self._limit = _MAX_CHARACTERS.get(lang, MAX_CHUNK_CHARACTERS)
        lang = "a" if lang == "b" else lang
        self._always_short = frozenset(_ALWAYS_SHORT.get(lang, "").split())
        self._often_short = frozenset(_OFTEN_SHORT.get(lang, "").split())
        self._raw = ""  # the end of what was fed, if it may be the beginning of a terminal sequence
        self._raw_start = 0  # its place in the text as fed
        self._body = ""  # since the last border, clean; runs of blanks are one " ", or one "\n" if they hold a newline
        self._places: list[int] = []  # place of each character of _body, in the text as fed
        self._edits: list[Edit] = []  # in _body
        self._voice = ""
        self._manner = Manner(1.0, 1.0, "")
        self._held = False  # the markup holds text back until it knows what it is
        self._first = early  # no chunk with anything to say has left yet
        self._newlines = 0  # since the last character that is no blank
        self._rest = 0.0  # in front of the next chunk
        self._rests: tuple[float, float] | None = None  # behind the last chunk: by its mark, and without; None: a pause

    def feed(self, text: str) -> list[TextChunk]:
        """The chunks that `text` completes."""
        raw = self._raw + text
        unfinished = UNFINISHED.search(raw)
        return self._take(raw, unfinished.start() if unfinished else len(raw))

    def finish(self) -> list[TextChunk]:
        """The last chunks. Nothing may be fed afterwards."""
        chunks = self._take(self._raw, len(self._raw))
        chunks += self._hear(self._markup.finish() if self._markup else ())
        return chunks + self._cut_off()

    @property
    def pending(self) -> bool:
        """Whether text waits for the end of its sentence."""
        return bool(self._body.strip()) or self._held

    def flush(self, *, clauses_only: bool) -> list[TextChunk]:
        """The chunks of an unfinished sentence, when its writer has paused: its complete clauses, or all of it.

        For live speech only: the borders then depend on how the text was written.
        """
        if not clauses_only:
            held = self._hear(self._markup.give_up() if self._markup else ())
            self._held = False
            return held + self._cut_off()
        complete = _CLAUSE_END.finditer(self._body + " ")  # the blank that the writer has yet to write
        ends = [match.end() for match in complete if not _within(match.end(), self._edits)]
        return [self._cut(ends[-1])] if ends and self._body[: ends[-1]].strip() else []

    def _take(self, raw: str, length: int) -> list[TextChunk]:
        """Takes the first `length` characters and keeps the others for the next call."""
        chunks: list[TextChunk] = []
        for character, place in cleaned(raw[:length]):
            place += self._raw_start
            if self._markup is not None:
                events = list(self._markup.take(character, place))
                chunks += self._hear(events)
                self._held = not events and not (character.isspace() and not self._held)
            elif chunk := self._add_sign(character, place):
                chunks.append(chunk)
        self._raw = raw[length:]
        self._raw_start += length
        return chunks

    def _hear(self, events: Iterable[Event]) -> list[TextChunk]:
        chunks: list[TextChunk] = []
        for event in events:
            if isinstance(event, Sign):
                if chunk := self._add_sign(*event):
                    chunks.append(chunk)
                continue
            if isinstance(event, Marked):
                chunks += self._add_marked(event)
                continue
            chunks += self._cut_off()
            if isinstance(event, Speaker):
                self._voice = event.voice
            elif isinstance(event, Manner):
                self._manner = event
            elif isinstance(event, PauseTag):
                chunks.append(TextChunk(text="", start=event.place, end=event.place, pause=event.seconds))
                self._rests, self._rest = None, 0.0
        return chunks

    def _add_sign(self, character: str, place: int) -> TextChunk | None:
        if character.isspace():
            border = self._add_blank(character, place)
            return self._cut(border) if border else None
        border = len(self._body) if self._ended_before(character) else 0
        self._newlines = 0
        self._body += character
        self._places.append(place)
        if border:
            return self._cut(border)
        border = self._too_long()
        return self._cut(border, cut_short=True) if border else None

    def _add_marked(self, marked: Marked) -> list[TextChunk]:
        """Adds a stretch that is said as a whole: no border falls in it."""
        text, places = zip(*_single_blanks(marked), strict=True)
        fits = len(self._body) + len(text) <= self._limit
        chunks = [] if fits and not self._ended_before(text[0]) else self._cut_off()
        self._newlines = 0
        start = len(self._body)
        self._body += "".join(text[: self._limit])
        self._places += places[: self._limit]
        self._edits.append(Edit(start, len(self._body), marked.said, marked.phonemes))
        return chunks

    def _cut_off(self) -> list[TextChunk]:
        """All text since the last border, as a chunk."""
        return [self._cut(len(self._body))] if self._body.strip() else []

    def _add_blank(self, character: str, place: int) -> int:
        """Returns the border that this blank shows, as an index of `_body`; 0: none."""
        newline = character == "\n"
        self._newlines += newline
        if not self._body:
            self._rest = self._rest_now()
        if not self._body or (self._body[-1].isspace() and not newline):
            return 0
        if self._body[-1] == "\n":
            return len(self._body)  # a blank line
        if self._body[-1] == " ":
            self._body = self._body[:-1] + "\n"
        else:
            self._body += "\n" if newline else " "
            self._places.append(place)
        ended = self._sentence_ended()
        return len(self._body) if ended or (ended is None and newline) else 0

    def _rest_now(self) -> float:
        """What follows would come after this rest, as the text stands."""
        if self._rests is None:
            return 0.0
        by_mark, without = self._rests
        if self._newlines > 1:
            return PARAGRAPH_SECONDS
        return by_mark or (SENTENCE_SECONDS if self._newlines else without)

    def _cut(self, border: int, *, cut_short: bool = False) -> TextChunk:
        """`cut_short`: in the midst of a sentence that is too long."""
        text = self._body[:border].rstrip()
        places = tuple(self._places[: len(text)])
        chunk = TextChunk(
            text=text.replace("\n", " "),
            start=places[0],
            end=places[-1] + 1,
            places=places,
            edits=tuple(edit for edit in self._edits if edit.end <= border),
            voice=self._voice,
            manner=self._manner,
            rest=self._rest,
        )
        self._rests = pause_after(text), 0.0 if cut_short else CLAUSE_SECONDS
        self._rest = self._rest_now()
        self._body = self._body[border:].lstrip()
        gone = len(self._places) - len(self._body)
        self._places = self._places[gone:]
        self._edits = [
            edit._replace(start=edit.start - gone, end=edit.end - gone) for edit in self._edits if edit.end > border
        ]
        self._first = self._first and not speakable(text)
        return chunk

    def _sentence_ended(self) -> bool | None:
        """Whether a sentence ends at the blank that has just come. None: if a capital follows."""
        core = self._body.rstrip().rstrip(CLOSERS)
        if core.endswith(_ENDS):
            return True
        if core.endswith(("..", "…")):
            return None
        if not core.endswith("."):
            return False
        word = core.rsplit(None, 1)[-1][:-1].lstrip(OPENERS)
        if word.lower() in self._always_short or (core == f"{word}." and word.isdigit()):  # "3. Stir": a list
            return False
        if word.lower() in self._often_short:
            return None
        if _LETTERS_WITH_POINTS.fullmatch(word) and word != "I" and (word[0].isupper() or "." in word):
            return False if word[0].isupper() else None  # J. K. Rowling, U.S. Army; 5 p.m.
        return True

    def _ended_before(self, character: str) -> bool:
        """Whether there is a border before this character, which only the character shows."""
        if self._body.endswith(" "):
            return (character.isupper() or character in _QUOTES_BEFORE) and self._sentence_ended() is None
        if not self._body.endswith(_WIDE_ENDS) or character in _NO_BEGINNING:
            return False
        return self._body.rstrip(CLOSERS).endswith(tuple(WIDE_STOPS))

    def _too_long(self) -> int:
        """Where to cut a body that is too long; 0: it is not, yet."""
        length = len(self._body)
        if length > self._limit:
            return self._last_break()
        if self._first and length > self._limit // 5:
            ends = (early.end() for early in _CLAUSE_END.finditer(self._body, self._limit // 20))
            return next((end for end in ends if not _within(end, self._edits)), 0)
        return 0

    def _last_break(self) -> int:
        for kind, least in ((_CLAUSE_END, self._limit // 4), (_LINE_END, self._limit // 4), (_BLANK, 1)):
            ends = [match.end() for match in kind.finditer(self._body, least) if match.end() <= self._limit]
            if ends := [end for end in ends if not _within(end, self._edits)]:
                return ends[-1]
        border = self._limit
        while border > self._limit // 2 and _show_as_one(self._body[border - 1], self._body[border]):
            border -= 1
        return next((edit.start or edit.end for edit in self._edits if _within(border, [edit])), border)


def _show_as_one(before: str, after: str) -> bool:
    """Whether two characters show as one: an accent on its letter, an emoji made of several."""
    return unicodedata.category(after).startswith("M") or "\u200d" in (before, after)


def _single_blanks(marked: Marked) -> list[tuple[str, int]]:
    """The characters with their places, without blanks at the ends, and no two blanks in a row."""
    kept: list[tuple[str, int]] = []
    for character, place in zip(marked.text.rstrip(), marked.places, strict=False):
        if not character.isspace():
            kept.append((character, place))
        elif kept and kept[-1][0] != " ":
            kept.append((" ", place))
    return kept


def _within(border: int, edits: Iterable[Edit]) -> bool:
    """Whether a border would cut a stretch that is said as a whole."""
    return any(edit.start < border < edit.end for edit in edits)


def parted(chunk: TextChunk, limit: int) -> tuple[TextChunk, TextChunk | None]:
    """A chunk in two where a speaker would breathe, the first of at most `limit` characters; or whole."""
    ends = [match.end() for match in _CLAUSE_END.finditer(chunk.text, 1) if match.end() <= limit]
    ends = [end for end in ends if not _within(end, chunk.edits)]
    if len(chunk.text) <= limit or not ends or not speakable(chunk.text[ends[-1] :]):
        return chunk, None
    border = ends[-1]
    rest = _part(chunk, border + chunk.text[border].isspace(), len(chunk.text)).replace(
        rest=pause_after(chunk.text[:border])
    )
    return _part(chunk, 0, border), rest


def joined(chunks: Sequence[TextChunk]) -> TextChunk:
    """Chunks that fit together as one, to be spoken in one forward."""
    text, end = "", chunks[0].start
    places: list[int] = []
    edits: list[Edit] = []
    for chunk in chunks:
        if chunk.start > end:
            text += " "
            places.append(end)
        edits += (edit._replace(start=edit.start + len(text), end=edit.end + len(text)) for edit in chunk.edits)
        text += chunk.text
        places += chunk.places
        end = chunk.end
    whole: TextChunk = chunks[0].replace(text=text, end=end, places=tuple(places), edits=tuple(edits))
    return whole


def fit_together(first: TextChunk, second: TextChunk) -> bool:
    """Whether they are of one paragraph, voice and manner, and the first ends with a mark at which the voice rests."""
    return (
        not first.pause
        and not second.pause
        and 0.0 < second.rest < PARAGRAPH_SECONDS
        and pause_after(first.text) > 0.0
        and (first.voice, first.manner) == (second.voice, second.manner)
    )


def _part(chunk: TextChunk, first: int, last: int) -> TextChunk:
    places = chunk.places[first:last]
    edits = tuple(
        edit._replace(start=edit.start - first, end=edit.end - first)
        for edit in chunk.edits
        if first <= edit.start and edit.end <= last
    )
    part: TextChunk = chunk.replace(
        text=chunk.text[first:last], start=places[0], end=places[-1] + 1, places=places, edits=edits
    )
    return part
