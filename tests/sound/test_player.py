"""Playback on the recorder (every promise, exact to the sample) and on the silent sound card (the real PortAudio)."""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kokoro_common.sound import player as playback
from kokoro_common.sound.player import Player
from kokoro_common.sound.samples import SAMPLE_RATE, Resampler, to_pcm16
from tests.helpers.recorder import BLOCK_FRAMES, Float, Recorder, feed_all, no_device, ramp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kokoro_common.sound.player import Fill


def pieces(samples: Float, sizes: list[int]) -> Iterator[Float]:
    start = 0
    while start < len(samples):
        size = sizes.pop(0) if sizes else len(samples)
        yield samples[start : start + size]
        start += size


def assert_sound(recorder: Recorder, expected: Float) -> None:
    """All that was heard, over all streams, is this, each sample once, with or without silence in between."""
    heard = np.concatenate(recorder.runs)
    assert heard[heard != 0].tolist() == to_pcm16(expected).tolist()


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    for stream in recorder.streams:
        stream.end()


@pytest.fixture
def player(recorder: Recorder) -> Player:
    return Player(open_stream=recorder)


@pytest.fixture
def start(player: Player, recorder: Recorder) -> Iterator[Callable[..., concurrent.futures.Future[bool]]]:
    """`play` in the background."""
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        yield lambda *arguments: executor.submit(player.play, *arguments)
        player.abort()
        recorder.may_stop.set()


Start = Callable[..., "concurrent.futures.Future[bool]"]


# What is heard


@given(st.lists(st.integers(0, 3 * BLOCK_FRAMES), min_size=3, max_size=12))
@settings(max_examples=40, deadline=None)
def test_every_sample_is_heard_once_in_order_however_it_was_cut(sizes: list[int]) -> None:
    recorder = Recorder(speed=400)
    player = Player(open_stream=recorder)
    samples = ramp(sum(sizes) + 1)
    feed_all(player, *pieces(samples, sizes))
    assert player.play()
    assert recorder.runs[0][: len(samples)].tolist() == to_pcm16(samples).tolist()  # no silence before it, none within
    assert not recorder.runs[0][len(samples) :].any()
    assert player.heard == len(samples)
    assert player.underflows == 0


def test_a_gap_between_feeds_is_silence_and_one_underflow(player: Player, recorder: Recorder, start: Start) -> None:
    samples = ramp(1_200)
    player.begin()
    played = start()
    for piece in pieces(samples, [700, 100, 400]):
        recorder.hold()
        player.feed(piece)
        if len(piece) != 400:
            recorder.release()
            recorder.wait_for_blocks(6)
    player.finish()
    recorder.release()
    assert played.result(10)
    assert_sound(recorder, samples)
    assert np.count_nonzero(np.diff(recorder.heard()[0] == 0)) == 4  # into and out of two silences
    assert player.underflows == 2
    feed_all(player, samples)
    assert player.play()
    assert player.underflows == 0  # that run's


@pytest.mark.parametrize("rate", [24_000, 48_000])
def test_a_gap_of_the_device_is_an_underflow_in_speech_and_nowhere_else(rate: int) -> None:
    recorder = Recorder(speed=20, sample_rate=rate)
    count = itertools.count()

    def late(fill: Fill, finished: Any, device: str) -> Any:
        """A device that says so before its first block, before the 20th and 30th, and at the end before each."""

        def fill_late(block: memoryview, now: float, dac: float, gap: bool = False) -> None:
            number = next(count)
            fill(block, now, dac, number in (0, 20, 30) or player.heard == len(samples))

        return recorder(fill_late, finished, device)

    player = Player(open_stream=late)
    samples = ramp(24_000)
    feed_all(player, samples)
    assert player.play()
    assert player.underflows == 2
    feed_all(player, samples)
    assert player.play()
    assert player.underflows == 0


def test_runs_follow_each_other_and_between_them_nothing_is_open(player: Player, recorder: Recorder) -> None:
    for number in range(3):
        feed_all(player, ramp(777, first=1000 * number))
        assert player.play()
        assert recorder.streams[-1].closed
    assert [heard.tolist() for heard in recorder.heard()] == [to_pcm16(ramp(777, 1000 * n)).tolist() for n in range(3)]
    assert len(recorder.streams) == 3


def test_a_run_without_audio_needs_no_device(player: Player, recorder: Recorder) -> None:
    assert player.play() is False  # none was begun
    feed_all(player, ramp(0))
    assert player.play() is True
    player.abort()
    assert player.play() is True  # it was over
    player.begin()
    player.abort()
    assert player.play() is False
    assert recorder.openings == 0


