"""Finds a server by its record, starts it once under locks, waits for its ready signal, replaces it when it hangs.

Each server NAME has a record NAME.json ("listening on this port") and two locks in the runtime directory:

    NAME.start.lock   held from before a starter looks until the record is written: starters wait for each other
    NAME.lock         held by the server for its life, inherited from its starter; what is written in it (Note) tells
                      the next starter whether the last server left, or died, and how often that happened of late

Truth is the lock and the handshake, never the pid in the record.

Over 400 lines: finding, starting, replacing and ending share these locks, and a race between two of them is seen only
where they stand together.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import time

from kokoro_common.daemon import process
from kokoro_common.daemon.record import (
    DEATH_SECONDS,
    MAX_DEATHS,
    ServerRecord,
    note_of,
    printable,
    record_of,
    write_note,
)
from kokoro_common.daemon.runtime_directory import RuntimeDirectory
from kokoro_common.errors import SAY, ServersBusy, ServersUnreachable, error_for
from kokoro_common.files import open_for_lines
from kokoro_common.record import Record
from kokoro_common.wire.connection import (
    HANDSHAKE_SECONDS,
    Busy,
    Connection,
    ConnectionLost,
    NoAnswer,
    NotOurServer,
    call,
    readable,
)
from kokoro_common.wire.messages import PROTOCOL

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

READY_SECONDS = 30.0  # from spawn to listening: only the interpreter and light imports lie between
MAX_STDERR_BYTES = 1 << 20  # size at which the stderr file is emptied; until then it keeps the last words of crashes
LEAVING_SECONDS = 15.0  # longest time from the removal of a server's record to the end of its process
BUSY_RETRY_SECONDS = 2.0
MIN_RETRY_SECONDS = 0.1
CROWD_SECONDS = 5.0  # for a server that has no place for one more caller: strangers have theirs for 2 s
BUSY_SECONDS = 30.0  # longest wait for a server that works but does not answer
BACKOFF_SECONDS = (0.0, 1.0, 1.0, 2.0, 3.0)  # pause before a start, by the number of recent deaths


class Program(Record):
    """How a server is started, when it does not run."""

    name: str  # as in the names of record and locks: "model", "voice-af_heart"
    path: str  # the Python file
    environment: dict[str, str]  # all of it: nothing is inherited
    arguments: tuple[str, ...] = ()
    stderr_path: str = os.devnull  # file that gets the interpreter's own messages, crashes above all
    on_exit: Callable[[int], None] | None = None  # called on a thread of its own with the return code


def connect(
    runtime: RuntimeDirectory,
    name: str,
    role: str = "client",
    *,
    strict: bool = False,
    patient: bool = False,
    crowd_seconds: float = CROWD_SECONDS,
) -> Connection | None:
    """A connection to the running server, or None when none answers. Blocks for 3 s, and `crowd_seconds` where it has
    no place for one more caller. Raises ServersBusy.

    A live server keeps its record in its lock file too, so it is found although somebody removed NAME.json. With
    `patient` a server that works and does not answer in time gets twice as long, and is called busy then.
    """
    deadline = time.monotonic() + crowd_seconds
    tried = None
    for record in (record_of(runtime, name), note_of(runtime, name).record):
        if record is None or not record.port or record.port == tried or record.is_elsewhere:
            continue
        tried = record.port
        before = (0.0, "")
        for look in range(1 + patient):
            try:
                return call_in_a_crowd(
                    functools.partial(call, record.port, runtime.token(), role, strict=strict),
                    deadline,
                    lambda: runs(runtime, name),
                )
            except Busy as error:
                if runs(runtime, name):  # else another program has its port
                    raise ServersBusy(error.retry_after) from error
                break
            except NoAnswer as error:
                if not patient or not runs(runtime, name):
                    break
                signs = process.signs_of_life(record.pid)
                if look and process.works(before, signs):
                    raise ServersBusy(BUSY_RETRY_SECONDS) from error
                before = signs
            except (ConnectionLost, NotOurServer):
                break
    return None


def end_hung(runtime: RuntimeDirectory, name: str) -> None:
    """Ends the server if it neither answers nor works. Blocks for seconds. Raises ServersUnreachable or ServersBusy."""
    start_lock = _lock_within(runtime, f"{name}.start.lock", READY_SECONDS + LEAVING_SECONDS)
    try:
        life_lock = _life_lock(runtime, name)
        if life_lock is not None:
            runtime.remove(f"{name}.json")
            os.close(life_lock)
    finally:
        os.close(start_lock)


def call_in_a_crowd(
    call_once: Callable[[], Connection], deadline: float, believed: Callable[[], bool] = lambda: True
) -> Connection:
    """What `call_once` returns, which is tried again while the server says that it is busy: until the deadline, a
    time.monotonic(), or while that is `believed`. Raises Busy, and what `call_once` raises."""
    while True:
        try:
            return call_once()
        except Busy as error:
            # It does not tell when it has room, so there is nothing to wait for but time; not all at the same one.
            wait = max(MIN_RETRY_SECONDS, error.retry_after) * (0.2 + 0.8 * int.from_bytes(os.urandom(1)) / 256)
            if time.monotonic() + wait > deadline or not believed():
                raise
            time.sleep(wait)


def runs(runtime: RuntimeDirectory, name: str) -> bool:
    """Whether a process has the server's lock: it lives, though it may not answer."""
    life_lock = runtime.lock(f"{name}.lock", wait=False)
    if life_lock is not None:
        os.close(life_lock)
    return life_lock is None


