"""A voice server's connection to the model server: found again when it is lost, watched while something is owed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, cast

import pytest

from kokoro_common.errors import KokoroError, ServersBusy, ServersUnreachable
from kokoro_common.record import Record
from kokoro_common.settings import Settings
from kokoro_common.speaking import link as link_module
from kokoro_common.speaking.link import MAX_UNSENT_BYTES, PING_SECONDS, SEEK_SECONDS, Link, Linked, LinkFailed
from kokoro_common.wire.messages import LogLine, Message, ModelWanted, Ping
from kokoro_common.wire.server import Inbox
from tests.helpers.threads import refuse_threads

SECONDS = 10  # for what takes none


class FakePeer:
    """In place of wire.server.Peer: what is posted waits here."""

    def __init__(self, connection: Any, role: str, inbox: Inbox, log: object) -> None:
        self.pid = connection.pid
        self.unsent = 0
        self.posted: list[Message] = []
        self.dropped = False
        self.served = threading.Event()

    def post(self, message: Message, payload: bytes = b"") -> None:
        self.posted.append(message)

    def drop(self) -> None:
        self.dropped = True

    def serve(self) -> None:
        self.served.set()


class FakeConnection:
    pid = 4711

    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


class FakePulse:
    """A model server hangs when the test says so."""

    hang = False

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.answers = 0

    def answered(self) -> None:
        self.answers += 1

    def hangs(self) -> bool:
        return FakePulse.hang


class FakeTime:
    """A clock that moves by what is slept."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)


class Surroundings:
    """What a link finds: answers of starter.connect in order, then None; and how often a start was asked for."""

    def __init__(self) -> None:
        self.inbox = Inbox()
        self.time = FakeTime()
        self.answers: list[FakeConnection | KokoroError | None] = []
        self.start: Callable[[], FakeConnection] = FakeConnection
        self.starts = 0
        self.on_connect: Callable[[], None] = lambda: None
        self.link = Link(Settings(), cast(Any, None), self.inbox)

    def connect(self, *_: object) -> FakeConnection | None:
        self.on_connect()
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, KokoroError):
            raise answer
        return answer

    def ensure(self, *_: object) -> FakeConnection:
        self.starts += 1
        return self.start()

    def found(self) -> Record:
        """What comes of a search."""
        return self.inbox.get(timeout=SECONDS).message

    def adopted(self) -> FakePeer:
        self.link.adopt(cast(Any, FakeConnection()))
        peer = cast(FakePeer, self.link.peer)
        assert peer.served.wait(SECONDS)
        return peer


@pytest.fixture
def surroundings(monkeypatch: pytest.MonkeyPatch) -> Surroundings:
    surroundings = Surroundings()
    monkeypatch.setattr(FakePulse, "hang", False)
    monkeypatch.setattr(link_module, "Peer", FakePeer)
    monkeypatch.setattr(link_module.process, "Pulse", FakePulse)
    monkeypatch.setattr(link_module, "time", surroundings.time)
    monkeypatch.setattr(link_module.starter, "connect", surroundings.connect)
    monkeypatch.setattr(link_module, "ensure_model_server", surroundings.ensure)
    monkeypatch.setattr(link_module, "FIRST_PAUSE", 0.0)
    monkeypatch.setattr(link_module, "LAST_PAUSE", 0.0)
    return surroundings


# --- what is posted --------------------------------------------------------------------------------------------------


def test_what_is_posted_goes_through_the_connection_or_nowhere(surroundings: Surroundings) -> None:
    surroundings.link.post(ModelWanted())  # dropped: Register says it all again
    peer = surroundings.adopted()
    surroundings.link.post(ModelWanted())
    assert peer.posted == [ModelWanted()]


def test_log_lines_wait_when_nobody_can_take_them(surroundings: Surroundings) -> None:
    assert not surroundings.link.forward("{}")
    peer = surroundings.adopted()
    assert surroundings.link.forward("{}") and peer.posted == [LogLine(line="{}")]
    peer.unsent = MAX_UNSENT_BYTES + 1
    assert not surroundings.link.forward("{}") and len(peer.posted) == 1


# --- the watch -------------------------------------------------------------------------------------------------------


def test_a_model_server_that_owes_something_is_pinged_once_a_second(surroundings: Surroundings) -> None:
    surroundings.link.watch(0.0)  # nothing while there is none
    peer = surroundings.adopted()
    for now in (100.0, 100.5, 100.0 + PING_SECONDS):
        surroundings.link.watch(now)
    assert peer.posted == [Ping(), Ping()]


def test_a_model_server_that_hangs_is_dropped(surroundings: Surroundings) -> None:
    peer = surroundings.adopted()
    FakePulse.hang = True
    surroundings.link.watch(100.0)
    assert peer.dropped and peer.posted == []


