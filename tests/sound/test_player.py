"""Playback on the recorder (every promise, exact to the sample) and on the silent sound card (the real PortAudio)."""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kokoro_common.errors import NoAudioDevice
from kokoro_common.sound import player as playback
from kokoro_common.sound.player import Player
from kokoro_common.sound.samples import SAMPLE_RATE, Resampler, to_pcm16
from tests.helpers.recorder import BLOCK_FRAMES, Float, Recorder, ramp
from tests.helpers.silent_card import Capture, SilentCard

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def pieces(samples: Float, sizes: list[int]) -> Iterator[Float]:
    start = 0
    while start < len(samples):
        size = sizes.pop(0) if sizes else len(samples)
        yield samples[start : start + size]
        start += size


def feed_all(player: Player, *chunks: Float, device: str = "") -> None:
    """A run for `play`."""
    player.begin(device)
    for chunk in chunks:
        player.feed(chunk)
    player.finish()


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

    def late(fill: playback.Fill, finished: Any, device: str) -> Any:
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


def test_portaudios_flag_reaches_the_player(fake_sounddevice: mock.Mock) -> None:
    fake_sounddevice.RawOutputStream.side_effect = [fake_stream()]
    gaps = []
    playback._PortAudioStream(lambda *arguments: gaps.append(arguments[3]), lambda: None, "")
    callback = fake_sounddevice.RawOutputStream.call_args.kwargs["callback"]
    for flag in (False, True):
        callback(bytearray(480), 240, mock.Mock(), mock.Mock(output_underflow=flag))
    assert gaps == [False, True]


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


def no_device(match: str = "no audio device") -> Any:
    return pytest.raises(NoAudioDevice, match=match)


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


# The real opener, with a PortAudio that refuses


class PortAudioError(Exception):
    pass


@pytest.fixture
def fake_sounddevice(monkeypatch: pytest.MonkeyPatch) -> mock.Mock:
    names = [
        {"name": "attic", "max_output_channels": 2, "hostapi": 0},
        {"name": "microphone", "max_output_channels": 0, "hostapi": 0},
        {"name": "cellar", "max_output_channels": 2, "hostapi": 0},
    ]

    def query_devices(device: int | None = None, kind: str = "") -> Any:
        return names[2] if kind else names if device is None else names[device]

    fake = mock.Mock(PortAudioError=PortAudioError, _initialized=1)
    fake.query_devices.side_effect = query_devices
    fake.query_hostapis.return_value = {"name": "ALSA"}
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    monkeypatch.setattr(playback, "_alsa_is_empty", lambda: False)
    monkeypatch.setattr(playback._PortAudioStream, "count", 0)
    monkeypatch.setattr(playback._PortAudioStream, "stale", False)
    return fake


def real_stream(device: str = "") -> playback._PortAudioStream:
    return playback._PortAudioStream(lambda *_: None, lambda: None, device)


def opened_rates(fake: mock.Mock) -> list[int | None]:
    return [call.kwargs["samplerate"] for call in fake.RawOutputStream.call_args_list]


def fake_stream(rate: float = 24_000.0) -> mock.Mock:
    return mock.Mock(samplerate=rate, device=0, time=1.5)


MISSING = PortAudioError("Error querying device -1")
UNKNOWN = ValueError("No output device matching 'loft'")


def test_a_device_that_refuses_24_khz_is_opened_at_its_own_rate(fake_sounddevice: mock.Mock) -> None:
    fake_sounddevice.RawOutputStream.side_effect = [PortAudioError("Invalid sample rate"), fake_stream(48_000.0)]
    assert isinstance(real_stream()._fill, playback._Resampled)
    assert opened_rates(fake_sounddevice) == [24_000, None]
    fake_sounddevice._terminate.assert_not_called()


def test_a_device_plugged_in_since_is_found(fake_sounddevice: mock.Mock) -> None:
    fake_sounddevice.RawOutputStream.side_effect = [MISSING, MISSING, fake_stream()]
    real_stream()
    fake_sounddevice.assert_has_calls([mock.call._terminate(), mock.call._initialize()])


