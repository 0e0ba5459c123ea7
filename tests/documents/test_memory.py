"""Whatever a document's elements are, reading takes memory in proportion to its bytes, or it is refused in little."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kokoro_common.documents import html, load
from tests.documents.test_epub import book, package

ROOT = Path(__file__).parent.parent.parent
SHAPES = {
    "words": b"word ",
    "paragraphs": b"<p>a</p>",
    "emphasis": b"a<b>b</b>",
    "headings": b"<h1>x</h1>",
    "cells": b"<td>x",
    "items": b"<li>x",
    "line ends": b"a<br>",
    "notes": b"<sup>1</sup>",
    "code": b"a\n",
    "entities": b"&#128512; ",
    "Markdown": b"# a\n\n",
    "chapters": b"Chapter 1\n\n",
    "letters of four bytes": "😀".encode(),
}
SPACE = 512 << 20  # bytes of address space in addition to what the interpreter and lxml take, for 16 MiB of a page
READ = """
import resource, sys
from kokoro_common.documents import epub, load
from kokoro_common.errors import UsageError
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + int(sys.argv[2]),) * 2)
try:
    print(len(load.load(sys.argv[1]).text) > 0)
except UsageError as error:
    print("refused:", error.problem)
"""


def read(path: Path, space: int) -> str:
    done = subprocess.run(
        [sys.executable, "-c", READ, str(path), str(space)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-500:]
    return done.stdout.strip()


def filled(path: Path, unit: bytes, size: int) -> Path:
    begin = b"<pre>" if unit == SHAPES["code"] else b""
    body = begin + unit * (size // len(unit))
    path.write_bytes(body if path.suffix != ".epub" else book({"one.xhtml": body}, package(["one.xhtml"])))
    return path


linux = pytest.mark.skipif(sys.platform != "linux", reason="macOS limits no address space")


@linux
@pytest.mark.parametrize(
    ("shape", "suffix"),
    [
        pytest.param(shape, suffix, marks=[] if shape == "headings" else pytest.mark.slow)
        for shape in SHAPES
        for suffix in (".html", ".md", ".txt")
    ],
)
def test_a_document_of_any_shape_takes_memory_in_proportion(shape: str, suffix: str, tmp_path: Path) -> None:
    """An eighth of the bytes in an eighth of the space, and what the allocator keeps ready."""
    size = html.MAX_PAGE_BYTES // 8
    assert read(filled(tmp_path / f"a{suffix}", SHAPES[shape], size), SPACE // 8 + (32 << 20)) == "True"


@linux
@pytest.mark.slow
@pytest.mark.parametrize("shape", ["paragraphs", "headings", "code"])
def test_the_largest_page_is_read_in_bounded_memory(shape: str, tmp_path: Path) -> None:
    assert read(filled(tmp_path / "a.epub", SHAPES[shape], html.MAX_PAGE_BYTES - 64), SPACE) == "True"


@linux
@pytest.mark.parametrize("suffix", [".epub", ".html", ".md", ".txt"])
def test_what_is_larger_is_refused_before_it_takes_memory(suffix: str, tmp_path: Path) -> None:
    """60 MB of one page, which are 350 KB in an EPUB."""
    path = filled(tmp_path / f"a{suffix}", SHAPES["emphasis"], 60 << 20)
    assert read(path, 3 * load.MAX_TEXT_BYTES).startswith("refused: ")
