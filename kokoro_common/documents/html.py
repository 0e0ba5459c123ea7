"""HTML as it is read aloud: paragraphs with blank lines between, in the Markdown that markup.py reads.

    <h2>Title</h2>    "## Title"          <li>    "- item" or "3. item"        <tr>    "| a | b |"; in a layout,
    <br>              a line end          <img>   its alt, if it says more                 paragraphs
                                                  than a file's name

Left out is what is for the eye alone: scripts, navigation, forms, what is hidden, page numbers, the marks of notes.

Pages may be anybody's. lxml tells about their elements while it parses them, and no tree is ever held; nothing that
they name is fetched. What is held of a page grows with its text, whatever its elements are: some ten times its bytes
at the worst. A room without threads: reading blocks.
"""

from __future__ import annotations

import io
import re

from lxml import etree

from kokoro_common.documents.document import DROPPED, MAX_HEADINGS, MAX_TITLE, Document, by_headings, one_line
from kokoro_common.documents.encoding import decoded_by_chunks, encoding_for, is_broken
from kokoro_common.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

MAX_DEPTH = 500  # of elements in elements; the parser looks through all that are open when one is closed
MAX_PAGE_BYTES = 16 << 20  # of a page; the longest novels have a tenth of it in all
MAX_PARTS = 20_000  # pieces of a paragraph that are gathered, and
MAX_PARAGRAPH = 1 << 20  # its characters, before what there is becomes a paragraph
MAX_CELLS = 1_000  # in a row; one with more is a page's layout


def read_html(data: bytes, path: str) -> Document:
    """`path` is for errors: UsageError where `Reader.read` raises it."""
    page = Page(path)
    page.read(data)
    title, chapters = by_headings(page.text, page.headings)
    return Document(
        text=page.text,
        chapters=chapters,
        title=one_line(page.title.translate(DROPPED)) or title,
        author=page.author,
        language=page.language,
        extracted=True,
        replaced=page.replaced,
    )


# --- Elements --------------------------------------------------------------------------------------------------------


class Reader:
    """Reads one file. Its subclasses are what lxml calls a parser target: `start`, `end`, `data` and `close`."""

    def __init__(self, path: str) -> None:
        self.open: list[str] = []  # names of the elements that have not ended
        self.replaced = False  # Document.replaced
        self._path = path

    def read(self, data: bytes) -> None:
        """What is no HTML is text to this parser. Raises UsageError for what is too deep in each other, or broken."""
        if len(data) > MAX_PAGE_BYTES:
            raise UsageError(f"{self._path} has a page of more than {MAX_PAGE_BYTES >> 20} MiB", "split it")
        encoding = encoding_for(data)
        self.replaced = is_broken(data, encoding)
        parser = etree.HTMLParser(target=self, encoding="utf-8")
        try:
            for text in decoded_by_chunks(data, encoding, "replace"):
                parser.feed(text.replace("\0", "\ufffd").encode("utf-8", "replace"))
            parser.close()
        except etree.XMLSyntaxError:
            pass  # there is no element in it
        if self.open or parser.error_log.filter_from_fatals():
            raise UsageError(f"{self._path} is broken: it cannot be read to its end", "mend it, or save it anew")

    def opened(self, tag: str) -> str:
        """The name of an element that begins. Who is told takes it off the list at its end."""
        self.open.append(tag.rpartition(":")[2])
        if len(self.open) > MAX_DEPTH:
            raise UsageError(f"{self._path} has more than {MAX_DEPTH} elements in each other", "flatten it")
        return self.open[-1]


# --- Pages -----------------------------------------------------------------------------------------------------------

_UNREAD = {
    "script", "style", "nav", "template", "noscript", "svg", "iframe", "canvas", "audio", "video", "noframes", "button",
    "select", "textarea", "option", "datalist", "rt", "rp",
}  # fmt: skip
_BLOCKS = {
    "address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details", "dialog", "div", "dl",
    "dt", "fieldset", "figcaption", "figure", "footer", "form", "header", "hr", "legend", "li", "main", "ol", "p",
    "pre", "section", "summary", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul",
}  # fmt: skip
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_HIDDEN = r"(?i)display\s*:\s*none"
_DECORATION = r"[*#~=_•·∙⁂※◆◇○●★☆✦❦❧—–\-\s.]+"
_FENCE_MARK = r"(?m)^([ \t>]*)`{3,}"
_NOTE_MARK = r"[\[(]?(?:\d{1,4}|[*†‡§¶]{1,3})[\])]?"
_FILE_NAME = (  # or a word that says nothing of what the picture shows
    r"(?i)\S{0,200}\.(?:jpe?g|png|gif|svg|webp|bmp)|(?:the )?(?:cover|image|illustration|picture|logo)s?"
    r"|cover (?:image|page)|\*"
)
_LINE_END = "\0"  # in what is gathered of a paragraph: where a line ends on paper too
MAX_MARK = 24  # characters of a link that is raised: a note's
MAX_CELL = 500  # characters; a longer one is no table's but a page's layout
LINKS_OF_CONTENTS = 5  # that a page needs to be nothing but a table of contents


