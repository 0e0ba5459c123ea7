"""The clients of chaos.py: what each does, whether it ended as promised, and what a text has to sound like."""

from __future__ import annotations

import contextlib
import json
import random
import re
import subprocess
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from benchmarks.chaotic_servers import FRAMES_PER_CHARACTER
from kokoro_common import api
from kokoro_common.client.client import Client
from kokoro_common.errors import KokoroError
from kokoro_common.settings import resolve
from kokoro_common.sound.samples import to_pcm16
from tests.conftest import World
from tests.helpers.stub_engine import decode_samples

VOICES = ("af_heart", "am_adam", "bf_emma")
ENGINES = ("kokoro", "espeak")
MEANT = (6, 7)  # exit codes: servers were lost, or somebody has cancelled it. Device, model and disk are there
CALL_SECONDS = 180.0  # after which a call counts as one that hangs

WORDS = re.findall(
    r"\w+", "a the river mountain letter morning quiet garden follows carries remembers window seven under between"
)


class Text(NamedTuple):
    name: str
    text: str
    sentences: tuple[int, ...]  # characters of each


def texts_of(chance: random.Random) -> list[Text]:
    """Sentences of different lengths: no two texts have the same ones in the same order."""
    texts = []
    for number, count in enumerate((1, 2, 4, 7, 12, 60)):
        sentences = []
        for _ in range(count):
            words = [chance.choice(WORDS) for _ in range(chance.randint(8, 16))]
            sentences.append(" ".join(words).capitalize() + ".")
        texts.append(Text(f"text{number}", " ".join(sentences), tuple(map(len, sentences))))
    return texts


