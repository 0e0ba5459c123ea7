"""What is printed arrives, whatever the encoding of standard output, or one line says why it does not."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import say  # noqa: F401 - registers the flags
from kokoro_common.command.arguments import parser
from kokoro_common.command.output import check_output
from kokoro_common.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import World

TITLE = "# 第一章 Ж\n\nHello there.\n"


@pytest.mark.e2e
@pytest.mark.parametrize(
    "arguments",
    [["--list-chapters", "-f", "book.md"], ["--lex", "list"], ["--explain", "-f", "book.md"], ["--uninstall"]],
    ids=lambda arguments: arguments[0],
)
def test_signs_that_an_encoding_lacks_are_question_marks(world: World, arguments: list[str]) -> None:
    (world.path / "book.md").write_text(TITLE)
    assert world.say("--lex", "add", "東京", "Tokyo", KOKORO_CONFIG_DIR=f"{world.path}/京").returncode == 0
    done = world.say(*arguments, PYTHONIOENCODING="latin-1", KOKORO_CONFIG_DIR=f"{world.path}/京")
    assert done.returncode == (2 if arguments == ["--uninstall"] else 0), done.stderr
    assert "?" in done.stdout and "unexpected" not in done.stderr


@pytest.mark.e2e
def test_followed_words_that_an_encoding_lacks_are_question_marks(stub_world: World) -> None:
    done = stub_world.say("--follow", "Hello Жук.", PYTHONIOENCODING="latin-1")
    assert (done.returncode, done.stdout) == (0, "Hello ???.\n"), done.stderr


@pytest.mark.e2e
@pytest.mark.parametrize("arguments", [["--list-voices"], ["--completion", "bash"], ["--version"], ["--help", "all"]])
def test_standard_output_that_cannot_be_written_is_one_line(world: World, arguments: list[str]) -> None:
    environment = {key: value for key, value in world.environment.items() if key != "PYTHONUNBUFFERED"}
    full, unopened = os.open("/dev/full", os.O_WRONLY), os.open(os.devnull, os.O_RDONLY)
    try:
        for descriptor, reason in ((full, "no space left on device; free some space"), (unopened, "bad file desc")):
            done = subprocess.run([sys.executable, str(world.program), *arguments], env=environment, check=False,
                                  stdout=descriptor, stderr=subprocess.PIPE, text=True)  # fmt: skip
            assert (done.returncode, done.stderr.count("\n")) == (8, 1), done.stderr
            assert done.stderr.startswith(f"say.py: standard output cannot be written: {reason}")
    finally:
        os.close(full)
        os.close(unopened)


def test_a_document_may_be_read_twice_under_two_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "b.txt").symlink_to("a.txt")
    check_output(parser().parse_args(["-f", "a.txt", "-f", "./a.txt", "-f", "b.txt", "-o", "x.wav"]))
    for output in (["-o", "./a.txt"], ["-o", "x.wav", "--srt", "b.txt"], ["-o", "x.wav", "--srt", "./x.wav"]):
        with pytest.raises(UsageError, match="two things at once"):
            check_output(parser().parse_args(["-f", "a.txt", *output]))
