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

    from kokoro_common.phonemes.spoken import Spoken
    from kokoro_common.sound.samples import Sound
    from kokoro_common.text.speech import ChunkRequest


LONGER = 2  # times as long as the first piece of a batch the others may be
SHORT = 50  # phonemes or characters; up to so many it does not matter


class Piece(Record):
    """What the engine takes at once: a text chunk, or a part of one whose phonemes are too many for one call."""

    owner: Hashable  # whom the audio goes to
    utterance: str
    request: ChunkRequest  # the text chunk that it is, or is a part of
    part: int = 0  # of the text chunk, from 0
    last: bool = True  # part of its text chunk
    rest: float = 0.0  # seconds, as that of the text chunk; of later parts between them
    engine: str  # kokoro, espeak or kept; pieces of one batch share it
    text: str  # phonemes for kokoro, text for espeak
    spoken: Spoken | None = None  # where the phonemes' words stand; for kokoro
    sound: Sound | None = None  # kept from an earlier time
    seed: int  # of this piece's random state
    g2p: float = 0.0  # seconds spent on its text chunk's phonemes
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
        """Blocks until a piece waits; takes up to `limit` that fit together. Empty after close().

        The first piece is that of the utterance whose turn it is; with it goes what else waits, in turns, of the same
        engine and not much longer: a forward lasts as long as its longest piece, and a notice does not wait for a book.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._turns or self._closed)
            if self._closed:
                return []
            first = next(iter(self._turns.values()))[0]
            longest = max(SHORT, LONGER * len(first.text))
            limit = limit if first.engine == "kokoro" else 1  # the others speak one after the other anyway
            batch: list[Piece] = []
            barred: set[tuple[Hashable, str]] = set()  # whose next piece does not fit
            while len(batch) < limit and (key := next((key for key in self._turns if key not in barred), None)):
                piece = self._turns[key][0]
                if piece.engine != first.engine or len(piece.text) > longest:
                    barred.add(key)
                    continue
                batch.append(self._turns[key].popleft())
                self._turns.move_to_end(key)
                if not self._turns[key]:
                    del self._turns[key]
            return batch

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
