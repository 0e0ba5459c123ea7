"""Finds or starts the servers, speaks, asks for their status and controls them. say.py and any Python program use it.

The first request goes by way of the model server, later ones straight to the voice server that its record names.
Everything blocks; nothing here imports more than a shell command can afford.
"""

from __future__ import annotations

import os
import time

from kokoro_common.client.conversation import UtteranceEvents
from kokoro_common.client.watched import Watched
from kokoro_common.daemon import starter
from kokoro_common.daemon.model_server import ensure_model_server
from kokoro_common.daemon.runtime_directory import RuntimeDirectory
from kokoro_common.errors import SAY, ServersBusy, ServersUnreachable, UsageError
from kokoro_common.record import Record
from kokoro_common.voices.catalogue import parse_voice, server_name
from kokoro_common.voices.user_voices import own_voices
from kokoro_common.wire.connection import Busy, ConnectionLost, NoAnswer, NotOurServer, call
from kokoro_common.wire.failure import error_of
from kokoro_common.wire.limits import limit_of
from kokoro_common.wire.messages import (
    SOUND_VARIABLES,
    Controlled,
    Download,
    Downloaded,
    Failed,
    Message,
    Pause,
    ProtocolError,
    Resume,
    ServerState,
    Shutdown,
    Skip,
    Speak,
    Status,
    StatusRequest,
    Stop,
    Unload,
    Unloaded,
    VoiceServerAt,
    VoiceServerFor,
)
from kokoro_common.wire.reports import StatusReport, UtteranceReport

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from typing import TypeVar

    from kokoro_common.client.text_source import TextSource
    from kokoro_common.settings import Settings
    from kokoro_common.text.speech import Speech
    from kokoro_common.wire.connection import Connection
    from kokoro_common.wire.messages import Route

    Answer = TypeVar("Answer", bound=Message)

CONTROL_SECONDS = 2.0  # for each server's answer to a question or a control verb
SHUTDOWN_SECONDS = 15.0  # without a message, until a server that was told to end is looked at again
SHUTDOWN_ATTEMPTS = 3  # rounds: a server that was being started during one is told in the next


class Freed(Record):
    """Bytes that the model server took before and after it has freed the model's memory; 0 and 0: it had no model."""

    before: int = 0
    after: int = 0


