"""One mouth: order, interruption, control from any shell, speech while text arrives. Stub engine and recorders."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import threading
import time

import numpy as np
import psutil
import pytest

from kokoro_common.client.client import Client
from kokoro_common.client.text_source import TextSource
from kokoro_common.errors import KokoroError, UsageError, UtteranceCancelled
from kokoro_common.settings import resolve
from kokoro_common.text.speech import Speech
from kokoro_common.wire.messages import Route
from tests.conftest import World
from tests.helpers.stub_engine import decode_samples

pytestmark = pytest.mark.e2e

LONG = "A sentence without an end in sight. " * 400  # 12 minutes; the recorder is 20 times faster
OTHER = "am_adam"


def ended(process: subprocess.Popen[bytes]) -> int:
    process.communicate(timeout=60)
    return process.returncode


def speaking(world: World, *arguments: str) -> subprocess.Popen[bytes]:
    process = world.popen(*arguments)
    world.wait_for_speech()
    return process


def wait_for_waiting(world: World, count: int) -> None:
    for _ in range(200):
        if len(world.status().get("waiting", [])) == count:
            return
    raise AssertionError(f"never {count} waiting")


def heard(world: World, voice: str) -> list[tuple[int, int, int]]:
    """After a shutdown: (tag, chunk, frames) of what the voice's recorder heard, silence left out."""
    for server in world.servers():  # one that left for idleness is not told, and writes what it heard last of all
        server.wait(10)
    runs = decode_samples(np.load(world.path / f"heard-{voice}.npy"))
    return [(run.tag, run.chunk, run.frames) for run in runs if run.chunk >= 0]


def test_stop_silences_all_speech_and_leaves_files_alone(stub_world: World) -> None:
    first = speaking(stub_world, LONG)
    second = stub_world.popen("-v", OTHER, LONG)
    wait_for_waiting(stub_world, 1)
    reading, writing = os.pipe()
    file = stub_world.popen("-o", "x.wav", stdin=reading)
    os.close(reading)
    os.write(writing, b"Begun before. ")
    done = stub_world.say("--stop")
    assert (done.returncode, done.stderr) == (0, "")
    assert [ended(first), ended(second)] == [7, 7]
    os.write(writing, b"Ended after.")
    os.close(writing)
    assert ended(file) == 0
    assert (stub_world.say("--stop").returncode, stub_world.say("--stop").stderr) == (
        0, "say.py: there was nothing to stop\n"
    )  # fmt: skip


def test_skip_cancels_what_is_spoken_and_the_next_follows(stub_world: World) -> None:
    first = speaking(stub_world, LONG)
    second = stub_world.popen("-v", OTHER, "The next one.")
    wait_for_waiting(stub_world, 1)
    assert stub_world.say("--skip").returncode == 0
    assert [ended(first), ended(second)] == [7, 0]


def test_interrupt_cancels_speech_of_every_voice_and_speaks(stub_world: World) -> None:
    first = speaking(stub_world, LONG)
    second = stub_world.popen(LONG)
    third = stub_world.popen("-v", OTHER, LONG)
    wait_for_waiting(stub_world, 2)
    assert stub_world.say("-i", "-v", OTHER, "Fire!").returncode == 0
    assert [ended(first), ended(second), ended(third)] == [7, 7, 7]
    ledger = stub_world.status()["model_server"]["ledger"]
    assert ledger == {"accepted": 4, "finished": 1, "cancelled": 3, "failed": 0, "in_flight": 0}


def test_overlap_does_not_wait_for_the_floor(stub_world: World) -> None:
    first = speaking(stub_world, LONG)
    assert stub_world.say("--overlap", "Beside it.").returncode == 0
    assert first.poll() is None
    stub_world.say("--stop")
    assert ended(first) == 7


def test_pause_outlasts_the_idle_timeout_and_resume_loses_no_sample(world: World) -> None:
    world.environment["KOKORO_IDLE_TIMEOUT"] = "0.3"
    world.start_stub_server()
    process = speaking(world, "A sentence that is paused in the middle of it all. " * 40)
    assert world.say("--pause").returncode == 0
    world.wait_for_speech("paused")
    before = world.status()["speaking"][0]["seconds"]
    time.sleep(1)  # three times the idle timeout: what is tested is that time does nothing
    assert world.status()["speaking"][0]["seconds"] == before
    assert process.poll() is None
    assert world.say("--resume").returncode == 0
    assert ended(process) == 0
    world.say("--shutdown", "-q")
    runs = heard(world, "af_heart")
    assert [chunk for _, chunk, _ in runs] == list(range(40))
    assert {frames for _, _, frames in runs} == {runs[0][2]}


def test_status_says_who_speaks_and_how_far(stub_world: World) -> None:
    process = speaking(stub_world, LONG)
    waiting = stub_world.popen("-v", OTHER, "Then this.")
    wait_for_waiting(stub_world, 1)
    report = stub_world.status()
    assert [(each["voice"], each["client"]) for each in report["speaking"]] == [("af_heart", f"pid {process.pid}")]
    assert [(each["voice"], each["client"]) for each in report["waiting"]] == [(OTHER, f"pid {waiting.pid}")]
    assert f"for pid {process.pid}" in stub_world.say("--status").stdout
    stub_world.say("--stop")
    assert [ended(process), ended(waiting)] == [7, 7]


def test_control_works_while_the_model_server_hangs(stub_world: World) -> None:
    process = speaking(stub_world, LONG)
    (model,) = [server for server in stub_world.servers() if "model_server" in " ".join(server.cmdline())]
    model.send_signal(signal.SIGSTOP)
    try:
        assert stub_world.say("--pause").returncode == 0
        assert stub_world.status()["speaking"][0]["state"] == "paused"
        assert stub_world.say("--stop").returncode == 0
        assert ended(process) == 7
    finally:
        model.send_signal(signal.SIGCONT)


