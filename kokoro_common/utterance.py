"""One request to speak, from its text to its audio in order. Pure bookkeeping: no sockets, no device, one thread.

The voice server owns an utterance: its text, its order, and how far it has been taken by ear or client.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from kokoro_common.audio import SAMPLE_RATE
from kokoro_common.errors import UsageError
from kokoro_common.protocol import (
    MAX_SPEED,
    MAX_TEXT_PART_BYTES,
    MIN_SPEED,
    TEXT_CREDIT,
    ProtocolError,
    Speak,
    Synthesize,
    Synthesized,
)
from kokoro_common.text import Chunker, TextChunk, clean, speakable
from kokoro_common.voices import LANGUAGES, parse_voice

if TYPE_CHECKING:
    from collections.abc import Iterable

AHEAD_FRAMES = 30 * SAMPLE_RATE  # audio synthesized ahead of the ear, or of the client that writes a file
CHUNKS_IN_FLIGHT = 2  # one in the engine and one behind it, so the engine never waits for a round trip


class Utterance:
    """Raises a KokoroError for a Speak whose fields make no sense."""

    def __init__(self, speak: Speak) -> None:
        if not MIN_SPEED <= speak.speed <= MAX_SPEED:  # NaN is not in the range either
            raise UsageError(f"speed is {speak.speed}", f"choose {MIN_SPEED} to {MAX_SPEED}")
        if speak.sink not in ("speakers", "client") or speak.engine not in ("auto", "kokoro", "espeak"):
            raise UsageError(f"sink is {speak.sink!r} and engine {speak.engine!r}", "see docs/protocol.md")
        if speak.lang not in LANGUAGES:
            raise UsageError(f"language is {speak.lang!r}", f"choose one of {', '.join(LANGUAGES)}")
        self.speak = speak
        self.id = speak.utterance
        self.voice = parse_voice(speak.voice)
        self.engine = "" if speak.engine == "auto" else speak.engine
        self.began = time.monotonic()
        self.first_audio = 0.0  # seconds from `began`; 0 until audio has been handed on
        self.first_chunk: Synthesized | None = None  # its times, for --timing
        self.text_ended = False
        self.audio: deque[tuple[int, bytes]] = deque()  # (text chunk, float32 PCM) that nobody has taken yet
        self.frames = 0  # received from the engine in all
        self._chunker = Chunker(speak.lang)
        self._unsent: deque[TextChunk] = deque()
        self._in_flight: deque[TextChunk] = deque()  # asked of the model server, in order
        self._sent = 0  # text chunks asked for: the next index
        self._parts: deque[tuple[int, int]] = deque()  # of the text not yet synthesized: (end in characters, bytes)
        self._characters = 0
        self._credit = TEXT_CREDIT

    def add_text(self, text: str) -> int:
        """Returns the credit to give back at once. Raises ProtocolError for more text than there was credit for."""
        size = len(text.encode("utf-8", "replace"))
        self._credit -= size
        if self.text_ended or size > MAX_TEXT_PART_BYTES or self._credit < 0:
            raise ProtocolError(f"text of {size} bytes after its end or beyond the credit")
        self._characters += len(text)
        self._parts.append((self._characters, size))
        self._queue(self._chunker.feed(text))
        if self._unsent or self._in_flight:
            return 0
        return self._credit_up_to(self._characters)  # blanks, or the beginning of a sentence: nothing will be answered

    def end_text(self) -> None:
        if not self.text_ended:
            self.text_ended = True
            self._queue(self._chunker.finish())

    def _queue(self, chunks: Iterable[TextChunk]) -> None:
        self._unsent += (chunk for chunk in chunks if speakable(chunk.text))

    def next_synthesize(self, frames_not_taken: int, *, only_first: bool = False) -> Synthesize | None:
        """The next text chunk to ask for, or None while enough is under way. `engine` must have been decided."""
        enough = frames_not_taken >= AHEAD_FRAMES or len(self._in_flight) >= CHUNKS_IN_FLIGHT
        if enough or not self._unsent or (only_first and self._sent):
            return None
        chunk = self._unsent.popleft()
        self._in_flight.append(chunk)
        index, self._sent = self._sent, self._sent + 1
        speak = self.speak
        return Synthesize(
            utterance=self.id,
            index=index,
            text=clean(chunk.text),
            voice=self.voice.name,
            lang=speak.lang,
            speed=speak.speed,
            engine=self.engine,
            seed=speak.seed,
            debug=speak.debug,
        )

    def add_audio(self, index: int, payload: bytes) -> None:
        """Raises ProtocolError when audio comes out of order: better no speech than scrambled speech."""
        if not self._in_flight or index != self._sent - len(self._in_flight):
            raise ProtocolError(f"audio of text chunk {index}, expected {self._sent - len(self._in_flight)}")
        self.audio.append((index, payload))
        self.frames += len(payload) // 4

    def synthesized(self, message: Synthesized) -> int:
        """A text chunk is complete. Returns the UTF-8 bytes of text for which the client gets credit again."""
        if not self._in_flight or message.index != self._sent - len(self._in_flight):
            raise ProtocolError(f"text chunk {message.index} is done, expected {self._sent - len(self._in_flight)}")
        if self.first_chunk is None:
            self.first_chunk = message
        return self._credit_up_to(self._in_flight.popleft().end)

    def _credit_up_to(self, character: int) -> int:
        credit = 0
        while self._parts and self._parts[0][0] <= character:
            credit += self._parts.popleft()[1]
        self._credit += credit
        return credit

    @property
    def complete(self) -> bool:
        """Whether all of its audio has been received."""
        return self.text_ended and not self._unsent and not self._in_flight

    @property
    def seconds(self) -> float:
        """Of audio received."""
        return self.frames / SAMPLE_RATE

    @property
    def frames_handed_on(self) -> int:
        """Received, and no longer waiting in `audio`."""
        return self.frames - sum(len(payload) for _, payload in self.audio) // 4

    def timing(self) -> dict[str, float]:
        """Seconds, as Finished carries them."""
        times = {"first_audio": self.first_audio}
        if self.first_chunk is not None:
            times |= {name: getattr(self.first_chunk, name) for name in ("g2p", "queue", "model")}
        return times
