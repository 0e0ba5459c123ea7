"""Another user of the machine takes all the places for strangers at every port, and all of my calls are served."""

from __future__ import annotations

import json
import os
import signal
import warnings
from collections.abc import Iterator

import psutil
import pytest

from tests.conftest import World
from tests.faults.conftest import Shown, times
from tests.faults.crowd import crowd

pytestmark = pytest.mark.e2e

NOBODY = 65_534
STRANGERS = 400  # at each port: more than there are places for
VOICES = ("af_heart", "am_adam")


def crowd_of_another_user(ports: list[int]) -> int:
    """The process id of one that has connected, and goes on."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from 3.12 on about threads: none of ours runs here
        pid = os.fork()
    if pid == 0:
        told = os.fdopen(writing, "w")
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            crowd(STRANGERS, ports, lambda: print("there", file=told, flush=True))
        finally:
            os._exit(1)
    os.close(writing)
    assert os.read(reading, 9) == b"there\n", "the crowd did not come"
    os.close(reading)
    return pid


@pytest.fixture
def crowded(stub_world: World) -> Iterator[World]:
    for voice in VOICES:
        assert stub_world.say("-v", voice, "-o", "warm.wav", "Hello.").returncode == 0
    ports = [json.loads(path.read_text())["port"] for path in stub_world.runtime.glob("*.json")]
    assert len(ports) == 1 + len(VOICES)
    soft, hard = psutil.Process().rlimit(psutil.RLIMIT_NOFILE)
    psutil.Process().rlimit(psutil.RLIMIT_NOFILE, (min(hard, 8192), hard))
    pid = crowd_of_another_user(ports)
    psutil.Process().rlimit(psutil.RLIMIT_NOFILE, (soft, hard))
    yield stub_world
    os.kill(pid, signal.SIGKILL)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL, "the crowd had ended before"


CALLS = (
    ("-v", "af_heart", "-o", "x.wav", "A file."),
    ("-v", "am_adam", "Aloud."),
    ("--status", "--json"),
    ("--stop",),
    ("-i", "Fire!"),
    ("-n", "In the background."),
    ("-v", "af_heart", "--device", "auto", "By way of the model server."),
    ("--pause",),
    ("--resume",),
    ("--skip",),
)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.timeout(1800)
def test_b9_all_my_calls_are_served_beside_another_users_crowd(crowded: World, shown: Shown) -> None:
    """Besides: --stop says that there was nothing to stop, which it does only when all servers have answered."""
    count, held, wrong = times(200), 0, []
    for number in range(count):
        done = crowded.say(*CALLS[number % len(CALLS)])
        fine = done.returncode == 0 and "busy" not in done.stderr
        if CALLS[number % len(CALLS)][0] == "--status":
            report = json.loads(done.stdout)
            fine = report["model_server"] is not None and "silent" not in report
        held += fine
        wrong += [] if fine else [(number, done.returncode, done.stderr)]
    print(wrong)
    shown("B9", f"calls served beside {STRANGERS} connections of another user at each port", held, of=count)
    assert crowded.status()["model_server"]["restarts"] == 0
