"""Clients at work while signals hit servers, their workers and say.py: what ended well is exact, all else is named.

    python -m benchmarks.chaos [--minutes N] [--seed N] [--clients N]            from the repository root; Linux

Real servers, with the stub for the neural engine and the real espeak-ng. Clients write files, stream, speak, interrupt
and stop, by say.py and by the Python library, while a schedule drawn from the seed sends SIGKILL, SIGTERM, SIGINT,
SIGQUIT, or SIGSTOP and later SIGCONT, to the model server, voice servers, espeak-ng's processes and say.py, removes
records and fills the logs. What has to hold:

    an exit code of 0 means that the audio is exact, sample for sample, and of this utterance alone
    any other exit code is a documented one, with one line
    nothing is heard twice; no call hangs; the ledger adds up; no server logs an error that nobody meant
    at the end no process, port or file is left

Exit code 1 if anything did not: each failure is printed with the seed and the place in the schedule.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import pytest
import soundfile

from benchmarks.chaotic_servers import FRAMES_PER_CHARACTER
from benchmarks.chaotic_servers import __file__ as servers_program
from benchmarks.measure import ROOT, new_world, print_machine
from kokoro_common import api
from kokoro_common.client.client import Client
from kokoro_common.daemon import model_server
from kokoro_common.errors import KokoroError
from kokoro_common.settings import resolve
from kokoro_common.sound.samples import to_pcm16
from kokoro_common.wire.messages import Resume
from tests.conftest import World
from tests.helpers.small_disk import fill, small_disk
from tests.helpers.stub_engine import Run, decode_samples

VOICES = ("af_heart", "am_adam", "bf_emma")
ENGINES = ("kokoro", "espeak")
MEANT = {
    3: "no device",
    4: "no model",
    6: "servers lost",
    7: "cancelled",
    8: "no output",
}  # documented, and no bug here
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGSTOP)
CALL_SECONDS = 180.0  # after which a call counts as one that hangs
PAUSE = (0.5, 3.0)  # seconds between two faults
STOPPED = (0.1, 12.0)  # seconds between SIGSTOP and SIGCONT: a server that hangs is replaced after some 9
RESUMED = 15.0  # seconds between two --resume: one that a stopped server never got would pause for ever
LOG_BYTES = "8m"  # of the file system that the logs are on

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


class Chaos:
    """One run in one world. Threads: the clients, the schedule; `fail` and `count` may be called from any."""

    def __init__(self, world: World, seed: int, clients: int, logs: Path) -> None:
        self.world = world
        self.seed = seed
        self.clients = clients
        self.logs = logs
        self.texts = texts_of(random.Random(seed))
        self.expected: dict[tuple[str, str, str], bytes | list[int]] = {}  # by text, voice, engine
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []  # as they came
        self.failures = 0
        self.over = threading.Event()
        self._lock = threading.Lock()
        self._calls: dict[int, set[int]] = {}  # pids of say.py: the signals that the schedule sent
        self._tags: dict[int, str] = {}  # utterances that have been in a file
        self._began = time.monotonic()
        self.out = world.path / "out"
        self.out.mkdir()
        for text in self.texts:
            (world.path / f"{text.name}.txt").write_text(text.text)

    # --- what came of it ---------------------------------------------------------------------------------------------

    def fail(self, what: str) -> None:
        with self._lock:
            self.failures += 1
            self.counts["FAILED"] += 1
            print(
                f"FAILED at {time.monotonic() - self._began:.1f} s, seed {self.seed}, after fault {len(self.faults)}:"
            )
            print(f"  {what}\n  the last faults: {'; '.join(self.faults[-8:])}", flush=True)

    def count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1

    def check(self, text: Text, voice: str, engine: str, samples: np.ndarray, who: str, *, whole: bool = True) -> None:
        """`samples` int16. `whole`: one utterance; a render that was continued has several, each with its chunks."""
        expected = self.expected[text.name, voice, engine]
        if isinstance(expected, bytes):
            if samples.tobytes() != expected:
                self.fail(f"{who}: other samples than espeak-ng's: {len(samples)} for {len(expected) // 2}")
            return
        runs = decode_samples(samples)
        if [(run.chunk, run.first_frame, run.frames) for run in runs] != [(n, 0, f) for n, f in enumerate(expected)]:
            self.fail(f"{who}: not the samples of {text.name}: {runs[:20]}, expected {expected[:20]}")
        tags = {run.tag for run in runs}
        with self._lock:
            known = [self._tags[tag] for tag in tags if tag in self._tags]
            self._tags |= dict.fromkeys(tags, who)
        if known or (whole and len(tags) != 1):
            self.fail(f"{who}: audio of {len(tags)} utterances, known of {known}")

    # --- say.py ------------------------------------------------------------------------------------------------------

    def say(self, *arguments: str, output: Path | None = None, stdin: bytes = b"") -> tuple[int | None, str]:
        """The exit code; None if the schedule has ended it. Whatever else is wrong is told."""
        with contextlib.ExitStack() as stack:
            stdout = stack.enter_context(output.open("wb")) if output else subprocess.PIPE
            process = self.world.popen(*arguments, stdin=subprocess.PIPE, stdout=stdout)
            sent: set[int] = set()
            with self._lock:
                self._calls[process.pid] = sent
            try:
                out, errors = process.communicate(stdin, timeout=CALL_SECONDS)
            except subprocess.TimeoutExpired:
                self.fail(f"{arguments} hangs: {Client(resolve({}, self.world.environment)).status()}")
                process.kill()
                process.communicate()
                return None, ""
            finally:
                with self._lock:
                    del self._calls[process.pid]
        code, lines = process.returncode, errors.decode("utf-8", "replace").splitlines()
        if code in [-number for number in sent] + [128 + number for number in sent]:
            self.count("ended by a signal")
            return None, ""
        problems = [line for line in lines if not line.startswith("say.py: going on at ")]  # a note, before the work
        if code and (code not in MEANT or len(problems) != 1 or not problems[0].startswith("say.py: ")):
            self.fail(f"{arguments} ended with {code}: {lines[-5:]}")
        self.count(f"say.py: {MEANT.get(code, 'well')}")
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
        self.check(text, voice, engine, pcm_of(path), f"{name}: {text.name} rendered", whole=False)
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
            self._check_ledger(server["ledger"])

    def _check_ledger(self, ledger: dict[str, int]) -> None:
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
            self.count(f"library: {MEANT.get(error.exit_code, 'failed')}")
        else:
            self.count("library: well")

    def _choice(self, chance: random.Random, texts: list[Text] | None = None) -> tuple[Text, str, str]:
        return chance.choice(texts or self.texts), chance.choice(VOICES), chance.choice(ENGINES)

    def client(self, number: int) -> None:
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

    # --- the schedule ------------------------------------------------------------------------------------------------

    def schedule(self, until: float) -> None:
        """Draws a fault, waits, draws the next; a target that is not there at that moment is passed over."""
        chance = random.Random(self.seed)
        stopped: list[tuple[float, psutil.Process]] = []
        resumed = time.monotonic()
        client = Client(resolve({}, self.world.environment))
        while (now := time.monotonic()) < until:
            pause, number = chance.uniform(*PAUSE), chance.choice(SIGNALS)
            kind = chance.choices(("voice", "model", "espeak", "say.py", "record", "logs"), (9, 4, 4, 4, 3, 1))[0]
            length, place = chance.uniform(*STOPPED), chance.random()
            if kind in ("record", "logs"):
                self._damage(kind, place)
            elif target := self._target(kind, number, place):
                with contextlib.suppress(psutil.NoSuchProcess):
                    target.send_signal(number)
                    self._note(
                        f"{number.name} to {kind} {target.pid}" + f" for {length:.1f} s" * (number == signal.SIGSTOP)
                    )
                if number == signal.SIGSTOP:
                    stopped.append((now + length, target))
            self.over.wait(min(pause, until - now))  # nobody sets it yet: the schedule's own pace
            stopped = [each for each in stopped if not go_on(*each)]
            if now > resumed + RESUMED:
                resumed = now
                client.control(Resume())
        for _, target in stopped:
            go_on(0.0, target)
        client.control(Resume())

    def _note(self, fault: str) -> None:
        with self._lock:
            self.faults.append(f"{len(self.faults) + 1} {time.monotonic() - self._began:.1f} s {fault}")

    def _target(self, kind: str, number: signal.Signals, place: float) -> psutil.Process | None:
        if kind == "say.py":
            with self._lock:
                pids = sorted(self._calls)
                if number == signal.SIGQUIT or not pids:
                    return None  # it has no handler for that: a core is what is asked for
                pid = pids[int(place * len(pids))]
                self._calls[pid].add(number)
            return process_of(pid)
        servers = self.world.servers()
        models = [each for each in servers if voice_of(each) == ""]
        found = {"model": models, "voice": [each for each in servers if voice_of(each)], "espeak": []}
        if kind == "espeak":
            with contextlib.suppress(psutil.NoSuchProcess):
                children = [child for model in models for child in model.children(recursive=True)]
                found["espeak"] = [child for child in children if "espeak" in " ".join(child.cmdline())]
        targets = sorted(found[kind], key=lambda each: each.pid)
        return targets[int(place * len(targets))] if targets else None

    def _damage(self, kind: str, place: float) -> None:
        if kind == "record":
            records = sorted(self.world.runtime.glob("*.json"))
            if records:
                records[int(place * len(records))].unlink(missing_ok=True)
                self._note("a record removed")
        elif self.logs.is_mount():
            ballast = self.logs / "ballast"
            ballast.unlink(missing_ok=True) if ballast.exists() else fill(self.logs)
            self._note("the logs' disk full, or free again")

    # --- the run -----------------------------------------------------------------------------------------------------

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

    def run(self, seconds: float) -> None:
        self._began = time.monotonic()
        threads = [threading.Thread(target=self.client, args=(number,)) for number in range(self.clients)]
        for thread in threads:
            thread.start()
        try:
            self.schedule(self._began + seconds)
        finally:
            (self.logs / "ballast").unlink(missing_ok=True)
            self.over.set()
            for thread in threads:
                thread.join()

    def finish(self) -> None:
        """After the last client: what is left, the books, the logs, and what was heard."""
        client = Client(resolve({}, self.world.environment))
        deadline = time.monotonic() + 60
        while (server := client.status().model_server) and server.ledger.in_flight and time.monotonic() < deadline:
            time.sleep(0.1)  # what does not wait is being spoken: nobody tells when it has ended
        if server is not None:
            self._check_ledger(server.ledger.as_dict())
            if server.ledger.in_flight:
                self.fail(f"{server.ledger.in_flight} utterances never end: {client.status().utterances}")
        self.say("-o", str(self.out / "last.wav"), self.texts[0].text)  # which sweeps what killed ones have left
        ended = self.world.say("--shutdown", "-q")
        if (ended.returncode, ended.stderr) != (0, ""):
            self.fail(f"--shutdown: {ended.returncode} {ended.stderr}")
        if left := self.world.residue():
            self.fail(f"left over: {left}")
        parts = [path.name for path in self.out.iterdir() if path.name.startswith(".kokoro-")]
        self.counts["unfinished files of killed calls"] = len(parts)
        if left := [path.name for path in self.out.iterdir() if path.name not in ("last.wav", *parts)]:
            self.fail(f"files: {left}")
        self._check_logs()
        self._check_heard()

    def _check_logs(self) -> None:
        for path in self.logs.glob("*.log*"):
            for line in path.read_text("utf-8", "replace").splitlines():
                if '"traceback"' in line or '"critical"' in line:
                    self.fail(f"{path.name}: {line[:1000]}")

    def _check_heard(self) -> None:
        """Nothing twice, whichever server has played it. What it was killed with is not known."""
        for voice in VOICES:
            path = self.world.path / f"heard-{voice}.jsonl"
            ends: dict[int, tuple[int, int]] = {}  # by utterance: chunk and frame
            for line in path.read_text().splitlines() if path.exists() else []:
                run = Run(*json.loads(line))
                if (run.chunk, run.first_frame) < ends.get(run.tag, (0, 0)):
                    self.fail(f"{voice}: heard twice: {run}, after {ends[run.tag]}")
                ends[run.tag] = (run.chunk, run.end)
            self.counts["utterances heard"] += len(ends)


def pcm_of(path: Path) -> np.ndarray:
    samples: np.ndarray = soundfile.read(path, dtype="int16")[0]
    return samples


def process_of(pid: int) -> psutil.Process | None:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid)
    return None


def voice_of(server: psutil.Process) -> str:
    """The last argument, if that is a voice; "" of the model server and of a process that has just ended."""
    with contextlib.suppress(psutil.Error):
        last = server.cmdline()[-1]
        return last if last in VOICES else ""
    return ""


def go_on(due: float, target: psutil.Process) -> bool:
    """Sends SIGCONT if it is time. Whether it was."""
    if time.monotonic() < due:
        return False
    with contextlib.suppress(psutil.NoSuchProcess):
        target.send_signal(signal.SIGCONT)
    return True


@contextlib.contextmanager
def disk_for_logs(path: Path) -> Iterator[Path]:
    """One that can be filled, where it can be mounted; else the logs are left alone."""
    try:
        with small_disk(path, LOG_BYTES):
            yield path
    except pytest.skip.Exception:
        path.mkdir(parents=True, exist_ok=True)
        yield path


def main() -> int:
    parser = argparse.ArgumentParser(description="Clients at work while signals hit servers and clients.")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clients", type=int, default=5)
    options = parser.parse_args()
    print_machine()
    print(f"seed {options.seed}, {options.clients} clients, {options.minutes:g} minutes", flush=True)
    with new_world() as world, disk_for_logs(world.path / "logs") as logs:
        world.program = ROOT / "benchmarks" / "chaotic_say.py"
        model_server.MODEL_PROGRAM = servers_program
        world.environment |= {"KOKORO_LOG_DIR": str(logs), "KOKORO_ENGINE": "kokoro"}
        for name in [name for name in os.environ if name.startswith("KOKORO_")]:
            del os.environ[name]
        os.environ |= {key: value for key, value in world.environment.items() if key.startswith(("KOKORO_", "HOME"))}
        chaos = Chaos(world, options.seed, options.clients, logs)
        chaos.prepare()
        print("prepared", flush=True)
        chaos.run(60 * options.minutes)
        chaos.finish()
    for what, count in sorted(chaos.counts.items()):
        print(f"{count:>8,}  {what}")
    kinds = Counter(" ".join(fault.split()[3:6]) for fault in chaos.faults)
    for fault, count in sorted(kinds.items()):
        print(f"{count:>8,}  {fault}")
    print(f"{len(chaos.faults):,} faults, {len(chaos._tags):,} utterances in files, {chaos.failures} broken promises")
    return 1 if chaos.failures else 0


if __name__ == "__main__":
    sys.exit(main())
