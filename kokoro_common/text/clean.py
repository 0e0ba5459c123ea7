"""Text without what is no text: terminal sequences, control and invisible formatting characters, lone surrogates."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_OSC = 2000  # characters in a title or link sent to a terminal; a longer one is text
_JUNK = re.compile(
    rf"""
    (?P<newline> \r\n? | [\v\f\x85\u2028\u2029] )
  | (?P<nothing>
        (?: \x1b\[ | \x9b ) [0-?]{{0,32}} m                                      # colours stand within words
      | \x1b [\]PX^_] [^\x07\x1b\n]{{0,{_MAX_OSC}}} (?: \x07 | \x1b\\ )          # titles, links
      | [\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]
    )
  | (?P<blank>
        (?: \x1b\[ | \x9b ) [0-?]{{0,32}} [ -/]{{0,4}} [@-~]                     # cursor movements
      | \x1b [ -/]{{0,4}} [0-~]
      | [\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff]
    )
    """,
    re.VERBOSE,
)
_REPLACEMENT = {"newline": "\n", "nothing": "", "blank": " "}
# The end of a text that _JUNK may match once more of it has come.
UNFINISHED = re.compile(
    rf"(?:\r|\x1b(?:[ -/]{{0,4}}|\[[0-?]{{0,32}}[ -/]{{0,4}}|[\]PX^_][^\x07\x1b\n]{{0,{_MAX_OSC}}}\x1b?)"
    rf"|\x9b[0-?]{{0,32}}[ -/]{{0,4}})\Z"
)


def clean(text: str) -> str:
    """The text without terminal sequences, control and invisible formatting characters and lone surrogates.

    Newlines become \\n. Joiners within emoji, Hindi and Persian stay.
    """
    return _JUNK.sub(lambda junk: _REPLACEMENT[str(junk.lastgroup)], text)


def cleaned(raw: str) -> Iterator[tuple[str, int]]:
    """The characters of `clean(raw)` with their places in `raw`."""
    place = 0
    for junk in _JUNK.finditer(raw):
        yield from zip(raw[place : junk.start()], range(place, junk.start()), strict=True)
        if replacement := _REPLACEMENT[str(junk.lastgroup)]:
            yield replacement, junk.start()
        place = junk.end()
    yield from zip(raw[place:], range(place, len(raw)), strict=True)
