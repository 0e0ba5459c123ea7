"""Both servers in one thread, without a socket, a thread, a device or a clock. Connections are queues, and the caller
chooses which goes on next. The servers are the real ones; what stands in for the rest is in this file.
"""

from __future__ import annotations

import itertools
import logging
import queue
import threading
from collections import Counter, deque
from typing import Any, NoReturn, cast

import numpy as np

import model_server
import voice_server
from kokoro_common import __version__
from kokoro_common.daemon.process import Pulse
from kokoro_common.errors import NoAudioDevice
from kokoro_common.phonemes.spoken import Spoken
from kokoro_common.record import Record
from kokoro_common.settings import Settings
from kokoro_common.sound.samples import SAMPLE_RATE, Sound
from kokoro_common.speaking.link import Linked
from kokoro_common.speaking.speaker_thread import FloorTaken, Heard, Sounding, SpeakersFailed, Starting
from kokoro_common.synthesis.scheduler import Piece
from kokoro_common.synthesis.synthesis import Synthesis
from kokoro_common.text.speech import ChunkRequest
from kokoro_common.wire.codec import encode
from kokoro_common.wire.messages import (
    AudioChunk,
    Cancelled,
    Credit,
    Failed,
    Finished,
    Message,
    ServerState,
    Unload,
    Unloaded,
)
from kokoro_common.wire.server import Delivery, PeerGone

VOICES = ("af_heart", "am_adam")
FRAMES_PER_CHARACTER = 240
LAST = (Finished, Cancelled, Failed)
PARENT = logging.getLogger("kokoro")


class Unexpected(logging.Handler):
    """What the servers log as an error: an exception that nobody meant."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(self.format(record))


class End:
    """One end of a connection, as a server sees its peer: what it posts waits here until the world delivers it."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.pid = 0
        self.version = __version__
        self.unsent = 0
        self.sent: deque[tuple[Message, bytes]] = deque()
        self.closing = False  # after what was posted
        self.open = True
        self.ended = threading.Event()  # nothing here waits for what is on its way
        self.ended.set()

    def post(self, message: Message, payload: bytes = b"", written: Any = None) -> None:
        encode(message, payload)
        if self.open and not self.closing:
            self.sent.append((message, payload))
        if written is not None:
            written.set()

    def offer(self, message: Message) -> bool:
        self.post(message)
        return True

    def close(self) -> None:
        self.closing = True

    def drop(self) -> None:
        self.open = False

    @property
    def delivered(self) -> bool:
        return not self.sent

    def taken(self) -> None:
        pass


class Files:
    def missing(self) -> str:
        return ""

    def problem(self) -> str:
        return ""


class Life:
    files = Files()

    def keep(self) -> bool:
        return True

    def leave(self) -> None:
        pass


class Runtime:
    path = "/nowhere"


class WorldSynthesis(Synthesis):
    """The real one, a step at a time, with an engine that makes silence."""

    def synthesize(self, batch: list[Piece]) -> list[Sound]:
        return [Sound(samples=np.zeros(len(piece.text) * FRAMES_PER_CHARACTER, np.float32)) for piece in batch]

    def step(self) -> bool:
        """Lets the engine take its next piece, or the G2P its next text chunk."""
        if self.waiting:
            self._speak(self._scheduler.next_batch(1))
            return True
        try:
            job = self._g2p_jobs.get_nowait()
        except queue.Empty:
            return False
        if job is not None:
            job()
        return True

    def _build(self, lang: str) -> None:
        pass

    def _phonemes(self, request: ChunkRequest) -> list[Spoken]:
        return [Spoken(phonemes=request.text, words=())]


class Alive(Pulse):
    """No server hangs here: that takes a process (tests/programs/test_conversation.py)."""

    def hangs(self) -> bool:
        return False


class Renewed(BaseException):
    """The model server begins again: the call that led to it never returns."""


class WorldModelServer(model_server.ModelServer):
    make_synthesis = WorldSynthesis
    make_pulse = Alive

    @property
    def synthesis(self) -> WorldSynthesis:
        return cast(WorldSynthesis, self._synthesis)

    @property
    def line(self) -> tuple[Any, ...]:
        return self._floor.line

    def _renew(self, reason: str, *, warm: bool, lost: str = "", unloaded: str = "") -> NoReturn:
        raise Renewed


