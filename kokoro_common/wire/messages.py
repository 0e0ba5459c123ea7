"""The protocol: every message as a frozen type, one codec, the limits. No I/O. docs/protocol.md is the specification.

A frame is a 4-byte big-endian length and that many bytes of JSON, an object whose "type" is the name of a class below.
JSON with a `payload_bytes` of n > 0 is followed by n raw bytes: float32 little-endian PCM, mono, 24 kHz.

Two decoders read the same classes. Servers hear strangers and use `strict=True`: msgspec checks every field's type and
refuses unknown ones. A client hears only a server that has proved itself, and is spared msgspec's 40 ms of import.
"""

from __future__ import annotations

import functools
import json
import struct

from kokoro_common.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

PROTOCOL = 4  # raised when an old peer could misread a message

MAX_JSON_BYTES = 1 << 20
MAX_PAYLOAD_BYTES = 1 << 20
MAX_HELLO_BYTES = 4096  # JSON before the handshake is done; a payload is not allowed there
MAX_TEXT_PART_BYTES = 100_000  # UTF-8 bytes of one TextPart
MIN_SPEED, MAX_SPEED = 0.25, 4.0
MAX_VOLUME = 2.0
MAX_CHUNK_FRAMES = 24_000  # audio frames of one AudioChunk: 1 s
TEXT_CREDIT = 1 << 20  # UTF-8 bytes of text a client may send ahead; the rest waits for Credit
SOUND_VARIABLES = ("PULSE_", "PIPEWIRE_", "ALSA_", "XDG_RUNTIME_DIR")  # beginnings of names
_LENGTH = struct.Struct(">I")


