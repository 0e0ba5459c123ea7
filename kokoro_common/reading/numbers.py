"""Numbers: cardinals, ordinals, years, Roman numerals, fractions, powers, ranges, versions, phone numbers."""

from __future__ import annotations

import re
import unicodedata

from kokoro_common.reading.rule import BEGIN, END, as_written, word_before, word_set

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kokoro_common.reading.language import Language
    from kokoro_common.reading.rule import Match, Table

_LONGEST_NUMBER = 30  # digits; a longer one is read digit by digit
MINUS = r"(?<![\w)\]%.,])[-−]"
GROUPED = re.compile(r"[0-9]{1,3}(?:[. \xa0\u202f][0-9]{3})+(?![0-9])")

# --- Number words ----------------------------------------------------------------------------------------------------


def cardinal(digits: str, lang: Language) -> str:
    """Words for an integer; digits where the G2P reads them better (Hindi, Mandarin)."""
    if not lang.num2words:
        return digits
    if len(digits) > _LONGEST_NUMBER or (len(digits) > 1 and digits[0] == "0"):
        return digit_by_digit(digits, lang)
    try:
        return _num2words(digits, lang, "cardinal")
    except OverflowError:  # each language ends somewhere between 10 ** 18 and 10 ** 306
        return digit_by_digit(digits, lang)


def _num2words(digits: str, lang: Language, form: str) -> str:
    from num2words import num2words

    said = str(num2words(int(digits), lang=lang.num2words, to=form)).replace(",", "")
    return said.replace(" and ", " ") if lang.letter == "a" else said


def digit_by_digit(digits: str, lang: Language) -> str:
    blank = "" if lang.letter == "j" else " "  # in Mandarin too: its G2P would read the digits as one number
    return blank.join(cardinal(digit, lang) for digit in digits)


def in_words(written: str, lang: Language) -> str:
    """Words for a number with its sign, thousands separators and decimals."""
    if written[0] in "-−":
        return f"{lang.word('minus')}{lang.blank}{in_words(written[1:], lang)}"
    if lang.romance:
        if grouped := GROUPED.match(written):
            written = re.sub(r"[^0-9]", "", grouped[0]) + written[grouped.end() :]
        whole, mark, decimals = written.replace(",", ".").partition(".")
    else:
        whole, mark, decimals = written.replace(",", "").partition(".")
    if not mark or not lang.num2words:
        return cardinal(whole, lang) if not mark else f"{whole}.{decimals}"
    if lang.romance and len(decimals) == 2 and decimals[0] != "0":
        decimals = cardinal(decimals, lang)  # trois virgule quatorze
    else:
        decimals = digit_by_digit(decimals, lang)
    point = lang.word("point")
    if lang.letter == "e" and "." in written and "," not in written:
        point = "punto"
    return f"{cardinal(whole, lang) + lang.blank if whole else ''}{point}{lang.blank}{decimals}"


def range_start(low: str, lang: Language) -> str:
    """The first half of a range: "five to "."""
    return f"{in_words(low, lang)}{lang.blank}{lang.word('to')}{lang.blank}"


def ordinal(digits: str, lang: Language) -> str:
    if len(digits) > 12:  # longer than any ordinal in a text, and more than some languages have words for
        return cardinal(digits, lang)
    return _num2words(digits, lang, "ordinal")


def year_in_words(digits: str, lang: Language) -> str:
    """nineteen eighty-four; other languages say years as numbers."""
    if not lang.english or not "1100" <= digits <= "2099" or digits[1:3] == "00":
        return cardinal(digits, lang)
    if digits[2:] == "00":
        return f"{cardinal(digits[:2], lang)} hundred"
    ending = cardinal(digits[2:].lstrip("0"), lang)
    return f"{cardinal(digits[:2], lang)} {'oh ' if digits[2] == '0' else ''}{ending}"


def in_pairs(digits: str, lang: Language) -> str:
    """As in addresses, codes and sizes: two sixty-four, ten eighty."""
    if not lang.english:
        return cardinal(digits, lang)
    if len(digits) in (3, 4) and digits[0] != "0" and not digits.endswith("00"):
        head, tail = digits[:-2], digits[-2:]
        ending = f"oh {cardinal(tail[1], lang)}" if tail[0] == "0" else cardinal(tail, lang)
        return f"{cardinal(head, lang)} {ending}"
    return digit_by_digit(digits, lang) if len(digits) > 4 else cardinal(digits, lang)


LARGE = r"mill[oó]n(?:es)?|milh(?:ão|ões)|bilh(?:ão|ões)|mili(?:one|oni|ardo|ardi)|millions?|milliards?"
_OF = {"e": "de ", "f": "de ", "i": "di ", "p": "de "}


