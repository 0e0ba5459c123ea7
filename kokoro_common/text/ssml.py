"""SSML 1.1 to the events of markup.py, while it arrives, a character at a time.

Spoken as it says: speak, p, s, break, prosody (rate, volume), phoneme (ipa), sub, say-as (characters, digits, ordinal),
voice, lang, emphasis, token, w. The text in other elements is read, and a notice names each of them once; metadata,
desc and the like are not spoken. Nothing outside of the document is fetched, and a document that declares an entity is
refused. Source: W3C Recommendation "Speech Synthesis Markup Language (SSML) Version 1.1", 7 September 2010.
"""

from __future__ import annotations

import re
from collections import deque
from typing import NamedTuple
from xml.parsers import expat

from kokoro_common.errors import UsageError
from kokoro_common.text.markup import Border, Manner, Marked, PauseTag, Sign, Speaker
from kokoro_common.text.speech import MAX_CHUNK_PAUSE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from kokoro_common.text.markup import Event, Markup

MAX_DEPTH = 100  # elements within elements
MAX_MARKED = 300  # characters that are said as a whole
MAX_TOKEN = 4000  # characters of a tag or comment; the parser looks at an unfinished one again with each character
BREAKS = {"none": 0.0, "x-weak": 0.1, "weak": 0.25, "medium": 0.5, "strong": 0.8, "x-strong": 1.2}  # seconds
RATES = {"x-slow": 0.5, "slow": 0.75, "medium": 1.0, "default": 1.0, "fast": 1.3, "x-fast": 1.7}
VOLUMES = {"silent": 0.0, "x-soft": 0.25, "soft": 0.5, "medium": 1.0, "default": 1.0, "loud": 1.4, "x-loud": 2.0}
STRESSES = {"strong": "+2", "moderate": "+1", "none": "0", "reduced": "-1"}
UNSPOKEN = {"metadata", "desc", "meta", "lexicon", "mark"}
READ = {"speak", "p", "s", "paragraph", "sentence", "break", "prosody", "phoneme", "sub", "say-as", "voice", "lang"} | {
    "emphasis", "token", "w", "lookup"
}  # fmt: skip
_SECONDS = re.compile(r"\+?(\d{1,6}(?:\.\d{0,6})?|\.\d{1,6})\s*(ms|s)")
_FACTOR = re.compile(r"\+?(\d{1,6}(?:\.\d{0,6})?)(%)?")
_CHANGE = re.compile(r"([+-]\d{1,6}(?:\.\d{0,6})?)(%|dB)")
_ORDINALS = {1: "st", 2: "nd", 3: "rd"}


class _Element(NamedTuple):
    name: str
    manner: Manner  # of the text in it
    voice: str
    said: str | None = None  # in place of the text in it
    phonemes: bool = False  # said is phonemes
    stress: str = ""
    spelled: str = ""  # a say-as's interpret-as


