"""Makes the tables, plots and level file of docs/quality.md from what benchmarks/listen.py measured. With ".[bench]":

    python -m benchmarks.quality [--before RAW.json] [--after RAW.json] [--directory DIR] [--markdown FILE]

A raw file is condensed into DIR/before.json or after.json, which is kept in the repository; without one the condensed
figures that are there are used. The same figures give the same bytes.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.listening.measures import COMMON_LEVEL, within_sentences
from benchmarks.listening.speakers import EMBEDDED, KOKORO, OURS, UNTOUCHED
from benchmarks.listening.words import kind_of
from benchmarks.measure import ROOT, quartiles
from benchmarks.tables import put, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DIRECTORY = ROOT / "docs" / "quality"
PAGE = ROOT / "docs" / "quality.md"
LEVELS = "levels.tsv"
MOMENTS = ("before", "after")
PAUSES = {".": "full stop", "?!…": "`?` `!` `…`", "clause": "clause (`,` `;` `:` `—`)", "paragraph": "paragraph"}
LONG_HOLE = 0.6  # seconds within a sentence; a speaker who takes longer has lost the thread
NEAR = 0.05  # seconds: a word's time is as good as exact to the eye that follows it

Figures = dict[str, Any]


# --- Condensed -------------------------------------------------------------------------------------------------------


def condense(raw: Figures) -> Figures:
    """What tables and plots need, by speaker, without the texts."""
    condensed: Figures = {"machine": raw.get("machine", "")}
    if "speech" in raw:
        condensed["speech"] = {name: _speech(raw["speech"], name) for name in _speakers(raw["speech"])}
    if "levels" in raw:
        condensed["levels"] = {name: _levels(raw["levels"], name) for name in _speakers(raw["levels"])}
    if "embedded" in raw:
        condensed.setdefault("levels", {})[EMBEDDED] = _levels(raw["embedded"], EMBEDDED)
    if "times" in raw:
        errors: dict[str, list[float]] = defaultdict(list)
        for each in raw["times"]:
            errors[each["kind"]].append(round(each["error"], 3))
        condensed["times"] = errors
    if "soft" in raw:
        condensed["soft"] = _soft(raw["soft"])
    return condensed


def _speakers(records: Sequence[Figures]) -> list[str]:
    return list(dict.fromkeys(each["speaker"] for each in records))


def _speech(records: Sequence[Figures], name: str) -> Figures:
    own = [each for each in records if each["speaker"] == name]
    kokoro = {(each["voice"], each["text"]): each["spoken"] for each in records if each["speaker"] == KOKORO}
    pauses: dict[str, list[float]] = defaultdict(list)
    for each in own:
        for mark, seconds in each["pauses"]:
            pauses[_row_of(mark)].append(round(seconds, 3))
    return {
        "texts": len({each["text"] for each in own}),
        "voices": list(dict.fromkeys(each["voice"] for each in own)),
        "wrong": sum(each["wrong"] for each in own),
        "of": sum(each["of"] for each in own),
        **{
            column: [round(each[column], 3) for each in own]
            for column in ("mos", "lead_60", "lead_50", "tail_60", "click", "loudness", "true_peak")
        },
        "within": [round(within_sentences(each), 3) for each in own],
        "length": [  # from the first to the last edge, against kokoro's on the same text
            round(each["spoken"] / kokoro[key], 4) for each in own if (key := (each["voice"], each["text"])) in kokoro
        ],
        "pauses": pauses,
    }


def _row_of(mark: str) -> str:
    kind = kind_of(mark)
    return kind if kind != "sentence" else mark if mark == "." else "?!…"


def _levels(records: Sequence[Figures], name: str) -> Figures:
    by_voice: dict[str, list[Figures]] = defaultdict(list)
    for each in records:
        if each["speaker"] == name:
            by_voice[each["voice"]].append(each)
    return {
        voice: {
            "loudness": round(statistics.median(each["loudness"] for each in own), 2),
            "true_peak": round(max(each["true_peak"] for each in own), 2),
            **{edge: round(max(each[edge] for each in own), 3) for edge in ("lead_60", "lead_50")},
        }
        for voice, own in by_voice.items()
    }


def _soft(records: Sequence[Figures]) -> Figures:
    lost = [each for each in records if each.get("seconds")]
    return {
        "clips": len(records),
        "heard": {name: sum(each.get(f"{name}_heard", False) for each in records) for name in (UNTOUCHED, OURS)},
        "trimmed": any("seconds" in each for each in records),
        "lost": [[each["voice"], each["word"], round(each["seconds"], 3), round(each["loudest"], 1)] for each in lost],
    }


# --- Tables ----------------------------------------------------------------------------------------------------------


def same_run(figures: Figures) -> list[str]:
    """Kokoro's pipeline beside ours, in the run before and in the one after."""
    columns = [
        (f"{'kokoro' if name == KOKORO else 'ours'}, {moment}", figures[moment]["speech"][name])
        for moment in MOMENTS
        for name in (KOKORO, OURS)
        if name in figures.get(moment, {}).get("speech", {})
    ]
    rows = [[label, *(value(each) for _, each in columns)] for label, value in ROWS.items()]
    rows += [
        [f"pause: {label}, s", *(_quartiles(each["pauses"].get(row, []), 2, count=True) for _, each in columns)]
        for row, label in PAUSES.items()
    ]
    return table(["", *(name for name, _ in columns)], rows)


