"""How long the ear waits: from the start of say.py to the first sound at the device, on warm servers.

    python -m benchmarks.bench_first_audio [--rounds N]          from the repository root

Beside it the engine's call alone: the same text in a process that does nothing else, computed with the precision that
the server has chosen. The embedded default is always measured, the neural voice when KOKORO_MANIFEST names a model
(benchmarks/make_model.py makes one).
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
import subprocess
import tempfile
import time
from concurrent.futures import Executor, ProcessPoolExecutor
from typing import Any, cast

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
    start_model_server,
    take_turns,
)
from kokoro_common.daemon.model_server import ENVIRONMENT
from kokoro_common.engine.engine import KokoroEngine, Phrase
from kokoro_common.engine.espeak import EspeakEngine
from kokoro_common.phonemes.g2p import G2P
from kokoro_common.voices.catalogue import parse_voice
from kokoro_common.voices.pack import read_voice_pack, style_row
from tests.conftest import World

TEXTS = {  # by their phonemes
    26: "Tea is ready in the kitchen.",
    62: "The train to the north leaves at seven from the last platform.",
}
PARTS = ("client", "g2p", "queue", "model", "transport", "device", "lead")  # they add up to SOUND
SOUND, SAMPLE = "first sound", "first sample"  # above -50 dBFS; of any level
OURS, ALONE = "all but the model", "engine alone"


def say(world: World, text: str) -> Round:
    """From the start of say.py to the first sample, and where the time went. Returns when the text has been heard."""
    began = time.monotonic()
    done = world.say(text)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, "say.py", stderr=done.stderr)
    marks: dict[str, dict[str, Any]] = {}
    for entry in cast("list[dict[str, Any]]", world.log(f"voice_server-{VOICE}")):
        if entry.get("monotonic", 0.0) >= began:
            marks.setdefault(entry["event"].rpartition(" ")[0], entry)  # the first of each
    speak, audio, block = (marks[event]["monotonic"] for event in ("speak arrived", "audio arrived", "first block"))
    chunk = {name: marks["synthesized"][name] for name in ("g2p", "queue", "model")}
    return {
        "client": speak - began,  # interpreter, imports, handshake
        **chunk,
        "transport": audio - speak - sum(chunk.values()),  # text from the client, threads and sockets of both servers
        "device": block - audio,
        "lead": marks["audio arrived"]["lead"],  # silence in front of the first sound
        SOUND: block - began + marks["audio arrived"]["lead"],
        SAMPLE: block - began,
        OURS: block - began - chunk["model"],
    }


# --- The engine alone, in a process of its own -----------------------------------------------------------------------


@functools.cache
def espeak() -> EspeakEngine:
    return EspeakEngine()


@functools.cache
def kokoro(config: str, weights: str, precision: str) -> KokoroEngine:
    return KokoroEngine(config, weights, "cpu", precision)


@functools.cache
def phrase(text: str, pack: str) -> Phrase:
    phonemes = G2P(None, tempfile.gettempdir()).spoken(text, VOICE[0]).phonemes
    return Phrase(phonemes=phonemes, style=style_row(read_voice_pack(pack), len(phonemes)), speed=1.0, seed=0)


def espeak_seconds(text: str) -> float:
    engine, female = espeak(), parse_voice(VOICE).female
    began = time.perf_counter()
    engine.synthesize(text, VOICE[0], 1.0, female)
    return time.perf_counter() - began


def kokoro_seconds(text: str, precision: str, config: str, weights: str, pack: str) -> float:
    engine, spoken = kokoro(config, weights, precision), phrase(text, pack)
    began = time.perf_counter()
    engine.synthesize([spoken])
    return time.perf_counter() - began


# ---------------------------------------------------------------------------------------------------------------------


def compare(engine_process: Executor, model: Model | None, rounds: int) -> None:
    with new_world({**(model.environment if model else {}), **TOUCHED}) as world:
        start_model_server(world, ROOT / "benchmarks" / "timed_servers.py")
        say(world, TEXTS[26])  # loads the model; unless KOKORO_PRECISION is set, the server then measures and chooses
        precision = world.status()["model_server"]["precision"]
        for phonemes, text in TEXTS.items():

            def alone(text: str = text) -> Round:
                if model is None:
                    return {ALONE: engine_process.submit(espeak_seconds, text).result()}
                return {ALONE: engine_process.submit(kokoro_seconds, text, precision, *model.files).result()}

            voice = f"the neural voice, {precision}" if model else "the embedded default"
            print(f"\n{voice}, {phonemes} phonemes: ", end="")
            measured = take_turns([functools.partial(say, world, text), alone], rounds)
            print_ratios(measured, [(SOUND, ALONE), (SAMPLE, ALONE), ("model", ALONE), (OURS, ALONE)])
            print_seconds(measured, [SOUND, SAMPLE, *PARTS, OURS, ALONE])


def main() -> None:
    parser = argparse.ArgumentParser(description="From the start of say.py to the first sample, on warm servers.")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    print_machine()
    os.environ.update(ENVIRONMENT)  # of the engine's process: glibc reads it when that starts
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as engine_process:
        compare(engine_process, None, options.rounds)
        if model := model_if_named():
            compare(engine_process, model, options.rounds)
        else:
            print("\nKOKORO_MANIFEST names no model: the neural voice was not measured")


if __name__ == "__main__":
    main()
