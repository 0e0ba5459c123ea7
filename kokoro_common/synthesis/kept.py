"""The audio of text chunks that were spoken before: a notice that comes again is said at once, from memory.

A sound is kept by its whole request, random state included, and the engine's Fingerprint, so its bytes are those that a
fresh synthesis would give. Nothing is written to disk. For any thread.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kokoro_common.sound.samples import Sound
    from kokoro_common.synthesis.fingerprint import Fingerprint
    from kokoro_common.text.speech import ChunkRequest

    Key = tuple[ChunkRequest, Fingerprint]

BYTES_PER_WORD = 300  # about, of a TimedWord, and of what a sound takes without its samples


class Kept:
    """The least recently asked goes when there are more than `most_bytes`; 0: nothing is kept."""

    def __init__(self, most_bytes: int) -> None:
        self.bytes = 0
        self.asked = 0
        self.hits = 0
        self._most_bytes = most_bytes
        self._sounds: OrderedDict[Key, Sound] = OrderedDict()
        self._changing = threading.Lock()  # guards all but _most_bytes

    @property
    def keeps(self) -> bool:
        return self._most_bytes > 0

    def get(self, request: ChunkRequest, fingerprint: Fingerprint) -> Sound | None:
        key = (request, fingerprint)
        with self._changing:
            self.asked += 1
            sound = self._sounds.get(key)
            if sound is not None:
                self.hits += 1
                self._sounds.move_to_end(key)
            return sound

    def add(self, request: ChunkRequest, fingerprint: Fingerprint, sound: Sound) -> None:
        """Of one that takes more than a quarter of the room, nothing: a book would drive out every notice."""
        key, size = (request, fingerprint), _bytes_of(sound)
        with self._changing:
            if key in self._sounds or 4 * size > self._most_bytes:
                return
            self._sounds[key] = sound
            self.bytes += size
            while self.bytes > self._most_bytes:
                _, oldest = self._sounds.popitem(last=False)
                self.bytes -= _bytes_of(oldest)


def _bytes_of(sound: Sound) -> int:
    return int(sound.samples.nbytes) + BYTES_PER_WORD * (len(sound.words) + 4)
