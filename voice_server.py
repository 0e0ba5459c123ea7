#!/usr/bin/env python3
"""The server of one voice: takes utterances, asks the model server for their audio, plays it or relays it.

Threads
    main       owns the utterances; takes everything from one inbox and never blocks on anything else
    speakers   has the sound device and floor.lock, which may block for as long as speech lasts
    accept     hears callers until they have proved themselves; each has a thread then, which reads into the inbox
    link       reads what the model server sends into the inbox
    lock-*     wait for floor.lock beside speakers, while end-holder looks whether its holder hangs; and for locks of
               servers beside seek and end-holder, which have a deadline (daemon/awaited_lock.py)
    seek       looks for a model server, or starts one, when the connection was lost (kokoro_common/speaking/link.py)
    reap-model one for a model server that was started, until it has ended
    writers    one a connection, empty its outbox

A request, in order
    1. Speak: UtteranceOpened to the model server; when it is Admitted: Accepted
    2. TextPart...: text chunks, as soon as each is complete; with the first words the floor is asked for (to interrupt,
       at once), unless the audio goes to the client
    3. the engine is decided, once; Synthesize to the model server, at most 30 s of audio ahead
    4. AudioChunk: fed to the player when the floor is ours, or relayed as far as the client gave credit; where the
       engine is slower than speech, a cushion is filled first
    5. all heard or relayed: Finished, the floor is released
Cancel silences the device first and tells the others afterwards; what still arrives for the utterance is dropped.

When the model server dies, what has been synthesized is played on; the next one gets Register with all counters, then
what it must know of each utterance, and what was not answered is asked again.

Over 400 lines: a handler of one to nine lines for each of 29 messages and events, to be found by its name. What they do
stands in kokoro_common/speaking/.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - what is imported below needs it
    sys.exit(f"{sys.argv[0]}: this is Python {sys.version.split()[0]} ({sys.executable}); run it with 3.11 or newer")

import argparse
import logging
import math
import os
import queue
import re
import time
from typing import TYPE_CHECKING

from kokoro_common.daemon import starter
from kokoro_common.daemon.life import DRAIN_SECONDS, Life, run_server
from kokoro_common.daemon.logs import Forwarding, start_log
from kokoro_common.daemon.record import is_newer
from kokoro_common.daemon.runtime_directory import RuntimeDirectory
from kokoro_common.errors import SAY, KokoroError, ServersUnreachable
from kokoro_common.record import Record
from kokoro_common.settings import Settings
from kokoro_common.sound.player import Player
from kokoro_common.sound.portaudio import PortAudioStream
from kokoro_common.speaking.link import Link, Linked, LinkFailed
from kokoro_common.speaking.ports import Model, Waits
from kokoro_common.speaking.sound_environment import adopt
from kokoro_common.speaking.speaker_thread import FloorTaken, Heard, Sounding, SpeakersFailed, SpeakerThread, Starting
from kokoro_common.speaking.turn import HANG_SECONDS, Hang
from kokoro_common.speaking.turns import Turns
from kokoro_common.voices.user_voices import own_voices
from kokoro_common.wire.connection import Connection
from kokoro_common.wire.failure import failed
from kokoro_common.wire.messages import (
    Admitted,
    AudioChunk,
    Cancel,
    Controlled,
    Credit,
    Denied,
    EndOfText,
    Explained,
    Failed,
    FloorGranted,
    FloorNext,
    FloorPaused,
    Message,
    Outdated,
    Pause,
    Ping,
    Pong,
    ProtocolError,
    Register,
    Resume,
    ServerState,
    Shutdown,
    ShuttingDown,
    Skip,
    Speak,
    StatusRequest,
    Stop,
    Synthesized,
    TextPart,
    handler_name,
)
from kokoro_common.wire.server import LINGER_SECONDS, Delivery, Inbox, Peer, PeerGone, Switchboard

if TYPE_CHECKING:
    from collections.abc import Callable

    from kokoro_common.speaking.ports import Speakers

PROGRESS_SECONDS = 0.5  # between two Progress messages
LOOK_SECONDS = 0.5  # between two looks whether a client has taken all: its kernel does not tell ours
DELIVER_SECONDS = 3.0  # for clients to take all they were sent, when the server was told to end
FIRST_CALL_SECONDS = 10.0  # for the client on whose behalf it was started
RECORD_SECONDS = 10.0  # between two looks whether the record is still there


class VoiceServer:
    """Making one touches nothing outside of it; `run` opens the log, binds the port, starts the threads."""

    def __init__(
        self,
        settings: Settings,
        runtime: RuntimeDirectory,
        voice: str,
        connection: Connection,
        life: Life,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`connection`: to the model server. `clock`: seconds."""
        self.voice = voice
        self._life = life
        self._runtime = runtime
        self._settings = settings
        self._clock = clock
        self._inbox = Inbox()
        self._link = self.make_link()
        self._forwarding = Forwarding(f"voice_server-{voice}", self._link.forward)
        self._log = logging.getLogger("kokoro")
        preferred = settings.port + 1 if settings.port else 0
        self._board = Switchboard("voice", preferred, self._inbox, self._log)
        self._connection = connection
        self._speakers = self.make_speakers(needs_floor=True)
        self._model = Model(self._link.post)
        waits = Waits(settings.clause_wait, settings.word_wait)
        self.turns = Turns(self._model, self._speakers_for, waits, clock)
        self._hang = Hang()  # of the speakers, whoever they spoke for
        self._next_progress = 0.0
        self._next_tick = 0.0
        self._next_record = clock() + RECORD_SECONDS
        self._next_look = 0.0  # whether the clients have taken all
        self._clients: set[Peer] = set()
        self._instance = os.urandom(16).hex()
        self._leaving = False  # no longer accepts: ends when the last utterance has
        self._cancel_by = math.inf  # when they have to
        self._deliver_by = math.inf  # when clients have to have taken all
        self._outdated = False  # a newer program has called, or has taken this one's place: leaves when idle

    def make_link(self) -> Link:
        return Link(self._settings, self._runtime, self._inbox)

    def make_player(self) -> Player:
        """With the two beside it the seams at which tests put a recorder, or a world without I/O."""
        return Player(PortAudioStream, self._settings.lead_in, adopt)

    def make_speakers(self, *, needs_floor: bool) -> Speakers:
        """What plays one utterance after the other; one that overlaps the others has its own."""
        floor_for = f"voice-{self.voice}" if needs_floor else ""
        return SpeakerThread(self._runtime, self.make_player(), self._inbox.report, floor_for=floor_for)

    def _speakers_for(self, overlap: bool) -> Speakers:
        return self.make_speakers(needs_floor=False) if overlap else self._speakers

    # --- life --------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Blocks until the server has nothing left to do here."""
        start_log(self._settings, f"voice_server-{self.voice}", self._forwarding.append)
        self._connect(self._connection)
        self._board.start(self._runtime.token())
        self._register()
        self._life.announce(self._board.port)
        self._log.info("listening", extra={"port": self._board.port})
        while not self.done:
            try:
                self.dispatch(self._inbox.get(timeout=max(0.0, self._next_tick - self._clock())))
            except queue.Empty:
                pass
            now = self._clock()
            if now >= self._next_tick:
                self._look(now)
            self._next_tick = self.deadline(self._clock())
        self._leave()

    @property
    def leaving(self) -> bool:
        """Whether it accepts nothing more. Without an audio device, too, as soon as no file is being written: the next
        server starts in the sound environment of the client that asks for it."""
        return self._leaving or (self.turns.device_lost and not self.turns)

    @property
    def done(self) -> bool:
        if not self.leaving or self.turns:
            return False
        self._deliver_by = min(self._deliver_by, self._clock() + DELIVER_SECONDS)
        return self._clock() >= self._deliver_by or all(client.delivered for client in self._clients)

    def _connect(self, connection: Connection) -> None:
        self._link.adopt(connection)
        self._model.connected = True

    def _register(self) -> None:
        self._link.post(
            Register(
                voice=self.voice,
                pid=os.getpid(),
                port=self._board.port,
                instance=self._instance,
                open=self.turns.admitted,
                **self.turns.counts,
            )
        )
        self._forwarding.flush()

    def _leave(self) -> None:
        """In this order: no client finds us, none can call, who has called is told to call the next server."""
        self._life.leave()
        self._board.close()
        self._speakers.close()
        while not self._inbox.empty():
            self.dispatch(self._inbox.get())
        self._log.info("ended")
        peers = [*self._clients, *([self._link.peer] if self._link.peer else [])]
        for peer in peers:
            peer.close()
        until = time.monotonic() + LINGER_SECONDS
        for peer in peers:  # its last message, the counts above all, is on its way
            peer.ended.wait(max(0.0, until - time.monotonic()))
        self._speakers.join(1.0)  # a device that hangs does not hold us

    def shut_down(self, drain: float) -> None:
        """For a signal handler: the main thread will see it in its inbox."""
        self._inbox.report(Shutdown(drain=drain))

    def deadline(self, now: float) -> float:
        """When something is due though nobody says anything."""
        deadlines = [self._next_record]
        if (since := self._speakers.busy_since) is not None and not self.turns.device_lost:
            deadlines.append(max(since + HANG_SECONDS, self._next_progress))
        if self.turns:
            deadlines += [self._next_progress, self._cancel_by, self.turns.deadline(now)]
        elif self.leaving:
            deadlines.append(now + LOOK_SECONDS / 5)
        elif self._outdated:
            deadlines.append(self._next_look)
        elif self._settings.idle_timeout >= 0:
            deadlines.append(max(self._next_look, self._idle_by))
        return min(deadlines)

    @property
    def _idle_by(self) -> float:
        """When it has been idle for long enough. Whoever has had it started is given the time to call it first."""
        timeout = self._settings.idle_timeout
        return self.turns.last_used + (timeout if self.turns.counts["accepted"] else max(timeout, FIRST_CALL_SECONDS))

    def _look(self, now: float) -> None:
        """A tick, of which no error ends the server: speech goes on."""
        try:
            self.tick(now)
        except Exception:
            self._log.exception("a look failed")
            # Else what fails each time would be due again at once.
            self._next_progress = now + PROGRESS_SECONDS
            self._next_look = now + LOOK_SECONDS

    def tick(self, now: float) -> None:
        """What is due by the clock. To be called by `deadline`."""
        if now >= self._next_record:
            self._next_record = now + RECORD_SECONDS
            if not self._life.keep():
                self._log.warning("the record cannot be kept: leaving")
                self._leaving = True
            if not self._outdated and (problem := self._life.files.problem()):
                self._log.warning("the program is no longer the same", extra={"reason": problem})
                self._outdate()
        if self.turns:
            self._link.watch(now)
        if now >= self._cancel_by:
            self.turns.cancel_all()
        self.turns.tick(now, progress=now >= self._next_progress)
        self._watch_speakers(now)
        if now >= self._next_progress:
            self._next_progress = now + PROGRESS_SECONDS
        unused = not self.turns and self._settings.idle_timeout >= 0 and now >= self._idle_by
        if unused or (self._outdated and not self.turns):
            self._leave_when_delivered(now, "idle" if unused else "outdated")

    def _leave_when_delivered(self, now: float, reason: str) -> None:
        """A client that has not taken all it was sent still uses the server, though its utterance has ended here."""
        if not all(client.delivered for client in self._clients):
            self._next_look = now + LOOK_SECONDS
            return
        self._log.info("leaving", extra={"reason": reason})
        self._leaving = True

    def _watch_speakers(self, now: float) -> None:
        """A call of the device that does not return, though all speech here has ended, keeps no other voice waiting."""
        if self._hang.lasts(self._speakers.busy_since, now):
            self._speakers.let_go()
            self.turns.device_lost = True

    def _outdate(self) -> None:
        """Serves on, and leaves when idle, as does the model server."""
        self._outdated = True
        self._link.post(Outdated())

    # --- what arrives ------------------------------------------------------------------------------------------------

    def dispatch(self, delivery: Delivery) -> None:
        """To the handler of its message. An error ends the utterance that the message is about, not the server."""
        peer, message, payload = delivery
        try:
            if isinstance(message, PeerGone):
                self._peer_gone(peer)
            else:
                self._handle(peer, message, payload)
        except KokoroError as error:  # in the text, such as SSML that is none
            self._answer_failure(peer, message, error)
        except ProtocolError as error:
            self._log.warning("peer broke the protocol", extra={"reason": str(error)})
            self._answer_failure(peer, message, error)
            if peer is not None and peer in self._clients:
                peer.close()
        except Exception as error:
            self._log.exception("handler failed", extra={"message_type": type(message).__name__})
            self._answer_failure(peer, message, error)

    def _handle(self, peer: Peer | None, message: Record, payload: bytes) -> None:
        if peer is not None and peer.role == "client":
            self._clients.add(peer)
            if not self._outdated and is_newer(peer.version):
                self._log.info("a newer program has called")
                self._outdate()
        if peer is self._link.peer:
            self._link.heard()
        if not isinstance(message, EVENTS if peer is None else FROM.get(peer.role, ())):
            raise ProtocolError(f"{type(message).__name__} is not for a voice server")
        if isinstance(message, AudioChunk):
            self._add_audio(message, payload)
        else:
            getattr(self, handler_name(message))(peer, message)

    def _answer_failure(self, peer: Peer | None, message: Record, error: Exception) -> None:
        """To the utterance that the message is about, unless it is another client's; else to its sender."""
        utterance = getattr(message, "utterance", "")
        turn = self.turns.get(utterance)
        if turn is not None and (peer not in self._clients or turn.client is peer):
            turn.fail(error)
        elif peer is not None and peer in self._clients:
            peer.post(failed(utterance, error, log="voice server"))

    def _peer_gone(self, peer: Peer | None) -> None:
        assert peer is not None
        self._clients.discard(peer)
        if peer is self._link.peer:
            self._model_lost()
        self.turns.client_gone(peer)

    # --- the link ----------------------------------------------------------------------------------------------------

    def _model_lost(self) -> None:
        self._log.warning("the model server was lost", extra={"open": len(self.turns)})
        self._link.seek()
        self.turns.model_lost()
        if self.turns:
            self._link.need()

    def handle_linked(self, _: None, message: Linked) -> None:
        self._connect(message.connection)
        self._register()
        self.turns.model_found()

    def handle_link_failed(self, _: None, message: LinkFailed) -> None:
        self._leaving = True
        self.turns.fail_all(message.error)

    # --- from clients ------------------------------------------------------------------------------------------------

    def handle_speak(self, peer: Peer, message: Speak) -> None:
        if self.leaving:
            peer.post(Denied(text="the voice server is leaving"))
            peer.close()
            return
        turn = self.turns.open(message, peer, own_voices(self._settings.config_dir))
        route = message.route
        self._log.info("speak", extra={"utterance": message.utterance, "sink": route.sink, "floor": route.floor})
        self._link.need()
        self.turns.begin(turn)

    def handle_text_part(self, peer: Peer, message: TextPart) -> None:
        if turn := self.turns.of(peer, message.utterance):
            if turn.utterance.route.debug or self._settings.debug:
                self._log.info("text", extra={"utterance": message.utterance, "text": message.text, "debug": True})
            turn.add_text(message.text, self._clock())

    def handle_end_of_text(self, peer: Peer, message: EndOfText) -> None:
        if turn := self.turns.of(peer, message.utterance):
            turn.end_text(self._clock())

    def handle_cancel(self, peer: Peer, message: Cancel) -> None:
        """From the client, or from the model server when another one interrupts."""
        turns, utterance = self.turns, message.utterance
        if turn := turns.get(utterance) if peer.role == "model" else turns.of(peer, utterance):
            turn.cancel()

    def handle_credit(self, peer: Peer, message: Credit) -> None:
        if message.bytes <= 0:
            raise ProtocolError(f"credit of {message.bytes} bytes")
        if turn := self.turns.of(peer, message.utterance):
            turn.add_credit(message.bytes, self._clock())

    def handle_stop(self, peer: Peer, _: Stop) -> None:
        peer.post(Controlled(utterances=self.turns.stop()))

    def handle_skip(self, peer: Peer, message: Skip) -> None:
        peer.post(Controlled(utterances=self.turns.skip(message.utterances)))

    def handle_pause(self, peer: Peer, message: Pause) -> None:
        peer.post(Controlled(utterances=self.turns.pause(message.utterance)))

    def handle_resume(self, peer: Peer, message: Resume) -> None:
        peer.post(Controlled(utterances=self.turns.resume(message.utterance)))

    def handle_status_request(self, peer: Peer, _: StatusRequest) -> None:
        peer.post(self.turns.status())

    def handle_ping(self, peer: Peer, _: Ping) -> None:
        peer.post(Pong(done=self.turns.counts["finished"]))

    def handle_shutdown(self, peer: Peer | None, message: Shutdown) -> None:
        if peer is not None and peer.role == "client":
            peer.post(ShuttingDown(pid=os.getpid()))
        self._leaving = True
        if message.drain > 0:
            self._cancel_by = self._clock() + min(message.drain, DRAIN_SECONDS)
        else:
            self.turns.cancel_all()

    # --- from the model server: what comes for an utterance that has ended is stale, and dropped ----------------------

    def handle_pong(self, _: Peer, __: Pong) -> None:
        """It lives, which is all that the link wants to know."""

    def handle_outdated(self, _: Peer, __: Outdated) -> None:
        """Said every second until we have left."""
        self._outdated = True

    def handle_server_state(self, _: Peer, message: ServerState) -> None:
        self.turns.model_changed(message)

    def handle_admitted(self, _: Peer, message: Admitted) -> None:
        if turn := self.turns.get(message.utterance):
            turn.admit()

    def _add_audio(self, message: AudioChunk, payload: bytes) -> None:
        if turn := self.turns.get(message.utterance):
            turn.add_audio(message, payload, self._clock())

    def handle_explained(self, _: Peer, message: Explained) -> None:
        if turn := self.turns.get(message.utterance):
            turn.explained(message, self._clock())

    def handle_synthesized(self, _: Peer, message: Synthesized) -> None:
        if turn := self.turns.get(message.utterance):
            turn.synthesized(message, self._clock())

    def handle_failed(self, _: Peer, message: Failed) -> None:
        if turn := self.turns.get(message.utterance):
            turn.refuse(message)

    def handle_floor_next(self, _: Peer, message: FloorNext) -> None:
        if turn := self.turns.get(message.utterance):
            turn.floor_next(self._clock())

    def handle_floor_paused(self, _: Peer, message: FloorPaused) -> None:
        if turn := self.turns.get(message.utterance):
            turn.floor_paused(message.paused, self._clock())

    def handle_floor_granted(self, _: Peer, message: FloorGranted) -> None:
        if turn := self.turns.get(message.utterance):
            turn.floor_granted(self._clock())

    # --- from the speakers -------------------------------------------------------------------------------------------

    def handle_floor_taken(self, _: None, message: FloorTaken) -> None:
        if turn := self.turns.get(message.utterance):
            turn.floor_taken(self._clock())

    def handle_starting(self, _: None, message: Starting) -> None:
        if turn := self.turns.get(message.utterance):
            turn.starting(message.told)
        else:
            message.told.set()

    def handle_sounding(self, _: None, message: Sounding) -> None:
        if turn := self.turns.get(message.utterance):
            turn.sounding(self._clock())

    def handle_heard(self, _: None, message: Heard) -> None:
        if turn := self.turns.get(message.utterance):
            turn.all_heard()

    def handle_speakers_failed(self, _: None, message: SpeakersFailed) -> None:
        if turn := self.turns.get(message.utterance):
            turn.fail(message.error)


