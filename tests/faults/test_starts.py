"""Many start the servers at once, servers leave while somebody asks, and servers that cannot start."""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from kokoro_common.daemon import record
from kokoro_common.daemon.runtime_directory import RuntimeDirectory
from tests.conftest import ROOT, World
from tests.faults.conftest import Shown, times

pytestmark = pytest.mark.e2e


@pytest.fixture
def stub_starters(world: World) -> World:
    """A world in which say.py starts the servers of the stub engine."""
    world.program = ROOT / "tests" / "helpers" / "stub_say.py"
    return world


def rounds(world: World, count: int) -> Iterator[int]:
    """Each in a runtime directory of its own, cold; the last one's servers are left to the fixture."""
    for number in range(count):
        world.runtime = world.path / f"runtime-{number}"
        world.environment["KOKORO_RUNTIME_DIR"] = str(world.runtime)
        yield number
        ended = world.say("--shutdown", "-q")
        assert (ended.returncode, world.residue()) == (0, [])


def start_at_once(world: World, starters: int) -> tuple[list[int], list[float]]:
    """Exit codes of so many say.py, released by one pipe, and the seconds that each took."""
    reading, writing = os.pipe()
    command = f"read _; exec {sys.executable} {world.program} -o /dev/null hello"
    processes = [
        subprocess.Popen(
            ["sh", "-c", command], stdin=reading, cwd=world.path, env=world.environment, stderr=subprocess.PIPE
        )
        for _ in range(starters)
    ]
    os.close(reading)
    began = time.monotonic()
    os.close(writing)
    codes, took = [], []
    for process in processes:
        errors = process.communicate(timeout=120)[1]
        took.append(time.monotonic() - began)
        codes.append(process.returncode)
        assert not errors, errors
    return codes, took


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("starters", "full"), [(2, 20), (8, 20), (32, 100), (128, 5)])
def test_a1_one_model_server_whoever_races(stub_starters: World, starters: int, full: int, shown: Shown) -> None:
    world, held, spoken, seconds = stub_starters, 0, 0, []
    count = times(full)
    for _ in rounds(world, count):
        codes, took = start_at_once(world, starters)
        lines = [" ".join(server.cmdline()) for server in world.servers()]
        one_of_each = [sum(name in line for line in lines) for name in ("model_server", "voice_server")] == [1, 1]
        held += one_of_each and codes == [0] * starters and world.status()["model_server"]["restarts"] == 0
        spoken += world.status()["model_server"]["ledger"]["finished"]
        seconds += took
    figures = {"seconds_p50": round(statistics.median(seconds), 1), "seconds_max": round(max(seconds), 1)}
    promise = f"rounds of {starters} starters end with one server of each kind, all spoken"
    shown("A1", promise, held, of=count, utterances=spoken, **figures)
    assert spoken == starters * count


@pytest.mark.timeout(3600)
def test_a2_no_request_is_lost_to_a_server_that_is_leaving(stub_starters: World, shown: Shown) -> None:
    world = stub_starters
    world.environment |= {"KOKORO_IDLE_TIMEOUT": "0.2", "KOKORO_KEEP_ALIVE": "0.2"}
    count, done = times(1000), 0
    for number in range(count):
        time.sleep(0.05 + 0.01 * (number % 30))  # around the moment at which they leave; after that comes the start
        ended = world.say("-o", "/dev/null", "hello")
        done += (ended.returncode, ended.stderr) == (0, "")
    starts = sum(entry["event"] == "listening" for entry in world.log("voice_server-af_heart"))
    assert starts > count / 10  # it did leave
    shown("A2", "requests around the idle exit spoken, nothing shown", done, of=count, voice_servers=starts)


DIES = """\
import os, sys
with open(os.environ["STARTS"], "a") as file:
    file.write("x")
raise RuntimeError("no such luck")
"""


@pytest.mark.timeout(600)
def test_a9_a_server_that_dies_at_its_start_is_given_up_with_its_last_words(world: World, shown: Shown) -> None:
    program = world.path / "dies.py"
    program.write_text(DIES)
    starter = world.path / "starter.py"
    starter.write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        f"from kokoro_common.daemon import model_server; model_server.MODEL_PROGRAM = {str(program)!r}\n"
        "import say; say.command()\n"
    )
    world.environment["STARTS"] = str(world.path / "starts")
    world.program = starter
    began = time.monotonic()
    first = world.say("hello")
    took = time.monotonic() - began
    second = world.say("hello")  # is told at once
    starts = len((world.path / "starts").read_text())
    for ended in (first, second):
        assert ended.returncode == 6
        assert "died 5 times" in ended.stderr
        assert "RuntimeError: no such luck" in ended.stderr
        assert str(world.cache / "logs" / "model_server.stderr") in ended.stderr
        assert len(ended.stderr.splitlines()) == 1
    world.program = ROOT / "say.py"
    assert world.say("--shutdown", "-q").returncode == 0  # forgets the deaths
    assert world.say("-o", "x.wav", "hello").returncode == 0
    shown("A9", "starts of a server that dies at its start", starts, of=5, seconds=round(took, 1))


