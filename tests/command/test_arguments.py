"""The command line: which verb runs, what is refused, what a flag may be."""

from __future__ import annotations

import pytest

import say
from kokoro_common.command import verbs
from kokoro_common.command.arguments import number, parser, verb_for, whole_number
from kokoro_common.errors import UsageError


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["--stop"], "stop"),
        (["-v", "?"], "list_voices"),
        (["-a", "?"], "list_devices"),
        (["--lex", "list"], "edit_lexicon"),
        (["--add-voice", "af_me", "x.pt"], "add_voice"),
        (["--save-voice", "af_me", "--list-voices"], "save_voice"),
        (["--download", "--stop"], "stop"),
        (["--version", "--help"], "print_help"),
        (["--shutdown", "--status"], "status"),
    ],
    ids=" ".join,
)
def test_the_verb_of_the_flags_runs_and_of_several_the_first_of_the_table(arguments: list[str], name: str) -> None:
    assert verb_for(parser().parse_args(arguments)) is getattr(verbs, name)


@pytest.mark.parametrize("arguments", [["hello"], [], ["-o", "x.wav", "hello"], ["--json", "hello"]], ids=" ".join)
def test_without_a_verb_it_speaks(arguments: list[str]) -> None:
    assert verb_for(parser().parse_args(arguments)) is None


@pytest.mark.parametrize("arguments", [["--nonsense"], ["--vol", "1"], ["--lex", "eat"], ["-v"]], ids=" ".join)
def test_what_is_no_flag_is_a_usage_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match=r"see say\.py --help"):
        parser().parse_args(arguments)
    assert say._report(UsageError("problem", "remedy"), traceback=False) == 2
    assert capsys.readouterr().err == "say.py: problem; remedy\n"


@pytest.mark.parametrize("text", ["0.24", "4.01", "nan", "inf", "", "fast"])
def test_a_number_is_within_its_range(text: str) -> None:
    assert number("speed", "0.25", 0.25, 4.0) == 0.25
    with pytest.raises(UsageError, match=r"choose 0\.25 to 4"):
        number("speed", text, 0.25, 4.0)


@pytest.mark.parametrize("text", ["-1", "1.5", "", "²", "0x10"])
def test_a_whole_number_has_digits_only(text: str) -> None:
    assert whole_number("bit depth", None) is None
    assert whole_number("bit depth", "24") == 24
    with pytest.raises(UsageError, match="give a whole number"):
        whole_number("bit depth", text)
