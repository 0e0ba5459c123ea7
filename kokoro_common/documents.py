"""A file that people read, as one text with chapters: .txt, .md, .html, .htm, .xhtml, .epub, .pdf.

    .txt, .md         the file's own characters; chapters where a line reads like "Chapter 1", or at headings
    .html, .epub      paragraphs with blank lines between, headings as "# Title", items as "- item", rows as "| a |":
                      the Markdown that markup.py reads; what is for the eye alone is left out
    .pdf              paragraphs put together from the lines of the pages, without what repeats at their edges

Files may be anybody's. Nothing that they name outside of themselves is asked for, and each takes time and memory in
proportion to its size, or is refused: trees are walked as they are parsed and never held.

`say.py` imports this, so lxml and pypdfium2 wait until a file needs them. A room without threads: `load` blocks.
"""

from __future__ import annotations

import codecs
import io
import itertools
import os
import posixpath
import re
import unicodedata

from kokoro_common.errors import UsageError
from kokoro_common.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Any

    Border = tuple[int, str]  # where a chapter begins, in characters of the text, and its title
    Entry = tuple[int, str, str]  # of an EPUB's table of contents: level, title, what it points to

EXTRACTED = (".html", ".htm", ".xhtml", ".epub", ".pdf")
MARKDOWN = (".md", ".markdown")
MAX_FILE_BYTES = 256 << 20
MAX_ENTRY_BYTES = 64 << 20  # of one file in an EPUB, unpacked
MAX_UNPACKED_BYTES = 512 << 20  # of all that is read of an EPUB
MAX_ENTRIES = 65_535  # files in an EPUB; the zip module takes a kilobyte for each
MAX_DEPTH = 500  # of elements in elements; the parser looks through all that are open when one is closed
MAX_CHARACTERS = 32 << 20  # taken out of a PDF, whose pages may be far larger than the file
MAX_TITLE = 200  # characters
MAX_CONTENTS = 100_000  # entries of a table of contents
OWN_TEXT = 200  # characters, blanks aside, that make a chapter of what stands before or between headings
CHUNK = 1 << 16  # bytes that a parser is fed at a time; a text given as a whole loses what is above 10 MB in a row


class Chapter(Record):
    title: str  # one line, perhaps empty
    start: int  # in characters of Document.text
    end: int  # behind its last character


class Document(Record):
    text: str
    chapters: tuple[Chapter, ...]  # in order; together they cover the text without gap or overlap; at least one
    title: str = ""
    author: str = ""
    language: str = ""  # as the document says, such as "en-GB"
    extracted: bool = False  # taken out of markup or pages; False: the file's own characters, at the file's own places
    replaced: bool = False  # some bytes were no text in the file's encoding and became U+FFFD


def load(path: str) -> Document:
    """Reads a file; its extension says what it is, in any case, and what has none of ours is plain text.

    Blocks, for seconds with a large book. Raises UsageError for what cannot be read, is broken or encrypted.
    """
    data = _read(path)
    extension = os.path.splitext(path)[1].lower()
    if extension == ".pdf":
        return _load_pdf(data, path)
    if extension == ".epub":
        return _load_epub(data, path)
    if extension in EXTRACTED:
        return _load_html(data, path)
    text, replaced = _decoded(data, path)
    if extension in MARKDOWN:
        return _markdown(text).replace(replaced=replaced)  # type: ignore[no-any-return]
    return Document(text=text, chapters=_chapters(text, _written_borders(text)), replaced=replaced)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise UsageError(f"cannot read {path}: {reason}", "check the name") from None
    if len(data) > MAX_FILE_BYTES:
        raise UsageError(f"{path} has more than {MAX_FILE_BYTES >> 20} MiB", "split it")
    return data


# --- Bytes to characters ---------------------------------------------------------------------------------------------

# Patterns are compiled where they are used for the first time: say.py imports this room before it knows of a document.
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins like UTF-16's, so it is looked for first
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_DECLARED = rb"""(?i)(?:charset|encoding)\s{0,9}=\s{0,9}["']?\s{0,9}([\w.:-]{1,40})"""
_FOR_TEXT = (
    r"(?i)utf-?8|us-ascii|ascii|iso[-_]?8859.*|latin-?\d|(?:windows|cp|ibm)[-_]?\d{3,4}|koi8.*|mac.*|x-mac.*"
    r"|gb.*|big5.*|euc.*|shift.*|sjis|x-sjis|iso-2022-(?:jp|kr)|tis-?620"
)
_WEB_NAMES = {"iso8859-1": "cp1252", "ascii": "cp1252", "gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932"}


def _decoded(data: bytes, path: str) -> tuple[str, bool]:
    """The text as it stands there, without a byte order mark, and whether some of it was no text in its encoding."""
    bom, encoding = next(((bom, name) for bom, name in _BOMS if data.startswith(bom)), (b"", "utf-8"))
    if encoding == "utf-8" and b"\0" in data:
        raise UsageError(f"{path} is no text", "give a text, Markdown, HTML, EPUB or PDF file")
    return _in_encoding(data[len(bom) :], encoding)


def _decoded_markup(data: bytes) -> tuple[str, bool]:
    """As `_decoded`, in the encoding that a page declares."""
    for bom, name in _BOMS:
        if data.startswith(bom):
            return _in_encoding(data[len(bom) :], name)
    declared = re.search(_DECLARED, data[:4096])
    name = declared[1].decode("latin-1") if declared else "utf-8"
    if not re.fullmatch(_FOR_TEXT, name):
        return _in_encoding(data, "utf-8")  # UTF-16, which would show otherwise, or none that a page may be in
    try:
        name = codecs.lookup(name).name
    except LookupError:
        name = "utf-8"
    return _in_encoding(data, _WEB_NAMES.get(name, name))  # what browsers take for these names


def _in_encoding(data: bytes, encoding: str) -> tuple[str, bool]:
    try:
        return data.decode(encoding), False
    except UnicodeDecodeError:
        return data.decode(encoding, "replace"), True


# --- Borders to chapters ---------------------------------------------------------------------------------------------

_PRINTED = r"\S+"


