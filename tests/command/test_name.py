"""The command's name in messages is what the user typed."""

from __future__ import annotations

import ast
import os
import pickle
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from kokoro_common.command.name import Name
from kokoro_common.errors import SAY, KokoroError, UsageError
from kokoro_common.wire.failure import error_of, failed

ROOT = Path(__file__).parent.parent.parent
SOURCES = [*ROOT.glob("*.py"), *(ROOT / "kokoro_common").rglob("*.py")]


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """A directory with the command in it under several names, each as an installer or a user would make it."""
    body = f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom say import command\ncommand()\n"
    for name, first_line in (
        ("kokoro-say", f"#!{sys.executable}"),
        ("long", f"#!/bin/sh\n'''exec' '{sys.executable}' \"$0\" \"$@\"\n' '''"),
        ("say.py", "#!/usr/bin/env python3"),
    ):
        (tmp_path / name).write_text(f"{first_line}\n{body}")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "python3").symlink_to(sys.executable)
    (tmp_path / "plain.py").write_text(body)
    (tmp_path / "a b").symlink_to("kokoro-say")
    return tmp_path


@pytest.mark.parametrize(
    ("call", "prefix", "remedy"),
    [
        ("kokoro-say", "kokoro-say", "kokoro-say"),
        ("./kokoro-say", "kokoro-say", "kokoro-say"),  # the one that PATH finds
        ("say.py", "say.py", "say.py"),
        ("long", "long", "long"),
        ("'a b'", "a b", "'a b'"),
        ("python3 say.py", "say.py", "python3 say.py"),
        ("python3 ./plain.py", "plain.py", "python3 ./plain.py"),
        ("python3 -X utf8 plain.py", "plain.py", "python3 -X utf8 plain.py"),
        ("PATH=/nowhere {}/kokoro-say", "kokoro-say", "{}/kokoro-say"),
        ("PATH=/nowhere ./kokoro-say", "kokoro-say", "./kokoro-say"),
        ("PYTHONPATH={root} python3 -m say", "say.py", "python3 -m say"),
    ],
)
def test_errors_begin_with_the_name_and_remedies_repeat_the_call(
    places: Path, call: str, prefix: str, remedy: str
) -> None:
    line = call.format(places, root=ROOT)
    done = subprocess.run(
        ["/bin/sh", "-c", f"{line} --lex list x"],
        cwd=places,
        env={**os.environ, "PATH": f"{places}:/usr/bin:/bin", "KOKORO_CONFIG_DIR": str(places)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr == f"{prefix}: --lex list with 1 words; {remedy.format(places)} --lex list\n"


def test_what_a_remedy_names_can_be_typed(places: Path) -> None:
    """The remedy, given to the same shell, is the same command."""
    environment = {**os.environ, "PATH": f"{places}:/usr/bin:/bin", "KOKORO_CONFIG_DIR": str(places)}
    for call in ("./say.py", "'./a b'", "python3 plain.py", f"{shlex.quote(str(places))}/long"):
        line = f"{call} --hepl"
        for _ in range(2):
            done = subprocess.run(["/bin/sh", "-c", line], cwd=places, env=environment, capture_output=True, text=True)
            assert done.stderr.endswith("did you mean --help?\n")
        done = subprocess.run(["/bin/sh", "-c", f"{call} --zzzz"], cwd=places, env=environment,
                              capture_output=True, text=True)  # fmt: skip
        found = re.search(r"see (.*) --help; a text", done.stderr)
        assert found
        again = subprocess.run(["/bin/sh", "-c", f"{found[1]} --help"], cwd=places, env=environment,
                               capture_output=True, text=True)  # fmt: skip
        assert again.returncode == 0 and again.stdout.startswith(f"usage: {found[1]} ["), again


def test_an_error_of_a_server_gets_the_name_from_the_client_that_shows_it() -> None:
    raised = UsageError("the servers run on cpu, not cuda", f"run {SAY} --shutdown first")
    received = error_of(failed("", raised))
    assert type(received) is UsageError and received.line == raised.line
    name = Name()
    name._typed = "./speak"
    assert name.filled(received.line) == "the servers run on cpu, not cuda; run ./speak --shutdown first"


def test_a_python_program_is_told_what_it_can_call() -> None:
    assert str(KokoroError("x", f"run {SAY} --shutdown first")) == "x; run python -m say --shutdown first"
    assert str(KokoroError("x", f"see {SAY} --list-voices")) == "x; see kokoro.list_voices()"
    assert str(KokoroError("x", f"{SAY} -v '?' lists the voices")) == "x; kokoro.list_voices() lists the voices"
    assert pickle.loads(pickle.dumps(KokoroError("x", f"see {SAY}"))).line == f"x; see {SAY}"
    assert str(KokoroError("x")) == "x"


def texts(source: str) -> list[str]:
    """The strings of a program that are no docstrings."""
    tree = ast.parse(source)
    documented = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented
    ]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_message_names_the_command_itself(path: Path) -> None:
    """SAY stands for it: where only kokoro-say is installed there is no say.py. Nor is kokoro-say on an index."""
    if path.name in ("say.py", "name.py", "installed.py", "completion.py"):
        return  # before there is a name; the name by default; commands for pip; each command that is completed
    for text in texts(path.read_text()):
        assert text == "say.py" or not re.search(r"\bsay\.py\b|pip install|\bkokoro-say\[", text), text


def test_such_a_message_is_seen() -> None:
    source = '"""say.py"""\ndef f():\n    "say.py"\n    return "run say.py --shutdown"'
    assert texts(source) == ["run say.py --shutdown"]
