"""Brings the model within reach: files from the hub, the engine, voice packs. One thread, so nothing is fetched twice.

"ready" is when the engine is made, and the G2P of the languages that are expected. Side by side run torch's import, on
a thread of its own, and the hashing of the weights; then the engine is made here and the G2P on its thread.

The server that owns the Loader hears of every change through `report`, called on the loader's thread. While the hub
is out of reach the state is "default", and the hub is tried again every `hub_retry` seconds: when it answers, the
neural voice takes over in the same process.
"""

from __future__ import annotations

import gc
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from kokoro_common.daemon.model_server import prepare_environment
from kokoro_common.engine.device import choose_device
from kokoro_common.engine.tuning import Choice, make_engine
from kokoro_common.errors import SAY, KokoroError, ModelUnavailable
from kokoro_common.hub.download import Hub, quieten_huggingface_hub
from kokoro_common.hub.manifest import load_manifest
from kokoro_common.hub.spacy import spacy_path
from kokoro_common.record import Record
from kokoro_common.settings import Settings
from kokoro_common.voices.pack import read_voice_pack
from kokoro_common.voices.user_voices import read_own_pack
from kokoro_common.wire.messages import ServerState

if TYPE_CHECKING:
    from kokoro_common.engine.engine import KokoroEngine
    from kokoro_common.voices.pack import FloatArray

log = logging.getLogger("kokoro.loader")

REMEDY = f"for the real voice connect to the network and run {SAY} --download"


SWITCH, HURRIED_SWITCH = 0.005, 0.0001  # seconds until a thread that wants the GIL gets it; the first is Python's own
MEASURED_FILE = "measured.json"  # in the cache; see the room tuning


class VoiceLoaded(Record):
    """The pack of a catalogue voice is there, or why it is not."""

    voice: str
    error: KokoroError | None = None


class EngineLost(Record):
    """The device has failed: this process cannot use it again, another may."""

    reason: str


class DownloadStep(Record):
    asker: object  # what was given to download()
    file: str
    done: int  # bytes of the whole download
    total: int


class DownloadEnded(Record):
    asker: object
    files: int = 0
    error: KokoroError | None = None


