"""Documents on the command line: -f, which chapters of them, a list of these, and the place where listening stopped.

1. `text_of` reads what is to be spoken: a document as a whole, or a source of text that arrives
2. `Listening` remembers the word that is heard, writes the bookmark every few seconds and when it ends too early
"""

from __future__ import annotations

import os
import re
import sys
import time

from kokoro_common.command.arguments import NATURAL_RATE, flag, note, speed_of, verb
from kokoro_common.errors import SAY, UsageError, shell_word, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable

    from kokoro_common.client.conversation import Event
    from kokoro_common.client.text_source import TextSource
    from kokoro_common.documents.bookmark import Bookmark, Bookmarks
    from kokoro_common.documents.document import Document
    from kokoro_common.settings import Settings

STANDARD_INPUT = "standard input"
KEEP_SECONDS = 5.0  # between two writes of the bookmark: what a crash or a power failure can cost
SIGNS_A_MINUTE = 300  # of Chinese or Japanese, about as many as Kokoro says
MIN_TITLE = 20  # columns in the list of chapters, however narrow the terminal is
BESIDE_TITLE = 35  # columns of what stands beside it there
WORDS_COLUMN = 17  # columns of these that a narrow terminal does without

flag("-f", "--file", action="append", metavar="FILE", help="a .txt .md .html .epub .pdf; - is stdin",
     group="text", common=True, values="document")  # fmt: skip
flag("--chapters", metavar="N-M,...", help="only these chapters: 3-7,12 or 5-", group="text")
flag("--from", dest="begin_at", metavar="CHAPTER", help="begin there: its number, or how its title begins",
     group="text")  # fmt: skip
flag("--continue", dest="go_on", help="listen on where listening to a document ended", group="text")


# --- What is spoken --------------------------------------------------------------------------------------------------


def text_of(
    options: Namespace, settings: Settings, lang: str
) -> tuple[Document | None, TextSource | None, Listening | None]:
    """The document, or else where the text comes from: arguments or a descriptor, None when the arguments are blank.
    For a document that is listened to, also what keeps the place. `lang`: a letter, key of LANGUAGES.
    Blocks while a document is read; raises UsageError.
    """
    from kokoro_common.client.text_source import TextSource

    if options.text and options.file is not None:
        raise UsageError("both TEXT and -f were given", "choose one")
    mark = _bookmark(options, settings)
    if options.file:
        from kokoro_common.command.signals import SIGNALS

        SIGNALS.catch()  # the process that reads a PDF must not outlive this one
    document, source = _read(options)
    if document is None:
        return None, source, None
    if document.notes and options.output is not None:
        _tell_of_cover(document, options)
    names = [STANDARD_INPUT if path == "-" else path for path in options.file or ["-"]]
    chapters = options.chapters or ""
    if options.begin_at is not None:
        from kokoro_common.documents.choice import number_called

        chapters = f"{number_called(options.begin_at, document)}-"
    if mark is not None:
        chapters = mark.chapters
    if chapters:
        try:
            document = _chosen(document, chapters, names[0])
        except UsageError:
            if mark is None:
                raise
            raise _another_text(mark, document, options) from None  # nobody has typed these chapters
    listening = None
    heard = options.output is None and not (options.no_wait or options.explain)
    if mark is not None or (heard and _has_places(options, document)):
        listening = Listening(options, settings, document, chapters)
        source = listening.begin(mark, lang) if mark is not None else None
    return document, source or TextSource(document.text), listening


def _chosen(document: Document, chapters: str, name: str) -> Document:
    """The document with these chapters alone. Raises UsageError."""
    from kokoro_common.documents.choice import chosen, numbers_of, refuse_ssml

    refuse_ssml(document, "chosen chapters", name)
    return chosen(document, numbers_of(chapters, len(document.chapters)))


def _tell_of_cover(document: Document, options: Namespace) -> None:
    """Notes of the document are about its cover, which not every file can have."""
    from kokoro_common.recording.formats import WITH_COVER, format_of

    for line in document.notes if format_of(options.output) in WITH_COVER else ():
        note(line, quiet=options.quiet)


def _read(options: Namespace) -> tuple[Document | None, TextSource | None]:
    """A document that is read as a whole, or where else the text comes from."""
    from kokoro_common.client.text_source import TextSource
    from kokoro_common.documents.load import EXTRACTED, load
    from kokoro_common.recording.outfile import is_special

    if options.chapters and options.begin_at is not None:
        raise UsageError("--from does not go with --chapters", "write --chapters 5-")
    echo = 1 if options.echo else None
    if options.echo and (options.text or options.output == "-"):
        raise UsageError("-e passes standard input through to stdout", "leave out TEXT and -o -")
    if options.text:
        if options.chapters or options.begin_at is not None:
            raise UsageError("--chapters and --from are about a document", f"{SAY} -f FILE")
        source = TextSource(" ".join(options.text))
        return None, source if source.readable else None
    paths = options.file or ["-"]
    if len(paths) > 1 or options.chapters or options.begin_at is not None or options.list_chapters:
        if options.echo:
            raise UsageError("-e passes one text through as it comes", "leave it out, or --chapters, --from and all -f")
        return _read_all(paths), None
    path = paths[0]
    extracted = os.path.splitext(path)[1].lower() in EXTRACTED
    if options.echo and extracted:
        raise UsageError("-e passes the text through as it is, which here is none", "leave it out")
    if path != "-" and not options.echo and (extracted or not is_special(path)):
        return load(path), None
    source = TextSource(fd=_opened(path), echo=echo, name=STANDARD_INPUT if path == "-" else path)
    if options.output is not None:
        source.look()  # a document is rendered as one; what is only heard need not be known before it comes
    return source.document, source