def _chapters(text: str, borders: Iterable[Border]) -> tuple[Chapter, ...]:
    """Borders are in order; of several at one place the last one's title counts.

    What stands before the first is a chapter without a title, or belongs to the first one if there is little of it.
    """
    cuts: list[Border] = []
    for start, title in borders:
        if cuts and start <= cuts[-1][0]:
            cuts[-1] = (cuts[-1][0], title)
        elif start < len(text):
            cuts.append((start, title))
    if not cuts:
        cuts = [(0, "")]
    if _has_own_text(text, 0, cuts[0][0]):
        cuts.insert(0, (0, ""))
    cuts[0] = (0, cuts[0][1])
    ends = [start for start, _ in cuts[1:]] + [len(text)]
    return tuple(
        Chapter(title=_one_line(title), start=start, end=end) for (start, title), end in zip(cuts, ends, strict=True)
    )


def _has_own_text(text: str, start: int, end: int) -> bool:
    seen = 0
    for run in re.compile(_PRINTED).finditer(text, start, end):
        seen += run.end() - run.start()
        if seen >= OWN_TEXT:
            return True
    return False


def _one_line(text: str) -> str:
    return " ".join(text[: 10 * MAX_TITLE].split())[:MAX_TITLE]


def _by_headings(text: str, headings: list[tuple[int, int, str]]) -> tuple[str, tuple[Chapter, ...]]:
    """The title and the chapters that headings make. A heading is its level from 1, its place and its title.

    The title is the first heading if no other one is as high. Chapters are the first level that has two headings.
    """
    if not headings:
        return "", _chapters(text, [])
    levels = [level for level, _, _ in headings]
    highest = min(levels)
    title = headings[0][2] if levels[0] == highest and levels.count(highest) == 1 else ""
    chapter_level = next((level for level in range(1, 7) if levels.count(level) > 1), 0)
    borders = [(start, name) for level, start, name in headings if level == chapter_level]
    return _one_line(title), _chapters(text, borders)


def _without_empty(text: str, borders: Sequence[Border]) -> list[Border]:
    """A chapter that is nothing but its headings begins the next one, which keeps its own title: "Part I"."""
    kept: list[Border] = []
    begun: int | None = None
    for number, (start, title) in enumerate(borders):
        begun = start if begun is None else begun
        behind = borders[number + 1][0] if number + 1 < len(borders) else len(text)
        if number + 1 < len(borders) and behind - start < 10 * MAX_TITLE and not _says_more(text[start:behind], title):
            continue
        kept.append((begun, title))
        begun = None
    return kept


def _says_more(text: str, title: str) -> bool:
    """Than the title and headings."""
    lines = [line for line in text.split("\n") if not line.startswith("#")]
    said = _letters(" ".join(lines))
    return bool(said) and said != _letters(title)


def _letters(text: str) -> str:
    return "".join(character for character in text.casefold() if character.isalnum())


def _two_levels(levels: Sequence[int]) -> int:
    """The lowest level of a table of contents that makes chapters: below the first that has two entries there may be
    parts with their chapters, and what is below these are sections."""
    counted: dict[int, int] = {}
    for level in levels:
        counted[level] = counted.get(level, 0) + 1
    return next((level for level in sorted(counted) if counted[level] > 1), max(counted, default=0)) + 1


# --- Plain text ------------------------------------------------------------------------------------------------------

_LINE = r"[^\r\n]*(?:\r\n?|\n)?"
_KEYWORD = (
    "chapter|part|book|volume|canto|act|scene|stave|letter|section|lesson|chapitre|partie|livre|tome|capítulo"
    "|capitulo|parte|libro|capitolo|livro|kapitel|teil|buch|abschnitt|अध्याय|भाग"
)
_ROMAN = r"(?=[ivxlcdm])m{0,3}(?:cm|cd|d?c{0,3})(?:xc|xl|l?x{0,3})(?:ix|iv|v?i{0,4})"
_WORDS = (
    r"one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen"
    r"|seventeen|eighteen|nineteen|first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|last|un|une"
    r"|deux|trois|quatre|cinq|sept|huit|neuf|dix|onze|douze|treize|quatorze|quinze|seize|premier|première"
    r"|deuxième|seconde|troisième|quatrième|cinquième|sixième|septième|huitième|neuvième|dixième|uno|una|dos"
    r"|tres|cuatro|cinco|seis|siete|ocho|nueve|diez|once|doce|trece|catorce|quince|primero|primera|segundo"
    r"|segunda|tercero|tercera|cuarto|cuarta|quinto|quinta|sexto|sexta|séptimo|octavo|noveno|décimo|due|tre"
    r"|quattro|cinque|sei|sette|otto|nove|dieci|undici|dodici|tredici|quattordici|quindici|primo|prima|secondo"
    r"|seconda|terzo|terza|sesto|settimo|nono|decimo|um|uma|dois|duas|três|quatro|sete|oito|dez|doze|treze"
    r"|catorze|primeiro|primeira|terceiro|terceira|quarta|eins|zwei|drei|vier|fünf|sechs|sieben|acht|neun|zehn"
    r"|elf|zwölf|erste[rs]?|zweite[rs]?|dritte[rs]?|vierte[rs]?|fünfte[rs]?|sechste[rs]?|siebte[rs]?|achte[rs]?"
    r"|neunte[rs]?|एक|दो|तीन|चार|पाँच|पांच|छह|सात|आठ|नौ|दस|पहला|दूसरा|तीसरा"
)
_TENS = (
    "(?:twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety)(?:[- ](?:one|two|three|four|five|six|seven|eight|nine))?"
)
_NUMBER = rf"(?:[0-9\u0966-\u096f]{{1,4}}|{_TENS}|{_WORDS}|{_ROMAN})"
_NAMES = (
    "prologue|epilogue|introduction|preface|foreword|afterword|postscript|conclusion|interlude|acknowledge?ments"
    "|appendix(?: [a-z0-9]{1,4})?|épilogue|préface|avant-propos|postface|prólogo|epílogo|introducción|prefacio"
    "|conclusión|apéndice|prologo|epilogo|introduzione|prefazione|conclusione|appendice|introdução|prefácio"
    "|conclusão|apêndice|prolog|epilog|einleitung|vorwort|nachwort|einführung|anhang|प्रस्तावना|भूमिका|उपसंहार"
)
_HEADING = (
    rf"(?P<key>(?:{_KEYWORD})\s(?:the\s)?{_NUMBER}|(?:{_NUMBER})(?:st|nd|rd|th|er|e|[.ªº])?\s(?:{_KEYWORD})|{_NAMES})"
    r"(?![\w'’-])(?P<rest>.*)"
)
_EAST_ASIAN_HEADING = (
    r"(?P<key>第\s?[0-9０-９〇零一二三四五六七八九十百千两兩]{1,7}\s?[章回卷巻部話话節节編编篇集幕]"
    r"|(?:序|序章|序言|序文|前言|楔子|引子|终章|終章|尾声|尾聲|后记|後記|プロローグ|エピローグ|はじめに|おわりに"
    r"|まえがき|あとがき)(?=\s|$))(?P<rest>.*)"
)
MAX_HEADING = 120  # characters
MAX_SECOND_LINE = 80  # characters of a title below "Chapter 1"
CONTENTS = 3  # headings in a row with no text of their own that are a table of contents


