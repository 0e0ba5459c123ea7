"""Text chunks that the model server was asked for, in order, and their audio as it arrives.

Each is asked once; when the model server is lost, the next one is asked again and what came already is not taken twice.
Pauses keep their place between them but need no answer: silence is made here, when it is taken.
"""

from __future__ import annotations

from collections import deque

from kokoro_common.errors import ServersUnreachable
from kokoro_common.record import Record
from kokoro_common.sound.samples import SAMPLE_RATE
from kokoro_common.text.chunker import TextChunk
from kokoro_common.text.speech import TimedWord
from kokoro_common.wire.messages import (
    MAX_CHUNK_FRAMES,
    AudioChunk,
    ChunkSpoken,
    ProtocolError,
    Synthesize,
    Synthesized,
)

AHEAD_FRAMES = 30 * SAMPLE_RATE  # audio synthesized ahead of the ear, or of the client that writes a file
SPARING_FRAMES = 2 * SAMPLE_RATE  # the same while the backlog is large
AUDIO_BYTES = 8 << 20  # of audio waiting for clients of this voice server, above which its backlog is large
CHUNKS_IN_FLIGHT = 2  # one in the engine and one behind it, so the engine never waits for a round trip
FILE_CHUNKS_IN_FLIGHT = 4  # a file has no ear that waits, and short sentences take less than a round trip
MAX_LOSSES = 3  # of model servers while the same text chunk was with them: then it is the text that kills them
BYTES_PER_FRAME = 4  # float32, mono


class Backlog:
    """Audio for clients that waits for their credit, over all utterances of a voice server; with what was asked for and
    has not come yet, by estimate, as many utterances may begin at once."""

    def __init__(self) -> None:
        self.bytes = 0

    @property
    def large(self) -> bool:
        """Whether utterances should be synthesized no further ahead than SPARING_FRAMES."""
        return self.bytes > AUDIO_BYTES


class Silence(Record):
    """Audio of a pause that nobody has taken yet."""

    utterance: str
    index: int
    frames: int


class Asked(Record):
    """A text chunk that is on its way; a pause has no message and is complete when those before it are."""

    chunk: TextChunk
    index: int
    message: Synthesize | None = None
    frames: int = 0  # of a pause
    expected: int = 0  # bytes of audio, by estimate


