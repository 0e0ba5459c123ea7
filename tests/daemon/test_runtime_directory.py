"""The runtime directory: owner-only, not fooled by what others left there, one token whoever races for it."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from kokoro_common.daemon import runtime_directory as paths
from kokoro_common.daemon.runtime_directory import RuntimeDirectory
from kokoro_common.errors import ServersUnreachable


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777], ids=oct)
def test_modes_are_owner_only_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    previous = os.umask(umask)
    try:
        runtime = RuntimeDirectory(str(tmp_path / "run"))
        runtime.token()
        runtime.write("model.json", b"{}")
        lock = runtime.lock("model.lock", wait=False)
        assert lock is not None
        os.close(lock)
    finally:
        os.umask(previous)
    assert mode(tmp_path / "run") == 0o700
    assert {mode(path) for path in (tmp_path / "run").iterdir()} == {0o600}


def test_a_directory_open_to_others_is_refused_and_not_changed(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(0o755)
    with pytest.raises(ServersUnreachable, match="open to other users"):
        RuntimeDirectory(str(tmp_path / "run"))
    assert mode(tmp_path / "run") == 0o755


@pytest.mark.parametrize("thing", ["file", "link"])
def test_what_is_no_directory_is_refused(tmp_path: Path, thing: str) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    if thing == "file":
        (tmp_path / "run").write_text("")
    else:
        (tmp_path / "run").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ServersUnreachable, match="cannot be used"):
        RuntimeDirectory(str(tmp_path / "run"))
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory away")
def test_another_users_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o700)
    os.chown(tmp_path / "run", 65534, 65534)
    with pytest.raises(ServersUnreachable):
        RuntimeDirectory(str(tmp_path / "run"))
    assert list((tmp_path / "run").iterdir()) == []


@pytest.fixture
def shared_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for default directories that is not the machine's, for a user who has no session."""
    monkeypatch.setattr(paths, "SHARED_PARENT", str(tmp_path / "kokoro_socket"))
    monkeypatch.setattr(paths, "SESSION_PARENT", str(tmp_path / "no sessions"))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    return tmp_path / "kokoro_socket"


@pytest.mark.parametrize("damage", ["sticky bit lost", "file", "link"])
def test_a_spoiled_parent_is_avoided_and_left_alone(tmp_path: Path, shared_parent: Path, damage: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    if damage == "file":
        shared_parent.write_text("x")
    elif damage == "link":
        shared_parent.symlink_to(tmp_path / "elsewhere")
    else:
        shared_parent.mkdir()
        shared_parent.chmod(0o777)
    runtime = RuntimeDirectory()
    assert runtime.path == f"{shared_parent}-{os.getuid()}"
    why = "where others may rename it" if damage == "sticky bit lost" else "which is no directory"
    assert runtime.note == f"{shared_parent}/{os.getuid()} lies below {shared_parent}, {why}: using {runtime.path}"
    assert list((tmp_path / "elsewhere").iterdir()) == []


def take_first(shared_parent: Path, how: str) -> Path:
    """Somebody is in the user's place before the user."""
    shared_parent.mkdir(mode=0o777)
    shared_parent.chmod(0o1777)
    own = shared_parent / str(os.getuid())
    if how == "file":
        own.write_text("x")
    elif how == "link":
        own.symlink_to(shared_parent.parent)
    else:
        own.mkdir(mode=0o700)
        if how == "open to others":
            own.chmod(0o777)
        elif os.getuid() != 0:
            pytest.skip("only root can give a directory away")
        else:
            os.chown(own, 65534, 65534)
    return own


TAKEN = {
    "file": "is no directory",
    "link": "is no directory",
    "open to others": "is open to other users",
    "another user's": "belongs to user 65534",
}


@pytest.mark.parametrize("how", TAKEN)
def test_where_somebody_was_first_the_sessions_directory_is_taken_and_said(
    tmp_path: Path, shared_parent: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = take_first(shared_parent, how)
    before = os.lstat(own)
    session = tmp_path / "session"
    session.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(session))
    runtime = RuntimeDirectory()
    assert runtime.path == str(session / "kokoro")
    assert runtime.note == f"{own} {TAKEN[how]}: using {runtime.path}"
    after = os.lstat(own)
    assert (after.st_mode, after.st_uid, after.st_mtime_ns) == (before.st_mode, before.st_uid, before.st_mtime_ns)


@pytest.mark.parametrize("session", ["absent", "open to others", "link"])
def test_without_a_session_of_ones_own_it_is_a_directory_beside(
    tmp_path: Path, shared_parent: Path, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_first(shared_parent, "file")
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "session"))
    if session == "open to others":
        (tmp_path / "session").mkdir(mode=0o755)
    elif session == "link":
        (tmp_path / "session").symlink_to(tmp_path / "elsewhere")
    assert RuntimeDirectory().path == f"{shared_parent}-{os.getuid()}"
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_process_without_the_variable_finds_the_sessions_directory_too(
    tmp_path: Path, shared_parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_first(shared_parent, "file")
    session = tmp_path / str(os.getuid())
    session.mkdir(mode=0o700)
    monkeypatch.setattr(paths, "SESSION_PARENT", str(tmp_path))
    without = RuntimeDirectory().path
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(session))
    assert without == RuntimeDirectory().path == str(session / "kokoro")


