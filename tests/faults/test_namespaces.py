"""A4: servers that run where they cannot be called: a network namespace without lo, or not the caller's own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.conftest import ROOT, World
from tests.faults.conftest import Shown, times

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

BELOW_THE_WAIT = 25.0  # seconds: a caller that waits for a server which works but does not answer takes over 30
LO_UP = """
import fcntl, os, socket, struct, sys
sock = socket.socket()
flags = struct.unpack_from("16xh", fcntl.ioctl(sock, 0x8913, b"lo".ljust(40, bytes(1))))[0]
fcntl.ioctl(sock, 0x8914, b"lo".ljust(16, bytes(1)) + struct.pack("h", flags | 1).ljust(24, bytes(1)))  # IFF_UP
os.execvp(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture
def spaces(world: World) -> Iterator[World]:
    trial = ["unshare", "-n", "true"]
    if sys.platform != "linux" or shutil.which("unshare") is None or subprocess.run(trial, check=False).returncode:
        pytest.skip("no network namespaces here")
    yield world


def say_in(world: World, prefix: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*prefix, sys.executable, str(ROOT / "say.py"), *arguments],
        cwd=world.path, env=world.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip


DARK = ["unshare", "-n"]
APART = ["unshare", "-n", sys.executable, "-c", LO_UP]


def test_a4_a_server_that_nobody_could_call_does_not_begin(spaces: World, shown: Shown) -> None:
    world, rounds, held = spaces, times(20), 0
    for _ in range(rounds):
        inside = say_in(world, DARK, "-o", "in.wav", "hello")
        assert inside.returncode == 6
        assert inside.stderr == (
            "say.py: 127.0.0.1 cannot be called here: Network is unreachable; "
            "bring the network interface lo up, and let the firewall pass what comes from it\n"
        )
        assert world.servers() == []
        outside = world.say("-o", "out.wav", "hello")
        held += (outside.returncode, outside.stderr, world.status()["model_server"]["restarts"]) == (0, "", 0)
        assert world.say("--shutdown", "-q").returncode == 0
    shown("A4", "no lo: says so at once, and is in nobody's way", held, of=rounds)


def test_a4_servers_of_another_network_namespace_are_told_apart_and_ended(spaces: World, shown: Shown) -> None:
    world, rounds, held = spaces, times(20), 0
    for _ in range(rounds):
        assert say_in(world, APART, "-o", "in.wav", "hello").returncode == 0
        servers = world.servers()
        assert len(servers) == 2
        for _ in range(2):  # the next one has to wait for nothing either
            outside = world.say("-o", "out.wav", "hello", timeout=BELOW_THE_WAIT)
            assert outside.returncode == 6
            assert "model runs in another network namespace" in outside.stderr
            assert "--shutdown" in outside.stderr and len(outside.stderr.splitlines()) == 1
        assert world.servers() == servers, "they were harmed"
        ended = world.say("--shutdown", timeout=BELOW_THE_WAIT)
        assert (ended.returncode, world.servers()) == (0, [])
        spoken = world.say("-o", "out.wav", "hello")
        held += (spoken.returncode, spoken.stderr, world.status()["model_server"]["restarts"]) == (0, "", 0)
        assert world.say("--shutdown", "-q").returncode == 0
    shown("A4", "another network namespace: an error at once, --shutdown ends them", held, of=rounds)


def test_a4_servers_of_another_container_are_named_and_no_innocent_process_is_ended(spaces: World) -> None:
    """Their pids mean other processes here."""
    world = spaces
    container = ["unshare", "-n", "-p", "-f", "--kill-child", "--mount-proc", sys.executable, "-c", LO_UP]
    if subprocess.run([*container, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no process namespaces here")
    script = f"{sys.executable} {ROOT / 'say.py'} -o in.wav hello && echo spoken && read _"
    inside = subprocess.Popen(
        [*container, "sh", "-c", script], cwd=world.path, env=world.environment,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert inside.stdin is not None and inside.stdout is not None
    try:
        assert inside.stdout.readline() == "spoken\n"
        for arguments in (("-o", "out.wav", "hello"), ("--shutdown",)):
            done = world.say(*arguments, timeout=BELOW_THE_WAIT)
            assert done.returncode == 6
            assert "another" in done.stderr and len(done.stderr.splitlines()) == 1
        assert len(world.servers()) == 2
    finally:
        inside.stdin.close()  # and with their first process the servers end
        inside.wait(60)
        inside.stdout.close()
