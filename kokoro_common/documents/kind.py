"""Tells by its first bytes what arrives: a text, a document that is read as a whole, or nothing that can be spoken.

Used where no extension says it: standard input, pipes, files without one. Text is spoken while it arrives, so as few
bytes as possible decide, and what is no known document is text: "<html> is a tag" and "%PDF-1.4 is a header" are.
No I/O.
"""

from __future__ import annotations

import codecs
import re

TEXT, EPUB, PDF, HTML, BINARY = "text", "epub", "pdf", "html", "binary"
UNDECIDED = ""
MIN_HEAD = 40  # bytes in which control characters are counted: fewer may be a slip
MAX_HEAD = 4096  # bytes that may be needed; an undecided longer one is text

_ZIP = b"PK\x03\x04"
_PDF = rb"%PDF-\d\.\d[ \t]*[\r\n]\s*(?:%|\d+\s+\d+\s+obj)"
_PDF_BEGIN = rb"%PDF-\d\.\d[ \t]*(?:[\r\n]\s*(?:\d+\s*){0,2}o?b?)?"  # what may become _PDF
_ROOTS = ("<!doctype html", "<html", "<head", "<body")
_LONGEST_DOCTYPE = 200  # characters of white space in one included
_ODD = bytes({*range(32)} - {*b"\0\a\b\t\n\v\f\r\x1a\x1b"})  # controls that texts do not have; NUL is counted apart
BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # begins like UTF-16's, so it is looked for first
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def kind_of(head: bytes, *, ended: bool) -> str:
    """One of the kinds above; UNDECIDED if more bytes than these are needed. `ended`: there are no more."""
    if not ended and any(len(head) < len(mark) and mark.startswith(head) for mark in (_ZIP, b"%PDF-", *BOMS)):
        return UNDECIDED
    if head.startswith(_ZIP):
        return EPUB
    if re.match(_PDF, head):
        return PDF
    may_grow = not ended and len(head) < MAX_HEAD
    if may_grow and (b"%PDF-".startswith(head[:5]) and (len(head) < 9 or re.fullmatch(_PDF_BEGIN, head))):
        return UNDECIDED
    encoding = encoding_of(head)
    html = _is_html(head.decode(encoding or "latin-1", "ignore").lstrip("\ufeff"))
    if html is None and may_grow:
        return UNDECIDED
    if html:
        return HTML
    return BINARY if not encoding and is_binary(head) else TEXT


def encoding_of(head: bytes) -> str:
    """The encoding that a byte order mark names; "" without one."""
    return next((name for bom, name in BOMS.items() if head.startswith(bom)), "")


def _is_html(text: str) -> bool | None:
    """Whether it begins with the elements of a page, and another one after them. None: more is needed to say."""
    text = text[:MAX_HEAD].lower()
    place, rooted = 0, False
    while True:
        rest = text[place:].lstrip()
        place = len(text) - len(rest)
        for begin, end in (("<!--", "-->"), ("<?", ">")):
            if rest.startswith(begin):
                closed = text.find(end, place + len(begin))
                if closed < 0:
                    return None
                place = closed + len(end)
                break
        else:
            if rooted:
                return None if len(rest) < 2 and rest in ("", "<") else re.match("<[a-z!/]", rest) is not None
            words = " ".join(rest[:_LONGEST_DOCTYPE].split())
            root = next((root for root in _ROOTS if re.match(rf"{root}[\s/>]", f"{words} "[: len(root) + 1])), "")
            if not root or (len(words) == len(root) and rest == rest.rstrip()):
                # A part of a root that may go on, or nothing but blanks.
                return None if any(root.startswith(words) for root in (*_ROOTS, "<!--", "<?")) else False
            closed = text.find(">", place)
            if closed < 0:
                return None
            place, rooted = closed + 1, True


def is_binary(head: bytes) -> bool:
    """Whether it has what no text has: NULs, or control characters among what is no UTF-8 either, or a lot of them. A
    single NUL in a text may be a slip, or what `find -print0` puts between names."""
    nuls = head.count(0)
    if nuls > 1 and 6 * nuls > len(head):
        return True
    odd = len(head) - len(head.translate(None, _ODD))
    broken = head[: len(head) - 3].decode("utf-8", "replace").count("\ufffd")  # its end may lie within a character
    return (odd + nuls > 0 and 10 * broken > len(head)) or 4 * odd > max(len(head), MIN_HEAD)
