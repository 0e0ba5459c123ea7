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
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from benchmarks.chaotic_clients import VOICES, Clients
from benchmarks.chaotic_servers import __file__ as servers_program
from benchmarks.measure import ROOT, new_world, print_machine
from kokoro_common.client.client import Client
from kokoro_common.daemon import model_server
from kokoro_common.errors import ServersUnreachable
from kokoro_common.settings import resolve
from kokoro_common.wire.messages import Resume
from tests.helpers.small_disk import fill, small_disk
from tests.helpers.stub_engine import Run

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGSTOP)
PAUSE = (0.5, 3.0)  # seconds between two faults
STOPPED = (0.1, 12.0)  # seconds between SIGSTOP and SIGCONT: a server that hangs is replaced after some 9
RESUMED = 15.0  # seconds between two --resume: one that a stopped server never got would pause for ever
SHOWN = 60.0  # seconds between two lines about how far it is
LOG_BYTES = "8m"  # of the file system that the logs are on


class Chaos:
    """The schedule of one run, and what has to hold at its end."""

    def __init__(self, clients: Clients, count: int, logs: Path) -> None:
        self.clients = clients
        self.world = clients.world
        self.count = count
        self.logs = logs

    # --- the schedule ------------------------------------------------------------------------------------------------

    def schedule(self, until: float) -> None:
        """Draws a fault, waits, draws the next; a target that is not there at that moment is passed over."""
        chance = random.Random(self.clients.seed)
        stopped: list[tuple[float, psutil.Process]] = []
        resumed = shown = time.monotonic()
        while (now := time.monotonic()) < until:
            pause, number = chance.uniform(*PAUSE), chance.choice(SIGNALS)
            kind = chance.choices(("voice", "model", "espeak", "say.py", "record", "logs"), (9, 4, 4, 4, 3, 1))[0]
            length, place = chance.uniform(*STOPPED), chance.random()
            if kind in ("record", "logs"):
                self._damage(kind, place)
            elif target := self._target(kind, number, place):
                with contextlib.suppress(psutil.NoSuchProcess):
                    target.send_signal(number)
                    self.clients.note(
                        f"{number.name} to {kind} {target.pid}" + f" for {length:.1f} s" * (number == signal.SIGSTOP)
                    )
                if number == signal.SIGSTOP:
                    stopped.append((now + length, target))
            self.clients.over.wait(min(pause, until - now))  # nobody sets it yet: the schedule's own pace
            stopped = [each for each in stopped if not go_on(*each)]
            if now > resumed + RESUMED:
                resumed = now
                self._resume()
            if now > shown + SHOWN:
                shown = now
                minutes, well = (now - self.clients.began) / 60, self.clients.counts["say.py: well"]
                print(f"{minutes:5.1f} min, {len(self.clients.faults)} faults, {well} calls of say.py well", flush=True)
        for _, target in stopped:
            go_on(0.0, target)
        self._resume()

    def _resume(self) -> None:
        """A voice server that is stopped does not answer, and one that was replaced has nothing paused."""
        try:
            Client(resolve({}, self.world.environment)).control(Resume())
        except ServersUnreachable:
            self.clients.count("no answer to the schedule's --resume")

    def _target(self, kind: str, number: signal.Signals, place: float) -> psutil.Process | None:
        if kind == "say.py":
            with self.clients.lock:
                pids = sorted(self.clients.calls)
                if number == signal.SIGQUIT or not pids:
                    return None  # it has no handler for that: a core is what is asked for
                pid = pids[int(place * len(pids))]
                self.clients.calls[pid].add(number)
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
                self.clients.note("a record removed")
        elif self.logs.is_mount():
            ballast = self.logs / "ballast"
            ballast.unlink(missing_ok=True) if ballast.exists() else fill(self.logs)
            self.clients.note("the logs' disk full, or free again")

    # --- the run -----------------------------------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        self.clients.began = time.monotonic()
        threads = [threading.Thread(target=self.clients.work, args=(number,)) for number in range(self.count)]
        for thread in threads:
            thread.start()
        try:
            self.schedule(self.clients.began + seconds)
        finally:
            (self.logs / "ballast").unlink(missing_ok=True)
            self.clients.over.set()
            for thread in threads:
                thread.join()

    def finish(self) -> None:
        """After the last client: what is left, the books, the logs, and what was heard."""
        client = Client(resolve({}, self.world.environment))
        deadline = time.monotonic() + 60
        while (server := client.status().model_server) and server.ledger.in_flight and time.monotonic() < deadline:
            time.sleep(0.1)  # what does not wait is being spoken: nobody tells when it has ended
        if server is not None:
            self.clients.check_ledger(server.ledger.as_dict())
            if server.ledger.in_flight:
                self.clients.fail(f"{server.ledger.in_flight} utterances never end: {client.status().utterances}")
        self.clients.say(
            "-o", str(self.clients.out / "last.wav"), self.clients.texts[0].text
        )  # which sweeps what killed ones have left
        ended = self.world.say("--shutdown", "-q")
        if (ended.returncode, ended.stderr) != (0, ""):
            self.clients.fail(f"--shutdown: {ended.returncode} {ended.stderr}")
        if left := self.world.residue():
            self.clients.fail(f"left over: {left}")
        parts = [path.name for path in self.clients.out.iterdir() if path.name.startswith(".kokoro-")]
        self.clients.counts["unfinished files of killed calls"] = len(parts)
        if left := [path.name for path in self.clients.out.iterdir() if path.name not in ("last.wav", *parts)]:
            self.clients.fail(f"files: {left}")
        self._check_logs()
        self._check_heard()

    def _check_logs(self) -> None:
        for path in self.logs.glob("*.log*"):
            for line in path.read_text("utf-8", "replace").splitlines():
                if '"traceback"' in line or '"critical"' in line:
                    self.clients.fail(f"{path.name}: {line[:1000]}")

    def _check_heard(self) -> None:
        """Nothing twice, whichever server has played it. What it was killed with is not known."""
        for voice in VOICES:
            path = self.world.path / f"heard-{voice}.jsonl"
            ends: dict[int, tuple[int, int]] = {}  # by utterance: chunk and frame
            for line in path.read_text().splitlines() if path.exists() else []:
                run = Run(*json.loads(line))
                if (run.chunk, run.first_frame) < ends.get(run.tag, (0, 0)):
                    self.clients.fail(f"{voice}: heard twice: {run}, after {ends[run.tag]}")
                ends[run.tag] = (run.chunk, run.end)
            self.clients.counts["utterances heard"] += len(ends)


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
        clients = Clients(world, options.seed)
        chaos = Chaos(clients, options.clients, logs)
        clients.prepare()
        print("prepared", flush=True)
        chaos.run(60 * options.minutes)
        chaos.finish()
    for what, count in sorted(clients.counts.items()):
        print(f"{count:>8,}  {what}")
    kinds = Counter(" ".join(fault.split()[3:6]) for fault in clients.faults)
    for fault, count in sorted(kinds.items()):
        print(f"{count:>8,}  {fault}")
    print(
        f"{len(clients.faults):,} faults, {len(clients.tags):,} utterances in files, {clients.failures} broken promises"
    )
    return 1 if clients.failures else 0


if __name__ == "__main__":
    sys.exit(main())
