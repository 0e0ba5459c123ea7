"""The logs: lines that nothing can forge or tear, limits, rotation, files that come and go, forwarding."""

from __future__ import annotations

import datetime
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kokoro_common.daemon import starter
from kokoro_common.daemon.logs import (
    BURST,
    FILES,
    MAX_KEPT,
    MAX_LINE_BYTES,
    Forwarding,
    JsonLines,
    Limiter,
    LogFile,
    is_line,
    json_line,
)
from kokoro_common.daemon.runtime_directory import RuntimeDirectory
from kokoro_common.wire.messages import Failed, LogLine
from tests.conftest import World

ROOT = Path(__file__).parent.parent.parent
LINE = json_line("voice_server-x", "info", "an event", {})


class Log:
    """A logger of its own, and the lines it has written."""

    def __init__(self, *, debug: bool = False) -> None:
        self.lines: list[str] = []
        self.handler = JsonLines("model_server", [self.lines.append], debug=debug)
        self.logger = logging.Logger("kokoro.room")
        self.logger.addHandler(self.handler)

    @property
    def entries(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.lines]


@pytest.fixture
def log() -> Log:
    return Log()


def entries_of(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text("ascii").splitlines()]


@pytest.fixture
def file(tmp_path: Path) -> Iterator[LogFile]:
    file = LogFile(str(tmp_path / "logs" / "model_server.log"), max_bytes=1_000)
    yield file
    file.close()


def path_of(file: LogFile) -> Path:
    return Path(file.baseFilename)


# --- Lines -----------------------------------------------------------------------------------------------------------


def test_a_line_tells_when_who_and_what_first_and_the_details_in_order(log: Log) -> None:
    log.logger.warning("an event of %d", 3, extra={"zebra": 1.5, "ant": None})
    (entry,) = log.entries
    assert list(entry) == ["time", "component", "pid", "level", "room", "event", "ant", "zebra"]
    assert (entry["component"], entry["pid"], entry["level"]) == ("model_server", os.getpid(), "warning")
    assert (entry["room"], entry["event"], entry["ant"], entry["zebra"]) == ("kokoro.room", "an event of 3", None, 1.5)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d", str(entry["time"]))
    age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(str(entry["time"]))
    assert abs(age.total_seconds()) < 5


def test_details_cannot_take_the_place_of_what_the_log_says(log: Log) -> None:
    log.logger.info("true", extra={"event": "forged", "level": "info", "time": "never", "pid": 1, "component": "x"})
    (entry,) = log.entries
    assert (entry["event"], entry["pid"], entry["component"]) == ("true", os.getpid(), "model_server")
    assert entry["event_"] == "forged"


def test_long_values_are_cut_and_lines_are_bounded(log: Log) -> None:
    log.logger.info("x", extra={"text": "a" * 100_000})
    assert str(log.entries[0]["text"]) == "a" * 2_000 + "... (100,000 characters)"
    log.logger.info("x", extra={f"text{n}": "\U0001f600" * 100_000 for n in range(20)})
    assert len(log.lines[1]) <= MAX_LINE_BYTES
    assert str(log.entries[1]["text7"]).startswith("\U0001f600" * 200 + "...")


class Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError("canary")


VALUES = {
    "no str()": Unspeakable(),
    "digits": 10**5_000,
    "nan": float("nan"),
    "surrogate": "\ud800",
    "bytes": b"\xff",
    "nested": {"a": [1]},
    "long": LINE * 900,
}


@pytest.mark.parametrize("kind", VALUES)
def test_any_value_makes_one_valid_line_and_raises_nothing(log: Log, kind: str) -> None:
    value = VALUES[kind]
    log.logger.info("x", extra={"value": value})
    log.logger.info("%d", value)
    log.logger.info("x", extra={f"{n:0>1000}": value for n in range(70)})
    assert len(log.lines) == 3
    assert all(is_line(line) and "ud800" not in line and "NaN" not in line for line in log.lines)
    assert log.entries[1]["event"] == "an event could not be logged"
    assert str(log.entries[1]["logged_at"]).startswith("test_logs.py:")
    assert log.entries[2]["reason"]


@pytest.mark.parametrize(
    "line",
    ["", "x", "[1]", "1", LINE + "\n" + LINE, LINE[:-1], LINE[:-1] + "\x1b}", '{"a": "\u2028"}', '{"a": "\x7f"}',
     '{"a": "é"}', "{" * 60_000, '{"a":' * 10_000, '{"a": "' + "x" * MAX_LINE_BYTES + '"}'],
)  # fmt: skip
def test_what_would_tear_or_forge_a_line_is_none(line: str) -> None:
    assert not is_line(line)
    assert is_line(LINE)


# --- Exceptions ------------------------------------------------------------------------------------------------------


def fail() -> None:
    try:
        raise ValueError("canary one")
    except ValueError as error:
        raise OSError(28, "canary two", "canary three") from error


