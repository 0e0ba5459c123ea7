"""How long a voice rests between two text chunks: as long as Kokoro itself rests at that mark within one forward.

The figures are of speed 1, from the last sound before the rest to the first one after it (sound/edges.py, LOUD). Those
of marks were measured on the real model, in four and in eight voices (a full stop: 0.31 to 0.48 s, by voice); that of
paragraphs is chosen, near to what kokoro's own pipeline leaves between two forwards.
"""

from __future__ import annotations

from kokoro_common.text.marks import CLOSERS, COMMAS, STOPS, WIDE_COMMAS, WIDE_STOPS

SENTENCE_SECONDS = 0.42
QUESTION_SECONDS = 0.37
CLAUSE_SECONDS = 0.20
PARAGRAPH_SECONDS = 0.70

_FULL_STOPS = (".", "。", "｡", "।", "॥", "۔")
_OTHER_STOPS = tuple(stop for stop in (*STOPS, *WIDE_STOPS, "…") if stop not in _FULL_STOPS)
_CLAUSE_ENDS = (*COMMAS, *WIDE_COMMAS, "—", "–")


def pause_after(text: str) -> float:
    """Seconds of rest behind a text, by the mark at its end; 0.0 where it is cut without a mark.

    Phonemes may be given too: they have the same marks.
    """
    end = text.rstrip().rstrip(CLOSERS)
    if end.endswith(_FULL_STOPS):
        return SENTENCE_SECONDS
    if end.endswith(_OTHER_STOPS):
        return QUESTION_SECONDS
    return CLAUSE_SECONDS if end.endswith(_CLAUSE_ENDS) else 0.0