class WorldLink:
    """A voice server's connection to the model server."""

    def __init__(self) -> None:
        self.peer: End | None = None
        self.seeking = False

    def adopt(self, connection: End) -> None:
        self.peer = connection
        self.seeking = False

    def post(self, message: Message, payload: bytes = b"") -> None:
        if self.peer is not None:
            self.peer.post(message, payload)

    def forward(self, line: str) -> bool:
        return True

    def seek(self) -> None:
        self.peer = None
        self.seeking = True

    def need(self) -> None:
        pass

    def watch(self, now: float) -> None:
        pass

    def heard(self) -> None:
        pass


class WorldSpeakers:
    """A speaker thread and its device, a step at a time. It blocks where the real one would: on the lock, on audio."""

    def __init__(self, world: SmallWorld, server: WorldVoiceServer, *, needs_floor: bool) -> None:
        self._world = world
        self._server = server
        self._needs_floor = needs_floor
        self._commands: deque[tuple[str, str]] = deque()
        self._waiting: set[str] = set()
        self.speaking = ""
        self.heard = 0
        self.underflows = 0
        self.paused = False
        self.busy_since: float | None = None
        self._fed = 0
        self._aborted = self._finished = self._sounding = False

    def speak(self, utterance: str, device: str, environment: tuple[str, ...] | None = None) -> None:
        self._waiting.add(utterance)
        self._commands.append((utterance, device))

    def silence(self, utterance: str) -> None:
        self._waiting.discard(utterance)
        if self.speaking == utterance:
            self._aborted = True

    def feed(self, samples: Any) -> None:
        if self.speaking and not self._aborted:  # the device may be gone, and word of it on its way
            self._fed += len(samples)

    def finish(self) -> None:
        self._finished = True

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def let_go(self) -> None:
        if self._world.lock is self:
            self._world.lock = None

    def close(self) -> None:
        self._waiting.clear()
        self._aborted = True

    def join(self, seconds: float) -> None:
        pass

    @property
    def idle(self) -> bool:
        return not self.speaking and not self._commands

    def step(self, *, fails: bool = False) -> bool:
        """The next thing that the thread or the device does. False: it waits for something."""
        if not self.speaking:
            return self._begin()
        if self._aborted:
            self._end()
        elif fails:
            error = NoAudioDevice("the device was lost", "plug it in")
            self._server.events.append(SpeakersFailed(utterance=self.speaking, error=error))
            self._end()
        elif self.paused:
            return False
        elif self.heard < self._fed:
            if not self._sounding:
                self._sounding = True
                self._server.events.append(Starting(utterance=self.speaking, told=threading.Event()))
                self._server.events.append(Sounding(utterance=self.speaking))
            self.heard = self._fed
        elif self._finished:
            self._server.events.append(Heard(utterance=self.speaking))
            self._end()
        else:
            return False
        return True

    def _begin(self) -> bool:
        if not self._commands or (self._needs_floor and self._world.lock is not None):
            return False
        utterance, _ = self._commands.popleft()
        if utterance in self._waiting:
            self._waiting.discard(utterance)
            self.speaking = utterance
            self.heard = self._fed = 0
            self._aborted = self._finished = self._sounding = self.paused = False
            if self._needs_floor:
                self._world.lock = self
            self._server.events.append(FloorTaken(utterance=utterance))
        return True

    def _end(self) -> None:
        self.speaking = ""
        if self._world.lock is self:
            self._world.lock = None


class WorldVoiceServer(voice_server.VoiceServer):
    def __init__(self, world: SmallWorld, name: str) -> None:
        self.world = world
        self.link = WorldLink()
        self.events: deque[Record] = deque()  # from its own threads
        self.devices: list[WorldSpeakers] = []
        super().__init__(world.settings, cast(Any, Runtime()), name, cast(Any, None), cast(Any, Life()), world.clock)

    def make_link(self) -> Any:
        return self.link

    def make_speakers(self, *, needs_floor: bool) -> Any:
        self.devices.append(WorldSpeakers(self.world, self, needs_floor=needs_floor))
        return self.devices[-1]

    def connect(self, end: End) -> None:
        self._connect(cast(Any, end))
        self._register()

    @property
    def held_bytes(self) -> int:
        """Audio that waits here for somebody to take it."""
        return sum(len(payload) for turn in self.turns.all for _, payload in turn.utterance.in_flight.audio)