def _read_all(paths: list[str]) -> Document:
    from kokoro_common.documents.choice import joined
    from kokoro_common.documents.load import load, read_stream

    if paths.count("-") > 1:
        raise UsageError("-f - was given twice", "standard input can be read once")
    read = []
    for path in paths:
        if path == "-":
            with open(_opened(path), "rb", closefd=False) as file:
                read.append((STANDARD_INPUT, read_stream(file, STANDARD_INPUT)))
        else:
            read.append((path, load(path)))
    return joined(read)


def _opened(path: str) -> int:
    if path == "-":
        if sys.stdin is None:
            raise UsageError("there is no text and no standard input", "give a TEXT")
        return sys.stdin.fileno()
    import errno

    try:
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise UsageError(f"cannot read {path}: {reason}", "check the name") from error


# --- The list of chapters --------------------------------------------------------------------------------------------


@verb("--list-chapters", help="list the chapters of -f, with their durations", group="text", common=True)
def list_chapters(options: Namespace) -> int:
    """Prints a line for each chapter. Needs no server."""
    if options.text:
        raise UsageError("--list-chapters is about a document", f"{SAY} -f FILE --list-chapters")
    if options.go_on:
        raise UsageError("--continue does not go with --list-chapters", "leave one of them out")
    document, _ = _read(options)
    assert document is not None  # because the list was asked for
    from kokoro_common.command.terminal import columns, cut, roughly, width_of
    from kokoro_common.documents.choice import number_called, numbers_of
    from kokoro_common.settings import CALL_DEFAULTS
    from kokoro_common.text.defaults import call_defaults

    begin = number_called(options.begin_at, document) if options.begin_at is not None else 1
    numbers = numbers_of(options.chapters or f"{begin}-", len(document.chapters))
    others = [name for name in CALL_DEFAULTS if name != "speed"]
    speed = call_defaults({"speed": speed_of(options.speed, options.rate)}, {}, chosen=others).speed
    measured = [_measured(document, number, speed) for number in numbers]
    wide = width_of(1) >= MIN_TITLE + BESIDE_TITLE
    most = max(MIN_TITLE, width_of(1) - BESIDE_TITLE + (0 if wide else WORDS_COLUMN))
    titles = [cut(title, most) for title, _, _ in measured]
    width = max(map(columns, titles), default=0)
    for number, title, (_, words, seconds) in zip(numbers, titles, measured, strict=True):
        padded = title + " " * (width - columns(title))
        print(f"{number:4}  {padded}" + f"  {words:9,} words" * wide + f"  {roughly(seconds):>10}")
    total = sum(seconds for *_, seconds in measured)
    note(f"{len(numbers)} chapters, {roughly(total)} in all", quiet=options.quiet or len(numbers) < 2)
    return 0


def _measured(document: Document, number: int, speed: float) -> tuple[str, int, float]:
    """Title, words and seconds of a chapter; in scripts without blanks each sign counts as a word."""
    from kokoro_common.text.marks import UNSPACED

    chapter = document.chapters[number - 1]
    text = document.text[chapter.start : chapter.end]
    signs = sum(1 for _ in re.finditer(f"[{UNSPACED}]", text))
    words = sum(1 for _ in re.finditer(rf"[^\W_{UNSPACED}][^\s{UNSPACED}]*", text))
    title = chapter.title or (document.title if len(document.chapters) == 1 else "") or "(no title)"
    return shown(title), words + signs, 60 * (words / NATURAL_RATE + signs / SIGNS_A_MINUTE) / speed


# --- The place where listening stopped -------------------------------------------------------------------------------


def _bookmark(options: Namespace, settings: Settings) -> Bookmark | None:
    """The one to go on from. If no file was given, its files become those of the options. Raises UsageError."""
    if not options.go_on:
        return None
    if options.text or options.chapters or options.begin_at is not None:
        raise UsageError("--continue goes on where listening stopped", "leave out TEXT, --chapters and --from")
    if options.output is not None or options.no_wait or options.echo or options.explain:
        raise UsageError("--continue is for listening", "leave out -o, -n, -e and --explain; -o goes on by itself")
    from kokoro_common.documents.bookmark import Bookmarks

    marks = Bookmarks(settings.cache_dir)
    if options.file is not None:
        mark = marks.of(_identities(options.file))
        if mark is None:
            raise UsageError(
                f"listening to {', '.join(options.file)} was not interrupted", "leave out --continue, or see --from"
            )
        return mark
    mark = marks.latest()
    if mark is None:
        raise UsageError("there is no document to go on with", f"a place is kept when {SAY} -f FILE is interrupted")
    options.file = list(mark.paths)
    note(f"going on with {', '.join(map(os.path.basename, mark.paths))}", quiet=options.quiet)
    return mark


