"""What may be downloaded, and the SHA-256 and size of each file: the built-in manifest.json or the user's."""

from __future__ import annotations

import json
import os
import re

from kokoro_common.errors import UsageError
from kokoro_common.files import read_regular
from kokoro_common.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


MOST_BYTES = 1 << 30  # of a file whose size is not told: three times the model
MAX_BYTES = 16 << 20  # of the manifest


class SpacyWheel(Record):
    url: str
    sha256: str
    size: int = 0  # bytes, at most; 0: not told


class Manifest(Record):
    """What may be downloaded, and what it must hash to."""

    repo: str
    revision: str  # 40 hex digits
    model: str  # name in `files`
    config: str  # name in `files`
    files: dict[str, str]  # path in the repository to SHA-256
    spacy: SpacyWheel | None  # None: English uses the built-in tagger
    sizes: dict[str, int]  # bytes at most, by path, or by directory for all in it: "voices/"; optional in the file

    def most(self, name: str) -> int:
        """Bytes that a file may have."""
        directory = name[: name.rfind("/") + 1]
        return self.sizes.get(name, self.sizes.get(directory, MOST_BYTES))


def load_manifest(path: str = "") -> Manifest:
    """Reads and checks a manifest; "" is the built-in one of Kokoro-82M. Raises UsageError that names the problem."""
    path = path or os.path.join(os.path.dirname(__file__), "manifest.json")
    try:
        return _checked(json.loads(read_regular(path, MAX_BYTES)))
    except (OSError, ValueError, RecursionError) as error:  # ValueError: JSON, UTF-8 and _checked
        raise UsageError(f"the manifest {path} cannot be used: {error}", "mend it or unset KOKORO_MANIFEST") from error


def _checked(table: Any) -> Manifest:
    """Raises ValueError."""
    _require_keys("it", table, Manifest._fields, optional="sizes")
    _require_match("repo", table["repo"], r"\w[\w.-]*/\w[\w.-]*")
    _require_match("revision", table["revision"], "[0-9a-f]{40}")
    if not isinstance(table["files"], dict):
        raise ValueError("files must be an object")
    for name, sha256 in table["files"].items():
        _require_match("a name in files", name, r"\w[\w.-]*(/\w[\w.-]*)*")
        _require_match(name, sha256, "[0-9a-f]{64}")
    for key in ("model", "config"):
        if not isinstance(table[key], str) or table[key] not in table["files"]:
            raise ValueError(f"{key} {table[key]!r} is not in files")
    _require_sizes("sizes", table.get("sizes", {}))
    wheel = table["spacy"]
    if wheel is not None:
        _require_keys("spacy", wheel, SpacyWheel._fields, optional="size")
        _require_sizes("spacy", {"size": wheel.get("size", 1)})
        _require_match("spacy url", wheel["url"], r"https?://\S+/\w[\w.-]*\.whl")
        _require_match("spacy sha256", wheel["sha256"], "[0-9a-f]{64}")
    return Manifest(**{"sizes": {}, **table, "spacy": wheel and SpacyWheel(**wheel)})


def _require_keys(what: str, table: Any, keys: tuple[str, ...], optional: str) -> None:
    if not isinstance(table, dict) or table.keys() | {optional} != set(keys):
        raise ValueError(f"{what} must be an object with the keys {', '.join(keys)}")


def _require_sizes(what: str, table: Any) -> None:
    if not isinstance(table, dict) or not all(type(size) is int and size > 0 for size in table.values()):
        raise ValueError(f"{what} must have whole numbers of bytes")


def _require_match(what: str, text: Any, pattern: str) -> None:
    if not isinstance(text, str) or not re.fullmatch(pattern, text, re.ASCII) or ".." in text:
        raise ValueError(f"{what} is {text!r}")
