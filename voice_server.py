#!/usr/bin/env python3
"""The server of one voice: takes utterances, asks the model server for their audio, plays it or relays it.

Threads
    main       owns the utterances; takes everything from one inbox and never blocks on anything else
    mouth      owns the sound device and floor.lock: whatever may block for as long as speech lasts
    accept     hands each caller to a thread of its own, which proves it and then reads its messages into the inbox
    link       reads what the model server sends into the inbox
    writers    one a connection, empty its outbox

A request, in order
    1. Speak: Accepted; the floor is asked for, unless the audio goes to the client
    2. TextPart...: text chunks, as soon as each is complete
    3. the engine is decided, once; Synthesize to the model server, at most 30 s of audio ahead
    4. AudioChunk: fed to the player when the floor is ours, or relayed as far as the client gave credit
    5. all heard or relayed: Finished, the floor is released
Cancel silences the device first and tells the others afterwards; what still arrives for the utterance is dropped.
"""

from __future__ import annotations

import argparse
import os
import queue
import re
import sys
import threading
import time
from typing import TYPE_CHECKING

import numpy as np

from kokoro_common import daemon
from kokoro_common.audio import SAMPLE_RATE
from kokoro_common.connection import Connection, Peer, Switchboard, handler_name
from kokoro_common.errors import KokoroError, NoAudioDevice, ServersUnreachable
from kokoro_common.mouth import FloorTaken, Heard, Mouth, MouthFailed
from kokoro_common.paths import RuntimeDirectory
from kokoro_common.playback import Player
from kokoro_common.protocol import (
    TEXT_CREDIT,
    Accepted,
    AudioChunk,
    Cancel,
    Cancelled,
    Credit,
    EndOfText,
    Failed,
    Finished,
    FloorGranted,
    FloorNext,
    FloorReleased,
    FloorRequest,
    Message,
    ModelWanted,
    Notice,
    Ping,
    Pong,
    Progress,
    ProtocolError,
    Register,
    ServerState,
    Shutdown,
    ShuttingDown,
    Speak,
    Started,
    Synthesized,
    TextAccepted,
    TextPart,
    UtteranceEnded,
    UtteranceOpened,
)
from kokoro_common.record import Record
from kokoro_common.settings import Settings, resolve
from kokoro_common.utterance import Utterance
from kokoro_common.voices import parse_voice, server_name

if TYPE_CHECKING:
    from kokoro_common.connection import Delivery

PROGRESS_SECONDS = 0.5  # between two Progress messages
LINGER_SECONDS = 5.0  # the device stays open after an utterance, so that the next one starts at once
RECORD_SECONDS = 10.0  # between two looks whether the record is still there


class Place:
    """Where an utterance of this server stands: its client, its floor, its share of the device."""

    def __init__(self, utterance: Utterance, client: Peer | None) -> None:
        self.utterance = utterance
        self.client = client  # None when it has left and did not want to wait
        self.floor = ""  # "", "next", "granted" (the mouth is taking it) or "held"
        self.started = False
        self.syncing = False
        self.credit = 0  # bytes of audio the client will take
        self.underflows_before = 0  # of the player, when the floor was taken

    @property
    def relayed(self) -> bool:
        return self.utterance.speak.sink == "client"

    def tell(self, message: Message, payload: bytes = b"") -> None:
        if self.client is not None:
            self.client.post(message, payload)