EVENTS = (FloorTaken, Starting, Sounding, Heard, SpeakersFailed, Linked, LinkFailed, Shutdown)
FROM_CLIENT = (
    Speak,
    TextPart,
    EndOfText,
    Cancel,
    Credit,
    Stop,
    Skip,
    Pause,
    Resume,
    StatusRequest,
    Ping,
    Shutdown,
)
FROM_MODEL = (
    Outdated,
    ServerState,
    Ping,
    Pong,
    Admitted,
    AudioChunk,
    Explained,
    Synthesized,
    Failed,
    FloorNext,
    FloorPaused,
    FloorGranted,
    Cancel,
    Shutdown,
)
FROM: dict[str, tuple[type[Message], ...]] = {"client": FROM_CLIENT, "model": FROM_MODEL}  # by the peer's role


def main(arguments: list[str] | None = None, server: type[VoiceServer] = VoiceServer) -> int:
    """Runs the server of one voice; normally started by the model server. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="kokoro-voice-server", description="One voice of Kokoro Say, in its own process."
    )
    parser.add_argument("voice", help="a name of the catalogue, or of an imported voice")
    parser.add_argument("--inherited", default="", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if not re.fullmatch("[a-z]{2}_[a-z0-9]{1,32}", options.voice):
        parser.error(f"{options.voice[:48]!r} is no name of a voice")

    def make(settings: Settings, runtime: RuntimeDirectory, life: Life) -> VoiceServer:
        link = starter.connect(runtime, "model", "voice", patient=True)
        if link is None:
            raise ServersUnreachable("there is no model server to register with", f"start it with {SAY}")
        return server(settings, runtime, options.voice, link, life)

    return run_server(f"voice-{options.voice}", options.inherited, make)


if __name__ == "__main__":
    sys.exit(main())
