"""One sentence with kokoro.KPipeline and nothing around it: what a cold start has to pay with kokoro as it is.

    python benchmarks/plain_kokoro.py CONFIG WEIGHTS VOICE_PACK TEXT

Prints a word when it has imported kokoro, loaded the model, built the pipeline, and has the audio; on Linux also the
memory of the process then, in kB: resident, and the most it has had.

KPipeline would have pip install the spaCy model en_core_web_sm. A blank one in its place takes less time and memory.
"""

from __future__ import annotations

import os
import sys
import warnings

warnings.simplefilter("ignore")
REPOSITORY = "hexgrad/Kokoro-82M"


def main(config: str, weights: str, pack: str, text: str) -> None:
    import kokoro
    import spacy

    print("imported", flush=True)
    model = kokoro.KModel(repo_id=REPOSITORY, config=config, model=weights).eval()
    print("loaded", flush=True)
    spacy.util.is_package = lambda _: True
    spacy.load = lambda _, enable: spacy.blank("en")
    pipeline = kokoro.KPipeline("a", repo_id=REPOSITORY, model=model)
    print("pipeline", flush=True)
    for result in pipeline(text, voice=pack):
        if not len(result.audio):
            raise SystemExit("no audio")
    print("audio", flush=True)
    if os.path.exists("/proc/self/status"):
        with open("/proc/self/status") as file:
            status = dict(line.split(":", 1) for line in file)
        print("memory", status["VmRSS"].split()[0], status["VmHWM"].split()[0], flush=True)


main(*sys.argv[1:])
