"""Markdown and HTML within a line, emoji, and signs between words: what is said for them, or that nothing is."""

from __future__ import annotations

import re
import unicodedata

from kokoro_common.reading.names import say_url
from kokoro_common.reading.numbers import cardinal
from kokoro_common.reading.rule import a_blank, as_written, nothing
from kokoro_common.text.edits import Edit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kokoro_common.reading.language import Language
    from kokoro_common.reading.rule import Match, Table

# --- Markup ----------------------------------------------------------------------------------------------------------

_TARGET = r"\((?=[^()\s]{0,300}[./#:])(?:[^()\s]|\([^()\s]{0,60}\)){1,300}(?: \"[^\"]{0,100}\")?\)"
_KOKORO_TAG = r"\[[^\[\]]{1,200}\]\((?:/[^/()]{0,200}/|[+-]?[0-9.]{1,8})\)"
_HTML = (
    r"</?(?:a|abbr|b|blockquote|br|center|code|dd|del|details|div|dl|dt|em|font|h[1-6]|hr|i|img|ins|kbd|li|mark|ol|p|pre|"
    r"s|small|span|strike|strong|sub|summary|sup|table|tbody|td|th|thead|tr|tt|u|ul|var)(?:\s[^<>]{0,400})?\s?/?>"
)


def _say_link(m: Match, lang: Language) -> list[Edit] | str | None:
    """The text of a link; for an image the word "image" and its text."""
    end = m.start("close")
    if m[1] and not m["text"].strip():
        return lang.word("image")
    opening = f"{lang.word('image')}, " if m[1] else ""
    return [Edit(m.start(), m.start("text"), opening), Edit(end, m.end("close"), "")]


def _say_html(m: Match, lang: Language) -> str:
    return " " if re.match(r"</?(?:br|p|div|li|h[1-6r]|t[rdh])\b", m[0]) else ""


def _say_entity(m: Match, lang: Language) -> str | None:
    import html

    sign = html.unescape(m[0])
    if sign == m[0]:
        return None
    if sign in ("<", ">") and lang.english:
        return f" {'less' if sign == '<' else 'greater'} than "
    if sign in _NAMED_SIGNS:
        return f" {lang.word(_NAMED_SIGNS[sign])} "
    return sign if sign.strip() and sign.isprintable() else " "


# --- Emoji -----------------------------------------------------------------------------------------------------------

_MODIFIERS = "\ufe0e\ufe0f\u20e3\U0001f3fb-\U0001f3ff"
_PICTURE = (
    "[\u231a\u231b\u23e9-\u23fa\u2600-\u2767\u2795-\u2797\u27b0\u2b1b\u2b1c\u2b50\u2b55\U0001f004\U0001f0cf"
    f"\U0001f300-\U0001f64f\U0001f680-\U0001f6ff\U0001f7e0-\U0001f7eb\U0001f900-\U0001faff][{_MODIFIERS}]*"
)
_EMOJI = rf"(?P<one>[\U0001f1e6-\U0001f1ff]{{2}}|[0-9#*]\ufe0f?\u20e3|{_PICTURE}(?:\u200d{_PICTURE})*)(?: ?(?P=one))*"
_EMOJI_NAMES = {
    "person with folded hands": "folded hands",
    "hot beverage": "coffee",
    "reversed hand with middle": "hand",
}


def _say_emoji(m: Match, lang: Language) -> str | None:
    """The name of an emoji, set off by commas; a family or a flag counts as one.

    English only: espeak-ng knows the names in the other languages.
    """
    if not lang.english:
        return (m["one"][0] if m["one"][0].isdigit() else "") if lang.letter in "jz" else m[0]
    name = _emoji_name(m["one"], lang)
    before, after = m.string[: m.start()].rstrip()[-1:], m.string[m.end() :].lstrip()[:1]
    left = ", " if before.isalnum() else ""
    return left + name + (", " if after.isalnum() or ord(after or " ") > 0x2600 else "")


def _emoji_name(written: str, lang: Language) -> str:
    if "\U0001f1e6" <= written[0] <= "\U0001f1ff":
        return "flag " + " ".join(chr(ord(letter) - 0x1F1E6 + ord("A")) for letter in written)
    names = []
    for character in re.sub(f"[{_MODIFIERS}\u200d]", "", written) or written:
        name = unicodedata.name(character, "emoji").lower().removesuffix(" sign")
        if character < "\u27c0":
            name = re.sub(r"^(?:white |black )?(?:heavy )?(?:black |white )?", "", name)
        names.append(_EMOJI_NAMES.get(name, name.removeprefix("white ") if name.endswith("mark") else name))
    return cardinal(written[0], lang) if written[0].isdigit() else " ".join(names)


