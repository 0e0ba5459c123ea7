"""D4, D12: espeak-ng's processes are killed at any moment; nobody hears another's words, and everybody the next ones.

D12: three clients speak their own texts again and again, each of which was spoken once before, undisturbed. What a
client hears is compared with these, sample by sample or phoneme by phoneme: it is its own text, or its call ends in an
error that has a name. A killed process costs nothing, so nearly all are spoken.
"""

from __future__ import annotations

import itertools
import os
import random
import resource
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable

import psutil
import pytest

from kokoro_common.wire.messages import Finished
from tests.conftest import World
from tests.faults.conftest import Shown, times
from tests.faults.test_texts import heard_phonemes, pids, speak, squeezed, start_g2p_server

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]
WORKERS = ("kokoro_common.engine.espeak_worker", "kokoro_common.phonemes.espeak_process")  # in their command lines
VOICES = ("af_heart", "am_adam", "ef_dora")
TEXTS = {  # of each client, whose audio is of different length or of the same
    "af_heart": ["Alice pays nine pounds.", "Do not send it.", "The first gate is open."],
    "am_adam": ["Mallory pays ten pounds.", "Do now send it.", "The other door is shut, for all of us, tonight."],
    "ef_dora": ["Uno dos tres cuatro.", "No lo envíes nunca.", "La primera puerta está abierta."],
}
SPANISH = {  # the G2P of Spanish is espeak-ng's
    "af_heart": ["uno dos tres cuatro", "no lo envíes", "la primera puerta"],
    "am_adam": ["cinco seis siete", "envíalo todo", "la segunda ventana, esta noche"],
    "ef_dora": ["ocho nueve diez", "nunca más", "el tercer árbol"],
}


def model_server(world: World) -> psutil.Process:
    return next(server for server in world.servers() if "model_server" in " ".join(server.cmdline()))


def workers(world: World) -> list[psutil.Process]:
    found = []
    for child in model_server(world).children():
        try:
            found += [child] if any(name in child.cmdline() for name in WORKERS) else []
        except psutil.Error:  # it has just been killed
            continue
    return found


class Killer(threading.Thread):
    """Kills so many processes at random moments: children of espeak-ng's workers, of ten kills one is of a worker."""

    def __init__(self, world: World, kills: int) -> None:
        super().__init__()
        self._world, self._left = world, kills
        self._chooser = random.Random(12)
        self.done = threading.Event()
        self.killed: Counter[str] = Counter()
        self.failed: BaseException | None = None

    def run(self) -> None:
        try:
            while self._left and not self.done.is_set():
                for worker in workers(self._world):
                    for _ in range(20):  # looking for workers takes long, and children live for milliseconds
                        self._kill_below(worker)
        except BaseException as error:
            self.failed = error
        finally:
            self.done.set()

    def _kill_below(self, worker: psutil.Process) -> None:
        self.done.wait(self._chooser.random() / 10)
        children = open_children(worker.pid)
        if not self._left or not children:
            return
        victim, kind = (worker.pid, "worker") if self._chooser.random() < 0.1 else (children[0], "child")
        try:
            os.kill(victim, self._chooser.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]))
        except ProcessLookupError:
            return
        self._left -= 1
        self.killed[kind] += 1


def open_children(pid: int) -> list[int]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(child) for child in file.read().split()]
    except OSError:  # the worker was killed
        return []


def heard_by_three(
    world: World, texts: dict[str, list[str]], kills: int, hear: Callable[[World, str, str], bytes | str]
) -> tuple[Counter[str], Counter[str]]:
    """What became of each call while the processes were killed, and what was killed."""
    own = {(voice, text): hear(world, voice, text) for voice in VOICES for text in texts[voice]}
    assert all(isinstance(audio, bytes) and audio for audio in own.values())
    assert len(set(own.values())) == len(own)
    outcomes: Counter[str] = Counter()
    killer = Killer(world, kills)

    def client(voice: str) -> None:
        for text in itertools.cycle(texts[voice]):
            if killer.done.is_set():
                return
            heard = hear(world, voice, text)
            if isinstance(heard, str):
                outcomes[f"error: {heard}"] += 1
            elif heard == own[voice, text]:
                outcomes["own"] += 1
            else:
                whose = [key for key, audio in own.items() if audio == heard]
                outcomes[f"foreign: {whose}" if whose else "foreign: in part"] += 1

    clients = [threading.Thread(target=client, args=(voice,)) for voice in VOICES]
    for thread in (*clients, killer):
        thread.start()
    for thread in (*clients, killer):
        thread.join()
    assert killer.failed is None, killer.failed
    for (voice, text), audio in own.items():  # and nothing is left of it
        assert hear(world, voice, text) == audio
    return outcomes, killer.killed


