"""Where listening to a document was interrupted: a small file for each document, in the cache, readable by its owner.

    bookmarks/DIGEST.json   of the paths: paths, digest of the text, chosen chapters, place in that text

No text is kept. There are at most MAX_BOOKMARKS; the oldest goes first.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat

from kokoro_common.files import private_directory, write_private
from kokoro_common.record import Record
from kokoro_common.text.chunker import Chunker
from kokoro_common.text.marks import CLOSERS, STOPS, WIDE_STOPS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_BOOKMARKS = 100
MAX_BYTES = 64 << 10  # of a file; paths have at most 4 KiB each
PARAGRAPH = 20_000  # characters before a place in which the beginning of its sentence is looked for
NAME = r"[0-9a-f]{32}\.json"  # of a file, whole
_ENDS = (*STOPS, *WIDE_STOPS, ".", "…")


class Bookmark(Record):
    paths: tuple[str, ...]  # absolute, in the order in which they are read
    digest: str  # of the text that was being heard
    place: int  # characters of that text before the word that was heard last
    chapters: str = ""  # as --chapters has them; "": all
    number: int = 1  # of the chapter that was being heard


class Bookmarks:
    """Those of one user. Methods raise OSError where they write, nothing where they read. Blocks on the disk."""

    def __init__(self, cache_dir: str) -> None:
        self._folder = os.path.join(cache_dir, "bookmarks")

    def keep(self, bookmark: Bookmark) -> None:
        """Replaces an earlier one of the same files, and removes the oldest if there are too many."""
        private_directory(self._folder)
        write_private(self._path(bookmark.paths), json.dumps(bookmark.as_dict()).encode())
        for name in self._names()[MAX_BOOKMARKS:]:
            os.unlink(os.path.join(self._folder, name))

    def remove(self, paths: Sequence[str]) -> None:
        try:
            os.unlink(self._path(paths))
        except FileNotFoundError:
            pass

    def of(self, paths: Sequence[str]) -> Bookmark | None:
        """That of these files; None also for a file that is damaged."""
        found = self._read(self._path(paths))
        return found if found is not None and found.paths == tuple(paths) else None

    def latest(self) -> Bookmark | None:
        """The one that was kept last."""
        found = (self._read(os.path.join(self._folder, name)) for name in self._names())
        return next((each for each in found if each is not None), None)

    def _path(self, paths: Sequence[str]) -> str:
        digest = hashlib.sha256("\0".join(paths).encode("utf-8", "surrogateescape")).hexdigest()
        return os.path.join(self._folder, f"{digest[:32]}.json")

    def _names(self) -> list[str]:
        """The latest first."""
        times: dict[str, int] = {}
        try:
            for name in os.listdir(self._folder):
                if re.fullmatch(NAME, name):
                    times[name] = os.lstat(os.path.join(self._folder, name)).st_mtime_ns
        except OSError:
            pass  # there is none, or another process removes them
        return sorted(times, key=lambda name: times[name], reverse=True)

    def _read(self, path: str) -> Bookmark | None:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(fd, "rb") as file:
                if not stat.S_ISREG(os.fstat(fd).st_mode):
                    return None
                fields = json.loads(file.read(MAX_BYTES))
            paths = tuple(fields["paths"])
            found = Bookmark(**{**fields, "paths": paths})
        except (OSError, ValueError, TypeError, KeyError):
            return None
        right = all(isinstance(each, str) for each in (*paths, found.digest, found.chapters)) and paths
        counts = all(type(each) is int and each >= 0 for each in (found.place, found.number))
        return found if right and counts else None


def digest_of(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def sentence_at(text: str, place: int, lang: str) -> int:
    """Where the sentence begins that a place lies in. `lang`: a letter, key of LANGUAGES."""
    place = min(place, len(text))
    begin = max(0, place - PARAGRAPH)
    for blank in re.compile(r"\n[ \t\r]*\n").finditer(text, begin, place):
        begin = blank.end()
    chunker = Chunker(lang)
    start, ended = begin, True
    for chunk in (*chunker.feed(text[begin : place + 1]), *chunker.finish()):
        if ended:
            start = begin + chunk.start
        ended = chunk.text.rstrip(CLOSERS).endswith(_ENDS)
    return start
