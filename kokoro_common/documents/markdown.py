"""Markdown: chapters are the headings of the first level that has two of them; a YAML block on top says who wrote it.

The text is not changed: chapters are places in it.
"""

from __future__ import annotations

import re
from itertools import islice

from kokoro_common.documents.document import (
    MAX_HEADINGS,
    MAX_TITLE,
    Document,
    by_headings,
    line_at,
    next_line,
    one_line,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_ATX = r" {0,3}(#{1,6})(?:[ \t]+(\S.*))?"
_CLOSING = r"(?:^|[ \t])#{1,200}$"
_UNDERLINE = r" {0,3}(={1,500}|-{1,500})"
_FENCE = r" {0,3}(`{3,500}|~{3,500})([^`]*)"
_NO_PARAGRAPH = r" {0,3}(?:[-*+>|]|\d{1,9}[.)])[ \t]|>|\|| {4}|\t"
_FRONT_MATTER_LINE = r"([A-Za-z]{1,20}):[ \t]+(\S.*)"
_LINK = r"!?\[([^\[\]]*)\](?:\([^()]*\)|\[[^\[\]]*\])"
_TAGS = r"<!--[^<>]*-->|<[A-Za-z/][^<>]*>|\{[#.][^{}]*\}$"
_OUTER_UNDERSCORES = r"(?<!\w)_+|_+(?!\w)"
MAX_FRONT_MATTER = 1 << 16  # characters
NONE, NO_HEADING = -1, -2  # no paragraph is open; one is that cannot be a heading (item, quotation, code)


def read_markdown(text: str, replaced: bool) -> Document:
    matter, begin = _front_matter(text)
    title, chapters = by_headings(text, list(islice(_markdown_headings(text, begin), MAX_HEADINGS)))
    return Document(
        text=text,
        chapters=chapters,
        title=one_line(matter.get("title", "")) or title,
        author=one_line(matter.get("author", "") or matter.get("authors", "")),
        language=one_line(matter.get("lang", "") or matter.get("language", "")),
        replaced=replaced,
    )


def _front_matter(text: str) -> tuple[dict[str, str], int]:
    """Simple entries of a YAML block at the top, and where it ends; 0 without one."""
    first, place = line_at(text, 0)
    values: dict[str, str] = {}
    while first == "---" and place < min(len(text), MAX_FRONT_MATTER):
        line, place = line_at(text, place)
        if line in ("---", "..."):
            return values, place
        if found := re.fullmatch(_FRONT_MATTER_LINE, line):
            values.setdefault(found[1].lower(), found[2].strip("[]").strip().strip("\"'"))
    return {}, 0


def _markdown_headings(text: str, begin: int) -> Iterator[tuple[int, int, str]]:
    """Level, place and title of each heading outside of code and comments."""
    place, fence, unended_comment = begin, "", False
    paragraph, title = NONE, ""  # start and text of the open paragraph, in case it is a heading
    while place < len(text):
        start, place = place, next_line(text, place)
        line = text[start : min(place, start + 1000)].rstrip()
        if fence:
            closes = re.fullmatch(_FENCE, line)
            if closes and closes[1].startswith(fence) and not closes[2].strip():
                fence = ""
            continue
        if line.lstrip().startswith("<!--") and not unended_comment:
            end = text.find("-->", start)
            unended_comment = end < 0
            if not unended_comment:
                place, paragraph = max(place, line_at(text, end)[1]), NONE
                continue
        if opens := re.fullmatch(_FENCE, line):
            fence, paragraph = opens[1], NONE
        elif atx := re.fullmatch(_ATX, line):
            yield len(atx[1]), start, _plain(re.sub(_CLOSING, "", (atx[2] or "").strip()))
            paragraph = NONE
        elif not line.strip():
            paragraph = NONE
        elif under := re.fullmatch(_UNDERLINE, line):
            if paragraph >= 0:
                yield 1 if under[1][0] == "=" else 2, paragraph, _plain(title)
            paragraph = NONE
        elif paragraph != NO_HEADING and re.match(_NO_PARAGRAPH, line):
            paragraph = NO_HEADING
        elif paragraph == NONE:
            paragraph, title = start, line
        elif len(title) < 10 * MAX_TITLE:
            title += f" {line}"


def _plain(title: str) -> str:
    """A title without markup."""
    title = re.sub(_TAGS, "", re.sub(_LINK, r"\1", title[: 10 * MAX_TITLE]))
    return one_line(re.sub(_OUTER_UNDERSCORES, "", title.replace("*", "").replace("`", "")))
