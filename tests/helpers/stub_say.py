"""say.py whose servers, when it has to start them, are those of the stub engine.

A test may stop it (stage.py) at: C1 a server spawned and not yet ready, C2 a server called and not yet proven,
C3 all text sent, C4 the first audio on its way to the ear, or here.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

import say
from kokoro_common.client import conversation
from kokoro_common.daemon import model_server, starter
from kokoro_common.wire.connection import Connection
from kokoro_common.wire.messages import AudioChunk, EndOfText, Hello, Message, Started
from tests.helpers.stage import reached

model_server.MODEL_PROGRAM = str(Path(__file__).parent / "stub_model_server.py")


class StagedConversation(conversation.Conversation):
    def _event(self, message: Message, payload: bytes) -> conversation.Event | None:
        if isinstance(message, AudioChunk if self._takes_audio else Started):
            reached("C4")
        return super()._event(message, payload)


def await_ready(program: starter.Program, ready: int) -> None:
    reached("C1")
    await_ready_of_starter(program, ready)


def send(connection: Connection, message: Message, payload: bytes = b"") -> None:
    send_of_connection(connection, message, payload)
    if isinstance(message, Hello):
        reached("C2")
    if isinstance(message, EndOfText):
        reached("C3")


if __name__ == "__main__":
    conversation.Conversation = StagedConversation  # type: ignore[misc]
    await_ready_of_starter, starter._await_ready = starter._await_ready, await_ready
    send_of_connection, Connection.send = Connection.send, send  # type: ignore[method-assign]
    sys.argv[0] = say.__file__  # the name in its messages
    say.command()
