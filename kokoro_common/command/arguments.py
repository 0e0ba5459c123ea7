"""The command line: the flags, each registered beside the function that acts on it, and how arguments are read.

    @verb("--shutdown", help="end all servers", group="control")
    def shutdown(options: Namespace) -> int: ...

What is registered is the one source of --help, the completions and the man page (help.py, completion.py, manual.py).

Modules that register flags are imported by every call, --version included: at import time they may import only this
module, the name, records and the errors.
"""

from __future__ import annotations

import argparse
import re
import sys

from kokoro_common.command.name import NAME
from kokoro_common.errors import MAX_LINE, MAX_REMEDY, SAY, UsageError, choice_remedy, near, shown
from kokoro_common.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Sequence
    from typing import Any, NoReturn

    from kokoro_common.settings import Settings

    Run = Callable[[Namespace], int]

GROUPS = {  # of flags, in the order of --help: key, heading
    "voice": "Voice",
    "text": "Text",
    "files": "Files",
    "playing": "Playing",
    "control": "From any shell",
    "model": "Voices and model",
    "program": "This program",
}
EXIT_CODES = {
    0: "spoken or written",
    1: "any other error",
    2: "usage",
    3: "no audio device",
    4: "model or voice cannot be had",
    5: "unknown voice",
    6: "servers",
    7: "cancelled",
    8: "output",
    130: "Ctrl-C",
}
SHOWN_CHARACTERS = 20  # of an argument that is no option: it may be the text

_NEGATIVE_NUMBER = r"-\d+|-\d*\.\d+"  # argparse's: a text or a value, never an option
_LONG_NAME = r"--[a-z][a-z-]*"


NATURAL_RATE = 175  # words a minute at speed 1


class Flag(Record):
    """What is told of a flag."""

    names: tuple[str, ...]  # "-v", "--voice"
    help: str  # one line that is understood without the others
    metavar: str  # what stands for its value; empty: it takes none
    group: str  # a key of GROUPS
    common: bool  # whether the first screen of --help has it
    # Its choices, which are checked; or the kind of its values: see completion.words_for and endings_for.
    values: tuple[str, ...] | str
    repeated: bool  # whether it may be given more than once
    attribute: str  # the field of the options
    only_with: str  # the flag without which it would do nothing; empty: none

    @property
    def term(self) -> str:
        """Names and value, as --help shows them."""
        return ", ".join(self.names) + (f" {self.metavar}" if self.metavar else "")


_flags: list[tuple[Flag, dict[str, Any]]] = []  # with the arguments of argparse's add_argument
_verbs: list[tuple[Callable[[Namespace], object], Run]] = []  # whether the flags ask for it, and what runs then


def flag(
    *names: str,
    help: str = "",
    metavar: str = "",
    group: str = "",
    common: bool = False,
    values: tuple[str, ...] | str = "",
    only_with: str = "",
    **how: Any,
) -> None:
    """Registers a flag. With a `metavar` it takes a string; `how` has more arguments of argparse's add_argument."""
    if not metavar:
        how.setdefault("action", "store_true")
    told = Flag(
        names=names,
        help=help,
        metavar=metavar,
        group=group,
        common=common,
        values=values,
        repeated=how.get("action") == "append",
        attribute=how.get("dest") or _attribute(next(name for name in names if name.startswith("--"))),
        only_with=only_with,
    )
    _flags.append((told, how))


def _attribute(name: str) -> str:
    """As argparse has it."""
    return name[2:].replace("-", "_")


def verb(*names: str, when: Callable[[Namespace], object] | None = None, **told: Any) -> Callable[[Run], Run]:
    """Decorator: the function runs, and returns the exit code, when its flag is given or `when(options)` is true.

    `told`: of its flag, as flag() takes it. Of several verbs that apply, the one registered first runs.
    """

    def register(run: Run) -> Run:
        if names:
            flag(*names, **told)
            name = _flags[-1][0].attribute
        _verbs.append((when or (lambda options: getattr(options, name)), run))
        return run

    return register


def flags() -> list[Flag]:
    """All that are registered: by group, those with a letter first, then in the order of their registration."""
    order = {key: place for place, key in enumerate(GROUPS)}
    return sorted((each for each, _ in _flags), key=lambda each: (order.get(each.group, len(order)), -len(each.names)))