class Ssml:
    """One per utterance, for one thread. `take` and `finish` raise UsageError for what is no XML, with its place."""

    def __init__(self) -> None:
        self.notices: deque[str] = deque()  # one line for each kind of markup that is not obeyed
        self._parser = expat.ParserCreate("utf-8", " ")  # overrides the encoding that the declaration names
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text
        self._parser.EntityDeclHandler = self._entity
        if hasattr(self._parser, "SetReparseDeferralEnabled"):
            self._parser.SetReparseDeferralEnabled(False)  # report an element with the character that completes it
        self._open = [_Element("", Manner(1.0, 1.0, ""), "")]
        self._events: list[Event] = []
        self._place = 0  # of the character that is being taken
        self._marked: list[tuple[str, int]] = []  # characters and places of an element that is said as a whole
        self._quiet = 0  # depth within elements that are not spoken
        self._begun = False
        self._unfinished = 0  # characters of the tag or comment that the parser has not completed
        self._heard = False  # the parser has reported something for the last character
        self._told: set[str] = set()

    def take(self, character: str, place: int) -> Iterator[Event]:
        """Parses a single character: only then is the place of each event in the text known."""
        if character.isspace() and not self._begun:
            return  # in XML nothing may stand before its declaration
        self._begun = True
        self._unfinished += 1
        if self._unfinished > MAX_TOKEN:
            raise UsageError(f"this SSML has a tag or comment of more than {MAX_TOKEN} characters", "shorten it")
        self._place = place
        self._parse(character.encode("utf-8", "replace"))
        events, self._events = self._events, []
        self._unfinished = 0 if events or self._heard else self._unfinished
        self._heard = False
        yield from events

    def finish(self) -> Iterator[Event]:
        self._parse(b"", final=True)
        events, self._events = self._events, []
        yield from events

    def give_up(self) -> Iterator[Event]:
        """Nothing is held."""
        yield from ()

    def _parse(self, data: bytes, *, final: bool = False) -> None:
        try:
            self._parser.Parse(data, final)
        except expat.ExpatError as error:
            problem = expat.errors.messages.get(error.code, str(error))
            raise UsageError(
                f"this SSML is not well-formed: {problem}, line {error.lineno}, column {error.offset + 1}",
                "mend it, or speak it as it is with --plain",
            ) from error

    def _entity(self, name: str, *_: object) -> None:
        raise UsageError(f"this SSML declares the entity {name[:40]!r}", "write out what it stands for")

    def _tell(self, what: str) -> None:
        if what not in self._told:
            self._told.add(what)
            self.notices.append(f"SSML: {what} is not supported; the text is spoken without it")

    # --- elements ----------------------------------------------------------------------------------------------------

    def _start(self, full_name: str, attributes: dict[str, str]) -> None:
        self._heard = True
        name = full_name.rpartition(" ")[2]
        given = {key.rpartition(" ")[2]: value.strip() for key, value in attributes.items()}
        outer = self._open[-1]
        if len(self._open) + self._quiet > MAX_DEPTH:
            raise UsageError(f"this SSML has more than {MAX_DEPTH} elements in each other", "flatten it")
        self._flush_stress(outer)
        if self._quiet or name in UNSPOKEN:
            self._quiet += 1
            if name == "mark":
                self._tell("<mark>")
            return
        if name not in READ:
            self._tell(f"<{name}>")
        if name in ("p", "s", "paragraph", "sentence"):
            self._events.append(Border())
        if name == "break":
            self._events.append(PauseTag(self._seconds(given), self._place))
        element = outer._replace(name=name)
        if name in ("prosody", "lang", "speak", "p", "s", "voice", "token", "w") and outer.said is None:
            element = element._replace(manner=self._manner(given, outer.manner))
        if name == "voice":
            voice = given.get("name", "") or given.get("gender", "") or outer.voice
            lang = given.get("lang", "") if "name" in given else element.manner.lang
            element = element._replace(voice=voice, manner=element.manner._replace(lang=lang))
        if outer.said is None and not outer.spelled:
            element = self._said(name, given, element)
        self._enter(outer, element)
        self._open.append(element)

    def _said(self, name: str, given: dict[str, str], element: _Element) -> _Element:
        """The element with what is said in place of its text."""
        if name == "sub":
            return element._replace(said=given.get("alias") or None)
        if name == "phoneme" and given.get("alphabet", "ipa") == "ipa":
            return element._replace(said=given.get("ph") or None, phonemes=True)
        if name == "phoneme":
            self._tell(f"the alphabet {given['alphabet']}")
        if name == "emphasis":
            return element._replace(stress=STRESSES.get(given.get("level", "moderate"), "+1"))
        if name == "say-as":
            return element._replace(spelled=given.get("interpret-as", "") or "unknown")
        return element

    def _end(self, _: str) -> None:
        self._heard = True
        if self._quiet:
            self._quiet -= 1
            return
        element = self._open.pop()
        outer = self._open[-1]
        self._flush_stress(element)
        if element.said is not None and outer.said is None:
            self._give(element.said, phonemes=element.phonemes)
        elif element.spelled and not outer.spelled:
            self._spell(element.spelled)
        if element.name in ("p", "s", "paragraph", "sentence"):
            self._events.append(Border())
        self._enter(element, outer)

    def _enter(self, before: _Element, after: _Element) -> None:
        if before.manner != after.manner:
            self._events.append(after.manner)
        if before.voice != after.voice:
            self._events.append(Speaker(after.voice))

    def _text(self, text: str) -> None:
        self._heard = True
        element = self._open[-1]
        if self._quiet:
            return
        if element.said is not None or element.spelled:
            if len(self._marked) < MAX_MARKED or element.spelled:
                self._marked += ((character, self._place) for character in text)
            if element.spelled and len(self._marked) >= MAX_MARKED // 3:  # three characters are said for each
                self._spell(element.spelled)
        elif element.stress and not text.isspace():
            # Text comes a character at a time: gather a word until a blank ends it.
            if len(self._marked) >= MAX_MARKED:
                self._flush_stress(element)
            self._marked += ((character, self._place) for character in text)
        else:
            self._flush_stress(element)
            self._events += (Sign(" " if character == "\n" else character, self._place) for character in text)

    def _flush_stress(self, element: _Element) -> None:
        """Gives the word that has been gathered, with its stress."""
        if self._marked and element.stress and element.said is None and not element.spelled:
            word = "".join(character for character, _ in self._marked)
            self._give(f"[{word}]({element.stress})")

    def _give(self, said: str, *, phonemes: bool = False) -> None:
        marked, self._marked = self._marked[:MAX_MARKED], []
        text = "".join(character for character, _ in marked)
        if text.strip():
            self._events.append(Marked(text, tuple(place for _, place in marked), said[:MAX_MARKED], phonemes))

    def _spell(self, kind: str) -> None:
        """Gives the text of a say-as. Dates, times, money and numbers are read as they are anywhere."""
        text = "".join(character for character, _ in self._marked)
        if kind in ("characters", "spell-out", "verbatim", "letters"):
            self._give(", ".join(each for each in text if not each.isspace()))
            return
        if kind in ("digits", "telephone"):
            self._give(" ".join(each for each in text if each.isalnum() or each in "+*#"))
            return
        marked, self._marked = self._marked, []
        self._events += (Sign(" " if character == "\n" else character, place) for character, place in marked)
        if kind == "ordinal" and text.strip().isdecimal():
            number = int(text.strip()[-2:])
            ending = "th" if 10 < number < 20 else _ORDINALS.get(number % 10, "th")
            self._events += (Sign(character, self._place) for character in ending)
        elif kind not in ("ordinal", "cardinal", "number", "date", "time", "currency", "fraction", "unit", "address"):
            self._tell(f'interpret-as="{kind[:40]}"')

    # --- attributes --------------------------------------------------------------------------------------------------

    def _seconds(self, given: dict[str, str]) -> float:
        if "time" in given:
            if time := _SECONDS.fullmatch(given["time"]):
                return min(MAX_CHUNK_PAUSE, float(time[1]) / (1000 if time[2] == "ms" else 1))
            self._tell(f'<break time="{given["time"][:40]}">')
        return BREAKS.get(given.get("strength", "medium"), BREAKS["medium"])

    def _manner(self, given: dict[str, str], outer: Manner) -> Manner:
        speed, gain, lang = outer
        if rate := given.get("rate"):
            speed *= self._factor("rate", rate, RATES)
        if volume := given.get("volume"):
            gain = self._gain(volume, gain)
        for name in ("pitch", "contour", "range", "duration"):
            if name in given:
                self._tell(f"<prosody {name}>")
        return Manner(speed, gain, given.get("lang", lang))

    def _factor(self, name: str, value: str, names: dict[str, float]) -> float:
        if value in names:
            return names[value]
        if change := _CHANGE.fullmatch(value):
            return max(0.1, 1 + float(change[1]) / 100)
        if factor := _FACTOR.fullmatch(value):
            return max(0.1, float(factor[1]) / (100 if factor[2] else 1))
        self._tell(f'<prosody {name}="{value[:40]}">')
        return 1.0

    def _gain(self, value: str, outer: float) -> float:
        change = _CHANGE.fullmatch(value)
        if change and change[2] == "dB":
            return float(min(2.0, outer * 10 ** (min(40.0, float(change[1])) / 20)))
        if value not in VOLUMES and (number := _FACTOR.fullmatch(value)) and not number[2]:
            return min(1.0, float(number[1]) / 100)  # 1.0 of SSML: 0 to 100
        return min(2.0, outer * self._factor("volume", value, VOLUMES))


