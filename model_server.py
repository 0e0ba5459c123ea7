#!/usr/bin/env python3
"""The resident model: turns text chunks of all voices into audio, starts the voice servers, keeps the order of speech.

Threads
    main       owns roster, floor and ledger; takes everything from one inbox and never blocks on anything else
    accept     hears callers until they have proved themselves; each has a thread then, which reads into the inbox
    writers    one a connection, empty its outbox
    loader     downloads and loads: weights, voices, spaCy's model (synthesis/loader.py)
    hub-*      beside the loader, which has a deadline: hub-head asks the hub, hub-get reads one answer
    import     torch, while the loader checks the weights; then it ends
    g2p        text chunk to phonemes; builds the G2P while the loader makes the engine (synthesis/synthesis.py)
    synthesis  the only one that calls an engine; never writes to a socket
    start-*    one a voice server that is being started, until it listens; end-* one for one that hangs
    reap-*     one a voice server that was started, until it has ended
    lock-*     wait for a lock beside start-* and end-*, which have a deadline (daemon/awaited_lock.py)

A request, in order
    1. VoiceServerFor from a client: the voice server is started, or known; VoiceServerAt when it has registered
    2. FloorRequest from the voice server: FloorGranted in the order of arrival
    3. Synthesize: phonemes, in pieces the model can take -> scheduler
    4. the scheduler's next batch -> engine -> AudioChunk..., Synthesized to the voice server that asked
Nothing here is longer than a text chunk; audio of an utterance that was cancelled meanwhile is dropped.
So it may begin again in fresh memory, or die: voice servers ask the next one what this one has not answered.

Over 400 lines: a handler of mostly one to ten lines for each of 25 messages and events, to be found by its name. What
they do stands in kokoro_common/synthesis/.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - what is imported below needs it
    sys.exit(f"{sys.argv[0]}: this is Python {sys.version.split()[0]} ({sys.executable}); run it with 3.11 or newer")

import argparse
import logging
import os
import queue
import shutil
import time
from typing import TYPE_CHECKING

from kokoro_common import __version__
from kokoro_common.daemon.life import DRAIN_SECONDS, Earlier, Life, reap, run_server
from kokoro_common.daemon.logs import is_line, log_file, start_log
from kokoro_common.daemon.model_server import begin_with_environment
from kokoro_common.daemon.process import Pulse
from kokoro_common.daemon.record import deaths, is_newer
from kokoro_common.daemon.runtime_directory import LIBRARIES, RuntimeDirectory
from kokoro_common.engine.device import device_problem
from kokoro_common.errors import (
    SAY,
    KokoroError,
    ModelUnavailable,
    ServersUnreachable,
    UnknownVoice,
    UsageError,
)
from kokoro_common.installed import ROOT
from kokoro_common.record import Record
from kokoro_common.settings import Settings
from kokoro_common.synthesis.floor import Floor
from kokoro_common.synthesis.ledger import Ledger
from kokoro_common.synthesis.loader import DownloadEnded, DownloadStep, EngineLost, Loader, VoiceLoaded, downloading
from kokoro_common.synthesis.report import Figures, model_server_report, rss_bytes, status
from kokoro_common.synthesis.roster import Roster
from kokoro_common.synthesis.synthesis import Synthesis
from kokoro_common.synthesis.voice_starter import VoiceStarted, VoiceStarter, VoiceStartFailed
from kokoro_common.voices.catalogue import VOICES
from kokoro_common.voices.user_voices import own_voices
from kokoro_common.wire.failure import failed
from kokoro_common.wire.messages import (
    Admitted,
    Cancel,
    Download,
    Downloaded,
    FloorGranted,
    FloorNext,
    FloorPaused,
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
    StatusRequest,
    Synthesize,
    Unload,
    Unloaded,
    UtteranceEnded,
    UtteranceOpened,
    VoiceServerAt,
    VoiceServerFor,
    handler_name,
)
from kokoro_common.wire.server import LINGER_SECONDS, Delivery, Inbox, Peer, PeerGone, Switchboard

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn


END_SECONDS = 5.0  # for the voice servers to end, at a shutdown, after what they were given to drain
FIRST_CALL_SECONDS = 10.0  # for the client that has started it
TICK_SECONDS = 1.0
RECORD_TICKS = 5  # between two looks at the record and at the memory
URGENT = 1.25  # times the memory limit: fresh memory without waiting for a pause in the work


class ModelServer:
    voice_program = os.path.join(ROOT, "voice_server.py")
    make_synthesis = Synthesis  # with the above, the seams at which tests put stub engine and recorder
    make_pulse = Pulse

    def __init__(
        self,
        settings: Settings,
        runtime: RuntimeDirectory,
        life: Life,
        *,
        warm: bool = False,
        earlier: Earlier = Earlier(),  # noqa: B008 - frozen
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Touches nothing outside: `run` opens the logs, binds the port, starts the threads.

        `warm`: the model is loaded at once, not with the first request. `earlier`: see Life.renew. `clock`: seconds.
        Raises ModelUnavailable for a device that is not there.
        """
        if problem := device_problem(settings.device):
            raise ModelUnavailable(problem, "leave out --device or choose another")
        self._settings = settings
        self._runtime = runtime
        self._life = life
        self._clock = clock
        self._central_log = log_file(settings, "kokoro")
        self._log = logging.getLogger("kokoro")
        self._inbox = Inbox()
        self._temporary_directory = os.path.join(runtime.path, LIBRARIES)
        self._warm = warm
        self._earlier = earlier
        self._loader = Loader(settings, self._inbox.report, earlier.lost, earlier.unloaded)
        self._board = Switchboard("model", settings.port, self._inbox, self._log)
        self._synthesis = self.make_synthesis(
            self._loader,
            self._temporary_directory,
            config_dir=settings.config_dir,
            debug=settings.debug,
            keep_bytes=settings.kept_audio << 20,
        )
        self._starter = VoiceStarter(settings, runtime, self.voice_program, self._inbox.report)
        self._floor: Floor[tuple[Peer, str]] = Floor(self._floor_granted, self._floor_next)
        self._paused: set[tuple[Peer, str]] = set()  # of those that have the floor
        self._pulses: dict[Peer, Pulse] = {}  # of voice servers that hold up the floor
        self.roster: Roster[Peer] = Roster()
        self.ledger: Ledger[str] = Ledger()  # by the voice server's instance
        self._figures = Figures(clock())
        self._last_used = clock()
        self._clients: set[Peer] = set()
        self._unload_asked: list[Peer] = []
        self._downloading: set[Peer] = set()  # clients that wait for a download
        self._leave_by = 0.0  # seconds; 0: not leaving
        self._outdated = False  # a newer program has called, or has taken this one's place: leaves when idle
        self._called = False  # by anybody who wants something
        self._ticks = 0

    # --- life --------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Blocks until the server is told to end, or has been idle for `keep_alive`."""
        start_log(self._settings, "model_server", self._central_log.append)
        self._sweep()  # a killed one could not
        self._board.start(self._runtime.token(), self._earlier.listening)
        self._life.announce(self._board.port)
        self._loader.start()
        if self._warm:
            self._loader.want_model()
        self._synthesis.start()
        self._log.info("listening", extra={"port": self._board.port, "version": __version__})
        next_tick = self._clock() + TICK_SECONDS
        while not self._may_end():
            try:
                self.dispatch(self._inbox.get(timeout=max(0.0, next_tick - self._clock())))
            except queue.Empty:
                pass
            if self._clock() >= next_tick:
                next_tick = self._clock() + TICK_SECONDS
                self._look(self._clock())
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
        if self.roster.registered and self._clock() < self._leave_by:
            return False
        for peer in self._clients:
            peer.close()
        until = time.monotonic() + LINGER_SECONDS
        for peer in self._clients:
            peer.ended.wait(max(0.0, until - time.monotonic()))
        return True

    def _begin_leaving(self, drain: float = 0.0) -> None:
        self._leave_by = self._clock() + drain + END_SECONDS
        self._life.leave()
        self._board.close()
        self._loader.close()
        for voice in self.roster:
            if voice.peer is not None:
                voice.peer.post(Shutdown(drain=drain))
            for client in voice.waiting:
                client.close()  # it asks the next server, as those that come from now on do

    def _look(self, now: float) -> None:
        """A tick, of which no error ends the server: the next one looks again."""
        try:
            self.tick(now)
        except Exception:
            self._log.exception("a look failed")

    def tick(self, now: float) -> None:
        """What is due by the clock. To be called every TICK_SECONDS."""
        self._ticks += 1
        if self._leave_by:
            return
        if stuck := self._synthesis.stuck(now, self._settings.stuck_timeout):
            self._die(f"{stuck} made no progress for {self._settings.stuck_timeout:g} s")
        idle = self._idle
        if self._ticks % RECORD_TICKS == 0:
            if not self._life.keep() and idle:
                self._log.warning("the record cannot be kept: leaving")
                self._begin_leaving(DRAIN_SECONDS)
                return
            self._watch_files()
            self._watch_memory(idle=idle)
        self._watch_floor()
        for name in self.roster.overdue(now):
            self._voice_unavailable(name, ServersUnreachable(f"voice server {name} did not register", "try again"))
        unused = now - self._last_used
        if idle and self._outdated:
            self._leave_to_a_newer_one()
        elif idle and not self.roster and 0 <= self._keep_alive < unused:
            self._log.info("idle: leaving")
            self._begin_leaving()
        elif idle and self._loader.has_memory and 0 <= self._settings.unload_after < unused:
            self._unload(f"after {_span(self._settings.unload_after)} without speech")
        elif idle and self._unload_asked:
            self._unload("because --unload asked for it")

    @property
    def _idle(self) -> bool:
        """Whether nobody would miss this program, if it began again."""
        waiting = any(voice.waiting for voice in self.roster)
        at_work = self.ledger.in_flight or waiting or self._downloading or self._loader.has_work
        return not at_work and all(client.delivered for client in self._clients)

    def _unload(self, reason: str) -> None:
        """Gives all memory of the model back, that of torch and of the G2P too: by beginning again without them.

        Returns only where the program is gone: then this server leaves, as it is idle.
        """
        if missing := self._life.files.missing():
            self._log.warning("outdated: leaving", extra={"reason": f"{missing} is gone"})
            self._begin_leaving()
            return
        size = rss_bytes(os.getpid())
        self._board.hand_on()  # before the answer: a client that gets it may call at once
        for peer in self._unload_asked:
            peer.post(Unloaded(rss_bytes=size))
            peer.close()
        for peer in self._unload_asked:
            peer.ended.wait(0.5)
        self._renew("unloaded", warm=False, unloaded=reason)

    def _leave_to_a_newer_one(self) -> None:
        """After the voice servers, which know whether their clients have taken all."""
        if not self.roster:
            self._log.info("a newer program has called: leaving")
            self._begin_leaving(DRAIN_SECONDS)
        for voice in self.roster.registered:
            assert voice.peer is not None
            voice.peer.post(Outdated())

    @property
    def _keep_alive(self) -> float:
        """Seconds. Whoever has had this server started is given the time to call it first."""
        seconds = self._settings.keep_alive
        return seconds if self._called or seconds < 0 else max(seconds, FIRST_CALL_SECONDS)

    def _watch_files(self) -> None:
        if not self._outdated and (problem := self._life.files.problem()):
            self._log.warning("the program is no longer the same", extra={"reason": problem})
            self._outdated = True

    def _watch_floor(self) -> None:
        """A voice server that others wait for has to show that it lives; else it is ended, and its lock is free."""
        blocking = {peer for peer, _ in self._floor.blocking}
        self._pulses = {peer: self._pulses.get(peer) or self.make_pulse(self.roster.of(peer).pid) for peer in blocking}
        for peer, pulse in list(self._pulses.items()):
            if not pulse.hangs():
                peer.post(Ping())
                continue
            name = self.roster.of(peer).name
            self._log.error("a voice server hangs with the floor", extra={"voice": name})
            self._starter.end_hung(name)
            peer.drop()  # word of that frees the floor

    def _watch_memory(self, *, idle: bool) -> None:
        limit = self._settings.memory_limit * 1_000_000
        size = rss_bytes(os.getpid()) if limit and self._synthesis.chunks_done else 0  # else it would be as large again
        if size > (limit if idle else limit * URGENT):
            self._renew(f"{size / 1e6:.0f} MB of memory", warm=self._loader.engine is not None)

    def _renew(self, reason: str, *, warm: bool, lost: str = "", unloaded: str = "") -> None:
        """Begins again in fresh memory; a graphics card's is freed as well. Voice servers register by themselves.

        Returns only where the program is gone, so that there is nothing to begin with.
        """
        if missing := self._life.files.missing():
            self._log.warning("no fresh memory", extra={"reason": f"{missing} is gone"})
            return
        self._log.info("going on in fresh memory", extra={"reason": reason, "unloaded": unloaded})
        self._sweep()
        known = {
            "--lost": lost or self._earlier.lost,
            "--unloaded": unloaded,
            "--listening": str(self._board.hand_on()),
        }
        try:
            self._life.renew(*["--warm"] * warm, *(word for pair in known.items() if pair[1] for word in pair))
        except Exception as error:  # nobody hears callers any more
            self._die(f"cannot begin again: {error!r}")

    def _die(self, reason: str) -> NoReturn:
        """Of what cannot be mended from within; whoever needs the server starts it again, and reads the reason."""
        self._log.critical(reason)
        print(f"model: {reason}", file=sys.stderr, flush=True)
        os._exit(1)

    def dispatch(self, delivery: Delivery) -> None:
        """To the handler of its message; an error is told to the sender."""
        peer, message, _ = delivery
        try:
            if isinstance(message, PeerGone):
                assert peer is not None
                self._peer_gone(peer)
            else:
                self._handle(peer, message)
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

    def _handle(self, peer: Peer | None, message: Record) -> None:
        if peer is not None and peer.role == "client":
            self._clients.add(peer)
        allowed = EVENTS if peer is None else FROM_VOICE if peer.role == "voice" else FROM_CLIENT
        if not isinstance(message, allowed):
            raise ProtocolError(f"{type(message).__name__} is not for the model server")
        if not isinstance(message, (Ping, StatusRequest, LogLine)):
            self._last_used = self._clock()
            self._called = True
        self._outdated |= peer is not None and is_newer(peer.version)
        getattr(self, handler_name(message))(peer, message)

    def _peer_gone(self, peer: Peer) -> None:
        self._clients.discard(peer)
        self._downloading.discard(peer)
        for voice in self.roster.leave(peer):
            self._log.info(
                "voice server gone", extra={"voice": voice.name, "open": self.ledger.open_of(voice.instance)}
            )
            self.ledger.close(voice.instance)
        self._unload_asked = [other for other in self._unload_asked if other is not peer]
        for key in self._floor.keys:
            if key[0] is peer:
                self._release_floor(key)
        self._synthesis.forget(peer)

    # --- from clients ------------------------------------------------------------------------------------------------

    def handle_voice_server_for(self, peer: Peer, message: VoiceServerFor) -> None:
        if self._leave_by:
            peer.close()
            return
        if not self._has_voice(message.voice):
            raise UnknownVoice(f"there is no voice {message.voice[:40]!r}", f"see {SAY} --list-voices")
        self._check_wanted(message.device, self._loader.device or self._settings.device)
        self._check_wanted(message.precision, self._loader.precision or self._settings.precision)
        if message.engine != "espeak":
            self._synthesis.expect(message.voice[0])
            self._loader.want_model(message.voice)
        voice = self.roster.get(message.voice)
        if voice is not None and voice.peer is not None:
            peer.post(VoiceServerAt(voice=message.voice, port=voice.port))
        elif self._idle and (problem := self._life.files.problem()):
            self._log.info("outdated: leaving", extra={"reason": problem})
            self._begin_leaving(DRAIN_SECONDS)
            peer.close()  # it asks the next server
        elif self.roster.expect(message.voice, peer, self._clock()):
            self._starter.start(message.voice, message.environment)

    def _has_voice(self, name: str) -> bool:
        """Whether a voice server may speak with it; a blend is spoken by its first voice's."""
        return name in VOICES or own_voices(self._settings.config_dir).get(name) == ""

    def _check_wanted(self, wanted: str, running: str) -> None:
        """`running` is auto until the model is loaded."""
        if wanted not in ("", "auto", running) and running != "auto":
            raise UsageError(f"the servers run on {running}, not {wanted}", f"run {SAY} --shutdown first")

    def handle_download(self, peer: Peer, message: Download) -> None:
        for name in message.voices:
            if name not in VOICES:
                raise UnknownVoice(f"there is no voice {name[:40]!r}", f"see {SAY} --list-voices")
        self._downloading.add(peer)
        self._loader.download(peer, list(message.voices))

    def handle_unload(self, peer: Peer, _: Unload) -> None:
        if not self._loader.has_memory:
            peer.post(Unloaded(rss_bytes=0))
            return
        self._unload_asked.append(peer)  # the next tick looks

    def handle_status_request(self, peer: Peer, _: StatusRequest) -> None:
        now = self._clock()
        server = model_server_report(self._loader, self._synthesis, self._figures, self.ledger.report(), now)
        server = server.replace(port=self._board.port, restarts=deaths(self._runtime))
        peer.post(status(server, self.roster, self.ledger, now))

    def handle_ping(self, peer: Peer, _: Ping) -> None:
        peer.post(Pong(done=self._synthesis.chunks_done))

    def handle_pong(self, peer: Peer, _: Pong) -> None:
        if pulse := self._pulses.get(peer):
            pulse.answered()

    def handle_shutdown(self, peer: Peer | None, message: Shutdown) -> None:
        if peer is not None:
            peer.post(ShuttingDown(pid=os.getpid()))
        if not self._leave_by:
            self._begin_leaving(min(max(0.0, message.drain), DRAIN_SECONDS))

    # --- voice servers -----------------------------------------------------------------------------------------------

    def handle_voice_started(self, _: None, message: VoiceStarted) -> None:
        self.roster.started(message.voice, self._clock())

    def handle_voice_start_failed(self, _: None, message: VoiceStartFailed) -> None:
        self._voice_unavailable(message.voice, message.error)

    def _voice_unavailable(self, name: str, error: KokoroError) -> None:
        for client in self.roster.give_up(name):
            client.post(failed("", error))

    def handle_register(self, peer: Peer, message: Register) -> None:
        if not self._has_voice(message.voice):
            raise ProtocolError(f"there is no voice {message.voice[:40]!r}")
        if message.pid <= 0 or not 0 < message.port < 65536:
            raise ProtocolError(f"there is no process {message.pid} or port {message.port}")
        known = self.roster.get(message.voice)
        if known is not None and known.peer is not None and known.instance == message.instance:
            self._peer_gone(known.peer)  # word of that has not reached us yet
        waiting = self.roster.register(peer, message, self._clock())
        counts = {name: getattr(message, name) for name in ("accepted", "finished", "cancelled", "failed")}
        self.ledger.register(message.instance, counts, message.open)
        for utterance in message.open:
            self._synthesis.open(peer, utterance)
        peer.post(self._loader.state)
        self._synthesis.expect(message.voice[0])
        for client in waiting:
            client.post(VoiceServerAt(voice=message.voice, port=message.port))
        self._log.info("registered", extra={"voice": message.voice, "voice_pid": message.pid, "port": message.port})

    def handle_model_wanted(self, _: Peer, __: ModelWanted) -> None:
        self._loader.want_model()

    def handle_outdated(self, _: Peer, __: Outdated) -> None:
        self._outdated = True

    def handle_utterance_opened(self, peer: Peer, message: UtteranceOpened) -> None:
        voice = self.roster.of(peer)
        if self.ledger.open(voice.instance, message.utterance):
            self._synthesis.open(peer, message.utterance)
        voice.last_used = self._clock()
        peer.post(Admitted(utterance=message.utterance))

    def handle_utterance_ended(self, peer: Peer, message: UtteranceEnded) -> None:
        voice = self.roster.of(peer)
        voice.last_used = self._clock()
        if not self.ledger.end(voice.instance, message.utterance, message.outcome):
            return
        self._synthesis.end(peer, message.utterance)
        self._figures.count(message)

    def handle_cancel(self, peer: Peer, message: Cancel) -> None:
        self._synthesis.end(peer, message.utterance)

    def handle_synthesize(self, peer: Peer, message: Synthesize) -> None:
        self._synthesis.request(peer, message)

    def handle_floor_request(self, peer: Peer, message: FloorRequest) -> None:
        if not self.ledger.is_open(self.roster.of(peer).instance, message.utterance):
            return  # it has ended
        since = self._clock() - max(0.0, message.age)
        if not message.interrupt:
            self._floor.request((peer, message.utterance), since)
            if self._paused:
                peer.post(FloorPaused(utterance=message.utterance, paused=True))
            return
        for other, utterance in self._floor.interrupt((peer, message.utterance), since):
            other.post(Cancel(utterance=utterance))

    def handle_floor_paused(self, peer: Peer, message: FloorPaused) -> None:
        if (peer, message.utterance) in self._floor.keys:
            self._set_paused((peer, message.utterance), message.paused)

    def handle_floor_released(self, peer: Peer, message: FloorReleased) -> None:
        self._release_floor((peer, message.utterance))

    def _release_floor(self, key: tuple[Peer, str]) -> None:
        self._set_paused(key, False)
        self._floor.release(key)

    def _set_paused(self, key: tuple[Peer, str], paused: bool) -> None:
        """Those that wait hear of it."""
        if paused == (key in self._paused):
            return
        self._paused ^= {key}
        for peer, utterance in self._floor.line[1:]:
            peer.post(FloorPaused(utterance=utterance, paused=bool(self._paused)))

    def handle_log_line(self, _: Peer, message: LogLine) -> None:
        if not is_line(message.line):
            raise ProtocolError("a log line must be one JSON object")
        self._central_log.append(message.line)

    def _floor_granted(self, key: tuple[Peer, str]) -> None:
        peer, utterance = key
        peer.post(FloorGranted(utterance=utterance))

    def _floor_next(self, key: tuple[Peer, str]) -> None:
        peer, utterance = key
        peer.post(FloorNext(utterance=utterance))

    # --- from the loader ---------------------------------------------------------------------------------------------

    def handle_server_state(self, _: None, message: ServerState) -> None:
        self._synthesis.model_changed()
        for voice in self.roster.registered:
            assert voice.peer is not None
            voice.peer.post(message)

    def handle_voice_loaded(self, _: None, message: VoiceLoaded) -> None:
        self._synthesis.voice_loaded(message)

    def handle_engine_lost(self, _: None, message: EngineLost) -> None:
        """Voice servers ask the new process for what this one has not answered; it looks anew which device works."""
        if not self._leave_by:
            self._renew(message.reason, warm=True, lost=message.reason)
            self._die(message.reason)

    def handle_download_step(self, _: None, message: DownloadStep) -> None:
        assert isinstance(message.asker, Peer)
        message.asker.post(downloading(message.file, message.done, message.total))

    def handle_download_ended(self, _: None, message: DownloadEnded) -> None:
        peer = message.asker
        assert isinstance(peer, Peer)
        self._downloading.discard(peer)
        self._last_used = self._clock()
        if message.error is not None:
            peer.post(failed("", message.error))
        else:
            peer.post(Downloaded(files=message.files, path=self._settings.cache_dir))


