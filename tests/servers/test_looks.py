"""Errors that nobody meant, in what the servers do by the clock and when a connection ends: they end no server."""

from __future__ import annotations

import errno
import logging
from types import SimpleNamespace
from typing import Any, NoReturn, cast

import pytest

import model_server
import voice_server
from kokoro_common.settings import Settings
from kokoro_common.text.speech import Speech
from kokoro_common.wire.messages import Ping, Pong, Route, Speak, TextPart, Unload
from kokoro_common.wire.server import Delivery, PeerGone
from tests.helpers.small_world import End, Life, Runtime, WorldModelServer, WorldVoiceServer

SETTINGS = Settings(
    runtime_dir="/nowhere", cache_dir="/nowhere", log_dir="/nowhere", config_dir="/nowhere", idle_timeout=20.0
)
SECONDS = 100.0  # that a server runs here, by its clock


def fail(*_: object, **__: object) -> NoReturn:
    raise OSError(errno.EMFILE, "Too many open files")


class Clock:
    """It moves by what is waited for."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.waits = 0

    def __call__(self) -> float:
        return self.now

    def let_run(self, server: Any) -> None:
        """Without its threads and sockets, until it ends."""
        get = server._inbox.get
        end = self.now + SECONDS

        def wait(timeout: float) -> Delivery:
            self.waits += 1
            assert self.waits < 20 * SECONDS, "it looks without end"
            if self.now < end and self.now + timeout >= end:
                server.shut_down(0.0)
            self.now += timeout
            delivery: Delivery = get(timeout=0)
            return delivery

        server._inbox.get = wait
        server._board = SimpleNamespace(start=lambda *_: None, close=lambda: None, port=1)
        server.run()
        assert self.now >= end


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    for program in (model_server, voice_server):
        monkeypatch.setattr(program, "start_log", lambda *_: None)
    monkeypatch.setattr(Life, "announce", lambda self, port: None, raising=False)
    monkeypatch.setattr(Runtime, "token", lambda self: b"", raising=False)
    return Clock()


def voice_server_of(clock: Clock) -> WorldVoiceServer:
    world = SimpleNamespace(settings=SETTINGS, clock=clock, lock=None)
    return WorldVoiceServer(cast(Any, world), "af_heart")


def hear(server: Any, end: End, *messages: Any) -> None:
    for message in messages:
        server.dispatch(Delivery(cast(Any, end), message))


@pytest.mark.parametrize("failing", ["_life", "_synthesis", "_floor"])
def test_a_look_that_fails_does_not_end_a_model_server(
    clock: Clock, failing: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = WorldModelServer(SETTINGS.replace(keep_alive=-1.0), cast(Any, Runtime()), cast(Any, Life()), clock=clock)
    real = server._life
    server._loader = cast(
        Any, SimpleNamespace(start=lambda: None, close=lambda: None, has_memory=False, has_work=False)
    )
    server._synthesis = cast(Any, SimpleNamespace(start=lambda: None, stuck=lambda *_: "", chunks_done=0))
    if failing == "_life":
        server._life = cast(Any, SimpleNamespace(keep=fail, leave=real.leave, announce=real.announce))
    elif failing == "_synthesis":
        server._synthesis.stuck = fail  # type: ignore[method-assign]
    else:
        server._watch_floor = fail  # type: ignore[method-assign]
    clock.let_run(server)
    failed = [record for record in caplog.records if record.message == "a look failed"]
    assert len(failed) >= SECONDS // model_server.RECORD_TICKS - 2


@pytest.mark.parametrize(
    ("failing", "state"),
    [
        ("the record", "idle"),
        ("the record", "speaking"),
        ("the link", "speaking"),
        ("the speakers", "idle"),
        ("the speakers", "speaking"),
        ("the speakers", "calling the device"),
        ("the end", "idle"),
    ],
)
def test_a_look_that_fails_does_not_end_a_voice_server_nor_keep_it_busy(
    clock: Clock, failing: str, state: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = voice_server_of(clock)
    if failing == "the record":
        monkeypatch.setattr(Life, "keep", fail)
    elif failing == "the link":
        server._link.watch = fail  # type: ignore[method-assign]
    elif failing == "the speakers":
        server._watch_speakers = fail  # type: ignore[method-assign]
    else:
        server._leave_when_delivered = fail  # type: ignore[method-assign]
    if state == "speaking":
        speak = Speak(utterance="0" * 32, speech=Speech(voice="af_heart", lang="a"), route=Route())
        hear(server, End("client"), speak, TextPart(utterance="0" * 32, text="Hello there. And so on, "))
    elif state == "calling the device":
        cast(Any, server._speakers).busy_since = clock.now
    if failing != "the end":  # which nothing else is to bring
        server._settings = SETTINGS.replace(idle_timeout=-1.0)
    clock.let_run(server)
    assert "a look failed" in caplog.text


def test_an_error_at_the_end_of_a_connection_does_not_end_a_model_server(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    server = WorldModelServer(SETTINGS, cast(Any, Runtime()), cast(Any, Life()), clock=clock)
    gone, here = End("client"), End("client")
    server._synthesis.forget = fail  # type: ignore[method-assign]
    hear(server, gone, Ping(), PeerGone())
    assert "handler failed" in caplog.text
    hear(server, here, Ping())
    assert [message for message, _ in here.sent] == [Pong(done=0)]


def test_an_error_at_the_end_of_the_link_does_not_end_a_voice_server(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    server = voice_server_of(clock)
    server.connect(link := End("model"))
    server._link.seek = fail  # type: ignore[method-assign]
    hear(server, link, PeerGone())
    assert "handler failed" in caplog.text
    hear(server, here := End("client"), Ping())
    assert [message for message, _ in here.sent] == [Pong(done=0)]


class Died(BaseException):
    """In place of the end of the process."""


class MortalModelServer(WorldModelServer):
    _renew = model_server.ModelServer._renew  # type: ignore[assignment]

    def _die(self, reason: str) -> NoReturn:
        raise Died(reason)


def test_a_server_that_cannot_begin_again_dies_for_it_has_given_its_socket_away(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Life, "renew", fail, raising=False)
    server = MortalModelServer(SETTINGS, cast(Any, Runtime()), cast(Any, Life()), clock=clock)
    server._board = cast(Any, SimpleNamespace(hand_on=lambda: 0))
    server._loader = cast(Any, SimpleNamespace(has_memory=True, has_work=False))
    hear(server, client := End("client"), Unload())
    client.sent.clear()
    with pytest.raises(Died, match="cannot begin again"):
        server._look(clock.now + 1.0)


def test_what_fails_is_logged_with_its_place(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    server = voice_server_of(clock)
    server._watch_speakers = fail  # type: ignore[method-assign]
    with caplog.at_level(logging.ERROR):
        server._look(clock.now)
    assert "Traceback" in caplog.text and "Too many open files" in caplog.text
