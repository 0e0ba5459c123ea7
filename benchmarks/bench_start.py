"""Cold start: from the start of say.py, without servers, to the first audio in its hands, phase by phase.

    python -m benchmarks.bench_start [--rounds N]                from the repository root

Everything is real: `say.py --debug -o -` starts the servers and gets the audio; a sound device is not needed. Beside it
`python -c "import torch"` and, for the neural voice, a plain process that does one sentence with kokoro and misaki.
Cold means without servers: the files have been read before, by the warm-up round.
"""

from __future__ import annotations

import argparse
import datetime
import re
import subprocess
import sys
import time

from benchmarks.measure import (
    ROOT,
    VOICE,
    Model,
    Round,
    model_if_named,
    new_world,
    print_machine,
    print_ratios,
    print_seconds,
    run,
    take_turns,
)
from tests.conftest import World

TEXT = "Tea is ready in the kitchen."
WAV_HEADER = 44  # bytes
TORCH, START, PLAIN = "import torch", "cold start", "plain kokoro"
EVENTS: dict[tuple[object, ...], str] = {  # (component, event, state) of the log: the phase that ends with it
    ("model_server", "listening", None): "the model server listens",
    (f"voice_server-{VOICE}", "listening", None): "the voice server listens",
    (f"voice_server-{VOICE}", "speak", None): "the text is there",
    ("model_server", "state", "loading"): "the files are checked",
    ("model_server", "state", "ready"): "the model is loaded",
    ("model_server", "phonemes", None): "the first phonemes",
}
IMPORTS = {"torch": "within loading: import torch", "kokoro": "within loading: import kokoro, after torch"}
PLAIN_PHASES = [f"{PLAIN}: {word}" for word in ("imported", "loaded", "phonemes", "audio")]
NAMES = [*EVENTS.values(), *IMPORTS.values(), START, *PLAIN_PHASES, TORCH]


def import_torch() -> Round:
    return {TORCH: run("-c", "import torch")}


def cold_start(model: Model | None) -> Round:
    """Seconds from the start of say.py to the end of each phase, in servers of their own."""
    with new_world(model.environment if model else None) as world:
        if model:
            world.environment["PYTHONPROFILEIMPORTTIME"] = "1"  # the model server's goes to its .stderr
        began, clock = time.monotonic(), time.time()
        process = world.popen("--debug", "-o", "-", TEXT, stderr=subprocess.DEVNULL)
        assert process.stdout is not None
        heard = len(process.stdout.read(WAV_HEADER + 1))
        heard_at = time.monotonic() - began
        process.communicate(timeout=60)
        if process.returncode or heard <= WAV_HEADER:
            raise subprocess.CalledProcessError(process.returncode, "say.py")
        ends: Round = {}
        for entry in world.log():
            phase = EVENTS.get((entry["component"], entry["event"], entry.get("state")))
            if phase is not None:
                ends[phase] = datetime.datetime.fromisoformat(str(entry["time"])).timestamp() - clock
        return ends | (import_seconds(world) if model else {}) | {START: heard_at}


def import_seconds(world: World) -> Round:
    report = (world.cache / "logs" / "model_server.stderr").read_text()
    took = {name: int(micro) / 1e6 for micro, name in re.findall(r"\| +(\d+) \| +(\S+)$", report, re.MULTILINE)}
    return {phase: took[name] for name, phase in IMPORTS.items()}


def plain_kokoro(model: Model) -> Round:
    began = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "benchmarks/plain_kokoro.py", *model.files, TEXT],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        ends = {f"{PLAIN}: {line.strip()}": time.monotonic() - began for line in process.stdout}
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, "plain_kokoro.py")
    return ends | {PLAIN: ends[PLAIN_PHASES[-1]]}


def main() -> None:
    parser = argparse.ArgumentParser(description="Cold start to first audio, phase by phase.")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print_machine()
    print("\nthe embedded default: ", end="")
    rounds = take_turns([lambda: cold_start(None), import_torch], options.rounds, warm_up=1)
    print_ratios(rounds, [(START, TORCH)])
    print_seconds(rounds, [name for name in NAMES if name in rounds[0]])
    if not (model := model_if_named()):
        print("\nKOKORO_MANIFEST names no model: the neural voice was not measured")
        return
    print("\nthe neural voice: ", end="")
    rounds = take_turns(
        [lambda: cold_start(model), lambda: plain_kokoro(model), import_torch], options.rounds, warm_up=1
    )
    print_ratios(rounds, [(START, PLAIN), (START, TORCH), (PLAIN, TORCH)])
    print_seconds(rounds, [name for name in NAMES if name in rounds[0]])


if __name__ == "__main__":
    main()
