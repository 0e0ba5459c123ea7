"""A socket that sends and receives messages: handshake, blocking receive, bounded outbox with a writer thread.

The client uses `call()` and a bare Connection. A server uses a Switchboard: a Peer per connection, whose reader thread
puts everything into the server's one inbox and whose writer thread is the only one that writes to the socket.
"""

from __future__ import annotations

import hmac
import math
import os
import select
import socket
import struct
import time

from kokoro_common import __version__
from kokoro_common.errors import ServersUnreachable
from kokoro_common.wire.messages import (
    PROTOCOL,
    Challenge,
    Decoder,
    Denied,
    Hello,
    Message,
    Proof,
    ProtocolError,
    Welcome,
    encode,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    import queue
    import threading

    from kokoro_common.record import Record

LOOPBACK = "127.0.0.1"  # literally: "localhost" may resolve to something else
CONNECT_SECONDS = 1.0
HANDSHAKE_SECONDS = 2.0
FRAME_SECONDS = 10.0  # from a frame's first byte to its last
WRITE_SECONDS = 10.0  # a peer that takes so long for a frame is too slow, or gone
OUTBOX_BYTES = {  # by the peer's role: one that is so far behind is dropped
    "client": 8 << 20,  # gets audio by credit, so it is never this far behind unless it lies
    "model": 8 << 20,
    "voice": 256 << 20,  # two text chunks of digits, spoken slowly, are 20 minutes of audio
}
INBOX_SHARE = 16  # messages of one peer in the inbox; what is behind them waits in its socket
MAX_CONNECTIONS = 1024  # that have proved themselves
MAX_UNPROVEN = 256  # at once, and each for HANDSHAKE_SECONDS
MAX_TURNED_AWAY = 256  # that have been told so and have not closed yet
TURNED_AWAY_SECONDS = 2.0  # for a caller to hear it
RETRY_SECONDS = 0.5  # after which a caller may try again: a handshake takes 2 s at most, and mostly 2 ms
MAX_RETRY_SECONDS = 10.0  # that a caller heeds: who said it has not proved itself
BACKLOG = 2048  # connections that the kernel takes before accept() does; it allows 4096 by default
SPARE_DESCRIPTORS = 16  # kept free of connections: for the record, the logs, and servers to be started
MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.01, 1.0  # before accept() is tried again when it fails
NOTE_SECONDS = 60.0  # between two log lines about callers turned away: strangers must not fill the log
PORTS_TRIED = 100  # from the preferred one up, then any free one


BUSY = Denied(text="busy: too many callers", retry_after=RETRY_SECONDS)


class ConnectionLost(Exception):
    """The peer closed, vanished, or broke the protocol."""


class Busy(ConnectionLost):
    """What listens says that it has no place now. It may not have proved itself: a reason to wait, not to trust."""

    def __init__(self, retry_after: float) -> None:
        super().__init__("the server is busy")
        self.retry_after = retry_after  # seconds


class NotOurServer(Exception):
    """What listens on the port did not prove that it holds our token. Nothing but a Hello was sent to it."""


class NoAnswer(NotOurServer):
    """Something has the port and says nothing: a server that hangs, or has very much to do, or a stranger."""


class OtherProtocol(NotOurServer):
    """It has proved that it holds our token, and speaks another protocol: our server in another version."""

    def __init__(self, protocol: int, version: str) -> None:
        super().__init__(f"the server is version {version!r:.40} and speaks protocol {protocol}, not {PROTOCOL}")
        self.protocol = protocol
        self.version = version


def _proof(token: bytes, side: str, role: str, port: int, nonce_c: str, nonce_s: str) -> str:
    """The port keeps an impostor from relaying a proof to a live server; the side keeps it from reflecting one."""
    return hmac.digest(token, "\n".join((side, role, str(port), nonce_c, nonce_s)).encode(), "sha256").hex()


class Connection:
    """Sends and receives messages, blocking. One thread may send while another receives."""

    def __init__(self, sock: socket.socket, *, strict: bool) -> None:
        self._socket = sock
        self._decoder = Decoder(strict=strict)
        self._arrived: list[tuple[Message, bytes]] = []
        self._frame_began = 0.0
        self.pid = 0  # of the server that was called, after the handshake
        self.version = ""  # of the peer's product, as its Hello or Challenge says
        sock.setblocking(True)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(WRITE_SECONDS), 0))

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def has_message(self) -> bool:
        """Whether receive() would return without touching the socket (which select() cannot know)."""
        return bool(self._arrived)

    def trust(self) -> None:
        self._decoder.trust()

    def send(self, message: Message, payload: bytes = b"") -> None:
        """Blocks until the kernel has it. Raises ConnectionLost."""
        self.send_frame(encode(message, payload))

    def send_frame(self, frame: bytes) -> None:
        deadline = time.monotonic() + WRITE_SECONDS
        rest = memoryview(frame)
        try:
            while rest:
                rest = rest[self._socket.send(rest) :]  # all of it, unless SO_SNDTIMEO has passed
                if rest and time.monotonic() >= deadline:
                    raise ConnectionLost("the peer reads too slowly")
        except OSError as error:
            raise ConnectionLost(f"cannot send: {error.strerror or error}") from error

    def receive(self, seconds: float | None = None) -> tuple[Message, bytes]:
        """The next message and its payload. Blocks, at most `seconds` if given.

        Raises ConnectionLost at the end of the stream, ProtocolError, TimeoutError.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        while not self._arrived:
            frame_deadline = self._frame_began + FRAME_SECONDS if self._decoder.within_frame else math.inf
            if not self._readable_by(min(frame_deadline, math.inf if deadline is None else deadline)):
                if time.monotonic() >= frame_deadline:
                    raise ConnectionLost("a frame did not end in time")
                raise TimeoutError("nothing came in time")
            try:
                data = self._socket.recv(1 << 16)
            except OSError as error:
                raise ConnectionLost(f"cannot receive: {error.strerror or error}") from error
            if not data:
                raise ConnectionLost("closed by the peer")
            if not self._decoder.within_frame:
                self._frame_began = time.monotonic()
            self._arrived = self._decoder.feed(data)
            if self._arrived:
                self._frame_began = time.monotonic()
        return self._arrived.pop(0)

    def _readable_by(self, deadline: float) -> bool:
        """poll() rather than a socket timeout: that one would bind the sending thread as well."""
        poller = select.poll()
        try:
            poller.register(self._socket, select.POLLIN)
        except (OSError, ValueError) as error:
            raise ConnectionLost("closed here") from error
        left = None if deadline == math.inf else max(0.0, deadline - time.monotonic()) * 1000
        return bool(poller.poll(left))

    def close(self) -> None:
        """Idempotent, from any thread: a blocked receive() or send() ends with ConnectionLost."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # not connected any more, which is what we want
        self._socket.close()