def serves(runtime: RuntimeDirectory, name: str) -> bool:
    """Whether it runs and ought to answer: it has said that it listens, and not that it leaves."""
    note = note_of(runtime, name)
    return note.record is not None and note.record.port > 0 and not note.leaving and runs(runtime, name)


def ensure(runtime: RuntimeDirectory, program: Program) -> Connection:
    """A connection to the server, which is started if it does not run. Many may call at once: one of them starts it.

    Blocks until it listens: one that hangs is ended first, one of an older protocol drains first, one that dies is
    started again after a pause, and so is one that somebody tells to end. Raises ServersUnreachable with the reason of
    the last death, ServersBusy, or the error with which the server refused.
    """
    starts = 0
    start_lock = _lock_within(runtime, f"{program.name}.start.lock", READY_SECONDS + LEAVING_SECONDS)
    try:
        while True:
            if connection := connect(runtime, program.name):
                return connection
            life_lock = _life_lock(runtime, program.name)
            if life_lock is None:
                continue
            try:
                if starts > MAX_DEATHS:  # that many deaths have been met before
                    raise ServersUnreachable(f"{program.name} is told to end whenever it is started", "try again later")
                starts += 1
                _start(runtime, program, start_lock, life_lock)
            finally:
                os.close(life_lock)  # closed, never unlocked: an unlock would release the child's copy too
    finally:
        os.close(start_lock)


def _start(runtime: RuntimeDirectory, program: Program, start_lock: int, life_lock: int) -> None:
    """Starts a server and waits until it listens or has ended. Raises ServersUnreachable when too many have died."""
    if not runtime.is_found():  # its servers would go by the path
        raise ServersUnreachable(f"the runtime directory {runtime.path} was moved or removed", "try again")
    for path in (program.path, sys.executable):
        if not os.path.exists(path):
            raise ServersUnreachable(
                f"{path} is gone: Kokoro Say was moved or removed while it ran", f"run {SAY} --shutdown, then try again"
            )
    note = note_of(runtime, program.name)
    had_listened = False
    if note.record is not None:
        had_listened = note.record.port > 0
        deaths = (*note.deaths, (time.monotonic(), _last_words(program.stderr_path, note.stderr_bytes)))
        note = note.replace(record=None, deaths=deaths[-MAX_DEATHS:], died=note.died + 1)
    recent = note.recent_deaths()
    if recent >= MAX_DEATHS:
        write_note(runtime, life_lock, note)
        raise ServersUnreachable(
            f"{program.name} died {recent} times within {DEATH_SECONDS:.0f} s, the last time: {note.deaths[-1][1]}",
            f"see {program.stderr_path}, then try again in a minute or after {SAY} --shutdown",
        )
    if not (had_listened and recent == 1):  # the first death of one that worked: no reason to keep anybody waiting
        time.sleep(BACKOFF_SECONDS[recent])
    child = ServerRecord(pid=0, port=0)  # until the server writes its own record
    write_note(runtime, life_lock, note.replace(record=child, leaving=False, stderr_bytes=_size(program.stderr_path)))
    _spawn(program, start_lock, life_lock)


