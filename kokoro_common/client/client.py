"""Find or start the servers, send text, receive events and audio. say.py and any Python program use it.

The first request goes by way of the model server, later ones straight to the voice server that its record names.
Everything blocks; nothing here imports more than a shell command can afford.
"""

from __future__ import annotations

import os
import time

from kokoro_common.daemon import process, starter
from kokoro_common.daemon.model_server import ensure_model_server
from kokoro_common.daemon.runtime_directory import RuntimeDirectory
from kokoro_common.errors import ServersBusy, ServersUnreachable, UsageError, UtteranceCancelled
from kokoro_common.record import Record
from kokoro_common.text.speech import Speech
from kokoro_common.voices.catalogue import parse_voice, server_name
from kokoro_common.voices.user_voices import own_voices
from kokoro_common.wire.connection import Busy, Connection, ConnectionLost, NoAnswer, NotOurServer, call, readable
from kokoro_common.wire.failure import error_of
from kokoro_common.wire.messages import (
    SOUND_VARIABLES,
    Accepted,
    AudioChunk,
    Cancel,
    Cancelled,
    ChunkSpoken,
    Controlled,
    Credit,
    Denied,
    Download,
    Downloaded,
    EndOfText,
    Explained,
    Failed,
    Finished,
    Message,
    Notice,
    Pause,
    Ping,
    Progress,
    ProtocolError,
    Resume,
    Route,
    ServerState,
    Shutdown,
    Skip,
    Speak,
    Started,
    Status,
    StatusRequest,
    Stop,
    TextAccepted,
    TextPart,
    VoiceServerAt,
    VoiceServerFor,
)
from kokoro_common.wire.reports import StatusReport, UtteranceReport

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeVar

    from kokoro_common.settings import Settings

    Answer = TypeVar("Answer", bound=Message)

PING_SECONDS = 1.0
# Waits before another attempt while nothing was accepted; what was accepted and not begun gets one more attempt.
RETRY_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
PART_CHARACTERS = 16_000  # at most 64 kB of UTF-8, below what one TextPart may hold
AUDIO_CREDIT = 4 << 20  # bytes of audio that may be on their way to us: 44 s
CONTROL_SECONDS = 2.0  # for a server's answer to a control verb
SHUTDOWN_SECONDS = 15.0
SHUTDOWN_ATTEMPTS = 3


class Options(Record):
    """How an utterance is spoken."""

    voice: str = "af_heart"  # canonical name, see voices.parse_voice
    lang: str = ""  # one letter; empty: the voice's own
    speed: float = 1.0  # 0.25 to 4
    engine: str = "auto"
    seed: int = 0
    follow: bool = False  # Listener.progress with every word
    to_client: bool = False  # the audio comes to Listener.audio instead of the speakers
    wait: bool = True  # until it has been heard; False: until all text was accepted
    floor: str = "queue"  # interrupt: cancels all speech before it; overlap: beside it
    volume: float = 1.0  # 0 to 2
    audio_device: str = ""  # part of a device's name
    device: str = ""  # of the model, if --device asked for one
    precision: str = ""  # of the model, if --precision asked for one
    debug: bool = False
    plain: bool = False  # the text is no Markdown and has no tags
    ssml: bool = False  # the text is SSML even if it does not begin like it
    read_code: bool = False  # code blocks are read too
    emoji: bool = True  # are said by name
    dialogue: bool = False  # lines "NAME: text" have voices of their own
    cast: tuple[tuple[str, str], ...] = ()  # names and voices of a dialogue
    lexicon: tuple[tuple[str, str], ...] = ()  # words and what is said, see lexicon.wire
    explain: bool = False  # Listener.explained instead of audio
    words: bool = False  # Listener.spoken with the words of each text chunk; only with `to_client`
    first_chunk: int = 0  # text chunks that are left out; only with `to_client`


class Listener:
    """What a program may want to hear of its utterance. The base does nothing."""

    def state(self, message: ServerState) -> None:
        """The model is being downloaded or loaded; speech waits for it."""

    def notice(self, text: str) -> None:
        """One line for the user."""

    def accepted(self, utterance: str) -> None:
        """Its id, by which the logs know it."""

    def started(self, engine: str) -> None:
        """The first audio was handed to the device, or is about to arrive."""

    def progress(self, seconds: float, start: int, end: int) -> None:
        """So much has been heard, and the word now heard is text[start:end]; nothing yet if they are equal."""

    def explained(self, text: str, phonemes: str) -> None:
        """What would have been said of a text chunk; only with `explain`."""

    def audio(self, pcm: bytes) -> None:
        """float32 little-endian, mono, 24 kHz; only with `to_client`."""

    def spoken(self, chunk: ChunkSpoken) -> None:
        """All audio of a text chunk has come; only with `words`."""