def log_failure(log: Log, **extra: object) -> str:
    try:
        fail()
    except OSError:
        log.logger.exception("it failed", extra=extra)
    return str(log.entries[0]["traceback"])


def test_a_traceback_tells_types_and_places_but_no_message(log: Log) -> None:
    traceback = log_failure(log)
    assert re.fullmatch(
        r"OSError: No space left on device\n"
        r"  at daemon/test_logs.py:\d+ fail\n  at daemon/test_logs.py:\d+ log_failure\n"
        r"from ValueError\n  at daemon/test_logs.py:\d+ fail",
        traceback,
    )
    assert "canary" not in log.lines[0]


def test_with_debug_a_traceback_has_the_messages() -> None:
    for log, extra in ((Log(debug=True), {}), (Log(), {"debug": True})):
        traceback = log_failure(log, **extra)
        assert "canary one" in traceback
        assert "canary two" in traceback


def test_the_innermost_places_of_a_deep_recursion_are_kept(log: Log) -> None:
    def bottom() -> None:
        raise AssertionError

    def down(n: int) -> None:
        down(n - 1) if n else bottom()

    try:
        down(500)
    except AssertionError:
        log.logger.exception("too deep")
    assert re.match(r"AssertionError\n  at daemon/test_logs.py:\d+ bottom\n", str(log.entries[0]["traceback"]))
    assert len(log.lines[0]) < 3_000


DYING = """
import sys, threading
from kokoro_common.daemon.logs import start_log
from kokoro_common.settings import resolve
start_log(resolve(), "model_server", lambda line: None)
def fail():
    raise ValueError("canary")
if sys.argv[1] == "main":
    fail()
threading.Thread(target=fail, name="worker").start()
threading.Event().wait()
"""


@pytest.mark.parametrize(("where", "thread"), [("main", "MainThread"), ("a thread", "worker")])
@pytest.mark.parametrize("debug", [False, True])
def test_an_exception_nobody_catches_is_logged_and_ends_the_server(
    tmp_path: Path, where: str, thread: str, debug: bool
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DYING, where],
        env={**os.environ, "PYTHONPATH": str(ROOT), "KOKORO_LOG_DIR": str(tmp_path), "KOKORO_DEBUG": str(int(debug))},
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    (entry,) = entries_of(tmp_path / "model_server.log")
    assert (entry["level"], entry["in"]) == ("critical", thread)
    for trace in (str(entry["traceback"]), done.stderr):
        assert trace.startswith("ValueError" + ": canary" * debug + "\n  at ")
        assert ("canary" in trace) == debug


# --- Limits ----------------------------------------------------------------------------------------------------------


def test_of_equal_events_a_burst_and_then_one_a_second_are_seen_and_the_others_counted() -> None:
    now = 100.0
    limiter = Limiter(clock=lambda: now)
    key = ("kokoro", "it failed", "ERROR", "")
    assert [limiter.admit(key) for _ in range(BURST + 5)] == [0] * BURST + [None] * 5
    assert limiter.admit(("kokoro", "another", "ERROR", "")) == 0
    now += 0.9
    assert limiter.admit(key) is None
    now += 0.2
    assert [limiter.admit(key) for _ in range(3)] == [6, None, None]
    now += 1_000
    assert [limiter.admit(key) for _ in range(BURST + 1)] == [2] + [0] * (BURST - 1) + [None]
    assert limiter.drain() == [(key, 1)]


def test_what_was_suppressed_stands_in_the_next_line_or_the_last(log: Log) -> None:
    for n in range(1_000):
        log.logger.error("it failed %d times", n)
    assert len(log.lines) == BURST
    log.handler.close()
    assert len(log.lines) == BURST + 1
    assert log.entries[-1]["suppressed"] == 1_000 - BURST
    assert (log.entries[-1]["event"], log.entries[-1]["level"]) == ("it failed %d times", "error")


def test_lines_about_utterances_are_never_suppressed(log: Log) -> None:
    for n in range(100):
        log.logger.info("speak", extra={"utterance": f"{n}"})
        log.logger.error("synthesis failed", extra={"utterance": f"{n}"})
    assert len(log.lines) == 200


# --- Files -----------------------------------------------------------------------------------------------------------


def test_files_rotate_and_never_take_more_than_their_share(file: LogFile) -> None:
    for n in range(500):
        file.append(json_line("x", "info", "e", {"n": n}))
    paths = sorted(path_of(file).parent.iterdir())
    assert [path.name for path in paths] == ["model_server.log", *(f"model_server.log.{n}" for n in range(1, FILES))]
    assert all(path.stat().st_size <= 1_000 and path.stat().st_mode & 0o777 == 0o600 for path in paths)
    numbers = [entry["n"] for path in reversed([*paths[1:]]) for entry in entries_of(path)]
    numbers += [entry["n"] for entry in entries_of(paths[0])]
    assert numbers == list(range(500 - len(numbers), 500))
    assert len(numbers) > 4 * FILES