def readable(fds: list[int], seconds: float) -> list[int]:
    """Those of the descriptors that can be read, or have ended; empty when `seconds` have passed.

    poll(), because select() knows no descriptor beyond 1023.
    """
    poller = select.poll()
    for fd in fds:
        poller.register(fd, select.POLLIN)
    return [fd for fd, _ in poller.poll(_milliseconds_until(time.monotonic() + seconds))]


def handler_name(message: object) -> str:
    """The method that a server handles a message with: FloorRequest -> handle_floor_request."""
    name = type(message).__name__
    return "handle" + "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def call(port: int, token: bytes, role: str, *, strict: bool = False) -> Connection:
    """Connects to a server on loopback and proves each side to the other. Blocks for 3 s at most.

    Raises ConnectionLost when nothing listens, Busy when it has no place for us now, NotOurServer when it cannot prove
    itself, OtherProtocol when it can and speaks another protocol.
    """
    sock = socket.socket(
        socket.AF_INET, socket.SOCK_STREAM
    )  # create_connection() would import the codec for host names
    try:
        sock.settimeout(CONNECT_SECONDS)
        sock.connect((LOOPBACK, port))
    except TimeoutError as error:
        sock.close()
        raise NoAnswer(f"nothing answers on port {port} in time") from error
    except (OSError, OverflowError) as error:
        sock.close()
        raise ConnectionLost(f"nothing answers on port {port}: {error}") from error
    connection = Connection(sock, strict=strict)
    nonce = os.urandom(16).hex()
    deadline = time.monotonic() + HANDSHAKE_SECONDS
    try:
        connection.send(Hello(role=role, protocol=PROTOCOL, version=__version__, nonce=nonce))
        challenge = connection.receive(deadline - time.monotonic())[0]
        if not isinstance(challenge, Challenge):
            raise _turned_away(port, challenge)
        expected = _proof(token, "server", challenge.role, port, nonce, challenge.nonce)
        if not hmac.compare_digest(challenge.proof.encode(), expected.encode()):
            raise NotOurServer(f"what listens on port {port} does not hold our token")
        if challenge.protocol != PROTOCOL:
            raise OtherProtocol(challenge.protocol, challenge.version)
        connection.version = challenge.version
        connection.send(Proof(proof=_proof(token, "client", role, port, nonce, challenge.nonce)))
        connection.trust()
        welcome = connection.receive(deadline - time.monotonic())[0]
        if not isinstance(welcome, Welcome):
            raise _turned_away(port, welcome)
        connection.pid = welcome.pid
    except TimeoutError as error:
        connection.close()
        raise NoAnswer(f"what listens on port {port} says nothing") from error
    except (ProtocolError, ValueError) as error:
        connection.close()
        raise NotOurServer(f"what listens on port {port} does not speak our protocol: {error}") from error
    except (ConnectionLost, NotOurServer):
        connection.close()
        raise
    return connection


