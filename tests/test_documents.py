"""Files that people read become one text with chapters, in time, or are refused in one line."""

from __future__ import annotations

import io
import os
import struct
import time
import warnings
import zipfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kokoro_common import documents
from kokoro_common.documents import Chapter, Document, load
from kokoro_common.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from fpdf import FPDF

BODY = "It was a quiet evening, and the lamps along the river had just been lit when she came home. " * 4
PATIENCE = 15  # seconds that hostile input may take where everything else runs at the same time


def written(path: Path, data: str | bytes) -> str:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return str(path)


def checked(document: Document) -> Document:
    """With the promises that every document keeps."""
    assert document.chapters
    assert document.chapters[0].start == 0
    assert document.chapters[-1].end == len(document.text)
    for before, chapter in zip(document.chapters, document.chapters[1:], strict=False):
        assert before.start < before.end == chapter.start
    assert all("\n" not in chapter.title for chapter in document.chapters)
    return document


def loaded(path: Path, data: str | bytes) -> Document:
    return checked(load(written(path, data)))


def parts(document: Document) -> list[tuple[str, str]]:
    """Title and beginning of each chapter."""
    return [(each.title, document.text[each.start : each.end].strip()[:12]) for each in document.chapters]


def titles(document: Document) -> list[str]:
    return [chapter.title for chapter in document.chapters]


def problem(path: Path, data: str | bytes) -> UsageError:
    with pytest.raises(UsageError) as raised:
        load(written(path, data))
    assert "\n" not in str(raised.value)
    assert str(path) in raised.value.problem
    assert raised.value.remedy
    return raised.value


# --- files -----------------------------------------------------------------------------------------------------------


def test_what_cannot_be_read_is_named_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^cannot read .*none\.txt: No such file or directory; check the name$"):
        load(str(tmp_path / "none.txt"))
    with pytest.raises(UsageError, match=r"cannot read .*: Is a directory"):
        load(str(tmp_path))
    with pytest.raises(UsageError, match="cannot read"):
        load("a\0b.txt")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_we_may_not_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.touch(0o000)
    with pytest.raises(UsageError, match="Permission denied"):
        load(str(path))


def test_a_file_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_FILE_BYTES", 1 << 20)
    assert problem(tmp_path / "a.txt", b"x" * ((1 << 20) + 1)).problem.endswith("has more than 1 MiB")
    loaded(tmp_path / "a.txt", b"x" * (1 << 20))


def test_a_pipe_is_read_to_its_end() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"from a pipe")
    os.close(writing)
    try:
        assert load(f"/dev/fd/{reading}").text == "from a pipe"
    finally:
        os.close(reading)


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.html"])
def test_bytes_that_are_no_text_are_refused(tmp_path: Path, name: str) -> None:
    assert "is no text" in problem(tmp_path / name, b"\x7fELF\0\0\0").problem


@pytest.mark.parametrize("name", ["a.txt", "a", "a.rst", "a.md"])
def test_text_keeps_every_character_at_its_place(tmp_path: Path, name: str) -> None:
    text = "one\r\ntwo\rthree\n\n\t \u00a0\ufb01 \u2028 e\u0301 \U0001f600"
    document = loaded(tmp_path / name, text)
    assert document.text == text
    assert not document.extracted
    assert not document.replaced


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_says_the_encoding(tmp_path: Path, encoding: str) -> None:
    assert loaded(tmp_path / "a.txt", "grün\r\n".encode(encoding)).text == "grün\r\n"
    assert loaded(tmp_path / "a.html", "<p>grün".encode(encoding)).text == "grün"


def test_bytes_of_another_encoding_are_replaced_and_told(tmp_path: Path) -> None:
    for name in ("a.txt", "a.md", "a.html"):
        document = loaded(tmp_path / name, b"gr\xfcn")
        assert (document.text, document.replaced) == ("gr\ufffdn", True)


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.html"])
@pytest.mark.parametrize("data", [b"", b" \n\n ", b"\xef\xbb\xbf"])
def test_a_document_of_nothing_has_one_chapter(tmp_path: Path, name: str, data: bytes) -> None:
    assert titles(loaded(tmp_path / name, data)) == [""]


