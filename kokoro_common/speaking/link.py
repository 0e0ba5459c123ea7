"""A voice server's one connection to the model server: watched while something is waited for, made again when lost.

The methods are the main thread's and never block; what comes of a search arrives in its inbox as Linked or LinkFailed.
"""

from __future__ import annotations

import logging
import random
import threading
import time

from kokoro_common.daemon import process, starter
from kokoro_common.daemon.model_server import ensure_model_server
from kokoro_common.daemon.runtime_directory import RuntimeDirectory
from kokoro_common.errors import KokoroError, ServersBusy, ServersUnreachable
from kokoro_common.record import Record
from kokoro_common.settings import Settings
from kokoro_common.speaking import sound_environment
from kokoro_common.wire.connection import Connection
from kokoro_common.wire.messages import LogLine, Message, Ping
from kokoro_common.wire.server import Inbox, Peer

log = logging.getLogger("kokoro.link")

PING_SECONDS = 1.0
MAX_UNSENT_BYTES = 1 << 20  # beyond it log lines wait, so that they never cost us the connection
FIRST_PAUSE, LAST_PAUSE = 0.1, 2.0  # seconds between two attempts, doubling
SEEK_SECONDS = 10.0  # for a model server that nobody needs; one that is needed is started


class Linked(Record):
    connection: Connection


class LinkFailed(Record):
    error: KokoroError


class Link:
    def __init__(self, settings: Settings, runtime: RuntimeDirectory, inbox: Inbox) -> None:
        self.peer: Peer | None = None  # while there is none, what is posted is dropped: Register says it all again
        self._settings = settings
        self._runtime = runtime
        self._inbox = inbox
        self._needed = threading.Event()
        self._pulse = process.Pulse(0)
        self._next_ping = 0.0

    def adopt(self, connection: Connection) -> None:
        """From now on this is the connection; what comes through it arrives in the inbox."""
        self._needed.clear()
        self._pulse = process.Pulse(connection.pid)
        self._next_ping = 0.0
        self.peer = peer = Peer(connection, "model", self._inbox, log)
        try:
            threading.Thread(target=peer.serve, name="link", daemon=True).start()
        except RuntimeError as error:
            self.peer = None
            connection.close()
            self._fail(f"there is no thread to hear the model server: {error}")

    def post(self, message: Message, payload: bytes = b"") -> None:
        if self.peer is not None:
            self.peer.post(message, payload)

    def forward(self, line: str) -> bool:
        """A line for the central log; from any thread. False when nobody can take it now."""
        peer = self.peer
        if peer is None or peer.unsent > MAX_UNSENT_BYTES:
            return False
        peer.post(LogLine(line=line))
        return True

    def seek(self) -> None:
        """The connection is lost: looks for a model server, and starts one if it is needed."""
        self.peer = None
        try:
            threading.Thread(target=self._seek, name="seek", daemon=True).start()
        except RuntimeError as error:
            self._fail(f"there is no thread to look for the model server: {error}")

    def _fail(self, problem: str) -> None:
        self._inbox.report(LinkFailed(error=ServersUnreachable(problem, "try again")))

    def need(self) -> None:
        """Somebody waits for the model server. Nothing while there is one."""
        if self.peer is None:
            self._needed.set()

    def watch(self, now: float) -> None:
        """To be called about once a second while the model server owes us something: pings it, drops one that hangs."""
        if self.peer is None or now < self._next_ping:
            return
        self._next_ping = now + PING_SECONDS
        if self._pulse.hangs():
            log.error("the model server hangs", extra={"server_pid": self.peer.pid})
            self.peer.drop()
        else:
            self.peer.post(Ping())

    def heard(self) -> None:
        """It has said something."""
        self._pulse.answered()

    def _seek(self) -> None:
        """On a thread of its own."""
        deadline = time.monotonic() + SEEK_SECONDS
        pause = FIRST_PAUSE
        event: Record | None = None
        while event is None:
            try:
                connection = starter.connect(self._runtime, "model", "voice")
                if connection is not None:
                    event = Linked(connection=connection)
                elif self._needed.is_set():
                    ensure_model_server(self._runtime, self._settings, sound_environment.environment()).close()
                elif time.monotonic() > deadline:
                    raise ServersUnreachable("the model server has ended", "say it again")
            except ServersBusy as error:  # it runs, and does not tell when it has room: only time helps
                time.sleep(random.uniform(1.0, 1.5) * error.retry_after)
            except KokoroError as error:
                event = LinkFailed(error=error)
            except OSError as error:
                problem = f"the model server cannot be looked for: {error}"
                event = LinkFailed(error=ServersUnreachable(problem, "try again"))
            if event is None and not self._needed.wait(random.uniform(0.5, 1.0) * pause):
                pause = min(2 * pause, LAST_PAUSE)
        self._inbox.report(event)
