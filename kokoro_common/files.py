"""Files of one user: private directories, and small files that are replaced in one step; the working directory."""

from __future__ import annotations

import os


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
    temporary = f"{path}.{os.getpid()}.{os.urandom(4).hex()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:
            os.fchmod(fd, 0o600)
            file.write(data)
        os.replace(temporary, path)
    finally:
        try:
            os.unlink(temporary)
        except FileNotFoundError:
            pass  # it has its final name


def working_directory() -> str:
    """The root directory if the current one has been removed."""
    try:
        return os.getcwd()
    except OSError:
        return "/"
