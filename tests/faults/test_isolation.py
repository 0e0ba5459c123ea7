"""A21, A22, C1, D10, D11, F7: what the servers give up and leave readable, where they listen, odd surroundings."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import World
from tests.faults.conftest import Shown, times
from tests.helpers.kokoro_world import connect_to_hub, hub_of
from tests.helpers.toy_kokoro import ToyKokoro

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parent.parent.parent
linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc and namespaces are Linux's")

# What a run of both servers leaves and needs, besides what the world's own files are: name to the kind of it.
FILES = {
    "runtime": [".kokoro-espeak", "floor.lock", "model.json", "model.lock", "model.start.lock", "token",
                "voice-af_heart.json", "voice-af_heart.lock", "voice-af_heart.start.lock"],
    "cache/logs": ["kokoro.log", "model_server.log", "model_server.stderr", "voice_server-af_heart.log",
                   "voice_server-af_heart.stderr"],
}  # fmt: skip


def modes_below(folder: Path) -> dict[str, str]:
    """Path to mode, of a directory and all in it."""
    return {
        str(path.relative_to(folder.parent)): oct(stat.S_IMODE(path.lstat().st_mode))
        for path in [folder, *folder.rglob("*")]
    }


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777], ids=oct)
def test_a21_files_are_owner_only_whatever_the_umask(world: World, umask: int, shown: Shown) -> None:
    (world.path / "config").mkdir(0o700)
    started = subprocess.run(
        [sys.executable, str(ROOT / "say.py"), "-o", "-", "Hello there."],
        cwd=world.path, env=world.environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
        umask=umask, check=False,
    )  # fmt: skip
    assert (started.returncode, started.stderr) == (0, b"")
    modes = {**modes_below(world.runtime), **modes_below(world.cache), **modes_below(world.path / "config")}
    wrong = {
        path: mode for path, mode in modes.items() if mode != ("0o700" if (world.path / path).is_dir() else "0o600")
    }
    for folder, names in FILES.items():
        found = {path.name for path in (world.path / folder).iterdir()}
        assert set(names) - found - {".kokoro-espeak", "floor.lock"} == set(), "the list does not show what is made"
        assert found - set(names) == set(), "a file that nobody has thought of"
    shown(
        "A21", f"umask {umask:04o}: files 0600, directories 0700", len(modes) - len(wrong), of=len(modes), wrong=wrong
    )


LIMITS = {"Max core file size": ["0", "0"]}
STATUS = {"NoNewPrivs": "1", "Umask": "0077"}


@linux
def test_d10_limits_and_privileges_are_what_the_table_says(world: World, shown: Shown) -> None:
    assert world.say("-o", "x.wav", "hello").returncode == 0
    held = of = 0
    for server in world.servers():
        status = dict(line.split(":", 1) for line in Path(f"/proc/{server.pid}/status").read_text().splitlines())
        limits = {
            line[:25].strip(): line[25:].split()[:2]
            for line in Path(f"/proc/{server.pid}/limits").read_text().splitlines()
        }
        checks = [status[name].strip() == value for name, value in STATUS.items()]
        checks += [limits[name] == value for name, value in LIMITS.items()]
        files = limits["Max open files"]
        checks.append(int(files[0]) >= min(4096, int(files[1])))
        if "voice_server" in " ".join(server.cmdline()):
            maps = Path(f"/proc/{server.pid}/maps").read_text()
            checks += ["torch" not in maps, server.memory_info().rss < 80e6]
        held += sum(checks)
        of += len(checks)
    assert of == 4 + 6
    shown("D10", "limits, privileges and a voice server without torch, below 80 MB", held, of=of)


def test_d11_root_is_served_like_anyone(world: World, shown: Shown) -> None:
    if os.getuid():
        pytest.skip("not root")
    done = world.say("-o", "x.wav", "hello")
    assert (done.returncode, done.stderr) == (0, "")
    owners = {path.stat().st_uid for path in [world.runtime, *world.runtime.rglob("*")]}
    shown("D11", "root speaks, with directories of its own", 1 if owners == {0} else 0, of=1)


@pytest.mark.timeout(400)
def test_f7_only_the_loopback_is_listened_on(world: World, shown: Shown) -> None:
    """Of all that the servers have open while they speak, not only of what listens."""
    watching, addresses = threading.Event(), set()
    listening = set()

    def watch() -> None:
        while not watching.wait(0.1):
            for server in world.servers():
                try:
                    for each in server.net_connections("inet"):
                        addresses.update(end.ip for end in (each.laddr, each.raddr) if end)
                        if each.status == psutil.CONN_LISTEN:
                            listening.add((server.pid, each.laddr.port))
                except psutil.Error:
                    continue  # it has just ended

    watcher = threading.Thread(target=watch)
    watcher.start()
    voices = ["af_heart", "am_adam", "bf_emma"]
    try:
        for n in range(max(3, times(100))):
            assert world.say("-v", voices[n % 3], "-o", "x.wav", f"Number {n}.").returncode == 0
    finally:
        watching.set()
        watcher.join()
    assert len(listening) == 4, listening  # a port a server: the watch has seen them
    foreign = addresses - {"127.0.0.1"}
    shown("F7", "no address but 127.0.0.1", len(addresses) - len(foreign), of=len(addresses), sockets=len(listening))


LIMITERS = {
    "no new privileges, no capabilities": ["setpriv", "--no-new-privs", "--bounding-set=-all"],
    "256 descriptors": ["prlimit", "--nofile=256:256"],
    "2 GB of addresses": ["prlimit", "--as=2000000000"],
}


@linux
@pytest.mark.parametrize("limiter", LIMITERS)
def test_d10_a_server_by_hand_under_stricter_rules_speaks(world: World, limiter: str, shown: Shown) -> None:
    """As a supervisor would start it; say.py comes from outside."""
    wrapper = LIMITERS[limiter]
    if shutil.which(wrapper[0]) is None or subprocess.run([*wrapper, "true"], check=False).returncode:
        pytest.skip(f"{wrapper[0]} cannot do that here")
    server = subprocess.Popen(
        [*wrapper, sys.executable, str(ROOT / "model_server.py")], env=world.environment, stderr=subprocess.PIPE
    )
    assert server.stderr is not None
    with server.stderr:
        wait = threading.Event()
        while world.status()["model_server"] is None:
            assert server.poll() is None and not wait.wait(0.1)
        held = [world.say("-o", f"{n}.wav", "hello").returncode == 0 for n in range(3)]
        held.append(world.status()["model_server"]["pid"] == server.pid)
        assert world.say("--shutdown", "-q").returncode == 0
        assert (server.wait(10), server.stderr.read()) == (0, b"")
    shown("D10", f"speaks with {limiter}", sum(held), of=len(held))


# --- A22: odd surroundings -------------------------------------------------------------------------------------------

NAMESPACE = ["unshare", "--mount", "--propagation", "private"]


def can_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    done = subprocess.run([*NAMESPACE, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False)
    return done.returncode == 0


def say_in(world: World, before: list[str], *arguments: str, **environment: str | None) -> tuple[int, str, bytes]:
    """say.py under a wrapper: exit code, stderr, stdout. A variable that is None is left out."""
    whole = {**world.environment, **environment}
    done = subprocess.run(
        [*before, sys.executable, str(ROOT / "say.py"), *arguments],
        cwd=world.path, env={key: value for key, value in whole.items() if value is not None},
        stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False, start_new_session=True,
    )  # fmt: skip
    return done.returncode, done.stderr.decode(), done.stdout


@pytest.fixture
def mounts() -> None:
    if not can_mount():
        pytest.skip("no mount namespaces here")


def test_a22_no_home_is_a_clear_error_or_not_needed(world: World, shown: Shown) -> None:
    held = [say_in(world, [], "-o", "x.wav", "hello", HOME=None)[0] == 0]  # all directories are named
    code = "import os, sys, say; os.path.expanduser = str; sys.exit(say.main(['-o', 'x.wav', 'x']))"  # not in passwd
    nobody = {key: value for key, value in world.environment.items() if key not in ("HOME", "KOKORO_CACHE_DIR")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=nobody, capture_output=True, text=True, check=False
    )
    line = "say.py: there is no home directory; set HOME, or KOKORO_CONFIG_DIR and KOKORO_CACHE_DIR\n"
    held.append((done.returncode, done.stderr) == (2, line))
    shown("A22", "no HOME: speaks, or says what to set", sum(held), of=2)


@linux
@pytest.mark.usefixtures("mounts")
def test_a22_a_home_that_cannot_be_written_is_not_needed(world: World, shown: Shown) -> None:
    """Neither for the logs nor for the cache, while the embedded default speaks."""
    home = world.environment["HOME"]
    read_only = [*NAMESPACE, "sh", "-c", f'mount -o bind,ro "{home}" "{home}" && exec "$@"', "sh"]
    unset = {"KOKORO_CACHE_DIR": None, "KOKORO_CONFIG_DIR": None}
    held = [say_in(world, read_only, "-o", "x.wav", "hello", **each)[:2] == (0, "") for each in (unset, {})]
    shown("A22", "HOME read-only: speaks", sum(held), of=2)


@linux
@pytest.mark.usefixtures("mounts")
def test_a22_no_proc(world: World, shown: Shown) -> None:
    no_proc = [*NAMESPACE, "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"]
    held = [say_in(world, no_proc, "-o", "x.wav", "hello")[:2] == (0, "")]
    code, errors, out = say_in(world, no_proc, "--status", "--json")
    held.append((code, errors) == (0, "") and json.loads(out)["model_server"]["ledger"]["finished"] == 1)
    shown("A22", "no /proc: speaks, and tells its status", sum(held), of=2)


def test_a22_no_terminal_and_the_c_locale(world: World, shown: Shown) -> None:
    text = "Café, naïve – “quoted”."
    plain = {"LC_ALL": "C", "LANG": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    results = [
        say_in(world, [], "-o", f"{n}.wav", text, **environment)[:2]
        for n, environment in enumerate([{"LC_ALL": "C.UTF-8"}, {**plain}, {"LC_ALL": "C", "LANG": None}])
    ]
    files = [(world.path / f"{n}.wav").read_bytes() for n in range(3)]
    held = [result == (0, "") and file == files[0] for result, file in zip(results, files, strict=True)]
    shown("A22", "no terminal and LANG=C: the same file", sum(held[1:]), of=2)


# --- C1: no network --------------------------------------------------------------------------------------------------

NO_NETWORK = ["unshare", "--net", "sh", "-c",
              f"""{sys.executable} -c "
