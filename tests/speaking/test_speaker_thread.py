"""The real thread, with the real player on a recorder: the floor's lock, and what is reported in which order."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TypeVar

import numpy as np
import pytest

from kokoro_common.daemon.runtime_directory import RuntimeDirectory
from kokoro_common.errors import KokoroError
from kokoro_common.record import Record
from kokoro_common.sound.player import Player
from kokoro_common.speaking import speaker_thread as speaker_thread_module
from kokoro_common.speaking.speaker_thread import (
    FloorTaken,
    Heard,
    Sounding,
    SpeakersFailed,
    SpeakerThread,
    Starting,
)
from tests.helpers.recorder import Recorder, ramp
from tests.helpers.threads import refuse_threads

SECONDS = 10  # for what takes none
R = TypeVar("R", bound=Record)


class Speech:
    """A speaker thread with a recorder for its device. Each Starting is told at once, unless a test does it."""

    def __init__(self, directory: Path) -> None:
        self.recorder = Recorder()
        self.events: queue.SimpleQueue[Record] = queue.SimpleQueue()
        self.runtime = RuntimeDirectory(str(directory))
        self.tells = True
        self._made: list[SpeakerThread] = []
        self.speakers = self.make()

    def make(self, *, needs_floor: bool = True) -> SpeakerThread:
        made = SpeakerThread(
            self.runtime, Player(self.recorder), self._report, floor_for="voice-af_heart" if needs_floor else ""
        )
        self._made.append(made)
        return made

    def _report(self, event: Record) -> None:
        if isinstance(event, Starting) and self.tells:
            event.told.set()
        self.events.put(event)

    def next(self, kind: type[R]) -> R:
        """The next event, which is of this kind."""
        event = self.events.get(timeout=SECONDS)
        assert isinstance(event, kind), event
        return event

    def floor(self) -> int:
        """Takes the floor's lock, as another process would."""
        lock = RuntimeDirectory(self.runtime.path).lock("floor.lock", wait=True)
        assert lock is not None
        return lock

    @property
    def floor_is_taken(self) -> bool:
        lock = self.runtime.lock("floor.lock", wait=False)
        if lock is not None:
            os.close(lock)
        return lock is None

    def say(self, utterance: str, frames: int, speakers: SpeakerThread | None = None) -> None:
        """Feeds all of an utterance that was asked for, when the speakers are its own, and hears it out."""
        speakers = speakers or self.speakers
        assert self.next(FloorTaken).utterance == utterance
        speakers.feed(ramp(frames))
        speakers.finish()
        assert self.next(Starting).utterance == utterance
        assert self.next(Sounding).utterance == utterance
        assert self.next(Heard).utterance == utterance

    def end(self) -> None:
        self.recorder.wake()
        self.recorder.release()
        for each in self._made:
            each.close()
            each.join(SECONDS)
        assert not [thread for thread in threading.enumerate() if thread.name == "speakers"]


@pytest.fixture
def speech(tmp_path: Path) -> Iterator[Speech]:
    speech = Speech(tmp_path)
    yield speech
    speech.end()


def test_what_is_fed_is_heard_and_everything_is_reported_in_order(speech: Speech) -> None:
    for utterance in ("one", "two"):
        speech.speakers.speak(utterance, "")
        speech.say(utterance, 2_400)
    first, second = speech.recorder.heard()
    assert np.array_equal(first, second) and len(first) == 2_400
    assert speech.speakers.heard == 2_400 and speech.speakers.underflows == 0


def test_the_floor_is_held_while_it_speaks(speech: Speech) -> None:
    speech.speakers.speak("one", "")
    speech.next(FloorTaken)
    assert speech.floor_is_taken
    speech.speakers.feed(ramp(240))
    speech.speakers.finish()
    for kind in (Starting, Sounding, Heard):
        speech.next(kind)
    speech.end()
    assert not speech.floor_is_taken


def test_speech_waits_for_another_process_and_what_overlaps_does_not(speech: Speech) -> None:
    lock = speech.floor()
    speech.speakers.speak("waits", "")
    overlapping = speech.make(needs_floor=False)
    overlapping.speak("overlaps", "")
    speech.say("overlaps", 240, overlapping)
    os.close(lock)
    speech.say("waits", 240)


