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
    "one word of syllables": ("ba", 800),
    "50,000 digits": ("7", 50_000),
    "zeros": ("0", 2_000),
    "digits and commas": ("1,", 800),
    "digits and points": ("1.", 800),
    "decimals": ("3.5", 500),
    "versions": ("1.2.3-", 200),
    "fractions": ("1/", 800),
    "minus signs": ("-1", 800),
    "dollars": ("$1", 800),
    "dollar signs": ("$", 2_000),
    "per cent": ("%", 2_000),
    "ampersands": ("&", 2_000),
    "at signs": ("@", 2_000),
    "capitals": ("ABCDEFGHIJ", 100),
    "a word of 1,000 capitals, often": ("Z" * 1_000 + " ", 4),
    "abbreviations": ("a.b.c.d.", 200),
    "initials": ("A. ", 500),
    "initials without blanks": ("A.", 800),
    "Doctors": ("Dr. ", 400),
    "hyphens": ("-", 20_000),
    "hyphenated": ("ab-", 500),
    "hyphenated words": ("mother-in-", 200),
    "apostrophes": ("'", 20_000),
    "possessives": ("'s", 800),
    "contractions": ("n't", 500),
    "typographic apostrophes": ("a’", 800),
    "underscores": ("a_", 800),
    "slashes": ("a/", 800),
    "backslashes": ("\\", 20_000),
    "camels": ("aB", 800),
    "blanks": (" ", 200_000),
    "newlines": ("\n", 200_000),
    "blanks and a letter": (" " * 999 + "a", 50),
    "wide blanks": ("\u3000\u2003", 20_000),
    "tabs": ("\t", 100_000),
    "NUL": ("\0", 100_000),
    "escapes": ("\x1b", 20_000),
    "escape brackets": ("\x1b[", 10_000),
    "titles that do not end": ("\x1b]0;", 500),
    "carriage returns": ("\r", 50_000),
    "replacement characters": ("\ufffd", 30_000),
    "surrogates": ("\ud83d", 20_000),
    "zero-width blanks": ("a\u200b", 2_000),
    "joiners": ("\u200d", 30_000),
    "bidi overrides": ("\u202ea\u202c", 2_000),
    "byte order marks": ("\ufeff", 30_000),
    "variation selectors": ("\ufe0f", 30_000),
    "accents": ("\u0301", 30_000),
    "a letter with many accents": ("e" + "\u0301" * 999, 7),
    "zalgo": ("H̷̢̛e̵͓͝l̶̰̏l̸̝̈o̵̞̓ ", 70),
    "families": ("👩‍👩‍👧‍👦", 2_000),
    "faces": ("😀", 10_000),
    "faces and words": ("😀 yes ", 200),
    "flags": ("🇩🇪", 4_000),
    "half flags": ("🇩", 4_001),
    "keycaps": ("1️⃣", 500),
    "skin tones": ("👍🏽", 4_000),
    "points": (".", 50_000),
    "ellipses": ("… ", 9_000),
    "dots and blanks": ("... ", 9_000),
    "commas": (",", 50_000),
    "commas and blanks": (", ", 20_000),
    "questions": ("?!", 20_000),
    "dashes": ("—", 20_000),
    "quotes": ('"', 20_000),
    "open quotes": ("“a ", 500),
    "brackets": ("([{", 9_000),
    "closing brackets": (")]}", 9_000),
    "opened words": ("( a [ b ", 200),
    "tags": ("<a>", 500),
    "broken tags": ("<", 20_000),
    "entities": ("&amp;", 300),
    "link openings": ("[", 20_000),
    "link syntax": ("[a](/a/)", 200),
    "link syntax with a stress": ("[a](+2) ", 200),
    "an impossible stress": ("[a](" + "1" * 5_000 + ")", 1),
    "broken links": ("[a](", 400),
    "broken links that go on": ("[a](/", 300),
    "nested links": ("[" * 500 + "a" + "](/b/)" * 500, 1),
    "espeak phonemes": ("[[h@l'oU]]", 200),
    "open espeak phonemes": ("[[", 9_000),
    "espeak language switches": ("_^_es ", 200),
    "stars": ("*", 30_000),
    "headings": ("#" * 50 + "\n", 500),
    "list items": ("- a\n", 400),
    "table": ("| a | b |\n", 200),
    "ideographs": ("中", 2_000),
    "ideographs and stops": ("中。", 800),
    "full stops": ("。", 30_000),
    "kana": ("ああ", 800),
    "long vowels": ("ー", 2_000),
    "Hangul": ("각", 2_000),
    "Thai": ("ภาษาไทย", 200),
    "Arabic": ("مرحبا ", 200),
    "Arabic letters": ("م", 2_000),
    "Hindi": ("नमस्ते ", 200),
    "Hindi letters": ("क्ष", 500),
    "viramas": ("\u094d", 20_000),
    "Cyrillic": ("привет ", 200),
    "Greek": ("γειά", 400),
    "Hebrew": ("שלום", 400),
    "fullwidth": ("ＡＢＣ１２３", 200),
    "ligatures": ("ﬃ", 2_000),
    "the longest ligature": ("﷽", 2_000),
    "mathematical letters": ("𝔸𝕓", 800),
    "enclosed digits": ("⑳", 2_000),
    "fractions of one sign": ("½", 2_000),
    "superscripts": ("²", 2_000),
    "Roman numerals": ("MCMXCIX ", 200),
    "Roman letters": ("I", 2_000),
    "phonemes": ("ˈɜː", 500),
    "stresses": ("ˈ", 2_000),
    "unknowns": ("❓", 9_000),
    "private use": ("\ue000", 9_000),
    "noncharacters": ("\uffff", 9_000),
    "300 words without a stop": ("river boat house people read sleep ", 40),
    "long words without a stop": ("antidisestablishmentarianism ", 50),
    "very long words without a stop": ("pneumonoultramicroscopicsilicovolcanoconiosis ", 30),
    "years": ("1999 ", 300),
    "big numbers": ("999999999999999999999999999999 ", 50),
    "bigger numbers": ("1" + "0" * 305 + " ", 4),
    "dates": ("12/31/1999 ", 100),
    "times": ("12:34:56 ", 200),
    "money": ("$1,234.56 ", 200),
    "mixed": ("Abc 中文 नमस्ते 12.5€ 😀 — ", 60),
    "a long URL": ("http://example.com/" + "a1_-%20/?&=" * 450, 1),
    "a long path": ("/usr/share/" * 450, 1),
    "a hundred URLs": ("https://www.example.com/a_b?c=d&e=f#g ", 40),
    "tied words": ("a\u00a0", 800),
    "words tied by joiners": ("a\u2060", 2_000),
    "soft hyphens": ("a\xad", 2_000),
    "line separators": ("a\u2028", 800),
    "h": ("h", 2_000),
    "w": ("w", 2_000),
    "vowels": ("aeiou", 300),
    "consonants": ("bcdfgh", 200),
    "one letter, apart": ("a ", 800),
    "one digit, apart": ("1 ", 800),
    "I am": ("I'm ", 400),
    "the": ("the ", 400),
    "no": ("No. ", 500),
    "yes or no": ("Yes! No? ", 200),
    "x and comma": ("x,", 800),
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
