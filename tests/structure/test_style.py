"""The tools that read the code, as tests: so the README's test command is the whole of CI."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("tool", [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]], ids=" ".join)
def test_the_code_passes(tool: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", *tool], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_readme_begins_with_exactly_two_commands() -> None:
    first_block = (ROOT / "README.md").read_text().split("```")[1].splitlines()[1:]
    assert len(first_block) == 2
    assert "-o hello.wav" in first_block[0]
    assert "pytest" in first_block[1]


def test_reference_names_every_flag_exit_code_and_setting() -> None:
    import say  # noqa: F401 - registers the flags
    from kokoro_common.command.arguments import parser
    from kokoro_common.settings import Settings

    reference = (ROOT / "docs" / "reference.md").read_text()
    for action in parser()._actions:
        for option in action.option_strings:
            assert f"`{option}`" in reference or f"`{option} " in reference, option
    for name in Settings._fields:
        assert f"`KOKORO_{name.upper()}`" in reference
    for code in (0, 1, 2, 3, 4, 5, 6, 7, 8, 130):
        assert f"\n| {code} | " in reference
