"""Grapheme to phoneme: one text chunk in, the phonemes of Kokoro's vocabulary out.

The phonemes equal those of kokoro's KPipeline with the same front end, with one difference: KPipeline drops what is
beyond 510 phonemes, `split_spoken` keeps it. kokoro itself is never imported.

Where in the text the words stand that the phonemes belong to, and how exactly that is known:
- English: exact, misaki gives the phonemes of each token. A word is a token: "$3.50", "well-known", "and/or".
- Spanish, French, Hindi, Italian, Portuguese: espeak-ng gives one string. A word is what stands between blanks and
  punctuation ("3.5" is two); its phonemes are found by how it sounds alone. Exact, except where espeak fuses words:
  "qu'est-ce que" is one word, and a long stretch is shared out by length, one or two phonemes off.
- Mandarin, Japanese: the same with jieba's and MeCab's words. Where the front end cuts the text otherwise (numbers),
  neighbours share the stretch by length.

Thread: everything is used on one thread, the one that made the G2P. espeak-ng has a process of its own: it crashes.
"""

from __future__ import annotations

import functools
import logging
import re
from typing import TYPE_CHECKING

from kokoro_common.errors import UsageError
from kokoro_common.phonemes.alignment import MISAKI_CRASHES, aligning, runs_between_marks
from kokoro_common.phonemes.east_asian import japanese, mandarin
from kokoro_common.phonemes.english import English
from kokoro_common.phonemes.espeak_process import EspeakProcess
from kokoro_common.phonemes.lean_imports import misaki_espeak
from kokoro_common.phonemes.spoken import BLANK, UNKNOWN, Part, Spoken, assembled
from kokoro_common.text.edits import STRESSED, Edit, applied

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import ModuleType

log = logging.getLogger("kokoro.g2p")

ENGLISH = "ab"  # spaCy imports torch for it
ESPEAK_LANGUAGES = {"e": "es", "f": "fr-fr", "h": "hi", "i": "it", "p": "pt-br"}  # kokoro.pipeline.LANG_CODES
_LONGEST_WORD = 50  # letters; a longer one comes in pieces
_MOST_PARTS = 24  # of a word, such as "1", "a" and "-"; misaki is cubic in them: "1a" 200 times took 0.9 s with 50
_LONGEST_NUMBER = 30  # digits; longer ones are read digit by digit (num2words ends at 10 ** 306)
_TRANSLATION: dict[int, str | None] = {
    **dict.fromkeys((*range(0x20), *range(0x7F, 0xA0)), " "),  # NUL would end the text inside espeak-ng
    **dict.fromkeys((0xAD, 0x200B, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2060, 0x206A), 0xFEFF)),
    **dict.fromkeys(range(0xD800, 0xE000)),  # lone surrogates
}
_MANY_PARTS = re.compile(
    rf"(?:\d++|[A-Z]*+[^\W\d_A-Z]++|[A-Z]++|[!-/:-@[-`{{-~‘’]){{{_MOST_PARTS}}}(?=\S)"
)  # possessive, or "7777" would be tried in all ways
_OBJECT = "\ufffc"  # in the place of given phonemes, in a line whose front end takes none


class G2P:
    """Phonemes for all of Kokoro's languages; a language's front end is built when it is first needed, and kept.

    `spacy_path`: directory of an English spaCy model with a tagger; without one, or if it does not load, English uses
    the built-in tagger. `temporary_dir`: where phonemizer puts its copies of the espeak-ng library, one per language,
    and jieba its cache; a killed process leaves them there for its owner to sweep.
    """

    def __init__(self, spacy_path: str | None, temporary_dir: str) -> None:
        self._temporary_dir = temporary_dir
        self._espeak = EspeakProcess(temporary_dir)
        self._front_ends: dict[str, Callable[[str], list[Part]]] = {}
        self._english = English(spacy_path)

    @property
    def quality(self) -> dict[str, str]:
        """{"en": "spacy en_core_web_sm 3.8.0"} or {"en": "built-in tagger"}; empty until English has been needed."""
        return {"en": self._english.tagger} if self._english.tagger else {}

    def warm(self, lang: str) -> None:
        """Builds the front end of a language now; English takes a second. Raises what `spoken` raises."""
        if lang not in "jz":
            self._espeak.start()  # its imports run beside ours
        self.spoken("a", lang)

    def spoken(self, text: str, lang: str, edits: Sequence[Edit] = ()) -> Spoken:
        """The phonemes of a text chunk, "" if there is nothing to say, and its words; milliseconds a sentence.

        `lang`: Kokoro's letter, one of a b e f h i j p z. `edits`: what is said instead of what is written; the words
        of one edit are one word. A word that misaki cannot handle is left out, and the log says so.
        Raises ModelUnavailable for a language whose extra is not installed, UsageError for one that does not exist,
        KokoroError when espeak-ng hangs or cannot be used.
        """
        front_end = self._front_ends.get(lang)
        if front_end is None:
            front_end = self._front_ends[lang] = self._build(lang)
        line, spans, given = _line(text, lang, edits)
        parts: list[Part] = []
        begin = 0
        for place, phonemes in given:
            parts += (part.moved(begin) for part in _survived(front_end, line[begin:place]))
            parts.append(Part(phonemes, place, place + 1))
            begin = place + 1
        parts += (part.moved(begin) for part in _survived(front_end, line[begin:]))
        if unknown := sum(part.phonemes.count(UNKNOWN) for part in parts):
            log.warning("%d unknown words or signs are not spoken", unknown)
        return assembled(parts, spans)

    def _build(self, lang: str) -> Callable[[str], list[Part]]:
        if lang in ENGLISH:
            return self._english.front_end(self._misaki_espeak, british=lang == "b")
        if lang in ESPEAK_LANGUAGES:
            g2p = self._misaki_espeak.EspeakG2P(ESPEAK_LANGUAGES[lang])
            return aligning(lambda text: str(g2p(text)[0]), runs_between_marks)
        if lang == "j":
            return japanese()
        if lang == "z":
            return mandarin(self._temporary_dir)
        raise UsageError(f"there is no language {lang!r}", "choose one of a b e f h i j p z")

    @functools.cached_property
    def _misaki_espeak(self) -> ModuleType:
        return misaki_espeak(self._espeak)


