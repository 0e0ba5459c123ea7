"""The real model server with a stub engine, and voice servers with a recorder instead of a sound card.

A test may stop it (stage.py) at: M1 spawned, M2 lock held, M3 port bound, M4 record written, M5 downloading,
M6 loading, M8 request queued, M9 in the engine, M10 half of some audio written, M11 told to drain.
"""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

import model_server
from kokoro_common.daemon import life
from kokoro_common.engine.tuning import Choice
from kokoro_common.phonemes.spoken import Spoken
from kokoro_common.sound.samples import Sound
from kokoro_common.synthesis import loader
from kokoro_common.synthesis.scheduler import Scheduler
from kokoro_common.synthesis.synthesis import Synthesis
from kokoro_common.text.speech import TimedWord
from kokoro_common.wire.connection import Connection
from kokoro_common.wire.server import Switchboard
from tests.helpers.stage import reached
from tests.helpers.stub_engine import encode_samples

if TYPE_CHECKING:
    from kokoro_common.synthesis.scheduler import Piece
    from kokoro_common.text.speech import ChunkRequest

FRAMES_PER_CHARACTER = 1_200  # 50 ms
REAL_TIME_FACTOR = float(os.environ.get("STUB_RTF", "0"))  # seconds of work for a second of audio
AUDIO_BYTES = 1 << 14  # a frame of the protocol that is longer carries audio


class StubSynthesis(Synthesis):
    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)  # type: ignore[arg-type]
        self._scheduler = StagedScheduler()

    def synthesize(self, batch: list[Piece]) -> list[Sound]:
        sounds = []
        for piece in batch:
            frames = len(piece.text) * FRAMES_PER_CHARACTER
            time.sleep(REAL_TIME_FACTOR * frames / 24_000)  # the work
            reached("M9")
            words = tuple(
                TimedWord(
                    start=word.start(),
                    end=word.end(),
                    first_frame=FRAMES_PER_CHARACTER * word.start(),
                    last_frame=FRAMES_PER_CHARACTER * word.end(),
                )
                for word in re.finditer(r"\w+", piece.text)
            )
            samples = encode_samples(piece.utterance, piece.request.index, frames)
            sounds.append(Sound(samples=samples, words=words))
        return sounds

    def _build(self, lang: str) -> None:
        pass

    def _phonemes(self, request: ChunkRequest) -> list[Spoken]:
        return [Spoken(phonemes=request.text, words=())]


class StubModelServer(model_server.ModelServer):
    voice_program = str(Path(__file__).parent / "recorder_voice_server.py")
    make_synthesis = StubSynthesis

    def _begin_leaving(self, drain: float = 0.0) -> None:
        super()._begin_leaving(drain)
        reached("M11")


class StubKokoro:
    """Takes the place of the engine that the loader makes of the downloaded files; the stub synthesis never asks it."""

    batch_limit = 1
    path = "the stub"

    def __init__(self) -> None:
        reached("M6")


class StagedScheduler(Scheduler):
    def add(self, piece: Piece) -> None:
        with self._changed:  # the synthesis thread cannot take it yet
            super().add(piece)
            reached("M8")


class StagedLife(life.Life):
    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        reached("M2")

    def _tell(self, report: dict[str, object]) -> None:
        reached("M4")
        super()._tell(report)


class StagedSwitchboard(Switchboard):
    def start(self, token: bytes, inherited: int | None = None) -> None:
        super().start(token, inherited)
        reached("M3")


class StagedLoader(loader.Loader):
    def _show_download(self, file: str, done: int, total: int) -> None:
        super()._show_download(file, done, total)
        if done > 0:
            reached("M5")


def send_frame(connection: Connection, frame: bytes) -> None:
    if len(frame) > AUDIO_BYTES:
        send_whole(connection, frame[: len(frame) // 2])
        reached("M10")
        frame = frame[len(frame) // 2 :]
    send_whole(connection, frame)


if __name__ == "__main__":
    reached("M1")
    life.Life = StagedLife  # type: ignore[misc]
    model_server.Switchboard = StagedSwitchboard  # type: ignore[misc]
    model_server.Loader = StagedLoader  # type: ignore[misc]
    loader.make_engine = lambda *_, **__: (StubKokoro(), Choice(precision="fp32", reason="the stub"))  # type: ignore
    loader.choose_device = lambda _: ("cpu", "the stub")  # type: ignore[assignment]
    loader.read_voice_pack = lambda _: None  # type: ignore[assignment]
    loader.import_torch = lambda: None
    if "STAGES" in os.environ:
        send_whole, Connection.send_frame = Connection.send_frame, send_frame  # type: ignore[method-assign]
    sys.exit(model_server.main(server=StubModelServer))
