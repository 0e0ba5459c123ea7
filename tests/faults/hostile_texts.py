"""A thousand texts that nobody should send to a voice, made of hand-written lines and seeds: the same on every machine.

Single lines stand in hostile_lines.json, by kind; MULTIPLIED repeats what is only hostile in bulk; the rest is drawn,
with a seed for each, from the alphabets of ALPHABETS and from torn pieces of the hand-written ones.
"""

from __future__ import annotations

import base64
import json
import random
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

COUNT = 1_000
HAND_WRITTEN: dict[str, list[str]] = json.loads((Path(__file__).parent / "hostile_lines.json").read_text("ascii"))


class HostileText(NamedTuple):
    name: str
    text: str


# --- In bulk ---------------------------------------------------------------------------------------------------------

MULTIPLIED: dict[str, tuple[str, int]] = {
    "one word of 100,000 letters": ("x", 100_000),
    "one word of 4,000 capitals": ("Q", 4_000),
    "one word of 2,000 syllables": ("ba", 2_000),
    "50,000 digits": ("7", 50_000),
    "4,000 zeros": ("0", 4_000),
    "digits and commas": ("1,", 2_000),
    "digits and points": ("1.", 2_000),
    "decimals": ("3.5", 1_000),
    "versions": ("1.2.3-", 700),
    "fractions": ("1/", 2_000),
    "minus signs": ("-1", 2_000),
    "dollars": ("$1", 2_000),
    "dollar signs": ("$", 4_000),
    "per cent": ("%", 4_000),
    "ampersands": ("&", 4_000),
    "at signs": ("@", 4_000),
    "capitals": ("ABCDEFGHIJ", 100),
    "a word of 1,000 capitals, often": ("Z" * 1_000 + " ", 4),
    "abbreviations": ("a.b.c.d.", 500),
    "initials": ("A. ", 1_000),
    "initials without blanks": ("A.", 2_000),
    "Doctors": ("Dr. ", 1_000),
    "hyphens": ("-", 20_000),
    "hyphenated": ("ab-", 1_000),
    "hyphenated words": ("mother-in-", 400),
    "apostrophes": ("'", 20_000),
    "possessives": ("'s", 2_000),
    "contractions": ("n't", 1_000),
    "typographic apostrophes": ("a’", 2_000),
    "underscores": ("a_", 2_000),
    "slashes": ("a/", 2_000),
    "backslashes": ("\\", 20_000),
    "camels": ("aB", 2_000),
    "blanks": (" ", 200_000),
    "newlines": ("\n", 200_000),
    "blanks and a letter": (" " * 999 + "a", 50),
    "wide blanks": ("\u3000\u2003", 20_000),
    "tabs": ("\t", 100_000),
    "NUL": ("\0", 100_000),
    "escapes": ("\x1b", 20_000),
    "escape brackets": ("\x1b[", 10_000),
    "titles that do not end": ("\x1b]0;", 1_000),
    "carriage returns": ("\r", 50_000),
    "replacement characters": ("\ufffd", 30_000),
    "surrogates": ("\ud83d", 20_000),
    "zero-width blanks": ("a\u200b", 4_000),
    "joiners": ("\u200d", 30_000),
    "bidi overrides": ("\u202ea\u202c", 3_000),
    "byte order marks": ("\ufeff", 30_000),
    "variation selectors": ("\ufe0f", 30_000),
    "accents": ("\u0301", 30_000),
    "a letter with many accents": ("e" + "\u0301" * 999, 12),
    "zalgo": ("H̷̢̛e̵͓͝l̶̰̏l̸̝̈o̵̞̓ ", 200),
    "families": ("👩‍👩‍👧‍👦", 2_000),
    "faces": ("😀", 10_000),
    "faces and words": ("😀 yes ", 600),
    "flags": ("🇩🇪", 4_000),
    "half flags": ("🇩", 4_001),
    "keycaps": ("1️⃣", 1_000),
    "skin tones": ("👍🏽", 4_000),
    "points": (".", 50_000),
    "ellipses": ("… ", 9_000),
    "dots and blanks": ("... ", 9_000),
    "commas": (",", 50_000),
    "commas and blanks": (", ", 20_000),
    "questions": ("?!", 20_000),
    "dashes": ("—", 20_000),
    "quotes": ('"', 20_000),
    "open quotes": ("“a ", 1_000),
    "brackets": ("([{", 9_000),
    "closing brackets": (")]}", 9_000),
    "opened words": ("( a [ b ", 500),
    "tags": ("<a>", 1_000),
    "broken tags": ("<", 20_000),
    "entities": ("&amp;", 800),
    "link openings": ("[", 20_000),
    "link syntax": ("[a](/a/)", 500),
    "link syntax with a stress": ("[a](+2) ", 500),
    "an impossible stress": ("[a](" + "1" * 5_000 + ")", 1),
    "broken links": ("[a](", 1_000),
    "broken links that go on": ("[a](/", 800),
    "nested links": ("[" * 500 + "a" + "](/b/)" * 500, 1),
    "espeak phonemes": ("[[h@l'oU]]", 400),
    "open espeak phonemes": ("[[", 9_000),
    "espeak language switches": ("_^_es ", 700),
    "stars": ("*", 30_000),
    "headings": ("#" * 50 + "\n", 500),
    "list items": ("- a\n", 1_000),
    "table": ("| a | b |\n", 400),
    "ideographs": ("中", 4_000),
    "ideographs and stops": ("中。", 2_000),
    "full stops": ("。", 30_000),
    "kana": ("ああ", 2_000),
    "long vowels": ("ー", 4_000),
    "Hangul": ("각", 4_000),
    "Thai": ("ภาษาไทย", 600),
    "Arabic": ("مرحبا ", 700),
    "Arabic letters": ("م", 4_000),
    "Hindi": ("नमस्ते ", 600),
    "Hindi letters": ("क्ष", 1_000),
    "viramas": ("\u094d", 20_000),
    "Cyrillic": ("привет ", 600),
    "Greek": ("γειά", 1_000),
    "Hebrew": ("שלום", 1_000),
    "fullwidth": ("ＡＢＣ１２３", 700),
    "ligatures": ("ﬃ", 4_000),
    "the longest ligature": ("﷽", 2_000),
    "mathematical letters": ("𝔸𝕓", 2_000),
    "enclosed digits": ("⑳", 4_000),
    "fractions of one sign": ("½", 4_000),
    "superscripts": ("²", 4_000),
    "Roman numerals": ("MCMXCIX ", 500),
    "Roman letters": ("I", 4_000),
    "phonemes": ("ˈɜː", 1_000),
    "stresses": ("ˈ", 4_000),
    "unknowns": ("❓", 9_000),
    "private use": ("\ue000", 9_000),
    "noncharacters": ("\uffff", 9_000),
    "300 words without a stop": ("river boat house people read sleep ", 50),
    "long words without a stop": ("antidisestablishmentarianism ", 150),
    "very long words without a stop": ("pneumonoultramicroscopicsilicovolcanoconiosis ", 90),
    "years": ("1999 ", 900),
    "big numbers": ("999999999999999999999999999999 ", 60),
    "bigger numbers": ("1" + "0" * 305 + " ", 12),
    "dates": ("12/31/1999 ", 400),
    "times": ("12:34:56 ", 450),
    "money": ("$1,234.56 ", 350),
    "mixed": ("Abc 中文 नमस्ते 12.5€ 😀 — ", 200),
    "a URL of 5,000 characters": ("http://example.com/" + "a1_-%20/?&=" * 450, 1),
    "a path of 5,000 characters": ("/usr/share/" * 450, 1),
    "a hundred URLs": ("https://www.example.com/a_b?c=d&e=f#g ", 100),
    "tied words": ("a\u00a0", 2_000),
    "words tied by joiners": ("a\u2060", 4_000),
    "soft hyphens": ("a\xad", 4_000),
    "line separators": ("a\u2028", 2_000),
    "h": ("h", 3_000),
    "w": ("w", 3_000),
    "vowels": ("aeiou", 800),
    "consonants": ("bcdfgh", 700),
    "one letter, apart": ("a ", 2_000),
    "one digit, apart": ("1 ", 2_000),
    "I am": ("I'm ", 1_000),
    "the": ("the ", 1_000),
    "no": ("No. ", 1_000),
    "yes or no": ("Yes! No? ", 600),
    "x and comma": ("x,", 2_000),
    "1 MB of blanks": (" ", 1_000_000),
    "1 MB of stars": ("*", 1_000_000),
    "1 MB of emoji": ("😀", 250_000),
    "1 MB of accents": ("\u0301", 500_000),
    "1 MB of line feeds and stars": ("*\n", 500_000),
}


