"""The command as a program: parses the arguments, runs the verb they ask for, and ends with its exit code.

Nothing heavy is imported before a verb needs it.
"""

from __future__ import annotations

import errno
import io
import os
import sys

from kokoro_common.command import verbs  # noqa: F401 - registers its flags
from kokoro_common.command.arguments import parser, tell, verb_for
from kokoro_common.command.name import NAME
from kokoro_common.command.signals import SIGNALS
from kokoro_common.command.speak import speak
from kokoro_common.errors import MAX_LINE, KokoroError, OutputError, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main(arguments: list[str] | None = None) -> int:
    """Runs the command and returns its exit code; after a signal 128 and its number."""
    arguments = sys.argv[1:] if arguments is None else arguments
    _open_missing_descriptors()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # what a terminal's encoding lacks, such as a title's letters
    try:
        options = parser().parse_args(arguments)
        run = verb_for(options)
        if run is None:
            code = speak(options)  # which catches signals once there is something to clean up
        else:
            SIGNALS.catch()
            code = run(options)
        _flush()
        return code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _forget_output()
        return OutputError.exit_code
    except Exception as error:
        if SIGNALS.received:
            return 128 + SIGNALS.received  # numpy's import, for one, turns an interrupt into an ImportError
        return _report(error, traceback="--debug" in arguments)
    finally:
        SIGNALS.release()


def _report(error: Exception, *, traceback: bool) -> int:
    """Prints one line with the remedy, or the traceback. Returns the exit code."""
    if traceback:
        from traceback import format_exception

        print(*map(shown, "".join(format_exception(error)).rstrip("\n").split("\n")), sep="\n", file=sys.stderr)
    elif isinstance(error, KokoroError):
        tell(error.line)
    elif isinstance(error, OSError) and error.errno == errno.ENOSPC:
        _forget_output()
        tell(_unwritable(error).line)
        return OutputError.exit_code
    elif isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("kokoro_common"):
        from kokoro_common.installed import lacking

        tell(lacking([error.name.partition(".")[0]]).line)
    else:
        problem = shown(f"unexpected {type(error).__name__}: {error}", MAX_LINE)
        tell(f"{problem}; please report it with --debug")
    return error.exit_code if isinstance(error, KokoroError) else 1


def _flush() -> None:
    """What the run has printed, so that it is known to be written. Raises OutputError."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _forget_output()  # its reader has seen enough
    except OSError as error:
        _forget_output()
        raise _unwritable(error) from error


def _unwritable(error: OSError) -> OutputError:
    problem = f"standard output cannot be written: {(error.strerror or str(error)).lower()}"
    return OutputError(problem, "free some space" if error.errno == errno.ENOSPC else "give it another place")


def _forget_output() -> None:
    """What could not be written is not tried again, or the interpreter complains at its exit."""
    try:
        descriptor = sys.stdout.fileno()
    except OSError:
        return  # a program that calls main() has put something else there
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def _open_missing_descriptors() -> None:
    """Opens a closed stdin, stdout or stderr on /dev/null: sockets and locks must not get their numbers."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115 - open until the process ends
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115


def command() -> NoReturn:
    """The program. Skips the interpreter's own clean-up, a tenth of a short call: everything is closed by now.

    After a signal it dies by that signal, as a shell's loop wants to see it. The signal's exception is raised once, but
    perhaps in the moment in which main returns.
    """
    NAME.take()
    code = 1
    try:
        code = main()
    except (KeyboardInterrupt, SystemExit):
        if not SIGNALS.received:
            raise
    try:
        sys.stdout.flush()
    except OSError:
        pass  # main() has told of it, or a signal came first
    if SIGNALS.received:
        SIGNALS.die()
    os._exit(code)