def _life_lock(runtime: RuntimeDirectory, name: str) -> int | None:
    """The lock of a server that did not answer; None when the caller should look again.

    It is ours when the server has died or left. One that hangs is ended: it answers nobody, and does not work either.
    """
    fd = runtime.lock(f"{name}.lock", wait=False)
    if fd is not None:
        return fd
    note = note_of(runtime, name)
    record = note.record
    if record is not None and not note.leaving:
        if record.is_elsewhere:
            raise ServersUnreachable(
                f"{name} runs in another network namespace, where it cannot be called from here",
                f"call it there, set KOKORO_RUNTIME_DIR to another directory here, or end it by {SAY} --shutdown",
            )
        if record.protocol > PROTOCOL:
            raise ServersUnreachable(
                f"the servers are newer (version {record.version}) than this program", "use the newer program"
            )
        if record.protocol == PROTOCOL:
            return _lock_of_the_hung(runtime, name, record)
        process.terminate(record.pid, record.started)  # it lets what is being spoken end, for 5 s
    try:
        return _lock_within(runtime, f"{name}.lock", LEAVING_SECONDS)
    except ServersUnreachable:
        if record is None and note_of(runtime, name).record is not None:
            return None  # what was written of it was damaged, and it has mended that
        if record is None:
            raise
    process.end(record.pid, record.started)
    return _lock_within(runtime, f"{name}.lock", LEAVING_SECONDS)


def _lock_of_the_hung(runtime: RuntimeDirectory, name: str, record: ServerRecord) -> int | None:
    from kokoro_common.daemon.awaited_lock import AwaitedLock

    deadline = time.monotonic() + BUSY_SECONDS
    with AwaitedLock(runtime, f"{name}.lock") as life_lock:
        while True:
            before = process.signs_of_life(record.pid)
            looked = time.monotonic()
            silent = record.port == 0
            try:
                call(record.port, runtime.token(), "client").close()
                return None
            except Busy as error:
                raise ServersBusy(error.retry_after) from error
            except NoAnswer:
                silent = True
            except (ConnectionLost, NotOurServer):
                pass  # it may listen where we do not see it: not ours to end
            taken = life_lock.within(looked + HANDSHAKE_SECONDS - time.monotonic())
            if taken is not None:
                return taken
            if note_of(runtime, name).record != record:
                return None  # it was just starting
            if silent and not process.works(before, process.signs_of_life(record.pid)):
                process.end(record.pid, record.started)
                taken = life_lock.within(LEAVING_SECONDS)
                if taken is not None:
                    return taken
                raise _held(runtime, f"{name}.lock")
            if time.monotonic() > deadline:
                raise _held(runtime, f"{name}.lock")


def end_elsewhere(runtime: RuntimeDirectory, name: str) -> bool:
    """Ends a server of another network namespace, which cannot be told to. Whether there was one. Blocks for seconds.

    Raises ServersUnreachable when its process cannot be seen from here, or does not end.
    """
    record = note_of(runtime, name).record
    if record is None or not record.is_elsewhere or not runs(runtime, name):
        return False
    if not process.is_seen(record.pid, record.started):
        raise ServersUnreachable(f"{name} runs in another container, out of reach", f"run {SAY} --shutdown there")
    process.terminate(record.pid, record.started, signal.SIGINT)
    try:
        os.close(_lock_within(runtime, f"{name}.lock", LEAVING_SECONDS))
    except ServersUnreachable:
        process.end(record.pid, record.started)
    return True


def clear_away(runtime: RuntimeDirectory, name: str) -> bool:
    """Forgets a server that was told to end: its record and its deaths. Blocks until no process is that server.

    One that hangs is ended. False when it goes on and answers. Raises ServersUnreachable when nothing helps.
    """
    life_lock = _life_lock(runtime, name)
    if life_lock is None:
        return False
    runtime.remove(f"{name}.json")
    os.ftruncate(life_lock, 0)
    os.close(life_lock)
    return True


def remove_stale_record(runtime: RuntimeDirectory, name: str) -> None:
    """Removes the record of a server that has died, unless its successor already runs. Does not block."""
    life_lock = runtime.lock(f"{name}.lock", wait=False)
    if life_lock is not None:
        runtime.remove(f"{name}.json")
        os.close(life_lock)