def test_portaudio_is_not_initialized_anew_under_an_open_stream(fake_sounddevice: mock.Mock) -> None:
    fake_sounddevice.RawOutputStream.side_effect = [fake_stream(), MISSING, MISSING, MISSING, MISSING, fake_stream()]
    stream = real_stream()
    with no_device():
        real_stream()
    playback.devices()
    fake_sounddevice._terminate.assert_not_called()
    assert stream.stop() == 1.5
    fake_sounddevice.RawOutputStream.side_effect = [MISSING, MISSING, fake_stream()]
    real_stream()
    fake_sounddevice._terminate.assert_called_once()


def test_after_a_loss_the_devices_are_listed_anew(fake_sounddevice: mock.Mock) -> None:
    fake_sounddevice.RawOutputStream.side_effect = [fake_stream(), fake_stream()]
    stream = real_stream("attic")
    assert stream.device == "attic, ALSA"
    fake_sounddevice.RawOutputStream.call_args.kwargs["finished_callback"]()
    stream.stop()
    real_stream(stream.device).stop()
    fake_sounddevice._terminate.assert_called_once()


def test_without_any_device_the_remedy_is_named(fake_sounddevice: mock.Mock) -> None:
    fake_sounddevice.RawOutputStream.side_effect = MISSING
    with no_device(r"no audio device \(.*-1\); plug one in, or write a file with -o out.wav"):
        real_stream()


def test_an_unknown_device_is_answered_with_the_known_ones(fake_sounddevice: mock.Mock) -> None:
    fake_sounddevice.RawOutputStream.side_effect = UNKNOWN
    player = Player()
    player.begin("loft")
    with no_device(r"'loft' does not name one audio device; choose from: attic, cellar$"):
        player.play()


def test_devices_are_listed_the_default_one_first(fake_sounddevice: mock.Mock) -> None:
    assert playback.devices() == ["cellar (default)", "attic"]
    fake_sounddevice._initialize.assert_called_once()
    fake_sounddevice.query_devices.side_effect = MISSING
    with no_device("plug one in"):
        playback.devices()


def test_without_portaudio_the_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(playback, "_alsa_is_empty", lambda: False)
    for use in real_stream, playback.devices:
        with no_device(r"PortAudio is missing .*; install libportaudio2"):
            use()


def test_importing_the_room_imports_nothing_heavy() -> None:
    code = "import sys, kokoro_common.sound.player\n"
    code += "print({'numpy', 'sounddevice', 'soundfile', 'soxr'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


# The real PortAudio on the silent card


@contextlib.contextmanager
def playing(card: SilentCard, script: str) -> Iterator[subprocess.Popen[str]]:
    """A process that runs the script with a `player`. Its standard input and output are pipes of lines."""
    program = """
        import os, sys, threading, time
        import numpy as np
        from kokoro_common.errors import NoAudioDevice
        from kokoro_common.sound.player import Player, devices
        from tests.helpers.recorder import ramp
        from tests.sound.test_player import feed_all
        player = Player()
        def tell(*words):
            print(*words, flush=True)
        def play_in_background(*chunks):
            global thread, result
            result = []
            begun = threading.Event()
            feed_all(player, *chunks)
            thread = threading.Thread(target=lambda: result.append(player.play(begun.set)))
            thread.start()
            begun.wait()
    """
    code = textwrap.dedent(program) + textwrap.dedent(script)
    command = [sys.executable, "-c", code]
    environment = os.environ | card.environment
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, cwd=ROOT, text=True, **pipes) as process:  # type: ignore[call-overload]
        try:
            yield process
        finally:
            process.kill()


def answer(process: subprocess.Popen[str], line: str = "") -> str:
    """The process's next line, once it was given one."""
    assert process.stdin is not None
    assert process.stdout is not None
    if line:
        process.stdin.write(line + "\n")
        process.stdin.flush()
    return process.stdout.readline().strip()


def played(card: SilentCard, script: str) -> str:
    """What the script prints, to its end."""
    with playing(card, script) as process:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        return out


def joined(sounds: list[NDArray[np.int16]]) -> tuple[list[int], list[int]]:
    """Pieces of a ramp, each put where it belongs; by how many frames they overlap (negative: what is missing)."""
    whole: list[int] = []
    overlaps = []
    for sound in sounds:
        overlap = len(whole) + 2 - int(sound[0])  # the ramp begins with 2
        overlaps.append(overlap)
        whole[len(whole) - max(overlap, 0) :] = sound.tolist()
    return whole, overlaps[1:]


