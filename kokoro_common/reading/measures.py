"""Measures: numbers with a unit, percent, feet and inches, sizes, rates."""

from __future__ import annotations

import re

from kokoro_common.reading.numbers import MINUS, counted, in_pairs, in_words, range_start
from kokoro_common.reading.rule import BEGIN, END, WORD_CHARACTERS, any_of, full_stop, word_before, word_set

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kokoro_common.reading.language import Language
    from kokoro_common.reading.rule import Match, Table


def _forms(table: str) -> dict[str, tuple[str, str]]:
    """{"km": ("kilometer", "kilometers")} of "km kilometer, ft foot/feet"."""
    pairs = (row.strip().split(" ", 1) for row in table.split(","))
    return {unit: (form, form + "s") if "/" not in form else _halves(form) for unit, form in pairs}


def _halves(form: str) -> tuple[str, str]:
    one, _, many = form.partition("/")
    return one, many


_UNITS = {
    "a": _forms(
        "km kilometer, m meter, cm centimeter, mm millimeter, µm micrometer, μm micrometer, nm nanometer, mi mile, "
        "ft foot/feet, yd yard, kg kilogram, g gram, mg milligram, µg microgram, "
        "lb pound, lbs pound, oz ounce, l liter, "
        "L liter, ml milliliter, mL milliliter, cl centiliter, dl deciliter, "
        "tbsp tablespoon, tsp teaspoon, gal gallon, "
        "s second, sec second, secs second, ms millisecond, µs microsecond, "
        "μs microsecond, ns nanosecond, min minute, "
        "mins minute, h hour, hr hour, hrs hour, Hz hertz/hertz, kHz kilohertz/kilohertz, MHz megahertz/megahertz, "
        "GHz gigahertz/gigahertz, B byte, kB kilobyte, KB kilobyte, MB megabyte, "
        "GB gigabyte, TB terabyte, PB petabyte, "
        "KiB kibibyte, MiB mebibyte, GiB gibibyte, TiB tebibyte, W watt, kW kilowatt, "
        "MW megawatt, GW gigawatt, V volt, "
        "kV kilovolt, mV millivolt, A amp, mA milliamp, Wh watt hour, kWh kilowatt hour, mAh milliamp hour, J joule, "
        "kJ kilojoule, kcal kilocalorie, dB decibel, ha hectare, px pixel, °C degree Celsius/degrees Celsius, "
        "℃ degree Celsius/degrees Celsius, °F degree Fahrenheit/degrees Fahrenheit, "
        "℉ degree Fahrenheit/degrees Fahrenheit, ° degree, mph mile per hour/miles per hour, "
        "kph kilometer per hour/kilometers per hour, fps frame per second/frames per second, "
        "rpm revolution per minute/revolutions per minute, kbps kilobit per second/kilobits per second, "
        "Mbps megabit per second/megabits per second, Gbps gigabit per second/gigabits per second"
    ),
    "e": _forms(
        "km kilómetro, m metro, cm centímetro, mm milímetro, kg kilogramo, g gramo, mg miligramo, l litro, L litro, "
        "ml mililitro, min minuto, h *hora, s segundo, ms milisegundo, Hz hercio, MHz megahercio, GHz gigahercio, "
        "MB megabyte, GB gigabyte, TB terabyte, W vatio, kW kilovatio, V voltio, °C grado Celsius/grados Celsius, "
        "km/h kilómetro por hora/kilómetros por hora, m² metro cuadrado/metros cuadrados, "
        "km² kilómetro cuadrado/kilómetros cuadrados, ° grado"
    ),
    "f": _forms(
        "km kilomètre, m mètre, cm centimètre, mm millimètre, kg kilogramme, g gramme, mg milligramme, l litre, "
        "L litre, ml millilitre, cl centilitre, min *minute, h *heure, s *seconde, ms *milliseconde, Hz hertz/hertz, "
        "MHz mégahertz/mégahertz, GHz gigahertz/gigahertz, Mo mégaoctet, Go gigaoctet, To téraoctet, Ko kilooctet, "
        "W watt, kW kilowatt, V volt, °C degré Celsius/degrés Celsius, km/h kilomètre heure/kilomètres heure, "
        "m² mètre carré/mètres carrés, km² kilomètre carré/kilomètres carrés, ° degré"
    ),
    "i": _forms(
        "km chilometro/chilometri, m metro/metri, cm centimetro/centimetri, mm millimetro/millimetri, "
        "kg chilogrammo/chilogrammi, g grammo/grammi, mg milligrammo/milligrammi, l litro/litri, L litro/litri, "
        "ml millilitro/millilitri, min minuto/minuti, h *ora/ore, s secondo/secondi, ms millisecondo/millisecondi, "
        "Hz hertz/hertz, MHz megahertz/megahertz, GHz gigahertz/gigahertz, "
        "MB megabyte/megabyte, GB gigabyte/gigabyte, "
        "TB terabyte/terabyte, W watt/watt, kW chilowatt/chilowatt, V volt/volt, °C grado Celsius/gradi Celsius, "
        "km/h chilometro all'ora/chilometri all'ora, m² metro quadrato/metri quadrati, "
        "km² chilometro quadrato/chilometri quadrati, ° grado/gradi"
    ),
    "p": _forms(
        "km quilômetro, m metro, cm centímetro, mm milímetro, kg quilo, g grama, mg miligrama, l litro, L litro, "
        "ml mililitro, min minuto, h *hora, s segundo, ms milissegundo, Hz hertz/hertz, MHz megahertz/megahertz, "
        "GHz gigahertz/gigahertz, MB megabyte, GB gigabyte, TB terabyte, W watt, kW quilowatt, V volt/volts, "
        "°C grau Celsius/graus Celsius, km/h quilômetro por hora/quilômetros por hora, "
        "m² metro quadrado/metros quadrados, km² quilômetro quadrado/quilômetros quadrados, ° grau"
    ),
    "h": _forms(
        "km किलोमीटर/किलोमीटर, m मीटर/मीटर, cm सेंटीमीटर/सेंटीमीटर, "
        "kg किलोग्राम/किलोग्राम, g ग्राम/ग्राम, l लीटर/लीटर, "
        "L लीटर/लीटर, ml मिलीलीटर/मिलीलीटर, min मिनट/मिनट, °C डिग्री सेल्सियस/डिग्री सेल्सियस, "
        "km/h किलोमीटर प्रति घंटा/किलोमीटर प्रति घंटा, GB गीगाबाइट/गीगाबाइट, MB मेगाबाइट/मेगाबाइट"
    ),
    "j": _forms(
        "km キロメートル/キロメートル, m メートル/メートル, cm センチメートル/センチメートル, "
        "mm ミリメートル/ミリメートル, "
        "kg キログラム/キログラム, g グラム/グラム, mg ミリグラム/ミリグラム, L リットル/リットル, "
        "ml ミリリットル/ミリリットル, "
        "GB ギガバイト/ギガバイト, MB メガバイト/メガバイト, °C 度/度, ℃ 度/度, "
        "km/h キロメートル毎時/キロメートル毎時"
    ),
    "z": _forms(
        "km 公里/公里, km/h 公里每小时/公里每小时, GB 吉字节/吉字节, MB 兆字节/兆字节, "
        "GHz 吉赫兹/吉赫兹, W 瓦/瓦, V 伏/伏"
    ),
}
_LETTERS = ("A", "B", "J")  # units that in English may be a letter: "Step 1 A user", "door 5B"
_LASTING = word_set(  # words before a number of seconds
    "of after for in within every took takes lasts last wait sleep about timeout by than over under at to"
)
_PER = {"h": "hour", "s": "second", "min": "minute", "kg": "kilogram", "l": "liter", "L": "liter", "m": "meter"}
_PER |= {"lb": "pound", "mo": "month", "yr": "year", "hr": "hour", "sec": "second"}
_PER |= {word: word for word in ("second", "minute", "hour", "day", "week", "month", "year", "person")}


