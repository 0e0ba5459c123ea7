"""A lock that another process holds: waited for with a deadline, by one thread, and never kept by mistake."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from kokoro_common.daemon import awaited_lock as awaited_lock_module
from kokoro_common.daemon.awaited_lock import AwaitedLock
from kokoro_common.daemon.runtime_directory import RuntimeDirectory
from kokoro_common.errors import ServersUnreachable
from tests.helpers.descriptors import open_descriptors
from tests.helpers.threads import alive, refuse_threads

NAME = "model.lock"
SECONDS = 10  # for what takes none


class Holder:
    """Another process, as far as flock knows."""

    def __init__(self, runtime: RuntimeDirectory) -> None:
        self._runtime = RuntimeDirectory(runtime.path)
        self._lock = self._runtime.lock(NAME, wait=False)
        assert self._lock is not None

    def go(self) -> None:
        assert self._lock is not None
        os.close(self._lock)

    @staticmethod
    def is_free(runtime: RuntimeDirectory) -> bool:
        lock = runtime.lock(NAME, wait=False)
        if lock is not None:
            os.close(lock)
        return lock is not None


@pytest.fixture
def runtime(tmp_path: Path) -> RuntimeDirectory:
    return RuntimeDirectory(str(tmp_path))


def wait_for(condition: Callable[[], bool]) -> None:
    with awaited_lock_module._changed:
        assert awaited_lock_module._changed.wait_for(condition, SECONDS)


def gone() -> None:
    for thread in alive(f"lock-{NAME}"):
        thread.join(SECONDS)
    assert not alive(f"lock-{NAME}")


def test_a_free_lock_is_had_at_once_without_a_thread(
    runtime: RuntimeDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_threads(monkeypatch, "lock-")
    with AwaitedLock(runtime, NAME) as awaited:
        lock = awaited.within(0.0)
    assert lock is not None and not Holder.is_free(runtime)
    os.close(lock)


def test_one_that_comes_free_is_had_and_stays_with_who_got_it(runtime: RuntimeDirectory) -> None:
    holder = Holder(runtime)
    with AwaitedLock(runtime, NAME) as awaited:
        assert awaited.within(0.0) is None
        assert awaited.within(-1.0) is None
        holder.go()
        lock = awaited.within(SECONDS)
    assert lock is not None and not Holder.is_free(runtime)
    os.close(lock)
    assert Holder.is_free(runtime)


def test_an_error_reaches_who_waits(runtime: RuntimeDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    holder = Holder(runtime)
    lock = RuntimeDirectory.lock

    def fails(runtime: RuntimeDirectory, name: str, *, wait: bool) -> int | None:
        if wait:
            raise OSError("no lock to be had")
        return lock(runtime, name, wait=wait)

    monkeypatch.setattr(RuntimeDirectory, "lock", fails)
    with AwaitedLock(runtime, NAME) as awaited, pytest.raises(OSError, match="no lock to be had"):
        awaited.within(SECONDS)
    holder.go()


def test_without_a_thread_it_says_so(runtime: RuntimeDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    holder = Holder(runtime)
    refuse_threads(monkeypatch, "lock-")
    with AwaitedLock(runtime, NAME) as awaited, pytest.raises(ServersUnreachable, match="no thread"):
        awaited.within(SECONDS)
    holder.go()
    assert Holder.is_free(runtime)


def test_a_lock_that_comes_too_late_is_let_go(runtime: RuntimeDirectory) -> None:
    before = open_descriptors()
    holder = Holder(runtime)
    with AwaitedLock(runtime, NAME) as awaited:
        assert awaited.within(0.0) is None
    holder.go()
    gone()
    assert Holder.is_free(runtime)
    del holder
    assert open_descriptors() == before


def test_a_lock_that_comes_between_deadline_and_giving_up_is_let_go(runtime: RuntimeDirectory) -> None:
    holder = Holder(runtime)
    with AwaitedLock(runtime, NAME) as awaited:
        assert awaited.within(0.0) is None
        waiter = awaited._waiter
        assert waiter is not None
        holder.go()
        wait_for(lambda: waiter.outcome is not None)
        assert not Holder.is_free(runtime)
    assert Holder.is_free(runtime)


def test_however_often_it_is_asked_for_one_thread_waits(runtime: RuntimeDirectory) -> None:
    holder = Holder(runtime)
    for _ in range(20):
        with AwaitedLock(runtime, NAME) as awaited:
            assert awaited.within(0.0) is None
    assert len(alive(f"lock-{NAME}")) == 1
    for _ in range(5):
        with AwaitedLock(runtime, NAME) as one, AwaitedLock(runtime, NAME) as other:
            assert one.within(0.0) is other.within(0.0) is None
    assert len(alive(f"lock-{NAME}")) == 2
    with AwaitedLock(runtime, NAME) as awaited:
        assert awaited.within(0.0) is None
        holder.go()
        lock = awaited.within(SECONDS)
    assert lock is not None
    os.close(lock)
    gone()
    assert not awaited_lock_module._given_up and Holder.is_free(runtime)


def test_many_that_ask_at_once_get_it_one_after_the_other(runtime: RuntimeDirectory) -> None:
    holder = Holder(runtime)
    got: list[int] = []

    def ask() -> None:
        with AwaitedLock(runtime, NAME) as awaited:
            lock = awaited.within(SECONDS)
        if lock is not None:
            got.append(lock)
            os.close(lock)

    threads = [threading.Thread(target=ask) for _ in range(9)]
    for thread in threads:
        thread.start()
    holder.go()
    for thread in threads:
        thread.join(SECONDS)
    assert len(got) == 9 and Holder.is_free(runtime)