def counted(number: str, forms: tuple[str, str], lang: Language) -> str:
    """A number before a noun: its ending, and singular or plural. "*" marks a feminine noun."""
    one, many = forms
    feminine, one, many = one.startswith("*"), one.lstrip("*"), many.lstrip("*")
    said = in_words(number, lang)
    single = re.fullmatch(r"[-−]?1", number) or (lang.letter in "fp" and re.fullmatch(r"[-−]?[01],[0-9]+", number))
    if lang.romance and (GROUPED.fullmatch(number) or not re.search(r"[.,]", number)):
        said = agreed(said, feminine, lang)
        if re.search(rf"(?:{LARGE})\Z", said):
            return f"{said} {of_noun(one, lang)}{many}"
    return f"{said}{lang.blank}{one if single else many}"


def of_noun(noun: str, lang: Language) -> str:
    """What stands between a large number and its noun: "un millón de euros", "un million d'euros"."""
    return "d'" if lang.letter == "f" and noun[0] in "aeiouhy" else _OF[lang.letter]


def agreed(said: str, feminine: bool, lang: Language) -> str:
    """Number words in the gender of the noun that follows."""
    if lang.letter == "e":
        return re.sub(r"(veinti)?(?:ún|uno)\Z", r"\1una" if feminine else lambda m: "veintiún" if m[1] else "un", said)
    if lang.letter == "i":
        return re.sub(r"\Auno\Z", "una" if feminine else "un", said)
    if feminine:
        masculine, its_feminine = ("un", "une") if lang.letter == "f" else ("um", "uma")
        return re.sub(rf"\b{masculine}\Z", its_feminine, said).replace("dois", "duas")
    return said


# --- Numbers alone ---------------------------------------------------------------------------------------------------

_YEAR_BEFORE = word_set(
    "in since until till circa ca c by early late mid year spring summer autumn fall winter copyright © born founded "
    "january february march april may june july august september october november december"
)
_YEAR_AFTER = re.compile(
    r" (?:AD|BC|BCE|CE)\b|(?=\s*(?:[.,;:!?)\]’'\"”]|\Z))| (?:and|but|when|to|or|was|is|as|he|she)\b"
)


def _say_number(m: Match, lang: Language) -> str | None:
    written = m[0]
    plain = written.isdigit()
    if not lang.latin and plain:
        return written
    if lang.romance and plain and re.search(r"(?<!1)1\Z", written) and re.match(r" [^\W\d_]", m.string[m.end() :]):
        return written  # un, una? The noun knows
    if lang.english and plain and len(written) == 4 and _is_year(m):
        return year_in_words(written, lang)
    return in_words(written, lang)


def _is_year(m: Match) -> bool:
    if not "1100" <= m[0] <= "2099":
        return False
    before, after = word_before(m).lower(), m.string[m.end() : m.end() + 20]
    if before in _YEAR_BEFORE:
        return not re.match(r" (?!was\b|is\b|has\b|as\b|the\b)[a-z]+s\b", after)  # "in 1500 cases"
    opened = m.string[max(0, m.start() - 1) : m.start()] == "(" and after[:1] in "),;–-"
    near = before in ("of", "from", "after", "before", "during", "between", "to", "and") and m[0] >= "1500"
    the = before == "the" and m[0] >= "1900" and re.match(r" [a-z]+(?<!s)\b", after)
    return bool(opened or (near and _YEAR_AFTER.match(after)) or the)


_ROMAN = {"I": 1, "V": 5, "X": 10}
_ROMAN_NUMBER = re.compile(r"X{0,3}(?:IX|IV|V?I{0,3})")
_RULERS = word_set(
    "Henry Louis Charles George Edward Richard William James Elizabeth Philip Napoleon "
    "Pius Benedict Francis Paul Leo "
    "Catherine Peter Nicholas Alexander Frederick Ferdinand Alfonso Gustav Christian Harald Victor Emmanuel Innocent "
    "Gregory Urban Clement Ramses Mary Xerxes Ptolemy Otto Ivan Juan Carlos Umberto Wilhelm Cleopatra Darius"
)
_PARTS = word_set(
    "Chapter Part Act Scene Volume Vol Book Section War Phase Article Title Appendix "
    "Figure Fig Table Level Class Stage "
    "Schedule Exhibit Lesson Episode Bowl Fantasy Step Type Canto Grade chapter part act scene volume book section "
    "phase article appendix figure table level stage type step"
)


