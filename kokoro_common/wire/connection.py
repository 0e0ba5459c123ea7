"""A socket that sends and receives messages, blocking; and the handshake in which each side proves itself."""

from __future__ import annotations

import hmac
import math
import os
import select
import socket
import struct
import sys
import time

from kokoro_common import __version__
from kokoro_common.settings import LOOPBACK
from kokoro_common.wire.codec import Decoder, encode
from kokoro_common.wire.messages import (
    PROTOCOL,
    Challenge,
    Denied,
    Hello,
    Message,
    Proof,
    ProtocolError,
    Welcome,
)

CONNECT_SECONDS = 1.0
HANDSHAKE_SECONDS = 2.0
FRAME_SECONDS = 10.0  # from a frame's first byte to its last
WRITE_SECONDS = 10.0  # a peer that takes so long for a frame is too slow, or gone
# Kernel buffers of a client's connection, receiving at the client and sending at the server. Together they hold the
# audio that a client gives credit for (AUDIO_WINDOW) and an hour of small messages. Left alone, the receiving one would
# begin with 64 KB and grow only while it is read. 208 KB is what Linux allows without a privilege.
CLIENT_BUFFER_BYTES = 208 << 10
MAX_RETRY_SECONDS = 10.0  # that a caller heeds: who said it has not proved itself


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
        self._receiving = False  # since the last message was given out
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
        if not self._receiving:  # while the caller did something else the peer may have had no room to go on
            self._receiving, self._frame_began = True, time.monotonic()
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
        self._receiving = False
        return self._arrived.pop(0)

    def receive_now(self) -> tuple[Message, bytes] | None:
        """The next message and its payload if all of it has come, else None. Does not block. Raises as receive()."""
        if not self._arrived:
            try:
                data = self._socket.recv(1 << 16, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None
            except OSError as error:
                raise ConnectionLost(f"cannot receive: {error.strerror or error}") from error
            if not data:
                raise ConnectionLost("closed by the peer")
            self._arrived = self._decoder.feed(data)
        return self._arrived.pop(0) if self._arrived else None

    def _readable_by(self, deadline: float) -> bool:
        """poll() rather than a socket timeout: that one would bind the sending thread as well."""
        poller = select.poll()
        try:
            poller.register(self._socket, select.POLLIN)
        except (OSError, ValueError) as error:
            raise ConnectionLost("closed here") from error
        left = None if deadline == math.inf else max(0.0, deadline - time.monotonic()) * 1000
        return bool(poller.poll(left))

    @property
    def port(self) -> int:
        """Of the peer; 0 once the connection has ended."""
        try:
            return int(self._socket.getpeername()[1])
        except OSError:
            return 0

    @property
    def has_room(self) -> bool:
        """Whether the kernel would take a short message at once: it does while a third of its buffer is free."""
        poller = select.poll()
        try:
            poller.register(self._socket, select.POLLOUT)
        except (OSError, ValueError):
            return False  # closed here
        return bool(poller.poll(0))

    @property
    def unacknowledged(self) -> int:
        """Bytes of what was sent that the peer's kernel does not have yet; 0 where ours cannot tell."""
        import fcntl  # servers only
        import termios

        size = bytearray(4)
        try:
            fcntl.ioctl(self._socket.fileno(), termios.TIOCOUTQ, size)
        except (OSError, ValueError):
            return 0  # closed here, or not Linux
        return int.from_bytes(size, sys.byteorder)

    def end_sending(self) -> None:
        """Nothing more will be sent: the peer hears that when it has read all. What it says can still be received."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # not connected any more

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
    return [fd for fd, _ in poller.poll(milliseconds_until(time.monotonic() + seconds))]


def milliseconds_until(deadline: float) -> float | None:
    """For poll(), which takes 0 for "do not wait" and None for "for ever"; rounded up, never too early."""
    return None if deadline == math.inf else math.ceil(max(0.0, deadline - time.monotonic()) * 1000)


def call(port: int, token: bytes, role: str, *, strict: bool = False) -> Connection:
    """Connects to a server on loopback and proves each side to the other. Blocks for 3 s at most.

    Raises ConnectionLost when nothing listens or no socket can be had, Busy when it has no place for us now,
    NotOurServer when it cannot prove itself, OtherProtocol when it can and speaks another protocol.
    """
    try:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)  # create_connection() imports the codec for host names
    except OSError as error:  # no descriptor
        raise ConnectionLost(f"port {port} cannot be called: {error}") from error
    try:
        if role == "client":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, CLIENT_BUFFER_BYTES)  # counts only before connect()
        sock.settimeout(CONNECT_SECONDS)
        sock.connect((LOOPBACK, port))
        connection = Connection(sock, strict=strict)
    except TimeoutError as error:
        sock.close()
        raise NoAnswer(f"nothing answers on port {port} in time") from error
    except (OSError, OverflowError) as error:
        sock.close()
        raise ConnectionLost(f"nothing answers on port {port}: {error}") from error
    nonce = os.urandom(16).hex()
    deadline = time.monotonic() + HANDSHAKE_SECONDS
    try:
        _say(connection, Hello(role=role, protocol=PROTOCOL, version=__version__, nonce=nonce))
        challenge = connection.receive(deadline - time.monotonic())[0]
        if not isinstance(challenge, Challenge):
            raise _turned_away(port, challenge)
        expected = _proof(token, "server", challenge.role, port, nonce, challenge.nonce)
        if not hmac.compare_digest(challenge.proof.encode(), expected.encode()):
            raise NotOurServer(f"what listens on port {port} does not hold our token")
        if challenge.protocol != PROTOCOL:
            raise OtherProtocol(challenge.protocol, challenge.version)
        connection.version = challenge.version
        _say(connection, Proof(proof=_proof(token, "client", role, port, nonce, challenge.nonce)))
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


def _say(connection: Connection, message: Message) -> None:
    """A server that has closed may have said why: that is to be read, and receive() tells if there is nothing."""
    try:
        connection.send(message)
    except ConnectionLost:
        pass


def _turned_away(port: int, message: Message) -> ConnectionLost | NotOurServer:
    """What an answer means that is neither Challenge nor Welcome."""
    if isinstance(message, Denied) and message.retry_after > 0:
        return Busy(min(message.retry_after, MAX_RETRY_SECONDS))
    return NotOurServer(f"port {port} answered {message!r:.200}")


class Caller:
    """The server's side of a handshake, with one that calls and has yet to prove itself. Nothing here blocks.

    After its proof it waits for Welcome or Denied.
    """

    def __init__(self, sock: socket.socket, token: bytes, role: str, port: int) -> None:
        """`role`: the server's, which listens on `port`."""
        self.connection = Connection(sock, strict=True)
        self.role = ""  # the caller's, client or voice, from its Hello on
        self._socket = sock
        self._token = token
        self._own_role = role
        self._port = port
        self._hello: Hello | None = None
        self._nonce = ""

    def hear(self) -> bool:
        """Takes what has come. True: it has proved itself.

        Raises ConnectionLost or ProtocolError when it never will, or speaks another protocol.
        """
        while (arrived := self.connection.receive_now()) is not None:
            if self._hello is not None:
                self._check_proof(self._hello, arrived[0])
                return True
            self._hello = self._greeted(arrived[0])
        return False

    def _greeted(self, hello: Message) -> Hello:
        if not isinstance(hello, Hello) or len(hello.nonce) != 32 or hello.role not in ("client", "voice"):
            raise ProtocolError("the first message must be Hello")
        nonce = self._nonce = os.urandom(16).hex()
        proof = _proof(self._token, "server", self._own_role, self._port, hello.nonce, nonce)
        challenge = Challenge(role=self._own_role, protocol=PROTOCOL, version=__version__, nonce=nonce, proof=proof)
        self.connection.send(challenge)
        if hello.protocol != PROTOCOL:
            raise ProtocolError(f"the caller speaks protocol {hello.protocol}")
        return hello

    def _check_proof(self, hello: Hello, answered: Message) -> None:
        expected = _proof(self._token, "client", hello.role, self._port, hello.nonce, self._nonce)
        if not isinstance(answered, Proof) or not hmac.compare_digest(answered.proof.encode(), expected.encode()):
            self.connection.send(Denied(text="denied"))
            raise ProtocolError("the caller does not hold our token")
        self.role = hello.role
        self.connection.trust()
        self.connection.version = hello.version
        if hello.role == "client":
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, CLIENT_BUFFER_BYTES)
