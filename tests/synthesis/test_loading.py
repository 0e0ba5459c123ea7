"""What the loader does with a hub that has everything, nothing, or everything later: a job at a time, in one thread."""

from __future__ import annotations

import gc
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import numpy as np
import pytest

from kokoro_common.engine.tuning import Choice
from kokoro_common.errors import ModelUnavailable
from kokoro_common.record import Record
from kokoro_common.settings import Settings
from kokoro_common.synthesis import loader as loader_module
from kokoro_common.synthesis.loader import (
    DownloadEnded,
    DownloadStep,
    EngineLost,
    Loader,
    VoiceLoaded,
)
from kokoro_common.voices.pack import PACK_SHAPE
from kokoro_common.wire.messages import ServerState

SECONDS = 10  # for what takes none
R = TypeVar("R", bound=Record)
UNREACHABLE = ModelUnavailable("the hub is out of reach", "connect")


class FakeHub:
    """Files by name; those that are not `here` are fetched, if the hub can be reached."""

    def __init__(self, loader: Loader) -> None:
        self.model = [loader.manifest.config, loader.manifest.model]
        self.here = set(self.model)
        self.reachable = True
        self.fetched: list[str] = []
        self.aborted = False

    def seems_cached(self, name: str) -> bool:
        return name in self.here

    def cached(self, name: str) -> str | None:
        return f"/hub/{name}" if name in self.here else None

    def cached_voices(self) -> list[str]:
        return sorted(name[7:-3] for name in self.here if name.startswith("voices/"))

    def preflight(self) -> None:
        if not self.reachable:
            raise UNREACHABLE

    def fetch(self, names: Iterable[str], progress: Callable[[str, int, int], None]) -> dict[str, str]:
        for name in names:
            if name in self.here:
                continue
            self.preflight()
            progress(name, 1, 2)
            self.fetched.append(name)
            self.here.add(name)
        return {name: f"/hub/{name}" for name in names}

    def abort(self) -> None:
        self.aborted = True


class Loading:
    """A loader that is not started, and what it reports."""

    def __init__(self, lost: str = "", **settings: Any) -> None:
        self.events: list[Any] = []
        self.loader = Loader(Settings(cache_dir="/nowhere", **settings), self.events.append, lost)
        self.hub = FakeHub(self.loader)
        self.loader.hub = cast(Any, self.hub)

    def run(self) -> Loading:
        """All jobs that wait, and those that they bring."""
        while True:
            try:
                job = self.loader._jobs.get_nowait()
            except queue.Empty:
                return self
            if job is not None:
                job()

    @property
    def states(self) -> list[str]:
        states = [event.state for event in self.events if isinstance(event, ServerState)]
        return [state for place, state in enumerate(states) if state not in states[:place]]

    def got(self, kind: type[R]) -> list[R]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture(autouse=True)
