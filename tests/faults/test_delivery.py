"""A server that has nothing left to do does not end while somebody has yet to take what it was sent."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable

import pytest

from kokoro_common.daemon.runtime_directory import RuntimeDirectory
from kokoro_common.text.speech import Speech
from kokoro_common.wire import connection as connections
from kokoro_common.wire.connection import Connection, ConnectionLost, call
from kokoro_common.wire.messages import (
    AudioChunk,
    Credit,
    EndOfText,
    Finished,
    Ping,
    Route,
    Speak,
    Status,
    StatusRequest,
    TextPart,
)
from tests.conftest import World
from tests.faults.conftest import Shown, times

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

IDLE_SECONDS = 2.0
SENTENCE = "A sentence of fifty characters, as long as others. "
SENTENCES = 12  # 3 MB of audio: far more than the buffers on its way hold
STATUSES = 3_000  # also


def caller_of(world: World, name: str) -> Connection:
    port = json.loads((world.runtime / f"{name}.json").read_text())["port"]
    return call(port, RuntimeDirectory(str(world.runtime)).token(), "client")


def spoken_to(world: World) -> Connection:
    """A client that has given credit for all of its audio, and has read nothing of it when the utterance has ended."""
    before = world.status()["model_server"]["ledger"]["finished"]
    connection = caller_of(world, "voice-af_heart")
    utterance = os.urandom(16).hex()
    speech = Speech(voice="af_heart", lang="a", engine="espeak")
    connection.send(Speak(utterance=utterance, speech=speech, route=Route(sink="client")))
    connection.send(Credit(utterance=utterance, bytes=1 << 24))
    connection.send(TextPart(utterance=utterance, text=SENTENCE * SENTENCES))
    connection.send(EndOfText(utterance=utterance))
    for _ in range(100):
        if world.status()["model_server"]["ledger"]["finished"] > before:
            break
    return connection


def took_all_audio(connection: Connection) -> bool:
    frames = 0
    while True:
        message, payload = connection.receive(20)
        if isinstance(message, AudioChunk):
            frames += len(payload) // 4
            with contextlib.suppress(ConnectionLost):  # it has said its last; what is here is read all the same
                connection.send(Credit(utterance=message.utterance, bytes=len(payload)))
        if isinstance(message, Finished):
            return frames == round(message.seconds * 24_000) > 0


def idle(world: World) -> None:
    time.sleep(2.5 * IDLE_SECONDS)  # what is tested is that time does nothing


def a_newer_program_calls(world: World) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(connections, "__version__", "99.0")
        caller = caller_of(world, "voice-af_heart")
    caller.send(Ping())
    caller.receive(10)
    caller.close()
    idle(world)


def shut_down(world: World) -> None:
    """The reader goes on while the servers wait for it, within the seconds that they have."""
    threading.Thread(target=world.say, args=("--shutdown", "-q")).start()
    for _ in range(200):
        if not (world.runtime / "model.json").exists():
            return
        time.sleep(0.02)


@pytest.mark.parametrize("end", [idle, a_newer_program_calls, shut_down])
def test_a24_a_voice_server_waits_for_a_client_that_has_not_taken_all(
    world: World, shown: Shown, end: Callable[[World], None]
) -> None:
    world.environment["KOKORO_IDLE_TIMEOUT"] = str(IDLE_SECONDS if end is idle else 60)
    rounds, held = times(30), 0
    for _ in range(rounds):
        world.start_stub_server()
        assert world.say("-o", "warm.wav", "Hello.").returncode == 0
        with contextlib.closing(spoken_to(world)) as client:
            end(world)
            held += took_all_audio(client)
        for server in world.servers() if end is not idle else []:
            server.wait(20)  # they do end then
    shown("A24", f"all audio taken by clients that rest: {end.__name__}", held, of=rounds)


def test_a24_a_model_server_waits_for_a_client_that_has_not_taken_all(world: World, shown: Shown) -> None:
    world.environment |= {"KOKORO_IDLE_TIMEOUT": "0.2", "KOKORO_KEEP_ALIVE": str(IDLE_SECONDS)}
    rounds, held = times(30), 0
    for _ in range(rounds):
        world.start_stub_server()
        with contextlib.closing(caller_of(world, "model")) as client:
            for _ in range(STATUSES):
                client.send(StatusRequest())
            time.sleep(2.5 * IDLE_SECONDS)  # what is tested is that time does nothing
            held += all(isinstance(client.receive(20)[0], Status) for _ in range(STATUSES))
        for server in world.servers():
            server.wait(20)
    shown("A24", "all answers taken by clients that rest: a model server without work", held, of=rounds)