def test_who_has_moved_stays_where_the_servers_are(shared_parent: Path) -> None:
    own = take_first(shared_parent, "file")
    moved = RuntimeDirectory()
    own.unlink()
    again = RuntimeDirectory()
    assert (again.path, again.note) == (moved.path, "")
    os.rmdir(moved.path)
    assert RuntimeDirectory().path == str(own)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory away")
def test_where_every_place_is_taken_it_is_refused(shared_parent: Path) -> None:
    take_first(shared_parent, "another user's")
    beside = Path(f"{shared_parent}-{os.getuid()}")
    beside.mkdir(mode=0o700)
    os.chown(beside, 65534, 65534)
    with pytest.raises(ServersUnreachable, match="belongs to user 65534"):
        RuntimeDirectory()
    assert list(beside.iterdir()) == []


def test_a_refused_directory_is_not_kept_open(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o755)
    before = os.listdir("/dev/fd")
    for _ in range(3):
        with pytest.raises(ServersUnreachable):
            RuntimeDirectory(str(tmp_path / "run"))
    assert os.listdir("/dev/fd") == before


def test_what_cleans_up_sees_that_the_directory_is_in_use(tmp_path: Path) -> None:
    """systemd-tmpfiles passes over a directory whose flock it cannot have."""
    runtime = RuntimeDirectory(str(tmp_path / "run"))
    fd = os.open(runtime.path, os.O_RDONLY)
    with pytest.raises(BlockingIOError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(fd)


def test_the_shared_parent_is_made_sticky(shared_parent: Path) -> None:
    runtime = RuntimeDirectory()
    assert (runtime.path, runtime.note) == (str(shared_parent / str(os.getuid())), "")
    assert shared_parent.stat().st_mode & 0o7777 == 0o1777


def test_who_races_for_the_token_gets_the_same(tmp_path: Path) -> None:
    RuntimeDirectory(str(tmp_path / "run"))
    assert len(set(in_threads(16, lambda: RuntimeDirectory(str(tmp_path / "run")).token()))) == 1
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["token"]


def spoil_token(run: Path, how: str) -> None:
    token = run / "token"
    if how == "readable":
        token.write_bytes(b"x" * paths.TOKEN_BYTES)
        token.chmod(0o644)
    elif how == "link":
        token.symlink_to(run.parent / "secret")
    elif how == "directory":
        token.mkdir()
    else:
        token.write_bytes({"empty": b"", "short": b"short", "long": b"x" * 100_000}[how])


SPOILED = ["empty", "short", "long", "readable", "link", "directory"]


@pytest.mark.parametrize("how", SPOILED)
def test_a_bad_token_is_replaced(tmp_path: Path, how: str) -> None:
    runtime = RuntimeDirectory(str(tmp_path / "run"))
    (tmp_path / "secret").write_bytes(b"x" * paths.TOKEN_BYTES)
    spoil_token(tmp_path / "run", how)
    token = runtime.token()
    assert len(token) == paths.TOKEN_BYTES
    assert token != b"x" * paths.TOKEN_BYTES
    assert RuntimeDirectory(str(tmp_path / "run")).token() == token
    assert mode(tmp_path / "run" / "token") == 0o600


@pytest.mark.parametrize("how", SPOILED)
def test_who_races_to_replace_a_bad_token_gets_the_same(tmp_path: Path, how: str) -> None:
    for attempt in range(20):
        run = tmp_path / str(attempt)
        RuntimeDirectory(str(run))
        spoil_token(run, how)
        assert len(set(in_threads(8, lambda run=run: RuntimeDirectory(str(run)).token()))) == 1


@pytest.mark.parametrize("how", ["removed", *SPOILED])
def test_who_knows_the_token_puts_it_back(tmp_path: Path, how: str) -> None:
    server = RuntimeDirectory(str(tmp_path / "run"))
    token = server.token()
    (tmp_path / "secret").write_bytes(b"x" * paths.TOKEN_BYTES)
    (tmp_path / "run" / "token").unlink()
    if how != "removed":
        spoil_token(tmp_path / "run", how)
    assert server.token() == RuntimeDirectory(str(tmp_path / "run")).token() == token


def test_who_knows_the_token_learns_of_a_newer_one(tmp_path: Path) -> None:
    server = RuntimeDirectory(str(tmp_path / "run"))
    token = server.token()
    (tmp_path / "run" / "token").unlink()
    newer = RuntimeDirectory(str(tmp_path / "run")).token()
    assert server.token() == newer != token


def in_threads(count: int, call: Callable[[], bytes]) -> list[bytes]:
    gate = threading.Barrier(count)
    results: list[bytes] = []

    def take() -> None:
        gate.wait()
        results.append(call())

    threads = [threading.Thread(target=take) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == count
    return results


@pytest.mark.parametrize("thing", ["link", "second name", "fifo", "directory", "another user's"])
def test_a_lock_file_that_is_not_ours_alone_is_replaced_and_not_touched(tmp_path: Path, thing: str) -> None:
    runtime = RuntimeDirectory(str(tmp_path / "run"))
    name = tmp_path / "run" / "x.lock"
    theirs = tmp_path / "theirs"
    theirs.write_text("theirs")
    theirs.chmod(0o644)
    if thing == "link":
        name.symlink_to(theirs)
    elif thing == "second name":
        os.link(theirs, name)
    elif thing == "fifo":
        os.mkfifo(name)
    elif thing == "directory":
        name.mkdir()
    elif os.getuid() == 0:
        name.write_text("")
        os.chown(name, 65534, 65534)
    else:
        pytest.skip("only root can give a file away")
    fd = runtime.lock("x.lock", wait=False)
    assert fd is not None
    os.ftruncate(fd, 0)
    os.close(fd)
    assert (theirs.read_text(), mode(theirs)) == ("theirs", 0o644)
    assert (name.is_file(), name.is_symlink(), mode(name), name.stat().st_uid) == (True, False, 0o600, os.getuid())


@pytest.mark.parametrize("call", ["token", "write", "lock"])
def test_a_full_disk_is_one_line_with_the_path_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    runtime = RuntimeDirectory(str(tmp_path / "run"))
    full = OSError(errno.ENOSPC, "No space left on device")

    def refuse(*_: object, **__: object) -> int:
        raise full

    with monkeypatch.context() as patch:
        patch.setattr(os, "open" if call == "lock" else "write", refuse)
        if call == "write":
            with pytest.raises(OSError, match="No space"):
                runtime.write("model.json", b"{}")
        else:
            with pytest.raises(ServersUnreachable, match=rf"{tmp_path}/run cannot be used: No space left"):
                runtime.token() if call == "token" else runtime.lock("x.lock", wait=False)
    assert list((tmp_path / "run").iterdir()) == []


def test_links_fifos_and_long_files_are_not_read(tmp_path: Path) -> None:
    runtime = RuntimeDirectory(str(tmp_path / "run"))
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "run" / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "run" / "fifo")
    (tmp_path / "run" / "long").write_bytes(b"x" * (paths.MAX_FILE_BYTES + 1))
    assert [runtime.read(name) for name in ("link", "fifo", "long", "absent")] == [None] * 4


def test_a_lock_is_held_by_one_process_until_its_last_descriptor_is_closed(tmp_path: Path) -> None:
    runtime = RuntimeDirectory(str(tmp_path / "run"))
    lock = runtime.lock("x.lock", wait=False)
    assert lock is not None
    assert runtime.lock("x.lock", wait=False) is None
    with subprocess.Popen(["cat"], pass_fds=[lock], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as child:
        os.close(lock)
        assert runtime.lock("x.lock", wait=False) is None
        child.communicate(b"")
    again = runtime.lock("x.lock", wait=False)
    assert again is not None
    os.close(again)


def test_a_lock_file_that_was_removed_while_waiting_is_not_believed(tmp_path: Path) -> None:
    runtime = RuntimeDirectory(str(tmp_path / "run"))
    first = runtime.lock("x.lock", wait=False)
    assert first is not None
    taken: list[int | None] = []
    waiter = threading.Thread(target=lambda: taken.append(runtime.lock("x.lock", wait=True)))
    waiter.start()
    (tmp_path / "run" / "x.lock").unlink()
    os.close(first)
    waiter.join(10)
    assert taken[0] is not None
    assert os.path.samestat(os.fstat(taken[0]), (tmp_path / "run" / "x.lock").stat())
    os.close(taken[0])


def test_importing_paths_is_cheap() -> None:
    code = "import kokoro_common.daemon.runtime_directory, sys; "
    code += "print([m for m in ('pathlib', 'typing', 'tempfile') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, '.'); {code}"],
                          cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stdout == "[]\n"
