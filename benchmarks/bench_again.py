"""What it saves to say again what was said before: first sound, and how often that is so on a day of notices.

    python -m benchmarks.bench_again [--rounds N] [--notices N]          from the repository root

A notice is said for the first time and then again, by turns, through warm servers and the recorder of
bench_first_audio; the embedded default always, the neural voice when KOKORO_MANIFEST names a model. Then a day of a
developer's notices is said, and the model server tells how many of its text chunks it had kept.
"""

from __future__ import annotations

import argparse
import random

from benchmarks.bench_first_audio import PARTS, SOUND, say
from benchmarks.measure import (
    ROOT,
    TOUCHED,
    Model,
    Round,
    model_if_named,
    new_world,
    print_machine,
    print_ratios,
    print_seconds,
    start_model_server,
    take_turns,
)
from tests.conftest import World

KEPT = {"KOKORO_KEPT_AUDIO": "64"}
FIRST, AGAIN = "first time", "again"
# Of a day: how often out of a hundred, and what is said. {n} is a number, {name} one of NAMES, {hour} the time.
NOTICES = (
    (24, "Build done."),
    (5, "Build failed in {name}."),
    (16, "All tests passed."),
    (9, "{n} tests failed in {name}."),
    (12, "Committed."),
    (6, "Pushed to {name}."),
    (8, "Deploy to staging is done."),
    (6, "It is {hour} o'clock."),
    (6, "Time for a break."),
    (5, "New message from {name}."),
    (3, "Download finished: {name}, {n} megabytes."),
)
NAMES = ("main", "engine", "wire", "docs", "Anna", "the release branch")


def day(count: int) -> list[str]:
    """So many notices, always the same ones."""
    chance = random.Random(1)
    texts = chance.choices([text for _, text in NOTICES], [weight for weight, _ in NOTICES], k=count)
    return [
        text.format(n=chance.randint(2, 40), name=chance.choice(NAMES), hour=8 + 10 * number // count)
        for number, text in enumerate(texts)
    ]


def compare(model: Model | None, rounds: int, notices: int) -> None:
    with new_world({**(model.environment if model else {}), **TOUCHED, **KEPT}) as world:
        start_model_server(world, ROOT / "benchmarks" / "timed_servers.py")
        say(world, "The servers are warm.")
        number = 0

        def first() -> Round:
            nonlocal number
            number += 1
            return _named(FIRST, say(world, f"Build number {number} is done."))

        def again() -> Round:
            return _named(AGAIN, say(world, f"Build number {number} is done."))

        print(f"\n{'the neural voice' if model else 'the embedded default'}: ", end="")
        measured = take_turns([first, again], rounds)
        print_ratios(measured, [(FIRST, AGAIN)])
        print_seconds(measured, [FIRST, AGAIN, *(f"{name} {part}" for name in (FIRST, AGAIN) for part in PARTS)])
        speak_day(world, notices)


def _named(name: str, times: Round) -> Round:
    return {name: times[SOUND], **{f"{name} {part}": times[part] for part in PARTS}}


def speak_day(world: World, notices: int) -> None:
    before = world.status()["model_server"]
    for text in day(notices):
        done = world.say("-o", "x.raw", text)
        assert done.returncode == 0, done.stderr
    after = world.status()["model_server"]
    hits, asked = (after[key] - before[key] for key in ("kept_hits", "kept_asked"))
    print(
        f"a day of {notices} notices: {hits} of {asked} text chunks had been kept, {after['kept_bytes'] / 1e6:.1f} MB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="What it saves to say again what was said before.")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--notices", type=int, default=200)
    options = parser.parse_args()
    print_machine()
    compare(None, options.rounds, options.notices)
    if (model := model_if_named()) is not None:
        compare(model, options.rounds, options.notices)


if __name__ == "__main__":
    main()
