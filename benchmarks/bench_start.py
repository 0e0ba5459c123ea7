"""Cold start: from the start of say.py, without servers, to the first audio in its hands, phase by phase.

    python -m benchmarks.bench_start [--rounds N]                from the repository root

Everything is real: `say.py --debug -o -` starts the servers and gets the audio; a sound device is not needed. Beside it
`python -c "import torch"` and, for the neural voice, a plain process that does one sentence with kokoro.KPipeline; then
the memory of both as well. Cold means without servers: the files have been read before, by the warm-up round.
"""

from __future__ import annotations

import argparse
import datetime
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil

from benchmarks.measure import (
    ROOT,
    TOUCHED,
    VOICE,
    Model,
    Round,
    model_if_named,
    new_world,
    print_machine,
    print_ratios,
    print_seconds,
    quartiles,
    run,
    take_turns,
)
from tests.conftest import World

TEXT = "Tea is ready in the kitchen."
WAV_HEADER = 44  # bytes
TORCH, START, PLAIN = "import torch", "cold start", "plain kokoro"
READY = "the server is ready"
EVENTS: dict[tuple[object, ...], str] = {  # (component, event, state) of the log: the phase that ends with it
    ("model_server", "listening", None): "the model server listens",
    (f"voice_server-{VOICE}", "listening", None): "the voice server listens",
    (f"voice_server-{VOICE}", "speak", None): "the text is there",
    ("model_server", "state", "loading"): "the files are checked",
    ("model_server", "engine made", None): "the model is loaded",
    ("model_server", "g2p warm", None): "the g2p is warm",
    ("model_server", "state", "ready"): READY,
    ("model_server", "phonemes", None): "the first phonemes",
}
PLAIN_PHASES = [f"{PLAIN}: {word}" for word in ("imported", "loaded", "pipeline", "audio")]
# Without the starts of processes, say.py's own among them:
LOADING, AGAIN = "cold start, from the server's listening", "unloaded server, from the text's arrival"
NAMES = [*EVENTS.values(), START, LOADING, AGAIN, *PLAIN_PHASES, TORCH]
MEMORY = ("resident", "peak")  # of a process, in MB: now, and the most it has had
SERVER_MB, PLAIN_MB = ([f"{who}: {kind}" for kind in MEMORY] for who in ("model server", PLAIN))
UNLOADED_MB = [f"unloaded {each}" for each in SERVER_MB]


def import_torch() -> Round:
    return {TORCH: run("-c", "import torch")}


def cold_start(model: Model | None) -> Round:
    """Seconds from the start of say.py to the end of each phase, in servers of their own; and their memory then."""
    with new_world({**(model.environment if model else {}), **TOUCHED}) as world:
        clock = time.time()
        heard_at = first_audio(world)
        ends: Round = {}
        for entry in world.log():
            phase = EVENTS.get((entry["component"], entry["event"], entry.get("state")))
            if phase is not None:
                ends[phase] = datetime.datetime.fromisoformat(str(entry["time"])).timestamp() - clock
        if model is None:
            return ends | {START: heard_at} | server_memory(world)
        figures = ends | {START: heard_at, LOADING: heard_at - ends["the model server listens"]} | server_memory(world)
        world.say("--unload", "-q", timeout=100)
        figures |= zip(UNLOADED_MB, server_memory(world).values(), strict=False)
        clock = time.time()
        heard_at = first_audio(world)
        spoken = [entry["time"] for entry in world.log() if entry["event"] == "speak"]
        return figures | {AGAIN: clock + heard_at - datetime.datetime.fromisoformat(str(spoken[-1])).timestamp()}


def first_audio(world: World) -> float:
    """Seconds from the start of say.py to its first sample."""
    began = time.monotonic()
    process = world.popen("--debug", "-o", "-", TEXT, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    heard = len(process.stdout.read(WAV_HEADER + 1))
    heard_at = time.monotonic() - began
    process.communicate(timeout=60)
    if process.returncode or heard <= WAV_HEADER:
        raise subprocess.CalledProcessError(process.returncode, "say.py")
    return heard_at


def server_memory(world: World) -> Round:
    """MB of the model server with the processes that make phonemes for it; what they share counts each time."""
    (server,) = (each for each in world.servers() if "model_server" in " ".join(each.cmdline()))
    children = [each for each in server.children(recursive=True) if each.status() != psutil.STATUS_ZOMBIE]
    helpers = [each for each in children if "espeak_process" in " ".join(each.cmdline())]
    if not psutil.LINUX:
        return {}
    texts = [Path(f"/proc/{each.pid}/status").read_text() for each in (server, *helpers)]
    status = [dict(line.split(":", 1) for line in text.splitlines()) for text in texts]
    figures = ([each[key] for each in status] for key in ("VmRSS", "VmHWM"))
    return dict(zip(SERVER_MB, map(megabytes, figures), strict=True))


def megabytes(kilobytes: Iterable[str]) -> float:
    return sum(int(figure.split()[0]) for figure in kilobytes) * 1024 / 1e6


def plain_kokoro(model: Model) -> Round:
    began = time.monotonic()
    figures: Round = {}
    with subprocess.Popen(
        [sys.executable, "benchmarks/plain_kokoro.py", *model.files, TEXT],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env={**os.environ, "OMP_WAIT_POLICY": "passive"},  # as the server has it: beside other work three times as fast
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            what, *kilobytes = line.split()
            if what == "memory":
                figures |= zip(PLAIN_MB, (megabytes([each]) for each in kilobytes), strict=True)
            else:
                figures[f"{PLAIN}: {what}"] = time.monotonic() - began
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, "plain_kokoro.py")
    return figures | {PLAIN: figures[PLAIN_PHASES[-1]]}


def print_megabytes(rounds: Sequence[Round], names: Iterable[str]) -> None:
    for name in names:
        low, median, high = quartiles([one[name] for one in rounds])
        print(f"  {name:<42}{median:8.0f}   ({low:.0f} .. {high:.0f}) MB")


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
    print_ratios(
        rounds, [(READY, PLAIN), (START, PLAIN), (READY, TORCH), (START, TORCH), (PLAIN, TORCH), (AGAIN, LOADING)]
    )
    print_seconds(rounds, [name for name in NAMES if name in rounds[0]])
    if SERVER_MB[0] in rounds[0]:
        print_ratios(rounds, zip(SERVER_MB, PLAIN_MB, strict=True))
        print_megabytes(rounds, (*SERVER_MB, *UNLOADED_MB, *PLAIN_MB))


if __name__ == "__main__":
    main()
