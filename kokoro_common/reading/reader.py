"""How a text chunk is read aloud: numbers, money, URLs, Markdown, emoji and code to the words that are said for them.

One scan from left to right. At each place the rules of the language are tried in order, the most specific first; a rule
is a pattern and a function that says what it matched, or declines. What no rule is sure of stays as it is written.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from kokoro_common.text.edits import Edit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    _Match = re.Match[str]
    # What is said for the match; edits, where only parts of it change; None: another rule may know.
    _Say = Callable[[_Match, str], str | list[Edit] | None]
    _Rule = tuple[re.Pattern[str], _Say]
    _Table = tuple[tuple[str, str, _Say], ...]

_LONGEST_NUMBER = 30  # digits; a longer one is read digit by digit
_LONGEST_PATH = 60  # characters of a URL's path; of a longer one only the host is said


def read(text: str, lang: str, *, emoji: bool = True) -> list[Edit]:
    """The edits that turn one line of text into what is said, in order. Pure; linear in the text; never raises.

    `lang`: Kokoro's letter, one of a b e f h i j p z; for any other nothing is edited. `emoji`: say their names.
    """
    rules = _rules(lang, emoji) if lang in _NUM2WORDS else ()
    edits: list[Edit] = []
    later: list[Edit] = []  # ends of what has begun (a link), the nearest one last; no rule reads across it
    place = 0
    while place < len(text):
        end = later[-1].start if later else len(text)
        if place == end:
            edits.append(later.pop())
            place = edits[-1].end
            continue
        if plain := _PLAIN.match(text, place, end):
            place = plain.end()
            continue
        for pattern, say in rules:
            found = pattern.match(text, place, end)
            if found and found.end() > place and (said := say(found, lang)) is not None:
                break
        else:
            run = _RUN.match(text, place, end)
            place = run.end() if run else place + 1
            continue
        if isinstance(said, list):
            edits.append(said[0])
            later += said[:0:-1]
            place = said[0].end
            continue
        if said != found[0]:
            edits.append(Edit(found.start(), found.end(), _apart(text, found, said, lang)))
        place = found.end()
    return edits


_PLAIN = re.compile(r"(?<!\S)(?:(?!vs )[a-z]+ )+")  # most of a text: no rule begins with them
_RUN = re.compile(r"[A-Za-zÀ-ÖØ-öø-ɏ0-9]+|[^\W_]")


def _apart(text: str, found: _Match, said: str, lang: str) -> str:
    """With blanks where the words would grow together with their neighbours: "5G" is "five G"."""
    if not said.strip() or lang in "jz":
        return said
    before, after = text[found.start() - 1 : found.start()], text[found.end() : found.end() + 1]
    left = " " if before.isalnum() and said[0].isalnum() else ""
    right = " " if after.isalnum() and (said[-1].isalnum()) else ""
    return left + said + right


# --- Words -----------------------------------------------------------------------------------------------------------

_NUM2WORDS = {"a": "en", "b": "en", "e": "es", "f": "fr", "i": "it", "p": "pt_BR", "j": "ja", "h": "", "z": ""}
_COLUMNS = "aefhijpz"
_WORDS = {
    row.split(" = ")[0].strip(): dict(zip(_COLUMNS, row.split(" = ")[1].split(" | "), strict=True))
    for row in """
        point = point | coma | virgule | दशमलव | virgola | 点 | vírgula | 点
        dot = dot | punto | point | डॉट | punto | ドット | ponto | 点
        slash = slash | barra | slash | स्लैश | barra | スラッシュ | barra | 斜杠
        backslash = backslash | contrabarra | antislash | बैकस्लैश | backslash | バックスラッシュ | contrabarra | 反斜杠
        at = at | arroba | arobase | ऐट | chiocciola | アットマーク | arroba | 艾特
        dash = dash | guion | tiret | डैश | trattino | ハイフン | hífen | 杠
        underscore = underscore | guion bajo | tiret bas | अंडरस्कोर | trattino basso | アンダーバー | sublinhado | 下划线
        colon = colon | dos puntos | deux points | कोलन | due punti | コロン | dois pontos | 冒号
        tilde = tilde | tilde | tilde | टिल्ड | tilde | チルダ | til | 波浪号
        plus = plus | más | plus | प्लस | più | プラス | mais | 加
        minus = minus | menos | moins | माइनस | meno | マイナス | menos | 负
        times = times | por | fois | गुणा | per | かける | vezes | 乘以
        divided = divided by | entre | divisé par | भाग | diviso | 割る | dividido por | 除以
        equals = equals | es igual a | égale | बराबर | uguale | イコール | é igual a | 等于
        about = about | aproximadamente | environ | लगभग | circa | 約 | cerca de | 约
        to = to | a | à | से | a | から | a | 到
        and = and | y | et | और | e | と | e | 和
        percent = percent | por ciento | pour cent | प्रतिशत | per cento | パーセント | por cento | %
        image = image | imagen | image | चित्र | immagine | 画像 | imagem | 图片
        section = section | sección | paragraphe | धारा | paragrafo | セクション | parágrafo | 第
        line = line | línea | ligne | पंक्ति | riga | 行 | linha | 行
        column = column | columna | colonne | कॉलम | colonna | 列 | coluna | 列
        Celsius = degrees Celsius | grados Celsius | degrés Celsius | डिग्री | gradi Celsius | 度 | graus Celsius | 度
    """.strip().splitlines()
}
# Signs that stand between words or numbers.
_ENGLISH_SIGNS = {"≈": "is about", "≤": "is at most", "<=": "is at most", "≥": "is at least", ">=": "is at least"}
_ENGLISH_SIGNS |= {"!=": "is not", "≠": "is not", "==": "equals", "&&": "and", "±": "plus or minus", "->": "to"}
_ENGLISH_SIGNS |= {"<": "is less than", ">": "is greater than", "=>": "to"}
_SIGNS = {"=": "equals", "+": "plus", "×": "times", "·": "times", "*": "times", "÷": "divided", "&": "and"}
_SIGNS |= {"→": "to", "⇒": "to", "⟶": "to", "➜": "to"}


def _word(name: str, lang: str) -> str:
    return _WORDS[name]["a" if lang == "b" else lang]


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


def _any(names: Iterable[str]) -> str:
    """A pattern for any of them, the longest first."""
    return "|".join(re.escape(name) for name in sorted(names, key=lambda name: (-len(name), name)))


def _forms(table: str) -> dict[str, tuple[str, str]]:
    """{"km": ("kilometer", "kilometers")} of "km kilometer, ft foot/feet"."""
    pairs = (row.strip().split(" ", 1) for row in table.split(","))
    return {unit: (form, form + "s") if "/" not in form else _halves(form) for unit, form in pairs}


def _halves(form: str) -> tuple[str, str]:
    one, _, many = form.partition("/")
    return one, many


_MONTHS = {
    "a": "January February March April May June July August September October November December",
    "e": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
    "f": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "h": "जनवरी फ़रवरी मार्च अप्रैल मई जून जुलाई अगस्त सितंबर अक्टूबर नवंबर दिसंबर",
    "i": "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
    "p": "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
}
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
_LETTERS = ("A", "B", "J")
_LASTING = _set("of after for in within every took takes lasts last wait sleep about timeout by than over under at to")
_PER = {"h": "hour", "s": "second", "min": "minute", "kg": "kilogram", "l": "liter", "L": "liter", "m": "meter"}
_PER |= {"lb": "pound", "mo": "month", "yr": "year", "hr": "hour", "sec": "second"}
_PER |= {word: word for word in ("second", "minute", "hour", "day", "week", "month", "year", "person")}
_MONEY = {  # one, many, one hundredth, many hundredths
    lang: dict(row.strip().split(" ", 1) for row in rows.split(","))
    for lang, rows in {
        "a": "$ dollar dollars cent cents, € euro euros cent cents, £ pound pounds penny pence, ¥ yen yen - -, "
        "₹ rupee rupees paisa paise, ₩ won won - -, CHF franc francs centime centimes",
        "e": "€ euro euros céntimo céntimos, $ dólar dólares centavo centavos, £ *libra libras penique peniques",
        "f": "€ euro euros centime centimes, $ dollar dollars cent cents, £ *livre livres penny pence",
        "h": "₹ रुपया रुपये पैसा पैसे, $ डॉलर डॉलर सेंट सेंट, € यूरो यूरो सेंट सेंट",
        "i": "€ euro euro centesimo centesimi, $ dollaro dollari centesimo centesimi, £ *sterlina sterline penny pence",
        "j": "¥ 円 円 - -, ￥ 円 円 - -, $ ドル ドル - -, € ユーロ ユーロ - -",
        "p": "R$ real reais centavo centavos, € euro euros centavo centavos, $ dólar dólares centavo centavos, "
        "£ *libra libras pêni pence",
        "z": "¥ 元 元 - -, ￥ 元 元 - -, $ 美元 美元 - -, € 欧元 欧元 - -",
    }.items()
}
_CODES = {"USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥", "INR": "₹", "KRW": "₩", "BRL": "R$", "CHF": "CHF"}
_COUNTRIES = {"US": "U S", "C": "Canadian", "CA": "Canadian", "A": "Australian", "AU": "Australian"}
_COUNTRIES |= {"NZ": "New Zealand", "HK": "Hong Kong", "S": "Singapore"}
_MAGNITUDES = {"k": "thousand", "m": "million", "mn": "million", "b": "billion", "bn": "billion", "t": "trillion"}
_JOINTS = {"e": " con ", "f": " ", "i": " e ", "p": " e "}  # between euros and cents
_OF = {"e": "de ", "f": "de ", "i": "di ", "p": "de "}  # un millón de euros

# --- Numbers ---------------------------------------------------------------------------------------------------------

_BEGIN = r"(?<![A-Za-zÀ-ÖØ-öø-ɏ0-9_])"
_END = r"(?![A-Za-zÀ-ÖØ-öø-ɏ0-9_])"
_NUMBER = {
    lang: rf"(?:(?:[0-9]{{1,3}}(?:{thousands}[0-9]{{3}})+(?![0-9])|[0-9]+)(?:{point}[0-9]+)?|(?<![0-9.,]){dot}[0-9]+)"
    for langs, thousands, point, dot in (
        ("abhjz", ",", r"\.", r"\."),
        ("eip", "[.\xa0\u202f]", "[.,]", ","),
        ("f", "[. \xa0\u202f]", "[.,]", ","),
    )
    for lang in langs
}
_MINUS = r"(?<![\w)\]%.,])[-−]"
_GROUPED = re.compile(r"[0-9]{1,3}(?:[. \xa0\u202f][0-9]{3})+(?![0-9])")


def _cardinal(digits: str, lang: str) -> str:
    """Words for an integer; digits where the G2P reads them better (Hindi, Mandarin)."""
    if not _NUM2WORDS[lang]:
        return digits
    if len(digits) > _LONGEST_NUMBER or (len(digits) > 1 and digits[0] == "0"):
        return _one_by_one(digits, lang)
    try:
        return _words(digits, lang, "cardinal")
    except OverflowError:  # each language ends somewhere between 10 ** 18 and 10 ** 306
        return _one_by_one(digits, lang)


def _words(digits: str, lang: str, form: str) -> str:
    from num2words import num2words

    said = str(num2words(int(digits), lang=_NUM2WORDS[lang], to=form)).replace(",", "")
    return said.replace(" and ", " ") if lang == "a" else said


def _one_by_one(digits: str, lang: str) -> str:
    return ("" if lang == "j" else " ").join(_cardinal(digit, lang) for digit in digits)


def _number(written: str, lang: str) -> str:
    """Words for a number with its sign, thousands separators and decimals."""
    if written[0] in "-−":
        return f"{_word('minus', lang)}{'' if lang in 'jz' else ' '}{_number(written[1:], lang)}"
    if lang in "efip":
        if grouped := _GROUPED.match(written):
            written = re.sub(r"[^0-9]", "", grouped[0]) + written[grouped.end() :]
        whole, mark, decimals = written.replace(",", ".").partition(".")
    else:
        whole, mark, decimals = written.replace(",", "").partition(".")
    if not mark or not _NUM2WORDS[lang]:
        return _cardinal(whole, lang) if not mark else f"{whole}.{decimals}"
    if lang in "efip" and len(decimals) == 2 and decimals[0] != "0":
        decimals = _cardinal(decimals, lang)  # trois virgule quatorze
    else:
        decimals = _one_by_one(decimals, lang)
    point = _word("point", lang)
    if lang == "e" and "." in written and "," not in written:
        point = "punto"
    blank = "" if lang == "j" else " "
    return f"{_cardinal(whole, lang)}{blank}{point}{blank}{decimals}" if whole else f"{point}{blank}{decimals}"


def _ordinal(digits: str, lang: str = "a") -> str:
    if len(digits) > 12:  # nobody counts so far, and some languages cannot
        return _cardinal(digits, lang)
    return _words(digits, lang, "ordinal")


def _year(digits: str, lang: str = "a") -> str:
    """nineteen eighty-four; other languages say years as numbers."""
    if lang not in "ab" or not "1100" <= digits <= "2099" or digits[1:3] == "00":
        return _cardinal(digits, lang)
    if digits[2:] == "00":
        return f"{_cardinal(digits[:2], lang)} hundred"
    ending = _cardinal(digits[2:].lstrip("0"), lang)
    return f"{_cardinal(digits[:2], lang)} {'oh ' if digits[2] == '0' else ''}{ending}"


def _short(digits: str, lang: str = "a") -> str:
    """As in addresses, codes and sizes: two sixty-four, ten eighty."""
    if lang not in "ab":
        return _cardinal(digits, lang)
    if len(digits) in (3, 4) and digits[0] != "0" and not digits.endswith("00"):
        head, tail = digits[:-2], digits[-2:]
        ending = f"oh {_cardinal(tail[1], lang)}" if tail[0] == "0" else _cardinal(tail, lang)
        return f"{_cardinal(head, lang)} {ending}"
    return _one_by_one(digits, lang) if len(digits) > 4 else _cardinal(digits, lang)


def _counted(number: str, forms: tuple[str, str], lang: str) -> str:
    """A number before a noun: its ending, and singular or plural. "*" marks a feminine noun."""
    one, many = forms
    feminine, one, many = one.startswith("*"), one.lstrip("*"), many.lstrip("*")
    said = _number(number, lang)
    single = re.fullmatch(r"[-−]?1", number) or (lang in "fp" and re.fullmatch(r"[-−]?[01],[0-9]+", number))
    if lang in "efip" and (_GROUPED.fullmatch(number) or not re.search(r"[.,]", number)):
        said = _agreed(said, feminine, lang)
        if re.search(rf"(?:{_LARGE})\Z", said):
            return f"{said} {_de(one, lang)}{many}"
    return f"{said}{'' if lang in 'jz' else ' '}{one if single else many}"


def _de(noun: str, lang: str) -> str:
    return "d'" if lang == "f" and noun[0] in "aeiouhy" else _OF[lang]


_LARGE = r"mill[oó]n(?:es)?|milh(?:ão|ões)|bilh(?:ão|ões)|mili(?:one|oni|ardo|ardi)|millions?|milliards?"


def _agreed(said: str, feminine: bool, lang: str) -> str:
    if lang == "e":
        return re.sub(r"(veinti)?(?:ún|uno)\Z", r"\1una" if feminine else lambda m: "veintiún" if m[1] else "un", said)
    if lang == "i":
        return re.sub(r"\Auno\Z", "una" if feminine else "un", said)
    if feminine:
        return re.sub(r"\bun\Z" if lang == "f" else r"\bum\Z", "une" if lang == "f" else "uma", said).replace(
            "dois", "duas"
        )
    return said


def _say_number(m: _Match, lang: str) -> str | None:
    written = m[0]
    plain = written.isdigit()
    if lang in "hjz" and plain:
        return written
    if lang in "efip" and plain and re.search(r"(?<!1)1\Z", written) and re.match(r" [^\W\d_]", m.string[m.end() :]):
        return written  # un, una? The noun knows
    if lang in "ab" and plain and len(written) == 4 and _is_year(m):
        return _year(written, lang)
    return _number(written, lang)


_YEAR_BEFORE = _set(
    "in since until till circa ca c by early late mid year spring summer autumn fall winter copyright © born founded "
    "january february march april may june july august september october november december"
)
_YEAR_AFTER = re.compile(
    r" (?:AD|BC|BCE|CE)\b|(?=\s*(?:[.,;:!?)\]’'\"”]|\Z))| (?:and|but|when|to|or|was|is|as|he|she)\b"
)


def _before(m: _Match) -> str:
    """The word before, as written; "" where something else stands."""
    word = re.search(r"([^\W\d_]+|©)\.? ?\Z", m.string[max(0, m.start() - 30) : m.start()])
    return word[1] if word else ""


def _is_year(m: _Match) -> bool:
    if not "1100" <= m[0] <= "2099":
        return False
    before, after = _before(m).lower(), m.string[m.end() : m.end() + 20]
    if before in _YEAR_BEFORE:
        return not re.match(r" (?!was\b|is\b|has\b|as\b|the\b)[a-z]+s\b", after)  # "in 1500 cases"
    opened = m.string[max(0, m.start() - 1) : m.start()] == "(" and after[:1] in "),;–-"
    near = before in ("of", "from", "after", "before", "during", "between", "to", "and") and m[0] >= "1500"
    the = before == "the" and m[0] >= "1900" and re.match(r" [a-z]+(?<!s)\b", after)
    return bool(opened or (near and _YEAR_AFTER.match(after)) or the)


_ROMAN = {"I": 1, "V": 5, "X": 10}
_ROMAN_NUMBER = re.compile(r"X{0,3}(?:IX|IV|V?I{0,3})")


def _roman(written: str) -> int:
    """0 if it is none."""
    if not written or not _ROMAN_NUMBER.fullmatch(written):
        return 0
    values = [_ROMAN[letter] for letter in written]
    return sum(-a if a < b else a for a, b in zip(values, [*values[1:], 0], strict=True))


_RULERS = _set(
    "Henry Louis Charles George Edward Richard William James Elizabeth Philip Napoleon "
    "Pius Benedict Francis Paul Leo "
    "Catherine Peter Nicholas Alexander Frederick Ferdinand Alfonso Gustav Christian Harald Victor Emmanuel Innocent "
    "Gregory Urban Clement Ramses Mary Xerxes Ptolemy Otto Ivan Juan Carlos Umberto Wilhelm Cleopatra Darius"
)
_PARTS = _set(
    "Chapter Part Act Scene Volume Vol Book Section War Phase Article Title Appendix "
    "Figure Fig Table Level Class Stage "
    "Schedule Exhibit Lesson Episode Bowl Fantasy Step Type Canto Grade chapter part act scene volume book section "
    "phase article appendix figure table level stage type step"
)


def _say_roman(m: _Match, lang: str) -> str | None:
    value, before = _roman(m[0]), _before(m)
    if not value or (m[0] in "IX" and m[0] == "I" and before != "War" and re.match(r" [a-z]", m.string[m.end() :])):
        return None
    if before in _PARTS:
        return _cardinal(str(value), lang)
    return f"the {_ordinal(str(value), lang)}" if before in _RULERS and m[0] != "I" else None


# --- Numbers with something ------------------------------------------------------------------------------------------


def _say_ordinal(m: _Match, lang: str) -> str | None:
    if lang in "ab":
        return _ordinal(m[1], lang)
    said = "second" if lang == "f" and m[2] in ("nd", "nde") else _ordinal(m[1], lang)
    if lang == "e" and m[2] == "er":
        return re.sub(r"o\Z", "", said)
    if m[2] in ("ª", "a"):
        return re.sub(r"o\b", "a", said)
    return re.sub("ier$", "ière", said) if m[2] in ("re", "ère") else said + "e" * (m[2] == "nde")


def _say_decade(m: _Match, lang: str) -> str | None:
    """The 1990s, the '90s; "30s" alone may be seconds."""
    tens = m[2]
    if not m[1] and (tens == "00" or not (m[0][0] in "'’" or _before(m).lower() in _DECADE_BEFORE)):
        return None
    if m[1] and tens == "00":
        return f"{_cardinal(m[1], lang)} hundreds" if m[1] != "20" else "two thousands"
    ending = "tens" if tens == "10" else re.sub(r"y\Z", "ies", _cardinal(tens, lang))
    return f"{_cardinal(m[1], lang)} {ending}" if m[1] else ending


