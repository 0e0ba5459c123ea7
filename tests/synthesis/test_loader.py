"""From the first request to "ready": what runs side by side, what waits for what, and what a failure costs."""

from __future__ import annotations

import gc
import hashlib
import json
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from kokoro_common.engine.tuning import Choice
from kokoro_common.errors import KokoroError
from kokoro_common.hub.download import Hub
from kokoro_common.phonemes.spoken import Spoken
from kokoro_common.settings import Settings
from kokoro_common.synthesis import loader as loader_module
from kokoro_common.synthesis import synthesis as synthesis_module
from kokoro_common.synthesis.loader import Loader, VoiceLoaded
from kokoro_common.synthesis.synthesis import Synthesis
from kokoro_common.text.speech import ChunkRequest, Speech
from kokoro_common.wire.messages import Failed, ServerState, Synthesize
from kokoro_common.wire.server import Peer

FILES = {"config.json": b"{}", "model.pth": b"weights"}
REVISION = "0" * 40
SECONDS = 10  # for what takes none


class FakeEngine:
    """Made when the test says so."""

    batch_limit = 1
    may_be_made: threading.Event
    pace_when_made: list[tuple[bool, float]]

    def __init__(self, config: str, weights: str, device: str) -> None:
        assert self.may_be_made.wait(SECONDS)
        self.pace_when_made.append(pace())


def make_fake_engine(files: tuple[str, str], device: str, *_: object, **__: object) -> tuple[FakeEngine, Choice]:
    return FakeEngine(*files, device), Choice(precision="fp32", reason="a test")


class FakeG2P:
    """What it is asked to build, in order; it fails or waits as the test says."""

    built: queue.SimpleQueue[str]
    may_build: threading.Event
    error: Exception | None

    def __init__(self, spacy_path: str | None, temporary_dir: str) -> None:
        pass

    def warm(self, lang: str) -> None:
        self.built.put(lang)
        assert self.may_build.wait(SECONDS)
        self.spoken("a", lang)

    def spoken(self, text: str, lang: str, edits: object = ()) -> Spoken:
        if self.error is not None:
            raise self.error
        return Spoken(phonemes=text, words=())


class Mailbox:
    """In place of a voice server."""

    def __init__(self) -> None:
        self.messages: queue.SimpleQueue[object] = queue.SimpleQueue()

    def post(self, message: object, payload: bytes = b"") -> None:
        self.messages.put(message)


class Start:
    """A loader and a synthesis, and the server's main thread between them, which a test runs by hand."""

    def __init__(self, directory: Path) -> None:
        manifest = directory / "manifest.json"
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
        manifest.write_text(
            json.dumps(
                {"repo": "a/b", "revision": REVISION, "model": "model.pth", "config": "config.json"}
                | {"files": digests, "spacy": None}
            )
        )
        self._snapshot = directory / "cache" / "hub" / "models--a--b" / "snapshots" / REVISION
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        settings = Settings(cache_dir=str(directory / "cache"), manifest=str(manifest), offline=True)
        self.loader = Loader(settings, self._events.put)
        self.loader.start()
        self.synthesis = Synthesis(self.loader, str(directory / "espeak"), debug=False)
        self.synthesis.start()

    def put_files(self) -> None:
        self._snapshot.mkdir(parents=True)
        for name, content in FILES.items():
            (self._snapshot / name).write_bytes(content)

    def until(self, wanted: str) -> list[str]:
        """Hands on what the loader reports, up to the state that is wanted. The states on the way."""
        states = []
        while wanted not in states:
            event = self._events.get(timeout=SECONDS)
            if isinstance(event, ServerState):
                states.append(event.state)
                self.synthesis.model_changed()
        return states

    def settle(self) -> str:
        """The state when the loader has done all that it has been told so far."""
        for _ in range(2):  # what it was told may have told it something
            self.loader.want_voice("af_nobody")
            while not isinstance(self._events.get(timeout=SECONDS), VoiceLoaded):
                pass
        return self.loader.state.state


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    monkeypatch.setattr(loader_module, "make_engine", make_fake_engine)
    monkeypatch.setattr(loader_module, "choose_device", lambda _: ("cpu", "a test"))
    monkeypatch.setattr(loader_module, "import_torch", lambda: None)
    monkeypatch.setattr(synthesis_module, "import_torch", lambda: None)
    monkeypatch.setattr(synthesis_module.EspeakEngine, "start", lambda self: None)  # it starts a process
    monkeypatch.setattr(synthesis_module, "G2P", FakeG2P)
    monkeypatch.setattr(FakeEngine, "may_be_made", set_event(), raising=False)
    monkeypatch.setattr(FakeEngine, "pace_when_made", [], raising=False)
    monkeypatch.setattr(FakeG2P, "built", queue.SimpleQueue(), raising=False)
    monkeypatch.setattr(FakeG2P, "may_build", set_event(), raising=False)
    monkeypatch.setattr(FakeG2P, "error", None, raising=False)
    start = Start(tmp_path)
    yield start
    FakeG2P.may_build.set()
    FakeEngine.may_be_made.set()
    start.loader.close()
    start.synthesis.close()
    gc.unfreeze()


def pace() -> tuple[bool, float]:
    return gc.isenabled(), sys.getswitchinterval()


def set_event() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