class Client:
    """A client's connection to one voice server, and what it knows of its utterances."""

    def __init__(self, server: WorldVoiceServer) -> None:
        self.server = server
        self.name = ""
        self.end = End("client")  # what the server posts to
        self.messages: deque[Message] = deque()  # sent and not yet read by the server
        self.open = True
        self.sinks: dict[str, str] = {}  # by utterance
        self.unended: set[str] = set()  # utterances whose text may still come
        self.credit: Counter[str] = Counter()  # bytes, given and not used
        self.last: Counter[str] = Counter()  # last messages

    def __repr__(self) -> str:
        return self.name

    @property
    def utterance(self) -> str:
        """Its one utterance."""
        return next(iter(self.sinks))

    def send(self, message: Message) -> None:
        if self.open:
            self.messages.append(message)

    def hear(self, message: Message, payload: bytes) -> None:
        utterance = getattr(message, "utterance", "")
        if utterance not in self.sinks:
            return
        if isinstance(message, AudioChunk):
            self.credit[utterance] -= len(payload)
            assert self.credit[utterance] >= 0, "audio beyond the credit"
        if isinstance(message, LAST):
            self.last[utterance] += 1
        assert self.last[utterance] <= 1, f"two last messages: {message}"
        if isinstance(message, LAST) is False and self.last[utterance]:
            raise AssertionError(f"after the last message: {message}")


