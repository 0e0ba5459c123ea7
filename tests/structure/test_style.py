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
    from kokoro_common.command.arguments import EXIT_CODES, parser
    from kokoro_common.settings import Settings

    reference = (ROOT / "docs" / "reference.md").read_text()
    for action in parser()._actions:
        for option in action.option_strings:
            assert f"`{option}`" in reference or f"`{option} " in reference, option
    for name in Settings._fields:
        assert f"`KOKORO_{name.upper()}`" in reference
    for code in EXIT_CODES:
        assert f"\n| {code} | " in reference


def test_every_flag_says_what_it_does() -> None:
    """The registration of a flag is the one source of --help, the completions and the man page."""
    import say  # noqa: F401 - registers the flags
    from kokoro_common.command.arguments import GROUPS, flags, parser

    takes_value = {name: action.nargs != 0 for action in parser()._actions for name in action.option_strings}
    told = {name for flag in flags() for name in flag.names}
    assert told == set(takes_value)
    for flag in flags():
        name = flag.names[-1]
        assert 0 < len(flag.help) <= 60 and "\n" not in flag.help and flag.help[-1] != ".", f"{name} has no help line"
        assert flag.group in GROUPS, f"{name} has no group: choose one of {', '.join(GROUPS)}"
        assert bool(flag.metavar) == takes_value[name], f"{name} takes a value and has no metavar, or the opposite"
        assert isinstance(flag.values, tuple) or not flag.values or flag.metavar, name