class Loader:
    def __init__(
        self, settings: Settings, report: Callable[[Record], None], lost: str = "", unloaded: str = ""
    ) -> None:
        """Cheap: reads the manifest (UsageError), imports nothing heavy. Nothing is loaded before want_model().

        `lost`: why an earlier process has lost its device, which is not tried again. `unloaded`: why an earlier program
        of this process has freed its model.
        """
        self._lost = lost
        self.unloaded = unloaded
        self.manifest = load_manifest(settings.manifest)
        self.hub = Hub(self.manifest, settings.cache_dir, settings.offline)
        # Written by the loader's thread alone: each is replaced as a whole; only `packs` grows in place.
        # Read by the main thread (all, for the status), g2p (spacy_path) and synthesis (engine, packs).
        self.state = ServerState(state="starting")
        self.engine: KokoroEngine | None = None
        self.device = ""
        self.wanted_device, self.wanted_precision = settings.device, settings.precision
        self.device_reason = ""
        self.precision = ""
        self.precision_reason = ""
        self.spacy_path: str | None = None  # decided before the state is "loading"
        self.packs: dict[str, FloatArray] = {}
        self._settings = settings
        self._report = report
        self._wanted = False
        self._cold: set[str] = set()  # languages that "ready" waits for
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="loader", daemon=True)

    def start(self) -> None:
        """What is wanted is loaded from now on."""
        self._thread.start()

    def want_model(self, voice: str = "") -> None:
        """The first call starts the loading, after the voice that will speak; later ones change nothing."""
        if not self._wanted:
            self._wanted = True
            self._jobs.put(lambda: self._load_model(voice))

    @property
    def model_digest(self) -> str:
        """SHA-256 of the weights, hexadecimal."""
        return self.manifest.files[self.manifest.model]

    @property
    def has_work(self) -> bool:
        """Whether the model is on its way."""
        return self._wanted and self.state.state not in ("ready", "default", "failed")

    @property
    def has_memory(self) -> bool:
        """Whether there is memory to free, or soon will be. For the main thread."""
        return self._wanted and self.state.state != "default"

    def want_language(self, lang: str) -> None:
        """Unless the state is "ready" already, it will not be before `language_warm` is called."""
        self._jobs.put(lambda: self._cold.add(lang))

    def language_warm(self, lang: str) -> None:
        """The G2P is built, or cannot be, as who asks for it will hear."""

        def warm() -> None:
            self._cold.discard(lang)
            self._check_ready()

        self._jobs.put(warm)

    def want_voice(self, name: str) -> None:
        """Reports VoiceLoaded."""
        self._jobs.put(lambda: self._load_voice(name))

    def download(self, asker: object, voices: list[str]) -> None:
        """Fetches model and voices into the cache. Reports DownloadStep..., DownloadEnded."""
        self._jobs.put(lambda: self._download(asker, voices))

    def close(self) -> None:
        """Ends a running download; what is complete stays. Idempotent, does not wait."""
        self._jobs.put(None)
        self.hub.abort()

    def _run(self) -> None:
        quieten_huggingface_hub()  # before any other library imports it
        while True:
            try:
                job = self._jobs.get(timeout=self._settings.hub_retry if self._may_retry else None)
            except queue.Empty:
                job = self._retry
            if job is None:
                return
            try:
                job()
            except Exception as error:  # of the model: an import that is broken, above all. Speech must hear of it
                log.exception("loading failed")
                self._set_state("failed", f"loading failed: {error!r}; see the log of the model server", exit_code=4)

    @property
    def _may_retry(self) -> bool:
        return self.state.state == "default" and not self._settings.offline

    def _set_state(self, state: str, detail: str = "", exit_code: int = 0) -> None:
        self._change_state(ServerState(state=state, detail=detail, exit_code=exit_code))

    def _change_state(self, state: ServerState) -> None:
        if state.state != self.state.state:
            log.info("state", extra={"state": state.state, "detail": state.detail})
        if state.state in ("ready", "default", "failed"):
            _set_pace(hurried=False)
        self.state = state
        self._report(state)

    def _show_download(self, file: str, done: int, total: int) -> None:
        self._change_state(downloading(file, done, total))

    def _load_model(self, voice: str) -> None:
        names = [self.manifest.config, self.manifest.model]
        if all(map(self.hub.seems_cached, names)):
            _set_pace(hurried=True)
            threading.Thread(target=import_torch, name="import", daemon=True).start()
        try:
            downloaded = None in map(self.hub.cached, names)
            if downloaded:
                self.hub.preflight()  # speech waits: fetch itself would be patient with a hub that is busy
            files = self.hub.fetch(names, self._show_download)
        except ModelUnavailable as error:
            self._set_state("default", f"{error.problem}; {REMEDY}", exit_code=error.exit_code)
            return
        # The voice that will speak, to measure with, unless it may take a while to come. Who asks hears of problems.
        if voice and (downloaded or self.hub.cached(f"voices/{voice}.pt")):
            self._read_voice(voice)
        self._start_engine(files)

    def _retry(self) -> None:
        """Quiet until the hub answers: meanwhile the embedded default goes on speaking."""
        try:
            self.hub.preflight()
            files = self.hub.fetch([self.manifest.config, self.manifest.model], lambda *_: None)
        except ModelUnavailable as error:
            log.info("the hub is still out of reach", extra={"reason": str(error)})
            return
        self._start_engine(files)

    def _start_engine(self, files: dict[str, str]) -> None:
        try:
            self.spacy_path = spacy_path(self.hub, self._show_download)
            self._set_state("loading")
            began = time.monotonic()
            prepare_environment()
            self.device, self.device_reason = self._choose_device()
            self.engine, choice = self._make_engine(files)
            self.precision, self.precision_reason = choice.precision, choice.reason
        except KokoroError as error:
            self._set_state("failed", error.line, exit_code=error.exit_code)
            return
        log.info("engine made", extra={"seconds": round(time.monotonic() - began, 3), "device": self.device})
        self._jobs.put(self._check_ready)  # behind the languages that have been wanted meanwhile

    def _choose_device(self) -> tuple[str, str]:
        if not self._lost:
            return choose_device(self._settings.device)
        if self._settings.device == "auto":
            return "cpu", self._lost
        raise ModelUnavailable(self._lost, f"run {SAY} --shutdown to try it again, or use --device auto")

    def _make_engine(self, files: dict[str, str]) -> tuple[KokoroEngine, Choice]:
        return make_engine(
            (files[self.manifest.config], files[self.manifest.model]),
            self.device,
            self._settings.precision,
            model=self.manifest.files[self.manifest.model],
            pack=self._any_pack(),
            notes=os.path.join(self._settings.cache_dir, MEASURED_FILE),
            measuring=lambda: self._set_state("loading", "measuring once what is fastest here"),
        )

    def _check_ready(self) -> None:
        if self.engine is not None and self.state.state == "loading" and not self._cold:
            self._set_state("ready")

    def engine_lost(self, reason: str) -> None:
        """To be called by who uses the engine."""
        self._report(EngineLost(reason=reason))

    def engine_changed(self) -> None:
        """The engine has had to leave its device; it says why in its notice. For the synthesis thread."""
        assert self.engine is not None
        device, precision, notice = self.engine.device, self.engine.precision, self.engine.notice

        def note() -> None:
            self.device, self.device_reason = device, notice
            self.precision, self.precision_reason = precision, notice

        self._jobs.put(note)

    def _any_pack(self) -> FloatArray | None:
        """Something to measure with: the voice that was asked for, or one that is in the cache."""
        if not self.packs:
            for name in self.hub.cached_voices()[:1]:
                self._read_voice(name)
        return next(iter(self.packs.values()), None)

    def _load_voice(self, name: str) -> None:
        error: KokoroError | None = None
        if name not in self.packs and (problem := self._read_voice(name)):
            cached = ", ".join(self.hub.cached_voices()) or "none"
            reason = f"voice {name[:80]} cannot be had: {problem.problem}"
            error = ModelUnavailable(reason, f"voices at hand: {cached}")
        self._report(VoiceLoaded(voice=name, error=error))

    def _read_voice(self, name: str) -> ModelUnavailable | None:
        """Into `packs`, fetched if need be; or why not, which is no fault of the model's."""
        file = f"voices/{name}.pt"
        try:
            if (pack := read_own_pack(self._settings.config_dir, name)) is not None:
                self.packs[name] = pack
                return None
            self.packs[name] = read_voice_pack(self.hub.fetch([file], lambda *_: None)[file])
        except ModelUnavailable as problem:
            return problem
        except Exception as error:  # somebody waits for word of it
            return _unforeseen("a voice cannot be read", error)
        return None

    def _download(self, asker: object, voices: list[str]) -> None:
        files = [self.manifest.config, self.manifest.model, *(f"voices/{name}.pt" for name in voices)]

        def show(file: str, done: int, total: int) -> None:
            self._report(DownloadStep(asker=asker, file=file, done=done, total=total))

        try:
            count = len(self.hub.fetch(files, show))
        except ModelUnavailable as error:
            self._report(DownloadEnded(asker=asker, error=error))
            return
        except Exception as error:  # the model may be speaking, and somebody waits for the end
            self._report(DownloadEnded(asker=asker, error=_unforeseen("a download failed", error)))
            return
        self._report(DownloadEnded(asker=asker, files=count))
        if self._may_retry:
            self._retry()  # what was out of reach is here now