class _Heading(Record):
    start: int
    end: int  # behind its line, or the title's line below it
    key: str  # what it says without its title, to be found again
    title: str


def _written_borders(text: str) -> list[Border]:
    """Chapters of a text that has no markup: lines that stand alone and read like headings."""
    headings = _without_contents(text, list(_headings(text)))
    borders: list[Border] = []
    begun: int | None = None
    for number, heading in enumerate(headings):
        begun = heading.start if begun is None else begun
        if number + 1 < len(headings) and not _has_own_text(text, heading.end, headings[number + 1].start):
            continue  # "Part II" before "Chapter 1"
        borders.append((begun, heading.title))
        begun = None
    return borders


def _headings(text: str) -> Iterator[_Heading]:
    """Lines with a blank one before, and one behind them or behind the title below."""
    place, after_blank = 0, True
    while place < len(text):
        line, behind = _line_at(text, place)
        if after_blank and line and (read := _read_heading(line)):
            key, title = read
            second, behind_second = _line_at(text, behind)
            if not second:
                yield _Heading(start=place, end=behind, key=key, title=title)
            elif len(second) <= MAX_SECOND_LINE and not _read_heading(second) and not _line_at(text, behind_second)[0]:
                title = f"{title.rstrip(' .:')}. {second}"
                yield _Heading(start=place, end=behind_second, key=key, title=title)
        place, after_blank = behind, not line


def _line_at(text: str, place: int) -> tuple[str, int]:
    """A line without blanks at its ends, of a long one its beginning, and where the next one begins."""
    found = re.compile(_LINE).match(text, place)
    assert found is not None  # it matches nothing, too
    end = found.end()
    line = text[place : min(end, place + 500)].strip()
    return line or ("..." if end - place > 500 and not text[place:end].isspace() else ""), end


def _read_heading(line: str) -> tuple[str, str] | None:
    """What a heading says without its title, and with it; None for a line that is none."""
    if len(line) > MAX_HEADING:
        return None
    line = " ".join(unicodedata.normalize("NFC", line).split())
    if found := re.fullmatch(_EAST_ASIAN_HEADING, line):
        return None if line[-1] in "。！？" else (found["key"], line)
    found = re.fullmatch(_HEADING, line, re.IGNORECASE)
    if found is None or (found["rest"][:1] == " " and found["rest"][1:2].islower()):
        return None  # a sentence: "Part one was easy"
    return found["key"].casefold(), line


def _without_contents(text: str, headings: list[_Heading]) -> list[_Heading]:
    """Takes away the headings that a table of contents at the beginning lists."""
    run = 0
    while run + 1 < len(headings) and not _has_own_text(text, headings[run].end, headings[run + 1].start):
        run += 1
    if run < CONTENTS:
        return headings
    keys: set[str] = set()
    for number, heading in enumerate(headings[:run]):
        if heading.key in keys:
            return headings[number:]  # the first chapter itself, with no text before its first section
        keys.add(heading.key)
    listed_last = run + 1 < len(headings) and headings[run].key not in keys and headings[run + 1].key in keys
    return headings[run + listed_last :]  # with a preface behind it the last line of the table has text of its own


# --- Markdown --------------------------------------------------------------------------------------------------------

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
NONE, NO_HEADING = -1, -2  # no paragraph is open; one that cannot be a heading is: an item, a quotation, code


def _markdown(text: str) -> Document:
    matter, begin = _front_matter(text)
    title, chapters = _by_headings(text, list(_markdown_headings(text, begin)))
    return Document(
        text=text,
        chapters=chapters,
        title=_one_line(matter.get("title", "")) or title,
        author=_one_line(matter.get("author", "") or matter.get("authors", "")),
        language=_one_line(matter.get("lang", "") or matter.get("language", "")),
    )


def _front_matter(text: str) -> tuple[dict[str, str], int]:
    """The simple lines of a YAML block at the top, and where it ends: 0 if there is none."""
    first, place = _line_at(text, 0)
    values: dict[str, str] = {}
    while first == "---" and place < min(len(text), MAX_FRONT_MATTER):
        line, place = _line_at(text, place)
        if line in ("---", "..."):
            return values, place
        if found := re.fullmatch(_FRONT_MATTER_LINE, line):
            values.setdefault(found[1].lower(), found[2].strip("[]").strip().strip("\"'"))
    return {}, 0


def _markdown_headings(text: str, begin: int) -> Iterator[tuple[int, int, str]]:
    """Level, place and title of those outside of code and comments."""
    place, fence, unended_comment = begin, "", False
    paragraph, title = NONE, ""  # where the one that is open begins, and what it says, in case it is a heading
    while place < len(text):
        start = place
        found = re.compile(_LINE).match(text, place)
        assert found is not None  # it matches nothing, too
        place = found.end()
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
                place, paragraph = max(place, _line_at(text, end)[1]), NONE
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
    """Without the signs of markup."""
    title = re.sub(_TAGS, "", re.sub(_LINK, r"\1", title[: 10 * MAX_TITLE]))
    return _one_line(re.sub(_OUTER_UNDERSCORES, "", title.replace("*", "").replace("`", "")))


# --- HTML ------------------------------------------------------------------------------------------------------------

