"""The examples of docs/python.md and of the README run as they stand there, with a stub engine and recorders."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import kokoro_common as kokoro
from kokoro_common.text.speech import Speech
from tests.documents.test_epub import PAGES, book, nav_of, package
from tests.documents.test_pdf import lines_of, pdf, printed
from tests.helpers.shelf import BODY

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import World

ROOT = Path(__file__).parent.parent.parent
MANUAL = (ROOT / "docs" / "python.md").read_text()
README = (ROOT / "README.md").read_text()
INSTALLATION = re.compile(r"python3 -m venv|pip install")  # lines that another test looks at


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def runnable(text: str) -> list[str]:
    """Lines of the shell that call the command."""
    lines = [line for block in blocks(text, "sh") for line in block.splitlines()]
    return [line for line in lines if "say.py" in line and not INSTALLATION.search(line)]


@pytest.mark.e2e
def test_the_examples_of_the_manual_run(stub: World, capsys: pytest.CaptureFixture[str]) -> None:
    examples = blocks(MANUAL, "python")
    names: dict[str, Any] = {}
    exec(examples[0], names)
    shape, times, *_, last = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\(\d+,\) float32 24000", shape)
    assert times.startswith("[('Hello', 0.0, ")
    assert last == "stopped"
    with pytest.raises(TimeoutError):
        asyncio.run(names["bedtime"]())
    for example in examples[1:]:
        exec(example, names)
    asyncio.run(names["announce"]("Hello."))
    assert names["seconds"] > 0
    assert names["audio"].dtype == np.float32
    assert {"hello.json", "hello.mp3", "hello.srt"} <= set(os.listdir(stub.path))
    assert len(names["british"]) == 8
    assert isinstance(names["speech"].exception(10), kokoro.UtteranceCancelled)


def test_the_manual_names_everything() -> None:
    for name in set(kokoro.__all__) - {"__version__"}:
        assert f"`{name}" in MANUAL, name
    options = MANUAL.partition("## Options")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", options, re.MULTILINE) == list(Speech._fields)
    for function in (kokoro.speak, kokoro.start, kokoro.save):
        for name in set(function.__annotations__) - {"options", "return"}:
            assert f"`{name}`" in MANUAL, name


@pytest.mark.e2e
@pytest.mark.parametrize("example", blocks(README, "python"))
def test_the_python_examples_of_the_readme_run(stub: World, example: str) -> None:
    exec(example, {})


@pytest.fixture
def shell(stub: World) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Runs a line as in a directory that has what the README's examples speak of."""
    programs = {
        "say.py": f'exec {sys.executable} {ROOT}/say.py "$@"',
        "fortune": "echo You will read a manual.",
        "llm": "echo Once upon a time.; echo The end.",
        "make": "exit 1",
    }
    for name, line in programs.items():
        path = stub.path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)
    nav = nav_of(("one.xhtml", "One"), ("two.xhtml", "Two"), ("three.xhtml", "Three"))
    pages = {**PAGES, "nav.xhtml": nav}
    (stub.path / "book.epub").write_bytes(book(pages, package(pages, nav="nav.xhtml")))
    paper = pdf()
    paper.add_page()
    lines_of(paper, *BODY.split(". "))
    (stub.path / "book.pdf").write_bytes(printed(paper))
    environment = {**os.environ, "PATH": f"{stub.path / 'bin'}:{os.environ['PATH']}"}

    def run(line: str) -> subprocess.CompletedProcess[str]:
        command = ["sh", "-c", line]
        return subprocess.run(command, env=environment, stdin=-3, capture_output=True, text=True, check=False)

    return run


@pytest.mark.e2e
def test_the_shell_lines_of_the_readme_run(shell: Callable[[str], subprocess.CompletedProcess[str]]) -> None:
    lines = runnable(README)
    assert len(lines) > 8
    done = {line: shell(line) for line in lines}
    failed = {line: result.stderr for line, result in done.items() if result.returncode}
    assert failed == {}
    assert not [line for line, result in done.items() if "Traceback" in result.stderr]


@pytest.mark.e2e
def test_a_shell_line_that_fails_is_seen(shell: Callable[[str], subprocess.CompletedProcess[str]]) -> None:
    assert shell('say.py --sped 2 "Hello."').returncode == 2
