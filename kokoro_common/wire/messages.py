"""The protocol: every message as a frozen type, and the limits. No I/O. docs/protocol.md is the specification.

A message travels as a JSON object whose "type" is the name of its class (codec.py). A record inside a message is an
object too, except those marked `_array_form`, which are arrays of their fields: there are many of them in one message.

Over 400 lines: the table of contents of the protocol, in one place.
"""

from __future__ import annotations

from kokoro_common.record import Record
from kokoro_common.text.speech import ChunkRequest, Speech, TimedWord
from kokoro_common.wire.reports import ModelServerReport, UtteranceReport, VoiceServerReport

PROTOCOL = 7  # raised when an old peer could misread a message

MAX_TEXT_PART_BYTES = 100_000  # UTF-8 bytes of one TextPart
MAX_CHUNK_FRAMES = 24_000  # audio frames of one AudioChunk: 1 s
TEXT_CREDIT = 1 << 20  # UTF-8 bytes of text a client may send ahead; the rest waits for Credit
MAX_REPORTS = 600  # utterances in one Status: with the longest names they fit into a frame
SOUND_VARIABLES = ("PULSE_", "PIPEWIRE_", "ALSA_", "XDG_RUNTIME_DIR")  # beginnings of names
SINKS = ("speakers", "client")
FLOORS = ("queue", "interrupt", "overlap")


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

    voices: tuple[str, ...]  # names; empty: the model alone


class Downloaded(Message):
    files: int
    path: str  # where they are


class Unload(Message):
    """The model server frees the model's memory when the work under way is done. Answered by Unloaded; closing the
    connection takes the request back."""


class Unloaded(Message):
    rss_bytes: int  # of the model server, before; 0: no model was loaded. It begins again now, so connections end


class StatusRequest(Message):
    """Voice servers answer it too."""


class Status(Message):
    """The model server answers with its own report and those of the voice servers it knows, a voice server with what
    it speaks."""

    version: str = ""  # of the product
    model_server: ModelServerReport | None = None
    voice_servers: tuple[VoiceServerReport, ...] = ()
    utterances: tuple[UtteranceReport, ...] = ()  # at most MAX_REPORTS, those that are being spoken first
    more: int = 0  # utterances that are left out


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


class Route(Record):
    """Where the audio of an utterance goes, and what its client wants to hear about it."""

    sink: str = "speakers"  # one of SINKS; client: the audio comes back as AudioChunk
    floor: str = "queue"  # one of FLOORS; interrupt: cancels all speech before it; overlap: does without the floor
    audio_device: str = ""  # part of a device's name; empty: the default device
    environment: tuple[str, ...] | None = None  # NAME=value of SOUND_VARIABLES of the asking shell; None: unknown
    wait: bool = True  # False: the utterance outlives this connection; only for the speakers
    follow: bool = False  # Progress with every word
    client: str = ""  # who asks, for --status
    debug: bool = False  # log the text and phonemes of this utterance
    explain: bool = False  # Explained instead of audio
    words: bool = False  # ChunkSpoken behind the audio of each text chunk, if the sink is the client
    first_chunk: int = 0  # text chunks to leave out: an interrupted render goes on where it stopped
    together: bool = False  # a file: nobody waits for its first sound, so sentences are spoken together from the first


class Speak(Message):
    """Opens an utterance. Answered by Accepted, then Started, Progress..., then one of Finished, Cancelled, Failed."""

    utterance: str  # 32 hex digits, chosen by the client
    speech: Speech
    route: Route = Route()


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

    utterances: tuple[str, ...]  # what was spoken when somebody said skip: what follows may have begun meanwhile


class Pause(Message):
    """Silences what is being spoken and keeps its place and the floor. Answered by Controlled."""

    utterance: str = ""  # this one alone, which does not begin either if it still waits; empty: whatever is spoken


class Resume(Message):
    """Goes on where Pause has silenced it. Answered by Controlled."""

    utterance: str = ""  # this one alone; empty: all that are paused


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
    done: int = 0  # bytes of the download, over all of its files
    total: int = 0  # bytes in all; 0: unknown
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
    words: tuple[TimedWord, ...] = ()  # that begin here. Their places are in the chunk between servers, in the whole
    # text to a client; their frames are counted from the beginning of this audio
    payload_bytes: int = 0


class ChunkSpoken(Message):
    """All audio of a text chunk has gone before; only if Speak wants its words."""

    utterance: str
    index: int
    text: str  # clean, without markup; empty for a pause
    start: int  # of the chunk, in characters of the whole text
    places: tuple[int, ...]  # of each character of `text`, in characters of the whole text
    words: tuple[TimedWord, ...]  # places in `text`, frames from the beginning of the chunk's audio
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
    open: tuple[str, ...]  # utterances that it has accepted and that have not ended
    accepted: int = 0
    finished: int = 0
    cancelled: int = 0
    failed: int = 0


class Synthesize(Message):
    """One text chunk to audio. Answered by AudioChunk..., Synthesized; or Failed, which ends the utterance."""

    utterance: str
    request: ChunkRequest  # its engine is kokoro or espeak: the voice server decides once per utterance
    explain: bool = False  # answered by Explained and Synthesized, without audio
    debug: bool = False


class Synthesized(Message):
    utterance: str
    index: int
    g2p: float  # seconds text to phonemes, over all phoneme pieces of this text chunk
    queue: float  # seconds the first piece waited for the engine
    model: float  # seconds in the engine


class Outdated(Message):
    """A newer program has called the sender, either server: whoever is older leaves when idle."""


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


class FloorPaused(Message):
    """From a voice server: the utterance, which has the floor, is paused, or goes on. From the model server: the
    utterance waits for one that is."""

    utterance: str
    paused: bool


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


def handler_name(message: object) -> str:
    """The method that a server handles a message with: FloorRequest -> handle_floor_request."""
    name = type(message).__name__
    return "handle" + "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


MESSAGES: dict[str, type[Message]] = {kind.__name__: kind for kind in Message.__subclasses__()}
