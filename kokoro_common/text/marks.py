"""Punctuation, scripts that put no blanks between words, and columns: one table for all packages.

Each constant is a string of characters, to be tested with `in` or put into a character class. A module that needs
another set than these says at its own set why.
"""

from __future__ import annotations

import unicodedata

# --- Punctuation -----------------------------------------------------------------------------------------------------

STRAIGHT_QUOTES = "\"'"  # open and close
EMPHASIS = "*_"  # Markdown's, which open and close too
OPENING_QUOTES = "“‘«‹„「『¿¡"
CLOSING_QUOTES = "”’»›」』"
OPENING_BRACKETS = "([{（【《"
CLOSING_BRACKETS = ")]}）】》"
OPENERS = STRAIGHT_QUOTES + EMPHASIS + OPENING_QUOTES + OPENING_BRACKETS
CLOSERS = STRAIGHT_QUOTES + EMPHASIS + CLOSING_QUOTES + CLOSING_BRACKETS

EAST_ASIAN_STOPS = "。！？｡"
WIDE_STOPS = EAST_ASIAN_STOPS + "।॥"  # end a sentence, with or without a blank
STOPS = "!?‽؟۔"  # end a sentence if a blank follows; a full stop does so too, but not after an abbreviation
WIDE_COMMAS = "、，；："  # end a clause, with or without a blank
COMMAS = ",;:،؛"  # end a clause if a blank follows

# --- Scripts, as ranges for a character class ------------------------------------------------------------------------

KANA = "\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"
HAN = "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # with 々, 〆 and 〇
# Thai, Lao, Burmese and Khmer too. Not Hangul: Korean puts blanks between words, although its letters are wide.
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff" + KANA + HAN
# CJK punctuation, and the full-width forms that are no letters or digits.
WIDE_PUNCTUATION = "\u3000-\u3004\u3008-\u3020\u3030\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"


def columns(text: str) -> int:
    """Columns of a terminal or caption that a text takes: two for a wide character, none for a combining mark."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


# --- Speech ----------------------------------------------------------------------------------------------------------


def speakable(text: str) -> bool:
    """Whether a voice has something to say: a letter or digit of any script, or a sign that has a name in speech."""
    return any(
        character.isalnum()
        or character in "%‰&@°"
        or unicodedata.category(character) == "Sc"
        or "\u2600" <= character <= "\u27bf"  # emoji
        or "\U0001f300" <= character <= "\U0001faff"
        for character in text
    )
