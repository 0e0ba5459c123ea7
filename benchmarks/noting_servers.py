"""The real servers with a stub engine, for bench_interrupt.py; they note what arrives and what the device takes.

One program for both, like timed_servers.py. Times are those of time.monotonic(), which is one clock for all processes.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np

import model_server
import voice_server
from kokoro_common.sound.player import Player
from kokoro_common.sound.portaudio import PortAudioStream
from kokoro_common.voices.catalogue import VOICES
from kokoro_common.wire.messages import Cancel, Speak, Stop
from kokoro_common.wire.server import Inbox, Peer
from tests.helpers.recorder import Recorder, RecorderStream
from tests.helpers.stub_model_server import StubSynthesis

if TYPE_CHECKING:
    from collections.abc import Callable

    from kokoro_common.sound.player import Fill, OpenStream, Stream
    from kokoro_common.sound.samples import Sound
    from kokoro_common.synthesis.scheduler import Piece
    from kokoro_common.wire.messages import Ping

CARD = "BENCH_CARD"  # in the environment: play on the card that there is
FORWARD = "Forward."  # the text chunk that takes the engine FORWARD_SECONDS
FORWARD_SECONDS = 5.0
RECORDER_SPEED = 20.0  # a block of 10 ms each 0.5 ms: so fine are the figures
MOST_BLOCKS = 8192  # noted; some 4 s


class Notes:
    """What has happened since it was saved last. Any thread may add."""

    def __init__(self) -> None:
        self.arrivals: deque[tuple[float, str, str]] = deque(maxlen=4096)  # time, message type, utterance
        self.blocks: deque[tuple[float, bytes]] = deque(maxlen=MOST_BLOCKS)  # time, int16: handed to a device
        self.latency = 0.0  # seconds, of the device, by PortAudio

    def save(self, path: Path) -> None:
        arrivals = [self.arrivals.popleft() for _ in range(len(self.arrivals))]
        blocks = [self.blocks.popleft() for _ in range(len(self.blocks))]
        np.savez(
            path,
            arrivals=np.array([arrived for arrived, _, _ in arrivals], np.float64),
            messages=np.array([f"{kind} {utterance}" for _, kind, utterance in arrivals], str),
            times=np.repeat([handed for handed, _ in blocks], [len(block) // 2 for _, block in blocks])
            if blocks
            else np.empty(0),  # of each sample
            samples=np.frombuffer(b"".join(block for _, block in blocks), np.int16),
            latency=np.array(self.latency),
        )


class NotingInbox(Inbox):
    """Its `put` is the first thing that a reader thread does with a message that it has read off its socket."""

    def __init__(self, notes: Notes) -> None:
        super().__init__()
        self._notes = notes

    def put(self, delivery: Any) -> None:
        peer, message, _ = delivery
        if isinstance(message, Stop | Cancel | Speak) and peer is not None and peer.role == "client":
            utterance = getattr(message, "utterance", "")
            self._notes.arrivals.append((time.monotonic(), type(message).__name__, utterance))
        super().put(delivery)


class ForgetfulRecorder(Recorder):
    """Keeps the last run only: what it has heard must not count as the server's memory."""

    def __call__(self, fill: Fill, finished: Callable[[], None], device: str) -> RecorderStream:
        for heard in (self.streams, self.blocks, self.runs, self.spans):
            heard.clear()
        return super().__call__(fill, finished, device)


def noting(open_stream: OpenStream, notes: Notes) -> OpenStream:
    """The same device; each block is noted when it has been filled."""

    def open_and_note(fill: Fill, finished: Callable[[], None], device: str) -> Stream:
        def fill_and_note(block: memoryview, *circumstances: Any) -> None:
            fill(block, *circumstances)
            notes.blocks.append((time.monotonic(), bytes(block)))

        stream = open_stream(fill_and_note, finished, device)
        if isinstance(stream, PortAudioStream):
            notes.latency = stream._stream.latency
        return stream

    return open_and_note


class NotingVoiceServer(voice_server.VoiceServer):
    """Answers Ping when the notes lie in notes.npz beside the runtime directory."""

    def __init__(self, *arguments: Any) -> None:
        self._notes = Notes()
        super().__init__(*arguments)
        # Nobody has used them yet.
        self._inbox = self._board._inbox = self._link._inbox = NotingInbox(self._notes)
        self._speakers = self.make_speakers(needs_floor=True)

    def make_player(self) -> Player:
        if os.environ.get(CARD):
            return Player(noting(PortAudioStream, self._notes))
        return Player(noting(ForgetfulRecorder(speed=RECORDER_SPEED), self._notes))

    def handle_ping(self, peer: Peer, message: Ping) -> None:
        self._notes.save(Path(self._runtime.path).parent / "notes.npz")
        super().handle_ping(peer, message)


class WorkingSynthesis(StubSynthesis):
    """Like the stub at once, but for FORWARD: tells of its begin in the pipe `forward` and keeps all cores busy."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._pipe = Path(os.environ["KOKORO_RUNTIME_DIR"]).parent / "forward"  # where bench_interrupt made it

    def synthesize(self, batch: list[Piece]) -> list[Sound]:
        if batch[0].text == FORWARD:
            self._multiply(batch[0])
        return super().synthesize(batch)

    def _multiply(self, piece: Piece) -> None:
        """Unlike a real forward this one ends when its utterance does, so that the next round need not wait for it."""
        with self._pipe.open("wb", buffering=0) as pipe:
            pipe.write(b".")
        until = time.monotonic() + FORWARD_SECONDS
        matrix = np.ones((512, 512), np.float32)
        while time.monotonic() < until and (piece.owner, piece.utterance) in self._open:
            matrix @ matrix  # without the GIL, in as many threads as there are cores


class ModelServer(model_server.ModelServer):
    voice_program = __file__
    make_synthesis = WorkingSynthesis


if __name__ == "__main__":
    if sys.argv[-1] in VOICES:
        sys.exit(voice_server.main(server=NotingVoiceServer))
    sys.exit(model_server.main(server=ModelServer))
