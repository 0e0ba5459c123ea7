"""The real model server with its real G2P, a model that is there at once, and an engine whose samples are phonemes.

What a client hears, `heard_phonemes` reads: one sample is one phoneme. Where sys.executable is to be another program
for espeak's processes, FRAGILE_ESPEAK names it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

import numpy as np

import model_server
from kokoro_common.sound.samples import Sound
from kokoro_common.synthesis.loader import Loader, VoiceLoaded
from kokoro_common.synthesis.synthesis import Synthesis

if TYPE_CHECKING:
    from kokoro_common.synthesis.scheduler import Piece

SCALE = 1 << 21  # a code point is less, and float32 has 24 bits


def heard_phonemes(audio: bytes) -> str:
    return "".join(map(chr, np.rint(np.frombuffer(audio, "<f4") * SCALE).astype(int)))


class ReadyLoader(Loader):
    def _load_model(self, voice: str) -> None:
        self._set_state("ready")

    def _load_voice(self, name: str) -> None:
        self.packs[name] = np.zeros((510, 1, 256), np.float32)
        self._report(VoiceLoaded(voice=name))


class PhonemeSynthesis(Synthesis):
    def synthesize(self, batch: list[Piece]) -> list[Sound]:
        if batch[0].engine == "espeak":
            return super().synthesize(batch)
        spoken = [np.array([ord(phoneme) for phoneme in piece.text], np.float32) for piece in batch]
        return [Sound(samples=samples / np.float32(SCALE)) for samples in spoken]


class G2PModelServer(model_server.ModelServer):
    make_synthesis = PhonemeSynthesis


if __name__ == "__main__":
    sys.executable = os.environ.get("FRAGILE_ESPEAK", sys.executable)
    model_server.Loader = ReadyLoader  # type: ignore[misc]
    sys.exit(model_server.main(server=G2PModelServer))
