"""Captions: the words of a recording as they stand in its text, each with its time, as SRT, WebVTT, LRC and JSON.

Times are counted in frames of the audio itself, so they include pauses and speed, and do not drift. Files are written
as the words come, in order; memory does not grow.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import deque

from kokoro_common.record import Record
from kokoro_common.recording.outfile import OutputFile
from kokoro_common.sound.samples import SAMPLE_RATE
from kokoro_common.text.marks import (
    COMMAS,
    OPENING_BRACKETS,
    OPENING_QUOTES,
    STOPS,
    UNSPACED,
    WIDE_COMMAS,
    WIDE_PUNCTUATION,
    WIDE_STOPS,
    columns,
    speakable,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Protocol

    from kokoro_common.text.speech import TimedWord

    class Spoken(Protocol):
        """A text chunk with the times of its words: messages.ChunkSpoken, or the same read from a file."""

        @property
        def text(self) -> str: ...
        @property
        def places(self) -> Sequence[int]: ...
        @property
        def words(self) -> Sequence[TimedWord]: ...
        @property
        def frames(self) -> int: ...


LINE_WIDTH = 42  # columns, as broadcasters allow (BBC and Netflix guidelines)
LINES = 2  # of a caption, by the same guidelines
MAX_CUE_FRAMES = 7 * SAMPLE_RATE  # a longer caption is cut at the end of a word
_CLAUSE_ENDS = tuple(COMMAS + WIDE_COMMAS + "—–…." + STOPS + WIDE_STOPS)
_EMPHASIS = re.compile(r"(?<!\w)[*_`]+(?=[\w\"“'‘(])|(?<=[\w\"”'’).,;:!?])[*_`]+(?!\w)")
_TIME_TAG = re.compile(r"\[(\d[\d:.]*)\]")  # LRC would read it as a time
_OPENERS = OPENING_QUOTES + OPENING_BRACKETS  # without marks that may also close: straight quotes, emphasis
_UNSPACED = re.compile(f"[{UNSPACED}{WIDE_PUNCTUATION}]")


class Word(Record):
    """A word as it is written, with the marks that belong to it."""

    text: str
    start: int  # in characters of the source
    end: int  # after its last character
    first: int  # frame of the recording at which it begins
    last: int  # frame at which it ends; the last word of a text chunk lasts to the end of the audio
    spaced: bool = True  # whether a blank precedes it


def words_of(chunk: Spoken, before: int) -> list[Word]:
    """The words of a text chunk in order, separated by blanks; in scripts without blanks, as the engine timed them.

    `before`: frames of the recording before the chunk. Marks without sound, such as a dash, belong to the word before
    them. A word that should have been spoken and has no time takes no time.
    """
    words: list[Word] = []
    earliest, end_of_chunk = before, before + chunk.frames
    for start, end, times in _with_marks(chunk.text, _spans(chunk)):
        first = min((first for first, _ in times), default=0) + before
        last = max((last for _, last in times), default=0) + before
        first = min(max(first, earliest), end_of_chunk)
        last = min(max(first, last), end_of_chunk)
        words.append(
            Word(
                text=chunk.text[start:end],
                start=chunk.places[start],
                end=chunk.places[end - 1] + 1,
                first=first,
                last=last,
                spaced=start == 0 or chunk.text[start - 1].isspace(),
            )
        )
        earliest = last
    if words:
        words[-1] = words[-1].replace(last=end_of_chunk)
    return words


def _spans(chunk: Spoken) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
    """Start and end in the chunk's text, and first and last frame of each word that was spoken there."""
    spoken = sorted((word.start, word.end, word.first_frame, word.last_frame) for word in chunk.words)
    timed = deque(word for each in spoken for word in _shared(chunk.text, *each))
    for start, end in (run.span() for run in re.finditer(r"\S+", chunk.text)):
        held = []
        while timed and timed[0][0] < end:
            held.append(timed.popleft())
        cuts = [_cut(chunk.text, start, word[0]) for word in held[1:]]
        cuts = [cut for cut in cuts if cut > start and _unspaced(chunk.text, cut)]
        for first, last in zip([start, *cuts], [*cuts, end], strict=True):
            yield first, last, [(word[2], word[3]) for word in held if first <= word[0] < last]


