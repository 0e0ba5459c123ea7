"""Temporary files: what a killed process left is removed by the next one, what a living one works on never."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kokoro_common.documents.document import Chapter, Document
from kokoro_common.files import make_temporary, sweep, write_private
from kokoro_common.recording.formats import Form
from kokoro_common.recording.journal import Journal
from kokoro_common.recording.outfile import OutputFile
from kokoro_common.recording.recording import Plan
from kokoro_common.recording.rendering import Rendering
from kokoro_common.text.speech import Speech

ROOT = Path(__file__).parent.parent


def child(code: str, folder: Path) -> subprocess.Popen[str]:
    """A process that runs `code` in `folder`, where it says a line when it has got so far."""
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def killed(code: str, folder: Path) -> None:
    """Runs `code` until it says a line, then kills it."""
    process = child(code, folder)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.kill()
    process.communicate()


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


UNFINISHED = {
    "audio": "from kokoro_common.recording.encoders import AudioWriter as A; made = A('x.wav')",
    "an encoded file": "from kokoro_common.recording.encoders import AudioWriter as A; made = A('x.flac')",
    "captions": "from kokoro_common.recording.captions import CaptionFile as C; made = C('x.srt', 'srt', '', '', '')",
    "a private file": (
        "import os, signal\nfrom kokoro_common import files\n"
        "files.os.replace = lambda *_: (print('ready', flush=True), signal.pause())\n"
        "files.write_private('list', b'x')"
    ),
    "a folder of a render in one go": (
        "import signal\nfrom kokoro_common.recording import journal\n"
        "journal.shutil.rmtree = lambda *_, **__: (print('ready', flush=True), signal.pause())\n"
        "import tests.test_files as t; t.render('x.wav', resumable=False)"
    ),
    "a folder of a render in one go, not locked yet": (
        "import signal\nfrom kokoro_common.recording import journal\n"
        "journal.Journal._lock = lambda *_: (print('ready', flush=True), signal.pause())\n"
        "import tests.test_files as t; t.render('x.wav', resumable=False)"
    ),
    "a folder that was being removed": (
        "import signal\nfrom kokoro_common.recording import journal\n"
        "journal.shutil.rmtree = lambda *_, **__: (print('ready', flush=True), signal.pause())\n"
        "import tests.test_files as t; t.render('x.wav', resumable=True).abandon()"
    ),
}


def render(output: str, *, resumable: bool) -> Rendering:
    document = Document(text="a", chapters=(Chapter(title="", start=0, end=1),))
    return Rendering(Plan(output=output, form=Form(), resumable=resumable), document, Speech(voice="af_heart"))


@pytest.mark.parametrize("what", UNFINISHED)
def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path, what: str) -> None:
    killed(UNFINISHED[what] + "\nprint('ready', flush=True); input()", tmp_path)
    assert len(names(tmp_path)) == 1, "nothing was left, so this shows nothing"
    if what == "a private file":
        write_private(str(tmp_path / "list"), b"y")
        assert names(tmp_path) == ["list"]
        return
    OutputFile(str(tmp_path / "y.wav")).discard()
    render(str(tmp_path / "y.wav"), resumable=True).abandon()
    assert names(tmp_path) == []


def test_what_a_living_process_works_on_stays_and_is_completed(tmp_path: Path) -> None:
    process = child(f"{UNFINISHED['audio']}\nprint('ready', flush=True); input(); made.commit()", tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    there = names(tmp_path)
    OutputFile(str(tmp_path / "y.wav")).discard()
    render(str(tmp_path / "z.wav"), resumable=False).abandon()
    assert names(tmp_path) == there != []
    process.communicate("\n")
    assert names(tmp_path) == ["x.wav"]


def test_processes_that_write_side_by_side_take_nothing_from_each_other(tmp_path: Path) -> None:
    code = (
        "import os\nfrom kokoro_common.recording.outfile import OutputFile\n"
        "from kokoro_common.files import write_private\n"
        "for number in range(150):\n"
        "    file = OutputFile(f'{os.getpid()}-{number}'); file.write(b'whole'); file.commit()\n"
        "    write_private('shared', b'whole')\n"
    )
    processes = [child(code, tmp_path) for _ in range(3)]
    for process in processes:
        process.communicate()
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(names(tmp_path)) == 3 * 150 + 1
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {b"whole"}


def test_only_own_temporary_files_are_removed(tmp_path: Path) -> None:
    pattern = r"\.kokoro-file-[0-9a-f]{16}\.part"
    target = tmp_path / "precious"
    target.write_text("mine")
    name = ".kokoro-file-{:016x}.part"
    (tmp_path / name.format(1)).symlink_to(target)
    (tmp_path / name.format(2)).mkdir()
    os.mkfifo(tmp_path / name.format(3))
    (tmp_path / "kokoro-file.part").touch()
    (tmp_path / f"{name.format(4)}.txt").touch()
    descriptor, _ = make_temporary(str(tmp_path), ".kokoro-file-", ".part")
    before = names(tmp_path)
    if os.geteuid() == 0:
        other = tmp_path / name.format(5)
        other.touch()
        os.chown(other, 12345, 12345)
        before = names(tmp_path)
    sweep(str(tmp_path), pattern)
    assert names(tmp_path) == before
    os.close(descriptor)
    sweep(str(tmp_path), pattern)
    assert len(names(tmp_path)) == len(before) - 1
    assert target.read_text() == "mine"


def test_an_unfinished_render_stays_for_the_call_that_goes_on(tmp_path: Path) -> None:
    killed(
        "import tests.test_files as t; t.render('x.wav', resumable=True); print('ready', flush=True); input()", tmp_path
    )
    (folder,) = names(tmp_path)
    OutputFile(str(tmp_path / "y.wav")).discard()
    render(str(tmp_path / "y.wav"), resumable=True).abandon()
    assert names(tmp_path) == [folder]
    Journal(str(tmp_path / folder), "other", "x.wav").remove()