def sounds(samples: NDArray[np.int16]) -> list[NDArray[np.int16]]:
    """The stretches without silence."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], samples != 0, [False]])))
    return [samples[start:end] for start, end in edges.reshape(-1, 2)]


@pytest.mark.card
def test_the_card_hears_three_chunks_sample_for_sample(silent_card: SilentCard) -> None:
    script = """
        feed_all(player, ramp(17_777), ramp(301, first=17_778), ramp(11_111, first=18_079))
        tell(player.play(), player.heard, player.underflows, player.busy_since)
    """
    with silent_card.capture() as captured:
        assert played(silent_card, script) == "True 29189 0 None\n"
    assert [sound.tolist() for sound in sounds(captured.samples)] == [to_pcm16(ramp(29_189)).tolist()]


@pytest.mark.card
def test_the_card_goes_on_after_pauses_without_losing_a_sample(silent_card: SilentCard) -> None:
    script = """
        play_in_background(ramp(31_000))
        for number in range(6):
            time.sleep(0.05 + 0.023 * number)  # some phase or other
            player.pause()
            time.sleep(1.1 if number == 3 else 0.2)
            player.resume()
        thread.join()
        tell(result, player.heard, player.underflows)
    """
    with silent_card.capture() as captured:
        assert played(silent_card, script) == "[True] 31000 0\n"
    whole, repeated = joined(sounds(captured.samples))
    assert whole == to_pcm16(ramp(31_000)).tolist()
    assert len(repeated) == 6
    assert min(repeated) >= 0
    assert max(repeated) <= 600, f"repeated {repeated}"  # PortAudio's block at LATENCY
    gaps = np.diff(np.flatnonzero(captured.samples))
    assert gaps.max() > SAMPLE_RATE


@pytest.mark.card
def test_the_card_drops_what_it_holds_at_an_abort_and_hears_the_next_run_whole(silent_card: SilentCard) -> None:
    script = """
        for number in range(6):
            play_in_background(ramp(30_000))
            time.sleep(0.15 + 0.047 * number)  # some phase or other
            tell(player.heard)
            player.abort()
            thread.join()
            feed_all(player, ramp(1_200, sign=-1))
            assert (result, player.play()) == ([False], True)
    """
    with silent_card.capture() as captured:
        heard = [int(line) for line in played(silent_card, script).split()]
    old, new = sounds(np.maximum(captured.samples, 0)), sounds(np.minimum(captured.samples, 0))
    assert [sound.tolist() for sound in new] == [to_pcm16(ramp(1_200, sign=-1)).tolist()] * 6
    assert len(old) == 6
    after = [len(sound) - position for sound, position in zip(old, heard, strict=True)]
    assert max(after) < 1_200, f"frames after the abort: {after}"  # the device held 2,400 beyond what was heard


@pytest.mark.card
@pytest.mark.fault
def test_a_sound_server_killed_in_mid_sentence_and_restarted_goes_on(silent_card: SilentCard) -> None:
    script = """
        play_in_background(ramp(31_000))
        time.sleep(0.5)
        tell("playing")
        thread.join()
        tell(result, player.heard, player.underflows)
    """
    before = Capture(os.environ | silent_card.environment)
    with playing(silent_card, script) as process:
        assert answer(process) == "playing"
        silent_card.unplug()
        before.end()
        process.send_signal(signal.SIGSTOP)  # it shall not play before it is recorded
        silent_card.plug_in()
        with silent_card.capture() as after:
            process.send_signal(signal.SIGCONT)
            assert answer(process) == "[True] 31000 0"
    heard = [*sounds(before.samples), *sounds(after.samples)]
    assert heard[-1][-1] == 31_001
    _, overlaps = joined(heard)
    assert len(overlaps) == 1
    assert overlaps[0] > -SAMPLE_RATE // 2, f"lost {-overlaps[0]} frames"


@pytest.mark.card
@pytest.mark.fault
def test_a_sound_server_restarted_while_paused_goes_on(silent_card: SilentCard) -> None:
    script = """
        play_in_background(ramp(31_000))
        time.sleep(0.5)
        player.pause()
        while player.busy_since is not None or player._playing:
            time.sleep(0.01)
        tell("paused")
        sys.stdin.readline()
        player.resume()
        thread.join()
        tell(result, player.heard)
    """
    with playing(silent_card, script) as process:
        assert answer(process) == "paused"
        silent_card.unplug()
        silent_card.plug_in()
        with silent_card.capture() as captured:
            assert answer(process, "resume") == "[True] 31000"
    assert sounds(captured.samples)[-1][-1] == 31_001


@pytest.mark.card
@pytest.mark.fault
def test_a_card_that_does_not_come_back_fails_the_run_and_the_next_finds_a_new_one(silent_card: SilentCard) -> None:
    script = """
        from kokoro_common.sound import player as playback
        playback.REOPEN_SECONDS = 0.5
        feed_all(player, ramp(31_000))
        try:
            player.play(lambda: tell("playing"))
        except NoAudioDevice as error:
            tell(error)
        sys.stdin.readline()
        feed_all(player, ramp(1_200))
        tell(player.play())
    """
    with playing(silent_card, script) as process:
        assert answer(process) == "playing"
        silent_card.unplug()
        assert answer(process).startswith("the audio device was lost and did not come back; plug one in")
        silent_card.plug_in()
        with silent_card.capture() as captured:
            assert answer(process, "go on") == "True"
    assert [sound.tolist() for sound in sounds(captured.samples)] == [to_pcm16(ramp(1_200)).tolist()]


@pytest.mark.card
@pytest.mark.fault
def test_a_card_that_hangs_fails_the_run(silent_card: SilentCard) -> None:
    script = """
        feed_all(player, ramp(240_000))
        try:
            player.play(lambda: tell("playing"))
        except NoAudioDevice as error:
            player.abort()
            player.close()
            tell(error)
            os._exit(3)
    """
    with playing(silent_card, script) as process:
        assert answer(process) == "playing"
        silent_card.hang()
        assert answer(process).startswith("the audio device hangs")
        assert process.wait(10) == 3


@pytest.mark.card
@pytest.mark.fault
def test_an_abort_does_not_wait_for_a_card_that_hangs(silent_card: SilentCard) -> None:
    script = """
        play_in_background(ramp(240_000))
        tell("playing")
        sys.stdin.readline()
        player.abort()
        while player.busy_since is None:  # until `play` is in PortAudio's abort, which takes 30 s
            time.sleep(0.01)
        feed_all(player, ramp(100))
        player.pause()
        player.abort()
        tell(thread.is_alive())
        os._exit(3)
    """
    with playing(silent_card, script) as process:
        assert answer(process) == "playing"
        silent_card.hang()
        assert answer(process, "abort") == "True"
        assert process.wait(10) == 3


@pytest.mark.card
def test_two_players_of_one_process_are_heard_at_once_and_whole(silent_card: SilentCard) -> None:
    script = """
        play_in_background(np.full(20_000, 1000 / 32_767, np.float32))
        other = Player()
        feed_all(other, np.full(5_000, 200 / 32_767, np.float32))
        assert other.play()
        thread.join()
        tell(result)
    """
    with silent_card.capture() as captured:
        assert played(silent_card, script) == "[True]\n"
    (both,) = sounds(captured.samples)
    assert np.count_nonzero(both == 1_200) == 5_000
    assert np.count_nonzero(both == 1_000) == 15_000
    assert len(both) == 20_000


@pytest.mark.card
def test_devices_of_the_card_can_be_asked_for_by_name(silent_card: SilentCard) -> None:
    script = """
        tell(devices())
        feed_all(player, ramp(100), device="defa")
        tell(player.play())
        player.begin("cellar")
        try:
            player.play()
        except NoAudioDevice as error:
            tell(error)
    """
    assert played(silent_card, script).splitlines() == [
        "['default (default)']",
        "True",
        "'cellar' does not name one audio device; choose from: default",
    ]


@pytest.mark.card
def test_without_any_configured_sound_the_process_survives_and_says_so(silent_card: SilentCard) -> None:
    silent_card.environment["ALSA_CONFIG_PATH"] = "/nonexistent"
    script = """
        for use in devices, lambda: (player.begin(), player.play()):
            try:
                use()
            except NoAudioDevice as error:
                tell(error)
    """
    lines = played(silent_card, script).splitlines()
    assert [line.partition(" (")[0] for line in lines] == ["no audio device"] * 2