# --- Signs -----------------------------------------------------------------------------------------------------------

# Signs that stand between words or numbers.
_ENGLISH_SIGNS = {"≈": "is about", "≤": "is at most", "<=": "is at most", "≥": "is at least", ">=": "is at least"}
_ENGLISH_SIGNS |= {"!=": "is not", "≠": "is not", "==": "equals", "&&": "and", "±": "plus or minus", "->": "to"}
_ENGLISH_SIGNS |= {"<": "is less than", ">": "is greater than", "=>": "to"}
_NAMED_SIGNS = {"=": "equals", "+": "plus", "×": "times", "·": "times", "*": "times", "÷": "divided", "&": "and"}
_NAMED_SIGNS |= {"→": "to", "⇒": "to", "⟶": "to", "➜": "to"}


def _say_sign(m: Match, lang: Language) -> str | None:
    """A sign between two words or numbers; `*` only between numbers."""
    sign = m["op"]
    text = m.string
    before, after = text[: m.start()].rstrip()[-1:], text[m.end() :].lstrip()[:1]
    if not before or not after or not (before.isalnum() or before in ")]%½²’'\"`”"):
        return None
    if not (after.isalnum() or after in "([-.~'\"`$“*_@€£"):
        return None
    if sign in "*·<>" and not (before.isdigit() and after.isdigit()) and m[0] != f" {sign} ":
        return None
    if sign == "*" and not (before.isdigit() and after.isdigit()):
        return None
    word = lang.word(_NAMED_SIGNS[sign]) if sign in _NAMED_SIGNS else _ENGLISH_SIGNS[sign] if lang.english else None
    return word and f" {word} "


def _say_section(m: Match, lang: Language) -> str:
    said = f"{lang.word('section')} {cardinal(m[1], lang)}"
    return " ".join([said, *(part if part.isdigit() else part.upper() for part in re.findall(r"\w+", m[2]))])


def _say_about(m: Match, lang: Language) -> str:
    return lang.word("about") + lang.blank


MARKUP: Table = (
    ("", _KOKORO_TAG, as_written),
    ("", rf"(!)?\[(?P<text>[^\[\]]{{0,300}})(?P<close>\]{_TARGET})", _say_link),
    ("", r"(?<![\w\])])()\[(?P<text>[^\[\]^]{1,300})(?P<close>\]\[[^\[\]]{0,60}\])", _say_link),
    ("", rf"\[(?=!\[)|(?<=\))\]{_TARGET}", nothing),
    ("", r"\[\^[^\[\]\s]{1,40}\]:?", nothing),
    ("", r"<(?P<url>(?:https?|ftp)://[^<>\s]{1,300})>", say_url),
    ("", _HTML, _say_html),
    ("", r"&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});", _say_entity),
    ("", r"\A(?:>\s)?(?:[-*+•]\s+)?\[ \]\s+|\A(?:#{1,6}|>|[-*+])\s+(?:#{1,6}\s+)?", nothing),
    ("", r"(?<!\S)[-=_*~|:+#]{3,}(?!\S)|`+|~~|(?<=\w)\(\)", nothing),
)
EMOJI: Table = (("", _EMOJI, _say_emoji),)
SILENT_EMOJI: Table = (("", _EMOJI, nothing),)
BEFORE_NUMBERS: Table = (
    ("", r"[~≈∼](?=[$€£]?[0-9])", _say_about),
    ("ab", r"(?<![\w&])(?:#|№ ?)(?=[0-9]+\b)", lambda m, lang: "number "),
    ("", r"§§? ?([0-9]+)((?:\([A-Za-z0-9]{1,3}\))*)", _say_section),
)
HYPHENS: Table = (("ab", r"(?<=[A-Za-z])-(?=[0-9])", a_blank),)
SIGNS: Table = (
    ("", r"\s?(?P<op>->|=>|<=|>=|!=|==|&&|[≈≤≥≠±=+×·*÷→⇒⟶➜<>]|&(?!#?\w{1,31};))\s?", _say_sign),
    ("ab", r"(?<=[0-9])\+(?![\w+])", lambda m, lang: " plus"),
    ("", r"°C\b|℃", lambda m, lang: lang.word("Celsius")),
    ("", r"(?<![\w*])\*{1,3}(?=[^\s*])|(?<=[^\s*])\*{1,3}(?![\w*])|(?<=[^\W\d_])\*{2}(?=[^\W\d_])", nothing),
    ("", r"(?<!\w)_{1,3}(?=[^\W_])|(?<=[^\s_])_{1,3}(?!\w)", nothing),
    ("", "[©®™\u2500-\u25ff\u2190-\u21ff\u27f0-\u27ff•‣⁃◦➔-➿❯\u2800-\u28ff]+", nothing),
)