def _lock_within(runtime: RuntimeDirectory, name: str, seconds: float) -> int:
    """The lock, at once or after its holder has left. Raises ServersUnreachable."""
    fd = runtime.lock(name, wait=False)
    if fd is not None:
        return fd
    from kokoro_common.daemon.awaited_lock import AwaitedLock

    with AwaitedLock(runtime, name) as lock:
        fd = lock.within(seconds)
    if fd is None:
        raise _held(runtime, name)
    return fd


def _held(runtime: RuntimeDirectory, name: str) -> ServersUnreachable:
    return ServersUnreachable(
        f"another process holds {os.path.join(runtime.path, name)} and does not answer",
        f"end it, or run {SAY} --shutdown, and try again",
    )


def _spawn(program: Program, start_lock: int, life_lock: int) -> None:
    """Starts the server detached. Blocks until it listens or has ended. Raises ServersUnreachable, or the error of a
    refusal."""
    import threading

    try:
        child, ready = _started_process(program, start_lock, life_lock)
    except OSError as error:
        raise ServersUnreachable(f"cannot start {program.path}: {error}", f"see {SAY} --debug") from error

    def reap() -> None:
        code = child.wait()
        if program.on_exit is not None:
            program.on_exit(code)

    try:
        try:
            threading.Thread(target=reap, name=f"reap-{program.name}", daemon=True).start()
        except RuntimeError as error:  # nobody would take its exit status, nor hear of its end
            child.kill()
            child.wait()
            raise ServersUnreachable(f"cannot start {program.path}: {error}", "try again") from error
        _await_ready(program, ready)
    except ServersUnreachable:
        child.kill()  # it may be stopped: no other signal would reach it
        raise
    finally:
        os.close(ready)


def _started_process(program: Program, start_lock: int, life_lock: int) -> tuple[subprocess.Popen[bytes], int]:
    """The process, and the descriptor on which it will say that it listens. Does not block. Raises OSError.

    Signals that ask it to end reach it when it has a Life, which notes that it was asked.
    """
    import subprocess
    from contextlib import ExitStack

    with ExitStack() as if_it_fails:
        with ExitStack() as handed_over:
            stderr = _opened_stderr(program.stderr_path)
            handed_over.callback(os.close, stderr)
            ready_read, ready_write = os.pipe()
            if_it_fails.callback(os.close, ready_read)
            handed_over.callback(os.close, ready_write)
            fds = (start_lock, life_lock, ready_write)
            unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, process.HELD_BACK)  # which a child inherits
            # May raise what a signal raises that came meanwhile.
            handed_over.callback(signal.pthread_sigmask, signal.SIG_SETMASK, unblocked)
            child = subprocess.Popen(
                [sys.executable, program.path, "--inherited", ",".join(map(str, fds)), *program.arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                cwd="/",
                env=program.environment,
                pass_fds=fds,
                start_new_session=True,  # a closed terminal or Ctrl-C in it does not reach the server
            )
        if_it_fails.pop_all()
    return child, ready_read


def _opened_stderr(path: str) -> int:
    """A descriptor of the file for a server's own messages; of /dev/null where it cannot be written: logs are no reason
    to fall silent."""
    try:
        fd = open_for_lines(path)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    if os.fstat(fd).st_size > MAX_STDERR_BYTES:
        os.ftruncate(fd, 0)
    return fd


def _await_ready(program: Program, ready: int) -> None:
    """Waits for the ready signal, or the server's end. Blocks for READY_SECONDS. Raises the error of a refusal."""
    answer = b""
    deadline = time.monotonic() + READY_SECONDS
    while not answer.endswith(b"\n"):
        if not readable([ready], deadline - time.monotonic()):
            raise ServersUnreachable(f"{program.name} was not ready within {READY_SECONDS:.0f} s", "try again")
        data = os.read(ready, 4096)
        if not data:
            return
        answer += data
    report = json.loads(answer)
    if "error" in report:
        raise error_for(report["code"], report["error"])


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _last_words(path: str, begin: int) -> str:
    """The last line that a dead server wrote to its stderr, which began at `begin`."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - 4096, begin if begin <= size else 0))
            lines = file.read().decode("utf-8", "replace").strip().splitlines()
    except OSError:
        lines = []
    return (printable(lines[-1]) if lines else "") or "it was killed, perhaps out of memory"
