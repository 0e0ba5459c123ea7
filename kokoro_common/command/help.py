"""The text of --help: the common flags on a screen, or every flag, at the width of the terminal."""

from __future__ import annotations

import textwrap

from kokoro_common.command.arguments import EXIT_CODES, GROUPS, flags
from kokoro_common.command.name import NAME
from kokoro_common.errors import SAY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kokoro_common.command.arguments import Flag

MOST_COLUMNS = 80  # lines that are longer read badly, and many terminals have no more
LEAST_COLUMNS = 24
TERM_COLUMNS = 27  # of names and value, beside which stands what it does
NARROW = 60  # columns below which that stands on lines of its own


def help_text(*, everything: bool, width: int) -> str:
    """All lines, each with its newline and at most `width` columns, or LEAST_COLUMNS in a narrower terminal."""
    width = max(LEAST_COLUMNS, min(width, MOST_COLUMNS))
    lines = textwrap.wrap(NAME.filled(f"usage: {SAY} [options] [TEXT ...]"), width)
    lines += textwrap.wrap("speaks TEXT, or what comes on standard input", width)
    shown = [each for each in flags() if everything or each.common]
    for group in dict.fromkeys(each.group for each in shown):
        lines.append("")
        lines.append(f"{GROUPS.get(group, group)}:")
        lines += [line for each in shown if each.group == group for line in _lines(each, width)]
    lines.append("")
    codes = "  ".join(f"{code} {meaning}".replace(" ", "\0") for code, meaning in EXIT_CODES.items())
    lines += [line.replace("\0", " ") for line in textwrap.wrap(f"exit codes:  {codes}", width, subsequent_indent="  ")]
    if not everything:
        lines += textwrap.wrap(NAME.filled(f"every flag: {SAY} --help all"), width)
    return "".join(f"{line}\n" for line in lines)


def _lines(flag: Flag, width: int) -> list[str]:
    term = flag.term if len(flag.names) > 1 or width < NARROW else f"    {flag.term}"
    if width < NARROW:
        told = textwrap.wrap(flag.help, width, initial_indent=" " * 6, subsequent_indent=" " * 6)
        return [*textwrap.wrap(term, width, initial_indent="  "), *told]
    beside = textwrap.wrap(flag.help, width - TERM_COLUMNS)
    if len(term) + 4 > TERM_COLUMNS:  # it has a line of its own
        beside = ["", *beside]
    first, *more = (f"  {term}".ljust(TERM_COLUMNS) + beside[0], *beside[1:])
    return [first.rstrip(), *(" " * TERM_COLUMNS + line for line in more)]