def _shared(text: str, start: int, end: int, first: int, last: int) -> Iterator[tuple[int, int, int, int]]:
    """Splits words that are said as one ("5 kg" as "five kilograms"): each gets time in proportion to its letters."""
    parts = [run.span() for run in re.compile(r"\S+").finditer(text, start, end) if speakable(run[0])]
    if len(parts) < 2:
        yield start, end, first, last
        return
    letters = sum(finish - begin for begin, finish in parts)
    before = 0
    for begin, finish in parts:
        after = before + finish - begin
        yield begin, finish, first + (last - first) * before // letters, first + (last - first) * after // letters
        before = after


def _cut(text: str, start: int, word: int) -> int:
    """Where a word begins with its opening brackets and quotes."""
    while word > start and text[word - 1] in _OPENERS:
        word -= 1
    return word


def _unspaced(text: str, place: int) -> bool:
    """Whether text may be parted at a place without a blank: beside a script without blanks, not before an accent."""
    parts = _UNSPACED.search(text, place - 1, place + 1) is not None
    return parts and not unicodedata.category(text[place]).startswith("M")


def _with_marks(
    text: str, spans: Iterable[tuple[int, int, list[tuple[int, int]]]]
) -> list[tuple[int, int, list[tuple[int, int]]]]:
    """Joins marks, which have neither time nor sound, to a neighbouring word."""
    kept: list[tuple[int, int, list[tuple[int, int]]]] = []
    opening = None  # start of the marks before the first word
    for start, end, times in spans:
        if times or speakable(text[start:end]):
            kept.append((start if opening is None else opening, end, times))
            opening = None
        elif kept:
            kept[-1] = (kept[-1][0], end, kept[-1][2])
        elif opening is None:
            opening = start
    return kept


# --- Cues ------------------------------------------------------------------------------------------------------------


class Cue(Record):
    """One caption."""

    text: str  # one line
    first: int  # frame of the recording
    last: int


def cues_of(words: Sequence[Word]) -> list[Cue]:
    """The words of a text chunk in captions of LINES lines at most, which end with a clause where possible."""
    cues: list[Cue] = []
    held: list[Word] = []
    for word in words:
        while held and (not _fits([*held, word]) or word.last - held[0].first > MAX_CUE_FRAMES):
            cut = _clause_end(held) or len(held)
            cues.append(_cue(held[:cut]))
            held = held[cut:]
        held.append(word)
    return [*cues, _cue(held)] if held else cues