def _made() -> Iterator[HostileText]:
    """What a program wrote."""
    chooser = random.Random(1)
    yield HostileText("every control character", "".join(map(chr, [*range(0x20), *range(0x7F, 0xA0)])))
    yield HostileText("words between control characters", " word ".join(map(chr, [*range(0x20), *range(0x7F, 0xA0)])))
    blanks = [chr(code) for code in range(sys.maxunicode + 1) if chr(code).isspace()]
    yield HostileText("every blank", "".join(blanks))
    yield HostileText("words between blanks", "word".join(blanks))
    for kind in ("Sc", "Sm", "Sk", "No", "Nl", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Cf", "Lm", "Mn", "Me", "Mc"):
        signs = [chr(code) for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) == kind]
        yield HostileText(f"signs of category {kind}", "".join(signs[:1_500]))
        yield HostileText(f"signs of category {kind}, apart", " ".join(signs[:1_000]))
    for kind in ("Nd", "Lo", "Lu", "Ll", "Lt", "So", "Co", "Cn"):
        signs = [chr(code) for code in range(0x20, 0x20000) if unicodedata.category(chr(code)) == kind]
        yield HostileText(f"some of category {kind}", "".join(chooser.sample(signs, min(len(signs), 400))))
    yield HostileText("base64", base64.b64encode(chooser.randbytes(3_000)).decode())
    yield HostileText("hexadecimal", chooser.randbytes(2_000).hex())
    yield HostileText("random bytes as Latin-1", chooser.randbytes(3_000).decode("latin-1"))
    yield HostileText("random bytes as UTF-8", chooser.randbytes(3_000).decode("utf-8", "replace"))
    yield HostileText("random bytes with surrogates", chooser.randbytes(3_000).decode("utf-8", "surrogateescape"))
    yield HostileText("JSON", json.dumps({f"key_{n}": [n, n / 7, None, "x\n"] for n in range(100)}))
    yield HostileText("nested JSON", "[" * 3_000 + "]" * 3_000)
    yield HostileText("minified code", "".join(f"function a{n}(b){{return b?a{n}(b-1)*{n}:!0}};" for n in range(120)))
    yield HostileText("an XML bomb", "".join(f"<!ENTITY a{n + 1} '{f'&a{n};' * 10}'>" for n in range(40)))
    yield HostileText("numbers that grow", " ".join("9" * n for n in range(1, 90)))
    yield HostileText("words that grow", " ".join("o" * n for n in range(1, 120)))
    yield HostileText("powers of ten", " ".join(str(10**n) for n in range(60)))
    yield HostileText("a bell curve of brackets", "(" * 1_000 + "a" + ")" * 1_000)
    yield HostileText("all letters with all accents", "".join(a + chr(b) for a in "aeiouyncs" for b in range(768, 880)))
    yield HostileText("a book of one megabyte without a stop", "row the boat on a river " * 300 + "\u0301" * 990_000)


