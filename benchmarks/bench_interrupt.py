"""How soon it is silent: from Stop, Cancel and an interrupting Speak to the last sample handed to the device.

    python -m benchmarks.bench_interrupt [--count N] [--storm-seconds S]          from the repository root

Both times are taken in the voice server: when the message has been read off its socket, and when the device has taken
the last block in which the old utterance sounds. Five states of the servers, moments by chance. Then the same at the
monitor of a silent sound card, and a storm of interrupts with what it leaves in memory.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import random
import select
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, TypeVar

import numpy as np
import psutil
from numpy.typing import NDArray

from benchmarks.measure import ROOT, VOICE, new_world, print_machine, start_model_server
from benchmarks.noting_servers import CARD, FORWARD, FORWARD_SECONDS, RECORDER_SPEED
from kokoro_common.client.client import Client
from kokoro_common.client.text_source import TextSource
from kokoro_common.daemon import starter
from kokoro_common.daemon.runtime_directory import RuntimeDirectory
from kokoro_common.settings import Settings
from kokoro_common.sound.portaudio import LATENCY
from kokoro_common.sound.samples import SAMPLE_RATE
from kokoro_common.text.speech import Speech
from kokoro_common.wire.codec import encode
from kokoro_common.wire.connection import Connection, call
from kokoro_common.wire.messages import (
    Accepted,
    Cancel,
    Cancelled,
    Controlled,
    Credit,
    EndOfText,
    Failed,
    Message,
    Ping,
    Pong,
    Route,
    Speak,
    Started,
    Stop,
    TextAccepted,
    TextPart,
    VoiceServerAt,
    VoiceServerFor,
)
from tests.conftest import World
from tests.helpers.silent_card import PACKAGES, Capture, SilentCard
from tests.helpers.stub_engine import FOREIGN, SILENCE, Run, decode_samples, tag_of

ANSWER_SECONDS = 20.0  # for any message: longer is a failure of the servers
PHASE_SECONDS = 0.15  # an interrupt comes so long after the first sample, at the most
CARD_SHARE = 20  # one of so many interrupts is repeated with the card
MET_SECONDS = 0.02  # so short before an interrupt there was sound: two blocks of a card
QUEUED = 500
STORM_RATE = 50.0  # interrupts a second
SENTENCE = "All of these words are spoken aloud. "  # 1.8 s of the stub's
TEXT = SENTENCE * 14  # 25 s, less than is synthesized ahead: soon the engine is idle
LONG_TEXT = SENTENCE * 60
KINDS: tuple[type[Message], ...] = (Stop, Cancel, Speak)

Answer = TypeVar("Answer", bound=Message)


class Interrupt(NamedTuple):
    state: str
    kind: str
    utterance: str  # the one that was interrupted
    received: float  # time.monotonic()
    seconds: float = 0.0  # from then to the last sample of the old utterance; less than 0: that came before
    late: int = 0  # samples of it that were handed over after the answer


# --- The servers, as their clients see them --------------------------------------------------------------------------


class Servers:
    """A world's servers with the voice server at hand. `notes` empties what that has noted."""

    def __init__(self, world: World) -> None:
        self.world = world
        os.mkfifo(world.path / "forward")
        self.forwards = os.open(world.path / "forward", os.O_RDWR)
        start_model_server(world, ROOT / "benchmarks" / "noting_servers.py")
        self._runtime = RuntimeDirectory(str(world.runtime))
        self.client = Client(Settings(runtime_dir=str(world.runtime)))
        self._port = self._start_voice()
        self._control = self.connect()
        report = self.client.status()
        assert report.model_server is not None
        self.model = psutil.Process(report.model_server.pid)
        self.voice = psutil.Process(report.voice_servers[0].pid)

    def _start_voice(self) -> int:
        model = starter.connect(self._runtime, "model")
        assert model is not None
        with contextlib.closing(model):
            model.send(VoiceServerFor(voice=VOICE, engine="espeak", environment=self.world.environment))
            return expect(model, VoiceServerAt).port

    def connect(self) -> Connection:
        return call(self._port, self._runtime.token(), "client")

    def stop(self) -> None:
        self._control.send(Stop())
        expect(self._control, Controlled)

    def notes(self) -> dict[str, NDArray[Any]]:
        """Of noting_servers.Notes: all that was noted since the last call."""
        self._control.send(Ping())
        expect(self._control, Pong)
        with np.load(self.world.path / "notes.npz") as notes:
            return dict(notes)

    def interrupt(self, kind: type[Message], old: str, client: Connection) -> tuple[str, float]:
        """Ends the old utterance in one of the three ways. Returns whose message did it, and when it was answered."""
        cause = ""
        if kind is Stop:
            self.stop()
        elif kind is Cancel:
            cause = old
            client.send(Cancel(utterance=old))
            expect(client, Cancelled)
        else:
            with contextlib.closing(self.connect()) as other:
                cause = speak(other, SENTENCE, floor="interrupt", wait=False)
                expect(other, TextAccepted)
            expect(client, Cancelled)
        return cause, time.monotonic()


