"""The exceptions that callers may catch: each has the exit code of `say.py` and reads as one line with its remedy."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


SAY = "{say}"  # in a problem or remedy: the command, which users call differently; say.py fills in what was typed
_IN_PYTHON = {
    f"{SAY} -v '?'": "kokoro.list_voices()",
    f"{SAY} --list-voices": "kokoro.list_voices()",
    f"{SAY} --status": "kokoro.status()",
    SAY: "python -m say",
}
MAX_LINE = 500  # characters of what is told in one line; a problem may quote what somebody sent
MAX_REMEDY = 5_000  # characters; it may name a path, which must be whole to be of use
_JOINERS = "\u200c\u200d"  # within words of Persian and Hindi, and within emoji


def shown(text: str, most: int = 0) -> str:
    """Text of any origin as a part of one line on a terminal: nothing in it moves the cursor, ends the line, turns the
    direction of writing or is invisible. Line ends and tabs become blanks, other such characters question marks.

    What is longer than `most` characters loses its middle: what it is about stands at its beginning, the reason often
    at its end. 0: nothing is lost.
    """
    if most and len(text) > most:
        text = f"{text[: most * 2 // 3]} ... {text[len(text) - most // 3 + 5 :]}"
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() or sign in _JOINERS else " " if sign.isspace() else "?" for sign in text)


def shell_word(path: str) -> str:
    """A path as a shell reads it again, for a command in a remedy: what `shown` would change is written as $'\\x1b'."""
    import shlex

    if path.isprintable() and "  " not in path:
        return shlex.quote(path)
    signs = path.encode("utf-8", "surrogateescape").decode("latin-1")
    return "$'" + "".join(s if " " < s <= "~" and s not in "\\'" else f"\\x{ord(s):02x}" for s in signs) + "'"


class KokoroError(Exception):
    """Base. `str(error)` is one line for a Python program; `remedy`, if any, is the part after the semicolon.

    `line` is the same with SAY where the command is named: for what goes to another process, and for say.py.
    """

    exit_code = 1

    def __init__(self, problem: str, remedy: str = "") -> None:
        self.problem = " ".join(shown(problem, MAX_LINE).split())
        self.remedy = " ".join(shown(remedy, MAX_REMEDY).split())
        super().__init__(f"{self.problem}; {self.remedy}" if remedy else self.problem)

    @property
    def line(self) -> str:
        return str(self.args[0])

    def __str__(self) -> str:
        return in_python(self.line)


class UsageError(KokoroError):
    """The command line or a setting is wrong."""

    exit_code = 2


class NoAudioDevice(KokoroError):
    """There is no device to play on, or it was lost and did not come back."""

    exit_code = 3


class ModelUnavailable(KokoroError):
    """The model, a voice, or the asked-for device or language cannot be had."""

    exit_code = 4


class UnknownVoice(KokoroError):
    """A name that is not in the catalogue."""

    exit_code = 5


class ServersUnreachable(KokoroError):
    """The servers cannot be started, reached, or were lost on the way."""

    exit_code = 6


class ServersBusy(ServersUnreachable):
    """They run, and have too much to do to take anything more."""

    def __init__(self, retry_after: float) -> None:
        """`retry_after`: seconds."""
        super().__init__("the servers are busy", f"try again in {max(1, -int(-retry_after // 1))} s")
        self.retry_after = retry_after


class UtteranceCancelled(KokoroError):
    """Somebody else cancelled the utterance."""

    exit_code = 7


class OutputError(KokoroError):
    """The output file cannot be written."""

    exit_code = 8


def in_python(text: str) -> str:
    """A line with SAY in it, for the user of a Python program."""
    for term, name in _IN_PYTHON.items():
        text = text.replace(term, name)
    return text


def near(word: str, known: Iterable[str], *, count: int = 3, likeness: float = 0.6) -> list[str]:
    """The known words that `word` may be a misspelling of, the nearest first. `likeness`: the least, 0 to 1."""
    import difflib  # 6 ms, for the unlucky only

    return difflib.get_close_matches(word[:48], list(known), n=count, cutoff=likeness)


def choice_remedy(word: str, choices: tuple[str, ...]) -> str:
    """The remedy for a word that is none of the choices."""
    nearest = near(word.lower(), choices, count=1, likeness=0.7)
    return f"did you mean {nearest[0]}?" if nearest else f"choose one of {', '.join(choices)}"


_BY_CODE: dict[int, type[KokoroError]] = {
    kind.exit_code: kind
    for kind in (
        UsageError,
        NoAudioDevice,
        ModelUnavailable,
        UnknownVoice,
        ServersUnreachable,
        UtteranceCancelled,
        OutputError,
    )
}


def error_for(exit_code: int, line: str) -> KokoroError:
    """The exception that a `Failed(code, text)` message stands for."""
    return _BY_CODE.get(exit_code, KokoroError)(line)
