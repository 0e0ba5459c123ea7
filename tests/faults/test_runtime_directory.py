"""C13: the runtime directory attacked or aged away. C16: two users on one machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.conftest import ROOT, World
from tests.faults.conftest import Shown, times

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can act as two users")
STRANGER = 65534
SETTLE_SECONDS = 30.0  # servers look after their record every 5 and 10 s
NOBODYS_PATHS = """
import os, sys
sys.path.insert(0, {root!r})
from kokoro_common.daemon import runtime_directory as paths
paths.SHARED_PARENT = os.environ["TEST_SHARED_PARENT"]
paths.SESSION_PARENT = os.environ["TEST_SHARED_PARENT"] + "-sessions"
"""


class DefaultWorld(World):
    """A world whose runtime directory is the default one, below a parent that is not the machine's."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        del self.environment["KOKORO_RUNTIME_DIR"]
        self.parent = path / "kokoro_socket"
        self.own = self.parent / str(os.getuid())
        self.beside = path / f"kokoro_socket-{os.getuid()}"
        (path / "site").mkdir()
        (path / "site" / "sitecustomize.py").write_text(NOBODYS_PATHS.format(root=str(ROOT)))
        self.environment |= {"PYTHONPATH": str(path / "site"), "TEST_SHARED_PARENT": str(self.parent)}
        self.environment.pop("XDG_RUNTIME_DIR", None)

    def servers(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                ours = process.environ().get("KOKORO_CACHE_DIR") == str(self.cache)
                if ours and "_server.py" in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def end(self) -> None:
        self.say("--shutdown", "-q")
        for process in self.servers():
            process.kill()

    def speaks(self) -> bool:
        done = self.say("-o", "x.wav", "hello")
        assert done.returncode == 0, done.stderr
        return (self.path / "x.wav").stat().st_size > 1000

    def settled(self) -> float:
        """Seconds until one model server and one voice server are left."""
        began = time.monotonic()
        while True:
            programs = []
            for process in self.servers():
                with contextlib.suppress(psutil.Error):  # it ends at this moment
                    programs.append(Path(process.cmdline()[1]).name)
            programs.sort()
            if programs == ["model_server.py", "voice_server.py"]:
                return time.monotonic() - began
            assert time.monotonic() - began < SETTLE_SECONDS, programs
            time.sleep(0.2)


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


def seen(path: Path) -> dict[str, tuple[object, ...]]:
    """What a stranger would notice if his things were touched."""
    things = [path, *path.rglob("*")] if path.is_dir() and not path.is_symlink() else [path]
    return {str(thing): _looks(thing) for thing in things if os.path.lexists(thing)}


def _looks(thing: Path) -> tuple[object, ...]:
    found = os.lstat(thing)
    content = thing.read_bytes() if thing.is_file() else os.readlink(thing) if thing.is_symlink() else b""
    return found.st_mode, found.st_uid, found.st_mtime_ns, content


def a_stranger_reads(secret: bytes, place: Path) -> int:
    """How many files below a place give a secret away to another user."""
    directories = [place, *(path for path in place.rglob("*") if path.is_dir())]
    files = {str(path) for path in place.rglob("*") if not path.is_dir()} | {
        str(path / "token") for path in directories
    }
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os.setgroups([])
            os.setgid(STRANGER)
            os.setuid(STRANGER)
            read = 0
            for file in files:
                with contextlib.suppress(OSError):
                    read += secret in Path(file).read_bytes()
            os.write(writing, bytes([read]))
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    answer = os.read(reading, 1)
    os.close(reading)
    assert answer, "the stranger did not come to try"
    return answer[0]


@needs_root
def test_c13_a_stranger_reads_a_token_that_lies_open(new_world: Callable[[], DefaultWorld]) -> None:
    place = new_world().path
    (place / "token").write_bytes(b"s" * 32)
    (place / "token").chmod(0o600)
    assert a_stranger_reads(b"s" * 32, place) == 0
    (place / "token").chmod(0o644)
    assert a_stranger_reads(b"s" * 32, place) == 1


def by_a_stranger(path: Path) -> None:
    os.lchown(path, STRANGER, STRANGER)


def attack(world: DefaultWorld, kind: str) -> list[Path]:
    """Somebody was there before the first start. Returns what is the stranger's."""
    theirs = world.path / "theirs"
    theirs.mkdir(mode=0o755)
    (theirs / "diary").write_text("dear diary " * 3)
    world.parent.mkdir()
    world.parent.chmod(0o1777)
    if kind == "directory of another user":
        world.own.mkdir(mode=0o700)
        (world.own / "token").write_bytes(b"t" * 32)
        (world.own / "model.lock").touch()
        for path in (world.own / "token", world.own / "model.lock", world.own):
            by_a_stranger(path)
        return [world.own]
    if kind == "symlink":
        world.own.symlink_to(theirs)
        by_a_stranger(world.own)
        return [world.own, theirs]
    if kind == "open to all":
        world.own.mkdir()
        world.own.chmod(0o777)
        (world.own / "token").write_bytes(b"t" * 32)
        by_a_stranger(world.own / "token")
        return [world.own]
    if kind == "file":
        world.own.write_text("in the way")
        by_a_stranger(world.own)
        return [world.own]
    assert kind == "hard links"  # files of others under the names that we write to; the directory itself is ours
    world.own.mkdir(mode=0o700)
    for name in ("token", "model.lock", "model.start.lock", "model.json", "voice-af_heart.lock"):
        victim = theirs / name
        victim.write_bytes(b"t" * 32)
        victim.chmod(0o644)
        by_a_stranger(victim)
        os.link(victim, world.own / name)
    return [theirs]


@needs_root
@pytest.mark.parametrize("kind", ["directory of another user", "symlink", "open to all", "file", "hard links"])
def test_c13_whoever_was_there_first_is_neither_trusted_nor_touched(
    new_world: Callable[[], DefaultWorld], shown: Shown, kind: str
) -> None:
    held, slowest = 0, 0.0
    for _ in range(times(20)):
        world = new_world()
        theirs = attack(world, kind)
        before = [seen(path) for path in theirs]
        assert world.speaks()
        slowest = max(slowest, world.settled())
        assert world.speaks(), "a second start finds the same place"
        world.settled()
        place = world.own if kind == "hard links" else world.beside
        assert (place / "model.json").exists()
        assert [seen(path) for path in theirs] == before
        assert a_stranger_reads((place / "token").read_bytes(), world.path) == 0
        world.end()
        held += 1
    shown("C13", f"{kind}: one server, nothing touched or readable", held, of=times(20), slowest_s=round(slowest, 1))


@needs_root
@pytest.mark.parametrize("kind", ["directory of another user", "symlink", "open to all", "file"])
def test_c13_a_directory_that_was_asked_for_is_refused(
    new_world: Callable[[], DefaultWorld], shown: Shown, kind: str
) -> None:
    held = 0
    for _ in range(times(20)):
        world = new_world()
        theirs = attack(world, kind)
        before = [seen(path) for path in theirs]
        done = world.say("hello", KOKORO_RUNTIME_DIR=str(world.own))
        assert done.returncode == 6, done.stderr
        assert str(world.own) in done.stderr and "KOKORO_RUNTIME_DIR" in done.stderr
        assert [seen(path) for path in theirs] == before
        assert world.servers() == []
        held += 1
    shown("C13", f"{kind}: refused by name", held, of=times(20))


REMOVED = ["the whole directory", "every file", "every file but the locks", "the token"]


def remove(world: DefaultWorld, what: str) -> None:
    if what == "the whole directory":
        shutil.rmtree(world.own)
        return
    for path in world.own.iterdir():
        is_meant = {"the token": path.name == "token", "every file but the locks": path.suffix != ".lock"}
        if path.is_file() and is_meant.get(what, True):
            path.unlink()


@pytest.mark.parametrize("then", ["speech", "silence"])
def test_c13_what_is_removed_while_servers_run_leaves_one_server(
    new_world: Callable[[], DefaultWorld], shown: Shown, then: str
) -> None:
    """rm -rf, and a clean-up of /tmp after ten days. At once a new say.py, or time for the servers to notice."""
    rounds = times(20) if then == "speech" else times(10)

    def survive(what: str, world: DefaultWorld) -> tuple[int, float]:
        slowest = 0.0
        for _ in range(rounds):
            assert world.speaks()
            world.settled()
            remove(world, what)
            if then == "silence":
                time.sleep(11)  # voice servers look every 10 s
            assert world.speaks()
            slowest = max(slowest, world.settled())
            time.sleep(1)  # nobody puts back what a successor has
            assert world.speaks()
            world.settled()
        return rounds, slowest

    with ThreadPoolExecutor() as pool:  # they mostly wait
        results = list(pool.map(survive, REMOVED, [new_world() for _ in REMOVED]))
    for what, (held, slowest) in zip(REMOVED, results, strict=True):
        shown("C13", f"{what} removed, then {then}: one server", held, of=rounds, slowest_s=round(slowest, 1))


# --- C16: two users on one machine ------------------------------------------------------------------------------------

# Where a home that is closed to others holds the interpreter or the project: a view of the machine in which they lie
# open, for the commands behind it alone. $1 is the closed directory, $2 what is needed of it, one path a line, $3 a
# place for the view of the closed one.
OPENED = """
old=$(mktemp -d -p "$3") && mount --bind "$1" "$old" && mount -t tmpfs -o mode=755 none "$1" || exit 9
printf '%s\\n' "$2" | while read -r path; do
    mkdir -p "$path" && mount --bind "$old/${path#"$1"/}" "$path" || exit 9
done
shift 3
exec "$@"
"""


def command_of_a_stranger(place: Path) -> list[str]:
    """What to put before a command so that another user runs it. Skips where that cannot be."""
    become = ["setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups"]
    needed = sorted({os.path.realpath(path) for path in (sys.base_prefix, sys.prefix, ROOT)})
    closed = {
        str(folder) for path in needed for folder in Path(path).parents if not os.stat(folder).st_mode & stat.S_IXOTH
    }
    if len(closed) == 1:
        (home,) = closed
        inside = "\n".join(path for path in needed if path.startswith(home + os.sep))
        become = ["unshare", "-m", "sh", "-c", OPENED, "sh", home, inside, str(place), *become]
    trial = [*become, sys.executable, "-c", "import numpy, psutil"]
    if not shutil.which("setpriv") or subprocess.run(trial, capture_output=True, cwd="/").returncode:
        pytest.skip("another user cannot run this interpreter here")
    return become


class OtherUsersWorld(DefaultWorld):
    def __init__(self, path: Path, become: list[str]) -> None:
        super().__init__(path)
        self._become = become
        for thing in (path, *path.rglob("*")):
            by_a_stranger(thing)

    def say(
        self, *arguments: str, stdin: bytes | None = None, timeout: float = 60, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._become, sys.executable, str(ROOT / "say.py"), *arguments],
            cwd="/",
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )


@needs_root
def test_c16_two_users_speak_beside_each_other(shown: Shown) -> None:
    """The same preferred port, the same parent of their directories; neither hears of the other's servers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    with tempfile.TemporaryDirectory(prefix="kokoro-test-") as directory, contextlib.ExitStack() as stack:
        place = Path(directory)
        place.chmod(0o1777)
        (place / "kokoro_socket").mkdir()  # by root: of a user who makes it, the other would keep away
        (place / "kokoro_socket").chmod(0o1777)
        become = command_of_a_stranger(place)
        worlds = []
        for name, kind in (("ours", DefaultWorld), ("theirs", lambda path: OtherUsersWorld(path, become))):
            (place / name / "home").mkdir(parents=True)
            worlds.append(kind(place / name))
            worlds[-1].environment |= {"TEST_SHARED_PARENT": str(place / "kokoro_socket"), "KOKORO_PORT": port}
            stack.callback(worlds[-1].end)

        def speak(world: DefaultWorld) -> bool:
            return world.say("-o", str(world.path / "x.wav"), "hello").returncode == 0

        spoken = 0
        with ThreadPoolExecutor() as pool:
            for _ in range(times(100)):
                spoken += sum(pool.map(speak, worlds))
        users = [{process.uids().real for process in world.servers()} for world in worlds]
        ports = [world.status()["model_server"]["port"] for world in worlds]
        turned_away = [line for world in worlds for line in world.log() if line["event"] == "caller turned away"]
        assert sorted(path.name for path in (place / "kokoro_socket").iterdir()) == ["0", str(STRANGER)]
        assert users == [{0}, {STRANGER}]
        assert len(set(ports)) == 2
        shown("C16", "two users, each with servers of his own", spoken, of=2 * times(100))
        shown("C16", "no call to the other's servers", spoken - len(turned_away), of=2 * times(100))
