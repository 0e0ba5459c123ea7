"""Which of Kokoro's languages a stretch of text must be in, by its script, where that is certain."""

from __future__ import annotations

import re

from kokoro_common.text.marks import EAST_ASIAN_STOPS, HAN, KANA, WIDE_COMMAS

_BETWEEN = WIDE_COMMAS + EAST_ASIAN_STOPS + "「」『』（）《》【】"
_SCRIPT_RUN = re.compile(  # words of one script, with the blanks and marks between them
    rf"(?P<h>[\u0900-\u0963\u0966-\u097f](?:[\u0900-\u097f\u200c\u200d,.!?\s-]*[\u0900-\u097f])?)"
    rf"|(?P<wide>[{KANA}{HAN}](?:[{KANA}{HAN}{_BETWEEN}\s]*[{KANA}{HAN}{EAST_ASIAN_STOPS}])?)"
)
_IS_KANA = re.compile(f"[{KANA}]")
_IN_MANDARIN = re.compile(rf"(?P<h>[\u0900-\u0963\u0966-\u097f]+)|[{KANA}]+")


def runs(text: str, lang: str) -> list[tuple[int, int, str]]:
    """The text in stretches that follow each other: start, end, and the language's letter of each.

    Of Kokoro's languages only Hindi is written in Devanagari, only Japanese in kana; Han beside kana is Japanese
    too, unless the text is Mandarin, else Mandarin, unless the text is Japanese. All else is in `lang`.
    """
    stretches: list[tuple[int, int, str]] = []
    place = 0
    for run in (_IN_MANDARIN if lang == "z" else _SCRIPT_RUN).finditer(text):
        its_lang = "h" if run["h"] else "j" if lang == "j" or _IS_KANA.search(run[0]) else "z"
        if its_lang != lang:
            stretches += [(place, run.start(), lang)] if place < run.start() else []
            stretches.append((*run.span(), its_lang))
            place = run.end()
    return [*stretches, (place, len(text), lang)] if place < len(text) or not stretches else stretches
