"""How fast the engine and the voice are: how much text can be spoken in time, and how much audio is needed in front.

Pace is the engine's, measured over all utterances of a voice server; Tempo is one utterance's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kokoro_common.text.chunker import TextChunk

CUSHION_SECONDS = 25.0  # at the most, where the engine is slower than speech: less than in_flight.AHEAD_FRAMES
MIN_PART_CHARACTERS = 40  # of a text chunk that is parted: a clause
SECONDS_PER_CHARACTER = 0.07  # of English at speed 1, until an utterance has measured its own
MIN_MEASURED_SECONDS = 0.2  # of audio; less says more about the overhead than about the engine


class Pace:
    """The engine's speed, measured as it goes. One a voice server."""

    def __init__(self) -> None:
        self.real_time_factor: dict[str, float] = {}  # by engine: seconds of work for a second of audio

    def measure(self, engine: str, seconds_of_work: float, seconds_of_audio: float) -> None:
        if seconds_of_audio > MIN_MEASURED_SECONDS:
            factor = seconds_of_work / seconds_of_audio
            known = self.real_time_factor.get(engine, factor)
            self.real_time_factor[engine] = 0.7 * known + 0.3 * factor


class Tempo:
    """Seconds of audio for a character of an utterance's text: assumed, then measured."""

    def __init__(self, pace: Pace, speed: float) -> None:
        self._pace = pace
        self._assumed = SECONDS_PER_CHARACTER / speed
        self._characters = 0  # whose audio is complete
        self._seconds = 0.0  # of that audio

    def measured(self, characters: int, seconds: float) -> None:
        """A text chunk is complete. `seconds`: of all the utterance's audio so far."""
        self._characters += characters
        self._seconds = seconds

    @property
    def per_character(self) -> float:
        return self._seconds / self._characters if self._characters and self._seconds else self._assumed

    def seconds_of(self, chunks: Iterable[TextChunk]) -> float:
        """Of their audio, as far as one can tell."""
        return self.per_character * sum(len(chunk.text) for chunk in chunks)

    def characters_in_time(self, engine: str, seconds_ahead: float, seconds_in_flight: float) -> int:
        """How much text the engine can speak before the ear has caught up."""
        factor = max(self._pace.real_time_factor.get(engine, 0.0), 0.01)
        time = seconds_ahead + seconds_in_flight - seconds_in_flight * factor
        return max(MIN_PART_CHARACTERS, int(time / factor / self.per_character))

    def cushion(self, engine: str, seconds_missing: float) -> float:
        """Seconds of audio to have before playing begins, so that it does not stop where the engine is the slower."""
        factor = self._pace.real_time_factor.get(engine, 0.0)
        return min(CUSHION_SECONDS, seconds_missing * (factor - 1.0))