def note(shown: Shown, what: str, outcomes: Counter[str], killed: Counter[str], kills: int) -> None:
    errors = {key: count for key, count in outcomes.items() if key.startswith("error")}
    assert all(";" in error for error in errors), errors  # each has a remedy, so it is one of ours
    assert sum(killed.values()) == kills
    assert outcomes["own"] > sum(errors.values())
    good = outcomes["own"] + sum(errors.values())
    shown("D12", what, good, of=outcomes.total(), kills=kills, **killed, own=outcomes["own"], errors=errors)


def samples(world: World, voice: str, text: str) -> bytes | str:
    ear, ended = speak(world, text, voice=voice, lang=voice[0], engine="espeak", speed=1.5)
    return bytes(ear.heard) if isinstance(ended, Finished) else str(ended)


def phonemes(world: World, voice: str, text: str) -> bytes | str:
    ear, ended = speak(world, text, voice=voice, lang="e", engine="kokoro")
    return squeezed(heard_phonemes(ear.heard)).encode() if isinstance(ended, Finished) else str(ended)


def test_d12_nobody_hears_anothers_samples_when_espeaks_processes_are_killed(world: World, shown: Shown) -> None:
    for voice in VOICES:
        assert world.say("-v", voice, "-o", "x.wav", "hello").returncode == 0
    before = pids(world)
    kills = times(500)
    outcomes, killed = heard_by_three(world, TEXTS, kills, samples)
    assert pids(world) == before
    note(shown, "calls of three clients that ended in their own samples or a named error", outcomes, killed, kills)


def test_d12_nobody_hears_anothers_phonemes_when_espeaks_processes_are_killed(world: World, shown: Shown) -> None:
    start_g2p_server(world)
    before = pids(world)
    kills = times(500)
    outcomes, killed = heard_by_three(world, SPANISH, kills, phonemes)
    assert pids(world) >= before
    note(shown, "calls of three clients that ended in their own phonemes or a named error", outcomes, killed, kills)


@pytest.mark.skipif(sys.platform != "linux", reason="prlimit() is Linux's")
@pytest.mark.parametrize("engine", ["espeak", "kokoro"])
def test_d4_a_worker_that_could_not_be_replaced_is_at_the_next_request(world: World, engine: str, shown: Shown) -> None:
    """It is killed while its server has no descriptor left. The server is the same afterwards."""
    start_g2p_server(world)
    hear, voice, text = (samples, "af_heart", "Do not send it.") if engine == "espeak" else (phonemes, "ef_dora", "uno")
    own = hear(world, voice, text)
    assert isinstance(own, bytes) and own
    server = model_server(world)
    limits = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    count, named, recovered = max(3, times(20)), 0, 0
    for _ in range(count):
        victims = workers(world)
        in_use = {int(name) for name in os.listdir(f"/proc/{server.pid}/fd")}
        first_free = next(number for number in itertools.count() if number not in in_use)
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (first_free, limits[1]))
        for worker in victims:
            worker.kill()
        gone = hear(world, voice, text)
        named += isinstance(gone, str) and "Too many open files" in gone and ";" in gone
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, limits)
        recovered += hear(world, voice, text) == own
    assert model_server(world).pid == server.pid
    shown("D4", f"{engine}: without descriptors a worker cannot be replaced, and the error has a name", named, of=count)
    shown("D4", f"{engine}: with descriptors again the next request is spoken", recovered, of=count)
