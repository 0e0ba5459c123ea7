"""A server's side of the wire: a Switchboard takes callers, each becomes a Peer, and one Inbox has what they say.

Each peer has a reader thread, which puts everything into the server's inbox, and a writer thread, which is the only one
that writes to its socket, from a bounded outbox.
"""

from __future__ import annotations

import math
import os
import queue
import select
import socket
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from kokoro_common.errors import ServersUnreachable
from kokoro_common.record import Record
from kokoro_common.wire.callers import Callers
from kokoro_common.wire.codec import encode
from kokoro_common.wire.connection import Caller, Connection, ConnectionLost, milliseconds_until
from kokoro_common.wire.messages import Message, ProtocolError, Welcome
from kokoro_common.wire.port import called, listening

if TYPE_CHECKING:
    import logging

OUTBOX_BYTES = {  # by the peer's role: one that is so far behind is dropped
    "client": 8 << 20,  # gets audio by credit, so it is never this far behind unless it lies
    "model": 8 << 20,
    "voice": 256 << 20,  # two text chunks of digits, spoken slowly, are 20 minutes of audio
}
OFFERED_BYTES = 64 << 10  # in the outbox; beyond it a peer is not told what it will be told again
INBOX_SHARE = 16  # messages of one peer in the inbox; what is behind them waits in its socket
MAX_CONNECTIONS = 1024  # that have proved themselves
MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.01, 1.0  # before accept() is tried again when it fails
NOTE_SECONDS = 60.0  # between two log lines about callers turned away: strangers must not fill the log
LINGER_SECONDS = 3.0  # for a peer to take what was sent before its connection was closed, and to close it itself


class PeerGone(Record):
    """A peer's connection has ended. The last that the inbox has of it."""


class Delivery(NamedTuple):
    """What a server is told."""

    peer: Peer | None  # None: one of the server's own threads says it
    message: Record
    payload: bytes = b""  # only an AudioChunk has one


class Inbox:
    """What a server is told: by its peers, each of which has a share of it, and by its own threads.

    Who sends faster than the server handles is not read meanwhile, so memory is bounded and others come in between.
    """

    def __init__(self) -> None:
        self._deliveries: queue.SimpleQueue[Delivery] = queue.SimpleQueue()

    def put(self, delivery: Delivery) -> None:
        """Never blocks, from any thread."""
        self._deliveries.put(delivery)

    def report(self, event: Record) -> None:
        """An event of one of the server's own threads. Never blocks."""
        self._deliveries.put(Delivery(None, event))

    def get(self, timeout: float | None = None) -> Delivery:
        """Blocks; raises queue.Empty when nothing came in time."""
        delivery = self._deliveries.get(timeout=timeout)
        if delivery.peer is not None:
            delivery.peer.taken()
        return delivery

    def empty(self) -> bool:
        return self._deliveries.empty()