class VoiceServer:
    def __init__(
        self, settings: Settings, runtime: RuntimeDirectory, voice: str, link: Connection, life: daemon.Life
    ) -> None:
        self.voice = voice
        self._life = life
        self._runtime = runtime
        self._idle_timeout = settings.idle_timeout
        self._log = daemon.start_log(settings, f"voice_server-{voice}")
        self._inbox: queue.SimpleQueue[Delivery] = queue.SimpleQueue()
        preferred = settings.port + 1 if settings.port else 0
        self._board = Switchboard(runtime.token(), "voice", preferred, self._inbox, self._log)
        self._model = Peer(link, "model", self._inbox, self._log)
        self._mouth = Mouth(runtime, self.make_player, lambda event: self._inbox.put((None, event, b"")))
        self._state = ServerState(state="starting")
        self._places: dict[str, Place] = {}  # by utterance, in the order of acceptance
        self._counts = dict.fromkeys(("accepted", "finished", "cancelled", "failed"), 0)
        self._last_used = time.monotonic()
        self._next_progress = 0.0
        self._device_open = False
        self._leaving = False  # no longer accepts: ends when the last utterance has

    def make_player(self) -> Player:
        """The seam at which tests put their recorder."""
        return Player()

    # --- life --------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Blocks until the server has nothing left to do here."""
        threading.Thread(target=self._model.serve, name="link", daemon=True).start()
        self._board.start()
        self._model.post(Register(voice=self.voice, pid=os.getpid(), port=self._board.port, **self._counts))
        self._life.announce(self._board.port)
        self._log.info("listening", extra={"port": self._board.port})
        while not (self._leaving and not self._places):
            try:
                self._dispatch(*self._inbox.get(timeout=self._seconds_to_tick()))
            except queue.Empty:
                self._tick()
        self._life.leave()
        self._board.close()
        self._mouth.close()
        self._model.close()
        self._model.ended.wait(1.0)  # what was posted, the last counts above all, is on its way
        self._log.info("ended")

    def shut_down(self) -> None:
        """For a signal handler: the main thread will see it in its inbox."""
        self._inbox.put((None, Shutdown(), b""))

    def _seconds_to_tick(self) -> float:
        now = time.monotonic()
        deadlines = [now + RECORD_SECONDS]
        if self._places:
            deadlines.append(self._next_progress)
        else:
            deadlines.append(self._last_used + self._idle_timeout)
            if self._device_open:
                deadlines.append(self._last_used + LINGER_SECONDS)
        return max(0.0, min(deadlines) - now)

    def _tick(self) -> None:
        now = time.monotonic()
        self._life.keep()
        if self._places:
            self._next_progress = now + PROGRESS_SECONDS
            for place in list(self._places.values()):
                if place.started:
                    place.tell(Progress(utterance=place.utterance.id, seconds=self._taken(place) / SAMPLE_RATE))
                self._pump(place)
            return
        if self._device_open and now >= self._last_used + LINGER_SECONDS:
            self._device_open = False
            self._mouth.rest()
        if now >= self._last_used + self._idle_timeout:
            self._log.info("idle: leaving")
            self._leaving = True

    def _dispatch(self, peer: Peer | None, message: Record | None, payload: bytes) -> None:
        if message is None:
            self._peer_gone(peer)
            return
        allowed = EVENTS if peer is None else FROM_MODEL if peer is self._model else FROM_CLIENT
        try:
            if not isinstance(message, allowed):
                raise ProtocolError(f"{type(message).__name__} is not for a voice server")
            getattr(self, handler_name(message))(peer, message, payload)
        except ProtocolError as error:
            self._log.warning("peer broke the protocol", extra={"reason": str(error)})
            if peer is not None:
                peer.post(Failed(utterance=getattr(message, "utterance", ""), code=1, text=str(error)))
                peer.close()
        except Exception as error:
            self._log.exception("handler failed", extra={"message_type": type(message).__name__})
            if place := self._places.get(getattr(message, "utterance", "")):
                self._fail(place, KokoroError(f"the voice server failed: {error!r}", "see its log"))

    def _peer_gone(self, peer: Peer | None) -> None:
        if peer is self._model:
            self._leaving = True
            error = ServersUnreachable("the model server ended", "say it again")
            for place in list(self._places.values()):
                self._fail(place, error)
            return
        for place in [place for place in self._places.values() if place.client is peer]:
            if place.utterance.text_ended and not place.utterance.speak.wait:
                place.client = None
            else:
                self._cancel(place)

    # --- from clients ------------------------------------------------------------------------------------------------

    def handle_speak(self, peer: Peer, message: Speak, _: bytes) -> None:
        if not re.fullmatch("[0-9a-f]{32}", message.utterance) or message.utterance in self._places:
            raise ProtocolError("an utterance needs a new id of 32 hex digits")
        try:
            utterance = Utterance(message)
        except KokoroError as error:
            peer.post(Failed(utterance=message.utterance, code=error.exit_code, text=str(error)))
            return
        place = Place(utterance, peer)
        self._places[utterance.id] = place
        self._counts["accepted"] += 1
        self._model.post(UtteranceOpened(utterance=utterance.id, sink=message.sink))
        place.tell(Accepted(utterance=utterance.id, text_credit=TEXT_CREDIT))
        self._log.info("speak", extra={"utterance": utterance.id, "sink": message.sink, "from": "client"})
        if not place.relayed:
            self._model.post(FloorRequest(utterance=utterance.id))
        if utterance.engine != "espeak":
            self._model.post(ModelWanted())
        self._decide_engine(place)

    def handle_text_part(self, peer: Peer, message: TextPart, _: bytes) -> None:
        if place := self._own(peer, message.utterance):
            if place.utterance.speak.debug:
                self._log.info("text", extra={"utterance": message.utterance, "text": message.text})
            if credit := place.utterance.add_text(message.text):
                place.tell(Credit(utterance=message.utterance, bytes=credit))
            self._pump(place)

    def handle_end_of_text(self, peer: Peer, message: EndOfText, _: bytes) -> None:
        if place := self._own(peer, message.utterance):
            place.utterance.end_text()
            place.tell(TextAccepted(utterance=message.utterance))
            self._pump(place)

    def handle_cancel(self, peer: Peer, message: Cancel, _: bytes) -> None:
        if place := self._own(peer, message.utterance):
            self._cancel(place)

    def handle_credit(self, peer: Peer, message: Credit, _: bytes) -> None:
        if message.bytes <= 0:
            raise ProtocolError(f"credit of {message.bytes} bytes")
        if place := self._own(peer, message.utterance):
            place.credit += message.bytes
            self._pump(place)

    def handle_ping(self, peer: Peer, _: Ping, __: bytes) -> None:
        peer.post(Pong(done=self._counts["finished"]))

    def handle_shutdown(self, peer: Peer | None, _: Shutdown, __: bytes) -> None:
        if peer is not None and peer is not self._model:
            peer.post(ShuttingDown(pid=os.getpid()))
        self._leaving = True
        for place in list(self._places.values()):
            self._cancel(place)

    def _own(self, peer: Peer, utterance: str) -> Place | None:
        """The utterance, if it is this client's. One that has ended is no error: the messages crossed."""
        place = self._places.get(utterance)
        return place if place is not None and place.client is peer else None

    # --- from the model server ---------------------------------------------------------------------------------------

    def handle_server_state(self, _: Peer, message: ServerState, __: bytes) -> None:
        self._state = message
        for place in list(self._places.values()):
            if not place.utterance.engine:
                place.tell(message)
            self._decide_engine(place)

    def handle_audio_chunk(self, _: Peer, message: AudioChunk, payload: bytes) -> None:
        if place := self._places.get(message.utterance):  # else it was cancelled: its audio is stale
            place.utterance.add_audio(message.index, payload)
            self._pump(place)

    def handle_synthesized(self, _: Peer, message: Synthesized, __: bytes) -> None:
        if place := self._places.get(message.utterance):
            if credit := place.utterance.synthesized(message):
                place.tell(Credit(utterance=message.utterance, bytes=credit))
            self._pump(place)

    def handle_failed(self, _: Peer, message: Failed, __: bytes) -> None:
        if place := self._places.get(message.utterance):
            self._end(place, "failed", message)

    def handle_floor_next(self, _: Peer, message: FloorNext, __: bytes) -> None:
        if place := self._places.get(message.utterance):
            place.floor = place.floor or "next"
            self._pump(place)

    def handle_floor_granted(self, _: Peer, message: FloorGranted, __: bytes) -> None:
        if place := self._places.get(message.utterance):
            place.floor = "granted"
            self._mouth.take_floor(message.utterance)
            self._pump(place)

    # --- from the mouth ----------------------------------------------------------------------------------------------

    def handle_floor_taken(self, _: None, message: FloorTaken, __: bytes) -> None:
        self._device_open = True
        if place := self._places.get(message.utterance):
            place.floor = "held"
            place.underflows_before = self._player.underflows
            self._pump(place)

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
        wanted = utterance.speak.engine
        if utterance.engine == "espeak" or state.state == "ready":
            utterance.engine = utterance.engine or "kokoro"
        elif state.state == "failed" or (state.state == "default" and wanted == "kokoro"):
            self._end(place, "failed", Failed(utterance=utterance.id, code=state.exit_code, text=state.detail))
        elif state.state == "default" and not utterance.engine:
            utterance.engine = "espeak"
            place.tell(Notice(utterance=utterance.id, text=f"the embedded default voice speaks: {state.detail}"))
        self._pump(place)

    def _pump(self, place: Place) -> None:
        """Moves audio and requests on as far as they can go now. Called whenever something has changed."""
        if place.utterance.id not in self._places:
            return
        if place.relayed:
            self._relay(place)
        elif place.floor == "held":
            self._feed(place)
        self._request(place)

    def _request(self, place: Place) -> None:
        """Asks for the next text chunks: as far as the window is open for who has the floor, or takes a file."""
        utterance = place.utterance
        waits_for_model = not utterance.engine or (utterance.engine == "kokoro" and self._state.state != "ready")
        if waits_for_model or not (place.relayed or place.floor):
            return
        while message := utterance.next_synthesize(
            utterance.frames - self._taken(place), only_first=place.floor == "next"
        ):
            self._model.post(message)

    def _relay(self, place: Place) -> None:
        utterance = place.utterance
        while utterance.audio and place.credit >= len(utterance.audio[0][1]):
            index, payload = utterance.audio.popleft()
            place.credit -= len(payload)
            self._start(place)
            place.tell(AudioChunk(utterance=utterance.id, index=index, payload_bytes=len(payload)), payload)
        if utterance.complete and not utterance.audio:
            self._finish(place)

    def _feed(self, place: Place) -> None:
        utterance = place.utterance
        try:
            while utterance.audio:
                self._player.feed(np.frombuffer(utterance.audio.popleft()[1], np.float32))
                self._start(place)
        except NoAudioDevice as error:
            self._fail(place, error)
            return
        if utterance.complete and not place.syncing:
            place.syncing = True
            self._mouth.sync(utterance.id)

    def _start(self, place: Place) -> None:
        if not place.started:
            place.started = True
            place.utterance.first_audio = time.monotonic() - place.utterance.began
            self._next_progress = time.monotonic() + PROGRESS_SECONDS
            place.tell(Started(utterance=place.utterance.id, engine=place.utterance.engine))

    def _taken(self, place: Place) -> int:
        """Frames heard, or sent to the client."""
        if place.floor == "held":
            return self._player.heard
        return place.utterance.frames_handed_on if place.relayed else 0

    def _finish(self, place: Place) -> None:
        utterance = place.utterance
        self._end(
            place,
            "finished",
            Finished(
                utterance=utterance.id,
                seconds=utterance.seconds,
                timing=utterance.timing(),
                underflows=self._underflows(place),
            ),
        )

    def _cancel(self, place: Place) -> None:
        if place.floor == "held":
            self._player.abort()  # first of all: the ear comes before the books
        self._model.post(Cancel(utterance=place.utterance.id))
        self._end(place, "cancelled", Cancelled(utterance=place.utterance.id))

    def _fail(self, place: Place, error: KokoroError) -> None:
        if place.floor == "held":
            self._player.abort()
        if isinstance(error, NoAudioDevice):
            self._leaving = True  # the next server starts in the sound environment of who asks for it
        self._model.post(Cancel(utterance=place.utterance.id))
        self._end(place, "failed", Failed(utterance=place.utterance.id, code=error.exit_code, text=str(error)))

    def _end(self, place: Place, outcome: str, message: Message) -> None:
        """The one way out of the books: exactly one last message, the floor freed, the ledger told."""
        utterance = place.utterance
        del self._places[utterance.id]
        self._counts[outcome] += 1
        self._last_used = time.monotonic()
        if place.floor in ("granted", "held"):
            self._mouth.release_floor()
        if not place.relayed:
            self._model.post(FloorReleased(utterance=utterance.id))
        self._model.post(
            UtteranceEnded(
                utterance=utterance.id,
                outcome=outcome,
                seconds=utterance.seconds,
                first_audio=utterance.first_audio,
                underflows=self._underflows(place),
            )
        )
        place.tell(message)
        self._log.info(outcome, extra={"utterance": utterance.id, "seconds": round(utterance.seconds, 3)})

    def _underflows(self, place: Place) -> int:
        return self._player.underflows - place.underflows_before if place.floor == "held" else 0

    @property
    def _player(self) -> Player:
        """Only for who has the floor: the mouth has made it then."""
        assert self._mouth.player is not None
        return self._mouth.player


