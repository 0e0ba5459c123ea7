"""The stub model server on a graphics card that fails at its second phrase, as the driver says it: for good."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

import numpy as np

import model_server
from kokoro_common.engine.device import DeviceLost
from kokoro_common.synthesis import loader
from kokoro_common.synthesis.loader import Loader, VoiceLoaded
from tests.helpers.stub_model_server import StubModelServer, StubSynthesis

if TYPE_CHECKING:
    from kokoro_common.sound.samples import Sound
    from kokoro_common.synthesis.scheduler import Piece


class CardLoader(Loader):
    def _load_model(self, voice: str) -> None:
        self.device, self.device_reason = self._choose_device()
        self._set_state("ready")

    def _load_voice(self, name: str) -> None:
        self.packs[name] = np.zeros((510, 1, 256), np.float32)
        self._report(VoiceLoaded(voice=name))


class LosingSynthesis(StubSynthesis):
    calls = itertools.count(1)

    def synthesize(self, batch: list[Piece]) -> list[Sound]:
        if self._loader.device == "cuda" and next(self.calls) > 1:
            raise DeviceLost("cuda has failed: RuntimeError: CUDA error: unspecified launch failure")
        return super().synthesize(batch)


class LosingModelServer(StubModelServer):
    make_synthesis = LosingSynthesis


if __name__ == "__main__":
    model_server.Loader = CardLoader  # type: ignore[misc]
    loader.choose_device = lambda _: ("cuda", "a trial runs on it")  # type: ignore[assignment]
    model_server.device_problem = lambda _: ""  # there is a driver
    sys.exit(model_server.main(server=LosingModelServer))
