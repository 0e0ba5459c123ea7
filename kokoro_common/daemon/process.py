"""Our other processes, seen from outside: whether a pid is the process meant, whether it works, and how to end it.

A pid alone says nothing: it may be anybody's by now. What a server noted of itself (pid and start) has to match, and
the lock it holds tells that it lives.
"""

from __future__ import annotations

import os
import signal

MAX_MISSES = 3  # pings without an answer; counted, not timed: the machine may have been asleep
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)  # signals that ask a server to end
HELD_BACK = (*ENDING, signal.SIGHUP)  # while a server starts: until it knows what to do
TERMINATE_SECONDS = 2.0  # between SIGTERM and SIGKILL
UNSEEN = "unseen"  # a state: it cannot be seen now, and is believed to work


def start_of(pid: int) -> str:
    """When the process began, to be compared for equality only; empty when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # in ticks since boot: a clock that is set does not change it
            return file.read().rpartition(b")")[2].split()[19].decode()
    except (OSError, IndexError):
        pass
    if os.path.isdir("/proc/self"):
        return ""
    import psutil

    try:
        return str(psutil.Process(pid).create_time())
    except psutil.Error:
        return ""


def network() -> str:
    """The network namespace of this process, to be compared for equality only; empty where there are none.

    A port on 127.0.0.1 can be called within it alone.
    """
    try:
        return os.readlink("/proc/self/ns/net")
    except OSError:
        return ""


def signs_of_life(pid: int) -> tuple[float, str]:
    """(seconds of CPU time so far, state): a process that works changes the first; one that waits for a disk says so.

    (0.0, "gone") when there is no such process; (0.0, UNSEEN) when this one has no descriptor to look with.
    """
    try:
        import psutil

        process = psutil.Process(pid)
        times = process.cpu_times()
        return times.user + times.system, process.status()
    except OSError:
        return 0.0, UNSEEN
    except psutil.Error:
        return 0.0, "gone"


def works(before: tuple[float, str], now: tuple[float, str]) -> bool:
    """Whether a process that does not answer was at least busy between two looks at its signs of life."""
    return now[0] > before[0] or now[1] in ("disk-sleep", UNSEEN)


class Pulse:
    """Tells whether a pinged server hangs: it neither answers pings nor works. For the thread that waits for it."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._misses = 0
        self._signs = (0.0, "")

    def answered(self) -> None:
        """Call when the server has sent anything."""
        self._misses = 0

    def hangs(self) -> bool:
        """Call before each ping. True when MAX_MISSES pings stayed without an answer and the process does nothing."""
        if self._misses:
            before, self._signs = self._signs, signs_of_life(self._pid)
            if self._misses >= MAX_MISSES and not works(before, self._signs):
                return True
        self._misses += 1
        return False


def is_seen(pid: int, started: str) -> bool:
    """Whether exactly that process runs here. One in a container of its own has another pid outside of it."""
    return bool(started) and start_of(pid) == started


def terminate(pid: int, started: str, by: signal.Signals = signal.SIGTERM) -> None:
    """Sends the signal to exactly that process. Does nothing if it is gone or its pid belongs to another by now."""
    if is_seen(pid, started):
        try:
            os.kill(pid, by)
        except ProcessLookupError:
            pass


def end(pid: int, started: str) -> None:
    """Ends exactly that process, by SIGTERM, then SIGKILL. Blocks until it is gone. Does nothing as in terminate()."""
    import psutil

    if not is_seen(pid, started):
        return
    try:
        process = psutil.Process(pid)
        process.send_signal(signal.SIGTERM)
        if process.status() == "stopped" or psutil.wait_procs([process], timeout=TERMINATE_SECONDS)[1]:
            process.kill()
            process.wait(TERMINATE_SECONDS)
    except (psutil.NoSuchProcess, psutil.TimeoutExpired):
        pass  # gone, or a zombie that its parent has not looked at yet
