"""Files that are there: verified before they are handed out, set aside when they are damaged."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

from kokoro_common.errors import ModelUnavailable
from kokoro_common.hub import cache
from kokoro_common.hub.spacy import spacy_path
from tests.helpers.hub_setting import (
    CONFIG,
    HEART,
    MODEL,
    Setting,
    contents,
    is_whole,
)
from tests.helpers.local_hub import REPO, REVISION


def test_second_run_makes_no_request_and_imports_no_huggingface_hub(setting: Setting) -> None:
    setting.fetch(MODEL, CONFIG, HEART)
    spacy_path(setting.hub(), lambda *_: None)
    setting.server.requests.clear()
    code = """
assert all(hub.fetch(names, None).values()) and spacy_path(hub, None)
print(hub.cached_voices(), "huggingface_hub" in sys.modules)
"""
    output, _ = setting.child(code, MODEL, CONFIG, HEART).communicate(timeout=30)
    assert output.split("\n")[0] == "['af_heart'] False"
    assert setting.server.requests == []


def flipped(content: bytes) -> bytes:
    return content[:100] + bytes([content[100] ^ 1]) + content[101:]


@pytest.mark.parametrize(
    "damage",
    [
        flipped,
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: b"",
        lambda content: b"<html>",
        lambda content: b"version https://git-lfs.github.com/spec/v1\n",
    ],
)
def test_damaged_file_in_the_cache_is_never_returned_and_fetched_once(
    setting: Setting, damage: Callable[[bytes], bytes]
) -> None:
    path = setting.put(HEART, damage(contents()[HEART]))
    hub = setting.hub()
    assert hub.cached(HEART) is None
    assert hub.cached_voices() == []
    assert setting.file_names() == {"af_heart.pt.corrupt"}
    assert setting.fetch(HEART, hub=hub) == {HEART: str(path)}
    assert is_whole(str(path), HEART)
    assert setting.server.gets() == {HEART: 1}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("thing", ["pipe", "directory", "endless device"])
def test_what_is_no_file_is_set_aside_unread(setting: Setting, thing: str) -> None:
    path = setting.put(HEART, b"")
    path.unlink()
    if thing == "pipe":
        os.mkfifo(path)
    elif thing == "directory":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    assert setting.fetch(HEART) == {HEART: str(path)}
    assert is_whole(str(path), HEART)
    assert not path.is_symlink()
    assert os.path.lexists(f"{path}.corrupt") == (thing != "endless device")


def test_the_log_says_what_was_set_aside_and_where(setting: Setting, caplog: pytest.LogCaptureFixture) -> None:
    path = setting.put(HEART, b"damaged")
    setting.hub().cached(HEART)
    assert caplog.messages == [f"{path} had the wrong SHA-256 and was set aside as {path}.corrupt"]


def test_a_name_given_twice_is_one_file(setting: Setting) -> None:
    assert len(setting.fetch(HEART, CONFIG, HEART)) == 2
    assert setting.progress[-1] == (CONFIG, 1.0)


def test_file_damaged_after_it_was_verified_is_noticed(setting: Setting) -> None:
    hub = setting.hub()
    path = setting.fetch(HEART, hub=hub)[HEART]
    Path(path).write_bytes(flipped(contents()[HEART]))
    os.utime(path, ns=(0, 0))
    assert hub.cached(HEART) is None


def test_file_that_another_process_has_mended_meanwhile_is_not_set_aside(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = setting.put(HEART, b"damaged")
    mended = setting.put("mended", contents()[HEART])
    hash_file = cache._sha256

    def hash_slowly(file: IO[bytes]) -> str:
        digest = hash_file(file)
        if mended.exists():
            mended.replace(path)
        return digest

    monkeypatch.setattr(cache, "_sha256", hash_slowly)
    hub = setting.hub()
    assert hub.cached(HEART) is None
    assert hub.cached(HEART) == str(path)


def test_only_the_newest_damaged_file_is_kept(setting: Setting) -> None:
    hub = setting.hub()
    for content in (b"first", b"second"):
        setting.put(HEART, content)
        assert hub.cached(HEART) is None
    assert setting.file_names() == {"af_heart.pt.corrupt"}
    assert (setting.snapshot / "voices" / "af_heart.pt.corrupt").read_bytes() == b"second"


def test_each_file_is_hashed_once(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    setting.put(HEART, contents()[HEART])
    hashed = []
    hash_file = cache._sha256
    monkeypatch.setattr(cache, "_sha256", lambda file: hashed.append(file) or hash_file(file))
    hub = setting.hub()
    assert hub.cached(HEART) == hub.cached(HEART) == str(setting.snapshot / HEART)
    assert len(hashed) == 1


def test_damaged_file_behind_a_link_is_set_aside_with_its_blob(setting: Setting) -> None:
    blob = setting.cache / "hub" / f"models--{REPO.replace('/', '--')}" / "blobs" / "etag"
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"damaged")
    link = setting.snapshot / HEART
    link.parent.mkdir(parents=True)
    link.symlink_to(os.path.relpath(blob, link.parent))
    assert setting.hub().cached(HEART) is None
    assert not os.path.lexists(link)
    assert sorted(os.listdir(blob.parent)) == ["etag.corrupt"]


def test_damaged_file_of_others_behind_a_link_is_left_alone(setting: Setting, tmp_path: Path) -> None:
    other = tmp_path / "theirs"
    other.write_bytes(b"damaged")
    link = setting.snapshot / HEART
    link.parent.mkdir(parents=True)
    link.symlink_to(other)
    assert setting.hub().cached(HEART) is None
    assert other.read_bytes() == b"damaged"
    assert not os.path.lexists(link)


@pytest.mark.parametrize("variable", ["HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HOME"])
def test_files_in_the_machines_hugging_face_cache_are_used(
    setting: Setting, variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import hf_hub_download

    below = {
        "HF_HUB_CACHE": "",
        "HF_HOME": "hub",
        "XDG_CACHE_HOME": "huggingface/hub",
        "HOME": ".cache/huggingface/hub",
    }
    shared = tmp_path / "shared" / below[variable]
    theirs = hf_hub_download(REPO, HEART, revision=REVISION, cache_dir=shared, endpoint=setting.server.endpoint)
    for name in ("HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, str(tmp_path / "shared"))
    setting.server.requests.clear()
    assert setting.fetch(HEART) == {HEART: theirs}
    assert setting.server.requests == []
    assert not setting.cache.exists()


def test_damaged_file_in_the_machines_hugging_face_cache_is_passed_over(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "shared"))
    theirs = tmp_path / "shared" / (setting.snapshot / HEART).relative_to(setting.cache / "hub")
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"damaged")
    assert setting.fetch(HEART) == {HEART: str(setting.snapshot / HEART)}
    assert theirs.read_bytes() == b"damaged"


def test_huggingface_hub_reads_our_cache(setting: Setting) -> None:
    from huggingface_hub import hf_hub_download

    ours = setting.fetch(HEART)[HEART]
    theirs = hf_hub_download(REPO, HEART, revision=REVISION, cache_dir=setting.cache / "hub", local_files_only=True)
    assert theirs == ours


@pytest.mark.parametrize("name", ["voices/zz_none.pt", "../../x", "/etc/passwd", "", "a\0b"])
def test_only_names_of_the_manifest_are_looked_for(setting: Setting, name: str) -> None:
    assert setting.hub().cached(name) is None
    with pytest.raises(ModelUnavailable, match="manifest"):
        setting.fetch(name)
    assert setting.server.requests == []


def test_everything_made_in_the_cache_is_the_owners_alone(setting: Setting) -> None:
    setting.fetch(HEART)
    spacy_path(setting.hub(), lambda *_: None)
    unpacked = setting.cache / "spacy" / setting.manifest.spacy.sha256  # type: ignore[union-attr]
    made = [path for path in (setting.cache, *setting.cache.rglob("*")) if unpacked not in path.parents]
    assert unpacked in made
    assert [path for path in made if stat.S_IMODE(path.stat().st_mode) & 0o077] == []