class ProtocolError(Exception):
    """The peer broke the protocol. The stream cannot be trusted any further: close the connection."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"{problem:.300}")  # it may quote what was sent, and be logged and sent back


class Message(Record):
    """Base of all messages: the class name travels as "type", the fields as the other keys."""


# --- Handshake: mutual proof of the token, which never travels itself ------------------------------------------------


# Hello and Challenge are the part that every protocol shares: who speaks another one can still say so, and prove it.


class Hello(Message):
    role: str  # "client" or "voice": who is calling
    protocol: int
    version: str  # of the product, for the log and for upgrades
    nonce: str  # 32 hex digits


class Challenge(Message):
    role: str  # "model" or "voice": who has answered
    protocol: int
    version: str
    nonce: str  # 32 hex digits
    proof: str  # hex HMAC-SHA256 over the server's role, its port and both nonces


class Proof(Message):
    proof: str  # hex HMAC-SHA256 over the client's role, the port it called and both nonces


class Welcome(Message):
    pid: int


class Denied(Message):
    """Last message before a close, before the handshake is done or when a server is full or leaving."""

    text: str
    retry_after: float = 0.0  # seconds; 0: time will not change the answer


# --- Client to model server ------------------------------------------------------------------------------------------


class VoiceServerFor(Message):
    """Answered by VoiceServerAt, or Failed with an empty utterance. ServerState may come first."""

    voice: str  # of the catalogue; a blend is spoken by its first voice's server
    engine: str  # auto, kokoro or espeak: whether the model will be needed
    environment: dict[str, str]  # what the asking shell has of SOUND_VARIABLES; others are ignored
    device: str = ""  # what --device asked for; empty: whatever the daemon runs on
    precision: str = ""  # what --precision asked for; empty: whatever the daemon runs with


class VoiceServerAt(Message):
    voice: str
    port: int


class Download(Message):
    """Answered by ServerState while it lasts, then Downloaded or Failed. Closing the connection does not end it."""

    voices: list[str]  # names; empty: the model alone


class Downloaded(Message):
    files: int
    path: str  # where they are


class StatusRequest(Message):
    """Voice servers answer it too."""


class Status(Message):
    report: dict[str, Any]  # of the model server "model_server" and "voice_servers", of a voice server its "utterances"


class Shutdown(Message):
    """End the server. Answered by ShuttingDown; the connection is closed when it has ended."""

    drain: float = 0.0  # seconds for utterances to end by themselves, at most 5; then they are cancelled


class ShuttingDown(Message):
    pid: int


class Ping(Message):
    pass


class Pong(Message):
    done: int  # text chunks synthesized since the start: progress, as against a mere answer


# --- Client to voice server ------------------------------------------------------------------------------------------


class Speak(Message):
    """Opens an utterance. Answered by Accepted, then Started, Progress..., then one of Finished, Cancelled, Failed."""

    utterance: str  # 32 hex digits, chosen by the client
    voice: str
    lang: str  # one letter, see voices.LANGUAGES
    speed: float = 1.0  # 0.25 to 4
    engine: str = "auto"  # auto, kokoro or espeak
    seed: int = 0
    sink: str = "speakers"  # speakers, or client: the audio comes back as AudioChunk
    floor: str = "queue"  # queue; interrupt: cancels all speech before it; overlap: does without the floor
    volume: float = 1.0  # factor on the samples, 0 to 2
    audio_device: str = ""  # part of a device's name; empty: the default device
    wait: bool = True  # False: the utterance outlives this connection
    follow: bool = False  # Progress with every word
    client: str = ""  # who asks, for --status
    debug: bool = False  # log the text and phonemes of this utterance
    plain: bool = False  # the text is no Markdown, has no tags, and is said as it is written
    ssml: bool = False  # the text is SSML; without it one that begins with <speak is
    read_code: bool = False  # code blocks of Markdown are read too
    emoji: bool = True  # they are said by name
    dialogue: bool = False  # lines "NAME: text" are spoken by the voices of the cast
    cast: list[list[str]] = []  # noqa: RUF012 - records are frozen. Name and voice; who is not in it gets one
    lexicon: list[list[str]] = []  # noqa: RUF012 - word and what is said, /phonemes/ between slashes
    explain: bool = False  # Explained instead of audio
    words: bool = False  # ChunkSpoken behind the audio of each text chunk, if the sink is the client
    first_chunk: int = 0  # text chunks that are left out: an interrupted render goes on where it stopped


class TextPart(Message):
    utterance: str
    text: str  # at most MAX_TEXT_PART_BYTES


class EndOfText(Message):
    utterance: str


class Cancel(Message):
    utterance: str


class Credit(Message):
    """Flow control. Client to server: that many bytes of audio were taken; server to client: of text."""

    utterance: str
    bytes: int


class Stop(Message):
    """Cancels all speech of this server, spoken or waiting; files go on. Answered by Controlled."""


class Skip(Message):
    """Cancels these utterances if they are being spoken; what waits comes next. Answered by Controlled."""

    utterances: list[str]  # what was spoken when somebody said skip: what follows may have begun meanwhile


class Pause(Message):
    """Silences what is being spoken and keeps its place and the floor. Answered by Controlled."""


class Resume(Message):
    """Goes on where Pause has silenced it. Answered by Controlled."""


class Controlled(Message):
    utterances: int  # that the verb took effect on


class Accepted(Message):
    utterance: str
    text_credit: int  # UTF-8 bytes the client may send before the first Credit


class TextAccepted(Message):
    """All text up to EndOfText has arrived: a client with wait=False may leave."""

    utterance: str


class ServerState(Message):
    """The state of the model: while it is not "ready" or "default", speech waits for it."""

    state: str  # starting, downloading, loading, ready, default (the embedded default speaks) or failed
    detail: str = ""  # the file being downloaded, or the reason
    fraction: float = 0.0  # 0 to 1, of the download
    exit_code: int = 0  # of the error behind "default" and "failed"


class Notice(Message):
    """One line for the user's stderr, such as that the embedded default speaks."""

    utterance: str
    text: str


class Started(Message):
    """The first audio is about to go to the device, or to the client: from now on it may have been heard."""

    utterance: str
    engine: str  # kokoro or espeak


class Progress(Message):
    utterance: str
    seconds: float  # of audio heard, or sent, so far
    word_start: int = 0  # of the word being heard now, in characters of the text; as word_end: no word yet
    word_end: int = 0  # behind its last character


class AudioChunk(Message):
    """float32 PCM in the payload, at most MAX_CHUNK_FRAMES."""

    utterance: str
    index: int  # of the text chunk it belongs to, from 0
    words: list[list[int]] = []  # noqa: RUF012 - records are frozen. Those that begin here: start and end in the text
    # (of the chunk between servers, of the whole to a client), first and last frame from the beginning of this audio
    payload_bytes: int = 0


class ChunkSpoken(Message):
    """All audio of a text chunk has gone before; only if Speak wants its words."""

    utterance: str
    index: int
    text: str  # clean, without markup; empty for a pause
    start: int  # of the chunk, in characters of the whole text
    places: list[int]  # of each character of `text`, in characters of the whole text
    words: list[list[int]]  # start and end in `text`, first and last frame from the beginning of the chunk's audio
    frames: int  # of its audio


