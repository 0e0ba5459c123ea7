"""The runtime directory: records, the token and the locks of one user's servers. Nothing here trusts what another made.

Every file is reached through a descriptor of the directory that was checked once, so a later swap of a path is not
followed. Files are 0600 and directories 0700 whatever the umask. No other user's file is ever changed or followed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from kokoro_common.errors import ServersUnreachable

SHARED_PARENT = "/tmp/kokoro_socket"  # sticky and open to all: each user makes a directory of their own in it
TOKEN_BYTES = 32  # 256 bit
MAX_FILE_BYTES = 64 << 10  # a record or token; what is longer was not written by us


def private_directory(path: str) -> str:
    """Makes a directory, and the parents it lacks, for the owner alone. Raises OSError. Returns the path."""
    if not os.path.isdir(path):
        private_directory(os.path.dirname(path))
        try:
            os.mkdir(path, 0o700)
            os.chmod(path, 0o700)  # the umask may have taken away the owner's own bits
        except FileExistsError:
            pass  # another process made it at the same moment
    return path


class RuntimeDirectory:
    """One user's directory. Raises ServersUnreachable (6) when it cannot be made or is not safe to use."""

    def __init__(self, path: str = "") -> None:
        """An empty path means the default below SHARED_PARENT. Does not block."""
        self.path = path or _default_path()
        try:
            private_directory(self.path)
            self._fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise ServersUnreachable(
                f"the runtime directory {self.path} cannot be used: {error.strerror}",
                "remove what is in its place or set KOKORO_RUNTIME_DIR",
            ) from error
        found = os.fstat(self._fd)
        if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise ServersUnreachable(
                f"the runtime directory {self.path} is open to other users",
                "make it yours with mode 0700 or set KOKORO_RUNTIME_DIR",
            )

    def read(self, name: str) -> bytes | None:
        """The whole file, or None when it is absent, a link, another user's, or too long to be ours."""
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._fd)
        except OSError:
            return None
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid() or found.st_size > MAX_FILE_BYTES:
                return None
            return os.read(fd, MAX_FILE_BYTES)
        finally:
            os.close(fd)

    def write(self, name: str, data: bytes) -> None:
        """Replaces the file at once: a reader sees the old or the new one, whole."""
        temporary = self._write_temporary(name, data)
        try:
            os.rename(temporary, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        except IsADirectoryError:
            os.rmdir(name, dir_fd=self._fd)  # somebody put a directory in the file's place
            os.rename(temporary, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def remove(self, name: str) -> None:
        try:
            os.unlink(name, dir_fd=self._fd)
        except FileNotFoundError:
            pass

    def names(self) -> list[str]:
        return sorted(os.listdir(self._fd))

    def token(self) -> bytes:
        """The secret of this directory's servers, made by whoever comes first: link() has one winner."""
        known = self.read("token")
        if known is not None and len(known) == TOKEN_BYTES:
            return known
        if known is not None:
            self.remove("token")  # ours but damaged: no server can hold it
        temporary = self._write_temporary("token", os.urandom(TOKEN_BYTES))
        try:
            os.link(temporary, "token", src_dir_fd=self._fd, dst_dir_fd=self._fd, follow_symlinks=False)
        except FileExistsError:
            pass  # another process was first
        finally:
            os.unlink(temporary, dir_fd=self._fd)
        known = self.read("token")
        if known is None or len(known) != TOKEN_BYTES:
            raise ServersUnreachable(f"{self.path}/token is not ours", "remove it")
        return known

    def lock(self, name: str, *, wait: bool) -> int | None:
        """A descriptor that holds an exclusive flock on the file; closing its last copy releases it.

        None when `wait` is false and another process holds it. With `wait` it blocks without a limit.
        """
        while True:
            fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self._fd)
            os.fchmod(fd, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except OSError as error:
                os.close(fd)
                if error.errno in (errno.EAGAIN, errno.EACCES):
                    return None
                raise
            if self._is_still(name, fd):
                return fd
            os.close(fd)  # the file was removed while we waited: a lock on it excludes nobody

    def _is_still(self, name: str, fd: int) -> bool:
        try:
            found = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(found, os.fstat(fd))

    def _write_temporary(self, name: str, data: bytes) -> str:
        temporary = f".{name}.{os.getpid()}.{os.urandom(4).hex()}"
        fd = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self._fd
        )
        try:
            os.fchmod(fd, 0o600)
            os.write(fd, data)
        finally:
            os.close(fd)
        return temporary


def _default_path() -> str:
    """Below SHARED_PARENT, or beside it when somebody made that one unsafe: never in a directory others may rewrite."""
    own = str(os.getuid())
    try:
        os.mkdir(SHARED_PARENT, 0o1777)
        os.chmod(SHARED_PARENT, 0o1777)
    except FileExistsError:
        pass
    except OSError:
        return f"{SHARED_PARENT}-{own}"
    found = os.lstat(SHARED_PARENT)
    sticky = found.st_mode & stat.S_ISVTX or not found.st_mode & 0o022
    if not stat.S_ISDIR(found.st_mode) or not sticky:
        return f"{SHARED_PARENT}-{own}"
    return os.path.join(SHARED_PARENT, own)
