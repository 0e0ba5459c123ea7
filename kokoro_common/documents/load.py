"""A file that people read, as one text with chapters: .txt, .md, .html, .htm, .xhtml, .epub, .pdf.

    .txt, .md         the file's own characters; chapters where a line reads like "Chapter 1", or at headings
    .html, .epub      paragraphs with blank lines between, headings as "# Title", items as "- item", rows as "| a |":
                      the Markdown that markup.py reads, without navigation and other parts that are not read aloud
    .pdf              paragraphs put together from the lines of the pages, without headers, footers and page numbers

A file may come from anybody: nothing that it refers to is fetched, and it takes time and memory in proportion to its
size, or is refused. Modules for a format import its library, so they are imported when a file needs them. No threads.
"""

from __future__ import annotations

import os

from kokoro_common.documents.document import BOMS, Document, decoded
from kokoro_common.documents.markdown import read_markdown
from kokoro_common.documents.plain import read_plain
from kokoro_common.errors import UsageError

EXTRACTED = (".html", ".htm", ".xhtml", ".epub", ".pdf")
MARKDOWN = (".md", ".markdown")
MAX_FILE_BYTES = 256 << 20


def load(path: str) -> Document:
    """Reads a file. The extension, in any case, tells the format; an unknown one means plain text.

    Blocks, for seconds with a large book. Raises UsageError for a file that cannot be read, is broken or encrypted.
    """
    data = _read(path)
    extension = os.path.splitext(path)[1].lower()
    if extension == ".pdf":
        from kokoro_common.documents.pdf import read_pdf

        return read_pdf(data, path)
    if extension == ".epub":
        from kokoro_common.documents.epub import read_epub

        return read_epub(data, path)
    if b"\0" in data and not data.startswith(tuple(BOMS)):
        raise UsageError(f"{path} is no text", "give a text, Markdown, HTML, EPUB or PDF file")
    if extension in EXTRACTED:
        from kokoro_common.documents.html import read_html

        return read_html(data, path)
    text, replaced = decoded(data)
    return read_markdown(text, replaced) if extension in MARKDOWN else read_plain(text, replaced)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise UsageError(f"cannot read {path}: {reason}", "check the name") from None
    if len(data) > MAX_FILE_BYTES:
        raise UsageError(f"{path} has more than {MAX_FILE_BYTES >> 20} MiB", "split it")
    return data