_PRICED = re.compile(r" (?:bill|note|coin|gift|fine|deal|loan|lawsuit|grant|contract|investment|ticket)\b")
_DECADE_BEFORE = _set("the his her their my your our early mid late low high")


def _say_money(m: _Match, lang: str) -> str | None:
    """Also with a magnitude ($5 million) or as a range ($5-10)."""
    groups = m.groupdict()
    sign = m["sign"]
    row = _MONEY["a" if lang == "b" else lang].get(_CODES.get(sign, sign))
    if row is None:
        return None
    one, many, cent, cents = row.split()
    blank, minus = ("" if lang in "jz" else " "), (_word("minus", lang) + " " if groups.get("minus") else "")
    country = _COUNTRIES.get(groups.get("country") or "", "")
    one, many = (f"{country} {form}" if country else form for form in (one, many))
    amount, magnitude = m["amount"], groups.get("magnitude")
    if magnitude and (lang in "hjz" or (lang in "efip" and len(magnitude) < 3)):
        return m[0]
    start = f"{_number(amount, lang)}{blank}{_word('to', lang)}{blank}" if groups.get("upper") else minus
    amount = groups.get("upper") or amount
    if magnitude and lang in "efip":
        return f"{start}{_number(amount, lang)} {magnitude} {_de(one, lang)}{many}"
    adjective = lang in "ab" and not minus and _PRICED.match(m.string, m.end())
    if magnitude and lang in "ab":
        large = _MAGNITUDES.get(magnitude.lower(), magnitude.lower())
        return f"{start}{_number(amount, lang)} {large} {one if adjective else many}"
    if groups.get("upper"):
        return f"{start}{_counted(amount, (one, many), lang)}"
    parts = re.fullmatch(r"(.*[0-9])?[.,]([0-9]{2})", amount) if cent != "-" and lang != "h" else None
    if parts is None:
        if adjective:
            return f"{_number(amount, lang)}-{one}"
        return minus + _counted(amount, (one, many), lang)
    whole, hundredths = parts[1] or "0", parts[2].lstrip("0")
    few = _counted(hundredths, (cent, cents), lang) if hundredths else ""
    if not few or whole != "0":
        few = _counted(whole, (one, many), lang) + (_JOINTS.get(lang, " and ") + few if few else "")
    return minus + few


