"""F1 to F5 and the log's part of C9: growth, storms, forged lines, private text, files that go, a full disk."""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from kokoro_common.daemon import starter
from kokoro_common.daemon.logs import BURST, FILES, MAX_KEPT, JsonLines, LogFile, is_line
from kokoro_common.daemon.runtime_directory import RuntimeDirectory
from kokoro_common.text.speech import Speech
from kokoro_common.wire.messages import Cancelled, Credit, EndOfText, Failed, Finished, LogLine, Route, Speak, TextPart
from kokoro_common.wire.server import Inbox, PeerGone, Switchboard
from tests.conftest import World
from tests.faults.conftest import Shown, times

WRITERS = 8
HERE = Path(__file__).parent
VOICE = "af_heart"
NOBODY = 65534


def lines_of(path: Path) -> list[bytes]:
    """Of a log and its older files, in the order of their writing."""
    files = [path.with_name(f"{path.name}.{n}") for n in range(FILES - 1, 0, -1)] + [path]
    return [line for file in files if file.exists() for line in file.read_bytes().split(b"\n")[:-1]]


# --- F1 --------------------------------------------------------------------------------------------------------------


class Growth:
    """Looks all the time how much the logs take."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.most: Counter[str] = Counter()  # bytes, by component

    def _watch(self) -> None:
        while not self._end.wait(0.02):
            now: Counter[str] = Counter()
            for entry in os.scandir(self._directory):
                try:
                    now[entry.name.split(".")[0]] += entry.stat().st_size
                except FileNotFoundError:
                    continue  # rotated meanwhile
            self.most |= now

    def __enter__(self) -> Growth:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()


@pytest.mark.timeout(1200)
def test_f1_many_writers_one_central_log_rotation(tmp_path: Path, shown: Shown) -> None:
    each = times(1_000_000) // WRITERS
    max_bytes = min(1_000_000, times(4_000_000))
    token = os.urandom(32)
    inbox = Inbox()
    board = Switchboard("model", 0, inbox, logging.Logger("board"))
    board.start(token)
    central = LogFile(str(tmp_path / "kokoro.log"), max_bytes)
    names = [f"{kind}-{n}" for n in range(WRITERS // 2) for kind in ("steady", "severed")]
    numbers: dict[str, list[int]] = {name: [] for name in names}
    missed: Counter[str] = Counter()
    began = time.monotonic()
    with Growth(tmp_path) as growth:
        arguments = [str(board.port), token.hex(), str(tmp_path), str(each), str(max_bytes)]
        writers = [subprocess.Popen([sys.executable, str(HERE / "log_writer.py"), name, *arguments]) for name in names]
        gone = 0
        while gone < WRITERS:
            _, message, _ = inbox.get(timeout=60)
            if isinstance(message, LogLine):
                assert is_line(message.line)
                central.append(message.line)
                entry = json.loads(message.line)
                missed[entry["component"]] += entry.get("missed", 0)
                if "n" in entry:
                    numbers[entry["component"]].append(entry["n"])
            else:
                gone += isinstance(message, PeerGone)
        assert [writer.wait(60) for writer in writers] == [0] * WRITERS
    took = time.monotonic() - began
    board.close()
    central.close()
    accounted = sum(len(numbers[name]) + missed[name] for name in names)
    in_order = all(numbers[name] == sorted(set(numbers[name])) for name in names)
    torn = 0
    for path in [tmp_path / f"{name}.log" for name in [*names, "kokoro"]]:
        lines = lines_of(path)
        assert len(lines) > 5_000
        torn += sum(not is_line(line.decode("latin-1")) for line in lines)
    for name in names:  # the component's own file lacks nothing from its oldest line to the last
        own = [json.loads(line)["n"] for line in lines_of(tmp_path / f"{name}.log")]
        assert own == list(range(each - len(own), each))
    central_lines = Counter(json.loads(line)["component"] for line in lines_of(tmp_path / "kokoro.log"))
    for name in names:  # and so the central one
        here = [entry["n"] for entry in map(json.loads, lines_of(tmp_path / "kokoro.log"))
                if entry["component"] == name and "n" in entry]  # fmt: skip
        assert here == numbers[name][len(numbers[name]) - len(here) :]
    assert sum(central_lines.values()) > 5_000
    assert missed.total() == WRITERS // 2 * (each * 2 // 10 - MAX_KEPT)
    shown("F1", "lines in the central log or counted there, in order, none torn", accounted * in_order - torn,
          of=each * WRITERS, counted=missed.total(), torn=torn, seconds=round(took, 1))  # fmt: skip
    arrived = sum(len(numbers[name]) for name in names if name.startswith("steady"))
    shown("F1", "lines in the central log, of writers whose link is up", arrived, of=each * WRITERS // 2)
    within = sum(most <= FILES * max_bytes for most in growth.most.values())
    assert min(growth.most.values()) > (FILES - 1) * max_bytes * 0.9, "not all of them have rotated to the end"
    shown("F1", "components never above the cap of their files", within, of=WRITERS + 1,
          most_bytes=max(growth.most.values()), cap_bytes=FILES * max_bytes)  # fmt: skip


# --- F2 --------------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["error", "exception"])
def test_f2_a_storm_of_equal_errors(tmp_path: Path, shown: Shown, kind: str) -> None:
    file = LogFile(str(tmp_path / "model_server.log"))
    handler = JsonLines("model_server", [file.append])
    logger = logging.Logger("kokoro")
    logger.addHandler(handler)
    events = times(1_000_000)
    began, worked = time.monotonic(), time.process_time()
    if kind == "error":
        for n in range(events):
            logger.error("refused", extra={"reason": f"{n}"})
    else:
        try:
            raise ValueError("a storm")
        except ValueError:
            for _ in range(events):
                logger.exception("handler failed")
    took, worked = time.monotonic() - began, time.process_time() - worked
    handler.close()
    file.close()
    entries = [json.loads(line) for line in lines_of(tmp_path / "model_server.log")]
    assert BURST < len(entries) <= BURST + took + 2
    assert worked / events < 50e-6
    seen = len(entries) - 1  # the last one only tells what came after those
    shown("F2", f"equal events ({kind}) written or counted", seen + sum(e.get("suppressed", 0) for e in entries),
          of=events, lines=len(entries), seconds=round(took, 1),
          cpu_percent_at_10_000_a_second=round(worked / events * 1e6, 1))  # fmt: skip


# --- F3 --------------------------------------------------------------------------------------------------------------

FORGERIES = [
    *"\n\r\0\x0b\x0c\x1c\x1e\x85\u2028\u2029\x07\x1b\x7f\b\u202e\u2066\ufeff\ud800\U0001f600\"\\",
    "\r\n", "\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "\udfff\ud800", '"}', '\\"', "\\n", "%s", "%(pid)d", "{0}",
    '{"level": "critical", "event": "forged"}', '", "event": "forged',
    '"}\n{"time": "now", "event": "forged"}\n{"x": "',
]  # fmt: skip
KEYS = ["text", "reason", "event", "level", "time", "component", "pid", "room", "suppressed", 'a"\n', "\u2028", "\x1b["]


def test_f3_forged_lines(tmp_path: Path, shown: Shown) -> None:
    file = LogFile(str(tmp_path / "kokoro.log"))
    logger = logging.Logger("kokoro")
    logger.addHandler(JsonLines("model_server", [file.append]))
    rounds = times(10_000)
    dice = random.Random(3)
    for n in range(rounds):
        text = "".join(dice.choices([*FORGERIES, "words "], k=dice.randint(1, 12)))
        extra = dict.fromkeys(dice.sample(KEYS, 3), text) | {"utterance": f"{n}"}
        if n % 3:
            logger.info("said %s", text, extra=extra)
        else:
            logger.warning(text, extra=extra)  # as a careless caller would
    file.close()
    data = (tmp_path / "kokoro.log").read_bytes()
    assert all(byte == 10 or 32 <= byte < 127 for byte in data)
    lines = data.decode("ascii").splitlines()  # at any separator that Unicode knows
    assert len(lines) == data.count(b"\n")
    held = 0
    for n, line in enumerate(lines):
        entry = json.loads(line)
        level = "info" if n % 3 else "warning"
        head = (entry["component"], entry["pid"], entry["level"], entry["utterance"])
        held += is_line(line) and head == ("model_server", os.getpid(), level, f"{n}") and entry["event"] != "forged"
    assert len(lines) == rounds
    shown("F3", "texts that try to forge a line are one line each", held, of=rounds)


# --- F4 --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def failing_world(world: World) -> World:
    (world.cache / "logs").mkdir(parents=True)
    program = starter.Program(
        name="model",
        path=str(HERE / "failing_model_server.py"),
        environment=world.environment,
        stderr_path=str(world.cache / "logs" / "model_server.stderr"),
    )
    starter.ensure(RuntimeDirectory(str(world.runtime)), program).close()
    return world


def speak(world: World, text: str, **route: Any) -> Finished | Cancelled | Failed:
    """Straight to the voice server: an utterance takes a hundredth of the time of a say.py."""
    connection = starter.connect(RuntimeDirectory(str(world.runtime)), f"voice-{VOICE}")
    assert connection is not None
    utterance = os.urandom(16).hex()
    connection.send(
        Speak(utterance=utterance, speech=Speech(voice=VOICE, lang="a", engine="espeak"), route=Route(**route))
    )
    connection.send(TextPart(utterance=utterance, text=text))
    connection.send(EndOfText(utterance=utterance))
    connection.send(Credit(utterance=utterance, bytes=1 << 30))
    while not isinstance(message := connection.receive(30)[0], Finished | Cancelled | Failed):
        pass
    connection.close()
    return message


def leaks(world: World, text: str) -> list[str]:
    """Files of the logs and the runtime directory that hold the text, plain or escaped."""
    forms = {text.encode(), json.dumps(text)[1:-1].encode(), text.encode("utf-16-le")}
    paths = [path for folder in (world.cache / "logs", world.runtime) for path in folder.rglob("*") if path.is_file()]
    assert len(paths) >= 5
    return [path.name for path in paths if any(form in path.read_bytes() for form in forms)]


@pytest.mark.timeout(600)
def test_f4_no_spoken_text_in_any_log(failing_world: World, shown: Shown) -> None:
    world = failing_world
    assert world.say("-o", "x.wav", "Canaryword.").returncode == 0  # the voice server runs
    kinds = {
        "{}": Finished,
        "{} which fails in the engine.": Failed,
        "{} which fails in the handler.": Failed,
        "{} which fails in the voice server.": Failed,
        "{} \ud83d\ude00 \x1b[31m and so on. {}": Finished,
    }
    rounds = times(1_000)
    outcomes = 0
    for n in range(rounds):
        form, expected = list(kinds.items())[n % len(kinds)]
        sink = "speakers" if n % 7 == 3 else "client"
        text = form.format(*["Canaryword"] * 2)
        outcomes += isinstance(speak(world, text, sink=sink), expected)
    assert outcomes == rounds
    assert world.say("--stop").returncode == 0
    assert world.say("--no-wait", "Canaryword ends the thread.").returncode == 0
    last_words = world.cache / "logs" / "model_server.stderr"
    deadline = time.monotonic() + 30
    while "RuntimeError" not in last_words.read_text():  # another model server may have taken its place by now
        assert time.monotonic() < deadline
        time.sleep(0.05)
    entries = world.log() + world.log("model_server") + world.log(f"voice_server-{VOICE}")
    assert {"handler failed", "synthesis failed", "died: the server ends"} <= {entry["event"] for entry in entries}
    shown("F4", "utterances whose text is in no file of the logs", rounds * (not leaks(world, "Canaryword")), of=rounds,
          files_with_text=len(leaks(world, "Canaryword")))  # fmt: skip


def test_f4_debug_says_so_and_follows_one_utterance_through_all_servers(failing_world: World, shown: Shown) -> None:
    world = failing_world
    for n in range(10):
        assert world.say("-o", "x.wav", f"Quiet {n}.").returncode == 0
        assert world.say("-o", "x.wav", "--debug", f"Loud {n}.").returncode == 0
    assert world.say("-o", "x.wav", "--debug", "Loud which fails in the engine.").returncode == 1
    assert world.say("--shutdown", "-q").returncode == 0
    entries = world.log()
    with_text = [entry for entry in entries if "Loud" in json.dumps(entry)]
    assert all(entry.get("debug") is True for entry in with_text)
    assert any("cannot speak 'Loud" in str(entry.get("traceback")) for entry in with_text)
    assert leaks(world, "Quiet") == []
    utterances = [entry["utterance"] for entry in entries if entry["event"] == "text" and "Loud" in str(entry["text"])]
    followed = 0
    for utterance in list(dict.fromkeys(utterances))[:10]:
        course = [(str(entry["component"]), entry["event"]) for entry in entries if entry.get("utterance") == utterance]
        voice, model = f"voice_server-{VOICE}", "model_server"
        wanted = {(voice, "speak"), (voice, "text"), (model, "text"), (model, "synthesized"), (voice, "finished")}
        followed += wanted <= set(course)
    shown("F4", "debug utterances that kokoro.log follows by their id", followed, of=10)


# --- F5, C9 ----------------------------------------------------------------------------------------------------------


def wait_for_line(path: Path, text: str) -> None:
    pause = threading.Event()
    for _ in range(200):
        if path.exists() and text in path.read_text():
            return
        pause.wait(0.05)
    raise AssertionError(f"{path.name} has no {text}")


def remove(logs: Path) -> None:
    shutil.rmtree(logs)


def move_files(logs: Path) -> None:
    """As logrotate does."""
    for path in logs.glob("*.log"):
        path.rename(path.with_suffix(f".{time.monotonic_ns()}.old"))


def truncate(logs: Path) -> None:
    """As logrotate does with copytruncate."""
    for path in logs.glob("*.log"):
        os.truncate(path, 0)


@pytest.mark.parametrize("fault", [remove, move_files, truncate], ids=lambda fault: fault.__name__)
def test_f5_logs_that_go_are_made_again(stub_world: World, shown: Shown, fault: Callable[[Path], None]) -> None:
    logs = stub_world.cache / "logs"
    names = ["kokoro.log", "model_server.log", f"voice_server-{VOICE}.log"]
    rounds, held = 3, 0
    assert stub_world.say("-o", "x.wav", "Before.").returncode == 0
    pids = {server.pid for server in stub_world.servers()}
    for _ in range(rounds):
        fault(logs)
        for server in stub_world.servers():
            server.send_signal(signal.SIGHUP)
        assert stub_world.say("-o", "x.wav", "After.").returncode == 0
        assert stub_world.status()["model_server"]["state"]  # a caller of the model server: it has something to log
        wait_for_line(logs / "kokoro.log", "finished")
        assert {server.pid for server in stub_world.servers()} == pids
        private = all((logs / name).stat().st_mode & 0o777 == 0o600 for name in names)
        whole = all(is_line(line.decode()) for name in names for line in lines_of(logs / name))
        held += private and whole and (fault is not remove or logs.stat().st_mode & 0o777 == 0o700)
    shown("F5", f"servers that go on logging and speaking after {fault.__name__}", held, of=rounds)


@contextmanager
def as_somebody_else(directory: Path) -> Iterator[None]:
    """Permissions do not bind root: it becomes the directory's new owner for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.chown(directory, NOBODY, NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_f5_a_directory_that_may_not_be_written(shown: Shown) -> None:
    held = 0
    with tempfile.TemporaryDirectory(dir="/tmp") as parent:
        os.chmod(parent, 0o755)
        directory = Path(parent) / "logs"
        directory.mkdir()
        path = directory / "model_server.log"
        with as_somebody_else(directory):
            for mode in (0o000, 0o500, 0o400):
                file = LogFile(str(path))
                os.chmod(directory, mode)
                for n in range(100):
                    file.append(json.dumps({"n": n}))
                os.chmod(directory, 0o700)
                assert not path.exists()
                file.append(json.dumps({"n": 100}))
                file.close()
                entries = [json.loads(line) for line in lines_of(path)]
                held += [entry.get("dropped", entry.get("n")) for entry in entries] == [100, 100]
                path.unlink()
    shown("F5", "unwritable directories survived, what was dropped counted", held, of=3)


