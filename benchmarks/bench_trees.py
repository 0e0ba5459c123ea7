"""This tree against another one of the project, say the one before a change. Run from the repository root:

    git worktree add ../before <commit>
    python -m benchmarks.bench_trees ../before [--rounds N]

The same commands with the same interpreter, on warm servers of each tree's own that speak with espeak, and the cold
start. Printed are the median of the ratios of this tree to the other, with its interval of about 95 %, and the times.
`--no-wait` needs the Debian packages of the tests' silent sound card, and is left out without them.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.measure import ROOT, Round, new_world, print_machine, print_seconds, take_turns
from tests.conftest import World
from tests.helpers.silent_card import PACKAGES, SilentCard

NEW, OLD = "this tree", "the other"
VERSION, WARM, FIRST_AUDIO = "say.py --version", "say.py -o x.wav x", "first audio, by --timing"
NO_WAIT, COLD = "say.py --no-wait x", "cold start of say.py -o x.wav x"
AFTER = re.compile(r"first (?:audio|sound) after (\d+) ms")  # older trees counted the silence before it as sound


def command(world: World, *arguments: str) -> tuple[float, str]:
    """Seconds of a whole say.py, and its stderr. Raises subprocess.CalledProcessError when it fails."""
    began = time.monotonic()
    done = world.say(*arguments)
    took = time.monotonic() - began
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, arguments, done.stdout, done.stderr)
    return took, done.stderr


def version(world: World) -> float:
    return command(world, "--version")[0]


def warm(world: World) -> float:
    return command(world, "-o", "x.wav", "x")[0]


def first_audio(world: World) -> float:
    said = command(world, "-o", "x.wav", "--timing", "The quick brown fox.")[1]
    found = AFTER.search(said)
    if found is None:
        raise subprocess.SubprocessError(f"--timing says {said!r}")
    return int(found[1]) / 1000


def no_wait(world: World) -> float:
    took = command(world, "--no-wait", "x")[0]
    command(world, "x")  # waits: what was said before has then been heard too
    return took


def cold(world: World) -> float:
    command(world, "--shutdown")
    return command(world, "-o", "x.wav", "x")[0]


def race(
    name: str, measure: Callable[[World], float], worlds: dict[str, World], rounds: int
) -> tuple[list[Round], list[float]]:
    """The rounds, and their ratios of this tree to the other, sorted."""

    def contestant(tree: str, world: World) -> Callable[[], Round]:
        return lambda: {f"{name}: {tree}": measure(world)}

    measured = take_turns([contestant(*each) for each in worlds.items()], rounds, warm_up=1)
    return measured, sorted(one[f"{name}: {NEW}"] / one[f"{name}: {OLD}"] for one in measured)


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """Of the median, of sorted ratios: about 95 %, by the ranks that a sign test would not refuse."""
    beyond = max(0, int(len(ratios) / 2 - 0.98 * len(ratios) ** 0.5))
    return ratios[beyond], ratios[-1 - beyond]


@contextlib.contextmanager
def sound_card() -> Iterator[dict[str, str]]:
    """The environment that plays on a card which nobody hears; empty where there can be none."""
    if not all(present() for present in PACKAGES.values()):
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="kokoro-card-") as directory:
        card = SilentCard(directory)
        card.plug_in()
        try:
            yield card.environment
        finally:
            card.unplug()


def main() -> None:
    parser = argparse.ArgumentParser(description="This tree against another one, command by command.")
    parser.add_argument("other", type=Path, help="the root of the other tree")
    parser.add_argument("--rounds", type=int, default=24)
    options = parser.parse_args()
    other = options.other.resolve()
    if not (other / "say.py").is_file():
        sys.exit(f"{other} has no say.py; name the root of another tree")
    print_machine()
    with sound_card() as card, new_world(card) as here, new_world(card) as there:
        here.program, there.program = ROOT / "say.py", other / "say.py"
        worlds = {NEW: here, OLD: there}
        measures = {VERSION: version, WARM: warm, FIRST_AUDIO: first_audio, COLD: cold}
        if card:
            measures[NO_WAIT] = no_wait
        else:
            print(f"{NO_WAIT} is left out: there is no {', no '.join(PACKAGES)}")
        for name, measure in measures.items():
            rounds, ratios = race(name, measure, worlds, options.rounds)
            low, high = interval(ratios)
            print(
                f"  {name + ': ratio':<42}{statistics.median(ratios):8.2f}   (of the median: {low:.2f} .. {high:.2f})"
            )
            print_seconds(rounds, [f"{name}: {tree}" for tree in worlds])


if __name__ == "__main__":
    main()
