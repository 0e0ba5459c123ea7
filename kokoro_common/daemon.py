"""A daemon's life: found by its record, started once under locks, ready by a signal, ended by signals; its logs.

Each server NAME has a record NAME.json ("listening on this port") and two locks in the runtime directory:

    NAME.start.lock   held from before a starter looks until the record is written: starters wait for each other
    NAME.lock         held by the server for its life, inherited from its starter

Truth is the lock and the handshake, never the pid in the record.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time

from kokoro_common import __version__
from kokoro_common.connection import Connection, ConnectionLost, NotOurServer, call
from kokoro_common.errors import KokoroError, ServersUnreachable, error_for
from kokoro_common.paths import RuntimeDirectory, private_directory
from kokoro_common.protocol import PROTOCOL
from kokoro_common.record import Record
from kokoro_common.settings import Settings, resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from collections.abc import Callable
    from typing import NoReturn, Protocol

    class Server(Protocol):
        def run(self) -> None: ...  # until it has ended
        def shut_down(self) -> None: ...  # asks it to end; may be called by a signal handler


READY_SECONDS = 30.0  # from spawn to listening: only the interpreter and light imports lie between
MAX_STDERR_BYTES = 1 << 20  # of earlier servers, kept because the last words of a crash stand there
LEAVING_SECONDS = 15.0  # an old server drains for 5 s at most
PROGRAMS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # where the programs lie, installed or not


class ServerRecord(Record):
    """What NAME.json says. A hint where to call: the handshake decides."""

    pid: int
    port: int
    version: str = __version__
    protocol: int = PROTOCOL


class Program(Record):
    """How a server is started, when it does not run."""

    name: str  # of its record and locks: "model" or "voice-af_heart"
    path: str  # of the Python file
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = {}  # noqa: RUF012 - records are frozen
    stderr_path: str = os.devnull  # what the interpreter itself says, crashes above all
    on_exit: Callable[[int], None] | None = None  # called on a thread of its own with the return code


# --- The starter's side ----------------------------------------------------------------------------------------------


def connect(runtime: RuntimeDirectory, name: str, role: str = "client", *, strict: bool = False) -> Connection | None:
    """A connection to the running server, or None when there is none. Blocks for 3 s at most.

    A live server keeps its record in its lock file too, so it is found although somebody removed NAME.json.
    """
    for file in (f"{name}.json", f"{name}.lock"):
        record = _parsed(runtime.read(file))
        if record is not None:
            try:
                return call(record.port, runtime.token(), role, strict=strict)
            except (ConnectionLost, NotOurServer):
                continue
    return None


def _parsed(data: bytes | None) -> ServerRecord | None:
    try:
        record = ServerRecord(**json.loads(data)) if data else None
    except (ValueError, TypeError, RecursionError):
        return None
    if record is None or type(record.port) is not int or not 0 < record.port < 65536:
        return None
    return record


def ensure(runtime: RuntimeDirectory, program: Program) -> Connection:
    """A connection to the server, which is started if it does not run. Many may call at once: one of them starts it.

    Blocks until it listens. Raises ServersUnreachable with the reason, or the error with which the server refused.
    """
    start_lock = _lock_within(runtime, f"{program.name}.start.lock", READY_SECONDS + LEAVING_SECONDS)
    try:
        if connection := connect(runtime, program.name):
            return connection
        life_lock = _lock_within(runtime, f"{program.name}.lock", LEAVING_SECONDS)
        try:
            port = _spawn(program, start_lock, life_lock)
        finally:
            os.close(life_lock)  # closed, never unlocked: an unlock would release the child's copy too
    finally:
        os.close(start_lock)
    try:
        return call(port, runtime.token(), "client")
    except (ConnectionLost, NotOurServer) as error:
        raise ServersUnreachable(f"{program.name} ended as soon as it was started: {error}", "try again") from error


def clear_away(runtime: RuntimeDirectory, name: str, seconds: float) -> bool:
    """Blocks until no process is that server, then removes the record that a killed one left behind.

    False when `seconds` were not enough.
    """
    try:
        life_lock = _lock_within(runtime, f"{name}.lock", seconds)
    except ServersUnreachable:
        return False
    runtime.remove(f"{name}.json")
    os.ftruncate(life_lock, 0)
    os.close(life_lock)
    return True


def _lock_within(runtime: RuntimeDirectory, name: str, seconds: float) -> int:
    """The lock, at once or after its holder has left. flock knows no deadline, so a thread waits in our place."""
    fd = runtime.lock(name, wait=False)
    if fd is not None:
        return fd
    import queue
    import threading

    taken: queue.SimpleQueue[int] = queue.SimpleQueue()
    given_up = threading.Event()

    def wait() -> None:
        late = runtime.lock(name, wait=True)
        if late is not None:
            if given_up.is_set():
                os.close(late)
            else:
                taken.put(late)

    threading.Thread(target=wait, name=f"lock-{name}", daemon=True).start()
    try:
        return taken.get(timeout=seconds)
    except queue.Empty:
        given_up.set()
        raise ServersUnreachable(
            f"another process holds {os.path.join(runtime.path, name)} and does not answer",
            "end it, or run say.py --shutdown, and try again",
        ) from None


def _spawn(program: Program, start_lock: int, life_lock: int) -> int:
    """Starts the server detached and returns its port when it listens."""
    import subprocess
    import threading

    stderr_path = program.stderr_path
    try:
        private_directory(os.path.dirname(stderr_path))  # somebody may have emptied the cache meanwhile
    except OSError:
        stderr_path = os.devnull
    ready_read, ready_write = os.pipe()
    fds = (start_lock, life_lock, ready_write)
    try:
        with open(stderr_path, "ab", opener=lambda path, flags: os.open(path, flags, 0o600)) as stderr:
            if stderr.tell() > MAX_STDERR_BYTES:
                stderr.truncate(0)
            process = subprocess.Popen(
                [sys.executable, program.path, "--inherited", ",".join(map(str, fds)), *program.arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                cwd="/",
                env=program.environment,
                pass_fds=fds,
                start_new_session=True,  # a closed terminal or Ctrl-C in it does not reach the server
            )
    except OSError as error:
        os.close(ready_read)
        raise ServersUnreachable(f"cannot start {program.path}: {error}", "see say.py --debug") from error
    finally:
        os.close(ready_write)

    def reap() -> None:
        code = process.wait()
        if program.on_exit is not None:
            program.on_exit(code)

    threading.Thread(target=reap, name=f"reap-{program.name}", daemon=True).start()
    try:
        return _ready_port(program, ready_read)
    except ServersUnreachable:
        process.terminate()
        raise
    finally:
        os.close(ready_read)


def _ready_port(program: Program, ready: int) -> int:
    answer = b""
    deadline = time.monotonic() + READY_SECONDS
    while not answer.endswith(b"\n"):
        if not select.select([ready], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise ServersUnreachable(f"{program.name} was not ready within {READY_SECONDS:.0f} s", "try again")
        data = os.read(ready, 4096)
        if not data:
            raise ServersUnreachable(
                f"{program.name} died at its start: {_last_line(program.stderr_path)}", f"see {program.stderr_path}"
            )
        answer += data
    report = json.loads(answer)
    if "error" in report:
        raise error_for(report["code"], report["error"])
    return int(report["port"])


def _last_line(path: str) -> str:
    try:
        with open(path, "rb") as file:
            lines = file.read()[-4096:].decode("utf-8", "replace").strip().splitlines()
    except OSError as error:
        return str(error)
    return lines[-1] if lines else "it gave no reason"


# --- The server's side -----------------------------------------------------------------------------------------------


class Life:
    """The server's own place: its locks, its record, its ready signal. Used by the main thread alone."""

    def __init__(self, runtime: RuntimeDirectory, name: str, inherited: str) -> None:
        """`inherited`: descriptors from the starter, or empty when the program was started by hand.

        Raises ServersUnreachable when started by hand while another one runs.
        """
        self.name = name
        self._runtime = runtime
        self._record = b""
        self._token = b""
        self._start_lock: int | None
        self._life_lock: int | None
        self._ready: int | None = None
        if inherited:
            self._start_lock, self._life_lock, self._ready = map(int, inherited.split(","))
            for fd in (self._start_lock, self._life_lock, self._ready):
                os.set_inheritable(fd, False)  # the lock must not live on in our own children
        else:
            self._start_lock = runtime.lock(f"{name}.start.lock", wait=True)
            self._life_lock = runtime.lock(f"{name}.lock", wait=False)
        if self._life_lock is None:
            raise ServersUnreachable(f"{name} is already running", "use it, or run say.py --shutdown first")
        os.umask(0o077)

    def announce(self, port: int) -> None:
        """Publishes the record and tells the starter. Call when the port listens."""
        self._record = json.dumps(ServerRecord(pid=os.getpid(), port=port).as_dict()).encode()
        self._token = self._runtime.token()
        assert self._life_lock is not None
        os.ftruncate(self._life_lock, 0)
        os.pwrite(self._life_lock, self._record, 0)
        self._runtime.write(f"{self.name}.json", self._record)
        self._tell({"port": port})

    def refuse(self, error: KokoroError) -> None:
        """Tells the starter why there will be no server."""
        self._tell({"error": str(error), "code": error.exit_code})

    def keep(self) -> bool:
        """Puts back the lock, the token and the record if somebody removed them.

        False: they cannot be, so that no client will find us, or a successor has them.
        """
        try:
            if not self._keep_lock() or self._runtime.token() != self._token:
                return False
            if self._runtime.read(f"{self.name}.json") != self._record:
                self._runtime.write(f"{self.name}.json", self._record)
        except (OSError, ServersUnreachable):  # the whole directory was removed, or the disk is full
            return False
        return True

    def _keep_lock(self) -> bool:
        """Takes the lock anew if its file was removed: a lock on what has no name excludes nobody."""
        assert self._life_lock is not None
        if self._runtime.is_still(f"{self.name}.lock", self._life_lock):
            return True
        start_lock = self._runtime.lock(f"{self.name}.start.lock", wait=False)
        if start_lock is None:
            return True  # somebody starts a successor: the next look tells
        try:
            again = self._runtime.lock(f"{self.name}.lock", wait=False)
            if again is None:
                return False
            os.pwrite(again, self._record, 0)
            os.close(self._life_lock)
            self._life_lock = again
        finally:
            os.close(start_lock)
        return True

    def leave(self) -> None:
        """Withdraws the record, so that no client calls any more. The lock goes when the process has ended."""
        if self._runtime.read(f"{self.name}.json") == self._record:
            self._runtime.remove(f"{self.name}.json")
        assert self._life_lock is not None
        os.ftruncate(self._life_lock, 0)

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