def _speakable(text: str, spaced: bool) -> str:
    """A text as one line, without characters that would end or reverse it; monstrous words and numbers in pieces.

    `spaced`: the language puts blanks between words. All other characters stay as they are, in order.
    """
    text = " ".join(text.translate(_TRANSLATION).split())
    text = re.sub(rf"\d{{{_LONGEST_NUMBER + 1},}}", lambda digits: " ".join(digits[0]), text)
    letter = r"\S" if spaced else "[!-~]"
    text = re.sub(f"{letter}{{{_LONGEST_WORD}}}", r"\g<0> ", text)
    return (_MANY_PARTS.sub(r"\g<0> ", text) if spaced else text).strip()


def _line(text: str, lang: str, edits: Sequence[Edit]) -> tuple[str, list[tuple[int, int]], list[tuple[int, str]]]:
    """The line that the front end reads, the spans of its characters, and the phonemes that it does not take.

    A span is the stretch of the text that a character says, (-1, -1) for a blank. Phonemes come with their place in the
    line; misaki's English takes them within the line.
    """
    line = ""
    spans: list[tuple[int, int]] = []
    given: list[tuple[int, str]] = []
    for said, start, end, phonemes in applied(text, edits):
        written = text[start:end]
        if phonemes and lang in ENGLISH:
            label = re.sub(r"[\[\]()]", "", written).strip() or "x"
            stretch = f"[{label}](/{re.sub(r'[()/]', '', said)}/)"
        elif phonemes:
            given.append((len(line), said))
            stretch = _OBJECT
        else:
            stretch = said if lang in ENGLISH else STRESSED.sub(r"\1", said)
            if stretch[:1].isspace() and line and not line.endswith(" "):
                line, spans = line + " ", [*spans, (-1, -1)]
            blank = stretch[-1:].isspace()
            stretch = _speakable(stretch, spaced=lang not in "jz") + " " * (blank and not stretch.isspace())
        line += stretch
        if stretch.strip() and said == written:
            spans += ((at, at + 1) if at >= 0 else (-1, -1) for at in _places_in_line(stretch, written, start))
        else:
            spans += ((start, end) if character != " " else (-1, -1) for character in stretch)
    return line, spans, given


def _places_in_line(line: str, text: str, start: int) -> Iterator[int]:
    """The places of the characters of a text's `_speakable` line, if the text begins at `start`; -1 for blanks."""
    kept = (start + place for place, character in enumerate(text) if character.translate(_TRANSLATION).strip())
    for character in line:
        yield -1 if character == " " else next(kept)


def _survived(front_end: Callable[[str], list[Part]], text: str) -> list[Part]:
    """The parts of a text. If the front end crashes, halves the text until only the words that do it are left out."""
    if not text:
        return []
    try:
        return [part for part in front_end(text) if part.phonemes]
    except MISAKI_CRASHES as error:
        words = text.split(" ")
        if len(words) == 1:
            log.warning("a word of %d letters is left out: %s", len(text), type(error).__name__)
            return []
        half = len(" ".join(words[: len(words) // 2]))
        left = _survived(front_end, text[:half])
        right = [part.moved(half + 1) for part in _survived(front_end, text[half + 1 :])]
        return [*left, BLANK, *right] if left and right else left + right
