"""The English spaCy model: fetched once, unpacked safely, done without when it cannot be had."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from kokoro_common.hub.spacy import spacy_path
from tests.helpers.hub_setting import (
    HEART,
    MakeHub,
    Setting,
    contents,
    wheel,
)
from tests.helpers.local_hub import WHEEL_NAME


def nothing(*_: object) -> None:
    pass


def test_spacy_wheel_is_fetched_verified_and_unpacked_once(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    path = spacy_path(setting.hub(), setting.show)
    assert path is not None
    assert os.path.basename(path) == "en_core_web_sm-3.8.0"
    assert Path(path, "config.cfg").read_text() == "[nlp]"
    assert setting.progress[-1] == (WHEEL_NAME, 1.0)
    assert setting.server.authorized == []
    assert WHEEL_NAME not in setting.file_names()
    setting.server.requests.clear()
    assert spacy_path(setting.hub(), nothing) == spacy_path(setting.hub(offline=True), nothing) == path
    assert setting.server.requests == []


def test_hugging_face_token_goes_to_the_hub(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    setting.fetch(HEART)
    assert len(setting.server.authorized) == 2


@pytest.mark.parametrize("fault", [{"status": {"HEAD": 404}}, {"wrong_bytes": True}, {"cut_after": 10}])
def test_failure_to_have_spacy_is_remembered_for_a_day(setting: Setting, fault: dict[str, object]) -> None:
    vars(setting.server).update(fault)
    assert spacy_path(setting.hub(), nothing) is None
    setting.server.healthy()
    setting.server.requests.clear()
    assert spacy_path(setting.hub(), nothing) is None
    assert setting.server.requests == []
    (memory,) = setting.cache.rglob("*.failed")
    yesterday = time.time() - 24 * 3600 - 1
    os.utime(memory, (yesterday, yesterday))
    assert spacy_path(setting.hub(), nothing) is not None


def test_abort_is_not_remembered_as_a_failure_of_spacy(setting: Setting) -> None:
    hub = setting.hub()
    hub.abort()
    assert spacy_path(hub, nothing) is None
    assert setting.server.requests == []
    assert spacy_path(setting.hub(), nothing) is not None


def test_offline_asks_for_no_spacy_and_takes_a_wheel_put_there(setting: Setting) -> None:
    assert spacy_path(setting.hub(offline=True), nothing) is None
    (setting.cache / "spacy").mkdir(parents=True)
    (setting.cache / "spacy" / WHEEL_NAME).write_bytes(setting.server.wheel)
    assert spacy_path(setting.hub(offline=True), nothing) is not None
    assert setting.server.requests == []


def test_manifest_without_spacy_has_none(setting: Setting) -> None:
    setting.manifest = setting.manifest.replace(spacy=None)
    assert spacy_path(setting.hub(), nothing) is None
    assert setting.server.requests == []


@pytest.mark.parametrize("member", ["../../evil", "/tmp/kokoro-evil", "en_core_web_sm/../../../evil"])
def test_wheel_that_leaves_its_directory_is_refused(local_hub: MakeHub, tmp_path: Path, member: str) -> None:
    setting = Setting(local_hub(contents(), wheel=wheel(**{member: "evil"})), tmp_path)
    assert spacy_path(setting.hub(), nothing) is None
    assert not any("evil" in name for name in setting.file_names())
    assert not list(tmp_path.glob("evil"))


@pytest.mark.parametrize(
    "content", [b"no zip", wheel()[:100], b"PK\x05\x06" + bytes(18)], ids=["no zip", "cut", "empty"]
)
def test_wheel_without_a_pipeline_is_refused(local_hub: MakeHub, tmp_path: Path, content: bytes) -> None:
    setting = Setting(local_hub(contents(), wheel=content), tmp_path)
    assert spacy_path(setting.hub(), nothing) is None
    assert [path.name for path in setting.cache.rglob("*") if path.name != ".lock"] == ["spacy", WHEEL_NAME]
