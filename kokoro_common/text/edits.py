"""What is said instead of what is written: stretches of a text, each with the words or phonemes that stand for it."""

from __future__ import annotations

import re
from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


STRESSED = re.compile(r"\[([^\[\]]+)\]\([+-]?\d(?:\.\d+)?\)")  # [word](+1): misaki's own, which only its English knows


class Edit(NamedTuple):
    """Edits of a text are in order and do not overlap."""

    start: int  # of the stretch, in characters of the text
    end: int  # behind its last character; never equal to start
    said: str  # instead of it: words, or phonemes; "": it is not said
    phonemes: bool = False


def merged(*layers: Iterable[Edit]) -> list[Edit]:
    """All edits in order; where two overlap, that of the earlier layer counts."""
    kept: list[Edit] = []
    for layer in layers:
        before = list(kept)
        kept += (edit for edit in layer if not any(edit.start < old.end and old.start < edit.end for old in before))
    return sorted(kept)


def applied(text: str, edits: Sequence[Edit]) -> list[tuple[str, int, int, bool]]:
    """The text in stretches that follow each other: what is said, start and end in the text, whether that is phonemes.

    A stretch that is said as it is written has the length of its place.
    """
    stretches = []
    place = 0
    for edit in edits:
        if place < edit.start:
            stretches.append((text[place : edit.start], place, edit.start, False))
        if edit.said:
            stretches.append((edit.said, edit.start, edit.end, edit.phonemes))
        place = edit.end
    return [*stretches, (text[place:], place, len(text), False)] if place < len(text) else stretches


def spelled(text: str, edits: Sequence[Edit]) -> tuple[str, list[tuple[int, int]]]:
    """The text in words, for who takes no phonemes; and for each of its characters the stretch it stands for."""
    words = ""
    spans: list[tuple[int, int]] = []
    for said, start, end, phonemes in applied(text, edits):
        said = text[start:end] if phonemes else STRESSED.sub(r"\1", said)
        verbatim = said == text[start:end]
        words += said
        spans += [(at, at + 1) for at in range(start, end)] if verbatim else [(start, end)] * len(said)
    return words, spans
