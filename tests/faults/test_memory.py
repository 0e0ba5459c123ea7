"""Memory is flat: many utterances of distinct lengths, and the check that says so finds a leak that is planted."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest

from benchmarks.soak import Bounds, Run, bounds_of, judge, soak
from benchmarks.soaked_servers import LEAK, STUB
from kokoro_common.daemon.model_server import ENVIRONMENT
from tests.conftest import ROOT, World
from tests.faults.conftest import Shown, times
from tests.helpers.toy_kokoro import ToyKokoro

BOUNDS = Bounds(growth=20e6, slope=500)
COUNT, WARM_UP = 3000, 500
TOY_COUNT, TOY_WARM_UP = 50, 30  # each of the 26 lengths is in the warm-up


def series_of(growth: Callable[[int], float], chance: random.Random, noise: float = 300e3) -> list[float]:
    """Resident bytes after each of COUNT utterances: what the function gives, and noise in whole pages."""
    return [400e6 + growth(number) + chance.uniform(0, noise) // 4096 * 4096 for number in range(COUNT)]


@pytest.mark.parametrize(
    ("growth", "problem"),
    [
        pytest.param(lambda n: 0, "", id="flat"),
        pytest.param(lambda n: 50e6 * min(n, 450) / 450, "", id="caches that fill in the warm-up"),
        pytest.param(lambda n: 30e6 * (n in range(200, 240)), "", id="a peak in the warm-up"),
        pytest.param(lambda n: 8e6 * (n > 1800), "", id="one step afterwards"),
        pytest.param(lambda n: 8e6 * (n % 40 < 20), "", id="up and down"),
        pytest.param(lambda n: 300e6 * (n == 1500), "", id="one long text"),
        pytest.param(lambda n: 1024 * n, "grows by more than 0.5 KB an utterance", id="a leak of 1 KB"),
        pytest.param(lambda n: 1024 * max(0, n - 1200), "grows by more than", id="a leak that begins late"),
        pytest.param(lambda n: 1e6 * (n // 1000), "grows by more than", id="a leak in steps"),
        pytest.param(lambda n: 25e6 * (n > 1800), "has grown by more than 20 MB", id="too high a step"),
        pytest.param(lambda n: 10_000 * n, "has grown by more than 20 MB", id="a leak of 10 KB"),
    ],
)
def test_d7_the_check_tells_a_leak_from_noise_steps_and_peaks(
    growth: Callable[[int], float], problem: str, shown: Shown, request: pytest.FixtureRequest
) -> None:
    seeds = range(times(500))
    verdicts = [judge(series_of(growth, random.Random(seed)), WARM_UP, BOUNDS) for seed in seeds]
    right = sum(verdict.problem.startswith(problem) and bool(verdict.problem) == bool(problem) for verdict in verdicts)
    shown("D7", f"the check judges {request.node.callspec.id}", right, of=len(seeds))


def test_d7_the_check_measures_the_slope_of_a_leak() -> None:
    verdict = judge(series_of(lambda n: 1024 * n, random.Random(1)), WARM_UP, BOUNDS)
    assert verdict.low < 1024 < verdict.high and verdict.high - verdict.low < 200
    assert verdict.growth == pytest.approx(1024 * 2375, abs=200e3)
    with pytest.raises(ValueError, match="not enough"):
        judge([0.0] * 19, 0, BOUNDS)


def problems(run: Run, warm_up: int, *, stub: bool) -> dict[str, str]:
    """By process; a planted leak makes the model server's."""
    counted = len(next(iter(run.series.values()))) - warm_up
    verdicts = {
        name: judge(series, warm_up, bounds_of(name, counted=counted, stub=stub)) for name, series in run.series.items()
    }
    return {name: verdict.problem for name, verdict in verdicts.items() if verdict.problem}


def growth(run: Run, warm_up: int) -> dict[str, float]:
    return {name: round(judge(each, warm_up, BOUNDS).growth / 1e6, 2) for name, each in run.series.items()}