LINES = st.sampled_from(
    [
        "",
        "",
        " ",
        "Chapter 1",
        "CHAPTER II. A",
        "Part One",
        "第三章",
        "# a",
        "## b",
        "===",
        "---",
        "```",
        "<!--",
        "-->",
        "- x",
        "text",
        BODY,
        "\r",
        "<p>",
        "<h1>t</h1>",
        "<h2>u",
        "<li>",
        "<table><tr><td>x",
        "&amp;",
        "<sup>1</sup>",
    ]
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(LINES | st.text(max_size=20), max_size=30), name=st.sampled_from(["a.txt", "a.md", "a.html"]))
def test_chapters_cover_any_text(tmp_path: Path, lines: list[str], name: str) -> None:
    text = "\n".join(lines).encode("utf-8", "replace").decode().replace("\0", "").removeprefix("\ufeff")
    document = loaded(tmp_path / name, text)
    assert document.extracted == (name == "a.html")
    assert document.extracted or document.text == text


# --- plain text ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "Chapter 1",
        "chapter 12",
        "CHAPTER XII. The Thing",
        "Chapter One",
        "Chapter Twenty-Three: Home",
        "Part II",
        "Book One",
        "BOOK THE FIRST",
        "Prologue",
        "EPILOGUE.",
        "Introduction",
        "Preface",
        "Chapter 3 – The Hill",
        "Chapitre 3",
        "Chapitre premier",
        "Première partie",
        "Capítulo 4",
        "Capi\u0301tulo 4",
        "Capitolo 5",
        "Kapitel 6",
        "Erstes Kapitel",
        "2. Kapitel",
        "第三章",
        "第1章 題",
        "第十二回　石",
        "序章",
        "プロローグ",
        "अध्याय २",
        "  Chapter 7  ",
    ],
)
def test_a_line_that_reads_like_a_heading_begins_a_chapter(tmp_path: Path, line: str) -> None:
    document = loaded(tmp_path / "a.txt", f"{BODY}\n\n{line}\n\n{BODY}\n")
    assert [title.replace("í", "i\u0301") for title in titles(document)][1:] == [
        " ".join(line.split()).replace("í", "i\u0301")
    ]
    assert document.text[document.chapters[1].start :].startswith(line)


@pytest.mark.parametrize(
    "line",
    [
        "Part one was easy.",
        "Chapter and verse",
        "Book now",
        "the prologue of the play",
        "Chapter 1 " + "x" * 120,
        "Introduction to cooking",
        "Partly 1",
        "第三章では、雨が降った。",
        "I. The Beginning",
        "Actor one",
        "Mid part",
    ],
)
def test_a_sentence_begins_no_chapter(tmp_path: Path, line: str) -> None:
    assert titles(loaded(tmp_path / "a.txt", f"{BODY}\n\n{line}\n\n{BODY}\n")) == [""]


def test_a_heading_in_a_paragraph_is_none(tmp_path: Path) -> None:
    assert titles(loaded(tmp_path / "a.txt", f"{BODY}\nChapter 1\n\n{BODY}")) == [""]
    assert titles(loaded(tmp_path / "a.txt", f"{BODY}\n\nChapter 1\n{BODY}\n{BODY}")) == [""]


def test_a_title_below_its_number_belongs_to_the_heading(tmp_path: Path) -> None:
    document = loaded(tmp_path / "a.txt", f"CHAPTER I.\r\nThe River\r\n\r\n{BODY}\r\n\r\nCHAPTER II.\r\n\r\n{BODY}")
    assert titles(document) == ["CHAPTER I. The River", "CHAPTER II."]


