"""Starting voice servers: with which environment, and what is reported of it."""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kokoro_common.daemon.model_server import ENVIRONMENT
from kokoro_common.errors import KokoroError, ServersUnreachable
from kokoro_common.record import Record
from kokoro_common.settings import Settings
from kokoro_common.synthesis import voice_starter as voice_starter_module
from kokoro_common.synthesis.voice_starter import VoiceStarted, VoiceStarter, VoiceStartFailed
from tests.helpers.threads import refuse_threads

SECONDS = 10  # for what takes none


class Starts:
    """What the starter of daemons was asked for, and what it answers."""

    def __init__(self) -> None:
        self.events: queue.SimpleQueue[Record] = queue.SimpleQueue()
        self.programs: list[Any] = []
        self.error: Exception | None = None
        self.ended: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.stale: list[str] = []
        self.connection = SimpleNamespace(closed=False, close=self._close)
        runtime = cast(Any, SimpleNamespace(path="/run/here"))
        settings = Settings(log_dir="/logs", cache_dir="/nowhere", port=6_000)
        self.starter = VoiceStarter(settings, runtime, "/programs/voice_server.py", self.events.put)

    def _close(self) -> None:
        self.connection.closed = True

    def ensure(self, _: object, program: Any) -> object:
        self.programs.append(program)
        if self.error is not None:
            raise self.error
        return self.connection

    def end_hung(self, _: object, name: str) -> None:
        self.ended.put(name)
        if self.error is not None:
            raise self.error

    def start(self, **sound: str) -> dict[str, str]:
        """The environment of a voice server that is started by a shell with this sound."""
        self.starter.start("af_heart", sound)
        assert self.events.get(timeout=SECONDS) == VoiceStarted(voice="af_heart")
        environment: dict[str, str] = self.programs[-1].environment
        return environment


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Starts]:
    starts = Starts()
    monkeypatch.setattr(voice_starter_module.starter, "ensure", starts.ensure)
    monkeypatch.setattr(voice_starter_module.starter, "end_hung", starts.end_hung)
    monkeypatch.setattr(voice_starter_module.starter, "remove_stale_record", lambda _, name: starts.stale.append(name))
    yield starts
    for thread in threading.enumerate():
        if thread.name in ("start-af_heart", "end-af_heart"):
            thread.join(SECONDS)


def test_a_voice_server_is_started_and_its_connection_not_kept(starts: Starts) -> None:
    starts.start()
    (program,) = starts.programs
    assert (program.name, program.path, program.arguments) == (
        "voice-af_heart",
        "/programs/voice_server.py",
        ("af_heart",),
    )
    assert program.stderr_path == "/logs/voice_server-af_heart.stderr"
    assert starts.connection.closed  # it registers by itself


def test_it_lives_in_the_directories_of_its_model_server(starts: Starts) -> None:
    environment = starts.start()
    assert environment["KOKORO_RUNTIME_DIR"] == "/run/here" and environment["KOKORO_LOG_DIR"] == "/logs"


def test_it_plays_where_the_asking_shell_would(starts: Starts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULSE_SERVER", "unix:/of/the/model/server")
    monkeypatch.setenv("PULSE_SINK", "of the model server")
    environment = starts.start(PULSE_SERVER="unix:/of/the/shell")
    assert environment["PULSE_SERVER"] == "unix:/of/the/shell" and "PULSE_SINK" not in environment


@pytest.mark.parametrize("name", ["LD_PRELOAD", "PATH", "PYTHONPATH", "KOKORO_LOG_DIR"])
def test_a_shell_can_give_it_sound_and_nothing_else(starts: Starts, name: str) -> None:
    usual = starts.start()
    assert starts.start(**{name: "/evil"}).get(name) == usual.get(name)


@pytest.mark.parametrize(("name", "value"), [("PULSE_A=B", "x"), ("PULSE_\0", "x"), ("PULSE_SERVER", "x\0y")])
def test_a_variable_that_no_process_can_have_is_left_out(starts: Starts, name: str, value: str) -> None:
    environment = starts.start(**{name: value})
    assert not [key for key in environment if key.startswith("PULSE_") and environment[key] == value]


def test_what_only_an_engine_needs_is_not_handed_down(starts: Starts, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in ENVIRONMENT.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("MALLOC_ARENA_MAX", "7")  # as the user has it
    environment = starts.start()
    assert environment["MALLOC_ARENA_MAX"] == "7" and not environment.keys() & (
        ENVIRONMENT.keys() - {"MALLOC_ARENA_MAX"}
    )


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ServersUnreachable("it dies", "see its log"), "it dies; see its log"),
        (OSError(12, "Cannot allocate memory"), "voice server af_heart cannot be started"),
    ],
)
def test_one_that_cannot_be_started_is_reported(starts: Starts, error: Exception, text: str) -> None:
    starts.error = error
    starts.starter.start("af_heart", {})
    event = starts.events.get(timeout=SECONDS)
    assert isinstance(event, VoiceStartFailed) and event.voice == "af_heart" and text in str(event.error)
    assert event.error.exit_code == ServersUnreachable.exit_code


@pytest.mark.parametrize(("code", "level", "stale"), [(0, "INFO", []), (-11, "ERROR", ["voice-af_heart"])])
def test_the_record_of_one_that_crashed_is_cleared_away(
    starts: Starts, caplog: pytest.LogCaptureFixture, code: int, level: str, stale: list[str]
) -> None:
    starts.start()
    with caplog.at_level(logging.INFO, logger="kokoro"):
        starts.programs[0].on_exit(code)
    assert [(record.levelname, record.__dict__["code"]) for record in caplog.records] == [(level, code)]
    assert starts.stale == stale


@pytest.mark.parametrize("error", [ServersUnreachable("no descriptor"), IsADirectoryError("voice-af_heart.json")])
def test_a_record_that_cannot_be_cleared_away_is_no_end_of_the_server(
    starts: Starts, caplog: pytest.LogCaptureFixture, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(voice_starter_module.starter, "remove_stale_record", fail)
    starts.start()
    starts.programs[0].on_exit(-9)
    assert "a stale record stays" in caplog.text


def test_without_a_thread_to_start_it_those_that_wait_are_told(
    starts: Starts, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_threads(monkeypatch, "start-")
    refuse_threads(monkeypatch, "end-")
    starts.starter.start("af_heart", {})
    event = starts.events.get(timeout=SECONDS)
    assert isinstance(event, VoiceStartFailed) and event.voice == "af_heart"
    assert event.error.exit_code == ServersUnreachable.exit_code and "no thread" in str(event.error)
    starts.starter.end_hung("af_heart")
    assert "goes on" in caplog.text


@pytest.mark.parametrize("error", [None, KokoroError("it works"), OSError("no descriptor")])
def test_one_that_hangs_is_ended_and_one_that_works_goes_on(
    starts: Starts, caplog: pytest.LogCaptureFixture, error: Exception | None
) -> None:
    starts.error = error
    starts.starter.end_hung("af_heart")
    assert starts.ended.get(timeout=SECONDS) == "voice-af_heart"
    for thread in threading.enumerate():
        if thread.name == "end-af_heart":
            thread.join(SECONDS)
    assert ("goes on" in caplog.text) == (error is not None)


def test_a_shell_without_sound_of_its_own_gets_none_of_ours(starts: Starts) -> None:
    environment = starts.start()
    assert not [key for key in environment if key.startswith(("PULSE_", "PIPEWIRE_", "ALSA_"))]
    assert environment["PATH"] == os.environ["PATH"]
