"""A PDF, which says where on its pages characters stand: its lines are put together to paragraphs.

    edges         headers and footers, which repeat at one place, and page numbers are left out
    paragraphs    begin at a gap, an indent, another size of type, a bullet, or after a line that ends short
    hyphens       at a line's end go, and the word goes on; before a capital they stay
    chapters      of the outline, where a page says the title; without one, of lines that read like headings

Files may be anybody's, and a small one can say what takes all memory, or hours: forms in forms, pages that share what
they draw. So PDFium reads them in a process of its own that may take only so much of both; macOS limits no memory.
A room without threads: reading blocks, for seconds with a large book.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import resource
import subprocess
import sys
from bisect import bisect_left
from collections import Counter
from contextlib import closing
from itertools import groupby, pairwise
from typing import NamedTuple

from kokoro_common.documents.document import (
    DROPPED,
    MAX_CONTENTS,
    Chapter,
    Document,
    chapters_at,
    letters,
    lowest_level,
    one_line,
    read_heading,
    without_empty,
    written_borders,
)
from kokoro_common.errors import UsageError
from kokoro_common.record import Record
from kokoro_common.worker import command as worker_command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pypdfium2 import PdfDocument, PdfTextPage

    from kokoro_common.documents.document import Border

MAX_MEMORY_BYTES = 2 << 30  # of the process that reads; 32 million characters on 10,000 pages take 300 MB of it
CPU_SECONDS = 60  # 20 million characters on our machine, 3 microseconds each
CPU_SECONDS_PER_MIB = 20  # of the file in addition; books take 8
MAX_CHARACTERS = 32 << 20  # taken out of a file, whose pages may be far larger than itself
_LIGATURES = {0xFB00: "ff", 0xFB01: "fi", 0xFB02: "fl", 0xFB03: "ffi", 0xFB04: "ffl", 0xFB05: "st", 0xFB06: "st"}
_LINE_CODES = (0x0A, 0x0D)
_HYPHEN_CODES = (0x02, 0xFFFE)  # what PDFium has in the place of a hyphen at a line's end, with no line end behind it
_PAGE_NUMBER = (
    r"(?:(?i:page|seite|página|pagina|p\.)\s)?[-–—\[(|]?\s?(?:\d{1,4}|[ivxlc]{1,7})\s?[-–—\])|]?"
    r"(?:\s?(?:/|of|von|de|di|sur)\s?\d{1,4})?"
)
_ENDS_SENTENCE = r"""[.!?:;…。！？][)\]"'’”»」』]{0,3}$"""
_BULLET = r"[•▪◦‣●■–]\s|[-*]\s"
EDGE = 0.15  # of a page's height at its top and bottom, where headers, footers and page numbers are
EDGE_LINES = 2  # of a page at either end that may be such
MAX_MISSED = 50  # titles of an outline that a page does not say, before it is no longer looked through
MAX_LINES = 300  # of a page that are looked through for a title
POINTS = 6  # 1/72 inch; what repeats is at the same place within this


class _Line(NamedTuple):
    """Of a page, in points from the page's lower left corner."""

    text: str
    page: int  # from 0
    left: float
    bottom: float
    right: float
    size: float  # of its font's boxes: their height
    hyphenated: bool  # goes on in the next line without a blank


def read_pdf(data: bytes, path: str) -> Document:
    """`path` is for errors. Raises UsageError for what cannot be read, holds no text, or takes too much to be read."""
    seconds = CPU_SECONDS + CPU_SECONDS_PER_MIB * len(data) // (1 << 20)
    done = subprocess.run(  # which kills it, whatever ends the wait
        worker_command(__name__, path, str(MAX_MEMORY_BYTES), str(seconds)),
        input=data,
        capture_output=True,
        check=False,
    )
    if done.returncode > 0:  # an exception, so a mistake of ours
        report = done.stderr.decode("utf-8", "replace").strip()
        raise RuntimeError(report.rpartition("\n")[2]) from RuntimeError(report)
    try:
        answer = json.loads(done.stdout)
    except ValueError:  # killed before its end
        raise UsageError(
            f"{path} cannot be read: it takes too much memory or time", "print it to a new PDF first"
        ) from None
    if "problem" in answer:
        raise UsageError(**answer)
    return Document(**{**answer, "chapters": tuple(Chapter(**chapter) for chapter in answer["chapters"])})


