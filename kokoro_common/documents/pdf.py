"""A PDF: PDFium tells where characters stand on its pages; pages.py puts the lines together to paragraphs.

Chapters begin where the outline points to, at the line that says the title. Without an outline they begin at lines that
read like headings.

A small file from anybody can make PDFium take all memory, or hours: forms in forms, pages that share what they draw. So
it runs in a process of its own with a limit on both; macOS limits no memory. Reading blocks, for seconds with a large
book. No threads.
"""

from __future__ import annotations

import ctypes
import io
import json
import os
import re
import resource
import subprocess
import sys
from bisect import bisect_left
from collections import Counter
from contextlib import closing

from kokoro_common.documents.document import (
    DROPPED,
    MAX_CHARACTERS,
    MAX_CONTENTS,
    Chapter,
    Document,
    chapters_at,
    letters,
    lowest_level,
    one_line,
    without_empty,
)
from kokoro_common.documents.pages import Line, paragraphs, without_edges
from kokoro_common.documents.plain import read_heading, written_borders
from kokoro_common.errors import UsageError
from kokoro_common.record import Record
from kokoro_common.worker import command as worker_command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pypdfium2 import PdfDocument, PdfTextPage


MAX_MEMORY_BYTES = 2 << 30  # address space of the reading process; 32 million characters on 10,000 pages take 300 MB
CPU_SECONDS = 60  # 20 million characters on our machine, 3 microseconds each
CPU_SECONDS_PER_MIB = 20  # in addition, by the size of the file; books take 8
LIGATURES = {0xFB00: "ff", 0xFB01: "fi", 0xFB02: "fl", 0xFB03: "ffi", 0xFB04: "ffl", 0xFB05: "st", 0xFB06: "st"}
_LINE_CODES = (0x0A, 0x0D)
_HYPHEN_CODES = (0x02, 0xFFFE)  # PDFium's code for a hyphen at the end of a line, which no line end follows
MAX_MISSED = 50  # titles of an outline missing from a page, before the search on it stops
MAX_LINES = 300  # of a page that are searched for a title


def read_pdf(data: bytes, path: str) -> Document:
    """Reads a PDF; `path` is for errors. Blocks. Raises UsageError if it is broken, has no text, or takes too much."""
    seconds = CPU_SECONDS + CPU_SECONDS_PER_MIB * len(data) // (1 << 20)
    done = subprocess.run(  # kills the process if the wait is interrupted
        worker_command(__name__, path, str(MAX_MEMORY_BYTES), str(seconds)),
        input=data,
        capture_output=True,
        check=False,
    )
    if done.returncode > 0:  # an exception, so a bug
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
    chapters = tuple(Chapter(**chapter) for chapter in answer["chapters"])
    return Document(**{**answer, "chapters": chapters, "notes": tuple(answer["notes"])})


# --- In the process that reads, where alone pypdfium2 is imported ----------------------------------------------------


def serve(path: str, memory: str, seconds: str) -> None:
    """The process: reads a file from standard input, writes a Document or a UsageError as JSON to standard output."""
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_AS, int(memory))
    _limit(resource.RLIMIT_CPU, int(seconds))
    sys.stdout = io.TextIOWrapper(sys.stdout.buffer, "utf-8", "surrogatepass")
    try:
        json.dump(_read(sys.stdin.buffer.read(), path), sys.stdout, ensure_ascii=False, default=Record.as_dict)
    except UsageError as error:
        json.dump({"problem": error.problem, "remedy": error.remedy}, sys.stdout)
    except MemoryError:
        os.abort()  # as PDFium does
    sys.stdout.flush()


def _limit(which: int, most: int) -> None:
    try:
        resource.setrlimit(which, (most, most))
    except (OSError, ValueError):
        pass  # the limit is lower already, or macOS does not have it


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
        lines = without_edges(lines, heights)
        text, borders = paragraphs(lines, _outline_lines(_outline(document), lines))
        return Document(
            text=text,
            chapters=chapters_at(text, without_empty(text, borders) if borders else written_borders(text)),
            title=_said_by(lambda: document.get_metadata_value("Title")),
            author=_said_by(lambda: document.get_metadata_value("Author")),
            language=_language(document),
            extracted=True,
        )


def _lines(document: PdfDocument, path: str) -> tuple[list[Line], list[float]]:
    """The lines of all pages that hold more than blanks, and the pages' heights in points."""
    from pypdfium2 import PdfiumError

    lines: list[Line] = []
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


def _page_lines(textpage: PdfTextPage, number: int) -> Iterator[Line]:
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


def _line(textpage: PdfTextPage, text: str, printed: list[int], number: int, hyphenated: bool) -> Line:
    from pypdfium2 import PdfiumError

    boxes: list[tuple[float, float, float, float]] = []  # left, bottom, right, top
    for at in (printed[0], printed[len(printed) // 2], printed[-1]):
        try:
            boxes.append(textpage.get_charbox(at, loose=True))
        except PdfiumError:
            boxes.append(boxes[-1] if boxes else (0.0, 0.0, 0.0, 0.0))
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # PDFium may give halves of characters
    hyphenated = hyphenated or text.endswith("\xad")
    text = re.sub(r"[ \t\n\r\f]+", " ", text.translate(DROPPED).translate(LIGATURES)).strip()
    size = sorted(top - bottom for _, bottom, _, top in boxes)[1]  # of three, so that no initial counts
    return Line(text, number, boxes[0][0], boxes[-1][1], boxes[-1][2], size, hyphenated)


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


def _outline_lines(entries: list[tuple[str, int]], lines: list[Line]) -> dict[int, str]:
    """Titles by the line at which they begin: the one that says the title, or the first line of the page."""
    pages = [line.page for line in lines]
    begins: dict[int, str] = {}
    missed: Counter[int] = Counter()  # titles not found, by page
    last = -1
    for title, page in sorted(entries, key=lambda entry: entry[1]):
        first = bisect_left(pages, page)
        place = None
        if missed[page] < MAX_MISSED:
            from_here = max(first, last + 1)
            place = _line_saying(title, lines, from_here, min(bisect_left(pages, page + 1), from_here + MAX_LINES))
        if place is None:  # two such titles on one page make one chapter
            missed[page] += 1
            place = max(first, last)
        if place < len(lines):
            begins[place] = title
            last = place
    return begins


def _line_saying(title: str, lines: list[Line], first: int, end: int) -> int | None:
    wanted = letters(title)
    for number in range(first, end if wanted else first):
        said = "".join(letters(line.text) for line in lines[number : min(number + 4, end)])
        if said.startswith(wanted):
            above = number - 1  # "Chapter 1" in a line of its own above the title
            return above if above >= first and read_heading(lines[above].text) else number
    return None


def _said_by(ask: Callable[[], str]) -> str:
    """A string from the file, empty if it cannot be decoded."""
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