def _turned_away(port: int, message: Message) -> ConnectionLost | NotOurServer:
    """What an answer means that is neither Challenge nor Welcome."""
    if isinstance(message, Denied) and message.retry_after > 0:
        return Busy(min(message.retry_after, MAX_RETRY_SECONDS))
    return NotOurServer(f"port {port} answered {message!r:.200}")


def answer(sock: socket.socket, token: bytes, role: str, port: int) -> tuple[Connection, str]:
    """The server's side of the handshake: the connection and the caller's role. Blocks for HANDSHAKE_SECONDS at most.

    The caller waits for Welcome or Denied then. Raises ConnectionLost, ProtocolError or TimeoutError when it has not
    proved itself, or speaks another protocol; the socket is closed then.
    """
    connection = Connection(sock, strict=True)
    deadline = time.monotonic() + HANDSHAKE_SECONDS
    try:
        hello = connection.receive(deadline - time.monotonic())[0]
        if not isinstance(hello, Hello) or len(hello.nonce) != 32 or hello.role not in ("client", "voice"):
            raise ProtocolError("the first message must be Hello")
        nonce = os.urandom(16).hex()
        proof = _proof(token, "server", role, port, hello.nonce, nonce)
        connection.send(Challenge(role=role, protocol=PROTOCOL, version=__version__, nonce=nonce, proof=proof))
        if hello.protocol != PROTOCOL:
            raise ProtocolError(f"the caller speaks protocol {hello.protocol}")
        answered = connection.receive(deadline - time.monotonic())[0]
        expected = _proof(token, "client", hello.role, port, hello.nonce, nonce)
        if not isinstance(answered, Proof) or not hmac.compare_digest(answered.proof.encode(), expected.encode()):
            connection.send(Denied(text="denied"))
            raise ProtocolError("the caller does not hold our token")
        connection.trust()
        connection.version = hello.version
    except (ConnectionLost, ProtocolError, TimeoutError):
        connection.close()
        raise
    return connection, hello.role


class Inbox:
    """What a server is told: by its peers, each of which has a share of it, and by its own threads.

    Who sends faster than the server handles is not read meanwhile, so memory is bounded and others come in between.
    """

    def __init__(self) -> None:
        import queue

        self._deliveries: queue.SimpleQueue[Delivery] = queue.SimpleQueue()

    def put(self, delivery: Delivery) -> None:
        """Never blocks, from any thread."""
        self._deliveries.put(delivery)

    def get(self, timeout: float | None = None) -> Delivery:
        """Blocks; raises queue.Empty when nothing came in time."""
        delivery = self._deliveries.get(timeout=timeout)
        if delivery[0] is not None:
            delivery[0].taken()
        return delivery

    def empty(self) -> bool:
        return self._deliveries.empty()


