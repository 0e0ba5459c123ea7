"""Waiting pieces of speech, whose turn is next, and how they are dropped. Pure Python: no engine, no sockets.

Utterances take turns, a piece each, so a one-word notice waits for one piece of a book, not for the book.
Pieces of one utterance keep their order.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque

from kokoro_common.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable


class Piece(Record):
    """What the engine takes at once: a text chunk, or a part of one whose phonemes are too many for one call."""

    owner: Hashable  # whom the audio goes to
    utterance: str
    index: int  # of the text chunk in its utterance
    part: int  # of the text chunk
    last: bool  # of its text chunk
    engine: str  # pieces of one batch share it
    text: str  # phonemes for kokoro, text for espeak
    source: object = None  # what the engine's times of words are worked out with
    voice: str
    lang: str
    speed: float
    seed: int  # of this piece's random state
    g2p: float  # seconds spent on its text chunk's phonemes
    added: float  # time.monotonic() when it began to wait
    debug: bool = False


class Scheduler:
    """Any thread may add and cancel; one thread takes batches."""

    def __init__(self) -> None:
        self._turns: OrderedDict[tuple[Hashable, str], deque[Piece]] = OrderedDict()
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        with self._changed:
            return sum(map(len, self._turns.values()))

    def add(self, piece: Piece) -> None:
        with self._changed:
            self._turns.setdefault((piece.owner, piece.utterance), deque()).append(piece)
            self._changed.notify()

    def cancel(self, owner: Hashable, utterance: str | None = None) -> None:
        """Drops what waits of one utterance, or of all of an owner's."""
        with self._changed:
            for key in [key for key in self._turns if key[0] == owner and utterance in (None, key[1])]:
                del self._turns[key]

    def next_batch(self, limit: int) -> list[Piece]:
        """Blocks until a piece waits; takes up to `limit`, each of another utterance. Empty after close()."""
        with self._changed:
            self._changed.wait_for(lambda: self._turns or self._closed)
            if self._closed:
                return []
            batch: list[Piece] = []
            for key in list(self._turns)[:limit]:
                pieces = self._turns[key]
                if batch and pieces[0].engine != batch[0].engine:
                    continue
                batch.append(pieces.popleft())
                if pieces:
                    self._turns.move_to_end(key)
                else:
                    del self._turns[key]
            return batch

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
