"""Ctrl-Z and fg, in a real shell on a real terminal: speech pauses with its job, and goes on with it."""

from __future__ import annotations

import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from kokoro_common.daemon.runtime_directory import RuntimeDirectory
from kokoro_common.wire.connection import readable
from tests.conftest import World
from tests.helpers.stage import Stop
from tests.helpers.stub_engine import decode_samples

pytestmark = pytest.mark.e2e

SENTENCES = 40
TEXT = "A sentence that is paused in the middle of it all. " * SENTENCES
OTHER = "am_adam"


class Shell:
    """bash with job control, at the far end of a terminal."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._master, slave = pty.openpty()
        environment = {**world.environment, "PS1": "", "TERM": "dumb"}
        self._bash = subprocess.Popen(
            ["bash", "--norc", "--noprofile", "--noediting", "-i"], cwd=world.path, env=environment, stdin=slave,
            stdout=slave, stderr=slave, preexec_fn=lambda: os.login_tty(slave),
        )  # fmt: skip
        os.close(slave)
        self.output = ""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def say(self, *arguments: str) -> None:
        """Runs say.py in the foreground."""
        self.type(shlex.join([sys.executable, str(self._world.program), *arguments]) + "\n")

    def go_on(self) -> None:
        """In the foreground; the exit code of what was stopped will be shown as <code>."""
        self.type('fg; echo "<$?>"\n')

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Blocks until the terminal shows it; what was shown until then is forgotten."""
        while (found := re.search(pattern, self.output)) is None:
            assert readable([self._master], 60), self.output
            self.output += os.read(self._master, 1 << 16).decode(errors="replace")
        self.output = self.output[found.end() :]
        return found

    def job(self) -> psutil.Process:
        """The say.py in it, once the shell has started it."""
        for _ in range(2_000):
            for child in psutil.Process(self._bash.pid).children(recursive=True):
                if str(self._world.program) in child.cmdline():
                    return child
            threading.Event().wait(0.01)
        raise AssertionError(f"no say.py: {self.output}")

    def close(self) -> None:
        self._bash.kill()
        self._bash.wait()
        os.close(self._master)


@pytest.fixture
def shell(stub_world: World) -> Iterator[Shell]:
    shell = Shell(stub_world)
    yield shell
    shell.close()


def wait_until_stopped(job: psutil.Process) -> None:
    for _ in range(2_000):
        if job.status() == psutil.STATUS_STOPPED:
            return
        threading.Event().wait(0.01)
    raise AssertionError("it was not stopped")


def taken(world: World, voice: str) -> int:
    """Bytes that the voice's device has taken."""
    path = world.path / f"taken-{voice}.raw"
    return path.stat().st_size if path.exists() else 0


def heard(world: World, voice: str) -> list[int]:
    """After a shutdown: frames of each text chunk that was heard without a break."""
    return [run.frames for run in decode_samples(np.load(world.path / f"heard-{voice}.npy")) if run.chunk >= 0]


@pytest.mark.parametrize(
    "arguments",
    [[], pytest.param(["--follow"], marks=pytest.mark.slow), pytest.param(["--overlap"], marks=pytest.mark.slow)],
    ids=str,
)
def test_ctrl_z_pauses_speech_and_fg_resumes_it_without_losing_a_sample(
    stub_world: World, shell: Shell, arguments: list[str]
) -> None:
    shell.say(*arguments, TEXT)
    stub_world.wait_for_speech()
    shell.type("\x1a")
    shell.wait_for(r"Stopped")
    assert stub_world.status()["speaking"][0]["state"] == "paused"
    before = taken(stub_world, "af_heart")
    threading.Event().wait(1.0)  # 20 s of the recorder's clock: what is tested is that time does nothing
    assert taken(stub_world, "af_heart") == before
    shell.go_on()
    assert shell.wait_for(r"<(\d+)>")[1] == "0"
    stub_world.say("--shutdown", "-q")
    frames = heard(stub_world, "af_heart")
    assert len(frames) == SENTENCES
    assert len(set(frames)) == 1


@pytest.mark.slow
def test_a_job_that_waits_is_not_spoken_before_fg_and_others_are_not_paused(stub_world: World, shell: Shell) -> None:
    others = stub_world.popen(TEXT)
    stub_world.wait_for_speech()
    shell.say("-v", OTHER, TEXT)
    job = shell.job()
    for _ in range(300):
        if stub_world.status().get("waiting"):
            break
    shell.type("\x1a")
    shell.wait_for(r"Stopped")
    wait_until_stopped(job)
    assert [each["state"] for each in stub_world.status()["speaking"]] == ["speaking"]
    assert others.communicate(timeout=60)[1] == b""
    assert others.returncode == 0
    stub_world.wait_for_speech("paused")  # its turn has come
    assert taken(stub_world, OTHER) == 0
    shell.go_on()
    assert shell.wait_for(r"<(\d+)>")[1] == "0"
    stub_world.say("--shutdown", "-q")
    assert (len(heard(stub_world, "af_heart")), len(heard(stub_world, OTHER))) == (SENTENCES, SENTENCES)


@pytest.mark.slow
def test_a_suspended_job_that_is_killed_gives_the_floor_back(stub_world: World, shell: Shell) -> None:
    shell.say(TEXT)
    stub_world.wait_for_speech()
    shell.type("\x1a")
    shell.wait_for(r"Stopped")
    behind = stub_world.popen("-v", OTHER, "The next one.")
    for _ in range(300):
        if stub_world.status().get("waiting"):
            break
    shell.type("kill -9 %1\n")
    behind.communicate(timeout=60)
    assert behind.returncode == 0


@pytest.mark.slow
def test_resume_from_another_shell_lets_a_suspended_job_be_heard(stub_world: World, shell: Shell) -> None:
    shell.say(TEXT)
    stub_world.wait_for_speech()
    shell.type("\x1a")
    shell.wait_for(r"Stopped")
    assert stub_world.say("--resume").returncode == 0
    for _ in range(300):
        if not stub_world.status().get("speaking"):
            break
    shell.go_on()
    assert shell.wait_for(r"<(\d+)>")[1] == "0"


@pytest.mark.slow
def test_while_servers_start_it_stops_when_they_run(world: World) -> None:
    """A stopped process must not hold the lock for which all other callers wait."""
    stages = world.path / "stages"
    world.program = Path(__file__).parent.parent / "helpers/stub_say.py"
    world.environment["STAGES"] = str(stages)
    shell = Shell(world)
    stop = Stop(stages, "M1")
    shell.say(TEXT)
    server = stop.wait()  # spawned and not yet listening
    job = shell.job()
    shell.type("\x1a")
    threading.Event().wait(1.0)  # several times as long as a job takes to stop
    assert job.status() != psutil.STATUS_STOPPED
    server.send_signal(signal.SIGCONT)
    shell.wait_for(r"Stopped")
    free = RuntimeDirectory(str(world.runtime)).lock("model.start.lock", wait=False)
    assert free is not None
    os.close(free)
    shell.go_on()
    assert shell.wait_for(r"<(\d+)>")[1] == "0"
    shell.close()