class Client:
    """One user's servers. Methods raise the exceptions of errors.py."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._directory = RuntimeDirectory(settings.runtime_dir)
        self.runtime_directory = self._directory.path
        self.note = self._directory.note  # why the servers' directory is not the usual one, or nothing

    @property
    def _runtime(self) -> RuntimeDirectory:
        """The servers' directory; once more where it was moved or removed since."""
        if not self._directory.is_found():
            self._directory = RuntimeDirectory(self._settings.runtime_dir)
        return self._directory

    # --- speech ------------------------------------------------------------------------------------------------------

    def speak(
        self,
        source: TextSource,
        speech: Speech,
        route: Route,
        *,
        server: str = "",
        device: str = "",
        precision: str = "",
    ) -> UtteranceEvents:
        """The events of speaking all of the source; nothing happens before they are iterated. See UtteranceEvents.

        `server`: the voice whose server does the work, if the audio comes to the client: each can speak every voice.
        `device`, `precision`: what the model has to run on, if the user asked for it.

        Raises UsageError for values that exclude each other, UnknownVoice.
        """
        route = route.replace(client=f"pid {os.getpid()}", sink="client" if route.explain else route.sink)
        if route.sink == "client" and not route.wait:
            raise UsageError("audio that comes to the client has to be waited for", "wait, or use the speakers")
        if server and route.sink != "client":
            raise UsageError("only audio that comes to the client can come from any server", "leave the server out")
        speech = speech.replace(lang=speech.lang or speech.voice[:1])
        sound = _sound_environment()
        if route.sink == "speakers":
            route = route.replace(environment=tuple(f"{key}={value}" for key, value in sound.items()))
        name = server_name(parse_voice(server or speech.voice, own_voices(self._settings.config_dir)))
        wanted = VoiceServerFor(voice=name, engine=speech.engine, environment=sound, device=device, precision=precision)

        def connect(attempt: int) -> Generator[ServerState, None, Connection]:
            if not attempt and route.floor == "interrupt":
                try:  # straight to every voice: silence does not wait for the model server
                    self.control(Stop())
                except ServersUnreachable:
                    pass  # the model server, which this utterance needs anyhow, deals with one that hangs
            return (yield from self._voice_connection(wanted))

        return UtteranceEvents(connect, source, Speak(utterance=os.urandom(16).hex(), speech=speech, route=route))

    def _voice_connection(self, wanted: VoiceServerFor) -> Generator[ServerState, None, Connection]:
        """Raises ConnectionLost or NotOurServer if the server left while it was being called."""
        name = f"voice-{wanted.voice}"
        if not (wanted.device or wanted.precision) and (
            connection := starter.connect(self._runtime, name, patient=True)
        ):
            return connection
        model = self._model_server()
        try:
            model.send(wanted)
            there = yield from _answer(model, VoiceServerAt)
            return starter.call_in_a_crowd(
                lambda: call(there.port, self._runtime.token(), "client"), time.monotonic() + starter.CROWD_SECONDS
            )
        except Busy as error:
            raise ServersBusy(error.retry_after) from error
        except NoAnswer:
            starter.end_hung(self._runtime, name)
            raise
        finally:
            model.close()

    # --- the model server --------------------------------------------------------------------------------------------

    def download(self, voices: list[str]) -> Iterator[ServerState | Downloaded]:
        """Fetches the model and voices into the cache. Yields its progress, and Downloaded at the end. Blocks."""
        with _Asked(self._model_server()) as model:
            model.send(Download(voices=tuple(voices)))
            yield (yield from _answer(model, Downloaded))

    def unload(self, waiting: Callable[[], None] = lambda: None) -> Freed | None:
        """Lets the model server free the model's memory; the next request loads it again. None: no server runs.

        Blocks until the work under way is done; if that takes more than CONTROL_SECONDS, `waiting` is called once.
        Raises ServersUnreachable.
        """
        running = starter.connect(self._runtime, "model", patient=True)
        if running is None:
            return None
        with _Asked(running) as model:
            model.send(Unload())
            try:
                answer = model.receive(CONTROL_SECONDS)[0]
            except TimeoutError:
                waiting()
                answer = _last(_answer(model, Unloaded))
        if not isinstance(answer, Unloaded):
            raise ServersUnreachable(f"the model server answers {type(answer).__name__}", f"run {SAY} --shutdown")
        if not answer.rss_bytes:
            return Freed()
        with _Asked(self._model_server()) as model:  # in fresh memory
            model.send(StatusRequest())
            report = _last(_answer(model, Status)).model_server
        return Freed(before=answer.rss_bytes, after=report.rss_bytes if report is not None else 0)

    def status(self) -> StatusReport:
        """What all servers do; without servers a model_server of None. Starts nothing. Blocks for 4 s at most.

        Voice servers are asked for their utterances directly, so these are known even when the model server hangs.
        """
        answers, silent = self._ask_all(StatusRequest(), ["model", *self._voice_server_names()])
        model = answers.pop("model", None)
        known = model if isinstance(model, Status) else Status()
        return StatusReport(
            version=known.version,
            model_server=known.model_server,
            voice_servers=known.voice_servers,
            utterances=_oldest_first(answers.values()),
            more=sum(answer.more for answer in answers.values() if isinstance(answer, Status)),
            silent=tuple(silent),
        )

    def skip(self) -> int:
        """Cancels what is being spoken now, not what follows. Returns how many utterances. Blocks for 8 s at most.

        Raises ServersUnreachable as `control`.
        """
        answers, silent = self._ask_all(StatusRequest(), self._voice_server_names())
        utterances = _oldest_first(answers.values())
        spoken = tuple(each.utterance for each in utterances if each.state in ("speaking", "paused"))
        skipped = self.control(Skip(utterances=spoken)) if spoken else 0
        if silent and not spoken:
            raise _unanswered(silent, 0)
        return skipped

    def control(self, verb: Stop | Skip | Pause | Resume) -> int:
        """Tells all voice servers directly. Returns how many utterances were affected. Blocks for 4 s at most.

        Raises ServersUnreachable when one that runs has not answered: it may be speaking for all we know.
        """
        answers, silent = self._ask_all(verb, self._voice_server_names())
        affected = sum(answer.utterances for answer in answers.values() if isinstance(answer, Controlled))
        if silent:
            raise _unanswered(silent, affected)
        return affected

    def pause(self, utterance: UtteranceEvents, *, paused: bool) -> None:
        """Silences this one utterance, or lets it go on; one that still waits does not begin before it may go on.

        For the handlers of signals, in the midst of whatever the thread does: it uses a connection of its own, takes no
        lock and imports nothing. Blocks for 5 s at most; a server that does not answer has nothing to be silenced.
        """
        place = utterance.place
        if place is None:
            return
        port, name = place
        try:
            connection = call(port, self._runtime.token(), "client")
        except (ConnectionLost, NotOurServer):
            return
        try:
            connection.send(Pause(utterance=name) if paused else Resume(utterance=name))
            connection.receive(CONTROL_SECONDS)
        except (ConnectionLost, ProtocolError, TimeoutError):
            pass
        finally:
            connection.close()

    def _voice_server_names(self, *, leaving: bool = False) -> list[str]:
        """Those that have a record; a live one keeps it in its lock file too, should somebody remove NAME.json.

        `leaving`: also those that may be at their end, and have no record any more.
        """
        found = self._runtime.names()
        names = {name.removesuffix(".json") for name in found if name.endswith(".json")}
        locks = {name.removesuffix(".lock") for name in found if name.endswith(".lock")} - names
        names |= {name for name in locks if leaving or starter.serves(self._runtime, name)}
        return sorted(name for name in names if name.startswith("voice-") and not name.endswith(".start"))

    def _ask_all(self, question: Message, names: list[str]) -> tuple[dict[str, Message], list[str]]:
        """Answers of the servers that give one in time, and the names of those that run and do not. A thread for each,
        so a server that hangs delays no other."""
        import threading

        answers: dict[str, Message] = {}

        def ask(name: str) -> None:
            for _ in range(2):  # the model server may have begun again in fresh memory
                try:
                    connection = starter.connect(self._runtime, name, crowd_seconds=CONTROL_SECONDS)
                except ServersUnreachable:
                    return  # it is busy, or nothing can be found out about it; whether it runs is asked below
                if connection is None:
                    return
                try:
                    connection.send(question)
                    answers[name] = connection.receive(CONTROL_SECONDS)[0]
                    return
                except ConnectionLost:
                    continue
                except (ProtocolError, TimeoutError):
                    return  # it hangs, so it has no answer
                finally:
                    connection.close()

        threads = [threading.Thread(target=ask, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return answers, [name for name in names if name not in answers and starter.serves(self._runtime, name)]

    def shutdown(self) -> int:
        """Ends all servers of this runtime directory and waits until they are gone. Returns how many were running."""
        found = 0
        for _ in range(SHUTDOWN_ATTEMPTS):
            servers = ["model", *self._voice_server_names(leaving=True)]
            found += sum(self._tell_to_end(name) for name in servers)
            if all(starter.clear_away(self._runtime, name) for name in servers):
                return found
        raise ServersUnreachable("the servers are started again and again", "end who does that")

    def _tell_to_end(self, name: str) -> bool:
        """Whether the server was running. Blocks until it closes the connection, which it does as it ends."""
        connection = starter.connect(self._runtime, name)
        if connection is None:
            return starter.end_elsewhere(self._runtime, name)
        try:
            connection.send(Shutdown())
            while True:
                connection.receive(SHUTDOWN_SECONDS)
        except (ConnectionLost, TimeoutError, ProtocolError):
            return True  # clear_away() deals with one that goes on all the same
        finally:
            connection.close()

    def _model_server(self) -> Connection:
        running = starter.connect(self._runtime, "model", patient=True)
        return running or ensure_model_server(self._runtime, self._settings)


class _Asked:
    """A connection to the model server, closed at the end of the `with`, which raises ServersUnreachable if the server
    was lost in it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __enter__(self) -> Connection:
        return self._connection

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._connection.close()
        if isinstance(error, (ConnectionLost, ProtocolError)):
            raise ServersUnreachable(f"the model server was lost: {error}", "try again") from error


def _answer(model: Connection, kind: type[Answer]) -> Generator[ServerState, None, Answer]:
    """The model server's answer. Yields the states it tells before. Blocks. Raises the error of a Failed message."""
    watched = Watched(model)
    while True:
        message = watched.receive()[0]
        if isinstance(message, kind):
            return message
        if isinstance(message, Failed):
            raise error_of(message)
        if isinstance(message, ServerState):
            yield message


def _last(answering: Generator[ServerState, None, Answer]) -> Answer:
    """The answer alone. Blocks."""
    while True:
        try:
            next(answering)
        except StopIteration as ended:
            return ended.value  # type: ignore[no-any-return]


def _unanswered(silent: list[str], affected: int) -> ServersUnreachable:
    """`affected`: utterances of the servers that have answered."""
    names = ", ".join(name.removeprefix("voice-") for name in silent)
    done = f" ({affected} of others did)" if affected else ""
    return ServersUnreachable(f"no answer from the voice server of {names}{done}", f"try again, or {SAY} --shutdown")


def _sound_environment() -> dict[str, str]:
    most = limit_of("VoiceServerFor.environment")
    sound = {key: value for key, value in os.environ.items() if key.startswith(SOUND_VARIABLES)}
    return {key: value for key, value in sound.items() if len(key) <= most and len(value) <= most}


def _oldest_first(answers: Iterable[Message]) -> tuple[UtteranceReport, ...]:
    """The utterances of all answers that are a Status."""
    found = [each for answer in answers if isinstance(answer, Status) for each in answer.utterances]
    return tuple(sorted(found, key=lambda each: -each.age_s))
