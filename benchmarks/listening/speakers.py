"""The speakers that are listened to: ours as it is or untouched, its embedded default, and kokoro's own pipeline.

Each gives a clip: a file of 32-bit samples, and the words with their times.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from benchmarks.listening import hearing
from benchmarks.listening.words import Word, joined
from benchmarks.measure import TOUCHED, Model, new_world

if TYPE_CHECKING:
    from benchmarks.listening.acoustics import Samples
    from tests.conftest import World

OURS, UNTOUCHED, KOKORO, EMBEDDED = "ours", "untouched", "kokoro", "embedded"
UNTOUCHED_FLAG = "--untouched"
_NOT_TO_BE_HAD = 4  # exit code of say.py: of a voice whose model is there, its language's extra


class NoLanguage(RuntimeError):
    """What the voice's language takes is not installed."""


class Clip(NamedTuple):
    path: Path
    words: list[Word]

    @property
    def samples(self) -> Samples:
        import soundfile

        samples: Samples = soundfile.read(self.path, dtype="float32")[0]
        return samples


class Speaker(Protocol):
    name: str

    def speak(self, text: str, voice: str, path: Path, lang: str = "") -> Clip:
        """In the voice's own language or `lang`. Blocks until the file is there. Raises RuntimeError, NoLanguage."""


class SayPy:
    """say.py on warm servers of its own."""

    def __init__(self, world: World, name: str, *flags: str) -> None:
        self.name = name
        self._world, self._flags = world, flags

    def speak(self, text: str, voice: str, path: Path, lang: str = "") -> Clip:
        words = path.with_suffix(".json")
        command = ["-q", *self._flags, "-v", voice, "-o", str(path), "--bit-depth", "32", "--words", str(words)]
        done = self._world.say(*command, *(["--lang", lang] if lang else []), "--", text, timeout=600)
        if done.returncode == _NOT_TO_BE_HAD:
            raise NoLanguage(done.stderr)
        if done.returncode:
            raise RuntimeError(f"say.py -v {voice}: {done.stderr}")
        told = json.loads(words.read_text())["words"]
        ends = [each["source_start"] for each in told[1:]] + [len(text)]
        spoken = [
            Word(each["word"], each["start"], each["end"], "\n" in text[each["source_end"] : after].strip(" "))
            for each, after in zip(told, ends, strict=True)
        ]
        return Clip(path, joined(spoken))


class KokoroPipeline:
    """kokoro's own, in a process of its own."""

    name = KOKORO

    def __init__(self, model: Model) -> None:
        config, weights, voice = model.files
        program = Path(__file__).with_name("kokoro_speaker.py")
        command = [sys.executable, str(program), config, weights, str(Path(voice).parent), str(hearing.tagger())]
        environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}  # its threads would spin beside the recogniser's
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def speak(self, text: str, voice: str, path: Path, lang: str = "") -> Clip:
        if lang:
            raise NoLanguage("kokoro's pipeline speaks the voice's own language here")
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps({"text": text, "voice": voice, "path": str(path)}), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"kokoro's pipeline has ended with {self._process.wait()}")
        return Clip(path, joined([Word(**each) for each in json.loads(line)["words"]]))

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextlib.contextmanager
def speakers(*names: str) -> Iterator[list[Speaker]]:
    """Those of these names that there are: an older say.py knows no --untouched."""
    model = Model()
    with contextlib.ExitStack() as stack:
        found: list[Speaker] = []
        if {OURS, UNTOUCHED, EMBEDDED} & set(names):
            # Of 54 voices none need stay.
            world = stack.enter_context(new_world({**model.environment, **TOUCHED, "KOKORO_IDLE_TIMEOUT": "20"}))
            if OURS in names:
                found.append(SayPy(world, OURS))
            if UNTOUCHED in names and UNTOUCHED_FLAG in world.say("--help", "all").stdout:
                found.append(SayPy(world, UNTOUCHED, UNTOUCHED_FLAG))
            if EMBEDDED in names:
                found.append(SayPy(world, EMBEDDED, "--engine", "espeak"))
        if KOKORO in names:
            pipeline = KokoroPipeline(model)
            stack.callback(pipeline.end)
            found.append(pipeline)
        yield found


def voices_of_model() -> list[str]:
    """All that the model to measure has."""
    voice = Path(Model().files[2])
    return sorted(path.stem for path in voice.parent.glob("*.pt"))
