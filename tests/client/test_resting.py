"""Programs that rest between two events, on the stub servers: nothing is lost, whatever the server may wait for."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from kokoro_common.client import conversation
from kokoro_common.client.client import Client
from kokoro_common.client.conversation import Audio
from kokoro_common.client.text_source import TextSource
from kokoro_common.errors import UnknownVoice, UsageError, UtteranceCancelled
from kokoro_common.settings import resolve
from kokoro_common.text.speech import Speech
from kokoro_common.wire.messages import Accepted, ChunkSpoken, Finished, Route, Started
from tests.conftest import World
from tests.helpers.stub_engine import decode_samples

pytestmark = pytest.mark.e2e

WRITE_SECONDS = 1.0  # of the voice server in these tests; 10 otherwise
REST_SECONDS = 2.5 * WRITE_SECONDS
SENTENCE = "A sentence of fifty characters, as long as the others. "
TO_CLIENT = Route(sink="client")
STUB = Speech(engine="espeak")


@pytest.fixture
def hasty_world(world: World) -> World:
    """A world whose voice servers drop a peer that lets one write wait for WRITE_SECONDS."""
    world.environment["STUB_WRITE_SECONDS"] = str(WRITE_SECONDS)
    world.start_stub_server()
    return world


def client_of(world: World) -> Client:
    return Client(resolve({}, world.environment))


def heard(world: World, sentences: int, rest_at: int | None) -> list[bytes]:
    """The audio of so many sentences, event by event; at one of them, counted from 0, the program rests."""
    audio: list[bytes] = []
    for event in client_of(world).speak(TextSource(SENTENCE * sentences), STUB, TO_CLIENT):
        if isinstance(event, Audio):
            if len(audio) == rest_at:
                time.sleep(REST_SECONDS)
            audio.append(event.pcm)
    assert isinstance(event, Finished)
    assert sum(map(len, audio)) == 4 * 24_000 * event.seconds
    return audio


def runs(audio: list[bytes]) -> list[tuple[int, int]]:
    return [(run.chunk, run.frames) for run in decode_samples(np.frombuffer(b"".join(audio), "<f4"))]


@pytest.mark.parametrize("rest_at", [0, 3, -1])
def test_a_program_that_rests_hears_every_sample(hasty_world: World, rest_at: int) -> None:
    whole = heard(hasty_world, 12, None)
    assert len(whole) > 4
    assert runs(heard(hasty_world, 12, rest_at % len(whole))) == runs(whole)


@pytest.mark.parametrize("window", [conversation.AUDIO_WINDOW, 64 << 20])
def test_without_the_window_the_connection_would_be_lost(
    hasty_world: World, monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    """The guard of the test above: so much at once does not fit into the kernel's buffers. (It goes on on another.)"""
    monkeypatch.setattr(conversation, "AUDIO_WINDOW", window)
    connections, rested = 0, False
    for event in client_of(hasty_world).speak(TextSource(SENTENCE * 200), STUB, TO_CLIENT):
        connections += isinstance(event, Accepted)
        if isinstance(event, Audio) and not rested:
            rested = True
            time.sleep(REST_SECONDS)
    assert (connections > 1) == (window > 1 << 20)


def test_leaving_the_loop_cancels(stub_world: World) -> None:
    client = client_of(stub_world)
    for event in client.speak(TextSource(SENTENCE * 400), STUB, TO_CLIENT):
        if isinstance(event, Audio):
            break
    for _ in range(200):
        if stub_world.status()["model_server"]["ledger"]["cancelled"] == 1:
            break
    assert stub_world.status()["model_server"]["ledger"] == {
        "accepted": 1,
        "finished": 0,
        "cancelled": 1,
        "failed": 0,
        "in_flight": 0,
    }


def test_another_thread_cancels_speech(stub_world: World) -> None:
    utterance = client_of(stub_world).speak(TextSource(SENTENCE * 400), STUB, Route())
    with pytest.raises(UtteranceCancelled):
        for event in utterance:
            if isinstance(event, Started):
                threading.Thread(target=utterance.cancel).start()


def test_any_server_speaks_any_voice_to_the_client(stub_world: World) -> None:
    speech = STUB.replace(voice="am_adam")
    events = list(
        client_of(stub_world).speak(TextSource(SENTENCE), speech, TO_CLIENT.replace(words=True), server="af_heart")
    )
    assert any(isinstance(event, ChunkSpoken) for event in events)
    assert [each["voice"] for each in stub_world.status()["voice_servers"]] == ["af_heart"]


def test_values_that_exclude_each_other_are_refused_at_once(world: World) -> None:
    client = client_of(world)
    with pytest.raises(UsageError, match="has to be waited for"):
        client.speak(TextSource("x"), STUB, Route(sink="client", wait=False))
    with pytest.raises(UsageError, match="any server"):
        client.speak(TextSource("x"), STUB, Route(), server="af_heart")
    with pytest.raises(UnknownVoice):
        client.speak(TextSource("x"), STUB.replace(voice="af_nobody"), TO_CLIENT)
    assert not world.runtime.exists() or not list(world.runtime.glob("*.json"))