class Peer:
    """One connection of a server: what arrives goes into the inbox, what is posted into a bounded outbox.

    The inbox gets a Delivery a message, and PeerGone after the last one.
    """

    def __init__(self, connection: Connection, role: str, inbox: Inbox, log: logging.Logger) -> None:
        self.role = role
        self.pid = connection.pid
        self.version = connection.version  # of the peer's product
        self._connection = connection
        self._inbox = inbox
        self._log = log
        self._outbox: queue.SimpleQueue[bytes | threading.Event | None] = queue.SimpleQueue()
        self._share = threading.Semaphore(INBOX_SHARE)
        self.unsent = 0  # bytes in the outbox
        self._closing = False  # what it says is not heard any more
        self._read = threading.Event()  # it has said its last
        self._lock = threading.Lock()
        self._writer = threading.Thread(target=self._write, name=f"{role}-writer", daemon=True)
        self.ended = threading.Event()

    def post(self, message: Message, payload: bytes = b"", written: threading.Event | None = None) -> None:
        """Queues a message. Never blocks, from any thread. A peer too far behind is dropped, a closed one ignored.

        `written` is set when the kernel has the message: it arrives though we should die.
        """
        frame = encode(message, payload)
        with self._lock:
            self.unsent += len(frame)
            overflow = self.unsent > OUTBOX_BYTES[self.role]
        if overflow:
            self._log.warning("peer dropped: it does not read", extra={"role": self.role})
            self._connection.close()
        else:
            self._outbox.put(frame)
            if written is not None:
                self._outbox.put(written)

    def offer(self, message: Message) -> bool:
        """Queues a message that the next one of its kind replaces, unless the peer is behind. Whether it did.

        Never blocks, from any thread. So a client that rests does not run into the limit of its connection.
        """
        behind = self.unsent > OFFERED_BYTES or not self._connection.has_room
        if not behind:
            self.post(message)
        return not behind

    def taken(self) -> None:
        """The inbox has given out one of this peer's messages."""
        self._share.release()

    @property
    def delivered(self) -> bool:
        """Whether all that was posted is with the peer, as far as its kernel, or never will be."""
        return self.ended.is_set() or not (self.unsent or self._connection.unacknowledged)

    def close(self) -> None:
        """Ends the connection when what was posted before has arrived. Does not block; `ended` tells when.

        The peer is heard out for LINGER_SECONDS: if it has sent what we have not read, closing is a reset, which takes
        what is on its way to it.
        """
        self._closing = True
        self._outbox.put(None)

    def drop(self) -> None:
        """Ends the connection now, whatever was posted. Idempotent, does not block."""
        self._connection.close()

    def serve(self) -> None:
        """Reads until the connection ends. Blocks: the calling thread is the reader; the writer is started here."""
        try:
            self._start_writer()
            while True:
                message, payload = self._connection.receive()
                if self._closing:
                    continue
                self._share.acquire()
                self._inbox.put(Delivery(self, message, payload))
        except (ConnectionLost, ProtocolError, TimeoutError) as error:
            self._log.info("connection ended", extra={"role": self.role, "reason": str(error)})
        finally:
            self._read.set()
            self._connection.close()
            self.close()
            if self._writer.is_alive():
                self._writer.join()
            self._inbox.put(Delivery(self, PeerGone()))
            self.ended.set()

    def _start_writer(self) -> None:
        try:
            self._writer.start()
        except RuntimeError as error:
            raise ConnectionLost(f"no thread to write: {error}") from error

    def _write(self) -> None:
        try:
            while (item := self._outbox.get()) is not None:
                if not isinstance(item, bytes):
                    item.set()
                    continue
                self._connection.send_frame(item)
                with self._lock:
                    self.unsent -= len(item)
            self._connection.end_sending()
            self._read.wait(LINGER_SECONDS)
        except ConnectionLost as error:
            self._log.info("cannot write", extra={"role": self.role, "reason": str(error)})
        finally:
            self._connection.close()


