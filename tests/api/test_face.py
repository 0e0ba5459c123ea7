"""The names that `import kokoro_common as kokoro` offers."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import kokoro_common as kokoro
from kokoro_common import api, errors

ROOT = Path(__file__).parent.parent.parent
FUNCTIONS = ["list_voices", "save", "speak", "start", "status", "stop", "synthesize"]
TYPES = ["Sound", "SoundStream", "Speaking", "SpeechOptions", "StatusReport", "VoiceInfo"]
ERRORS = [
    "KokoroError",
    "ModelUnavailable",
    "NoAudioDevice",
    "OutputError",
    "ServersBusy",
    "ServersUnreachable",
    "UnknownVoice",
    "UsageError",
    "UtteranceCancelled",
]


def test_the_names() -> None:
    assert sorted(kokoro.__all__) == sorted([*FUNCTIONS, *TYPES, *ERRORS, "__version__"])
    assert set(kokoro.__all__) <= set(dir(kokoro))
    assert {name: type(getattr(kokoro, name)).__name__ for name in FUNCTIONS} == dict.fromkeys(FUNCTIONS, "function")
    assert all(isinstance(getattr(kokoro, name), type) for name in TYPES + ERRORS if name != "SpeechOptions")
    assert all(inspect.getdoc(getattr(kokoro, name)) for name in FUNCTIONS + TYPES + ERRORS)


def test_every_error_of_the_product_is_there() -> None:
    kinds = {
        name for name, kind in vars(errors).items() if inspect.isclass(kind) and kind.__module__ == errors.__name__
    }
    assert kinds == set(ERRORS)


def test_what_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'kokoro_common' has no attribute 'sing'"):
        kokoro.sing  # type: ignore[attr-defined]  # noqa: B018
    assert not hasattr(kokoro, "log")  # api has one


def test_importing_it_imports_nothing_and_using_a_name_does() -> None:
    script = (
        "import sys; before = set(sys.modules); import kokoro_common as kokoro; print(set(sys.modules) - before)\n"
        "kokoro.UsageError; print('kokoro_common.api' in sys.modules)\n"
        "kokoro.speak; print('kokoro_common.api' in sys.modules, 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["{'kokoro_common'}", "False", "True False"]


def test_a_type_checker_knows_the_types(tmp_path: Path) -> None:
    """A program is checked, and its mistakes are seen."""
    program = tmp_path / "program.py"
    program.write_text(
        "import asyncio\n"
        "from typing import Unpack\n"
        "import kokoro_common as kokoro\n"
        "def announce(text: str, **options: Unpack[kokoro.SpeechOptions]) -> None: ...\n"
        "for sound in kokoro.synthesize('a', speed=1.5, cast={'A': 'af_sky'}):\n"
        "    seconds: float = sound.word_times()[0][1] + kokoro.speak(iter(['a']), wait=False)\n"
        "async def main() -> float:\n"
        "    return await asyncio.wrap_future(kokoro.start('a'))\n"
        "kokoro.speak('a', sped=2)\n"
        "kokoro.speak('a', speed='fast')\n"
        "kokoro.sing\n"
    )
    arguments = ["--config-file", ROOT / "pyproject.toml", "--no-error-summary", program]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    lines = [line.partition("program.py:")[2] for line in done.stdout.splitlines() if ": error:" in line]
    assert [line.partition(":")[0] for line in lines] == ["9", "10", "11"], done.stdout


def test_the_options_are_fields_of_speech_and_those_that_flags_have() -> None:
    from kokoro_common.text.speech import Speech

    assert list(api.SpeechOptions.__annotations__) == list(Speech._fields)


def test_the_package_itself_does_not_use_its_face() -> None:
    """The linter of the layers cannot see that: a name of the face may come from any of them."""
    used = set()
    for path in (ROOT / "kokoro_common").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "kokoro_common":
                used |= {alias.name for alias in node.names}
    assert used & set(kokoro.__all__) == {"__version__"}
