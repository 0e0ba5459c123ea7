"""Documents and their chapters, and the rules that all formats share for making chapters out of headings.

A document may come from anybody, so everything here takes time in proportion to its size. Rendering imports this module
for its records, so patterns are compiled where they are first used. No threads, no files.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import islice, pairwise

from kokoro_common.documents.kind import encoding_of
from kokoro_common.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Border = tuple[int, str]  # where a chapter begins, in characters of the text, and its title

MAX_TITLE = 200  # characters
MAX_CONTENTS = 100_000  # entries read of a table of contents
MAX_HEADINGS = 20_000  # that may begin chapters; what follows them belongs to the last one
MAX_CHARACTERS = 32 << 20  # of a document: some 600 hours of speech
OWN_TEXT = 200  # characters without blanks; so much text before or between headings is a chapter of its own
DROPPED = dict.fromkeys((*range(9), 0x0B, *range(0x0E, 0x20), 0x7F, 0xAD, 0xFEFF))  # 0xAD is a soft hyphen


class Chapter(Record):
    title: str  # one line, perhaps empty
    start: int  # in characters of Document.text
    end: int  # after its last character
    number: int = 0  # in the whole document, from 1, if some of its chapters were chosen; 0: as they are counted here


class Picture(Record):
    """A cover, as it is in the document."""

    data: bytes
    mime: str  # image/jpeg or image/png
    width: int  # pixels
    height: int


class Document(Record):
    text: str
    chapters: tuple[Chapter, ...]  # in order; together they cover the text without gap or overlap; at least one
    title: str = ""
    author: str = ""
    language: str = ""  # as the document states it, such as "en-GB"
    extracted: bool = False  # taken out of markup or pages; False: the file's own characters, at the file's own places
    replaced: bool = False  # some bytes were no text in the file's encoding and became U+FFFD
    of: int = 0  # chapters of the whole document, if some were chosen; 0: there are no others
    cover: Picture | None = None
    notes: tuple[str, ...] = ()  # for the user: why a cover could not be used


def decoded(data: bytes, declared: str = "utf-8") -> tuple[str, bool]:
    """The text without its byte order mark, and whether bytes were replaced. A mark counts more than `declared`."""
    encoding = encoding_of(data[:4]) or declared
    try:
        return data.decode(encoding), False
    except UnicodeDecodeError:
        return data.decode(encoding, "replace"), True


def one_line(text: str) -> str:
    return " ".join(text[: 10 * MAX_TITLE].split())[:MAX_TITLE]


def line_at(text: str, place: int) -> tuple[str, int]:
    """The line that begins at `place`, stripped and cut off at 500 characters, and where the next one begins."""
    following = next_line(text, place)
    line = text[place : min(following, place + 500)].strip()
    return line or ("..." if following - place > 500 and not text[place:following].isspace() else ""), following


def next_line(text: str, place: int) -> int:
    found = re.compile(r"\r\n?|\n").search(text, place)
    return found.end() if found else len(text)


def letters(text: str) -> str:
    """Letters and digits in one case, to compare titles by."""
    return "".join(character for character in text.casefold() if character.isalnum())


# --- Borders to chapters ---------------------------------------------------------------------------------------------


def chapters_at(text: str, borders: Iterable[Border]) -> tuple[Chapter, ...]:
    """The chapters between borders, which are in order; of several at one place the last title counts.

    Text before the first border is a chapter without a title, or belongs to the first chapter if it is short.
    """
    titles = {start: title for start, title in borders if start < len(text)}
    if not titles or has_own_text(text, 0, min(titles)):
        titles = {0: "", **titles}
    starts = [0, *list(titles)[1:]]
    return tuple(
        Chapter(title=one_line(title), start=start, end=end)
        for title, start, end in zip(titles.values(), starts, [*starts[1:], len(text)], strict=True)
    )


def has_own_text(text: str, start: int, end: int) -> bool:
    printed = re.compile(r"\S").finditer(text, start, end)
    return next(islice(printed, OWN_TEXT - 1, None), None) is not None


def by_headings(text: str, headings: Sequence[tuple[int, int, str]]) -> tuple[str, tuple[Chapter, ...]]:
    """Title and chapters of a document with headings. A heading is its level from 1, its place and its title.

    The title is the first heading if no other is as high. Chapters are the first level that has two headings.
    """
    levels = [level for level, _, _ in headings]
    title = headings[0][2] if headings and all(level > levels[0] for level in levels[1:]) else ""
    chapter_level = next((level for level in range(1, 7) if levels.count(level) > 1), 0)
    borders = [(start, name) for level, start, name in headings if level == chapter_level]
    return one_line(title), chapters_at(text, borders)


def lowest_level(levels: Iterable[int]) -> int:
    """The lowest level of a table of contents that makes chapters: the one below the first that has two entries, since
    these may be parts. Everything lower is a section."""
    counted = Counter(levels)
    return min((level for level in counted if counted[level] > 1), default=max(counted, default=0)) + 1


def without_empty(text: str, borders: Sequence[Border]) -> list[Border]:
    """Joins a chapter that is nothing but headings, such as "Part I", to the next one."""
    empty = [
        end - start < 10 * MAX_TITLE and not _says_more(text[start:end], title)
        for (start, title), (end, _) in pairwise(borders)
    ]
    return merged(borders, empty)


def _says_more(text: str, title: str) -> bool:
    """Whether the text has more than headings and its title."""
    said = letters("".join(line for line in text.split("\n") if not line.startswith("#")))
    return said not in ("", letters(title))


def merged(borders: Sequence[Border], empty: Sequence[bool]) -> list[Border]:
    """A border after an empty chapter moves to the start of that chapter and keeps its own title."""
    kept = list(borders[:1])
    for border, after_empty in zip(borders[1:], empty, strict=True):
        kept.append((kept.pop()[0], border[1]) if after_empty else border)
    return kept
