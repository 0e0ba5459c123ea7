"""A program's own files: replaced, moved away, or not to be seen now."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from kokoro_common.daemon.program import PACKAGE, PROGRAMS, ProgramFiles
from tests.helpers.descriptors import no_descriptors


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in (*PROGRAMS, f"{PACKAGE}/__init__.py", f"{PACKAGE}/inner/room.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("# as it was\n")
    return tmp_path


def files_of(root: Path) -> ProgramFiles:
    return ProgramFiles(str(root), sys.executable)


@pytest.mark.parametrize("name", [PROGRAMS[0], f"{PACKAGE}/inner/room.py"])
def test_a_file_that_was_replaced_is_seen(root: Path, name: str) -> None:
    files = files_of(root)
    assert files.problem() == ""
    (root / name).write_text("# as it is now\n")
    assert "was replaced" in files.problem()


def test_a_room_that_was_removed_is_seen(root: Path) -> None:
    files = files_of(root)
    shutil.rmtree(root / PACKAGE / "inner")
    assert "was replaced" in files.problem()
    shutil.rmtree(root / PACKAGE)
    assert files.problem() == f"{root / PACKAGE} is gone"


def test_a_look_without_descriptors_sees_no_other_program(root: Path) -> None:
    files = files_of(root)
    with no_descriptors():
        assert files.problem() == ""
    assert files.problem() == ""


def test_what_a_server_could_not_see_at_its_start_it_sees_later(root: Path) -> None:
    with no_descriptors():
        files = files_of(root)
        assert files.problem() == ""
    assert files.problem() == ""
    os.replace(root / PROGRAMS[0], root / PROGRAMS[1])
    (root / PROGRAMS[0]).write_text("# as it is now\n")
    assert "was replaced" in files.problem()
