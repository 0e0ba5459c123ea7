"""How a text chunk is read aloud: numbers, money, URLs, Markdown, emoji and code to the words that are said for them.

One scan from left to right. At each place the rules of the language are tried in order, the most specific first; a rule
is a pattern and a function that says what it matched, or declines. What no rule is sure of stays as it is written.
Each module beside this one holds one kind of thing: its tables, its functions and its rules, in the groups that are
put in order here.
"""

from __future__ import annotations

import re
from functools import lru_cache

from kokoro_common.reading import abbreviations, measures, money, names, numbers, signs, times
from kokoro_common.reading.language import LANGUAGES
from kokoro_common.reading.rule import WORD_CHARACTERS
from kokoro_common.text.edits import Edit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kokoro_common.reading.language import Language
    from kokoro_common.reading.rule import Match, Say

_PLAIN = re.compile(r"(?<!\S)(?:(?!vs )[a-z]+ )+")  # most of a text: no rule begins with them
_RUN = re.compile(rf"[{WORD_CHARACTERS}]+|[^\W_]")


def read(text: str, lang: str, *, emoji: bool = True) -> list[Edit]:
    """The edits that turn one line of text into what is said, in order. Pure; linear in the text; never raises.

    `lang`: Kokoro's letter, one of a b e f h i j p z; for any other nothing is edited. `emoji`: say their names.
    """
    language = LANGUAGES.get(lang)
    return _edits(text, language, _rules(lang, emoji)) if language else []


def _edits(text: str, lang: Language, rules: tuple[tuple[re.Pattern[str], Say], ...]) -> list[Edit]:
    edits: list[Edit] = []
    later: list[Edit] = []  # ends of what has begun (a link), the nearest one last; no rule reads across it
    place = 0
    while place < len(text):
        end = later[-1].start if later else len(text)
        if place == end:
            edits.append(later.pop())
            place = edits[-1].end
            continue
        if plain := _PLAIN.match(text, place, end):
            place = plain.end()
            continue
        for pattern, say in rules:
            found = pattern.match(text, place, end)
            if found and found.end() > place and (said := say(found, lang)) is not None:
                break
        else:
            run = _RUN.match(text, place, end)
            place = run.end() if run else place + 1
            continue
        if isinstance(said, list):
            edits.append(said[0])
            later += said[:0:-1]
            place = said[0].end
            continue
        if said != found[0]:
            edits.append(Edit(found.start(), found.end(), _apart(found, said, lang)))
        place = found.end()
    return edits


def _apart(found: Match, said: str, lang: Language) -> str:
    """With blanks where the words would grow together with their neighbours: "5G" is "five G"."""
    if not said.strip() or not lang.blank:
        return said
    text = found.string
    before, after = text[found.start() - 1 : found.start()], text[found.end() : found.end() + 1]
    left = " " if before.isalnum() and said[0].isalnum() else ""
    right = " " if after.isalnum() and (said[-1].isalnum()) else ""
    return left + said + right


@lru_cache(maxsize=20)
def _rules(letter: str, emoji: bool) -> tuple[tuple[re.Pattern[str], Say], ...]:
    """A language's rules in the order in which they are tried. Compiles the patterns, once for each language: 30 ms."""
    lang = LANGUAGES[letter]
    table = (
        *(() if emoji else signs.SILENT_EMOJI),
        *signs.MARKUP,
        *names.ADDRESSES,
        *signs.EMOJI,
        *times.TIMES,
        *money.prices(lang),
        *measures.measures(lang),
        *numbers.DIGITS,
        *abbreviations.SLASHED,
        *numbers.powers(lang),
        *measures.sizes(lang),
        *numbers.ranges(lang),
        *signs.BEFORE_NUMBERS,
        *numbers.ROMAN_NUMERALS,
        *abbreviations.ABBREVIATIONS,
        *names.LANGUAGE_NAMES,
        *abbreviations.AMPERSANDS,
        *names.IDENTIFIERS,
        *measures.RATES,
        *times.BETWEEN_TIMES,
        *signs.HYPHENS,
        *numbers.plain_numbers(lang),
        *signs.SIGNS,
    )
    return tuple((re.compile(pattern), say) for letters, pattern, say in table if not letters or letter in letters)
