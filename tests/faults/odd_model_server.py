"""The stub model server whose engine does as STUB_ODD says at its first piece: waits for ever, or works for 6 s."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

import model_server
from tests.helpers.stub_model_server import StubModelServer, StubSynthesis

if TYPE_CHECKING:
    from kokoro_common.sound.samples import Sound
    from kokoro_common.synthesis.scheduler import Piece

WORK_SECONDS = 6.0


class OddSynthesis(StubSynthesis):
    def synthesize(self, batch: list[Piece]) -> list[Sound]:
        if not self.chunks_done:
            if os.environ["STUB_ODD"] == "waits":
                threading.Event().wait()
            began = time.monotonic()
            while time.monotonic() - began < WORK_SECONDS:
                sum(range(100_000))
        return super().synthesize(batch)


class OddModelServer(StubModelServer):
    make_synthesis = OddSynthesis


if __name__ == "__main__":
    sys.exit(model_server.main(server=OddModelServer))