def test_one_that_was_silenced_while_it_waited_is_not_spoken(speech: Speech) -> None:
    lock = speech.floor()
    speech.speakers.speak("one", "")
    speech.speakers.speak("two", "")
    speech.speakers.silence("one")
    os.close(lock)
    speech.say("two", 240)
    assert len(speech.recorder.runs) == 1


def test_silence_takes_effect_on_what_is_spoken_now_and_on_nothing_else(speech: Speech) -> None:
    speech.recorder.hold()
    speech.speakers.speak("one", "")
    speech.speakers.speak("two", "")
    speech.next(FloorTaken)
    speech.speakers.feed(ramp(24_000))
    speech.next(Starting)
    speech.speakers.silence("two")
    speech.speakers.silence("one")
    speech.speakers.speak("three", "")
    speech.recorder.release()
    speech.say("three", 240)
    assert [len(run) for run in speech.recorder.heard()][-1] == 240


def test_without_a_device_the_utterance_fails_and_the_next_one_is_tried(speech: Speech) -> None:
    speech.recorder.present = False
    speech.speakers.speak("one", "")
    assert speech.next(FloorTaken).utterance == "one"
    failed = speech.next(SpeakersFailed)
    assert failed.utterance == "one" and "no audio device" in str(failed.error)
    speech.recorder.present = True
    speech.speakers.speak("two", "")
    speech.say("two", 240)
    speech.end()
    assert not speech.floor_is_taken


def test_the_device_that_was_asked_for_is_opened(speech: Speech) -> None:
    speech.speakers.speak("one", "corder")
    speech.say("one", 240)
    assert speech.recorder.asked[0] == "corder" and "" not in speech.recorder.asked
    speech.speakers.speak("two", "headphones")
    speech.next(FloorTaken)
    assert speech.next(SpeakersFailed).utterance == "two"


def test_a_pause_silences_and_resume_goes_on(speech: Speech) -> None:
    speech.speakers.speak("one", "")
    speech.next(FloorTaken)
    speech.speakers.pause()
    assert speech.speakers.paused
    speech.speakers.feed(ramp(2_400))
    speech.speakers.finish()
    speech.speakers.resume()
    assert not speech.speakers.paused
    for kind in (Starting, Sounding, Heard):
        speech.next(kind)
    assert speech.speakers.heard == 2_400