class _Parser(argparse.ArgumentParser):
    """Reads arguments: all that are no options are the text, wherever they stand. The text is in no error."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"see {SAY} --help")

    def parse_args(self, arguments: Sequence[str]) -> Namespace:  # type: ignore[override]
        """Raises UsageError."""
        given = list(arguments)
        end = given.index("--") if "--" in given else len(given)
        for argument in given[:end]:
            self._check_known(argument)
        try:
            options, text = self.parse_known_args(given[:end])
        except argparse.ArgumentError as error:
            raise self._without_value(error) from None
        for argument in text:
            self._check_known(argument)
        for each, _ in _flags:
            value = getattr(options, each.attribute)
            if isinstance(each.values, tuple) and value is not None and value not in each.values:
                raise UsageError(f"{each.names[-1]} is {shortened(value)!r}", choice_remedy(value, each.values))
            if each.only_with and value and not getattr(options, _attribute(each.only_with)):
                name, verb = each.names[-1], each.only_with
                raise UsageError(f"{name} is about {verb}", f"leave it out, or run {SAY} {verb} {name}")
        options.text = [*text, *given[end + 1 :]]
        return options

    def _check_known(self, argument: str) -> None:
        """Raises UsageError for an option that there is not, with the nearest one."""
        known = self._option_string_actions
        name, equals, _ = argument.partition("=")
        if len(argument) < 2 or argument[0] != "-" or name in known or re.fullmatch(_NEGATIVE_NUMBER, argument):
            return
        if " " in argument and not (equals and re.fullmatch(_LONG_NAME, name)):
            return  # a text that begins with a dash
        if not argument.startswith("--") and argument[:2] in known and f"-{argument}" not in known:
            return  # -s2, or several in one
        word, long_names = name.lstrip("-").lower(), [each[2:] for each in known if each.startswith("--")]
        begun = [each for each in long_names if each.startswith(word)] if len(word) > 2 else []
        if word in long_names:
            nearest = [word]
        else:
            nearest = begun if len(begun) == 1 else near(word, long_names, count=1, likeness=0.7)
        remedy = f"did you mean --{nearest[0]}?" if nearest else f"see {SAY} --help; a text goes after --"
        raise UsageError(f"unknown option {shortened(name)}", remedy)

    def _without_value(self, error: argparse.ArgumentError) -> UsageError:
        """The error of an option that lacks its value or was given one that it does not take."""
        names = (error.argument_name or "").split("/")
        told = next(each for each, _ in _flags if list(each.names) == names)
        if told.metavar:
            return UsageError(f"{names[-1]} needs {told.metavar}", f"see {SAY} --help")
        return UsageError(f"{names[-1]} takes no value", f"see {SAY} --help")


def parser() -> _Parser:
    """A parser for all registered flags. It raises UsageError instead of ending the process."""
    made = _Parser(
        prog="say.py",
        add_help=False,
        allow_abbrev=False,
        exit_on_error=False,
        # Without a width argparse asks the terminal, for which it imports shutil, bz2 and lzma.
        formatter_class=lambda prog: argparse.HelpFormatter(prog, width=100),
    )
    for each, how in _flags:
        made.add_argument(*each.names, **how)
    return made


def shortened(argument: str) -> str:
    """An argument that is told of in an error, where it may be a text."""
    return shown(argument if len(argument) <= SHOWN_CHARACTERS else f"{argument[:SHOWN_CHARACTERS]}...")


def verb_for(options: Namespace) -> Run | None:
    """The verb that the flags ask for; None if they ask to speak."""
    return next((run for applies, run in _verbs if applies(options)), None)


def server_settings(options: Namespace, *, strict: bool = True) -> Settings:
    """The settings that servers get if this call has to start them. Names that are no settings become a note.

    Raises UsageError for values that do not fit; unless `strict`, they become notes too: a server can be stopped
    whatever stands in config.toml.
    """
    from kokoro_common.settings import look_up, settings_in

    found = look_up({"device": options.device, "precision": options.precision})
    settings, problems = settings_in(found)
    if problems and strict:
        raise problems[0]
    for line in (*map(str, problems), found.note):
        if line:
            note(line, quiet=options.quiet)
    return settings


def speed_of(speed: str | None, rate: str | None) -> str | float | None:
    """The value of --speed. `rate` gives it in words a minute. None without either."""
    if rate is None:
        return speed
    if speed is not None:
        raise UsageError("both --speed and --rate were given", "choose one")
    from kokoro_common.settings import FLAG, Given
    from kokoro_common.text.defaults import number
    from kokoro_common.text.speech import MAX_SPEED, MIN_SPEED

    given = Given(text=rate, source="--rate", level=FLAG)
    return number(given, MIN_SPEED * NATURAL_RATE, MAX_SPEED * NATURAL_RATE) / NATURAL_RATE


def whole_number(name: str, text: str | None) -> int | None:
    """The value of a flag, None without it. Raises UsageError for anything but digits."""
    if text is None:
        return None
    if not text.isascii() or not text.isdigit():
        raise UsageError(f"{name} {text!r}", "give a whole number")
    return int(text[:9])


def note(text: str, remedy: str = "", *, quiet: bool) -> None:
    """Prints one line for the user on stderr, unless --quiet was given. `remedy`: as that of an error."""
    if not quiet:
        line = f"{shown(text, MAX_LINE)}; {shown(remedy, MAX_REMEDY)}" if remedy else shown(text, MAX_LINE)
        tell(line)


def tell(line: str) -> None:
    """Prints a line on stderr, after the command's name, folded where a terminal is narrower."""
    from kokoro_common.command.terminal import fitting

    print(fitting(f"{NAME.prefix}: {NAME.filled(line)}", sys.stderr, 8), file=sys.stderr)


flag("-q", "--quiet", help="no progress and no notes, errors only", group="program", common=True)
flag("--debug", help="log the text, show tracebacks", group="program")
