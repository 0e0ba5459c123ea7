"""Stages in a program's life at which a test may stop it. The test programs call `reached`; the product knows nothing.

The test makes a FIFO in the folder that STAGES names and has it open for reading; its name says which stage, and at
which time of coming there. Who gets so far removes it, lest its successor stops too, writes its pid and stops itself.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import psutil

from kokoro_common.wire.connection import readable

_times: Counter[str] = Counter()  # that this process has come to a stage


def reached(name: str) -> None:
    """Stops this process, all its threads, until it is continued or killed; if a test waits for that."""
    folder = os.environ.get("STAGES")
    if not folder:
        return
    _times[name] += 1
    path = os.path.join(folder, f"{name}.{_times[name]}")
    try:
        fifo = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return  # nobody waits
    try:
        os.unlink(path)
        os.write(fifo, f"{os.getpid()}\n".encode())
    except FileNotFoundError:
        return  # another one was faster
    finally:
        os.close(fifo)
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # this thread goes no step further


class Stop:
    """The test's side: from now on the first process that comes to the stage so many times stops there."""

    def __init__(self, folder: Path, name: str, time: int = 1) -> None:
        self.name = name
        self._path = folder / f"{name}.{time}"
        folder.mkdir(exist_ok=True)
        os.mkfifo(self._path)
        self._fifo = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK)

    def wait(self, seconds: float = 60.0) -> psutil.Process:
        """Blocks until a process has stopped there."""
        try:
            assert readable([self._fifo], seconds), f"nobody came to {self.name}"
            pid = int(os.read(self._fifo, 64))
        finally:
            os.close(self._fifo)
            self._path.unlink(missing_ok=True)
        process = psutil.Process(pid)
        for _ in range(1000):  # the signal is on its way
            if process.status() == psutil.STATUS_STOPPED:
                return process
            time.sleep(0.005)
        raise AssertionError(f"{pid} did not stop at {self.name}")