def test_a_client_is_told_before_its_first_sample(speech: Speech, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[int] = []  # with so many blocks at the device

    class Told(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waited.append(len(speech.recorder.blocks))
            return super().wait(SECONDS)

    monkeypatch.setattr(speaker_thread_module, "threading", SimpleNamespace(Event=Told))
    speech.tells = False
    speech.speakers.speak("one", "")
    speech.next(FloorTaken)
    speech.speakers.feed(ramp(240))
    speech.speakers.finish()
    starting = speech.next(Starting)
    assert not speech.recorder.blocks
    starting.told.set()
    speech.next(Sounding)
    speech.next(Heard)
    assert waited == [0]


def test_a_client_that_does_not_read_keeps_nobody_silent(speech: Speech, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speaker_thread_module, "TELL_SECONDS", 0)
    speech.tells = False
    speech.speakers.speak("one", "")
    speech.say("one", 240)


def test_a_call_of_the_device_that_does_not_return_is_seen(speech: Speech) -> None:
    speech.recorder.may_stop.clear()
    assert speech.speakers.busy_since is None
    speech.speakers.speak("one", "")
    speech.recorder.wait_for(lambda: any(stream.stopping for stream in speech.recorder.streams))
    assert speech.speakers.busy_since is not None
    speech.recorder.may_stop.set()
    speech.say("one", 240)
    assert speech.speakers.busy_since is None


def test_a_device_that_sticks_lets_go_of_the_floor_and_what_comes_later_takes_it_again(speech: Speech) -> None:
    speech.recorder.may_stop.clear()
    speech.speakers.speak("one", "")
    speech.recorder.wait_for(lambda: any(stream.stopping for stream in speech.recorder.streams))
    assert speech.floor_is_taken
    speech.speakers.silence("one")
    speech.speakers.let_go()
    assert not speech.floor_is_taken
    os.close(speech.floor())  # another process has been heard
    speech.recorder.may_stop.set()
    assert speech.next(FloorTaken).utterance == "one"  # it was, before it was silenced
    speech.speakers.speak("two", "")
    speech.say("two", 240)


def test_whoever_has_the_floor_is_named_in_its_lock(speech: Speech) -> None:
    speech.recorder.may_stop.clear()
    speech.speakers.speak("one", "")
    speech.recorder.wait_for(lambda: any(stream.stopping for stream in speech.recorder.streams))
    assert (speech.runtime.read("floor.lock") or b"").strip() == b"voice-af_heart"
    speech.recorder.may_stop.set()
    speech.say("one", 240)


@pytest.mark.parametrize("name", [b"", b"voice-af_heart", b"voice-af_bella", b"voice-../../x", b"\0\xff", b"x" * 9000])
def test_no_name_in_the_lock_is_an_obstacle(speech: Speech, name: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speaker_thread_module, "HOLDER_SECONDS", 0.02)
    looks = threading.Semaphore(0)
    read = RuntimeDirectory.read

    def seen(runtime: RuntimeDirectory, file: str) -> bytes | None:
        if file == "floor.lock":
            looks.release()
        return read(runtime, file)

    monkeypatch.setattr(RuntimeDirectory, "read", seen)
    lock = speech.floor()
    os.ftruncate(lock, 0)
    os.pwrite(lock, name, 0)
    speech.speakers.speak("one", "")
    for _ in range(3):
        assert looks.acquire(timeout=SECONDS)
    os.close(lock)
    speech.say("one", 240)
    bella = {"voice-af_bella.lock", "voice-af_bella.start.lock"}  # there is no such server: its locks are free
    assert set(speech.runtime.names()) - {"floor.lock"} == (bella if name == b"voice-af_bella" else set())


def test_an_error_that_nobody_meant_fails_one_utterance_and_the_next_is_heard(
    speech: Speech, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError("no descriptor")

    monkeypatch.setattr(RuntimeDirectory, "lock", fails)
    speech.speakers.speak("one", "")
    failed = speech.next(SpeakersFailed)
    assert (failed.utterance, str(failed.error)) == ("one", "no descriptor")
    monkeypatch.undo()
    assert not speech.floor_is_taken
    speech.speakers.speak("two", "")
    speech.say("two", 240)


def test_close_ends_the_thread_and_leaves_what_waits(speech: Speech) -> None:
    speech.speakers.speak("one", "")
    speech.speakers.speak("two", "")
    assert speech.next(FloorTaken).utterance == "one"
    speech.end()
    assert speech.events.empty() and not speech.floor_is_taken


def test_speakers_that_never_spoke_have_nothing_to_end(speech: Speech) -> None:
    speech.speakers.close()
    speech.speakers.join(SECONDS)
    assert speech.recorder.openings == 0


# --- without threads or descriptors ----------------------------------------------------------------------------------


def test_without_a_thread_to_wait_for_the_floor_one_utterance_fails(
    speech: Speech, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = speech.floor()
    with monkeypatch.context() as patched:
        refuse_threads(patched, "lock-")
        speech.speakers.speak("one", "")
        assert "no thread" in str(speech.next(SpeakersFailed).error)
    os.close(lock)
    speech.speakers.speak("two", "")
    speech.say("two", 240)


def test_without_a_thread_to_look_at_its_holder_the_floor_is_waited_for(
    speech: Speech, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(speaker_thread_module, "HOLDER_SECONDS", 0.02)
    lock = speech.floor()
    refuse_threads(monkeypatch, "end-holder")
    speech.speakers.speak("one", "")
    while "the holder of the floor goes on" not in caplog.text:
        pass
    os.close(lock)
    speech.say("one", 240)


@pytest.mark.parametrize("error", [KokoroError("it works"), OSError("no descriptor")])
def test_a_look_at_the_holder_that_fails_is_logged(
    speech: Speech, error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise error

    lock = speech.floor()
    os.pwrite(lock, b"voice-am_adam", 0)
    monkeypatch.setattr(speaker_thread_module.starter, "end_hung", fail)
    speech.speakers._look_at_holder()
    os.close(lock)
    assert "the holder of the floor goes on" in caplog.text


def test_without_a_thread_to_speak_the_next_utterance_tries_again(
    speech: Speech, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        refuse_threads(patched, "speakers")
        with pytest.raises(RuntimeError):
            speech.speakers.speak("one", "")
    speech.speakers.silence("one")  # as its turn does when it fails
    speech.speakers.speak("two", "")
    speech.say("two", 240)
