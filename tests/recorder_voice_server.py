"""The real voice server with a recorder as its sound device; what was heard is saved when the server ends."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np

import voice_server
from kokoro_common import client
from kokoro_common.playback import Player
from tests.recorder import Recorder

client.MODEL_PROGRAM = str(Path(__file__).parent / "stub_model_server.py")


class RecordedVoiceServer(voice_server.VoiceServer):
    recorders: list[Recorder]

    def make_player(self) -> Player:
        self.recorders = [*getattr(self, "recorders", []), Recorder(speed=20.0)]
        return Player(self.recorders[-1])

    def run(self) -> None:
        super().run()
        runs = [run for recorder in self.recorders for run in recorder.heard()]
        spans = [span for recorder in self.recorders for span in recorder.spans]
        folder = Path(self._runtime.path).parent
        np.save(folder / f"heard-{self.voice}.npy", np.concatenate(runs) if runs else np.zeros(0))
        np.save(folder / f"spans-{self.voice}.npy", np.array(spans))


if __name__ == "__main__":
    sys.exit(voice_server.main(server=RecordedVoiceServer))