def test_a_part_without_text_begins_with_its_first_chapter(tmp_path: Path) -> None:
    document = loaded(tmp_path / "a.txt", f"Part I\n\nChapter 1\n\n{BODY}\n\nPart II\n\nChapter 2\n\n{BODY}")
    assert parts(document) == [("Chapter 1", "Part I\n\nChap"), ("Chapter 2", "Part II\n\nCha")]


def test_few_words_before_the_first_heading_belong_to_it(tmp_path: Path) -> None:
    assert titles(loaded(tmp_path / "a.txt", f"My Book\n\nChapter 1\n\n{BODY}")) == ["Chapter 1"]


@pytest.mark.parametrize("between", ["\n", "\n\n"], ids=["in a block", "line by line"])
@pytest.mark.parametrize("preface", ["", f"{BODY}\n\n\n"])
def test_a_table_of_contents_makes_no_chapters(tmp_path: Path, between: str, preface: str) -> None:
    names = ["The River", "The Hill", "The Town", "The Sea"]
    lines = [f"CHAPTER {number}. {name}" for number, name in zip(["I", "II", "III", "IV"], names, strict=True)]
    table = between.join(f"  {line}" for line in lines)
    chapters = "\n\n\n".join(f"{line}\n\n{BODY}" for line in lines)
    document = loaded(tmp_path / "a.txt", f"The Book\n\n{BODY}\n\nCONTENTS\n\n{table}\n\n\n{preface}{chapters}\n")
    assert titles(document) == ["", *lines]
    assert all(len(document.text[each.start : each.end]) > 200 for each in document.chapters)


def test_a_first_part_behind_the_contents_begins_the_first_chapter(tmp_path: Path) -> None:
    lines = ["Part One", "Chapter 1", "Chapter 2", "Chapter 3"]
    table = "\n\n".join(lines)
    text = f"{BODY}\n\n{table}\n\nPart One\n\nChapter 1\n\n{BODY}\n\nChapter 2\n\n{BODY}\n\nChapter 3\n\n{BODY}"
    assert parts(loaded(tmp_path / "a.txt", text))[1:] == [
        ("Chapter 1", "Part One\n\nCh"), ("Chapter 2", "Chapter 2\n\nI"), ("Chapter 3", "Chapter 3\n\nI"),
    ]  # fmt: skip


# --- Markdown --------------------------------------------------------------------------------------------------------


def test_the_only_highest_heading_is_the_title_and_the_next_level_chapters(tmp_path: Path) -> None:
    document = loaded(
        tmp_path / "a.md", "# Book *of* `x`\n\n## One ##\n\na\n\n### sub\n\n### sub\n\n## [Two](http://x)\n"
    )
    assert document.title == "Book of x"
    assert titles(document) == ["One", "Two"]


def test_setext_headings_make_chapters(tmp_path: Path) -> None:
    document = loaded(
        tmp_path / "a.md", "Title\n=====\n\nOne\n---\ntext\n\n- item\n---\n\n> q\n---\n\nTwo\nlines\n---\nb"
    )
    assert (document.title, titles(document)) == ("Title", ["One", "Two lines"])


def test_headings_in_code_and_comments_are_none(tmp_path: Path) -> None:
    text = "# A\n\n```sh\n# no\n~~~\n# no\n```\n\n<!-- x\n# no\n-->\n\n    # no\n\n#no\n\n# B\n\n~~~\n# no"
    assert titles(loaded(tmp_path / "a.md", text)) == ["A", "B"]
    assert titles(loaded(tmp_path / "a.md", "<!-- never ends\n\n# A\n\n# B")) == ["A", "B"]


def test_headings_that_are_all_different_make_one_chapter(tmp_path: Path) -> None:
    assert titles(loaded(tmp_path / "a.md", "# A\n\n## B\n\n### C\n")) == [""]


