"""One sentence with kokoro and misaki and nothing around them: what a cold start has to pay at the least, as they are.

    python benchmarks/plain_kokoro.py CONFIG WEIGHTS VOICE_PACK TEXT

Prints a word when it has imported them, loaded the model, made the phonemes, and has the audio.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
warnings.simplefilter("ignore")


def main(config: str, weights: str, pack: str, text: str) -> None:
    import torch
    from kokoro import KModel

    from kokoro_common.g2p import G2P

    print("imported", flush=True)
    model = KModel(repo_id="hexgrad/Kokoro-82M", config=config, model=weights).eval()
    print("loaded", flush=True)
    # misaki's own constructor would have pip install a spaCy model.
    phonemes = G2P(None, tempfile.gettempdir()).spoken(text, "a").phonemes
    print("phonemes", flush=True)
    style = torch.load(pack, weights_only=True)[len(phonemes) - 1]  # (1, 256)
    with torch.inference_mode():
        model(phonemes, style, 1.0)
    print("audio", flush=True)


main(*sys.argv[1:])
