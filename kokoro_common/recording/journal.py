"""The journal of an unfinished render, in a hidden folder beside its output: the next call continues from it.

    render.json   identity of the render, and the engine that began it
    audio.f32     float32, mono, SAMPLE_RATE: complete text chunks, then possibly an incomplete one
    done.txt      a line for each file that has been encoded
    chunks.jsonl  a line for each complete text chunk: its words, the number of its frames and their checksum

A text chunk counts if its line is there and its audio matches the checksum; everything after it is cut off. So the
process may be killed and the power may fail at any time: at most the last seconds are rendered once more.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import stat
import time
import zlib

from kokoro_common.errors import OutputError, UsageError, shell_word
from kokoro_common.files import read_regular
from kokoro_common.recording.outfile import output_error
from kokoro_common.settings import ENGINES
from kokoro_common.sound.samples import SAMPLE_RATE
from kokoro_common.wire.codec import built, form_of
from kokoro_common.wire.messages import ChunkSpoken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from kokoro_common.sound.samples import Samples

BYTES_PER_FRAME = 4
SYNC_SECONDS = 5.0  # between two calls of fsync: the most that a power failure can cost
WORTH_KEEPING = 60.0  # seconds of audio; less is rendered again sooner than the user would look for it
LOCK_ATTEMPTS = 10
_READ_BYTES = 1 << 16
_ABANDONED = r"\.kokoro-once-\w{8}\.part|\.kokoro-[\w-]{1,40}\.part\.[0-9a-f]{8}\.part"
_BLOCK = SAMPLE_RATE * BYTES_PER_FRAME


def sweep_folders(parent: str) -> None:
    """Removes folders that a killed process left and that nobody will continue: those being removed, and those of a
    render that cannot be continued, unless a process holds it. Raises nothing."""
    try:
        names = [name for name in os.listdir(parent) if re.fullmatch(_ABANDONED, name)]
    except OSError:
        return
    for name in names:
        folder = os.path.join(parent, name)
        try:
            status = os.lstat(folder)
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
                continue
            lock = os.open(
                folder if name.count(".part") > 1 else os.path.join(folder, "lock"), os.O_RDONLY | os.O_CLOEXEC
            )
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
        except FileNotFoundError:
            with contextlib.suppress(OSError):
                os.rmdir(folder)  # its maker was killed before it made the lock, or makes the folder once more
        except OSError:
            pass  # a process is at work in it


def _chunk_of(line: bytes) -> tuple[ChunkSpoken, int]:
    """A text chunk and the CRC-32 of its audio. Raises ValueError for a line that is damaged."""
    try:
        fields = json.loads(line)
        checksum = fields.pop("checksum")
        chunk: ChunkSpoken = built(ChunkSpoken, {"utterance": "", **fields})
        numbers = [checksum, chunk.index, chunk.start, chunk.frames, *chunk.places]
        for word in chunk.words:
            numbers += [word.start, word.end, word.first_frame, word.last_frame]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("no text chunk") from error
    if type(chunk.text) is not str or not all(type(number) is int and 0 <= number < 1 << 53 for number in numbers):
        raise ValueError("a field of another type")
    return chunk, checksum


class Journal:
    """For one thread, except `blocks`, `chunks` and `finish`, which another one may call. Raises OutputError.

    One process at a time holds a folder. Its open files stay usable even if the folder is removed.
    """

    def __init__(self, folder: str, identity: str, output: str, *, anonymous: bool = False) -> None:
        """`identity`: digest of everything the audio depends on. `output`: the file named in errors. `anonymous`: the
        render cannot be continued, so the folder is removed at once and only its open files are used.

        Raises UsageError if the folder holds another render that is worth keeping."""
        self._folder = folder
        self._output = output
        self._descriptors: list[int] = []
        self._anonymous = anonymous
        self._made = anonymous  # whether we made the folder, so that it may be removed
        self.engine = ""  # the engine that began the render
        self.frames = 0  # in complete text chunks
        self.count = 0  # complete text chunks
        self._size = 0  # bytes of their lines
        self._checksum = 0  # CRC-32 of the incomplete text chunk's audio
        self._written = 0  # bytes of that audio
        self._next_sync = 0.0
        self.done: dict[str, str] = {}  # path to key, as `finish` was called last
        try:
            self._lock()
            self._sweep()
            self._audio, self._lines = self._open("audio.f32"), self._open("chunks.jsonl")
            self._done = self._open("done.txt")
            self._read_identity(identity)
            self._restore()
            if anonymous:
                shutil.rmtree(folder, ignore_errors=True)
        except OSError as error:
            self._give_up()
            raise output_error(output, error) from error
        except BaseException:
            self._give_up()
            raise

    def _give_up(self) -> None:
        """Removes the folder if we made it; what an earlier process has left stays."""
        if self._made:
            self.remove()
        else:
            self.close()

    def _make_folder(self) -> None:
        try:
            os.mkdir(self._folder, 0o700)
            self._made = True
        except FileExistsError:
            status = os.lstat(self._folder)
            if (
                not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid()
            ):  # others may write to the parent folder
                raise OutputError(f"{self._folder} is in the way", "remove it, or choose another folder") from None

    def _lock(self) -> None:
        """Makes and locks the folder. Tries again if another process, which has finished, removes it meanwhile."""
        for _ in range(LOCK_ATTEMPTS):
            self._make_folder()
            try:
                lock = self._open("lock")
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(lock), os.stat(os.path.join(self._folder, "lock"))):
                    return
            except (BlockingIOError, FileNotFoundError):
                pass
            self.close()
        raise OutputError(f"{self._output} is being written by another call", "wait for it")

    def _sweep(self) -> None:
        """Removes files that were being encoded when a process was killed."""
        for name in os.listdir(self._folder):
            if name.endswith(".part"):
                os.unlink(os.path.join(self._folder, name))

    def _open(self, name: str) -> int:
        descriptor = os.open(os.path.join(self._folder, name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._descriptors.append(descriptor)
        return descriptor

    def _read_identity(self, identity: str) -> None:
        self._identity = identity
        path = os.path.join(self._folder, "render.json")
        known: object = None
        if os.path.exists(path):
            try:
                known = json.loads(read_regular(path, _READ_BYTES))
            except (ValueError, RecursionError):
                pass  # the power failed while it was written
        if isinstance(known, dict) and known.get("identity") == identity and known.get("engine") in ("", *ENGINES):
            self.engine = known["engine"]
            return
        seconds = os.fstat(self._audio).st_size / BYTES_PER_FRAME / SAMPLE_RATE
        if seconds >= WORTH_KEEPING:
            raise UsageError(
                f"{seconds / 60:.0f} min of {self._output} as something else are kept",
                f"go on with the same text and options, or begin anew: rm -r {shell_word(self._folder)}",
            )
        self._cut_off()
        os.ftruncate(self._done, 0)
        self._write_identity()

    def _write_identity(self) -> None:
        path = os.path.join(self._folder, "render.json")
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            json.dump({"identity": self._identity, "engine": self.engine}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(f"{path}.new", path)

    def _restore(self) -> None:
        """Counts the text chunks that are complete, and cuts off what follows them."""
        with open(self._audio, "rb", closefd=False) as audio, open(self._lines, "rb", closefd=False) as lines:
            left = os.fstat(self._audio).st_size
            for line in lines:
                try:
                    chunk, checksum = _chunk_of(line)
                except ValueError:
                    break
                frames = chunk.frames
                left -= frames * BYTES_PER_FRAME
                data = audio.read(frames * BYTES_PER_FRAME) if left >= 0 else b""
                if not line.endswith(b"\n") or len(data) < frames * BYTES_PER_FRAME or zlib.crc32(data) != checksum:
                    break
                self.count += 1
                self.frames += frames
                self._size += len(line)
        self._cut_off()
        with open(self._done, "rb", closefd=False) as done:
            for entry in done:
                try:
                    path, key = json.loads(entry) if entry.endswith(b"\n") else ("", "")
                except (ValueError, TypeError, RecursionError):
                    continue  # that file is encoded once more
                if isinstance(path, str) and isinstance(key, str):
                    self.done[path] = key

    def _cut_off(self) -> None:
        os.ftruncate(self._audio, self.frames * BYTES_PER_FRAME)
        os.ftruncate(self._lines, self._size)
        self._checksum = self._written = 0

    def begun_by(self, engine: str) -> None:
        """Notes the engine: a render must be continued by the same one."""
        if engine != self.engine:
            self.engine = engine
            if self._anonymous:
                return  # nobody will continue it, and its folder is gone
            try:
                self._write_identity()
            except OSError as error:
                raise output_error(self._output, error) from error

    def write(self, pcm: bytes) -> None:
        """Audio of the text chunk that comes now, float32 little-endian."""
        self._append(self._audio, pcm, self.frames * BYTES_PER_FRAME + self._written)
        self._checksum = zlib.crc32(pcm, self._checksum)
        self._written += len(pcm)

    def add(self, chunk: ChunkSpoken) -> None:
        """All audio of this text chunk has been written."""
        fields = chunk.as_dict()
        del fields["utterance"]
        line = json.dumps(fields | {"checksum": self._checksum}, ensure_ascii=False, default=form_of).encode(
            "utf-8", "replace"
        )
        line += b"\n"
        synchronous = time.monotonic() >= self._next_sync
        if synchronous:
            self._sync(self._audio)
        self._append(self._lines, line, self._size)
        if synchronous:
            self._sync(self._lines)
            self._next_sync = time.monotonic() + SYNC_SECONDS
        self.count += 1
        self.frames += chunk.frames
        self._size += len(line)
        self._checksum = self._written = 0

    def finish(self, path: str, key: str) -> None:
        """Notes that a file has been encoded; `key` identifies its content. For the encoding thread."""
        self._append(self._done, f"{json.dumps([path, key])}\n".encode(), os.fstat(self._done).st_size)
        self.done[path] = key

    def drop_unfinished(self) -> None:
        """Drops the incomplete text chunk, which will be sent once more from its beginning."""
        try:
            self._cut_off()
        except OSError as error:
            raise output_error(self._output, error) from error

    def chunks(self, place: int = 0) -> Iterator[tuple[int, ChunkSpoken]]:
        """The complete text chunks from this place on, each with the place of the next one."""
        buffer = b""
        end = place  # of the bytes read so far
        while place < self._size:
            line, newline, rest = buffer.partition(b"\n")
            if not newline:
                buffer += os.pread(self._lines, _READ_BYTES, end)
                end = place + len(buffer)
                continue
            buffer = rest
            place += len(line) + 1
            yield place, _chunk_of(line)[0]

    @property
    def place(self) -> int:
        """Offset after the last complete text chunk, for `chunks`."""
        return self._size

    def blocks(self, first: int, last: int) -> Iterator[Samples]:
        """The frames from `first` up to `last`, float32, in blocks of a second."""
        import numpy as np

        place, end = first * BYTES_PER_FRAME, last * BYTES_PER_FRAME
        while place < end:
            data = os.pread(self._audio, min(end - place, _BLOCK), place)
            if not data:
                raise OutputError(f"{self._output} cannot be written: its audio is no more", "render it again")
            place += len(data)
            yield np.frombuffer(data, "<f4")

    def close(self) -> None:
        """Closes the files and keeps the folder for the next call. Idempotent."""
        while self._descriptors:
            os.close(self._descriptors.pop())

    def remove(self) -> None:
        """Removes the folder, renaming it first: another process finds all of it or nothing."""
        gone = f"{self._folder}.{os.urandom(4).hex()}.part"
        try:
            os.rename(self._folder, gone)
            shutil.rmtree(gone, ignore_errors=True)  # a rest does no harm
        except OSError:
            pass  # it has been removed, or the parent folder is read-only by now
        self.close()

    def _append(self, descriptor: int, data: bytes, place: int) -> None:
        rest = memoryview(data)
        try:
            while rest:
                written = os.pwrite(descriptor, rest, place)
                rest, place = rest[written:], place + written
        except OSError as error:
            raise output_error(self._output, error) from error

    def _sync(self, descriptor: int) -> None:
        try:
            os.fsync(descriptor)
        except OSError as error:
            raise output_error(self._output, error) from error