class Unknown:
    """Decides by the beginning of a text whether it is SSML or Markdown, and is one of these from then on."""

    def __init__(self, markup: Markup, ssml: Ssml) -> None:
        self._markup, self._ssml = markup, ssml
        self._reader: Markup | Ssml | None = None
        self._held: list[tuple[str, int]] = []

    def take(self, character: str, place: int) -> Iterator[Event]:
        if self._reader is not None:
            yield from self._reader.take(character, place)
            return
        if not self._held and character.isspace():
            return
        self._held.append((character, place))
        begun = "".join(character for character, _ in self._held).lstrip("\ufeff")
        if begun.startswith("<?xml ") and len(begun) < 200:
            begun = begun.partition("?>")[2].lstrip(" \t\n") if "?>" in begun else ""
        if begun.startswith("<!DOCTYPE speak") or re.match(r"<speak[\s>]", begun):
            yield from self._decide(self._ssml)
        elif not any(beginning.startswith(begun) for beginning in ("<?xml ", "<speak", "<!DOCTYPE speak")):
            yield from self._decide(self._markup)

    def finish(self) -> Iterator[Event]:
        if self._reader is None:
            yield from self._decide(self._markup)
        assert self._reader is not None
        yield from self._reader.finish()

    def give_up(self) -> Iterator[Event]:
        """Gives up what is held of a line as text, because its writer has paused; more of the line may follow."""
        if self._reader is None:
            yield from self._decide(self._markup)
        assert self._reader is not None
        yield from self._reader.give_up()

    def _decide(self, reader: Markup | Ssml) -> Iterator[Event]:
        self._reader = reader
        held = self._held
        if reader is self._ssml:  # in XML nothing may stand before its declaration
            held = held[next(index for index, (character, _) in enumerate(held) if character == "<") :]
        for each in held:
            yield from reader.take(*each)
