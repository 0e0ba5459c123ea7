"""The real voice server with a recorder as its sound device.

What its devices took is appended to taken-VOICE.raw (int16) block by block, so that it is there whatever becomes of the
server; what was heard is saved when the server ends. $STUB_WRITE_SECONDS is how long a write to a peer may take.

A test may stop it (stage.py) at: V1 spawned, V2 connected, V3 registered, V4 sound device open, V5 the device has
taken a block of speech, V6 silenced and about to close the books of the interrupted, V7 record withdrawn.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

import numpy as np

import voice_server
from kokoro_common.daemon import life, model_server
from kokoro_common.sound.player import Player
from kokoro_common.speaking import turns
from kokoro_common.speaking.turn import Turn
from kokoro_common.wire import connection
from tests.helpers.recorder import Recorder, RecorderStream
from tests.helpers.stage import reached

model_server.MODEL_PROGRAM = str(Path(__file__).parent / "stub_model_server.py")


class StagedRecorder(Recorder):
    def __init__(self, record: Path) -> None:
        super().__init__(speed=20.0)
        self._file = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def __call__(self, *arguments: object) -> RecorderStream:
        stream = super().__call__(*arguments)  # type: ignore[arg-type]
        reached("V4")
        return stream

    def take(self, due: float, block: bytes) -> None:
        super().take(due, block)
        os.write(self._file, block)
        if any(block):
            reached("V5")


class RecordedVoiceServer(voice_server.VoiceServer):
    def __init__(self, *arguments: object) -> None:
        reached("V2")
        self.recorders: list[Recorder] = []
        super().__init__(*arguments)  # type: ignore[arg-type]

    def make_player(self) -> Player:
        folder = Path(self._runtime.path).parent
        self.recorders.append(StagedRecorder(folder / f"taken-{self.voice}.raw"))
        return Player(self.recorders[-1])

    def _register(self) -> None:
        super()._register()
        model = self._link.peer
        while model is not None and model.unsent and not model.ended.wait(0.001):
            pass  # it is written by another thread
        reached("V3")

    def run(self) -> None:
        super().run()
        runs = [run for recorder in self.recorders for run in recorder.heard()]
        spans = [span for recorder in self.recorders for span in recorder.spans]
        folder = Path(self._runtime.path).parent
        np.save(folder / f"heard-{self.voice}.npy", np.concatenate(runs) if runs else np.zeros(0))
        np.save(folder / f"spans-{self.voice}.npy", np.array(spans))


class StagedTurn(Turn):
    def cancel(self) -> None:
        reached("V6")
        super().cancel()


class StagedLife(life.Life):
    def leave(self) -> None:
        super().leave()
        reached("V7")


if __name__ == "__main__":
    reached("V1")
    turns.Turn = StagedTurn  # type: ignore[misc]
    connection.WRITE_SECONDS = float(os.environ.get("STUB_WRITE_SECONDS", connection.WRITE_SECONDS))
    life.Life = StagedLife  # type: ignore[misc]
    sys.exit(voice_server.main(server=RecordedVoiceServer))