_UNREAD = {"script", "style", "nav", "template", "noscript", "svg", "iframe", "canvas", "audio", "video"} | {
    "noframes", "button", "select", "textarea", "option", "datalist", "rt", "rp",
}  # fmt: skip
_BLOCKS = {"address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details", "dialog"} | {
    "div", "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "header", "hr", "legend", "li", "main",
    "ol", "p", "pre", "section", "summary", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul",
}  # fmt: skip
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_HIDDEN = r"(?i)display\s*:\s*none"
_BLANKS = r"[ \t\n\r\f]+"  # no-break spaces are kept: they hold numbers together
_DECORATION = r"[*#~=_•·∙⁂※◆◇○●★☆✦❦❧—–\-\s.]+"
_FENCE_MARK = r"(?m)^([ \t>]*)`{3,}"
_NOTE_MARK = r"[\[(]?(?:\d{1,4}|[*†‡§¶]{1,3})[\])]?"
_FILE_NAME = (  # or a word that says nothing of what the picture shows
    r"(?i)\S{0,200}\.(?:jpe?g|png|gif|svg|webp|bmp)|(?:the )?(?:cover|image|illustration|picture|logo)s?"
    r"|cover (?:image|page)|\*"
)
_DROPPED = dict.fromkeys((*range(9), 0x0B, *range(0x0E, 0x20), 0x7F, 0xAD, 0xFEFF))  # soft hyphens are 0xAD
_LINE_END = "\0"  # in what is gathered of a paragraph: where a line ends on paper too
MAX_MARK = 24  # characters of a link that is raised: a note's
MAX_CELL = 500  # characters; a longer one is no table's but a page's layout
LINKS_OF_CONTENTS = 5  # that a page needs to be nothing but a table of contents


class _Page:
    """What lxml tells about a page's elements, put together as text. For one page."""

    def __init__(self, path: str) -> None:
        self.ids: dict[str, int] = {}  # where in the text the paragraph begins that an element is in
        self.headings: list[tuple[int, int, str]] = []  # level, place, title
        self.title, self.author, self.language = "", "", ""
        self._path = path
        self._paragraphs: list[str] = []
        self._length = 0
        self._last_kind = ""
        self._parts: list[str] = []  # of the paragraph that is open
        self._anchors: list[tuple[str, int]] = []  # ids in it, and before which part
        self._waiting: list[str] = []  # ids whose paragraph is still to come
        self._bullet = ""
        self._row: list[list[tuple[str, list[str]]]] | None = None  # cells: paragraphs with their ids
        self.unfinished: list[str] = []  # elements that are open
        self._quiet = 0  # depth of the element that is not read, 0: none
        self._heading = 0  # level
        self._heading_depth = 0
        self._in_title = False
        self._verbatim = 0  # pre elements
        self._lists: list[int] = []  # numbers of the next items; 0: no numbers
        self._links = 0  # a elements that are open
        self._raised: list[tuple[int, int]] = []  # sup elements: first part, links before
        self._linked = [0, 0, 0]  # links, characters in them, characters in all

    @property
    def text(self) -> str:
        return "".join(self._paragraphs)

    @property
    def is_contents(self) -> bool:
        """Whether it is links and little else."""
        links, inside, total = self._linked
        return links >= LINKS_OF_CONTENTS and inside >= 0.8 * total

    # --- told by the parser ----------------------------------------------------------------------------------------

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        name = tag.rpartition(":")[2]
        self.unfinished.append(name)
        if len(self.unfinished) > MAX_DEPTH:
            raise UsageError(f"{self._path} has more than {MAX_DEPTH} elements in each other", "flatten it")
        if attributes:
            self._waiting_or_anchor(attributes)
        if self._quiet:
            return
        if name in _UNREAD or (attributes and name not in ("html", "body") and _is_hidden(attributes)):
            self._quiet = len(self.unfinished)
        elif name in _HEADINGS:
            self._begin_heading(_HEADINGS[name])
        elif name in _BLOCKS:
            self._begin_block(name, attributes)
        else:
            self._begin_inline(name, attributes)

    def end(self, _: str) -> None:
        depth, name = len(self.unfinished), self.unfinished.pop()
        if self._quiet:
            self._quiet = 0 if depth == self._quiet else self._quiet
        elif name in _HEADINGS:
            if depth == self._heading_depth:
                self._flush()
                self._heading = self._heading_depth = 0
        elif name in _BLOCKS:
            self._end_block(name)
        elif name == "title":
            self._in_title = False
        elif name == "a":
            self._links -= 1
        elif name == "sup" and self._raised:
            self._end_raised()
        elif name == "q":
            self._parts.append("”")

    def data(self, data: str) -> None:
        if self._quiet:
            return
        if self._in_title:
            self.title += data if len(self.title) < 10 * MAX_TITLE else ""
            return
        data = data.translate(_DROPPED)
        self._parts.append(data.replace("\n", _LINE_END) if self._verbatim else data)
        self._linked[2] += len(data.strip())
        self._linked[1] += len(data.strip()) if self._links else 0

    def close(self) -> None:
        self._flush()
        self._spill()
        for name in self._waiting:
            self.ids.setdefault(name, self._length)

    # --- elements ----------------------------------------------------------------------------------------------------

    def _waiting_or_anchor(self, attributes: Mapping[str, str]) -> None:
        for key in ("id", "name"):
            if (name := attributes.get(key)) and (key == "id" or self.unfinished[-1] == "a"):
                self._anchors.append((name, len(self._parts)))

    def _begin_heading(self, level: int) -> None:
        if not self._heading:
            self._flush()
            self._heading, self._heading_depth = level, len(self.unfinished)

    def _begin_block(self, name: str, attributes: Mapping[str, str]) -> None:
        if self._heading:
            self._parts.append(" ")
            return
        self._flush()
        if name == "pre":
            self._verbatim += 1
        elif name in ("ul", "ol"):
            first = _number(attributes.get("start", ""), 1) if name == "ol" else 0
            self._lists.append(first)
        elif name == "li":
            self._begin_item(attributes)
        elif name in ("table", "tr"):
            self._spill()
            self._row = [] if name == "tr" else None
        elif name in ("td", "th") and self._row is not None:
            self._row.append([])

    def _begin_item(self, attributes: Mapping[str, str]) -> None:
        self._bullet = "- "
        if self._lists and self._lists[-1]:
            number = _number(attributes.get("value", ""), self._lists[-1])
            self._bullet, self._lists[-1] = f"{number}. ", number + 1

    def _end_block(self, name: str) -> None:
        if self._heading:
            self._parts.append(" ")
            return
        self._flush()
        if name == "pre":
            self._verbatim -= 1
        elif name in ("ul", "ol"):
            self._lists.pop()
        elif name == "li":
            self._bullet = ""
        elif name == "tr":
            self._end_row()

    def _begin_inline(self, name: str, attributes: Mapping[str, str]) -> None:
        if name == "br":
            self._parts.append(_LINE_END)
        elif name == "title":
            self._in_title = not self.title
        elif name == "a":
            self._links += 1
            self._linked[0] += "href" in attributes
        elif name == "sup":
            self._raised.append((len(self._parts), self._linked[0] - (self._links > 0)))
        elif name == "q":
            self._parts.append("“")
        elif name == "img":
            shown = attributes.get("alt", "").translate(_DROPPED).strip()
            self._parts.append("" if re.fullmatch(_FILE_NAME, shown[:300]) else shown)
        elif name == "html":
            self.language = _one_line(attributes.get("xml:lang", "") or attributes.get("lang", ""))
        elif name == "meta" and attributes.get("name", "").lower() in ("author", "dc.creator", "dcterms.creator"):
            self.author = self.author or _one_line(attributes.get("content", ""))

    def _end_raised(self) -> None:
        """Takes the mark of a note away; leaves the 2 of m² and the th of 5th."""
        first, links_before = self._raised.pop()
        shown = "".join(self._parts[first:]).strip()
        if self._linked[0] > links_before:
            is_mark = len(shown) <= MAX_MARK
        else:
            before = "".join(self._parts[max(0, first - 4) : first])[-4:]
            behind_word = (len(before) == 4 and before.isalpha()) or before[-1:] in tuple('.,;:!?…"”’»)')
            is_mark = behind_word and re.fullmatch(_NOTE_MARK, shown) is not None
        if is_mark:
            del self._parts[first:]
            self._clip_anchors(first)

    def _clip_anchors(self, last: int) -> None:
        for number in range(len(self._anchors) - 1, -1, -1):
            name, place = self._anchors[number]
            if place <= last:
                return
            self._anchors[number] = (name, last)

    # --- paragraphs --------------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        """Ends the paragraph that is open."""
        parts, self._parts = self._parts, []
        anchors, self._anchors = self._anchors, []
        self._raised = []
        if not parts:
            self._waiting += [name for name, _ in anchors]
            return
        lines = [re.sub(_BLANKS, " ", line).strip() for line in "".join(parts).split(_LINE_END)]
        text = ("\n" if not (self._heading or self._bullet or self._row) else " ").join(lines).strip()
        text = re.sub(r"\n{3,}", "\n\n", text) if len(lines) > 3 else text
        if "```" in text:  # it would make all that follows code
            text = re.sub(_FENCE_MARK, r"\1", text).strip()
        if not text or re.fullmatch(_DECORATION, text):
            self._waiting += [name for name, _ in anchors]
            return
        last = len(parts) - 1
        while not parts[last].strip(" \t\n\r\f\0"):
            last -= 1
        ids = self._waiting + [name for name, place in anchors if place <= last]
        self._waiting = [name for name, place in anchors if place > last]
        self._end_paragraph(text, ids)

    def _end_paragraph(self, text: str, ids: list[str]) -> None:
        if self._row and not self._heading and not self._bullet and not self._row[-1] and len(text) <= MAX_CELL:
            self._row[-1].append((text, ids))
            return
        self._spill()
        if self._heading:
            self.headings.append((self._heading, self._put(f"{'#' * self._heading} {text}", "heading", ids), text))
        elif self._bullet:
            self._put(self._bullet + text, "item", ids)
            self._bullet = ""
        else:
            self._put(text, "", ids)

    def _put(self, text: str, kind: str, ids: Iterable[str]) -> int:
        """Where it begins."""
        if self._paragraphs:
            between = "\n" if kind == self._last_kind and kind in ("item", "row") else "\n\n"
            self._paragraphs.append(between)
            self._length += len(between)
        place = self._length
        for name in ids:
            self.ids.setdefault(name, place)
        self._paragraphs.append(text)
        self._length += len(text)
        self._last_kind = kind
        return place

    def _end_row(self) -> None:
        row, self._row = self._row or [], None
        cells = [cell[0][0] if cell else "" for cell in row]
        ids = [name for cell in row for _, names in cell for name in names]
        if len(cells) > 1 and any(cells):
            self._put(f"| {' | '.join(cells)} |", "row", ids)
        elif any(cells):
            self._put(cells[0], "", ids)

    def _spill(self) -> None:
        """The row that is open is a page's layout: what it holds are paragraphs."""
        row, self._row = self._row or [], None
        for text, ids in (paragraph for cell in row for paragraph in cell):
            self._put(text, "", ids)


