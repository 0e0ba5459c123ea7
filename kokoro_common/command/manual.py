"""The man page, kokoro-say.1, made from the registered flags."""

from __future__ import annotations

from kokoro_common import __version__
from kokoro_common.command.arguments import EXIT_CODES, GROUPS, flags
from kokoro_common.settings import NAMES, variable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kokoro_common.command.arguments import Flag

_FILES = {
    "~/.config/kokoro/": "config.toml, the lexicon, voices of your own",
    "~/.cache/kokoro/": "the model and its voices, logs, bookmarks in documents, measurements",
    "/tmp/kokoro_socket/UID/": "records, locks and the token of your servers",
}
_EXAMPLES = {
    'kokoro-say "The build is done."': "speak",
    "fortune | kokoro-say -v am_adam": "speak what comes through a pipe, while it arrives",
    "kokoro-say -f book.epub -o book.m4b": "a book with chapters; the same command goes on after a stop",
    'kokoro-say -o talk.mp3 --srt talk.srt "Hello."': "a file and its captions",
    "kokoro-say --stop": "silence, from any shell",
    'eval "$(kokoro-say --completion bash)"': "complete its flags in this shell",
}
_DESCRIPTION = """\
speaks TEXT in one of the 54 voices of Kokoro-82M, or what comes on standard
input, sentence by sentence while it arrives.  Words are joined with blanks.
Text is always text: what the command does is chosen by flags, and after --
all is text.

The first call starts servers, which keep the model ready; later calls begin
to speak in a fraction of a second.  No text leaves the machine."""
_CHANGED = "2026-11-30"  # the page's own words


def manual() -> str:
    """The page in the man macros."""
    page = [
        f'.TH KOKORO-SAY 1 {_CHANGED} "Kokoro Say {__version__}" "User Commands"',
        ".SH NAME",
        r"kokoro\-say \- speech from the shell in the voices of Kokoro\-82M",
        ".SH SYNOPSIS",
        ".B kokoro\\-say",
        r"[\fIoptions\fR] [\fITEXT\fR ...]",
        ".SH DESCRIPTION",
        ".B kokoro\\-say",
        _roff(_DESCRIPTION).replace("\n\n", "\n.PP\n"),
        ".SH OPTIONS",
    ]
    for group, heading in GROUPS.items():
        if chosen := [flag for flag in flags() if flag.group == group]:
            page.append(f'.SS "{_roff(heading)}"')
            page += [line for flag in chosen for line in _option(flag)]
    page.append('.SH "EXIT STATUS"')
    page += _table({str(code): meaning for code, meaning in EXIT_CODES.items()})
    page += [".PP", "Errors are one line on standard error that says what to do."]
    names = ",\n".join(rf"\fB{_roff(variable(name))}\fR" for name in NAMES)
    page += [".SH ENVIRONMENT", "A flag overrides a variable, which overrides its key in config.toml:", f"{names}."]
    page.append(".SH FILES")
    page += _table(_FILES)
    page.append(".SH EXAMPLES")
    page += _table(_EXAMPLES)
    page += [
        '.SH "SEE ALSO"',
        r"\fBkokoro\-say \-\-help all\fR; docs/reference.md, docs/text.md and docs/files.md of its source.",
    ]
    return "\n".join(page) + "\n"


def _option(flag: Flag) -> list[str]:
    names = ", ".join(rf"\fB{_roff(name)}\fR" for name in flag.names)
    values = " ".join(rf"\fI{_roff(word)}\fR" for word in flag.metavar.split())
    return [".TP", f"{names} {values}".rstrip(), _roff(flag.help)]


def _table(rows: dict[str, str]) -> list[str]:
    return [line for term, told in rows.items() for line in (".TP", rf"\fB{_roff(term)}\fR", _roff(told))]


def _roff(text: str) -> str:
    r"""Text as it is meant: dashes that can be copied, no line that reads as a request."""
    signs = {"\\": r"\e", "-": r"\-", "'": r"\(aq", '"': r"\(dq", "~": r"\(ti", "^": r"\(ha", "`": r"\(ga"}
    escaped = "".join(signs.get(sign, sign) for sign in text)
    return "\n".join(rf"\&{line}" if line.startswith(".") else line for line in escaped.splitlines())
