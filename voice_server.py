#!/usr/bin/env python3
"""The server of one voice: takes utterances, asks the model server for their audio, plays it or relays it.

Threads
    main       owns the utterances; takes everything from one inbox and never blocks on anything else
    mouth      has the sound device and floor.lock, which may block for as long as speech lasts
    accept     hands each caller to a thread of its own, which proves it and then reads its messages into the inbox
    link       reads what the model server sends into the inbox
    seek       looks for a model server, or starts one, when the connection was lost (kokoro_common/speaking/link.py)
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
"""

from __future__ import annotations

import argparse
import math
import os
import queue
import re
import sys
import time
from collections import deque

import numpy as np

from kokoro_common.daemon import starter
from kokoro_common.daemon.life import DRAIN_SECONDS, Life, run_server
from kokoro_common.daemon.logs import Forwarding, start_log
from kokoro_common.daemon.record import is_newer
from kokoro_common.daemon.runtime_directory import RuntimeDirectory
from kokoro_common.errors import KokoroError, NoAudioDevice, ServersUnreachable
from kokoro_common.record import Record
from kokoro_common.settings import Settings
from kokoro_common.sound.player import Player
from kokoro_common.sound.portaudio import PortAudioStream
from kokoro_common.sound.samples import SAMPLE_RATE
from kokoro_common.speaking.link import Link, Linked, LinkFailed
from kokoro_common.speaking.speaker_thread import FloorTaken, Heard, Mouth, MouthFailed, Sounding, Starting
from kokoro_common.speaking.turn import Place
from kokoro_common.speaking.utterance import HUNGRY_FRAMES, Pace, Utterance
from kokoro_common.voices.user_voices import own_voices
from kokoro_common.wire.connection import Connection
from kokoro_common.wire.messages import (
    TEXT_CREDIT,
    Accepted,
    Admitted,
    AudioChunk,
    Cancel,
    Cancelled,
    Controlled,
    Credit,
    Denied,
    EndOfText,
    Explained,
    Failed,
    Finished,
    FloorGranted,
    FloorNext,
    FloorReleased,
    FloorRequest,
    Message,
    ModelWanted,
    Notice,
    Outdated,
    Pause,
    Ping,
    Pong,
    Progress,
    ProtocolError,
    Register,
    Resume,
    ServerState,
    Shutdown,
    ShuttingDown,
    Skip,
    Speak,
    Started,
    Status,
    StatusRequest,
    Stop,
    Synthesized,
    TextAccepted,
    TextPart,
    UtteranceEnded,
    UtteranceOpened,
)
from kokoro_common.wire.server import Inbox, Peer, PeerGone, Switchboard, handler_name

PROGRESS_SECONDS = 0.5  # between two Progress messages
MIN_FOLLOW_SECONDS = 0.02  # between two Progress messages to who follows the words
HANG_SECONDS = 4.0  # in one call of PortAudio: the sound server will not answer any more
TEXT_BYTES = 8 << 20  # of text waiting here; beyond it each utterance has only
MIN_TEXT_CREDIT = 64 << 10  # of its own, and the rest stays with its client
RECORD_SECONDS = 10.0  # between two looks whether the record is still there


