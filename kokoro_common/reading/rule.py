"""What a rule is, and what rules ask about the text around their match."""

from __future__ import annotations

import re

from kokoro_common.text.marks import CLOSERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kokoro_common.reading.language import Language
    from kokoro_common.text.edits import Edit

    Match = re.Match[str]
    # What is said for the match; edits, where only parts of it change; None: another rule may know.
    Say = Callable[[Match, Language], str | list[Edit] | None]
    # (letters of the languages, "" for all; pattern; function), the most specific first.
    Table = tuple[tuple[str, str, Say], ...]

WORD_CHARACTERS = "A-Za-zÀ-ÖØ-öø-ɏ0-9"
BEGIN = rf"(?<![{WORD_CHARACTERS}_])"
END = rf"(?![{WORD_CHARACTERS}_])"


def word_set(words: str) -> frozenset[str]:
    return frozenset(words.split())


def any_of(names: Iterable[str]) -> str:
    """A pattern for any of the names, the longest first."""
    return "|".join(re.escape(name) for name in sorted(names, key=lambda name: (-len(name), name)))


def word_before(m: Match) -> str:
    """The word before the match, as written; "" where something else stands."""
    word = re.search(r"([^\W\d_]+|©)\.? ?\Z", m.string[max(0, m.start() - 30) : m.start()])
    return word[1] if word else ""


def full_stop(m: Match) -> str:
    """A full stop if the match ends with one and the text ends there: an abbreviation's point ends the sentence too."""
    return "." if m[0].endswith(".") and not m.string[m.end() :].strip(CLOSERS + " ") else ""


def nothing(m: Match, lang: Language) -> str:
    return ""


def a_blank(m: Match, lang: Language) -> str:
    return " "


def as_written(m: Match, lang: Language) -> str:
    return m[0]
