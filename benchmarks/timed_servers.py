"""The real servers, with a recorder for a sound card and marks of time in the voice server's log.

One program for both: bench_first_audio.py starts it as the model server, and that starts it, with a voice, as a voice
server. A mark is a log entry with `monotonic`, in seconds of time.monotonic(), which is one clock for all processes.
"""

from __future__ import annotations

import itertools
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np

import model_server
import voice_server
from kokoro_common.sound.edges import HEARD, first_above
from kokoro_common.sound.player import Player
from kokoro_common.sound.samples import SAMPLE_RATE
from kokoro_common.voices.catalogue import VOICES
from tests.helpers.recorder import Recorder, RecorderStream

if TYPE_CHECKING:
    from kokoro_common.sound.player import Fill
    from kokoro_common.wire.messages import AudioChunk, Speak, Synthesized
    from kokoro_common.wire.server import Peer


_numbers = itertools.count()


def mark(event: str, **values: float) -> None:
    """With a number behind it: of equal entries the log would leave some out."""
    event = f"{event} {next(_numbers)}"
    logging.getLogger("kokoro.benchmark").info(event, extra={"monotonic": time.monotonic(), **values})


class MarkingRecorder(Recorder):
    """Marks the first block that the device takes: a stream is started with samples at hand, so it holds sound."""

    def __call__(self, fill: Fill, finished: Callable[[], None], device: str) -> RecorderStream:
        taken = False

        def fill_and_mark(block: memoryview, *circumstances: Any) -> None:
            nonlocal taken
            fill(block, *circumstances)
            if not taken:
                taken = True
                mark("first block")

        return super().__call__(fill_and_mark, finished, device)


class MarkingVoiceServer(voice_server.VoiceServer):
    def make_player(self) -> Player:
        return Player(open_stream=MarkingRecorder(speed=20.0))

    def handle_speak(self, peer: Peer, message: Speak) -> None:
        mark("speak arrived")
        super().handle_speak(peer, message)

    def _add_audio(self, message: AudioChunk, payload: bytes) -> None:
        first = first_above(np.frombuffer(payload, np.float32), HEARD)
        mark("audio arrived", lead=(first or 0) / SAMPLE_RATE)
        super()._add_audio(message, payload)

    def handle_synthesized(self, peer: Peer, message: Synthesized) -> None:
        mark("synthesized", g2p=message.g2p, queue=message.queue, model=message.model)
        super().handle_synthesized(peer, message)


class ModelServer(model_server.ModelServer):
    voice_program = __file__


if __name__ == "__main__":
    if sys.argv[-1] in VOICES:
        sys.exit(voice_server.main(server=MarkingVoiceServer))
    sys.exit(model_server.main(server=ModelServer))