def _is_hidden(attributes: Mapping[str, str]) -> bool:
    """From the ear: what is not shown, page numbers, and marks of notes."""
    if "hidden" in attributes or attributes.get("aria-hidden", "").strip().lower() == "true":
        return True
    if (style := attributes.get("style")) and re.search(_HIDDEN, style):
        return True
    kinds = f"{attributes.get('epub:type', '')} {attributes.get('role', '')}".split()
    return any(kind.removeprefix("doc-") in ("noteref", "pagebreak") for kind in kinds)


def _number(text: str, otherwise: int) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else otherwise


def _read_page(data: bytes, path: str) -> tuple[_Page, bool]:
    """A page and whether bytes of it were replaced. `path` is for errors: elements too deep in each other."""
    page = _Page(path)
    replaced = _parse(data, page, path)
    page.close()
    return page, replaced


def _parse(data: bytes, target: _Page | _Contents, path: str) -> bool:
    """Tells the target about the elements. Whether bytes were replaced; what is no HTML is text to this parser."""
    from lxml import etree

    text, replaced = _decoded_markup(data)
    parser = etree.HTMLParser(target=target, encoding="utf-8")
    data = text.replace("\0", "\ufffd").encode("utf-8", "replace")
    try:
        for place in range(0, len(data), CHUNK):
            parser.feed(data[place : place + CHUNK])
        parser.close()
    except etree.XMLSyntaxError:
        pass  # there is no element in it
    if target.unfinished or parser.error_log.filter_from_fatals():
        raise UsageError(f"{path} is broken: it cannot be read to its end", "mend it, or save it anew")
    return replaced


def _load_html(data: bytes, path: str) -> Document:
    if b"\0" in data and not any(data.startswith(bom) for bom, _ in _BOMS):
        raise UsageError(f"{path} is no text", "give a text, Markdown, HTML, EPUB or PDF file")
    page, replaced = _read_page(data, path)
    text = page.text
    title, chapters = _by_headings(text, page.headings)
    return Document(
        text=text,
        chapters=chapters,
        title=_one_line(page.title.translate(_DROPPED)) or title,
        author=page.author,
        language=page.language,
        extracted=True,
        replaced=replaced,
    )


# --- EPUB ------------------------------------------------------------------------------------------------------------

_BROKEN_EPUB = "get it anew, or make it anew with an EPUB editor"
MAX_CONTROL_BYTES = 16 << 20  # of an XML file in an EPUB that is held as a tree, which takes ten times as much


