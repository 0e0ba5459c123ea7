"""HTML becomes the text that a reader would say, in time, or is refused in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kokoro_common.documents.html import Page
from kokoro_common.errors import UsageError
from tests.helpers.shelf import loaded, parts, problem

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

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
        _GivesUp("x.html").read(b"<p>text</p>")


class _GivesUp(Page):
    """A page whose elements never end."""

    def end(self, tag: str) -> None:
        pass


HOSTILE: dict[str, Callable[[], bytes]] = {
    "elements": lambda: b"<p>x" * 100_000,
    "line ends": lambda: b"<br>" * 100_000,
    "ends of nothing": lambda: b"<b>" * 400 + b"</i>" * 100_000,
    "an attribute": lambda: b"<p title='" + b"x" * 15_000_000 + b"'>a",
    "attributes": lambda: b"<p " + b" ".join(b"a%d=b" % n for n in range(30_000)) + b">a",
    "a comment": lambda: b"<!--" + b"-" * 5_000_000,
    "less than": lambda: b"<" * 500_000,
    "entities": lambda: b"<!DOCTYPE x [<!ENTITY a 'b'><!ENTITY c '&a;&a;'>]>" + b"&c;&amp;" * 100_000,
    "notes": lambda: b"<p>" + b"word<sup id=a%d>1</sup>" * 50_000,
    "cells": lambda: b"<table><tr>" + b"<td>a" * 50_000,
    "blanks": lambda: b"<p style='display" + b" " * 2_000_000 + b"'>a" + b" " * 2_000_000,
    "headings": lambda: b"<h1>a</h1><h2>b</h2>" * 10_000,
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_text_takes_time_in_proportion(tmp_path: Path, data: Callable[[], bytes]) -> None:
    loaded(tmp_path / "a.html", data())


def test_elements_too_deep_in_each_other_are_refused_at_once(tmp_path: Path) -> None:
    assert (
        "500 elements in each other" in problem(tmp_path / "a.html", b"<b>" * 1_000_000 + b"</i>" * 1_000_000).problem
    )