class TextSource:
    """Text that is there, or that arrives through a descriptor. `replaced` tells whether bytes were no UTF-8."""

    def __init__(self, text: str = "", fd: int | None = None, echo: int | None = None) -> None:
        """`echo`: a descriptor that gets every byte from `fd`, unchanged, before it is spoken."""
        import codecs

        self.fd = fd
        self._echo = echo
        # Arguments of the command line that are no UTF-8 reach us with lone surrogates in them.
        try:
            self._text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        except UnicodeEncodeError:  # other lone surrogates, from a program
            self._text = text.encode("utf-8", "replace").decode()
        self.replaced = self._text.count("\ufffd") > text.count("\ufffd")  # in LANG=C all that is not ASCII is such
        self._position = 0
        self._follow = False
        self._keep = True  # what comes through the descriptor, for a second attempt
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    @property
    def readable(self) -> bool:
        """Whether there is, or may come, anything but blanks."""
        return self.fd is not None or bool(self._text.strip())

    def read(self) -> str | None:
        """The next part, perhaps empty; None at the end. Blocks when a descriptor has nothing."""
        if self._position < len(self._text):
            part = self._text[self._position : self._position + PART_CHARACTERS]
            self._position += len(part)
            return part
        if self.fd is None:
            return None
        try:
            data = os.read(self.fd, PART_CHARACTERS)
        except OSError as error:
            raise UsageError(f"the text cannot be read: {error.strerror}", "check the input") from error
        if not data:
            self.fd = None
        if self._echo is not None:
            view = memoryview(data)
            while view:
                view = view[os.write(self._echo, view) :]
        part = self._decoder.decode(data, final=not data)
        self.replaced |= part.count("\ufffd") > data.count("\ufffd".encode())
        if self._keep:
            self._text += part
            self._position = len(self._text)
        return part

    def rewind(self) -> None:
        """Back to the beginning, for a second attempt."""
        self._position = 0

    def forget(self) -> None:
        """What was read, and will be, is not needed for another attempt."""
        if not self._follow:
            self._keep = False
            self._text = self._text[self._position :]
            self._position = 0

    def keep_text(self) -> None:
        """From now on `text` is all that has been read."""
        self._follow = True

    @property
    def text(self) -> str:
        return self._text