def _quartiles(values: Sequence[float], digits: int, *, count: bool = False) -> str:
    if not values:
        return ""
    low, median, high = quartiles(values)
    said = f"{median:.{digits}f} ({low:.{digits}f} .. {high:.{digits}f})"
    return f"{said}, {len(values)}" if count else said


def _with_most(column: str) -> Callable[[Figures], str]:
    return lambda each: f"{statistics.median(each[column]):.2f}, at most {max(each[column]):.2f}"


ROWS: dict[str, Callable[[Figures], str]] = {
    "texts, voices": lambda each: f"{each['texts']}, {len(each['voices'])}",
    "words wrong": lambda each: f"{100 * each['wrong'] / each['of']:.1f} % of {each['of']}",
    "DNSMOS": lambda each: f"{statistics.mean(each['mos']):.3f}",
    "lead-in to -60 dBFS, s": _with_most("lead_60"),
    "lead-in to -50 dBFS, s": _with_most("lead_50"),
    "tail from -60 dBFS, s": _with_most("tail_60"),
    "longest silence within a sentence, s": _with_most("within"),
    f"clips with one over {LONG_HOLE} s": lambda each: (
        f"{sum(seconds > LONG_HOLE for seconds in each['within'])} of {len(each['within'])}"
    ),
    "length, first to last edge, of kokoro's": lambda each: _quartiles(each["length"], 3),
    "loudest click, dBFS": lambda each: f"{max(each['click']):.0f}",
    "true peak, dBFS": lambda each: f"{max(each['true_peak']):.1f}",
}


def levels(figures: Figures) -> list[str]:
    rows = []
    for moment, name, voices in [(*each, figures[each[0]]["levels"][each[1]]) for each in _levelled(figures)]:
        loudness = {voice: each["loudness"] for voice, each in voices.items()}
        softest, loudest = min(loudness, key=loudness.__getitem__), max(loudness, key=loudness.__getitem__)
        leads = [[each[edge] for each in voices.values()] for edge in ("lead_60", "lead_50")]
        rows.append([
            moment if name == OURS else f"embedded default, {moment}",
            len(voices),
            f"{loudness[softest]:.1f} ({softest})",
            f"{loudness[loudest]:.1f} ({loudest})",
            f"{statistics.median(loudness.values()):.1f}",
            sum(abs(each - COMMON_LEVEL) > 1 for each in loudness.values()),
            f"{max(each['true_peak'] for each in voices.values()):.1f}",
            *(f"{_quartiles(values, 2)}, at most {max(values):.2f}" for values in leads),
        ])  # fmt: skip
    off = f"more than 1 LU off {COMMON_LEVEL:.0f}"
    heads = ["softest, LUFS", "loudest", "median", off, "true peak, dBFS", "lead-in to -60 dBFS, s", "to -50 dBFS"]
    return table(["", "voices", *heads], rows)


