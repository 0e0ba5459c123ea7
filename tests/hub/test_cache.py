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
<<<<<<< HEAD
=======


# --- Fetching and its faults ------------------------------------------------------------------------------------------


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
    monkeypatch.setattr(hub_module, "ANSWER_SECONDS", 0.2)
    setting.server.silent = True
    with pytest.raises(ModelUnavailable, match="no answer in time"):
        setting.fetch(MODEL)
    assert len(setting.server.requests) == 1


@pytest.mark.timeout(10)
def test_hanging_name_resolution_is_given_up(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "PREFLIGHT_SECONDS", 0.2)
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


# --- Processes, disks, aborts -----------------------------------------------------------------------------------------


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
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k,mode=0700", "none", str(disk)]
    if (done := subprocess.run(mount, capture_output=True, text=True)).returncode != 0:
        pytest.skip(f"tmpfs cannot be mounted here: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.fault
def test_full_disk_names_the_path_and_gets_its_room_back(small_disk: Path, setting: Setting) -> None:
    hub = setting.hub()
    with pytest.raises(ModelUnavailable, match="No space left") as caught:
        setting.fetch(MODEL, hub=hub)
    assert str(small_disk / "hub") in str(caught.value)
    assert setting.files() == set()
    assert is_whole(setting.fetch(HEART, hub=hub)[HEART], HEART)


def test_unwritable_cache_names_the_path(setting: Setting) -> None:
    setting.cache.write_bytes(b"a file where the directory should be")
    with pytest.raises(ModelUnavailable, match="cannot be written") as caught:
        setting.fetch(HEART)
    assert str(setting.cache) in str(caught.value)
    assert setting.hub().spacy_path(lambda *_: None) is None


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
        holder = setting.hub()._exclusive(str(setting.cache / "hub"))
        holder.__enter__()
    tried = threading.Event()
    locked = hub_module._locked
    monkeypatch.setattr(hub_module, "_locked", lambda file: tried.set() or locked(file))
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


# --- spaCy ------------------------------------------------------------------------------------------------------------


def nothing(_: str, __: float) -> None:
    pass


def test_spacy_wheel_is_fetched_verified_and_unpacked_once(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    path = setting.hub().spacy_path(lambda name, fraction: setting.progress.append((name, fraction)))
    assert path is not None
    assert os.path.basename(path) == "en_core_web_sm-3.8.0"
    assert Path(path, "config.cfg").read_text() == "[nlp]"
    assert setting.progress[-1] == (WHEEL_NAME, 1.0)
    assert setting.server.authorized == []
    assert WHEEL_NAME not in setting.file_names()
    setting.server.requests.clear()
    assert setting.hub().spacy_path(nothing) == setting.hub(offline=True).spacy_path(nothing) == path
    assert setting.server.requests == []


def test_hugging_face_token_goes_to_the_hub(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    setting.fetch(HEART)
    assert len(setting.server.authorized) == 2


@pytest.mark.parametrize("fault", [{"status": {"HEAD": 404}}, {"wrong_bytes": True}, {"cut_after": 10}])
def test_failure_to_have_spacy_is_remembered_for_a_day(setting: Setting, fault: dict[str, object]) -> None:
    vars(setting.server).update(fault)
    assert setting.hub().spacy_path(nothing) is None
    setting.server.healthy()
    setting.server.requests.clear()
    assert setting.hub().spacy_path(nothing) is None
    assert setting.server.requests == []
    (memory,) = setting.cache.rglob("*.failed")
    yesterday = time.time() - 24 * 3600 - 1
    os.utime(memory, (yesterday, yesterday))
    assert setting.hub().spacy_path(nothing) is not None


def test_abort_is_not_remembered_as_a_failure_of_spacy(setting: Setting) -> None:
    hub = setting.hub()
    hub.abort()
    assert hub.spacy_path(nothing) is None
    assert setting.server.requests == []
    assert setting.hub().spacy_path(nothing) is not None


def test_offline_asks_for_no_spacy_and_takes_a_wheel_put_there(setting: Setting) -> None:
    assert setting.hub(offline=True).spacy_path(nothing) is None
    (setting.cache / "spacy").mkdir(parents=True)
    (setting.cache / "spacy" / WHEEL_NAME).write_bytes(setting.server.wheel)
    assert setting.hub(offline=True).spacy_path(nothing) is not None
    assert setting.server.requests == []


def test_manifest_without_spacy_has_none(setting: Setting) -> None:
    setting.manifest = setting.manifest.replace(spacy=None)
    assert setting.hub().spacy_path(nothing) is None
    assert setting.server.requests == []


@pytest.mark.parametrize("member", ["../../evil", "/tmp/kokoro-evil", "en_core_web_sm/../../../evil"])
def test_wheel_that_leaves_its_directory_is_refused(local_hub: MakeHub, tmp_path: Path, member: str) -> None:
    setting = Setting(local_hub(contents(), wheel=wheel(**{member: "evil"})), tmp_path)
    assert setting.hub().spacy_path(nothing) is None
    assert not any("evil" in name for name in setting.file_names())
    assert not list(tmp_path.glob("evil"))


@pytest.mark.parametrize(
    "content", [b"no zip", wheel()[:100], b"PK\x05\x06" + bytes(18)], ids=["no zip", "cut", "empty"]
)
def test_wheel_without_a_pipeline_is_refused(local_hub: MakeHub, tmp_path: Path, content: bytes) -> None:
    setting = Setting(local_hub(contents(), wheel=content), tmp_path)
    assert setting.hub().spacy_path(nothing) is None
    assert [path.name for path in setting.cache.rglob("*") if path.name != ".lock"] == ["spacy", WHEEL_NAME]
>>>>>>> ccfcdda (The README's tests run on two workers and say how long; .ci/run adds the rest, and a tiny round of each benchmark)
