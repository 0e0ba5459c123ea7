"""An EPUB: a zip archive of pages, with a package that says in which order they are read and a table of contents.

    META-INF/container.xml    names the package
    package (.opf)            title, author, language; the files (manifest); their order (spine)
    nav, or ncx before 3.0    the table of contents: what it points to, files and places in them, begins a chapter

Pages become text as in html.py. Without a table each file is a chapter. Real books are careless: names in another
case, files that are not there, tables that list nothing of the book. Only what makes a book unreadable is refused.

Archives may be anybody's: sizes are looked at before anything is unpacked, and hold for what is. XML is held as a tree
only where it is small, entities are not expanded, and nothing outside the archive is asked for.
A room without threads: reading blocks.
"""

from __future__ import annotations

import io
import posixpath
import struct
import zipfile
import zlib
from urllib.parse import unquote

from lxml import etree

from kokoro_common.documents.cover import MAX_BYTES, TOO_LARGE, NoCover, picture
from kokoro_common.documents.document import (
    DROPPED,
    MAX_CHARACTERS,
    MAX_CONTENTS,
    MAX_HEADINGS,
    MAX_TITLE,
    Document,
    by_headings,
    chapters_at,
    lowest_level,
    one_line,
    without_empty,
)
from kokoro_common.documents.html import MAX_PAGE_BYTES, Page, Reader
from kokoro_common.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from kokoro_common.documents.document import Border, Picture

MAX_ENTRIES = 65_535  # files; the zip module takes a kilobyte for each
MAX_UNPACKED_BYTES = 512 << 20  # of all that is read
MAX_CONTROL_BYTES = 4 << 20  # of an XML file that is held as a tree, which takes thirty times as much
BROKEN = "get it anew, or make it anew with an EPUB editor"
NCX = "application/x-dtbncx+xml"


def read_epub(data: bytes, path: str) -> Document:
    archive = _Archive(data, path)
    package = _Package(archive)
    if not package.spine:
        raise UsageError(f"{path} is broken: it names nothing to read", BROKEN)
    _refuse_encrypted(archive, package.spine)
    wanted: dict[str, list[tuple[int, str, str]]] = {}  # by file: order, fragment, title
    for order, (name, fragment, title) in enumerate(_table_of_contents(archive, package)):
        wanted.setdefault(name, []).append((order, fragment, title))

    pieces: list[str] = []
    length, replaced = 0, False
    placed: list[tuple[int, int, str]] = []  # place, order in the table of contents, title
    by_file: list[Border] = []
    headings: list[tuple[int, int, str]] = []
    for name in package.spine:
        page = Page(path, {fragment for _, fragment, _ in wanted.get(name, ())})
        page.read(archive.read(name))
        if page.is_contents and len(package.spine) > 1:
            continue
        text, begin = page.text, length + 2 * bool(length)
        placed += [(begin + page.ids.get(fragment, 0), order, title) for order, fragment, title in wanted.get(name, ())]
        if not text:
            continue
        by_file.append((begin, page.headings[0][2] if page.headings else ""))
        of_page = page.headings[: MAX_HEADINGS - len(headings)]
        headings += [(level, begin + place, title) for level, place, title in of_page]
        pieces.append(text)
        length, replaced = begin + len(text), replaced or page.replaced
        if length > MAX_CHARACTERS:
            raise UsageError(f"{path} holds more than {MAX_CHARACTERS >> 20} million characters", "split it")
    whole = "\n\n".join(pieces)
    borders = without_empty(whole, [(place, title) for place, _, title in sorted(placed)])
    if len(borders) < 2 and len(by_file) > 1:
        borders = by_file
    cover, notes = _cover(archive, package.cover)
    return Document(
        text=whole,
        chapters=chapters_at(whole, borders) if borders else by_headings(whole, headings)[1],
        title=package.title,
        author=package.author,
        language=package.language,
        extracted=True,
        replaced=replaced,
        cover=cover,
        notes=notes,
    )


def _cover(archive: _Archive, name: str) -> tuple[Picture | None, tuple[str, ...]]:
    """The picture, or a line about one that is of no use. A book need not have any."""
    if not name:
        return None, ()
    try:
        if archive.size(name) > MAX_BYTES:
            raise NoCover(TOO_LARGE)
        return picture(archive.read(name)), ()
    except NoCover as error:
        return None, (f"the cover of {archive.path} is left out: {error}",)
    except UsageError:  # the text of the book can be read all the same
        return None, (f"the cover of {archive.path} is left out: it cannot be unpacked",)


