"""Words as one listener writes them and another reads them: made comparable, and counted where they differ."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

TEXTS = Path(__file__).with_name("texts.tsv")
LISTENED = ("plain", "number", "date", "name", "question", "clause", "several", "paragraph")  # kinds of texts
_SENTENCE, _CLAUSE = ".?!…。？！", ",;:—，；：、"
_CLOSING = "\"'”’)]»"


class Text(NamedTuple):
    kind: str
    text: str  # paragraphs are parted by an empty line
    heard: tuple[str, ...]  # what a listener may write down, the text itself first


class Word(NamedTuple):
    """One that was spoken, with the punctuation that stands at it."""

    word: str
    start: float  # seconds
    end: float
    paragraph: bool = False  # whether the word is the last one of a paragraph


class Errors(NamedTuple):
    wrong: int  # words left out, put in or exchanged
    of: int  # words of the text


def read_texts(*kinds: str) -> list[Text]:
    """The texts of these kinds in the order of the file."""
    with TEXTS.open(encoding="utf-8", newline="") as file:
        lines = [line for line in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if line]
    texts = []
    for kind, text, *more in lines[1:]:
        if kind in kinds:
            spoken = text.replace("\\n", "\n")
            texts.append(Text(kind, spoken, (spoken, *filter(None, "|".join(more).split("|")))))
    return texts


def spread(texts: Sequence[Text], count: int) -> list[Text]:
    """So many of them, from the whole list evenly, since the kinds stand one after the other."""
    return [texts[number * len(texts) // count] for number in range(min(count, len(texts)))]


def plain_words(text: str) -> list[str]:
    """In lower case, without punctuation and with signs said."""
    text = text.lower().replace("%", " percent").replace("’", "'").replace("okay", "ok")
    text = re.sub(r"(?<=\d)[.,:](?=\d)", "", text)  # 1,500 and 6:45 are one word each
    return [word.strip("'") for word in re.findall(r"[^\W_]+(?:'[^\W_]+)*", text)]


def errors(text: Text, written: str) -> Errors:
    """Against that way of writing the text down which is nearest to what the listener wrote."""
    heard = plain_words(written)
    counts = [Errors(distance(plain_words(each), heard), len(plain_words(each))) for each in text.heard]
    return min(counts, key=lambda each: each.wrong / max(each.of, 1))


def distance(one: Sequence[str], other: Sequence[str]) -> int:
    """How many words have to be left out, put in or exchanged to make one of the other."""
    row = list(range(len(other) + 1))
    for number, word in enumerate(one, 1):
        diagonal, row[0] = row[0], number
        for place, each in enumerate(other, 1):
            diagonal, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, diagonal + (word != each))
    return row[-1]


def mark_after(word: Word) -> str:
    """What stands between it and the next one: "paragraph", a sign that ends a sentence or a clause, or ""."""
    if word.paragraph:
        return "paragraph"
    last = word.word.rstrip(_CLOSING)[-1:]
    return last if last and last in _SENTENCE + _CLAUSE else ""


def kind_of(mark: str) -> str:
    """ "sentence", "clause", "paragraph" or ""."""
    if mark == "paragraph":
        return mark
    if not mark:
        return ""
    return "sentence" if mark in _SENTENCE else "clause"


def joined(words: Sequence[Word]) -> list[Word]:
    """With what is punctuation alone at the end of the word before it, for nobody says it."""
    result: list[Word] = []
    for word in words:
        if result and not re.search(r"\w", word.word):
            before = result[-1]
            result[-1] = before._replace(word=before.word + word.word, paragraph=before.paragraph or word.paragraph)
        else:
            result.append(word)
    return result