def _say_unit(m: _Match, lang: str) -> str | None:
    amount, gap, unit = m["amount"], m["gap"], m["unit"]
    if unit in _LETTERS and "." not in amount and lang in "ab":  # "Step 1 A user", "5B" may be a door
        return None
    if unit == "s" and not gap and "." not in amount and lang in "ab" and _before(m).lower() not in _LASTING:
        return m[0]  # ones and zeros, the nineties: the G2P knows
    if unit == "°" and amount == "1" and lang in "eip":
        return None  # the first
    if unit == "px" and lang not in "ab":
        return None
    forms = _UNITS["a" if lang == "b" else lang][unit]
    blank = "" if lang in "jz" else " "
    start = f"{_number(amount, lang)}{blank}{_word('to', lang)}{blank}" if m["upper"] else ""
    if lang not in "ab":
        return None if m["per"] or m["power"] else start + _counted(m["upper"] or amount, forms, lang)
    if power := {"²": "square ", "³": "cubic "}.get(m["power"] or ""):
        forms = (power + forms[0], power + forms[1])
    if lang == "b":
        forms = _halves("/".join(forms).replace("meter", "metre").replace("liter", "litre"))
    said = f"{_number(amount, lang)}-{forms[0]}" if gap == "-" else _counted(amount, forms, lang)
    if start:
        said = start + _counted(m["upper"], forms, lang)
    if m["per"]:
        said += f" per {_PER[m['per']]}" + (" squared" if m["squared"] else "")
    return said + _full_stop(m)


def _say_inch(m: _Match, lang: str) -> str:
    return _counted(m[1], ("inch", "inches"), lang)


def _say_inches(m: _Match, lang: str) -> str:
    return f"{_counted(m[1], ('foot', 'feet'), lang)} {_counted(m[2], ('inch', 'inches'), lang)}"


def _say_percent(m: _Match, lang: str) -> str | None:
    if lang == "z":
        return m[0]
    blank = "" if lang == "j" else " "
    amount = _number(m[1], lang)
    if m[2]:
        amount = f"{amount}{blank}{_word('to', lang)}{blank}{_number(m[2], lang)}"
    return f"{amount}{blank}{_word('percent', lang)}"


