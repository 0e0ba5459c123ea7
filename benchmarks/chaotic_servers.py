"""The real servers for chaos.py: espeak-ng as it is, a stub for the neural engine, recorders that tell what they heard.

One program for both, like soaked_servers.py. The stub's samples say which utterance and which place they belong to;
what a recorder has heard is appended to heard-VOICE.jsonl beside the runtime directory, when the next one begins.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np

import model_server
import voice_server
from kokoro_common.daemon import model_server as daemon
from kokoro_common.phonemes.spoken import Spoken
from kokoro_common.sound.player import Player
from kokoro_common.sound.samples import Sound
from kokoro_common.synthesis.synthesis import Synthesis
from kokoro_common.voices.catalogue import VOICES
from tests.helpers.recorder import Recorder, RecorderStream
from tests.helpers.stub_engine import decode_samples, encode_samples

if TYPE_CHECKING:
    from kokoro_common.synthesis.scheduler import Piece
    from kokoro_common.text.speech import ChunkRequest

FRAMES_PER_CHARACTER = 600  # 25 ms
REAL_TIME_FACTOR = 0.01  # seconds of work for a second of audio
BEGIN = 4_000  # samples that tell whether a run is the stub's: to look through espeak-ng's for seconds would be a hang
RECORDER_SPEED = 50.0  # times faster than real

daemon.MODEL_PROGRAM = __file__


class StubSynthesis(Synthesis):
    """Of the neural way it leaves all but G2P and the forward; espeak-ng is the real one, in its worker."""

    def synthesize(self, batch: list[Piece]) -> list[Sound]:
        if batch[0].engine == "espeak":
            return super().synthesize(batch)
        sounds = []
        for piece in batch:
            frames = len(piece.text) * FRAMES_PER_CHARACTER
            time.sleep(REAL_TIME_FACTOR * frames / 24_000)  # the work
            sounds.append(Sound(samples=encode_samples(piece.utterance, piece.request.index, frames)))
        return sounds

    def _build(self, lang: str) -> None:
        pass

    def _phonemes(self, request: ChunkRequest) -> list[Spoken]:
        return [Spoken(phonemes=request.text, words=())]


class StubEngine:
    batch_limit = 1
    path = "the stub"


class ModelServer(model_server.ModelServer):
    voice_program = __file__
    make_synthesis = StubSynthesis

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        loader: Any = self._loader
        loader._wanted = True  # nothing is to be loaded
        loader.engine = StubEngine()
        loader.packs = dict.fromkeys(VOICES, np.zeros((510, 1, 256), np.float32))
        loader._set_state("ready")


class TellingRecorder(Recorder):
    """Keeps the last run only, once it has been told."""

    def __init__(self, told: Path) -> None:
        super().__init__(speed=RECORDER_SPEED)
        self._told = told

    def __call__(self, *arguments: Any) -> RecorderStream:
        self.tell()
        return super().__call__(*arguments)

    def tell(self) -> None:
        with self._told.open("a") as file:
            for heard in self.heard():
                if any(run.chunk >= 0 for run in decode_samples(heard[:BEGIN])):
                    runs = [run for run in decode_samples(heard) if run.chunk >= 0]
                    file.writelines(json.dumps(list(run)) + "\n" for run in runs)
        for past in (self.runs, self.blocks, self.streams, self.spans):
            past.clear()


class VoiceServer(voice_server.VoiceServer):
    def __init__(self, *arguments: Any) -> None:
        self._recorders: list[TellingRecorder] = []
        super().__init__(*arguments)

    def make_player(self) -> Player:
        self._recorders.append(TellingRecorder(Path(self._runtime.path).parent / f"heard-{self.voice}.jsonl"))
        return Player(self._recorders[-1])

    def run(self) -> None:
        super().run()
        for recorder in self._recorders:
            recorder.tell()


if __name__ == "__main__":
    if sys.argv[-1] in VOICES:
        sys.exit(voice_server.main(server=VoiceServer))
    sys.exit(model_server.main(server=ModelServer))
