"""A server's own side of its life, where the world is not as it should be."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kokoro_common.daemon.life import Life
from kokoro_common.daemon.record import note_of, record_of
from kokoro_common.daemon.runtime_directory import RuntimeDirectory
from kokoro_common.errors import ServersUnreachable
from tests.helpers.descriptors import no_descriptors


@pytest.fixture
def runtime(tmp_path: Path) -> RuntimeDirectory:
    return RuntimeDirectory(str(tmp_path / "runtime"))


@pytest.fixture
def life(runtime: RuntimeDirectory) -> Iterator[Life]:
    life = Life(runtime, "model", "")
    life.announce(5_000)
    yield life
    os.close(life._life_lock)


def test_a_record_that_cannot_be_looked_at_is_kept(life: Life, runtime: RuntimeDirectory) -> None:
    with no_descriptors():
        assert life.keep()
    assert life.keep()
    assert record_of(runtime, "model") is not None


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_one_that_cannot_be_put_back_is_not(
    life: Life, runtime: RuntimeDirectory, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime.remove("model.json")
    runtime.remove("token")

    def full(*_: object) -> str:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(RuntimeDirectory, "_write_temporary", full)
    assert not life.keep()


@pytest.mark.parametrize("failing", ["remove", "overwrite"])
def test_a_disk_that_takes_nothing_is_no_obstacle_to_an_orderly_end(
    life: Life, runtime: RuntimeDirectory, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        if failing == "overwrite":
            raise ServersUnreachable("the disk is full", "make room")
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(RuntimeDirectory, failing, fail)
    life.leave()
    life.forget()
    monkeypatch.undo()
    life.leave()
    assert record_of(runtime, "model") is None and note_of(runtime, "model").leaving
