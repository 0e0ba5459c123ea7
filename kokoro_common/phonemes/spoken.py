"""What is spoken of a text: its phonemes, and which of them belong to which word of the text."""

from __future__ import annotations

import itertools
import logging
import re
from typing import TYPE_CHECKING, NamedTuple

from kokoro_common.record import Record
from kokoro_common.sound.samples import SAMPLES_PER_DURATION
from kokoro_common.text.marks import CLOSING_BRACKETS, OPENING_BRACKETS, WIDE_COMMAS, WIDE_STOPS

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Sequence

log = logging.getLogger("kokoro.g2p")

UNKNOWN = "❓"  # misaki's phoneme for what it cannot say
# The marks that phonemizer leaves in the phonemes, and the wide ones that misaki turns into these. Other sets of
# text/marks.py do not fit: apostrophes, hyphens and emphasis belong to words here.
MARKS = re.escape(';:,.!?¡¿—…"«»“”「」『』．・～〜' + OPENING_BRACKETS + CLOSING_BRACKETS + WIDE_COMMAS + WIDE_STOPS)
RUN = re.compile(rf"[^\s{MARKS}]+")  # what stands between blanks and marks, in a text or in its phonemes


class PhonemeWord(Record):
    """A word of a text and its phonemes. Words are in order and do not overlap, in the text or in the phonemes."""

    start: int  # in characters of the text as it was given
    end: int  # after its last character
    first: int  # in the phonemes
    last: int  # after its last phoneme


class Spoken(Record):
    """The phonemes of a text, and the words they belong to. Words that are not spoken are left out."""

    phonemes: str
    words: tuple[PhonemeWord, ...]


class Part(NamedTuple):
    """Some phonemes and the stretch of text that they speak, which is empty for blanks and punctuation."""

    phonemes: str
    start: int
    end: int

    def moved(self, by: int) -> Part:
        return Part(self.phonemes, self.start + by, self.end + by)


BLANK = Part(" ", 0, 0)


def assembled(parts: list[Part], spans: list[tuple[int, int]]) -> Spoken:
    """Parts as a whole, without blanks at the ends and unknown phonemes. `spans`: see g2p's `_line`.

    A word is a part with letters, less the marks around them; neighbours that say the same stretch are one word.
    """
    whole = "".join(part.phonemes for part in parts).replace(UNKNOWN, "")
    words: list[PhonemeWord] = []
    length = len(whole.lstrip()) - len(whole)
    for part in parts:
        phonemes = part.phonemes.replace(UNKNOWN, "")
        if part.start < part.end and any(map(str.isalpha, phonemes)):
            runs = list(RUN.finditer(phonemes))
            first, last = length + runs[0].start(), length + runs[-1].end()
            start, end = spans[part.start][0], spans[part.end - 1][1]
            if words and start < words[-1].end:
                start, end, first = words[-1].start, max(end, words[-1].end), words.pop().first
            words.append(PhonemeWord(start=start, end=end, first=first, last=last))
        length += len(phonemes)
    return Spoken(phonemes=whole.strip(), words=tuple(words))


def concatenated(stretches: Sequence[tuple[int, Spoken]]) -> Spoken:
    """The stretches of one text as a whole; each comes with the place in the text where it begins."""
    phonemes = ""
    words: list[PhonemeWord] = []
    for start, spoken in stretches:
        phonemes += " " * bool(phonemes and spoken.phonemes)
        words += (
            PhonemeWord(
                start=start + word.start,
                end=start + word.end,
                first=len(phonemes) + word.first,
                last=len(phonemes) + word.last,
            )
            for word in spoken.words
        )
        phonemes += spoken.phonemes
    return Spoken(phonemes=phonemes, words=tuple(words))


def split_spoken(spoken: Spoken, limit: int) -> list[Spoken]:
    """Splits into pieces of at most `limit` phonemes; nothing but blanks between pieces is lost.

    Cuts after the last sentence or clause mark in the second half of a piece, else at the last blank, else in a word.
    Words keep their place in the text; their phonemes count from the beginning of the piece. A word that is cut is in
    the piece where it begins, with those of its phonemes that are there.
    """
    if limit < 1:
        raise ValueError(f"limit is {limit}")
    pieces = []
    phonemes = spoken.phonemes.rstrip()
    begin = len(phonemes) - len(phonemes.lstrip())
    while len(phonemes) - begin > limit:
        cut = begin + _cut_at(phonemes[begin : begin + limit + 1], limit)
        pieces.append(_piece(spoken, begin, cut))
        begin = cut + len(phonemes[cut:]) - len(phonemes[cut:].lstrip())
    return [*pieces, _piece(spoken, begin, len(phonemes))] if begin < len(phonemes) else pieces


def _piece(spoken: Spoken, begin: int, end: int) -> Spoken:
    phonemes = spoken.phonemes[begin:end].rstrip()
    words = (
        word.replace(first=word.first - begin, last=min(word.last - begin, len(phonemes)))
        for word in spoken.words
        if begin <= word.first < end
    )
    return Spoken(phonemes=phonemes, words=tuple(words))


_CUTS = tuple(re.compile(rf"[{marks}][)”\"]*\s") for marks in (".!?…", ":;", ",—"))  # in the order of KPipeline


def _cut_at(head: str, limit: int) -> int:
    for pattern in _CUTS:
        ends = [match.end() for match in pattern.finditer(head) if match.end() > limit // 2]
        if ends:
            return ends[-1]
    blanks = [match.start() for match in re.finditer(r"\s", head)]
    if blanks:
        return blanks[-1]
    log.warning("a word of more than %d phonemes is cut", limit)
    return limit


def word_frames(
    spoken: Spoken,
    durations: Collection[int],
    vocabulary: Container[str],
    samples_per_duration: int = SAMPLES_PER_DURATION,
) -> list[tuple[int, int]]:
    """The frames, begin and end, that the phonemes of each word take in the audio of a piece.

    A word begins with the blank before it: the model sounds the next phoneme within the blank's time. On the real model
    s in running speech was 0.115 s late without that, p, t and k 0.052 s; with it 0.041 and -0.006.
    `durations` are the engine's, one per token id with the 0 at both ends, or none if there was nothing to say.
    A phoneme outside the model's vocabulary has no token id; a word of nothing else takes no frames.
    Raises ValueError if the durations are not those of these phonemes.
    """
    known = [phoneme in vocabulary for phoneme in spoken.phonemes]
    if not any(known) and len(durations) == 0:
        return [(0, 0)] * len(spoken.words)
    if len(durations) != sum(known) + 2:
        raise ValueError(f"{len(durations)} durations for {sum(known)} phonemes")
    frames = list(itertools.accumulate((int(duration) * samples_per_duration for duration in durations), initial=0))
    token_ids = list(itertools.accumulate(known, initial=1))  # of each phoneme, and one more
    begins = [word.first - spoken.phonemes[: word.first].endswith(" ") for word in spoken.words]
    return [
        (frames[token_ids[begin]], frames[token_ids[word.last]])
        for begin, word in zip(begins, spoken.words, strict=True)
    ]