def test_c9_a_full_disk_drops_lines_with_one_notice_and_speech_goes_on(stub_world: World, shown: Shown) -> None:
    assert stub_world.say("-o", "x.wav", "Before.").returncode == 0
    logs = stub_world.cache / "logs"
    held, rounds = 0, max(2, times(10))
    for n in range(rounds):
        servers = [psutil.Process(server.pid) for server in stub_world.servers()]
        sizes = {path: path.stat().st_size for path in logs.glob("*.log")}
        limit = max(sizes.values()) + 1 + 37 * n  # a write fails at once, or after a part of a line
        for server in servers:
            server.rlimit(psutil.RLIMIT_FSIZE, (limit, psutil.RLIM_INFINITY))
        spoken = [stub_world.say("-o", "x.wav", "While it is full.").returncode for _ in range(5)]
        assert all(path.stat().st_size <= limit for path in logs.glob("*.log"))
        for server in servers:
            server.rlimit(psutil.RLIMIT_FSIZE, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))
        assert stub_world.say("-o", "x.wav", "After.").returncode == 0
        dropped = [entry for entry in stub_world.log(f"voice_server-{VOICE}") if entry["event"] == "lines were dropped"]
        held += spoken == [0] * 5 and len(dropped) == n + 1 and {server.pid for server in servers} == {
            server.pid for server in stub_world.servers()
        }  # fmt: skip
    for path in logs.glob("*.log"):
        assert all(is_line(line.decode()) for line in lines_of(path))
    for path in logs.glob("*.stderr"):
        assert len(path.read_text().splitlines()) <= 2  # one for each of its files
    shown("C9", "full disks that cost log lines, counted in one notice, and no speech", held, of=rounds)