def test_heard_follows_the_clock_not_what_was_handed_over(player: Player, recorder: Recorder, start: Start) -> None:
    player.begin()
    player.feed(ramp(100_000))
    start()
    recorder.wait_for_blocks(50)
    recorder.hold()
    heard = player.heard
    assert recorder.clock - 2 * BLOCK_FRAMES <= heard <= recorder.clock


def test_sounding_is_called_once_with_the_first_samples_handed_over(
    player: Player, recorder: Recorder, start: Start
) -> None:
    calls: list[int] = []
    player.begin()
    played = start(lambda: calls.append(threading.get_ident()))
    recorder.wait_for_silence()
    player.feed(ramp(20_000))
    recorder.wait_for_blocks(20)
    player.pause()
    recorder.wait_for_silence()
    player.resume()
    player.finish()
    assert played.result(10)
    assert len(calls) == 1
    assert calls[0] != threading.get_ident()
    player.begin()
    player.abort()
    assert player.play(lambda: calls.append(0)) is False
    assert len(calls) == 1


def test_starting_is_called_once_and_the_first_sample_waits_for_its_return(
    player: Player, recorder: Recorder, start: Start
) -> None:
    called, go_on = threading.Event(), threading.Event()
    feed_all(player, ramp(5_000))

    def starting() -> None:
        assert not called.is_set()
        called.set()
        go_on.wait(10)

    played = start(None, starting)
    assert called.wait(10)
    assert recorder.blocks == []
    go_on.set()
    assert played.result(10)
    assert_sound(recorder, ramp(5_000))


def test_the_lead_in_does_not_count_as_sounding(recorder: Recorder) -> None:
    taken: list[int] = []
    player = Player(open_stream=recorder, lead_in=0.3)
    feed_all(player, ramp(5_000))
    assert player.play(lambda: taken.append(len(recorder.blocks)))
    assert taken[0] >= 30  # blocks of 10 ms


@pytest.mark.parametrize("rate", [44_100, 48_000, 16_000])
def test_a_device_with_another_rate_gets_resampled_audio(rate: int) -> None:
    recorder = Recorder(sample_rate=rate)
    player = Player(open_stream=recorder)
    frames = 12_347  # no whole number of frames at 16 kHz
    samples = (np.sin(np.arange(frames) / 20) * np.hanning(frames)).astype(np.float32)
    resampler = Resampler(SAMPLE_RATE, rate)
    expected = np.concatenate([resampler.feed(to_pcm16(samples).astype(np.float32) / 32_767), resampler.flush()])
    for _ in range(2):  # the second run begins with a fresh resampler
        feed_all(player, *pieces(samples, [1_000, 1, 17, 5_000]))
        assert player.play()
        assert player.heard == len(samples)
        assert player.underflows == 0
        heard = recorder.runs[-1]
        assert abs(heard[: len(expected)].astype(int) - to_pcm16(expected)).max() <= 1
        assert abs(heard[len(expected) :]).max(initial=0) <= 1


def test_a_pause_on_a_device_with_another_rate_loses_nothing() -> None:
    recorder = Recorder(sample_rate=48_000)
    player = Player(open_stream=recorder)
    level = np.full(24_000, 0.5, np.float32)
    feed_all(player, level)
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        played = executor.submit(player.play)
        recorder.wait_for_blocks(60)
        player.pause()
        recorder.wait_for_silence()
        player.resume()
        assert played.result(10)
    loud = sum(np.count_nonzero(run > 0.25 * 32_767) for run in recorder.runs)
    assert 48_000 <= loud <= 48_000 + 2  # each cut at half a frame of ours


def test_nan_never_reaches_the_device(player: Player) -> None:
    player.begin()
    with pytest.raises(ValueError, match="NaN"):
        player.feed(np.array([0.0, np.nan], np.float32))


@pytest.mark.parametrize("lead_in", [0.02, 0.3])  # shorter and longer than the device's latency
def test_a_device_that_may_sleep_is_woken_by_silence(lead_in: float, recorder: Recorder) -> None:
    player = Player(open_stream=recorder, lead_in=lead_in)

    def silence_before(device: str = "") -> float:
        feed_all(player, ramp(500), device=device)
        assert player.play()
        assert (player.heard, player.underflows) == (500, 0)
        assert np.trim_zeros(recorder.runs[-1]).tolist() == to_pcm16(ramp(500)).tolist()
        return float(np.flatnonzero(recorder.runs[-1])[0] / SAMPLE_RATE)

    assert [silence_before(), silence_before(), silence_before("rec"), silence_before("rec")] == [lead_in, 0] * 2
    player.close()
    player.close()
    assert silence_before("rec") == lead_in