def test_front_matter_says_who_wrote_it(tmp_path: Path) -> None:
    text = "---\ntitle: 'The Book'\nauthor: A. Writer\nlang: en-GB\n# no\nx:\n  - y\n---\n\n# One\n\n# Two\n"
    document = loaded(tmp_path / "a.md", text)
    assert (document.title, document.author, document.language) == ("The Book", "A. Writer", "en-GB")
    assert (document.text, titles(document)) == (text, ["One", "Two"])
    assert loaded(tmp_path / "a.md", "---\ntitle: x\n\n# One\n").title == "One"  # it never ends, so it is none


# --- HTML ------------------------------------------------------------------------------------------------------------

SHOWN = {
    "paragraphs": ("<p>One  <b>two</b>\n three<p>four", "One two three\n\nfour"),
    "line ends": ("<p>One<br>two<br><br>three", "One\ntwo\n\nthree"),
    "headings": ("<h1>A<br>B</h1><h6><div>c</div></h6>d", "# A B\n\n###### c\n\nd"),
    "lists": ("<ul><li>a<li><p>b</p></ul>c<ol start=3><li>d<li>e</ol>", "- a\n- b\n\nc\n\n3. d\n4. e"),
    "nested lists": ("<ul><li>a<ul><li>b</ul><li>c</ul>", "- a\n- b\n- c"),
    "tables": ("<table><tr><th>a<th>b<tr><td><p>1</p><td>2</table>", "| a | b |\n| 1 | 2 |"),
    "layout": ("<table><tr><td><h2>a</h2><p>b</p><p>c</p></td><td>d</td></tr></table>", "## a\n\nb\n\nc\n\nd"),
    "layout in layout": ("<table><tr><td>x<table><tr><td>a<td>b</table><td>y</table>", "x\n\n| a | b |\n\ny"),
    "verbatim": ("<pre>a\n  b\n\nc</pre>", "a\nb\n\nc"),
    "pictures": ('<p><img alt="T">he <img src=x> <img alt="cover"> <img alt="a.jpg">end', "The end"),
    "rule": ("a<hr>b", "a\n\nb"),
    "decoration": ("<p>a</p><p>* * *</p><p>---</p><p>b</p>", "a\n\nb"),
    "fence": ("<p>```</p><pre>```sh\nls\n```</pre>", "sh\nls"),
    "scripts": ("a<script>b</script><style>c</style><nav>d</nav><template>e</template><svg><text>f</text></svg>", "a"),
    "forms": ("a <button>b</button><select><option>c</select><textarea>d</textarea><input value=e>", "a"),
    "hidden": ("a<p hidden>b<p aria-hidden=true>c</p><p style='color:red; DISPLAY : none'>d</p>", "a"),
    "notes": ("word<sup><a href='#n'>1</a></sup>. End.<sup>2</sup><a href='#x'><sup>3</sup></a>", "word. End."),
    "powers": ("5 m<sup>2</sup>, the 5<sup>th</sup>", "5 m2, the 5th"),
    "note marks of books": ('a<a epub:type="noteref" href="#n">1</a><span epub:type="pagebreak">9</span>', "a"),
    "a page that is hidden until it is loaded": ("</body><body style='display:none'>a", "a"),
    "ruby": ("<ruby>漢<rp>(</rp><rt>かん</rt><rp>)</rp></ruby>字", "漢字"),
    "quotations": ("<q>a</q>", "“a”"),
    "soft hyphens": ("in&shy;for&shy;mation", "information"),
    "entities": ("R&amp;D &lt;x&gt; &unknown;", "R&D <x> &unknown;"),
    "self-closing": ("<p>a<a id='x'/><span/>b</p><script src='x'/><title/><p>c</p>", "ab\n\nc"),
    "as written": ("<p># a</p><p>> b</p>", "# a\n\n> b"),
}


@pytest.mark.parametrize(("markup", "text"), SHOWN.values(), ids=SHOWN.keys())
def test_html_is_read_as_it_is_shown(tmp_path: Path, markup: str, text: str) -> None:
    document = loaded(tmp_path / "a.html", f"<html><body>{markup}</body></html>")
    assert (document.text, document.extracted) == (text, True)