EVENTS = (ServerState, VoiceLoaded, EngineLost, DownloadStep, DownloadEnded, VoiceStarted, VoiceStartFailed, Shutdown)
FROM_CLIENT = (VoiceServerFor, Download, Unload, StatusRequest, Ping, Shutdown)
FROM_VOICE = (
    Register,
    Outdated,
    Ping,
    Pong,
    ModelWanted,
    UtteranceOpened,
    UtteranceEnded,
    Synthesize,
    Cancel,
    FloorRequest,
    FloorPaused,
    FloorReleased,
    LogLine,
)


def _span(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:g} s"


def main(arguments: list[str] | None = None, server: type[ModelServer] = ModelServer) -> int:
    """Runs the model server; normally started by say.py. Returns the exit code."""
    if arguments is None:
        begin_with_environment()
    parser = argparse.ArgumentParser(prog="kokoro-model-server", description="The resident model of Kokoro Say.")
    parser.add_argument("--inherited", default="", help=argparse.SUPPRESS)
    parser.add_argument("--warm", action="store_true", help="load the model at once")
    for name in ("lost", "unloaded", "children"):
        parser.add_argument(f"--{name}", default="", help=argparse.SUPPRESS)
    parser.add_argument("--listening", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    reap(options.children)

    def make(settings: Settings, runtime: RuntimeDirectory, life: Life) -> ModelServer:
        earlier = Earlier(lost=options.lost, unloaded=options.unloaded, listening=options.listening)
        return server(settings, runtime, life, warm=options.warm, earlier=earlier)

    return run_server("model", options.inherited, make)


if __name__ == "__main__":
    sys.exit(main())
