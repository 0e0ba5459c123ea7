"""Servers that die or hang: what was being spoken goes on without a sample lost or repeated, and nobody is orphaned."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from kokoro_common.daemon import starter
from kokoro_common.daemon.runtime_directory import RuntimeDirectory
from kokoro_common.wire.messages import Ping, Pong
from tests.conftest import ROOT, World
from tests.faults.conftest import Shown, times
from tests.helpers.stub_engine import SILENCE, Run, decode_samples

pytestmark = pytest.mark.e2e

TEXT = "This is a sentence that says nothing much. " * 40


def model_pid(world: World) -> int:
    pid: int = world.status()["model_server"]["pid"]
    return pid


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"


def assert_ledger(world: World) -> dict[str, int]:
    ledger: dict[str, int] = world.status()["model_server"]["ledger"]
    assert ledger["accepted"] == ledger["finished"] + ledger["cancelled"] + ledger["failed"] + ledger["in_flight"]
    return ledger


def assert_heard_once(runs: list[Run]) -> None:
    """One utterance, each sample once and in order; perhaps with silence while a server was lost."""
    speech = [run for run in runs if run.tag != SILENCE]
    assert len({run.tag for run in speech}) == 1
    chunk, frame = 0, 0
    for run in speech:
        assert (run.chunk, run.first_frame) in ((chunk, frame), (chunk + 1, 0)), (run, chunk, frame)
        chunk, frame = run.chunk, run.end


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hung"])
def test_a17_speech_goes_on_when_the_model_server(stub_world: World, number: signal.Signals, shown: Shown) -> None:
    world = stub_world
    world.environment["STUB_RTF"] = "0.02"  # half as fast as the recorder: there is always something unanswered
    rounds, whole = times(20), 0
    for _ in range(rounds):
        world.say("--shutdown", "-q")
        world.start_stub_server()
        speaking = world.popen("--timing", TEXT)
        world.wait_for_speech()
        pid = model_pid(world)
        os.kill(pid, number)
        _, errors = speaking.communicate(timeout=60)
        assert speaking.returncode == 0, errors
        assert model_pid(world) != pid
        ledger = assert_ledger(world)
        whole += (ledger["in_flight"], ledger["failed"]) == (0, 0)
        assert not alive(pid)
        world.say("--shutdown", "-q")
        assert_heard_once(decode_samples(np.load(world.path / "heard-af_heart.npy")))
    shown("A17", "speech whole though the model server was lost", whole, of=rounds)


ODD = Path(__file__).parent / "odd_model_server.py"


def test_a12_an_engine_that_waits_for_ever_is_replaced(world: World, shown: Shown) -> None:
    rounds, whole = times(20), 0
    world.environment["STUB_ODD"] = "waits"
    for _ in range(rounds):
        world.environment["KOKORO_STUCK_TIMEOUT"] = "1"
        world.start_stub_server(ODD)
        pid = model_pid(world)
        ended = world.say(TEXT)
        assert ended.returncode == 0, ended.stderr
        assert model_pid(world) != pid
        whole += assert_ledger(world)["failed"] == 0
        assert world.status()["model_server"]["restarts"] == 1
        assert "restarts       1, of servers that had died" in world.say("--status").stdout
        assert any("made no progress" in str(entry["event"]) for entry in world.log("model_server"))
        world.say("--shutdown", "-q")
        assert_heard_once(decode_samples(np.load(world.path / "heard-af_heart.npy")))
    shown("A12", "speech whole though the engine was stuck", whole, of=rounds)


def test_a11_an_engine_that_works_is_left_alone(world: World, shown: Shown) -> None:
    rounds, spared, pings = times(20), 0, []
    world.environment |= {"STUB_ODD": "works", "KOKORO_STUCK_TIMEOUT": "1"}
    for _ in range(rounds):
        world.start_stub_server(ODD)
        pid = model_pid(world)
        speaking = world.popen("-o", "/dev/null", "hello")
        connection = starter.connect(RuntimeDirectory(str(world.runtime)), "model")
        assert connection is not None
        while speaking.poll() is None:
            began = time.monotonic()
            connection.send(Ping())
            assert isinstance(connection.receive(5)[0], Pong)
            pings.append(time.monotonic() - began)
            time.sleep(0.01)  # the pace of the pings
        connection.close()
        assert speaking.communicate()[1] == b""
        spared += speaking.returncode == 0 and model_pid(world) == pid
        world.say("--shutdown", "-q")
    p99 = sorted(pings)[len(pings) * 99 // 100]
    shown("A11", "an engine at work for 6 s left alone", spared, of=rounds, ping_p99_ms=round(1000 * p99, 1))


def test_a10_an_idle_model_server_that_hangs_is_replaced_when_somebody_needs_it(
    stub_world: World, shown: Shown
) -> None:
    world, rounds, spoken, took = stub_world, times(20), 0, []
    for number in range(rounds):
        if number % 4 == 0:  # five deaths in a minute are too many
            world.say("--shutdown", "-q")
            world.start_stub_server()
        pid = model_pid(world)
        os.kill(pid, signal.SIGSTOP)
        began = time.monotonic()
        ended = world.say("-v", ["af_heart", "am_adam"][number % 2], "-o", "/dev/null", "hello")
        took.append(time.monotonic() - began)
        spoken += ended.returncode == 0 and model_pid(world) != pid
        assert not alive(pid)
    shown("A10", "spoken though the idle model server hung", spoken, of=rounds, seconds_max=round(max(took), 1))


def test_a10_a_voice_server_that_hangs_is_replaced(stub_world: World, shown: Shown) -> None:
    world, rounds, spoken, took = stub_world, times(20), 0, []
    for number in range(rounds):
        if number % 4 == 0:
            world.say("--shutdown", "-q")
            world.start_stub_server()
        assert world.say("-o", "/dev/null", "hello").returncode == 0
        pid = world.status()["voice_servers"][0]["pid"]
        os.kill(pid, signal.SIGSTOP)
        began = time.monotonic()
        spoken += world.say("-o", "/dev/null", "hello").returncode == 0
        took.append(time.monotonic() - began)
        assert not alive(pid)
    shown("A10", "spoken though the voice server hung", spoken, of=rounds, seconds_max=round(max(took), 1))


def test_a20_everybody_asleep_for_a_while_is_nobody_hung(stub_world: World) -> None:
    world = stub_world
    world.environment["STUB_RTF"] = "0.02"
    speaking = world.popen(TEXT)
    world.wait_for_speech()
    pids = [speaking.pid, *(server.pid for server in world.servers())]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(8)  # longer than anybody waits for a ping
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    assert speaking.communicate(timeout=60)[1] == b""
    assert speaking.returncode == 0
    assert [speaking.pid, *(server.pid for server in world.servers())] == pids
    assert world.status()["model_server"]["restarts"] == 0


def test_d7_a_server_over_its_memory_limit_goes_on_in_fresh_memory_without_a_lost_word(
    stub_world: World, shown: Shown
) -> None:
    """The limit is so low that each look at the memory finds it exceeded by far: in the middle of speech too."""
    world = stub_world
    world.environment |= {"STUB_RTF": "0.04", "KOKORO_MEMORY_LIMIT": "10"}
    rounds, whole, renewed = times(20), 0, 0
    for _ in range(rounds):
        world.say("--shutdown", "-q")
        before = len(world.log("model_server"))
        world.start_stub_server()
        pid = model_pid(world)
        ended = world.say(TEXT * 2)  # twice as long as between two looks
        assert (ended.returncode, ended.stderr) == (0, "")
        assert model_pid(world) == pid
        whole += (assert_ledger(world)["failed"], world.status()["model_server"]["restarts"]) == (0, 0)
        renewed += sum(entry["event"] == "going on in fresh memory" for entry in world.log("model_server")[before:])
        world.say("--shutdown", "-q")
        assert_heard_once(decode_samples(np.load(world.path / "heard-af_heart.npy")))
    assert renewed >= rounds
    shown("D7", "speech whole though the server began again in fresh memory", whole, of=rounds, renewed=renewed)


def test_d8_a_card_that_is_lost_is_left_for_the_cpu_without_a_lost_word(world: World, shown: Shown) -> None:
    """The process begins again, for nothing on the card can be used any more, and does not try the card again."""
    world.environment |= {"KOKORO_ENGINE": "kokoro", "STUB_RTF": "0.02"}
    rounds, whole = times(20), 0
    for _ in range(rounds):
        world.start_stub_server(ROOT / "tests" / "faults" / "losing_model_server.py")
        pid = model_pid(world)
        ended = world.say(TEXT)
        assert (ended.returncode, ended.stderr) == (0, "")
        model = world.status()["model_server"]
        reason = "cuda has failed: RuntimeError: CUDA error: unspecified launch failure"
        assert (model["pid"], model["device"], model["device_reason"]) == (pid, "cpu", reason)
        whole += assert_ledger(world)["failed"] == 0
        world.say("--shutdown", "-q")
        assert_heard_once(decode_samples(np.load(world.path / "heard-af_heart.npy")))
    shown("D8", "speech whole though the card was lost in the middle of it", whole, of=rounds)


def test_d8_a_card_that_was_asked_for_and_is_lost_is_an_error_that_says_so(world: World) -> None:
    world.environment |= {"KOKORO_ENGINE": "kokoro", "STUB_RTF": "0.02", "KOKORO_DEVICE": "cuda"}
    world.start_stub_server(ROOT / "tests" / "faults" / "losing_model_server.py")
    ended = world.say(TEXT)
    assert ended.returncode == 4
    assert "cuda has failed: RuntimeError: CUDA error" in ended.stderr and "--device auto" in ended.stderr