EVENTS = (FloorTaken, Heard, MouthFailed, Shutdown)
FROM_CLIENT = (Speak, TextPart, EndOfText, Cancel, Credit, Ping, Shutdown)
FROM_MODEL = (ServerState, AudioChunk, Synthesized, Failed, FloorNext, FloorGranted, Shutdown)


def main(arguments: list[str] | None = None, server: type[VoiceServer] = VoiceServer) -> int:
    """Runs the server of one voice; normally started by the model server. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="kokoro-voice-server", description="One voice of Kokoro Say, in its own process."
    )
    parser.add_argument("voice", help="a name of the catalogue")
    parser.add_argument("--inherited", default="", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    life: daemon.Life | None = None
    try:
        settings = resolve()
        voice = server_name(parse_voice(options.voice))
        runtime = RuntimeDirectory(settings.runtime_dir)
        life = daemon.Life(runtime, f"voice-{voice}", options.inherited)
        link = daemon.connect(runtime, "model", "voice")
        if link is None:
            raise ServersUnreachable("there is no model server to register with", "start it with say.py")
        voice_server = server(settings, runtime, voice, link, life)
    except KokoroError as error:
        if life is not None:
            life.refuse(error)
        print(f"kokoro-voice-server: {error}", file=sys.stderr)
        return error.exit_code
    daemon.on_signals(voice_server.shut_down)
    voice_server.run()
    return daemon.end_process()


if __name__ == "__main__":
    sys.exit(main())
