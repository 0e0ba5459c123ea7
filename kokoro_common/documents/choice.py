"""Some chapters of a document, and several documents as one. No I/O."""

from __future__ import annotations

import os
import re

from kokoro_common.documents.document import Chapter, Document
from kokoro_common.errors import SAY, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


_BETWEEN = "\n\n"  # texts that are put together, so that each begins a paragraph
LIST = f"{SAY} -f FILE --list-chapters shows them"


def numbers_of(written: str, chapters: int) -> list[int]:
    """The chapters, from 1 and in order, that "3-7,12" or "5-" names. Raises UsageError for what it cannot mean."""
    chosen: set[int] = set()
    for part in written.split(","):
        found = re.fullmatch(r"\s*(\d{1,6})\s*(?:(-)\s*(\d{1,6})?)?\s*", part, re.ASCII)
        if found is None:
            raise UsageError(f"--chapters {written!r}", "write numbers, as 3-7,12 or 5-")
        first = int(found[1])
        last = first if not found[2] else int(found[3]) if found[3] else max(chapters, first)
        if not 1 <= first <= last <= chapters:
            there = "1 chapter" if chapters == 1 else f"chapters 1 to {chapters}"
            raise UsageError(f"--chapters {part.strip()!r}, and there are {there}", LIST)
        chosen.update(range(first, last + 1))
    return sorted(chosen)


def number_called(wanted: str, document: Document) -> int:
    """The number of a chapter, from 1, by its number or the beginning of its title in any case. Raises UsageError."""
    chapters = document.chapters
    number = wanted.strip()
    if number.isascii() and number.isdigit() and 1 <= int(number[:7]) <= len(chapters):
        return int(number[:7])
    begin = " ".join(wanted.casefold().split())
    called = [at for at, each in enumerate(chapters, 1) if begin and each.title.casefold().startswith(begin)]
    exact = [at for at in called if chapters[at - 1].title.casefold() == begin]
    if len(exact or called) == 1:
        return (exact or called)[0]
    if called:
        numbers = ", ".join(map(str, called[:5])) + (" ..." if len(called) > 5 else "")
        raise UsageError(f"several chapters begin with {wanted!r}: {numbers}", "give the number of one")
    raise UsageError(f"there is no chapter {wanted!r}", LIST)


def chosen(document: Document, numbers: Sequence[int]) -> Document:
    """The document with these of its chapters alone, which keep their numbers. Places are those in the new text."""
    pieces: list[str] = []
    chapters: list[Chapter] = []
    length = 0
    for number in numbers:
        chapter = document.chapters[number - 1]
        text = document.text[chapter.start : chapter.end]
        if pieces and not pieces[-1].endswith(_BETWEEN):
            pieces.append(_BETWEEN)
            length += len(_BETWEEN)
            chapters[-1] = chapters[-1].replace(end=length)
        pieces.append(text)
        chapters.append(chapter.replace(start=length, end=length + len(text), number=number))
        length += len(text)
    all_of_it = len(numbers) == len(document.chapters)
    return document if all_of_it else document.replace(
        text="".join(pieces), chapters=tuple(chapters), of=len(document.chapters), extracted=True
    )  # fmt: skip


def joined(documents: Sequence[tuple[str, Document]]) -> Document:
    """Several documents, each with the path of its file, one after the other. A file's first chapter has the file's
    title, or its name, if it has none of its own. Raises UsageError for SSML, which is one whole."""
    if len(documents) == 1:
        return documents[0][1]
    pieces: list[str] = []
    chapters: list[Chapter] = []
    length = 0
    for path, document in documents:
        refuse_ssml(document, "several files", path)
        first, *others = document.chapters
        name = os.path.splitext(os.path.basename(path))[0]
        first = first.replace(title=first.title or document.title or name)
        for chapter in (first, *others):
            chapters.append(chapter.replace(start=chapter.start + length, end=chapter.end + length))
        pieces += [document.text, _BETWEEN]
        length += len(document.text) + len(_BETWEEN)
        chapters[-1] = chapters[-1].replace(end=length)
    pieces.pop()
    chapters[-1] = chapters[-1].replace(end=length - len(_BETWEEN))
    every = [document for _, document in documents]
    return Document(
        text="".join(pieces),
        chapters=tuple(chapters),
        title=next((each.title for each in every if each.title), ""),
        author=", ".join(dict.fromkeys(each.author for each in every if each.author)),
        language=next((each.language for each in every if each.language), ""),
        extracted=True,
        replaced=any(each.replaced for each in every),
        cover=next((each.cover for each in every if each.cover), None),
        notes=tuple(line for each in every for line in each.notes),
    )


def refuse_ssml(document: Document, what: str, path: str) -> None:
    """Raises UsageError if the text is SSML, of which no part can be read alone."""
    if is_ssml(document.text):
        raise UsageError(f"{path} is SSML, which {what} cannot be", "give it alone and as a whole")


def is_ssml(text: str) -> bool:
    return re.match(r"\s{0,200}(?:<\?xml[^>]{0,200}>\s{0,200})?<speak\b", text) is not None