def _say_unit(m: Match, lang: Language) -> str | None:
    amount, unit = m["amount"], m["unit"]
    if lang.english:
        if unit in _LETTERS and "." not in amount:
            return None
        if unit == "s" and not m["gap"] and "." not in amount and word_before(m).lower() not in _LASTING:
            return m[0]  # ones and zeros, the nineties: the G2P knows
        return _say_english_unit(m, lang)
    if (unit == "°" and amount == "1" and lang.letter in "eip") or m["per"] or m["power"]:  # 1° is "the first"
        return None
    start = range_start(amount, lang) if m["upper"] else ""
    return start + counted(m["upper"] or amount, _UNITS[lang.tables][unit], lang)


def _say_english_unit(m: Match, lang: Language) -> str:
    amount, upper, forms = m["amount"], m["upper"], _UNITS[lang.tables][m["unit"]]
    if power := {"²": "square ", "³": "cubic "}.get(m["power"] or ""):
        forms = (power + forms[0], power + forms[1])
    if lang.letter == "b":
        forms = _halves("/".join(forms).replace("meter", "metre").replace("liter", "litre"))
    if upper:
        said = range_start(amount, lang) + counted(upper, forms, lang)
    else:
        said = f"{in_words(amount, lang)}-{forms[0]}" if m["gap"] == "-" else counted(amount, forms, lang)
    if m["per"]:
        said += f" per {_PER[m['per']]}" + (" squared" if m["squared"] else "")
    return said + full_stop(m)