def _unforeseen(event: str, error: Exception) -> ModelUnavailable:
    """For who waits. Call it where the error was caught: it is logged with its place."""
    log.exception(event)
    return ModelUnavailable(repr(error), "see the log of the model server")


def downloading(file: str, done: int, total: int) -> ServerState:
    fraction = min(1.0, done / total) if total else 0.0
    return ServerState(state="downloading", detail=file, fraction=fraction, done=done, total=total)


def _set_pace(hurried: bool) -> None:
    """How the interpreter works while the model is loaded; and from then on.

    Going through the hundreds of thousands of objects of imported modules time and again is a tenth of an import, and
    finds nothing. Nor would it later, 0.2 s each time with the GIL held. An engine is made by thousands of short calls
    into torch: if each waited 5 ms for the GIL, it would stand still until the G2P is built, 0.6 s of 4.2.
    """
    if hurried:
        gc.disable()
    else:
        gc.freeze()
        gc.enable()
    sys.setswitchinterval(HURRIED_SWITCH if hurried else SWITCH)


def import_torch() -> None:
    """Blocks until it is done, here or on another thread. A failure is logged, and met again by making the engine."""
    prepare_environment()
    try:
        import kokoro_common.engine.network  # noqa: F401
    except Exception:
        log.exception("torch cannot be imported")