def serve(name: str, inherited: str, make: Callable[[Settings, RuntimeDirectory, Life], Server]) -> int:
    """Main of a server program: makes it, runs it to its end. Returns an exit code when it could not be made."""
    life: Life | None = None
    try:
        settings = resolve()
        runtime = RuntimeDirectory(settings.runtime_dir)
        life = Life(runtime, name, inherited)
        server = make(settings, runtime, life)
    except KokoroError as error:
        if life is not None:
            life.refuse(error)
        print(f"{name}: {error}", file=sys.stderr)
        return error.exit_code
    on_signals(server.shut_down)
    server.run()
    return end_process()


def on_signals(shutdown: Callable[[], None]) -> None:
    """SIGTERM, SIGINT and SIGQUIT call `shutdown` on the main thread; the second one ends the process at once."""
    asked: list[int] = []

    def handle(number: int, _frame: object) -> None:
        if asked:
            os._exit(128 + number)
        asked.append(number)
        shutdown()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, handle)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a closed terminal is no reason to fall silent


def end_process() -> NoReturn:
    """Ends a server whose work is done. Not by returning: PortAudio's and torch's exit handlers may wait for ever."""
    import logging

    logging.shutdown()
    os._exit(0)


def start_log(settings: Settings, component: str) -> logging.Logger:
    """The logger "kokoro", writing JSON lines to the component's log and to the central kokoro.log."""
    import logging
    import threading

    logger = logging.getLogger("kokoro")
    logger.setLevel(logging.DEBUG if settings.debug else logging.INFO)
    logger.propagate = False
    logger.addHandler(_log_handler(private_directory(settings.log_dir), component))

    def thread_died(problem: threading.ExceptHookArgs) -> None:
        """A server that has lost a thread only looks alive: let it be seen, and started again by who needs it."""
        assert problem.exc_value is not None
        logger.critical("thread died: the server ends", exc_info=problem.exc_value)
        os._exit(1)

    threading.excepthook = thread_died
    return logger


def _log_handler(directory: str, component: str) -> logging.Handler:
    import logging

    plain = set(vars(logging.makeLogRecord({}))) | {"message", "asctime"}

    class JsonLines(logging.Handler):
        """One O_APPEND write per record and file, so lines never mix; json escapes what could forge one."""

        def __init__(self) -> None:
            super().__init__()
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._fds = [
                os.open(os.path.join(directory, f"{name}.log"), flags, 0o600) for name in (component, "kokoro")
            ]

        def emit(self, record: logging.LogRecord) -> None:
            entry = {
                "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(record.created)) + f".{record.msecs:03.0f}",
                "component": component,
                "pid": os.getpid(),
                "level": record.levelname.lower(),
                "room": record.name,
                "event": record.getMessage(),
                **{key: value for key, value in vars(record).items() if key not in plain},
            }
            if record.exc_info:
                import traceback

                entry["traceback"] = "".join(traceback.format_exception(*record.exc_info))
            line = json.dumps(entry, default=str).encode() + b"\n"
            for fd in self._fds:
                try:
                    os.write(fd, line)
                except OSError:
                    self.handleError(record)  # a full disk: speech goes on, stderr keeps a trace

    return JsonLines()
