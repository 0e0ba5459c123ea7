"""What programs that rest cost the voice server, and whether they lose anything. Run from the repository root:

    python -m benchmarks.resting_consumers [--consumers N] [--rest SECONDS] [--audio SECONDS]

Each of the consumers, all in this process and without threads, takes the first audio of its utterance and rests. Then
each takes the rest of it, and the samples are counted. The engine is the stub, so memory is that of the servers alone.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import psutil

from benchmarks.measure import new_world, print_machine, start_model_server
from kokoro_common.client.client import Client
from kokoro_common.client.conversation import Audio, UtteranceEvents
from kokoro_common.client.text_source import TextSource
from kokoro_common.settings import Settings
from kokoro_common.text.speech import Speech
from kokoro_common.wire.messages import Finished, Route
from tests.helpers import stub_model_server

SENTENCE = "A sentence of the resting consumers' benchmark is this. "  # 55 characters, 2.75 s at the stub's 50 ms each
SENTENCE_SECONDS = 2.75
FRAME_BYTES = 4
SAMPLE_RATE = 24_000  # Hz


def first_audio(utterance: UtteranceEvents) -> int:
    """Bytes of the first Audio event."""
    return next(len(event.pcm) for event in utterance if isinstance(event, Audio))


def rest_of(utterance: UtteranceEvents) -> tuple[int, float]:
    """Bytes of all other audio, and the seconds that the server counted in all."""
    taken = 0
    for event in utterance:
        if isinstance(event, Audio):
            taken += len(event.pcm)
    assert isinstance(event, Finished)
    return taken, event.seconds


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--consumers", type=int, default=300)
    parser.add_argument("--rest", type=float, default=60.0, help="seconds")
    parser.add_argument("--audio", type=float, default=60.0, help="seconds of audio of each utterance")
    options = parser.parse_args()
    print_machine()
    text = SENTENCE * round(options.audio / SENTENCE_SECONDS)
    lost = 0
    with new_world() as world:
        start_model_server(world, Path(stub_model_server.__file__))
        client = Client(Settings(runtime_dir=str(world.runtime)))
        speech, route = Speech(engine="espeak"), Route(sink="client")
        client.speak(TextSource(SENTENCE), speech, route).finish()
        voice = psutil.Process(client.status().voice_servers[0].pid)

        def tell(when: str) -> None:
            print(f"{when:<24}{voice.memory_info().rss / 1e6:8.1f} MB in the voice server", flush=True)

        tell("before")
        utterances = [client.speak(TextSource(text), speech, route) for _ in range(options.consumers)]
        taken = [first_audio(utterance) for utterance in utterances]
        tell("all have begun")
        time.sleep(options.rest)
        tell(f"rested {options.rest:.0f} s")
        began = time.monotonic()
        for utterance, first in zip(utterances, taken, strict=True):
            others, seconds = rest_of(utterance)
            lost += first + others != round(seconds * SAMPLE_RATE) * FRAME_BYTES
        tell("all have ended")
        heard = options.consumers * options.audio
        print(f"{lost} of {options.consumers} lost samples; {heard:.0f} s of audio in {time.monotonic() - began:.1f} s")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
