"""Questions to all servers, where some cannot be asked; and a model server that is lost in the midst of an answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from kokoro_common.client import client as client_module
from kokoro_common.client.client import Client
from kokoro_common.errors import ServersBusy, ServersUnreachable
from kokoro_common.settings import Settings
from kokoro_common.wire.connection import ConnectionLost
from kokoro_common.wire.messages import Message, Pause, ProtocolError, StatusRequest, Unloaded


class Silent:
    """A connection that is lost, or broken, when something is received."""

    def __init__(self, error: Exception, *answers: Message) -> None:
        self.error = error
        self.answers = list(answers)
        self.closed = 0

    def send(self, message: Message) -> None:
        pass

    def receive(self, seconds: float | None = None) -> tuple[Message, bytes]:
        if self.answers:
            return self.answers.pop(0), b""
        raise self.error

    def fileno(self) -> int:
        return -1

    has_message = True

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(Settings(runtime_dir=str(tmp_path / "runtime"), config_dir=str(tmp_path)))


@pytest.mark.parametrize("error", [ServersUnreachable("the disk is read-only", "make room"), ServersBusy(1.0)])
def test_a_server_of_which_nothing_can_be_found_out_is_no_traceback(
    client: Client, tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> Any:
        raise error

    (tmp_path / "runtime" / "voice-af_heart.json").write_text(json.dumps({"pid": 1, "port": 1}))
    monkeypatch.setattr(client_module.starter, "connect", fail)
    assert client._ask_all(StatusRequest(), ["model", "voice-af_heart"]) == ({}, [])
    assert client.control(Pause()) == 0
    monkeypatch.setattr(client_module.starter, "serves", lambda *_: True)
    with pytest.raises(ServersUnreachable, match="af_heart"):
        client.control(Pause())


@pytest.mark.parametrize("error", [ConnectionLost("it died"), ProtocolError("nonsense")])
@pytest.mark.parametrize("verb", [lambda client: list(client.download([])), lambda client: client.unload()])
@pytest.mark.parametrize("answers", [(), (Unloaded(rss_bytes=1_000),)], ids=["at once", "later"])
def test_a_model_server_that_is_lost_is_one_error_and_its_connection_closed(
    client: Client,
    error: Exception,
    verb: Callable[[Client], object],
    answers: tuple[Message, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connections = [Silent(error, *answers), Silent(error)]
    asked = iter(connections)
    monkeypatch.setattr(client_module.starter, "connect", lambda *_, **__: next(asked))
    monkeypatch.setattr(client_module, "Watched", lambda model: model)
    with pytest.raises(ServersUnreachable, match="the model server was lost") as raised:
        verb(client)
    assert raised.value.__cause__ is error
    used = connections[: 2 if answers and connections[1].closed else 1]
    assert [connection.closed for connection in used] == [1] * len(used)


def test_a_download_that_is_left_closes_its_connection(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from kokoro_common.wire.messages import ServerState

    connection = Silent(ConnectionLost("it died"), ServerState(state="downloading"))
    monkeypatch.setattr(client_module.starter, "connect", lambda *_, **__: cast(Any, connection))
    monkeypatch.setattr(client_module, "Watched", lambda model: model)
    for _ in (progress := client.download([])):
        break
    progress.close()  # type: ignore[attr-defined]
    assert connection.closed == 1