def _say_inch(m: Match, lang: Language) -> str:
    return counted(m[1], ("inch", "inches"), lang)


def _say_inches(m: Match, lang: Language) -> str:
    return f"{counted(m[1], ('foot', 'feet'), lang)} {counted(m[2], ('inch', 'inches'), lang)}"


def _say_percent(m: Match, lang: Language) -> str | None:
    if lang.letter == "z":
        return m[0]
    amount = range_start(m[1], lang) + in_words(m[2], lang) if m[2] else in_words(m[1], lang)
    return f"{amount}{lang.blank}{lang.word('percent')}"


def _say_size(m: Match, lang: Language) -> str:
    """1920x1080, 3 x 4."""
    by = {"a": "by", "b": "by", "e": "por", "f": "par", "i": "per", "p": "por"}.get(lang.letter, "x")
    parts = re.split(r" ?[x×] ?", m[0])
    if not lang.latin:
        return m[0]
    return f" {by} ".join(
        in_pairs(part, lang) if part.isdigit() and len(part) > 2 else in_words(part, lang) for part in parts
    )


def measures(lang: Language) -> Table:
    n, units = lang.number, _UNITS[lang.tables]
    per = rf"(?:/(?P<per>{any_of(_PER)})(?P<squared>²)?)?"
    return (
        ("", rf"((?:{MINUS})?{BEGIN}{n})(?:\s?[-–]\s?({n}))?[ \xa0\u202f]?%", _say_percent),
        (
            "",
            rf"(?P<amount>(?:{MINUS})?{BEGIN}{n})(?:[-–](?P<upper>{n}))?(?P<gap>[ \xa0\u202f-]?)"
            rf"(?P<unit>{any_of(units)})(?P<power>[²³])?{per}(?![{WORD_CHARACTERS}_²³/'’&])",
            _say_unit,
        ),
        ("ab", rf"{BEGIN}([0-9]{{1,2}})['’′]([0-9]{{1,2}})(?:\"|″|”|'')", _say_inches),
        ("ab", rf"{BEGIN}({n}) ?in(?= (?:wide|tall|long|high|deep|thick|by)\b)", _say_inch),
    )


def sizes(lang: Language) -> Table:
    n = lang.number
    return (
        ("", rf"{BEGIN}(?:{n}(?: ?x ?{n}){{1,2}}|[0-9]{{3,5}} ?× ?[0-9]{{3,5}}){END}(?!\^)", _say_size),
        ("ab", rf"{BEGIN}({n})[x×]{END}", lambda m, lang: f"{in_words(m[1], lang)} times"),
        ("ab", rf"{BEGIN}([0-9]{{3,4}})p{END}", lambda m, lang: f"{in_pairs(m[1], lang)} P"),
    )


RATES: Table = (("ab", rf"(?<=[0-9KkMmBn])/({any_of(_PER)}){END}", lambda m, lang: f" per {_PER[m[1]]}"),)
