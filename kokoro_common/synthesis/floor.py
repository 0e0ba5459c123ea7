"""Who may use the speakers: one utterance at a time, in the order of asking. Pure Python, one thread.

This is the order only. Possession is a lock on floor.lock, held by the speaking voice server, so that a death of the
model server frees nothing early.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

Key = TypeVar("Key", bound="Hashable")


class Floor(Generic[Key]):
    """A line of keys: the first has the floor, the second is next. Callbacks tell each key that it moved up."""

    def __init__(self, granted: Callable[[Key], None], next_in_line: Callable[[Key], None]) -> None:
        self._line: list[Key] = []
        self._since: dict[Key, float] = {}  # seconds on any clock, but always the same one
        self._held: set[Key] = set()  # was granted, and has not been released
        self._granted = granted
        self._next_in_line = next_in_line

    @property
    def line(self) -> tuple[Key, ...]:
        return tuple(self._line)

    @property
    def keys(self) -> set[Key]:
        """All that are in the line or still have the floor."""
        return {*self._line, *self._held}

    @property
    def blocking(self) -> set[Key]:
        """Keys that others wait for: the first, unless it is alone, and any that were interrupted and still have it."""
        return {key for key in self._held if len(self._line) > 1 or key not in self._line}

    def request(self, key: Key, since: float) -> None:
        """Goes behind all who asked before `since`. A key that is in the line already keeps its place.

        One that had asked an earlier model server may so come to stand before the first, who then is only next: as long
        as that one has not begun to speak, floor.lock keeps the two apart.
        """
        if key not in self._line:
            self._since[key] = since
            place = sum(self._since[other] <= since for other in self._line)
            self._change([*self._line[:place], key, *self._line[place:]])

    def interrupt(self, key: Key, since: float) -> tuple[Key, ...]:
        """Goes to the head of an emptied line. Returns who was in it, whose speech is over."""
        before = tuple(other for other in self._line if other != key)
        self._since[key] = since
        self._change([key])
        return before

    def release(self, key: Key) -> None:
        """Leaves the line, wherever it stands. A key that is not in it changes nothing."""
        self._held.discard(key)
        self._change([other for other in self._line if other != key])

    def _change(self, line: list[Key]) -> None:
        before, self._line = self._line, line
        self._since = {key: self._since[key] for key in line}
        if line and line[:1] != before[:1]:
            self._held.add(line[0])
            self._granted(line[0])
        if len(line) > 1 and line[1] not in before[:2]:
            self._next_in_line(line[1])