ASKED = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)
# Asked to end as early as can be, before anything of ours is imported, so many times; then it is the real one.
ASKED_TO_END = """\
import os, sys
path, number, most, program = sys.argv[0] + ".count", int(os.environ["SIGNAL"]), int(os.environ["TIMES"]), {program!r}
count = int(open(path).read()) if os.path.exists(path) else 0
if count < most:
    open(path, "w").write(str(count + 1))
    os.kill(os.getpid(), number)
sys.path.insert(0, {root!r})
import runpy
sys.argv[0] = program
runpy.run_path(program, run_name="__main__")
"""


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["model", "voice"])
@pytest.mark.parametrize("number", ASKED, ids=lambda number: number.name)
def test_a9_a_server_that_is_told_to_end_while_it_starts_has_not_died(
    world: World, shown: Shown, kind: str, number: signal.Signals
) -> None:
    """A shell's Ctrl-C, a session that ends, a --shutdown: whoever waits gets the next one, and no death is counted."""
    early = {}
    for name in ("model", "voice"):
        early[name] = world.path / f"{name}.py"
        early[name].write_text(ASKED_TO_END.format(root=str(ROOT), program=str(ROOT / f"{name}_server.py")))
    models = world.path / "models.py"
    models.write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        f"import model_server; model_server.ModelServer.voice_program = {str(early['voice'])!r}\n"
        "sys.exit(model_server.main())\n"
    )
    program = early["model"] if kind == "model" else models
    starter = world.path / "starter.py"
    starter.write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        f"from kokoro_common.daemon import model_server; model_server.MODEL_PROGRAM = {str(program)!r}\n"
        "import say; say.command()\n"
    )
    world.program = starter
    rounds, held = times(20), 0
    for _ in range(rounds):
        for path in early.values():
            path.with_name(f"{path.name}.count").unlink(missing_ok=True)
        world.environment |= {"SIGNAL": str(int(number)), "TIMES": "3"}
        done = world.say("-o", "x.wav", "hello")
        restarts = world.status()["model_server"]["restarts"]
        held += (done.returncode, done.stderr, restarts) == (0, "", 0)
        told = (world.path / f"{kind}.py.count").read_text()
        assert told == ("1" if number == signal.SIGHUP else "3"), "a terminal that is closed is nothing to a server"
        assert world.say("--shutdown", "-q").returncode == 0
    shown("A9", f"{kind} server told to end by {number.name} at its start: no death, spoken", held, of=rounds)


@pytest.mark.timeout(600)
def test_a9_a_server_that_is_told_to_end_whenever_it_starts_is_given_up(world: World) -> None:
    program = world.path / "model.py"
    program.write_text(ASKED_TO_END.format(root=str(ROOT), program=str(ROOT / "model_server.py")))
    starter = world.path / "starter.py"
    starter.write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        f"from kokoro_common.daemon import model_server; model_server.MODEL_PROGRAM = {str(program)!r}\n"
        "import say; say.command()\n"
    )
    world.environment |= {"SIGNAL": str(int(signal.SIGTERM)), "TIMES": "1000"}
    world.program = starter
    done = world.say("hello")
    world.program = ROOT / "say.py"
    assert done.returncode == 6
    assert done.stderr == "starter.py: model is told to end whenever it is started; try again later\n"


@pytest.mark.timeout(600)
def test_a9_a_second_signal_and_one_during_a_fresh_start_are_no_deaths(world: World, shown: Shown) -> None:
    """A server that begins again in fresh memory is, for a moment, no server at all."""
    rounds, held = times(20), 0
    for number in range(rounds):
        assert world.say("-o", "x.wav", "hello").returncode == 0
        for server in world.servers():
            for asked in (ASKED[number % 3], ASKED[(number + 1) % 3]):
                with contextlib.suppress(psutil.NoSuchProcess):
                    server.send_signal(asked)
        psutil.wait_procs(world.servers(), timeout=30)
        done = world.say("-o", "x.wav", "hello")
        held += (done.returncode, done.stderr, world.status()["model_server"]["restarts"]) == (0, "", 0)
    shown("A9", "two signals at once: no death", held, of=rounds)


RENEWED = """\
import os, signal, sys
sys.path.insert(0, {root!r})
from kokoro_common.daemon import life
from kokoro_common.daemon.runtime_directory import RuntimeDirectory
from kokoro_common.daemon.record import note_of

class Server:
    def __init__(self, settings, runtime, life):
        self.runtime, self.life = runtime, life
    def run(self):
        assert "renewed" not in sys.argv, "it was told to end before"
        self.life.announce(1)
        kill = lambda: os.kill(os.getpid(), signal.{number})
        real, os.execv = os.execv, lambda *arguments: (kill(), real(*arguments))
        self.life.renew("renewed")
    def shut_down(self, drain):
        raise AssertionError("it has not come so far")

inherited = sys.argv[sys.argv.index("--inherited") + 1] if "--inherited" in sys.argv else ""
sys.exit(life.run_server("model", inherited, Server))
"""


@pytest.mark.parametrize("number", ASKED[:3], ids=lambda number: number.name)
def test_a9_a_signal_between_two_lives_is_heard_in_the_second(world: World, number: signal.Signals) -> None:
    program = world.path / "renewed.py"
    program.write_text(RENEWED.format(root=str(ROOT), number=number.name))
    done = subprocess.run(
        [sys.executable, str(program)], env=world.environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert record.note_of(RuntimeDirectory(str(world.runtime)), "model").record is None


def test_a9_deaths_are_forgotten_after_a_minute(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    deaths = tuple((now - 60.5 + seconds, "why") for seconds in range(5))
    assert record.Note(deaths=deaths).recent_deaths() == 4
    runtime = RuntimeDirectory(str(world.runtime))
    assert record.deaths(runtime) == 0
