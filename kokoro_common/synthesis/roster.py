"""The voice servers: those that are being started, those that have registered, and the clients that wait for one.

Generic over the connections. No I/O, no clock: the time is passed in. One thread.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Generic, TypeVar

from kokoro_common.wire.messages import ProtocolError, Register

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

P = TypeVar("P", bound="Hashable")  # a connection, of a client or of a voice server

REGISTER_SECONDS = 15.0  # for a voice server that runs; how long its start may take, daemon.starter knows


class RosterEntry(Generic[P]):
    """One voice server, from the first request for it until its connection ends."""

    def __init__(self, name: str, now: float) -> None:
        self.name = name
        self.peer: P | None = None  # once it has registered
        self.port = 0
        self.pid = 0
        self.instance = ""  # tells it from its successor
        self.waiting: list[P] = []  # clients that asked for it before
        self.deadline = math.inf  # seconds, by which it has to register
        self.last_used = now


class Roster(Generic[P]):
    """Voice servers by name."""

    def __init__(self) -> None:
        self._voices: dict[str, RosterEntry[P]] = {}

    def __iter__(self) -> Iterator[RosterEntry[P]]:
        """Over a copy: a voice server may leave while one goes through them."""
        return iter(list(self._voices.values()))

    def __len__(self) -> int:
        return len(self._voices)

    def get(self, name: str) -> RosterEntry[P] | None:
        return self._voices.get(name)

    @property
    def registered(self) -> list[RosterEntry[P]]:
        return [voice for voice in self._voices.values() if voice.peer is not None]

    def of(self, peer: P) -> RosterEntry[P]:
        """The voice server at the other end. Raises ProtocolError before it has registered."""
        for voice in self._voices.values():
            if voice.peer is peer:
                return voice
        raise ProtocolError("a voice server must register first")

    def expect(self, name: str, client: P, now: float) -> bool:
        """A client waits for the voice server of that name, which has not registered. True: start it."""
        new = name not in self._voices
        voice = self._voices.setdefault(name, RosterEntry(name, now))
        voice.waiting.append(client)
        return new

    def started(self, name: str, now: float) -> None:
        """It listens, so it will register soon."""
        if voice := self._voices.get(name):
            voice.deadline = now + REGISTER_SECONDS

    def give_up(self, name: str) -> list[P]:
        """It will not come. Returns the clients that have waited for it; none if it has registered."""
        voice = self._voices.get(name)
        if voice is None or voice.peer is not None:
            return []
        del self._voices[name]
        return voice.waiting

    def overdue(self, now: float) -> list[str]:
        return [voice.name for voice in self._voices.values() if voice.peer is None and now > voice.deadline]

    def register(self, peer: P, message: Register, now: float) -> list[P]:
        """Returns the clients that have waited for it. Raises ProtocolError if another one has the name."""
        voice = self._voices.setdefault(message.voice, RosterEntry(message.voice, now))
        if voice.peer is not None:
            raise ProtocolError(f"{message.voice} has registered already")
        voice.peer, voice.port, voice.pid, voice.instance = peer, message.port, message.pid, message.instance
        waiting, voice.waiting = voice.waiting, []
        return waiting

    def leave(self, peer: P) -> list[RosterEntry[P]]:
        """A connection has ended, a client's or a voice server's. Returns the voice servers that are gone with it."""
        gone = [voice for voice in self._voices.values() if voice.peer is peer]
        for voice in self._voices.values():
            voice.waiting = [client for client in voice.waiting if client is not peer]
        for voice in gone:
            del self._voices[voice.name]
        return gone