def _refuse_encrypted(archive: _Archive, spine: list[str]) -> None:
    """Fonts may be garbled; what is read may not."""
    name = archive.find("META-INF/encryption.xml")
    references = archive.read_xml(name).iter("{*}CipherReference") if name else ()
    if {archive.resolve("", reference.get("URI", "")) for reference in references}.intersection(spine):
        raise UsageError(f"{archive.path} is encrypted", "give a copy without DRM")


class _Archive:
    """The files in an EPUB. Raises UsageError for what is broken, encrypted or far too large, before it is unpacked."""

    def __init__(self, data: bytes, path: str) -> None:
        self.path = path
        if data.count(b"PK\x01\x02") > MAX_ENTRIES:  # what an entry of its directory begins with
            raise UsageError(f"{path} holds more than {MAX_ENTRIES} files", "split it")
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
        except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, EOFError):
            raise UsageError(f"{path} is no EPUB, or a broken one", BROKEN) from None
        self._entries = {entry.filename: entry for entry in self._zip.infolist()}
        self._folded = {name.casefold(): name for name in self._entries}
        self._unpacked = 0

    def find(self, name: str) -> str:
        """The name as it is in there, perhaps in another case; "" if it is not."""
        return name if name in self._entries else self._folded.get(name.casefold(), "")

    def resolve(self, base: str, reference: str) -> str:
        """What a file refers to, as a name in the archive; "" if it is not there."""
        reference = reference.partition("#")[0].strip()
        if not reference:
            return base
        for candidate in (unquote(reference), reference):
            joined = posixpath.join(posixpath.dirname(base), candidate.replace("\\", "/"))
            if found := self.find(posixpath.normpath(joined).lstrip("./")):
                return found
        return ""

    def size(self, name: str) -> int:
        """Bytes that it says it unpacks to; `read` gives no more."""
        return self._entries[name].file_size

    def read(self, name: str, limit: int = MAX_PAGE_BYTES) -> bytes:
        entry = self._entries[name]
        self._unpacked += entry.file_size
        if entry.file_size > limit or self._unpacked > MAX_UNPACKED_BYTES:
            raise UsageError(f"{self.path} would unpack to far too much", "split it")
        if entry.flag_bits & 1:
            raise UsageError(f"{self.path} is encrypted", "give a copy without a password")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # an EPUB may have no others
            raise UsageError(f"{self.path} is broken: {name} is compressed in another way than deflate", BROKEN)
        try:
            with self._zip.open(entry) as file:
                return file.read(entry.file_size + 1)  # without a limit it unpacks all that there is, and cuts it then
        except (zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, ValueError, RuntimeError):
            raise UsageError(f"{self.path} is broken: {name} cannot be unpacked", BROKEN) from None

    def read_xml(self, name: str) -> Any:
        """The root element of a file that must not be broken. Entities stay what they are, and nothing is fetched."""
        parser = etree.XMLParser(
            resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=True,
            remove_pis=True,
        )  # fmt: skip
        try:
            return etree.fromstring(self.read(name, MAX_CONTROL_BYTES), parser)
        except (etree.XMLSyntaxError, ValueError):
            raise UsageError(f"{self.path} is broken: {name} is no XML", BROKEN) from None


class _Package:
    """What an EPUB says of itself: who wrote it, what is read in which order, and where its tables of contents are."""

    def __init__(self, archive: _Archive) -> None:
        self.name = _package_name(archive)
        root = archive.read_xml(self.name)
        self.title = next(_said(root, "title"), "")
        self.author = ", ".join(dict.fromkeys(_said(root, "creator")))
        self.language = next(_said(root, "language"), "")
        manifest = {item.get("id", ""): item for item in root.iter("{*}item")}
        self.contents = [
            archive.resolve(self.name, item.get("href", ""))
            for item in sorted(manifest.values(), key=_is_nav, reverse=True)  # the newer one first
            if _is_nav(item) or item.get("media-type") == NCX
        ]
        pages = {
            key: archive.resolve(self.name, item.get("href", ""))
            for key, item in manifest.items()
            if not _is_nav(item) and not item.get("media-type", "").startswith("image/")
        }
        self.cover = archive.resolve(self.name, _cover_reference(root, manifest))
        if self.cover == self.name:
            self.cover = ""
        references = [each for each in root.iter("{*}itemref") if each.get("idref", "") in pages]
        read = [each for each in references if each.get("linear", "").lower() != "no"] or references
        names = dict.fromkeys(pages[each.get("idref", "")] for each in read)
        self.spine = [name for name in names if name not in ("", self.name)]