def _levelled(figures: Figures) -> list[tuple[str, str]]:
    """Moment and speaker of the levels that there are."""
    speakers = [(moment, figures.get(moment, {}).get("levels", {})) for moment in MOMENTS]
    return [(moment, name) for name in (OURS, EMBEDDED) for moment, found in speakers if found.get(name)]


def times(figures: Figures) -> list[str]:
    rows = []
    for moment in MOMENTS:
        for kind, errors in figures.get(moment, {}).get("times", {}).items():
            near = sum(abs(each) <= NEAR for each in errors)
            worst = max(errors, key=abs)
            rows.append([moment, kind, len(errors), f"{statistics.median(errors):+.3f}", f"{worst:+.3f}",
                         f"{100 * near / len(errors):.0f} %"])  # fmt: skip
    return table(["", "words", "n", "median, s late", "worst", f"within {1000 * NEAR:.0f} ms"], rows)


def soft(figures: Figures) -> list[str]:
    rows = []
    for moment in MOMENTS:
        if found := figures.get(moment, {}).get("soft"):
            lost = [
                f"{voice} {word} {seconds:.2f} s at {level:.0f} dBFS" for voice, word, seconds, level in found["lost"]
            ]
            untouched, ours = found["heard"][UNTOUCHED], found["heard"][OURS]
            if found["trimmed"]:
                rows.append([moment, found["clips"], untouched, ours, ", ".join(lost) or "nothing"])
            else:
                rows.append([moment, found["clips"], ours, ours, "nothing is trimmed"])
    return table(["", "words", "recognised, untouched", "recognised, ours", "lost above -60 dBFS"], rows)


TABLES = {"same run": same_run, "levels": levels, "times": times, "soft": soft}


def level_file(figures: Figures) -> str:
    """Every voice of the model as it comes, in a file that other programs may read: name, LUFS, true peak in dBFS."""
    for moment in reversed(MOMENTS):
        measured = figures.get(moment, {}).get("levels", {})
        if voices := measured.get(UNTOUCHED) or (measured.get(OURS) if moment == "before" else None):
            lines = [
                f"{voice}\t{each['loudness']:.2f}\t{each['true_peak']:.2f}" for voice, each in sorted(voices.items())
            ]
            return "\n".join(["voice\tLUFS\ttrue peak dBFS", *lines]) + "\n"
    return ""


# --- Plots -----------------------------------------------------------------------------------------------------------

COLOURS = {KOKORO: "#e0852c", "before": "#7d8590", "after": "#1fa35c"}