def nothing_heavy(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """No torch, no network, no pack files. Yields the arguments with which engines were made."""
    made: list[Any] = []

    def make_engine(files: tuple[str, str], device: str, precision: str, **options: Any) -> tuple[Any, Choice]:
        made.append((files, device, options))
        options["measuring"]()
        engine = SimpleNamespace(device="cpu", precision="fp32", notice="the card has no memory")
        return engine, Choice(precision="fp32", reason="measured")

    monkeypatch.setattr(loader_module, "make_engine", make_engine)
    monkeypatch.setattr(loader_module, "choose_device", lambda wanted: ("cuda", f"{wanted} was asked for"))
    monkeypatch.setattr(loader_module, "import_torch", lambda: None)
    monkeypatch.setattr(loader_module, "prepare_environment", lambda: None)
    monkeypatch.setattr(loader_module, "quieten_huggingface_hub", lambda: None)
    monkeypatch.setattr(loader_module, "spacy_path", lambda hub, progress: "/spacy")
    monkeypatch.setattr(loader_module, "read_voice_pack", lambda path: np.zeros(PACK_SHAPE, np.float32))
    monkeypatch.setattr(loader_module, "read_own_pack", lambda directory, name: None)
    yield made
    gc.unfreeze()


def join(name: str) -> None:
    for thread in threading.enumerate():
        if thread.name == name:
            thread.join(SECONDS)


# --- the model -------------------------------------------------------------------------------------------------------


def test_a_model_that_is_here_is_loaded_once(nothing_heavy: list[Any]) -> None:
    loading = Loading()
    for _ in range(2):
        loading.loader.want_model()
    loading.run()
    join("import")
    assert loading.states == ["loading", "ready"] and len(nothing_heavy) == 1
    assert (loading.loader.device, loading.loader.precision) == ("cuda", "fp32")
    assert (loading.loader.device_reason, loading.loader.precision_reason) == ("auto was asked for", "measured")
    assert loading.loader.spacy_path == "/spacy" and not loading.hub.fetched


def test_who_waits_while_it_is_measured_hears_why() -> None:
    loading = Loading()
    loading.loader.want_model()
    loading.run()
    join("import")
    details = [state.detail for state in loading.got(ServerState) if state.state == "loading"]
    assert details == ["", "measuring once what is fastest here"]


def test_a_model_that_is_not_here_is_fetched_and_its_progress_told() -> None:
    loading = Loading()
    loading.hub.here.clear()
    loading.loader.want_model()
    loading.run()
    assert loading.states == ["downloading", "loading", "ready"]
    assert loading.hub.fetched == loading.hub.model
    assert (loading.events[0].detail, loading.events[0].fraction) == (loading.hub.model[0], 0.5)


@pytest.mark.parametrize(
    ("here", "measured_with"), [(["af_sky"], True), ([], False)]
)  # a voice that has yet to come is not waited for, unless the model had to come as well
def test_an_engine_is_measured_with_a_voice_that_is_here(
    nothing_heavy: list[Any], here: list[str], measured_with: bool
) -> None:
    loading = Loading()
    loading.hub.here |= {f"voices/{name}.pt" for name in here}
    loading.loader.want_model("af_heart")
    loading.run()
    join("import")
    assert (nothing_heavy[0][2]["pack"] is not None) == measured_with
    assert "voices/af_heart.pt" not in loading.hub.fetched


def test_the_voice_that_will_speak_comes_with_the_model(nothing_heavy: list[Any]) -> None:
    loading = Loading()
    loading.hub.here.clear()
    loading.loader.want_model("af_heart")
    loading.run()
    assert list(loading.loader.packs) == ["af_heart"] and nothing_heavy[0][2]["pack"] is not None


def test_out_of_reach_of_the_hub_the_default_voice_speaks_and_the_hub_is_tried_again() -> None:
    loading = Loading()
    loading.hub.here.clear()
    loading.hub.reachable = False
    loading.loader.want_model()
    loading.run()
    assert loading.states == ["default"] and loading.loader._may_retry
    assert "run {say} --download" in loading.loader.state.detail and loading.loader.state.exit_code == 4
    loading.loader._retry()
    assert loading.states == ["default"] and len(loading.events) == 1  # quiet until the hub answers
    loading.hub.reachable = True
    loading.loader._retry()
    loading.run()
    assert loading.states == ["default", "loading", "ready"] and not loading.loader._may_retry


def test_offline_nothing_is_tried_again() -> None:
    loading = Loading(offline=True)
    loading.hub.here.clear()
    loading.hub.reachable = False
    loading.loader.want_model()
    loading.run()
    assert loading.states == ["default"] and not loading.loader._may_retry


def test_a_hub_that_comes_back_is_found_by_the_loaders_own_thread() -> None:
    reports: queue.SimpleQueue[Record] = queue.SimpleQueue()
    loading = Loading(hub_retry=0.0)
    loading.loader._report = reports.put
    loading.hub.here.clear()
    loading.hub.reachable = False
    loading.loader.want_model()
    loading.loader.start()
    first = reports.get(timeout=SECONDS)
    assert isinstance(first, ServerState) and first.state == "default"
    loading.hub.reachable = True
    state = ""
    while state != "ready":
        event = reports.get(timeout=SECONDS)
        state = event.state if isinstance(event, ServerState) else state
    loading.loader.close()
    loading.loader._thread.join(SECONDS)
    assert not loading.loader._thread.is_alive() and loading.hub.aborted


# --- the device ------------------------------------------------------------------------------------------------------


def test_a_device_that_was_lost_is_not_tried_again() -> None:
    loading = Loading("the card fell off")
    loading.loader.want_model()
    loading.run()
    join("import")
    assert (loading.loader.device, loading.loader.device_reason) == ("cpu", "the card fell off")


def test_a_lost_device_that_the_user_insists_on_is_a_failure() -> None:
    loading = Loading("the card fell off", device="cuda")
    loading.loader.want_model()
    loading.run()
    join("import")
    assert loading.states[-1] == "failed" and "the card fell off" in loading.loader.state.detail
    assert loading.loader.state.exit_code == 4 and loading.loader.engine is None


def test_a_loss_is_reported_and_a_retreat_seen_in_the_status() -> None:
    loading = Loading()
    loading.loader.want_model()
    loading.run()
    join("import")
    loading.loader.engine_lost("the card fell off")
    assert loading.got(EngineLost) == [EngineLost(reason="the card fell off")]
    loading.loader.engine_changed()
    loading.run()
    assert (loading.loader.device, loading.loader.device_reason) == ("cpu", "the card has no memory")
    assert (loading.loader.precision, loading.loader.precision_reason) == ("fp32", "the card has no memory")


# --- voices ----------------------------------------------------------------------------------------------------------


def test_a_voice_is_fetched_once() -> None:
    loading = Loading()
    for _ in range(2):
        loading.loader.want_voice("af_heart")
    loading.run()
    assert loading.got(VoiceLoaded) == [VoiceLoaded(voice="af_heart")] * 2
    assert loading.hub.fetched == ["voices/af_heart.pt"]


def test_a_voice_of_the_users_own_needs_no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = np.ones(PACK_SHAPE, np.float32)
    monkeypatch.setattr(loader_module, "read_own_pack", lambda directory, name: mine if name == "af_mine" else None)
    loading = Loading()
    loading.hub.reachable = False
    loading.loader.want_voice("af_mine")
    loading.run()
    assert loading.got(VoiceLoaded) == [VoiceLoaded(voice="af_mine")] and loading.loader.packs["af_mine"] is mine


@pytest.mark.parametrize(("here", "at_hand"), [([], "none"), (["af_sky", "bm_george"], "af_sky, bm_george")])
def test_a_voice_that_cannot_be_had_is_reported_with_those_that_can(here: list[str], at_hand: str) -> None:
    loading = Loading()
    loading.hub.here |= {f"voices/{name}.pt" for name in here}
    loading.hub.reachable = False
    loading.loader.want_voice("af_heart")
    loading.run()
    (loaded,) = loading.got(VoiceLoaded)
    assert str(loaded.error) == f"voice af_heart cannot be had: the hub is out of reach; voices at hand: {at_hand}"


# --- a download ------------------------------------------------------------------------------------------------------


def test_a_download_tells_its_steps_and_its_end_to_who_asked() -> None:
    loading = Loading()
    loading.hub.here.clear()
    loading.loader.download("ann", ["af_heart"])
    loading.run()
    files = [*loading.hub.model, "voices/af_heart.pt"]
    assert [(step.asker, step.file) for step in loading.got(DownloadStep)] == [("ann", file) for file in files]
    assert loading.got(DownloadEnded) == [DownloadEnded(asker="ann", files=3)]
    assert loading.states == []  # nobody wants to speak


def test_a_download_that_fails_says_why() -> None:
    loading = Loading()
    loading.hub.here.clear()
    loading.hub.reachable = False
    loading.loader.download("ann", [])
    loading.run()
    assert loading.got(DownloadEnded) == [DownloadEnded(asker="ann", error=UNREACHABLE)]


def test_a_download_ends_the_reign_of_the_default_voice() -> None:
    loading = Loading()
    loading.hub.here.clear()
    loading.hub.reachable = False
    loading.loader.want_model()
    loading.run()
    loading.hub.reachable = True
    loading.loader.download("ann", [])
    loading.run()
    assert loading.states == ["default", "loading", "ready"]


# --- torch -----------------------------------------------------------------------------------------------------------


def test_a_torch_that_cannot_be_imported_is_logged_and_met_again_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import sys

    monkeypatch.undo()  # the real import_torch
    monkeypatch.setattr(loader_module, "prepare_environment", lambda: None)
    monkeypatch.setitem(sys.modules, "kokoro_common.engine.network", None)
    loader_module.import_torch()
    assert "torch cannot be imported" in caplog.text


def test_making_a_loader_reads_the_manifest_alone(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    loader = Loader(Settings(cache_dir=str(tmp_path)), lambda _: None)
    assert loader.state.state == "starting" and set(threading.enumerate()) == before
    assert not list(tmp_path.iterdir())


# --- errors that nobody meant ----------------------------------------------------------------------------------------


def unmeant(*_: object) -> Any:
    raise ZeroDivisionError("nobody meant it")


def test_a_download_that_fails_unforeseen_ends_for_who_asked_and_for_nobody_else(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    loading = Loading()
    loading.loader.want_model()
    assert loading.run().states[-1] == "ready"
    monkeypatch.setattr(loading.hub, "fetch", unmeant)
    loading.loader.download("me", [])
    loading.run()
    (ended,) = loading.got(DownloadEnded)
    assert ended.asker == "me" and isinstance(ended.error, ModelUnavailable)
    assert "ZeroDivisionError" in str(ended.error) and "Traceback" in caplog.text
    assert loading.states[-1] == "ready"


@pytest.mark.parametrize("first", ["model", "voice"])
def test_a_voice_that_cannot_be_read_for_a_reason_unforeseen_is_told_and_the_model_speaks(
    first: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader_module, "read_voice_pack", unmeant)
    loading = Loading()
    loading.hub.here.add("voices/af_heart.pt")
    if first == "voice":
        loading.loader.want_voice("af_heart")
    loading.loader.want_model("af_heart")
    loading.loader.want_voice("af_heart")
    loading.run()
    for loaded in loading.got(VoiceLoaded):
        assert loaded.voice == "af_heart" and "ZeroDivisionError" in str(loaded.error)
    assert len(loading.got(VoiceLoaded)) == 1 + (first == "voice") and "Traceback" in caplog.text
    assert loading.states[-1] == "ready"
