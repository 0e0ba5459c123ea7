"""A hub that lies about sizes, sends without end or drips: what it costs is bounded, in bytes and in time."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from kokoro_common.errors import ModelUnavailable
from kokoro_common.hub.download import Hub
from kokoro_common.hub.manifest import load_manifest
from kokoro_common.hub.spacy import spacy_path
from kokoro_common.hub.transfer import Transfer
from kokoro_common.record import Record
from kokoro_common.settings import Settings
from kokoro_common.synthesis.loader import Loader
from kokoro_common.wire.messages import ServerState
from tests.helpers.hub_setting import CONFIG, HEART, MODEL, Setting, contents, is_whole
from tests.helpers.local_hub import REPO, REVISION, WHEEL_NAME

pytestmark = pytest.mark.timeout(60)
SLACK = 1 << 20  # bytes that are under way when we hang up


def with_sizes(setting: Setting) -> Hub:
    sizes = {name: len(content) for name, content in contents().items()}
    hub = setting.hub(stall=0.5)
    hub.manifest = hub.manifest.replace(sizes=sizes)
    return hub


def on_disk(setting: Setting) -> int:
    return sum(path.stat().st_size for path in setting.cache.rglob("*") if path.is_file())


@pytest.mark.parametrize("size", [10**15, 300_001, 2 << 30])
def test_a_size_that_a_file_cannot_have_is_refused_before_a_byte_is_asked_for(setting: Setting, size: int) -> None:
    setting.server.linked_size = size
    with pytest.raises(ModelUnavailable, match=r"bytes there, and may have 300,000") as caught:
        setting.fetch(MODEL, hub=with_sizes(setting))
    assert f"{size:,}" in str(caught.value)
    assert setting.server.gets() == {}


def test_without_sizes_in_the_manifest_a_file_has_a_gigabyte_at_most(setting: Setting) -> None:
    setting.server.linked_size = 10**15
    for call in (setting.hub().preflight, lambda: setting.fetch(MODEL)):
        with pytest.raises(ModelUnavailable, match="may have 1,073,741,824"):
            call()
    assert setting.server.gets() == {}


@pytest.mark.parametrize("redirected", [False, True])
def test_a_body_without_end_is_left_where_the_file_would_end(setting: Setting, redirected: bool) -> None:
    setting.server.redirected = redirected
    setting.server.endless = True
    with pytest.raises(ModelUnavailable, match="SHA-256"):
        setting.fetch(MODEL, hub=with_sizes(setting))
    assert setting.server.sent < 2 * (len(contents()[MODEL]) + 8 * SLACK)  # two attempts, and the kernel's buffers
    assert on_disk(setting) == 0


def test_a_partial_file_that_is_too_long_is_not_read_at_all(setting: Setting) -> None:
    partial = setting.put(MODEL + ".incomplete", b"")
    with open(partial, "r+b") as file:
        file.truncate(1 << 40)  # to hash it would take an hour
    assert is_whole(setting.fetch(MODEL, hub=with_sizes(setting))[MODEL], MODEL)


@pytest.mark.parametrize("where", ["body", "headers"])
@pytest.mark.parametrize("redirected", [False, True])
def test_a_hub_that_drips_is_given_up_after_three_attempts(setting: Setting, where: str, redirected: bool) -> None:
    """It would take four hours; no read of it waits for longer than a twentieth of a second."""
    setting.server.drip = where
    setting.server.redirected = redirected
    with pytest.raises(ModelUnavailable, match=r"too slow|no answer in time"):
        setting.fetch(MODEL, hub=with_sizes(setting))
    assert setting.server.gets()[MODEL] + setting.server.gets()[f"{MODEL}?elsewhere"] == 3 * (1 + redirected)


def test_a_hub_that_drips_at_first_is_asked_again_and_the_rest_is_fetched(setting: Setting) -> None:
    setting.server.drip = "body"
    setting.server.times = 1
    assert is_whole(setting.fetch(MODEL, hub=with_sizes(setting))[MODEL], MODEL)
    assert len(setting.server.ranges) == 1


def test_spacy_is_bounded_and_not_waited_for_either(setting: Setting) -> None:
    wheel = setting.manifest.spacy
    assert wheel is not None
    hub = setting.hub(stall=0.5)
    hub.manifest = hub.manifest.replace(spacy=wheel.replace(size=len(setting.server.wheel)))
    for fault in ({"drip": "body"}, {"drip": "headers"}, {"endless": True}, {"linked_size": 10**15}):
        setting.server.healthy()
        for name, value in fault.items():
            setattr(setting.server, name, value)
        assert spacy_path(hub, lambda *_: None) is None
        for path in setting.cache.rglob("*.failed"):
            path.unlink()
    assert on_disk(setting) <= len(setting.server.wheel)
    setting.server.healthy()
    assert spacy_path(hub, lambda *_: None) is not None


def test_speech_does_not_wait_for_a_hub_that_drips(setting: Setting, tmp_path: Path) -> None:
    setting.server.drip = "body"
    states: list[str] = []
    decided = threading.Event()

    def report(event: Record) -> None:
        if isinstance(event, ServerState):
            states.append(event.state)
            if event.state in ("default", "failed", "ready"):
                decided.set()

    settings = Settings(
        runtime_dir=str(tmp_path), cache_dir=str(setting.cache), log_dir=str(tmp_path), config_dir=str(tmp_path),
        manifest=setting.manifest_path, hub_retry=3600.0,
    )  # fmt: skip
    loader = Loader(settings, report)
    loader.hub = setting.hub(stall=0.5)
    loader.start()
    try:
        loader.want_model()
        assert decided.wait(30)
    finally:
        loader.close()
    assert states[-1] == "default"
    assert "too slow" in loader.state.detail


def test_a_disk_without_room_is_told_before_a_byte_is_asked_for(setting: Setting) -> None:
    setting.server.linked_size = 1 << 60
    hub = setting.hub()
    hub.manifest = hub.manifest.replace(sizes={MODEL: 1 << 60})
    with pytest.raises(ModelUnavailable, match=r"1152921504607 MB are to be fetched, and \d+ MB are free"):
        setting.fetch(MODEL, hub=hub)
    assert setting.server.gets() == {}


def test_a_slow_disk_is_not_taken_for_a_slow_hub(setting: Setting) -> None:
    url = f"{setting.server.endpoint}/{REPO}/resolve/{REVISION}/{MODEL}"
    never = threading.Event()
    taken = b""
    with Transfer(url, {}, 0.5, lambda _: None) as body:
        for piece in body:
            taken += piece
            never.wait(0.6)  # longer than the hub may be silent
    assert taken == contents()[MODEL]


def test_the_built_in_manifest_tells_the_sizes() -> None:
    manifest = load_manifest()
    assert (manifest.most(manifest.model), manifest.most(manifest.config)) == (327_212_226, 2_351)
    assert {manifest.most(name) for name in manifest.files if name.startswith("voices/")} == {600_000}
    assert manifest.spacy is not None and WHEEL_NAME in manifest.spacy.url and manifest.spacy.size == 12_806_118
    assert CONFIG in manifest.files and HEART in manifest.files
