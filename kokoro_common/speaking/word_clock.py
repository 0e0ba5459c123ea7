"""Where in the text the ear is: the words of the audio that was received, by the frame at which each begins."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kokoro_common.text.speech import TimedWord


class WordClock:
    """Words go in as their audio arrives, and are passed as it is heard."""

    def __init__(self) -> None:
        self._words: deque[tuple[int, int, int]] = deque()  # first frame, start and end in the text
        self._word = (0, 0)  # passed last

    def add(self, words: Iterable[TimedWord], frame: int) -> None:
        """`words` count in audio that begins at this frame; their places are in the whole text."""
        self._words += ((frame + word.first_frame, word.start, word.end) for word in words)

    def word_at(self, frame: int) -> tuple[int, int]:
        """Start and end of the word that is heard at this frame, or was last; frames must not go back."""
        while self._words and self._words[0][0] <= frame:
            _, *place = self._words.popleft()
            self._word = (place[0], place[1])
        return self._word

    @property
    def next_frame(self) -> int | None:
        """At which the next word begins; None while that is not known."""
        return self._words[0][0] if self._words else None
