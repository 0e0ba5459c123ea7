"""Another process, seen from outside; or not, while this one has no descriptor to look with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest

from kokoro_common.daemon.process import MAX_MISSES, Pulse, signs_of_life, works
from tests.helpers.descriptors import no_descriptors

linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere psutil opens nothing")


@linux
def test_a_server_that_cannot_be_seen_does_not_hang() -> None:
    seen = signs_of_life(os.getpid())
    pulse = Pulse(os.getpid())
    with no_descriptors():
        assert not sum(pulse.hangs() for _ in range(3 * MAX_MISSES))
        unseen = signs_of_life(os.getpid())
    assert works(seen, unseen)
    assert works(unseen, seen)


def test_one_that_is_seen_and_does_nothing_does() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        child.send_signal(signal.SIGSTOP)
        while psutil.Process(child.pid).status() != psutil.STATUS_STOPPED:
            os.sched_yield()
        pulse = Pulse(child.pid)
        assert [pulse.hangs() for _ in range(MAX_MISSES + 1)] == [False] * MAX_MISSES + [True]
    finally:
        child.kill()
        child.communicate()


def test_one_that_is_gone_has_no_signs_of_life() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert signs_of_life(child.pid) == (0.0, "gone")
