"""The runtime directory: records, the token and the locks of one user's servers. Trusts no file of others.

Every file is reached through a descriptor of the directory that was checked once, so a later swap of a path is not
followed. Files are 0600 and directories 0700 whatever the umask. No other user's file is ever changed or followed; what
others left under our names in our own directory is taken out of it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from kokoro_common.errors import ServersUnreachable
from kokoro_common.files import private_directory, problem_above

SHARED_PARENT = "/tmp/kokoro_socket"  # sticky and open to all: each user makes a directory of their own in it
SESSION_PARENT = "/run/user"  # where XDG_RUNTIME_DIR lies, for a process that was started without it
LIBRARIES = ".kokoro-espeak"  # the model server's copies; goes with all in it, so nothing of a user's is called so
TOKEN_BYTES = 32  # 256 bit
MAX_FILE_BYTES = 64 << 10  # longer than any record or token of ours


class RuntimeDirectory:
    """One user's directory. Raises ServersUnreachable (6) when it cannot be made or is not safe to use.

    While a process has one it holds a shared flock on it: systemd-tmpfiles does not clean up what is locked.
    """

    _fd = -1  # open on the directory, whose path is not used again

    def __init__(self, path: str = "") -> None:
        """An empty path means the default; `note` tells the user if that is not the usual one. Does not block."""
        self.path, self.note = (path, "") if path else _default_path()
        self._token = b""  # as this process knows it
        try:
            private_directory(self.path)
            self._fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise self._unusable(error, "remove what is in its place or set KOKORO_RUNTIME_DIR") from error
        if problem := _problem_of(os.fstat(self._fd)):
            raise ServersUnreachable(
                f"the runtime directory {self.path} {problem}", "make it yours with mode 0700 or set KOKORO_RUNTIME_DIR"
            )
        if problem := problem_above(self.path):
            raise ServersUnreachable(
                f"the runtime directory {self.path} {problem}",
                "set KOKORO_RUNTIME_DIR to one that only you and root can move",
            )
        try:
            fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            pass  # a clean-up has it locked at this moment

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def is_found(self) -> bool:
        """Whether the path still leads here: another process that goes by it would find the same directory."""
        try:
            found = os.stat(self.path, follow_symlinks=False)
        except OSError:
            return False
        return os.path.samestat(found, os.fstat(self._fd))

    def read(self, name: str) -> bytes | None:
        """The whole file, or None when it is absent, a link, another user's, or too long to be ours."""
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._fd)
        except OSError:
            return None
        try:
            found = os.fstat(fd)
            return os.read(fd, MAX_FILE_BYTES) if _is_own(found) and found.st_size <= MAX_FILE_BYTES else None
        finally:
            os.close(fd)

    def write(self, name: str, data: bytes) -> None:
        """Replaces the file at once: a reader sees the old or the new one, whole. Raises OSError."""
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
        """The secret of this directory's servers, made by the first process: link() has one winner.

        One that is damaged, another's or open to others is replaced: no server of ours can hold it. A process that
        knows the token puts it back where somebody removed it.
        """
        try:
            known = self._good_token() or self._made_token()
            if known is None:
                repair = self.lock("token.lock", wait=True)  # else two would remove each other's good one
                assert repair is not None
                try:
                    if self._good_token() is None:
                        self._clear("token")
                    known = self._made_token()
                finally:
                    os.close(repair)
        except OSError as error:
            raise self._unusable(error, "make room there or set KOKORO_RUNTIME_DIR") from error
        if known is None:
            raise ServersUnreachable(f"{self.path}/token is not ours", "remove it")
        self._token = known
        return known

    def _good_token(self) -> bytes | None:
        try:
            if stat.S_IMODE(os.stat("token", dir_fd=self._fd, follow_symlinks=False).st_mode) & 0o077:
                return None  # under a second name, in a directory of others, they could have read it
        except FileNotFoundError:
            return None
        known = self.read("token")
        return known if known is not None and len(known) == TOKEN_BYTES else None

    def _made_token(self) -> bytes | None:
        """Our token, or that of another process which was faster; None when something else has the name."""
        temporary = self._write_temporary("token", self._token or os.urandom(TOKEN_BYTES))
        try:
            os.link(temporary, "token", src_dir_fd=self._fd, dst_dir_fd=self._fd, follow_symlinks=False)
        except FileExistsError:
            pass
        finally:
            os.unlink(temporary, dir_fd=self._fd)
        return self._good_token()

    def lock(self, name: str, *, wait: bool) -> int | None:
        """A descriptor that holds an exclusive flock on the file; closing its last copy releases it.

        None when `wait` is false and another process holds it. With `wait` it blocks without a limit.
        Raises ServersUnreachable when the file cannot be made.
        """
        while True:
            try:
                fd = self._opened_lock(name)
            except OSError as error:
                raise self._unusable(error, "make room there or set KOKORO_RUNTIME_DIR") from error
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except OSError as error:
                os.close(fd)
                if error.errno in (errno.EAGAIN, errno.EACCES):
                    return None
                raise
            if self.is_still(name, fd):
                return fd
            os.close(fd)  # the file was removed while we waited: a lock on it excludes nobody

    def overwrite(self, fd: int, data: bytes) -> None:
        """Replaces the contents of a locked file in one padded write: a reader sees the old or the new ones, whole."""
        try:
            size = os.fstat(fd).st_size
            os.pwrite(fd, data.ljust(min(size, MAX_FILE_BYTES)), 0)
            if size > MAX_FILE_BYTES:  # not by us
                os.ftruncate(fd, MAX_FILE_BYTES)
        except OSError as error:
            raise self._unusable(error, "make room there or set KOKORO_RUNTIME_DIR") from error

    def is_still(self, name: str, fd: int) -> bool:
        """Whether the name still leads to the file that is open here."""
        try:
            found = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(found, os.fstat(fd))

    def _opened_lock(self, name: str) -> int:
        """Opens a lock file for writing. A link, or a file with a second name, is replaced and not written to."""
        while True:
            try:
                fd = os.open(
                    name,
                    os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC,
                    0o600,
                    dir_fd=self._fd,
                )
            except OSError as error:
                if error.errno not in (errno.ELOOP, errno.EISDIR, errno.ENXIO):  # a link, a directory, a socket
                    raise
            else:
                found = os.fstat(fd)
                if _is_own(found) and found.st_nlink <= 1:  # whatever its size: somebody may hold it
                    os.fchmod(fd, 0o600)
                    return fd
                os.close(fd)
            self._clear(name)

    def _clear(self, name: str) -> None:
        """Takes whatever has this name out of our directory."""
        try:
            self.remove(name)
        except (IsADirectoryError, PermissionError):  # Linux and macOS say differently that it is a directory
            os.rmdir(name, dir_fd=self._fd)

    def _write_temporary(self, name: str, data: bytes) -> str:
        temporary = f".{name}.{os.getpid()}.{os.urandom(4).hex()}"
        fd = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self._fd
        )
        try:
            os.fchmod(fd, 0o600)
            if os.write(fd, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            os.unlink(temporary, dir_fd=self._fd)
            raise
        finally:
            os.close(fd)
        return temporary

    def _unusable(self, error: OSError, remedy: str) -> ServersUnreachable:
        return ServersUnreachable(f"the runtime directory {self.path} cannot be used: {error.strerror}", remedy)


def _default_path() -> tuple[str, str]:
    """The directory, and a line for the user if it is not the usual one below SHARED_PARENT.

    Where somebody made that one unsafe or was there first, all processes of the user go to the same other place, and
    stay there until it is removed: their servers are there.
    """
    uid = os.getuid()
    usual = os.path.join(SHARED_PARENT, str(uid))
    session = os.environ.get("XDG_RUNTIME_DIR") or os.path.join(SESSION_PARENT, str(uid))
    others = [os.path.join(session, "kokoro")] if _problem_at(session) == "" else []
    others.append(f"{SHARED_PARENT}-{uid}")
    moved = next((path for path in others if _problem_at(path) == ""), "")
    problem = _problem_of_parent() or problem_above(usual) or _problem_at(usual) or ""
    if not problem and not moved:
        return usual, ""
    path = moved or others[0]
    return path, f"{usual} {problem}: using {path}" if problem else ""


def _problem_of_parent() -> str:
    """Makes SHARED_PARENT, in which every user has to be able to make a directory, if nobody has so far."""
    try:
        os.mkdir(SHARED_PARENT, 0o1777)
        os.chmod(SHARED_PARENT, 0o1777)
    except FileExistsError:
        pass
    except OSError as error:
        return f"cannot be made: {error.strerror}"
    if not stat.S_ISDIR(os.lstat(SHARED_PARENT).st_mode):
        return f"lies below {SHARED_PARENT}, which is no directory"
    if not os.access(SHARED_PARENT, os.W_OK) and not os.path.lexists(os.path.join(SHARED_PARENT, str(os.getuid()))):
        return "cannot be made: its parent is not ours"
    return ""


def _problem_at(path: str) -> str | None:
    """Why a directory is not ours alone, "" if it is, None when there is nothing."""
    try:
        return _problem_of(os.lstat(path)) or problem_above(path)
    except OSError:
        return None


def _problem_of(found: os.stat_result) -> str:
    if not stat.S_ISDIR(found.st_mode):
        return "is no directory"
    if found.st_uid != os.getuid():
        return f"belongs to user {found.st_uid}"
    return "is open to other users" if stat.S_IMODE(found.st_mode) & 0o077 else ""


def _is_own(found: os.stat_result) -> bool:
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid()
