"""Files are read, decoded and told apart by their extension, or are refused in one line."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kokoro_common.documents import load as documents
from kokoro_common.documents.kind import TEXT, kind_of
from kokoro_common.documents.load import load
from kokoro_common.errors import UsageError
from tests.helpers.shelf import BODY, loaded, problem, titles

if TYPE_CHECKING:
    from pathlib import Path


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
    monkeypatch.setattr(documents, "MAX_TEXT_BYTES", 1 << 20)
    monkeypatch.setattr(documents, "MAX_FILE_BYTES", 2 << 20)
    assert problem(tmp_path / "a.txt", b"x" * ((1 << 20) + 1)).problem.endswith("has more than 1 MiB")
    assert problem(tmp_path / "a.pdf", b"x" * ((2 << 20) + 1)).problem.endswith("has more than 2 MiB")
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
    assert "is no text" in problem(tmp_path / name, b"text " * 1000 + bytes(5000)).problem


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.html", "a"])
def test_a_stray_nul_is_text_in_a_file_as_it_is_in_a_pipe(tmp_path: Path, name: str) -> None:
    for text in ("before\0after", "one.txt\0two.txt\0"):
        assert kind_of(text.encode(), ended=True) == TEXT
        assert text.split("\0")[1] in loaded(tmp_path / name, text).text


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
