"""Writes the tables of docs/performance.md from docs/performance/*.json, each between its two marks. Run from the root:

    python -m benchmarks.tables [DIR] [--markdown FILE]

Without a file it prints them. Medians (quartiles); a ratio is taken within a round.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT, quartiles

FIGURES = ROOT / "docs" / "performance"


def read(directory: Path, name: str) -> dict[str, Any]:
    """What a benchmark's --json wrote, or nothing, which is told."""
    path = directory / f"{name}.json"
    if not path.exists():
        print(f"{path} is not there: left out")
        return {}
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def own_and_peers(names: Iterable[str]) -> tuple[list[str], list[str]]:
    own = [name for name in names if name.startswith("ours")]
    return own, [name for name in names if name not in own]


def speedups(factors: Mapping[str, Sequence[float]], own: str, peer: str) -> list[float]:
    """Quartiles of how many times faster ours was in each round."""
    return quartiles([theirs / ours for theirs, ours in zip(factors[peer], factors[own], strict=True)])


def spread(values: Sequence[float], digits: int) -> str:
    low, median, high = (f"{value:.{digits}f}" for value in values)
    return f"{median} ({low} .. {high})"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    return [f"| {' | '.join(map(str, row))} |" for row in (head, ["---"] * len(head), *rows)]


def speed(figures: dict[str, Any]) -> list[str]:
    """Real-time factors, then how many times faster ours is than each peer."""
    races = figures["races"]
    own, peers = own_and_peers(races[0]["rtf"])
    pairs = [(one, peer) for peer in peers for one in own]
    cases = [(cell["threads"], cell["phonemes"]) for cell in races]
    factors = [[spread(quartiles(values), 3) for values in cell["rtf"].values()] for cell in races]
    rounds = [f"{len(cell['rtf'][own[0]])}, {cell['failures']} failed" for cell in races]
    ratios = [[spread(speedups(cell["rtf"], *pair), 2) for pair in pairs] for cell in races]
    return [
        *table(
            ["threads", "phonemes", *own, *peers, "rounds"],
            [[*case, *row, count] for case, row, count in zip(cases, factors, rounds, strict=True)],
        ),
        "",
        *table(
            ["threads", "phonemes", *(f"{one} than {peer}" for one, peer in pairs)],
            [[*case, *row] for case, row in zip(cases, ratios, strict=True)],
        ),
    ]


def likeness(durations_equal: bool, decibels: float) -> str:
    if math.isinf(decibels):
        return "the same bits"
    return f"durations {'equal' if durations_equal else 'differ'}, {decibels:.1f} dB"


def same_audio(figures: dict[str, Any]) -> list[str]:
    entries = figures["accuracy"]
    names = list(entries[0]["decibels"])
    rows = [
        [
            *(entry["threads"], entry["phonemes"]),
            *(likeness(entry["durations_equal"][name], float(entry["decibels"][name])) for name in names),
        ]
        for entry in entries
    ]
    return table(["threads", "phonemes", *names], rows)


def footprint(figures: dict[str, Any]) -> list[str]:
    """Loaded, and peaks as the phrases grow; of the highest number of threads."""
    last = figures["races"][-1]
    cells = [cell for cell in figures["races"] if cell["threads"] == last["threads"]]
    rows = [
        [
            name,
            f"{last['loaded'][name]['seconds']:.1f} s",
            f"{last['loaded'][name]['resident'] / 1e6:,.0f}",
            *(f"{cell['peak'][name] / 1e6:,.0f}" for cell in cells),
        ]
        for name in last["rtf"]
    ]
    return table(["", "import and load", "MB loaded", *(f"peak, {cell['phonemes']} phonemes" for cell in cells)], rows)


def memory(figures: dict[str, Any]) -> list[str]:
    rows = [
        [
            entry["name"],
            entry["lengths"],
            *(f"{entry[key] / 1e6:,.0f}" for key in ("loaded", "peak")),
            f"{entry['resident'][-1] / 1e6:,.0f}",
            f"{entry['growth'] / 1e6:.1f} MB",
            spread([entry["slope"][1] / 1e3, entry["slope"][0] / 1e3, entry["slope"][2] / 1e3], 1),
        ]
        for entry in figures.get("memory", [])
    ]
    return table(["", "lengths", "MB loaded", "peak", "at last", "growth", "slope, KB a phrase (95 %)"], rows)


def cost(figures: dict[str, Any]) -> list[str]:
    rows = [
        [
            text["sentences"],
            f"{quartiles([run['audio'] for run in text['runs']])[1] / 60:.2f}",
            *(spread(quartiles([run[key] / run["audio"] for run in text["runs"]]), 3) for key in ("seconds", "cpu")),
            f"{len(text['runs'])}, {text['failures']} failed",
        ]
        for text in figures["texts"]
        if text["runs"]
    ]
    return table(["sentences", "minutes of audio", "hours an hour", "of processors", "texts"], rows)


def batches(figures: dict[str, Any]) -> list[str]:
    rows = [
        [
            entry["size"],
            *(spread(quartiles(entry[name]), 3) for name in ("together", "each")),
            spread(quartiles([a / b for a, b in zip(entry["each"], entry["together"], strict=True)]), 2),
        ]
        for entry in figures.get("batches", [])
    ]
    return table(["phrases", "one call", "a call each", "times faster together"], rows)


def machine(figures: dict[str, Any]) -> list[str]:
    return [figures["machine"] + "."]


TABLES = {  # by mark: the figures and what makes them a table
    "machine": ("peers", machine),
    "speed": ("peers", speed),
    "footprint": ("peers", footprint),
    "same audio": ("engine", same_audio),
    "burner": ("burner", speed),
    "memory": ("engine", memory),
    "cost": ("throughput", cost),
    "batches": ("throughput", batches),
}


def put(text: str, mark: str, lines: str) -> str:
    """The text with the lines between the mark and its end. Exits where there is no such mark."""
    begin, between, rest = text.partition(f"<!-- {mark} -->\n")
    _, end, after = rest.partition("<!-- end -->")
    if not end:
        sys.exit(f"there is no place for {mark}")
    return f"{begin}{between}\n{lines}\n\n{end}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description="The tables of docs/performance.md.")
    parser.add_argument("directory", metavar="DIR", type=Path, nargs="?", default=FIGURES)
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="puts each between its marks there")
    options = parser.parse_args()
    text = options.markdown.read_text() if options.markdown else ""
    for mark, (source, make) in TABLES.items():
        if not (figures := read(options.directory, source)):
            continue
        lines = "\n".join(make(figures))
        if options.markdown:
            text = put(text, mark, lines)
        else:
            print(f"\n{mark}\n\n{lines}")
    if options.markdown:
        options.markdown.write_text(text)


if __name__ == "__main__":
    main()