class Page(Reader):
    """What is read of a page: its text, and what stands where in it."""

    def __init__(self, path: str, wanted: Collection[str] = ()) -> None:
        """`wanted`: the ids of elements whose places are asked for."""
        super().__init__(path)
        self._wanted = wanted
        self.ids: dict[str, int] = {}  # where in the text the paragraph begins that a wanted element is in
        self.headings: list[tuple[int, int, str]] = []  # level, place, title
        self.title, self.author, self.language = "", "", ""
        self._paragraphs = io.StringIO()
        self._length = 0
        self._gathered = 0  # characters of the paragraph that is open
        self._last_kind = ""
        self._parts: list[str] = []  # of the paragraph that is open
        self._anchors: list[tuple[str, int]] = []  # ids in it, and before which part
        self._waiting: list[str] = []  # ids whose paragraph is still to come
        self._bullet = ""
        self._row: list[tuple[str, list[str]]] | None = None  # cells: a paragraph, if there is one, with its ids
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
        return self._paragraphs.getvalue()

    @property
    def is_contents(self) -> bool:
        """Whether it is links and little else."""
        links, inside, total = self._linked
        return links >= LINKS_OF_CONTENTS and inside >= 0.8 * total

    # --- called by the parser ----------------------------------------------------------------------------------------

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        name = self.opened(tag)
        if attributes:
            self._anchor(name, attributes)
        if self._quiet:
            return
        if name in _UNREAD or (attributes and name not in ("html", "body") and _is_hidden(attributes)):
            self._quiet = len(self.open)
        elif name in _HEADINGS:
            self._begin_heading(_HEADINGS[name])
        elif name in _BLOCKS:
            self._begin_block(name, attributes)
        else:
            self._begin_inline(name, attributes)

    def end(self, _: str) -> None:
        name = self.open.pop()
        if self._quiet:
            self._quiet = self._quiet if len(self.open) >= self._quiet else 0
        elif name in _HEADINGS:
            if len(self.open) < self._heading_depth:
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
        data = data.translate(DROPPED)
        self._gathered += len(data)
        if self._gathered > MAX_PARAGRAPH or len(self._parts) > MAX_PARTS:
            cut = max(data.rfind("\n"), data.rfind(" ")) + 1
            self._gather(data[:cut])
            self._flush()
            data = data[cut:]
        self._gather(data)
        self._linked[2] += len(data.strip())
        self._linked[1] += len(data.strip()) if self._links else 0

    def _gather(self, data: str) -> None:
        self._parts.append(data.replace("\n", _LINE_END) if self._verbatim else data)

    def close(self) -> None:
        self._flush()
        self._spill()
        for name in self._waiting:
            self.ids.setdefault(name, self._length)

    # --- elements ----------------------------------------------------------------------------------------------------

    def _anchor(self, name: str, attributes: Mapping[str, str]) -> None:
        for key in ("id", "name") if name == "a" else ("id",):
            if (anchor := attributes.get(key)) in self._wanted and anchor:
                self._anchors.append((anchor, len(self._parts)))

    def _begin_heading(self, level: int) -> None:
        if not self._heading:
            self._flush()
            self._heading, self._heading_depth = level, len(self.open)

    def _begin_block(self, name: str, attributes: Mapping[str, str]) -> None:
        if self._heading:
            self._parts.append(" ")
            return
        self._flush()
        if name == "pre":
            self._verbatim += 1
        elif name in ("ul", "ol"):
            self._lists.append(_number(attributes.get("start", ""), 1) if name == "ol" else 0)
        elif name == "li":
            self._begin_item(attributes)
        elif name in ("table", "tr"):
            self._spill()
            self._row = [] if name == "tr" else None
        elif name in ("td", "th") and self._row is not None:
            if len(self._row) >= MAX_CELLS:
                self._spill()
                self._row = []
            self._row.append(("", []))

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
            if len(self._parts) > MAX_PARTS:
                self._flush()
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
            shown = attributes.get("alt", "").translate(DROPPED).strip()
            self._parts.append("" if re.fullmatch(_FILE_NAME, shown[:300]) else shown)
        elif name == "html":
            self.language = one_line(attributes.get("xml:lang", "") or attributes.get("lang", ""))
        elif name == "meta" and attributes.get("name", "").lower() in ("author", "dc.creator", "dcterms.creator"):
            self.author = self.author or one_line(attributes.get("content", ""))

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
            for number in range(len(self._anchors) - 1, -1, -1):
                name, place = self._anchors[number]
                if place <= first:
                    break
                self._anchors[number] = (name, first)

    # --- paragraphs --------------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        """Ends the paragraph that is open."""
        parts, self._parts, self._gathered = self._parts, [], 0
        anchors, self._anchors = self._anchors, []
        self._raised = []
        lines = [re.sub(r"[ \t\n\r\f]+", " ", line).strip() for line in "".join(parts).split(_LINE_END)]
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
        if self._row and not self._heading and not self._bullet and not self._row[-1][0] and len(text) <= MAX_CELL:
            self._row[-1] = (text, ids)
            return
        self._spill()
        if self._heading:
            place = self._put(f"{'#' * self._heading} {text}", "heading", ids)
            if len(self.headings) < MAX_HEADINGS:
                self.headings.append((self._heading, place, text[: 10 * MAX_TITLE]))
        elif self._bullet:
            self._put(self._bullet + text, "item", ids)
            self._bullet = ""
        else:
            self._put(text, "", ids)

    def _put(self, text: str, kind: str, ids: Iterable[str]) -> int:
        """Where it begins."""
        if self._length:
            between = "\n" if kind == self._last_kind and kind in ("item", "row") else "\n\n"
            self._paragraphs.write(between)
            self._length += len(between)
        place = self._length
        for name in ids:
            self.ids.setdefault(name, place)
        self._paragraphs.write(text)
        self._length += len(text)
        self._last_kind = kind
        return place

    def _end_row(self) -> None:
        row, self._row = self._row or [], None
        cells = [text for text, _ in row]
        ids = [name for _, names in row for name in names]
        if len(cells) > 1 and any(cells):
            self._put(f"| {' | '.join(cells)} |", "row", ids)
        elif any(cells):
            self._put(cells[0], "", ids)

    def _spill(self) -> None:
        """The row that is open is a page's layout: what it holds are paragraphs."""
        row, self._row = self._row or [], None
        for text, ids in row:
            if text:
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
