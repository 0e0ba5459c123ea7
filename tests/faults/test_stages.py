"""Programs that die, or are told to end, at every stage of their life: speech goes on or fails at once, and is never
heard twice; nobody is orphaned. Where a program stops for it: tests/helpers/stage.py and the stub programs."""

from __future__ import annotations

import functools
import os
import queue
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import pytest

from kokoro_common.daemon import starter
from kokoro_common.daemon.record import note_of
from kokoro_common.daemon.runtime_directory import RuntimeDirectory
from kokoro_common.text.chunker import Chunker
from kokoro_common.voices.catalogue import VOICES
from kokoro_common.wire.connection import Connection
from kokoro_common.wire.messages import Message, Shutdown, Status, StatusRequest
from kokoro_common.wire.reports import StatusReport
from tests.conftest import ROOT, World
from tests.faults.conftest import Shown, times
from tests.helpers.local_hub import LocalHub
from tests.helpers.stage import Stop
from tests.helpers.stub_engine import SILENCE, decode_samples
from tests.helpers.stub_model_server import FRAMES_PER_CHARACTER

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3600 if os.environ.get("FAULTS_FULL") == "1" else 300)]

TEXT = " ".join(f"This is sentence {name} of six in all." for name in ("one", "two", "three", "four", "five", "six"))
NEXT = "The next one."
PART = "a part"
WAIT_SECONDS = 60.0  # for a client on a busy machine
END_SECONDS = 5.0  # for the last event at who cannot be helped, and for a server that is told to end
SEEN_SECONDS = 0.5  # until a process that has drained for all of that is seen to have ended
ORPHAN_SECONDS = 3.0
SPOKEN_BLOCKS = 40  # 0.4 s of speech: it is under way


def lengths(text: str) -> list[int]:
    """Frames of each of its text chunks."""
    chunker = Chunker("a")
    return [len(chunk.text) * FRAMES_PER_CHARACTER for chunk in (*chunker.feed(text), *chunker.finish())]


class StagedWorld(World):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.program = ROOT / "tests" / "helpers" / "stub_say.py"
        self.stages = path / "stages"
        self.environment |= {"STAGES": str(self.stages), "STUB_RTF": "0.02"}
        self.exits = 0  # of voice servers, that the log has told us of
        (path / "home").mkdir()

    def stop(self, stage: str, time: int = 1) -> Stop:
        return Stop(self.stages, stage, time)

    def connect_to_model(self) -> Connection:
        connection = starter.connect(RuntimeDirectory(str(self.runtime)), "model")
        assert connection is not None, "no model server answers"
        return connection

    def ask_model(self, message: Message) -> Message:
        connection = self.connect_to_model()
        try:
            connection.send(message)
            return connection.receive(30)[0]
        finally:
            connection.close()

    def report(self) -> dict[str, Any]:
        answer = self.ask_model(StatusRequest())
        assert isinstance(answer, Status)
        known = {name: getattr(answer, name) for name in answer._fields}
        return StatusReport(**known).as_json()

    def settled(self) -> dict[str, Any]:
        """The report once nothing is in flight and all live servers are in it; 15 s at the most."""
        deadline = time.monotonic() + 15
        while True:
            report = self.report()
            ledger = report["model_server"]["ledger"]
            listed = {report["model_server"]["pid"], *(voice["pid"] for voice in report["voice_servers"])}
            live = {process.pid for process in self.servers()}
            ended = ledger["finished"] + ledger["cancelled"] + ledger["failed"]
            assert ledger["accepted"] == ended + ledger["in_flight"], ledger
            if ledger["in_flight"] == 0 and live == listed:
                return report
            assert time.monotonic() < deadline, (report, live)
            time.sleep(0.05)

    def orphans(self) -> list[psutil.Process]:
        """Live servers that are not those which the locks name."""
        runtime = RuntimeDirectory(str(self.runtime))
        notes = [note_of(runtime, name.removesuffix(".lock")) for name in runtime.names() if ".lock" in name]
        known = {note.record.pid for note in notes if note.record is not None}
        return [process for process in self.servers() if process.pid not in known]

    def heard(self) -> list[str]:
        """What the devices were given since the last call, each sample once and in order: of each utterance its text,
        or PART when that is not all of it."""
        path = self.path / "taken-af_heart.raw"
        ends: dict[int, tuple[int, int]] = {}
        taken = np.fromfile(path, np.int16) if path.exists() else np.empty(0, np.int16)
        for run in decode_samples(taken):
            if run.tag != SILENCE:
                chunk, frame = ends.get(run.tag, (0, 0))
                whole = frame == lengths(TEXT)[chunk]
                assert (run.chunk, run.first_frame) == ((chunk + 1, 0) if whole else (chunk, frame)), (
                    run,
                    chunk,
                    frame,
                )
                ends[run.tag] = run.chunk, run.end
        path.unlink(missing_ok=True)
        texts = {(len(lengths(text)) - 1, lengths(text)[-1]): text for text in (TEXT, NEXT)}
        return [texts.get(end, PART) for end in ends.values()]

    def end(self) -> None:
        """Ends the servers politely; nothing may be left, and no death counts for what comes next."""
        ended = self.say("--shutdown", "-q")
        shutil.rmtree(self.cache / "hub", ignore_errors=True)
        (self.path / "taken-af_heart.raw").unlink(missing_ok=True)
        left = self.residue()
        for process in self.servers():
            process.kill()
        assert (ended.returncode, ended.stderr, left) == (0, "", [])

    def wreck(self) -> None:
        """Back to the beginning after a round that failed."""
        for process in self.servers():
            process.kill()
        for folder in (self.runtime, self.stages, self.cache / "hub"):
            shutil.rmtree(folder, ignore_errors=True)
        (self.path / "taken-af_heart.raw").unlink(missing_ok=True)

    def exit_code_of_voice(self) -> int:
        """Of the voice server that ended last, as the model server logged it."""
        for _ in range(100):
            entries = [entry for entry in self.log("model_server") if entry["event"] == "voice server exited"]
            if len(entries) > self.exits:
                self.exits = len(entries)
                return int(str(entries[-1]["code"]))
            time.sleep(0.05)
        raise AssertionError("no voice server's exit was logged")