def _roman(written: str) -> int:
    """The value of a Roman numeral up to 39; 0 if it is none."""
    if not written or not _ROMAN_NUMBER.fullmatch(written):
        return 0
    values = [_ROMAN[letter] for letter in written]
    return sum(-a if a < b else a for a, b in zip(values, [*values[1:], 0], strict=True))


def _say_roman(m: Match, lang: Language) -> str | None:
    value, before = _roman(m[0]), word_before(m)
    if not value or (m[0] in "IX" and m[0] == "I" and before != "War" and re.match(r" [a-z]", m.string[m.end() :])):
        return None
    if before in _PARTS:
        return cardinal(str(value), lang)
    return f"the {ordinal(str(value), lang)}" if before in _RULERS and m[0] != "I" else None


def _say_ordinal(m: Match, lang: Language) -> str | None:
    if lang.english:
        return ordinal(m[1], lang)
    said = "second" if lang.letter == "f" and m[2] in ("nd", "nde") else ordinal(m[1], lang)
    if lang.letter == "e" and m[2] == "er":
        return re.sub(r"o\Z", "", said)
    if m[2] in ("ª", "a"):
        return re.sub(r"o\b", "a", said)
    return re.sub("ier$", "ière", said) if m[2] in ("re", "ère") else said + "e" * (m[2] == "nde")


def _say_range(m: Match, lang: Language) -> str | None:
    """A range of numbers or years, or a score; "1-0" and what may be a code are left alone."""
    low, high = m[1], m[2]
    if lang.letter == "z":
        return m[0]
    if lang.english and low.isdigit() and len(low) == 4 and "1100" <= low <= "2099":
        if len(high) == 2 and high > low[2:]:
            return f"{year_in_words(low, lang)} to {cardinal(high, lang)}"
        if len(high) == 4 and low < high <= "2099":
            return f"{year_in_words(low, lang)} to {year_in_words(high, lang)}"
    a, b = (float(re.sub("[^0-9]", "", number)) for number in (low, high))
    score = lang.english and 20 >= a >= b > 0
    if (low[0] == "0" or high[0] == "0" or a >= b) and not score:
        return m[0]
    return range_start(low, lang) + in_words(high, lang)


# --- Fractions, powers, digits ---------------------------------------------------------------------------------------

_FRACTIONS = {"½": (1, 2), "⅓": (1, 3), "⅔": (2, 3), "¼": (1, 4), "¾": (3, 4), "⅛": (1, 8), "⅜": (3, 8), "⅝": (5, 8)}
_FRACTIONS |= {"⅞": (7, 8), "⅕": (1, 5), "⅖": (2, 5), "⅗": (3, 5), "⅘": (4, 5), "⅙": (1, 6), "⅚": (5, 6)}
_MEASURED = (
    r"(?=[ -](?:cups?|teaspoons?|tsp|tablespoons?|tbsp|inch(?:es)?|miles?|hours?|pounds?|lbs?|oz|ounces?|pints?|"
    r"gallons?|quarts?|kg|km|of|an?|the|sticks?|cans?)\b)"
)


def _fraction(numerator: int, denominator: int, lang: Language) -> str:
    if denominator in (2, 4):
        name = {2: "half", 4: "quarter"}[denominator]
        return f"one {name}" if numerator == 1 else f"{cardinal(str(numerator), lang)} {name}s"
    return f"{cardinal(str(numerator), lang)} {ordinal(str(denominator), lang)}{'s' * (numerator > 1)}"


def _say_fraction(m: Match, lang: Language) -> str | None:
    """½, 2½, 1/2 cup, 2 3/4."""
    whole = m["whole"]
    if m["sign"]:
        numerator, denominator = _FRACTIONS[m["sign"]]
    else:
        numerator, denominator = int(m["top"]), int(m["bottom"])
        if not 0 < numerator < denominator or denominator not in (2, 3, 4, 5, 6, 8, 16, 32):
            return None
        if whole is None and not re.match(_MEASURED, m.string[m.end() :]):
            return None
    said = _fraction(numerator, denominator, lang)
    if whole is not None:
        return f"{cardinal(whole, lang)} and {re.sub('^one (?=half|quarter)', 'a ', said)}"
    return said


def _say_power(m: Match, lang: Language) -> str:
    """2^10, 10⁶, 1e6, 6.02×10^23, x^2, mc²."""
    said = in_words(m["base"], lang) if m["base"][-1].isdigit() else " ".join(m["base"])
    exponent = unicodedata.normalize("NFKC", m["exponent"]).lstrip("+^")
    if exponent == "2" or exponent == "3":
        return f"{said} {'squared' if exponent == '2' else 'cubed'}"
    return f"{said} to the power of {in_words(exponent, lang) if exponent[-1].isdigit() else exponent}"


