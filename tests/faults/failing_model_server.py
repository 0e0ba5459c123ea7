"""The stub model server, whose rooms fail on request with the spoken text in the exception."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

import model_server
from tests.helpers.stub_model_server import StubModelServer, StubSynthesis

if TYPE_CHECKING:
    from kokoro_common.sound.samples import Sound
    from kokoro_common.synthesis.scheduler import Piece
    from kokoro_common.wire.messages import Synthesize
    from kokoro_common.wire.server import Peer


class FailingSynthesis(StubSynthesis):
    def request(self, peer: Peer, message: Synthesize) -> None:
        if "fails in the handler" in message.request.text:
            raise RuntimeError(message.request.text)
        super().request(peer, message)

    def synthesize(self, batch: list[Piece]) -> list[Sound]:
        for piece in batch:
            if "fails in the engine" in piece.text:
                try:
                    raise LookupError(piece.text)
                except LookupError as error:
                    raise RuntimeError(f"cannot speak {piece.text!r}") from error
        return super().synthesize(batch)

    def _deliver(self, piece: Piece, sound: Sound, queued: float, took: float) -> None:
        if "ends the thread" in piece.text:
            raise RuntimeError(piece.text)
        super()._deliver(piece, sound, queued, took)


class FailingModelServer(StubModelServer):
    voice_program = str(Path(__file__).parent / "failing_voice_server.py")
    make_synthesis = FailingSynthesis


if __name__ == "__main__":
    sys.exit(model_server.main(server=FailingModelServer))
