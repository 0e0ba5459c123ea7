"""The port of a server: one that is free, and that can be called."""

from __future__ import annotations

import socket

from kokoro_common.errors import ServersUnreachable
from kokoro_common.settings import LOOPBACK
from kokoro_common.wire.connection import CONNECT_SECONDS

BACKLOG = 2048  # connections that the kernel takes before accept() does; it allows 4096 by default
PORTS_TRIED = 100  # from the preferred one up, then any free one


def listening(preferred_port: int) -> socket.socket:
    """A socket on the preferred port, else the next free one, else any. 0 means any. Raises ServersUnreachable."""
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


def called(listener: socket.socket) -> tuple[str, int]:
    """Calls a port of ours, and returns the address from which the call came. Raises ServersUnreachable.

    A network namespace whose interface lo is down lets a server listen, and so does a firewall, and nobody can call it.
    """
    host, port = listener.getsockname()
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as caller:
        caller.settimeout(CONNECT_SECONDS)
        try:
            caller.connect((host, port))
            return (host, caller.getsockname()[1])
        except OSError as error:
            problem = ServersUnreachable(
                f"{host} cannot be called here: {error.strerror or error}",
                "bring the network interface lo up, and let the firewall pass what comes from it",
            )
            raise problem from error