@pytest.fixture
def staged(tmp_path: Path) -> Iterator[StagedWorld]:
    world = StagedWorld(tmp_path)
    yield world
    world.end()


@pytest.fixture
def hub_world(staged: StagedWorld) -> Iterator[StagedWorld]:
    """One whose model server downloads; the stub takes the place of the engine that is made of the files."""
    with LocalHub({"config.json": b"{}", "kokoro.pth": bytes(1 << 20), "voices/af_heart.pt": b"voice"}) as hub:
        manifest = hub.write_manifest(staged.path / "manifest.json", "kokoro.pth", "config.json")
        staged.environment |= {
            "KOKORO_MANIFEST": manifest,
            "KOKORO_ENGINE": "auto",
            "KOKORO_OFFLINE": "0",
            "HF_ENDPOINT": hub.endpoint,
            "HF_HOME": str(staged.path / "huggingface"),
            "NO_PROXY": "127.0.0.1",
        }
        yield staged


class Scene(NamedTuple):
    """A server that is stopped at its stage, and who speaks TEXT meanwhile."""

    server: psutil.Process
    clients: tuple[subprocess.Popen[bytes], ...]
    spoken: tuple[str, ...]  # texts, in the order in which the devices get them, if all goes well


def scene(world: StagedWorld, stage: str, number: int) -> Scene:
    """`number` varies what may vary: which text chunk, how much of the speech."""
    if stage == "M7":
        assert world.say(NEXT).returncode == 0
        server = psutil.Process(world.settled()["model_server"]["pid"])
        server.suspend()
        return Scene(server, (), (NEXT,))
    if stage == "V7":
        stop = world.stop("V7")
        assert world.say(NEXT, KOKORO_IDLE_TIMEOUT="0.3").returncode == 0
        return Scene(stop.wait(), (), (NEXT,))
    if stage in ("M11", "V6"):
        return scene_at_an_end(world, stage)
    time = {"M8": number % 5 + 1, "M9": number % 5 + 1, "M10": number % 5 + 1, "V5": number * SPOKEN_BLOCKS + 1}
    stop = world.stop(stage, time.get(stage, 1))
    client = world.popen(TEXT)
    return Scene(stop.wait(), (client,), (TEXT,))