def test_a_pause_may_let_the_device_fall_asleep(recorder: Recorder) -> None:
    player = Player(open_stream=recorder, lead_in=0.02)
    feed_all(player, ramp(10_000))
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        played = executor.submit(player.play)
        recorder.wait_for_blocks(20)
        player.pause()
        recorder.wait_for_silence()
        player.resume()
        assert played.result(10)
    assert [int(np.flatnonzero(run)[0]) for run in recorder.runs] == [480, 480]
    assert_sound(recorder, ramp(10_000))


# Abort


def test_abort_silences_from_the_next_block_on_and_the_next_run_plays_exactly(
    player: Player, recorder: Recorder, start: Start
) -> None:
    chance = random.Random(2)
    old, new = ramp(20_000), ramp(500, sign=-1)
    for _ in range(100):
        recorder.runs.clear()
        recorder.blocks.clear()
        player.begin()
        player.feed(old)
        played = start()
        recorder.wait_for_blocks(chance.randrange(40))
        player.abort()
        taken = len(recorder.blocks) + 1  # one may be on its way
        assert played.result(10) is False
        assert player.underflows == 0
        assert not any(any(block) for _, block in recorder.blocks[taken:])
        feed_all(player, new)
        assert player.play()
        *aborted, second = recorder.runs
        for first in aborted:
            sound = np.trim_zeros(first)
            assert sound.tolist() == to_pcm16(old)[: len(sound)].tolist()
        assert second[: len(new)].tolist() == to_pcm16(new).tolist()
        assert not second[len(new) :].any()


def test_abort_wakes_play(player: Player, recorder: Recorder, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playback, "STALL_SECONDS", 600)  # it is the abort that wakes it
    for frames in 0, 200_000:  # without samples; while playing
        player.begin()
        player.feed(ramp(frames))
        played = start()
        recorder.wait_for(lambda: bool(recorder.streams))
        if frames:
            recorder.wait_for_blocks(20)
        player.abort()
        player.abort()
        assert played.result(10) is False
    assert player.play() is False
    assert player.heard < 200_000


def test_a_run_that_is_over_takes_no_samples(player: Player, recorder: Recorder) -> None:
    player.begin()
    player.abort()
    player.feed(ramp(500))
    assert player.play() is False
    feed_all(player, ramp(400))
    player.feed(ramp(500, sign=-1))
    assert player.play()
    assert_sound(recorder, ramp(400))


def test_begin_aborts_the_unfinished_run_of_which_nothing_gets_into_the_new_one(
    player: Player, recorder: Recorder, start: Start
) -> None:
    recorder.may_stop.clear()  # the old stream goes on taking blocks
    player.begin()
    player.feed(ramp(20_000))
    old = start()
    recorder.wait_for_blocks(20)
    feed_all(player, ramp(500, sign=-1))
    recorder.wait_for_blocks(20)
    recorder.may_stop.set()
    assert old.result(10) is False
    assert player.play()
    assert (recorder.runs[0] >= 0).all()
    assert recorder.heard()[1].tolist() == to_pcm16(ramp(500, sign=-1)).tolist()


# Pause


def test_pauses_neither_lose_nor_repeat_a_sample(player: Player, recorder: Recorder, start: Start) -> None:
    chance = random.Random(3)
    samples = ramp(30_000)
    for _ in range(20):
        recorder.runs.clear()
        feed_all(player, samples)
        played = start()
        recorder.wait_for_blocks(1)
        while not played.done():
            player.pause()
            if chance.random() < 0.8:
                recorder.wait_for_silence()
            player.resume()
            with contextlib.suppress(concurrent.futures.TimeoutError):
                played.result(chance.random() * 0.01)
        assert played.result() is True
        assert_sound(recorder, samples)
        assert player.heard == len(samples)
        assert player.underflows == 0


def test_pause_silences_from_the_next_block_on_and_keeps_the_position(
    player: Player, recorder: Recorder, start: Start
) -> None:
    player.begin()
    player.feed(ramp(20_000))
    start()
    recorder.wait_for_blocks(30)
    recorder.may_stop.clear()
    player.pause()
    taken = len(recorder.blocks) + 1  # one may be on its way
    recorder.wait_for_blocks(5)
    recorder.may_stop.set()
    recorder.wait_for_silence()
    assert not any(any(block) for _, block in recorder.blocks[taken:])
    assert player.paused
    assert player.underflows == 0
    openings = recorder.openings
    player.feed(ramp(10_000))
    assert recorder.openings == openings
    player.abort()
    assert not player.paused


