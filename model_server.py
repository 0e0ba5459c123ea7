#!/usr/bin/env python3
"""The resident model: turns text chunks of all voices into audio, starts the voice servers, keeps the order of speech.

Threads
    main       owns registry, floor and ledger; takes everything from one inbox and never blocks on anything else
    accept     hands each caller to a thread of its own, which proves it and then reads its messages into the inbox
    writers    one a connection, empty its outbox
    loader     downloads and loads: weights, voices, spaCy's model (synthesis/loader.py)
    import     torch, while the loader checks the weights; then it ends
    g2p        text chunk to phonemes; builds the G2P while the loader makes the engine (synthesis/synthesis.py)
    synthesis  the only one that calls an engine; never writes to a socket
    start-*    one a voice server that is being started, until it listens

A request, in order
    1. VoiceServerFor from a client: the voice server is started, or known; VoiceServerAt when it has registered
    2. FloorRequest from the voice server: FloorGranted in the order of arrival
    3. Synthesize: phonemes, in pieces the model can take -> scheduler
    4. the scheduler's next batch -> engine -> AudioChunk..., Synthesized to the voice server that asked
The server owns nothing longer than a text chunk; whose utterance was cancelled meanwhile gets its audio dropped.
So it may begin again in fresh memory, or die: voice servers ask the next one what this one has not answered.
"""

from __future__ import annotations

import argparse
import math
import os
import queue
import shutil
import sys
import threading
import time
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, cast

from kokoro_common import __version__
from kokoro_common.daemon import starter
from kokoro_common.daemon.life import DRAIN_SECONDS, Life, run_server
from kokoro_common.daemon.logs import is_line, log_file, start_log
from kokoro_common.daemon.model_server import begin_with_environment, without_engine
from kokoro_common.daemon.record import deaths, is_newer
from kokoro_common.daemon.runtime_directory import RuntimeDirectory
from kokoro_common.engine.device import device_problem
from kokoro_common.errors import (
    KokoroError,
    ModelUnavailable,
    ServersBusy,
    ServersUnreachable,
    UnknownVoice,
    UsageError,
)
from kokoro_common.record import Record
from kokoro_common.settings import Settings
from kokoro_common.synthesis.floor import Floor
from kokoro_common.synthesis.loader import DownloadEnded, DownloadStep, EngineLost, Loader, VoiceLoaded
from kokoro_common.synthesis.synthesis import MEASURED, Synthesis
from kokoro_common.voices.catalogue import VOICES
from kokoro_common.voices.user_voices import own_voices
from kokoro_common.wire.failure import failed
from kokoro_common.wire.messages import (
    SOUND_VARIABLES,
    Admitted,
    Cancel,
    Download,
    Downloaded,
    FloorGranted,
    FloorNext,
    FloorReleased,
    FloorRequest,
    LogLine,
    ModelWanted,
    Outdated,
    Ping,
    Pong,
    ProtocolError,
    Register,
    ServerState,
    Shutdown,
    ShuttingDown,
    Status,
    StatusRequest,
    Synthesize,
    UtteranceEnded,
    UtteranceOpened,
    VoiceServerAt,
    VoiceServerFor,
)
from kokoro_common.wire.reports import LedgerReport, ModelServerReport, VoiceServerReport
from kokoro_common.wire.server import Inbox, Peer, PeerGone, Switchboard, handler_name
from kokoro_common.worker import ROOT

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable
    from typing import NoReturn


END_SECONDS = 5.0  # for the voice servers to end, at a shutdown, after what they were given to drain
REGISTER_SECONDS = 15.0  # for a voice server that runs; how long its start may take, starter.ensure knows
TICK_SECONDS = 1.0
RECORD_TICKS = 5  # between two looks at the record and at the memory
MAX_WAITING = 512  # utterances accepted and not ended, over all voices
RETRY_AFTER_SECONDS = 5.0  # for who comes beyond that
URGENT = 1.25  # times the memory limit: fresh memory without waiting for a pause in the work
OUTCOMES = ("finished", "cancelled", "failed")
MAX_GONE = 64  # voice servers that were lost and may register again


class VoiceStartFailed(Record):
    voice: str
    error: KokoroError


class VoiceStarted(Record):
    """It listens; or did already, and was looking for a model server."""

    voice: str