def _clause_end(words: Sequence[Word]) -> int:
    """Index after the last word that ends a clause in the second half; 0 if there is none."""
    ends = [at for at in range(len(words) // 2, len(words)) if words[at].text.endswith(_CLAUSE_ENDS)]
    return ends[-1] + 1 if ends else 0


def _fits(words: Sequence[Word]) -> bool:
    return len(lines(_text(words))) <= LINES


def _cue(words: Sequence[Word]) -> Cue:
    return Cue(text=_text(words), first=words[0].first, last=words[-1].last)


def _text(words: Sequence[Word]) -> str:
    """The words as a reader wants them: without Markdown's emphasis."""
    return "".join((" " if word.spaced else "") + (_EMPHASIS.sub("", word.text) or word.text) for word in words).strip()


def lines(text: str) -> list[str]:
    """A caption's text in lines of LINE_WIDTH columns; two of about the same length are easier to read."""
    if columns(text) <= LINE_WIDTH:
        return [text]
    borders = [at for at in range(1, len(text)) if text[at] == " " or _unspaced(text, at)]
    halves = [at for at in borders if max(columns(text[:at]), columns(text[at:].lstrip())) <= LINE_WIDTH]
    if halves:
        middle = min(halves, key=lambda at: abs(columns(text[:at]) - columns(text[at:])))
        return [text[:middle], text[middle:].lstrip()]
    fitting = [at for at in borders if columns(text[:at]) <= LINE_WIDTH] or borders[:1]
    return [text[: fitting[-1]], *lines(text[fitting[-1] :].lstrip())] if fitting else [text]


# --- Files -----------------------------------------------------------------------------------------------------------


class CaptionFile:
    """Writes the words of one text chunk after another. For one thread. Raises OutputError.

    with CaptionFile("out.srt", "srt") as file:  # leaving the block commits; an exception discards
        file.add(words_of(chunk, before), before + chunk.frames)
    """

    def __init__(
        self, path: str, kind: str, title: str = "", artist: str = "", source: str = "", scratch: str = ""
    ) -> None:
        """`kind`: one of KINDS. `source`: the text that places refer to, unless the user has it as a file. `scratch`:
        see OutputFile."""
        self._kind = kind
        self._output = OutputFile(path, scratch)
        self._cues = 0
        self._words = 0
        self._end = 0  # frames
        self._source = source
        try:
            self._write(_head(kind, title, artist))
        except BaseException:
            self.discard()
            raise

    def __enter__(self) -> CaptionFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.commit()
        else:
            self.discard()

    def add(self, words: Sequence[Word], end: int) -> None:
        """The words of a text chunk, whose audio ends at the frame `end`."""
        self._end = end
        if self._kind == "words":
            for word in words:
                self._write((",\n" if self._words else "\n") + json.dumps(_fields(word), ensure_ascii=False))
                self._words += 1
            return
        for cue in cues_of(words):
            self._cues += 1
            self._write(_FORMATS[self._kind](self._cues, cue))

    def commit(self) -> None:
        """Completes the file and puts it under its name. Discards if that fails."""
        try:
            if self._kind == "lrc":
                self._write(f"[{_minutes(self._end)}]\n")  # clears the last line
            elif self._kind == "words":
                rest = {"duration": _seconds(self._end)} | ({"source": self._source} if self._source else {})
                self._write("\n],\n" + json.dumps(rest, ensure_ascii=False)[1:] + "\n")
        except BaseException:
            self.discard()
            raise
        self._output.commit()

    def discard(self) -> None:
        """Removes the unfinished file. Does nothing after `commit()`."""
        self._output.discard()

    def _write(self, text: str) -> None:
        with self._output.checked():
            self._output.write(text.encode("utf-8", "replace"))


def _fields(word: Word) -> dict[str, object]:
    return {
        "word": word.text,
        "start": _seconds(word.first),
        "end": _seconds(word.last),
        "source_start": word.start,
        "source_end": word.end,
    }


def _srt(number: int, cue: Cue) -> str:
    return f"{number}\n{_clock(cue.first, ',')} --> {_clock(cue.last, ',')}\n" + "\n".join(lines(cue.text)) + "\n\n"


def _vtt(_: int, cue: Cue) -> str:
    escaped = "\n".join(lines(cue.text)).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f"{_clock(cue.first, '.')} --> {_clock(cue.last, '.')}\n{escaped}\n\n"


def _lrc(_: int, cue: Cue) -> str:
    text = _TIME_TAG.sub(r"(\1)", cue.text)
    return f"[{_minutes(cue.first)}]{text}\n"


_FORMATS = {"srt": _srt, "vtt": _vtt, "lrc": _lrc}
KINDS = (*_FORMATS, "words")


def _head(kind: str, title: str, artist: str) -> str:
    if kind == "lrc":
        tags = (("ti", _one_line(title)), ("ar", _one_line(artist)))
        return "".join(f"[{name}:{value}]\n" for name, value in tags if value)
    return {"vtt": "WEBVTT\n\n", "words": '{"words": ['}.get(kind, "")


def _seconds(frame: int) -> float:
    return round(frame / SAMPLE_RATE, 6)


def _clock(frame: int, separator: str) -> str:
    """Hours, minutes, seconds and milliseconds."""
    seconds, milliseconds = divmod(round(frame * 1000 / SAMPLE_RATE), 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{separator}{milliseconds:03}"


def _minutes(frame: int) -> str:
    """Minutes, possibly more than 59, seconds and hundredths."""
    seconds, hundredths = divmod(round(frame * 100 / SAMPLE_RATE), 100)
    return f"{seconds // 60:02}:{seconds % 60:02}.{hundredths:02}"


def _one_line(text: str) -> str:
    return " ".join(text.replace("[", "(").replace("]", ")").split())