def expect(connection: Connection, kind: type[Answer]) -> Answer:
    """The next message of this kind; others are passed over. Raises TimeoutError or RuntimeError instead."""
    deadline = time.monotonic() + ANSWER_SECONDS
    while True:
        message = connection.receive(deadline - time.monotonic())[0]
        if isinstance(message, kind):
            return message
        if isinstance(message, Failed):
            raise RuntimeError(message.text)


def opening(*, floor: str = "queue", wait: bool = True, sink: str = "speakers") -> Speak:
    return Speak(
        utterance=os.urandom(16).hex(),
        speech=Speech(voice=VOICE, lang=VOICE[0], engine="espeak"),
        route=Route(floor=floor, wait=wait, sink=sink),
    )


def speak(connection: Connection, text: str, *, floor: str = "queue", wait: bool = True) -> str:
    """Says all of it, like say.py. Returns the utterance."""
    message = opening(floor=floor, wait=wait)
    connection.send(message)
    expect(connection, Accepted)
    connection.send(TextPart(utterance=message.utterance, text=text))
    connection.send(EndOfText(utterance=message.utterance))
    return message.utterance


# --- Five states: what is prepared once, and for each interrupt while the old utterance sounds -----------------------


def nothing(_: Servers) -> AbstractContextManager[None]:
    return contextlib.nullcontext()


class State(NamedTuple):
    name: str
    text: str = TEXT
    prepared: Callable[[Servers], AbstractContextManager[None]] = nothing
    each: Callable[[Servers], AbstractContextManager[None]] = nothing
    kinds: tuple[type[Message], ...] = KINDS


@contextlib.contextmanager
def in_forward(servers: Servers) -> Iterator[None]:
    if not select.select([servers.forwards], [], [], ANSWER_SECONDS)[0]:
        raise TimeoutError("the engine never began")
    os.read(servers.forwards, 1)
    yield


@contextlib.contextmanager
def queue_behind(servers: Servers) -> Iterator[None]:
    frames = []
    for _ in range(QUEUED):
        message = opening(wait=False)
        part = TextPart(utterance=message.utterance, text=SENTENCE)
        frames += [encode(message), encode(part), encode(EndOfText(utterance=message.utterance))]
    with contextlib.closing(servers.connect()) as connection:
        connection.send_frame(b"".join(frames))
        for _ in range(QUEUED):
            expect(connection, TextAccepted)
    yield


@contextlib.contextmanager
def slow_client(servers: Servers) -> Iterator[None]:
    """It takes audio to a file, reads none of it, and sends a letter each 20 ms; every 5 s another one."""
    over = threading.Event()

    def dawdle() -> None:
        while not over.is_set():
            with contextlib.closing(servers.connect()) as connection:
                message = opening(sink="client")
                connection.send(message)
                connection.send(Credit(utterance=message.utterance, bytes=6 << 20))
                connection.send(TextPart(utterance=message.utterance, text=LONG_TEXT))
                leave_at = time.monotonic() + 5
                while time.monotonic() < leave_at and not over.wait(0.02):
                    connection.send(TextPart(utterance=message.utterance, text="x"))

    thread = threading.Thread(target=dawdle)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def hung_model_server(servers: Servers) -> Iterator[None]:
    servers.model.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        servers.model.send_signal(signal.SIGCONT)


STATES = (
    State("idle engine"),
    State(f"{FORWARD_SECONDS:.0f} s forward", TEXT + FORWARD, each=in_forward),
    State(f"{QUEUED} queued", LONG_TEXT, each=queue_behind),
    State("slow client", prepared=slow_client),
    # No Speak here: a voice server accepts none without a model server, and replaces the one that hangs first.
    State("model server hung", each=hung_model_server, kinds=(Stop, Cancel)),
)


# --- Interrupts ------------------------------------------------------------------------------------------------------