def _say_exponent(m: Match, lang: Language) -> str:
    return f"{in_words(m[1], lang)} times ten to the power of {in_words(m[2].lstrip('+'), lang)}"


def _say_digits(m: Match, lang: Language) -> str | None:
    """Phone numbers, ISBN and the like: digit by digit, a comma between groups."""
    groups = re.findall(r"[0-9]+", m[0])
    plus = lang.word("plus") + " " if m[0][0] == "+" else ""
    return plus + ", ".join(" ".join(cardinal(digit, lang) for digit in group) for group in groups)


_VERSIONED = word_set(
    "python version versions ubuntu debian android ios macos node java django torch pytorch linux kernel release php "
    "postgresql postgres mysql redis cuda rust go ruby perl gcc clang cmake numpy pandas flask rails firefox"
)


def _say_version(m: Match, lang: Language) -> str | None:
    groups = m[2].split(".")
    if lang.romance and not m[1] and GROUPED.fullmatch(m[2]):
        return None
    if not lang.latin or (not m[1] and len(groups) < 3 and word_before(m).lower() not in _VERSIONED):
        return None
    dot = "point" if lang.letter in "abf" else lang.word("dot")
    parts = f" {dot} ".join(cardinal(part, lang) for part in groups)
    return ("version " if m[1] and lang.english else m[1] or "") + parts


# --- Rules, in the groups between which others stand -----------------------------------------------------------------

DIGITS: Table = (
    ("", r"\+[0-9]{1,3}(?:[ .-]?\([0-9]{1,5}\))?(?:[ .-][0-9]{2,5}){1,5}(?![0-9])", _say_digits),
    ("", r"(?<![\w(])(?:1[ .-])?(?:\([0-9]{3}\) ?|[0-9]{3}[.-])[0-9]{3}[.-][0-9]{4}(?![0-9])", _say_digits),
    ("", rf"{BEGIN}[0-9]{{3}}-[0-9]{{4}}(?![0-9-])|{BEGIN}[0-9]+(?:-[0-9]+){{2,8}}(?![\w-])", _say_digits),
    ("", rf"{BEGIN}([vV]\.?)?([0-9]{{1,9}}(?:\.[0-9]{{1,9}}){{1,5}})(?![\w%]*[%°])(?!\.?[0-9])", _say_version),
    ("ab", rf"{BEGIN}[vV]([0-9]{{1,4}}){END}", lambda m, lang: f"version {cardinal(m[1], lang)}"),
    ("ab", rf"{BEGIN}([0-9]+)(?:st|nd|rd|th){END}", _say_ordinal),
    ("eip", rf"{BEGIN}([0-9]+)\.?([ºª]|er\b|(?<=\b1)°)", _say_ordinal),
    ("f", rf"{BEGIN}([0-9]+)(ère|ème|eme|nde|nd|er|re|è|e){END}", _say_ordinal),
    (
        "ab",
        rf"{BEGIN}(?:(?P<whole>[0-9]+) ?)?(?:(?P<sign>[{''.join(_FRACTIONS)}])"
        r"|(?<![0-9])(?P<top>[0-9]{1,2})/(?P<bottom>[0-9]{1,2})(?![\w/]))",
        _say_fraction,
    ),
    (
        "ab",
        r"(?<=\[)([0-9]+)/([0-9]+)(?=\])",
        lambda m, lang: f"{cardinal(m[1], lang)} of {cardinal(m[2], lang)}",
    ),
)
ROMAN_NUMERALS: Table = (("ab", rf"{BEGIN}[IVX]{{1,7}}{END}", _say_roman),)


def powers(lang: Language) -> Table:
    return (
        ("", rf"{BEGIN}[0-9]+(?:/[0-9]+)+", as_written),
        (
            "ab",
            rf"{BEGIN}(?P<base>{lang.number}|[a-zA-Z]{{1,2}})(?P<exponent>\^[-−]?[0-9]+|\^[nxk]\b|[⁻⁺]?[⁰¹²³⁴-⁹]+)",
            _say_power,
        ),
        ("ab", rf"{BEGIN}([0-9]+(?:\.[0-9]+)?)[eE]([+-]?[0-9]{{1,3}}){END}", _say_exponent),
    )


def ranges(lang: Language) -> Table:
    n = lang.number
    return (("", rf"{BEGIN}(?<![-–.,:])({n})[-–—]({n})(?![-–—.,:]?[0-9]){END}", _say_range),)


def plain_numbers(lang: Language) -> Table:
    return (("", rf"(?:{MINUS}|{BEGIN}){lang.number}", _say_number),)
