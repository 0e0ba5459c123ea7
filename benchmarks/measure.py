"""What the benchmarks share: contestants that take turns, figures with their spread, servers in a world of their own.

A ratio is taken between two figures of one round: what slows the machine for a while slows both. Printed are the median
of all rounds and the quartiles around it.
"""

from __future__ import annotations

import contextlib
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

from benchmarks import real_model
from kokoro_common.daemon import starter
from kokoro_common.daemon.model_server import ENVIRONMENT
from kokoro_common.daemon.runtime_directory import RuntimeDirectory
from kokoro_common.hub.cache import Cache
from kokoro_common.hub.manifest import load_manifest
from kokoro_common.settings import Settings, resolve
from tests.conftest import World

ROOT = Path(__file__).parent.parent
VOICE = "af_heart"

Round = dict[str, float]  # what was measured, in seconds


def take_turns(contestants: Sequence[Callable[[], Round]], rounds: int, warm_up: int = 2) -> list[Round]:
    """Each contestant once a round, in turn: A B, B A, A B. A round in which one fails is told of and left out."""
    measured = []
    failures = 0
    for number in range(warm_up + rounds):
        first = number % len(contestants)  # so that none always comes first
        try:
            one = {
                name: seconds
                for contestant in (*contestants[first:], *contestants[:first])
                for name, seconds in contestant().items()
            }
        except subprocess.SubprocessError as error:
            print(f"round {number} failed: {error}", file=sys.stderr)
            failures += 1
            continue
        if number >= warm_up:
            measured.append(one)
    print(f"{len(measured)} rounds, {failures} failed")
    if not measured:
        sys.exit("nothing was measured")
    return measured


def print_seconds(rounds: Sequence[Round], names: Iterable[str]) -> None:
    for name in names:
        print(f"  {name:<42}{_spread([one[name] * 1000 for one in rounds], '8.1f')} ms")


def print_ratios(rounds: Sequence[Round], pairs: Iterable[tuple[str, str]]) -> None:
    for name, baseline in pairs:
        print(f"  {f'{name} / {baseline}':<42}{_spread([one[name] / one[baseline] for one in rounds], '8.2f')}")


def quartiles(values: Sequence[float]) -> list[float]:
    """Lower quartile, median, upper quartile."""
    return statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else 3 * list(values)


def _spread(values: Sequence[float], form: str) -> str:
    low, median, high = quartiles(values)
    return f"{median:{form}}   ({low:{form.lstrip('8')}} .. {high:{form.lstrip('8')}})"


def print_machine() -> None:
    print(machine())


def machine() -> str:
    """The line that figures mean nothing without."""
    flags = _cpu_flags()
    vector = [name for name in ("avx2", "avx512f", "amx_tile") if name in flags]
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {' '.join(vector) or 'no AVX'}; "
        f"Python {platform.python_version()}, torch {version('torch')}; load {os.getloadavg()[0]:.1f}"
    )


def _cpu_flags() -> set[str]:
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        return {flag for line in file if line.startswith("flags") for flag in line.split()}
    return set()


def run(*command: str, environment: dict[str, str] | None = None) -> float:
    """Seconds of a Python process from start to end. Raises subprocess.CalledProcessError when it fails."""
    began = time.monotonic()
    # Without a timeout: with one, subprocess polls, every 50 ms in the end.
    subprocess.run([sys.executable, *command], check=True, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


# Silence, rests and levels as a user hears them: the tests' worlds leave the engine's samples as they are.
TOUCHED = {"KOKORO_UNTOUCHED": "0"}


@contextlib.contextmanager
def new_world(environment: dict[str, str] | None = None) -> Iterator[World]:
    """Directories and an environment for servers of our own, which are ended on the way out, whatever happened."""
    with tempfile.TemporaryDirectory(prefix="kokoro-bench-") as directory:
        world = World(Path(directory))
        logs = world.cache / "logs"
        for path in (world.path / "home", logs):
            path.mkdir(parents=True)
        world.environment |= {"KOKORO_LOG_DIR": str(logs), **(environment or {})}
        world.environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed program does not compile itself each time
        try:
            yield world
        finally:
            try:
                world.say("--shutdown", "-q")
            finally:
                for server in world.servers():
                    server.kill()


def start_model_server(world: World, program: Path) -> None:
    """Starts a variant of the model server in the way say.py starts the real one. Returns when it listens."""
    started = starter.Program(
        name="model",
        path=str(program),
        environment={**ENVIRONMENT, **world.environment},
        stderr_path=str(world.cache / "logs" / "model_server.stderr"),
    )
    starter.ensure(RuntimeDirectory(str(world.runtime)), started).close()


REAL = "real"  # as a value of BENCHMARK_MODEL


def model_settings() -> Settings:
    """With `manifest` and `cache_dir` of the model to measure, an empty manifest if there is none: that of
    benchmarks/real_model.py if BENCHMARK_MODEL is "real", else the one that KOKORO_MANIFEST names."""
    chosen = os.environ.get("BENCHMARK_MODEL", "")
    if chosen not in ("", REAL):
        sys.exit(f"BENCHMARK_MODEL is {chosen!r}; it can only be {REAL!r}, or unset for KOKORO_MANIFEST's")
    return resolve(environ={**os.environ, **(real_model.variables() if chosen else {})})


class Model:
    """The model to measure, with its files in the cache. None of it is read here."""

    def __init__(self) -> None:
        settings = model_settings()
        manifest = load_manifest(settings.manifest)
        cache = Cache(manifest, settings.cache_dir)
        names = (manifest.config, manifest.model, f"voices/{VOICE}.pt")
        self.files = [path for path in map(cache.cached, names) if path]  # configuration, weights, voice pack
        if len(self.files) < len(names):
            sys.exit(f"{', '.join(names)}: not all are in {settings.cache_dir}; see benchmarks/README.md")
        self.environment = {  # of the servers that speak with it
            "KOKORO_ENGINE": "kokoro",
            "KOKORO_MANIFEST": settings.manifest,
            "KOKORO_CACHE_DIR": settings.cache_dir,
            "KOKORO_DEVICE": "cpu",
        }


def model_if_named() -> Model | None:
    return Model() if model_settings().manifest else None