def _identities(paths: list[str]) -> tuple[str, ...]:
    return tuple(map(os.path.realpath, paths))


def _files(options: Namespace) -> str:
    """The documents, as they are named in a command."""
    return " ".join(f"-f {shell_word(path)}" for path in options.file)


def _another_text(mark: Bookmark, document: Document, options: Namespace) -> UsageError:
    """The error of a file that has changed. `document`: as it is now, or some of its chapters."""
    problem = f"{', '.join(map(os.path.basename, mark.paths))} has another text than when listening stopped"
    there = mark.number <= (document.of or len(document.chapters))
    rest = f"--from {mark.number}" if there else "--list-chapters"
    return UsageError(problem, f"it was in chapter {mark.number}: {SAY} {_files(options)} {rest}")


def _has_places(options: Namespace, document: Document) -> bool:
    """Whether one can go on in the middle of it, and find it again."""
    from kokoro_common.recording.outfile import is_special

    if not options.file or any(path == "-" or is_special(path) for path in options.file):
        return False
    from kokoro_common.documents.choice import is_ssml

    return not (options.ssml or is_ssml(document.text))


class Listening:
    """One document that is being heard, and the bookmark in it. For one thread."""

    def __init__(self, options: Namespace, settings: Settings, document: Document, chapters: str) -> None:
        """`chapters`: those that `document` consists of, as --chapters has them; "": all."""
        from kokoro_common.documents.bookmark import Bookmarks

        self._marks: Bookmarks = Bookmarks(settings.cache_dir)
        self._paths = _identities(options.file)
        self._before = self._marks.of(self._paths)  # of an earlier call
        self._options = options
        self._quiet = options.quiet
        self._document = document
        self._chapters = chapters
        self._offset = 0  # in the document's text, of what is spoken now
        self._place = -1  # of the word that is heard, in the same text; -1: none was
        self._kept_at = time.monotonic()
        self._digest = ""
        self._complained = False

    def begin(self, mark: Bookmark, lang: str) -> TextSource:
        """The text from the beginning of the sentence in which the bookmark lies. `lang`: a letter, key of LANGUAGES.
        Raises UsageError if it is in another text."""
        from kokoro_common.client.text_source import TextSource
        from kokoro_common.documents.bookmark import sentence_at

        text = self._document.text
        if self._text_digest() != mark.digest or mark.place > len(text):
            raise _another_text(mark, self._document, self._options)
        self._offset = sentence_at(text, mark.place, lang)
        note(f"going on in chapter {mark.number}, at {mark.place / max(len(text), 1):.0%}", quiet=self._quiet)
        return TextSource(text[self._offset :])

    def hear(self, event: Event) -> None:
        """Remembers the word; now and then it is written down, in case this process is killed."""
        from kokoro_common.wire.messages import Progress

        if isinstance(event, Progress) and event.word_end > event.word_start:
            self._place = self._offset + event.word_start
            if time.monotonic() - self._kept_at >= KEEP_SECONDS:
                self._keep()

    def end(self, *, heard_all: bool) -> None:
        """Removes the bookmark after the last word, else keeps it and says so. One that an earlier call left in other
        chapters than these counts again."""
        before = self._before
        if heard_all and before is not None and self._document.of and before.chapters != self._chapters:
            self._write(lambda: self._marks.keep(before))
        elif heard_all:
            self._write(lambda: self._marks.remove(self._paths))
        elif self._place >= 0:
            self._keep()
            if not self._complained:
                note("the place is kept", f"to go on: {SAY} {_files(self._options)} --continue", quiet=self._quiet)

    def _keep(self) -> None:
        from kokoro_common.documents.bookmark import Bookmark

        chapters = self._document.chapters
        at = max((index for index, each in enumerate(chapters) if each.start <= self._place), default=0)
        mark = Bookmark(
            paths=self._paths,
            digest=self._text_digest(),
            place=self._place,
            chapters=self._chapters,
            number=chapters[at].number or at + 1,
        )
        self._write(lambda: self._marks.keep(mark))
        self._kept_at = time.monotonic()

    def _text_digest(self) -> str:
        from kokoro_common.documents.bookmark import digest_of

        self._digest = self._digest or digest_of(self._document.text)
        return self._digest

    def _write(self, act: Callable[[], None]) -> None:
        """Says once that it cannot be written: speech goes on."""
        try:
            act()
        except OSError as error:
            if not self._complained:
                note(f"the place in the document cannot be kept: {error.strerror}", quiet=self._quiet)
            self._complained = True
