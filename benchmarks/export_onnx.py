"""Writes the benchmarks' Kokoro as kokoro-onnx wants it: the same weights as a graph, and a voice. Once, 15 s:

    python -m benchmarks.export_onnx DIR                          from the repository root; pip install ".[bench]"

The model is the one that KOKORO_MANIFEST names. kokoro's own way to ONNX: KModelForONNX around a KModel whose STFT is
made of convolutions; the graph takes any number of phonemes, and tells durations too.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np

from benchmarks.contest import phrase, the_model
from benchmarks.measure import VOICE
from kokoro_common.voices.pack import read_voice_pack, style_row

GRAPH, VOICES = "kokoro.onnx", "voices.npz"


def export(config: str, weights: str, pack: str, directory: Path) -> None:
    """Blocks for 15 s."""
    warnings.simplefilter("ignore")  # of deprecated ways, most of them kokoro's
    import torch
    from kokoro import KModel
    from kokoro.model import KModelForONNX

    model = KModel(repo_id="hexgrad/Kokoro-82M", config=config, model=weights, disable_complex=True).eval()
    styles = read_voice_pack(pack)
    phonemes = phrase(48)
    example = (
        torch.tensor([[0, *(model.vocab[phoneme] for phoneme in phonemes), 0]]),
        torch.tensor(style_row(styles, len(phonemes))),
        torch.ones(1),
    )
    with torch.no_grad():
        torch.onnx.export(
            KModelForONNX(model).eval(),
            example,
            str(directory / GRAPH),
            input_names=["input_ids", "style", "speed"],
            output_names=["waveform", "duration"],
            dynamic_axes={"input_ids": {1: "phonemes"}, "waveform": {0: "samples"}, "duration": {0: "phonemes"}},
            opset_version=17,
            dynamo=False,  # the exporter that kokoro was written for
        )
    np.savez(directory / VOICES, **{VOICE: styles})


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes the benchmarks' Kokoro as kokoro-onnx wants it.")
    parser.add_argument("directory", metavar="DIR", type=Path)
    directory: Path = parser.parse_args().directory
    directory.mkdir(parents=True, exist_ok=True)
    export(*the_model().files, directory)
    print(f"{directory / GRAPH}: {(directory / GRAPH).stat().st_size / 1e6:.0f} MB, and {VOICES} beside it")


if __name__ == "__main__":
    main()