class Voice:
    """One voice server, from the first request for it until its connection ends."""

    def __init__(self) -> None:
        self.peer: Peer | None = None  # once it has registered
        self.port = 0
        self.pid = 0
        self.instance = ""
        self.counts = dict.fromkeys(("accepted", *OUTCOMES), 0)
        self.waiting: list[Peer] = []  # clients who asked for it before
        self.deadline = math.inf  # time.monotonic() by which it has to register
        self.open: set[str] = set()  # utterances that have not ended
        self.last_used = time.monotonic()


class ModelServer:
    voice_program = os.path.join(ROOT, "voice_server.py")
    make_synthesis = Synthesis  # with the above, the seams at which tests put stub engine and recorder

    def __init__(
        self, settings: Settings, runtime: RuntimeDirectory, life: Life, *, warm: bool = False, lost: str = ""
    ) -> None:
        """`warm`: the model is loaded at once, not with the first request. `lost`: why not on the device as before."""
        if problem := device_problem(settings.device):
            raise ModelUnavailable(problem, "leave out --device or choose another")
        self._settings = settings
        self._runtime = runtime
        self._life = life
        self._central_log = log_file(settings, "kokoro")
        self._log = start_log(settings, "model_server", self._central_log.append)
        self._inbox = Inbox()
        self._temporary_directory = os.path.join(runtime.path, "espeak")
        self._sweep()  # a killed one could not
        self._lost = lost
        self._loader = Loader(settings, self._report, lost)
        if warm:
            self._loader.want_model()
        self._board = Switchboard(runtime.token(), "model", settings.port, self._inbox, self._log)
        self._synthesis = self.make_synthesis(
            self._loader, self._temporary_directory, config_dir=settings.config_dir, debug=settings.debug
        )
        self._floor = Floor(self._floor_granted, self._floor_next)
        self._voices: dict[str, Voice] = {}
        self._ledger = dict.fromkeys(("accepted", *OUTCOMES), 0)  # of voice servers that are gone
        self._gone: OrderedDict[str, dict[str, int]] = OrderedDict()  # taken out of it again if that server comes back
        self._first_audio: deque[float] = deque(maxlen=MEASURED)
        self._underflows = 0
        self._started = time.monotonic()
        self._last_used = time.monotonic()
        self._shutdown_asked: list[Peer] = []
        self._leave_by = 0.0  # 0: not leaving
        self._outdated = False  # a newer program has called: leaves when idle
        self._ticks = 0

    # --- life --------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Blocks until the server is told to end, or has been idle for `keep_alive`."""
        self._board.start()
        self._life.announce(self._board.port)
        self._synthesis.start()
        self._log.info("listening", extra={"port": self._board.port, "version": __version__})
        next_tick = time.monotonic() + TICK_SECONDS
        while not self._may_end():
            try:
                self._dispatch(*self._inbox.get(timeout=max(0.0, next_tick - time.monotonic())))
            except queue.Empty:
                pass
            if time.monotonic() >= next_tick:
                next_tick = time.monotonic() + TICK_SECONDS
                self._tick()
        self._sweep()
        self._log.info("ended")

    def _sweep(self) -> None:
        """espeak's copies of its library stay behind when a process ends; only the one model server makes any."""
        shutil.rmtree(self._temporary_directory, ignore_errors=True)

    def shut_down(self, drain: float) -> None:
        """For a signal handler: the main thread will see it in its inbox."""
        self._inbox.report(Shutdown(drain=drain))

    def _may_end(self) -> bool:
        if not self._leave_by:
            return False
        if any(voice.peer for voice in self._voices.values()) and time.monotonic() < self._leave_by:
            return False
        for peer in self._shutdown_asked:
            peer.close()
            peer.ended.wait(0.5)
        return True

    def _begin_leaving(self, drain: float = 0.0) -> None:
        self._leave_by = time.monotonic() + drain + END_SECONDS
        self._life.leave()
        self._board.close()
        self._loader.close()
        for voice in self._voices.values():
            if voice.peer is not None:
                voice.peer.post(Shutdown(drain=drain))
            for client in voice.waiting:
                client.close()  # it asks the next server, as who comes from now on does

    def _tick(self) -> None:
        now = time.monotonic()
        self._ticks += 1
        if self._leave_by:
            return
        if stuck := self._synthesis.stuck(now, self._settings.stuck_timeout):
            self._die(f"{stuck} made no progress for {self._settings.stuck_timeout:g} s")
        idle = not any(voice.open or voice.waiting for voice in self._voices.values())
        if self._ticks % RECORD_TICKS == 0:
            if not self._life.keep() and idle:
                self._log.warning("the record cannot be kept: leaving")
                self._begin_leaving()
                return
            self._watch_memory(idle=idle)
        for name, voice in list(self._voices.items()):
            if voice.peer is None and now > voice.deadline:
                self._voice_unavailable(name, ServersUnreachable(f"voice server {name} did not register", "try again"))
        unused = now - self._last_used
        if idle and self._outdated:
            self._log.info("a newer program has called: leaving")
            self._begin_leaving(DRAIN_SECONDS)
        elif not self._voices and 0 <= self._settings.keep_alive < unused:
            self._log.info("idle: leaving")
            self._begin_leaving()
        elif idle and self._loader.engine is not None and 0 <= self._settings.unload_after < unused:
            self._renew("idle", warm=False)

    def _watch_memory(self, *, idle: bool) -> None:
        limit = self._settings.memory_limit * 1_000_000
        size = rss_bytes(os.getpid()) if limit and self._synthesis.chunks_done else 0  # else it would be as large again
        if size > (limit if idle else limit * URGENT):
            self._renew(f"{size / 1e6:.0f} MB of memory", warm=self._loader.engine is not None)

    def _renew(self, reason: str, *, warm: bool, lost: str = "") -> NoReturn:
        """Begins again in fresh memory; a graphics card's is freed as well. Voice servers register by themselves."""
        self._log.info("going on in fresh memory", extra={"reason": reason})
        self._sweep()
        self._life.renew(*["--warm"] * warm, *(["--lost", lost or self._lost] if lost or self._lost else []))

    def _die(self, reason: str) -> NoReturn:
        """Of what cannot be mended from within; whoever needs the server starts it again, and reads the reason."""
        self._log.critical(reason)
        print(f"model: {reason}", file=sys.stderr, flush=True)
        os._exit(1)

    def _report(self, event: Record) -> None:
        """From any thread to the main one."""
        self._inbox.report(event)

    def _dispatch(self, peer: Peer | None, message: Record, _: bytes) -> None:
        if isinstance(message, PeerGone):
            assert peer is not None
            self._peer_gone(peer)
            return
        allowed = EVENTS if peer is None else FROM_VOICE if peer.role == "voice" else FROM_CLIENT
        try:
            if not isinstance(message, allowed):
                raise ProtocolError(f"{type(message).__name__} is not for the model server")
            if not isinstance(message, (Ping, StatusRequest, LogLine)):
                self._last_used = time.monotonic()
            self._outdated |= peer is not None and is_newer(peer.version)
            getattr(self, handler_name(message))(peer, message)
        except (KokoroError, ProtocolError) as error:
            self._log.warning("refused", extra={"message_type": type(message).__name__, "reason": str(error)})
            if peer is not None:
                peer.post(failed(getattr(message, "utterance", ""), error, log="model server"))
                if isinstance(error, ProtocolError) and peer.role == "client":
                    peer.close()
        except Exception as error:
            self._log.exception("handler failed", extra={"message_type": type(message).__name__})
            if peer is not None:
                peer.post(failed(getattr(message, "utterance", ""), error, log="model server"))

    def _peer_gone(self, peer: Peer) -> None:
        for name, voice in list(self._voices.items()):
            voice.waiting = [client for client in voice.waiting if client is not peer]
            if voice.peer is peer:
                self._log.info("voice server gone", extra={"voice": name, "open": len(voice.open)})
                self._close_books(voice)
                del self._voices[name]
        for key in self._floor.line:
            if cast("tuple[Peer, str]", key)[0] is peer:
                self._floor.release(key)
        self._synthesis.forget(peer)

    # --- from clients ------------------------------------------------------------------------------------------------

    def handle_voice_server_for(self, peer: Peer, message: VoiceServerFor) -> None:
        if self._leave_by:
            peer.close()
            return
        if not self._has_voice(message.voice):
            raise UnknownVoice(f"there is no voice {message.voice[:40]!r}", "see say.py --list-voices")
        self._check_wanted(message.device, self._loader.device or self._settings.device)
        self._check_wanted(message.precision, self._loader.precision or self._settings.precision)
        if message.engine != "espeak":
            self._synthesis.expect(message.voice[0])
            self._loader.want_model(message.voice)
        voice = self._voices.get(message.voice)
        if voice is not None and voice.peer is not None:
            peer.post(VoiceServerAt(voice=message.voice, port=voice.port))
            return
        if voice is None:
            voice = self._voices[message.voice] = Voice()
            environment = self._voice_environment(message.environment)
            threading.Thread(
                target=self._start_voice, args=(message.voice, environment), name=f"start-{message.voice}", daemon=True
            ).start()
        voice.waiting.append(peer)

    def _has_voice(self, name: str) -> bool:
        """Whether a voice server may speak with it; a blend is spoken by its first voice's."""
        return name in VOICES or own_voices(self._settings.config_dir).get(name) == ""

    def _check_wanted(self, wanted: str, running: str) -> None:
        """`running` is auto until the model is loaded."""
        if wanted not in ("", "auto", running) and running != "auto":
            raise UsageError(f"the servers run on {running}, not {wanted}", "run say.py --shutdown first")

    def handle_download(self, peer: Peer, message: Download) -> None:
        for name in message.voices:
            if name not in VOICES:
                raise UnknownVoice(f"there is no voice {name[:40]!r}", "see say.py --list-voices")
        self._loader.download(peer, list(message.voices))

    def handle_status_request(self, peer: Peer, _: StatusRequest) -> None:
        peer.post(self.status())

    def handle_ping(self, peer: Peer, _: Ping) -> None:
        peer.post(Pong(done=self._synthesis.chunks_done))

    def handle_shutdown(self, peer: Peer | None, message: Shutdown) -> None:
        if peer is not None:
            peer.post(ShuttingDown(pid=os.getpid()))
            self._shutdown_asked.append(peer)
        if not self._leave_by:
            self._begin_leaving(min(max(0.0, message.drain), DRAIN_SECONDS))

    # --- voice servers -----------------------------------------------------------------------------------------------

    def _voice_environment(self, sound: dict[str, str]) -> dict[str, str]:
        own = {key: value for key, value in os.environ.items() if not key.startswith(SOUND_VARIABLES)}
        theirs = {
            key: value
            for key, value in sound.items()
            if key.startswith(SOUND_VARIABLES) and "=" not in key and "\0" not in key + value
        }
        return without_engine(own) | theirs | self._settings.environment() | {"KOKORO_RUNTIME_DIR": self._runtime.path}

    def _start_voice(self, name: str, environment: dict[str, str]) -> None:
        """On a thread of its own: returns when the voice server listens; it registers by itself."""
        program = starter.Program(
            name=f"voice-{name}",
            path=self.voice_program,
            arguments=(name,),
            environment=environment,
            stderr_path=os.path.join(self._settings.log_dir, f"voice_server-{name}.stderr"),
            on_exit=lambda code: self._voice_exited(name, code),
        )
        try:
            starter.ensure(self._runtime, program).close()
            self._report(VoiceStarted(voice=name))
        except KokoroError as error:
            self._report(VoiceStartFailed(voice=name, error=error))
        except OSError as error:
            problem = ServersUnreachable(f"voice server {name} cannot be started: {error}", "try again")
            self._report(VoiceStartFailed(voice=name, error=problem))

    def _voice_exited(self, name: str, code: int) -> None:
        """On a thread of its own."""
        log = self._log.info if code == 0 else self._log.error
        log("voice server exited", extra={"voice": name, "code": code})
        if code:
            starter.remove_stale_record(self._runtime, f"voice-{name}")

    def handle_voice_started(self, _: None, message: VoiceStarted) -> None:
        if voice := self._voices.get(message.voice):
            voice.deadline = time.monotonic() + REGISTER_SECONDS

    def handle_voice_start_failed(self, _: None, message: VoiceStartFailed) -> None:
        self._voice_unavailable(message.voice, message.error)

    def _voice_unavailable(self, name: str, error: KokoroError) -> None:
        voice = self._voices.get(name)
        if voice is not None and voice.peer is None:
            del self._voices[name]
            for client in voice.waiting:
                client.post(failed("", error, log="model server"))

    def handle_register(self, peer: Peer, message: Register) -> None:
        if not self._has_voice(message.voice):
            raise ProtocolError(f"there is no voice {message.voice[:40]!r}")
        if message.pid <= 0 or not 0 < message.port < 65536:
            raise ProtocolError(f"there is no process {message.pid} or port {message.port}")
        known = self._voices.get(message.voice)
        if known is not None and known.peer is not None and known.instance == message.instance:
            self._peer_gone(known.peer)  # word of that has not reached us yet
        voice = self._voices.setdefault(message.voice, Voice())
        if voice.peer is not None:
            raise ProtocolError(f"{message.voice} has registered already")
        voice.peer, voice.port, voice.pid, voice.instance = peer, message.port, message.pid, message.instance
        for name, count in self._gone.pop(message.instance, {}).items():
            self._ledger[name] -= count
        voice.counts = {name: getattr(message, name) for name in voice.counts}
        voice.open = set(message.open)
        for utterance in voice.open:
            self._synthesis.open(peer, utterance)
        peer.post(self._loader.state)
        self._synthesis.expect(message.voice[0])
        for client in voice.waiting:
            client.post(VoiceServerAt(voice=message.voice, port=message.port))
        voice.waiting = []
        self._log.info("registered", extra={"voice": message.voice, "voice_pid": message.pid, "port": message.port})

    def _voice_of(self, peer: Peer) -> Voice:
        for voice in self._voices.values():
            if voice.peer is peer:
                return voice
        raise ProtocolError("a voice server must register first")

    def _close_books(self, voice: Voice) -> None:
        """Of a voice server that is gone: what it had open has failed, unless it registers again and says otherwise."""
        voice.counts["failed"] += len(voice.open)
        for name, count in voice.counts.items():
            self._ledger[name] += count
        self._gone[voice.instance] = voice.counts
        if len(self._gone) > MAX_GONE:
            self._gone.popitem(last=False)

    def handle_model_wanted(self, _: Peer, __: ModelWanted) -> None:
        self._loader.want_model()

    def handle_outdated(self, _: Peer, __: Outdated) -> None:
        self._outdated = True

    def handle_utterance_opened(self, peer: Peer, message: UtteranceOpened) -> None:
        voice = self._voice_of(peer)
        if message.utterance not in voice.open:
            if sum(len(each.open) for each in self._voices.values()) >= MAX_WAITING:
                error = ServersBusy(RETRY_AFTER_SECONDS)
                peer.post(failed(message.utterance, error, log="model server"))
                return
            voice.open.add(message.utterance)
            voice.counts["accepted"] += 1
            self._synthesis.open(peer, message.utterance)
        voice.last_used = time.monotonic()
        peer.post(Admitted(utterance=message.utterance))

    def handle_utterance_ended(self, peer: Peer, message: UtteranceEnded) -> None:
        voice = self._voice_of(peer)
        voice.last_used = time.monotonic()
        if message.outcome not in OUTCOMES:
            raise ProtocolError(f"an utterance has {message.outcome}")
        if message.utterance not in voice.open:
            return
        voice.open.remove(message.utterance)
        voice.counts[message.outcome] += 1
        self._synthesis.end(peer, message.utterance)
        self._underflows += message.underflows
        if message.first_audio:
            self._first_audio.append(message.first_audio)

    def handle_cancel(self, peer: Peer, message: Cancel) -> None:
        self._synthesis.end(peer, message.utterance)

    def handle_synthesize(self, peer: Peer, message: Synthesize) -> None:
        self._synthesis.request(peer, message)

    def handle_floor_request(self, peer: Peer, message: FloorRequest) -> None:
        if message.utterance not in self._voice_of(peer).open:
            return  # it has ended meanwhile
        since = time.monotonic() - max(0.0, message.age)
        if not message.interrupt:
            self._floor.request((peer, message.utterance), since)
            return
        for key in self._floor.interrupt((peer, message.utterance), since):
            other, utterance = cast("tuple[Peer, str]", key)
            other.post(Cancel(utterance=utterance))

    def handle_floor_released(self, peer: Peer, message: FloorReleased) -> None:
        self._floor.release((peer, message.utterance))

    def handle_log_line(self, _: Peer, message: LogLine) -> None:
        if not is_line(message.line):
            raise ProtocolError("a log line must be one JSON object")
        self._central_log.append(message.line)

    def _floor_granted(self, key: Hashable) -> None:
        peer, utterance = cast("tuple[Peer, str]", key)
        peer.post(FloorGranted(utterance=utterance))

    def _floor_next(self, key: Hashable) -> None:
        peer, utterance = cast("tuple[Peer, str]", key)
        peer.post(FloorNext(utterance=utterance))

    # --- from the loader ---------------------------------------------------------------------------------------------

    def handle_server_state(self, _: None, message: ServerState) -> None:
        self._synthesis.model_changed()
        for voice in self._voices.values():
            if voice.peer is not None:
                voice.peer.post(message)

    def handle_voice_loaded(self, _: None, message: VoiceLoaded) -> None:
        self._synthesis.voice_loaded(message)

    def handle_engine_lost(self, _: None, message: EngineLost) -> None:
        """Voice servers ask the new process for what this one has not answered; it looks anew which device works."""
        if not self._leave_by:
            self._renew(message.reason, warm=True, lost=message.reason)

    def handle_download_step(self, _: None, message: DownloadStep) -> None:
        assert isinstance(message.asker, Peer)
        message.asker.post(ServerState(state="downloading", detail=message.file, fraction=message.fraction))

    def handle_download_ended(self, _: None, message: DownloadEnded) -> None:
        peer = message.asker
        assert isinstance(peer, Peer)
        if message.error is not None:
            peer.post(failed("", message.error))
        else:
            peer.post(Downloaded(files=message.files, path=self._settings.cache_dir))

    # --- status ------------------------------------------------------------------------------------------------------

    def status(self) -> Status:
        """What `say.py --status` prints."""
        loader, now = self._loader, time.monotonic()
        neural = loader.engine is not None
        in_flight = sum(len(voice.open) for voice in self._voices.values())
        books = (self._ledger, *(voice.counts for voice in self._voices.values()))
        ledger = {name: sum(counts[name] for counts in books) for name in self._ledger}
        return Status(
            version=__version__,
            model_server=ModelServerReport(
                pid=os.getpid(),
                port=self._board.port,
                state=loader.state.state,
                uptime_s=round(now - self._started, 1),
                engine="kokoro" if neural else "espeak",
                engine_reason=loader.state.detail or ("the model is loaded" if neural else "nobody asked for it yet"),
                device=loader.device or self._settings.device,
                device_reason=loader.device_reason,
                precision=loader.precision or self._settings.precision,
                precision_reason=loader.precision_reason,
                decoder=loader.engine.path if loader.engine is not None else "",
                batch_limit=loader.engine.batch_limit if loader.engine is not None else 1,
                revision=loader.manifest.revision,
                g2p=self._synthesis.g2p_quality,
                queue=self._synthesis.waiting,
                rss_bytes=rss_bytes(os.getpid()),
                busy_s=round(self._synthesis.busy(now), 1),
                ledger=LedgerReport(**ledger, in_flight=in_flight),
                rtf_p50=percentile(self._synthesis.real_time_factors, 50),
                rtf_p95=percentile(self._synthesis.real_time_factors, 95),
                first_audio_ms_p50=percentile([seconds * 1000 for seconds in self._first_audio], 50),
                first_audio_ms_p95=percentile([seconds * 1000 for seconds in self._first_audio], 95),
                underflows=self._underflows,
                restarts=deaths(self._runtime),
            ),
            voice_servers=tuple(
                VoiceServerReport(
                    voice=name,
                    pid=voice.pid,
                    port=voice.port,
                    rss_bytes=rss_bytes(voice.pid),
                    idle_s=0.0 if voice.open else round(now - voice.last_used, 1),
                )
                for name, voice in self._voices.items()
                if voice.peer is not None
            ),
        )