# --- In the process that reads, where alone pypdfium2 is imported ----------------------------------------------------


def serve(path: str, memory: str, seconds: str) -> None:
    """Its main: reads a file from standard input, writes a Document or a UsageError as JSON to standard output."""
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_AS, int(memory))
    _limit(resource.RLIMIT_CPU, int(seconds))
    try:
        json.dump(_read(sys.stdin.buffer.read(), path), sys.stdout, default=Record.as_dict)
    except UsageError as error:
        json.dump({"problem": error.problem, "remedy": error.remedy}, sys.stdout)
    except MemoryError:
        os.abort()  # as PDFium does


def _limit(which: int, most: int) -> None:
    try:
        resource.setrlimit(which, (most, most))
    except (OSError, ValueError):
        pass  # it is lower already, or macOS has none


def _read(data: bytes, path: str) -> Document:
    from pypdfium2 import PdfDocument, PdfiumError, raw

    try:
        document = PdfDocument(data)
    except PdfiumError as error:
        if error.err_code in (raw.FPDF_ERR_PASSWORD, raw.FPDF_ERR_SECURITY):
            raise UsageError(f"{path} is encrypted", "give a copy without a password") from None
        raise UsageError(f"{path} is no PDF, or a broken one", "get it anew, or mend it (qpdf, mutool clean)") from None
    with closing(document):
        lines, heights = _lines(document, path)
        if not lines:
            raise UsageError(f"{path} holds no text, only pictures", "run OCR on it first (ocrmypdf)")
        lines = _without_edges(lines, heights)
        text, borders = _joined(lines, _outline_lines(_outline(document), lines))
        return Document(
            text=text,
            chapters=chapters_at(text, without_empty(text, borders) if borders else written_borders(text)),
            title=_said_by(lambda: document.get_metadata_value("Title")),
            author=_said_by(lambda: document.get_metadata_value("Author")),
            language=_language(document),
            extracted=True,
        )


def _lines(document: PdfDocument, path: str) -> tuple[list[_Line], list[float]]:
    """The lines of all pages that hold more than blanks, and the pages' heights in points."""
    from pypdfium2 import PdfiumError

    lines: list[_Line] = []
    heights: list[float] = []
    characters = 0
    for number in range(len(document)):
        try:
            with closing(document[number]) as page, closing(page.get_textpage()) as textpage:
                characters += textpage.count_chars()
                if characters > MAX_CHARACTERS:
                    raise UsageError(f"{path} holds more than {MAX_CHARACTERS >> 20} million characters", "split it")
                lines += _page_lines(textpage, number)
                heights.append(page.get_height())
        except PdfiumError:
            raise UsageError(
                f"{path} is broken: page {number + 1} cannot be read", "mend it (qpdf, mutool clean)"
            ) from None
    return lines, heights


def _page_lines(textpage: PdfTextPage, number: int) -> Iterator[_Line]:
    from pypdfium2 import raw

    codes = [raw.FPDFText_GetUnicode(textpage, index) for index in range(textpage.count_chars())]
    start = 0
    for index, code in enumerate([*codes, 0x0A]):
        if code in _LINE_CODES or code in _HYPHEN_CODES:
            printed = [at for at in range(start, index) if codes[at] > 0x20 and codes[at] != 0xA0]
            if printed:
                text = "".join(map(chr, codes[printed[0] : printed[-1] + 1]))
                yield _line(textpage, text, printed, number, code in _HYPHEN_CODES)
            start = index + 1