class Peer:
    """One connection of a server: what arrives goes into the inbox, what is posted into a bounded outbox.

    The inbox gets (peer, message, payload); after the last one (peer, None, b"").
    """

    def __init__(self, connection: Connection, role: str, inbox: Inbox, log: logging.Logger) -> None:
        import queue
        import threading

        self.role = role
        self.pid = connection.pid
        self.version = connection.version  # of the peer's product
        self._connection = connection
        self._inbox = inbox
        self._log = log
        self._outbox: queue.SimpleQueue[bytes | threading.Event | None] = queue.SimpleQueue()
        self._share = threading.Semaphore(INBOX_SHARE)
        self.unsent = 0  # bytes in the outbox
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

    def taken(self) -> None:
        """The inbox has given out one of this peer's messages."""
        self._share.release()

    def close(self) -> None:
        """Ends the connection when what was posted before has been sent. Does not block; `ended` tells when."""
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
                self._share.acquire()
                self._inbox.put((self, message, payload))
        except (ConnectionLost, ProtocolError, TimeoutError) as error:
            self._log.info("connection ended", extra={"role": self.role, "reason": str(error)})
        finally:
            self._connection.close()
            self.close()
            if self._writer.is_alive():
                self._writer.join()
            self._inbox.put((self, None, b""))
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
        except ConnectionLost as error:
            self._log.info("cannot write", extra={"role": self.role, "reason": str(error)})
        finally:
            self._connection.close()


if TYPE_CHECKING:
    Delivery = tuple[Peer | None, Record | None, bytes]  # without a peer: an event of the server itself


