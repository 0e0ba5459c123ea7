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
from kokoro_common.daemon.program import ProgramFiles
from kokoro_common.daemon.record import ServerRecord, note_of, write_note
from kokoro_common.daemon.runtime_directory import RuntimeDirectory
from kokoro_common.errors import SAY, KokoroError, ServersUnreachable
from kokoro_common.record import Record
from kokoro_common.settings import Settings, resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
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
        self.files = ProgramFiles()
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
        self._own = ServerRecord(
            pid=os.getpid(), port=0, started=process.start_of(os.getpid()), network=process.network()
        )
        self._write_note(record=self._own, leaving=False)

    def announce(self, port: int) -> None:
        """Publishes the record and tells the starter. Call when the port listens."""
        self._own = self._own.replace(port=port)
        self._write_note(record=self._own)
        self._record = json.dumps(self._own.as_dict()).encode()
        self._token = self._runtime.token()
        self._runtime.write(f"{self.name}.json", self._record)
        self._tell({"port": port})

    @property
    def listens(self) -> bool:
        """Whether it has announced itself."""
        return self._own.port > 0

    def refuse(self, error: KokoroError) -> None:
        """Tells the starter why there will be no server."""
        self.forget()
        self._tell({"error": error.line, "code": error.exit_code})

    def forget(self) -> None:
        """Notes that this server ends as it should: its end is no death. For a signal handler too."""
        try:
            self._write_note(record=None, leaving=False)
        except ServersUnreachable:
            pass  # the disk is full: the next starter will take us for dead, and so we are

    def keep(self) -> bool:
        """Puts back the lock, the token and the record if somebody removed them.

        False: they cannot be, or the directory was moved, so that no client will find us; or a successor has them.
        """
        try:
            if not self._runtime.is_found():
                _log().warning("the runtime directory was moved or removed", extra={"path": self._runtime.path})
                return False
            if not self._keep_lock() or self._runtime.token() != self._token:
                return False
            if self._runtime.read(f"{self.name}.json") != self._record:
                self._runtime.write(f"{self.name}.json", self._record)
            if note_of(self._runtime, self.name).record != self._own:  # somebody has damaged it
                self._write_note(record=self._own, leaving=False)
        except (OSError, ServersUnreachable) as error:  # the whole directory was removed, or the disk is full
            cause = error if isinstance(error, OSError) else error.__cause__
            # A lack of descriptors passes.
            return isinstance(cause, OSError) and cause.errno in (errno.EMFILE, errno.ENFILE)
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
        try:
            if self._runtime.read(f"{self.name}.json") == self._record:
                self._runtime.remove(f"{self.name}.json")
            self._write_note(leaving=True)
        except (OSError, ServersUnreachable):
            pass  # the disk is full or read-only: who calls is not answered, and asks again

    def end(self) -> NoReturn:
        """Ends the process, whose work is done. Not by returning: PortAudio's and torch's exit handlers may hang."""
        import logging

        self.forget()
        logging.shutdown()
        os._exit(0)

    def renew(self, *flags: str) -> NoReturn:
        """Begins the program again in this process: fresh memory, the same lock, pid, children and record.

        That closes all connections; their holders call again. A signal that comes while it begins waits until it has a
        Life again. The next program gets `--children`, for `reap`. Only while the program is there: see
        ProgramFiles.missing.
        """
        import logging

        import psutil

        program = str(sys.modules["__main__"].__file__)
        children = ",".join(str(child.pid) for child in psutil.Process().children())
        signal.pthread_sigmask(signal.SIG_BLOCK, process.HELD_BACK)
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
    from kokoro_common.daemon.isolation import harden  # ctypes: only when a server runs

    life: Life | None = None
    try:
        settings = resolve()
        isolation = harden()
        runtime = RuntimeDirectory(settings.runtime_dir)
        life = Life(runtime, name, inherited)
        signals = EndingSignals(life)
        server = make(settings, runtime, life)
        _log().info("isolation", extra=isolation.as_dict())
        signals.tell(server)
        server.run()
    except KokoroError as error:
        if life is not None:
            if life.listens:
                raise  # a fault, and a death
            life.refuse(error)
        print(f"{name}: {error}", file=sys.stderr)
        return error.exit_code
    return life.end()


def _log() -> logging.Logger:
    import logging

    return logging.getLogger("kokoro")


class EndingSignals:
    """Asks a server to end. SIGTERM gives current speech DRAIN_SECONDS to end, SIGINT and SIGQUIT none.

    A second signal ends the process, and so does the first one before there is a server. None of that is a death.
    """

    def __init__(self, life: Life) -> None:
        """From now on the process hears signals, also those that have come while it was being started."""
        self._life = life
        self._server: Server | None = None
        self._asked = False
        for number in process.ENDING:
            signal.signal(number, self._handle)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # speech goes on when the terminal closes
        signal.pthread_sigmask(signal.SIG_UNBLOCK, process.HELD_BACK)

    def tell(self, server: Server) -> None:
        self._server = server

    def _handle(self, number: int, _frame: object) -> None:
        if self._server is None or self._asked:
            self._life.forget()
            os._exit(128 + number if self._asked else 0)
        self._asked = True
        self._server.shut_down(DRAIN_SECONDS if number == signal.SIGTERM else 0.0)
