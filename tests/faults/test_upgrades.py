"""A new version over a running old one, and the reverse: nothing that is being spoken is lost, nothing loops."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import psutil
import pytest

from kokoro_common.daemon import starter
from kokoro_common.daemon.record import note_of
from kokoro_common.daemon.runtime_directory import RuntimeDirectory
from kokoro_common.errors import ServersUnreachable
from tests.conftest import ROOT, World
from tests.faults.conftest import Shown, times

pytestmark = pytest.mark.e2e

VERSIONS = {"old": ("0.1.0", "1"), "new": ("0.2.0", "1"), "other protocol": ("0.3.0", "2")}
LONG = "This is a sentence that says nothing much. " * 18  # 2 s by the recorder's clock


def use(world: World, version: str) -> None:
    world.environment |= dict(zip(("VERSION", "PROTOCOL"), VERSIONS[version], strict=True), SAY="1")
    world.program = Path(__file__).parent / "versioned_server.py"


def running(world: World) -> tuple[str, int]:
    report = world.status()
    return report["version"], report["model_server"]["pid"]


@pytest.mark.parametrize("daemon", VERSIONS)
@pytest.mark.parametrize("client", VERSIONS)
def test_a16_versions_meet(world: World, client: str, daemon: str, shown: Shown) -> None:
    rounds, held = times(20), 0
    order = list(VERSIONS)
    replaced = order.index(client) > order.index(daemon)
    for _ in range(rounds):
        use(world, daemon)
        assert world.say("-o", "/dev/null", "hello").returncode == 0
        first = running(world)
        assert first[0] == VERSIONS[daemon][0]
        speaking = world.popen(LONG)  # by the old version
        world.wait_for_speech()
        use(world, client)
        if daemon == "other protocol" and client != daemon:
            ended = world.say("-o", "/dev/null", "hello")
            assert ended.returncode == 6
            assert "the servers are newer (version 0.3.0)" in ended.stderr
        else:
            assert world.say("-o", "/dev/null", "hello").returncode == 0
        assert (speaking.wait(60), speaking.communicate()[1]) == (0, b"")  # its end was not cut
        for server in world.servers() if replaced else []:
            if server.pid == first[1]:
                server.wait(20)  # the old one leaves when it is idle
        if replaced:
            assert world.say("-o", "/dev/null", "hello").returncode == 0
            held += running(world)[0] == VERSIONS[client][0]
        else:
            use(world, daemon)
            held += running(world) == first
        assert world.status()["model_server"]["restarts"] == 0
        assert world.say("--shutdown", "-q").returncode == 0
    shown("A16", f"a client that is {client} and servers that are {daemon}", held, of=rounds)


# --- The program's files change under running servers, and its version number does not -------------------------------

NOTICE_SECONDS = 60.0  # servers look every 5 and 10 s, on a busy machine


def installed(place: Path) -> Path:
    """A copy of the program."""
    place.mkdir()
    for name in ("say.py", "model_server.py", "voice_server.py"):
        shutil.copy2(ROOT / name, place)
    shutil.copytree(ROOT / "kokoro_common", place / "kokoro_common", ignore=shutil.ignore_patterns("__pycache__"))
    return place / "say.py"


def upgraded(place: Path) -> None:
    """Some line of some module is another one, as after git pull or pip."""
    path = place / "kokoro_common" / "text" / "clean.py"
    path.write_text(path.read_text() + "\n# another line\n")


def moved(place: Path) -> None:
    place.rename(place.with_name("elsewhere"))


def removed(place: Path) -> None:
    """And another copy is used from then on."""
    installed(place.with_name("elsewhere"))
    shutil.rmtree(place)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("change", [upgraded, moved, removed], ids=lambda change: change.__name__)
def test_a16_what_runs_from_another_program_now_is_replaced_when_idle(
    world: World, shown: Shown, change: object
) -> None:
    rounds, held = times(20), 0
    for number in range(rounds):
        place = world.path / f"{number}" / "kokoro"
        place.parent.mkdir()
        world.program = installed(place)
        assert world.say("-o", "x.wav", "hello").returncode == 0
        old = world.servers()
        change(place)  # type: ignore[operator]
        if not world.program.exists():
            world.program = place.with_name("elsewhere") / "say.py"
        _, left = psutil.wait_procs(old, timeout=NOTICE_SECONDS)
        done = world.say("-o", "x.wav", "hello")
        home = str(world.program.parent)
        new = [server.cmdline()[1].startswith(home) for server in world.servers()]
        said = [entry for entry in world.log() if entry["event"] == "the program is no longer the same"]
        restarts = world.status()["model_server"]["restarts"]
        held += (left, done.returncode, done.stderr, new, restarts) == ([], 0, "", [True, True], 0) and bool(said)
        assert world.say("--shutdown", "-q").returncode == 0
    shown("A16", f"program {change.__name__}: servers replaced when idle", held, of=rounds)  # type: ignore[attr-defined]


@pytest.mark.timeout(1800)
def test_a16_a_new_voice_speaks_though_the_program_has_just_moved(world: World, shown: Shown) -> None:
    """The model server starts voice servers from its own place."""
    rounds, held = times(20), 0
    for number in range(rounds):
        place = world.path / f"{number}" / "kokoro"
        place.parent.mkdir()
        world.program = installed(place)
        assert world.say("-o", "x.wav", "hello").returncode == 0
        moved(place)
        world.program = place.with_name("elsewhere") / "say.py"
        done = world.say("-v", "am_adam", "-o", "x.wav", "hello")
        held += (done.returncode, done.stderr, world.status()["model_server"]["restarts"]) == (0, "", 0)
        assert world.say("--shutdown", "-q").returncode == 0
    shown("A16", "a new voice right after the program was moved", held, of=rounds)


@pytest.mark.parametrize("gone", ["program", "interpreter"])
def test_a16_what_is_gone_is_named_and_is_no_death(world: World, monkeypatch: pytest.MonkeyPatch, gone: str) -> None:
    path = str(world.path / "gone")
    if gone == "interpreter":
        monkeypatch.setattr(sys, "executable", path)
    program = starter.Program(
        name="model", path=path if gone == "program" else str(ROOT / "model_server.py"), environment=world.environment
    )
    runtime = RuntimeDirectory(str(world.runtime))
    for _ in range(2):
        with pytest.raises(ServersUnreachable, match=f"{path} is gone.*--shutdown"):
            starter.ensure(runtime, program)
    assert (note_of(runtime, "model").died, note_of(runtime, "model").record) == (0, None)


@pytest.mark.timeout(300)
def test_a16_speech_under_way_is_not_cut_by_another_program(world: World) -> None:
    """It lasts longer than it takes the servers to notice; those that ask for a new voice in that time hear why not."""
    place = world.path / "kokoro"
    world.program = installed(place)
    reader = world.popen("-o", "-", stdin=-1, bufsize=0)  # open for as long as its text
    assert reader.stdin is not None and reader.stdout is not None
    reader.stdin.write(b"This is the first sentence. ")
    head = b""
    while len(head) < 10_000:  # the header alone comes before there are servers
        head += reader.stdout.read(10_000)
    moved(place)
    world.program = place.with_name("elsewhere") / "say.py"
    other = world.say("-v", "am_adam", "-o", "x.wav", "hello")
    assert other.returncode == 6
    assert f"{place / 'voice_server.py'} is gone" in other.stderr and "--shutdown" in other.stderr
    reader.stdin.write(b"And this is the last one.")
    out, errors = reader.communicate(timeout=60)
    assert (reader.returncode, errors, head[:4]) == (0, b"", b"RIFF")
    assert len(out) > 100_000
    assert psutil.wait_procs(world.servers(), timeout=NOTICE_SECONDS)[1] == []
