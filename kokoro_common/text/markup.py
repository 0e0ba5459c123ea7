"""Markdown's lines and the tags between words, taken out of a text while it arrives, a character at a time.

    # Heading             a border after it         | a | b |    a row: its cells with commas, and a border
    - item, * item        a border before it        ``` fence    named, then left out or read line by line
    1. item               the same, number said     > quoted     said; ---, === and comments are not
    [shown](address)      shown                     ![shown](address)

    [word](/phonemes/)  [word](+1)  [pause:1.5s]  [voice:am_adam] ... [voice:-]
    <nick> text           "nick: text"; it, file.c:7:1: text and 2026-11-26 12:00 text have a line of their own
    NAME: text            in a dialogue: with the voice of NAME, up to the next name

What stands within a line, from emphasis to numbers, is the reader's. The beginning of a line shows its kind, so a few
characters are held back there, and a heading, a row or a tag as a whole; never more than MAX_HELD. Whatever turns out
to be none of these is text, all of it.

Over 400 lines: the kinds of line and of tag that a text may have, and the one pass that sees them all.
"""

from __future__ import annotations

import re
from collections import deque
from typing import NamedTuple

from kokoro_common.text.speech import MAX_CHUNK_PAUSE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MAX_HELD = 2000  # characters of a line or tag that are held back; a longer one is text
MAX_TAG = 300  # characters of a tag: what is said for it has to fit into a chunk
MAX_SPEAKERS = 1000  # with a voice of their own in a dialogue; later ones have the utterance's
MAX_NESTED = 3  # brackets within brackets
CODE = {
    "a": "Code", "b": "Code", "e": "Código", "f": "Code", "h": "कोड", "i": "Codice", "j": "コード", "p": "Código",
    "z": "代码",
}  # fmt: skip


class Sign(NamedTuple):
    """A character of the text."""

    character: str
    place: int  # in the text as fed


class Marked(NamedTuple):
    """A stretch of text that its writer wants said in another way."""

    text: str
    places: tuple[int, ...]  # one for each character
    said: str
    phonemes: bool  # said is phonemes


class Border(NamedTuple):
    """A border between chunks."""


class PauseTag(NamedTuple):
    seconds: float
    place: int


class Speaker(NamedTuple):
    """The voice from here on; "": the utterance's own."""

    voice: str


class Manner(NamedTuple):
    """How the text is spoken from here on."""

    speed: float  # factor
    gain: float  # factor on the samples
    lang: str  # tag; "": the voice's own


Event = Sign | Marked | Border | PauseTag | Speaker | Manner
Held = list[tuple[str, int]]

_ITEM = re.compile(r"\s*([-*+•])[ \t]+(?!\1)\S")  # with the first character of what is said
_NUMBERED = re.compile(r"\s*\d{1,3}[.)][ \t]")
_QUOTE = re.compile(r"\s{0,3}>")
_NICK = re.compile(r"<[@+%~&]?([A-Za-z_][\w-]{1,30})> ")
_LOGGED = re.compile(r"[!-~]{1,120}:\d{1,6}:(?:\d{1,6}:)? |\[?\d{4}-\d\d-\d\d[T ]\d\d:\d\d")
_COMMENT = re.compile(r"\s*<!--")
_WHOLE = {  # kinds of line that are judged when the line is complete
    "heading": re.compile(r"\s{0,3}#{1,6}[ \t]"),
    "row": re.compile(r"\s{0,3}\|"),
    "fence": re.compile(r"\s{0,3}```"),
    "definition": re.compile(r"\s{0,3}\[[^\[\]]{1,60}\]:[ \t]"),
}
_PERHAPS = re.compile(
    r"\s{0,60}(?:#{0,6}|[-*+•][ \t]{0,9}|([-*_=~])(?:[ \t]?\1){0,100}[ \t]?|\d{1,3}[.)]?"
    r"|`{1,2}|<(?:!-?)?|\[[^\[\]]{0,60}\]?:?)?|[!-~]{1,130}|\[?\d{4}-\d\d-\d\d [\d:]{0,4}"
)
_RULE = re.compile(r"\s{0,3}([-*_=~])(?:[ \t]?\1){2,}[ \t]*")
# Up to three words with capitals, or any one word; names of the cast may be anything.
_SPEAKER = r"(?:\w[\w.'’-]{0,19}|[^\Wa-z_][\w.'’-]{0,19}(?: [^\Wa-z_][\w.'’-]{0,19}){1,2})"
_NAME = re.compile(rf"\s{{0,9}}({_SPEAKER}):[ \t]")
_LONG_NAME = re.compile(r"\s{0,9}(\w[\w .'’-]{0,39}):[ \t]")
_PERHAPS_NAME = re.compile(r"\s{0,9}(?:\w[\w .'’-]{0,39}:?)?")
_ADDRESS = re.compile(r"""\s*<?[^\s<>]*>?(?:\s+(?:"[^"]*"|'[^']*'))?\s*""")
_DEFINITION = re.compile(r"\s*\[[^\[\]]+\]:[ \t]+(?:<[^>]*>|#\S*|\S*/\S*)(?:\s+[\"'(].*)?\s*")
_DELIMITER_ROW = re.compile(r"[\s|:-]*-[\s|:-]*")
_BAR = re.compile(r"(?<!\\)\|")
_TAG = re.compile(
    r"\[\s*(?:(?i:pause):\s*(?P<number>\d{1,6}(?:\.\d{1,6})?|\.\d{1,6})\s*(?P<unit>(?i:m?s|m?sec|m?secs|seconds?))?"
    r"|(?i:voice):\s*(?P<voice>[A-Za-z0-9_:,.]{1,256}|-))\s*\]"
)
_NO_TAG = re.compile(r"\[\s*(?i:pause|voice)\s*(?::[^\[\]]*)?\]")  # meant as one, perhaps, and read out
_NESTED = re.compile(r"!?\[([^\[\]]*)\]\([^()]*\)")
_ELEMENTS = {"br", "hr", "em", "strong", "code", "pre", "div", "span", "ul", "ol", "li", "table", "tr", "td", "th"} | {
    "img", "h1", "h2", "h3", "h4", "h5", "h6", "sub", "sup", "kbd", "details", "summary",
}  # fmt: skip
_STRESS = re.compile(r"[+-]?\d(?:\.\d{1,3})?")