class Explained(Message):
    """What would have been said of a text chunk, if Speak wants to explain. By the model server, and to the client."""

    utterance: str
    index: int
    text: str  # as it is said, in words; [word](/phonemes/) where its writer or a lexicon gave phonemes
    phonemes: str  # that the engine would get; empty for espeak, which makes its own


class Finished(Message):
    utterance: str
    seconds: float  # of audio in all
    timing: dict[str, float]  # seconds: first_audio; of text chunk 0 g2p, queue, model; of all engine, synthesis
    underflows: int = 0  # times the device had nothing to play before the end


class Cancelled(Message):
    utterance: str


class Failed(Message):
    utterance: str  # empty when it answers VoiceServerFor or Download
    code: int  # exit code of say.py
    text: str  # one line with the remedy
    retry_after: float = 0.0  # seconds, when the servers are busy: the utterance was not accepted


# --- Voice server and model server -----------------------------------------------------------------------------------


class Register(Message):
    """First message of a voice server on its one connection, and again when that was lost. Counters since its start."""

    voice: str
    pid: int
    port: int
    instance: str  # 32 hex digits of its own: a server that registers again is not counted twice
    open: list[str]  # utterances that it has accepted and that have not ended
    accepted: int = 0
    finished: int = 0
    cancelled: int = 0
    failed: int = 0


class Synthesize(Message):
    """One text chunk to audio. Answered by AudioChunk..., Synthesized; or Failed, which ends the utterance."""

    utterance: str
    index: int
    text: str
    voice: str
    lang: str
    speed: float
    engine: str  # kokoro or espeak: auto has been decided by the voice server, once per utterance
    seed: int
    debug: bool = False
    plain: bool = False  # said as it is written, but for the edits
    emoji: bool = True
    edits: list[list[int | str]] = []  # noqa: RUF012 - records are frozen. Of edits.Edit: start, end, said, 1 for phonemes
    pause: float = 0.0  # seconds of silence instead of a text, which is empty then
    gain: float = 1.0  # factor on the samples, 0 to 2
    explain: bool = False  # answered by Explained and Synthesized, without audio


class Synthesized(Message):
    utterance: str
    index: int
    g2p: float  # seconds text to phonemes, over all phoneme pieces of this text chunk
    queue: float  # seconds the first piece waited for the engine
    model: float  # seconds in the engine


class Outdated(Message):
    """A newer program has called the voice server: whoever is older leaves when idle."""


class ModelWanted(Message):
    """An utterance needs the model: load it if nobody has asked before."""


class FloorRequest(Message):
    """May this utterance have the speakers? Answered by FloorNext and FloorGranted in the order of asking."""

    utterance: str
    age: float = 0.0  # seconds since it asked first, when it has to ask another model server again
    interrupt: bool = False  # all that is before it in the line gets Cancel


class FloorNext(Message):
    """The utterance is the next in line: its first text chunk may be synthesized."""

    utterance: str


class FloorGranted(Message):
    utterance: str


class FloorReleased(Message):
    utterance: str


class UtteranceOpened(Message):
    """May this utterance be accepted? Answered by Admitted, or Failed with `retry_after`."""

    utterance: str


class Admitted(Message):
    """From now on it is in the ledger."""

    utterance: str


class UtteranceEnded(Message):
    """For the ledger and the status. What was not open is ignored."""

    utterance: str
    outcome: str  # finished, cancelled or failed
    seconds: float = 0.0  # of audio
    first_audio: float = 0.0  # seconds from Speak to the first audio handed on; 0 when nothing was heard
    underflows: int = 0


class LogLine(Message):
    """For the central log, whose one writer is the model server."""

    line: str  # a JSON object as ASCII without control characters, at most 65,536 bytes


def _leaves(kind: type[Message]) -> dict[str, type[Message]]:
    return {sub.__name__: sub for sub in kind.__subclasses__()}


MESSAGES: dict[str, type[Message]] = _leaves(Message)


