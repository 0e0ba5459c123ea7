"""How long the ear waits: from the start of say.py to the first sample handed to the device, on warm servers. From the
repository root:

    python -m benchmarks.bench_first_audio [--rounds N]

Beside it the engine's call alone, on the same text, in a process that does nothing else. The embedded default is
always measured, the neural voice when KOKORO_MANIFEST names a model (benchmarks/make_model.py makes one).
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

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
    start_model_server,
    take_turns,
)
from kokoro_common.engine import ENVIRONMENT, KokoroEngine, Phrase
from kokoro_common.espeak import EspeakEngine
from kokoro_common.g2p import G2P
from kokoro_common.voicepack import read_voice_pack, style_row
from kokoro_common.voices import parse_voice
from tests.conftest import World

TEXTS = {  # phonemes, about
    25: "It is time for a cup of tea.",
    60: "The train to the north will leave from platform seven in a few minutes.",
}
ALONE, TOTAL, REST = "engine alone", "first sample", "all but the engine"
PARTS = ("client", "g2p", "queue", "model", "transport", "device")


def say(world: World, text: str) -> Round:
    """Seconds from the start of say.py, and where they went. Returns when the text has been heard."""
    began = time.monotonic()
    done = world.say(text)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, "say.py", stderr=done.stderr)
    marks: dict[str, dict[str, float]] = {}
    for entry in world.log(f"voice_server-{VOICE}"):
        if entry.get("monotonic", 0.0) >= began:
            marks.setdefault(entry["event"], entry)  # the first of each
    speak, audio, block = (marks[event]["monotonic"] for event in ("speak arrived", "audio arrived", "first block"))
    engine = {name: marks["synthesized"][name] for name in ("g2p", "queue", "model")}
    return {
        "client": speak - began,  # the interpreter, say.py's imports, the handshake
        **engine,
        "transport": audio - speak - sum(engine.values()),  # Speak to TextPart, the voice server, the sockets
        "device": block - audio,
        TOTAL: block - began,
        REST: block - began - engine["model"],
    }


# --- In a process of its own -----------------------------------------------------------------------------------------


@functools.cache
def espeak() -> Callable[[str], None]:
    engine = EspeakEngine()
    female = parse_voice(VOICE).female
    return lambda text: engine.synthesize(text, VOICE[0], 1.0, female)


@functools.cache
def kokoro(config: str, weights: str, pack_path: str) -> Callable[[str], None]:
    engine = KokoroEngine(config, weights, "cpu")
    g2p = G2P(None, tempfile.mkdtemp(prefix="kokoro-bench-"))
    pack = read_voice_pack(pack_path)

    @functools.cache
    def phrase(text: str) -> Phrase:
        phonemes = g2p.phonemes(text, VOICE[0])
        print(f"  {len(phonemes)} phonemes", flush=True)
        return Phrase(phonemes=phonemes, style=style_row(pack, len(phonemes)), speed=1.0, seed=0)

    def synthesize(text: str) -> float:
        engine.synthesize([phrase(text)])
    return synthesize


def alone(text: str, files: tuple[str, ...]) -> Round:
    """The engine's call; the phonemes are made before."""
    return {}


def main() -> None:
    pass