def test_a_file_that_was_moved_or_removed_is_made_again(file: LogFile) -> None:
    path = path_of(file)
    file.append(LINE)
    path.rename(path.with_suffix(".old"))
    file.append(LINE)
    path.rename(path.with_suffix(".older"))
    path.touch(0o644)  # as logrotate does
    file.append(LINE)
    assert path.read_text() == LINE + "\n"
    assert path.stat().st_mode & 0o777 == 0o600
    path.unlink()
    file.append(LINE)
    for each in path.parent.iterdir():
        each.unlink()
    path.parent.rmdir()
    file.append(LINE)
    assert path.read_text() == LINE + "\n"
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_is_no_file_of_ours_is_not_written_to(file: LogFile, capsys: pytest.CaptureFixture[str]) -> None:
    path = path_of(file)
    path.parent.mkdir()
    elsewhere = path.parent / "elsewhere"
    elsewhere.touch()
    for take_its_place in (lambda: path.symlink_to(elsewhere), path.mkdir, lambda: os.mkfifo(path)):
        take_its_place()
        file.append(LINE)
        if path.is_fifo():
            reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            file.append(LINE)
            os.close(reader)
        path.rmdir() if path.is_dir() else path.unlink()
    file.append(LINE)
    assert elsewhere.read_bytes() == b""
    notice, line = entries_of(path)
    assert (notice["event"], notice["dropped"], notice["component"]) == ("lines were dropped", 4, "model_server")
    assert line == json.loads(LINE)
    assert len(capsys.readouterr().err.splitlines()) == 1


# --- Forwarding ------------------------------------------------------------------------------------------------------


class Link:
    def __init__(self) -> None:
        self.up = True
        self.taken: list[str] = []

    def post(self, line: str) -> bool:
        if self.up:
            self.taken.append(line)
        return self.up


def test_forwarded_lines_wait_while_nobody_takes_them_and_come_in_order() -> None:
    link = Link()
    forwarding = Forwarding("voice_server-x", link.post)
    forwarding.append("0")
    link.up = False
    for n in range(1, 5):
        forwarding.append(f"{n}")
    link.up = True
    forwarding.flush()
    forwarding.append("5")
    assert link.taken == [f"{n}" for n in range(6)]


def test_lines_too_many_to_keep_are_counted_and_the_youngest_kept() -> None:
    link = Link()
    link.up = False
    forwarding = Forwarding("voice_server-x", link.post)
    for n in range(MAX_KEPT + 500):
        forwarding.append(f"{n}")
    link.up = True
    forwarding.flush()
    forwarding.append(f"{MAX_KEPT + 500}")
    notice = json.loads(link.taken[0])
    assert (notice["event"], notice["missed"]) == ("500 lines are only in voice_server-x.log", 500)
    assert link.taken[1:] == [f"{n}" for n in range(500, MAX_KEPT + 501)]


def test_a_link_that_has_something_to_log_itself_does_not_go_round_in_circles() -> None:
    taken: list[str] = []

    def post(line: str) -> bool:
        if line == "a":
            forwarding.append("logged by post")
        taken.append(line)
        return True

    forwarding = Forwarding("voice_server-x", post)
    forwarding.append("a")
    assert taken == ["a", "logged by post"]


@pytest.mark.e2e
def test_the_model_server_takes_lines_from_voice_servers_alone_and_only_lines(stub_world: World) -> None:
    runtime = RuntimeDirectory(str(stub_world.runtime))
    connections = []
    for role, lines in (("voice", ["forged\nforged", LINE]), ("client", [LINE])):
        connection = starter.connect(runtime, "model", role)
        assert connection is not None
        connections.append(connection)
        for line in lines:
            connection.send(LogLine(line=line))
        assert isinstance(connection.receive(5)[0], Failed)
        connection.close()
    events = [entry["event"] for entry in stub_world.log()]
    assert events.count("an event") == 1
    assert events.count("refused") == 2
    assert all(entry["event"] != "an event" for entry in stub_world.log("model_server"))


@pytest.mark.e2e
def test_where_no_log_can_be_written_speech_goes_on(stub_world: World) -> None:
    logs = stub_world.cache / "logs"
    assert stub_world.say("-o", "x.wav", "hello").returncode == 0
    logs.rename(stub_world.path / "moved")
    logs.touch()
    done = stub_world.say("-o", "x.wav", "hello")
    assert (done.returncode, done.stderr) == (0, "")
    logs.unlink()
    assert stub_world.say("-o", "x.wav", "hello").returncode == 0
    assert "lines were dropped" in {entry["event"] for entry in stub_world.log("voice_server-af_heart")}
