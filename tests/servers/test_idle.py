"""When a server may take itself for idle: not before it was called, and not while somebody waits for a download."""

from __future__ import annotations

from typing import Any, cast

from kokoro_common.settings import Settings
from kokoro_common.synthesis.loader import DownloadEnded
from kokoro_common.wire.messages import Download
from kokoro_common.wire.server import Delivery, Peer
from tests.helpers.small_world import Life, Runtime, WorldModelServer

SETTINGS = Settings(
    runtime_dir="/nowhere", cache_dir="/nowhere", log_dir="/nowhere", config_dir="/nowhere", keep_alive=0.0
)


class Asker(Peer):
    """A client's connection, as the model server sees it."""

    delivered = True

    def __init__(self) -> None:
        self.role, self.version = "client", "0.1.0"
        self.told: list[object] = []

    def post(self, message: object, *_: object, **__: object) -> None:
        self.told.append(message)

    def close(self) -> None:
        pass


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def server_of(clock: Clock) -> WorldModelServer:
    return WorldModelServer(SETTINGS, cast(Any, Runtime()), cast(Any, Life()), clock=clock)


def ticks(server: WorldModelServer, clock: Clock, seconds: int) -> bool:
    """Whether it leaves within that time."""
    for _ in range(seconds):
        clock.now += 1.0
        server.tick(clock.now)
    return bool(server._leave_by)


def test_a_server_with_no_time_to_be_idle_waits_for_its_first_caller() -> None:
    clock = Clock()
    server = server_of(clock)
    assert not ticks(server, clock, 9), "whoever has started it could not reach it"
    assert ticks(server, clock, 3), "nobody has called"


def test_a_download_is_not_cut_by_the_end_of_an_idle_server() -> None:
    clock = Clock()
    server, asker = server_of(clock), Asker()
    server.dispatch(Delivery(asker, Download(voices=())))
    assert not ticks(server, clock, 1_000), "somebody waits for it"
    server.dispatch(Delivery(None, DownloadEnded(asker=asker, files=2)))
    assert len(asker.told) == 1
    assert ticks(server, clock, 2)


def test_nobody_waits_for_the_download_of_a_client_that_has_gone() -> None:
    clock = Clock()
    server, asker = server_of(clock), Asker()
    server.dispatch(Delivery(asker, Download(voices=())))
    server._peer_gone(asker)
    assert ticks(server, clock, 2)
