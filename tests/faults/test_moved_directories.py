"""C13: another user owns something on the way to our directories, or our directory is moved away under the servers."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from kokoro_common.errors import UsageError
from kokoro_common.settings import resolve
from tests.conftest import World
from tests.faults.conftest import Shown, times
from tests.faults.test_runtime_directory import STRANGER, DefaultWorld, by_a_stranger, needs_root

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3600)]

LEAVE_SECONDS = 60.0  # servers look after their record every 5 and 10 s, on a busy machine


@pytest.fixture
def new_world() -> Iterator[Callable[[], DefaultWorld]]:
    """Makes worlds which other users may enter, unlike tmp_path."""
    with contextlib.ExitStack() as stack:

        def make() -> DefaultWorld:
            path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kokoro-test-")))
            path.chmod(0o755)
            (path / "home").mkdir()
            world = DefaultWorld(path)
            stack.callback(world.end)
            return world

        yield make


def open_to_all(path: Path) -> Path:
    path.mkdir()
    path.chmod(0o1777)
    return path


def own(path: Path) -> Path:
    path.mkdir(mode=0o700, parents=True)
    return path


def shared_parent(world: DefaultWorld) -> None:
    by_a_stranger(open_to_all(world.parent))
    own(world.own)


def session(world: DefaultWorld) -> None:
    """The usual place is taken, and the session's directory lies in one of the stranger's."""
    by_a_stranger(open_to_all(world.parent))
    run = open_to_all(world.path / "run")
    world.environment["XDG_RUNTIME_DIR"] = str(own(run / "session"))
    by_a_stranger(run)


def asked_for(world: DefaultWorld) -> None:
    place = open_to_all(world.path / "place")
    world.environment["KOKORO_RUNTIME_DIR"] = str(own(place / "mine"))
    by_a_stranger(place)


def far_above(world: DefaultWorld) -> None:
    """All that is near is ours."""
    place = open_to_all(world.path / "place")
    world.environment["KOKORO_RUNTIME_DIR"] = str(own(place / "a" / "b") / "mine")
    by_a_stranger(place)


def link(world: DefaultWorld) -> None:
    """A stranger's link leads to what is ours."""
    place = open_to_all(world.path / "place")
    (place / "link").symlink_to(own(world.path / "really"))
    by_a_stranger(place / "link")
    world.environment["KOKORO_RUNTIME_DIR"] = str(place / "link" / "mine")


DOORS = (shared_parent, session, asked_for, far_above, link)
REFUSED = (asked_for, far_above, link)


def a_stranger_moves(place: Path) -> int:
    """How many directories and links below a place another user could move away, each replaced by one of his."""
    things = [path for path in sorted(place.rglob("*")) if path.is_dir() or path.is_symlink()]
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os.setgroups([])
            os.setgid(STRANGER)
            os.setuid(STRANGER)
            moved = 0
            for path in things:
                with contextlib.suppress(OSError):
                    path.rename(f"{path}-moved")
                    path.mkdir(mode=0o700)
                    moved += 1
            os.write(writing, bytes([moved]))
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    answer = os.read(reading, 1)
    os.close(reading)
    assert answer, "the stranger did not come to try"
    return answer[0]


@needs_root
@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
def test_c13_another_user_on_the_way_to_the_directory_has_no_effect(
    new_world: Callable[[], DefaultWorld], shown: Shown, door: Callable[[DefaultWorld], None]
) -> None:
    rounds, held, moved = times(40), 0, 0
    for _ in range(rounds):
        world = new_world()
        door(world)
        first = world.say("-o", "x.wav", "hello")
        if door in REFUSED:
            assert (first.returncode, len(first.stderr.splitlines())) == (6, 1), first.stderr
            assert str(world.path) in first.stderr and "KOKORO_RUNTIME_DIR" in first.stderr
        else:
            assert first.returncode == 0, first.stderr
            assert f"using {world.beside}" in first.stderr
        before = {server.pid for server in world.servers()}
        moved += a_stranger_moves(world.path)
        again = world.say("-o", "x.wav", "hello")
        same = {server.pid for server in world.servers()} == before
        ended = world.say("--shutdown", "-q")
        expected = 6 if door in REFUSED else 0
        held += (again.returncode, same, ended.returncode, world.servers()) == (expected, True, expected, [])
    assert moved, "the stranger could do nothing anyway"
    shown("C13", f"{door.__name__}: a stranger moves what lies there, 0 effects", held, of=rounds, moved=moved)


@needs_root
def test_c13_another_users_settings_are_refused_by_name(tmp_path: Path) -> None:
    """He owned a directory on the way, and has put one of his own in its place."""
    config = tmp_path / "config.toml"
    config.write_text("port = 7000\n")
    variables = {"HOME": str(tmp_path), "KOKORO_CONFIG_DIR": str(tmp_path)}
    assert resolve({}, variables).port == 7000
    by_a_stranger(config)
    with pytest.raises(UsageError, match=f"config.toml cannot be read: .*belongs to user {STRANGER}"):
        resolve({}, variables)


def test_c13_servers_whose_directory_is_moved_away_say_so_and_end(world: World, shown: Shown) -> None:
    """By root or the user: nothing can prevent that. What speaks goes on, and nothing is left over."""
    rounds, held = times(20), 0
    for number in range(rounds):
        assert world.say("-o", "x.wav", "hello").returncode == 0
        old = [psutil.Process(server.pid) for server in world.servers()]
        world.runtime.rename(world.path / f"moved-{number}")
        assert world.say("-o", "x.wav", "hello").returncode == 0
        _, left = psutil.wait_procs(old, timeout=LEAVE_SECONDS)
        said = [entry for entry in world.log() if entry["event"] == "the runtime directory was moved or removed"]
        ended = world.say("--shutdown", "-q")
        held += (left, len(said) > number, ended.returncode, world.servers()) == ([], True, 0, [])
    shown("C13", "runtime directory moved away: the servers say so and end", held, of=rounds)


def test_c13_a_program_that_lives_on_finds_its_directory_again(world: World) -> None:
    """A Python program holds its directory open for as long as it runs."""
    code = """
import os, sys
import kokoro_common as kokoro
kokoro.save("one", "one.wav")
os.rename(os.environ["KOKORO_RUNTIME_DIR"], "moved")
kokoro.save("two", "two.wav")
"""
    (world.path / "program.py").write_text(code)
    world.program = world.path / "program.py"
    world.environment["PYTHONPATH"] = str(Path(__file__).parent.parent.parent)
    done = world.say()
    assert (done.returncode, done.stderr) == (0, "")
    assert (world.path / "two.wav").exists() and (world.runtime / "model.json").exists()
    old = [server for server in world.servers() if server.pid not in {each["pid"] for each in pids(world)}]
    assert len(old) == 2
    assert psutil.wait_procs(old, timeout=LEAVE_SECONDS)[1] == []


def pids(world: World) -> list[dict[str, int]]:
    world.program = Path(__file__).parent.parent.parent / "say.py"
    report = world.status()
    return [report["model_server"], *report["voice_servers"]]
