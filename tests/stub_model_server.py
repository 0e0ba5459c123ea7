"""The real model server with a stub engine, and voice servers with a recorder instead of a sound card."""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent.parent))

import model_server
from kokoro_common.synthesis import Sound, Synthesis
from tests.stub_engine import encode_samples

if TYPE_CHECKING:
    from kokoro_common.scheduler import Piece

FRAMES_PER_CHARACTER = 1_200  # 50 ms
REAL_TIME_FACTOR = float(os.environ.get("STUB_RTF", "0"))  # seconds of work for a second of audio


class StubSynthesis(Synthesis):
    def synthesize(self, batch: list[Piece]) -> list[Sound]:
        sounds = []
        for piece in batch:
            frames = len(piece.text) * FRAMES_PER_CHARACTER
            time.sleep(REAL_TIME_FACTOR * frames / 24_000)  # the work
            words = [[word.start(), word.end(), *(FRAMES_PER_CHARACTER * place for place in word.span())]
                     for word in re.finditer(r"\w+", piece.text)]  # fmt: skip
            sounds.append(Sound(samples=encode_samples(piece.utterance, piece.index, frames), words=words))
        return sounds


class StubModelServer(model_server.ModelServer):
    voice_program = str(Path(__file__).parent / "recorder_voice_server.py")
    make_synthesis = StubSynthesis


if __name__ == "__main__":
    sys.exit(model_server.main(server=StubModelServer))
