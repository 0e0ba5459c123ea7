"""A disk that is full when a test wants it to be."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.helpers.requirements import missing


@contextlib.contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    """A file system of its own, removed at the end. Skips the test where none can be mounted, but not in CI."""
    if os.getuid() != 0 or sys.platform != "linux":
        missing("mounting a small tmpfs needs root on Linux")
    path.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "none", str(path)]
    if (done := subprocess.run(mount, capture_output=True, text=True)).returncode != 0:
        missing(f"tmpfs cannot be mounted here: {done.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def fill(path: Path, *, leave: int = 0) -> Path:
    """A file that takes all the room but some."""
    ballast = path / "ballast"
    with contextlib.suppress(OSError), open(ballast, "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    if leave:
        os.truncate(ballast, max(0, ballast.stat().st_size - leave))
    return ballast