def _say_range(m: _Match, lang: str) -> str | None:
    """Of numbers, years, or a score; "1-0" and what may be a code is left alone."""
    low, high = m[1], m[2]
    if lang == "z":
        return m[0]
    blank = "" if lang == "j" else " "
    if lang in "ab" and low.isdigit() and len(low) == 4 and "1100" <= low <= "2099":
        if len(high) == 2 and high > low[2:]:
            return f"{_year(low, lang)} to {_cardinal(high, lang)}"
        if len(high) == 4 and low < high <= "2099":
            return f"{_year(low, lang)} to {_year(high, lang)}"
    a, b = (float(re.sub("[,.]", "", number)) for number in (low, high))
    score = lang in "ab" and 20 >= a >= b > 0
    if (low[0] == "0" or high[0] == "0" or a >= b) and not score:
        return m[0]
    return f"{_number(low, lang)}{blank}{_word('to', lang)}{blank}{_number(high, lang)}"


_FRACTIONS = {"½": (1, 2), "⅓": (1, 3), "⅔": (2, 3), "¼": (1, 4), "¾": (3, 4), "⅛": (1, 8), "⅜": (3, 8), "⅝": (5, 8)}
_FRACTIONS |= {"⅞": (7, 8), "⅕": (1, 5), "⅖": (2, 5), "⅗": (3, 5), "⅘": (4, 5), "⅙": (1, 6), "⅚": (5, 6)}
_MEASURES = (
    r"(?=[ -](?:cups?|teaspoons?|tsp|tablespoons?|tbsp|inch(?:es)?|miles?|hours?|pounds?|lbs?|oz|ounces?|pints?|"
    r"gallons?|quarts?|kg|km|of|an?|the|sticks?|cans?)\b)"
)


def _fraction(numerator: int, denominator: int, lang: str) -> str:
    if denominator in (2, 4):
        name = {2: "half", 4: "quarter"}[denominator]
        return f"one {name}" if numerator == 1 else f"{_cardinal(str(numerator), lang)} {name}s"
    return f"{_cardinal(str(numerator), lang)} {_ordinal(str(denominator), lang)}{'s' * (numerator > 1)}"


def _say_fraction(m: _Match, lang: str) -> str | None:
    """½, 2½, 1/2 cup, 2 3/4."""
    whole = m["whole"]
    if m["sign"]:
        numerator, denominator = _FRACTIONS[m["sign"]]
    else:
        numerator, denominator = int(m["top"]), int(m["bottom"])
        if not 0 < numerator < denominator or denominator not in (2, 3, 4, 5, 6, 8, 16, 32):
            return None
        if whole is None and not re.match(_MEASURES, m.string[m.end() :]):
            return None
    said = _fraction(numerator, denominator, lang)
    if whole is not None:
        return f"{_cardinal(whole, lang)} and {re.sub('^one (?=half|quarter)', 'a ', said)}"
    return said


def _say_power(m: _Match, lang: str) -> str:
    """2^10, 10⁶, 1e6, 6.02×10^23, x^2, mc²."""
    said = _number(m["base"], lang) if m["base"][-1].isdigit() else " ".join(m["base"])
    exponent = unicodedata.normalize("NFKC", m["exponent"]).lstrip("+^")
    if exponent == "2" or exponent == "3":
        return f"{said} {'squared' if exponent == '2' else 'cubed'}"
    return f"{said} to the power of {_number(exponent, lang) if exponent[-1].isdigit() else exponent}"


def _say_exponent(m: _Match, lang: str) -> str:
    return f"{_number(m[1], lang)} times ten to the power of {_number(m[2].lstrip('+'), lang)}"


def _say_size(m: _Match, lang: str) -> str:
    """1920x1080, 3 x 4."""
    by = {"a": "by", "b": "by", "e": "por", "f": "par", "i": "per", "p": "por"}.get(lang, "x")
    parts = re.split(r" ?[x×] ?", m[0])
    if lang in "hjz":
        return m[0]
    return f" {by} ".join(
        _short(part, lang) if part.isdigit() and len(part) > 2 else _number(part, lang) for part in parts
    )


def _say_digits(m: _Match, lang: str) -> str | None:
    """Phone numbers, ISBN and the like: digit by digit, a comma between groups."""
    groups = re.findall(r"[0-9]+", m[0])
    plus = _word("plus", lang) + " " if m[0][0] == "+" else ""
    return plus + ", ".join(" ".join(_cardinal(digit, lang) for digit in group) for group in groups)


def _say_version(m: _Match, lang: str) -> str | None:
    groups = m[2].split(".")
    if lang in "efip" and not m[1] and _GROUPED.fullmatch(m[2]):
        return None
    if lang in "hjz" or (not m[1] and len(groups) < 3 and _before(m).lower() not in _VERSIONED):
        return None
    dot = "point" if lang in "abf" else _word("dot", lang)
    parts = f" {dot} ".join(_cardinal(part, lang) for part in groups)
    return ("version " if m[1] and lang in "ab" else m[1] or "") + parts


_VERSIONED = _set(
    "python version versions ubuntu debian android ios macos node java django torch pytorch linux kernel release php "
    "postgresql postgres mysql redis cuda rust go ruby perl gcc clang cmake numpy pandas flask rails firefox"
)

# --- Times and dates -------------------------------------------------------------------------------------------------

_CLOCKS = {  # with minutes, on the hour
    "e": ("{h} y {m}", "{h} en punto"),
    "f": ("{h} {heures} {m}", "{h} {heures}"),
    "i": ("{h} e {m}", "{h} in punto"),
    "p": ("{h} e {m}", "{h} {heures}"),
    "h": ("{h} बजकर {m} मिनट", "{h} बजे"),
    "j": ("{h}時{m}分", "{h}時"),
    "z": ("{h}点{m}分", "{h}点"),
}


def _say_time(m: _Match, lang: str) -> str | None:
    hour, minute, second = (int(part) if part else 0 for part in m.group(1, 2, 3))
    if hour > 24:
        return None
    if lang in _CLOCKS:
        if m[3] or m[4]:
            return None
        said = _agreed(_cardinal(str(hour), lang), True, lang) if lang in "efip" else str(hour)
        hours = {"f": "heure", "p": "hora"}.get(lang, "") + "s" * (hour > 1)
        minutes = _cardinal(str(minute), lang) if lang in "efip" else str(minute)
        return _CLOCKS[lang][minute == 0].format(h=said, m=minutes, heures=hours)
    said = _cardinal(str(hour), lang)
    half = m[4] and f" {m[4].upper()} M{_full_stop(m) if m[0].endswith('.') else ''}"
    if minute:
        said += f" {'oh ' if minute < 10 else ''}{_cardinal(str(minute), lang)}"
    elif not half:
        said = "midnight" if hour in (0, 24) and not m[3] else f"{said} hundred" if hour > 12 else f"{said} o'clock"
    if second:
        said += f" and {_counted(str(second), ('second', 'seconds'), lang)}"
    return said + (half or "")


def _say_hour(m: _Match, lang: str) -> str | None:
    if not 0 < int(m[1]) <= 12:
        return None
    return f"{_cardinal(m[1], lang)} {m[2].upper()} M{_full_stop(m) if m[0].endswith('.') else ''}"


def _date(day: int, month: int, year: str, lang: str, *, words: str = "") -> str | None:
    """`words`: "day first" or "month first", as it is written; else as the language has it."""
    if not (0 < day <= 31 and 0 < month <= 12):
        return None
    if lang in "jz":
        return f"{year}年{month}月{day}日"
    name = _MONTHS["a" if lang == "b" else lang].split()[month - 1]
    if lang == "h":
        return f"{day} {name} {year}"
    if lang in "efip":
        first = {"f": "premier", "i": "primo", "p": "primeiro"}.get(lang) if day == 1 else None
        de = " de " if lang in "ep" else " "
        return f"{first or _cardinal(str(day), lang)}{de}{name}{de}{_cardinal(year, lang)}"
    nth, ending = _ordinal(str(day), lang), f", {_year(year, lang)}" if year else ""
    day_first = words == "day first" or (lang == "b" and not words)
    return f"the {nth} of {name}{ending}" if day_first else f"{name} {nth}{ending}"