def test_a_run_can_be_paused_before_it_sounds_and_aborted_then(
    player: Player, recorder: Recorder, start: Start
) -> None:
    player.begin()
    player.pause()
    played = start()
    player.feed(ramp(500))
    player.finish()
    with pytest.raises(concurrent.futures.TimeoutError):
        played.result(0.1)
    assert recorder.blocks == []
    player.abort()
    assert played.result(10) is False
    feed_all(player, ramp(500))  # the pause has gone with its run
    assert player.play()


# Losses


@pytest.mark.parametrize("seed", range(12))
def test_a_lost_device_that_comes_back_goes_on_where_the_ear_was(
    seed: int, player: Player, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(playback, "RETRY_SECONDS", 0.01)
    chance = random.Random(seed)
    samples = ramp(9_000)  # 38 blocks
    recorder.lost_at = chance.randrange(1, 48)  # also when all of it was handed over
    recorder.back_after = chance.randrange(4)
    device = chance.choice(["", "record"])
    feed_all(player, samples, device=device)
    assert player.play()
    assert set(recorder.asked[1:]) == {device and "recorder"}  # its full name; the default stays the default
    heard: list[int] = []
    for run in recorder.heard():
        lost = run[0] - 2 - len(heard) if len(run) else 0  # the ramp begins with 2
        assert -BLOCK_FRAMES <= lost <= 0
        heard[len(heard) + lost :] = run.tolist()
    assert heard == to_pcm16(samples).tolist()
    assert player.heard == len(samples)
    assert player.underflows == 0


def test_a_loss_is_noticed_at_resume(
    player: Player, recorder: Recorder, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(playback, "RETRY_SECONDS", 0.01)
    feed_all(player, ramp(20_000))
    played = start()
    recorder.wait_for_blocks(30)
    player.pause()
    recorder.wait_for_silence()
    recorder.present, recorder.back_after = False, 3
    player.resume()
    assert played.result(10)
    assert_sound(recorder, ramp(20_000))


def test_the_time_for_a_lost_device_begins_anew_after_a_pause(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(playback, "REOPEN_SECONDS", 0)  # one try, at once

    def paused_when_reopened(*arguments: Any) -> Any:
        if recorder.openings == 1:
            player.pause()
        return recorder(*arguments)

    player = Player(open_stream=paused_when_reopened)
    recorder.lost_at, recorder.back_after = 20, 0
    feed_all(player, ramp(20_000))
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        played = executor.submit(player.play)
        recorder.wait_for(lambda: len(recorder.streams) == 2 and recorder.streams[1].closed)
        recorder.present, recorder.back_after = False, 1
        player.resume()
        assert played.result(10)


def test_a_device_lost_before_the_first_samples_is_tried_again(
    player: Player, recorder: Recorder, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(playback, "RETRY_SECONDS", 0.01)
    player.begin()
    played = start()
    recorder.wait_for(lambda: recorder.openings == 1)
    recorder.wait_for_silence()
    recorder.present, recorder.back_after = False, 2
    player.feed(ramp(500))
    player.finish()
    assert played.result(10)
    assert_sound(recorder, ramp(500))


def test_a_device_that_does_not_come_back_fails_the_run_but_not_the_next(
    player: Player, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(playback, "REOPEN_SECONDS", 0.1)
    monkeypatch.setattr(playback, "RETRY_SECONDS", 0.01)
    recorder.lost_at = 20
    feed_all(player, ramp(20_000))
    with no_device("lost and did not come back; plug one in"):
        player.play()
    assert recorder.openings > 3
    assert all(stream.closed for stream in recorder.streams)
    recorder.present = True
    feed_all(player, ramp(400))
    assert player.play()
    assert recorder.heard()[-1].tolist() == to_pcm16(ramp(400)).tolist()


def test_a_device_that_is_lost_again_and_again_fails_the_run(
    player: Player, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(playback, "REOPEN_SECONDS", 0.1)
    monkeypatch.setattr(playback, "RETRY_SECONDS", 0.01)

    def flapping(*arguments: Any) -> Any:
        recorder.present, recorder.lost_at = True, 0
        return recorder(*arguments)

    player = Player(open_stream=flapping)
    feed_all(player, ramp(500))
    with no_device("lost and did not come back"):
        player.play()


def test_abort_ends_the_wait_for_a_lost_device(
    player: Player, recorder: Recorder, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(playback, "RETRY_SECONDS", 600)
    recorder.lost_at = 20
    feed_all(player, ramp(20_000))
    played = start()
    recorder.wait_for(lambda: recorder.openings == 2)
    player.abort()
    assert played.result(10) is False


@pytest.mark.parametrize("name", ["", "other", "recorder 2"])
def test_no_other_device_takes_the_place_of_a_lost_one(
    name: str, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(playback, "REOPEN_SECONDS", 0.1)
    monkeypatch.setattr(playback, "RETRY_SECONDS", 0.01)

    def renamed(*arguments: Any) -> Any:
        if recorder.openings:
            recorder.name, recorder.present = name, True
        return recorder(*arguments)

    recorder.lost_at = 20
    player = Player(open_stream=renamed)
    feed_all(player, ramp(20_000), device="record")
    with no_device("did not come back"):
        player.play()
    assert len([run for run in recorder.runs if run.any()]) == 1
    assert all(stream.closed for stream in recorder.streams)


def test_without_a_device_play_fails_at_once_and_without_waiting_for_samples(
    player: Player, recorder: Recorder
) -> None:
    recorder.present = False
    for frames in 0, 10:
        player.begin()
        player.feed(ramp(frames))
        with no_device():
            player.play()
    assert recorder.openings == 2
    recorder.present = True
    feed_all(player, ramp(10))
    assert player.play()


# A sound server that hangs


def test_a_stalled_device_fails_the_run_is_not_touched_again_and_stays_silent_when_it_wakes(
    player: Player, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(playback, "STALL_SECONDS", 0.2)
    recorder.hung_at = 15
    feed_all(player, ramp(20_000))
    with no_device("hangs"):
        player.play()
    recorder.wake()
    recorder.wait_for_blocks(3)
    assert not any(any(block) for _, block in recorder.blocks[15:])
    feed_all(player, ramp(20_000))
    with no_device("hangs"):
        player.play()
    player.abort()
    player.close()
    assert len(recorder.streams) == 1
    assert not recorder.streams[0].closed


@pytest.mark.parametrize("verb", ["abort", "pause"])
def test_nobody_else_waits_while_play_hangs_in_the_sound_server(
    verb: str, player: Player, recorder: Recorder, start: Start
) -> None:
    recorder.may_stop.clear()
    player.begin()
    player.feed(ramp(20_000))
    played = start()
    recorder.wait_for_blocks(20)
    assert player.busy_since is None
    getattr(player, verb)()
    recorder.wait_for(lambda: recorder.streams[0].stopping)
    # What blocked here would block for ever.
    assert player.busy_since is not None
    recorder.wait_for_blocks(3)
    assert player.underflows == 0
    player.feed(ramp(500))
    player.pause()
    player.resume()
    player.finish()
    assert player.heard <= 20_000
    player.abort()
    feed_all(player, ramp(500, sign=-1))
    assert not played.done()
    recorder.may_stop.set()
    assert played.result(10) is False
    assert player.play()
    assert player.busy_since is None
    assert recorder.heard()[-1].tolist() == to_pcm16(ramp(500, sign=-1)).tolist()


def test_two_players_play_at_once(recorder: Recorder) -> None:
    recorders = [Recorder(), Recorder()]
    players = [Player(open_stream=each) for each in recorders]
    for number, player in enumerate(players):
        feed_all(player, ramp(20_000, first=number))
    recorders[0].hold()  # until the other has been heard
    with concurrent.futures.ThreadPoolExecutor(2) as executor:
        first, second = (executor.submit(player.play) for player in players)
        assert second.result(10)
        assert not first.done()
        recorders[0].release()
        assert first.result(10)
    for number, each in enumerate(recorders):
        assert_sound(each, ramp(20_000, first=number))


def test_importing_the_room_imports_nothing_heavy() -> None:
    code = "import sys, kokoro_common.sound.player, kokoro_common.sound.portaudio\n"
    code += "print({'numpy', 'sounddevice', 'soundfile', 'soxr'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_a_device_that_only_the_caller_knows_is_opened_where_the_caller_is() -> None:
    """Without a word to anybody, whenever the audio comes; the process's own environment is left only when it fails."""
    recorder = Recorder()
    asked: list[tuple[str, ...] | None] = []

    def adopt(environment: tuple[str, ...] | None) -> bool:
        asked.append(environment)
        recorder.present = environment == ("PULSE_SERVER=here",)
        return recorder.present

    player = Player(recorder, adopt=adopt)
    recorder.present = False
    player.begin("", ("PULSE_SERVER=here",))
    player.feed(ramp(2_400))
    player.finish()
    assert player.play()
    feed_all(player, ramp(2_400))
    assert player.play()
    assert asked == [("PULSE_SERVER=here",)]
    recorder.present = False
    for environment in (("PULSE_SERVER=elsewhere",), None):
        player.begin("", environment)
        with no_device():
            player.play()
    assert [len(run) for run in recorder.heard()] == [2_400, 2_400]
