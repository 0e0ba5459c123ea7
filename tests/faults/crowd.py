"""Connections to ports, as many as asked for, which never prove themselves. From the repository root also by hand:

    python -m tests.faults.crowd COUNT PORT...

Of each four one says nothing, one sends its Hello and stops, one sends a Hello byte by byte, one sends half of it. Who
is closed connects again at once. Writes a line when all have been connected once; goes on until it is killed.
"""

from __future__ import annotations

import contextlib
import select
import socket
import sys
import time
from collections.abc import Callable

from kokoro_common.wire.codec import encode
from kokoro_common.wire.messages import PROTOCOL, Hello

FRAME = encode(Hello(role="client", protocol=PROTOCOL, version="x", nonce="0" * 32))
FIRST = (b"", FRAME, FRAME[:1], FRAME[: len(FRAME) // 2])
DRIP_SECONDS = 0.05


class Stranger:
    def __init__(self, port: int, kind: int) -> None:
        self.port, self.kind = port, kind
        self.sock = socket.socket()
        self.sent = len(FIRST[kind])

    def connect(self) -> None:
        with contextlib.suppress(OSError):  # the backlog is full: another time
            self.sock.settimeout(1)
            self.sock.connect(("127.0.0.1", self.port))
            self.sock.send(FIRST[self.kind])
            self.sock.setblocking(False)

    def drip(self) -> None:
        if self.kind == 2 and self.sent < len(FRAME) - 1:
            with contextlib.suppress(OSError):
                self.sock.send(FRAME[self.sent : self.sent + 1])
                self.sent += 1

    @property
    def closed(self) -> bool:
        try:
            return self.sock.recv(4096) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True


def crowd(count: int, ports: list[int], told: Callable[[], None]) -> None:
    """Blocks for ever."""
    poller = select.poll()
    strangers: dict[int, Stranger] = {}

    def add(port: int, kind: int) -> None:
        stranger = Stranger(port, kind)
        stranger.connect()
        strangers[stranger.sock.fileno()] = stranger
        poller.register(stranger.sock, select.POLLIN)

    for number in range(count):
        for port in ports:
            add(port, number % 4)
    told()
    drip_at = 0.0
    while True:
        for fd, _ in poller.poll(1000 * DRIP_SECONDS):
            if strangers[fd].closed:
                poller.unregister(fd)
                gone = strangers.pop(fd)
                gone.sock.close()
                add(gone.port, gone.kind)
        if time.monotonic() >= drip_at:
            drip_at = time.monotonic() + DRIP_SECONDS
            for stranger in strangers.values():
                stranger.drip()


if __name__ == "__main__":
    crowd(int(sys.argv[1]), [int(port) for port in sys.argv[2:]], lambda: print("there", flush=True))