def test_ready_waits_for_the_g2p_of_the_languages_that_are_expected(start: Start) -> None:
    start.put_files()
    FakeG2P.may_build.clear()
    start.synthesis.expect("a")
    start.synthesis.expect("e")
    start.loader.want_model()
    start.until("loading")
    assert FakeG2P.built.get(timeout=SECONDS) == "a"
    assert start.settle() == "loading"
    assert start.loader.engine is not None
    FakeG2P.may_build.set()
    assert start.until("ready") == ["ready"]
    assert FakeG2P.built.get(timeout=SECONDS) == "e"


def test_g2p_is_built_while_the_engine_is_made(start: Start) -> None:
    start.put_files()
    FakeEngine.may_be_made.clear()
    start.synthesis.expect("a")
    start.loader.want_model()
    start.until("loading")
    assert FakeG2P.built.get(timeout=SECONDS) == "a"
    assert start.loader.engine is None
    FakeEngine.may_be_made.set()
    start.until("ready")


def test_ready_waits_for_a_language_that_is_expected_while_the_engine_is_made(start: Start) -> None:
    start.put_files()
    FakeEngine.may_be_made.clear()
    FakeG2P.may_build.clear()
    start.loader.want_model()
    start.until("loading")
    start.synthesis.expect("a")
    FakeEngine.may_be_made.set()
    assert start.settle() == "loading"
    assert start.loader.engine is not None
    FakeG2P.may_build.set()
    start.until("ready")


def test_a_language_that_nobody_expects_is_not_built(start: Start) -> None:
    start.put_files()
    start.loader.want_model()
    start.until("ready")
    assert FakeG2P.built.empty()


def test_a_language_that_comes_later_is_built_at_once_and_once(start: Start) -> None:
    start.put_files()
    start.loader.want_model()
    start.until("ready")
    for _ in range(2):
        start.synthesis.expect("f")
        start.synthesis.expect("i")
    assert [FakeG2P.built.get(timeout=SECONDS) for _ in range(2)] == ["f", "i"]
    assert start.settle() == "ready"
    assert FakeG2P.built.empty()


def test_without_a_model_nothing_is_built_or_imported(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    imported: list[str] = []
    monkeypatch.setattr(loader_module, "import_torch", lambda: imported.append("torch"))
    start.synthesis.expect("a")
    start.loader.want_model()
    start.until("default")
    start.settle()
    assert FakeG2P.built.empty()
    assert imported == []


def test_torch_is_imported_while_the_weights_are_checked(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    start.put_files()
    importing = threading.Event()
    monkeypatch.setattr(loader_module, "import_torch", importing.set)
    check: Callable[..., str | None] = Hub.cached

    def checked(hub: Hub, name: str) -> str | None:
        assert importing.wait(SECONDS)
        return check(hub, name)

    monkeypatch.setattr(Hub, "cached", checked)
    start.loader.want_model()
    assert "ready" in start.until("ready")


@pytest.mark.parametrize("error", [KokoroError("no dictionary", "get one"), ZeroDivisionError("a library")])
def test_a_g2p_that_cannot_be_built_fails_the_request_and_not_the_start(start: Start, error: Exception) -> None:
    start.put_files()
    FakeG2P.error = error
    start.synthesis.expect("a")
    start.loader.want_model()
    start.until("ready")
    start.loader.packs["af_heart"] = cast(Any, None)
    voice_server = Mailbox()
    start.synthesis.open(cast(Peer, voice_server), "u")
    start.synthesis.request(
        cast(Peer, voice_server),
        Synthesize(
            utterance="u",
            request=ChunkRequest(index=0, text="hello", speech=Speech(voice="af_heart", lang="a", engine="kokoro")),
        ),
    )
    failed = voice_server.messages.get(timeout=SECONDS)
    assert isinstance(failed, Failed)
    assert ("no dictionary" if isinstance(error, KokoroError) else "ZeroDivisionError") in failed.text


def test_a_g2p_that_hangs_while_it_is_built_is_seen(start: Start) -> None:
    start.put_files()
    FakeG2P.may_build.clear()
    start.synthesis.expect("a")
    start.loader.want_model()
    start.until("loading")
    FakeG2P.built.get(timeout=SECONDS)
    now = time.monotonic()
    assert start.synthesis.stuck(now, 30) == ""
    assert start.synthesis.stuck(now + 31, 30) == "g2p"


def test_waiting_for_torch_is_not_taken_for_hanging(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting, imported = threading.Event(), threading.Event()

    def import_slowly() -> None:
        waiting.set()
        assert imported.wait(SECONDS)

    monkeypatch.setattr(synthesis_module, "import_torch", import_slowly)
    start.put_files()
    start.synthesis.expect("b")
    start.loader.want_model()
    start.until("loading")
    assert waiting.wait(SECONDS)
    now = time.monotonic()
    assert start.synthesis.stuck(now, 30) == ""
    assert start.synthesis.stuck(now + 31, 30) == ""
    imported.set()
    start.until("ready")


@pytest.mark.parametrize("damaged", [False, True])
def test_collector_and_threads_have_another_pace_only_while_the_model_is_loaded(
    start: Start, monkeypatch: pytest.MonkeyPatch, damaged: bool
) -> None:
    start.put_files()
    if damaged:
        monkeypatch.setattr(loader_module, "choose_device", lambda _: 1 / 0)
    start.loader.want_model()
    start.until("failed" if damaged else "ready")
    assert FakeEngine.pace_when_made == ([] if damaged else [(False, pytest.approx(0.0001))])
    assert pace() == (True, pytest.approx(0.005))
