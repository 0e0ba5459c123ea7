"""The real voice server with a recorder as its sound device; what was heard is saved when the server ends."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np

import voice_server
from kokoro_common.playback import Player
from tests.recorder import Recorder

RECORDER = Recorder(speed=20.0)


class RecordedVoiceServer(voice_server.VoiceServer):
    def make_player(self) -> Player:
        return Player(open_stream=RECORDER)

    def run(self) -> None:
        super().run()
        runs = RECORDER.heard()
        np.save(
            Path(self._runtime.path).parent / f"heard-{self.voice}.npy", np.concatenate(runs) if runs else np.zeros(0)
        )


if __name__ == "__main__":
    sys.exit(voice_server.main(server=RecordedVoiceServer))