class Switchboard:
    """Listens on loopback and turns every caller that proves itself into a Peer of the one inbox.

    One more thread for each caller; the thread `accept` takes them, and tells those that there is no place for.
    """

    def __init__(
        self,
        token: bytes,
        role: str,
        preferred_port: int,
        inbox: Inbox,
        log: logging.Logger,
    ) -> None:
        """Binds and listens; raises ServersUnreachable if no port is free. Callers are answered after start()."""
        import threading

        self._token = token
        self._role = role
        self._inbox = inbox
        self._log = log
        self._socket = _listen(preferred_port)
        self.port: int = self._socket.getsockname()[1]
        self._unproven = threading.BoundedSemaphore(MAX_UNPROVEN)
        self._proven = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._closing = threading.Event()
        self._wake, self._waker = socket.socketpair()
        self._pause = 0.0  # seconds, while accept() fails
        self._noting = threading.Lock()
        self._notes: dict[str, tuple[float, int]] = {}  # by event: when it was logged, and how many since
        self._thread = threading.Thread(target=self._accept, name="accept", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _accept(self) -> None:
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        turned_away = _TurnedAway(poller)
        resume_at = 0.0  # when accept() is tried again; 0: it is listened for
        poller.register(self._socket, select.POLLIN)
        listener = self._socket.fileno()
        while not self._closing.is_set():
            for fd, _ in poller.poll(_milliseconds_until(min(resume_at or math.inf, turned_away.deadline))):
                if fd == listener and self._take(turned_away):
                    poller.unregister(fd)  # it stays readable
                    resume_at = time.monotonic() + self._pause
                elif fd != listener:
                    turned_away.hear(fd)
            turned_away.close_overdue()
            if 0 < resume_at <= time.monotonic() and not self._closing.is_set():
                poller.register(listener, select.POLLIN)
                resume_at = 0.0
        turned_away.close()

    def _take(self, turned_away: _TurnedAway) -> bool:
        """Accepts one caller. True: accept() fails, let it be for `_pause` seconds."""
        import threading

        try:
            sock, _ = self._socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return False  # it has gone again
        except OSError as error:  # out of descriptors: somebody has to close one first
            self._pause = min(max(2 * self._pause, MIN_PAUSE_SECONDS), MAX_PAUSE_SECONDS)
            if not self._closing.is_set():
                self._note("cannot accept callers", str(error))
            return True
        self._pause = 0.0
        if _descriptors_are_short(sock) or not self._unproven.acquire(blocking=False):
            self._note("caller turned away", "busy")
            turned_away.tell(sock)
            return False
        try:
            threading.Thread(target=self._welcome, args=(sock,), name="handshake", daemon=True).start()
        except RuntimeError as error:  # no more threads
            self._note("cannot accept callers", str(error))
            self._unproven.release()
            turned_away.tell(sock)
        return False

    def _note(self, event: str, reason: str) -> None:
        """Logs it, with how many there were since the last line; the first at once, then one a minute."""
        with self._noting:
            logged, more = self._notes.get(event, (-math.inf, 0))
            due = time.monotonic() >= logged + NOTE_SECONDS
            self._notes[event] = (time.monotonic(), 0) if due else (logged, more + 1)
        if due:
            self._log.warning(event, extra={"reason": reason, "count": more + 1})

    def _welcome(self, sock: socket.socket) -> None:
        """The thread of one caller, from its first byte to its last."""
        try:
            peer = self._proven_peer(sock)
        finally:
            self._unproven.release()
        if peer is not None:
            try:
                peer.serve()
            finally:
                self._proven.release()

    def _proven_peer(self, sock: socket.socket) -> Peer | None:
        """Who calls, if it proves itself and there is a place among the proven, which it has then."""
        try:
            connection, role = answer(sock, self._token, self._role, self.port)
        except (ConnectionLost, ProtocolError, OSError) as error:
            sock.close()
            self._note("caller not proven", str(error))
            return None
        if not self._proven.acquire(blocking=False):
            self._note("caller turned away", "busy")
            try:
                connection.send(BUSY)  # it waits for this and has sent nothing more, so no reset overtakes it
            except ConnectionLost:
                pass
            connection.close()
            return None
        self._log.info("connection", extra={"role": role, "version": connection.version})
        peer = Peer(connection, role, self._inbox, self._log)
        peer.post(Welcome(pid=os.getpid()))
        return peer

    def close(self) -> None:
        """Stops accepting. Connections that exist go on. Idempotent."""
        self._closing.set()
        self._waker.close()
        if self._thread.is_alive():
            self._thread.join()
        self._wake.close()
        self._socket.close()


class _TurnedAway:
    """Callers for whom there is no place: told so, and closed when they have closed. Used by the thread `accept`.

    Closed at once, with their Hello unread, the kernel would send a reset, and they might never read the answer.
    """

    def __init__(self, poller: select.poll) -> None:
        self._poller = poller
        self._sockets: dict[int, tuple[socket.socket, float]] = {}  # by descriptor, the oldest first; with its deadline

    @property
    def deadline(self) -> float:
        return next((deadline for _, deadline in self._sockets.values()), math.inf)

    def tell(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        try:
            sock.send(encode(BUSY))
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            sock.close()
            return
        most = SPARE_DESCRIPTORS // 2 if _descriptors_are_short(sock) else MAX_TURNED_AWAY
        while len(self._sockets) >= most:
            self._close(next(iter(self._sockets)))
        self._sockets[sock.fileno()] = sock, time.monotonic() + TURNED_AWAY_SECONDS
        self._poller.register(sock, select.POLLIN)

    def hear(self, fd: int) -> None:
        try:
            if fd not in self._sockets or self._sockets[fd][0].recv(4096):
                return
        except BlockingIOError:
            return
        except OSError:
            pass  # a reset is an end as well
        self._close(fd)

    def close_overdue(self) -> None:
        while self.deadline <= time.monotonic():
            self._close(next(iter(self._sockets)))

    def close(self) -> None:
        while self._sockets:
            self._close(next(iter(self._sockets)))

    def _close(self, fd: int) -> None:
        self._poller.unregister(fd)
        self._sockets.pop(fd)[0].close()


def _descriptors() -> int:
    """How many this process may have; somebody may change it while it runs."""
    import resource  # servers only

    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _descriptors_are_short(sock: socket.socket) -> bool:
    """Its number tells, as the kernel gives the lowest that is free."""
    return sock.fileno() >= _descriptors() - SPARE_DESCRIPTORS


def _milliseconds_until(deadline: float) -> float | None:
    """For poll(), which reads 0 as "do not wait" and None as "for ever"; rounded up, lest it returns too early."""
    return None if deadline == math.inf else math.ceil(max(0.0, deadline - time.monotonic()) * 1000)


def _listen(preferred_port: int) -> socket.socket:
    """On the preferred port, else the next free one, else any. 0 means any."""
    ports = range(preferred_port, min(preferred_port + PORTS_TRIED, 65536)) if preferred_port else ()
    problem: OSError | None = None
    for port in (*ports, 0):
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections in TIME_WAIT do not count
            sock.bind((LOOPBACK, port))
            sock.listen(BACKLOG)
            sock.setblocking(False)  # who has gone again before accept() must not hold up the others
            return sock
        except OSError as error:
            problem = error
            sock.close()
    raise ServersUnreachable(f"no port on {LOOPBACK} is free: {problem}", "close some programs and try again")
