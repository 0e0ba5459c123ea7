"""Text on its way to a server: for another attempt it is there at once, whatever the pipe does."""

from __future__ import annotations

import os
import threading

import pytest

from kokoro_common.client.text_source import TextSource
from kokoro_common.documents.load import load
from kokoro_common.errors import UsageError
from tests.documents.test_epub import PAGES, book, nav_of, package


def test_text_that_was_read_needs_no_pipe_when_it_is_sent_again() -> None:
    reading, writing = os.pipe()
    source = TextSource(fd=reading)
    os.write(writing, b"Hello there. ")
    assert source.read() == "Hello there. "
    assert not source.buffered
    source.rewind()
    assert source.buffered
    assert source.read() == "Hello there. "
    assert not source.buffered
    os.close(writing)
    assert [source.read(), source.read()] == ["", None]
    os.close(reading)


def through_a_pipe(data: bytes, piece: int = 1, **options: object) -> tuple[TextSource, str]:
    """The source after its end, and its text. `piece`: bytes that are written at a time."""
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb", buffering=0) as file:
            for place in range(0, len(data), piece):
                file.write(data[place : place + piece])

    thread = threading.Thread(target=write)
    thread.start()
    source = TextSource(fd=reading, name="standard input", **options)  # type: ignore[arg-type]
    try:
        parts = []
        while (part := source.read()) is not None:
            parts.append(part)
        return source, "".join(parts)
    finally:
        os.close(reading)
        thread.join()


@pytest.mark.parametrize("piece", [1, 7, 50_000])
@pytest.mark.parametrize("name", ["a.epub", "a.html"])
def test_a_document_in_a_pipe_is_read_as_its_file_is(tmp_path: object, name: str, piece: int) -> None:
    epub = book({**PAGES, "nav.xhtml": nav_of(("one.xhtml", "One"))}, package(PAGES, nav="nav.xhtml"))
    data = epub if name == "a.epub" else b"<!DOCTYPE html><html><head><title>T</title></head><body><p>Hello <b>you</b>"
    path = os.path.join(str(tmp_path), name)
    with open(path, "wb") as file:
        file.write(data)
    expected = load(path)
    source, text = through_a_pipe(data, piece)
    assert source.document == expected
    assert text == expected.text


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_says_how_the_text_in_a_pipe_is_encoded(encoding: str) -> None:
    text = "Grüße, 世界 and 😀."
    assert through_a_pipe(text.encode(encoding))[1] == text
    assert through_a_pipe("<5 % of it".encode(encoding))[1] == "<5 % of it"


def test_the_first_words_of_a_pipe_are_there_while_its_writer_is_at_the_next() -> None:
    for first in (b"Hello", b"<p>Hello", b"%PDF-1.4 is", b"PK it"):
        reading, writing = os.pipe()
        source = TextSource(fd=reading, name="standard input")
        os.write(writing, first)
        assert source.read() == first.decode()  # blocks for ever if it wants more
        os.close(writing)
        os.close(reading)


@pytest.mark.parametrize("data", [b"\x7fELF\0\0\0", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"PK\x03\x04 and no book"])
def test_what_is_no_text_is_refused_before_any_of_it(data: bytes) -> None:
    with pytest.raises(UsageError, match=r"^standard input is no "):
        through_a_pipe(data, 50_000)


def test_echo_passes_on_every_byte_of_a_text_and_none_of_what_is_none() -> None:
    for data, expected in (
        (b"\xff\xfeh\0i\0", b"\xff\xfeh\0i\0"),
        (b"<html> is", b"<html> is"),
        (b"\x7fELF\0\0\0", b""),
    ):
        reading, writing = os.pipe()
        try:
            through_a_pipe(data, 50_000, echo=writing)
        except UsageError:
            assert not expected
        os.close(writing)
        with open(reading, "rb") as file:
            assert file.read() == expected


def test_text_given_as_text_is_not_looked_at() -> None:
    """Programs that use the library give strings, which are no files."""
    for text in ("<!DOCTYPE html><html><p>x", "%PDF-1.4\n%", "a\0b"):
        source = TextSource(text)
        assert source.read() == text
        assert source.document is None