class Clients:
    """Those of one run in one world, each on a thread of its own; any thread may call `fail`, `count` and `note`."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.name = world.program.name  # as its lines begin
        self.seed = seed
        self.texts = texts_of(random.Random(seed))
        self.expected: dict[tuple[str, str, str], bytes | list[int]] = {}  # by text, voice, engine
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []  # as they came
        self.failures = 0
        self.over = threading.Event()
        self.calls: dict[int, set[int]] = {}  # pids of say.py: the signals that the schedule sent
        self.tags: dict[int, str] = {}  # utterances that have been in a file
        self.lock = threading.Lock()  # for all of these
        self.began = time.monotonic()
        self.out = world.path / "out"
        self.out.mkdir()
        for text in self.texts:
            (world.path / f"{text.name}.txt").write_text(text.text)

    def prepare(self) -> None:
        """What each text sounds like when nothing disturbs it."""
        for text in self.texts:
            for voice in VOICES:
                for engine in ENGINES:
                    done = self.world.say("-o", "expected.wav", "-v", voice, "--engine", engine, text.text)
                    assert (done.returncode, done.stderr) == (0, ""), done
                    samples = pcm_of(self.world.path / "expected.wav")
                    if engine == "espeak":
                        self.expected[text.name, voice, engine] = samples.tobytes()
                        continue
                    frames = [run.frames for run in decode_samples(samples)]
                    assert sum(frames) == FRAMES_PER_CHARACTER * sum(text.sentences), text.name
                    self.expected[text.name, voice, engine] = frames

    # --- what came of it ---------------------------------------------------------------------------------------------

    def fail(self, what: str) -> None:
        with self.lock:
            self.failures += 1
            self.counts["FAILED"] += 1
            place = f"{time.monotonic() - self.began:.1f} s, after fault {len(self.faults)} of seed {self.seed}"
            print(f"FAILED at {place}:\n  {what}\n  the last faults: {'; '.join(self.faults[-8:])}", flush=True)

    def note(self, fault: str) -> None:
        with self.lock:
            self.faults.append(f"{len(self.faults) + 1} {time.monotonic() - self.began:.1f} s {fault}")

    def count(self, what: str) -> None:
        with self.lock:
            self.counts[what] += 1

    def check(self, text: Text, voice: str, engine: str, samples: np.ndarray, who: str) -> None:
        """`samples` int16. Where a voice server was killed, another utterance goes on at the very sample."""
        expected = self.expected[text.name, voice, engine]
        if isinstance(expected, bytes):
            if samples.tobytes() != expected:
                self.fail(f"{who}: other samples than espeak-ng's: {len(samples)} for {len(expected) // 2}")
            return
        runs = decode_samples(samples)
        chunks: list[tuple[int, int, int]] = []  # index, first frame, frames
        for run in runs:
            if chunks and (run.chunk, run.first_frame) == (chunks[-1][0], sum(chunks[-1][1:])):
                chunks[-1] = (*chunks[-1][:2], chunks[-1][2] + run.frames)
            else:
                chunks.append((run.chunk, run.first_frame, run.frames))
        if chunks != [(number, 0, frames) for number, frames in enumerate(expected)]:
            self.fail(f"{who}: not the samples of {text.name}: {runs[:20]}, expected {expected[:20]}")
        tags = {run.tag for run in runs}
        with self.lock:
            known = [self.tags[tag] for tag in tags if tag in self.tags]
            self.tags |= dict.fromkeys(tags, who)
            self.counts["audio that another utterance went on with"] += len(tags) > 1
        if known:
            self.fail(f"{who}: audio that was in {known} already")

    # --- say.py ------------------------------------------------------------------------------------------------------

    def say(self, *arguments: str, output: Path | None = None, stdin: bytes = b"") -> tuple[int | None, str]:
        """The exit code; None if the schedule has ended it. Whatever else is wrong is told."""
        with contextlib.ExitStack() as stack:
            stdout = stack.enter_context(output.open("wb")) if output else subprocess.PIPE
            process = self.world.popen(*arguments, stdin=subprocess.PIPE, stdout=stdout)
            sent: set[int] = set()
            with self.lock:
                self.calls[process.pid] = sent
            try:
                out, errors = process.communicate(stdin, timeout=CALL_SECONDS)
            except subprocess.TimeoutExpired:
                self.fail(f"{arguments} hangs: {Client(resolve({}, self.world.environment)).status()}")
                process.kill()
                process.communicate()
                return None, ""
            finally:
                with self.lock:
                    del self.calls[process.pid]
        code, lines = process.returncode, errors.decode("utf-8", "replace").splitlines()
        if code in [-number for number in sent] + [128 + number for number in sent]:
            self.count("ended by a signal")
            return None, ""
        note = f"{self.name}: going on at "  # before the work
        problems = [line for line in lines if not line.startswith(note)]
        if code and (code not in MEANT or len(problems) != 1 or not problems[0].startswith(f"{self.name}: ")):
            self.fail(f"{arguments} ended with {code}: {lines[-5:]}")
        said = problems[-1].removeprefix(f"{self.name}: ") if problems else "nothing was said"
        self.count(f"say.py: {told(code, said) if code else 'well'}")
        return code, (out or b"").decode("utf-8", "replace")

    def write_file(self, chance: random.Random, name: str) -> None:
        text, voice, engine = self._choice(chance)
        path = self.out / f"{name}.wav"
        if self.say("-o", str(path), "-v", voice, "--engine", engine, text.text)[0] == 0:
            self.check(text, voice, engine, pcm_of(path), f"{name}: {text.name} as a file")
            path.unlink()
        elif path.exists():
            self.fail(f"{name}: a file, though say.py did not end well")

    def render(self, chance: random.Random, name: str) -> None:
        """A document, until it is there: each call goes on where the last one was ended."""
        text, voice, engine = self._choice(chance, self.texts[-1:])
        path = self.out / f"{name}.wav"
        command = ("-o", str(path), "-v", voice, "--engine", engine, "-f", str(self.world.path / f"{text.name}.txt"))
        while self.say(*command)[0] != 0 and not self.over.is_set():
            pass
        if self.over.is_set() and self.say(*command)[0] != 0:
            self.fail(f"{name}: the render does not end, though nothing disturbs it any more")
            return
        self.check(text, voice, engine, pcm_of(path), f"{name}: {text.name} rendered")
        path.unlink()

    def stream(self, chance: random.Random, name: str) -> None:
        text, voice, engine = self._choice(chance)
        path = self.out / f"{name}.stream"
        arguments = ("-o", "-", "-v", voice, "--engine", engine)
        by_pipe = chance.random() < 0.5
        ended = self.say(*arguments, *(() if by_pipe else (text.text,)), output=path, stdin=text.text.encode())
        if ended[0] == 0:
            samples = np.frombuffer(path.read_bytes()[44:], "<i2")
            self.check(text, voice, engine, samples, f"{name}: {text.name} as a stream")
        path.unlink()

    def speak(self, chance: random.Random, name: str) -> None:
        text, voice, engine = self._choice(chance, self.texts[:-1])
        kind = chance.choice(([], [], ["-n"], ["-i"], ["--overlap"]))
        self.say(*kind, "-v", voice, "--engine", engine, text.text)

    def control(self, chance: random.Random, name: str) -> None:
        verb = chance.choice(("--stop", "--skip", "--pause", "--status"))
        code, out = self.say(verb, *(["--json"] if verb == "--status" else []))
        if verb == "--pause":
            self.say("--resume")
        elif verb == "--status" and code == 0 and (server := json.loads(out)["model_server"]):
            self.check_ledger(server["ledger"])

    def check_ledger(self, ledger: dict[str, int]) -> None:
        if ledger["accepted"] != sum(ledger[name] for name in ("finished", "cancelled", "failed", "in_flight")):
            self.fail(f"the ledger does not add up: {ledger}")

    # --- the library -------------------------------------------------------------------------------------------------

    def call(self, chance: random.Random, name: str) -> None:
        """One call of the Python library, in this process."""
        text, voice, engine = self._choice(chance)
        path = self.out / f"{name}.wav"
        verb = chance.choice(("synthesize", "save", "speak", "stop"))
        try:
            if verb == "synthesize":
                sounds = [to_pcm16(sound.samples) for sound in api.synthesize(text.text, voice=voice, engine=engine)]
                self.check(text, voice, engine, np.concatenate(sounds), f"{name}: {text.name} synthesized")
            elif verb == "save":
                api.save(text.text, path, voice=voice, engine=engine)
                self.check(text, voice, engine, pcm_of(path), f"{name}: {text.name} saved")
                path.unlink()
            elif verb == "speak":
                api.speak(self.texts[chance.randrange(3)].text, voice=voice, engine=engine)
            else:
                api.stop()
        except KokoroError as error:
            if error.exit_code not in MEANT or "\n" in str(error):
                self.fail(f"{name}: {verb} raised {error!r}")
            self.count(f"library: {told(error.exit_code, str(error))}")
        else:
            self.count("library: well")

    def _choice(self, chance: random.Random, texts: list[Text] | None = None) -> tuple[Text, str, str]:
        return chance.choice(texts or self.texts), chance.choice(VOICES), chance.choice(ENGINES)

    def work(self, number: int) -> None:
        chance = random.Random(f"{self.seed}/{number}")
        verbs: list[Callable[[random.Random, str], None]] = [self.write_file, self.render, self.stream, self.speak]
        verbs += [self.write_file, self.speak, self.control, self.call, self.call]
        turn = 0
        while not self.over.is_set():
            turn += 1
            verb = chance.choice(verbs)
            try:
                verb(chance, f"{verb.__name__}-{number}-{turn}")
            except Exception:
                self.fail(f"client {number}, turn {turn}: {traceback.format_exc()}")


def told(code: int, line: str) -> str:
    """The code and the problem without its remedy and what differs from time to time: one entry for a kind."""
    return f"{code}, {re.sub(r'[0-9]+|/[^ ]*', '#', line).split(';')[0][:90]}"


def pcm_of(path: Path) -> np.ndarray:
    samples: np.ndarray = soundfile.read(path, dtype="int16")[0]
    return samples
