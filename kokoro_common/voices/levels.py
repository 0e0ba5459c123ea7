"""How loud voices are, and the gain that makes all of them, and the embedded default, equally loud.

levels.tsv has the levels of the catalogue (benchmarks/levels.py measures them); a pack of the user's own has its level
beside it (user_voices.py). The style of a voice depends on the number of phonemes, and so does its level: am_onyx is
4 LU softer in long sentences than in short ones. So there is one for each of LENGTHS, interpolated between them.
"""

from __future__ import annotations

import functools
import importlib.resources
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMON_LUFS = -24.0
HIGHEST_PEAK = -1.0  # dBTP that the gain may lead to: a voice whose peaks are high stays softer than the others


LENGTHS = (25, 60, 120, 230)  # phonemes


class Level(NamedTuple):
    lufs: tuple[float, ...]  # for each of LENGTHS
    peak: float  # dBTP


@functools.cache
def catalogue_levels() -> dict[str, Level]:
    """By the name of a voice; those of espeak-ng are espeak_af, espeak_am, ... Reads a file of this package once."""
    lines = importlib.resources.files(__package__).joinpath("levels.tsv").read_text("utf-8").splitlines()
    rows = (line.split("\t") for line in lines if line and not line.startswith("#"))
    return {name: Level(tuple(map(float, lufs)), float(peak)) for name, *lufs, peak in rows}


def espeak_voice(lang: str, *, female: bool) -> str:
    """The name of its level: a language's letter and the gender."""
    return f"espeak_{lang}{'f' if female else 'm'}"


def common_gain(parts: Sequence[tuple[Level, float]], phonemes: int) -> float:
    """Factor on the samples of so many phonemes by a blend of these levels, with their weights; a voice is a blend of
    one."""
    lufs = sum(_interpolated(level.lufs, phonemes) * weight for level, weight in parts)
    peak = sum(level.peak * weight for level, weight in parts)
    decibels: float = min(COMMON_LUFS - lufs, HIGHEST_PEAK - peak)
    return float(10 ** (decibels / 20))


def _interpolated(lufs: tuple[float, ...], phonemes: int) -> float:
    phonemes = min(max(phonemes, LENGTHS[0]), LENGTHS[-1])
    at = next(at for at, length in enumerate(LENGTHS[1:]) if phonemes <= length)
    share = (phonemes - LENGTHS[at]) / (LENGTHS[at + 1] - LENGTHS[at])
    return lufs[at] + share * (lufs[at + 1] - lufs[at])
