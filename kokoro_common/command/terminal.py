"""Lines that fit a terminal, however narrow, and whatever its width has become since the last one."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

DEFAULT_COLUMNS = 80
WIDEST_BAR, NARROWEST_BAR = 30, 8  # columns, without the brackets


def width_of(descriptor: int) -> int:
    """Columns of the terminal now: $COLUMNS, if that is set, as for other programs."""
    try:
        named = int(os.environ.get("COLUMNS", "0"))
        return named if named > 0 else os.get_terminal_size(descriptor).columns or DEFAULT_COLUMNS
    except (ValueError, OSError):
        return DEFAULT_COLUMNS


def columns(text: str) -> int:
    """As in text/marks.py, which is only imported for a text that needs it."""
    if text.isascii():
        return len(text)
    from kokoro_common.text.marks import columns

    return columns(text)


def cut(text: str, room: int) -> str:
    """The beginning of a text that takes at most so many columns, with dots if there is more."""
    if columns(text) <= room:
        return text
    dots = "." * min(3, room)
    while text and columns(text) > room - len(dots):
        text = text[:-1]
    return text + dots


def fitting(text: str, stream: TextIO, indent: int) -> str:
    """One line of text for stdout or stderr: in as many lines as it takes on a terminal, the later ones indented.

    A word that is too long, such as a path, stays whole, to be copied. Elsewhere one line stays one line.
    """
    if not stream.isatty():
        return text
    room = width_of(1 if stream is sys.stdout else 2) - 1
    blanks = " " * min(indent, room // 3)
    lines = [""]
    for word in text.split(" "):
        line = f"{lines[-1]} {word}" if lines[-1].strip() or len(lines) == 1 else lines[-1] + word
        if columns(line) > room + (len(lines) == 1) and lines[-1].strip():
            lines.append(blanks + word)
        else:
            lines[-1] = line
    return "\n".join([lines[0][1:], *lines[1:]])


def gauge(label: str, fraction: float, details: tuple[str, ...], room: int) -> str:
    """A bar with its label, percentage and details in so many columns. `details`: the most important one first.

    What does not fit is left out: the bar comes before the last detail, the percentage is always there.
    """
    percent = f"{fraction:4.0%}"
    for count in range(len(details), -1, -1):
        tail = f"  {', '.join(details[:count])}" if count else ""
        line = f"{label} {{}}{percent}{tail}"
        free = room - columns(line) + 2  # for the braces
        if free >= NARROWEST_BAR + 3:
            return line.replace("{}", bar(fraction, min(WIDEST_BAR, free - 3)) + " ", 1)
        if free >= 0:
            return line.replace("{}", "", 1)
    return f"{cut(label, max(0, room - 1 - len(percent)))} {percent}"[-room:]


def bar(fraction: float, size: int = WIDEST_BAR) -> str:
    """[#####.....]"""
    filled = round(fraction * size)
    return f"[{'#' * filled}{'.' * (size - filled)}]"


def clock(seconds: float) -> str:
    """Hours, minutes and seconds: 1:02:03."""
    return f"{seconds // 3600:.0f}:{seconds // 60 % 60:02.0f}:{seconds % 60 // 1:02.0f}"


def roughly(seconds: float) -> str:
    """A time that is left, as precise as an estimate can be: 40 s, 12 min, 2 h 5 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def megabytes(done: int, total: int) -> str:
    """134 of 327 MB; 1.2 of 2.4 MB."""
    digits = 0 if total >= 10_000_000 else 1 if total >= 100_000 else 3
    return f"{done / 1e6:.{digits}f} of {total / 1e6:.{digits}f} MB"