class Switchboard:
    """Listens on loopback and turns every caller that proves itself into a Peer of the one inbox.

    The thread `accept` takes callers and hears them until they have proved themselves (callers.py); each has a thread
    from then on.
    """

    def __init__(
        self,
        role: str,
        preferred_port: int,
        inbox: Inbox,
        log: logging.Logger,
    ) -> None:
        """`preferred_port`: the first that is tried; 0: any free one."""
        self._token = b""
        self._role = role
        self._inbox = inbox
        self._log = log
        self._preferred_port = preferred_port
        self._own_call: tuple[str, int] | None = None  # the address of the one call that comes from start()
        self.port = 0  # until start()
        self._proven = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._closing = threading.Event()
        self._pause = 0.0  # seconds, while accept() fails
        self._notes: dict[str, tuple[float, int]] = {}  # by event: when it was logged, and how many since
        self._thread = threading.Thread(target=self._accept, name="accept", daemon=True)

    def start(self, token: bytes, inherited: int | None = None) -> None:
        """Binds, listens and answers callers that prove they hold the token.

        `inherited`: a socket on which callers wait already, as an earlier program of this process left it; so it can be
        called. Raises ServersUnreachable if no port is free, or nobody can call it.
        """
        self._token = token
        if inherited is not None:
            self._socket = socket.socket(fileno=inherited)
        else:
            self._socket = listening(self._preferred_port)
            try:
                self._own_call = called(self._socket)
            except ServersUnreachable:
                self._socket.close()
                raise
        self.port = self._socket.getsockname()[1]
        self._wake, self._waker = socket.socketpair()
        self._thread.start()

    def hand_on(self) -> int:
        """The listening socket, for the next program of this process. From now on callers wait for that. Idempotent."""
        self._closing.set()
        self._waker.close()
        self._thread.join()
        self._socket.set_inheritable(True)
        return self._socket.fileno()

    def _accept(self) -> None:
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        callers = Callers(
            poller, lambda sock: Caller(sock, self._token, self._role, self.port), self._welcome, self._note
        )
        resume_at = 0.0  # when accept() is tried again; 0: it is listened for
        poller.register(self._socket, select.POLLIN)
        listener = self._socket.fileno()
        while not self._closing.is_set():
            ready = [fd for fd, _ in poller.poll(milliseconds_until(min(resume_at or math.inf, callers.deadline)))]
            for fd in ready:  # before somebody else gets their place
                callers.hear(fd)
            if listener in ready and self._take(callers):
                poller.unregister(listener)  # it stays readable
                resume_at = time.monotonic() + self._pause
            callers.close_overdue()
            if 0 < resume_at <= time.monotonic() and not self._closing.is_set():
                poller.register(listener, select.POLLIN)
                resume_at = 0.0
        callers.close()

    def _take(self, callers: Callers) -> bool:
        """Accepts one caller. True: accept() fails, let it be for `_pause` seconds."""
        try:
            sock, address = self._socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return False  # it has gone again
        except OSError as error:  # out of descriptors: somebody has to close one first
            self._pause = min(max(2 * self._pause, MIN_PAUSE_SECONDS), MAX_PAUSE_SECONDS)
            if not self._closing.is_set():
                self._note("cannot accept callers", str(error))
            return True
        self._pause = 0.0
        if address == self._own_call:
            self._own_call = None  # from now on it is somebody else's
            sock.close()
            return False
        callers.add(sock)
        return False

    def _note(self, event: str, reason: str) -> None:
        """Logs it, with how many there were since the last line; the first at once, then one a minute."""
        logged, more = self._notes.get(event, (-math.inf, 0))
        due = time.monotonic() >= logged + NOTE_SECONDS
        self._notes[event] = (time.monotonic(), 0) if due else (logged, more + 1)
        if due:
            self._log.warning(event, extra={"reason": reason, "count": more + 1})

    def _welcome(self, caller: Caller) -> bool:
        """Makes a peer of who has proved itself, with a thread that reads. False: there is no place among them."""
        if not self._proven.acquire(blocking=False):
            return False
        try:
            threading.Thread(target=self._serve, args=(caller,), name="reader", daemon=True).start()
        except RuntimeError as error:  # no more threads
            self._note("cannot accept callers", str(error))
            self._proven.release()
            return False
        return True

    def _serve(self, caller: Caller) -> None:
        """The thread of one caller that has proved itself, to its last byte."""
        try:
            connection, role = caller.connection, caller.role
            self._log.info("connection", extra={"role": role, "version": connection.version})
            peer = Peer(connection, role, self._inbox, self._log)
            peer.post(Welcome(pid=os.getpid()))
            peer.serve()
        finally:
            self._proven.release()

    def close(self) -> None:
        """Stops accepting. Connections that exist go on. Idempotent."""
        self._closing.set()
        if not self.port:
            return
        self._waker.close()
        if self._thread.is_alive():
            self._thread.join()
        self._wake.close()
        self._socket.close()
