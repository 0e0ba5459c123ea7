"""Draws docs/performance/*.svg from the figures beside them, *.json. Run from the repository root, with ".[bench]":

    python -m benchmarks.plot [DIR]

Without a background and in colours that stand out on white and on black. The same figures give the same bytes.
"""

from __future__ import annotations

import argparse
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.measure import quartiles
from benchmarks.tables import FIGURES, own_and_peers, read, speedups

COLOURS = {"ours, fp32": "#3b8eea", "ours, bf16": "#1fa35c", "kokoro": "#e0852c", "kokoro-onnx": "#b567d6"}
GREY = "#7d8590"
STYLE = {
    "svg.hashsalt": "kokoro-say",
    "svg.fonttype": "none",  # text stays text
    "font.sans-serif": ["DejaVu Sans", "sans-serif"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": matplotlib.cycler(color=list(COLOURS.values())),
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), GREY),
    "grid.color": GREY,
    "grid.alpha": 0.3,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "legend.frameon": False,
}


def panels(count: int = 1) -> tuple[Figure, list[Axes]]:
    figure, axes = plt.subplots(1, count, figsize=(7.2, 2.8), layout="constrained", sharey=True, squeeze=False)
    return figure, list(axes[0])


def finish(figure: Figure, ax: Axes, label: str) -> Figure:
    """From 0, with a label of the values and the names below all panels."""
    figure.axes[0].set_ylabel(label)
    figure.axes[0].set_ylim(0, 1.05 * figure.axes[0].get_ylim()[1])
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def band(ax: Axes, places: Sequence[float], spreads: Sequence[list[float]], name: str, colour: str | None) -> None:
    """A line of medians, the quartiles around it, over a logarithmic scale that is labelled where the figures are."""
    low, median, high = zip(*spreads, strict=True)
    ax.plot(places, median, "o-", markersize=3, color=colour, label=name)
    ax.fill_between(places, low, high, color=colour, alpha=0.25, linewidth=0)
    ax.set(
        xscale="log", xticks=places, xticklabels=[f"{place:.2g}" if place < 10 else f"{place:.0f}" for place in places]
    )
    ax.minorticks_off()


def by_threads(races: Sequence[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    groups: dict[int, list[dict[str, Any]]] = {}
    for cell in races:
        groups.setdefault(cell["threads"], []).append(cell)
    return groups


def title(threads: int) -> str:
    return "one thread" if threads == 1 else f"{threads} threads"


def speed(peers: dict[str, Any]) -> Figure:
    """Real-time factors by length: medians, the quartiles as a band."""
    groups = by_threads(peers["races"])
    figure, axes = panels(len(groups))
    for ax, (threads, cells) in zip(axes, groups.items(), strict=True):
        lengths = [cell["phonemes"] for cell in cells]
        for name in cells[0]["rtf"]:
            band(ax, lengths, [quartiles(cell["rtf"][name]) for cell in cells], name, COLOURS.get(name))
        ax.set(title=title(threads), xlabel="phonemes")
    return finish(figure, axes[0], "seconds for a second of audio")


def speed_ups(peers: dict[str, Any]) -> Figure:
    """How many times faster ours is than each peer, by length."""
    groups = by_threads(peers["races"])
    figure, axes = panels(len(groups))
    for ax, (threads, cells) in zip(axes, groups.items(), strict=True):
        own, others = own_and_peers(cells[0]["rtf"])
        pairs = [(one, other) for other in others for one in own]
        for number, (one, other) in enumerate(pairs):
            places = [place + (number - (len(pairs) - 1) / 2) * 0.8 / len(pairs) for place in range(len(cells))]
            heights = [speedups(cell["rtf"], one, other)[1] for cell in cells]
            shade = 1.0 if one == own[-1] else 0.5
            label = f"{one.removeprefix('ours, ')} than {other}"
            ax.bar(places, heights, 0.8 / len(pairs), color=COLOURS.get(other), alpha=shade, label=label)
        ax.axhline(1, color=GREY, linewidth=0.8)
        ax.set(title=title(threads), xlabel="phonemes", xticks=range(len(cells)))
        ax.set_xticklabels([cell["phonemes"] for cell in cells])
    return finish(figure, axes[0], "times faster")


def cost(throughput: dict[str, Any]) -> Figure:
    """Hours of work for an hour of audio, by length of text: flat is linear."""
    figure, (ax,) = panels()
    texts = [text for text in throughput["texts"] if text["runs"]]
    minutes = [quartiles([run["audio"] for run in text["runs"]])[1] / 60 for text in texts]
    for key, name, colour in (("seconds", "wall", "#3b8eea"), ("cpu", "processors", "#e0852c")):
        spreads = [quartiles([run[key] / run["audio"] for run in text["runs"]]) for text in texts]
        band(ax, minutes, spreads, name, colour)
    ax.set(xlabel="minutes of audio in the text")
    return finish(figure, ax, "hours for an hour of audio")


def memory(engine: dict[str, Any]) -> Figure:
    """Resident memory over phrases of distinct lengths."""
    figure, (ax,) = panels()
    for entry in engine["memory"]:
        ax.plot([each / 1e6 for each in entry["resident"]], color=COLOURS.get(entry["name"]), label=entry["name"])
    ax.set(xlabel="phrases, each of another length")
    return finish(figure, ax, "MB resident")


PLOTS = {"speed": ("peers", speed), "speed-ups": ("peers", speed_ups), "cost": ("throughput", cost),
         "memory": ("engine", memory)}  # fmt: skip


def small(svg: str) -> str:
    """Without comments, metadata, indentation and the digits that nobody sees: a third of matplotlib's."""
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|(?<=<g) id=\"[^\"]*\"", "", svg, flags=re.DOTALL)
    return re.sub(r"(\.\d\d)\d+", r"\1", re.sub(r"\s*\n\s*", "\n", svg))


def main() -> None:
    parser = argparse.ArgumentParser(description="Draws the plots of docs/performance.md.")
    parser.add_argument("directory", metavar="DIR", type=Path, nargs="?", default=FIGURES)
    directory = parser.parse_args().directory
    with plt.rc_context(STYLE):
        for name, (source, draw) in PLOTS.items():
            if figures := read(directory, source):
                path = directory / f"{name}.svg"
                drawn = io.StringIO()
                draw(figures).savefig(drawn, format="svg", transparent=True, metadata={"Date": None})
                path.write_text(small(drawn.getvalue()))
                print(f"{path}: {path.stat().st_size / 1e3:.0f} KB")


if __name__ == "__main__":
    main()
