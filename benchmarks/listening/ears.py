"""Listens to clips: what is said, how natural it is rated, how loud it is. A program of the environment that listens.

    python ears.py WHISPER_FOLDER

A line of JSON for each clip on the standard input, {"path": ..., "wanted": ["text", "mos", "loudness"]}, a line with
what is wanted on the standard output. It imports nothing of this project: what it needs is in constraints.txt.
"""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

RATE, MOS_RATE = 24_000, 16_000  # Hz
MOS_SECONDS = 9.01  # that DNSMOS rates at once; shorter clips are repeated
MOS_OVERALL = (-0.06766283, 1.11546468, 0.04602535)  # polynomial from its overall output to the rating, as published
SHORTEST = 0.4  # seconds, a gating block of ITU-R BS.1770


@functools.cache
def whisper(folder: str) -> Any:
    from faster_whisper import WhisperModel

    return WhisperModel(folder, device="cpu", compute_type="int8", cpu_threads=2)


def text(folder: str, samples: np.ndarray) -> str:
    segments, _ = whisper(folder).transcribe(
        samples, language="en", beam_size=5, temperature=0.0, condition_on_previous_text=False
    )
    return " ".join(segment.text.strip() for segment in segments)


@functools.cache
def dnsmos() -> Any:
    import importlib.util

    import onnxruntime

    # Found, not imported: the package imports librosa for a second rating.
    spec = importlib.util.find_spec("speechmos")
    assert spec is not None
    assert spec.origin is not None
    model = Path(spec.origin).parent / "dnsmos_models" / "sig_bak_ovr.onnx"
    return onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])


def mos(samples: np.ndarray) -> float:
    """DNSMOS (P.835), overall, 1 to 5: the mean over windows that begin each second."""
    size = int(MOS_SECONDS * MOS_RATE)
    while len(samples) < size:
        samples = np.concatenate([samples, samples])
    ratings = []
    for start in range(0, len(samples) - size + 1, MOS_RATE):
        (outputs,) = dnsmos().run(None, {"input_1": samples[None, start : start + size].astype(np.float32)})
        ratings.append(np.polyval(MOS_OVERALL, outputs[0][2]))
    return float(np.mean(ratings))


def loudness(samples: np.ndarray) -> dict[str, float | None]:
    """LUFS by BS.1770 (None where the clip is too short), and the true peak in dBFS, four times oversampled."""
    import pyloudnorm
    from scipy.signal import resample_poly

    long = len(samples) >= SHORTEST * RATE
    peak = float(np.max(np.abs(resample_poly(samples.astype(np.float64), 4, 1)), initial=1e-10))
    return {
        "loudness": float(pyloudnorm.Meter(RATE).integrated_loudness(samples.astype(np.float64))) if long else None,
        "true_peak": 20 * float(np.log10(peak)),
    }


def main(folder: str) -> None:
    from faster_whisper.audio import decode_audio

    for line in sys.stdin:
        asked = json.loads(line)
        answer: dict[str, Any] = {}
        if "loudness" in asked["wanted"]:
            answer |= loudness(decode_audio(asked["path"], sampling_rate=RATE))
        if {"text", "mos"} & set(asked["wanted"]):
            samples = decode_audio(asked["path"], sampling_rate=MOS_RATE)  # Whisper's rate too
            if "text" in asked["wanted"]:
                answer["text"] = text(folder, samples)
            if "mos" in asked["wanted"]:
                answer["mos"] = mos(samples)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
