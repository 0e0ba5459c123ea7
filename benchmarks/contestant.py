"""One engine in a process of its own, which speaks when it is told to and times itself. contest.py starts it.

    python benchmarks/contestant.py KIND FILE ...

KIND is one of MAKERS, the files are what its maker takes. A line of JSON on standard input is a turn, a line of JSON on
standard output the answer. It imports what its engine needs and no more: it runs in the peers' environments too.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    # Phonemes of each phrase, speed, seed: samples at 24 kHz and, where the engine tells, durations of each.
    Speak = Callable[[list[str], float, int], list[tuple[np.ndarray, list[int] | None]]]

sys.path.insert(0, str(Path(__file__).parent.parent))
warnings.simplefilter("ignore")


def make_ours(config: str, weights: str, pack: str, precision: str) -> Speak:
    from kokoro_common.engine.engine import KokoroEngine, Phrase
    from kokoro_common.voices.pack import read_voice_pack, style_row

    engine = KokoroEngine(config, weights, "cpu", precision=precision)
    styles = read_voice_pack(pack)

    def speak(phrases: list[str], speed: float, seed: int) -> list[Any]:
        waveforms = engine.synthesize(
            [Phrase(phonemes=each, style=style_row(styles, len(each)), speed=speed, seed=seed) for each in phrases]
        )
        return [(each.samples, each.durations.tolist()) for each in waveforms]

    return speak


def make_kokoro(config: str, weights: str, pack: str) -> Speak:
    """kokoro as it is: KPipeline.infer, which takes the style's row and calls KModel. A whole KPipeline wants spaCy's
    model, which is a download of its own; what that part costs is not measured for any contestant."""
    import torch
    from kokoro import KModel, KPipeline

    model = KModel(repo_id="hexgrad/Kokoro-82M", config=config, model=weights).eval()
    styles = torch.load(pack, weights_only=True)  # (510, 1, 256)

    def speak(phrases: list[str], speed: float, seed: int) -> list[Any]:
        spoken = []
        for phonemes in phrases:
            torch.manual_seed(seed)
            output = KPipeline.infer(model, phonemes, styles, speed)
            spoken.append((output.audio.numpy(), output.pred_dur.tolist()))
        return spoken

    return speak


def make_kokoro_onnx(model: str, voices: str, voice: str) -> Speak:
    """kokoro-onnx as it is, but for the number of threads; its noise comes out of the graph and knows no seed.

    Nothing is trimmed and no pause added, so that all contestants make the same audio.
    """
    import onnxruntime
    from kokoro_onnx import Kokoro

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ["OMP_NUM_THREADS"])  # its default is one for each core
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    kokoro = Kokoro.from_session(session, voices)
    plain = {"is_phonemes": True, "trim": False, "sentence_pause": 0.0, "clause_pause": 0.0}

    def speak(phrases: list[str], speed: float, seed: int) -> list[Any]:
        return [(kokoro.create(each, voice, speed, **plain)[0], None) for each in phrases]

    return speak


MAKERS: dict[str, Callable[..., Speak]] = {
    "ours": make_ours,
    "kokoro": make_kokoro,
    "kokoro-onnx": make_kokoro_onnx,
}


def memory() -> dict[str, int]:
    """Bytes: resident now, and at most so far."""
    with open("/proc/self/statm") as file:
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return {"resident": resident, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def take_turn(speak: Speak, phrases: list[str], speed: float, seed: int, keep: str) -> dict[str, Any]:
    """Speaks, then tells what it took: seconds, of the wall and of the processor. `keep`: a .npy for the samples."""
    began, busy = time.perf_counter(), time.process_time()
    spoken = speak(phrases, speed, seed)
    seconds, cpu = time.perf_counter() - began, time.process_time() - busy
    if keep:
        import numpy as np

        np.save(keep, np.concatenate([samples for samples, _ in spoken]))
    return {
        "seconds": seconds,
        "cpu": cpu,
        "audio": sum(len(samples) for samples, _ in spoken) / 24_000,  # seconds
        "durations": [durations for _, durations in spoken],
        **memory(),
    }


def main(kind: str, *arguments: str) -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    began = time.perf_counter()
    speak = MAKERS[kind](*arguments)
    print(json.dumps({"seconds": time.perf_counter() - began, **memory()}), file=answers)
    for line in sys.stdin:
        try:
            answer = take_turn(speak, **json.loads(line))
        except Exception as error:  # told, and counted where the turns are
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
