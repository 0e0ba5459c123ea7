"""Servers that die or hang: what was being spoken goes on without a sample lost or repeated, and nobody is orphaned."""

from __future__ import annotations

import os
import signal

import numpy as np
import psutil
import pytest

from tests.conftest import World
from tests.faults.conftest import Shown, times
from tests.stub_engine import SILENCE, Run, decode_samples

pytestmark = pytest.mark.e2e

TEXT = "This is a sentence that says nothing much. " * 12


def model_pid(world: World) -> int:
    pid: int = world.status()["model_server"]["pid"]
    return pid


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
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie"
        world.say("--shutdown", "-q")
        assert_heard_once(decode_samples(np.load(world.path / "heard-af_heart.npy")))
    shown("A17", "speech whole though the model server was lost", whole, of=rounds)
