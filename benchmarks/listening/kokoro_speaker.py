"""Speaks with kokoro.KPipeline and nothing around it, as its page tells to. A program that speakers.py starts.

    python kokoro_speaker.py CONFIG WEIGHTS VOICES TAGGER

A line of JSON for each text on the standard input, {"text": ..., "voice": ..., "path": ...}; on the standard output a
line with its words and their times. Nothing is downloaded: model and voices are given, and spaCy's English model is the
folder TAGGER.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

warnings.simplefilter("ignore")
os.environ.update({"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"})
REPOSITORY = "hexgrad/Kokoro-82M"
RATE = 24_000  # Hz


def words_of(result: Any, began: float, last: bool) -> list[dict[str, Any]]:
    """The words of one of the pipeline's results, which begins at `began` seconds; `last` in its paragraph."""
    words: list[dict[str, Any]] = []
    goes_on = False
    for token in result.tokens:
        start, end = token.start_ts, token.end_ts
        if goes_on and words:
            words[-1]["word"] += token.text
            if end is not None and any(each.isalnum() for each in token.text):
                words[-1]["end"] = began + end
        else:
            known = start is not None and end is not None
            words.append({
                "word": token.text,
                "start": began + start if known else words[-1]["end"] if words else began,
                "end": began + end if known else words[-1]["end"] if words else began,
            })  # fmt: skip
        goes_on = not token.whitespace
    if last and words:
        words[-1]["paragraph"] = True
    return words


def main(config: str, weights: str, voices: str, tagger: str) -> None:
    import kokoro
    import soundfile
    import spacy
    import torch

    load = spacy.load
    spacy.util.is_package = lambda name: True  # else misaki has it fetched
    spacy.load = lambda _, **options: load(Path(tagger), **options)  # a path is no package
    model = kokoro.KModel(repo_id=REPOSITORY, config=config, model=weights).eval()

    @functools.cache
    def pipeline(language: str) -> Any:
        return kokoro.KPipeline(language, repo_id=REPOSITORY, model=model)

    for line in sys.stdin:
        asked = json.loads(line)
        torch.manual_seed(0)
        pack = str(Path(voices) / f"{asked['voice']}.pt")
        results = list(pipeline(asked["voice"][0])(asked["text"], voice=pack))
        pieces, words, began = [], [], 0.0
        for number, result in enumerate(results):
            last = number + 1 < len(results) and results[number + 1].text_index != result.text_index
            words += words_of(result, began, last)
            pieces.append(np.asarray(result.audio, np.float32))
            began += len(pieces[-1]) / RATE
        soundfile.write(asked["path"], np.concatenate(pieces), RATE, subtype="FLOAT")
        print(json.dumps({"words": words}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
