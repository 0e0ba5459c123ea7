"""A file that people read, as one text with chapters: .txt, .md, .html, .htm, .xhtml, .epub, .pdf.

The extension tells the format. Without one the first bytes do (kind.py), and EPUB and PDF are known by them anywhere.

    .txt, .md         the file's own characters; chapters where a line reads like "Chapter 1", or at headings
    .html, .epub      paragraphs with blank lines between, headings as "# Title", items as "- item", rows as "| a |":
                      the Markdown that markup.py reads, without navigation and other parts that are not read aloud
    .pdf              paragraphs put together from the lines of the pages, without headers, footers and page numbers

A file may come from anybody: nothing that it refers to is fetched, and it takes time and memory in proportion to its
size, or is refused. Modules for a format import its library, so they are imported when a file needs them. No threads.
"""

from __future__ import annotations

import os

from kokoro_common.documents.document import MAX_CHARACTERS, Document, decoded
from kokoro_common.documents.kind import BINARY, EPUB, HTML, MAX_HEAD, PDF, TEXT, encoding_of, is_binary, kind_of
from kokoro_common.documents.markdown import read_markdown
from kokoro_common.documents.plain import read_plain
from kokoro_common.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

EXTRACTED = {".html": HTML, ".htm": HTML, ".xhtml": HTML, ".epub": EPUB, ".pdf": PDF}
MARKDOWN = (".md", ".markdown")
MAX_FILE_BYTES = 256 << 20  # of an EPUB or PDF, which are mostly pictures
MAX_TEXT_BYTES = MAX_CHARACTERS  # of a text


def load(path: str) -> Document:
    """Reads a file. The extension, in any case, tells the format; an unknown one means plain text.

    Blocks, for seconds with a large book. Raises UsageError for a file that cannot be read, is broken or encrypted.
    """
    try:
        with open(path, "rb") as file:
            return read_stream(file, path, os.path.splitext(path)[1].lower())
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise UsageError(f"cannot read {path}: {reason}", "check the name") from None


def read_stream(file: BinaryIO, name: str, extension: str = "", head: bytes = b"") -> Document:
    """Reads a document that comes through a file; `head` has come already. `name` is for errors.

    Blocks until the end of the file. Raises UsageError as `load` does, OSError.
    """
    data = b"".join((head, file.read(MAX_TEXT_BYTES + 1 - len(head))))
    kind = EXTRACTED.get(extension) or kind_of(data[:MAX_HEAD], ended=len(data) <= MAX_HEAD) or TEXT
    most = MAX_FILE_BYTES if kind in (PDF, EPUB) else MAX_TEXT_BYTES
    if len(data) > MAX_TEXT_BYTES and most > MAX_TEXT_BYTES:
        data = b"".join((data, file.read(most + 1 - len(data))))
    if len(data) > most:
        raise UsageError(f"{name} has more than {most >> 20} MiB", "split it")
    if kind == PDF:
        from kokoro_common.documents.pdf import read_pdf

        return read_pdf(data, name)
    if kind == EPUB:
        from kokoro_common.documents.epub import read_epub

        return read_epub(data, name)
    if (kind == BINARY and not extension) or (b"\0" in data and not encoding_of(data[:4]) and is_binary(data)):
        raise no_text(name)
    if kind == HTML and (not extension or extension in EXTRACTED):
        from kokoro_common.documents.html import read_html

        return read_html(data, name)
    text, replaced = decoded(data)
    return read_markdown(text, replaced) if extension in MARKDOWN else read_plain(text, replaced)


def no_text(name: str) -> UsageError:
    """The error about bytes that are nothing that can be spoken."""
    return UsageError(f"{name} is no text", "give a text, Markdown, HTML, EPUB or PDF file")