def encode(message: Message, payload: bytes | bytearray | memoryview = b"") -> bytes:
    """The frame of a message. Raises ValueError for what no peer would accept: NaN, too long, a wrong payload_bytes.

    Lone surrogates are replaced: they come from undecodable command-line bytes and have no form in UTF-8.
    """
    fields = message.as_dict()
    if fields.get("payload_bytes", 0) != len(payload):
        raise ValueError(f"{type(message).__name__} announces {fields.get('payload_bytes')} bytes, has {len(payload)}")
    text = json.dumps({"type": type(message).__name__, **fields}, ensure_ascii=False, allow_nan=False)
    body = text.encode("utf-8", "replace")
    if len(body) > MAX_JSON_BYTES or len(payload) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"{type(message).__name__} is longer than a frame may be")
    return b"".join((_LENGTH.pack(len(body)), body, payload))


class Decoder:
    """Bytes to (message, payload). Never allocates before a length is judged. One per connection, one thread.

    Starts with the limits for strangers; `trust()` lifts them when the handshake is done.
    """

    def __init__(self, *, strict: bool) -> None:
        self._parse: Callable[[bytes], Message] = _strict_parser() if strict else _parse_plain
        self._buffer = bytearray()
        self._trusted = False
        self._pending: Message | None = None  # its payload is still on the way
        self._wanted = 0  # bytes of that payload

    def trust(self) -> None:
        self._trusted = True

    @property
    def within_frame(self) -> bool:
        """Whether a frame has begun and is not complete: an end of stream now would cut it."""
        return bool(self._buffer) or self._pending is not None

    def feed(self, data: bytes) -> list[tuple[Message, bytes]]:
        """The messages that `data` completes, in order. Raises ProtocolError; the decoder is useless afterwards."""
        self._buffer += data
        complete = []
        while (item := self._next()) is not None:
            complete.append(item)
        return complete

    def _next(self) -> tuple[Message, bytes] | None:
        if self._pending is None:
            if len(self._buffer) < _LENGTH.size:
                return None
            (length,) = _LENGTH.unpack_from(self._buffer)
            if not 0 < length <= (MAX_JSON_BYTES if self._trusted else MAX_HELLO_BYTES):
                raise ProtocolError(f"a frame of {length} bytes")
            if len(self._buffer) < _LENGTH.size + length:
                return None
            message = self._parse(bytes(self._buffer[_LENGTH.size : _LENGTH.size + length]))
            del self._buffer[: _LENGTH.size + length]
            self._wanted = getattr(message, "payload_bytes", 0)
            if type(self._wanted) is not int or not 0 <= self._wanted <= (MAX_PAYLOAD_BYTES if self._trusted else 0):
                raise ProtocolError(f"a payload of {self._wanted} bytes")
            self._pending = message
        if len(self._buffer) < self._wanted:
            return None
        message, payload = self._pending, bytes(self._buffer[: self._wanted])
        del self._buffer[: self._wanted]
        self._pending = None
        return message, payload


def _parse_plain(body: bytes) -> Message:
    """For a peer that has proved itself: checks names, and types only where it has yet to prove itself."""
    try:
        fields = json.loads(body)
        message = MESSAGES[fields.pop("type")](**fields)
        if isinstance(message, (Challenge, Welcome, Denied)):
            _check_types(message)
        return message
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ProtocolError(f"not a message: {error!r}") from error


def _check_types(message: Message) -> None:
    for name, kind in type(message).__annotations__.items():
        if type(getattr(message, name)).__name__ not in (("float", "int") if kind == "float" else (kind,)):
            raise TypeError(f"{type(message).__name__}.{name} is no {kind}")


@functools.cache
def _strict_parser() -> Callable[[bytes], Message]:
    """For strangers: a msgspec union of all messages, every type checked, unknown fields refused."""
    import typing

    import msgspec

    def struct_of(kind: type[Message]) -> type[msgspec.Struct]:
        hints = typing.get_type_hints(kind, localns={"Any": typing.Any})
        fields: list[Any] = [
            (name, hints[name]) if name in kind._required else (name, hints[name], getattr(kind, name))
            for name in kind._fields
        ]
        return msgspec.defstruct(kind.__name__, fields, kw_only=True, tag=kind.__name__, forbid_unknown_fields=True)

    decoder = msgspec.json.Decoder(typing.Union[tuple(struct_of(kind) for kind in MESSAGES.values())])  # noqa: UP007

    def parse(body: bytes) -> Message:
        try:
            struct = decoder.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise ProtocolError(f"not a message: {error}") from error
        kind = MESSAGES[type(struct).__name__]
        return kind(**{name: getattr(struct, name) for name in kind._fields})

    return parse
