"""Ctrl-C, SIGTERM and SIGHUP at any moment: the command cleans up and dies by the signal, and prints no traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import World
from tests.helpers.stage import Stop

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parent.parent.parent
ENTRY_POINT = "import sys\nfrom say import command\nsys.exit(command())\n"  # what pip makes of [project.scripts]
MOMENTS = [0.0, 0.003, 0.01, 0.02, 0.035, 0.05, 0.07, 0.09, 0.12, 0.15, 0.2, 0.3]  # s after its first statement
SENTENCE = b"One sentence is here. "


def leftovers(world: World) -> list[str]:
    return sorted(path.name for path in world.path.iterdir() if "x.wav" in path.name or ".part" in path.name)


def caught(pid: int, number: int) -> bool:
    """Whether the process has a handler for the signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = next(line for line in status.splitlines() if line.startswith("SigCgt")).split()[1]
    return bool(int(mask, 16) >> (number - 1) & 1)


@contextmanager
def begun(world: World, program: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command, at its first statement, with a standard input that never ends.

    Before that the interpreter starts, and prints tracebacks of its own; no program can change that.
    """
    started, tell = os.pipe()
    reading, writing = os.pipe()
    (world.path / "sitecustomize.py").write_text(f"import os\nos.write({tell}, b'x')\n")
    environment = {**world.environment, "PYTHONPATH": f"{world.path}:{ROOT}"}
    process = subprocess.Popen(
        [sys.executable, str(program), *arguments], cwd=world.path, env=environment, pass_fds=[tell],
        stdin=reading, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(tell)
    os.close(reading)
    try:
        os.write(writing, SENTENCE)
        assert os.read(started, 1) == b"x"
        os.close(started)
        for _ in range(2_000):  # Python's own handler, for a millisecond or two more
            if not caught(process.pid, signal.SIGINT):
                break
        yield process
    finally:
        os.close(writing)
        process.kill()
        process.wait()
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        process.stderr.close()


@pytest.mark.parametrize(
    ("number", "program", "moments"),
    [
        (signal.SIGINT, "say.py", MOMENTS),
        (signal.SIGINT, "kokoro-say", MOMENTS[::4]),
        (signal.SIGTERM, "say.py", MOMENTS[::4]),
        (signal.SIGHUP, "say.py", MOMENTS[::4]),
    ],
)
def test_it_dies_by_the_signal_at_whatever_moment_it_comes(
    world: World, number: signal.Signals, program: str, moments: list[float]
) -> None:
    world.say("-o", "warm.wav", "warm")
    path = world.program
    if program == "kokoro-say":
        path = world.path / program
        path.write_text(ENTRY_POINT)
    never = threading.Event()
    for moment in moments:
        with begun(world, path, "-o", "x.wav") as process:
            never.wait(moment)  # the moment itself is what is tested
            process.send_signal(number)
            code = process.wait(20)
            assert process.stderr is not None
            assert (moment, code, process.stderr.read()) == (moment, -number, b"")
    assert leftovers(world) == []


@pytest.mark.parametrize("stage", [*(pytest.param(each, marks=pytest.mark.slow) for each in ("C1", "C2", "C4")), "C3"])
def test_it_dies_by_the_signal_while_servers_start_are_called_and_answer(world: World, stage: str) -> None:
    """C1 a server spawned and not yet ready, C2 one called and not yet proven, C3 all text sent, C4 the first audio."""
    stages = world.path / "stages"
    world.program = ROOT / "tests/helpers/stub_say.py"
    stop = Stop(stages, stage)
    environment = {**world.environment, "STAGES": str(stages)}
    process = subprocess.Popen(
        [sys.executable, str(world.program), "-q", "-o", "x.wav", "Hello there."], cwd=world.path, env=environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    stopped = stop.wait()
    process.send_signal(signal.SIGINT)
    stopped.send_signal(signal.SIGCONT)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (-signal.SIGINT, b"")
    assert leftovers(world) == []


def test_at_its_end_it_has_either_done_its_work_or_died_by_the_signal(world: World) -> None:
    world.say("-o", "warm.wav", "warm")
    for _ in range(6):
        process = world.popen("-o", "x.wav", "hi")
        while not (world.path / "x.wav").exists() and process.poll() is None:
            pass
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
        assert process.returncode in (0, -signal.SIGINT)
        assert errors == b""
        assert leftovers(world) == ["x.wav"]
        (world.path / "x.wav").unlink()


def test_a_loop_in_a_shell_ends_with_the_command_in_it(world: World) -> None:
    world.say("-o", "warm.wav", "warm")
    reading, writing = os.pipe()
    loop = f'for i in 1 2 3; do echo $i; "{sys.executable}" "{world.program}" -o x.wav; echo "$?"; done; echo after'
    shell = subprocess.Popen(
        ["bash", "-c", loop], cwd=world.path, env=world.environment, stdin=reading, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(reading)
    os.write(writing, SENTENCE)
    wait_for_speak(world, 2)
    os.killpg(shell.pid, signal.SIGINT)  # as the terminal does
    out, errors = shell.communicate(timeout=20)
    os.close(writing)
    assert (shell.returncode, out, errors) == (-signal.SIGINT, b"1\n", b"")
    assert leftovers(world) == []


def test_one_key_press_that_comes_twice_still_cleans_up(world: World) -> None:
    world.say("-o", "warm.wav", "warm")
    for _ in range(4):
        with begun(world, world.program, "-o", "x.wav") as process:
            wait_for_part(world)
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) in (-signal.SIGINT, -signal.SIGTERM)
            assert process.stderr is not None and process.stderr.read() == b""
        assert leftovers(world) == []


def test_what_was_ignored_before_stays_ignored(world: World) -> None:
    """`nohup say.py` outlives the terminal; a shell's job in the background outlives Ctrl-C."""
    world.say("-o", "warm.wav", "warm")
    reading, writing = os.pipe()
    ignoring = f'trap \'\' HUP INT; exec "{sys.executable}" "{world.program}" -o x.wav'
    process = subprocess.Popen(
        ["sh", "-c", ignoring], cwd=world.path, env=world.environment, stdin=reading, stderr=subprocess.PIPE
    )
    os.close(reading)
    os.write(writing, SENTENCE)
    wait_for_speak(world, 2)
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGINT)
    os.write(writing, SENTENCE)
    os.close(writing)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, b"")
    assert leftovers(world) == ["x.wav"]


def wait_for_part(world: World) -> None:
    waits = threading.Event()
    for _ in range(1_000):
        if leftovers(world):
            return
        waits.wait(0.01)
    raise AssertionError("no file was begun")


def wait_for_speak(world: World, count: int) -> None:
    """The logs are the servers' only outlet that tells what they have seen; a second is their worst delay."""
    waits = threading.Event()
    for _ in range(400):
        if sum(entry["event"] == "speak" for entry in world.log()) >= count:
            return
        waits.wait(0.05)
    raise AssertionError(f"no {count} utterances came")
