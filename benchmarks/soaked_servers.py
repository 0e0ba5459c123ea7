"""The real servers for soak.py: recorders that forget, an engine that costs nothing, and a leak, if one is asked for.

One program for both, like timed_servers.py. Of the neural way the stub leaves all but the forward: text goes through
the real G2P, and no two utterances get audio of the same length.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np

import model_server
import voice_server
from benchmarks.noting_servers import ForgetfulRecorder
from kokoro_common.sound.player import Player
from kokoro_common.sound.samples import Sound
from kokoro_common.synthesis.synthesis import Synthesis
from kokoro_common.voices.catalogue import VOICES

if TYPE_CHECKING:
    from kokoro_common.synthesis.scheduler import Piece
    from kokoro_common.wire.messages import Synthesize, UtteranceEnded
    from kokoro_common.wire.server import Peer

STUB = "SOAK_STUB"  # in the environment: no model, no forward
LEAK = "SOAK_LEAK"  # in the environment: bytes that the model server keeps of each request
TRIM_EVERY = 10  # utterances
RECORDER_SPEED = 100.0  # times faster than real
LENGTHS = 3001  # a prime, so that the multiples below come to all of them


class StubSynthesis(Synthesis):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._calls = itertools.count()

    def synthesize(self, batch: list[Piece]) -> list[Sound]:
        """25 ms to 2.5 s of audio, each length once in 3,001 calls."""
        frames = [600 + 20 * (next(self._calls) * 1709 % LENGTHS) for _ in batch]
        return [Sound(samples=np.zeros(count, np.float32)) for count in frames]


class StubEngine:
    batch_limit = 1
    path = "none"


class ModelServer(model_server.ModelServer):
    voice_program = __file__
    make_synthesis = StubSynthesis if os.environ.get(STUB) else Synthesis

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._leak = int(os.environ.get(LEAK, "0"))
        self._leaked: list[bytes] = []
        if os.environ.get(STUB):
            loader: Any = self._loader
            loader._wanted = True  # nothing is to be loaded
            loader.engine = StubEngine()
            loader.packs = dict.fromkeys(VOICES, np.zeros((510, 1, 256), np.float32))
            loader._set_state("ready")
        self._utterances = itertools.count(1)
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.environ.get(STUB) else None  # glibc's

    def handle_utterance_ended(self, peer: Peer, message: UtteranceEnded) -> None:
        """Memory that is free goes back to the system: a small leak would fill it for long before it could be seen."""
        super().handle_utterance_ended(peer, message)
        if self._trim is not None and next(self._utterances) % TRIM_EVERY == 0:
            self._trim(0)

    def handle_synthesize(self, peer: Peer, message: Synthesize) -> None:
        if self._leak:
            self._leaked.append(os.urandom(self._leak))
        super().handle_synthesize(peer, message)


class VoiceServer(voice_server.VoiceServer):
    def make_player(self) -> Player:
        return Player(ForgetfulRecorder(speed=RECORDER_SPEED))


if __name__ == "__main__":
    if sys.argv[-1] in VOICES:
        sys.exit(voice_server.main(server=VoiceServer))
    sys.exit(model_server.main(server=ModelServer))
