"""EPUBs are read in their order, with the chapters of their tables, or are refused in one line."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
from typing import TYPE_CHECKING

import pytest

from kokoro_common.documents import epub
from kokoro_common.errors import UsageError
from tests.helpers.shelf import BODY, loaded, parts, problem, titles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

CONTAINER = '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>{}</rootfiles></container>'
ROOTFILE = '<rootfile full-path="OEBPS/content.opf" media-type="application/oebps-package+xml"/>'
PACKAGE = (
    '<?xml version="1.0"?><package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/">'
    "<metadata><dc:title>The Book</dc:title><dc:title>Another</dc:title><dc:creator>A. Writer</dc:creator>"
    "<dc:creator>B. Writer</dc:creator><dc:language>en-GB</dc:language></metadata>"
    "<manifest>{}</manifest><spine>{}</spine></package>"
)
NAV = (
    '<html xmlns:epub="http://www.idpf.org/2007/ops"><body><nav epub:type="{}"><h1>Contents</h1>{}</nav></body></html>'
)
NCX = (
    '<?xml version="1.0"?><ncx xmlns="http://www.daisy.org/z3986/2005/ncx/"><docTitle><text>T</text></docTitle>{}</ncx>'
)


def page(body: str) -> str:
    return (
        f'<?xml version="1.0" encoding="utf-8"?><html xmlns="http://www.w3.org/1999/xhtml"><body>{body}</body></html>'
    )


def chapter(title: str) -> str:
    return page(f"<h1>{title}</h1><p>Text of {title}. {BODY}</p>")


def package(pages: Iterable[str], *, nav: str = "", ncx: str = "", linear: Iterable[str] = ()) -> str:
    """With these files in the spine; those in `linear` are not linear."""
    items = [
        f'<item id="i{n}" href="{name}" media-type="application/xhtml+xml"/>'
        f'<itemref idref="i{n}"{" linear=" + chr(34) + "no" + chr(34) if name in linear else ""}/>'
        for n, name in enumerate(pages)
    ]
    manifest = [item.split("<itemref")[0] for item in items]
    manifest += [f'<item id="nav" href="{nav}" properties="x nav" media-type="application/xhtml+xml"/>'] * bool(nav)
    manifest += [f'<item id="ncx" href="{ncx}" media-type="application/x-dtbncx+xml"/>'] * bool(ncx)
    return PACKAGE.format("".join(manifest), "".join("<itemref" + item.split("<itemref")[1] for item in items))


def zipped(files: dict[str, str | bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def book(files: dict[str, str | bytes], opf: str, **more: str | bytes) -> bytes:
    """Files lie beside the package."""
    beside: dict[str, str | bytes] = {f"OEBPS/{name}": data for name, data in files.items()}
    first = {"mimetype": "application/epub+zip", "META-INF/container.xml": CONTAINER.format(ROOTFILE)}
    return zipped({**first, "OEBPS/content.opf": opf, **beside, **more})


def nav_of(*entries: tuple[str, str]) -> str:
    return NAV.format("toc", f"<ol>{''.join(f'<li><a href={href!r}>{title}</a></li>' for href, title in entries)}</ol>")


def navpoint(title: str, src: str, inner: str = "") -> str:
    return f'<navPoint><navLabel><text>{title}</text></navLabel><content src="{src}"/>{inner}</navPoint>'


PAGES = {"one.xhtml": chapter("First"), "two.xhtml": chapter("Second"), "three.xhtml": chapter("Third")}


def test_an_epub_3_has_the_chapters_of_its_nav(tmp_path: Path) -> None:
    nav = nav_of(("one.xhtml", "<span>1</span> One"), ("three.xhtml", "3 Three"))
    document = loaded(
        tmp_path / "a.epub", book({**PAGES, "nav.xhtml": nav}, package([*PAGES, "nav.xhtml"], nav="nav.xhtml"))
    )
    assert (document.title, document.author, document.language) == ("The Book", "A. Writer, B. Writer", "en-GB")
    assert parts(document) == [("1 One", "# First\n\nTex"), ("3 Three", "# Third\n\nTex")]
    assert "# Second" in document.text[: document.chapters[1].start]
    assert "Contents" not in document.text
    assert document.extracted


def test_an_epub_2_has_the_chapters_of_its_ncx(tmp_path: Path) -> None:
    inner = "".join(navpoint(title, src) for title, src in [("One", "one.xhtml"), ("Two", "two.xhtml")])
    points = navpoint("Part I", "part.xhtml", inner) + navpoint("Part II", "three.xhtml", navpoint("3", "three.xhtml"))
    files = {"part.xhtml": page("<h1>Part I</h1>"), **PAGES, "toc.ncx": NCX.format(f"<navMap>{points}</navMap>")}
    document = loaded(tmp_path / "a.epub", book(files, package(["part.xhtml", *PAGES], ncx="toc.ncx")))
    assert parts(document) == [("One", "# Part I\n\n# "), ("Two", "# Second\n\nTe"), ("3", "# Third\n\nTex")]


def test_sections_below_chapters_below_parts_make_no_chapters(tmp_path: Path) -> None:
    inner = navpoint("One", "one.xhtml", navpoint("Section", "one.xhtml#s"))
    points = navpoint("Part I", "one.xhtml", inner) + navpoint("Part II", "two.xhtml")
    files = {**PAGES, "one.xhtml": page(f"<h1>a</h1><p>{BODY}</p><h2 id=s>b</h2><p>{BODY}</p>")}
    files["toc.ncx"] = NCX.format(f"<navMap>{points}</navMap>")
    document = loaded(tmp_path / "a.epub", book(files, package(PAGES, ncx="toc.ncx")))
    assert titles(document) == ["One", "Part II"]


def test_fragments_split_a_file(tmp_path: Path) -> None:
    body = (
        f"<h2 id='a'>A</h2><p>{BODY}<a id='b b'/></p><h2>B</h2><p>{BODY}</p><h2><span id='c'>C</span></h2><p>{BODY}</p>"
    )
    nav = nav_of(
        ("my%20page.xhtml#a", "A"), ("my%20page.xhtml#b%20b", "B"), ("MY%20PAGE.xhtml#c", "C"), ("no.xhtml", "D")
    )
    files = {"my page.xhtml": page(body), "nav.xhtml": nav}
    document = loaded(tmp_path / "a.epub", book(files, package(["my%20page.xhtml"], nav="nav.xhtml")))
    assert [(title, text[:4]) for title, text in parts(document)] == [("A", "## A"), ("B", "## B"), ("C", "## C")]


def test_without_a_table_each_file_is_a_chapter_by_its_heading(tmp_path: Path) -> None:
    files = {**PAGES, "two.xhtml": page(f"<p>{BODY}</p>")}
    assert titles(loaded(tmp_path / "a.epub", book(files, package(PAGES)))) == ["First", "", "Third"]
    broken = {**files, "toc.ncx": "<ncx><navMap><navPoint", "nav.xhtml": "\x00<nav"}
    opf = package(PAGES, ncx="toc.ncx", nav="nav.xhtml")
    assert titles(loaded(tmp_path / "a.epub", book(broken, opf))) == ["First", "", "Third"]
    only = {"one.xhtml": page(f"<h1>T</h1><h2>A</h2><p>{BODY}</p><h2>B</h2><p>{BODY}</p>")}
    assert titles(loaded(tmp_path / "a.epub", book(only, package(only)))) == ["A", "B"]


def test_what_is_not_to_be_read_on_is_left_out(tmp_path: Path) -> None:
    links = "".join(f"<p><a href='one.xhtml'>Chapter {number}</a></p>" for number in range(9))
    cover = page("<svg><image href='c.jpg'/></svg><img alt='Cover' src='c.jpg'/>")
    files = {
        "cover.xhtml": cover,
        "toc.xhtml": page(f"<h1>Contents</h1>{links}"),
        **PAGES,
        "notes.xhtml": chapter("Notes"),
    }
    nav = nav_of(("cover.xhtml", "Cover"), ("toc.xhtml", "Table"), *((name, name[:-6]) for name in PAGES))
    opf = package([*files, "gone.xhtml"], nav="nav.xhtml", linear=["notes.xhtml"])
    document = loaded(tmp_path / "a.epub", book({**files, "nav.xhtml": nav}, opf))
    assert titles(document) == ["one", "two", "three"]
    assert document.text.startswith("# First")
    assert "Notes" not in document.text


def test_names_are_found_in_any_case_and_directory(tmp_path: Path) -> None:
    opf = package(["../Text/ONE.xhtml", "/Text/two.xhtml", "..\\Text\\100%.xhtml"], nav="nav/n.xhtml")
    nav = nav_of(("../../text/one.XHTML", "One"), ("../../Text/two.xhtml#none", "Two"))
    more = {
        "Text/one.xhtml": PAGES["one.xhtml"],
        "Text/two.xhtml": PAGES["two.xhtml"],
        "Text/100%.xhtml": PAGES["three.xhtml"],
    }
    document = loaded(tmp_path / "a.EPUB", book({"nav/n.xhtml": nav}, opf, **more))
    assert titles(document) == ["One", "Two"]
    assert "Third" in document.text


def encryption(*names: str) -> dict[str, str]:
    references = "".join(
        f'<e:EncryptedData xmlns:e="x"><e:CipherData><e:CipherReference URI="{name}"/></e:CipherData></e:EncryptedData>'
        for name in names
    )
    return {"META-INF/encryption.xml": f'<encryption xmlns="y">{references}</encryption>'}


def test_a_book_with_drm_is_refused_and_one_with_garbled_fonts_is_read(tmp_path: Path) -> None:
    raised = problem(tmp_path / "a.epub", book(PAGES, package(PAGES), **encryption("x.otf", "OEBPS/two.xhtml")))
    assert raised.problem.endswith("is encrypted")
    assert raised.remedy == "give a copy without DRM"
    assert loaded(tmp_path / "a.epub", book(PAGES, package(PAGES), **encryption("OEBPS/a.otf"))).text


BROKEN_EPUBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "no zip": (lambda: b"not a zip", "is no EPUB, or a broken one"),
    "cut off": (lambda: book(PAGES, package(PAGES))[:-100], "is no EPUB, or a broken one"),
    "no container": (lambda: zipped({"a": "b"}), "has no container.xml"),
    "broken container": (lambda: zipped({"META-INF/container.xml": "<container"}), "container.xml is no XML"),
    "empty container": (lambda: zipped({"META-INF/container.xml": CONTAINER.format("")}), "has no package"),
    "no package": (lambda: zipped({"META-INF/container.xml": CONTAINER.format(ROOTFILE)}), "has no package"),
    "broken package": (lambda: book(PAGES, "<package><manifest></package>"), "content.opf is no XML"),
    "deep package": (lambda: book(PAGES, "<a>" * 5000 + "</a>" * 5000), "content.opf is no XML"),
    "empty spine": (lambda: book(PAGES, package([])), "names nothing to read"),
    "nothing of the spine": (lambda: book({}, package(PAGES)), "names nothing to read"),
    "broken encryption": (
        lambda: book(PAGES, package(PAGES), **{"META-INF/encryption.xml": "<e"}),
        "encryption.xml is no XML",
    ),
    "deep page": (lambda: book({"a.xhtml": "<b>" * 9999}, package(["a.xhtml"])), "500 elements in each other"),
    "deep table": (
        lambda: book({**PAGES, "n.xhtml": "<ol>" * 9999}, package(PAGES, nav="n.xhtml")),
        "500 elements in each other",
    ),
}


@pytest.mark.parametrize(("data", "why"), BROKEN_EPUBS.values(), ids=BROKEN_EPUBS.keys())
def test_a_broken_epub_is_refused_in_one_line(tmp_path: Path, data: Callable[[], bytes], why: str) -> None:
    assert why in problem(tmp_path / "a.epub", data()).problem


def test_damaged_and_protected_entries_are_refused(tmp_path: Path) -> None:
    stored = zipped({"META-INF/container.xml": CONTAINER.format(ROOTFILE), "OEBPS/content.opf": package(["a"])}, 0)
    assert "cannot be unpacked" in problem(tmp_path / "a.epub", stored.replace(b"The Book", b"The Bomb")).problem
    protected = bytearray(book(PAGES, package(PAGES)))
    place = protected.index(b"PK\x01\x02", protected.index(b"PK\x01\x02") + 4)  # of the container
    protected[place + 8] |= 1
    assert problem(tmp_path / "a.epub", bytes(protected)).problem.endswith("is encrypted")
    unknown = bytearray(book(PAGES, package(PAGES)))
    struct.pack_into("<H", unknown, place + 10, 77)  # a method of compression that there is not
    assert "another way than deflate" in problem(tmp_path / "a.epub", bytes(unknown)).problem
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        packed = zipped({"META-INF/container.xml": CONTAINER.format(ROOTFILE)}, method)
        assert "another way than deflate" in problem(tmp_path / "a.epub", packed).problem


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = book({"a.xhtml": b" " * ((64 << 20) + 1)}, package(["a.xhtml"]))
    assert "unpack to far too much" in problem(tmp_path / "a.epub", bomb).problem
    monkeypatch.setattr(epub, "MAX_UNPACKED_BYTES", 1500)
    assert "unpack to far too much" in problem(tmp_path / "a.epub", book(PAGES, package(PAGES))).problem
    monkeypatch.setattr(epub, "MAX_ENTRIES", 4)
    assert "holds more than 4 files" in problem(tmp_path / "a.epub", book(PAGES, package(PAGES))).problem


@pytest.mark.timeout(30)
def test_a_zip_bomb_of_a_false_size_is_not_unpacked_beyond_it() -> None:
    bomb = bytearray(book({"a.xhtml": b" " * (300 << 20)}, package(["a.xhtml"])))
    struct.pack_into("<I", bomb, bomb.rindex(b"PK\x01\x02") + 24, 1000)  # its size, as the directory says
    tracemalloc.start()
    try:
        with pytest.raises(UsageError, match=r"a\.xhtml cannot be unpacked"):
            epub.read_epub(bytes(bomb), "a.epub")
        assert tracemalloc.get_traced_memory()[1] < 20 << 20  # bytes at the most
    finally:
        tracemalloc.stop()


def test_entities_are_neither_expanded_nor_fetched(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    doctype = f'<!DOCTYPE package SYSTEM "file://{secret}" [<!ENTITY x SYSTEM "file://{secret}"><!ENTITY y "boom">]>'
    opf = package(PAGES).replace('<?xml version="1.0"?>', doctype).replace("The Book", "The &x;&y;Book")
    document = loaded(tmp_path / "a.epub", book({**PAGES, "one.xhtml": f"{doctype}<p>&x; &y; text"}, opf))
    assert "secret" not in document.title + document.text
    assert "boom" not in document.title + document.text
    bomb = "".join(f'<!ENTITY y{n} "{f"&y{n - 1};" * 10}">' for n in range(1, 12))
    bombed = opf.replace('"boom">', f'"boom"><!ENTITY y0 "boom">{bomb}').replace("&y;", "&y11;")
    assert "is no XML" in problem(tmp_path / "b.epub", book(PAGES, bombed)).problem


def test_a_large_table_of_contents_takes_time_in_proportion(tmp_path: Path) -> None:
    nav = nav_of(*((f"one.xhtml#p{number}", "x") for number in range(10_000)))
    paragraphs = "".join(f"<p id='p{number}'>word</p>" for number in range(10_000))
    opf = package(["one.xhtml"] * 1000, nav="nav.xhtml")
    document = loaded(tmp_path / "a.epub", book({"one.xhtml": page(paragraphs), "nav.xhtml": nav}, opf))
    assert len(document.chapters) == 10_000


@pytest.mark.timeout(30)
def test_one_long_title_for_many_places_takes_time_in_proportion(tmp_path: Path) -> None:
    many = "<content src='one.xhtml'/>" * 50_000
    title = "<i>long</i> " * 100_000
    points = f"<navPoint><navLabel><text>{title}</text></navLabel>{many}</navPoint>{navpoint('2', 'two.xhtml')}"
    files = {**PAGES, "toc.ncx": NCX.format(f"<navMap>{points}</navMap>")}
    document = loaded(tmp_path / "a.epub", book(files, package(PAGES, ncx="toc.ncx")))
    assert [chapter.title for chapter in document.chapters[1:]] == ["2"]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_damage_anywhere_is_a_book_or_one_line(tmp_path: Path, method: int) -> None:
    files = {"META-INF/container.xml": CONTAINER.format(ROOTFILE), "OEBPS/content.opf": package(PAGES)}
    good = zipped({**files, **{f"OEBPS/{name}": page for name, page in PAGES.items()}}, method)
    for place in range(30, len(good), max(1, len(good) // 150)):
        bad = bytearray(good)
        bad[place] ^= 0x55
        try:
            loaded(tmp_path / "bad.epub", bytes(bad))
        except UsageError as error:
            assert "\n" not in str(error)