import fcntl, socket, struct
sock = socket.socket()
flags = struct.unpack_from('16xh', fcntl.ioctl(sock, 0x8913, b'lo'.ljust(40, bytes(1))))[0]
fcntl.ioctl(sock, 0x8914, b'lo'.ljust(16, bytes(1)) + struct.pack('h', flags | 1).ljust(24, bytes(1)))  # IFF_UP
" && exec "$@" """, "sh"]  # fmt: skip


@pytest.fixture
def full_cache(world: World, toy_kokoro: ToyKokoro) -> Iterator[World]:
    with hub_of(toy_kokoro.directory, toy_kokoro.manifest) as hub:
        connect_to_hub(world, hub, toy_kokoro)
        done = world.say("--download")
        assert done.returncode == 0, done.stderr
        assert world.say("--shutdown", "-q").returncode == 0
    yield world


@linux
@pytest.mark.model
@pytest.mark.timeout(300)
def test_c1_without_a_network_a_full_cache_speaks(full_cache: World, shown: Shown) -> None:
    """In a network namespace with nothing but lo, the hub gone; strace, if it is there, sees every address called."""
    world = full_cache
    if shutil.which("unshare") is None or subprocess.run([*NO_NETWORK, "true"], check=False).returncode:
        pytest.skip("no network namespaces here")
    say = f"{sys.executable} {ROOT / 'say.py'} -q"
    script = f"{say} --engine kokoro -o x.wav Hello. && {say} --shutdown"  # from within: nobody outside reaches them
    trace = world.path / "trace"
    strace = ["strace", "-f", "--seccomp-bpf", "-e", "trace=connect,sendto,sendmsg", "-o", str(trace)]
    done = subprocess.run(
        [*NO_NETWORK, *(strace if shutil.which("strace") else []), "sh", "-c", script],
        cwd=world.path, env=world.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    calls = [line for line in trace.read_text().splitlines() if "AF_INET" in line] if trace.exists() else []
    external = [line for line in calls if 'inet_addr("127.0.0.1")' not in line]
    shown("C1", "full cache, no network: the real voice speaks", int((world.path / "x.wav").exists()), of=1)
    if trace.exists():
        assert calls, "strace saw nothing"
        shown("C1", "connects to 127.0.0.1 alone", len(calls) - len(external), of=len(calls), external=external)
