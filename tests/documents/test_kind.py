"""What arrives is told by its first bytes: documents wherever they come from, and text as soon as it begins."""

from __future__ import annotations

import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kokoro_common.documents.kind import BINARY, EPUB, HTML, MAX_HEAD, PDF, TEXT, UNDECIDED, kind_of

TEXTS = [
    "Hello there.",
    "<html> is the root of a page.",
    "<!DOCTYPE html> stands first.",
    "<head> comes next, <body> after it",
    "<p>One paragraph",
    "<speak>Hello</speak>",
    "<?xml version='1.0'?>\n<speak>Hello</speak>",
    "<!-- a comment --> and text",
    "<3 you",
    "< 5 % of them",
    "%PDF-1.4 is how a file begins",
    "%PDF-1.4\nis how a file begins",
    "% a comment",
    "PK is a player's name",
    "PK\x03",
    "<header>x</header>",
    "été à la plage",
    "\x1b[31mred\x1b[0m",
    "",
    "   \n",
    "before\0after",
    "one.txt\0two.txt\0",
]
DOCUMENTS = {
    b"PK\x03\x04\x14\0": EPUB,
    b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n": PDF,
    b"%PDF-2.0\r\n12 0 obj": PDF,
    b"<!DOCTYPE html>\n<html>": HTML,
    b"\n <html lang='en'>\n<head>": HTML,
    b"<?xml version='1.0'?>\n<!DOCTYPE html PUBLIC '-//W3C'>\n<html>\n<!-- c --><head>": HTML,
    b"<!-- saved from --><body class=x><div>": HTML,
    "<!doctype html><p>ü".encode("utf-16"): HTML,
    b"\xef\xbb\xbf<html><body>": HTML,
    b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0": BINARY,
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\2\0\0\0\2\0\x08\x06\0\0\0": BINARY,
    "no mark".encode("utf-16-le"): BINARY,
}


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_ordinary_text_is_text(text: str, encoding: str) -> None:
    assert kind_of(text.encode(encoding), ended=True) == TEXT


@pytest.mark.parametrize("head", DOCUMENTS)
def test_a_document_is_known_in_whatever_pieces_it_comes(head: bytes) -> None:
    kinds = [kind_of(head[:size], ended=False) for size in range(1, len(head) + 1)]
    if DOCUMENTS[head] != BINARY:  # one may begin as a text does
        assert kinds[-1] == DOCUMENTS[head]
        assert set(kinds) <= {UNDECIDED, DOCUMENTS[head]}
    assert kind_of(head + b"and more", ended=False) == kind_of(head, ended=False) == DOCUMENTS[head]


@given(st.text())
@example("<")
@example("%PDF-1.")
@example("<!-- " + "x" * MAX_HEAD)
def test_a_text_is_held_back_only_while_it_may_become_a_document(text: str) -> None:
    head = text.encode("utf-8", "replace")
    kind = kind_of(head, ended=False)
    if kind == UNDECIDED:
        shown = head.decode("latin-1").strip()
        assert not shown or shown[0] in "<%P\xef\xfe\xff\0"
        assert len(head) < MAX_HEAD
    assert kind_of(head, ended=True) != UNDECIDED


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Z", "M"]), min_size=1))
def test_letters_and_signs_are_never_taken_for_a_picture_or_a_program(text: str) -> None:
    assert kind_of(text.encode(), ended=True) != BINARY


@pytest.mark.parametrize("size", [200, 3_000, 16_000])
def test_random_bytes_are_no_text(size: int) -> None:
    chance = random.Random(size)
    for _ in range(200):
        assert kind_of(b"\x80" + chance.randbytes(size), ended=False) == BINARY


@pytest.mark.parametrize("encoding", ["cp1252", "cp1251", "shift_jis", "iso8859-15"])
def test_text_of_other_encodings_is_still_text(encoding: str) -> None:
    texts = {"cp1251": "Добрый вечер", "shift_jis": "こんにちは、世界。"}
    assert kind_of(texts.get(encoding, "Übergrößenträger, déjà vu").encode(encoding) * 20, ended=False) == TEXT