def _say_iso_date(m: _Match, lang: str) -> str | None:
    said = _date(int(m[3]), int(m[2]), m[1], lang)
    return said and said + (", " if m[4] and lang in "ab" else " " if m[4] else "")


def _say_slashed_date(m: _Match, lang: str) -> str | None:
    first, second = int(m[1]), int(m[2])
    if lang in "hjz":
        return None
    if lang == "a" and first <= 12:
        return _date(second, first, m[3], lang)
    return _date(first, second, m[3], lang) if second <= 12 else _date(second, first, m[3], lang)


def _month(written: str) -> int:
    return 1 + "janfebmaraprmayjunjulaugsepoctnovdec".index(written[:3].lower()) // 3


def _say_date(m: _Match, lang: str) -> str | None:
    words = "day first" if m.start("day") < m.start("month") else "month first"
    said = _date(int(m["day"]), _month(m["month"]), m["year"] or "", lang, words=words)
    return said.removeprefix("the ") if said and _before(m).lower() == "the" else said


# --- Names, addresses, code ------------------------------------------------------------------------------------------

_PIECE = re.compile(r"[A-Z]+(?![a-zß-ÿ])|[A-Z]?[a-zß-ÿ]+|[0-9]+|[^\W_A-Za-z0-9ß-ÿ]+")
_VOWEL = re.compile(r"[aeiouyAEIOUY]")


def _code(written: str, lang: str) -> str:
    """The words in a name of code: "getUserName" get user name, "MAX_SIZE2" max size two."""
    pieces = _PIECE.findall(written)
    shouted = written.isupper() and "_" in written
    said = []
    for i, piece in enumerate(pieces):
        if piece.isdigit() and piece.isascii():
            said.append(_short(piece, lang) if len(piece) < 5 else _one_by_one(piece, lang))
        elif not piece.isascii() or lang not in "ab":
            said.append(piece)
        elif (len(piece) < 4 and not _VOWEL.search(piece)) or piece in ("html", "http", "https") or len(piece) == 1:
            said.append(piece.upper())
        elif shouted and _VOWEL.search(piece):
            said.append(piece.lower())
        else:
            said.append(piece if piece.isupper() or (i == 0 and not _is_camel(written)) else piece.lower())
    return " ".join(said)


def _is_camel(written: str) -> bool:
    return re.search(r"[a-z][A-Z]", written) is not None or written.islower()


def _say_identifier(m: _Match, lang: str) -> str | None:
    if "_" not in m[0]:
        pieces = _PIECE.findall(m[0])
        if not m[0].isascii() or any(len(piece) < 2 for piece in pieces) or pieces[0] in _NAME_BEGINNINGS:
            return None
        if len(pieces[-1]) < 3 or lang in "hjz":
            return None
    return _code(m[0], lang)


_NAME_BEGINNINGS = _set("Mc Mac De Le La Di Du Van Fitz Ph")


def _say_mixed(m: _Match, lang: str) -> str | None:
    """mp3, H2O, x86, utf8: letters and digits."""
    pieces = _PIECE.findall(m[0])
    if lang not in "ab" or len(pieces) > 6:
        return None
    return " ".join(
        _short(piece, lang) if piece.isdigit() else " ".join(piece.upper()) if len(piece) < 3 else piece
        for piece in pieces
    )


def _letters(written: str, lang: str) -> str:
    return " ".join(_cardinal(c, lang) if c.isdigit() else c.upper() for c in written)


def _say_hash(m: _Match, lang: str) -> str | None:
    head = m[0].partition("-")[0]
    if not (re.search(r"[0-9]", head) and re.search(r"[a-f]", head)) and "-" not in m[0]:
        return None
    return _letters(head if "-" in m[0] else head[:7], lang)


def _joined(written: str, lang: str, names: dict[str, str]) -> str:
    """Words with the names of the signs between them; signs without a name are blanks."""
    pieces = re.findall(r"[^\W_]+|[\W_]", written)
    return " ".join(_code(p, lang) if p[0].isalnum() else names.get(p, "") for p in pieces).strip()


def _names(lang: str, signs: str) -> dict[str, str]:
    named = {".": "dot", "/": "slash", "\\": "backslash", "@": "at", "-": "dash", "_": "underscore", "+": "plus"}
    named |= {":": "colon", "~": "tilde"}
    return {sign: _word(named[sign], lang) for sign in signs}


_SPELLED = _set("io uk us eu tv ai de fr jp br ch nl ca cn kr ru pl cz se fi dk")


def _host(written: str, lang: str) -> str:
    host = _joined(written, lang, _names(lang, ".-"))
    head, _, last = host.rpartition(" ")
    return f"{head} {' '.join(last.upper())}" if lang in "ab" and last in _SPELLED else host


def _port(port: str, lang: str) -> str:
    return f" port {_short(port, lang)}" if lang in "ab" else f" {_word('colon', lang)} {_cardinal(port, lang)}"


def _say_url(m: _Match, lang: str) -> str | None:
    """Host and path. A query, a fragment and a long path are not said, nor is what opens it."""
    url = m["url"].rpartition("://")[2]
    host, slash, path = re.split(r"[?#]", url, maxsplit=1)[0].partition("/")
    host = host.rpartition("@")[2]
    host, _, port = host.removeprefix("www.").partition(":")
    said = _host(host, lang)
    if not said:
        return None
    if port.isdigit() and port.isascii():
        said += _port(port, lang)
    path = re.sub(r"%[0-9A-Fa-f]{2}", " ", path).strip("/")
    if slash and path and len(path) <= _LONGEST_PATH:
        said += f" {_word('slash', lang)} {_joined(path, lang, _names(lang, './'))}"
    return re.sub(r" +", " ", said)


def _say_domain(m: _Match, lang: str) -> str | None:
    """Without a scheme; "do.it" may be a full stop without its blank."""
    host, slash, _ = m[0].partition("/")
    unsure = host.rpartition(".")[2] in ("in", "it", "me", "us", "es", "de", "co", "ch", "fr", "pt", "ar", "example")
    return None if unsure and not slash and not host.startswith("www.") else _say_url(m, lang)


def _say_email(m: _Match, lang: str) -> str:
    local, _, host = m[0].partition("@")
    return f"{_joined(local, lang, _names(lang, '._-+'))} {_word('at', lang)} {_host(host, lang)}"


def _say_path(m: _Match, lang: str) -> str:
    """Of a file or directory, and the place in it that a compiler names."""
    places = [(name, number) for name, number in m.groupdict().items() if number]
    path = m[0][: m.start(places[0][0]) - m.start() - 1] if places else m[0]
    said = re.sub(r" +", " ", _joined(path, lang, _names(lang, "./\\~:")))
    return "".join([said, *(f", {_word(name, lang)} {_cardinal(number, lang)}" for name, number in places)])


def _say_relative(m: _Match, lang: str) -> str | None:
    """src/lib/names; but "red/green/blue" are alternatives."""
    if re.search(r"[._0-9-]", m[0]) or m[0].partition("/")[0] in _DIRECTORIES:
        return _say_path(m, lang)
    return m[0].replace("/", " ") if lang in "ab" else m[0]


_DIRECTORIES = _set("src lib usr bin etc var home tests test docs include build app packages origin scripts")


def _say_address(m: _Match, lang: str) -> str | None:
    """IPv4, perhaps with a prefix length or port."""
    parts = m[1].split(".")
    if any(int(part) > 255 for part in parts):
        return None
    dot = f" {_word('dot', lang)} "
    said = dot.join(_short(part, lang) if part[0] != "0" else _one_by_one(part, lang) for part in parts)
    said += f" {_word('slash', lang)} {_cardinal(m[2], lang)}" if m[2] else ""
    return said + (_port(m[3], lang) if m[3] else "")


def _say_flag(m: _Match, lang: str) -> str:
    """--no-wait, -o, --lang=ja."""
    dash, name = _word("dash", lang), m[2]
    spelled = name.upper() if name in "aA" else name
    said = f"{dash} {dash} {_code(name, lang)}" if m[1] == "--" else f"{dash} {spelled}"
    return said + (f" {_word('equals', lang)} " if m[3] else "")


# --- Markup, signs, emoji --------------------------------------------------------------------------------------------

