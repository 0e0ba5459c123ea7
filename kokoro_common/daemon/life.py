"""A server's own side of its life: it takes its locks, publishes its record, is told to end, ends or begins again.

The starter's side, and what the locks and the record mean, is in starter.py.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys

from kokoro_common.daemon import process
from kokoro_common.daemon.record import ServerRecord, note_of, write_note
from kokoro_common.daemon.runtime_directory import RuntimeDirectory
from kokoro_common.errors import SAY, KokoroError, ServersUnreachable
from kokoro_common.record import Record
from kokoro_common.settings import Settings, resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn, Protocol

    class Server(Protocol):
        def run(self) -> None: ...  # until it has ended
        def shut_down(self, drain: float) -> None: ...  # asks it to end within so many seconds; for a signal handler


DRAIN_SECONDS = 5.0  # for the utterances under way when a server is asked to end


class Earlier(Record):
    """What a program hands on to the one that it begins in its process, see Life.renew."""

    lost: str = ""  # why it has lost its device
    unloaded: str = ""  # why it has freed its model
    listening: int | None = None  # descriptor of its socket, on which callers may wait


class Life:
    """The locks, the record and the ready signal of the server in this process. Used by the main thread alone."""

    def __init__(self, runtime: RuntimeDirectory, name: str, inherited: str) -> None:
        """`inherited`: descriptors from the starter, or empty when the program was started by hand.

        Raises ServersUnreachable when started by hand while another one runs.
        """
        self.name = name
        self._runtime = runtime
        self._record = b""
        self._token = b""
        self._start_lock: int | None
        self._ready: int | None = None
        life_lock: int | None
        if inherited:
            fds = [int(fd) if fd else None for fd in inherited.split(",")]
            self._start_lock, life_lock, self._ready = fds
            for fd in fds:
                if fd is not None:
                    os.set_inheritable(fd, False)  # the lock must not live on in our own children
        else:
            self._start_lock = runtime.lock(f"{name}.start.lock", wait=True)
            life_lock = runtime.lock(f"{name}.lock", wait=False)
        if life_lock is None:
            raise ServersUnreachable(f"{name} is already running", f"use it, or run {SAY} --shutdown first")
        self._life_lock = life_lock
        self._own = ServerRecord(pid=os.getpid(), port=0, started=process.start_of(os.getpid()))
        self._write_note(record=self._own, leaving=False)

    def announce(self, port: int) -> None:
        """Publishes the record and tells the starter. Call when the port listens."""
        self._own = self._own.replace(port=port)
        self._write_note(record=self._own)
        self._record = json.dumps(self._own.as_dict()).encode()
        self._token = self._runtime.token()
        self._runtime.write(f"{self.name}.json", self._record)
        self._tell({"port": port})

    def refuse(self, error: KokoroError) -> None:
        """Tells the starter why there will be no server."""
        self._write_note(record=None)
        self._tell({"error": error.line, "code": error.exit_code})

    def keep(self) -> bool:
        """Puts back the lock, the token and the record if somebody removed them.

        False: they cannot be, so that no client will find us, or a successor has them.
        """
        try:
            if not self._keep_lock() or self._runtime.token() != self._token:
                return False
            if self._runtime.read(f"{self.name}.json") != self._record:
                self._runtime.write(f"{self.name}.json", self._record)
        except OSError as error:  # the whole directory was removed, or the disk is full
            return error.errno in (errno.EMFILE, errno.ENFILE)  # a lack of descriptors passes
        except ServersUnreachable:
            return False
        return True

    def _keep_lock(self) -> bool:
        """Takes the lock again if its file was removed: a lock on a file without a name excludes nobody."""
        if self._runtime.is_still(f"{self.name}.lock", self._life_lock):
            return True
        start_lock = self._runtime.lock(f"{self.name}.start.lock", wait=False)
        if start_lock is None:
            return True  # a successor is being started: the next call will tell
        try:
            again = self._runtime.lock(f"{self.name}.lock", wait=False)
            if again is None:
                return False
            os.close(self._life_lock)
            self._life_lock = again
            self._write_note(record=self._own)
        finally:
            os.close(start_lock)
        return True

    def leave(self) -> None:
        """Withdraws the record, so that no client calls any more. The lock goes when the process has ended."""
        if self._runtime.read(f"{self.name}.json") == self._record:
            self._runtime.remove(f"{self.name}.json")
        self._write_note(leaving=True)

    def end(self) -> NoReturn:
        """Ends the process, whose work is done. Not by returning: PortAudio's and torch's exit handlers may hang."""
        import logging

        try:
            self._write_note(record=None, leaving=False)
        except ServersUnreachable:
            pass  # the disk is full: the next starter will take us for dead, and so we are
        logging.shutdown()
        os._exit(0)

    def renew(self, *flags: str) -> NoReturn:
        """Begins the program again in this process: fresh memory, the same lock, pid, children and record.

        That closes all connections; their holders call again. The next program gets `--children`, for `reap`.
        """
        import logging

        import psutil

        program = str(sys.modules["__main__"].__file__)
        children = ",".join(str(child.pid) for child in psutil.Process().children())
        os.set_inheritable(self._life_lock, True)
        logging.shutdown()
        inherited = ["--inherited", f",{self._life_lock},", "--children", children]
        os.execv(sys.executable, [sys.executable, program, *inherited, *flags])

    def _write_note(self, **changes: object) -> None:
        write_note(self._runtime, self._life_lock, note_of(self._runtime, self.name).replace(**changes))

    def _tell(self, report: dict[str, object]) -> None:
        if self._ready is not None:
            try:
                os.write(self._ready, json.dumps(report).encode() + b"\n")
            except BrokenPipeError:
                pass  # the starter was interrupted; others will find the record
            os.close(self._ready)
            self._ready = None
        if self._start_lock is not None:
            os.close(self._start_lock)
            self._start_lock = None


def reap(children: str) -> None:
    """Takes the exit status of children that an earlier program of this process has started, each on a thread of its
    own: they would stay as zombies. Does not block. `children`: their pids with commas, as `renew` gives them."""
    import threading

    def wait(pid: int) -> None:
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:
            pass  # that program has just done so itself

    for child in filter(None, children.split(",")):
        threading.Thread(target=wait, args=(int(child),), name=f"reap-{child}", daemon=True).start()


def run_server(name: str, inherited: str, make: Callable[[Settings, RuntimeDirectory, Life], Server]) -> int:
    """Main of a server program: makes the server and runs it to its end. Returns an exit code if it cannot be made."""
    import logging

    from kokoro_common.daemon.isolation import harden  # ctypes: only when a server runs

    life: Life | None = None
    try:
        settings = resolve()
        isolation = harden()
        runtime = RuntimeDirectory(settings.runtime_dir)
        life = Life(runtime, name, inherited)
        server = make(settings, runtime, life)
    except KokoroError as error:
        if life is not None:
            life.refuse(error)
        print(f"{name}: {error}", file=sys.stderr)
        return error.exit_code
    logging.getLogger("kokoro").info("isolation", extra=isolation.as_dict())
    on_signals(server.shut_down)
    server.run()
    return life.end()


def on_signals(shut_down: Callable[[float], None]) -> None:
    """SIGTERM gives current speech DRAIN_SECONDS to end, SIGINT and SIGQUIT none. A second signal ends the process."""
    asked: list[int] = []

    def handle(number: int, _frame: object) -> None:
        if asked:
            os._exit(128 + number)
        asked.append(number)
        shut_down(DRAIN_SECONDS if number == signal.SIGTERM else 0.0)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, handle)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # speech goes on when the terminal closes