class SmallWorld:
    """One model server, two voice servers, any number of clients."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self._ids = itertools.count(1)
        self.settings = Settings(
            runtime_dir="/nowhere", cache_dir="/nowhere", log_dir="/nowhere", config_dir="/nowhere", unload_after=20.0
        )
        self.lock: WorldSpeakers | None = None  # floor.lock
        self.clients: list[Client] = []
        self.unloading: list[End] = []  # connections to this model server that have asked for it
        self.unloaded = 0  # times
        self.unexpected = Unexpected()
        PARENT.addHandler(self.unexpected)
        PARENT.propagate = False
        self.model = self._new_model()
        self.links: dict[str, tuple[End, End]] = {}  # by voice: (the voice server's end, the model server's)
        self.voices = {name: WorldVoiceServer(self, name) for name in VOICES}
        for name in VOICES:
            self.relink(name)

    def close(self) -> None:
        PARENT.removeHandler(self.unexpected)
        PARENT.propagate = True

    def clock(self) -> float:
        return self.now

    def _new_model(self) -> WorldModelServer:
        model = WorldModelServer(self.settings, cast(Any, Runtime()), cast(Any, Life()), clock=self.clock)
        model._board.port = 5000
        model._board.hand_on = lambda: 0  # type: ignore[method-assign]
        model._loader.state = ServerState(state="ready")
        model._loader._wanted = True
        model._loader.packs = dict.fromkeys(VOICES)  # type: ignore[assignment]
        return model

    # --- connections -------------------------------------------------------------------------------------------------

    def relink(self, name: str) -> None:
        """The voice server finds the model server."""
        server = self.voices[name]
        self.links[name] = ours, theirs = End("model"), End("voice")
        theirs.version = ours.version = __version__
        server._board.port = 5001 + VOICES.index(name)
        if server.link.seeking:
            server.dispatch(Delivery(None, Linked(connection=cast(Any, ours))))
        else:
            server.connect(ours)

    def cut_link(self, name: str) -> None:
        """The connection breaks: what was on its way is lost."""
        if name not in self.links:
            return
        ours, theirs = self.links.pop(name)
        self.model.dispatch(Delivery(cast(Any, theirs), PeerGone()))
        self.voices[name].dispatch(Delivery(cast(Any, ours), PeerGone()))

    def kill_model(self) -> None:
        """Another model server takes its place, empty."""
        self.unloading.clear()
        for name in list(self.links):
            ours, _ = self.links.pop(name)
            self.voices[name].dispatch(Delivery(cast(Any, ours), PeerGone()))
        self.model = self._new_model()

    def ask_to_unload(self) -> None:
        end = End("client")
        self.unloading.append(end)
        self.model.dispatch(Delivery(cast(Any, end), Unload()))

    def no_longer_unload(self) -> None:
        """The client that asked first has lost patience."""
        self.model.dispatch(Delivery(cast(Any, self.unloading.pop(0)), PeerGone()))

    def _renewed(self) -> None:
        """The model server has begun again, which it may only with nothing at work; those that asked for it know."""
        assert self.model.ledger.in_flight == 0, "an utterance is under way"
        for end in self.unloading:
            assert [type(message) for message, _ in end.sent] == [Unloaded]
        self.unloaded += 1
        self.kill_model()

    def kill_voice(self, name: str) -> None:
        """Its clients see the connection end, its lock is free, another one takes its place."""
        server = self.voices[name]
        if self.lock in server.devices:
            self.lock = None
        for client in self.clients:
            if client.server is server:
                client.open = False
        self.clients = [client for client in self.clients if client.open]
        if name in self.links:
            _, theirs = self.links.pop(name)
            self.model.dispatch(Delivery(cast(Any, theirs), PeerGone()))
        self.voices[name] = WorldVoiceServer(self, name)
        self.relink(name)

    def connect(self, name: str) -> Client:
        client = Client(self.voices[name])
        client.name = f"client {next(self._ids)}"
        self.clients.append(client)
        return client

    def disconnect(self, client: Client) -> None:
        client.open = False
        client.server.dispatch(Delivery(cast(Any, client.end), PeerGone()))
        self.clients.remove(client)

    # --- one step of one queue ---------------------------------------------------------------------------------------

    def deliver_from_client(self, client: Client) -> bool:
        if not client.messages:
            return False
        client.server.dispatch(Delivery(cast(Any, client.end), client.messages.popleft()))
        return True

    def deliver_to_client(self, client: Client) -> bool:
        if client.end.sent:
            client.hear(*client.end.sent.popleft())
            return True
        if client.end.closing and client in self.clients:
            self.disconnect(client)
            return True
        return False

    def deliver_to_model(self, name: str) -> bool:
        if name not in self.links or not self.links[name][0].sent:
            return False
        ours, theirs = self.links[name]
        message, payload = ours.sent.popleft()
        self.model.dispatch(Delivery(cast(Any, theirs), message, payload))
        return True

    def deliver_to_voice(self, name: str) -> bool:
        if name not in self.links or not self.links[name][1].sent:
            return False
        ours, theirs = self.links[name]
        message, payload = theirs.sent.popleft()
        self.voices[name].dispatch(Delivery(cast(Any, ours), message, payload))
        return True

    def deliver_event(self, name: str) -> bool:
        server = self.voices[name]
        if not server.events:
            return False
        server.dispatch(Delivery(None, server.events.popleft()))
        return True

    def tick(self, seconds: float) -> None:
        self.now += seconds
        for server in self.voices.values():
            server.tick(self.now)
        try:
            self.model.tick(self.now)
        except Renewed:
            self._renewed()

    # --- many steps --------------------------------------------------------------------------------------------------

    def step_all(self) -> bool:
        """One step of everything that can go on. Whether anything could."""
        went_on = [self.model.synthesis.step()]
        for name in VOICES:
            if name not in self.links:
                self.relink(name)
            went_on += [self.deliver_to_model(name), self.deliver_to_voice(name), self.deliver_event(name)]
            went_on += [speakers.step() for speakers in self.voices[name].devices]
        for client in list(self.clients):
            went_on += [self.deliver_from_client(client), self.deliver_to_client(client)]
        return any(went_on)

    def run(self) -> None:
        """Until nothing can go on without the clock or a client."""
        for _ in range(100_000):
            if not self.step_all():
                return
        raise AssertionError("it never comes to rest")

    def settle(self, seconds: float) -> None:
        """Lets so much time pass, in which clients take what they are sent, and send nothing else."""
        until = self.now + seconds
        self.run()
        while self.now < until:
            for client in self.clients:
                for utterance, sink in client.sinks.items():
                    if sink == "client" and not client.last[utterance]:
                        client.credit[utterance] += 1 << 22
                        client.send(Credit(utterance=utterance, bytes=1 << 22))
            self.run()
            self.tick(0.5)
            self.run()

    def utterance_id(self) -> str:
        """The same in each replay of a walk."""
        return f"{next(self._ids):032x}"


SECOND = SAMPLE_RATE * 4  # bytes of audio
