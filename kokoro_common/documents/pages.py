"""Puts lines of printed pages together to paragraphs, by their positions.

    edges         headers and footers, which repeat at one place, and page numbers are left out
    paragraphs    begin at a gap, an indent, another size of type, a bullet, or after a line that ends short
    hyphens       at the end of a line are removed, unless a capital follows

Nothing here knows PDF.
"""

from __future__ import annotations

import re
from itertools import groupby, pairwise
from typing import NamedTuple

from kokoro_common.documents.plain import read_heading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kokoro_common.documents.document import Border

_PAGE_NUMBER = (
    r"(?:(?i:page|seite|página|pagina|p\.)\s)?[-–—\[(|]?\s?(?:\d{1,4}|[ivxlc]{1,7})\s?[-–—\])|]?"
    r"(?:\s?(?:/|of|von|de|di|sur)\s?\d{1,4})?"
)
_ENDS_SENTENCE = r"""[.!?:;…。！？][)\]"'’”»」』]{0,3}$"""
_BULLET = r"[•▪◦‣●■–]\s|[-*]\s"
EDGE = 0.15  # share of a page's height at its top and bottom, where headers, footers and page numbers stand
EDGE_LINES = 2  # at either end of a page that may be headers or footers
POINTS = 6  # 1/72 inch: tolerance for lines that repeat at the same place


class Line(NamedTuple):
    """A line of a page; positions in points from the page's lower left corner."""

    text: str
    page: int  # from 0
    left: float
    bottom: float
    right: float
    size: float  # height of the font's boxes
    hyphenated: bool  # its last word continues in the next line


# --- what is at the edges of pages -----------------------------------------------------------------------------------


def without_edges(lines: list[Line], heights: list[float]) -> list[Line]:
    """Leaves out headers and footers, which repeat at one place, and page numbers."""
    size = sorted(line.size for line in lines)[len(lines) // 2]
    edges = list(_edge_lines(lines, heights))
    pages: dict[tuple[str, int], dict[int, None]] = {}  # by text without digits and place
    for line in edges:
        pages.setdefault(_edge_key(line), {})[line.page] = None
    repeating = {key for key, on in pages.items() if _repeats(list(on), len(heights))}
    dropped = {
        id(line)
        for line in edges
        if _edge_key(line) in repeating or (re.fullmatch(_PAGE_NUMBER, line.text) and line.size <= 1.15 * size)
    }
    return [line for line in lines if id(line) not in dropped] or lines


def _edge_lines(lines: list[Line], heights: list[float]) -> Iterator[Line]:
    """The highest and lowest lines of each page, if they are near its edge."""
    for number, on_page in groupby(lines, key=lambda line: line.page):
        page = sorted(on_page, key=lambda line: line.bottom)
        yield from (line for line in page[:EDGE_LINES] if line.bottom < EDGE * heights[number])
        yield from (line for line in page[-EDGE_LINES:] if line.bottom > (1 - EDGE) * heights[number])


def _edge_key(line: Line) -> tuple[str, int]:
    text = line.text.casefold()
    text = text if read_heading(line.text) else re.sub(r"\d+", "#", text)  # "Chapter 2" is not "Chapter 1" again
    return text, round(line.bottom / POINTS)


def _repeats(on: list[int], pages: int) -> bool:
    """Whether the pages are a third of all, at least 3, or 3 in a row, or 3 left or right ones in a row."""
    in_a_row = any(on[at + 2] - on[at] in (2, 4) for at in range(len(on) - 2))
    return len(on) >= 3 and (in_a_row or 3 * len(on) >= pages)


# --- lines to paragraphs ---------------------------------------------------------------------------------------------


def paragraphs(lines: list[Line], begins: Mapping[int, str]) -> tuple[str, list[Border]]:
    """The text and its chapter borders. `begins`: titles of chapters by the numbers of their first lines."""
    leading = _leading(lines)
    pieces: list[str] = []
    borders: list[Border] = []
    length = 0
    for number, line in enumerate(lines):
        if number in begins:
            borders.append((length, begins[number]))
        text, between = line.text, ""
        if number + 1 < len(lines):
            if number + 1 in begins or _begins_paragraph(lines, number + 1, leading.get(line.page, leading[-1])):
                between = "\n\n"
            else:
                text, between = _fitted(line, lines[number + 1].text)
        pieces += [text, between]
        length += len(text) + len(between)
    return "".join(pieces), borders


def _fitted(line: Line, following: str) -> tuple[str, str]:
    """A line's text if the next line continues it, and what goes between them."""
    text, goes_on = line.text, following[:1].islower()
    if line.hyphenated:  # its hyphen is gone already
        return text, "" if goes_on else "-"
    if text[-1:] in ("-", "‐") and text[-2:-1].isalpha():
        return (text[:-1] if goes_on else text), ""
    unspaced = _is_unspaced(text[-1:]) and _is_unspaced(following[:1])
    return text, "" if unspaced else " "


def _is_unspaced(character: str) -> bool:
    """Whether the script has no blanks between words: kana, Han, their punctuation; not Hangul."""
    return "\u2e80" <= character < "\uac00" or "\uf900" <= character < "\ufb00" or "\uff00" < character < "\uffa0"


def _leading(lines: list[Line]) -> dict[int, float]:
    """The usual distance between baselines by page, in sizes of the font. Key -1: for pages with too few lines."""
    steps: dict[int, list[float]] = {}
    for before, line in pairwise(lines):
        fall = before.bottom - line.bottom
        if before.page == line.page and fall > 0.5 * line.size > 0:
            steps.setdefault(line.page, []).append(fall / line.size)
    every = sorted(step for page in steps.values() for step in page)
    usual = {page: sorted(of_page)[len(of_page) // 2] for page, of_page in steps.items() if len(of_page) >= 6}
    return {**usual, -1: every[len(every) // 2] if every else 1.3}


def _begins_paragraph(lines: list[Line], number: int, leading: float) -> bool:
    """Whether a line begins a paragraph. `leading`: see _leading."""
    before, line = lines[number - 1], lines[number]
    size = max(line.size, before.size, 1.0)
    fall = before.bottom - line.bottom
    if before.page == line.page and abs(fall) < 0.5 * size:
        return False  # side by side
    if min(line.size, before.size) * 1.15 < size or re.match(_BULLET, line.text):
        return True
    ends = re.search(_ENDS_SENTENCE, before.text[-5:]) is not None
    short = _is_short(lines, number - 1)
    if before.page != line.page or fall < 0:  # the next page or column
        goes_on = before.hyphenated or line.text[:1].islower()
        return not goes_on and (short or (ends and _is_indented(lines, number)))
    if fall > 1.35 * leading * size:
        return True
    return (short and ends) or (_is_indented(lines, number) and not before.hyphenated)


def _is_short(lines: list[Line], number: int) -> bool:
    """Whether a line ends long before its neighbours."""
    line = lines[number]
    reach = max(other.right for other in lines[max(0, number - 1) : number + 2])
    return reach - line.right > 4 * line.size


def _is_indented(lines: list[Line], number: int) -> bool:
    """Whether a line begins to the right of the one before, and the next one does not."""
    before, line, following = lines[number - 1], lines[number], lines[min(number + 1, len(lines) - 1)]
    if before.page != line.page:
        before = following
    step = 0.6 * line.size
    hangs = line.left - following.left < step and following is not line and following.page == line.page
    return step < line.left - before.left < 8 * line.size and not hangs
