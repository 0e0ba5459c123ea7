"""Files written for a test, what `load` makes of them, and the promises that every document keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kokoro_common.documents.load import load
from kokoro_common.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from kokoro_common.documents.document import Document

BODY = "It was a quiet evening, and the lamps along the river had just been lit when she came home. " * 4


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