class Client:
    """One user's servers. Methods raise the exceptions of errors.py."""

    def __init__(self, settings: Settings, listener: Listener | None = None) -> None:
        self._settings = settings
        self._listener = listener or Listener()
        self._runtime = RuntimeDirectory(settings.runtime_dir)
        self.note = self._runtime.note  # why the servers' directory is not the usual one, or nothing

    # --- speech ------------------------------------------------------------------------------------------------------

    def speak(
        self, source: TextSource, speech: Speech, route: Route, *, device: str = "", precision: str = ""
    ) -> Finished | None:
        """Speaks all of the source. Blocks until it has been heard, or is with us; None when `route.wait` is false.

        `device`, `precision`: what the model has to run on, if the user asked for it; another one is a UsageError.
        An exception on the way, KeyboardInterrupt included, cancels the utterance.
        """
        speech = speech.replace(lang=speech.lang or speech.voice[:1])
        route = route.replace(client=f"pid {os.getpid()}", sink="client" if route.explain else route.sink)
        if route.floor == "interrupt":
            self.control(Stop())  # straight to every voice: silence does not wait for the model server
        lost = False  # after it was accepted
        for wait in (*RETRY_SECONDS, None):
            conversation: _Conversation | None = None
            try:
                connection = self._voice_connection(speech, device, precision)
                conversation = _Conversation(connection, source, speech, route, self._listener)
                return conversation.run()
            except (ConnectionLost, NotOurServer, ProtocolError) as error:
                accepted = conversation is not None and conversation.accepted
                if wait is None or (accepted and lost) or (conversation is not None and conversation.started):
                    raise ServersUnreachable(f"the voice server was lost: {error}", "say it again") from error
                lost = lost or accepted
                source.rewind()
                # A server that was just leaving: its successor takes a moment. Not all at the same one, after a crash.
                time.sleep(wait * (1 + int.from_bytes(os.urandom(1)) / 256))
            finally:
                if conversation is not None:
                    conversation.close()
        raise AssertionError("unreachable")

    def _voice_connection(self, speech: Speech, device: str, precision: str) -> Connection:
        """Raises ConnectionLost or NotOurServer when a server left while we asked for it."""
        name = server_name(parse_voice(speech.voice, own_voices(self._settings.config_dir)))
        if not (device or precision) and (connection := starter.connect(self._runtime, f"voice-{name}", patient=True)):
            return connection
        sound = {key: value for key, value in os.environ.items() if key.startswith(SOUND_VARIABLES)}
        model = self._model_server()
        try:
            model.send(
                VoiceServerFor(
                    voice=name,
                    engine=speech.engine,
                    environment=sound,
                    device=device,
                    precision=precision,
                )
            )
            return call(self._answer(model, VoiceServerAt).port, self._runtime.token(), "client")
        except Busy as error:
            raise ServersBusy(error.retry_after) from error
        except NoAnswer:
            starter.end_hung(self._runtime, f"voice-{name}")
            raise
        finally:
            model.close()

    # --- the model server --------------------------------------------------------------------------------------------

    def download(self, voices: list[str]) -> Downloaded:
        """Fetches model and voices into the cache; the listener's `state` shows how far it is. Blocks."""
        model = self._model_server()
        try:
            model.send(Download(voices=tuple(voices)))
            return self._answer(model, Downloaded)
        except (ConnectionLost, ProtocolError) as error:
            raise ServersUnreachable(f"the model server was lost: {error}", "try again") from error
        finally:
            model.close()

    def status(self) -> StatusReport:
        """What all servers do; without servers a model_server of None. Starts nothing. Blocks for 4 s at most.

        The voice servers themselves tell what is spoken and what waits: they know even when the model server hangs.
        """
        answers = self._ask_all(StatusRequest(), ["model", *self._voice_server_names()])
        model = answers.pop("model", None)
        known = model if isinstance(model, Status) else Status()
        return StatusReport(
            version=known.version,
            model_server=known.model_server,
            voice_servers=known.voice_servers,
            utterances=_oldest_first(answers.values()),
        )

    def skip(self) -> int:
        """Cancels what is being spoken now, and not what follows it. Returns how many utterances that were."""
        utterances = _oldest_first(self._ask_all(StatusRequest(), self._voice_server_names()).values())
        spoken = tuple(each.utterance for each in utterances if each.state in ("speaking", "paused"))
        return self.control(Skip(utterances=spoken)) if spoken else 0

    def control(self, verb: Stop | Skip | Pause | Resume) -> int:
        """Sends the verb straight to all voice servers. Returns how many utterances it took effect on."""
        answers = self._ask_all(verb, self._voice_server_names())
        return sum(answer.utterances for answer in answers.values() if isinstance(answer, Controlled))

    def _voice_server_names(self) -> list[str]:
        names = (name.removesuffix(".json") for name in self._runtime.names() if name.endswith(".json"))
        return [name for name in names if name.startswith("voice-")]

    def _ask_all(self, question: Message, names: list[str]) -> dict[str, Message]:
        """Each server's answer; of those that give one in time. All at once: one that hangs holds nobody up."""
        import threading

        answers: dict[str, Message] = {}

        def connect(name: str) -> Connection | None:
            """None also for one that has had no room for us in CONTROL_SECONDS. One that is full tells nobody when
            it has room again, so there is nothing to wait for but time."""
            until = time.monotonic() + CONTROL_SECONDS
            while True:
                try:
                    return starter.connect(self._runtime, name)
                except ServersBusy as error:
                    wait = max(error.retry_after, RETRY_SECONDS[0])
                    if time.monotonic() + wait > until:
                        return None
                    time.sleep(wait)

        def ask(name: str) -> None:
            connection = connect(name)
            if connection is None:
                return
            try:
                connection.send(question)
                answers[name] = connection.receive(CONTROL_SECONDS)[0]
            except (ConnectionLost, ProtocolError, TimeoutError):
                pass  # it ends or hangs: there is nothing it could be told
            finally:
                connection.close()

        threads = [threading.Thread(target=ask, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return answers

    def shutdown(self) -> int:
        """Ends all servers of this runtime directory and waits until they are gone. Returns how many had to be told."""
        found = 0
        for _ in range(SHUTDOWN_ATTEMPTS):  # one that was being started while we looked is told the next time
            servers = ["model", *self._voice_server_names()]
            found += sum(self._tell_to_end(name) for name in servers)
            if all(starter.clear_away(self._runtime, name) for name in servers):
                return found
        raise ServersUnreachable("the servers are started again and again", "end who does that")

    def _tell_to_end(self, name: str) -> bool:
        """Whether it was there. Blocks until it has closed the connection, which is when it ends."""
        connection = starter.connect(self._runtime, name)
        if connection is None:
            return False
        try:
            connection.send(Shutdown())
            while True:
                connection.receive(SHUTDOWN_SECONDS)
        except (ConnectionLost, TimeoutError, ProtocolError):
            return True  # what goes on all the same is looked at next
        finally:
            connection.close()

    def _model_server(self) -> Connection:
        running = starter.connect(self._runtime, "model", patient=True)
        return running or ensure_model_server(self._runtime, self._settings)

    def _answer(self, model: Connection, kind: type[Answer]) -> Answer:
        watched = _Watched(model)
        while True:
            message = watched.receive()[0]
            if isinstance(message, kind):
                return message
            if isinstance(message, Failed):
                raise error_of(message)
            if isinstance(message, ServerState):
                self._listener.state(message)


def _oldest_first(answers: Iterable[Message]) -> tuple[UtteranceReport, ...]:
    """The utterances of all answers that are a Status."""
    found = [each for answer in answers if isinstance(answer, Status) for each in answer.utterances]
    return tuple(sorted(found, key=lambda each: -each.age_s))


class _Watched:
    """A connection to a server that may hang: whoever waits for it also looks whether it still answers, or works."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._pulse = process.Pulse(connection.pid)

    def receive(self) -> tuple[Message, bytes]:
        """The next message, Pong included. Blocks. Raises ConnectionLost when the server hangs too."""
        while True:
            try:
                message, payload = self.connection.receive(PING_SECONDS)
            except TimeoutError:
                self.missed()
                continue
            self._pulse.answered()
            return message, payload

    def missed(self) -> None:
        """Nothing was heard for PING_SECONDS."""
        if self._pulse.hangs():
            self.connection.close()  # whoever asks for it next will end it
            raise ConnectionLost("it hangs")
        self.connection.send(Ping())


class _Conversation:
    """One utterance on one connection: sends text as credit allows, and listens until its last message."""

    def __init__(
        self, connection: Connection, source: TextSource, speech: Speech, route: Route, listener: Listener
    ) -> None:
        self.accepted = False
        self.started = False
        self._connection = connection
        self._watched = _Watched(connection)
        self._source = source
        self._speech, self._route = speech, route
        self._listener = listener
        self._id = os.urandom(16).hex()
        self._credit = 0  # UTF-8 bytes of text we may send
        self._text_ended = False
        self._ended = False

    def run(self) -> Finished | None:
        try:
            self._connection.send(Speak(utterance=self._id, speech=self._speech, route=self._route))
        except ValueError as error:  # what no peer would accept: NaN, above all
            raise UsageError(f"these options cannot be sent: {error}", "see Speech") from error
        if self._route.sink == "client":
            self._connection.send(Credit(utterance=self._id, bytes=AUDIO_CREDIT))
        while True:
            if self._may_send() and self._text_is_next():
                self._send_text()
                continue
            message, payload = self._watched.receive()
            if isinstance(message, Finished):
                self._ended = True
                return message
            if isinstance(message, TextAccepted) and not self._route.wait:
                self._ended = True
                return None
            self._hear(message, payload)

    def close(self) -> None:
        """Cancels what has not ended. Idempotent."""
        try:
            if not self._ended:
                self._connection.send(Cancel(utterance=self._id))
        except ConnectionLost:
            pass  # a closed connection cancels as well
        finally:
            self._connection.close()

    def _may_send(self) -> bool:
        return not self._text_ended and self._credit >= 4 * PART_CHARACTERS

    def _text_is_next(self) -> bool:
        """Whether to send text now, rather than receive: what has arrived comes first, a pipe may keep us waiting."""
        fds = [self._connection.fileno()]
        if self._connection.has_message:
            return False
        if self._source.fd is None:
            return not readable(fds, 0)
        while not (ready := readable([*fds, self._source.fd], PING_SECONDS)):
            self._watched.missed()
        return fds[0] not in ready

    def _send_text(self) -> None:
        part = self._source.read()
        if part is None:
            self._text_ended = True
            self._connection.send(EndOfText(utterance=self._id))
        elif part:
            self._credit -= len(part.encode("utf-8", "replace"))
            self._connection.send(TextPart(utterance=self._id, text=part))

    def _hear(self, message: Message, payload: bytes) -> None:
        if isinstance(message, Accepted):
            self.accepted = True
            self._credit = message.text_credit
            self._listener.accepted(self._id)
        elif isinstance(message, Credit):
            self._credit += message.bytes
        elif isinstance(message, AudioChunk):
            self._listener.audio(payload)
            self._connection.send(Credit(utterance=self._id, bytes=len(payload)))
        elif isinstance(message, ChunkSpoken):
            self._listener.spoken(message)
        elif isinstance(message, Started):
            self.started = True
            self._source.forget()
            self._listener.started(message.engine)
        elif isinstance(message, Progress):
            self._listener.progress(message.seconds, message.word_start, message.word_end)
        elif isinstance(message, ServerState):
            self._listener.state(message)
        elif isinstance(message, Explained):
            self._listener.explained(message.text, message.phonemes)
        elif isinstance(message, Notice):
            self._listener.notice(message.text)
        elif isinstance(message, Denied):
            raise ConnectionLost(message.text)
        elif isinstance(message, Failed):
            self._ended = True
            raise error_of(message)
        elif isinstance(message, Cancelled):
            self._ended = True
            raise UtteranceCancelled("the speech was cancelled", "say it again if it was not meant")