_TARGET = r"\((?=[^()\s]{0,300}[./#:])(?:[^()\s]|\([^()\s]{0,60}\)){1,300}(?: \"[^\"]{0,100}\")?\)"
_KOKORO_TAG = r"\[[^\[\]]{1,200}\]\((?:/[^/()]{0,200}/|[+-]?[0-9.]{1,8})\)"
_HTML = (
    r"</?(?:a|abbr|b|blockquote|br|center|code|dd|del|details|div|dl|dt|em|font|h[1-6]|hr|i|img|ins|kbd|li|mark|ol|p|pre|"
    r"s|small|span|strike|strong|sub|summary|sup|table|tbody|td|th|thead|tr|tt|u|ul|var)(?:\s[^<>]{0,400})?\s?/?>"
)
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


def _say_emoji(m: _Match, lang: str) -> str | None:
    """Its name, set off by commas; a family or a flag is one. English only: espeak knows the others' names."""
    if lang not in "ab":
        return (m["one"][0] if m["one"][0].isdigit() else "") if lang in "jz" else m[0]
    name = _emoji_name(m["one"])
    before, after = m.string[: m.start()].rstrip()[-1:], m.string[m.end() :].lstrip()[:1]
    left = ", " if before.isalnum() else ""
    return left + name + (", " if after.isalnum() or ord(after or " ") > 0x2600 else "")


def _emoji_name(written: str) -> str:
    if "\U0001f1e6" <= written[0] <= "\U0001f1ff":
        return "flag " + " ".join(chr(ord(letter) - 0x1F1E6 + ord("A")) for letter in written)
    names = []
    for character in re.sub(f"[{_MODIFIERS}\u200d]", "", written) or written:
        name = unicodedata.name(character, "emoji").lower().removesuffix(" sign")
        if character < "\u27c0":
            name = re.sub(r"^(?:white |black )?(?:heavy )?(?:black |white )?", "", name)
        names.append(_EMOJI_NAMES.get(name, name.removeprefix("white ") if name.endswith("mark") else name))
    return _cardinal(written[0], "a") if written[0].isdigit() else " ".join(names)


def _say_entity(m: _Match, lang: str) -> str | None:
    import html

    sign = html.unescape(m[0])
    if sign == m[0]:
        return None
    if sign in ("<", ">") and lang in "ab":
        return f" {'less' if sign == '<' else 'greater'} than "
    return f" {_word(_SIGNS[sign], lang)} " if sign in _SIGNS else sign if sign.strip() and sign.isprintable() else " "


def _say_link(m: _Match, lang: str) -> list[Edit] | str | None:
    """Its text; of an image, that it is one."""
    end = m.start("close")
    if m[1] and not m["text"].strip():
        return _word("image", lang)
    opening = f"{_word('image', lang)}, " if m[1] else ""
    return [Edit(m.start(), m.start("text"), opening), Edit(end, m.end("close"), "")]


def _say_html(m: _Match, lang: str) -> str:
    return " " if re.match(r"</?(?:br|p|div|li|h[1-6r]|t[rdh])\b", m[0]) else ""


def _say_sign(m: _Match, lang: str) -> str | None:
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
    word = _word(_SIGNS[sign], lang) if sign in _SIGNS else _ENGLISH_SIGNS[sign] if lang in "ab" else None
    return word and f" {word} "


def _say_slashed(m: _Match, lang: str) -> str | None:
    """and/or, w/o, TCP/IP: without the slash."""
    known = {"w/o": "without", "n/a": "N A", "N/A": "N A", "I/O": "I O", "c/o": "care of", "s/he": "she or he"}
    known["24/7"] = "twenty-four seven"
    if lang not in "ab" or m[0] in known:
        return known.get(m[0]) if lang in "ab" else m[0]
    return m[0].replace("/", " ") if min(map(len, m[0].split("/"))) > 1 else None


def _say_section(m: _Match, lang: str) -> str:
    said = f"{_word('section', lang)} {_cardinal(m[1], lang)}"
    return " ".join([said, *(part if part.isdigit() else part.upper() for part in re.findall(r"\w+", m[2]))])


def _say_ampersand(m: _Match, lang: str) -> str:
    return f"{' '.join(m[1])} and {' '.join(m[2])}"


def _say_about(m: _Match, lang: str) -> str:
    return _word("about", lang) + ("" if lang in "jz" else " ")


# --- Abbreviations ---------------------------------------------------------------------------------------------------

_ABBREVIATIONS = {  # always; with a capital behind them; with a number behind them
    "always": "Mr. Mister, Mrs. Missus, Ms. Miz, Messrs. Messers, Prof. Professor, "
    "Jr. Junior, vs. versus, vs versus, "
    "etc. et cetera, e.g. for example, eg. for example, i.e. that is, approx. approximately, "
    "al. al, Ph.D. P H D, Inc. Incorporated, "
    "Ltd. Limited, Corp. Corporation, Dept. Department, dept. department, cf. compare, "
    "viz. namely, misc. miscellaneous, "
    "Blvd. Boulevard, Ave. Avenue, incl. including, excl. excluding, w/ with",
    "name": "Dr. Doctor, St. Saint, Mt. Mount, Gen. General, Col. Colonel, "
    "Capt. Captain, Lt. Lieutenant, Sgt. Sergeant, "
    "Rev. Reverend, Gov. Governor, Sen. Senator, Rep. Representative, Hon. Honorable",
    "street": "Dr. Drive, St. Street, Rd. Road, Sr. Senior, Co. Company, Ln. Lane",
    "number": "No. number, no. number, Nos. numbers, nos. numbers, Fig. Figure, fig. figure, Figs. Figures, "
    "figs. figures, p. page, pp. pages, Vol. Volume, vol. volume, Ch. Chapter, "
    "ch. chapter, Sec. Section, sec. section, "
    "Eq. Equation, eq. equation, Art. Article, art. article, c. circa, ca. circa, para. paragraph, "
    "Jan. January, Feb. February, Mar. March, Apr. April, Jun. June, Jul. July, Aug. August, Sep. September, "
    "Sept. September, Oct. October, Nov. November, Dec. December",
}
_SHORT = {kind: {short: forms[0] for short, forms in _forms(table).items()} for kind, table in _ABBREVIATIONS.items()}


def _say_abbreviation(m: _Match, lang: str) -> str | None:
    written, after, before = m[0], m.string[m.end() : m.end() + 3], _before(m)
    behind_name = before[:1].isupper() and before.lower() not in _SMALL_WORDS
    kinds = (
        ("always", True),
        ("name", re.match(r" [A-Z][a-zA-Z'’.]", after) and not (behind_name and written == "St.")),
        ("number", re.match(r" ?[0-9]", after)),
        ("street", behind_name),
    )
    said = next((_SHORT[kind][written] for kind, fits in kinds if fits and written in _SHORT[kind]), None)
    return None if said is None else said + _full_stop(m)


_SMALL_WORDS = _set("in the at from near to and on of by for with visit see")


def _full_stop(m: _Match) -> str:
    """The point of an abbreviation that ends the text ends the sentence too."""
    return "." if m[0].endswith(".") and not m.string[m.end() :].strip("\"')]}”’*_ ") else ""


def _say_initials(m: _Match, lang: str) -> str:
    return " ".join(re.findall(r"[A-Za-z]", m[0].upper())) + _full_stop(m)


# --- Rules -----------------------------------------------------------------------------------------------------------

_EXTENSIONS = (
    "py pyi js mjs ts jsx tsx c h cc cpp hpp rs go java kt swift rb php pl lua sh bash zsh "
    "bat ps1 md rst txt tex json jsonl "
    "toml yaml yml ini cfg conf env lock html htm css scss xml csv tsv sql log pdf docx? "
    "xlsx? pptx? odt epub png jpe?g gif "
    "svg webp ico mp3 wav flac ogg opus m4a mp4 mkv avi mov webm zip tar gz bz2 xz zst 7z "
    "exe dll so dylib o a whl deb rpm "
    "iso bin dat db sqlite bak tmp diff patch ipynb onnx pth? gguf safetensors npy npz service"
).replace(" ", "|")
_TLDS = _any(
    _set("com org net io dev edu gov info app ai co me tv uk de fr es it br jp cn in us eu ca au ch nl pt mx kr ru")
)
_MONTH = r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?"
_MONTH += r"|Nov(?:ember)?|Dec(?:ember)?)\b"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})"
_LINE = r"(?::(?P<line>[0-9]{1,7})(?::(?P<column>[0-9]{1,5}))?)?"
_DATE_YEAR = r"(?:,? (?P<year>[12][0-9]{3})\b)?"


