"""A hub on loopback, its manifest and an empty cache: what the tests of the hub share."""

from __future__ import annotations

import io
import os
import random
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from kokoro_common.hub.download import Hub
from kokoro_common.hub.manifest import Manifest, load_manifest
from tests.helpers.local_hub import REPO, REVISION, LocalHub

MODEL, CONFIG, HEART, BELLA = "model.pth", "config.json", "voices/af_heart.pt", "voices/af_bella.pt"
ROOT = Path(__file__).parents[2]
FAST = {"stall": 0.3, "backoff": 0.01}
HUB_OF_CHILD = """
import sys
from kokoro_common.hub.download import Hub
from kokoro_common.hub.manifest import load_manifest
from kokoro_common.hub.spacy import spacy_path
hub = Hub(load_manifest(sys.argv[1]), sys.argv[2], False)
names = sys.argv[3:]
"""

MakeHub = Callable[..., LocalHub]


def contents() -> dict[str, bytes]:
    source = random.Random(0)
    sizes = {MODEL: 300_000, CONFIG: 200, HEART: 5_000, BELLA: 5_000}
    return {name: source.randbytes(size) for name, size in sizes.items()}


def wheel(**extra: str) -> bytes:
    """What matters of the spaCy wheel: where the pipeline lies in it."""
    package = "en_core_web_sm"
    members = {f"{package}/__init__.py": "", f"{package}/{package}-3.8.0/config.cfg": "[nlp]", **extra}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return buffer.getvalue()


class Setting:
    """A local hub, its manifest and a cache directory."""

    def __init__(self, server: LocalHub, directory: Path) -> None:
        self.server = server
        self.manifest_path = server.write_manifest(directory / "manifest.json", MODEL, CONFIG)
        self.manifest: Manifest = load_manifest(self.manifest_path)
        self.cache = directory / "cache"
        self.snapshot = self.cache / "hub" / f"models--{REPO.replace('/', '--')}" / "snapshots" / REVISION
        self.progress: list[tuple[str, float]] = []  # file, fraction of the whole

    def hub(self, offline: bool = False, **options: float) -> Hub:
        return Hub(self.manifest, str(self.cache), offline, **{**FAST, **options})

    def fetch(self, *names: str, hub: Hub | None = None) -> dict[str, str]:
        return (hub or self.hub()).fetch(names, self.show)

    def show(self, name: str, done: int, total: int) -> None:
        self.progress.append((name, done / total))

    def put(self, name: str, content: bytes) -> Path:
        """Places a file in the cache by hand."""
        path = self.snapshot / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def child(self, code: str, *names: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HUB_OF_CHILD + code, self.manifest_path, str(self.cache), *names]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)

    def files(self) -> set[str]:
        """What lies in the cache, locks apart."""
        found = {str(path.relative_to(self.cache)) for path in self.cache.rglob("*") if path.is_file()}
        return {path for path in found if not path.endswith(".lock")}

    def file_names(self) -> set[str]:
        return {os.path.basename(path) for path in self.files()}


def is_whole(path: str, name: str) -> bool:
    return Path(path).read_bytes() == contents()[name]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)
