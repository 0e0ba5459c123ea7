"""The manifest: what is built in, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kokoro_common.errors import UsageError
from kokoro_common.hub.manifest import load_manifest
from tests.helpers.hub_setting import (
    CONFIG,
    MODEL,
)
from tests.helpers.local_hub import REPO, REVISION, WHEEL_NAME


def test_built_in_manifest_pins_kokoro_and_its_54_voices() -> None:
    manifest = load_manifest("")
    voices = [name for name in manifest.files if name.startswith("voices/")]
    assert (manifest.repo, len(voices), len(manifest.files)) == ("hexgrad/Kokoro-82M", 54, 56)
    assert manifest.revision == "f3ff3571791e39611d31c381e3a41a3af07b4987"
    assert manifest.files[manifest.model].startswith("496dba118d1a58f5")
    assert manifest.files["voices/af_heart.pt"].startswith("0ab5709b8ffab19b")
    assert manifest.spacy is not None
    assert manifest.spacy.url.endswith(WHEEL_NAME)


DIGEST = "0" * 64


@pytest.mark.parametrize(
    "change",
    [
        {"revision": "main"},
        {"revision": REVISION.upper()},
        {"revision": REVISION + "\n"},
        {"repo": "../x/y"},
        {"repo": "x"},
        {"model": "absent.pth"},
        {"model": [MODEL]},
        {"config": None},
        {"files": []},
        {"files": {MODEL: DIGEST, CONFIG: "0" * 63}},
        {"files": {MODEL: DIGEST, CONFIG: None}},
        *(
            {"files": {MODEL: DIGEST, CONFIG: DIGEST, name: DIGEST}}
            for name in ("/etc/x", "../x", "a/../x", "a..b", "")
        ),
        *({"files": {MODEL: DIGEST, CONFIG: DIGEST, name: DIGEST}} for name in ("a//b", "a/", ".x", "a\\b", "a\0b")),
        {"spacy": {}},
        {"spacy": {"url": "file:///x.whl", "sha256": DIGEST}},
        {"spacy": {"url": "https://h/x.whl", "sha256": DIGEST, "more": 1}},
        {"spacy": {"url": "https://h/..whl", "sha256": DIGEST}},
        {"unknown": 1},
    ],
)
def test_malformed_manifest_is_refused(change: dict[str, object], tmp_path: Path) -> None:
    files = {MODEL: DIGEST, CONFIG: DIGEST}
    good = {"repo": REPO, "revision": REVISION, "model": MODEL, "config": CONFIG, "files": files, "spacy": None}
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(good))
    assert load_manifest(str(path)).files == files
    path.write_text(json.dumps({**good, **change}))
    with pytest.raises(UsageError, match=r"manifest\.json"):
        load_manifest(str(path))


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, None])
def test_unreadable_manifest_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=r"manifest\.json"):
        load_manifest(str(path))