class _Archive:
    """The files in an EPUB. Raises UsageError for what is broken, encrypted or far too large, before it is unpacked."""

    def __init__(self, data: bytes, path: str) -> None:
        import zipfile

        self.path = path
        if data.count(b"PK\x01\x02") > MAX_ENTRIES:  # what an entry of its directory begins with
            raise UsageError(f"{path} holds more than {MAX_ENTRIES} files", "split it")
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
        except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, EOFError):
            raise UsageError(f"{path} is no EPUB, or a broken one", _BROKEN_EPUB) from None
        self._entries = {entry.filename: entry for entry in self._zip.infolist()}
        self._folded = {name.casefold(): name for name in self._entries}
        self._unpacked = 0

    def find(self, name: str) -> str:
        """The name as it is in there, perhaps in another case; "" if it is not."""
        return name if name in self._entries else self._folded.get(name.casefold(), "")

    def resolve(self, base: str, reference: str) -> str:
        """What a file refers to, as a name in the archive; "" if it is not there."""
        from urllib.parse import unquote

        reference = reference.partition("#")[0].strip()
        if not reference:
            return base
        for candidate in (unquote(reference), reference):
            joined = posixpath.join(posixpath.dirname(base), candidate.replace("\\", "/"))
            if found := self.find(posixpath.normpath(joined).lstrip("./")):
                return found
        return ""

    def read(self, name: str, limit: int = MAX_ENTRY_BYTES) -> bytes:
        import struct
        import zipfile
        import zlib

        entry = self._entries[name]
        self._unpacked += entry.file_size
        if entry.file_size > limit or self._unpacked > MAX_UNPACKED_BYTES:
            raise UsageError(f"{self.path} would unpack to far too much", "split it")
        if entry.flag_bits & 1:
            raise UsageError(f"{self.path} is encrypted", "give a copy without a password")
        try:
            return self._zip.read(entry)
        except (zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, ValueError, RuntimeError):
            raise UsageError(f"{self.path} is broken: {name} cannot be unpacked", _BROKEN_EPUB) from None

    def read_xml(self, name: str) -> Any:
        """The root element of a file that must not be broken. Entities stay what they are, and nothing is fetched."""
        from lxml import etree

        parser = etree.XMLParser(
            resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=True,
            remove_pis=True,
        )  # fmt: skip
        try:
            return etree.fromstring(self.read(name, MAX_CONTROL_BYTES), parser)
        except (etree.XMLSyntaxError, ValueError):
            raise UsageError(f"{self.path} is broken: {name} is no XML", _BROKEN_EPUB) from None


class _Package:
    """What an EPUB says of itself: who wrote it, what is read in which order, and where its table of contents is."""

    def __init__(self, archive: _Archive) -> None:
        self.name = self._find(archive)
        root = archive.read_xml(self.name)
        self.title = next(self._said(root, "title"), "")
        self.author = ", ".join(dict.fromkeys(self._said(root, "creator")))
        self.language = next(self._said(root, "language"), "")
        manifest = {item.get("id", ""): item for item in _elements(root, "item")}
        kinds = {key: item.get("properties", "").split() for key, item in manifest.items()}
        self.contents = [  # the newer one first
            archive.resolve(self.name, item.get("href", ""))
            for key, item in sorted(manifest.items(), key=lambda item: "nav" not in kinds[item[0]])
            if "nav" in kinds[key] or item.get("media-type") == "application/x-dtbncx+xml"
        ]
        references = [
            reference
            for reference in _elements(root, "itemref")
            if (key := reference.get("idref", "")) in manifest and "nav" not in kinds[key]
            and not manifest[key].get("media-type", "").startswith("image/")
        ]  # fmt: skip
        read = [reference for reference in references if reference.get("linear", "").lower() != "no"]
        names = (archive.resolve(self.name, manifest[item.get("idref")].get("href", "")) for item in read or references)
        self.spine = [name for name in dict.fromkeys(names) if name and name != self.name]

    def _find(self, archive: _Archive) -> str:
        container = archive.find("META-INF/container.xml")
        if not container:
            raise UsageError(f"{archive.path} is no EPUB: it has no container.xml", _BROKEN_EPUB)
        files = _elements(archive.read_xml(container), "rootfile")
        names = (archive.resolve("", file.get("full-path", "")) for file in files)
        name = next(filter(None, names), "")
        if not name:
            raise UsageError(f"{archive.path} is broken: it has no package", _BROKEN_EPUB)
        return name

    def _said(self, root: Any, name: str) -> Iterator[str]:
        for element in _elements(root, name):
            if "purl.org/dc/" in element.tag and (said := _one_line(element.text or "")):
                yield said


def _elements(root: Any, name: str) -> Iterator[Any]:
    """In whatever namespace."""
    return (element for element in root.iter("{*}" + name))


def _load_epub(data: bytes, path: str) -> Document:
    archive = _Archive(data, path)
    package = _Package(archive)
    if not package.spine:
        raise UsageError(f"{path} is broken: it names nothing to read", _BROKEN_EPUB)
    _refuse_encrypted(archive, package.spine)
    wanted: dict[str, list[tuple[int, str, str]]] = {}  # by file: order, fragment, title
    for order, (name, fragment, title) in enumerate(_table_of_contents(archive, package)):
        wanted.setdefault(name, []).append((order, fragment, title))

    pieces: list[str] = []
    length, replaced_any = 0, False
    placed: list[tuple[int, int, str]] = []  # place, order in the table of contents, title
    by_file: list[Border] = []
    headings: list[tuple[int, int, str]] = []
    for name in package.spine:
        page, replaced = _read_page(archive.read(name), path)
        if page.is_contents and len(package.spine) > 1:
            continue
        text, begin = page.text, length + 2 * bool(length)
        placed += [(begin + page.ids.get(fragment, 0), order, title) for order, fragment, title in wanted.get(name, ())]
        if not text:
            continue
        by_file.append((begin, page.headings[0][2] if page.headings else ""))
        headings += [(level, begin + place, title) for level, place, title in page.headings]
        pieces.append(text)
        length, replaced_any = begin + len(text), replaced_any or replaced
    whole = "\n\n".join(pieces)
    borders = _without_empty(whole, [(place, title) for place, _, title in sorted(placed)])
    if len(borders) < 2 and len(by_file) > 1:
        borders = by_file
    return Document(
        text=whole,
        chapters=_chapters(whole, borders) if borders else _by_headings(whole, headings)[1],
        title=package.title,
        author=package.author,
        language=package.language,
        extracted=True,
        replaced=replaced_any,
    )


