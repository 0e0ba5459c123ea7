"""One utterance's course, from Speak to its one last message: every port is a fake and the time is passed in."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
import pytest

from kokoro_common.errors import KokoroError, NoAudioDevice, ServersUnreachable
from kokoro_common.sound.samples import SAMPLE_RATE
from kokoro_common.speaking.pace import Pace
from kokoro_common.speaking.ports import Model, Waits
from kokoro_common.speaking.turn import (
    DEFAULT_SPEAKS,
    HANG_SECONDS,
    HUNGRY_FRAMES,
    MIN_FOLLOW_SECONDS,
    PAUSED_SECONDS,
    REST_SECONDS,
    SPEECH_IS_PAUSED,
    Turn,
)
from kokoro_common.speaking.utterance import Utterance
from kokoro_common.text.speech import Speech, TimedWord
from kokoro_common.wire.messages import (
    Accepted,
    AudioChunk,
    Cancel,
    Cancelled,
    Credit,
    Explained,
    Failed,
    Finished,
    FloorReleased,
    FloorRequest,
    Message,
    ModelWanted,
    Notice,
    Progress,
    Route,
    ServerState,
    Speak,
    Started,
    Synthesize,
    Synthesized,
    TextAccepted,
    UtteranceEnded,
    UtteranceOpened,
)
from tests.helpers.fake_ports import FakeClient, FakeSpeakers, M, of_kind

ID = "0" * 32
NOW = 1_000.0
WAITS = Waits(clause=0.5, word=2.0)
SENTENCE = "Hello there. "


class Course:
    """A turn among fakes. `order` is what happened to all of them."""

    def __init__(self, *, state: str = "ready", engine: str = "kokoro", volume: float = 1.0, **route: Any) -> None:
        self.order: list[str] = []
        self.posted: list[Message] = []  # to the model server
        self.model = Model(self._post)
        self.model.connected = True
        self.model.state = ServerState(state=state, detail="no network" if state != "ready" else "", exit_code=4)
        self.client = FakeClient(self.order)
        self.outcomes: list[str] = []
        self.interrupted = 0
        speak = Speak(utterance=ID, speech=Speech(lang="a", engine=engine, volume=volume), route=Route(**route))
        self.speakers = FakeSpeakers(self.order)
        self.turn = Turn(
            Utterance(speak, Pace(), NOW),
            self.client,
            self.speakers if speak.route.sink == "speakers" else None,
            self.model,
            WAITS,
            lambda turn, outcome, message: self.outcomes.append(outcome),
        )

    def _post(self, message: Message) -> None:
        self.order.append(f"posted {type(message).__name__}")
        self.posted.append(message)

    def _interrupt(self) -> None:
        self.interrupted += 1

    def got(self, kind: type[M]) -> list[M]:
        """Messages of a kind that the model server got."""
        return of_kind(self.posted, kind)

    def begin(self, text: str = "", *, ended: bool = False) -> Turn:
        self.turn.begin(NOW, self._interrupt)
        self.turn.admit()
        if text:
            self.turn.add_text(text, NOW)
        if ended:
            self.turn.end_text(NOW)
        return self.turn

    def take_floor(self) -> None:
        self.turn.floor_granted(NOW)
        self.turn.floor_taken(NOW)

    def answer(self, frames: int = SAMPLE_RATE, *words: TimedWord, now: float = NOW) -> None:
        """The model server speaks the oldest text chunk that it has not spoken."""
        index = self.turn.utterance.in_flight.index
        message = AudioChunk(utterance=ID, index=index, words=words, payload_bytes=4 * frames)
        self.turn.add_audio(message, np.ones(frames, np.float32).tobytes(), now)
        self.turn.synthesized(Synthesized(utterance=ID, index=index, g2p=0.0, queue=0.0, model=0.1), now)


def speaking(text: str = SENTENCE, *, ended: bool = False, **fields: Any) -> Course:
    """A course that has the floor and has begun to sound: one second of its audio is with the speakers."""
    course = Course(**fields)
    course.begin(text, ended=ended)
    course.take_floor()
    course.answer()
    course.turn.starting(threading.Event())
    course.turn.sounding(NOW + 0.2)
    return course


def rest(course: Course) -> float:
    """All was heard, and no text comes for so long that the floor is given back. When that is done."""
    course.speakers.heard = course.turn.utterance.frames
    course.turn.tick(NOW + 1, progress=False)
    course.turn.tick(NOW + 1 + REST_SECONDS, progress=False)
    return NOW + 1 + REST_SECONDS


# --- the straight way ------------------------------------------------------------------------------------------------


def test_from_speak_to_finished_everybody_hears_what_they_must() -> None:
    course = Course(audio_device="USB")
    turn = course.begin(SENTENCE, ended=True)
    assert [type(message) for message in course.posted] == [UtteranceOpened, ModelWanted, FloorRequest]
    turn.floor_granted(NOW)
    assert course.speakers.commands == ["speak on 'USB'"]
    turn.floor_taken(NOW)
    course.answer()
    assert sum(map(len, course.speakers.fed)) == SAMPLE_RATE and "finish" in course.speakers.commands
    turn.sounding(NOW + 0.3)
    turn.all_heard()
    assert turn.over and course.outcomes == ["finished"]
    assert [type(message) for message in course.client.told] == [Accepted, TextAccepted, Credit, Finished]
    (ended,) = course.got(UtteranceEnded)
    assert (ended.outcome, ended.seconds, ended.first_audio) == ("finished", 1.0, pytest.approx(0.3))
    assert course.got(FloorReleased) and not course.got(Cancel)


def test_a_text_without_words_finishes_without_the_floor() -> None:
    course = Course()
    course.begin("*** ", ended=True)
    assert [finished.seconds for finished in course.client.got(Finished)] == [0.0]
    assert not course.got(FloorRequest) and not course.got(Synthesize)


def test_a_client_gets_audio_as_far_as_its_credit_reaches() -> None:
    course = Course(sink="client")
    course.begin(SENTENCE, ended=True)
    course.answer(100)
    assert not course.client.audio and not course.client.got(Started)
    course.turn.add_credit(399, NOW)
    assert not course.client.audio
    course.turn.add_credit(1, NOW + 1)
    assert [len(payload) for payload in course.client.audio] == [400]
    assert [finished.timing["first_audio"] for finished in course.client.got(Finished)] == [1.0]
    assert course.outcomes == ["finished"] and not course.got(FloorReleased)


@pytest.mark.parametrize("sink", ["speakers", "client"])
def test_the_volume_is_on_the_samples(sink: str) -> None:
    course = Course(sink=sink, volume=0.5)
    course.begin(SENTENCE, ended=True)
    course.turn.add_credit(1 << 20, NOW)
    course.take_floor() if sink == "speakers" else None
    course.answer(240)
    samples = course.speakers.fed[0] if sink == "speakers" else np.frombuffer(course.client.audio[0], np.float32)
    assert (len(samples), set(samples)) == (240, {0.5})


def test_an_explained_text_comes_as_words_and_without_audio() -> None:
    course = Course(sink="client", explain=True)
    course.begin(SENTENCE, ended=True)
    (request,) = course.got(Synthesize)
    assert request.explain
    course.turn.explained(Explained(utterance=ID, index=0, text="Hello there.", phonemes="hɛlO ðɛɹ"), NOW)
    course.turn.synthesized(Synthesized(utterance=ID, index=0, g2p=0.0, queue=0.0, model=0.0), NOW)
    kinds = [type(message) for message in course.client.told]
    assert kinds.index(Started) < kinds.index(Explained) < kinds.index(Finished)
    assert not course.client.audio and course.client.got(Finished)[0].seconds == 0.0


def test_only_the_first_text_chunk_is_asked_for_while_it_is_next_in_line() -> None:
    course = Course()
    turn = course.begin(SENTENCE * 9)
    assert not course.got(Synthesize)  # the floor is far away
    turn.floor_next(NOW)
    assert [message.request.index for message in course.got(Synthesize)] == [0]
    turn.floor_granted(NOW)
    assert [message.request.index for message in course.got(Synthesize)] == [0, 1]
    turn.floor_next(NOW)  # from another model server, too late
    assert turn.floor == "granted"
    turn.floor_granted(NOW)
    assert course.speakers.commands == ["speak"]


def test_speech_that_overlaps_needs_no_floor_and_its_own_speakers_are_closed() -> None:
    course = Course(floor="overlap")
    turn = course.begin(SENTENCE, ended=True)
    assert turn.floor == "granted"
    turn.floor_taken(NOW)
    course.answer()
    turn.all_heard()
    assert course.speakers.commands[-1] == "close"
    assert not course.got(FloorRequest) and not course.got(FloorReleased)


def test_an_interrupt_takes_effect_before_its_first_word() -> None:
    course = Course(floor="interrupt")
    course.begin()
    assert course.interrupted == 1
    assert [message.interrupt for message in course.got(FloorRequest)] == [True]
    course.turn.model_lost()
    course.turn.model_found(NOW + 1)
    assert [message.interrupt for message in course.got(FloorRequest)][-1:] == [True], (
        "another model server knows it too"
    )


# --- the model -------------------------------------------------------------------------------------------------------


def test_the_client_is_told_what_the_speech_waits_for() -> None:
    course = Course(state="loading")
    course.begin(SENTENCE)
    assert [state.state for state in course.client.got(ServerState)] == ["loading"]
    assert not course.got(Synthesize)


def test_the_embedded_default_speaks_for_who_leaves_the_choice_and_goes_on_to_the_end() -> None:
    course = Course(state="default", engine="auto", sink="client")
    turn = course.begin(SENTENCE)
    assert [notice.text for notice in course.client.got(Notice)] == [DEFAULT_SPEAKS]
    course.model.state = ServerState(state="ready")
    turn.model_changed(NOW)
    turn.add_text(SENTENCE, NOW)
    assert {message.request.speech.engine for message in course.got(Synthesize)} == {"espeak"}
    assert len(course.client.got(Notice)) == 1


def test_who_leaves_the_choice_waits_for_the_model_and_then_has_it() -> None:
    course = Course(state="loading", engine="auto", sink="client")
    turn = course.begin(SENTENCE)
    course.model.state = ServerState(state="ready")
    turn.model_changed(NOW)
    assert [message.request.speech.engine for message in course.got(Synthesize)] == ["kokoro"]


@pytest.mark.parametrize(("state", "engine"), [("failed", "auto"), ("failed", "kokoro"), ("default", "kokoro")])
def test_without_a_model_it_fails_with_the_models_reason(state: str, engine: str) -> None:
    course = Course(state=state, engine=engine)
    course.begin(SENTENCE)
    assert [(failed.code, failed.text) for failed in course.client.got(Failed)] == [(4, "no network")]
    assert course.outcomes == ["failed"]


def test_a_model_that_cannot_be_had_is_nothing_to_espeak() -> None:
    course = Course(state="failed", engine="espeak", sink="client")
    course.begin(SENTENCE)
    assert len(course.got(Synthesize)) == 1 and not course.client.last
    assert not course.got(ModelWanted) and not course.client.got(ServerState)


def test_another_model_server_is_told_what_it_must_know() -> None:
    course = Course()
    course.turn.begin(NOW, course._interrupt)
    course.turn.add_text(SENTENCE, NOW)
    course.turn.model_lost()
    course.posted.clear()
    course.turn.model_found(NOW + 3)
    opened, wanted, asked = course.posted
    assert isinstance(opened, UtteranceOpened) and isinstance(wanted, ModelWanted)
    assert isinstance(asked, FloorRequest) and (asked.age, asked.interrupt) == (3.0, False)


def test_one_that_is_in_the_ledger_is_neither_opened_nor_accepted_twice() -> None:
    course = Course(sink="client", engine="espeak")
    turn = course.begin(SENTENCE)
    turn.model_lost()
    turn.model_found(NOW)
    turn.admit()
    assert len(course.got(UtteranceOpened)) == 1 and len(course.client.got(Accepted)) == 1
    turn.resume_requests(NOW)
    assert [message.request.index for message in course.got(Synthesize)] == [0, 0]  # asked again, not skipped


def test_nothing_is_asked_while_there_is_no_model_server() -> None:
    course = Course(sink="client", engine="espeak")
    course.model.connected = False
    turn = course.begin(SENTENCE)
    assert not course.got(Synthesize)
    course.model.connected = True
    turn.resume_requests(NOW)
    assert len(course.got(Synthesize)) == 1


def test_a_text_that_kills_model_servers_is_given_up() -> None:
    course = Course(sink="client")
    turn = course.begin(SENTENCE)
    with pytest.raises(ServersUnreachable, match="at the same text"):
        for _ in range(9):
            turn.model_lost()


def test_no_room_is_no_utterance() -> None:
    course = Course()
    course.turn.begin(NOW, course._interrupt)
    course.turn.refuse(Failed(utterance=ID, code=6, text="busy", retry_after=5.0))
    assert course.outcomes == ["busy"] and not course.got(UtteranceEnded) and not course.got(Cancel)
    assert course.client.told[-1] == Failed(utterance=ID, code=6, text="busy", retry_after=5.0)


# --- pause, silence and other devices' faults ------------------------------------------------------------------------


def test_pause_and_resume_reach_the_speakers_and_are_seen() -> None:
    course = speaking()
    turn = course.turn
    turn.pause(NOW)
    assert course.speakers.paused and turn.paused and turn.report(NOW).state == "paused"
    turn.resume(NOW)
    assert not course.speakers.paused and turn.report(NOW).state == "speaking"


def test_one_that_has_not_the_floor_is_not_paused_by_anothers_pause() -> None:
    course = Course()
    turn = course.begin(SENTENCE)
    course.speakers.paused = True  # they are another utterance's
    assert not turn.paused and turn.report(NOW).state == "waiting"


def test_a_paused_utterance_keeps_the_floor() -> None:
    course = speaking()
    course.turn.pause(NOW)
    rest(course)
    assert course.turn.floor == "held" and not course.got(FloorReleased)


def test_the_report_counts_what_was_heard() -> None:
    course = speaking(client="a test")
    course.speakers.heard = SAMPLE_RATE // 2
    report = course.turn.report(NOW + 2.5)
    assert (report.state, report.seconds, report.client, report.age_s) == ("speaking", 0.5, "a test", 2.5)
    assert Course(sink="client").turn.report(NOW).state == "writing"


def test_a_device_that_hangs_fails_the_utterance_once() -> None:
    course = speaking()
    course.speakers.busy_since = NOW
    course.turn.tick(NOW + HANG_SECONDS, progress=False)
    assert not course.client.last
    for seconds in (0.1, 0.6, 1.1):
        course.turn.tick(NOW + HANG_SECONDS + seconds, progress=False)
    assert [failed.code for failed in course.client.got(Failed)] == [NoAudioDevice.exit_code]


def test_a_server_that_was_suspended_within_a_call_of_the_device_waits_for_its_return() -> None:
    course = speaking()
    for hour in range(3):  # as with a closed lid, three times
        course.speakers.busy_since = NOW + 3600 * hour
        course.turn.tick(NOW + 3600 * hour + 3000, progress=False)
        course.speakers.busy_since = None if hour else NOW + 3600 + 3000  # it has returned; and is in the next one
        course.turn.tick(NOW + 3600 * hour + 3001, progress=False)
    assert not course.client.last


def test_a_device_that_hangs_under_another_utterance_is_no_fault_of_one_that_waits() -> None:
    course = Course()
    course.begin(SENTENCE)
    course.speakers.busy_since = NOW
    course.turn.tick(NOW + 9 * HANG_SECONDS, progress=False)
    assert not course.client.last


def test_the_ear_comes_before_the_books() -> None:
    course = speaking()
    course.order.clear()
    course.turn.cancel()
    assert course.order == [
        "silence",
        "posted Cancel",
        "posted FloorReleased",
        "posted UtteranceEnded",
        "told Cancelled",
    ]


def test_after_its_end_nothing_comes_and_nothing_goes() -> None:
    course = speaking(SENTENCE * 5)
    turn = course.turn
    turn.cancel()
    before = (len(course.client.told), len(course.posted), len(course.speakers.fed), len(course.outcomes))
    turn.fail(KokoroError("too late"))
    turn.cancel()
    turn.all_heard()
    turn.add_text(SENTENCE, NOW)
    turn.floor_granted(NOW)
    turn.model_changed(NOW)
    turn.resume_requests(NOW)
    assert before == (len(course.client.told), len(course.posted), len(course.speakers.fed), len(course.outcomes))
    assert course.client.last == [Cancelled(utterance=ID)]


def test_an_unexpected_error_is_told_by_its_name_alone() -> None:
    course = speaking()
    course.turn.fail(ZeroDivisionError("secret"))
    (failed,) = course.client.got(Failed)
    assert "ZeroDivisionError" in failed.text and "secret" not in failed.text


# --- the client ------------------------------------------------------------------------------------------------------


def test_started_is_told_before_the_ear_hears() -> None:
    course = Course()
    turn = course.begin(SENTENCE, ended=True)
    course.take_floor()
    course.answer()
    told = threading.Event()
    turn.starting(told)
    assert course.client.got(Started) and course.client.written == [told] and not told.is_set()


def test_started_is_told_once_though_the_floor_was_given_back() -> None:
    course = speaking()
    now = rest(course)
    course.turn.add_text(SENTENCE, now)
    course.take_floor()
    told = threading.Event()
    course.turn.starting(told)
    course.turn.sounding(now)
    assert told.is_set() and len(course.client.got(Started)) == 1


def test_who_does_not_wait_may_leave_when_all_text_is_here() -> None:
    course = Course(wait=False)
    turn = course.begin(SENTENCE, ended=True)
    turn.client_gone()
    course.take_floor()
    course.answer()
    told = threading.Event()
    turn.starting(told)
    assert told.is_set()  # nobody is left to be told first
    turn.sounding(NOW)
    turn.tick(NOW + 1, progress=True)
    turn.all_heard()
    assert course.outcomes == ["finished"]
    assert not course.client.got(Started) and not course.client.last


@pytest.mark.parametrize(("wait", "ended"), [(True, True), (False, False), (True, False)])
def test_the_utterance_of_a_client_that_leaves_is_cancelled(wait: bool, ended: bool) -> None:
    course = Course(wait=wait)
    course.begin(SENTENCE, ended=ended).client_gone()
    assert course.outcomes == ["cancelled"]


def test_progress_follows_the_word_that_is_heard() -> None:
    course = Course(follow=True)
    turn = course.begin(SENTENCE)
    course.take_floor()
    words = (
        TimedWord(start=0, end=5, first_frame=0, last_frame=9_000),
        TimedWord(start=6, end=11, first_frame=12_000, last_frame=20_000),
    )
    course.answer(SAMPLE_RATE, *words)
    turn.sounding(NOW)
    assert turn.deadline(NOW) == NOW + MIN_FOLLOW_SECONDS  # the first word is due
    turn.tick(NOW, progress=False)
    assert turn.deadline(NOW) == NOW + 0.5  # the second one begins
    course.speakers.heard = 12_000
    turn.tick(NOW + 0.5, progress=False)
    turn.tick(NOW + 0.5, progress=False)
    told = [(news.seconds, news.word_start, news.word_end) for news in course.client.got(Progress)]
    assert told == [(0.0, 0, 5), (0.5, 6, 11)]


def test_one_that_follows_hears_of_the_last_word_before_the_end() -> None:
    course = Course(follow=True)
    course.begin(SENTENCE, ended=True)
    course.take_floor()
    course.answer(SAMPLE_RATE, TimedWord(start=6, end=11, first_frame=12_000, last_frame=20_000))
    course.turn.sounding(NOW)
    course.speakers.heard = SAMPLE_RATE
    course.turn.all_heard()
    assert [news.word_start for news in course.client.got(Progress)] == [6]
    assert course.client.last == course.client.told[-1:]


def test_progress_that_a_slow_client_missed_is_told_later() -> None:
    course = speaking()
    course.client.behind = True
    course.turn.tick(NOW, progress=True)
    assert not course.client.got(Progress)
    course.client.behind = False
    course.turn.tick(NOW, progress=False)
    assert not course.client.got(Progress)  # it does not follow: when the server says so
    course.turn.tick(NOW, progress=True)
    assert len(course.client.got(Progress)) == 1


def test_markup_that_cannot_be_followed_is_told_to_the_client() -> None:
    course = Course(sink="client")
    course.begin("[voice:am_nobody] Hello there. ", ended=True)
    (notice,) = course.client.got(Notice)
    assert "am_nobody" in notice.text
    assert [message.request.speech.voice for message in course.got(Synthesize)] == ["af_heart"]


def test_a_client_gets_credit_for_text_that_is_done() -> None:
    course = Course(sink="client")
    turn = course.begin()
    turn.add_text("  ", NOW)  # nothing will be answered
    turn.add_text(SENTENCE, NOW)
    course.answer()
    assert [credit.bytes for credit in course.client.got(Credit)] == [2, len(SENTENCE)]


# --- the clock -------------------------------------------------------------------------------------------------------


def test_a_writer_who_pauses_in_a_sentence_is_spoken_clause_by_clause_then_word_by_word() -> None:
    course = speaking()
    course.speakers.heard = SAMPLE_RATE
    turn = course.turn
    turn.add_text("One thing, and then", NOW)
    assert turn.deadline(NOW) == NOW + WAITS.clause
    turn.tick(NOW + WAITS.clause, progress=False)
    assert [message.request.text for message in course.got(Synthesize)][1:] == ["One thing,"]
    course.answer(1)
    course.speakers.heard += 1
    assert turn.deadline(NOW + WAITS.clause) == NOW + WAITS.word
    turn.tick(NOW + WAITS.word, progress=False)
    assert [message.request.text for message in course.got(Synthesize)][2:] == ["and then"]


def test_half_a_sentence_waits_while_the_ear_has_enough() -> None:
    course = Course()
    turn = course.begin(SENTENCE)
    course.take_floor()
    course.answer(HUNGRY_FRAMES)
    turn.add_text("One thing, and then", NOW)
    turn.tick(NOW + 9, progress=False)
    assert len(course.got(Synthesize)) == 1
    course.speakers.heard = 1
    turn.tick(NOW + 9, progress=False)
    assert len(course.got(Synthesize)) == 2


def test_the_borders_of_a_file_do_not_depend_on_the_writers_pauses() -> None:
    course = Course(sink="client")
    turn = course.begin("One thing, and then")
    assert turn.deadline(NOW) == math.inf
    turn.tick(NOW + 99, progress=False)
    assert not course.got(Synthesize)


def test_a_pipe_that_rests_keeps_nobody_waiting() -> None:
    course = speaking()
    course.speakers.heard = SAMPLE_RATE
    course.turn.tick(NOW + 1, progress=False)
    assert course.turn.deadline(NOW + 1) == NOW + 1 + REST_SECONDS
    course.turn.tick(NOW + 1 + REST_SECONDS, progress=False)
    assert len(course.got(FloorReleased)) == 1 and course.speakers.commands[-1] == "silence"
    assert course.turn.deadline(NOW + 9) == math.inf and not course.client.last
    course.turn.add_text(SENTENCE, NOW + 60)
    assert len(course.got(FloorRequest)) == 2


def test_text_that_comes_in_time_keeps_the_floor() -> None:
    course = speaking()
    course.speakers.heard = SAMPLE_RATE
    course.turn.tick(NOW + 1, progress=False)
    course.turn.add_text(SENTENCE, NOW + 2)
    course.turn.tick(NOW + 1 + REST_SECONDS, progress=False)
    assert not course.got(FloorReleased)


def test_heard_and_underflows_are_counted_over_a_rest() -> None:
    course = speaking()
    course.speakers.underflows = 1
    now = rest(course)
    assert (course.turn.taken, course.turn.underflows) == (SAMPLE_RATE, 1)
    course.turn.add_text(SENTENCE, now)
    course.turn.end_text(now)
    course.speakers.heard = course.speakers.underflows = 0  # those of a run of its own
    course.take_floor()
    course.answer(now=now)
    course.speakers.heard, course.speakers.underflows = SAMPLE_RATE, 2
    assert (course.turn.taken, course.turn.underflows) == (2 * SAMPLE_RATE, 3)
    course.turn.all_heard()
    assert [(finished.seconds, finished.underflows) for finished in course.client.got(Finished)] == [(2.0, 3)]


def test_text_that_ends_while_it_rests_finishes_it() -> None:
    course = speaking()
    now = rest(course)
    course.turn.end_text(now)
    assert course.outcomes == ["finished"] and len(course.got(FloorRequest)) == 1


def test_text_that_is_passed_over_gives_its_credit_back_and_a_turn_to_others() -> None:
    course = Course(sink="client", first_chunk=10_000)
    turn = course.begin()
    turn.add_text(SENTENCE * 1_000, NOW)
    slices = 0
    while turn.deadline(NOW) == NOW:
        turn.tick(NOW, progress=False)
        slices += 1
    assert slices > 1 and sum(credit.bytes for credit in course.client.got(Credit)) == 1_000 * len(SENTENCE)
    turn.end_text(NOW)
    assert not course.got(Synthesize)


# --- waiting for speech that is paused -------------------------------------------------------------------------------


def test_who_waits_for_paused_speech_is_told_so_once_after_two_seconds() -> None:
    course = Course()
    course.begin(SENTENCE)
    course.turn.floor_paused(True, NOW + 1)
    due = course.turn.deadline(NOW + 1)
    assert due == NOW + 1 + PAUSED_SECONDS
    course.turn.tick(due - 0.1, progress=True)
    assert course.client.got(Notice) == []
    for later in (0.0, 5.0, 50.0):
        course.turn.floor_paused(True, due + later)
        course.turn.tick(due + later, progress=True)
    assert [notice.text for notice in course.client.got(Notice)] == [SPEECH_IS_PAUSED]
    assert course.turn.deadline(due + 50) == math.inf


def test_speech_that_goes_on_in_time_is_no_reason_to_say_anything() -> None:
    course = Course()
    course.begin(SENTENCE)
    course.turn.floor_paused(True, NOW)
    course.turn.floor_paused(False, NOW + 1)
    course.turn.tick(NOW + 60, progress=True)
    course.turn.floor_paused(True, NOW + 60)
    course.take_floor()
    course.turn.tick(NOW + 90, progress=True)
    assert course.client.got(Notice) == []


def test_a_report_says_for_how_long_it_has_been_in_its_state() -> None:
    course = Course()
    turn = course.begin(SENTENCE)
    assert (turn.report(NOW + 25).state, turn.report(NOW + 25).state_s) == ("waiting", 25.0)
    turn.floor_granted(NOW + 25)
    turn.floor_taken(NOW + 26)
    assert (turn.report(NOW + 28).state, turn.report(NOW + 28).state_s) == ("speaking", 2.0)
    turn.pause(NOW + 30)
    assert (turn.report(NOW + 90).state, turn.report(NOW + 90).state_s) == ("paused", 60.0)


def test_that_there_is_no_model_is_said_once_for_each_reason() -> None:
    course = Course(state="default", engine="auto")
    course.begin()
    for detail in ("no network", "no network", "a full disk", "no network"):
        other = Course(state="default", engine="auto")
        course.model.state = ServerState(state="default", detail=detail)
        other.turn = Turn(other.turn.utterance, other.client, other.speakers, course.model, WAITS, lambda *_: None)
        other.begin()
        course.client.told += other.client.got(Notice)
    assert len(course.client.got(Notice)) == 2
    assert len(f"say.py: {DEFAULT_SPEAKS}") <= 80
