"""Fetching from a hub on loopback, and every fault that can be switched on there."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kokoro_common.errors import ModelUnavailable
from kokoro_common.hub import download
from kokoro_common.hub.download import Hub
from kokoro_common.hub.spacy import spacy_path
from tests.helpers.hub_setting import (
    BELLA,
    CONFIG,
    HEART,
    MODEL,
    MakeHub,
    Setting,
    contents,
    is_whole,
    wait_until,
)
from tests.helpers.local_hub import REPO, REVISION


def record_pauses(hub: Hub) -> list[float]:
    """Lets a hub wait for nothing; the list tells for how long it wanted to."""
    pauses: list[float] = []

    class Impatient(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            assert timeout is not None
            pauses.append(timeout)
            return self.is_set()

    hub.aborted = Impatient()
    return pauses


def test_progress_goes_from_file_to_file_up_to_the_whole(setting: Setting) -> None:
    setting.fetch(MODEL, HEART, CONFIG)
    names = [name for name, _ in setting.progress]
    fractions = [fraction for _, fraction in setting.progress]
    assert list(dict.fromkeys(names)) == [MODEL, HEART, CONFIG]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert max(fraction for name, fraction in setting.progress if name == MODEL) == pytest.approx(300_000 / 305_200)


def test_unreachable_hub_is_told_with_url_and_path_to_put_the_file(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    for call in (setting.hub().preflight, lambda: setting.fetch(MODEL)):
        with pytest.raises(ModelUnavailable, match=r"refused") as caught:
            call()
        assert f"http://127.0.0.1:{port}/{REPO}/resolve/{REVISION}/{MODEL}" in str(caught.value)
        assert str(setting.snapshot / MODEL) in str(caught.value)


@pytest.mark.parametrize("endpoint", ["http://[", "nonsense", "http://127.0.0.1:99999", "http://" + "a" * 64 + ".x"])
def test_unusable_endpoint_is_told(setting: Setting, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises(ModelUnavailable):
        setting.hub().preflight()


def test_silent_hub_is_given_up(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "ANSWER_SECONDS", 0.2)
    setting.server.silent = True
    with pytest.raises(ModelUnavailable, match="no answer in time"):
        setting.fetch(MODEL)
    assert len(setting.server.requests) == 1


@pytest.mark.timeout(10)
def test_hanging_name_resolution_is_given_up(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PREFLIGHT_SECONDS", 0.2)
    end = threading.Event()

    def hang(*_: object, **__: object) -> list[object]:
        end.wait()
        raise socket.gaierror("no such name")

    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", hang)
        with pytest.raises(ModelUnavailable, match="no answer"):
            setting.hub().preflight()
        end.set()
        wait_until(lambda: "hub-head" not in [thread.name for thread in threading.enumerate()])


def test_healthy_hub_passes_the_preflight(setting: Setting) -> None:
    setting.hub().preflight()
    assert [method for method, _ in setting.server.requests] == ["HEAD"]


def test_captive_portal_is_not_taken_for_a_hub(setting: Setting) -> None:
    setting.server.html = True
    with pytest.raises(ModelUnavailable, match="not a Hugging Face hub"):
        setting.fetch(MODEL)
    assert setting.files() == set()


@pytest.mark.parametrize("status", [401, 403, 404])
@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_refusal_is_not_tried_again(setting: Setting, method: str, status: int) -> None:
    setting.server.status = {method: status}
    with pytest.raises(ModelUnavailable, match=f"HTTP {status}"):
        setting.fetch(HEART)
    assert [asked for asked, _ in setting.server.requests].count(method) == 1


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("status", [429, 500, 503])
def test_busy_hub_is_asked_again_with_growing_pauses(setting: Setting, method: str, status: int) -> None:
    setting.server.status = {method: status}
    setting.server.times = 2
    hub = setting.hub(backoff=4.0)
    pauses = record_pauses(hub)
    assert is_whole(setting.fetch(HEART, hub=hub)[HEART], HEART)
    assert pauses == [4.0, 8.0]


def test_hub_that_stays_busy_is_given_up_after_three_attempts(setting: Setting) -> None:
    setting.server.status = {"GET": 503}
    with pytest.raises(ModelUnavailable, match="HTTP 503"):
        setting.fetch(HEART)
    assert setting.server.gets() == {HEART: 3}


def test_preflight_asks_a_busy_hub_once(setting: Setting) -> None:
    setting.server.status = {"HEAD": 503}
    with pytest.raises(ModelUnavailable, match="HTTP 503"):
        setting.hub().preflight()
    assert len(setting.server.requests) == 1


@pytest.mark.parametrize(
    ("wanted", "pauses"), [("7", [7.0]), ("60", [60.0]), ("Wed, 21 Oct 2015 07:28:00 GMT", [0.01])]
)
def test_retry_after_is_honoured(setting: Setting, wanted: str, pauses: list[float]) -> None:
    setting.server.status = {"GET": 429}
    setting.server.retry_after = wanted
    setting.server.times = 1
    hub = setting.hub()
    recorded = record_pauses(hub)
    setting.fetch(HEART, hub=hub)
    assert recorded == pauses


def test_hub_that_asks_for_more_than_a_minute_is_given_up(setting: Setting) -> None:
    setting.server.status = {"GET": 429}
    setting.server.retry_after = "61"
    with pytest.raises(ModelUnavailable, match="HTTP 429"):
        setting.fetch(HEART)
    assert setting.server.gets() == {HEART: 1}


@pytest.mark.parametrize("knob", ["cut_after", "reset_after", "stall_after"])
def test_interrupted_body_is_resumed_where_it_ended(setting: Setting, knob: str) -> None:
    setattr(setting.server, knob, 100_000)
    setting.server.times = 1
    path = setting.fetch(MODEL)[MODEL]
    assert is_whole(path, MODEL)
    assert setting.server.gets() == {MODEL: 2}
    if knob != "reset_after":  # a reset may overtake bytes that were sent before it
        assert setting.server.ranges == ["bytes=100000-"]
    assert setting.file_names() == {MODEL}


@pytest.mark.parametrize("knob", ["cut_after", "reset_after", "stall_after"])
def test_body_that_never_comes_is_given_up_after_three_attempts(setting: Setting, knob: str) -> None:
    setattr(setting.server, knob, 0)
    with pytest.raises(ModelUnavailable):
        setting.fetch(MODEL)
    assert setting.server.gets() == {MODEL: 3}
    assert not (setting.snapshot / MODEL).exists()


def test_bad_line_that_makes_headway_is_not_given_up(local_hub: MakeHub, tmp_path: Path) -> None:
    files = {**contents(), MODEL: random.Random(1).randbytes(6 << 20)}
    setting = Setting(local_hub(files), tmp_path)
    setting.server.cut_after = (1 << 20) + 1000
    path = setting.fetch(MODEL)[MODEL]
    assert Path(path).read_bytes() == files[MODEL]
    assert setting.server.gets() == {MODEL: 6}


@pytest.mark.parametrize("knob", ["wrong_bytes", "too_long"])
def test_wrong_bytes_are_fetched_once_more(setting: Setting, knob: str) -> None:
    setattr(setting.server, knob, True)
    setting.server.times = 1
    assert is_whole(setting.fetch(MODEL)[MODEL], MODEL)
    assert setting.server.gets() == {MODEL: 2}
    assert setting.server.ranges == []


@pytest.mark.parametrize("knob", ["wrong_bytes", "too_long"])
def test_wrong_bytes_never_come_under_the_final_name(setting: Setting, knob: str) -> None:
    setattr(setting.server, knob, True)
    with pytest.raises(ModelUnavailable, match="SHA-256"):
        setting.fetch(MODEL)
    assert setting.server.gets() == {MODEL: 2}
    assert setting.files() == set()


def test_offline_names_the_file_and_how_to_get_it(setting: Setting) -> None:
    for call in (lambda hub: setting.fetch(MODEL, hub=hub), Hub.preflight):
        with pytest.raises(ModelUnavailable, match="KOKORO_OFFLINE") as caught:
            call(setting.hub(offline=True))
        assert setting.server.endpoint in str(caught.value)
        assert str(setting.snapshot / MODEL) in str(caught.value)
    assert setting.server.requests == []
    setting.put(MODEL, contents()[MODEL])
    assert setting.fetch(MODEL, hub=setting.hub(offline=True)) == {MODEL: str(setting.snapshot / MODEL)}


def test_five_cold_processes_fetch_each_file_once(setting: Setting) -> None:
    names = [MODEL, CONFIG, HEART, BELLA]
    children = [setting.child("print(len(hub.fetch(names, lambda *_: None)))", *names) for _ in range(5)]
    outputs = [child.communicate(timeout=60)[0] for child in children]
    assert outputs == ["4\n"] * 5
    assert setting.server.gets() == dict.fromkeys(names, 1)
    assert len(setting.server.requests) == 8  # who waits for the lock asks nothing
    assert setting.file_names() == {MODEL, CONFIG, "af_heart.pt", "af_bella.pt"}


def test_killed_download_is_resumed_by_the_next_start(setting: Setting) -> None:
    setting.server.stall_after = 100_000
    partial = setting.snapshot / (MODEL + ".incomplete")
    child = setting.child("hub.fetch(names, lambda *_: None)", MODEL)
    wait_until(lambda: partial.exists() and partial.stat().st_size >= 65_536)
    child.send_signal(signal.SIGKILL)
    child.communicate(timeout=10)
    have = partial.stat().st_size
    setting.server.healthy()
    litter = setting.put("voices/af_old.pt.incomplete", b"of a killed process")
    assert is_whole(setting.fetch(MODEL)[MODEL], MODEL)
    assert setting.server.ranges == [f"bytes={have}-"]
    assert not litter.exists()
    assert setting.file_names() == {MODEL}


@pytest.mark.parametrize("torn", [b"x" * 1_000, b"x" * 300_000, b"x" * 400_000])
def test_torn_partial_file_is_fetched_anew(setting: Setting, torn: bytes) -> None:
    setting.put(MODEL + ".incomplete", torn)
    assert is_whole(setting.fetch(MODEL)[MODEL], MODEL)
    assert setting.file_names() == {MODEL}


def test_complete_partial_file_needs_no_request(setting: Setting) -> None:
    setting.put(MODEL + ".incomplete", contents()[MODEL])
    assert is_whole(setting.fetch(MODEL)[MODEL], MODEL)
    assert setting.server.gets() == {}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.getuid() != 0 or sys.platform != "linux":
        pytest.skip("mounting a small tmpfs needs root on Linux")
    disk = tmp_path / "cache"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k,mode=0700", "none", str(disk)]
    if (done := subprocess.run(mount, capture_output=True, text=True)).returncode != 0:
        pytest.skip(f"tmpfs cannot be mounted here: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.fault
def test_full_disk_names_the_path_and_gets_its_room_back(small_disk: Path, setting: Setting) -> None:
    hub = setting.hub()
    setting.server.drip = "body"  # so that the disk is full while most is still to come
    setting.server.times = 1
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"")

    def fill(*_: object) -> None:
        if not ballast.stat().st_size:
            ballast.write_bytes(bytes(400_000))

    with pytest.raises(ModelUnavailable, match="No space left") as caught:
        hub.fetch([MODEL], fill)
    assert str(small_disk / "hub") in str(caught.value)
    assert setting.file_names() == {"ballast"}
    ballast.unlink()
    assert is_whole(setting.fetch(HEART, hub=hub)[HEART], HEART)


def test_unwritable_cache_names_the_path(setting: Setting) -> None:
    setting.cache.write_bytes(b"a file where the directory should be")
    with pytest.raises(ModelUnavailable, match="cannot be written") as caught:
        setting.fetch(HEART)
    assert str(setting.cache) in str(caught.value)
    assert spacy_path(setting.hub(), lambda *_: None) is None


def started(call: Callable[[], object]) -> tuple[threading.Thread, list[Exception]]:
    """Runs a call that must end with ModelUnavailable on a thread of its own."""
    errors: list[Exception] = []

    def run() -> None:
        with pytest.raises(ModelUnavailable) as caught:
            call()
        errors.append(caught.value)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, errors


@pytest.mark.parametrize("fault", ["stalled", "pausing", "waiting"])
def test_abort_ends_a_fetch_on_another_thread(setting: Setting, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = setting.hub(backoff=100.0)
    if fault == "stalled":
        setting.server.stall_after = 1000
    elif fault == "pausing":
        setting.server.status = {"GET": 503}
    else:
        holder = setting.hub().exclusive(str(setting.cache / "hub"))
        holder.__enter__()
    tried = threading.Event()
    locked = download._locked
    monkeypatch.setattr(download, "_locked", lambda file: tried.set() or locked(file))
    thread, errors = started(lambda: setting.fetch(MODEL, hub=hub))
    if fault == "waiting":
        assert tried.wait(10)
    else:
        wait_until(lambda: "GET" in [asked for asked, _ in setting.server.requests])
    hub.abort()
    thread.join(10)
    assert "ended" in str(errors[0])
    if fault == "waiting":
        holder.__exit__(None, None, None)


def test_abort_ends_a_body_that_flows(setting: Setting) -> None:
    hub = setting.hub()
    with pytest.raises(ModelUnavailable, match="ended"):
        hub.fetch([MODEL], lambda *_: hub.abort())
    assert not (setting.snapshot / MODEL).exists()
