"""A connection to a server that may hang: while the client waits for it, it is pinged."""

from __future__ import annotations

from _thread import allocate_lock  # threading would cost the command 2 ms

from kokoro_common.daemon.process import Pulse
from kokoro_common.wire.connection import ConnectionLost, readable
from kokoro_common.wire.messages import Ping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kokoro_common.wire.connection import Connection
    from kokoro_common.wire.messages import Message

PING_SECONDS = 1.0  # without a message, until the server is asked whether it lives


class Watched:
    """A connection to a server that may hang: while it is waited for, it is pinged. One thread; any may `send`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._pulse = Pulse(connection.pid)
        self._sending = allocate_lock()

    def send(self, message: Message) -> None:
        """Blocks until the kernel has it. Raises ConnectionLost, ValueError for a message that cannot be encoded."""
        with self._sending:
            self._connection.send(message)

    def receive(self) -> tuple[Message, bytes]:
        """The next message, Pong included. Blocks. Raises ConnectionLost, also when the server hangs; ProtocolError."""
        while True:
            try:
                message, payload = self._connection.receive(PING_SECONDS)
            except TimeoutError:
                self.missed()
                continue
            self._pulse.answered()
            return message, payload

    def missed(self) -> None:
        """Nothing was heard for PING_SECONDS: pings, or raises ConnectionLost if the server hangs."""
        if self._pulse.hangs():
            self._connection.close()  # the next client that asks for the server will end it
            raise ConnectionLost("it hangs")
        try:
            self.send(Ping())
        except ConnectionLost:
            pass  # it may have said its last before: receive() tells

    def wait_for_either(self, fd: int) -> bool:
        """Blocks until the connection or the descriptor can be read. Whether the connection can."""
        if self._connection.has_message:
            return True
        own = self._connection.fileno()
        while not (ready := readable([own, fd], PING_SECONDS)):
            self.missed()
        return own in ready

    @property
    def sending(self) -> bool:
        """Whether some thread is within `send`."""
        return self._sending.locked()

    @property
    def port(self) -> int:
        """Of the server; 0 once the connection has ended."""
        return self._connection.port

    @property
    def has_message(self) -> bool:
        """Whether receive() would not block, or not for long."""
        return self._connection.has_message or bool(readable([self._connection.fileno()], 0))

    def close(self) -> None:
        """Idempotent, from any thread."""
        self._connection.close()
