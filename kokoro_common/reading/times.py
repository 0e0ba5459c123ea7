"""Times of day, dates, decades."""

from __future__ import annotations

import re

from kokoro_common.reading.numbers import agreed, cardinal, counted, ordinal, year_in_words
from kokoro_common.reading.rule import BEGIN, END, full_stop, word_before, word_set

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kokoro_common.reading.language import Language
    from kokoro_common.reading.rule import Match, Table

_MONTHS = {
    "a": "January February March April May June July August September October November December",
    "e": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
    "f": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "h": "जनवरी फ़रवरी मार्च अप्रैल मई जून जुलाई अगस्त सितंबर अक्टूबर नवंबर दिसंबर",
    "i": "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
    "p": "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
}
_CLOCKS = {  # a time with minutes, and one on the hour
    "e": ("{h} y {m}", "{h} en punto"),
    "f": ("{h} {heures} {m}", "{h} {heures}"),
    "i": ("{h} e {m}", "{h} in punto"),
    "p": ("{h} e {m}", "{h} {heures}"),
    "h": ("{h} बजकर {m} मिनट", "{h} बजे"),
    "j": ("{h}時{m}分", "{h}時"),
    "z": ("{h}点{m}分", "{h}点"),
}
_DECADE_BEFORE = word_set("the his her their my your our early mid late low high")


def _say_time(m: Match, lang: Language) -> str | None:
    hour, minute, second = (int(part) if part else 0 for part in m.group(1, 2, 3))
    if hour > 24:
        return None
    if lang.letter in _CLOCKS:
        if m[3] or m[4]:
            return None
        said = agreed(cardinal(str(hour), lang), True, lang) if lang.romance else str(hour)
        hours = {"f": "heure", "p": "hora"}.get(lang.letter, "") + "s" * (hour > 1)
        minutes = cardinal(str(minute), lang) if lang.romance else str(minute)
        return _CLOCKS[lang.letter][minute == 0].format(h=said, m=minutes, heures=hours)
    said = cardinal(str(hour), lang)
    half = m[4] and f" {m[4].upper()} M{full_stop(m) if m[0].endswith('.') else ''}"
    if minute:
        said += f" {'oh ' if minute < 10 else ''}{cardinal(str(minute), lang)}"
    elif not half:
        said = "midnight" if hour in (0, 24) and not m[3] else f"{said} hundred" if hour > 12 else f"{said} o'clock"
    if second:
        said += f" and {counted(str(second), ('second', 'seconds'), lang)}"
    return said + (half or "")


def _say_hour(m: Match, lang: Language) -> str | None:
    if not 0 < int(m[1]) <= 12:
        return None
    return f"{cardinal(m[1], lang)} {m[2].upper()} M{full_stop(m) if m[0].endswith('.') else ''}"


def _date(day: int, month: int, year: str, lang: Language, *, words: str = "") -> str | None:
    """A date in words; None if there is no such day. `words`: "day first", "month first" or "" for the usual order."""
    if not (0 < day <= 31 and 0 < month <= 12):
        return None
    if lang.letter in "jz":
        return f"{year}年{month}月{day}日"
    name = _MONTHS[lang.tables].split()[month - 1]
    if lang.letter == "h":
        return f"{day} {name} {year}"
    if lang.romance:
        first = {"f": "premier", "i": "primo", "p": "primeiro"}.get(lang.letter) if day == 1 else None
        de = " de " if lang.letter in "ep" else " "
        return f"{first or cardinal(str(day), lang)}{de}{name}{de}{cardinal(year, lang)}"
    nth, ending = ordinal(str(day), lang), f", {year_in_words(year, lang)}" if year else ""
    day_first = words == "day first" or (lang.letter == "b" and not words)
    return f"the {nth} of {name}{ending}" if day_first else f"{name} {nth}{ending}"


def _say_iso_date(m: Match, lang: Language) -> str | None:
    said = _date(int(m[3]), int(m[2]), m[1], lang)
    return said and said + (", " if m[4] and lang.english else " " if m[4] else "")


