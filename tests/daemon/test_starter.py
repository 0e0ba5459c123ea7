"""A starter that lacks descriptors or threads says so; one that waits for a server that works has one thread for it."""

from __future__ import annotations

import os
import subprocess  # noqa: F401 - nothing can be imported without descriptors
import sys
from pathlib import Path

import psutil
import pytest

from kokoro_common.daemon import process, starter
from kokoro_common.daemon.record import Note, ServerRecord
from kokoro_common.daemon.runtime_directory import RuntimeDirectory
from kokoro_common.errors import ServersUnreachable
from kokoro_common.wire.connection import NoAnswer
from tests.helpers.descriptors import no_descriptors, open_descriptors
from tests.helpers.threads import alive, refuse_threads


@pytest.fixture
def runtime(tmp_path: Path) -> RuntimeDirectory:
    return RuntimeDirectory(str(tmp_path / "runtime"))


def program(tmp_path: Path) -> starter.Program:
    """It never says that it listens."""
    path = tmp_path / "program.py"
    path.write_text("import time\ntime.sleep(60)\n")
    return starter.Program(name="model", path=str(path), environment=dict(os.environ))


def locks(runtime: RuntimeDirectory) -> tuple[int, int]:
    start_lock = runtime.lock("model.start.lock", wait=False)
    life_lock = runtime.lock("model.lock", wait=False)
    assert start_lock is not None and life_lock is not None
    return start_lock, life_lock


@pytest.mark.parametrize("stderr", ["", "model.stderr"])
def test_a_server_that_cannot_be_started_for_want_of_descriptors(
    tmp_path: Path, runtime: RuntimeDirectory, stderr: str
) -> None:
    held = locks(runtime)
    before = open_descriptors()
    started = program(tmp_path)
    if stderr:
        started = started.replace(stderr_path=str(tmp_path / stderr))
    with no_descriptors(), pytest.raises(ServersUnreachable, match="cannot start"):
        starter._spawn(started, *held)
    assert open_descriptors() == before
    for lock in held:
        os.close(lock)


def test_without_a_thread_for_its_end_a_server_is_not_left_running(
    tmp_path: Path, runtime: RuntimeDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = locks(runtime)
    before = open_descriptors()
    refuse_threads(monkeypatch, "reap-")
    with pytest.raises(ServersUnreachable, match="can't start new thread"):
        starter._spawn(program(tmp_path), *held)
    assert open_descriptors() == before
    assert not psutil.Process().children()
    for lock in held:
        os.close(lock)
    assert not starter.runs(runtime, "model")


def test_one_thread_waits_for_a_server_that_works_and_does_not_answer(
    runtime: RuntimeDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def silent(port: int, *_: object, **__: object) -> None:
        calls.append(port)
        raise NoAnswer("it says nothing")

    holder = RuntimeDirectory(runtime.path).lock("model.lock", wait=False)
    assert holder is not None
    record = ServerRecord(pid=os.getpid(), port=1)
    monkeypatch.setattr(starter, "call", silent)
    monkeypatch.setattr(starter, "note_of", lambda *_: Note(record=record))
    monkeypatch.setattr(starter, "HANDSHAKE_SECONDS", 0.01)
    monkeypatch.setattr(starter, "BUSY_SECONDS", 0.1)
    monkeypatch.setattr(process, "works", lambda *_: True)
    for _ in range(3):
        with pytest.raises(ServersUnreachable, match="does not answer"):
            starter._lock_of_the_hung(runtime, "model", record)
    assert len(calls) > 6 and len(alive("lock-model.lock")) == 1
    os.close(holder)
    for thread in alive("lock-model.lock"):
        thread.join(10)
    assert not starter.runs(runtime, "model")


def test_a_server_without_descriptors_is_not_called_and_nothing_but_that_is_said(runtime: RuntimeDirectory) -> None:
    with no_descriptors(), pytest.raises(ServersUnreachable):
        starter.ensure(runtime, starter.Program(name="model", path=sys.executable, environment={}))
