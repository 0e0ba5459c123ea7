"""The runtime directory: owner-only, not fooled by what others left there, one token whoever races for it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kokoro_common import paths
from kokoro_common.errors import ServersUnreachable
from kokoro_common.paths import RuntimeDirectory


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


@pytest.mark.parametrize("damage", ["sticky bit lost", "file", "link"])
def test_a_spoiled_parent_is_avoided_and_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    parent = tmp_path / "kokoro_socket"
    monkeypatch.setattr(paths, "SHARED_PARENT", str(parent))
    (tmp_path / "elsewhere").mkdir()
    if damage == "file":
        parent.write_text("x")
    elif damage == "link":
        parent.symlink_to(tmp_path / "elsewhere")
    else:
        parent.mkdir()
        parent.chmod(0o777)
    assert RuntimeDirectory().path == f"{parent}-{os.getuid()}"
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_the_shared_parent_is_made_sticky(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "SHARED_PARENT", str(tmp_path / "kokoro_socket"))
    runtime = RuntimeDirectory()
    assert runtime.path == str(tmp_path / "kokoro_socket" / str(os.getuid()))
    assert (tmp_path / "kokoro_socket").stat().st_mode & 0o7777 == 0o1777


def test_who_races_for_the_token_gets_the_same(tmp_path: Path) -> None:
    RuntimeDirectory(str(tmp_path / "run"))
    tokens: list[bytes] = []
    gate = threading.Barrier(16)

    def take() -> None:
        gate.wait()
        tokens.append(RuntimeDirectory(str(tmp_path / "run")).token())

    threads = [threading.Thread(target=take) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tokens) == 16
    assert len(set(tokens)) == 1
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["token"]


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 100_000])
def test_a_damaged_token_is_replaced(tmp_path: Path, content: bytes) -> None:
    runtime = RuntimeDirectory(str(tmp_path / "run"))
    (tmp_path / "run" / "token").write_bytes(content)
    if len(content) > paths.MAX_FILE_BYTES:
        with pytest.raises(ServersUnreachable, match="token is not ours"):
            runtime.token()
    else:
        assert len(runtime.token()) == paths.TOKEN_BYTES


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
    code = "import kokoro_common.paths, sys; print([m for m in ('pathlib', 'typing', 'tempfile') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, '.'); {code}"],
                          cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stdout == "[]\n"
