"""One utterance on the wire, as the client sees it: text goes out as credit allows, events come back.

An utterance is iterated by one thread, which sends and receives only while the program waits for the next event. So a
program that rests makes the server wait instead of making a queue grow: credit for audio goes back when the program
asks for the event after it, and AUDIO_WINDOW fits into the kernel's buffers, so the server never waits for a write.
"""

from __future__ import annotations

import os
from _thread import allocate_lock  # threading would cost the command 2 ms

from kokoro_common.client.text_source import PART_CHARACTERS
from kokoro_common.client.watched import Watched
from kokoro_common.errors import ServersUnreachable, UsageError, UtteranceCancelled
from kokoro_common.record import Record
from kokoro_common.wire.connection import ConnectionLost, NotOurServer
from kokoro_common.wire.failure import error_of
from kokoro_common.wire.messages import (
    Accepted,
    AudioChunk,
    Cancel,
    Cancelled,
    ChunkSpoken,
    Credit,
    Denied,
    EndOfText,
    Explained,
    Failed,
    Finished,
    Notice,
    Progress,
    ProtocolError,
    ServerState,
    Started,
    TextAccepted,
    TextPart,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from kokoro_common.client.text_source import TextSource
    from kokoro_common.text.speech import TimedWord
    from kokoro_common.wire.connection import Connection
    from kokoro_common.wire.messages import Message, Speak

# Waits before another attempt while nothing was accepted. Accepted and not yet begun: one more attempt.
RETRY_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
AUDIO_WINDOW = 192 << 10  # bytes of audio that may be under way: 2 s, two AudioChunks of the greatest length
EXPLAINED_PART = 4_000  # characters in one TextPart to be explained: no credit bounds the answers, so the text does
EXPLAINED_BYTES = 8_000  # of text under way to be explained, beyond which no part is sent


FRAME_BYTES = 4  # float32, mono


class Audio(Record):
    """Audio of a text chunk, as much as came in one message."""

    pcm: bytes  # float32 little-endian, mono, 24 kHz
    index: int  # of the text chunk, from 0
    words: tuple[TimedWord, ...]  # that begin in it: places in the whole text, frames from the start of this audio


if TYPE_CHECKING:
    Event = (
        Accepted | ServerState | Notice | Started | Progress | Audio | ChunkSpoken | Explained | TextAccepted | Finished
    )


class Taken:
    """What the program has of an utterance's audio, over all connections that it takes. Frames are samples."""

    def __init__(self) -> None:
        self.index = 0  # of the text chunk that comes now, or next
        self.frames = 0  # in all
        self.engine = ""  # that speaks
        self._of_chunk = 0  # frames of the text chunk that comes now
        self._again = 0  # frames of it that come once more

    def begin_again(self) -> None:
        """Another server begins with the text chunk that comes now."""
        self._again = self._of_chunk

    def take(self, message: AudioChunk, pcm: bytes) -> Audio | None:
        """What is new of it."""
        if message.index != self.index:
            self.index, self._of_chunk, self._again = message.index, 0, 0
        skip = min(self._again, len(pcm) // FRAME_BYTES)
        self._again -= skip
        words = message.words
        if skip:
            words = tuple(
                word.replace(first_frame=word.first_frame - skip, last_frame=word.last_frame - skip)
                for word in words
                if word.first_frame >= skip
            )
        new = pcm[FRAME_BYTES * skip :]
        self._of_chunk += len(new) // FRAME_BYTES
        self.frames += len(new) // FRAME_BYTES
        return Audio(pcm=new, index=message.index, words=words) if new else None

    def spoken(self, index: int) -> None:
        """All of a text chunk has come."""
        self.index, self._of_chunk, self._again = index + 1, 0, 0


class Conversation:
    """One utterance on one connection. For one thread, except `cancel`."""

    def __init__(self, connection: Connection, source: TextSource, speak: Speak, taken: Taken) -> None:
        self.accepted = False  # by the server: it may have begun
        self.started = False  # it may have been heard
        self._watched = Watched(connection)
        self._source = source
        self._speak = speak
        self._taken = taken
        self._takes_audio = takes_audio(speak)
        self._credit = 0  # UTF-8 bytes of text that may be sent
        self._under_way = 0  # UTF-8 bytes sent for which credit has not come back
        self._part_sizes = EXPLAINED_PART if speak.route.explain else PART_CHARACTERS
        self._text_ended = False
        self._ended = False
        self._deaf = False  # the server takes nothing more
        self._cancelled = False  # by `cancel`, perhaps before Speak was sent

    def events(self) -> Iterator[Event]:
        """Blocks between events. Raises KokoroErrors, and ConnectionLost or ProtocolError when the server is lost."""
        try:
            self._watched.send(self._speak)
        except ValueError as error:  # NaN, above all
            raise UsageError(f"these options cannot be sent: {error}", "see Speech and Route") from error
        if self._cancelled:  # a Cancel before Speak was about nothing
            self.cancel()
        if self._takes_audio:
            self._send(Credit(utterance=self._speak.utterance, bytes=AUDIO_WINDOW))
        while not self._ended:
            if self._may_send() and self._text_is_next():
                self._send_text()
                continue
            message, payload = self._watched.receive()
            event = self._event(message, payload)
            if event is not None:
                yield event
            if payload:  # only now has the program taken it
                self._send(Credit(utterance=self._speak.utterance, bytes=len(payload)))

    def cancel(self) -> None:
        """Tells the server, from any thread. Does not wait for its answer."""
        self._cancelled = True
        try:
            self._watched.send(Cancel(utterance=self._speak.utterance))
        except ConnectionLost:
            pass  # the end of a connection cancels as well

    @property
    def port(self) -> int:
        """Of the voice server; 0 while a message is under way to it, and once the connection has ended."""
        return 0 if self._watched.sending else self._watched.port

    def close(self) -> None:
        """Cancels what has not ended. Idempotent."""
        try:
            if not self._ended:
                self._ended = True
                self.cancel()
        finally:
            self._watched.close()

    def _send(self, message: Message) -> None:
        """Lets receive() raise ConnectionLost: a server that has gone may have sent its last message before."""
        try:
            if not self._deaf:
                self._watched.send(message)
        except ConnectionLost:
            self._deaf = True

    # --- text --------------------------------------------------------------------------------------------------------

    def _may_send(self) -> bool:
        if self._text_ended or self._deaf or (self._speak.route.explain and self._under_way >= EXPLAINED_BYTES):
            return False
        return self._credit >= 4 * PART_CHARACTERS

    def _text_is_next(self) -> bool:
        """Whether to send text rather than receive: messages come first, and a pipe may keep us waiting."""
        if self._source.fd is None or self._source.buffered:
            return not self._watched.has_message
        return not self._watched.wait_for_either(self._source.fd)

    def _send_text(self) -> None:
        part = self._source.read(self._part_sizes)
        if part is None:
            self._text_ended = True
            self._send(EndOfText(utterance=self._speak.utterance))
        elif part:
            size = len(part.encode("utf-8", "replace"))
            self._credit -= size
            self._under_way += size
            self._send(TextPart(utterance=self._speak.utterance, text=part))

    # --- messages ----------------------------------------------------------------------------------------------------

    def _event(self, message: Message, payload: bytes) -> Event | None:
        """The event that a message is, if any. Raises the error that it stands for."""
        if isinstance(message, AudioChunk):
            return self._taken.take(message, payload)
        if isinstance(message, Credit):
            self._credit += message.bytes
            self._under_way -= message.bytes
        elif isinstance(message, Accepted):
            self.accepted = True
            self._credit = message.text_credit
            return message
        elif isinstance(message, Started):
            self.started = True
            if not self._takes_audio:
                self._source.forget()
            known, self._taken.engine = self._taken.engine, message.engine
            return None if known else message
        elif isinstance(message, Finished) and self._takes_audio:
            self._ended = True
            return message.replace(seconds=max(message.seconds, self._taken.frames / 24_000))
        elif isinstance(message, Finished) or (isinstance(message, TextAccepted) and not self._speak.route.wait):
            self._ended = True
            return message
        elif isinstance(message, ChunkSpoken):
            self._taken.spoken(message.index)
            return message
        elif isinstance(message, (ServerState, Notice, Progress, Explained)):
            return message
        elif isinstance(message, Denied):
            raise ConnectionLost(message.text)
        elif isinstance(message, Failed):
            self._ended = True
            raise error_of(message)
        elif isinstance(message, Cancelled):
            self._ended = True
            raise UtteranceCancelled("the speech was cancelled", "say it again if it was not meant")
        return None


def takes_audio(speak: Speak) -> bool:
    return speak.route.sink == "client" and not speak.route.explain


class Attempts:
    """One utterance on as many connections as it takes: on the next one while nothing of it was heard.

    Audio that comes to the client goes on at the very sample: a text chunk's audio depends on nothing else.
    """

    def __init__(
        self, connect: Callable[[int], Generator[ServerState, None, Connection]], source: TextSource, speak: Speak
    ) -> None:
        self._connect = connect
        self._source = source
        self._speak = speak
        self._taken = Taken()
        self._conversation: Conversation | None = None  # the last one
        self._cancelled = False
        self._lock = allocate_lock()  # for the two above, which `cancel` uses from other threads
        self._until_cancelled = allocate_lock()  # held until `cancel`
        self._until_cancelled.acquire()

    def events(self) -> Generator[Event, None, None]:
        """Blocks between events. Raises KokoroErrors. Closing it cancels what has not ended."""
        lost = False  # after it was accepted
        for attempt, wait in enumerate((*RETRY_SECONDS, None)):
            conversation: Conversation | None = None
            before = self._taken.frames
            try:
                connection = yield from self._connect(attempt)
                conversation = Conversation(connection, self._source, self._speak, self._taken)
                with self._lock:
                    self._conversation = conversation
                self._refuse_cancelled()
                yield from conversation.events()
                return
            except (ConnectionLost, NotOurServer, ProtocolError) as error:
                self._refuse_cancelled()
                accepted = conversation is not None and conversation.accepted
                in_vain = accepted and self._taken.frames == before
                if wait is None or (in_vain and lost) or not self._may_go_on(conversation):
                    raise ServersUnreachable(f"the voice server was lost: {error}", "say it again") from error
                lost = lost or in_vain
                self._begin_again()
                # The successor of a server that was just leaving takes a moment; a random one, so that after a crash
                # clients do not all come at once.
                self._until_cancelled.acquire(timeout=wait * (1 + int.from_bytes(os.urandom(1)) / 256))
                self._refuse_cancelled()
            finally:
                if conversation is not None:
                    conversation.close()

    @property
    def place(self) -> tuple[int, str] | None:
        """The port of the voice server, and the utterance's id; None while it is between servers or within a message.

        Takes no lock: a signal handler may look.
        """
        conversation = self._conversation
        port = conversation.port if conversation is not None else 0
        return (port, self._speak.utterance) if port else None

    def _may_go_on(self, conversation: Conversation | None) -> bool:
        """Whether nothing would be heard twice."""
        return conversation is None or not conversation.started or (takes_audio(self._speak) and self._source.whole)

    def _begin_again(self) -> None:
        """The next attempt has all of the text once more; its audio begins with the text chunk that comes now."""
        self._source.rewind()
        self._taken.begin_again()
        speak = self._speak.replace(utterance=os.urandom(16).hex())
        if takes_audio(speak):
            route = speak.route.replace(first_chunk=max(speak.route.first_chunk, self._taken.index))
            speak = speak.replace(route=route)
        if self._taken.engine and takes_audio(speak):
            speak = speak.replace(speech=speak.speech.replace(engine=self._taken.engine))
        self._speak = speak

    def cancel(self) -> None:
        """From any thread. Does not wait for the server."""
        with self._lock:
            if not self._cancelled:
                self._until_cancelled.release()
            self._cancelled = True
            conversation = self._conversation
        if conversation is not None:
            conversation.cancel()

    def _refuse_cancelled(self) -> None:
        if self._cancelled:
            raise UtteranceCancelled("the speech was cancelled", "say it again if it was not meant")


class UtteranceEvents:
    """The events of one utterance, in order. For one thread, except `cancel`.

        with client.speak(source, speech, route) as utterance:
            for event in utterance:  # Accepted, Started, Progress or Audio ..., Finished
                ...

    Nothing is sent before the first event is asked for. While the program rests between two events nothing is sent or
    received, for as long as it likes; the speakers go on with the text that was sent. Leaving the `with` block before
    the last event cancels the utterance; so does dropping the iterator, as a `for` loop over `client.speak(...)` does.

    `next()` blocks and raises KokoroErrors. If the server is lost before anything was heard, the text is sent again to
    another one: then Accepted comes twice. Audio that comes to the program goes on where it was, in any case.
    """

    def __init__(
        self, connect: Callable[[int], Generator[ServerState, None, Connection]], source: TextSource, speak: Speak
    ) -> None:
        """`connect`: calls a voice server; is given the number of the attempt, from 0."""
        self._attempts = Attempts(connect, source, speak)
        self._events = self._attempts.events()  # does not refer to us, so dropping us closes it

    def __iter__(self) -> UtteranceEvents:
        return self

    def __next__(self) -> Event:
        return next(self._events)

    def __enter__(self) -> UtteranceEvents:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def finish(self) -> Finished | None:
        """Takes all events. Blocks until the last one: Finished, or with `wait=False` TextAccepted (None)."""
        finished = None
        for event in self:
            finished = event if isinstance(event, Finished) else None
        return finished

    def cancel(self) -> None:
        """Cancels the utterance, from any thread at any time. Does not wait.

        While servers are being started it takes effect when they run. The thread that iterates gets UtteranceCancelled,
        unless the utterance has just ended by itself. Not for signal handlers, which may run while a lock is held:
        raise an exception there.
        """
        self._attempts.cancel()

    @property
    def place(self) -> tuple[int, str] | None:
        """The port of its voice server, and its id; None while it is between servers, or within a message to one."""
        return self._attempts.place

    def close(self) -> None:
        """Cancels what has not ended, and ends the iteration. Idempotent; for the thread that iterates."""
        self._events.close()
