"""A recording: one file and its captions, written while the audio arrives, as a Plan says.

rendering.py writes the same through a journal, if it must survive an interruption or be read twice.
"""

from __future__ import annotations

from kokoro_common.client.conversation import Audio
from kokoro_common.record import Record
from kokoro_common.recording.captions import CaptionFile, words_of
from kokoro_common.recording.encoders import AudioWriter
from kokoro_common.recording.formats import Form, Label
from kokoro_common.sound.samples import SAMPLE_RATE
from kokoro_common.wire.messages import ChunkSpoken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Protocol

    from kokoro_common.client.conversation import Event, UtteranceEvents
    from kokoro_common.documents.document import Document

    Speak = Callable[[int, str], UtteranceEvents]  # speaks from this text chunk on by this engine; empty: by any

    class SpeechOutput(Protocol):
        """The common interface of Recording and Rendering. For one thread; methods raise KokoroErrors."""

        @property
        def fraction(self) -> float:
            """Share of the text that is complete, 0.0 to 1.0; 0.0 where it is not known."""

        @property
        def folder(self) -> str:
            """Where an unfinished render is kept; empty: nowhere."""

        @property
        def encoded(self) -> bool:
            """Whether `write` and `finish` run an encoder, in which a signal handler must not raise an exception."""

        @property
        def seconds(self) -> float:
            """Audio in complete text chunks, or all that was written."""

        def events(self, speak: Speak) -> Generator[Event, None, None]:
            """The events of as many utterances as it takes; closing it cancels. Each is to be handed to `take`."""

        def take(self, event: Event) -> None:
            """Writes audio and words. Blocks on the disk, or on the pipe's reader."""

        def finish(self, show: Callable[[float], None]) -> None:
            """Blocks until the files are there; `show` is told which share of the last one is encoded."""

        def abandon(self) -> bool:
            """Gives it up. Returns whether what there is was kept. Does nothing after `finish()`."""


class Plan(Record):
    """The files to write, and how."""

    output: str
    form: Form
    captions: tuple[tuple[str, str], ...] = ()  # kinds, see captions.KINDS, and paths
    split: bool = False  # a file for each chapter: book.mp3 is book-01.mp3, book-02.mp3 ...
    loudness: float | None = None  # LUFS; None: as the voice is
    title: str = ""
    artist: str = ""
    resumable: bool = False  # a render that is interrupted is kept, and found again


class Recording:
    """Writes one file and its captions while the audio arrives, without a journal. For one thread."""

    fraction = 0.0
    folder = ""

    def __init__(self, plan: Plan, document: Document | None = None) -> None:
        title = plan.title or (document.title if document else "")
        artist = plan.artist or (document.author if document else "")
        source = document.text if document and document.extracted else ""
        self._writer = AudioWriter(plan.output, plan.form, Label(tags=tags_of(title=title, artist=artist)))
        self._captions: list[CaptionFile] = []
        self._frames = 0
        try:
            for kind, path in plan.captions:
                self._captions.append(CaptionFile(path, kind, title, artist, source))
        except BaseException:
            self.abandon()
            raise

    @property
    def encoded(self) -> bool:
        return self._writer.encoded

    @property
    def seconds(self) -> float:
        return self._frames / SAMPLE_RATE

    def events(self, speak: Speak) -> Generator[Event, None, None]:
        with speak(0, "") as utterance:
            yield from utterance

    def take(self, event: Event) -> None:
        if isinstance(event, Audio):
            import numpy as np

            samples = np.frombuffer(event.pcm, "<f4")
            self._writer.write(samples)
            self._frames += len(samples)
        elif isinstance(event, ChunkSpoken):  # all of its audio has been written
            words = words_of(event, self._frames - event.frames)
            for captions in self._captions:
                captions.add(words, self._frames)

    def finish(self, _: Callable[[float], None]) -> None:
        """Puts the files under their names. If there was no speech there is no file."""
        if self._frames:
            self._writer.commit()
            for captions in self._captions:
                captions.commit()
        else:
            self.abandon()

    def abandon(self) -> bool:
        """Leaves no file."""
        self._writer.discard()
        for captions in self._captions:
            captions.discard()
        return False


def tags_of(**tags: str) -> tuple[tuple[str, str], ...]:
    """The tags that are not empty, each as one line of UTF-8: command lines and documents may hold anything."""
    lines = {key: " ".join(value.encode("utf-8", "replace").decode().split()) for key, value in tags.items()}
    return tuple((key, value.replace("\0", "")) for key, value in lines.items() if value)