def test_word_from_the_model_server_is_a_sign_of_life(surroundings: Surroundings) -> None:
    surroundings.adopted()
    surroundings.link.heard()
    pulse = cast(FakePulse, surroundings.link._pulse)
    assert (pulse.pid, pulse.answers) == (4711, 1)


# --- the search ------------------------------------------------------------------------------------------------------


def test_a_model_server_that_runs_is_found(surroundings: Surroundings) -> None:
    connection = FakeConnection()
    surroundings.answers = [None, connection]
    surroundings.link.seek()
    assert surroundings.found() == Linked(connection=cast(Any, connection))
    assert surroundings.starts == 0 and surroundings.link.peer is None and not connection.closed


def test_one_that_is_needed_is_started(surroundings: Surroundings) -> None:
    started = FakeConnection()

    def start() -> FakeConnection:
        surroundings.answers.append(FakeConnection())
        return started

    surroundings.start = start
    surroundings.link.need()
    surroundings.link.seek()
    assert isinstance(surroundings.found(), Linked)
    assert surroundings.starts == 1 and started.closed  # a voice server introduces itself in another way


def test_one_that_somebody_needs_meanwhile_is_started(surroundings: Surroundings) -> None:
    surroundings.on_connect = surroundings.link.need

    def start() -> FakeConnection:
        surroundings.answers.append(FakeConnection())
        return FakeConnection()

    surroundings.start = start
    surroundings.link.seek()
    assert isinstance(surroundings.found(), Linked) and surroundings.starts == 1


def test_one_that_nobody_needs_is_not_looked_for_for_ever(surroundings: Surroundings) -> None:
    def later() -> None:
        surroundings.time.now += SEEK_SECONDS / 4

    surroundings.on_connect = later
    surroundings.link.seek()
    event = surroundings.found()
    assert isinstance(event, LinkFailed) and "the model server has ended" in str(event.error)
    assert surroundings.starts == 0


def test_one_that_cannot_be_started_is_reported_with_the_reason(surroundings: Surroundings) -> None:
    def fail() -> FakeConnection:
        raise ServersUnreachable("it dies", "see its log")

    surroundings.start = fail
    surroundings.link.need()
    surroundings.link.seek()
    event = surroundings.found()
    assert isinstance(event, LinkFailed) and str(event.error) == "it dies; see its log"


def test_who_has_a_connection_needs_none(surroundings: Surroundings) -> None:
    surroundings.adopted()
    surroundings.link.need()
    surroundings.answers = [None, FakeConnection()]
    surroundings.link.seek()
    assert isinstance(surroundings.found(), Linked) and surroundings.starts == 0


def test_a_need_is_met_by_the_connection_that_is_found(surroundings: Surroundings) -> None:
    surroundings.link.need()
    surroundings.adopted()
    surroundings.answers = [None, FakeConnection()]
    surroundings.link.seek()  # it was lost again, and nobody has said that it is needed
    assert isinstance(surroundings.found(), Linked) and surroundings.starts == 0


def test_a_busy_model_server_is_given_the_time_it_asks_for(surroundings: Surroundings) -> None:
    surroundings.answers = [ServersBusy(0.5), ServersBusy(2.0), FakeConnection()]
    surroundings.link.need()
    surroundings.link.seek()
    assert isinstance(surroundings.found(), Linked) and surroundings.starts == 0
    first, second = surroundings.time.slept
    assert first >= 0.5 and second >= 2.0


@pytest.mark.parametrize("needed", [False, True])
def test_a_search_for_which_there_is_no_descriptor_is_reported(surroundings: Surroundings, needed: bool) -> None:
    def fail() -> Any:
        raise OSError("no descriptor")

    if needed:
        surroundings.link.need()
        surroundings.start = fail
    else:
        surroundings.on_connect = fail
    surroundings.link.seek()
    event = surroundings.found()
    assert isinstance(event, LinkFailed) and "no descriptor" in str(event.error)


def test_a_search_for_which_there_is_no_thread_is_reported(
    surroundings: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    surroundings.adopted()
    refuse_threads(monkeypatch, "seek")
    surroundings.link.seek()
    event = surroundings.found()
    assert isinstance(event, LinkFailed) and "no thread" in str(event.error)
    assert surroundings.link.peer is None


def test_a_connection_that_no_thread_could_read_is_none(
    surroundings: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_threads(monkeypatch, "link")
    connection = FakeConnection()
    surroundings.link.adopt(cast(Any, connection))
    event = surroundings.found()
    assert isinstance(event, LinkFailed) and "no thread" in str(event.error)
    assert connection.closed and surroundings.link.peer is None
    surroundings.link.post(ModelWanted())
