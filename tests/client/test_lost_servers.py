"""Audio for the client when its voice server is lost in the middle: it goes on at the very sample, whatever is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import numpy as np
import pytest

from kokoro_common.client.client import Client
from kokoro_common.client.conversation import Audio
from kokoro_common.client.text_source import TextSource
from kokoro_common.settings import resolve
from kokoro_common.text.speech import Speech
from kokoro_common.wire.messages import ChunkSpoken, Finished, Route, Started
from tests.conftest import World
from tests.helpers.stub_engine import decode_samples
from tests.helpers.stub_model_server import FRAMES_PER_CHARACTER

pytestmark = pytest.mark.e2e

SENTENCE = "A sentence of fifty characters, as long as the others. "
SENTENCES = 12


def end_voice_server(world: World, how: int) -> None:
    """By its name, whatever process that is now."""
    (server,) = [each for each in world.servers() if "voice_server" in " ".join(each.cmdline())]
    server.send_signal(how)
    if how == signal.SIGKILL:
        server.wait(20)


def through_a_pipe(text: str) -> TextSource:
    reading, writing = os.pipe()
    os.write(writing, text.encode())
    os.close(writing)
    return TextSource(fd=reading)


@pytest.mark.parametrize("words", [True, False], ids=["with words", "without words"])
@pytest.mark.parametrize("piped", [True, False], ids=["pipe", "text"])
@pytest.mark.parametrize("losses", [(0,), (3, 9), (-1,)], ids=["at once", "twice", "at the end"])
def test_no_sample_is_lost_or_doubled(stub_world: World, words: bool, piped: bool, losses: tuple[int, ...]) -> None:
    """The stub engine's samples tell their place; each comes once, from as many utterances as it took servers."""
    text = SENTENCE * SENTENCES
    client = Client(resolve({}, stub_world.environment))

    def heard(lost_at: set[int]) -> Iterator[Audio | ChunkSpoken | Started | Finished]:
        source = through_a_pipe(text) if piped else TextSource(text)
        number = 0
        for event in client.speak(source, Speech(engine="espeak"), Route(sink="client", words=words)):
            if isinstance(event, Audio):
                if number in lost_at:
                    end_voice_server(stub_world, signal.SIGKILL)
                number += 1
            if isinstance(event, (Audio, ChunkSpoken, Started, Finished)):
                yield event

    whole = [event for event in heard(set()) if isinstance(event, Audio)]
    events = list(heard({loss % len(whole) for loss in losses}))
    audio = [event for event in events if isinstance(event, Audio)]
    runs = decode_samples(np.frombuffer(b"".join(each.pcm for each in audio), "<f4"))
    places = [(run.chunk, run.first_frame + frame) for run in runs for frame in range(0, run.frames, 600)]
    assert places[0] == (0, 0)
    assert sum(run.frames for run in runs) == sum(len(each.pcm) for each in whole) // 4
    assert places == sorted(set(places))
    for chunk in range(SENTENCES):
        frames = sum(run.frames for run in runs if run.chunk == chunk)
        assert frames == FRAMES_PER_CHARACTER * len(SENTENCE.strip())
    assert sum(isinstance(event, Started) for event in events) == 1
    assert [event.index for event in events if isinstance(event, ChunkSpoken)] == list(range(SENTENCES)) * words
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.seconds == pytest.approx(sum(len(each.pcm) for each in whole) / 96_000)