def test_a_pipe_is_echoed_byte_for_byte_and_spoken_before_it_ends(stub_world: World) -> None:
    text = "Ein erster Satz, mit ä und 日本. Then\tthe second\r\n one \xff is not UTF-8. ".encode()
    text = text.replace("ÿ".encode(), b"\xff") + b"A last one"
    reading, writing = os.pipe()
    process = stub_world.popen("-e", stdin=reading)
    os.close(reading)
    os.write(writing, text[:50])  # the first sentence is complete, the second not
    stub_world.wait_for_speech()
    os.write(writing, text[50:])
    os.close(writing)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, text)


def test_a_half_sentence_is_spoken_when_the_writer_pauses(world: World) -> None:
    world.environment |= {"KOKORO_CLAUSE_WAIT": "0.1", "KOKORO_WORD_WAIT": "0.4"}
    world.start_stub_server()
    reading, writing = os.pipe()
    process = world.popen("-e", stdin=reading)
    os.close(reading)
    os.write(writing, b"What shall I say, when there is no end of it")
    world.wait_for_speech()
    for _ in range(200):
        if not any(each["state"] == "speaking" and each["seconds"] < 2.1 for each in world.status()["speaking"]):
            break
    os.close(writing)
    assert ended(process) == 0
    world.say("--shutdown", "-q")
    assert [chunk for _, chunk, _ in heard(world, "af_heart")] == [0, 1]  # at the comma, then the rest


def client_of(world: World) -> Client:
    return Client(resolve({}, world.environment))


def test_many_shells_and_voices_speak_one_at_a_time_and_each_ends_once(stub_world: World) -> None:
    voices = ["af_heart", OTHER, "bf_emma"]
    outcomes: list[str] = []

    def shell(number: int) -> None:
        client = client_of(stub_world)
        for turn in range(6):
            interrupt = (number + turn) % 10 == 0
            speech = Speech(voice=voices[(number + turn) % 3], engine="espeak")
            route = Route(floor="interrupt" if interrupt else "queue")
            try:
                client.speak(TextSource(f"Shell {number}, turn {turn}."), speech, route).finish()
                outcomes.append("finished")
            except UtteranceCancelled:
                outcomes.append("cancelled")
            except KokoroError as error:
                outcomes.append(str(error))

    threads = [threading.Thread(target=shell, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    ledger = stub_world.status()["model_server"]["ledger"]
    assert set(outcomes) <= {"finished", "cancelled"}
    assert ledger == {
        "accepted": 48,
        "finished": outcomes.count("finished"),
        "cancelled": outcomes.count("cancelled"),
        "failed": 0,
        "in_flight": 0,
    }
    stub_world.say("--shutdown", "-q")
    spans = sorted(span for voice in voices for span in stub_world.spans(voice))
    assert len(spans) >= outcomes.count("finished")
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans)), "two at a time"


def test_a_storm_of_interrupts_leaves_the_last_one_whole(stub_world: World) -> None:
    client = client_of(stub_world)
    for _ in range(3):
        client.speak(TextSource("Warm up."), Speech(engine="espeak"), Route()).finish()
    (voice,) = [server for server in stub_world.servers() if "voice_server" in " ".join(server.cmdline())]
    descriptors = voice.num_fds()
    for turn in range(60):
        client.speak(
            TextSource(f"Number {turn} of a storm that blows. " * 5),
            Speech(engine="espeak"),
            Route(floor="interrupt", wait=False),
        ).finish()
    last = client.speak(TextSource("The last one is whole."), Speech(engine="espeak"), Route(floor="interrupt"))
    assert last.finish() is not None
    assert voice.num_fds() <= descriptors + 1
    stub_world.say("--shutdown", "-q")
    tag, _, frames = heard(stub_world, "af_heart")[-1]
    assert frames == len("The last one is whole.") * 1_200
    assert [run for run in heard(stub_world, "af_heart") if run[0] == tag] == [(tag, 0, frames)]


def test_every_word_is_followed_once_in_order(stub_world: World) -> None:
    text = "One word, after the other. And (so it goes)\nwith every one of them."
    done = stub_world.say("--follow", text)
    assert (done.returncode, done.stdout) == (0, f"{text}\n")


def test_options_and_texts_that_cannot_be_sent_are_named(stub_world: World) -> None:
    client = client_of(stub_world)
    with pytest.raises(UsageError, match="cannot be sent"):
        client.speak(TextSource("hello"), Speech(engine="espeak", speed=float("nan")), Route(sink="client")).finish()
    spoken = client.speak(TextSource("a lone \ud800 surrogate"), Speech(engine="espeak"), Route(sink="client")).finish()
    assert spoken is not None
    assert spoken.seconds > 0.5


@pytest.mark.parametrize("interrupt", [False, True])
def test_a_voice_server_that_hangs_with_the_floor_is_replaced_by_whoever_waits(
    stub_world: World, interrupt: bool
) -> None:
    speaking = stub_world.popen("-q", "A long sentence, which goes on and on and on. " * 40)
    stub_world.wait_for_speech()
    (voice,) = stub_world.status()["voice_servers"]
    server = psutil.Process(voice["pid"])
    server.suspend()
    other = stub_world.say("-q", *["-i"] * interrupt, "-v", OTHER, "Make way.", timeout=60)
    assert (other.returncode, other.stderr) == (0, "")
    assert not psutil.pid_exists(voice["pid"]) or server.status() == "zombie"
    speaking.kill()
    speaking.communicate()
