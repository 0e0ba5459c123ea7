"""The engine against the kokoro it stands for: speed by length, the same audio, memory. Run from the repository root:

    python -m benchmarks.bench_engine [--rounds N] [--lengths N] [--burner] [--json FILE]

Same weights, phonemes, voice, random state and number of threads; ours with the environment that our servers give it,
kokoro with that of a shell. KOKORO_MANIFEST names the model (benchmarks/make_model.py makes one).
"""

from __future__ import annotations

import math
import random
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contest import (
    Contestant,
    Recipe,
    Record,
    burner,
    kokoro,
    ours,
    parser_of_races,
    phrase,
    races,
    started,
    the_model,
)
from benchmarks.measure import print_machine
from benchmarks.soak import Bounds, judge

SHORTEST = 5  # phonemes
FAST = 1000.0  # at this speed every phoneme has the shortest duration, 25 ms: one more phoneme is another length
MEMORY = Bounds(growth=20e6, slope=20e3)  # bytes, bytes a phrase


def accuracy(contestants: Sequence[Contestant], length: int) -> dict[str, Any]:
    """Ours against kokoro, the last: equal durations, and the signal above the difference in dB (inf: bit for bit)."""
    with tempfile.TemporaryDirectory(prefix="kokoro-bench-") as directory:
        files = [str(Path(directory) / f"{number}.npy") for number in range(len(contestants))]
        answers = [each.speak(phrase(length), keep=file) for each, file in zip(contestants, files, strict=True)]
        *own, reference = map(np.load, files)
    durations = {
        each.name: answer["durations"] == answers[-1]["durations"]
        for each, answer in zip(contestants[:-1], answers, strict=False)
    }
    noises = {each.name: ratio(reference, samples) for each, samples in zip(contestants[:-1], own, strict=True)}
    for name, decibels in noises.items():
        print(f"  {name:<12}durations {'equal' if durations[name] else 'DIFFER'}, {decibels:.1f} dB")
    return {
        "phonemes": length,
        "durations_equal": durations,
        "decibels": {name: value if math.isfinite(value) else str(value) for name, value in noises.items()},  # JSON
    }


def ratio(reference: np.ndarray, samples: np.ndarray) -> float:
    """Signal to noise in dB; not a number where the lengths differ."""
    if samples.shape != reference.shape:
        return float("nan")
    with np.errstate(divide="ignore"):
        noise = np.sum((samples - reference).astype(np.float64) ** 2)
        return float(10 * np.log10(np.sum(reference.astype(np.float64) ** 2) / noise))


def grow(contestant: Contestant, count: int) -> dict[str, Any]:
    """Resident bytes after each of `count` phrases that all differ in phonemes and in audio; the longest comes first,
    for a forward takes memory by its length."""
    *lengths, longest = range(SHORTEST, SHORTEST + count)
    random.Random(count).shuffle(lengths)
    answers = [contestant.speak(phrase(length), speed=FAST) for length in (longest, *lengths)]
    series = [answer["resident"] for answer in answers]
    verdict = judge(series, count // 4, MEMORY)
    return {
        "name": contestant.name,
        "loaded": contestant.loaded["resident"],
        "resident": series,
        "peak": answers[-1]["peak"],
        "lengths": len({answer["audio"] for answer in answers}),  # distinct ones
        "growth": verdict.growth,  # bytes, after a quarter to warm up
        "slope": [verdict.slope, verdict.low, verdict.high],  # bytes a phrase, 95 % interval
        "problem": verdict.problem,
    }


def print_growth(entry: dict[str, Any]) -> None:
    slope, low, high = (each / 1e3 for each in entry["slope"])
    print(
        f"  {entry['name']:<12}{entry['loaded'] / 1e6:8.0f} MB loaded, {entry['resident'][-1] / 1e6:.0f} after "
        f"{entry['lengths']} lengths, peak {entry['peak'] / 1e6:.0f}; growth {entry['growth'] / 1e6:.1f} MB, "
        f"slope {slope:.1f} KB a phrase ({low:.1f} .. {high:.1f}): {entry['problem'] or 'flat'}"
    )


def grow_all(recipes: Sequence[Recipe], count: int, record: Record) -> None:
    print(f"\n{count} phrases of distinct lengths, one thread each, at the same time:")
    with started(recipes, 1) as contestants, ThreadPoolExecutor() as pool:  # memory knows no clock
        for entry in pool.map(lambda contestant: grow(contestant, count), contestants):
            print_growth(entry)
            record.add("memory", entry)


def main() -> None:
    parser = parser_of_races("The engine against kokoro: speed, the same audio, memory.")
    parser.add_argument(
        "--lengths", type=int, default=0, metavar="N", help="30 to 506: memory of ours over so many lengths"
    )
    options = parser.parse_args()
    model = the_model()
    precisions = ["fp32"] if options.no_bf16 else ["fp32", "bf16"]
    recipes = [*(ours(model, precision) for precision in precisions), kokoro(model)]
    print_machine()
    record = Record(options.json)
    with burner(options.burner):
        for contestants, cell in races(recipes, options.phonemes, options.threads, options.rounds):
            record.add("races", {**cell, "burner": options.burner})
            record.add("accuracy", {"threads": cell["threads"], **accuracy(contestants, cell["phonemes"])})
        if options.lengths:
            grow_all([each for each in recipes if each.engine], options.lengths, record)


if __name__ == "__main__":
    main()