class VoiceServer:
    def __init__(self, settings: Settings, runtime: RuntimeDirectory, voice: str, link: Connection, life: Life) -> None:
        self.voice = voice
        self._life = life
        self._runtime = runtime
        self._settings = settings
        self._inbox = Inbox()
        self._link = Link(settings, runtime, self._inbox)
        self._forwarding = Forwarding(f"voice_server-{voice}", self._link.forward)
        self._log = start_log(settings, f"voice_server-{voice}", self._forwarding.append)
        preferred = settings.port + 1 if settings.port else 0
        self._board = Switchboard(runtime.token(), "voice", preferred, self._inbox, self._log)
        self._first_connection = link
        self._mouth = self._new_mouth()
        self._pace = Pace()
        self._state = ServerState(state="starting")
        self._places: dict[str, Place] = {}  # by utterance, in the order of acceptance
        self._counts = dict.fromkeys(("accepted", "finished", "cancelled", "failed"), 0)
        self._last_used = time.monotonic()
        self._next_progress = 0.0
        self._next_tick = 0.0
        self._next_record = time.monotonic() + RECORD_SECONDS
        self._clients: set[Peer] = set()
        self._ended: deque[str] = deque(maxlen=1024)  # utterances: their ids are not to be used again
        self._text_room = TEXT_BYTES  # that clients may send ahead and have not got credit for
        self._instance = os.urandom(16).hex()
        self._leaving = False  # no longer accepts: ends when the last utterance has
        self._cancel_by = math.inf  # time.monotonic() by which they have to
        self._outdated = False  # a newer program has called: leaves when idle

    def make_player(self) -> Player:
        """The seam at which tests put their recorder."""
        return Player(PortAudioStream, lead_in=self._settings.lead_in)

    def _new_mouth(self) -> Mouth:
        return Mouth(self._runtime, self.make_player(), self._inbox.report)

    # --- life --------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Blocks until the server has nothing left to do here."""
        self._link.adopt(self._first_connection)
        self._board.start()
        self._register()
        self._life.announce(self._board.port)
        self._log.info("listening", extra={"port": self._board.port})
        while not (self._leaving and not self._places):
            try:
                self._dispatch(*self._inbox.get(timeout=max(0.0, self._next_tick - time.monotonic())))
            except queue.Empty:
                pass
            if time.monotonic() >= self._next_tick:
                self._tick()
            self._next_tick = self._tick_time()
        self._leave()

    def _register(self) -> None:
        admitted = [place.utterance.id for place in self._places.values() if place.admitted]
        self._link.post(
            Register(
                voice=self.voice,
                pid=os.getpid(),
                port=self._board.port,
                instance=self._instance,
                open=tuple(admitted),
                **self._counts,
            )
        )
        self._forwarding.flush()

    def _leave(self) -> None:
        """In this order: no client finds us, none can call, who has called is told to call the next server."""
        self._life.leave()
        self._board.close()
        self._mouth.close()
        while not self._inbox.empty():
            self._dispatch(*self._inbox.get())
        self._log.info("ended")
        peers = [*self._clients, *([self._link.peer] if self._link.peer else [])]
        for peer in peers:
            peer.close()
        for peer in peers:
            peer.ended.wait(0.5)  # its last message, the counts above all, is on its way
        self._mouth.join(1.0)  # a device that hangs does not hold us

    def shut_down(self, drain: float) -> None:
        """For a signal handler: the main thread will see it in its inbox."""
        self._inbox.report(Shutdown(drain=drain))

    def _tick_time(self) -> float:
        """time.monotonic() at which something is due though nobody says anything."""
        now = time.monotonic()
        deadlines = [self._next_record]
        if self._places:
            deadlines += [self._next_progress, self._cancel_by]
        elif self._outdated:
            deadlines.append(now)
        elif self._settings.idle_timeout >= 0:
            deadlines.append(self._last_used + self._settings.idle_timeout)
        for place in self._places.values():
            if place.utterance.skipping:
                deadlines.append(now)  # a slice, and then whatever else has come
            if place.started and place.utterance.route.follow and place.utterance.next_word is not None:
                deadlines.append(now + max(MIN_FOLLOW_SECONDS, (place.utterance.next_word - place.taken) / SAMPLE_RATE))
            if place.mouth is not None and place.utterance.half_sentence:
                waits = (self._settings.clause_wait, self._settings.word_wait)
                deadlines += [due for wait in waits if (due := place.utterance.last_text + wait) > now]
        return min(deadlines)

    def _tick(self) -> None:
        now = time.monotonic()
        if now >= self._next_record:
            self._next_record = now + RECORD_SECONDS
            if not self._life.keep():
                self._log.warning("the record cannot be kept: leaving")
                self._leaving = True
        if self._places:
            self._link.watch(now)
        if now >= self._cancel_by:
            self._cancel_all(list(self._places.values()))
        for place in list(self._places.values()):
            if place.started and (now >= self._next_progress or place.utterance.route.follow):
                self._tell_progress(place)
            if place.utterance.skipping and (credit := place.utterance.skip_on()):
                place.tell(Credit(utterance=place.utterance.id, bytes=credit))
            self._hear_silence(place, now)
            self._watch_device(place, now)
            self._pump(place)
        if now >= self._next_progress:
            self._next_progress = now + PROGRESS_SECONDS
        if not self._places and 0 <= self._settings.idle_timeout <= now - self._last_used:
            self._log.info("idle: leaving")
            self._leaving = True
        if self._outdated and not self._places:
            self._log.info("a newer program has called: leaving")
            self._leaving = True

    def _tell_progress(self, place: Place) -> None:
        taken = place.taken
        start, end = place.utterance.word_at(taken)
        place.tell(Progress(utterance=place.utterance.id, seconds=taken / SAMPLE_RATE, word_start=start, word_end=end))

    def _hear_silence(self, place: Place, now: float) -> None:
        """A writer that has paused in a sentence: what there is of it is spoken, if else the ear would have to wait."""
        utterance = place.utterance
        hungry = place.mouth is not None and utterance.frames - place.taken < HUNGRY_FRAMES
        if hungry and utterance.half_sentence and now >= utterance.last_text + self._settings.clause_wait:
            clauses_only = now < utterance.last_text + self._settings.word_wait
            utterance.writer_paused(clauses_only=clauses_only)

    def _watch_device(self, place: Place, now: float) -> None:
        has_device = place.mouth is not None and place.floor in ("granted", "held")
        since = place.mouth.player.busy_since if place.mouth is not None and has_device else None
        if since is not None and now > since + HANG_SECONDS:
            self._fail(
                place, NoAudioDevice("the audio device hangs", "restart the sound server, or write a file with -o")
            )

    def _dispatch(self, peer: Peer | None, message: Record, payload: bytes) -> None:
        if isinstance(message, PeerGone):
            self._peer_gone(peer)
            return
        if peer is not None and peer.role == "client":
            self._clients.add(peer)
            if not self._outdated and is_newer(peer.version):
                self._outdated = True
                self._link.post(Outdated())
        if peer is self._link.peer:
            self._link.heard()
        allowed = EVENTS if peer is None else FROM.get(peer.role, ())
        try:
            if not isinstance(message, allowed):
                raise ProtocolError(f"{type(message).__name__} is not for a voice server")
            getattr(self, handler_name(message))(peer, message, payload)
        except KokoroError as error:  # in the text, such as SSML that is none
            self._answer_failure(peer, message, error)
        except ProtocolError as error:
            self._log.warning("peer broke the protocol", extra={"reason": str(error)})
            self._answer_failure(peer, message, KokoroError(str(error), "see docs/protocol.md"))
            if peer is not None and peer in self._clients:
                peer.close()
        except Exception as error:
            self._log.exception("handler failed", extra={"message_type": type(message).__name__})
            problem = KokoroError(f"{type(error).__name__} in the voice server", "see its log")
            self._answer_failure(peer, message, problem)

    def _answer_failure(self, peer: Peer | None, message: Record, error: KokoroError) -> None:
        """To the utterance that the message is about, unless it is another client's; else to who sent it."""
        utterance = getattr(message, "utterance", "")
        place = self._places.get(utterance)
        if place is not None and (peer not in self._clients or place.client is peer):
            self._fail(place, error)
        elif peer is not None and peer in self._clients:
            peer.post(Failed(utterance=utterance, code=error.exit_code, text=str(error)))

    def _peer_gone(self, peer: Peer | None) -> None:
        assert peer is not None
        self._clients.discard(peer)
        if peer is self._link.peer:
            self._model_lost()
        for place in [place for place in self._places.values() if place.client is peer]:
            if place.utterance.text_ended and not place.utterance.route.wait:
                place.client = None
            else:
                self._cancel(place)

    # --- the link ----------------------------------------------------------------------------------------------------

    def _model_lost(self) -> None:
        """What has been synthesized is played on meanwhile."""
        self._log.warning("the model server was lost", extra={"open": len(self._places)})
        self._state = ServerState(state="starting")
        self._link.seek()
        for place in list(self._places.values()):
            try:
                place.utterance.server_lost()
            except KokoroError as error:
                self._fail(place, error)
        if self._places:
            self._link.need()

    def handle_linked(self, _: None, message: Linked, __: bytes) -> None:
        self._link.adopt(message.connection)
        self._register()
        for place in self._places.values():
            if not place.admitted:
                self._link.post(UtteranceOpened(utterance=place.utterance.id))
            if place.utterance.engine != "espeak":
                self._link.post(ModelWanted())
            if place.floor and place.mouth is self._mouth:
                age = time.monotonic() - place.floor_asked
                self._link.post(FloorRequest(utterance=place.utterance.id, age=age))
        for place in list(self._places.values()):
            self._pump(place)

    def handle_link_failed(self, _: None, message: LinkFailed, __: bytes) -> None:
        self._leaving = True
        for place in list(self._places.values()):
            self._fail(place, message.error)

    # --- from clients ------------------------------------------------------------------------------------------------

    def handle_speak(self, peer: Peer, message: Speak, _: bytes) -> None:
        if self._leaving:
            peer.post(Denied(text="the voice server is leaving"))
            peer.close()
            return
        known = message.utterance in self._places or message.utterance in self._ended
        if known or not re.fullmatch("[0-9a-f]{32}", message.utterance):
            raise ProtocolError("an utterance needs a new id of 32 hex digits")
        try:
            room = max(MIN_TEXT_CREDIT, min(TEXT_CREDIT, self._text_room // 4))
            utterance = Utterance(message, self._pace, room, own_voices(self._settings.config_dir))
        except KokoroError as error:
            peer.post(Failed(utterance=message.utterance, code=error.exit_code, text=str(error)))
            return
        mouth = None
        if message.route.sink == "speakers":
            mouth = self._new_mouth() if message.route.floor == "overlap" else self._mouth
        place = Place(utterance, peer, mouth)
        self._places[utterance.id] = place
        self._text_room -= utterance.text_credit
        self._link.need()
        self._link.post(UtteranceOpened(utterance=utterance.id))
        route = message.route
        self._log.info("speak", extra={"utterance": utterance.id, "sink": route.sink, "floor": route.floor})
        if utterance.engine != "espeak":
            self._link.post(ModelWanted())
            if self._state.state != "ready":
                place.tell(self._state)
        if mouth is not None and message.route.floor == "interrupt":
            self._ask_for_floor(place)
        self._decide_engine(place)

    def handle_text_part(self, peer: Peer, message: TextPart, _: bytes) -> None:
        if place := self._own(peer, message.utterance):
            if place.utterance.route.debug or self._settings.debug:
                self._log.info("text", extra={"utterance": message.utterance, "text": message.text, "debug": True})
            if credit := place.utterance.add_text(message.text):
                place.tell(Credit(utterance=message.utterance, bytes=credit))
            self._pump(place)

    def handle_end_of_text(self, peer: Peer, message: EndOfText, _: bytes) -> None:
        if place := self._own(peer, message.utterance):
            place.utterance.end_text()
            place.tell(TextAccepted(utterance=message.utterance))
            self._pump(place)

    def handle_cancel(self, peer: Peer, message: Cancel, _: bytes) -> None:
        """From the client, or from the model server when another one interrupts."""
        place = self._places.get(message.utterance) if peer.role == "model" else self._own(peer, message.utterance)
        if place is not None:
            self._cancel(place)

    def handle_stop(self, peer: Peer, _: Stop, __: bytes) -> None:
        peer.post(Controlled(utterances=self._cancel_all(self._spoken_places())))

    def handle_skip(self, peer: Peer, message: Skip, _: bytes) -> None:
        held = [place for place in self._spoken_places() if place.floor == "held"]
        speaking = [place for place in held if place.utterance.id in message.utterances]
        peer.post(Controlled(utterances=self._cancel_all(speaking)))

    def handle_pause(self, peer: Peer, _: Pause, __: bytes) -> None:
        speaking = [place for place in self._spoken_places() if place.floor == "held" and not place.paused]
        for place in speaking:
            place.pause()
        peer.post(Controlled(utterances=len(speaking)))

    def handle_resume(self, peer: Peer, _: Resume, __: bytes) -> None:
        paused = [place for place in self._spoken_places() if place.paused]
        for place in paused:
            place.resume()
        peer.post(Controlled(utterances=len(paused)))

    def _cancel_all(self, places: list[Place]) -> int:
        """All are silenced before the books of the first are closed: they may be hundreds."""
        for place in places:
            place.silence()
        for place in places:
            self._cancel(place)
        return len(places)

    def _spoken_places(self) -> list[Place]:
        return [place for place in self._places.values() if place.mouth is not None]

    def handle_status_request(self, peer: Peer, _: StatusRequest, __: bytes) -> None:
        peer.post(Status(utterances=tuple(place.report() for place in self._places.values())))

    def handle_credit(self, peer: Peer, message: Credit, _: bytes) -> None:
        if message.bytes <= 0:
            raise ProtocolError(f"credit of {message.bytes} bytes")
        if place := self._own(peer, message.utterance):
            place.credit += message.bytes
            self._pump(place)

    def handle_ping(self, peer: Peer, _: Ping, __: bytes) -> None:
        peer.post(Pong(done=self._counts["finished"]))

    def handle_shutdown(self, peer: Peer | None, message: Shutdown, _: bytes) -> None:
        if peer is not None and peer.role == "client":
            peer.post(ShuttingDown(pid=os.getpid()))
        self._leaving = True
        if message.drain > 0:
            self._cancel_by = time.monotonic() + min(message.drain, DRAIN_SECONDS)
        else:
            self._cancel_all(list(self._places.values()))

    def _own(self, peer: Peer, utterance: str) -> Place | None:
        """The utterance, if it is this client's. One that has ended is no error: the messages crossed."""
        place = self._places.get(utterance)
        return place if place is not None and place.client is peer else None

    # --- from the model server ---------------------------------------------------------------------------------------

    def handle_pong(self, _: Peer, __: Pong, ___: bytes) -> None:
        """It lives, which is all that the link wants to know."""

    def handle_server_state(self, _: Peer, message: ServerState, __: bytes) -> None:
        self._state = message
        for place in list(self._places.values()):
            if not place.utterance.engine:
                place.tell(message)
            self._decide_engine(place)

    def handle_admitted(self, _: Peer, message: Admitted, __: bytes) -> None:
        place = self._places.get(message.utterance)
        if place is not None and not place.admitted:
            place.admitted = True
            self._counts["accepted"] += 1
            place.tell(Accepted(utterance=place.utterance.id, text_credit=place.utterance.text_credit))

    def handle_audio_chunk(self, _: Peer, message: AudioChunk, payload: bytes) -> None:
        if place := self._places.get(message.utterance):  # else it was cancelled: its audio is stale
            place.utterance.add_audio(message, payload)
            self._pump(place)

    def handle_explained(self, _: Peer, message: Explained, __: bytes) -> None:
        if place := self._places.get(message.utterance):
            self._start(place)
            place.tell(message)

    def handle_synthesized(self, _: Peer, message: Synthesized, __: bytes) -> None:
        if place := self._places.get(message.utterance):
            if credit := place.utterance.synthesized(message):
                place.tell(Credit(utterance=message.utterance, bytes=credit))
            self._pump(place)

    def handle_failed(self, _: Peer, message: Failed, __: bytes) -> None:
        place = self._places.get(message.utterance)
        if place is not None and message.retry_after:
            self._forget(place)
            place.tell(message)
        elif place is not None:
            self._end(place, "failed", message)

    def handle_floor_next(self, _: Peer, message: FloorNext, __: bytes) -> None:
        if place := self._places.get(message.utterance):
            place.floor = "next" if place.floor == "asked" else place.floor
            self._pump(place)

    def handle_floor_granted(self, _: Peer, message: FloorGranted, __: bytes) -> None:
        place = self._places.get(message.utterance)
        if place is not None and place.floor in ("asked", "next"):  # not again, when another model server grants it too
            self._take_floor(place)
            self._pump(place)

    def _ask_for_floor(self, place: Place) -> None:
        """With the first words: a pipe that has said nothing yet keeps nobody waiting. To interrupt, at once."""
        policy = place.utterance.route.floor
        if policy == "overlap":
            self._take_floor(place)
            return
        place.floor = "asked"
        place.floor_asked = time.monotonic()
        if policy == "interrupt":  # here at once; those of other servers hear it from the model server
            self._cancel_all([other for other in self._spoken_places() if other is not place])
        self._link.post(FloorRequest(utterance=place.utterance.id, interrupt=policy == "interrupt"))

    def _take_floor(self, place: Place) -> None:
        assert place.mouth is not None
        place.floor = "granted"
        place.mouth.speak(place.utterance.id, place.utterance.route.audio_device, floor=place.mouth is self._mouth)

    # --- from the mouth ----------------------------------------------------------------------------------------------

    def handle_floor_taken(self, _: None, message: FloorTaken, __: bytes) -> None:
        if place := self._places.get(message.utterance):
            place.floor = "held"
            self._pump(place)

    def handle_starting(self, _: None, message: Starting, __: bytes) -> None:
        """The client knows before the ear hears: whatever becomes of us, it does not say again what was heard."""
        place = self._places.get(message.utterance)
        if place is None or place.client is None:
            message.told.set()
        else:
            started = Started(utterance=place.utterance.id, engine=place.utterance.engine)
            place.client.post(started, written=message.told)

    def handle_sounding(self, _: None, message: Sounding, __: bytes) -> None:
        if place := self._places.get(message.utterance):
            self._start(place)

    def handle_heard(self, _: None, message: Heard, __: bytes) -> None:
        if place := self._places.get(message.utterance):
            self._finish(place)

    def handle_mouth_failed(self, _: None, message: MouthFailed, __: bytes) -> None:
        if place := self._places.get(message.utterance):
            self._fail(place, message.error)

    # --- the course of an utterance ----------------------------------------------------------------------------------

    def _decide_engine(self, place: Place) -> None:
        """Once per utterance, as soon as the state of the model allows."""
        state, utterance = self._state, place.utterance
        wanted = utterance.speech.engine
        if utterance.engine == "espeak" or state.state == "ready":
            utterance.engine = utterance.engine or "kokoro"
        elif state.state == "failed" or (state.state == "default" and "kokoro" in (wanted, utterance.engine)):
            self._end(place, "failed", Failed(utterance=utterance.id, code=state.exit_code, text=state.detail))
        elif state.state == "default" and not utterance.engine:
            utterance.engine = "espeak"
            place.tell(Notice(utterance=utterance.id, text=f"the embedded default voice speaks: {state.detail}"))
        self._pump(place)

    def _pump(self, place: Place) -> None:
        """Moves audio and requests on as far as they can go now. Called whenever something has changed."""
        if place.utterance.id not in self._places:
            return
        if place.utterance.silent:
            self._finish(place)
            return
        if place.mouth is None:
            self._relay(place)
        elif not place.floor and place.utterance.has_words:
            self._ask_for_floor(place)
        elif place.floor == "held":
            self._feed(place)
        try:
            self._request(place)
        except KokoroError as error:  # in the text, which is cut as it is needed: SSML that is none
            self._fail(place, error)

    def _request(self, place: Place) -> None:
        """Asks for the next text chunks: as far as the window is open for who has the floor, or takes a file."""
        utterance = place.utterance
        waits_for_model = not utterance.engine or (utterance.engine == "kokoro" and self._state.state != "ready")
        if self._link.peer is None or waits_for_model or (place.mouth is not None and place.floor in ("", "asked")):
            return
        ahead = utterance.frames - place.taken
        while message := utterance.next_synthesize(ahead, only_first=place.floor == "next"):
            self._link.post(message)
        while utterance.notices:
            place.tell(Notice(utterance=utterance.id, text=utterance.notices.popleft()))

    def _relay(self, place: Place) -> None:
        utterance = place.utterance
        while utterance.audio and place.credit >= len(utterance.audio[0][1]):
            message, payload = utterance.audio.popleft()
            place.credit -= len(payload)
            if payload and utterance.speech.volume != 1.0:
                payload = (np.frombuffer(payload, np.float32) * np.float32(utterance.speech.volume)).tobytes()
            if payload:
                self._start(place)
            place.tell(message, payload)
        if utterance.complete and not utterance.audio:
            self._finish(place)

    def _feed(self, place: Place) -> None:
        utterance, mouth = place.utterance, place.mouth
        assert mouth is not None
        if not place.fed and not utterance.cushion_is_filled():
            return
        while utterance.audio:
            place.fed = True
            samples = np.frombuffer(utterance.audio.popleft()[1], np.float32)
            mouth.player.feed(samples * np.float32(utterance.speech.volume))
        if utterance.complete:
            mouth.player.finish()

    def _start(self, place: Place) -> None:
        if not place.started:
            place.started = True
            place.utterance.first_audio = time.monotonic() - place.utterance.began
            self._next_progress = time.monotonic() + PROGRESS_SECONDS
            if place.mouth is None:
                place.tell(Started(utterance=place.utterance.id, engine=place.utterance.engine))

    def _finish(self, place: Place) -> None:
        utterance = place.utterance
        if utterance.route.follow:
            self._tell_progress(place)  # the last words may be younger than the last tick
        self._end(
            place,
            "finished",
            Finished(
                utterance=utterance.id,
                seconds=utterance.seconds,
                timing=utterance.timing(),
                underflows=place.underflows,
            ),
        )

    def _cancel(self, place: Place) -> None:
        self._end(place, "cancelled", Cancelled(utterance=place.utterance.id))

    def _fail(self, place: Place, error: KokoroError) -> None:
        if isinstance(error, NoAudioDevice):
            self._leaving = True  # the next server starts in the sound environment of who asks for it
        self._end(place, "failed", Failed(utterance=place.utterance.id, code=error.exit_code, text=str(error)))

    def _end(self, place: Place, outcome: str, message: Message) -> None:
        """The one way out of the books: exactly one last message, the floor freed, the ledger told."""
        utterance = place.utterance
        if outcome != "finished":
            place.silence()  # first of all: the ear comes before the books
            self._link.post(Cancel(utterance=utterance.id))
        self._forget(place)
        self._counts["accepted"] += not place.admitted
        self._counts[outcome] += 1
        self._link.post(
            UtteranceEnded(
                utterance=utterance.id,
                outcome=outcome,
                seconds=utterance.seconds,
                first_audio=utterance.first_audio,
                underflows=place.underflows,
            )
        )
        place.tell(message)
        details: dict[str, object] = {"utterance": utterance.id, "seconds": round(utterance.seconds, 3)}
        if isinstance(message, Failed):
            details["reason"] = message.text
        self._log.info(outcome, extra=details)

    def _forget(self, place: Place) -> None:
        """Takes it out of the line and gives back what it held."""
        utterance = place.utterance
        del self._places[utterance.id]
        self._ended.append(utterance.id)
        self._text_room += utterance.text_credit
        self._last_used = time.monotonic()
        if place.mouth is self._mouth:
            self._link.post(FloorReleased(utterance=utterance.id))
        elif place.mouth is not None:
            place.mouth.close()


EVENTS = (FloorTaken, Starting, Sounding, Heard, MouthFailed, Linked, LinkFailed, Shutdown)
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
    ServerState,
    Pong,
    Admitted,
    AudioChunk,
    Explained,
    Synthesized,
    Failed,
    FloorNext,
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
        link = starter.connect(runtime, "model", "voice")
        if link is None:
            raise ServersUnreachable("there is no model server to register with", "start it with say.py")
        return server(settings, runtime, options.voice, link, life)

    return run_server(f"voice-{options.voice}", options.inherited, make)


if __name__ == "__main__":
    sys.exit(main())