# --- Drawn -----------------------------------------------------------------------------------------------------------

ALPHABETS = {
    "keyboard": "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,;:!?'\"-_()[]{}<>/\\|@#$%^&*+=~`\n\t",
    "numbers": "0123456789.,:/-+$€£%°' ½²thsndrIVXLCM",
    "links": "[]()/+-.#019aɐˈ 😀'",
    "points": "ab.AB.'’- \n1",
    "marks": ".,;:!?…—–-'\"“”‘’()[]{}«»<>¿¡。、！？「」।؟*_~ \n",
    "accents": "aeiouN\u0300\u0301\u0303\u0308\u0327\u0338\u200d\u200c\u20dd ",
    "controls": "ab \x00\x01\x07\x08\x1b[]m0;\x7f\x85\x9b\u200b\u202e\u2066\ufeff\ud800\udfff\n\r",
    "emoji": "😀👍🏽👩\u200d👧🇩🇪1\ufe0f\u20e3❤🏴 a,.",
    "scripts": "aБжωשمनि्中かカ한ไ。、，. 1٣३１",
    "phonemes": "ˈˌːaɪʊəɜɹʤʧθð❓ᵻɾʔˈ .,",
    "espeak": "[]_^<>&;|\\=%@'hl@oU 0",
}


def _torn(chooser: random.Random, pieces: list[str]) -> str:
    """Hand-written ones cut, doubled and put side by side, with or without blanks."""
    parts = []
    for _ in range(chooser.randint(2, 40)):
        piece = chooser.choice(pieces)
        start = chooser.randrange(len(piece) + 1)
        parts.append(chooser.choice([piece, piece[start:], piece[:start], piece[::-1], piece * 3, piece.upper()]))
    return chooser.choice(["", " ", " ", ". ", "\n", "-", ", "]).join(parts)


def _drawn(count: int) -> Iterator[HostileText]:
    pieces = [piece for family in HAND_WRITTEN.values() for piece in family if piece]
    families = [*ALPHABETS, "torn", "torn", "torn"]
    for number in range(count):
        chooser = random.Random(number)
        family = families[number % len(families)]
        if family == "torn":
            text = _torn(chooser, pieces)
        else:
            length = chooser.choice([5, 30, 200, 1_000])
            text = "".join(chooser.choices(ALPHABETS[family], k=length))
        yield HostileText(f"{family}, seed {number}", text)


def corpus() -> list[HostileText]:
    """All of them; every tenth one is a sample of each kind."""
    single = [text for family in HAND_WRITTEN.values() for text in family]
    lines = 420  # what is over is joined in tens: each is spoken, most in company
    own, company = single[::3], [text for place, text in enumerate(single) if place % 3]
    texts = [HostileText(f"line {text[:40]!r}", text) for text in own[:lines]]
    company += own[lines:]
    texts += [
        HostileText(f"lines from {start}", "\n\n".join(company[start : start + 10]))
        for start in range(0, len(company), 10)
    ]
    texts += [HostileText(name, unit * count) for name, (unit, count) in MULTIPLIED.items()]
    texts += _made()
    texts += _drawn(COUNT - len(texts))
    return texts
