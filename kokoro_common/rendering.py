"""A text rendered into files: one, or one for each chapter, with tags, chapter marks and captions. As safe as a line.

What has been synthesized goes into a journal beside the output (kokoro_common/journal.py). A file is encoded from there
when the audio of all its chapters is complete, by a thread of its own, so the engine goes on meanwhile. A render that
was interrupted goes on with the first text chunk that the journal lacks; the same bytes come out.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import tempfile
import threading

from kokoro_common.audio import SAMPLE_RATE
from kokoro_common.captions import CaptionFile, words_of
from kokoro_common.chapters import Chapter
from kokoro_common.errors import ServersUnreachable
from kokoro_common.journal import Journal
from kokoro_common.loudness import Limiter, gain_for
from kokoro_common.outfile import STANDARD_OUTPUT, OutputFile, is_special
from kokoro_common.record import Record
from kokoro_common.writer import AudioWriter, Form, Label, Mark

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from kokoro_common.audio import Samples
    from kokoro_common.chapters import Document
    from kokoro_common.protocol import ChunkSpoken, Finished

WORTH_KEEPING = 60.0  # seconds of audio: what is less is rendered anew sooner than it is found


class Plan(Record):
    """What files are wanted, and how."""

    output: str
    form: Form
    captions: tuple[tuple[str, str], ...] = ()  # kinds, see captions.KINDS, and paths
    split: bool = False  # a file for each chapter: book.mp3 is book-01.mp3, book-02.mp3 ...
    loudness: float | None = None  # LUFS; None: as the voice is
    title: str = ""
    artist: str = ""
    resumable: bool = False  # a render that is interrupted is kept, and found again


class _File(Record):
    """A file to be encoded."""

    number: int  # from 1; 0: the only one
    chapter: Chapter  # that it holds, or the whole
    first: int  # frame of the whole recording
    last: int
    place: int  # of its first text chunk in the journal
    end: int  # of the first one that is not its own
    marks: tuple[Mark, ...]


class _Stopped(Exception):
    """Nobody wants the file any more."""


class Recording:
    """What is written while it arrives: one file and its captions, by no journal. For one thread."""

    fraction = 0.0  # of the text: nobody knows
    forgotten = 0.0
    folder = ""

    def __init__(self, plan: Plan) -> None:
        label = Label(
            tags=tuple((key, value) for key, value in (("title", plan.title), ("artist", plan.artist)) if value)
        )
        self._writer = AudioWriter(plan.output, plan.form, label)
        self._captions: list[CaptionFile] = []
        self._frames = 0
        try:
            for kind, path in plan.captions:
                self._captions.append(CaptionFile(path, kind, plan.title, plan.artist))
        except BaseException:
            self.abandon()
            raise

    @property
    def encoded(self) -> bool:
        """Whether an exception of a signal handler must not come within `write` and `finish`."""
        return self._writer.encoded

    @property
    def seconds(self) -> float:
        """Of audio."""
        return self._frames / SAMPLE_RATE

    def begun_by(self, engine: str) -> None:
        """That is of no interest: nobody goes on with it."""

    def render(self, speak: Callable[[int, str], Finished | None]) -> Finished | None:
        """Blocks until all is written. See Rendering."""
        return speak(0, "")

    def write(self, pcm: bytes) -> None:
        """Audio, float32 little-endian."""
        import numpy as np

        samples = np.frombuffer(pcm, "<f4")
        self._writer.write(samples)
        self._frames += len(samples)

    def add(self, chunk: ChunkSpoken) -> None:
        """All audio of a text chunk has been written."""
        before = self._frames - chunk.frames
        for captions in self._captions:
            captions.add(words_of(chunk, before), self._frames)

    def finish(self, _: Callable[[float], None]) -> None:
        """Puts the files under their names; of what held no speech none."""
        if self._frames:
            self._writer.commit()
            for captions in self._captions:
                captions.commit()

    def abandon(self) -> bool:
        """Leaves nothing behind. Does nothing after `finish()`."""
        self._writer.discard()
        for captions in self._captions:
            captions.discard()
        return False


class Rendering:
    """For one thread. Raises KokoroErrors, of what the thread that encodes has met too."""

    encoded = False  # here: a signal may come in any call

    def __init__(self, plan: Plan, document: Document, identity: Mapping[str, Any]) -> None:
        """`identity`: all that the audio depends on, but the text."""
        self._plan = plan
        self._document = document
        self._check_outputs()
        self.folder = self._folder()
        everything = json.dumps([identity, document.text], sort_keys=True)
        self._journal = Journal(self.folder, hashlib.sha256(everything.encode()).hexdigest(), plan.output)
        self.forgotten = self._journal.forgotten
        self.fraction = 0.0  # of the text that has been rendered
        self._frames = 0  # of complete text chunks
        self._marks: list[Mark] = []  # of the chapters that have begun
        self._chapter = -1  # that is being spoken
        self._file = 0  # place of its first text chunk in the journal
        self._jobs: queue.SimpleQueue[_File | None] = queue.SimpleQueue()
        self._news: queue.SimpleQueue[float | None] = queue.SimpleQueue()  # shares of a file; None: all are done
        self._problem: Exception | None = None  # of the thread that encodes
        self._stopped = threading.Event()
        self._encoder = threading.Thread(target=self._run, name="encoder", daemon=True)
        place = 0
        for behind, chunk in self._journal.chunks():
            self._count(chunk, place)
            place = behind
        self._encoder.start()

    def _check_outputs(self) -> None:
        """What cannot be written is told before the work, not after."""
        for path in (self._plan.output, *(path for _, path in self._plan.captions)):
            if not is_special(path):  # opening a pipe and closing it would be the end for its reader
                OutputFile(path).discard()

    def _folder(self) -> str:
        final = os.path.realpath(self._plan.output)
        if not self._plan.resumable:
            folder = None if is_special(self._plan.output) else os.path.dirname(final)
            return tempfile.mkdtemp(prefix=".kokoro-", suffix=".part", dir=folder)
        digest = hashlib.sha256(os.path.basename(final).encode("utf-8", "surrogateescape")).hexdigest()
        return os.path.join(os.path.dirname(final), f".kokoro-{digest[:16]}.part")

    @property
    def seconds(self) -> float:
        """Of audio, of complete text chunks."""
        return self._frames / SAMPLE_RATE

    @property
    def count(self) -> int:
        """Of complete text chunks."""
        return self._journal.count

    @property
    def engine(self) -> str:
        """That has begun it and must go on; empty: none has."""
        return self._journal.engine

    def begun_by(self, engine: str) -> None:
        """The engine that renders it."""
        self._journal.begun_by(engine)

    def write(self, pcm: bytes) -> None:
        """Audio, float32 little-endian, of the text chunk that comes now."""
        self._journal.write(pcm)

    def add(self, chunk: ChunkSpoken) -> None:
        """A text chunk is complete."""
        self._check()
        place = self._journal.place
        self._journal.add(chunk)
        self._count(chunk, place)

    def render(self, speak: Callable[[int, str], Finished | None]) -> Finished | None:
        """Blocks until all is in the journal. `speak` gets the first text chunk that is wanted and the engine.

        When the servers were lost it goes on where it stopped, as long as every attempt brings something.
        """
        while True:
            before = self.count
            try:
                return speak(before, self.engine)
            except ServersUnreachable:
                if self.count == before:
                    raise
                self._journal.drop_unfinished()

    def finish(self, show: Callable[[float], None]) -> None:
        """Blocks until all files are there; `show` hears which share of the last one is encoded."""
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
        """Ends it now. Returns whether what there is was kept. Does nothing after `finish()`."""
        self._stopped.set()
        self._jobs.put(None)
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
        """Takes a complete text chunk into the books, whose line is at this place of the journal."""
        chapters = self._document.chapters
        following = self._chapter
        while following + 1 < len(chapters) and (following < 0 or chunk.start >= chapters[following + 1].start):
            following += 1
        if following != self._chapter:
            if self._marks:
                self._end_chapter(place)
            self._chapter, self._file = following, place
            self._marks.append(Mark(title=chapters[following].title, first=self._frames, last=self._frames))
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
                    number=len(self._marks),
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
        except Exception as error:  # for the other thread to raise
            self._problem = error
        finally:
            self._news.put(None)

    def _encode(self, file: _File) -> None:
        path = _numbered(self._plan.output, file.number, len(self._document.chapters))
        done = json.dumps([path, hashlib.sha256(repr(self._plan).encode()).hexdigest()])
        if done in self._journal.done and os.path.exists(path):
            return
        limiter = None
        if self._plan.loudness is not None:
            gain = gain_for(lambda: self._blocks(file), SAMPLE_RATE, self._plan.loudness)
            limiter = Limiter(SAMPLE_RATE, gain)
        label = self._label(file)
        with contextlib.ExitStack() as captions:  # which get their names when the audio has got its own
            for kind, target in self._plan.captions:
                self._write_captions(captions.enter_context(self._caption_file(kind, target, file, label)), file)
            with AudioWriter(path, self._plan.form, label, self.folder) as writer:
                for block in self._blocks(file, tell=True):
                    writer.write(block if limiter is None else limiter.feed(block))
                if limiter is not None:
                    writer.write(limiter.flush())
        self._journal.finish(done)

    def _blocks(self, file: _File, *, tell: bool = False) -> Iterator[Samples]:
        told = frames = 0
        for block in self._journal.blocks(file.first, file.last):
            if self._stopped.is_set():
                raise _Stopped
            yield block
            frames += len(block)
            share = frames / (file.last - file.first)
            if tell and int(100 * share) > told:
                told = int(100 * share)
                self._news.put(share)

    def _label(self, file: _File) -> Label:
        tags = {"title": self._title, "artist": self._plan.artist or self._document.author}
        if file.marks or file.number:
            tags["album"] = self._title
        if file.number:
            tags["title"] = file.chapter.title or f"{self._title} {file.number}".strip()
            tags["track"] = str(file.number)
        return Label(tags=tuple((key, value) for key, value in tags.items() if value), chapters=file.marks)

    def _caption_file(self, kind: str, path: str, file: _File, label: Label) -> CaptionFile:
        tags = dict(label.tags)
        source = self._document.text[file.chapter.start : file.chapter.end] if self._document.extracted else ""
        path = _numbered(path, file.number, len(self._document.chapters))
        return CaptionFile(path, kind, tags.get("title", ""), tags.get("artist", ""), source, self.folder)

    def _write_captions(self, captions: CaptionFile, file: _File) -> None:
        before = 0
        offset = file.chapter.start if self._document.extracted else 0  # its own text is what the places count in
        for behind, chunk in self._journal.chunks(file.place):
            if self._stopped.is_set():
                raise _Stopped
            if behind > file.end:
                break
            if offset:
                chunk = chunk.replace(places=[place - offset for place in chunk.places])
            captions.add(words_of(chunk, before), before + chunk.frames)
            before += chunk.frames


def _numbered(path: str, number: int, of: int) -> str:
    """book.mp3 is book-01.mp3."""
    if not number or path in STANDARD_OUTPUT:
        return path
    stem, extension = os.path.splitext(path)
    return f"{stem}-{number:0{max(2, len(str(of)))}}{extension}"
