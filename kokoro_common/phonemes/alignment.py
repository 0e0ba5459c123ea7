"""Words found in one string of phonemes, for front ends that give no more than that: all but English."""

from __future__ import annotations

import functools
import re
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

from kokoro_common.phonemes.espeak_process import EspeakCrashed
from kokoro_common.phonemes.spoken import MARKS, RUN, Part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# What misaki raises over a text that it cannot handle.
MISAKI_CRASHES = (ArithmeticError, AssertionError, EspeakCrashed, LookupError, StopIteration, TypeError, ValueError)

_MOST_COMPARED = 1000  # runs of a text; comparing is quadratic, and a text chunk has 200
_ANY_MARK = "."
_STRESS = dict.fromkeys(map(ord, "ˈˌ"))
_MARK = re.compile(f"[{MARKS}]")
_RUN_OR_MARKS = re.compile(rf"([^\s{MARKS}]+)|[{MARKS}](?:\s*[{MARKS}])*")


def aligning(
    speak: Callable[[str], str], words_in: Callable[[str], list[tuple[int, int]]]
) -> Callable[[str], list[Part]]:
    """A front end made of a function that gives the phonemes of a text, and one that finds its words."""

    @functools.lru_cache(maxsize=4096)
    def alone(word: str) -> str:
        try:
            return speak(word)
        except MISAKI_CRASHES:  # the whole text did not crash, and this word alone is not spoken
            return ""

    def parts(text: str) -> list[Part]:
        return _aligned(speak(text), text, words_in(text), alone)

    return parts


def runs_between_marks(text: str) -> list[tuple[int, int]]:
    return [run.span() for run in RUN.finditer(text)]


def _aligned(phonemes: str, text: str, words: list[tuple[int, int]], alone: Callable[[str], str]) -> list[Part]:
    """The phonemes of a text in parts: each word's are found by how the word sounds alone.

    Runs of phonemes without stress are compared; runs that differ lie between equal ones.
    """
    expected: list[tuple[str, int]] = []  # a run, and the word it belongs to
    before = 0
    for index, (start, end) in enumerate(words):
        if _MARK.search(text, before, start):
            expected.append((_ANY_MARK, -1))
        expected += ((sound, index) for sound, *_ in _sounds(alone(text[start:end])))
        before = end
    actual = _sounds(phonemes)
    spans: dict[int, tuple[int, int]] = {}
    for i, i_end, j, j_end in _stretches([run for run, _ in expected], [run for run, *_ in actual]):
        for index, first, last in _shared_out(expected[i:i_end], actual[j:j_end]):
            spans[index] = (spans.get(index, (first, last))[0], last)
    return _cut_up(phonemes, words, spans, silent=set(range(len(words))) - {index for _, index in expected})


def _sounds(phonemes: str) -> list[tuple[str, int, int]]:
    """Runs of phonemes without stress, and marks as _ANY_MARK, each with its place."""
    return [
        (match[0].translate(_STRESS) if match[1] else _ANY_MARK, match.start(), match.end())
        for match in _RUN_OR_MARKS.finditer(phonemes)
    ]


def _stretches(expected: list[str], actual: list[str]) -> list[tuple[int, int, int, int]]:
    if max(len(expected), len(actual)) > _MOST_COMPARED:
        return [(0, len(expected), 0, len(actual))]
    return [opcode[1:] for opcode in SequenceMatcher(None, expected, actual, autojunk=False).get_opcodes()]


def _shared_out(expected: list[tuple[str, int]], actual: list[tuple[str, int, int]]) -> Iterator[tuple[int, int, int]]:
    """Words with their places in the phonemes: run by run, or by length where there are more or fewer than expected."""
    expected = [sound for sound in expected if sound[0] != _ANY_MARK]
    actual = [sound for sound in actual if sound[0] != _ANY_MARK]
    if len(expected) == len(actual):
        yield from ((index, first, last) for (_, index), (_, first, last) in zip(expected, actual, strict=True))
    elif expected and actual:
        begin, end = actual[0][1], actual[-1][2]
        borders = {last for _, _, last in actual}
        scale = (end - begin) / sum(len(sound) for sound, _ in expected)
        first, length = begin, 0
        for sound, index in expected:
            length += len(sound)
            last = begin + round(length * scale)
            last = next((last + away for away in (0, -1, 1, -2, 2) if last + away in borders), last)
            yield index, first, last
            first = last


def _cut_up(
    phonemes: str, words: list[tuple[int, int]], spans: dict[int, tuple[int, int]], silent: set[int]
) -> list[Part]:
    """A word that is not silent but has no phonemes of its own is fused with the one before it."""
    parts: list[Part] = []
    done = 0
    for index, (start, end) in enumerate(words):
        first, last = spans.get(index, (done, done))
        if any(map(str.isalpha, phonemes[first:last])):
            parts += (Part(phonemes[done:first], 0, 0), Part(phonemes[first:last], start, end))
            done = last
        elif parts and index not in silent:
            parts[-1] = parts[-1]._replace(end=end)
    return [*parts, Part(phonemes[done:], 0, 0)]
