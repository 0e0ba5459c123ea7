"""A rendering: a text as one file, or one for each chapter, with tags, chapter marks and captions.

Audio goes into a journal beside the output (journal.py). A file is encoded from there as soon as the audio of all its
chapters is complete, on a thread of its own, while the engine goes on. An interrupted render continues with the first
text chunk that the journal lacks; the resulting bytes are the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import tempfile
import threading

from kokoro_common import __version__
from kokoro_common.client.conversation import Audio
from kokoro_common.documents.document import Chapter
from kokoro_common.errors import ServersUnreachable
from kokoro_common.record import Record
from kokoro_common.recording.captions import CaptionFile, words_of
from kokoro_common.recording.encoders import AudioWriter
from kokoro_common.recording.formats import WITH_COVER, Label, Mark, format_of
from kokoro_common.recording.journal import WORTH_KEEPING, Journal, sweep_folders
from kokoro_common.recording.outfile import OutputFile, is_special, output_error
from kokoro_common.recording.recording import Plan, tags_of
from kokoro_common.sound.loudness import PeakLimiter, gain_for
from kokoro_common.sound.samples import SAMPLE_RATE, Resampler
from kokoro_common.wire.codec import form_of
from kokoro_common.wire.messages import ChunkSpoken, Started

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from typing import Any

    from kokoro_common.client.conversation import Event
    from kokoro_common.documents.document import Document
    from kokoro_common.recording.recording import Speak
    from kokoro_common.sound.samples import Samples
    from kokoro_common.text.speech import Speech


class _File(Record):
    """A file to be encoded."""

    number: int  # from 1; 0 if it is the only one
    chapter: Chapter  # its content; of the only file the whole text
    first: int  # frame of the whole recording
    last: int
    place: int  # offset of its first text chunk in the journal
    end: int  # offset after its last one
    marks: tuple[Mark, ...]


class _Stopped(Exception):
    """The render was abandoned while a file was being encoded."""


class Rendering:
    """For one thread. Raises KokoroErrors, those of the encoding thread too."""

    encoded = False  # encoders run on the other thread

    def __init__(self, plan: Plan, document: Document, speech: Speech) -> None:
        """An unfinished render is continued if the text, `speech` and the version of the product are the same, whatever
        the engine. Raises UsageError if another one that is worth keeping is in its place, OutputError."""
        self._plan = plan
        self._document = document
        self._check_outputs()
        self.folder = self._folder()
        identity = {"version": __version__, "speech": speech.replace(engine="auto")}
        numbers = [chapter.number for chapter in document.chapters] if document.of else []  # two may have the same text
        everything = _digest([identity, document.text, *([numbers] if numbers else [])])
        self._journal = Journal(self.folder, everything, plan.output, anonymous=not plan.resumable)
        self.fraction = 0.0  # share of the text that has been rendered
        self._frames = 0  # in complete text chunks
        self._marks: list[Mark] = []  # chapters that have begun
        self._chapter = -1  # index of the current chapter
        self._file = 0  # offset of its first text chunk in the journal
        self._jobs: queue.SimpleQueue[_File | None] = queue.SimpleQueue()
        self._news: queue.SimpleQueue[float | None] = queue.SimpleQueue()  # shares of a file; None: all are done
        self._problem: Exception | None = None  # raised on the encoding thread
        self._stopped = threading.Event()
        self._encoder = threading.Thread(target=self._run, name="encoder", daemon=True)
        self._cover = document.cover if format_of(plan.output) in WITH_COVER else None
        try:
            place = 0
            for following, chunk in self._journal.chunks():
                self._count(chunk, place)
                place = following
            self._encoder.start()
        except BaseException:
            self._journal.close()
            raise

    def _check_outputs(self) -> None:
        """Raises OutputError before the work rather than after it."""
        numbers = [self._number(at) for at in range(len(self._document.chapters))] if self._plan.split else [0]
        for path in (self._plan.output, *(path for _, path in self._plan.captions)):
            if not is_special(path):  # opening a pipe and closing it would be the end for its reader
                for number in numbers:
                    OutputFile(_numbered(path, number, self._chapters)).discard()

    def _folder(self) -> str:
        final = os.path.realpath(self._plan.output)
        if not self._plan.resumable:
            folder = tempfile.gettempdir() if is_special(self._plan.output) else os.path.dirname(final)
            sweep_folders(folder)
            try:
                return tempfile.mkdtemp(prefix=".kokoro-once-", suffix=".part", dir=folder)
            except OSError as error:
                raise output_error(self._plan.output, error) from error
        sweep_folders(os.path.dirname(final))
        digest = hashlib.sha256(os.path.basename(final).encode("utf-8", "surrogateescape")).hexdigest()
        return os.path.join(os.path.dirname(final), f".kokoro-{digest[:16]}.part")

    @property
    def _chapters(self) -> int:
        """Of the whole document, also where only some are rendered."""
        return self._document.of or len(self._document.chapters)

    def _number(self, at: int) -> int:
        """That of a chapter in the whole document, by its index in what is rendered."""
        return self._document.chapters[at].number or at + 1

    @property
    def seconds(self) -> float:
        """Audio in complete text chunks."""
        return self._frames / SAMPLE_RATE

    @property
    def count(self) -> int:
        """Complete text chunks in the journal."""
        return self._journal.count

    @property
    def engine(self) -> str:
        """The engine that began the render and must continue it; empty if none has."""
        return self._journal.engine if self.count else ""

    def events(self, speak: Speak) -> Generator[Event, None, None]:
        """See SpeechOutput. If the servers are lost it goes on, as long as every attempt brings a text chunk."""
        while True:
            before = self.count
            try:
                with speak(before, self.engine) as utterance:
                    yield from utterance
                return
            except ServersUnreachable:
                if self.count == before:
                    raise
                self._journal.drop_unfinished()

    def take(self, event: Event) -> None:
        if isinstance(event, Started):
            self._journal.begun_by(event.engine)
        elif isinstance(event, Audio):
            self._journal.write(event.pcm)
        elif isinstance(event, ChunkSpoken):  # all of its audio has been written
            self._check()
            place = self._journal.place
            self._journal.add(event)
            self._count(event, place)

    def finish(self, show: Callable[[float], None]) -> None:
        """Blocks until all files are there; `show` is given the share of the last one that is encoded."""
        if self._marks:
            self._end_chapter(self._journal.place)
            if not self._plan.split:
                self._jobs.put(self._whole())
        self._jobs.put(None)
        while (share := self._news.get()) is not None:
            show(share)
        self._check()
        self._journal.remove()

    def abandon(self) -> bool:
        """Stops encoding. Returns whether the journal was kept. Does nothing after `finish()`."""
        self._stopped.set()
        self._jobs.put(None)
        outputs = (self._plan.output, *(path for _, path in self._plan.captions))
        if not any(map(is_special, outputs)):  # a pipe may block the thread for ever; it ends with the process
            self._encoder.join()
        keep = self._plan.resumable and self.seconds >= WORTH_KEEPING and os.path.isdir(self.folder)
        if keep:
            self._journal.close()
        else:
            self._journal.remove()
        return keep

    def _check(self) -> None:
        if self._problem is not None:
            raise self._problem

    # --- chapters ----------------------------------------------------------------------------------------------------

    def _count(self, chunk: ChunkSpoken, place: int) -> None:
        """Counts a complete text chunk whose line is at this offset of the journal, and closes chapters before it."""
        chapters = self._document.chapters
        following = self._chapter
        while following + 1 < len(chapters) and (following < 0 or chunk.start >= chapters[following + 1].start):
            following += 1
        if following != self._chapter:
            if self._marks:
                self._end_chapter(place)
            self._chapter, self._file = following, place
            title = chapters[following].title or self._title  # text before the first heading
            self._marks.append(Mark(title=title, first=self._frames, last=self._frames))
        self._frames += chunk.frames
        end = chunk.places[-1] + 1 if chunk.places else chunk.start
        if self._document.text:
            self.fraction = end / len(self._document.text)

    def _end_chapter(self, place: int) -> None:
        mark = self._marks[-1].replace(last=self._frames)
        self._marks[-1] = mark
        if self._plan.split:
            self._jobs.put(
                _File(
                    number=self._number(self._chapter),
                    chapter=self._document.chapters[self._chapter],
                    first=mark.first,
                    last=mark.last,
                    place=self._file,
                    end=place,
                    marks=(),
                )
            )

    def _whole(self) -> _File:
        marks = tuple(self._marks) if len(self._marks) > 1 else ()
        whole = Chapter(title=self._title, start=0, end=len(self._document.text))
        end = self._journal.place
        return _File(number=0, chapter=whole, first=0, last=self._frames, place=0, end=end, marks=marks)

    @property
    def _title(self) -> str:
        return self._plan.title or self._document.title

    # --- on the thread that encodes ----------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while (file := self._jobs.get()) is not None:
                self._encode(file)
        except _Stopped:
            pass
        except Exception as error:  # the other thread raises it
            self._problem = error
        finally:
            self._news.put(None)

    def _encode(self, file: _File) -> None:
        path = self._path(self._plan.output, file)
        label = self._label(file)
        if self._journal.done.get(path) == self._key(file, label):
            return
        rate = SAMPLE_RATE if self._plan.loudness is None else self._plan.form.rate
        limiter = None
        if self._plan.loudness is not None:  # measured at the rate of the file, whose peaks differ
            limiter = PeakLimiter(rate, gain_for(lambda: self._blocks(file, rate), rate, self._plan.loudness))
        with contextlib.ExitStack() as captions:  # committed after the audio
            for kind, target in self._plan.captions:
                self._write_captions(captions.enter_context(self._caption_file(kind, target, file, label)), file)
            with AudioWriter(path, self._plan.form, label, scratch=self.folder, rate=rate) as writer:
                for block in self._blocks(file, rate, tell=True):
                    writer.write(block if limiter is None else limiter.feed(block))
                if limiter is not None:
                    writer.write(limiter.flush())
        self._journal.finish(path, self._key(file, label))

    def _key(self, file: _File, label: Label) -> str:
        """A digest of a file's content and form, and of its state on the disk; empty if the file is not there."""
        there = []
        for path in (self._plan.output, *(path for _, path in self._plan.captions)):
            try:
                status = os.stat(self._path(path, file))
            except OSError:
                return ""
            there.append([status.st_ino, status.st_size, status.st_mtime_ns])
        picture = hashlib.sha256(label.cover.data).hexdigest() if label.cover else ""
        return _digest([repr(self._plan), repr(file), repr(label.replace(cover=None)), picture, there])

    def _path(self, path: str, file: _File) -> str:
        return _numbered(path, file.number, self._chapters)

    def _blocks(self, file: _File, rate: int, *, tell: bool = False) -> Iterator[Samples]:
        """The audio of a file at this rate."""
        blocks = self._told(file) if tell else self._journal.blocks(file.first, file.last)
        resampler = Resampler(SAMPLE_RATE, rate) if rate != SAMPLE_RATE else None
        for block in blocks:
            if self._stopped.is_set():
                raise _Stopped
            yield block if resampler is None else resampler.feed(block)
        if resampler is not None:
            yield resampler.flush()

    def _told(self, file: _File) -> Iterator[Samples]:
        """The audio of a file; each per cent of it is reported to the other thread."""
        told = frames = 0
        for block in self._journal.blocks(file.first, file.last):
            yield block
            frames += len(block)
            share = frames / (file.last - file.first)
            if int(100 * share) > told:
                told = int(100 * share)
                self._news.put(share)

    def _label(self, file: _File) -> Label:
        tags = {"title": self._title, "artist": self._plan.artist or self._document.author}
        if file.marks or file.number:
            tags["album"] = self._title
        if file.number:
            tags["title"] = file.chapter.title or f"{self._title} {file.number}".strip()
            tags["track"] = str(file.number)
        return Label(tags=tags_of(**tags), chapters=file.marks, cover=self._cover)

    def _caption_file(self, kind: str, path: str, file: _File, label: Label) -> CaptionFile:
        tags = dict(label.tags)
        source = self._document.text[file.chapter.start : file.chapter.end] if self._document.extracted else ""
        path = self._path(path, file)
        return CaptionFile(path, kind, tags.get("title", ""), tags.get("artist", ""), source, scratch=self.folder)

    def _write_captions(self, captions: CaptionFile, file: _File) -> None:
        before = 0
        offset = file.chapter.start if self._document.extracted else 0  # places are counted in the file's own text
        for following, chunk in self._journal.chunks(file.place):
            if self._stopped.is_set():
                raise _Stopped
            if following > file.end:
                break
            if offset:
                chunk = chunk.replace(places=tuple(place - offset for place in chunk.places))
            captions.add(words_of(chunk, before), before + chunk.frames)
            before += chunk.frames


def _digest(things: list[Any]) -> str:
    return hashlib.sha256(json.dumps(things, sort_keys=True, default=form_of).encode()).hexdigest()


def _numbered(path: str, number: int, of: int) -> str:
    """The path of one of several files: book.mp3 becomes book-01.mp3. A device keeps its name."""
    if not number or is_special(path):
        return path
    stem, extension = os.path.splitext(path)
    return f"{stem}-{number:0{max(2, len(str(of)))}}{extension}"