def rss_bytes(pid: int) -> int:
    """0 for a process that has just ended."""
    import psutil  # 30 ms: not on the way to listening

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def percentile(values: Collection[float], percent: int) -> float | None:
    """None while nothing was measured."""
    known = sorted(values)
    return round(known[(len(known) - 1) * percent // 100], 3) if known else None


EVENTS = (ServerState, VoiceLoaded, EngineLost, DownloadStep, DownloadEnded, VoiceStarted, VoiceStartFailed, Shutdown)
FROM_CLIENT = (VoiceServerFor, Download, StatusRequest, Ping, Shutdown)
FROM_VOICE = (
    Register,
    Outdated,
    Ping,
    ModelWanted,
    UtteranceOpened,
    UtteranceEnded,
    Synthesize,
    Cancel,
    FloorRequest,
    FloorReleased,
    LogLine,
)


def main(arguments: list[str] | None = None, server: type[ModelServer] = ModelServer) -> int:
    """Runs the model server; normally started by say.py. Returns the exit code."""
    if arguments is None:
        begin_with_environment()
    parser = argparse.ArgumentParser(prog="kokoro-model-server", description="The resident model of Kokoro Say.")
    parser.add_argument("--inherited", default="", help=argparse.SUPPRESS)
    parser.add_argument("--warm", action="store_true", help="load the model at once")
    parser.add_argument("--lost", default="", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)

    def make(settings: Settings, runtime: RuntimeDirectory, life: Life) -> ModelServer:
        return server(settings, runtime, life, warm=options.warm, lost=options.lost)

    return run_server("model", options.inherited, make)


if __name__ == "__main__":
    sys.exit(main())
