"""The real servers with a stub engine and recorders: every sample reaches its place once, in order, from the right
utterance; one server of each kind whatever races, and whatever lies in the runtime directory."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kokoro_common.daemon import process, starter
from kokoro_common.daemon.record import Note, ServerRecord, write_note
from kokoro_common.daemon.runtime_directory import RuntimeDirectory
from kokoro_common.errors import ServersUnreachable
from kokoro_common.wire.messages import Ping, Pong
from tests.conftest import World
from tests.helpers.stub_engine import Run, decode_samples, tag_of
from tests.helpers.stub_model_server import FRAMES_PER_CHARACTER

pytestmark = pytest.mark.e2e

VOICES = ["af_heart", "am_adam", "bf_emma"]
SENTENCES = "A first sentence of {}. Then the second one, for {}. And at last the third of {}."


def assert_whole(runs: list[Run], chunks: int) -> int:
    """All chunks of one utterance, each whole, in order, and nothing else. Returns its tag."""
    assert [(run.chunk, run.first_frame) for run in runs] == [(index, 0) for index in range(chunks)], runs
    assert len({run.tag for run in runs}) == 1
    return runs[0].tag


def test_ten_texts_and_three_voices_at_once_arrive_whole_each_at_its_client(stub_world: World) -> None:
    texts = [SENTENCES.format(n, n, n) for n in range(10)]
    clients = [
        stub_world.popen("-v", VOICES[n % 3], "-o", f"{n}.wav", "--timing", text) for n, text in enumerate(texts)
    ]
    for client in clients:
        _, errors = client.communicate(timeout=100)
        assert client.returncode == 0, errors
    tags = set()
    for n, text in enumerate(texts):
        samples, _ = soundfile.read(stub_world.path / f"{n}.wav", dtype="int16")
        runs = decode_samples(samples)
        tags.add(assert_whole(runs, 3))
        expected = [len(sentence) for sentence in text.replace(". ", ".|").split("|")]
        assert [run.frames for run in runs] == [length * FRAMES_PER_CHARACTER for length in expected]
    assert len(tags) == 10
    report = json.loads(stub_world.say("--status", "--json").stdout)
    assert {voice["voice"] for voice in report["voice_servers"]} == set(VOICES)
    assert report["model_server"]["ledger"] == {
        "accepted": 10, "finished": 10, "cancelled": 0, "failed": 0, "in_flight": 0
    }  # fmt: skip


def test_speakers_hear_one_utterance_at_a_time_whole_and_in_order(stub_world: World) -> None:
    for n in range(4):
        done = stub_world.say("--no-wait", "-v", VOICES[n % 2], SENTENCES.format(n, n, n))
        assert (done.returncode, done.stderr) == (0, "")
    assert stub_world.say("-v", VOICES[0], "Last.").returncode == 0  # heard after all others: the floor is one line
    report = json.loads(stub_world.say("--status", "--json").stdout)
    assert report["model_server"]["ledger"]["finished"] == 5
    assert (report["speaking"], report["waiting"]) == ([], [])
    assert stub_world.say("--shutdown", "-q").returncode == 0
    ended = [entry["utterance"] for entry in stub_world.log() if entry["event"] == "finished"]
    spoken = [entry["utterance"] for entry in stub_world.log() if entry["event"] == "speak"]
    assert ended == spoken
    for voice, utterances in ((VOICES[0], [0, 2, 4]), (VOICES[1], [1, 3])):
        runs = decode_samples(np.load(stub_world.path / f"heard-{voice}.npy"))
        tags = [run.tag for run in runs if run.chunk == 0]
        assert tags == [tag_of(str(spoken[n])) for n in utterances]
        for tag in tags:
            assert_whole([run for run in runs if run.tag == tag], len([run for run in runs if run.tag == tag]))
        assert {run.tag for run in runs} == set(tags)


def test_a_client_that_vanishes_frees_the_floor(stub_world: World) -> None:
    long = stub_world.popen("A sentence without an end in sight. " * 200)
    stub_world.wait_for_speech()
    long.kill()
    long.communicate()
    assert stub_world.say("Next.").returncode == 0
    ledger = json.loads(stub_world.say("--status", "--json").stdout)["model_server"]["ledger"]
    assert (ledger["finished"], ledger["cancelled"], ledger["in_flight"]) == (1, 1, 0)


def test_the_voice_server_leaves_when_idle_and_comes_back_when_asked(world: World) -> None:
    world.environment["KOKORO_IDLE_TIMEOUT"] = "0.2"
    for _ in range(3):
        assert world.say("-o", "x.wav", "hello").returncode == 0
        for server in world.servers():
            if "voice_server" in " ".join(server.cmdline()):
                server.wait(10)
        assert json.loads(world.say("--status", "--json").stdout)["voice_servers"] == []


@pytest.mark.parametrize("starters", [2, 8])
def test_starters_that_race_end_with_one_model_server_and_one_voice_server(world: World, starters: int) -> None:
    clients = [world.popen("-o", f"{n}.raw", "hello") for n in range(starters)]
    for client in clients:
        _, errors = client.communicate(timeout=100)
        assert client.returncode == 0, errors
    lines = [" ".join(server.cmdline()) for server in world.servers()]
    assert sum("model_server.py" in line for line in lines) == 1, lines
    assert sum("voice_server.py" in line for line in lines) == 1, lines
    assert len({(world.path / f"{n}.raw").read_bytes() for n in range(starters)}) == 1


STALE = {
    "dead pid": json.dumps({"pid": 4_000_000, "port": 1, "version": "0", "protocol": 2}).encode(),
    "pid 1": json.dumps({"pid": 1, "port": 5000, "version": "0", "protocol": 2}).encode(),
    "own pid": json.dumps({"pid": os.getpid(), "port": 65535, "version": "0", "protocol": 2}).encode(),
    "truncated": b'{"pid": 1, "po',
    "empty": b"",
    "not an object": b"[1, 2, 3]",
    "port out of range": json.dumps({"pid": 1, "port": 99999, "version": "0", "protocol": 2}).encode(),
    "nested": b"[" * 100_000,
    "long": b" " * 10_000_000,
}


@pytest.mark.parametrize("stale", [*STALE, "live pid", "a link", "a directory"])
def test_a_stale_record_is_no_obstacle_and_nobody_is_signalled(world: World, stale: str) -> None:
    world.runtime.mkdir(mode=0o700)
    path = world.runtime / "model.json"
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as innocent:
        if stale == "a link":
            path.symlink_to("/etc/passwd")
        elif stale == "a directory":
            path.mkdir()
        elif stale == "live pid":
            path.write_text(json.dumps({"pid": innocent.pid, "port": 1, "version": "0", "protocol": 2}))
        else:
            path.write_bytes(STALE[stale])
        assert world.say("-o", "x.wav", "hello").returncode == 0
        assert innocent.poll() is None
        innocent.communicate(b"\n")
    assert not path.is_symlink()


def test_a_record_that_was_removed_is_found_by_the_lock_and_written_again(world: World) -> None:
    assert world.say("-o", "x.wav", "hello").returncode == 0
    pid = json.loads(world.say("--status", "--json").stdout)["model_server"]["pid"]
    (world.runtime / "model.json").unlink()
    (world.runtime / "voice-af_heart.json").unlink()
    assert world.say("-o", "x.wav", "hello").returncode == 0
    assert json.loads(world.say("--status", "--json").stdout)["model_server"]["pid"] == pid


def test_a_server_whose_starter_was_killed_serves_on(world: World) -> None:
    first = world.popen("-o", "x.wav", "hello")
    first.kill()
    first.communicate()
    assert world.say("-o", "y.wav", "hello").returncode == 0
    assert sum("model_server.py" in " ".join(server.cmdline()) for server in world.servers()) == 1


def test_a_daemon_inherits_no_descriptor_and_stands_at_the_root(world: World) -> None:
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    process = world.popen("-o", "x.wav", "hello", close_fds=False)
    assert process.communicate(timeout=60) is not None
    assert process.returncode == 0
    os.close(writing)
    assert os.read(reading, 1) == b"", "somebody still holds the pipe"
    os.close(reading)
    for server in world.servers():
        assert server.cwd() == "/"
        targets = [os.readlink(f"/proc/{server.pid}/fd/{fd}") for fd in (0, 1)]
        assert targets == ["/dev/null", "/dev/null"]


def test_a_command_substitution_returns_with_the_client(world: World) -> None:
    done = subprocess.run(
        ["sh", "-c", f"x=$({sys.executable} {Path(__file__).parents[2] / 'say.py'} -o y.wav hello); echo done"],
        cwd=world.path, env=world.environment, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout == "done\n"


def test_ping_is_answered_by_both_servers(world: World) -> None:
    assert world.say("-o", "x.wav", "hello").returncode == 0
    runtime = RuntimeDirectory(str(world.runtime))
    for name in ("model", "voice-af_heart"):
        connection = starter.connect(runtime, name)
        assert connection is not None
        connection.send(Ping())
        assert connection.receive(5)[0] == Pong(done=1)
        connection.close()


def test_only_the_model_server_has_the_engines_environment_however_it_was_started(stub_world: World) -> None:
    from kokoro_common.daemon.model_server import ENVIRONMENT

    def environments(kind: str) -> list[dict[str, str]]:
        return [server.environ() for server in stub_world.servers() if kind in " ".join(server.cmdline())]

    assert stub_world.say("-o", "x.wav", "hello").returncode == 0  # it was started without, as by hand
    assert stub_world.say("--shutdown", "-q").returncode == 0
    assert stub_world.say("-o", "x.wav", "hello").returncode == 0  # by say.py
    (model,), (voice,) = environments("model_server"), environments("voice_server")
    assert ENVIRONMENT.items() <= model.items()
    assert not ENVIRONMENT.items() & voice.items()
    stub_world.say("--shutdown", "-q")
    stub_world.start_stub_server()
    (model,) = environments("model_server")
    assert ENVIRONMENT.items() <= model.items()


@pytest.mark.parametrize("listens", [False, True], ids=["refuses calls", "takes calls and says nothing"])
def test_only_a_server_that_takes_calls_and_says_nothing_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listens: bool
) -> None:
    """One that refuses them may listen in another network namespace."""
    monkeypatch.setattr(starter, "BUSY_SECONDS", 0.1)
    monkeypatch.setattr(starter, "LEAVING_SECONDS", 0.1)
    runtime = RuntimeDirectory(str(tmp_path / "runtime"))
    held = runtime.lock("model.lock", wait=False)
    assert held is not None
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as idle,
    ):
        port = listener.getsockname()[1]
        if not listens:
            listener.close()
        record = ServerRecord(pid=idle.pid, port=port, started=process.start_of(idle.pid))
        write_note(runtime, held, Note(record=record))
        with pytest.raises(ServersUnreachable):
            starter.clear_away(runtime, "model")
        assert (idle.poll() is not None) == listens
    os.close(held)
