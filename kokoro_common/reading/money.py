"""Money: $3.50, €5 million, $5-10, 20 USD."""

from __future__ import annotations

import re
from typing import NamedTuple

from kokoro_common.reading.numbers import LARGE, MINUS, counted, in_words, of_noun, range_start
from kokoro_common.reading.rule import BEGIN, any_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kokoro_common.reading.language import Language
    from kokoro_common.reading.rule import Match, Table

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
_PRICED = re.compile(r" (?:bill|note|coin|gift|fine|deal|loan|lawsuit|grant|contract|investment|ticket)\b")


class _Currency(NamedTuple):
    one: str
    many: str
    cent: str  # one hundredth; "-": the currency has none
    cents: str

    @property
    def forms(self) -> tuple[str, str]:
        return self.one, self.many


def _say_money(m: Match, lang: Language) -> str | None:
    """Also with a magnitude ($5 million) or as a range ($5-10)."""
    currency = _currency(m, lang)
    if currency is None:
        return None
    groups = m.groupdict()
    upper, magnitude = groups.get("upper"), groups.get("magnitude")
    if magnitude and not _is_magnitude(magnitude, lang):
        return m[0]
    minus = f"{lang.word('minus')} " if groups.get("minus") else ""
    start = range_start(m["amount"], lang) if upper else minus
    amount = upper or m["amount"]
    price = lang.english and not minus and _PRICED.match(m.string, m.end()) is not None
    if magnitude:
        return start + _with_magnitude(amount, magnitude, currency, lang, price=price)
    if upper:
        return start + counted(amount, currency.forms, lang)
    if parts := _with_hundredths(amount, currency, lang):
        return minus + parts
    return f"{in_words(amount, lang)}-{currency.one}" if price else minus + counted(amount, currency.forms, lang)


def _currency(m: Match, lang: Language) -> _Currency | None:
    """The currency of the sign or code, with the country that stands before it; None: the language has no word."""
    row = _MONEY[lang.tables].get(_CODES.get(m["sign"], m["sign"]))
    if row is None:
        return None
    currency = _Currency(*row.split())
    country = _COUNTRIES.get(m.groupdict().get("country") or "")
    if country is None:
        return currency
    return currency._replace(one=f"{country} {currency.one}", many=f"{country} {currency.many}")


def _is_magnitude(magnitude: str, lang: Language) -> bool:
    """Whether the language reads it: the letters K, M, B are English."""
    return lang.english or (lang.romance and len(magnitude) > 2)


def _with_magnitude(amount: str, magnitude: str, currency: _Currency, lang: Language, *, price: bool) -> str:
    """`price`: a noun follows, "a $5 million deal"."""
    number = in_words(amount, lang)
    if lang.romance:
        return f"{number} {magnitude} {of_noun(currency.one, lang)}{currency.many}"
    large = _MAGNITUDES.get(magnitude.lower(), magnitude.lower())
    return f"{number} {large} {currency.one if price else currency.many}"


def _with_hundredths(amount: str, currency: _Currency, lang: Language) -> str:
    """Three dollars and fifty cents; "" for an amount without hundredths."""
    if currency.cent == "-" or lang.letter == "h":
        return ""
    parts = re.fullmatch(r"(.*[0-9])?[.,]([0-9]{2})", amount)
    if parts is None:
        return ""
    whole, hundredths = parts[1] or "0", parts[2].lstrip("0")
    few = counted(hundredths, (currency.cent, currency.cents), lang) if hundredths else ""
    if few and whole == "0":
        return few
    joint = _JOINTS.get(lang.letter, " and ") if few else ""
    return counted(whole, currency.forms, lang) + joint + few


def prices(lang: Language) -> Table:
    n, table = lang.number, _MONEY[lang.tables]
    sign, codes = any_of(table), any_of(code for code, name in _CODES.items() if name in table) or "(?!)"
    large = (
        rf"(?:[ -]?(?P<magnitude>(?:thousand|million|billion|trillion|{LARGE})\b|(?<=[0-9])(?:[KkMmBTb]n?)(?!\w)))?"
        r"(?!\.?[0-9])"
    )
    before = rf"(?P<minus>{MINUS})?{BEGIN}(?P<country>{any_of(_COUNTRIES)})?(?P<sign>{sign}|(?:{codes})(?= )) ?"
    return (
        ("", rf"{before}(?P<amount>{n})\s?[-–—]\s?(?:{sign})?(?P<upper>{n}){large}(?![-0-9])", _say_money),
        ("", rf"{before}(?P<amount>{n}){large}", _say_money),
        (
            "",
            rf"(?P<minus>{MINUS})?{BEGIN}(?P<amount>{n})[ \xa0\u202f]?(?P<sign>{sign}|(?:{codes})\b)(?![\w$])",
            _say_money,
        ),
    )
