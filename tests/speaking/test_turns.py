"""All utterances of a voice server: what concerns several, and that one's fault is nobody else's."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import pytest

from kokoro_common.errors import KokoroError, NoAudioDevice, ServersUnreachable, UsageError
from kokoro_common.sound.samples import SAMPLE_RATE
from kokoro_common.speaking.intake import SLICE_CHARACTERS
from kokoro_common.speaking.ports import Model, Waits
from kokoro_common.speaking.turn import Turn
from kokoro_common.speaking.turns import IDS_REMEMBERED, MIN_TEXT_CREDIT, TEXT_BYTES, Turns
from kokoro_common.text.speech import Speech
from kokoro_common.wire.codec import encode
from kokoro_common.wire.messages import (
    MAX_REPORTS,
    TEXT_CREDIT,
    Accepted,
    AudioChunk,
    Cancelled,
    Credit,
    Failed,
    FloorRequest,
    Message,
    ProtocolError,
    Route,
    ServerState,
    Speak,
    Started,
    Synthesize,
    Synthesized,
    UtteranceOpened,
)
from tests.helpers.fake_ports import FakeClient, FakeSpeakers, of_kind

SENTENCE = "Hello there. "
BOOK_WITH_A_FAULT = "<speak>" + SENTENCE * 1_000 + "</spek>"  # which is cut as it is needed
LATE_FAULT = "<speak>" + SENTENCE + " " * SLICE_CHARACTERS + "</spek>"  # which is found with the first text chunk taken


class Room:
    """All turns of a voice server, among fakes. Each utterance has a client of its own."""

    def __init__(self, state: str = "ready") -> None:
        self.now = 1_000.0
        self.posted: list[Message] = []
        self.model = Model(self.posted.append)
        self.model.connected = True
        self.model.state = ServerState(state=state)
        self.speakers = FakeSpeakers()
        self.own_speakers: list[FakeSpeakers] = []  # of those that overlap
        self.turns = Turns(self.model, self._speakers_for, Waits(0.5, 2.0), lambda: self.now)
        self._ids = itertools.count(1)

    def _speakers_for(self, overlap: bool) -> FakeSpeakers:
        if not overlap:
            return self.speakers
        self.own_speakers.append(FakeSpeakers())
        return self.own_speakers[-1]

    def new_id(self) -> str:
        return f"{next(self._ids):032x}"

    def open(self, text: str = "", *, utterance: str = "", engine: str = "kokoro", **route: Any) -> Turn:
        speak = Speak(
            utterance=utterance or self.new_id(), speech=Speech(lang="a", engine=engine), route=Route(**route)
        )
        turn = self.turns.open(speak, FakeClient())
        self.turns.begin(turn)
        if text:
            turn.add_text(text, self.now)
        return turn

    def sounding(self, text: str = SENTENCE, **route: Any) -> Turn:
        turn = self.open(text, **route)
        turn.admit()
        turn.floor_granted(self.now)
        turn.floor_taken(self.now)
        return turn

    def asked(self, turn: Turn) -> list[int]:
        """The text chunks that were asked for."""
        return [each.request.index for each in of_kind(self.posted, Synthesize) if each.utterance == turn.utterance.id]


def client_of(turn: Turn) -> FakeClient:
    client = turn.client
    assert isinstance(client, FakeClient)
    return client


# --- opening and ending ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("utterance", ["", "x" * 32, "A" * 32, "0" * 31, "0" * 33])
def test_an_id_that_is_none_is_refused(utterance: str) -> None:
    room = Room()
    with pytest.raises(ProtocolError, match="new id"):
        room.turns.open(Speak(utterance=utterance, speech=Speech(lang="a")), FakeClient())
    assert not room.turns


def test_an_id_is_not_used_again_while_it_is_spoken_or_soon_after() -> None:
    room = Room()
    turn = room.open(SENTENCE)
    for _ in range(2):
        with pytest.raises(ProtocolError, match="new id"):
            room.open(utterance=turn.utterance.id)
        turn.cancel()  # the second time round it has ended
    for _ in range(IDS_REMEMBERED):
        room.open().cancel()
    assert room.open(utterance=turn.utterance.id)  # memory is bounded


def test_fields_that_make_no_sense_leave_nothing_behind() -> None:
    room = Room()
    with pytest.raises(UsageError):
        room.open(floor="bar")
    assert not room.turns and room.turns.counts["accepted"] == 0


def test_a_client_reaches_its_own_utterances_only() -> None:
    room = Room()
    turn, other = room.open(), room.open()
    assert room.turns.of(turn.client, turn.utterance.id) is turn
    assert room.turns.of(other.client, turn.utterance.id) is None
    turn.cancel()
    assert room.turns.of(turn.client, turn.utterance.id) is None and room.turns.get(turn.utterance.id) is None


def test_many_utterances_share_the_memory_for_text_and_give_it_back() -> None:
    room = Room()
    credits = [room.open().utterance.text_credit for _ in range(40)]
    assert credits[0] == TEXT_CREDIT and credits == sorted(credits, reverse=True)
    assert credits[-1] == MIN_TEXT_CREDIT and sum(credits) < TEXT_BYTES + 40 * MIN_TEXT_CREDIT
    room.turns.cancel_all()
    assert room.open().utterance.text_credit == TEXT_CREDIT


def test_the_counts_are_what_register_tells() -> None:
    room = Room()
    waiting, spoken, cancelled, failed, refused = (room.open(SENTENCE) for _ in range(5))
    for turn in (spoken, cancelled, failed):
        turn.admit()
    assert room.turns.admitted == tuple(turn.utterance.id for turn in (spoken, cancelled, failed))
    cancelled.cancel()
    failed.fail(KokoroError("a test"))
    refused.refuse(Failed(utterance=refused.utterance.id, code=6, text="busy", retry_after=1.0))
    assert room.turns.counts == {"accepted": 3, "finished": 0, "cancelled": 1, "failed": 1}
    spoken.all_heard()
    assert room.turns.counts == {"accepted": 3, "finished": 1, "cancelled": 1, "failed": 1}
    assert room.turns.all == [waiting] and not client_of(waiting).got(Accepted)


def test_a_lost_device_is_remembered() -> None:
    room = Room()
    room.open(SENTENCE).fail(KokoroError("something else"))
    assert not room.turns.device_lost
    room.open(SENTENCE).fail(NoAudioDevice("there is none", "plug one in"))
    assert room.turns.device_lost


def test_the_rest_of_a_server_is_counted_from_its_last_end() -> None:
    room = Room()
    turn = room.open(SENTENCE)
    room.now += 60
    turn.cancel()
    room.now += 60
    assert room.turns.last_used == 1_060.0


# --- to several ------------------------------------------------------------------------------------------------------


def test_stop_ends_speech_and_leaves_files() -> None:
    room = Room()
    speech, waiting, file = room.sounding(), room.open(SENTENCE), room.open(SENTENCE, sink="client")
    assert room.turns.stop() == 2
    assert speech.over and waiting.over and room.turns.all == [file]
    assert room.turns.cancel_all() == 1 and not room.turns


def test_stop_silences_all_before_it_closes_any_books() -> None:
    room = Room()
    speech, overlapping = room.sounding(), room.sounding(floor="overlap")
    silent_when_told = []
    for turn in (speech, overlapping):
        client_of(turn).post = lambda *_: silent_when_told.append(  # type: ignore[method-assign]
            "silence" in room.speakers.commands and "silence" in room.own_speakers[0].commands
        )
    room.turns.stop()
    assert silent_when_told == [True, True]


def test_skip_ends_what_was_spoken_and_not_what_came_after_it() -> None:
    room = Room()
    speech, waiting = room.sounding(), room.open(SENTENCE)
    assert room.turns.skip([waiting.utterance.id]) == 0
    assert room.turns.skip([speech.utterance.id, room.new_id()]) == 1
    assert room.turns.all == [waiting]


def test_pause_and_resume_count_what_they_took_effect_on() -> None:
    room = Room()
    room.sounding()
    room.open(SENTENCE)
    assert (room.turns.pause(), room.turns.pause()) == (1, 0)
    assert [report.state for report in room.turns.status().utterances] == ["paused", "waiting"]
    assert (room.turns.resume(), room.turns.resume()) == (1, 0)


def test_one_utterance_is_paused_and_resumed_and_no_other() -> None:
    room = Room()
    speech, waiting = room.sounding(), room.open(SENTENCE)
    assert room.turns.pause(room.new_id()) == 0
    assert (room.turns.pause(waiting.utterance.id), room.turns.pause(waiting.utterance.id)) == (1, 0)
    assert [report.state for report in room.turns.status().utterances] == ["speaking", "waiting"]
    assert room.turns.resume(speech.utterance.id) == 0
    assert room.turns.pause(speech.utterance.id) == 1
    assert room.turns.resume(waiting.utterance.id) == 1
    assert [report.state for report in room.turns.status().utterances] == ["paused", "waiting"]
    assert room.turns.resume() == 1


def test_an_interrupt_cancels_speech_here_and_leaves_itself_and_files() -> None:
    room = Room()
    speech, file = room.sounding(), room.open(SENTENCE, sink="client")
    notice = room.open(SENTENCE, floor="interrupt")
    assert client_of(speech).last == [Cancelled(utterance=speech.utterance.id)]
    assert room.turns.all == [file, notice]
    assert of_kind(room.posted, FloorRequest)[-1].interrupt


def test_a_client_that_leaves_takes_its_utterances_with_it() -> None:
    room = Room()
    turn, other = room.open(SENTENCE), room.open(SENTENCE)
    room.turns.client_gone(turn.client)
    assert room.turns.all == [other] and room.turns.ended["cancelled"] == 1


def test_all_fail_when_no_model_server_can_be_had() -> None:
    room = Room()
    turns = [room.open(SENTENCE) for _ in range(3)]
    room.turns.fail_all(ServersUnreachable("it cannot be started", "see its log"))
    assert [client_of(turn).got(Failed)[0].code for turn in turns] == [6, 6, 6]
    assert not room.turns


# --- the model server ------------------------------------------------------------------------------------------------


def test_those_that_wait_for_the_model_hear_how_it_gets_on_and_then_begin() -> None:
    room = Room("loading")
    waiting = room.open(SENTENCE, engine="auto", sink="client")
    decided = room.open(SENTENCE, engine="espeak", sink="client")
    room.turns.model_changed(ServerState(state="downloading", fraction=0.5))
    assert [state.fraction for state in client_of(waiting).got(ServerState)] == [0.0, 0.5]
    assert not client_of(decided).got(ServerState) and room.asked(waiting) == []
    room.turns.model_changed(ServerState(state="ready"))
    assert room.asked(waiting) == [0]


def test_a_lost_model_server_is_waited_for_and_its_successor_asked_for_the_rest() -> None:
    room = Room()
    turn = room.open(SENTENCE * 2, sink="client")
    turn.admit()
    asked = room.asked(turn)
    room.turns.model_lost()
    assert not room.model.connected and room.model.state.state == "starting"
    turn.add_text(SENTENCE, room.now)
    assert room.asked(turn) == asked  # nobody is there
    room.model.connected = True
    room.posted.clear()
    room.turns.model_found()
    assert not of_kind(room.posted, UtteranceOpened) and room.asked(turn) == []
    room.turns.model_changed(ServerState(state="ready"))
    assert room.asked(turn)[: len(asked)] == asked


def test_what_was_synthesized_is_played_on_without_a_model_server() -> None:
    room = Room()
    turn = room.sounding()
    audio = AudioChunk(utterance=turn.utterance.id, index=0, payload_bytes=4 * SAMPLE_RATE)
    turn.add_audio(audio, bytes(4 * SAMPLE_RATE), room.now)
    times = {"g2p": 0.0, "queue": 0.0, "model": 0.0}
    turn.synthesized(Synthesized(utterance=turn.utterance.id, index=0, **times), room.now)
    room.turns.model_lost()
    turn.starting(threading.Event())
    turn.all_heard()
    assert client_of(turn).got(Started) and room.turns.ended["finished"] == 1


def test_a_fault_in_one_text_ends_that_one_alone() -> None:
    room = Room()
    faulty = room.open(BOOK_WITH_A_FAULT, sink="client", first_chunk=10_000)
    other = room.open(SENTENCE)
    while not faulty.over:
        room.turns.tick(room.now, progress=False)
    assert [failed.code for failed in client_of(faulty).got(Failed)] == [UsageError.exit_code]
    assert room.turns.all == [other]


def test_a_fault_that_is_found_when_the_model_is_ready_ends_one_utterance_and_the_others_begin() -> None:
    room = Room("loading")
    faulty = room.open(LATE_FAULT, sink="client")
    others = [room.open(SENTENCE, sink="client") for _ in range(2)]
    room.turns.model_changed(ServerState(state="ready"))
    assert [failed.code for failed in client_of(faulty).got(Failed)] == [UsageError.exit_code]
    assert [room.asked(turn) for turn in others] == [[0], [0]]


def test_an_error_that_nobody_meant_ends_one_utterance_and_not_the_server(caplog: pytest.LogCaptureFixture) -> None:
    room = Room()
    broken, sound = room.open(SENTENCE), room.open(SENTENCE)
    broken.tick = lambda now, *, progress: 1 / 0  # type: ignore[method-assign,assignment]
    room.turns.tick(room.now, progress=True)
    assert "ZeroDivisionError" in client_of(broken).got(Failed)[0].text
    assert room.turns.all == [sound] and "an utterance failed" in caplog.text


def test_the_next_tick_is_the_first_that_any_of_them_wants() -> None:
    room = Room()
    assert room.turns.deadline(room.now) == float("inf")
    for text in ("One thing, and", "Another, and"):
        room.open(text)
        room.now += 0.1
    assert room.turns.deadline(room.now) == pytest.approx(1_000.5)


def test_credit_is_given_back_for_text_that_is_passed_over() -> None:
    room = Room()
    turn = room.open(SENTENCE * 1_000, sink="client", first_chunk=10_000)
    while room.turns.deadline(room.now) == room.now:
        room.turns.tick(room.now, progress=False)
    assert sum(credit.bytes for credit in client_of(turn).got(Credit)) == 1_000 * len(SENTENCE)


def test_the_status_of_a_crowd_fits_into_a_frame_and_says_how_many_are_left_out() -> None:
    room = Room()
    for _ in range(MAX_REPORTS + 400):
        room.open(SENTENCE, client="\x01" * 100)
    spoken = room.sounding()
    status = room.turns.status()
    assert len(status.utterances) + status.more == MAX_REPORTS + 401
    assert status.utterances[0].utterance == spoken.utterance.id  # --skip has to find it
    assert len(encode(status)) < 1 << 20
