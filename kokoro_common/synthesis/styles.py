"""The styles and levels of voices and blends, kept ready. For any thread."""

from __future__ import annotations

import functools
import hashlib
from typing import TYPE_CHECKING

from kokoro_common.voices.catalogue import parse_voice
from kokoro_common.voices.levels import catalogue_levels, espeak_voice
from kokoro_common.voices.pack import blend, style_row
from kokoro_common.voices.user_voices import own_level, own_voices

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kokoro_common.text.speech import Speech
    from kokoro_common.voices.levels import Level
    from kokoro_common.voices.pack import FloatArray

    Levels = tuple[tuple[Level, float], ...]  # with the weights of the parts

MAX_PACKS = 32  # voices and blends kept ready, half a megabyte each


class Styles:
    def __init__(self, packs: Mapping[str, FloatArray], config_dir: str) -> None:
        """`packs`: of the voices that are loaded, (510, 1, 256) each. `config_dir`: where the user's own voices are."""
        self._packs = packs
        self._config_dir = config_dir
        self.pack = functools.lru_cache(maxsize=MAX_PACKS)(self._blended)
        self.digest = functools.lru_cache(maxsize=MAX_PACKS)(self._hashed)
        self.levels = functools.lru_cache(maxsize=MAX_PACKS)(self._levels)

    def row(self, voice: str, phonemes: int) -> FloatArray:
        """(1, 256): for so many phonemes, of a voice or a blend whose parts are all loaded."""
        return style_row(self.pack(voice), max(1, phonemes))

    def espeak_levels(self, speech: Speech) -> Levels:
        """Those of the embedded default that speaks for this voice."""
        name = espeak_voice(speech.lang, female=speech.voice[1] == "f")
        return ((catalogue_levels()[name], 1.0),)

    def _blended(self, voice: str) -> FloatArray:
        """(510, 1, 256) for a canonical voice name."""
        parts = self._parts(voice)
        return blend([self._packs[name] for name, _ in parts], [weight for _, weight in parts])

    def _hashed(self, voice: str) -> str:
        """SHA-256 of a blended pack, hexadecimal. Half a millisecond."""
        return hashlib.sha256(self.pack(voice).tobytes()).hexdigest()

    def _levels(self, voice: str) -> Levels:
        """Of a canonical voice name's parts; empty where one is a pack whose level was never measured."""
        levels = [(self._level(name), weight) for name, weight in self._parts(voice)]
        known = tuple((level, weight) for level, weight in levels if level is not None)
        return known if len(known) == len(levels) else ()

    def _level(self, name: str) -> Level | None:
        return catalogue_levels().get(name) or own_level(self._config_dir, name)

    def _parts(self, voice: str) -> tuple[tuple[str, float], ...]:
        return parse_voice(voice, own_voices(self._config_dir)).parts