class Ear:
    """What the device was handed of each utterance, by its tag."""

    def __init__(self) -> None:
        self.last: dict[int, float] = {}  # time.monotonic() of its last sample
        self.answered: dict[int, float] = {}  # when it should have been silent
        self.late: Counter[int] = Counter()  # samples after that

    def listen(self, notes: dict[str, NDArray[Any]]) -> None:
        times, tag = notes["times"], SILENCE
        for run, end in with_ends(decode_samples(notes["samples"])):
            tag = tag if run.tag == FOREIGN else run.tag  # a torn end belongs to what it was torn from
            self.last[tag] = times[end - 1]
            if tag in self.answered:
                self.late[tag] += int((times[end - run.frames : end] > self.answered[tag]).sum())


def interrupts(servers: Servers, state: State, count: int) -> list[Interrupt]:
    """So many that met sound, the kinds in turn."""
    measured: list[Interrupt] = []
    ear = Ear()
    with state.prepared(servers):
        for attempt in range(2 * count):
            kind = state.kinds[attempt % len(state.kinds)]
            if one := interrupt_once(servers, state, kind, ear):
                measured.append(one)
            if len(measured) == count:
                break
        ear.listen(servers.notes())
    if len(measured) < count:
        print(f"{state.name}: {count - len(measured)} interrupts are missing: they met silence")
    return [
        one._replace(seconds=ear.last[tag] - one.received, late=ear.late[tag])
        for one in measured
        if (tag := tag_of(one.utterance))
    ]


def interrupt_once(servers: Servers, state: State, kind: type[Message], ear: Ear) -> Interrupt | None:
    """Without its figures, which may still grow. None when nothing sounded at that moment."""
    with contextlib.closing(servers.connect()) as client:
        old = speak(client, state.text)
        expect(client, Started)
        with state.each(servers):
            time.sleep(random.uniform(0, PHASE_SECONDS))
            cause, ear.answered[tag_of(old)] = servers.interrupt(kind, old, client)
    notes = servers.notes()
    servers.stop()  # what follows: the next in line, or the interrupting one
    ear.listen(notes)
    (place,) = np.flatnonzero(notes["messages"] == f"{kind.__name__} {cause}")[-1:]
    received = float(notes["arrivals"][place])
    if ear.last.get(tag_of(old), 0.0) < received - MET_SECONDS:
        return None
    return Interrupt(state.name, kind.__name__, old, received)


def with_ends(runs: Sequence[Run]) -> Iterator[tuple[Run, int]]:
    """With the place behind its last sample."""
    end = 0
    for run in runs:
        end += run.frames
        yield run, end


def print_silence(measured: Sequence[Interrupt], *, late: bool = True) -> None:
    heading = f"  {'ms to the last sample':<24}{'n':>6}{'p50':>8}{'p95':>8}{'max':>8}"
    print(f"{heading}   late samples" if late else heading)
    groups = [*dict.fromkeys(one.state for one in measured), *dict.fromkeys(one.kind for one in measured), "all"]
    for group in groups:
        chosen = [one for one in measured if group in (one.state, one.kind, "all")]
        seconds = sorted(one.seconds for one in chosen)
        figures = "".join(f"{1000 * seconds[math.ceil(p * len(seconds)) - 1]:8.1f}" for p in (0.5, 0.95, 1.0))
        print(f"  {group:<24}{len(chosen):>6}{figures}" + f"{sum(one.late for one in chosen):>12}" * late)


# --- The card --------------------------------------------------------------------------------------------------------


