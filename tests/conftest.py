"""What every test may use: a world of its own (directories, ports from 0) and a look at what it left behind."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from kokoro_common.daemon import model_server, starter
from kokoro_common.daemon.runtime_directory import LIBRARIES, RuntimeDirectory

ROOT = Path(__file__).parent.parent
PROGRAMS = ROOT / "tests" / "helpers"
pytest_plugins = ["tests.helpers.local_hub", "tests.helpers.silent_card", "tests.helpers.toy_kokoro"]


# Marks of tests that only .ci/run and those who ask run: by mark (-m card) or by path (tests/faults).
LEFT_OUT = ("slow", "card", "benchmark", "fault")
COMMON_RUN = f"not ({' or '.join(LEFT_OUT)})"
EXPECTED = "about 5 minutes on two cores, 6 at the most"  # as the README and CONTRIBUTING say
MOST_WORKERS = 4  # a worker that loads the model takes 1 GB


def pytest_configure(config: pytest.Config) -> None:
    """Without a path or -m the common run is meant. xdist hands the expression on to its workers."""
    # A shell ignores SIGINT for commands in the background, nohup SIGHUP, and the programs under test would inherit it.
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)
    if config.args_source == pytest.Config.ArgsSource.TESTPATHS and not config.option.markexpr:
        config.option.markexpr = COMMON_RUN


def pytest_collection_finish() -> None:
    """The programs of the tests put theirs in the place of the model server's, which no module of tests may import."""
    assert str(ROOT / "model_server.py") == model_server.MODEL_PROGRAM, "a test has imported one of tests' programs"


def pytest_sessionstart(session: pytest.Session) -> None:
    """Says how long the common run takes. Not pytest_report_header, which -q silences."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and session.config.option.markexpr == COMMON_RUN:
        reporter.write_line(f"The common run takes {EXPECTED}; left out: {', '.join(LEFT_OUT)} (.ci/run: everything).")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """The workers of -n auto."""
    return min(MOST_WORKERS, len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A worker takes a file at a time, in the order of collection; one takes all files with end-to-end tests that load
    the model, another one the other end-to-end tests.

    Those start servers, which have deadlines: more at once on two cores might miss them. Not xdist's own groups, which
    are silently ignored with pytest 9.2 (pytest-xdist 1386).
    """
    from xdist.scheduler import LoadScopeScheduling

    @functools.cache
    def group(path: str) -> str:
        source = (ROOT / path).read_text()
        if "mark.e2e" not in source:
            return path
        return "end to end, model" if "mark.model" in source else "end to end"

    class Scheduler(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group(nodeid.partition("::")[0])

    config.option.loadscopereorder = False
    return Scheduler(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Fast tests first: one that needs no processes, model or card fails within a minute.

    With -n the end-to-end tests begin at once, on two workers, and the fast tests follow.
    """
    parallel = hasattr(config, "workerinput")

    def rank(item: pytest.Item) -> int:
        marks = {mark.name for mark in item.iter_markers()}
        if not parallel:
            return int(bool(marks & {"e2e", "model", *LEFT_OUT}))
        if "e2e" in marks:
            return 0 if "model" in marks else 1
        return 3 if "model" in marks else 2

    items.sort(key=rank)


class World:
    """The directories and environment of one test, and the say.py that lives in them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runtime = path / "runtime"
        self.cache = path / "cache"
        self.program = ROOT / "say.py"
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("KOKORO_", "HF_"))},
            "HOME": str(path / "home"),
            "KOKORO_RUNTIME_DIR": str(self.runtime),
            "KOKORO_CACHE_DIR": str(self.cache),
            "KOKORO_CONFIG_DIR": str(path / "config"),
            "KOKORO_PORT": "0",
            "KOKORO_ENGINE": "espeak",
            "KOKORO_OFFLINE": "1",
            "KOKORO_KEPT_AUDIO": "0",
            "KOKORO_UNTOUCHED": "1",  # sample for sample what the engine gave; tests of silence and levels set it to 0
            "ALSA_CONFIG_PATH": "/dev/null",  # no sound card unless the test brings one
            "PULSE_SERVER": "unix:/nonexistent",
        }

    def popen(self, *arguments: str, **options: object) -> subprocess.Popen[bytes]:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            [sys.executable, str(self.program), *arguments],
            cwd=self.path,
            env=self.environment,
            **{**pipes, **options},  # type: ignore[call-overload]
        )

    def say(
        self, *arguments: str, stdin: bytes | None = None, timeout: float = 60, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs say.py to its end; environment variables in addition by keyword."""
        done = subprocess.run(
            [sys.executable, str(self.program), *arguments],
            cwd=self.path,
            env={**self.environment, **environment},
            input=stdin if stdin is not None else b"",
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
        )

    def log(self, component: str = "kokoro") -> list[dict[str, object]]:
        path = self.cache / "logs" / f"{component}.log"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def start_stub_server(
        self,
        program: Path = PROGRAMS / "stub_model_server.py",
        on_exit: Callable[[int], None] | None = None,
    ) -> None:
        """The stub model server, or one more special, with this world's environment as it is now.

        Whoever starts one later starts the stub. `on_exit` is called on a thread of its own with the return code.
        """
        self.program = PROGRAMS / "stub_say.py"
        (self.cache / "logs").mkdir(parents=True, exist_ok=True)
        program = starter.Program(
            name="model",
            path=str(program),
            environment=self.environment,
            stderr_path=str(self.cache / "logs" / "model_server.stderr"),
            on_exit=on_exit,
        )
        starter.ensure(RuntimeDirectory(str(self.runtime)), program).close()

    def spans(self, voice: str) -> list[tuple[float, float]]:
        """After a shutdown: when the voice's recorder was open, in time.monotonic()."""
        return [(begin, end) for begin, end in np.load(self.path / f"spans-{voice}.npy")]

    def status(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self.say("--status", "--json").stdout)
        return report

    def wait_for_speech(self, state: str = "speaking") -> None:
        """Returns when somebody speaks: a status takes a tenth of a second, so this asks for 30 s at the most."""
        for _ in range(300):
            if any(each["state"] == state for each in self.status().get("speaking", [])):
                return
        raise AssertionError(f"nothing was {state}")

    def servers(self) -> list[psutil.Process]:
        """Live servers of this world, found by their environment."""
        found = []
        for process in psutil.process_iter():
            try:
                line = " ".join(process.cmdline())
                if "_server" in line and process.environ().get("KOKORO_RUNTIME_DIR") == str(self.runtime):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def residue(self) -> list[str]:
        """What is left after a shutdown and should not be."""
        left = [f"{process!r}" for process in self.servers()]  # which asks nothing that one at its end cannot answer
        if self.runtime.exists():
            left += [
                f"file {path.name}"
                for path in self.runtime.iterdir()
                if path.suffix != ".lock" and path.name not in ("token", LIBRARIES)
            ]
            libraries = self.runtime / LIBRARIES
            left += [f"file {path}" for path in (libraries.iterdir() if libraries.exists() else [])]
        return left


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Ends the test's servers politely and checks that nothing is left."""
    world = World(tmp_path)
    (tmp_path / "home").mkdir()
    yield world
    ended = world.say("--shutdown", "-q")
    left = world.residue()
    for process in world.servers():
        process.kill()
    assert (ended.returncode, ended.stderr, left) == (0, "", [])


@pytest.fixture
def stub_world(world: World) -> World:
    """A world whose model server has the stub engine, and its voice servers recorders."""
    world.start_stub_server()
    return world
