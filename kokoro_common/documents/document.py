"""Documents and their chapters, and what makes chapters of plain text and of Markdown.

    plain text        a line that stands alone and reads like "Chapter 1", in any of Kokoro's languages
    Markdown          the headings of the first level that has two of them; the YAML block at the top says who wrote it

Neither of the two is changed: chapters are places in it. webpage.py, epub.py and pdf.py extract a text first, and know
their chapters better, or ask here. What is read is anybody's, and takes time in proportion to its size.

rendering.py imports this for the records alone, so patterns are compiled where they are first used. A room without
threads or files.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections import Counter
from itertools import islice, pairwise

from kokoro_common.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    Border = tuple[int, str]  # where a chapter begins, in characters of the text, and its title

MAX_TITLE = 200  # characters
MAX_CONTENTS = 100_000  # entries of a table of contents
OWN_TEXT = 200  # characters, blanks aside, that make a chapter of what stands before or between headings
DROPPED = dict.fromkeys((*range(9), 0x0B, *range(0x0E, 0x20), 0x7F, 0xAD, 0xFEFF))  # soft hyphens are 0xAD
BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # begins like UTF-16's, so it is looked for first
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


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


def decoded(data: bytes, declared: str = "utf-8") -> tuple[str, bool]:
    """The text without its byte order mark, and whether bytes were replaced. A mark counts more than `declared`."""
    encoding = next((name for bom, name in BOMS.items() if data.startswith(bom)), declared)
    try:
        return data.decode(encoding), False
    except UnicodeDecodeError:
        return data.decode(encoding, "replace"), True


def one_line(text: str) -> str:
    return " ".join(text[: 10 * MAX_TITLE].split())[:MAX_TITLE]


def letters(text: str) -> str:
    """And digits, in one case: what titles are compared by."""
    return "".join(character for character in text.casefold() if character.isalnum())


# --- Borders to chapters ---------------------------------------------------------------------------------------------


def chapters_at(text: str, borders: Iterable[Border]) -> tuple[Chapter, ...]:
    """Borders are in order; of several at one place the last one's title counts.

    What stands before the first is a chapter without a title, or belongs to the first one if there is little of it.
    """
    titles = {start: title for start, title in borders if start < len(text)}
    if not titles or _has_own_text(text, 0, min(titles)):
        titles = {0: "", **titles}
    starts = [0, *list(titles)[1:]]
    return tuple(
        Chapter(title=one_line(title), start=start, end=end)
        for title, start, end in zip(titles.values(), starts, [*starts[1:], len(text)], strict=True)
    )


def _has_own_text(text: str, start: int, end: int) -> bool:
    printed = re.compile(r"\S").finditer(text, start, end)
    return next(islice(printed, OWN_TEXT - 1, None), None) is not None


def by_headings(text: str, headings: Sequence[tuple[int, int, str]]) -> tuple[str, tuple[Chapter, ...]]:
    """The title and the chapters that headings make. A heading is its level from 1, its place and its title.

    The title is the first heading if no other one is as high. Chapters are the first level that has two headings.
    """
    levels = [level for level, _, _ in headings]
    title = headings[0][2] if headings and all(level > levels[0] for level in levels[1:]) else ""
    chapter_level = next((level for level in range(1, 7) if levels.count(level) > 1), 0)
    borders = [(start, name) for level, start, name in headings if level == chapter_level]
    return one_line(title), chapters_at(text, borders)


def lowest_level(levels: Iterable[int]) -> int:
    """The lowest level of a table of contents that makes chapters: below the first that has two entries there may be
    parts with their chapters, and what is below these are sections."""
    counted = Counter(levels)
    return min((level for level in counted if counted[level] > 1), default=max(counted, default=0)) + 1


def without_empty(text: str, borders: Sequence[Border]) -> list[Border]:
    """A chapter that is nothing but its headings begins the next one: "Part I"."""
    empty = [
        behind - start < 10 * MAX_TITLE and not _says_more(text[start:behind], title)
        for (start, title), (behind, _) in pairwise(borders)
    ]
    return _merged(borders, empty)


def _says_more(text: str, title: str) -> bool:
    """Than the title and headings."""
    said = letters("".join(line for line in text.split("\n") if not line.startswith("#")))
    return said not in ("", letters(title))


def _merged(borders: Sequence[Border], empty: Sequence[bool]) -> list[Border]:
    """Each one whose predecessor is empty begins there, and keeps its own title."""
    kept = list(borders[:1])
    for border, after_empty in zip(borders[1:], empty, strict=True):
        kept.append((kept.pop()[0], border[1]) if after_empty else border)
    return kept


# --- Plain text ------------------------------------------------------------------------------------------------------

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


def written_borders(text: str) -> list[Border]:
    """Chapters of a text that has no markup: lines that stand alone and read like headings."""
    headings = list(_headings(text))
    empty = [not _has_own_text(text, one.end, following.start) for one, following in pairwise(headings)]
    first = _behind_contents(headings, empty)
    return _merged([(heading.start, heading.title) for heading in headings[first:]], empty[first:])


def _headings(text: str) -> Iterator[_Heading]:
    """Lines with a blank one before, and one behind them or behind the title below."""
    place, after_blank = 0, True
    while place < len(text):
        line, behind = _line_at(text, place)
        if after_blank and line and (read := read_heading(line)):
            key, title = read
            second, behind_second = _line_at(text, behind)
            if not second:
                yield _Heading(start=place, end=behind, key=key, title=title)
            elif len(second) <= MAX_SECOND_LINE and not read_heading(second) and not _line_at(text, behind_second)[0]:
                title = f"{title.rstrip(' .:')}. {second}"
                yield _Heading(start=place, end=behind_second, key=key, title=title)
        place, after_blank = behind, not line


def _line_at(text: str, place: int) -> tuple[str, int]:
    """A line without blanks at its ends, of a long one its beginning, and where the next one begins."""
    behind = _behind_line(text, place)
    line = text[place : min(behind, place + 500)].strip()
    return line or ("..." if behind - place > 500 and not text[place:behind].isspace() else ""), behind


def _behind_line(text: str, place: int) -> int:
    found = re.compile(r"\r\n?|\n").search(text, place)
    return found.end() if found else len(text)


def read_heading(line: str) -> tuple[str, str] | None:
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


def _behind_contents(headings: Sequence[_Heading], empty: Sequence[bool]) -> int:
    """The first heading that no table of contents at the beginning lists, by its number."""
    run = [*empty, False].index(False)
    if run < CONTENTS:
        return 0
    keys: set[str] = set()
    for number, heading in enumerate(headings[:run]):
        if heading.key in keys:
            return number  # the first chapter itself, with no text before its first section
        keys.add(heading.key)
    listed_last = run + 1 < len(headings) and headings[run].key not in keys and headings[run + 1].key in keys
    return run + listed_last  # with a preface behind it the last line of the table has text of its own


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


def markdown(text: str, replaced: bool) -> Document:
    matter, begin = _front_matter(text)
    title, chapters = by_headings(text, list(_markdown_headings(text, begin)))
    return Document(
        text=text,
        chapters=chapters,
        title=one_line(matter.get("title", "")) or title,
        author=one_line(matter.get("author", "") or matter.get("authors", "")),
        language=one_line(matter.get("lang", "") or matter.get("language", "")),
        replaced=replaced,
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
        start, place = place, _behind_line(text, place)
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
    return one_line(re.sub(_OUTER_UNDERSCORES, "", title.replace("*", "").replace("`", "")))
