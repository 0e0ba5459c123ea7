"""What the documents promise about commands, flags and settings is what the code has."""

from __future__ import annotations

import re
from pathlib import Path

from tests.conftest import LEFT_OUT

ROOT = Path(__file__).parent.parent.parent


def test_the_readme_begins_with_exactly_two_commands() -> None:
    first_block = (ROOT / "README.md").read_text().split("```")[1].splitlines()[1:]
    assert len(first_block) == 2
    assert "-o hello.wav" in first_block[0]
    assert "pytest" in first_block[1]


def test_ci_runs_every_mark_that_the_common_run_leaves_out() -> None:
    (marks,) = re.findall(r"^marks=\((.*)\)$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert sorted(marks.split()) == sorted(LEFT_OUT)


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
