"""The styles of voices and blends, kept ready. For the synthesis thread."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from kokoro_common.voices.catalogue import parse_voice
from kokoro_common.voices.pack import blend, style_row
from kokoro_common.voices.user_voices import own_voices

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kokoro_common.voices.pack import FloatArray

MAX_PACKS = 32  # voices and blends kept ready, half a megabyte each


class Styles:
    def __init__(self, packs: Mapping[str, FloatArray], config_dir: str) -> None:
        """`packs`: of the voices that are loaded, (510, 1, 256) each. `config_dir`: where the user's own voices are."""
        self._packs = packs
        self._config_dir = config_dir
        self.pack = functools.lru_cache(maxsize=MAX_PACKS)(self._blended)

    def row(self, voice: str, phonemes: int) -> FloatArray:
        """(1, 256): for so many phonemes, of a voice or a blend whose parts are all loaded."""
        return style_row(self.pack(voice), max(1, phonemes))

    def _blended(self, voice: str) -> FloatArray:
        """(510, 1, 256) for a canonical voice name."""
        parts = parse_voice(voice, own_voices(self._config_dir)).parts
        return blend([self._packs[name] for name, _ in parts], [weight for _, weight in parts])
