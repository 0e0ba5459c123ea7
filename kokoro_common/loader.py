"""Brings the model within reach: files from the hub, the engine, voice packs. One thread, so nothing is fetched twice.

The server that owns the Loader hears of every change through `report`, called on the loader's thread. While the hub
is out of reach the state is "default", and the hub is tried again every `hub_retry` seconds: when it answers, the
neural voice takes over in the same process.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from kokoro_common.engine import KokoroEngine, choose_device
from kokoro_common.errors import KokoroError, ModelUnavailable
from kokoro_common.hub import Hub, load_manifest
from kokoro_common.protocol import ServerState
from kokoro_common.record import Record
from kokoro_common.settings import Settings
from kokoro_common.voicepack import read_voice_pack

if TYPE_CHECKING:
    from kokoro_common.voicepack import FloatArray

log = logging.getLogger("kokoro.loader")

REMEDY = "for the real voice connect to the network and run say.py --download"


class VoiceLoaded(Record):
    """The pack of a catalogue voice is there, or why it is not."""

    voice: str
    error: KokoroError | None = None


class DownloadStep(Record):
    asker: object  # what was given to download()
    file: str
    fraction: float  # of the whole download


class DownloadEnded(Record):
    asker: object
    files: int = 0
    error: KokoroError | None = None


class Loader:
    def __init__(self, settings: Settings, report: Callable[[Record], None]) -> None:
        """Cheap: reads the manifest (UsageError), imports nothing heavy. Nothing is loaded before want_model()."""
        self.manifest = load_manifest(settings.manifest)
        self.hub = Hub(self.manifest, settings.cache_dir, settings.offline)
        self.state = ServerState(state="starting")
        self.engine: KokoroEngine | None = None
        self.device = ""
        self.device_reason = ""
        self.spacy_path: str | None = None  # decided before the state is "loading"
        self.packs: dict[str, FloatArray] = {}
        self._settings = settings
        self._report = report
        self._wanted = False
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="loader", daemon=True)
        self._thread.start()

    def want_model(self) -> None:
        """The first call starts the loading; later ones change nothing."""
        if not self._wanted:
            self._wanted = True
            self._jobs.put(self._load_model)

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
        while True:
            try:
                job = self._jobs.get(timeout=self._settings.hub_retry if self._may_retry else None)
            except queue.Empty:
                job = self._retry
            if job is None:
                return
            try:
                job()
            except Exception as error:  # an import that is broken, above all: speech must hear of it
                log.exception("loading failed")
                self._set_state("failed", f"loading failed: {error!r}; see the log of the model server", exit_code=4)

    @property
    def _may_retry(self) -> bool:
        return self.state.state == "default" and not self._settings.offline

    def _set_state(self, state: str, detail: str = "", fraction: float = 0.0, exit_code: int = 0) -> None:
        if state != self.state.state:
            log.info("state", extra={"state": state, "detail": detail})
        self.state = ServerState(state=state, detail=detail, fraction=fraction, exit_code=exit_code)
        self._report(self.state)

    def _show_download(self, file: str, fraction: float) -> None:
        self._set_state("downloading", file, fraction)

    def _load_model(self) -> None:
        names = [self.manifest.config, self.manifest.model]
        try:
            if None in map(self.hub.cached, names):
                self.hub.preflight()  # speech waits: fetch itself would be patient with a hub that is busy
            files = self.hub.fetch(names, self._show_download)
        except ModelUnavailable as error:
            self._set_state("default", f"{error.problem}; {REMEDY}", exit_code=error.exit_code)
            return
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
            self.spacy_path = self.hub.spacy_path(self._show_download)
            self._set_state("loading")
            self.device, self.device_reason = choose_device(self._settings.device)
            self.engine = KokoroEngine(files[self.manifest.config], files[self.manifest.model], self.device)
        except KokoroError as error:
            self._set_state("failed", str(error), exit_code=error.exit_code)
            return
        self._set_state("ready")

    def _load_voice(self, name: str) -> None:
        error: KokoroError | None = None
        if name not in self.packs:
            file = f"voices/{name}.pt"
            try:
                self.packs[name] = read_voice_pack(self.hub.fetch([file], lambda *_: None)[file])
            except ModelUnavailable as problem:
                cached = ", ".join(self.hub.cached_voices()) or "none"
                reason = f"voice {name[:80]} cannot be had: {problem.problem}"
                error = ModelUnavailable(reason, f"voices at hand: {cached}")
        self._report(VoiceLoaded(voice=name, error=error))

    def _download(self, asker: object, voices: list[str]) -> None:
        files = [self.manifest.config, self.manifest.model, *(f"voices/{name}.pt" for name in voices)]

        def show(file: str, fraction: float) -> None:
            self._report(DownloadStep(asker=asker, file=file, fraction=fraction))

        try:
            count = len(self.hub.fetch(files, show))
        except ModelUnavailable as error:
            self._report(DownloadEnded(asker=asker, error=error))
            return
        self._report(DownloadEnded(asker=asker, files=count))
        if self._may_retry:
            self._retry()  # what was out of reach is here now