def _refuse_encrypted(archive: _Archive, spine: list[str]) -> None:
    """Fonts may be garbled; what is read may not."""
    name = archive.find("META-INF/encryption.xml")
    if not name:
        return
    references = _elements(archive.read_xml(name), "CipherReference")
    encrypted = {archive.resolve("", reference.get("URI", "")) for reference in references}
    if encrypted.intersection(spine):
        raise UsageError(f"{archive.path} is encrypted", "give a copy without DRM")


def _table_of_contents(archive: _Archive, package: _Package) -> list[tuple[str, str, str]]:
    """File, fragment and title of each entry that makes a chapter, from the first table that has any of them."""
    from urllib.parse import unquote

    for name in filter(None, package.contents):
        contents = _read_contents(archive.read(name), archive.path)
        spine = set(package.spine)
        entries = [(level, archive.resolve(name, target), target, title) for level, title, target in contents]
        entries = [entry for entry in entries if entry[1] in spine]
        lowest = _two_levels([level for level, *_ in entries])
        if entries:
            return [
                (file, unquote(target.partition("#")[2]), title)
                for level, file, target, title in entries
                if level <= lowest
            ]
    return []


class _Contents:
    """What the parser tells about a table of contents: `nav` of EPUB 3 or `navMap` of EPUB 2."""

    def __init__(self, path: str) -> None:
        self.entries: list[Entry] = []
        self._path = path
        self.unfinished: list[str] = []  # elements that are open
        self._inside = 0  # depth of the table
        self._title: list[str] = []
        self._gathers = False  # a title
        self._link = ""

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        name = tag.rpartition(":")[2]
        self.unfinished.append(name)
        if len(self.unfinished) > MAX_DEPTH:
            raise UsageError(f"{self._path} has more than {MAX_DEPTH} elements in each other", "flatten it")
        if name == "navmap" or (name == "nav" and "toc" in attributes.get("epub:type", "").split()):
            self._inside = self._inside or len(self.unfinished)
        elif name in ("a", "navpoint"):
            self._title, self._link, self._gathers = [], attributes.get("href", ""), name == "a"
        elif name == "text":
            self._gathers = True
        elif name == "content":
            self._add(self.unfinished.count("navpoint"), attributes.get("src", ""))

    def end(self, tag: str) -> None:
        name = self.unfinished.pop()
        if len(self.unfinished) < self._inside:
            self._inside = 0
        if name in ("a", "text"):
            self._gathers = False
        if name == "a":
            self._add(self.unfinished.count("ol"), self._link)

    def data(self, data: str) -> None:
        if self._gathers:
            self._title.append(data)

    def close(self) -> None:
        """Called by the parser."""

    def _add(self, level: int, target: str) -> None:
        if self._inside and target and len(self.entries) < MAX_CONTENTS:
            self.entries.append((level, _one_line("".join(self._title).translate(_DROPPED)), target))


def _read_contents(data: bytes, path: str) -> list[Entry]:
    contents = _Contents(path)
    _parse(data, contents, path)
    return contents.entries


# --- PDF -------------------------------------------------------------------------------------------------------------

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


class _Line:
    """A line of a page, in points from the page's lower left corner."""

    __slots__ = ("bottom", "hyphenated", "left", "page", "right", "size", "text")

    def __init__(self, text: str, page: int, box: tuple[float, float, float], size: float, hyphenated: bool) -> None:
        self.text = text
        self.page = page
        self.left, self.bottom, self.right = box
        self.size = size  # of its font's boxes: their height
        self.hyphenated = hyphenated  # goes on in the next line without a blank


def _load_pdf(data: bytes, path: str) -> Document:
    import pypdfium2
    from pypdfium2 import raw

    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if error.err_code in (raw.FPDF_ERR_PASSWORD, raw.FPDF_ERR_SECURITY):
            raise UsageError(f"{path} is encrypted", "give a copy without a password") from None
        raise UsageError(f"{path} is no PDF, or a broken one", "get it anew, or mend it (qpdf, mutool clean)") from None
    try:
        lines, heights = _pdf_lines(document, path)
        if not lines:
            raise UsageError(f"{path} holds no text, only pictures", "run OCR on it first (ocrmypdf)")
        lines = _without_edges(lines, heights)
        begins = _outline_lines(_outline(document), lines)
        text, borders = _joined(lines, begins)
        return Document(
            text=text,
            chapters=_chapters(text, _without_empty(text, borders) if borders else _written_borders(text)),
            title=_metadata(document, "Title"),
            author=_metadata(document, "Author"),
            language=_language(document),
            extracted=True,
        )
    finally:
        document.close()


def _pdf_lines(document: Any, path: str) -> tuple[list[_Line], list[float]]:
    """The lines of all pages that hold more than blanks, and the pages' heights in points."""
    import pypdfium2

    lines: list[_Line] = []
    heights: list[float] = []
    characters = 0
    for number in range(len(document)):
        try:
            page = document[number]
            try:
                textpage = page.get_textpage()
                characters += textpage.count_chars()
                if characters > MAX_CHARACTERS:
                    raise UsageError(f"{path} holds more than {MAX_CHARACTERS >> 20} million characters", "split it")
                lines += _page_lines(textpage, number)
                heights.append(page.get_height())
                textpage.close()
            finally:
                page.close()
        except pypdfium2.PdfiumError:
            raise UsageError(
                f"{path} is broken: page {number + 1} cannot be read", "mend it (qpdf, mutool clean)"
            ) from None
    return lines, heights


def _page_lines(textpage: Any, number: int) -> Iterator[_Line]:
    from pypdfium2.raw import FPDFText_GetUnicode

    page = textpage.raw
    codes = [FPDFText_GetUnicode(page, index) for index in range(textpage.count_chars())]
    start = 0
    for index, code in enumerate([*codes, 0x0A]):
        if code in _LINE_CODES or code in _HYPHEN_CODES:
            printed = [at for at in range(start, index) if codes[at] > 0x20 and codes[at] != 0xA0]
            if printed:
                text = "".join(map(chr, codes[printed[0] : printed[-1] + 1]))
                hyphenated = code in _HYPHEN_CODES
                yield _line(textpage, text, printed, number, hyphenated)
            start = index + 1


