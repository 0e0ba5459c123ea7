"""Memory over a long run: N utterances of distinct lengths through the real servers, and whether anything grows.

    python -m benchmarks.soak [--count N] [--neural N] [--leak BYTES]            from the repository root

First with a stub for the engine, then, if KOKORO_MANIFEST names a model, with that. After each utterance the resident
memory of each process is read. Exit code 1 if one grows. --leak plants a leak in the model server: it must be found.
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
import statistics
import sys
import time
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.measure import ROOT, Model, model_if_named, new_world, print_machine, start_model_server
from benchmarks.soaked_servers import LEAK, STUB
from kokoro_common.client.client import Client
from kokoro_common.client.text_source import TextSource
from kokoro_common.settings import Settings
from kokoro_common.text.speech import Speech
from kokoro_common.wire.messages import Finished, Route, ServerState
from tests.conftest import World

VOICES = ("af_heart", "am_adam")  # the first for the speakers, the second for the client
BLOCKS = 20  # that a series is looked at in: what comes and goes within one is no growth
Z = 1.96  # of a normal distribution: 95 % lie within
CONSONANTS, VOWELS = "bdfgklmnprstvwz", "aeiou"


# --- The check -------------------------------------------------------------------------------------------------------


class Bounds(NamedTuple):
    growth: float  # bytes, from the end of the warm-up to the highest block
    slope: float  # bytes an utterance: if it is certainly more, the growth will not end


class Verdict(NamedTuple):
    growth: float  # bytes
    slope: float  # bytes an utterance, Theil and Sen's
    low: float  # 95 % interval of the slope
    high: float
    problem: str  # "" if all is well


def judge(series: Sequence[float], warm_up: int, bounds: Bounds) -> Verdict:
    """Whether the resident bytes after each utterance grow, without the first `warm_up`.

    The slope is the median of those between all pairs of blocks, its interval Kendall's: steps and peaks, which end
    minus start would be taken in by, hardly move it. So a leak of 1 KB an utterance shows long before the growth does.
    """
    size = (len(series) - warm_up) // BLOCKS
    if size < 1:
        raise ValueError(f"{len(series)} utterances are not enough for {warm_up} of warm-up and {BLOCKS} blocks")
    start = len(series) - size * BLOCKS
    blocks = [statistics.median(series[begin : begin + size]) for begin in range(start, len(series), size)]
    pairs = itertools.combinations(enumerate(blocks), 2)
    slopes = sorted((later - earlier) / (j - i) / size for (i, earlier), (j, later) in pairs)
    spread = Z * math.sqrt(BLOCKS * (BLOCKS - 1) * (2 * BLOCKS + 5) / 18)
    first = max(0, math.floor((len(slopes) - spread) / 2))
    low, high = slopes[first], slopes[-1 - first]
    growth = max(blocks) - blocks[0]
    problem = ""
    if growth > bounds.growth:
        problem = f"has grown by more than {bounds.growth / 1e6:g} MB"
    elif low > bounds.slope:
        problem = f"grows by more than {bounds.slope / 1e3:g} KB an utterance"
    return Verdict(growth, statistics.median(slopes), low, high, problem)


# --- The run ---------------------------------------------------------------------------------------------------------


class Run(NamedTuple):
    ready: int  # resident bytes of the model server when its model was loaded, before its first utterance
    series: dict[str, array[int]]  # by process: resident bytes after each utterance
    lengths: int  # distinct lengths of audio


def server_pid(client: Client) -> int:
    server = client.status().model_server
    assert server is not None
    return server.pid


def soak(world: World, count: int, shortest: int, longest: int, progress: Callable[[str], None] = print) -> Run:
    """Speaks `count` sentences of random words, of `shortest` to `longest` letters, half aloud and half to us."""
    start_model_server(world, ROOT / "benchmarks" / "soaked_servers.py")
    settings = Settings(runtime_dir=str(world.runtime))
    model = psutil.Process(server_pid(Client(settings)))
    client = Client(settings)
    ready = resident(model)
    chance = random.Random(count)
    lengths = array("d", bytes(8 * (count + 2)))

    def speak(number: int, engine: str = "kokoro") -> None:
        letters = shortest + number % (longest - shortest + 1) if number < count else longest + 10
        speed = chance.uniform(0.7, 1.4) if number < count else 0.7
        speech = Speech(voice=VOICES[number % 2], engine=engine, speed=speed, seed=number)
        route = Route(sink="client" if number % 2 else "speakers")
        nonlocal ready
        for event in client.speak(TextSource(sentence(chance, letters)), speech, route):
            if isinstance(event, ServerState) and event.state == "ready":
                ready = resident(model)
        assert isinstance(event, Finished)
        lengths[number] = event.seconds

    # Longer than all that follow: a forward takes memory by its length, and the longest may come late. Who asks for no
    # engine is told when the model is ready.
    speak(count, "auto")
    speak(count + 1)
    voices = {voice.pid: voice.voice for voice in client.status().voice_servers}
    workers = (child for child in model.children() if child.pid not in voices)
    processes = {"model server": model}
    processes |= {f"its worker {number}": worker for number, worker in enumerate(workers, 1)}
    processes |= {f"voice server {name}": psutil.Process(pid) for pid, name in voices.items()}
    processes["client"] = psutil.Process()
    series = {name: array("q", bytes(8 * count)) for name in processes}  # all of it now: it is the client's memory
    began = time.monotonic()
    for number in range(count):
        speak(number)
        for name, process in processes.items():
            series[name][number] = resident(process)
        if number % max(1, count // 8) == 0:
            progress(f"  {number:>6} after {time.monotonic() - began:5.0f} s: {resident(model) / 1e6:.1f} MB")
    return Run(ready, series, len(set(lengths[:count])))


def resident(process: psutil.Process) -> int:
    return int(process.memory_info().rss)


def sentence(chance: random.Random, letters: int) -> str:
    """Words that nobody has said before, so many letters in all."""
    words = []
    while letters > 0:
        length = letters if letters < 8 else chance.randint(3, 5)
        kinds = itertools.cycle((CONSONANTS, VOWELS))
        words.append("".join(chance.choice(next(kinds)) for _ in range(length)))
        letters -= length
    return " ".join(words).capitalize() + "."


def bounds_of(name: str, *, counted: int, stub: bool) -> Bounds:
    """Of the run, whatever its length. Beside a stub a leak of 1 KB a request shows in 2,500: a forward is noisier."""
    growth = 20e6 if name == "model server" else 1e6 if name == "client" else 5e6
    return Bounds(growth, (2e6 if stub and name == "model server" else growth) / counted)


def print_verdicts(run: Run, warm_up: int, *, stub: bool) -> bool:
    """The table. Returns whether all is well."""
    print(f"  MB resident{'warm':>18}{'end':>9}{'growth':>9}   slope, KB an utterance (95 %)")
    well = True
    for name, series in run.series.items():
        verdict = judge(series, warm_up, bounds_of(name, counted=len(series) - warm_up, stub=stub))
        well = well and not verdict.problem
        slope, low, high = (each / 1e3 for each in verdict[1:4])
        print(f"  {name:<22}{series[warm_up] / 1e6:7.1f}{series[-1] / 1e6:9.1f}{verdict.growth / 1e6:9.2f}   "
              f"{slope:.3f} ({low:.3f} .. {high:.3f}) {verdict.problem.upper() or 'flat'}")  # fmt: skip
    return well


# ---------------------------------------------------------------------------------------------------------------------


def soak_stub(count: int, leak: int) -> bool:
    warm_up = count // 6
    print(f"\nstub engine, real G2P: {count} utterances, {warm_up} of them to warm up")
    with new_world({STUB: "1", LEAK: str(leak), "KOKORO_ENGINE": "kokoro"}) as world:
        run = soak(world, count, 5, 90)
    print(f"  {run.lengths} distinct lengths of audio")
    return print_verdicts(run, warm_up, stub=True)


def soak_model(model: Model, count: int, leak: int) -> bool:
    warm_up = count // 4  # the heap's last steps, of up to 25 MB, came between 50 and 100
    print(f"\n{Path(model.environment['KOKORO_MANIFEST']).parent.name[:8]}: {count} utterances, {warm_up} to warm up")
    with new_world({**model.environment, LEAK: str(leak)}) as world:
        run = soak(world, count, 5, 30)
    own = run.series["model server"]
    figures = (
        f"{run.ready / 1e6:.0f} MB when ready, {own[warm_up] / 1e6:.0f} after {warm_up}, {own[-1] / 1e6:.0f} at last"
    )
    print(f"  {run.lengths} distinct lengths of audio; model server: {figures}")
    return print_verdicts(run, warm_up, stub=False)


def main() -> int:
    parser = argparse.ArgumentParser(description="Memory over many utterances of distinct lengths.")
    parser.add_argument("--count", type=int, default=3000, help="utterances with the stub engine, 0 for none")
    parser.add_argument("--neural", type=int, default=400, help="with the model that KOKORO_MANIFEST names")
    parser.add_argument("--leak", type=int, default=0, metavar="BYTES", help="a request, in the model server")
    options = parser.parse_args()
    print_machine()
    well = not options.count or soak_stub(options.count, options.leak)
    model = model_if_named()
    if model and options.neural:
        well = soak_model(model, options.neural, options.leak) and well
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
