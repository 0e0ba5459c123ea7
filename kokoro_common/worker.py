"""Processes of their own for libraries that may crash, hang or take too much, and the pipes to those that serve long.

    owner                               worker process
    Worker.ask(request) --HEAD, bytes--> requests()
                        <--HEAD, bytes-- answer(number, reply)

A reply carries the number of its request. A worker that says something else, says it unasked, ends or is silent is lost
and ended: its successor begins with an empty pipe, so no request ever gets the answer to another one. Only the worker
process itself holds the pipes; what it forks hands its answer to the worker, whole or not at all (`forked`), and what a
library prints goes to stderr. Standard library only.
"""

from __future__ import annotations

import os
import select
import signal
import struct
import sys
import time

from kokoro_common.installed import ROOT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_BOOTSTRAP = (
    "import importlib, sys; sys.path.insert(0, sys.argv[1]); importlib.import_module(sys.argv[2]).serve(*sys.argv[3:])"
)
HEAD = struct.Struct("<II")  # number of a request, from 1; bytes that follow
MAX_BYTES = 256 << 20  # of a request or reply; 1,600 characters at the slowest are some 10 MB of samples
CLOSE_SECONDS = 5.0  # for a worker to end and clean up by itself, until it is killed
# Signals by which a library ends its own process. Any other comes from outside: from a person, or for want of memory.
CRASHES = frozenset({signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP})
ATTEMPTS = 3  # at a request whose process was ended from outside, each with a new process


def command(module: str, *arguments: str, options: tuple[str, ...] = ("-P",)) -> list[str]:
    """The command line of a Python process that calls `module.serve(*arguments)`.

    `options` are the interpreter's: "-P" leaves the working directory out of the search path; "-I", "-S" leave out
    everything but the standard library and this package.
    """
    return [sys.executable, *options, "-c", _BOOTSTRAP, ROOT, module, *arguments]


# --- The owner's side ------------------------------------------------------------------------------------------------


class WorkerLost(Exception):
    """The worker ended, was silent for too long, or said something that was not asked for. It has been ended."""


class Worker:
    """A worker process, one request at a time. For one thread. It ends with its owner, at the end of its input."""

    def __init__(self, line: list[str], environment: Mapping[str, str] | None = None) -> None:
        """Starts the process and does not wait for it. Raises OSError."""
        import subprocess

        self._process = subprocess.Popen(
            line,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=environment,
            process_group=0,  # so that it can be ended together with what it has forked
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._requests, self._replies = self._process.stdin, self._process.stdout
        self._number = 0
        os.set_blocking(self._requests.fileno(), False)

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, request: bytes, seconds: float) -> bytes:
        """The reply. Blocks, for `seconds` at most. Raises WorkerLost; the worker is closed then."""
        if self._process.returncode is not None:
            raise WorkerLost("it was closed")
        self._number = self._number % 0xFFFF_FFFF + 1
        deadline = time.monotonic() + seconds
        try:
            if self._ready(self._replies.fileno(), select.POLLIN, 0.0):
                raise WorkerLost("it ended, or spoke unasked")
            self._send(HEAD.pack(self._number, len(request)) + request, deadline)
            number, length = HEAD.unpack(self._receive(HEAD.size, deadline))
            if number != self._number or length > MAX_BYTES:
                raise WorkerLost(f"it answered request {number} with {length} bytes, asked was {self._number}")
            return self._receive(length, deadline)
        except (OSError, WorkerLost) as error:
            self.close()
            raise WorkerLost(str(error)) from error

    def close(self) -> None:
        """Ends the process and all it has forked. Blocks until then, for CLOSE_SECONDS at most. Idempotent."""
        if self._process.returncode is not None:
            return
        self._requests.close()
        self._replies_end()
        try:
            os.killpg(self._process.pid, signal.SIGKILL)  # not waited for yet, so the number is still its own
        except (ProcessLookupError, PermissionError):
            pass  # all have ended; macOS does not let us signal what has
        self._replies.close()
        self._process.wait()

    def _replies_end(self) -> None:
        """Waits until the worker has closed its side, as it does when it ends."""
        deadline = time.monotonic() + CLOSE_SECONDS
        while self._ready(self._replies.fileno(), select.POLLIN, deadline - time.monotonic()):
            if not self._replies.read(1 << 16):
                return

    def _send(self, data: bytes, deadline: float) -> None:
        view = memoryview(data)
        while view:
            if not self._ready(self._requests.fileno(), select.POLLOUT, deadline - time.monotonic()):
                raise WorkerLost("it takes no request")
            view = view[self._requests.write(view) or 0 :]

    def _receive(self, length: int, deadline: float) -> bytes:
        data = bytearray()
        while len(data) < length:
            if not self._ready(self._replies.fileno(), select.POLLIN, deadline - time.monotonic()):
                raise WorkerLost("it does not answer")
            part = self._replies.read(length - len(data))
            if not part:
                raise WorkerLost("it ended")
            data += part
        return bytes(data)

    @staticmethod
    def _ready(fd: int, events: int, seconds: float) -> bool:
        poller = select.poll()
        poller.register(fd, events)
        return bool(poller.poll(max(0, round(1000 * seconds))))


# --- The worker's side -----------------------------------------------------------------------------------------------


class Requests:
    """The requests of the owner, in the worker process, and the way back. Ends with the owner's side of the pipe."""

    def __init__(self) -> None:
        """Takes standard input and output for itself: what a library reads is empty, what it prints goes to stderr."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program that asks
        self._requests, self._replies = os.dup(0), os.dup(1)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Number and bytes of each request. To be answered before the next one is taken."""
        while (request := received(self._requests)) is not None:
            yield request

    def answer(self, number: int, reply: bytes) -> None:
        """Ends this process if the owner has gone."""
        try:
            sent(self._replies, number, reply)
        except BrokenPipeError:
            os._exit(0)

    def forked(self, work: Callable[[], bytes]) -> tuple[int, bytes]:
        """What `work` returns in a child of this process, and the child's exit status; no bytes unless that is 0.

        The status is negative if a signal ended the child, and 1 after an exception, which stands on stderr.
        """
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            self.left_to_the_worker()
            end_child(lambda: sent(writing, 0, work()))
        os.close(writing)
        reply = received(reading)
        os.close(reading)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return status, reply[1] if reply is not None and status == 0 else b""

    def left_to_the_worker(self) -> None:
        """In a child: closes the pipes to the owner."""
        os.close(self._requests)
        os.close(self._replies)


def end_child(work: Callable[[], object]) -> None:
    """Does the work of a forked child without core files. Never returns."""
    import resource
    import traceback

    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def sent(fd: int, number: int, data: bytes) -> None:
    """Writes one numbered message. Blocks. Raises OSError."""
    view = memoryview(HEAD.pack(number, len(data)) + data)
    while view:
        view = view[os.write(fd, view) :]


def received(fd: int) -> tuple[int, bytes] | None:
    """The next numbered message, None if the other side ends before it is whole. Blocks. Raises OSError."""
    head = _exactly(fd, HEAD.size)
    if len(head) < HEAD.size:
        return None
    number, length = HEAD.unpack(head)
    data = _exactly(fd, length)
    return (number, data) if len(data) == length else None


def _exactly(fd: int, length: int) -> bytes:
    """So many bytes, or fewer if the other side ends."""
    data = bytearray()
    while len(data) < length and (part := os.read(fd, min(length - len(data), 1 << 20))):
        data += part
    return bytes(data)
