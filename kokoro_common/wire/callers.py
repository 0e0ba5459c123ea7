"""Callers of a server that have yet to prove themselves, or were turned away: strangers, for all that is known.

Any user of the machine can connect. So they cost a place each and no thread, none is waited for, and when all places
are taken the oldest goes: who holds the token needs its place for milliseconds, a stranger would keep it. For the
thread `accept` alone.
"""

from __future__ import annotations

import logging
import math
import select
import socket
import time
from typing import TYPE_CHECKING

from kokoro_common.wire.codec import encode
from kokoro_common.wire.connection import HANDSHAKE_SECONDS, Caller, ConnectionLost
from kokoro_common.wire.messages import Denied, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_UNPROVEN = 256  # at once, and each for HANDSHAKE_SECONDS
MAX_TURNED_AWAY = 256  # that have been told so and have not closed yet
TURNED_AWAY_SECONDS = 2.0  # for a caller to hear it
RETRY_SECONDS = 0.5  # after which a caller may try again: a handshake takes 2 s at most, and mostly 2 ms
SPARE_DESCRIPTORS = 16  # kept free of connections: for the record, the logs, and servers to be started
BUSY = Denied(text="busy: too many callers", retry_after=RETRY_SECONDS)

log = logging.getLogger("kokoro")


class Callers:
    """Hears callers until each has proved itself, is overdue, or has to give way to a later one."""

    def __init__(
        self,
        poller: select.poll,
        greet: Callable[[socket.socket], Caller],
        proven: Callable[[Caller], bool],
        note: Callable[[str, str], None],
    ) -> None:
        """`greet` makes the server's side of a handshake. `proven` takes over who has proved itself, or has no place
        for it. `note` logs an event with its reason, within limits."""
        self._poller = poller
        self._greet = greet
        self._proven = proven
        self._note = note
        # By descriptor, the oldest first, each with its deadline.
        self._unproven: dict[int, tuple[socket.socket, float, Caller]] = {}
        self._turned_away: dict[int, tuple[socket.socket, float]] = {}

    @property
    def deadline(self) -> float:
        """time.monotonic() at which `close_overdue` has something to do."""
        unproven = next((deadline for _, deadline, _ in self._unproven.values()), math.inf)
        return min(unproven, next((deadline for _, deadline in self._turned_away.values()), math.inf))

    def add(self, sock: socket.socket) -> None:
        """Takes a caller, in the place of the oldest one if there is none for it."""
        if descriptors_are_short(sock):
            sock = self._moved_down(sock)
        elif len(self._unproven) >= MAX_UNPROVEN and (oldest := self._oldest()) is not None:
            self._turn_away(self._release(oldest), MAX_TURNED_AWAY)
        short = descriptors_are_short(sock)
        if short or len(self._unproven) >= MAX_UNPROVEN:
            self._turn_away(sock, SPARE_DESCRIPTORS // 2 if short else MAX_TURNED_AWAY)
            return
        try:
            caller = self._greet(sock)
        except OSError as error:  # macOS takes no option for one that has been reset meanwhile
            self._note("caller not proven", str(error))
            sock.close()
            return
        self._unproven[sock.fileno()] = sock, time.monotonic() + HANDSHAKE_SECONDS, caller
        self._poller.register(sock, select.POLLIN)

    def _moved_down(self, sock: socket.socket) -> socket.socket:
        """The same connection with the descriptor of one that goes, which is told so but not waited for."""
        if self._turned_away:
            self._close_turned_away(next(iter(self._turned_away)))
        elif (oldest := self._oldest()) is not None:
            self._turn_away(self._release(oldest), 1)
            self._close_turned_away(oldest)
        try:
            moved = sock.dup()
        except OSError:
            return sock  # there is none: it is turned away
        sock.close()
        return moved

    def _oldest(self) -> int | None:
        """Who has to give way: the oldest one, unless its proof has come by now."""
        oldest = next(iter(self._unproven), None)
        if oldest is not None:
            self.hear(oldest)
        return oldest if oldest in self._unproven else None

    def hear(self, fd: int) -> None:
        """Takes what has come from one of them, if it is one of them."""
        if fd in self._turned_away:
            self._hear_turned_away(fd)
            return
        if fd not in self._unproven:
            return
        sock, _, caller = self._unproven[fd]
        try:
            if not caller.hear():
                return
        except (ConnectionLost, ProtocolError, OSError) as error:
            self._note("caller not proven", str(error))
            self._release(fd).close()
        except Exception:  # the thread has to go on, whatever a stranger found
            log.exception("a handshake failed")
            self._release(fd).close()
        else:
            self._release(fd)
            if not self._proven(caller):
                self._turn_away(sock, MAX_TURNED_AWAY)

    def _release(self, fd: int) -> socket.socket:
        self._poller.unregister(fd)
        return self._unproven.pop(fd)[0]

    def close_overdue(self) -> None:
        now = time.monotonic()
        for fd in [fd for fd, (_, deadline, _) in self._unproven.items() if deadline <= now]:
            self._note("caller not proven", "nothing came in time")
            self._release(fd).close()
        for fd in [fd for fd, (_, deadline) in self._turned_away.items() if deadline <= now]:
            self._close_turned_away(fd)

    def close(self) -> None:
        while self._unproven:
            self._release(next(iter(self._unproven))).close()
        while self._turned_away:
            self._close_turned_away(next(iter(self._turned_away)))

    # --- turned away -------------------------------------------------------------------------------------------------

    def _turn_away(self, sock: socket.socket, most: int) -> None:
        """Says so, and closes it when it has closed. At once, with its Hello unread, the kernel would send a reset, and
        it might never read the answer. `most`: so many are waited for."""
        self._note("caller turned away", "busy")
        try:
            sock.send(encode(BUSY), socket.MSG_DONTWAIT)
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            sock.close()
            return
        while len(self._turned_away) >= most:
            self._close_turned_away(next(iter(self._turned_away)))
        self._turned_away[sock.fileno()] = sock, time.monotonic() + TURNED_AWAY_SECONDS
        self._poller.register(sock, select.POLLIN)

    def _hear_turned_away(self, fd: int) -> None:
        try:
            if self._turned_away[fd][0].recv(4096, socket.MSG_DONTWAIT):
                return
        except BlockingIOError:
            return
        except OSError:
            pass  # a reset is an end as well
        self._close_turned_away(fd)

    def _close_turned_away(self, fd: int) -> None:
        if fd in self._turned_away:
            self._poller.unregister(fd)
            self._turned_away.pop(fd)[0].close()


def _descriptors() -> int:
    """How many this process may have; somebody may change it while it runs."""
    import resource  # servers only

    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def descriptors_are_short(sock: socket.socket) -> bool:
    """Its number tells, as the kernel gives the lowest that is free."""
    return sock.fileno() >= _descriptors() - SPARE_DESCRIPTORS
