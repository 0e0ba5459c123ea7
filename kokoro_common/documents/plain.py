"""Plain text: a chapter begins at a line that stands alone and reads like "Chapter 1", in any of Kokoro's languages.

The text is not changed: chapters are places in it. PDFs without an outline are read in the same way.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import islice, pairwise

from kokoro_common.documents.document import MAX_HEADINGS, Document, chapters_at, has_own_text, line_at, merged
from kokoro_common.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kokoro_common.documents.document import Border

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
CONTENTS = 3  # so many headings in a row without text are a table of contents


class WrittenHeading(Record):
    start: int
    end: int  # after its line, or after the title's line below it
    key: str  # the heading without its title: a table of contents repeats it
    title: str


def read_plain(text: str, replaced: bool) -> Document:
    """`replaced`: see Document."""
    return Document(text=text, chapters=chapters_at(text, written_borders(text)), replaced=replaced)


def written_borders(text: str) -> list[Border]:
    """Chapters of a text without markup: lines that stand alone and read like headings."""
    headings = list(islice(_headings(text), MAX_HEADINGS))
    empty = [not has_own_text(text, one.end, following.start) for one, following in pairwise(headings)]
    first = _behind_contents(headings, empty)
    return merged([(heading.start, heading.title) for heading in headings[first:]], empty[first:])


def _headings(text: str) -> Iterator[WrittenHeading]:
    """Lines with a blank one before, and one after them or after the title below them."""
    place, after_blank = 0, True
    while place < len(text):
        line, following = line_at(text, place)
        if after_blank and line and (read := read_heading(line)):
            key, title = read
            second, after_second = line_at(text, following)
            if not second:
                yield WrittenHeading(start=place, end=following, key=key, title=title)
            elif len(second) <= MAX_SECOND_LINE and not read_heading(second) and not line_at(text, after_second)[0]:
                title = f"{title.rstrip(' .:')}. {second}"
                yield WrittenHeading(start=place, end=after_second, key=key, title=title)
        place, after_blank = following, not line


def read_heading(line: str) -> tuple[str, str] | None:
    """A heading without its title, and with it; None if the line is not a heading."""
    if len(line) > MAX_HEADING:
        return None
    line = " ".join(unicodedata.normalize("NFC", line).split())
    if found := re.fullmatch(_EAST_ASIAN_HEADING, line):
        return None if line[-1] in "。！？" else (found["key"], line)
    found = re.fullmatch(_HEADING, line, re.IGNORECASE)
    if found is None or (found["rest"][:1] == " " and found["rest"][1:2].islower()):
        return None  # a sentence: "Part one was easy"
    return found["key"].casefold(), line


def _behind_contents(headings: Sequence[WrittenHeading], empty: Sequence[bool]) -> int:
    """Index of the first heading after a table of contents at the beginning."""
    run = [*empty, False].index(False)
    if run < CONTENTS:
        return 0
    keys: set[str] = set()
    for number, heading in enumerate(headings[:run]):
        if heading.key in keys:
            return number  # the first chapter itself, with no text before its first section
        keys.add(heading.key)
    listed_last = run + 1 < len(headings) and headings[run].key not in keys and headings[run + 1].key in keys
    return run + listed_last  # if a preface follows, the last line of the table seems to have text