def _line(textpage: Any, text: str, printed: list[int], number: int, hyphenated: bool) -> _Line:
    import pypdfium2

    boxes: list[tuple[float, float, float, float]] = []  # left, bottom, right, top
    for at in (printed[0], printed[len(printed) // 2], printed[-1]):
        try:
            boxes.append(textpage.get_charbox(at, loose=True))
        except pypdfium2.PdfiumError:
            boxes.append(boxes[-1] if boxes else (0.0, 0.0, 0.0, 0.0))
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # PDFium may give halves of characters
    hyphenated = hyphenated or text.endswith("\xad")
    text = re.sub(_BLANKS, " ", text.translate(_DROPPED).translate(_LIGATURES)).strip()
    size = sorted(top - bottom for _, bottom, _, top in boxes)[1]  # of three, so that no initial counts
    return _Line(text, number, (boxes[0][0], boxes[-1][1], boxes[-1][2]), size, hyphenated)


# --- what is at the edges of pages -----------------------------------------------------------------------------------


def _without_edges(lines: list[_Line], heights: list[float]) -> list[_Line]:
    """Leaves out headers and footers, which repeat at one place, and page numbers."""
    size = sorted(line.size for line in lines)[len(lines) // 2]
    edges = list(_edge_lines(lines, heights))
    pages: dict[tuple[str, int], list[int]] = {}  # by text without digits and place
    for line in edges:
        seen = pages.setdefault(_edge_key(line), [])
        if not seen or seen[-1] != line.page:
            seen.append(line.page)
    repeating = {key for key, on in pages.items() if _repeats(on, len(heights))}
    dropped = {
        id(line)
        for line in edges
        if _edge_key(line) in repeating or (re.fullmatch(_PAGE_NUMBER, line.text) and line.size <= 1.15 * size)
    }
    return [line for line in lines if id(line) not in dropped] or lines


def _edge_lines(lines: list[_Line], heights: list[float]) -> Iterator[_Line]:
    """The highest and the lowest ones of each page, if they are near its edge."""
    first = 0
    while first < len(lines):
        behind = first
        while behind < len(lines) and lines[behind].page == lines[first].page:
            behind += 1
        height = heights[lines[first].page]
        page = sorted(lines[first:behind], key=lambda line: line.bottom)
        yield from (line for line in page[:EDGE_LINES] if line.bottom < EDGE * height)
        yield from (line for line in page[-EDGE_LINES:] if line.bottom > (1 - EDGE) * height)
        first = behind


def _edge_key(line: _Line) -> tuple[str, int]:
    text = line.text.casefold()
    text = text if _read_heading(line.text) else re.sub(r"\d+", "#", text)  # "Chapter 2" is not "Chapter 1" again
    return text, round(line.bottom / POINTS)


def _repeats(on: list[int], pages: int) -> bool:
    """On a third of the pages, at least 3, or on 3 in a row, or on 3 left or right ones in a row."""
    return len(on) >= 3 and (
        3 * len(on) >= pages or any(on[at + 2] - on[at] in (2, 4) for at in range(len(on) - 2))
    )  # fmt: skip


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
    for before, line in itertools.pairwise(lines):
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
        return (
            not before.hyphenated and not line.text[:1].islower() and (short or (ends and _is_indented(lines, number)))
        )
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


def _outline(document: Any) -> list[tuple[str, int]]:
    """Titles and pages, from 0, of the entries that make chapters, in order."""
    import ctypes

    import pypdfium2
    from pypdfium2.raw import FPDFBookmark_GetFirstChild, FPDFBookmark_GetNextSibling

    entries: list[tuple[int, str, int]] = []
    seen: set[int] = set()  # an outline may run in circles
    waiting = [(FPDFBookmark_GetFirstChild(document, None), 0)]
    while waiting and len(seen) < MAX_CONTENTS:
        mark, level = waiting.pop()
        if not mark or (address := ctypes.addressof(mark.contents)) in seen:
            continue
        seen.add(address)
        waiting.append((FPDFBookmark_GetNextSibling(document, mark), level))
        waiting.append((FPDFBookmark_GetFirstChild(document, mark), level + 1))
        bookmark = pypdfium2.PdfBookmark(mark, document, level)
        target = bookmark.get_dest()
        page = target.get_index() if target else None
        if page is not None and page >= 0:
            entries.append((level, _said_by(bookmark.get_title), page))
    lowest = _two_levels([level for level, _, _ in entries])
    return [(title, page) for level, title, page in entries if level <= lowest]


def _outline_lines(entries: list[tuple[str, int]], lines: list[_Line]) -> dict[int, str]:
    """Titles by the numbers of the lines where they begin: where the page says them, or the page's first line."""
    from bisect import bisect_left

    pages = [line.page for line in lines]
    begins: dict[int, str] = {}
    missed: dict[int, int] = {}  # titles that a page does not say; it is not asked for ever
    last = 0
    for title, page in sorted(entries, key=lambda entry: entry[1]):
        first = bisect_left(pages, page)
        behind = bisect_left(pages, page + 1)
        from_here = max(first, last + 1) if last in begins else first
        place = (
            _line_saying(title, lines, from_here, min(behind, from_here + MAX_LINES))
            if missed.get(page, 0) < MAX_MISSED
            else None
        )
        if place is None:  # two of these on one page are one chapter
            missed[page] = missed.get(page, 0) + 1
            place = max(first, last)
        if place < len(lines):
            begins[place] = title
            last = place
    return begins


def _line_saying(title: str, lines: list[_Line], first: int, behind: int) -> int | None:
    wanted = _letters(title)
    for number in range(first, behind if wanted else first):
        said = "".join(_letters(line.text) for line in lines[number : min(number + 4, behind)])
        if said.startswith(wanted):
            above = number - 1  # "Chapter 1" in a line of its own above the title
            return above if above >= first and _read_heading(lines[above].text) else number
    return None


def _said_by(ask: Callable[[], str]) -> str:
    """A string of the file, which may be none."""
    try:
        return _one_line(ask().translate(_DROPPED))
    except UnicodeDecodeError:
        return ""


def _metadata(document: Any, key: str) -> str:
    return _said_by(lambda: str(document.get_metadata_value(key)))


def _language(document: Any) -> str:
    import ctypes

    from pypdfium2.raw import FPDF_WCHAR, FPDFCatalog_GetLanguage

    size = FPDFCatalog_GetLanguage(document, None, 0)  # bytes of UTF-16 with a NUL
    if not 2 < size < 200:
        return ""
    buffer = (FPDF_WCHAR * (size // 2))()
    FPDFCatalog_GetLanguage(document, buffer, ctypes.sizeof(buffer))
    return _said_by(lambda: bytes(buffer).decode("utf-16-le").rstrip("\0"))
