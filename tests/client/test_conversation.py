"""The client's side of an utterance, against a server that the test plays, message by message."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from kokoro_common.client import conversation
from kokoro_common.client.conversation import AUDIO_WINDOW, Audio, Conversation, Taken, UtteranceEvents
from kokoro_common.client.text_source import TextSource
from kokoro_common.errors import ServersBusy, ServersUnreachable, UnknownVoice, UtteranceCancelled
from kokoro_common.text.speech import Speech
from kokoro_common.wire.connection import Connection, ConnectionLost
from kokoro_common.wire.messages import (
    Accepted,
    AudioChunk,
    Cancel,
    Cancelled,
    Credit,
    EndOfText,
    Failed,
    Finished,
    Message,
    Notice,
    Route,
    ServerState,
    Speak,
    Started,
    TextAccepted,
    TextPart,
)

ID = "0" * 32
TO_CLIENT = Route(sink="client")
PCM = bytes(96_000)  # a second


class Server:
    """The other end of a connection."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            theirs = socket.create_connection(listener.getsockname())
            ours, _ = listener.accept()
        self.connection = Connection(ours, strict=False)
        self.connection.trust()
        self.client = Connection(theirs, strict=False)
        self.client.trust()

    def say(self, *messages: Message) -> None:
        for message in messages:
            self.connection.send(message)

    def audio(self, index: int = 0) -> None:
        self.connection.send(AudioChunk(utterance=ID, index=index, payload_bytes=len(PCM)), PCM)

    def close(self) -> None:
        self.connection.close()
        self.client.close()

    def heard(self) -> list[Message]:
        """All that has arrived."""
        messages = []
        try:
            while True:
                messages.append(self.connection.receive(0.05)[0])
        except (TimeoutError, ConnectionLost):
            return messages


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def spoken(server: Server, text: str = "Hello.", route: Route = TO_CLIENT) -> UtteranceEvents:
    """An utterance whose first attempt reaches the server; there is no second one."""
    calls = iter([server.client])

    def connect(_: int) -> Any:
        yield ServerState(state="starting")
        client = next(calls, None)
        if client is None:
            raise ConnectionLost("gone")
        return client

    return UtteranceEvents(connect, TextSource(text), Speak(utterance=ID, speech=Speech(lang="a"), route=route))


def begin(server: Server) -> None:
    server.say(Accepted(utterance=ID, text_credit=1 << 20), Started(utterance=ID, engine="espeak"))


def end(server: Server) -> None:
    server.say(Finished(utterance=ID, seconds=1.0, timing={}))


def test_messages_come_as_events_in_order_and_audio_as_samples_with_words(server: Server) -> None:
    begin(server)
    server.say(Notice(utterance=ID, text="a note"))
    server.audio()
    end(server)
    events = list(spoken(server))
    kinds = [ServerState, Accepted, Started, Notice, Audio, Finished]
    assert [type(event) for event in events] == kinds
    assert events[4] == Audio(pcm=PCM, index=0, words=())
    assert [type(message) for message in server.heard()] == [Speak, Credit, Credit]  # messages come before text


def test_nothing_is_sent_before_the_first_event_is_asked_for(server: Server) -> None:
    utterance = spoken(server)
    assert server.heard() == []
    utterance.close()
    assert server.heard() == []


def test_credit_for_audio_goes_back_when_the_next_event_is_asked_for(server: Server) -> None:
    begin(server)
    server.audio(0)
    server.audio(1)
    utterance = spoken(server)
    while not isinstance(next(utterance), Audio):
        pass
    assert [each.bytes for each in server.heard() if isinstance(each, Credit)] == [AUDIO_WINDOW]
    assert isinstance(next(utterance), Audio)
    assert [each.bytes for each in server.heard() if isinstance(each, Credit)] == [len(PCM)]
    utterance.close()


def test_the_last_message_counts_though_nothing_can_be_sent_any_more(server: Server) -> None:
    begin(server)
    server.audio()
    end(server)
    server.connection.close()
    assert isinstance(list(spoken(server))[-1], Finished)


@pytest.mark.parametrize("leave", ["break", "close", "with", "error"])
def test_who_leaves_before_the_end_cancels(server: Server, leave: str) -> None:
    begin(server)
    if leave == "break":
        for event in spoken(server):
            if isinstance(event, Started):
                break
    elif leave == "close":
        utterance = spoken(server)
        next(utterance), next(utterance)
        utterance.close()
        assert list(utterance) == []
    else:
        with pytest.raises(ZeroDivisionError if leave == "error" else StopAsyncIteration), spoken(server) as utterance:
            next(utterance), next(utterance)
            raise ZeroDivisionError if leave == "error" else StopAsyncIteration
    assert isinstance(server.heard()[-1], Cancel)


@pytest.mark.parametrize("last", ["Finished", "TextAccepted"])
def test_who_leaves_after_the_last_event_does_not(server: Server, last: str) -> None:
    route = TO_CLIENT if last == "Finished" else Route(wait=False)
    begin(server)
    server.say(TextAccepted(utterance=ID))
    end(server)
    with spoken(server, route=route) as utterance:
        events = list(utterance)
    assert type(events[-1]).__name__ == last
    assert not any(isinstance(message, Cancel) for message in server.heard())


