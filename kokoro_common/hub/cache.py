"""Model files and voices on this disk: our cache, then the machine's Hugging Face cache. Nothing unverified comes out.

Files lie in huggingface_hub's cache layout, each directly in its snapshot (as it has them where there are no symlinks),
so that its tools can read our cache. No network here, and no huggingface_hub, whose import takes 0.25 s.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO

    from kokoro_common.hub.manifest import Manifest

log = logging.getLogger("kokoro.hub")

HASHED_BYTES = 4 << 20  # hashed at once: beside an import each piece waits for the GIL twice, up to 5 ms
CORRUPT = ".corrupt"


class Cache:
    """The files of one manifest on this disk. All methods may be called from any thread."""

    def __init__(self, manifest: Manifest, cache_dir: str) -> None:
        self.manifest = manifest
        self.hub_directory = os.path.join(cache_dir, "hub")
        self.spacy_directory = os.path.join(cache_dir, "spacy")
        self._repo = "models--" + manifest.repo.replace("/", "--")
        self._digests: dict[str, tuple[tuple[int, ...], str]] = {}  # path to (state of the file, SHA-256)

    def cached(self, name: str) -> str | None:
        """Path of a verified file, in our cache or the machine's Hugging Face cache; None when neither has it. Blocks.

        Hashes each state of a file once per process (0.4 s for the model). A wrong file in our cache is set aside and
        counts as absent; a wrong file in the shared cache belongs to others and is passed over.
        """
        sha256 = self.manifest.files.get(name)
        if sha256 is None:
            return None
        own = self.path_of(name)
        digest = self.digest(own)
        if digest == sha256:
            return own
        if digest is not None:
            self._set_aside(own)
        shared = self.path_of(name, shared_cache())
        return shared if self.digest(shared) == sha256 else None

    def seems_cached(self, name: str) -> bool:
        """Whether a file of that name exists, unchecked. Does not block, where `cached` reads the whole file."""
        return any(os.path.exists(self.path_of(name, cache)) for cache in ("", shared_cache()))

    def cached_voices(self) -> list[str]:
        """Names of the voices that can be had without the network, sorted."""
        return sorted(
            name.removeprefix("voices/").removesuffix(".pt")
            for name in self.manifest.files
            if name.startswith("voices/") and self.cached(name)
        )

    def path_of(self, name: str, cache: str = "") -> str:
        """Where a file of the manifest lies in our cache, or in another hub cache; whether or not it exists."""
        return os.path.join(cache or self.hub_directory, self._repo, "snapshots", self.manifest.revision, name)

    def digest(self, path: str) -> str | None:
        """SHA-256 of a regular file; "" for any other kind of file; None if missing or unreadable. Blocks."""
        try:
            found = os.stat(path)
            if not stat.S_ISREG(found.st_mode):  # a pipe or a device could be read for ever
                self._digests[path] = (_state(found), "")
                return ""
            with open(path, "rb") as file:
                state = _state(os.fstat(file.fileno()))
                known = self._digests.get(path)
                if known is None or known[0] != state:
                    known = self._digests[path] = (state, _sha256(file))
                return known[1]
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            log.warning("%s cannot be read: %s", path, error)
            return None

    def adopt(self, partial: str, path: str) -> None:
        """Gives a verified file its final name, in one step. Raises OSError."""
        os.replace(partial, path)
        self._digests[path] = self._digests.pop(partial)

    def _set_aside(self, path: str) -> None:
        """Renames a wrong file to *.corrupt, replacing an earlier one. Of a link, renames the blob if it is ours."""
        target = os.path.realpath(path)
        try:
            if _state(os.stat(target)) != self._digests[path][0]:
                return  # another process has just fetched it again
            # A blob elsewhere belongs to others: only our link to it goes.
            if target.startswith(os.path.realpath(self.hub_directory) + os.sep):
                os.replace(target, target + CORRUPT)
                log.warning("%s had the wrong SHA-256 and was set aside as %s", path, target + CORRUPT)
            if os.path.islink(path):
                os.remove(path)
                log.warning("%s, a link to a wrong file, was removed", path)
        except OSError as error:
            log.warning("%s has the wrong SHA-256 and cannot be set aside: %s", path, error)


def shared_cache() -> str:
    """Directory where huggingface_hub keeps its files on this machine, by the rules of its constants.py."""
    environ = os.environ
    cache_home = environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache")
    home = environ.get("HF_HOME") or os.path.join(cache_home, "huggingface")
    cache = environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE") or os.path.join(home, "hub")
    return os.path.expandvars(os.path.expanduser(cache))


def _sha256(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while piece := file.read(HASHED_BYTES):
        digest.update(piece)
    return digest.hexdigest()


def _state(found: os.stat_result) -> tuple[int, ...]:
    return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