def _nothing(m: _Match, lang: str) -> str:
    return ""


def _blank(m: _Match, lang: str) -> str:
    return " "


def _as_written(m: _Match, lang: str) -> str:
    return m[0]


# (languages, pattern, function); "" is all of them. In each table and between them: the most specific first.
_MARKUP: _Table = (
    ("", _KOKORO_TAG, _as_written),
    ("", rf"(!)?\[(?P<text>[^\[\]]{{0,300}})(?P<close>\]{_TARGET})", _say_link),
    ("", r"(?<![\w\])])()\[(?P<text>[^\[\]^]{1,300})(?P<close>\]\[[^\[\]]{0,60}\])", _say_link),
    ("", rf"\[(?=!\[)|(?<=\))\]{_TARGET}", _nothing),
    ("", r"\[\^[^\[\]\s]{1,40}\]:?", _nothing),
    ("", r"<(?P<url>(?:https?|ftp)://[^<>\s]{1,300})>", _say_url),
    ("", _HTML, _say_html),
    ("", r"&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});", _say_entity),
    ("", r"\A(?:>\s)?(?:[-*+•]\s+)?\[ \]\s+|\A(?:#{1,6}|>|[-*+])\s+(?:#{1,6}\s+)?", _nothing),
    ("", r"(?<!\S)[-=_*~|:+#]{3,}(?!\S)|`+|~~|(?<=\w)\(\)", _nothing),
)
_PATH_NAME = rf"(?:[\w.-]+/){{0,20}}\w[\w-]*(?:\.[\w-]+){{0,5}}\.(?:{_EXTENSIONS}){_END}"
_DOMAIN = rf"(?:{_LABEL}\.(?:{_LABEL}\.){{0,4}}(?:{_TLDS})|localhost(?=:[0-9]))(?::[0-9]{{1,5}})?{_END}(?!\.[A-Za-z])"
_URL_PART = r"[^\s<>\"'`|{}\\^()]|\([^\s<>()]{0,80}\)"  # a lone bracket is not the URL's
_URL_END = r"[^\s<>\"'`|{}\\^.,;:!?()\]*_~。，、）]|\([^\s<>()]{0,80}\)"
_ADDRESSES: _Table = (
    ("", rf"(?:https?|ftp|ssh|git|file)://(?P<url>(?:{_URL_PART})*(?:{_URL_END}))", _say_url),
    ("", rf"{_BEGIN}[A-Za-z0-9][\w.+-]{{0,63}}@(?:{_LABEL}\.){{1,6}}[A-Za-z]{{2,24}}{_END}", _say_email),
    ("", rf"{_BEGIN}(?<![@./])(?P<url>{_DOMAIN}(?:/[\w./~%?=&#+-]*[\w/])?)", _say_domain),
    ("", rf"{_BEGIN}[0-9a-f]{{8}}(?:-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}{_END}", _say_hash),
    ("", rf"{_BEGIN}(?<!#)[0-9a-f]{{7,64}}{_END}", _say_hash),
    (
        "",
        rf"{_BEGIN}([0-9]{{1,3}}(?:\.[0-9]{{1,3}}){{3}})(?:/([0-9]{{1,2}}))?(?::([0-9]{{2,5}}))?{_END}(?!\.[0-9])",
        _say_address,
    ),
    ("", rf"{_BEGIN}0x([0-9A-Fa-f]+){_END}", lambda m, lang: f"hex {_letters(m[1], lang)}"),
    ("", r"(?<![\w-])(--)([A-Za-z][\w-]*)(=(?=\S))?", _say_flag),
    ("", r"(?<![^\s`'\"(\[])(-)([A-Za-z])(?![\w-])(=(?=\S))?", _say_flag),
    ("", rf"(?<![\w/.~<:)])(?:~|\.{{1,2}})?(?:/(?:\.\.|[\w.+@-]*\w)){{1,40}}/?{_LINE}", _say_path),
    ("", rf"{_BEGIN}[A-Za-z]:(?:\\[\w.-]*\w){{1,20}}", _say_path),
    ("", rf"{_BEGIN}(?=[0-9_-]*[A-Za-z]){_PATH_NAME}{_LINE}", _say_path),
    ("", r"(?<![\w.…)/])\.[a-z][\w-]{2,30}", _say_path),
    ("", rf"{_BEGIN}[A-Za-z][\w-]*(?:/[\w.-]*\w){{2,20}}", _say_relative),
    ("", rf"{_BEGIN}[A-Za-z_]\w*(?:\.[A-Za-z_]\w+)+(?=\()", _say_path),
    ("", _EMOJI, _say_emoji),
)
_DAY = r"[0-3]?[0-9]"
_TIMES: _Table = (
    (
        "",
        rf"{_BEGIN}([12][0-9]{{3}})-([01][0-9])-([0-3][0-9])(?![0-9-])(T(?=[0-9]{{2}}:)| (?=[0-9]{{2}}:))?",
        _say_iso_date,
    ),
    ("", rf"{_BEGIN}([0-9]{{1,2}})/([0-9]{{1,2}})/([12][0-9]{{3}})(?![0-9/])", _say_slashed_date),
    ("ab", rf"{_BEGIN}(?P<day>{_DAY})(?:st|nd|rd|th)? (?:of )?(?P<month>{_MONTH})\.?{_DATE_YEAR}", _say_date),
    (
        "ab",
        rf"{_BEGIN}(?P<month>{_MONTH})\.? (?P<day>{_DAY})(?:st|nd|rd|th)?(?![\w:.]*[\d%]){_DATE_YEAR}",
        _say_date,
    ),
    (
        "",
        r"(?:(?<![\w.:,])|(?<=[0-9]T))([0-9]{1,2}):([0-5][0-9])(?::([0-5][0-9]))?(?:Z\b)?(?!:?[0-9])"
        r"(?:\s?([AaPp])(?:\.[Mm]\.|[Mm]\b))?",
        _say_time,
    ),
    ("fp", rf"{_BEGIN}([0-9]{{1,2}})h([0-5][0-9])()(){_END}", _say_time),
    ("ab", rf"{_BEGIN}([0-9]{{1,2}})\.([0-5][0-9])()\s?([AaPp])(?:\.[Mm]\.|[Mm]\b)", _say_time),
    ("ab", rf"{_BEGIN}([0-9]{{1,2}})\s?([AaPp])(?:\.[Mm]\.|[Mm]\b)", _say_hour),
    ("ab", rf"{_BEGIN}['’]?([12][0-9])?([0-9]0)['’]?s{_END}", _say_decade),
)
_WORD_RULES: _Table = (
    ("ab", rf"{_BEGIN}[IVX]{{1,7}}{_END}", _say_roman),
    (
        "ab",
        rf"{_BEGIN}(?:{_any({short for kind in _SHORT.values() for short in kind})})(?![A-Za-z0-9])",
        _say_abbreviation,
    ),
    ("ab", rf"{_BEGIN}(?:[A-Z]\.){{2,}}(?![A-Za-z])|{_BEGIN}[ap]\.m\.", _say_initials),
    ("ab", rf"{_BEGIN}C\+\+", lambda m, lang: "C plus plus"),
    ("ab", rf"{_BEGIN}([CF])#(?!\w)", lambda m, lang: f"{m[1]} sharp"),
    ("ab", rf"{_BEGIN}([A-Z]{{1,2}})&([A-Z]{{1,2}}){_END}", _say_ampersand),
    ("", r"(?<!\w)@(?=[A-Za-z_])", lambda m, lang: _word("at", lang) + " "),
    ("ab", r"(?<![\w&])#([A-Za-z]\w*)", lambda m, lang: f"hashtag {_code(m[1], lang)}"),
    ("", rf"(?<![A-Za-z0-9])[A-Za-z][A-Za-z0-9]*(?:_+[A-Za-z0-9]+)+{_END}", _say_identifier),
    (
        "",
        rf"{_BEGIN}(?:[a-z]{{2,}}[A-Z][A-Za-z]*|[A-Z]{{3,}}[a-z]{{2,}}|(?:[A-Z][a-z]+){{3,}}){_END}",
        _say_identifier,
    ),
    ("ab", rf"{_BEGIN}[A-Za-z]+[0-9]+[A-Za-z0-9]*{_END}", _say_mixed),
    ("ab", rf"(?<=[0-9KkMmBn])/({_any(_PER)}){_END}", lambda m, lang: f" per {_PER[m[1]]}"),
    ("", r"(?<=:[0-5][0-9])\s?[-–—]\s?(?=[0-9]{1,2}:[0-5][0-9])", lambda m, lang: f" {_word('to', lang)} "),
    ("ab", r"(?<=[AaPp][Mm])\s?[-–]\s?(?=[0-9])", lambda m, lang: " to "),
    ("ab", r"(?<=[A-Za-z])-(?=[0-9])", _blank),
)
_SIGN_RULES: _Table = (
    ("", r"\s?(?P<op>->|=>|<=|>=|!=|==|&&|[≈≤≥≠±=+×·*÷→⇒⟶➜<>]|&(?!#?\w{1,31};))\s?", _say_sign),
    ("ab", r"(?<=[0-9])\+(?![\w+])", lambda m, lang: " plus"),
    ("", r"°C\b|℃", lambda m, lang: _word("Celsius", lang)),
    ("", r"(?<![\w*])\*{1,3}(?=[^\s*])|(?<=[^\s*])\*{1,3}(?![\w*])|(?<=[^\W\d_])\*{2}(?=[^\W\d_])", _nothing),
    ("", r"(?<!\w)_{1,3}(?=[^\W_])|(?<=[^\s_])_{1,3}(?!\w)", _nothing),
    ("", "[©®™\u2500-\u25ff\u2190-\u21ff\u27f0-\u27ff•‣⁃◦➔-➿❯\u2800-\u28ff]+", _nothing),
)


