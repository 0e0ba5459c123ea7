"""What the benchmarks of the engine share: contestants in processes of their own, phrases of a length, a record of it.

One process at a time works. A real-time factor is seconds of work for a second of audio: less is better, 1 keeps up.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from benchmarks.measure import ROOT, Model, Round, machine, model_if_named, quartiles, take_turns
from kokoro_common.daemon.model_server import ENVIRONMENT, without_engine

# Of the vocabulary, and with the stresses and pauses of speech.
PHONEMES = "ðə tɹˈAn tə ðə nˈɔɹθ lˈivz æt sˈɛvən fɹʌm ðə lˈæst plˈætfɔɹm, ænd tˈi ɪz ɹˈɛdi ɪn ðə kˈɪʧən. "


def phrase(length: int) -> str:
    """So many phonemes."""
    return (PHONEMES * (length // len(PHONEMES) + 1))[:length].rstrip(" ,").ljust(length, ".")


class Recipe(NamedTuple):
    """How a contestant is started."""

    name: str
    arguments: tuple[str, ...]  # of contestant.py
    python: str = sys.executable
    engine: bool = False  # whether it is ours, which our servers start with ENVIRONMENT

    def environment(self, threads: int) -> dict[str, str]:
        own = {**os.environ, **ENVIRONMENT} if self.engine else without_engine(os.environ)
        return {**own, "OMP_NUM_THREADS": str(threads)}


def ours(model: Model, precision: str) -> Recipe:
    return Recipe(f"ours, {precision}", ("ours", *model.files, precision), engine=True)


def kokoro(model: Model) -> Recipe:
    return Recipe("kokoro", ("kokoro", *model.files))


class Failed(subprocess.SubprocessError):
    """A contestant said so, or is no more."""


class Contestant:
    """An engine in a process of its own. Used as a context, it ends with it."""

    def __init__(self, recipe: Recipe, threads: int) -> None:
        """Blocks for seconds, until the model is loaded. Raises Failed."""
        self.name = recipe.name
        command = [recipe.python, str(ROOT / "benchmarks" / "contestant.py"), *recipe.arguments]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=recipe.environment(threads)
        )
        self.loaded = self._answer()  # seconds, resident, peak

    def __enter__(self) -> Contestant:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def speak(self, *phrases: str, speed: float = 1.0, seed: int = 0, keep: str = "") -> dict[str, Any]:
        """seconds, cpu, audio (seconds), durations, resident, peak (bytes). Raises Failed."""
        turn = {"phrases": phrases, "speed": speed, "seed": seed, "keep": keep}
        with contextlib.suppress(BrokenPipeError):  # the answer tells
            print(json.dumps(turn), file=self._process.stdin, flush=True)
        answer = self._answer()
        self._settle()
        return answer

    def _settle(self) -> None:
        """Returns when its threads have stopped looking out for more work: the next one's turn is not theirs.

        Nothing tells that but the CPU time that they use; for 10 s at the most.
        """
        process = psutil.Process(self._process.pid)
        used = -1.0
        for _ in range(100):
            before, used = used, sum(process.cpu_times()[:2])
            if used == before:
                return
            time.sleep(0.1)

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise Failed(f"{self.name}: its process has ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise Failed(f"{self.name}: {answer['error']}")
        return answer


@contextlib.contextmanager
def started(recipes: Sequence[Recipe], threads: int) -> Iterator[list[Contestant]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Contestant(recipe, threads)) for recipe in recipes]


@contextlib.contextmanager
def burner(wanted: bool) -> Iterator[None]:
    """A process that keeps one core busy meanwhile."""
    if not wanted:
        yield
        return
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            yield
        finally:
            process.kill()


def race(contestants: Sequence[Contestant], length: int, rounds: int) -> dict[str, Any]:
    """Real-time factors of all rounds by contestant, for a phrase of `length` phonemes."""
    answers: dict[str, dict[str, Any]] = {}

    def turn(contestant: Contestant) -> Round:
        answer = answers[contestant.name] = contestant.speak(phrase(length))
        return {contestant.name: answer["seconds"] / answer["audio"]}

    measured = take_turns([functools.partial(turn, each) for each in contestants], rounds, warm_up=1)
    return {
        "phonemes": length,
        "failures": rounds - len(measured),
        "rtf": {each.name: [one[each.name] for one in measured] for each in contestants},
        "audio": {name: answer["audio"] for name, answer in answers.items()},  # seconds
        "peak": {name: answer["peak"] for name, answer in answers.items()},  # bytes, of this and all shorter ones
        "loaded": {each.name: each.loaded for each in contestants},
    }


def races(
    recipes: Sequence[Recipe], lengths: Sequence[int], threads: Sequence[int], rounds: int
) -> Iterator[tuple[list[Contestant], dict[str, Any]]]:
    """A race at each number of threads and length, told of as it ends, with the contestants for more of the kind."""
    for number in threads:
        with started(recipes, number) as contestants:
            for length in lengths:
                print(f"\n{number} thread{'s' * (number > 1)}, {length} phonemes: ", end="", flush=True)
                cell = {"threads": number, **race(contestants, length, rounds)}
                print_cell(cell)
                yield contestants, cell


def print_cell(cell: dict[str, Any]) -> None:
    """Real-time factors, and how many times faster the first contestant is than each."""
    first, *_ = cell["rtf"].values()
    for name, values in cell["rtf"].items():
        low, median, high = quartiles(values)
        slow, ratio, fast = quartiles([value / own for value, own in zip(values, first, strict=True)])
        print(f"  {name:<12}{median:8.3f} ({low:.3f} .. {high:.3f})   {ratio:5.2f} ({slow:.2f} .. {fast:.2f})"
              f"   {cell['audio'][name]:.2f} s of audio")  # fmt: skip


def parser_of_races(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--phonemes", type=int, nargs="*", default=[10, 25, 60, 200, 400], metavar="N")
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2], metavar="N")
    parser.add_argument("--no-bf16", action="store_true", help="where there is no AMX it is slower than fp32")
    parser.add_argument("--burner", action="store_true", help="beside a process that keeps a core busy")
    parser.add_argument("--json", metavar="FILE", help="writes what was measured, after each step")
    return parser


def the_model() -> Model:
    return model_if_named() or sys.exit("KOKORO_MANIFEST names no model; see benchmarks/README.md")


class Record:
    """What was measured, as a file of JSON that is whole after each step of a long run."""

    def __init__(self, path: str | None) -> None:
        self._path = Path(path) if path else None
        self._content: dict[str, Any] = {"machine": machine()}

    def add(self, section: str, entry: dict[str, Any]) -> None:
        self._content.setdefault(section, []).append(entry)
        if self._path:
            self._path.write_text(json.dumps(self._content, ensure_ascii=False) + "\n")