def test_finish_returns_the_last_event_or_none_if_nobody_waits(server: Server) -> None:
    begin(server)
    end(server)
    assert spoken(server).finish() == Finished(utterance=ID, seconds=1.0, timing={})
    other = Server()
    other.say(Accepted(utterance=ID, text_credit=1 << 20), TextAccepted(utterance=ID))
    assert spoken(other, route=Route(wait=False)).finish() is None
    other.close()


def test_cancel_from_another_thread_ends_an_iteration_that_waits(server: Server) -> None:
    begin(server)
    utterance = spoken(server)
    ended: list[BaseException] = []
    started = threading.Event()

    def iterate() -> None:
        try:
            for event in utterance:
                if isinstance(event, Started):
                    started.set()
        except UtteranceCancelled as error:
            ended.append(error)

    thread = threading.Thread(target=iterate)
    thread.start()
    assert started.wait(10)
    utterance.cancel()
    while not isinstance(server.connection.receive(10)[0], Cancel):
        pass
    server.say(Cancelled(utterance=ID))
    thread.join(10)
    assert len(ended) == 1


def test_cancel_before_the_first_event_sends_nothing(server: Server) -> None:
    utterance = spoken(server)
    utterance.cancel()
    with pytest.raises(UtteranceCancelled):
        list(utterance)
    assert not any(isinstance(message, Speak) for message in server.heard())


def test_a_cancelled_utterance_is_not_tried_again_when_the_server_is_lost(server: Server) -> None:
    utterance = spoken(server)
    next(utterance)
    server.say(Accepted(utterance=ID, text_credit=1 << 20))
    next(utterance)
    utterance.cancel()
    server.connection.close()
    with pytest.raises(UtteranceCancelled):
        list(utterance)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (Failed(utterance=ID, code=5, text="no such voice"), UnknownVoice),
        (Failed(utterance=ID, code=6, text="busy", retry_after=1.0), ServersBusy),
        (Cancelled(utterance=ID), UtteranceCancelled),
    ],
)
def test_errors_are_typed_and_end_the_utterance(server: Server, message: Message, error: type[Exception]) -> None:
    begin(server)
    server.say(message)
    with pytest.raises(error):
        list(spoken(server))
    assert not any(isinstance(each, Cancel) for each in server.heard())


def test_a_server_lost_after_the_first_sound_is_an_error_at_once(server: Server) -> None:
    begin(server)
    server.connection.close()
    with pytest.raises(ServersUnreachable, match="the voice server was lost"):
        list(spoken(server))


def test_a_server_lost_before_is_called_again_with_the_whole_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "RETRY_SECONDS", (0.0, 0.0))
    servers = [Server(), Server()]
    servers[0].say(Accepted(utterance=ID, text_credit=1 << 20))
    threading.Timer(0.2, servers[0].connection.close).start()  # when its text has come

    heard: list[Message] = []

    def answer() -> None:
        servers[1].say(Accepted(utterance=ID, text_credit=1 << 20))
        while not heard or not isinstance(heard[-1], EndOfText):
            heard.append(servers[1].connection.receive(10)[0])
        end(servers[1])

    def connect(attempt: int) -> Any:
        yield ServerState(state="ready")
        if attempt:
            threading.Thread(target=answer).start()
        return servers[attempt].client

    source = TextSource("Hello.")
    events = list(UtteranceEvents(connect, source, Speak(utterance=ID, speech=Speech(lang="a"), route=TO_CLIENT)))
    assert [type(event).__name__ for event in events].count("Accepted") == 2
    speak, *others = heard
    assert isinstance(speak, Speak) and speak.utterance != ID
    assert [each.text for each in others if isinstance(each, TextPart)] == ["Hello."]
    for each in servers:
        each.close()


@pytest.mark.timeout(60)
def test_a_cancel_does_not_wait_for_the_next_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "RETRY_SECONDS", (3600.0,))
    attempts = []

    def connect(attempt: int) -> Any:
        attempts.append(attempt)
        yield ServerState(state="starting")
        threading.Timer(0.2, events.cancel).start()  # it rests by then; an earlier cancel would end it just the same
        raise ConnectionLost("gone")

    events = UtteranceEvents(connect, TextSource("Hello."), Speak(utterance=ID, speech=Speech(lang="a"), route=Route()))
    with pytest.raises(UtteranceCancelled):
        list(events)
    events.cancel()  # another one changes nothing
    assert attempts == [0]


def test_text_to_be_explained_goes_out_no_faster_than_it_is_answered(server: Server) -> None:
    """Explanations are not bounded by credit, and a program that rests must not find them piled up."""
    speak = Speak(utterance=ID, speech=Speech(lang="a"), route=Route(sink="client", explain=True))
    asked = iter(Conversation(server.client, TextSource("A sentence. " * 10_000), speak, Taken()).events())
    server.say(Accepted(utterance=ID, text_credit=1 << 20), Notice(utterance=ID, text="1"))
    next(asked), next(asked)
    thread = threading.Thread(target=next, args=(asked,))
    thread.start()
    sent = sum(len(each.text) for each in server.heard() if isinstance(each, TextPart))
    assert 0 < sent <= 12_000
    server.say(Credit(utterance=ID, bytes=sent), Notice(utterance=ID, text="2"))
    thread.join(10)
    thread = threading.Thread(target=next, args=(asked,))
    thread.start()
    assert any(isinstance(each, TextPart) for each in server.heard())
    server.say(Notice(utterance=ID, text="3"))
    thread.join(10)
