"""Files of one user: private directories, small files that are replaced in one step, temporary files that nobody holds
any more; the working directory.

A temporary file is locked (flock) as long as a process works on it, so after a `kill -9` the next process that works in
that directory can tell that it is abandoned.
"""

from __future__ import annotations

import errno
import os
import re
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MAX_LINKS = 40  # on the way to a path, as the kernel has it


def private_directory(path: str) -> str:
    """Makes a directory, and the parents it lacks, for the owner alone. Raises OSError. Returns the path."""
    if not os.path.isdir(path):
        private_directory(os.path.dirname(path))
        try:
            os.mkdir(path, 0o700)
            os.chmod(path, 0o700)  # the umask may have taken away the owner's own bits
        except FileExistsError:
            if not os.path.isdir(path):  # else another process made it at the same moment
                raise
    return path


def problem_above(path: str) -> str:
    """Why another user could put something else in the place of an absolute path; "" if only root and we can.

    Whoever owns a directory on the way may rename what is in it, and so may those who can write in it, unless it is
    sticky. What does not exist yet has no problem: ask once more when it has been made.
    """
    place, parts = "/", [part for part in reversed(path.split("/")[:-1]) if part not in ("", ".")]
    links = 0
    while True:
        try:
            found = os.lstat(place)
        except OSError:
            return ""
        if stat.S_ISLNK(found.st_mode):
            links += 1
            if links > MAX_LINKS:
                return f"lies below too many links at {place}"
            target = os.readlink(place)
            parts += [part for part in reversed(target.split("/")) if part not in ("", ".")]
        if not is_trusted(found.st_uid):
            return f"lies below {place}, which belongs to user {found.st_uid}"
        if stat.S_ISLNK(found.st_mode):
            place = "/" if target.startswith("/") else os.path.dirname(place)
        elif _is_open_to_others(found):
            return f"lies below {place}, where others may rename it"
        if not parts:
            return ""
        part = parts.pop()
        place = os.path.dirname(place) if part == ".." else os.path.join(place, part)


def is_trusted(uid: int) -> bool:
    """Whether a file of that user may decide what we do: our own, and root's, who can do everything anyway.

    In a user namespace without root the machine's files are seen as those of "nobody", who owns / as well.
    """
    return uid in (os.getuid(), 0) or uid == os.lstat("/").st_uid


def _is_open_to_others(found: os.stat_result) -> bool:
    """Whether users other than the owner may rename what is in a directory."""
    writers = found.st_mode & 0o022
    if found.st_gid == found.st_uid == os.getuid():
        writers &= 0o002  # the user's private group, as many systems make one for each user
    return bool(writers) and not found.st_mode & stat.S_ISVTX


def private_opener(path: str, flags: int) -> int:
    """For `open(..., opener=private_opener)`: the file is the owner's alone, whatever the umask. Raises OSError."""
    fd = os.open(path, flags | os.O_NONBLOCK, 0o600)  # opening a FIFO must not block
    if path != os.devnull:
        os.fchmod(fd, 0o600)  # the umask may have taken away the owner's own bits
    return fd


def open_for_lines(path: str) -> int:
    """A descriptor that appends to a file of ours, 0600, which is made, with its directory, if it is missing.

    Raises OSError for anything else under that name: a link, a FIFO, another user's file, one with a second name.
    """
    private_directory(os.path.dirname(path))
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    fd = os.open(path, flags, 0o600)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_nlink > 1:
            raise OSError(errno.EINVAL, "not a regular file of ours")
        os.fchmod(fd, 0o600)
    except OSError:
        os.close(fd)
        raise
    return fd


def read_regular(path: str, most: int, is_owner: Callable[[int], bool] | None = None) -> bytes:
    """All of a regular file, whose user's id has to satisfy `is_owner`, if that is given.

    Raises OSError, also for a FIFO or a device, which could block, and over `most` bytes.
    """
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        if is_owner is not None and not is_owner(found.st_uid):
            raise PermissionError(errno.EPERM, f"it belongs to user {found.st_uid}")
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    return data


def write_private(path: str, data: bytes) -> None:
    """Replaces a small file in one step, readable by the owner alone: a reader sees the old or the new one, whole.

    Files with other needs have their own way: the runtime directory goes by a descriptor, downloads and outputs are
    streamed, a render's identity is synced to the disk. Raises OSError.
    """
    folder, name = os.path.split(path)
    sweep(folder, rf"{re.escape(name)}\.\d{{1,10}}\.[0-9a-f]{{8}}")
    fd, temporary = make_temporary(folder, f"{name}.{os.getpid()}.", "", 4, 0o600)
    try:
        with open(fd, "wb") as file:
            os.fchmod(fd, 0o600)
            file.write(data)
            file.flush()
            os.replace(temporary, path)  # before it is closed: until then nobody sweeps it
    finally:
        try:
            os.unlink(temporary)
        except FileNotFoundError:
            pass  # it has its final name


def make_temporary(folder: str, begin: str, end: str, random: int = 8, mode: int = 0o666) -> tuple[int, str]:
    """A new file to write and read, and its path: `random` bytes in hex between `begin` and `end`. It is locked until
    its last descriptor is closed, so that `sweep` leaves it alone. Raises OSError."""
    import fcntl

    while True:
        path = os.path.join(folder, f"{begin}{os.urandom(random).hex()}{end}")
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)  # a sweep may hold it for a moment
        except OSError:
            return fd, path  # a file system without locks, where nothing is ever swept
        if _is_at(fd, path):
            return fd, path
        os.close(fd)  # swept between the two calls


def sweep(folder: str, pattern: str) -> None:
    """Removes temporary files that no living process holds: our own, regular ones whose names are like `pattern`, made
    by `make_temporary`. Raises nothing: what cannot be looked at or removed stays. Blocks on the disk only."""
    import fcntl

    try:
        names = [name for name in os.listdir(folder or ".") if re.fullmatch(pattern, name)]
    except OSError:
        return
    for name in names:
        path = os.path.join(folder, name)
        try:
            # O_NONBLOCK: a pipe of that name must not keep us. Over NFS only a file that is open for writing can
            # be locked.
            fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            found = os.fstat(fd)
            if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid():
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_at(fd, path):  # else it got its final name, or another sweep was faster
                    os.unlink(path)
        except OSError:
            pass  # a process is at work on it, or the file system has no locks
        finally:
            os.close(fd)


def _is_at(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except FileNotFoundError:
        return False


def working_directory() -> str:
    """The root directory if the current one has been removed."""
    try:
        return os.getcwd()
    except OSError:
        return "/"
