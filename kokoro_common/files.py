"""Files of one user: private directories, small files that are replaced in one step, temporary files that nobody holds
any more; the working directory.

A temporary file is locked (flock) as long as a process works on it, so after a `kill -9` the next process that works in
that directory can tell that it is abandoned.
"""

from __future__ import annotations

import os
import re
import stat


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


def private_opener(path: str, flags: int) -> int:
    """For `open(..., opener=private_opener)`: the file is the owner's alone, whatever the umask. Raises OSError."""
    fd = os.open(path, flags, 0o600)
    if path != os.devnull:
        os.fchmod(fd, 0o600)  # the umask may have taken away the owner's own bits
    return fd


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


def belongs_to_us(status: os.stat_result) -> bool:
    """Whether a file's owner is this user, or root, who could read and change all of ours anyway."""
    return status.st_uid in (0, os.geteuid())


def working_directory() -> str:
    """The root directory if the current one has been removed."""
    try:
        return os.getcwd()
    except OSError:
        return "/"
