"""Words in letters that the language of a text does not have: which are left out, how the others are read, and the line
that says so.

espeak-ng reads some scripts in the language they belong to, and of all others it says the name of each letter, or
"Chinese letter" for each character. Names of letters are no speech, so such words are not said.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from typing import NamedTuple

from kokoro_common.text.edits import Edit
from kokoro_common.text.scripts import runs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# What may be a letter of another script than Latin; Latin's additions stand between Greek's and are no part of it.
_LETTERS = re.compile(
    "[\u0370-\u1dbf\u1f00-\u1fff\u2c80-\u2dff\u3005-\u3007\u3031-\u3035\u3040-\u318f\u31f0-\u31ff\u3400-\u9fff"
    "\ua000-\ua4cf\ua640-\ua69f\ua8e0-\uabff\uac00-\ud7ff\uf900-\ufaff\ufb13-\ufdff\ufe70-\ufefc\uff66-\uffdc"
    "\U00010000-\U0001cfff\U00020000-\U0003ffff]+"
)
# First words of the names of letters in Unicode, or second ones after HALFWIDTH: how the script is called.
# Read by espeak-ng in its own language:
_READ = {
    "HANGUL": "Korean", "GEORGIAN": "Georgian", "ARMENIAN": "Armenian", "BENGALI": "Bengali",
    "GURMUKHI": "Punjabi", "GUJARATI": "Gujarati", "TAMIL": "Tamil", "KANNADA": "Kannada", "MALAYALAM": "Malayalam",
    "SINHALA": "Sinhala",
}  # fmt: skip
_SPELLED = {
    "CYRILLIC": "Cyrillic", "GREEK": "Greek", "COPTIC": "Coptic", "HEBREW": "Hebrew", "ARABIC": "Arabic",
    "SYRIAC": "Syriac", "THAANA": "Thaana", "NKO": "N'Ko", "TELUGU": "Telugu", "ORIYA": "Odia", "THAI": "Thai",
    "LAO": "Lao", "TIBETAN": "Tibetan", "MYANMAR": "Burmese", "ETHIOPIC": "Ethiopic", "CHEROKEE": "Cherokee",
    "CANADIAN": "Canadian syllabic", "KHMER": "Khmer", "MONGOLIAN": "Mongolian", "YI": "Yi", "BOPOMOFO": "Bopomofo",
}  # fmt: skip
_IDEOGRAPHS = ("CJK", "IDEOGRAPHIC")
_SHORTEST_GREEK = 3  # letters; shorter is no word but a sign, which has a name: α, Δt
_EXTRAS = {"j": ("ja", "Japanese", ("fugashi", "unidic_lite")), "z": ("zh", "Chinese", ("jieba",))}


class Foreign(NamedTuple):
    """Words of a text chunk in one script."""

    kind: str  # the same for all lines about this script
    line: str  # for the user
    edits: list[Edit]  # that leave them out; none if they are read


def foreign_words(text: str, lang: str, *, espeak: bool, plain: bool) -> Iterator[Foreign]:
    """What becomes of words in other scripts. `espeak`: the embedded default voice speaks; `plain`: the whole text is
    in `lang`, whatever its script."""
    if not _LETTERS.search(text):
        return
    stretches = [(0, len(text), lang)] if plain else runs(text, lang)
    for begin, end, its_lang in stretches:
        for word in _LETTERS.finditer(text, begin, end):
            for script, start, after in _by_script(text, *word.span()):
                yield from _judged(script, start, after, its_lang, lang, espeak=espeak)


def _by_script(text: str, start: int, end: int) -> Iterator[tuple[str, int, int]]:
    """Scripts with their stretches. Marks and what has no name belong to the letter before."""
    begun, script = start, ""
    for place in range(start, end):
        name = unicodedata.name(text[place], "").removeprefix("HALFWIDTH ").partition(" ")[0].partition("-")[0]
        if not text[place].isalpha() or not name or name == script:
            continue
        if script:
            yield script, begun, place
        begun, script = place, name
    if script:
        yield script, begun, end


def _judged(script: str, start: int, end: int, its_lang: str, lang: str, *, espeak: bool) -> Iterator[Foreign]:
    out = [Edit(start, end, "")]
    if script in _IDEOGRAPHS or script in ("HIRAGANA", "KATAKANA"):
        yield from _east_asian(script in _IDEOGRAPHS, out, its_lang, lang, espeak=espeak)
    elif name := _READ.get(script):
        if lang in _EXTRAS and not espeak:  # these front ends know no other scripts than Latin
            yield Foreign(name, f"words in {name} are left out: no voice speaks it", out)
        else:
            yield Foreign(name, f"words in {name} are read with the sounds that this voice has: none speaks it", [])
    elif (name := _SPELLED.get(script)) and not (script == "GREEK" and end - start < _SHORTEST_GREEK):
        yield Foreign(name, f"words in {name} letters are left out: no voice reads them", out)


def _east_asian(ideographs: bool, out: list[Edit], its_lang: str, lang: str, *, espeak: bool) -> Iterator[Foreign]:
    if its_lang not in _EXTRAS:  # plain text in a language without such letters
        yield Foreign("plain", "Japanese and Chinese words are left out: --plain reads all as one language", out)
        return
    extra, name, _ = _EXTRAS[its_lang]
    if espeak and its_lang == "j" and ideographs:
        yield Foreign(name, "kanji are left out: only the neural voices read them, with the extra ja", out)
    elif espeak and its_lang == "z" and lang not in _EXTRAS:
        yield Foreign(name, "characters without kana are read as Chinese", [])
    elif not espeak and its_lang != lang and not installed(its_lang):
        yield Foreign(name, f"words in {name} are left out: the extra {extra} reads them", out)


@functools.cache
def installed(lang: str) -> bool:
    """Whether the extra of Japanese or Mandarin is there. Looks at the disk, once."""
    import importlib.util

    return all(importlib.util.find_spec(module) for module in _EXTRAS[lang][2])
