"""The command line: the text of --help, and the flags, each registered beside the function that acts on it.

    @verb("--shutdown")
    def shutdown(options: Namespace) -> int: ...

Modules that register flags are imported by every call, --version included: at import time they may import only this
module and the errors.
"""

from __future__ import annotations

import argparse
import sys

from kokoro_common.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable
    from typing import Any, NoReturn

    from kokoro_common.settings import Settings

    Run = Callable[[Namespace], int]

HELP = """\
usage: say.py [options] [TEXT ...]          speak TEXT, or what comes on standard input

  -v, --voice NAME       a voice (af_heart), a blend (af_bella:0.7,af_sky:0.3); '?' lists
  -o, --output FILE      write .wav .flac .ogg .opus .mp3 .m4a .m4b .raw instead; - is WAV to stdout
      --srt FILE  --vtt FILE  --lrc FILE  --words FILE     captions of it: subtitles, lyrics, JSON
      --split  --title X  --author X      a file per chapter (book-01.mp3); tags
      --lufs N  --sample-rate HZ  --bit-depth N            loudness, as -16; 24000; 16, 24 or 32
  -f, --file FILE        read .txt .md .html .epub .pdf; - is stdin; with -o it goes on after a stop
  -e, --echo  --follow   pass standard input through as it is spoken; show the word being heard
  -s, --speed X          0.25 to 4, 1 is natural    -r, --rate WPM   the same in words a minute
      --volume X         0 to 2, 1 is as it is      --seed N         another take (0)
      --lang CODE        language of the text: en-us en-gb es fr hi it ja pt-br zh
      --plain  --ssml    say it as it is written; it is SSML, even if it does not begin with <speak
      --read-code  --emoji drop           read code blocks too; leave emoji out (usual: names)
      --dialogue  --cast NAME=VOICE       lines "NAME: text" in voices of their own
      --explain          print what would be said and its phonemes, say nothing
      --lex add WORD SAID | remove WORD | list | test TEXT      pronunciations: sequel, /wˈɪn/
  -a, --audio-device X   part of a device's name; '?' lists
  -n, --no-wait  -i, --interrupt  --overlap   return at once; cancel what is before; speak beside it
      --stop  --skip  --pause  --resume         from any shell: all, or what is being spoken
      --engine NAME      auto, kokoro (the model or an error) or espeak (embedded default)
      --device NAME      auto, cpu, cuda or mps     --precision NAME   auto, fp32 or bf16
      --status [--json]  what the servers do        --shutdown         end all servers
      --doctor  --timing  --debug        check all; where the time went; log text, show tracebacks
      --download [VOICE ...|all]          fetch the model and voices, then return
      --list-voices  --save-voice NAME  --add-voice NAME FILE.pt   list; name the one of -v; import
  -q, --quiet            no progress, no notes      --version, -h, --help

exit codes: 0 spoken  1 other  2 usage  3 no audio device  4 model or voice cannot be had
            5 unknown voice  6 servers  7 cancelled  8 output  130 Ctrl-C
"""

_flags: list[tuple[tuple[str, ...], dict[str, Any]]] = []  # arguments of argparse's add_argument
_verbs: list[tuple[Callable[[Namespace], object], Run]] = []  # whether the flags ask for it, and what runs then


def flag(*names: str, **how: Any) -> None:
    """Registers a flag; the arguments are those of argparse's add_argument. Without `how` it takes one string."""
    _flags.append((names, how))


def switch(*names: str) -> None:
    """Registers flags that are on or off, each under one name."""
    for name in names:
        flag(name, action="store_true")


def verb(*names: str, when: Callable[[Namespace], object] | None = None, **how: Any) -> Callable[[Run], Run]:
    """Decorator: the function runs, and returns the exit code, when its flag is given or `when(options)` is true.

    The flag is a switch unless `how` says more. Of several verbs that apply, the one registered first runs.
    """

    def register(run: Run) -> Run:
        if names:
            flag(*names, **(how or {"action": "store_true"}))
        name = next((name for name in names if name.startswith("--")), "").removeprefix("--").replace("-", "_")
        _verbs.append((when or (lambda options: getattr(options, name)), run))
        return run

    return register


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, "see say.py --help")


def parser() -> argparse.ArgumentParser:
    """A parser for all registered flags. It raises UsageError instead of ending the process."""
    made = _Parser(
        prog="say.py",
        add_help=False,
        allow_abbrev=False,
        # Without a width argparse asks the terminal, for which it imports shutil, bz2 and lzma.
        formatter_class=lambda prog: argparse.HelpFormatter(prog, width=100),
    )
    made.add_argument("text", nargs="*")
    for names, how in _flags:
        made.add_argument(*names, **how)
    return made


def verb_for(options: Namespace) -> Run | None:
    """The verb that the flags ask for; None if they ask to speak."""
    return next((run for applies, run in _verbs if applies(options)), None)


def server_settings(options: Namespace) -> Settings:
    """The settings that servers get if this call has to start them."""
    from kokoro_common.settings import resolve

    return resolve({"device": options.device, "precision": options.precision})


def number(name: str, text: str, least: float, most: float) -> float:
    """The value of a flag. Raises UsageError outside of the range."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not least <= value <= most:  # NaN is not in the range either
        raise UsageError(f"{name} {text!r}", f"choose {least:g} to {most:g}")
    return value


def whole_number(name: str, text: str | None) -> int | None:
    """The value of a flag, None without it. Raises UsageError for anything but digits."""
    if text is None:
        return None
    if not text.isascii() or not text.isdigit():
        raise UsageError(f"{name} {text!r}", "give a whole number")
    return int(text[:9])


def note(text: str, *, quiet: bool) -> None:
    """Prints one line for the user on stderr, unless --quiet was given."""
    if not quiet:
        print(f"say.py: {text}", file=sys.stderr)


switch("--debug")
flag("-q", "--quiet", action="store_true")