def plot_pauses(figures: Figures) -> Figure:
    """Each pause a point, by mark, for kokoro, before and after."""
    import matplotlib.pyplot as plt
    import numpy as np

    figure, ax = plt.subplots(figsize=(7.2, 3.2), layout="constrained")
    moments = [moment for moment in MOMENTS if "speech" in figures.get(moment, {})]
    sets = [(KOKORO, figures[moments[-1]]["speech"].get(KOKORO))] + [
        (m, figures[m]["speech"].get(OURS)) for m in moments
    ]
    draw = np.random.default_rng(0)
    for number, (name, measured) in enumerate(sets):
        for place, mark in enumerate(PAUSES):
            values = (measured or {}).get("pauses", {}).get(mark, [])
            x = place + (number - (len(sets) - 1) / 2) * 0.25
            ax.scatter(x + draw.uniform(-0.08, 0.08, len(values)), values, s=4, alpha=0.5, color=COLOURS[name],
                       label=name if not place else None)  # fmt: skip
            if values:
                ax.hlines(statistics.median(values), x - 0.1, x + 0.1, color=COLOURS[name], linewidth=2)
    ax.set(xticks=range(len(PAUSES)), ylabel="seconds from edge to edge at -45 dBFS", ylim=(0, None))
    ax.set_xticklabels([label.replace("`", "") for label in PAUSES.values()])
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def plot_levels(figures: Figures) -> Figure:
    """Loudness and lead-in of every voice, before and after."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 1, figsize=(7.2, 5.2), layout="constrained", sharex=True)
    for moment in [moment for moment, name in _levelled(figures) if name == OURS]:
        voices = figures[moment]["levels"][OURS]
        for ax, column in zip(axes, ("loudness", "lead_50"), strict=True):
            ax.plot(list(voices), [each[column] for each in voices.values()], "o", markersize=3, color=COLOURS[moment],
                    label=moment)  # fmt: skip
    axes[0].set_ylabel("LUFS")
    axes[0].axhline(COMMON_LEVEL, color=COLOURS["before"], linewidth=0.8)
    axes[1].set(ylabel="s to the first sound", ylim=(0, None))
    axes[1].tick_params(axis="x", labelrotation=90, labelsize=6)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


PLOTS: dict[str, Callable[[Figures], Figure]] = {"pauses": plot_pauses, "levels": plot_levels}
SOURCES = {"pauses": "speech", "levels": "levels"}  # by plot, the step that measures


def draw_plots(figures: Figures, directory: Path) -> None:
    import matplotlib.pyplot as plt

    from benchmarks.plot import STYLE, small

    with plt.rc_context(STYLE):
        for name, draw in PLOTS.items():
            if not any(SOURCES[name] in figures.get(moment, {}) for moment in MOMENTS):
                continue
            drawn = io.StringIO()
            draw(figures).savefig(drawn, format="svg", transparent=True, metadata={"Date": None})
            path = directory / f"{name}.svg"
            path.write_text(small(drawn.getvalue()))
            print(f"{path}: {path.stat().st_size / 1e3:.0f} KB")


def draw_spectrogram(clips: dict[str, Any], path: Path, title: str) -> None:
    """Of each clip (name to samples at 24 kHz) a panel, one below the other on the same scale; a small PNG."""
    import matplotlib.pyplot as plt
    import numpy as np
    from PIL import Image

    longest = max(len(samples) for samples in clips.values()) / 24_000
    figure, axes = plt.subplots(len(clips), 1, figsize=(6, 0.4 + 1.1 * len(clips)), sharex=True, squeeze=False,
                                layout="constrained")  # fmt: skip
    for ax, (name, samples) in zip(axes[:, 0], clips.items(), strict=True):
        # Noise far below hearing, so that digital silence has a logarithm.
        heard = samples + 1e-7 * np.random.default_rng(0).standard_normal(len(samples))
        ax.specgram(heard, NFFT=512, Fs=24_000, noverlap=384, cmap="magma", vmin=-140, vmax=-40)
        ax.set(ylabel=name, yticks=[], xlim=(0, math.ceil(10 * longest) / 10))
    axes[0, 0].set_title(title, fontsize=8)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=80)
    plt.close(figure)
    Image.open(drawn).convert("RGB").quantize(48).save(path, optimize=True)  # a third of the bytes


def main() -> None:
    parser = argparse.ArgumentParser(description="The tables and plots of docs/quality.md.")
    for moment in MOMENTS:
        parser.add_argument(f"--{moment}", type=Path, metavar="RAW", help="figures of benchmarks.listen --json")
    parser.add_argument("--directory", type=Path, default=DIRECTORY, metavar="DIR")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="puts each table between its marks there")
    options = parser.parse_args()
    options.directory.mkdir(exist_ok=True)
    figures: Figures = {}
    for moment in MOMENTS:
        path, raw = options.directory / f"{moment}.json", getattr(options, moment)
        if raw:
            content = json.dumps(condense(json.loads(raw.read_text())), ensure_ascii=False, separators=(",", ":"))
            path.write_text(content.replace('},"', '},\n"').replace('],"', '],\n"') + "\n")
        if path.exists():
            figures[moment] = json.loads(path.read_text())
    text = options.markdown.read_text() if options.markdown else ""
    for mark, make in TABLES.items():
        lines = "\n".join(make(figures))
        if options.markdown:
            text = put(text, mark, lines)
        else:
            print(f"\n{mark}\n\n{lines}")
    if options.markdown:
        options.markdown.write_text(text)
    if levels_found := level_file(figures):
        (options.directory / LEVELS).write_text(levels_found)
    draw_plots(figures, options.directory)


if __name__ == "__main__":
    main()