def _say_slashed_date(m: Match, lang: Language) -> str | None:
    first, second = int(m[1]), int(m[2])
    if not lang.latin:
        return None
    if lang.letter == "a" and first <= 12:
        return _date(second, first, m[3], lang)
    return _date(first, second, m[3], lang) if second <= 12 else _date(second, first, m[3], lang)


def _month(written: str) -> int:
    return 1 + "janfebmaraprmayjunjulaugsepoctnovdec".index(written[:3].lower()) // 3


def _say_date(m: Match, lang: Language) -> str | None:
    words = "day first" if m.start("day") < m.start("month") else "month first"
    said = _date(int(m["day"]), _month(m["month"]), m["year"] or "", lang, words=words)
    return said.removeprefix("the ") if said and word_before(m).lower() == "the" else said


def _say_decade(m: Match, lang: Language) -> str | None:
    """The 1990s, the '90s; "30s" alone may be seconds."""
    tens = m[2]
    if not m[1] and (tens == "00" or not (m[0][0] in "'’" or word_before(m).lower() in _DECADE_BEFORE)):
        return None
    if m[1] and tens == "00":
        return f"{cardinal(m[1], lang)} hundreds" if m[1] != "20" else "two thousands"
    ending = "tens" if tens == "10" else re.sub(r"y\Z", "ies", cardinal(tens, lang))
    return f"{cardinal(m[1], lang)} {ending}" if m[1] else ending


_MONTH = r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?"
_MONTH += r"|Nov(?:ember)?|Dec(?:ember)?)\b"
_DATE_YEAR = r"(?:,? (?P<year>[12][0-9]{3})\b)?"
_DAY = r"[0-3]?[0-9]"

TIMES: Table = (
    (
        "",
        rf"{BEGIN}([12][0-9]{{3}})-([01][0-9])-([0-3][0-9])(?![0-9-])(T(?=[0-9]{{2}}:)| (?=[0-9]{{2}}:))?",
        _say_iso_date,
    ),
    ("", rf"{BEGIN}([0-9]{{1,2}})/([0-9]{{1,2}})/([12][0-9]{{3}})(?![0-9/])", _say_slashed_date),
    ("ab", rf"{BEGIN}(?P<day>{_DAY})(?:st|nd|rd|th)? (?:of )?(?P<month>{_MONTH})\.?{_DATE_YEAR}", _say_date),
    (
        "ab",
        rf"{BEGIN}(?P<month>{_MONTH})\.? (?P<day>{_DAY})(?:st|nd|rd|th)?(?![\w:.]*[\d%]){_DATE_YEAR}",
        _say_date,
    ),
    (
        "",
        r"(?:(?<![\w.:,])|(?<=[0-9]T))([0-9]{1,2}):([0-5][0-9])(?::([0-5][0-9]))?(?:Z\b)?(?!:?[0-9])"
        r"(?:\s?([AaPp])(?:\.[Mm]\.|[Mm]\b))?",
        _say_time,
    ),
    ("fp", rf"{BEGIN}([0-9]{{1,2}})h([0-5][0-9])()(){END}", _say_time),
    ("ab", rf"{BEGIN}([0-9]{{1,2}})\.([0-5][0-9])()\s?([AaPp])(?:\.[Mm]\.|[Mm]\b)", _say_time),
    ("ab", rf"{BEGIN}([0-9]{{1,2}})\s?([AaPp])(?:\.[Mm]\.|[Mm]\b)", _say_hour),
    ("ab", rf"{BEGIN}['’]?([12][0-9])?([0-9]0)['’]?s{END}", _say_decade),
)
BETWEEN_TIMES: Table = (
    ("", r"(?<=:[0-5][0-9])\s?[-–—]\s?(?=[0-9]{1,2}:[0-5][0-9])", lambda m, lang: f" {lang.word('to')} "),
    ("ab", r"(?<=[AaPp][Mm])\s?[-–]\s?(?=[0-9])", lambda m, lang: " to "),
)