def _line(textpage: PdfTextPage, text: str, printed: list[int], number: int, hyphenated: bool) -> _Line:
    from pypdfium2 import PdfiumError

    boxes: list[tuple[float, float, float, float]] = []  # left, bottom, right, top
    for at in (printed[0], printed[len(printed) // 2], printed[-1]):
        try:
            boxes.append(textpage.get_charbox(at, loose=True))
        except PdfiumError:
            boxes.append(boxes[-1] if boxes else (0.0, 0.0, 0.0, 0.0))
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # PDFium may give halves of characters
    hyphenated = hyphenated or text.endswith("\xad")
    text = re.sub(r"[ \t\n\r\f]+", " ", text.translate(DROPPED).translate(_LIGATURES)).strip()
    size = sorted(top - bottom for _, bottom, _, top in boxes)[1]  # of three, so that no initial counts
    return _Line(text, number, boxes[0][0], boxes[-1][1], boxes[-1][2], size, hyphenated)


# --- what is at the edges of pages -----------------------------------------------------------------------------------


def _without_edges(lines: list[_Line], heights: list[float]) -> list[_Line]:
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


def _edge_lines(lines: list[_Line], heights: list[float]) -> Iterator[_Line]:
    """The highest and the lowest ones of each page, if they are near its edge."""
    for number, on_page in groupby(lines, key=lambda line: line.page):
        page = sorted(on_page, key=lambda line: line.bottom)
        yield from (line for line in page[:EDGE_LINES] if line.bottom < EDGE * heights[number])
        yield from (line for line in page[-EDGE_LINES:] if line.bottom > (1 - EDGE) * heights[number])


def _edge_key(line: _Line) -> tuple[str, int]:
    text = line.text.casefold()
    text = text if read_heading(line.text) else re.sub(r"\d+", "#", text)  # "Chapter 2" is not "Chapter 1" again
    return text, round(line.bottom / POINTS)


def _repeats(on: list[int], pages: int) -> bool:
    """On a third of the pages, at least 3, or on 3 in a row, or on 3 left or right ones in a row."""
    in_a_row = any(on[at + 2] - on[at] in (2, 4) for at in range(len(on) - 2))
    return len(on) >= 3 and (in_a_row or 3 * len(on) >= pages)


# --- lines to paragraphs ---------------------------------------------------------------------------------------------


def _joined(lines: list[_Line], begins: Mapping[int, str]) -> tuple[str, list[Border]]:
    """The text, and the borders in it. `begins`: titles of chapters by the numbers of their first lines."""
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


def _fitted(line: _Line, following: str) -> tuple[str, str]:
    """What a line says when another one goes on from it, and what is between them."""
    text, goes_on = line.text, following[:1].islower()
    if line.hyphenated:  # its hyphen is gone already
        return text, "" if goes_on else "-"
    if text[-1:] in ("-", "‐") and text[-2:-1].isalpha():
        return (text[:-1] if goes_on else text), ""
    unspaced = _is_unspaced(text[-1:]) and _is_unspaced(following[:1])
    return text, "" if unspaced else " "


def _is_unspaced(character: str) -> bool:
    """Of a script without blanks between words: kana, Han, their punctuation; not Hangul."""
    return "\u2e80" <= character < "\uac00" or "\uf900" <= character < "\ufb00" or "\uff00" < character < "\uffa0"


def _leading(lines: list[_Line]) -> dict[int, float]:
    """From baseline to baseline, in sizes of the font, by page: the usual one. -1: where a page has too few lines."""
    steps: dict[int, list[float]] = {}
    for before, line in pairwise(lines):
        fall = before.bottom - line.bottom
        if before.page == line.page and fall > 0.5 * line.size > 0:
            steps.setdefault(line.page, []).append(fall / line.size)
    every = sorted(step for page in steps.values() for step in page)
    usual = {page: sorted(of_page)[len(of_page) // 2] for page, of_page in steps.items() if len(of_page) >= 6}
    return {**usual, -1: every[len(every) // 2] if every else 1.3}


def _begins_paragraph(lines: list[_Line], number: int, leading: float) -> bool:
    """`leading`: the usual one of the page, in sizes of the font."""
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


def _is_short(lines: list[_Line], number: int) -> bool:
    """Whether a line ends long before the ones around it do."""
    line = lines[number]
    reach = max(other.right for other in lines[max(0, number - 1) : number + 2])
    return reach - line.right > 4 * line.size


def _is_indented(lines: list[_Line], number: int) -> bool:
    """Whether a line begins to the right of the one before, and the one behind it does not."""
    before, line, following = lines[number - 1], lines[number], lines[min(number + 1, len(lines) - 1)]
    if before.page != line.page:
        before = following
    step = 0.6 * line.size
    hangs = line.left - following.left < step and following is not line and following.page == line.page
    return step < line.left - before.left < 8 * line.size and not hangs


# --- outline and metadata --------------------------------------------------------------------------------------------


def _outline(document: PdfDocument) -> list[tuple[str, int]]:
    """Titles and pages, from 0, of the entries that make chapters, in order."""
    from pypdfium2 import PdfBookmark, raw

    entries: list[tuple[int, str, int]] = []
    seen: set[int] = set()  # an outline may run in circles
    waiting = [(raw.FPDFBookmark_GetFirstChild(document, None), 0)]
    while waiting and len(seen) < MAX_CONTENTS:
        mark, level = waiting.pop()
        if not mark or (address := ctypes.addressof(mark.contents)) in seen:
            continue
        seen.add(address)
        waiting.append((raw.FPDFBookmark_GetNextSibling(document, mark), level))
        waiting.append((raw.FPDFBookmark_GetFirstChild(document, mark), level + 1))
        bookmark = PdfBookmark(mark, document, level)
        target = bookmark.get_dest()
        page = target.get_index() if target else None
        if page is not None:
            entries.append((level, _said_by(bookmark.get_title), page))
    lowest = lowest_level([level for level, _, _ in entries])
    return [(title, page) for level, title, page in entries if level <= lowest]


def _outline_lines(entries: list[tuple[str, int]], lines: list[_Line]) -> dict[int, str]:
    """Titles by the numbers of the lines where they begin: where the page says them, or the page's first line."""
    pages = [line.page for line in lines]
    begins: dict[int, str] = {}
    missed: Counter[int] = Counter()  # titles that a page does not say; it is not asked for ever
    last = -1
    for title, page in sorted(entries, key=lambda entry: entry[1]):
        first = bisect_left(pages, page)
        place = None
        if missed[page] < MAX_MISSED:
            from_here = max(first, last + 1)
            place = _line_saying(title, lines, from_here, min(bisect_left(pages, page + 1), from_here + MAX_LINES))
        if place is None:  # two of these on one page are one chapter
            missed[page] += 1
            place = max(first, last)
        if place < len(lines):
            begins[place] = title
            last = place
    return begins


def _line_saying(title: str, lines: list[_Line], first: int, behind: int) -> int | None:
    wanted = letters(title)
    for number in range(first, behind if wanted else first):
        said = "".join(letters(line.text) for line in lines[number : min(number + 4, behind)])
        if said.startswith(wanted):
            above = number - 1  # "Chapter 1" in a line of its own above the title
            return above if above >= first and read_heading(lines[above].text) else number
    return None


def _said_by(ask: Callable[[], str]) -> str:
    """A string of the file, which may be none."""
    try:
        return one_line(ask().translate(DROPPED))
    except UnicodeDecodeError:
        return ""


def _language(document: PdfDocument) -> str:
    from pypdfium2 import raw

    size = raw.FPDFCatalog_GetLanguage(document, None, 0)  # bytes of UTF-16 with a NUL
    if not 2 < size < 200:
        return ""
    buffer = (raw.FPDF_WCHAR * (size // 2))()
    raw.FPDFCatalog_GetLanguage(document, buffer, ctypes.sizeof(buffer))
    return _said_by(lambda: bytes(buffer).decode("utf-16-le").rstrip("\0"))
