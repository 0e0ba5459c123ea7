"""What a turn knows of the world, in a test: a client and speakers that only note what they are told."""

from __future__ import annotations

import threading
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from kokoro_common.wire.messages import Cancelled, Failed, Finished, Message

M = TypeVar("M", bound=Message)

LAST = (Finished, Cancelled, Failed)


def of_kind(messages: list[Message], kind: type[M]) -> list[M]:
    return [message for message in messages if isinstance(message, kind)]


class FakeClient:
    """A client that reads everything, or nothing while it is `behind`."""

    def __init__(self, order: list[str] | None = None) -> None:
        self.told: list[Message] = []
        self.audio: list[bytes] = []  # payloads, in order
        self.written: list[threading.Event] = []  # to be set when the message before is on its way
        self.behind = False
        self._order = order if order is not None else []  # what happened, over several fakes

    def post(self, message: Message, payload: bytes = b"", written: threading.Event | None = None) -> None:
        self._order.append(f"told {type(message).__name__}")
        self.told.append(message)
        if payload:
            self.audio.append(payload)
        if written is not None:
            self.written.append(written)

    def offer(self, message: Message) -> bool:
        if not self.behind:
            self.post(message)
        return not self.behind

    def got(self, kind: type[M]) -> list[M]:
        return of_kind(self.told, kind)

    @property
    def last(self) -> list[Message]:
        return [message for message in self.told if isinstance(message, LAST)]


class FakeSpeakers:
    """Speakers of which a test says what they have played."""

    def __init__(self, order: list[str] | None = None) -> None:
        self.commands: list[str] = []
        self.fed: list[NDArray[np.float32]] = []
        self.heard = 0
        self.underflows = 0
        self.paused = False
        self.busy_since: float | None = None
        self._order = order if order is not None else []

    def _note(self, command: str) -> None:
        self.commands.append(command)
        self._order.append(command)

    def speak(self, utterance: str, device: str, environment: tuple[str, ...] | None = None) -> None:
        self._note(f"speak on {device!r}" if device else "speak")

    def silence(self, utterance: str) -> None:
        self._note("silence")

    def feed(self, samples: NDArray[np.float32]) -> None:
        self.fed.append(samples)

    def finish(self) -> None:
        if "finish" not in self.commands:
            self._note("finish")

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def let_go(self) -> None:
        self._note("let go")

    def close(self) -> None:
        self._note("close")

    def join(self, seconds: float) -> None:
        pass