def _cover_reference(root: Any, manifest: Mapping[str, Any]) -> str:
    """Where the package says that its cover is: as EPUB 3 has it, as EPUB 2, or a picture that is called so."""
    named = next((each.get("content", "") for each in root.iter("{*}meta") if each.get("name") == "cover"), "")
    pictures = [(key, each) for key, each in manifest.items() if each.get("media-type", "").startswith("image/")]
    candidates = [
        *(each for _, each in pictures if "cover-image" in each.get("properties", "").split()),
        *(each for key, each in pictures if named and key == named),
        *(each for key, each in pictures if "cover" in f"{key} {each.get('href', '')}".lower()),
    ]
    return str(candidates[0].get("href", "")) if candidates else ""


def _package_name(archive: _Archive) -> str:
    container = archive.find("META-INF/container.xml")
    if not container:
        raise UsageError(f"{archive.path} is no EPUB: it has no container.xml", BROKEN)
    files = archive.read_xml(container).iter("{*}rootfile")
    name = next(filter(None, (archive.resolve("", file.get("full-path", "")) for file in files)), "")
    if not name:
        raise UsageError(f"{archive.path} is broken: it has no package", BROKEN)
    return name


def _said(root: Any, name: str) -> Iterator[str]:
    for element in root.iter("{*}" + name):
        if "purl.org/dc/" in element.tag and (said := one_line(element.text or "")):
            yield said


def _is_nav(item: Any) -> bool:
    return "nav" in item.get("properties", "").split()


def _table_of_contents(archive: _Archive, package: _Package) -> list[tuple[str, str, str]]:
    """File, fragment and title of each entry that makes a chapter, from the first table that has any of them."""
    spine = set(package.spine)
    for name in filter(None, package.contents):
        contents = _Contents(archive.path)
        contents.read(archive.read(name))
        found = [(level, archive.resolve(name, target), target, title) for level, target, title in contents.entries]
        found = [entry for entry in found if entry[1] in spine]
        lowest = lowest_level(level for level, *_ in found)
        if found:
            return [
                (file, unquote(target.partition("#")[2]), title)
                for level, file, target, title in found
                if level <= lowest
            ]
    return []


class _Contents(Reader):
    """What is read of a table of contents: `nav` of EPUB 3 or `navMap` of EPUB 2."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.entries: list[tuple[int, str, str]] = []  # level, what it points to, title
        self._inside = 0  # depth of the table
        self._title = ""
        self._gathers = False  # a title
        self._link = ""

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        name = self.opened(tag)
        if name == "navmap" or (name == "nav" and "toc" in attributes.get("epub:type", "").split()):
            self._inside = self._inside or len(self.open)
        elif name in ("a", "navpoint"):
            self._title, self._link, self._gathers = "", attributes.get("href", ""), name == "a"
        elif name == "text":
            self._gathers = True
        elif name == "content":
            self._add(self.open.count("navpoint"), attributes.get("src", ""))

    def end(self, _: str) -> None:
        name = self.open.pop()
        if len(self.open) < self._inside:
            self._inside = 0
        if name in ("a", "text"):
            self._gathers = False
        if name == "a":
            self._add(self.open.count("ol"), self._link)

    def data(self, data: str) -> None:
        if self._gathers and len(self._title) < 10 * MAX_TITLE:
            self._title += data[: 10 * MAX_TITLE]

    def close(self) -> None:
        pass

    def _add(self, level: int, target: str) -> None:
        if self._inside and target and len(self.entries) < MAX_CONTENTS:
            self.entries.append((level, target, one_line(self._title.translate(DROPPED))))
            self._title = ""  # a table may name any number of places for it