class InFlight:
    """What was asked for and is not complete, and the audio that nobody has taken yet."""

    def __init__(self, utterance: str, backlog: Backlog, *, tells_words: bool) -> None:
        """`backlog` counts the audio that waits here. `tells_words`: behind the audio of each text chunk stands its
        ChunkSpoken."""
        self.frames = 0  # of audio and of pauses, so far
        self.audio: deque[tuple[AudioChunk | ChunkSpoken | Silence, bytes]] = deque()  # with float32 PCM
        self._utterance = utterance
        self._backlog = backlog
        self._tells_words = tells_words
        self._asked: deque[Asked] = deque()
        self._again: deque[Synthesize] = deque()  # of those, to be asked once more
        self._losses = 0  # of model servers, since a text chunk was last completed
        self._received = 0  # frames of the text chunk that comes now
        self._skip = 0  # frames of it that come once more
        self._words: list[TimedWord] = []  # of the text chunk that comes now, as ChunkSpoken has them

    def __len__(self) -> int:
        return len(self._asked)

    @property
    def chunks(self) -> list[TextChunk]:
        return [each.chunk for each in self._asked]

    @property
    def index(self) -> int:
        """Of the text chunk that comes now; -1: none was asked for."""
        return self._asked[0].index if self._asked else -1

    def ask(self, chunk: TextChunk, message: Synthesize, seconds: float = 0.0) -> None:
        """`seconds`: of audio that it may become."""
        expected = round(seconds * SAMPLE_RATE) * BYTES_PER_FRAME
        self._backlog.bytes += expected
        self._asked.append(Asked(chunk=chunk, index=message.request.index, message=message, expected=expected))

    def pause(self, chunk: TextChunk, index: int, frames: int) -> list[TextChunk]:
        """A pause is next. Returns what is complete with it: the pause itself, unless something before it is not."""
        self._asked.append(Asked(chunk=chunk, index=index, frames=frames))
        return self._complete_pauses()

    def ask_again(self) -> Synthesize | None:
        """A request that a lost model server has not answered."""
        return self._again.popleft() if self._again else None

    def server_lost(self) -> None:
        """What was not answered is to be asked again. Raises ServersUnreachable when model servers die of this text."""
        self._again = deque(each.message for each in self._asked if each.message is not None)
        self._skip = self._received
        self._losses += bool(self._asked)
        if self._losses > MAX_LOSSES:
            raise ServersUnreachable(f"the model server died {self._losses} times at the same text", "see its log")

    def add_audio(self, message: AudioChunk, payload: bytes) -> tuple[TimedWord, ...]:
        """Returns its new words, placed in the whole text.

        Raises ProtocolError when audio comes out of order: better no speech than scrambled speech.
        """
        if message.index != self.index:
            raise ProtocolError(f"audio of text chunk {message.index}, expected {self.index}")
        places = self._asked[0].chunk.places
        if any(not 0 <= word.start < word.end <= len(places) for word in message.words):
            raise ProtocolError(f"words beyond text chunk {message.index}")
        skip = min(self._skip, len(payload) // BYTES_PER_FRAME)
        self._skip -= skip
        payload = payload[BYTES_PER_FRAME * skip :]
        new = [_moved(word, -skip) for word in message.words if word.first_frame >= skip]
        if self._tells_words:
            self._words += (_moved(word, self._received) for word in new)
        if not payload:
            return ()
        words = tuple(word.replace(start=places[word.start], end=places[word.end - 1] + 1) for word in new)
        self.audio.append((message.replace(words=words, payload_bytes=len(payload)), payload))
        self.frames += len(payload) // BYTES_PER_FRAME
        self._received += len(payload) // BYTES_PER_FRAME
        self._backlog.bytes += len(payload)
        return words

    def complete(self, message: Synthesized) -> tuple[int, list[TextChunk]]:
        """All audio of the text chunk that comes now is here. Returns its frames; and it, with the pauses behind it.

        Raises ProtocolError for another one.
        """
        if message.index != self.index:
            raise ProtocolError(f"text chunk {message.index} is done, expected {self.index}")
        asked = self._asked.popleft()
        self._backlog.bytes -= asked.expected
        self._tell_words(asked)
        frames = self._received
        self._losses = self._received = self._skip = 0
        return frames, [asked.chunk, *self._complete_pauses()]

    def _complete_pauses(self) -> list[TextChunk]:
        complete = []
        while self._asked and self._asked[0].message is None:
            asked = self._asked.popleft()
            self.frames += asked.frames
            self._received = asked.frames
            if asked.frames:
                silence = Silence(utterance=self._utterance, index=asked.index, frames=asked.frames)
                self.audio.append((silence, b""))
            self._tell_words(asked)
            self._received = 0
            complete.append(asked.chunk)
        return complete

    def _tell_words(self, asked: Asked) -> None:
        if not self._tells_words:
            return
        spoken = ChunkSpoken(
            utterance=self._utterance,
            index=asked.index,
            text=asked.chunk.text,
            start=asked.chunk.start,
            places=tuple(asked.chunk.places),
            words=tuple(self._words),
            frames=self._received,
        )
        self._words = []
        self.audio.append((spoken, b""))

    def take(self, most: int | None = None) -> tuple[AudioChunk | ChunkSpoken, bytes] | None:
        """The next audio, or the words behind it, for the ear or the client; None: there is none of `most` bytes."""
        if not self.audio:
            return None
        message, payload = self.audio[0]
        if isinstance(message, Silence):
            return self._take_silence(message, most)
        if most is not None and len(payload) > most:
            return None
        self.audio.popleft()
        self._backlog.bytes -= len(payload)
        return message, payload

    def _take_silence(self, silence: Silence, most: int | None) -> tuple[AudioChunk, bytes] | None:
        frames = min(silence.frames, MAX_CHUNK_FRAMES)
        if most is not None:
            frames = min(frames, most // BYTES_PER_FRAME)
        if not frames:
            return None
        self.audio.popleft()
        if rest := silence.frames - frames:
            self.audio.appendleft((silence.replace(frames=rest), b""))
        size = frames * BYTES_PER_FRAME
        return AudioChunk(utterance=silence.utterance, index=silence.index, payload_bytes=size), bytes(size)

    def drop(self) -> None:
        """Nobody will take what waits, or what still comes."""
        self._backlog.bytes -= self.bytes_waiting + sum(each.expected for each in self._asked)
        self.audio.clear()
        self._asked.clear()

    @property
    def frames_handed_on(self) -> int:
        """Received, and no longer waiting in `audio`."""
        silent = sum(message.frames for message, _ in self.audio if isinstance(message, Silence))
        return self.frames - self.bytes_waiting // BYTES_PER_FRAME - silent

    @property
    def bytes_waiting(self) -> int:
        """Memory that `audio` takes."""
        return sum(len(payload) for _, payload in self.audio)


def _moved(word: TimedWord, frames: int) -> TimedWord:
    return word.replace(first_frame=word.first_frame + frames, last_frame=word.last_frame + frames)