@pytest.mark.timeout(600)
def test_d7_nothing_grows_while_the_stub_speaks(world: World, shown: Shown) -> None:
    count, warm_up = times(COUNT), times(WARM_UP)
    world.environment |= {STUB: "1", "KOKORO_ENGINE": "kokoro"}
    run = soak(world, count, 5, 90)
    assert len(run.series) >= 4, "model server, its worker, two voice servers and the client"
    flat = len(run.series) - len(found := problems(run, warm_up, stub=True))
    shown("D7", f"flat over {count} lengths, stub", flat, of=len(run.series), MB=growth(run, warm_up), problems=found)
    assert run.lengths == count


@pytest.mark.timeout(600)
def test_d7_a_planted_leak_of_1_kb_a_request_is_found(world: World, shown: Shown) -> None:
    """Ten times as much in a tenth of the count."""
    count, warm_up = times(COUNT), times(WARM_UP)
    leak = 1024 * COUNT // count
    world.environment |= {STUB: "1", LEAK: str(leak), "KOKORO_ENGINE": "kokoro"}
    run = soak(world, count, 5, 90)
    shown("D7", f"a leak of {leak} B a request found", "model server" in problems(run, warm_up, stub=True), of=1)


def toy_world(world: World, toy: ToyKokoro, leak: int) -> World:
    repository = f"models--{toy.manifest['repo'].replace('/', '--')}"
    snapshot = world.cache / "hub" / repository / "snapshots" / toy.manifest["revision"]
    shutil.copytree(toy.directory, snapshot)
    world.environment |= {
        "KOKORO_ENGINE": "kokoro",
        "KOKORO_MANIFEST": str(snapshot / "manifest.json"),
        "KOKORO_DEVICE": "cpu",
        "KOKORO_PRECISION": "fp32",
        LEAK: str(leak),
    }
    return world


@pytest.mark.model
@pytest.mark.timeout(600)
@pytest.mark.parametrize("leak", [0, 4 << 20])
def test_d7_the_model_speaks_new_lengths_without_growth(
    world: World, toy_kokoro: ToyKokoro, leak: int, shown: Shown
) -> None:
    run = soak(toy_world(world, toy_kokoro, leak), TOY_COUNT, 5, 30)
    found = problems(run, TOY_WARM_UP, stub=False)
    right = set(found) == ({"model server"} if leak else set())
    figures = {"MB": growth(run, TOY_WARM_UP), "problems": found}
    shown("D7", f"{TOY_COUNT} lengths, toy Kokoro, leak of {leak} B a request", right, of=1, **figures)
    assert run.lengths > TOY_COUNT / 2 and run.ready > 0


def environment_of(world: World) -> dict[str, str]:
    (model,) = [process for process in world.servers() if "model_server" in " ".join(process.cmdline())]
    return {name: value for name, value in model.environ().items() if name in ENVIRONMENT}


def test_d7_a_model_server_that_say_py_starts_has_the_environment(world: World) -> None:
    for name in ENVIRONMENT:
        world.environment.pop(name, None)
    assert world.say("-q", "-o", "/dev/null", "x").returncode == 0
    assert environment_of(world) == ENVIRONMENT


def test_d7_what_the_user_has_set_for_the_model_server_stays(world: World) -> None:
    for name in ENVIRONMENT:
        world.environment.pop(name, None)
    world.environment["MALLOC_ARENA_MAX"] = "3"
    assert world.say("-q", "-o", "/dev/null", "x").returncode == 0
    assert environment_of(world) == {**ENVIRONMENT, "MALLOC_ARENA_MAX": "3"}


def test_d7_a_model_server_that_is_started_by_hand_has_the_environment(world: World) -> None:
    for name in ENVIRONMENT:
        world.environment.pop(name, None)
    started = subprocess.Popen(
        [sys.executable, str(ROOT / "model_server.py")], cwd="/", env=world.environment, stdin=subprocess.DEVNULL
    )
    while not (world.runtime / "model.json").exists():  # nobody is told when it listens
        with pytest.raises(subprocess.TimeoutExpired):
            started.wait(0.1)
    assert world.say("-q", "-o", "/dev/null", "x").returncode == 0
    assert environment_of(world) == ENVIRONMENT
    assert world.say("--shutdown", "-q").returncode == 0
    assert started.wait(20) == 0
