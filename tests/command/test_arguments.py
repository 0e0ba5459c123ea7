"""The command line: which verb runs, what is refused, what a flag may be."""

from __future__ import annotations

import pytest

import say  # noqa: F401 - registers the flags
from kokoro_common.command import main, verbs
from kokoro_common.command.arguments import flags, parser, speed_of, verb_for, whole_number
from kokoro_common.errors import SAY, UsageError


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


@pytest.mark.parametrize("arguments", [["hello"], [], ["-o", "x.wav", "hello"]], ids=" ".join)
def test_without_a_verb_it_speaks(arguments: list[str]) -> None:
    assert verb_for(parser().parse_args(arguments)) is None


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("--nonsense", "unknown option --nonsense; see say.py --help; a text goes after --"),
        ("--voise af_heart", "unknown option --voise; did you mean --voice?"),
        ("--voise=af_heart", "unknown option --voise; did you mean --voice?"),
        ("--VOICE af_heart", "unknown option --VOICE; did you mean --voice?"),
        ("--outptu=x.wav hello", "unknown option --outptu; did you mean --output?"),
        ("--vol 1", "unknown option --vol; did you mean --volume?"),
        ("--shut-down", "unknown option --shut-down; did you mean --shutdown?"),
        ("--list_voices", "unknown option --list_voices; did you mean --list-voices?"),
        ("-voice af_heart", "unknown option -voice; did you mean --voice?"),
        ("-stop", "unknown option -stop; did you mean --stop?"),
        ("-x", "unknown option -x; see say.py --help; a text goes after --"),
        ("--lex eat", "--lex is 'eat'; choose one of add, remove, list, test"),
        ("--lex lsit", "--lex is 'lsit'; did you mean list?"),
        ("--emoji dorp", "--emoji is 'dorp'; did you mean drop?"),
        ("-v", "--voice needs NAME; see say.py --help"),
        ("--output --voice af_heart", "--output needs FILE; see say.py --help"),
        ("--add-voice af_me", "--add-voice needs NAME FILE; see say.py --help"),
        ("--stop=now", "--stop takes no value; see say.py --help"),
        ("--json hello", "--json is about --status; leave it out, or run say.py --status --json"),
        ("--list-voices --json", "--json is about --status; leave it out, or run say.py --status --json"),
        ("--yes --stop", "--yes is about --uninstall; leave it out, or run say.py --uninstall --yes"),
    ],
)
def test_what_is_no_option_is_a_usage_error_with_the_nearest_one(arguments: str, line: str) -> None:
    with pytest.raises(UsageError) as wrong:
        parser().parse_args(arguments.split())
    assert wrong.value.line.replace(SAY, "say.py") == line


SECRET = "dear diary, nobody may read this"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--voise", SECRET],
        [SECRET, "--voise"],
        [f"--{SECRET.replace(' ', '_')}"],
        [f"-{SECRET.replace(' ', '_')}"],
        [f"--stop={SECRET}"],
        [f"-n{SECRET}"],
        [f"--voise={SECRET}"],
        [f"--emoji={SECRET}"],
        ["--lex", SECRET],
        ["--add-voice", SECRET],
        [SECRET, "-v"],
    ],
    ids=str,
)
def test_a_text_is_not_printed_back(arguments: list[str]) -> None:
    with pytest.raises(UsageError) as wrong:
        parser().parse_args(arguments)
    assert "may_read" not in str(wrong.value).replace(" ", "_")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["one", "-s", "2", "two"], ["one", "two"]),
        (["-s", "2", "one", "--", "-v", "--", "x"], ["one", "-v", "--", "x"]),
        (["--", "--voise"], ["--voise"]),
        (["- milk", "-- eggs"], ["- milk", "-- eggs"]),
        (["-5", "degrees"], ["-5", "degrees"]),
        (["-"], ["-"]),
        (["--lufs", "-16", "-"], ["-"]),
        ([""], [""]),
        ([], []),
    ],
    ids=str,
)
def test_what_is_no_option_is_text_wherever_it_stands(arguments: list[str], text: list[str]) -> None:
    assert parser().parse_args(arguments).text == text


def test_an_error_is_printed_as_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main._report(UsageError("problem", "remedy"), traceback=False) == 2
    assert capsys.readouterr().err == "say.py: problem; remedy\n"


@pytest.mark.parametrize("text", ["43.7", "700.1", "nan", "inf", "", "fast", "-1"])
def test_a_rate_is_a_speed_within_its_range(text: str) -> None:
    assert (speed_of(None, "43.75"), speed_of(None, "700"), speed_of("2", None)) == (0.25, 4.0, "2")
    with pytest.raises(UsageError, match=r"^--rate is .*; choose 43\.75 to 700$"):
        speed_of(None, text)


def test_each_flag_knows_the_field_of_its_value() -> None:
    options = parser().parse_args([])
    assert [flag.names[-1] for flag in flags() if not hasattr(options, flag.attribute)] == []
    assert parser().parse_args(["--from", "2"]).begin_at == "2"


@pytest.mark.parametrize("text", ["-1", "1.5", "", "²", "0x10"])
def test_a_whole_number_has_digits_only(text: str) -> None:
    assert whole_number("bit depth", None) is None
    assert whole_number("bit depth", "24") == 24
    with pytest.raises(UsageError, match="give a whole number"):
        whole_number("bit depth", text)
