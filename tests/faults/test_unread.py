"""Clients that take nothing: what is synthesized for them waits in bounded memory, and nobody else notices."""

from __future__ import annotations

import psutil
import pytest

from kokoro_common.client.client import Client
from kokoro_common.client.conversation import AUDIO_WINDOW
from kokoro_common.daemon import starter
from kokoro_common.daemon.runtime_directory import RuntimeDirectory
from kokoro_common.settings import resolve
from kokoro_common.text.speech import Speech
from kokoro_common.wire.messages import (
    Accepted,
    Credit,
    EndOfText,
    Failed,
    Finished,
    Ping,
    Pong,
    Route,
    Speak,
    TextPart,
)
from tests.conftest import World
from tests.faults.conftest import Shown, times

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

MB = 1_000_000
TEXTS = {  # whether it is SSML, the text, and MB that each utterance may take: 2 s of speech are made ahead for each
    "pauses": (True, "<speak>" + '<break time="9s"/>' * 12 + "</speak>", 0.1),
    "pauses between words": (True, "<speak>" + 'One <break time="8s"/>. Two.' * 12 + "</speak>", 0.2),
    "words": (False, "A sentence that nobody takes, of which there are many. " * 40, 0.6),  # 110 s
}


def model_server(world: World) -> psutil.Process:
    server = Client(resolve({}, world.environment)).status().model_server
    assert server is not None
    return psutil.Process(server.pid)


@pytest.mark.parametrize("kind", TEXTS)
def test_b7_audio_that_nobody_takes_is_bounded(stub_world: World, kind: str, shown: Shown) -> None:
    """500 utterances whose clients read every message and give no credit; then each takes a little and goes."""
    world, count = stub_world, times(500)
    ssml, text, each = TEXTS[kind]
    assert world.say("-o", "short.wav", "Hello.").returncode == 0
    model = model_server(world)
    (voice,) = [each for each in world.servers() if "voice_server" in " ".join(each.cmdline())]
    before = [process.memory_info().rss for process in (model, voice)]
    runtime = RuntimeDirectory(str(world.runtime))
    connections = []
    for number in range(count):
        connection = starter.connect(runtime, "voice-af_heart")
        assert connection is not None
        speech = Speech(engine="espeak", lang="a", ssml=ssml)
        connection.send(Speak(utterance=f"{number:032x}", speech=speech, route=Route(sink="client")))
        connection.send(TextPart(utterance=f"{number:032x}", text=text))
        connection.send(EndOfText(utterance=f"{number:032x}"))
        connections.append(connection)
    accepted = 0
    for connection in connections:
        connection.send(Ping())  # answered after all that its text has led to so far
        seen = [connection.receive(60)[0]]
        while not isinstance(seen[-1], Pong):
            seen.append(connection.receive(60)[0])
        assert not [message for message in seen if isinstance(message, (Failed, Finished))], seen
        accepted += any(isinstance(message, Accepted) for message in seen)
    done = world.say("-o", "other.wav", "Another one is served.")
    grown = [process.memory_info().rss - size for process, size in zip((model, voice), before, strict=True)]
    for number, connection in enumerate(connections):
        connection.send(Credit(utterance=f"{number:032x}", bytes=AUDIO_WINDOW))
        seen = [connection.receive(60)[0]]
        assert not isinstance(seen[0], Failed), seen
        connection.close()
    figures = {"model_server_mb": round(grown[0] / MB, 1), "voice_server_mb": round(grown[1] / MB, 1)}
    shown("B7", f"{kind} that nobody takes: accepted, nobody told of a death", accepted, of=count, **figures)
    assert (done.returncode, done.stderr) == (0, "")
    assert model_server(world).pid == model.pid and voice.is_running()
    assert max(grown) <= (96 + each * count) * MB, figures  # 64 MiB of audio that waits, in all
