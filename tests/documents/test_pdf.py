"""Lines on the pages of a PDF become paragraphs and chapters, or the file is refused in one line."""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
import zlib
from typing import TYPE_CHECKING

import psutil
import pytest

from kokoro_common.documents import pdf as pdf_room
from kokoro_common.documents.pages import Line, paragraphs
from kokoro_common.documents.pdf import LIGATURES
from kokoro_common.errors import UsageError
from tests.helpers.shelf import BODY, loaded, parts, problem, titles

if TYPE_CHECKING:
    from pathlib import Path

    from fpdf import FPDF


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
    made = [Line(text, 0, 0, -15.0 * n, 400, 12.0, broken) for n, (text, broken) in enumerate(lines)]
    assert paragraphs(made, {})[0].translate(LIGATURES) == "difficult offices wellknown 漢字の話"


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
    assert "page 4 cannot be read" in problem(tmp_path / "a.pdf", data.replace(b"/Count 3", b"/Count 99999")).problem
    monkeypatch.setattr(pdf_room, "MAX_CHARACTERS", 5)
    with pytest.raises(UsageError, match="characters"):
        pdf_room._read(data, "a.pdf")


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
    assert len(loaded(tmp_path / "a.pdf", circle).chapters) >= 1


# --- what takes more than a file of its size should ------------------------------------------------------------------


def of_objects(*objects: bytes) -> bytes:
    """A PDF that does not say where they are; PDFium looks for them. The first two are the catalogue and the pages."""
    numbered = b"".join(b"%d 0 obj%sendobj\n" % each for each in enumerate(objects, 1))
    return b"%PDF-1.4\n" + numbered + b"trailer<</Root 1 0 R>>"


def of_pages(count: int, entries: bytes, *objects: bytes) -> bytes:
    """Pages that share everything; object 4 is the first of `objects`."""
    pages = b"<</Type/Pages/Kids[%s]/Count %d>>" % (b"3 0 R " * count, count)
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Contents 4 0 R%s>>" % entries
    return of_objects(b"<</Type/Catalog/Pages 2 0 R>>", pages, page, *objects)


def stream(data: bytes, entries: bytes = b"") -> bytes:
    return b"<</Length %d%s>>stream\n%s\nendstream " % (len(data), entries, data)


MINUTES_OF_PAGES = of_pages(9999, b"", stream(zlib.compress(b"0 0 1 1 re f " * 40_000), b"/Filter/FlateDecode"))


def drawing(form: int) -> bytes:
    return b"/Resources<</XObject<</F %d 0 R>>>>" % form


@pytest.mark.timeout(30)
@pytest.mark.skipif(sys.platform == "darwin", reason="macOS limits no memory")
def test_forms_in_forms_take_no_more_memory_than_they_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf_room, "MAX_MEMORY_BYTES", 512 << 20)
    form = b"/Type/XObject/Subtype/Form/BBox[0 0 9 9]"
    forms = [stream(b"/F Do " * 10, form + drawing(number)) for number in range(6, 12)]
    data = of_pages(1, drawing(5), stream(b"/F Do " * 10), *forms, stream(b"0 0 1 1 re f " * 10, form))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in KiB
    raised = problem(tmp_path / "a.pdf", data)
    assert raised.problem.endswith("cannot be read: it takes too much memory or time")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + (100 << 10)


@pytest.mark.timeout(30)
def test_pages_that_share_what_they_draw_take_no_more_time_than_they_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pdf_room, "CPU_SECONDS", 1)
    monkeypatch.setattr(pdf_room, "CPU_SECONDS_PER_MIB", 0)
    raised = problem(tmp_path / "a.pdf", MINUTES_OF_PAGES)
    assert raised.problem.endswith("cannot be read: it takes too much memory or time")


@pytest.mark.timeout(30)
def test_a_page_that_unpacks_to_much_is_read(tmp_path: Path) -> None:
    packed = zlib.compress(b" " * (100 << 20))
    raised = problem(tmp_path / "a.pdf", of_pages(1, b"", stream(packed, b"/Filter/FlateDecode")))
    assert raised.problem.endswith("holds no text, only pictures")


@pytest.mark.timeout(30)
def test_an_interrupt_leaves_no_process_behind(tmp_path: Path) -> None:
    def end(*_: object) -> None:
        sys.exit(143)

    before = signal.signal(signal.SIGTERM, end)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM))
    try:
        timer.start()
        with pytest.raises(SystemExit):
            loaded(tmp_path / "a.pdf", MINUTES_OF_PAGES)
            timer.join()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not [each for each in psutil.Process().children() if "kokoro_common" in " ".join(each.cmdline())]


def test_a_mistake_of_ours_is_seen_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf_room, "MAX_MEMORY_BYTES", "no number")
    with pytest.raises(RuntimeError, match=r"^ValueError: invalid literal"):
        pdf_room.read_pdf(b"", "a.pdf")