def test_a_page_says_who_wrote_it(tmp_path: Path) -> None:
    head = "<title>The\n Page &amp; x</title><meta name=Author content='A. Writer'>"
    document = loaded(tmp_path / "a.htm", f"<html lang=en-GB><head>{head}</head><h1>One</h1>a<h2>x</h2><h1>Two</h1>b")
    assert (document.title, document.author, document.language) == ("The Page & x", "A. Writer", "en-GB")
    assert parts(document) == [("One", "# One\n\na\n\n##"), ("Two", "# Two\n\nb")]
    assert loaded(tmp_path / "a.XHTML", "<h1>One</h1><h2>a</h2>b<h2>c</h2>").title == "One"


@pytest.mark.parametrize(
    ("head", "encoding"),
    [
        ("<meta charset=iso-8859-1>", "cp1252"),
        ("<meta http-equiv=content-type content='text/html; charset=windows-1251'>", "cp1251"),
        ("<?xml version='1.0' encoding='Shift_JIS'?>", "cp932"),
        ("<meta charset=utf-16>", "utf-8"),
        ("<meta charset=punycode>", "utf-8"),
        ("<meta charset=cp9999>", "utf-8"),
        ("", "utf-8"),
    ],
)
def test_a_page_is_read_in_the_encoding_it_declares(tmp_path: Path, head: str, encoding: str) -> None:
    said = {"cp1251": "привет", "cp932": "こんにちは"}.get(encoding, "grün")
    document = loaded(tmp_path / "a.html", f"{head}<p>{said}".encode(encoding))
    assert (document.text, document.replaced) == (said, False)


def test_long_texts_are_read_whole_wherever_they_are_cut(tmp_path: Path) -> None:
    text = "xя漢\U0001f600" * 60_000
    assert loaded(tmp_path / "a.html", f"<p>{text}</p><p>end").text == f"{text}\n\nend"


def test_a_page_that_the_parser_gives_up_is_told() -> None:
    with pytest.raises(UsageError, match="cannot be read to its end"):
        documents._parse(b"<p>text</p>", _GivesUp(), "x.html")


class _GivesUp(documents._Page):
    """A page whose elements never end."""

    def __init__(self) -> None:
        super().__init__("x.html")

    def end(self, tag: str) -> None:
        pass


HOSTILE: dict[str, tuple[str, Callable[[], bytes]]] = {
    "elements": ("a.html", lambda: b"<p>x" * 100_000),
    "line ends": ("a.html", lambda: b"<br>" * 100_000),
    "ends of nothing": ("a.html", lambda: b"<b>" * 400 + b"</i>" * 100_000),
    "an attribute": ("a.html", lambda: b"<p title='" + b"x" * 20_000_000 + b"'>a"),
    "attributes": ("a.html", lambda: b"<p " + b" ".join(b"a%d=b" % n for n in range(30_000)) + b">a"),
    "a comment": ("a.html", lambda: b"<!--" + b"-" * 5_000_000),
    "less than": ("a.html", lambda: b"<" * 500_000),
    "entities": ("a.html", lambda: b"<!DOCTYPE x [<!ENTITY a 'b'><!ENTITY c '&a;&a;'>]>" + b"&c;&amp;" * 100_000),
    "notes": ("a.html", lambda: b"<p>" + b"word<sup id=a%d>1</sup>" * 50_000),
    "cells": ("a.html", lambda: b"<table><tr>" + b"<td>a" * 50_000),
    "blanks": ("a.html", lambda: b"<p style='display" + b" " * 2_000_000 + b"'>a" + b" " * 2_000_000),
    "headings": ("a.html", lambda: b"<h1>a</h1><h2>b</h2>" * 10_000),
    "text of headings": ("a.txt", lambda: b"Chapter 1\n\n" * 10_000),
    "a long line": ("a.txt", lambda: b"chapter " * 1_000_000),
    "blank lines": ("a.txt", lambda: b"Chapter 1\n" + b"\n" * 300_000 + b"Chapter 2\n" + b" " * 3_000_000),
    "brackets": ("a.md", lambda: b"# " + b"[" * 1_000_000 + b"\n" + b"# [a](\n" * 20_000),
    "comments": ("a.md", lambda: b"<!--\n" * 50_000),
    "fences": ("a.md", lambda: b"```\n~~~\n" * 100_000 + b"`" * 2_000_000),
    "signs": ("a.md", lambda: b"# " + b"#" * 2_000_000 + b" x\n" + b"=" * 1_000_000 + b"\n---\n" * 100_000),
    "a title": ("a.md", lambda: b"word\n" * 50_000 + b"---\n"),
}


