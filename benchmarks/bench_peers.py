"""Ours against what else speaks with these weights on a CPU: kokoro and kokoro-onnx. Run from the repository root:

    python -m benchmarks.bench_peers --peer-python PATH --onnx DIR [--rounds N] [--burner] [--json FILE]

PATH is the interpreter of an environment with kokoro-onnx, DIR what benchmarks.export_onnx wrote; see the README beside
this. Without the two, kokoro-onnx is left out. All are given phonemes: what turns text into them differs, and is not
measured here.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.contest import Recipe, Record, burner, kokoro, ours, parser_of_races, races, the_model
from benchmarks.export_onnx import GRAPH, VOICES
from benchmarks.measure import VOICE, print_machine


def kokoro_onnx(python: str, directory: Path) -> Recipe:
    return Recipe("kokoro-onnx", ("kokoro-onnx", str(directory / GRAPH), str(directory / VOICES), VOICE), python)


def main() -> None:
    parser = parser_of_races("Ours against kokoro and kokoro-onnx.")
    parser.add_argument("--peer-python", metavar="PATH", help="of an environment with kokoro-onnx")
    parser.add_argument("--onnx", metavar="DIR", type=Path, help="what benchmarks.export_onnx wrote")
    options = parser.parse_args()
    if bool(options.peer_python) != bool(options.onnx):
        parser.error("--peer-python and --onnx go together")
    model = the_model()
    recipes = [ours(model, precision) for precision in (["fp32"] if options.no_bf16 else ["fp32", "bf16"])]
    recipes.append(kokoro(model))
    if options.onnx:
        recipes.append(kokoro_onnx(options.peer_python, options.onnx))
    else:
        print("kokoro-onnx is left out: it needs --peer-python and --onnx")
    print_machine()
    record = Record(options.json)
    with burner(options.burner):
        for _, cell in races(recipes, options.phonemes, options.threads, options.rounds):
            record.add("races", {**cell, "burner": options.burner})


if __name__ == "__main__":
    main()