def scene_at_an_end(world: StagedWorld, stage: str) -> Scene:
    """Somebody speaks when the model server is told to drain, or when somebody else interrupts."""
    speech = world.stop("V5", SPOKEN_BLOCKS)
    client = world.popen(TEXT)
    voice = speech.wait()
    stop = world.stop(stage)
    if stage == "M11":
        connection = world.connect_to_model()
        connection.send(Shutdown(drain=5.0))
        server = stop.wait()
        connection.close()
        voice.resume()
        return Scene(server, (client,), (TEXT,))
    call = world.stop("C2")
    interrupter = world.popen("--interrupt", TEXT)
    caller = call.wait()
    voice.resume()
    caller.resume()
    return Scene(stop.wait(), (client, interrupter), (TEXT, TEXT))


def outcome(client: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Exit code and standard error."""
    _, errors = client.communicate(timeout=WAIT_SECONDS)
    return client.returncode, errors.decode()


class Times:
    """Seconds that were measured."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def figures(self, name: str) -> dict[str, float]:
        ordered = sorted(self.seconds) or [0.0]
        return {f"{name}_p50": round(ordered[len(ordered) // 2], 3), f"{name}_max": round(ordered[-1], 3)}


def counted(world: StagedWorld, rounds: Iterable[Callable[[], None]]) -> tuple[int, list[str]]:
    """How many rounds held, and what the others said: one that fails does not end a long count."""
    held, problems = 0, []
    for number, play in enumerate(rounds):
        try:
            play()
            held += 1
        except (AssertionError, subprocess.TimeoutExpired, psutil.Error, queue.Empty) as problem:
            problems.append(f"{number}: {type(problem).__name__} {problem}"[:2000])
            world.wreck()
    return held, problems


KILLED = {"V5": [6], "V6": [6, 0]}  # exit codes of who speaks; else all is heard
BOOKED = ("V4", "V5", "V6")  # killed with an utterance in the books, which has failed, though it may be said again


def kill_once(world: StagedWorld, stage: str, number: int, ends: Times, recoveries: Times) -> None:
    server, clients, spoken = scene(world, stage, number)
    killed = time.monotonic()
    server.kill()
    codes = KILLED.get(stage, [0] * len(clients))
    for client, expected in zip(clients, codes, strict=True):
        code, errors = outcome(client)
        assert code == expected, errors
        if expected:
            ends.seconds.append(time.monotonic() - killed)
            assert ends.seconds[-1] < END_SECONDS
    asked = time.monotonic()
    after = world.say(NEXT)
    assert after.returncode == 0, after.stderr
    recoveries.seconds.append(time.monotonic() - asked)
    while orphans := world.orphans():
        assert time.monotonic() < killed + ORPHAN_SECONDS, orphans
        time.sleep(0.05)
    ledger = world.settled()["model_server"]["ledger"]
    heard = world.heard()
    assert heard == [*(PART if code else text for code, text in zip(codes or [0], spoken, strict=True)), NEXT], heard
    if stage != "M11":  # there the voice server may have left before there was anybody to tell
        assert (ledger["finished"], ledger["failed"]) == (len(heard) - heard.count(PART), stage in BOOKED), ledger
    world.end()


@pytest.mark.parametrize("stage", [*(f"M{n}" for n in range(1, 12)), *(f"V{n}" for n in range(1, 8))])
def test_a7_a_server_killed_at(stage: str, request: pytest.FixtureRequest, shown: Shown) -> None:
    world: StagedWorld = request.getfixturevalue("hub_world" if stage in ("M5", "M6") else "staged")
    rounds, ends, recoveries = times(20), Times(), Times()
    held, problems = counted(
        world, (functools.partial(kill_once, world, stage, number, ends, recoveries) for number in range(rounds))
    )
    figures = ends.figures("failed_s") | recoveries.figures("next_s")
    shown("A7", f"{stage}: recovers", held, of=rounds, **figures, problems=problems)


def kill_client(world: StagedWorld, stage: str, number: int) -> None:
    to_file = ("-o", "killed.wav") if number % 2 else ()
    before: set[int] = set()
    if stage != "C1":
        assert world.say(NEXT).returncode == 0
        before = {process.pid for process in world.servers()}
    stop = world.stop(stage)
    client = world.popen(*to_file, TEXT)
    stop.wait().kill()
    outcome(client)
    after = world.say(NEXT)  # to the speakers: their floor is free
    assert after.returncode == 0, after.stderr
    report = world.settled()
    assert before <= {process.pid for process in world.servers()}
    assert report["model_server"]["restarts"] == 0
    assert world.orphans() == []
    heard = world.heard()
    assert heard in ([NEXT], [NEXT, NEXT], [NEXT, PART, NEXT]), heard
    world.end()


@pytest.mark.parametrize("stage", ["C1", "C2", "C3", "C4"])
def test_a8_a_client_killed_at(stage: str, staged: StagedWorld, shown: Shown) -> None:
    rounds = times(20)
    held, problems = counted(
        staged, (functools.partial(kill_client, staged, stage, number) for number in range(rounds))
    )
    shown("A8", f"{stage}: the servers go on, and the floor is free", held, of=rounds, problems=problems)


EARLY = ("M5", "M6")  # the client may still be asking for its voice server, or have been accepted by it
ENDS = [*(f"M{n}" for n in range(5, 12)), "V4", "V5", "V6"]
SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT]


def codes_expected(stage: str, number: signal.Signals, clients: int) -> list[list[int]]:
    """SIGTERM lets what is spoken end; SIGINT and SIGQUIT cancel it, unless it is drained already."""
    if stage in EARLY:
        return [[0], [6], [7]]
    if stage == "V6":
        return [[7, 0]]  # it was being interrupted; who interrupts is spoken by the next server
    drained = [0] * clients
    cancelled = [7] * clients
    return [drained] if number == signal.SIGTERM else [drained, cancelled] if stage == "M11" else [cancelled]


def end_by_signal(world: StagedWorld, stage: str, signals: list[signal.Signals], number: int, ends: Times) -> None:
    exits: queue.SimpleQueue[int] = queue.SimpleQueue()
    world.start_stub_server(on_exit=exits.put)
    server, clients, _ = scene(world, stage, number)
    for each in signals:
        server.send_signal(each)
    resumed = time.monotonic()
    server.resume()
    if stage[0] == "M":
        code = exits.get(timeout=30)
    else:
        server.wait(30)
        code = world.exit_code_of_voice()
    ends.seconds.append(time.monotonic() - resumed)
    assert ends.seconds[-1] < END_SECONDS + SEEN_SECONDS
    outcomes = [outcome(client) for client in clients]
    assert code == (0 if len(signals) == 1 else 128 + max(signals)), (code, outcomes)
    codes = [code for code, _ in outcomes]
    if len(signals) == 1:
        assert codes in codes_expected(stage, signals[0], len(clients)), outcomes
        if stage[0] == "M" and not (stage in EARLY and 0 in codes):  # who was not accepted yet has started new servers
            while left := world.residue():
                assert time.monotonic() < resumed + END_SECONDS + ORPHAN_SECONDS, left
                time.sleep(0.05)
    assert world.heard().count(TEXT) == sum(code == 0 for code in codes)
    world.end()


def test_a13_a_signal_ends_a_server_at_any_stage_with_code_0_and_a_second_at_once(
    hub_world: StagedWorld, shown: Shown
) -> None:
    world = hub_world
    cases = [
        (stage, signals)
        for signals in (*([each] for each in SIGNALS), [signal.SIGTERM, signal.SIGINT], [signal.SIGINT, signal.SIGQUIT])
        for stage in ENDS
    ]
    rounds, ends = times(240), Times()
    held, problems = counted(
        world,
        (
            functools.partial(end_by_signal, world, *cases[number * 3 % len(cases)], number // len(cases), ends)
            for number in range(rounds)
        ),
    )
    shown("A13", "ends within 5 s", held, of=rounds, **ends.figures("end_s"), problems=problems)


def test_a18_voice_servers_that_end_leave_no_zombies(staged: StagedWorld, shown: Shown) -> None:
    world, lifetimes = staged, times(200)
    world.start_stub_server()
    model = psutil.Process(world.report()["model_server"]["pid"])
    ends = (signal.SIGTERM, signal.SIGKILL, signal.SIGINT)
    voices = [name for name in VOICES if name != "af_heart"]
    clean = 0
    for number in range(lifetimes):
        voice = voices[number % len(voices)]
        assert world.say("-v", voice, "-o", "out.wav", NEXT).returncode == 0
        server = psutil.Process(world.report()["voice_servers"][-1]["pid"])
        server.send_signal(ends[number % len(ends)])
        server.wait(END_SECONDS)  # until it has been reaped
        clean += all(child.status() != psutil.STATUS_ZOMBIE for child in model.children(recursive=True))
    assert model.is_running()
    shown("A18", "0 zombies", clean, of=lifetimes)