def _money_rules(lang: str) -> _Table:
    n, table = _NUMBER[lang], _MONEY["a" if lang == "b" else lang]
    sign, codes = _any(table), _any(code for code, name in _CODES.items() if name in table) or "(?!)"
    large = (
        rf"(?:[ -]?(?P<magnitude>(?:thousand|million|billion|trillion|{_LARGE})\b|(?<=[0-9])(?:[KkMmBTb]n?)(?!\w)))?"
        r"(?!\.?[0-9])"
    )
    before = rf"(?P<minus>{_MINUS})?{_BEGIN}(?P<country>{_any(_COUNTRIES)})?(?P<sign>{sign}|(?:{codes})(?= )) ?"
    return (
        ("", rf"{before}(?P<amount>{n})\s?[-–—]\s?(?:{sign})?(?P<upper>{n}){large}(?![-0-9])", _say_money),
        ("", rf"{before}(?P<amount>{n}){large}", _say_money),
        (
            "",
            rf"(?P<minus>{_MINUS})?{_BEGIN}(?P<amount>{n})[ \xa0\u202f]?(?P<sign>{sign}|(?:{codes})\b)(?![\w$])",
            _say_money,
        ),
    )


def _number_rules(lang: str) -> _Table:
    n, units = _NUMBER[lang], _UNITS["a" if lang == "b" else lang]
    per = rf"(?:/(?P<per>{_any(_PER)})(?P<squared>²)?)?"
    return (
        ("", rf"((?:{_MINUS})?{_BEGIN}{n})(?:\s?[-–]\s?({n}))?[ \xa0\u202f]?%", _say_percent),
        (
            "",
            rf"(?P<amount>(?:{_MINUS})?{_BEGIN}{n})(?:[-–](?P<upper>{n}))?(?P<gap>[ \xa0\u202f-]?)"
            rf"(?P<unit>{_any(units)})(?P<power>[²³])?{per}(?![A-Za-zÀ-ÖØ-öø-ɏ0-9_²³/'’&])",
            _say_unit,
        ),
        ("ab", rf"{_BEGIN}([0-9]{{1,2}})['’′]([0-9]{{1,2}})(?:\"|″|”|'')", _say_inches),
        ("ab", rf"{_BEGIN}({n}) ?in(?= (?:wide|tall|long|high|deep|thick|by)\b)", _say_inch),
        ("", r"\+[0-9]{1,3}(?:[ .-]?\([0-9]{1,5}\))?(?:[ .-][0-9]{2,5}){1,5}(?![0-9])", _say_digits),
        ("", r"(?<![\w(])(?:1[ .-])?(?:\([0-9]{3}\) ?|[0-9]{3}[.-])[0-9]{3}[.-][0-9]{4}(?![0-9])", _say_digits),
        ("", rf"{_BEGIN}[0-9]{{3}}-[0-9]{{4}}(?![0-9-])|{_BEGIN}[0-9]+(?:-[0-9]+){{2,8}}(?![\w-])", _say_digits),
        ("", rf"{_BEGIN}([vV]\.?)?([0-9]{{1,9}}(?:\.[0-9]{{1,9}}){{1,5}})(?![\w%]*[%°])(?!\.?[0-9])", _say_version),
        ("ab", rf"{_BEGIN}[vV]([0-9]{{1,4}}){_END}", lambda m, lang: f"version {_cardinal(m[1], lang)}"),
        ("ab", rf"{_BEGIN}([0-9]+)(?:st|nd|rd|th){_END}", _say_ordinal),
        ("eip", rf"{_BEGIN}([0-9]+)\.?([ºª]|er\b|(?<=\b1)°)", _say_ordinal),
        ("f", rf"{_BEGIN}([0-9]+)(ère|ème|eme|nde|nd|er|re|è|e){_END}", _say_ordinal),
        (
            "ab",
            rf"{_BEGIN}(?:(?P<whole>[0-9]+) ?)?(?:(?P<sign>[{''.join(_FRACTIONS)}])"
            r"|(?<![0-9])(?P<top>[0-9]{1,2})/(?P<bottom>[0-9]{1,2})(?![\w/]))",
            _say_fraction,
        ),
        (
            "ab",
            r"(?<=\[)([0-9]+)/([0-9]+)(?=\])",
            lambda m, lang: f"{_cardinal(m[1], lang)} of {_cardinal(m[2], lang)}",
        ),
        ("", rf"{_BEGIN}(?:24/7|[A-Za-z]+/[A-Za-z]+){_END}(?!/)", _say_slashed),
        ("ab", rf"{_BEGIN}w/(?=\s)", lambda m, lang: "with"),
        ("", rf"{_BEGIN}[0-9]+(?:/[0-9]+)+", _as_written),
        (
            "ab",
            rf"{_BEGIN}(?P<base>{n}|[a-zA-Z]{{1,2}})(?P<exponent>\^[-−]?[0-9]+|\^[nxk]\b|[⁻⁺]?[⁰¹²³⁴-⁹]+)",
            _say_power,
        ),
        ("ab", rf"{_BEGIN}([0-9]+(?:\.[0-9]+)?)[eE]([+-]?[0-9]{{1,3}}){_END}", _say_exponent),
        ("", rf"{_BEGIN}(?:{n}(?: ?x ?{n}){{1,2}}|[0-9]{{3,5}} ?× ?[0-9]{{3,5}}){_END}(?!\^)", _say_size),
        ("ab", rf"{_BEGIN}({n})[x×]{_END}", lambda m, lang: f"{_number(m[1], lang)} times"),
        ("ab", rf"{_BEGIN}([0-9]{{3,4}})p{_END}", lambda m, lang: f"{_short(m[1], lang)} P"),
        ("", rf"{_BEGIN}(?<![-–.,:])({n})[-–—]({n})(?![-–—.,:]?[0-9]){_END}", _say_range),
        ("", r"[~≈∼](?=[$€£]?[0-9])", _say_about),
        ("ab", r"(?<![\w&])(?:#|№ ?)(?=[0-9]+\b)", lambda m, lang: "number "),
        ("", r"§§? ?([0-9]+)((?:\([A-Za-z0-9]{1,3}\))*)", _say_section),
    )


@lru_cache(maxsize=20)
def _rules(lang: str, emoji: bool) -> tuple[_Rule, ...]:
    """A language's patterns, compiled once: 30 ms."""
    number: _Table = (("", rf"(?:{_MINUS}|{_BEGIN}){_NUMBER[lang]}", _say_number),)
    silent: _Table = () if emoji else (("", _EMOJI, _nothing),)
    table = (*silent, *_MARKUP, *_ADDRESSES, *_TIMES, *_money_rules(lang), *_number_rules(lang), *_WORD_RULES)
    return tuple(
        (re.compile(pattern), say)
        for langs, pattern, say in (*table, *number, *_SIGN_RULES)
        if not langs or lang in langs
    )