class TimedCapture(Capture):
    """Knows when each sample came through the monitor."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._came: list[tuple[float, int]] = []  # time.monotonic(), samples until then
        super().__init__(environment)

    def _read(self) -> None:
        assert self._parec.stdout is not None
        with self._parec.stdout as stdout:
            while data := os.read(stdout.fileno(), 65536):
                with self._arrived:
                    self._data += data
                    self._came.append((time.monotonic(), len(self._data) // 2))
                    self._arrived.notify_all()

    def last_heard(self) -> dict[int, float]:
        """By tag of an utterance, when its last sample came."""
        times, counts = np.array(self._came).T
        return {run.tag: times[np.searchsorted(counts, end)] for run, end in with_ends(decode_samples(self.samples))}


def measure_card(count: int) -> None:
    missing = [package for package, present in PACKAGES.items() if not present()]
    if missing:
        print(f"\nno silent sound card: apt-get install {' '.join(missing)}")
        return
    with tempfile.TemporaryDirectory(prefix="kokoro-card-") as directory:
        card = SilentCard(directory)
        card.plug_in()
        try:
            with new_world({**card.environment, CARD: "1"}) as world:
                servers = Servers(world)
                capture = TimedCapture({**os.environ, **card.environment})
                try:
                    handed = [one for state in STATES for one in interrupts(servers, state, count)]
                    latency = float(servers.notes()["latency"])
                finally:
                    capture.finish()
        finally:
            card.unplug()
    print(f"\nthe silent sound card through PortAudio, which says it buffers {1000 * latency:.0f} ms ", end="")
    print(f"({1000 * LATENCY:.0f} asked for)\n to PortAudio:")
    print_silence(handed)
    print(" at the monitor, its own 5 ms included:")
    heard = capture.last_heard()
    reached = [one for one in handed if tag_of(one.utterance) in heard]
    print_silence([one._replace(seconds=heard[tag_of(one.utterance)] - one.received) for one in reached], late=False)
    print(f"  {len(handed) - len(reached)} of {len(handed)} were silenced before any of their sound got there")


# --- The storm -------------------------------------------------------------------------------------------------------


def storm(servers: Servers, seconds: float) -> None:
    """Interrupts from this one process, then one utterance to its end."""
    rain(servers, min(seconds, 5.0))
    spoken_whole(servers)  # the first of each costs memory that stays, of the notes too
    settle(servers)
    before = resources(servers)
    began = time.monotonic()
    count = rain(servers, seconds)
    rate = count / (time.monotonic() - began)
    finished, whole = spoken_whole(servers)
    settle(servers)
    print(f"\n{count} interrupts, {rate:.1f} a second; then {finished:.1f} s of speech: {whole}")
    for name, now in resources(servers).items():
        print(f"  {name:<32}{before[name]:>10.1f} before{now:>10.1f} after")
    print(f"  {servers.client.status().model_server.ledger}")


def rain(servers: Servers, seconds: float) -> int:
    """Returns how many interrupts there were."""
    count = round(seconds * STORM_RATE)
    began = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, began + number / STORM_RATE - time.monotonic()))
        text = TextSource(f"Number {number} of a storm that blows. " * 5)
        servers.client.speak(text, Speech(engine="espeak"), Route(floor="interrupt", wait=False)).finish()
    return count


def spoken_whole(servers: Servers) -> tuple[float, str]:
    """Seconds of the utterance, and what came of it at the device."""
    finished = servers.client.speak(
        TextSource(SENTENCE * 3), Speech(engine="espeak"), Route(floor="interrupt")
    ).finish()
    assert finished is not None
    runs = [run for run in decode_samples(servers.notes()["samples"]) if run.chunk >= 0]
    runs = [run for run in runs if run.tag == runs[-1].tag]
    in_order = [(run.chunk, run.first_frame) for run in runs] == [(chunk, 0) for chunk in range(len(runs))]
    frames = sum(run.frames for run in runs)
    whole = in_order and frames == round(finished.seconds * SAMPLE_RATE)
    return finished.seconds, "whole" if whole else f"BROKEN, {frames} frames in {runs}"


def settle(servers: Servers) -> None:
    """Threads of connections that were closed just now end; a moment is all there is to wait for."""
    servers.stop()
    time.sleep(1)


def resources(servers: Servers) -> dict[str, float]:
    return {
        f"{name}, {unit}": value
        for name, process in (("voice server", servers.voice), ("model server", servers.model))
        for unit, value in (
            ("MB resident", process.memory_info().rss / 1e6),
            ("file descriptors", process.num_fds()),
            ("threads", process.num_threads()),
        )
    }


# ---------------------------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description="From an interrupt to silence; what a storm of them leaves behind.")
    parser.add_argument("--count", type=int, default=1000, help="interrupts, in all states together")
    parser.add_argument("--storm-seconds", type=float, default=60.0)
    options = parser.parse_args()
    print_machine()
    count = max(len(KINDS), options.count // len(STATES))  # in each state
    with new_world() as world:
        servers = Servers(world)
        print(f"a recorder that takes a block of 10 ms each {10 / RECORDER_SPEED:.1f} ms:")
        print_silence([one for state in STATES for one in interrupts(servers, state, count)])
    with new_world() as world:
        storm(Servers(world), options.storm_seconds)
    measure_card(max(len(KINDS), count // CARD_SHARE))


if __name__ == "__main__":
    main()