class Markup:
    """One per utterance, for one thread. What it gives does not depend on how the text was fed."""

    def __init__(
        self,
        lang: str,
        *,
        read_code: bool = False,
        cast: Mapping[str, str] | None = None,
        voices: Sequence[str] = (),
    ) -> None:
        """`read_code`: code blocks are read too. `cast`: the text is a dialogue; voices by name. A speaker who is not
        in the cast gets one of `voices`."""
        self.notices: deque[str] = deque()  # a line for what looks like a tag and is none
        self._block_name = CODE[lang]
        self._read_code = read_code
        self._cast = None if cast is None else {name.casefold(): voice for name, voice in cast.items()}
        self._voices = voices
        self._take_in = self._take_beginning  # takes the next character
        self._held: Held = []
        self._kind = ""  # key in _WHOLE of the line that is held
        self._fence = ""  # the characters that end the code block
        self._last = ""  # character given as text
        self._code_span = False  # between backticks, where brackets are text
        self._depth = 0  # of the brackets that are held

    def take(self, character: str, place: int) -> Iterator[Event]:
        """Newlines are \\n, and runs of blanks need not be single."""
        yield from self._take_in(character, place)

    def finish(self) -> Iterator[Event]:
        """The end of the text. Nothing may be taken afterwards."""
        if self._take_in == self._take_comment:  # a comment that never ends is text
            yield from self._as_plain_text()
        if self._held:
            end = self._held[-1][1]
            for event in self.take("\n", end):
                if event != Sign("\n", end):
                    yield event

    def give_up(self) -> Iterator[Event]:
        """Gives up what is held of a line as text, because its writer has paused; more of the line may follow."""
        if self._take_in in (self._take_beginning, self._take_text):
            yield from self._as_text()
            yield from self._end_brackets()

    # --- the beginning of a line -------------------------------------------------------------------------------------

    def _take_beginning(self, character: str, place: int) -> Iterator[Event]:
        held = self._held
        if character == "\n":
            if _RULE.fullmatch(_text(held)):
                self._held = []
                yield Border()
            yield from self._as_text()
            yield from self._take_text("\n", place)
            return
        held.append((character, place))
        begun = _text(held)
        if self._cast is not None and (name := self._name_in(begun)):
            self._held = []
            yield Speaker(self._voice_of(name, self._cast))
            self._take_in = self._take_text
        elif _ITEM.fullmatch(begun):
            del held[:-1]
            yield Border()
            yield from self._as_text()
        elif _NUMBERED.fullmatch(begun):
            yield Border()
            yield from self._as_text()
        elif _QUOTE.fullmatch(begun):
            self._held = []
        elif (nick := _NICK.fullmatch(begun)) and nick[1].lower() not in _ELEMENTS:
            self._held = [*held[nick.start(1) : nick.end(1)], (":", held[-2][1]), held[-1]]
            yield Border()
            yield from self._as_text()
        elif _LOGGED.fullmatch(begun):
            yield Border()
            yield from self._as_text()
        elif _COMMENT.fullmatch(begun):
            self._take_in = self._take_comment
        elif kind := next((kind for kind, pattern in _WHOLE.items() if pattern.fullmatch(begun)), ""):
            self._kind, self._take_in = kind, self._take_line
        elif not self._perhaps(begun):
            yield from self._as_text()

    def _name_in(self, begun: str) -> str:
        """The speaker whose part begins, casefolded; "" for any other line."""
        name = _NAME.fullmatch(begun) or _LONG_NAME.fullmatch(begun)
        known = self._cast or {}
        return name[1].casefold() if name and (name.re is _NAME or name[1].casefold() in known) else ""

    def _voice_of(self, name: str, cast: dict[str, str]) -> str:
        if name not in cast and len(cast) < MAX_SPEAKERS:
            free = [voice for voice in self._voices if voice not in cast.values()] or self._voices
            cast[name] = free[len(cast) % len(free)] if free else ""
        return cast.get(name, "")

    def _perhaps(self, begun: str) -> bool:
        """Whether more characters could make it the beginning of a line that is no text."""
        return bool(_PERHAPS.fullmatch(begun) or (self._cast is not None and _PERHAPS_NAME.fullmatch(begun)))

    def _as_text(self) -> Iterator[Event]:
        """Takes what is held as text."""
        held, self._held = self._held, []
        self._take_in = self._take_text
        for character, place in held:
            yield from self._take_in(character, place)

    def _take_comment(self, character: str, place: int) -> Iterator[Event]:
        self._held.append((character, place))
        if character == ">" and _text(self._held[-3:]) == "-->":
            self._held = []
            self._take_in = self._take_text
        elif len(self._held) > MAX_HELD:
            yield from self._as_plain_text()

    def _as_plain_text(self) -> Iterator[Event]:
        """Gives what is held as text, whatever its lines look like: an unfinished comment was held long enough."""
        held, self._held = self._held, []
        for character, place in held:
            self._last = character
            yield Sign(character, place)
        self._take_in = self._take_text

    # --- whole lines -------------------------------------------------------------------------------------------------

    def _take_line(self, character: str, place: int) -> Iterator[Event]:
        if character != "\n":
            self._held.append((character, place))
            if len(self._held) > MAX_HELD:
                yield from self._as_text()
            return
        held, self._held = self._held, []
        self._take_in = self._take_beginning
        line = _text(held)
        if self._kind == "heading":
            yield from self._heading(held, line)
        elif self._kind == "row":
            yield from self._row(held, line)
        elif self._kind == "fence" and "`" not in line.strip().lstrip("`"):
            yield from self._open_fence(held, line)
        elif self._kind != "definition" or not _DEFINITION.fullmatch(line):
            self._held = held
            yield from self._as_text()
            yield from self._take_text("\n", place)

    def _heading(self, held: Held, line: str) -> Iterator[Event]:
        title = held[len(line) - len(line.lstrip().lstrip("#")) : len(re.sub(r"\s#+\s*$", "", line))]
        yield Border()
        yield from self._line_of_text(title)

    def _row(self, held: Held, line: str) -> Iterator[Event]:
        yield Border()
        if _DELIMITER_ROW.fullmatch(line):
            return
        bars = [bar.start() for bar in _BAR.finditer(line)]
        said: Held = []
        for start, end in zip(bars, [*bars[1:], len(line)], strict=True):
            cell = held[start + 1 : end]
            if _text(cell).strip():
                said += [(",", held[start][1]), (" ", held[start][1])] if said else []
                said += _stripped(cell)
        yield from self._line_of_text(said)

    def _line_of_text(self, held: Held) -> Iterator[Event]:
        for character, place in held:
            yield from self._take_text(character, place)
        yield from self._end_brackets()
        yield Border()
        self._take_in = self._take_beginning

    def _open_fence(self, held: Held, line: str) -> Iterator[Event]:
        stripped = line.strip()
        self._fence = stripped[: len(stripped) - len(stripped.lstrip(stripped[0]))]
        language = re.match(r"[\w+#.-]{0,40}", stripped.lstrip(stripped[0]).strip())
        place = held[0][1]
        yield Border()
        yield from (Sign(character, place) for character in self._block_name)
        if language and language[0]:
            yield from (Sign(character, place) for character in f", {language[0]}")
        yield from (Sign(".", place), Border())
        self._take_in = self._take_code

    def _take_code(self, character: str, place: int) -> Iterator[Event]:
        if character != "\n":
            if self._read_code or len(self._held) <= MAX_TAG:  # to see its end, the beginning of a line is enough
                self._held.append((character, place))
            if self._read_code and len(self._held) > MAX_HELD:
                yield from (Sign(*each) for each in self._held)
                self._held = []
            return
        held, self._held = self._held, []
        line = _text(held).strip()
        if line.startswith(self._fence) and not line.strip(self._fence[0]):
            self._take_in = self._take_beginning
        elif self._read_code:
            yield from (Sign(*each) for each in held)
            yield Border()

    # --- within a line -----------------------------------------------------------------------------------------------

    def _take_text(self, character: str, place: int) -> Iterator[Event]:
        if self._held:
            yield from self._take_bracket(character, place)
        elif not self._code_span and (character == "[" or (character == "!" and not self._last.isalnum())):
            self._held = [(character, place)]
            self._depth = int(character == "[")
        else:
            self._last = character
            self._code_span ^= character == "`"
            if character == "\n":
                self._take_in = self._take_beginning
                self._code_span = False
            yield Sign(character, place)

    def _take_bracket(self, character: str, place: int) -> Iterator[Event]:
        held, before = self._held, self._held[-1][0]
        no_image = len(held) == 1 and before == "!" and character != "["
        complete = self._depth == 0 and (before == ")" or (before == "]" and character != "("))
        if character == "\n":
            yield from self._end_brackets()
            yield from self._take_text(character, place)
            return
        if no_image or complete or len(held) > MAX_TAG or self._depth > MAX_NESTED:
            yield from self._give_first()
            yield from self._take_text(character, place)
            return
        held.append((character, place))
        self._depth += (character in "[(") - (character in "])")
        if self._depth == 0 and character in "])" and (events := self._read_tag()) is not None:
            self._held = []
            yield from events

    def _read_tag(self) -> list[Event] | None:
        """The events of the complete brackets that are held; None: more may follow, or they are text."""
        text = _text(self._held)
        places = tuple(place for _, place in self._held)
        if tag := _TAG.fullmatch(text):
            if tag["voice"]:
                return [Speaker(tag["voice"].strip("-"))]
            return [PauseTag(_seconds(tag["number"], tag["unit"] or ""), places[0])]
        if _NO_TAG.fullmatch(text):
            self.notices.append(f"{text[:48]} is read out; write [pause:1.5s], [voice:NAME] or [voice:-]")
        middle = text.rfind("](")
        if middle < 0 or not text.endswith(")"):
            return None
        first = text.index("[") + 1
        shown, target = text[first:middle], text[middle + 2 : -1]
        if len(target) > 2 and target[0] == target[-1] == "/" and shown.strip():
            return [Marked(shown, places[first:middle], target[1:-1], True)]
        if _STRESS.fullmatch(target) and shown.strip():
            return [Marked(shown, places[first:middle], text, False)]
        if self._last.isalnum() or not _ADDRESS.fullmatch(target):
            return None
        return [Sign(text[at], places[at]) for at in _label_places(text, first, middle)]

    def _end_brackets(self) -> Iterator[Event]:
        """Gives all that is held as text."""
        while self._held:
            yield from self._give_first()

    def _give_first(self) -> Iterator[Event]:
        """Gives the first held character as text and takes the others again: they may begin a tag of their own."""
        (character, place), *rest = self._held
        self._held, self._last = [], character
        yield Sign(character, place)
        for each in rest:
            yield from self._take_text(*each)


def _seconds(number: str, unit: str) -> float:
    """Without a unit seconds, or milliseconds where so many seconds are never given."""
    seconds = float(number)
    if unit[:1].lower() == "m" or (not unit and seconds > MAX_CHUNK_PAUSE):
        seconds /= 1000
    return min(MAX_CHUNK_PAUSE, seconds)


def _text(held: Held) -> str:
    return "".join(character for character, _ in held)


def _stripped(held: Held) -> Held:
    text = _text(held)
    return held[len(text) - len(text.lstrip()) : len(text.rstrip())]


def _label_places(text: str, first: int, last: int) -> list[int]:
    """The places of a link's label that are shown; of links and images within it, those of their labels."""
    places: list[int] = []
    for nested in _NESTED.finditer(text, first, last):
        places += (*range(first, nested.start()), *range(*nested.span(1)))
        first = nested.end()
    return [*places, *range(first, last)]
