"""What a server gives up at its start holds by the kernel's own word, costs nothing one notices, and is never fatal."""

from __future__ import annotations

import configparser
import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kokoro_common.settings import resolve
from tests.conftest import World
from tests.helpers.silent_card import SilentCard

ROOT = Path(__file__).parent.parent.parent
linux = pytest.mark.skipif(sys.platform != "linux", reason="prctl and /proc are Linux's")


def hardened(before: str = "", after: str = "") -> dict[str, object]:
    """The record of a fresh process; harden() cannot be taken back."""
    script = f"""
import json, os, resource
from kokoro_common.daemon import isolation
{before}
record = isolation.harden().as_dict()
{after}
print(json.dumps(record))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    record: dict[str, object] = json.loads(done.stdout)
    return record


@linux
def test_the_kernel_says_what_the_record_says() -> None:
    record = hardened(
        after="""
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
limits = {line[:25].strip(): line[25:].split()[:2] for line in open("/proc/self/limits")}
child = os.popen("grep NoNewPrivs /proc/self/status").read()
record |= {"status": status["NoNewPrivs"].strip(), "mask": status["Umask"].strip(), "child": child.split()[1],
           "core": limits["Max core file size"], "files": limits["Max open files"]}
"""
    )
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert (record["no_new_privs"], record["status"], record["child"]) == (True, "1", "1")  # and in what it starts
    assert (record["core_limit"], record["core"]) == (0, ["0", "0"])
    assert (record["umask"], record["mask"]) == ("077", "0077")
    assert record["files"] == [str(record["file_limit"]), str(hard)]


@pytest.mark.parametrize(
    ("soft", "hard", "expected"), [(64, 8192, 4096), (64, 1024, 1024), (6000, 8192, 6000), (256, 256, 256)]
)
def test_the_limit_of_descriptors_is_raised_never_lowered(soft: int, hard: int, expected: int) -> None:
    if 0 <= resource.getrlimit(resource.RLIMIT_NOFILE)[1] < hard:
        pytest.skip("the hard limit is lower here")
    record = hardened(before=f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))")
    assert record["file_limit"] == expected


REFUSED = """
def refuse(*_):
    raise OSError("not allowed")
resource.setrlimit = refuse
"""


def test_what_the_system_refuses_is_not_fatal_and_said() -> None:
    before = "resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))"
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    record = hardened(before=before + REFUSED + "import ctypes\nctypes.CDLL = refuse")
    assert record == {"umask": "077", "no_new_privs": False, "core_limit": 0, "file_limit": soft}


def test_it_costs_a_fraction_of_what_a_server_imports() -> None:
    """The import counts too. The best share of five processes: a busy moment may fall into either part."""
    script = """
import time
began = time.perf_counter()
import voice_server
imported = time.perf_counter()
from kokoro_common.daemon import isolation
isolation.harden()
print((time.perf_counter() - imported) / (imported - began))
"""
    command = [sys.executable, "-c", script]
    shares = [
        float(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout) for _ in range(5)
    ]
    assert min(shares) < 0.02, shares  # 0.0015 where it was measured


@linux
@pytest.mark.e2e
@pytest.mark.card
def test_speech_is_heard_from_servers_without_new_privileges(world: World, silent_card: SilentCard) -> None:
    """PulseAudio, ALSA and espeak-ng's worker know no setuid program that they would need."""
    world.environment |= silent_card.environment
    with silent_card.capture() as captured:
        done = world.say("Hello there.")
        assert done.returncode == 0, done.stderr
    assert len(np.trim_zeros(captured.samples)) > 5_000
    servers = world.servers()
    assert len(servers) == 2
    for process in [*servers, *(child for server in servers for child in server.children(recursive=True))]:
        assert "NoNewPrivs:\t1" in Path(f"/proc/{process.pid}/status").read_text(), process.cmdline()


# --- The systemd unit ------------------------------------------------------------------------------------------------

UNIT = ROOT / "docs" / "kokoro-say.service"


class Service(dict[str, str]):
    """The unit's [Service]; of keys that come more than once, the values joined."""

    def __setitem__(self, key: str, value: object) -> None:
        if key in self and isinstance(value, list):
            value = [*self[key], *value]
        super().__setitem__(key, value)  # type: ignore[arg-type]


def service() -> dict[str, str]:
    parser = configparser.RawConfigParser(strict=False, dict_type=Service, comment_prefixes=("#",), delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(UNIT)
    return {key: value.replace("\n", " ") for key, value in parser["Service"].items()}


def test_the_unit_starts_the_server_for_good() -> None:
    """The engine's environment the program brings about by itself."""
    variables = dict(pair.split("=", 1) for pair in service()["Environment"].split())
    assert variables == {"KOKORO_KEEP_ALIVE": "-1"}
    assert resolve({}, {**variables, "HOME": "/"}).keep_alive == -1
    assert service()["ExecStart"].endswith("/kokoro-model-server")


def test_the_unit_holds_what_it_promises() -> None:
    held = service()
    assert (held["NoNewPrivileges"], held["Restart"], held["UMask"]) == ("yes", "on-failure", "0077")
    assert held["MemoryMax"] == "6G"
    assert resolve({}, {"HOME": "/"}).memory_limit < 6_000  # the server replaces itself before systemd kills it


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    """As a system unit, which needs no user manager; where the program lies is the reader's to fill in."""
    unit = tmp_path / "kokoro-say.service"
    unit.write_text(UNIT.read_text().replace("%h/.local/bin/kokoro-model-server", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert [line for line in done.stderr.splitlines() if unit.name in line] == []
    assert done.returncode == 0