@pytest.mark.parametrize(("name", "data"), HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_text_takes_time_in_proportion(tmp_path: Path, name: str, data: Callable[[], bytes]) -> None:
    began = time.monotonic()
    loaded(tmp_path / name, data())
    assert time.monotonic() - began < PATIENCE


def test_elements_too_deep_in_each_other_are_refused_at_once(tmp_path: Path) -> None:
    began = time.monotonic()
    assert (
        "500 elements in each other" in problem(tmp_path / "a.html", b"<b>" * 1_000_000 + b"</i>" * 1_000_000).problem
    )
    assert time.monotonic() - began < PATIENCE


# --- EPUB ------------------------------------------------------------------------------------------------------------

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
    assert "cannot be unpacked" in problem(tmp_path / "a.epub", bytes(unknown)).problem


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began = time.monotonic()
    bomb = book({"a.xhtml": b" " * ((64 << 20) + 1)}, package(["a.xhtml"]))
    assert "unpack to far too much" in problem(tmp_path / "a.epub", bomb).problem
    monkeypatch.setattr(documents, "MAX_UNPACKED_BYTES", 1500)
    assert "unpack to far too much" in problem(tmp_path / "a.epub", book(PAGES, package(PAGES))).problem
    monkeypatch.setattr(documents, "MAX_ENTRIES", 4)
    assert "holds more than 4 files" in problem(tmp_path / "a.epub", book(PAGES, package(PAGES))).problem
    assert time.monotonic() - began < PATIENCE


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
    began = time.monotonic()
    nav = nav_of(*((f"one.xhtml#p{number}", "x") for number in range(10_000)))
    paragraphs = "".join(f"<p id='p{number}'>word</p>" for number in range(10_000))
    opf = package(["one.xhtml"] * 1000, nav="nav.xhtml")
    document = loaded(tmp_path / "a.epub", book({"one.xhtml": page(paragraphs), "nav.xhtml": nav}, opf))
    assert len(document.chapters) == 10_000
    assert time.monotonic() - began < PATIENCE


# --- PDF -------------------------------------------------------------------------------------------------------------


def pdf(header: str = "", footer: str = "") -> FPDF:
    """Paper of 210 mm by 297 mm, 10 mm at each side; {page} in the header or footer is the page's number."""
    from fpdf import FPDF

    class Paper(FPDF):
        def header(self) -> None:
            if header:
                self.set_y(8)
                self.cell(0, 8, header.format(page=self.page_no()), align="C")
            self.set_y(30)

        def footer(self) -> None:
            if footer:
                self.set_y(-15)
                self.cell(0, 8, footer.format(page=self.page_no()), align="C")

    paper = Paper()
    paper.set_auto_page_break(True, 30)
    paper.set_font("Helvetica", size=12)
    return paper


def lines_of(paper: FPDF, *lines: str, indent: float = 0) -> None:
    for number, line in enumerate(lines):
        paper.set_x(10 + (0 if number else indent))
        paper.cell(0, 6, line, new_x="LMARGIN", new_y="NEXT")


def printed(paper: FPDF) -> bytes:
    return bytes(paper.output())


def test_lines_of_a_page_become_paragraphs(tmp_path: Path) -> None:
    paper = pdf()
    paper.add_page()
    lines_of(
        paper,
        "The first paragraph is about infor-",
        "mation that is written in several lines of",
        "text, here. It ends.",
    )
    lines_of(paper, "The second one follows at once and it goes", "on for one more line of the same length as")
    lines_of(paper, "before, and then its words end here now.")
    lines_of(
        paper, "An indented line begins the third one, so it", "goes on without it, and Anglo-", "Saxon too.", indent=8
    )
    paper.ln(8)
    lines_of(paper, "after a gap there is the fourth of them")
    document = loaded(tmp_path / "a.pdf", printed(paper))
    assert document.text.split("\n\n") == [
        "The first paragraph is about information that is written in several lines of text, here. It ends.",
        "The second one follows at once and it goes on for one more line of the same length as before, and then its "
        "words end here now.",
        "An indented line begins the third one, so it goes on without it, and Anglo-Saxon too.",
        "after a gap there is the fourth of them",
    ]
    assert document.extracted


def test_headers_footers_and_page_numbers_are_left_out(tmp_path: Path) -> None:
    paper = pdf("My Book, page {page}", "- {page} -")
    for number in range(5):
        paper.add_page()
        lines_of(
            paper, f"Page text that is number {'abcde'[number]} and that", "goes on and on in a line, and then it is"
        )
        lines_of(paper, f"done with {'abcde'[number]} here.")
    document = loaded(tmp_path / "a.pdf", printed(paper))
    assert "My Book" not in document.text
    assert "- " not in document.text
    assert document.text.count("Page text") == 5


def test_short_chapters_that_differ_in_their_number_keep_their_headings(tmp_path: Path) -> None:
    paper = pdf()
    for number in range(1, 5):
        paper.add_page()
        paper.set_y(12)
        lines_of(paper, f"Chapter {number}")
        paper.ln(12)
        paper.multi_cell(0, 6, BODY)
    assert titles(loaded(tmp_path / "a.pdf", printed(paper))) == [f"Chapter {number}" for number in range(1, 5)]


def test_a_sentence_goes_on_over_the_border_of_pages(tmp_path: Path) -> None:
    paper = pdf("A header", "{page}")
    paper.add_page()
    words = [f"{first}{second}{third}" for first in "bdfg" for second in "aeiou" for third in "klmnprstvwxyz"]
    sentence = " ".join(f"{one} {other}" for one in words for other in words[:8]) + "."
    paper.multi_cell(0, 6, sentence)
    assert paper.page_no() > 2
    assert loaded(tmp_path / "a.pdf", printed(paper)).text == sentence


def test_an_outline_makes_the_chapters(tmp_path: Path) -> None:
    paper = pdf()
    paper.set_title("The Book")
    paper.set_author("A. Writer")
    paper.set_lang("en-GB")
    paper.add_page()
    lines_of(paper, "A title page")
    paper.add_page()
    for level, title in [(0, "First Part"), (1, "One"), (1, "Two"), (0, "Second Part"), (1, "Three"), (2, "Section")]:
        paper.start_section(title, level=level)
        lines_of(paper, title)
        paper.ln(8)
        if title not in ("First Part", "Second Part"):
            paper.multi_cell(0, 6, BODY)
            paper.ln(8)
    document = loaded(tmp_path / "a.pdf", printed(paper))
    assert (document.title, document.author, document.language) == ("The Book", "A. Writer", "en-GB")
    assert [(title, text[:8]) for title, text in parts(document)] == [
        ("One", "A title "), ("Two", "Two\n\nIt "), ("Three", "Second P"),
    ]  # fmt: skip


def test_entries_that_a_page_does_not_say_are_one_chapter(tmp_path: Path) -> None:
    paper = pdf()
    for titles_of_page in (["x", "y"], ["z"]):
        paper.add_page()
        for title in titles_of_page:
            paper.start_section(title)
        paper.multi_cell(0, 6, BODY)
    assert titles(loaded(tmp_path / "a.pdf", printed(paper))) == ["y", "z"]


def test_without_an_outline_headings_of_the_text_make_the_chapters(tmp_path: Path) -> None:
    paper = pdf()
    paper.add_page()
    for number in (1, 2):
        lines_of(paper, f"Chapter {number}")
        paper.ln(8)
        paper.multi_cell(0, 6, BODY)
        paper.ln(8)
    assert titles(loaded(tmp_path / "a.pdf", printed(paper))) == ["Chapter 1", "Chapter 2"]


def test_ligatures_and_halves_of_words_are_put_together() -> None:
    lines = [
        ("di\ufb03cult of\ufb01", True),
        ("ces", False),
        ("well-", False),
        ("known", False),
        ("漢字の", False),
        ("話", False),
    ]
    made = [documents._Line(text, 0, (0, -15.0 * n, 400), 12.0, broken) for n, (text, broken) in enumerate(lines)]
    assert documents._joined(made, {})[0].translate(documents._LIGATURES) == "difficult offices wellknown 漢字の話"


@pytest.mark.parametrize("shared", ["", "user"])
def test_an_encrypted_pdf_is_refused(tmp_path: Path, shared: str) -> None:
    from fpdf.enums import EncryptionMethod

    paper = pdf()
    paper.add_page()
    lines_of(paper, "secret")
    paper.set_encryption("owner", shared or None, encryption_method=EncryptionMethod.RC4)
    if not shared:  # whoever has it may read it
        assert loaded(tmp_path / "a.pdf", printed(paper)).text == "secret"
        return
    raised = problem(tmp_path / "a.pdf", printed(paper))
    assert (raised.problem[-12:], raised.remedy) == ("is encrypted", "give a copy without a password")


def test_a_pdf_of_pictures_is_refused(tmp_path: Path) -> None:
    paper = pdf()
    paper.add_page()
    paper.rect(20, 20, 100, 100, style="F")
    raised = problem(tmp_path / "a.pdf", printed(paper))
    assert raised.problem.endswith("holds no text, only pictures")
    assert "ocrmypdf" in raised.remedy


def test_a_pdf_of_the_same_words_on_each_page_is_read(tmp_path: Path) -> None:
    paper = pdf()
    for _ in range(4):
        paper.add_page()
        lines_of(paper, "All the same.")
    assert "All the same." in loaded(tmp_path / "a.pdf", printed(paper)).text


def test_a_broken_pdf_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paper = pdf()
    for _ in range(3):
        paper.add_page()
        lines_of(paper, "text")
    data = printed(paper)
    assert "is no PDF, or a broken one" in problem(tmp_path / "a.pdf", b"%PDF-1.4\nno").problem
    assert "is no PDF, or a broken one" in problem(tmp_path / "a.pdf", b"").problem
    began = time.monotonic()
    assert "page 4 cannot be read" in problem(tmp_path / "a.pdf", data.replace(b"/Count 3", b"/Count 99999")).problem
    assert time.monotonic() - began < PATIENCE
    monkeypatch.setattr(documents, "MAX_CHARACTERS", 5)
    assert "characters" in problem(tmp_path / "a.pdf", data).problem


def test_an_outline_that_runs_in_circles_ends(tmp_path: Path) -> None:
    paper = pdf()
    for title in ("One", "Two", "Three"):
        paper.add_page()
        paper.start_section(title)
        lines_of(paper, title)
        paper.multi_cell(0, 6, BODY)
    data = printed(paper)
    numbers = [int(part.split()[0]) for part in data.split(b"/Next ")[1:]]
    assert numbers
    circle = data.replace(b"/Next %d 0 R" % numbers[-1], b"/Next %d 0 R" % (numbers[0] - 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(loaded(tmp_path / "a.pdf", circle).chapters) >= 1


def test_chapters_are_records() -> None:
    assert Chapter(title="", start=0, end=1) == Chapter(title="", start=0, end=1)
