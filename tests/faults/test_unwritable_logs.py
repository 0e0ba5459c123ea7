"""F5: whatever keeps a log or a note of ours from being written is no reason to fall silent."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kokoro_common.daemon import logs, starter
from kokoro_common.engine import tuning
from tests.conftest import World
from tests.faults.conftest import Shown, times
from tests.faults.test_runtime_directory import by_a_stranger, needs_root
from tests.helpers.requirements import missing

pytestmark = pytest.mark.timeout(1800)

FILES = [f"{name}.{ending}" for name in ("model_server", "voice_server-af_heart") for ending in ("log", "stderr")]


def each_file(make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Something stands in the place of every file that the servers write."""

    def spoil(folder: Path) -> None:
        folder.mkdir(parents=True)
        for name in (*FILES, "kokoro.log"):
            make(folder / name)

    return spoil


def a_file(folder: Path) -> None:
    folder.parent.mkdir(parents=True)
    folder.write_text("in the way")


def a_loop(folder: Path) -> None:
    folder.parent.mkdir(parents=True)
    folder.symlink_to(folder)


def no_parent(folder: Path) -> None:
    folder.parent.parent.mkdir(parents=True)
    folder.parent.write_text("in the way")


def link_to_diary(path: Path) -> None:
    diary(path).write_text("dear diary")
    path.symlink_to(diary(path))


def second_name(path: Path) -> None:
    diary(path).write_text("dear diary")
    os.link(diary(path), path)


def a_strangers(path: Path) -> None:
    path.write_text("dear diary")
    path.chmod(0o666)
    by_a_stranger(path)


def diary(path: Path) -> Path:
    return path.parent.parent / f"diary-{path.name}"


SPOILT = {
    "a file in place of the directory": a_file,
    "a link that leads to itself": a_loop,
    "a file in place of its parent": no_parent,
    "pipes": each_file(os.mkfifo),
    "directories": each_file(os.mkdir),
    "links that lead nowhere": each_file(lambda path: path.symlink_to("/nonexistent/nowhere")),
    "links to something else of ours": each_file(link_to_diary),
    "second names of something else of ours": each_file(second_name),
    "files of another user": each_file(a_strangers),
}


@pytest.mark.e2e
@pytest.mark.parametrize("kind", SPOILT)
def test_f5_speech_without_logs(world: World, shown: Shown, kind: str) -> None:
    if "another user" in kind and os.getuid() != 0:
        pytest.skip("only root can give a file away")
    rounds, held = times(10), 0
    for number in range(rounds):
        folder = world.path / f"spoilt-{number}" / "a" / "logs"
        world.environment["KOKORO_LOG_DIR"] = str(folder)
        SPOILT[kind](folder)
        before = {path: path.lstat().st_size for path in folder.parent.rglob("*")}
        for _ in range(2):
            done = world.say("-o", "x.wav", "hello")
            assert (done.returncode, done.stderr) == (0, "")
        ended = world.say("--shutdown", "-q")
        held += ended.returncode == 0 and before == {path: path.lstat().st_size for path in before}
    shown("F5", f"{kind}: speech goes on, nothing of others is written to", held, of=rounds)


@pytest.mark.e2e
@needs_root
@pytest.mark.parametrize("options", ["ro", "rw,nr_inodes=1"], ids=["read-only", "without inodes"])
def test_f5_speech_with_a_log_directory_on_a_disk_that_takes_nothing(world: World, shown: Shown, options: str) -> None:
    logs_of_world = world.path / "logs"
    logs_of_world.mkdir()
    world.environment["KOKORO_LOG_DIR"] = str(logs_of_world)
    mount = ["mount", "-t", "tmpfs", "-o", options, "none", str(logs_of_world)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        missing("tmpfs cannot be mounted here")
    try:
        done = world.say("-o", "x.wav", "hello")
        held = (done.returncode, done.stderr, list(logs_of_world.iterdir())) == (0, "", [])
        assert world.say("--shutdown", "-q").returncode == 0
    finally:
        subprocess.run(["umount", "-l", str(logs_of_world)], check=True)
    shown("F5", f"logs on a disk that is {options}: speech goes on", int(held), of=1)


@needs_root
def test_f5_a_log_that_cannot_be_written_takes_no_descriptors(tmp_path: Path) -> None:
    """A server logs for as long as it lives."""
    a_strangers(tmp_path / "x.log")
    log = logs.LogFile(str(tmp_path / "x.log"))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(100):
        log.append("{}")
    assert len(os.listdir("/proc/self/fd")) == before
    assert (tmp_path / "x.log").read_text() == "dear diary"


def test_f5_the_last_words_of_a_dead_server_do_not_wait_for_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.stderr")
    assert starter._last_words(str(tmp_path / "x.stderr"), 0) == "it was killed, perhaps out of memory"


def test_f5_a_measurement_that_cannot_be_noted_is_one_line_in_the_log(tmp_path: Path) -> None:
    (tmp_path / "measured.json").mkdir()
    choice = tuning.Choice(precision="fp32", reason="x")
    tuning._note(str(tmp_path / "measured.json"), "key", choice)
    tuning._note(str(tmp_path / "missing" / "measured.json"), "key", choice)
    assert list((tmp_path / "measured.json").iterdir()) == []
