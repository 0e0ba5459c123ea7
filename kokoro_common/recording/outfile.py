"""A file that appears under its name when it is complete, and not before: audio, captions.

Until `commit()` the bytes are in a hidden temporary file beside the final one, which is then replaced in one step. What
a killed process left there is removed by the next that writes in that directory.
Pipes and devices (/dev/null) are written directly. "-" is the standard output.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from kokoro_common.errors import OutputError
from kokoro_common.files import make_temporary, sweep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

STANDARD_OUTPUT = ("-", "/dev/stdout")


class OutputFile:
    """For one thread. Blocks on the disk or on the pipe's reader; opening a fifo waits for its reader.

    Raises OutputError, but not in `write`: encoders call it from C code, where an exception would be lost. Its error is
    kept, and `checked` raises it.
    """

    def __init__(self, path: str, scratch: str = "") -> None:
        """`scratch`: a folder beside the final file, for the temporary one; a killed process leaves it there."""
        self.path = path
        self._error: OSError | None = None
        self._begin = -1  # offset in a file on the standard output at which ours begins; -1: one cannot go back
        try:
            self._descriptor, self._temporary, self._final = _open(path, scratch)
            if path in STANDARD_OUTPUT:
                self._begin = _offset(self._descriptor)
        except OSError as error:
            raise output_error(path, error) from error

    @property
    def regular(self) -> bool:
        """Whether one can seek in it."""
        return bool(self._temporary)

    def mend(self, data: bytes, behind: int) -> bool:
        """Replaces the first bytes of what was written through the standard output, if that is a file in which one can
        go back, and nothing but our `behind` bytes stands between them and the place of writing. Whether it was done.

        Not so in a pipe, after >> (where the kernel writes at the end whatever the place), and when another process
        wrote through the same descriptor.
        """
        if self._begin < 0:
            return False
        try:
            if os.lseek(self._descriptor, 0, os.SEEK_CUR) != self._begin + behind:
                return False
            if os.fstat(self._descriptor).st_size < self._begin + behind:
                return False  # it was made shorter meanwhile
            os.pwrite(self._descriptor, data, self._begin)
        except OSError as error:
            self._error = error
        return True

    @contextlib.contextmanager
    def checked(self) -> Iterator[None]:
        """Raises the error of a `write` within the block, whatever the encoder made of it."""
        try:
            yield
        finally:
            if self._error is not None:
                raise output_error(self.path, self._error)

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Returns how many bytes were written: fewer only if there was an error, which is kept."""
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError as error:
            self._error = error
        return len(data) - len(rest)

    def read(self, size: int) -> bytes:
        """Reads back what was written, as some encoders do; only in a regular file."""
        return os.read(self._descriptor, size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return os.lseek(self._descriptor, offset, whence)

    def tell(self) -> int:
        return os.lseek(self._descriptor, 0, os.SEEK_CUR)

    def commit(self) -> None:
        """Waits until all is on the disk and puts it under its name. Discards if that fails."""
        try:
            with self.checked():
                pass
            if self._temporary:
                os.fsync(self._descriptor)
                os.replace(self._temporary, self._final)  # before it is closed: until then nobody sweeps it
                self._temporary = ""
            self._close()
        except OSError as error:
            self.discard()
            raise output_error(self.path, error) from error
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Removes the temporary file; an earlier file of that name stays. Does nothing after `commit()`."""
        with contextlib.suppress(OSError):  # a delayed write that fails now does not matter
            self._close()
        if self._temporary:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._temporary)
            self._temporary = ""

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def identity(path: str) -> str:
    """The same for two names of one file."""
    return "-" if path in STANDARD_OUTPUT else os.path.realpath(path)


def is_special(path: str) -> bool:
    """Whether it is the standard output, a pipe or a device, which cannot be replaced by a new file."""
    return path in STANDARD_OUTPUT or (os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path))


def output_error(path: str, error: OSError) -> OutputError:
    """One line with a remedy."""
    name = "standard output" if path in STANDARD_OUTPUT else path
    reason = (error.strerror or str(error)).lower()
    remedies = {
        errno.ENOENT: "make the folder first",
        errno.ENOSPC: "free some space or choose another folder",
        errno.EPIPE: "keep its reader running to the end",
    }
    remedy = remedies.get(error.errno or 0, "choose another file or folder")
    return OutputError(f"{name} cannot be written: {reason}", remedy)


def _offset(descriptor: int) -> int:
    """Where the next byte goes in a regular file; -1 for anything else, and for one that is only appended to."""
    import fcntl

    if not stat.S_ISREG(os.fstat(descriptor).st_mode) or fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_APPEND:
        return -1
    return os.lseek(descriptor, 0, os.SEEK_CUR)


def _open(path: str, scratch: str) -> tuple[int, str, str]:
    """Descriptor to write to, temporary name, final name; both names are empty where one writes directly."""
    if path in STANDARD_OUTPUT:
        return os.dup(1), "", ""
    mode = None
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)  # changes nothing, and fails where writing would
    except FileNotFoundError:
        pass
    else:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            return descriptor, "", ""
        os.close(descriptor)
    final = os.path.realpath(path)  # a symbolic link stays; the file it leads to is replaced
    folder = os.path.dirname(final)
    if os.path.dirname(scratch) == folder and os.path.isdir(scratch):
        folder = scratch
    sweep(os.path.dirname(final), r"\.kokoro-file-[0-9a-f]{16}\.part")
    # Not named after the final file: its name may already have the greatest length.
    descriptor, temporary = make_temporary(folder, ".kokoro-file-", ".part")
    if mode is not None:
        os.fchmod(descriptor, stat.S_IMODE(mode))  # a private file stays private
    return descriptor, temporary, final
