"""Playback on the recorder (every promise, exact to the sample) and on the silent sound card (the real PortAudio)."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import random
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kokoro_common import playback
from kokoro_common.audio import SAMPLE_RATE, Resampler, to_pcm16
from kokoro_common.errors import NoAudioDevice
from kokoro_common.playback import Player
from tests.recorder import BLOCK_FRAMES, Float, Recorder, ramp
from tests.silent_card import SilentCard

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def pieces(samples: Float, sizes: list[int]) -> Iterator[Float]:
    start = 0
    while start < len(samples):
        size = sizes.pop(0) if sizes else len(samples)
        yield samples[start : start + size]
        start += size


def sync(player: Player, recorder: Recorder) -> bool:
    """`player.sync()`, the clock standing still until the end of the run is marked: the end can be no underflow."""

    def await_it(run: Any, target: int) -> bool:
        recorder.release()
        return Player._await(player, run, target)

    with mock.patch.object(player, "_await", await_it):
        return player.sync()


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    for stream in recorder.streams:
        stream.end()


@pytest.fixture
def player(recorder: Recorder) -> Iterator[Player]:
    player = Player(open_stream=recorder)
    yield player
    player.close()


@pytest.fixture
def in_background() -> Iterator[Callable[..., concurrent.futures.Future[Any]]]:
    with concurrent.futures.ThreadPoolExecutor() as executor:
        yield executor.submit


@given(st.lists(st.integers(1, 3 * BLOCK_FRAMES), min_size=3, max_size=12))
@settings(max_examples=40, deadline=None)
def test_every_sample_is_heard_once_in_order_however_it_was_cut(sizes: list[int]) -> None:
    recorder = Recorder(speed=400)
    player = Player(open_stream=recorder)
    samples = ramp(sum(sizes))
    recorder.hold()
    for piece in pieces(samples, sizes):
        player.feed(piece)
    assert sync(player, recorder)
    assert recorder.runs[0][: len(samples)].tolist() == to_pcm16(samples).tolist()  # no silence before it, none within
    assert not recorder.runs[0][len(samples) :].any()
    assert player.heard == len(samples)
    assert player.underflows == 0
    player.close()


def test_a_pause_between_feeds_is_silence_and_one_underflow(player: Player, recorder: Recorder) -> None:
    samples = ramp(1_200)
    for piece in pieces(samples, [700, 100, 400]):
        recorder.hold()
        player.feed(piece)
        if len(piece) != 400:
            recorder.release()
            recorder.wait_for_blocks(6)
    assert sync(player, recorder)
    heard = recorder.heard()[0]
    assert heard[heard != 0].tolist() == to_pcm16(samples).tolist()
    assert np.count_nonzero(np.diff(heard == 0)) == 4  # into and out of two silences
    assert player.underflows == 2


def test_runs_follow_each_other_and_between_them_nothing_is_open(player: Player, recorder: Recorder) -> None:
    for number in range(3):
        player.feed(ramp(777, first=1000 * number))
        assert player.sync()
        assert recorder.streams[-1].closed
    assert [heard.tolist() for heard in recorder.heard()] == [to_pcm16(ramp(777, 1000 * n)).tolist() for n in range(3)]
    assert len(recorder.streams) == 3


def test_sync_without_audio_returns_at_once(player: Player, recorder: Recorder) -> None:
    assert player.sync()
    player.open()
    assert player.sync()
    assert recorder.runs == []


def test_abort_silences_at_once_and_the_next_run_plays_exactly(player: Player, recorder: Recorder) -> None:
    chance = random.Random(2)
    old, new = ramp(20_000), ramp(500, sign=-1)
    for _ in range(100):
        recorder.runs.clear()
        player.feed(old)
        recorder.wait_for_blocks(chance.randrange(40))
        player.abort()
        assert len(recorder.runs) == 1  # the device is silent when abort returns
        player.feed(new)
        assert player.sync()
        first, second = recorder.runs
        assert first.tolist() == to_pcm16(old)[: len(first)].tolist()
        assert second[: len(new)].tolist() == to_pcm16(new).tolist()
        assert not second[len(new) :].any()


def test_what_an_abort_overtakes_in_feed_is_dropped(player: Player, recorder: Recorder) -> None:
    player.feed(ramp(20_000))

    def convert(samples: Float) -> memoryview:
        player.abort()
        return memoryview(to_pcm16(samples).tobytes())

    with mock.patch.object(player._run, "convert", convert):
        player.feed(ramp(500, sign=-1))
    assert player.sync() is False
    assert (recorder.runs[0] >= 0).all()
    assert len(recorder.runs) == 1


def test_sync_returns_false_when_another_thread_aborts(
    player: Player, recorder: Recorder, in_background: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(playback, "STALL_SECONDS", 600)  # it is the abort that wakes it
    player.feed(ramp(200_000))
    synced = in_background(player.sync)
    recorder.wait_for_blocks(20)
    player.abort()
    player.abort()
    assert synced.result(10) is False
    assert player.sync() is False  # what was fed has not been heard
    assert player.heard < 200_000


def test_heard_follows_the_clock_not_what_was_handed_over(player: Player, recorder: Recorder) -> None:
    player.feed(ramp(100_000))
    recorder.wait_for_blocks(50)
    recorder.hold()
    heard = player.heard
    assert recorder.clock - 2 * BLOCK_FRAMES <= heard <= recorder.clock
    player.abort()


def test_wait_keeps_a_window(player: Player, recorder: Recorder) -> None:
    recorder.hold()
    player.feed(ramp(5_000))
    player.feed(ramp(5_000, first=5_000))
    recorder.release()
    assert player.wait(4_000)
    assert player.heard >= 4_000
    assert player.wait(99_999)  # more than is fed: all of it
    assert player.heard == 10_000


def test_a_lost_device_fails_sync_and_feed_and_is_opened_anew(player: Player, recorder: Recorder) -> None:
    recorder.lost_at = 20
    player.feed(ramp(20_000))
    with pytest.raises(NoAudioDevice, match="lost; plug one in"):
        player.sync()
    with pytest.raises(NoAudioDevice):
        player.feed(ramp(10))
    recorder.present = True
    recorder.lost_at = None
    player.feed(ramp(400))
    assert player.sync()
    assert recorder.streams[0].closed
    assert recorder.heard()[-1].tolist() == to_pcm16(ramp(400)).tolist()


def test_feed_fails_after_a_loss_until_the_run_is_over(player: Player, recorder: Recorder) -> None:
    recorder.lost_at = 5
    player.feed(ramp(20_000))
    recorder.wait_until_lost()
    for _ in range(2):
        with pytest.raises(NoAudioDevice):
            player.feed(ramp(10))
    recorder.present, recorder.lost_at = True, None
    player.abort()
    player.feed(ramp(10))
    assert player.sync()


def test_a_device_lost_while_its_last_samples_are_due_fails_sync(player: Player, recorder: Recorder) -> None:
    recorder.lost_at = 6  # all samples are in the first two blocks, ten blocks before they are heard
    player.feed(ramp(2 * BLOCK_FRAMES))
    with pytest.raises(NoAudioDevice):
        player.sync()


def test_an_opened_device_is_used_by_the_next_run_and_closed_by_close(player: Player, recorder: Recorder) -> None:
    player.open()
    player.open()
    player.feed(ramp(100))
    assert player.sync()
    player.open()
    player.close()
    assert [stream.closed for stream in recorder.streams] == [True, True]


def test_a_device_that_vanishes_between_open_and_feed_says_so(player: Player, recorder: Recorder) -> None:
    player.open()
    recorder.present = False
    with pytest.raises(NoAudioDevice, match="lost"):
        player.feed(ramp(100))
    recorder.present = True
    player.feed(ramp(100))
    assert player.sync()


def test_without_a_device_open_and_feed_say_so(player: Player, recorder: Recorder) -> None:
    recorder.present = False
    with pytest.raises(NoAudioDevice):
        player.open()
    with pytest.raises(NoAudioDevice):
        player.feed(ramp(10))
    recorder.present = True
    player.feed(ramp(10))
    assert player.sync()


def test_a_hung_device_fails_sync_and_is_not_touched_again(
    player: Player, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(playback, "STALL_SECONDS", 0.2)
    recorder.hung_at = 15
    player.feed(ramp(20_000))
    with pytest.raises(NoAudioDevice, match="hangs"):
        player.sync()
    with pytest.raises(NoAudioDevice, match="hangs"):
        player.open()
    player.abort()
    player.close()
    assert not recorder.streams[0].closed


def test_a_device_that_hung_and_wakes_up_does_not_go_on(
    player: Player, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(playback, "STALL_SECONDS", 0.2)
    recorder.hung_at = 15
    player.feed(ramp(20_000))
    with pytest.raises(NoAudioDevice, match="hangs"):
        player.sync()
    recorder.wake()
    recorder.wait_for_blocks(3)
    assert not any(any(block) for _, block in recorder.blocks[15:])


@pytest.mark.parametrize("rate", [44_100, 48_000, 16_000])
def test_a_device_with_another_rate_gets_resampled_audio(rate: int) -> None:
    recorder = Recorder(sample_rate=rate)
    player = Player(open_stream=recorder)
    samples = (np.sin(np.arange(12_347) / 20) * 0.5).astype(np.float32)  # no whole number of frames at 16 kHz
    resampler = Resampler(SAMPLE_RATE, rate)
    expected = to_pcm16(np.concatenate([resampler.feed(samples), resampler.flush()]))
    for _ in range(2):  # the second run begins with a fresh resampler
        recorder.hold()
        for piece in pieces(samples, [1_000, 1, 17, 5_000]):
            player.feed(piece)
        assert sync(player, recorder)
        assert player.heard == len(samples)
        assert recorder.runs[-1][: len(expected)].tolist() == expected.tolist()
        assert not recorder.runs[-1][len(expected) :].any()
    player.close()


def test_a_run_shorter_than_the_resamplers_delay_is_heard_whole() -> None:
    recorder = Recorder(sample_rate=48_000)
    player = Player(open_stream=recorder)
    player.feed(ramp(30))
    assert player.sync()
    assert player.heard == 30
    assert player.underflows == 0
    assert np.count_nonzero(recorder.runs[0]) >= 2 * 30 - 2
    player.close()


def test_nan_never_reaches_the_device(player: Player) -> None:
    with pytest.raises(ValueError, match="NaN"):
        player.feed(np.array([0.0, np.nan], np.float32))


# The real opener, with a PortAudio that refuses


class PortAudioError(Exception):
    pass


@pytest.fixture
def fake_sounddevice(monkeypatch: pytest.MonkeyPatch) -> mock.Mock:
    fake = mock.Mock(PortAudioError=PortAudioError, _initialized=1)
    fake.query_devices.return_value = [
        {"name": "attic", "max_output_channels": 2},
        {"name": "microphone", "max_output_channels": 0},
    ]
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    monkeypatch.setattr(playback, "_alsa_is_empty", lambda: False)
    return fake


def opened_rates(fake: mock.Mock) -> list[int | None]:
    return [call.kwargs["samplerate"] for call in fake.RawOutputStream.call_args_list]


def test_a_device_that_refuses_24_khz_is_opened_at_its_own_rate(fake_sounddevice: mock.Mock) -> None:
    fake_sounddevice.RawOutputStream.side_effect = [
        PortAudioError("Invalid sample rate"),
        mock.Mock(samplerate=48_000.0),
    ]
    stream = playback._PortAudioStream(24_000, lambda *_: None, lambda: None, "")
    assert stream.sample_rate == 48_000
    assert opened_rates(fake_sounddevice) == [24_000, None]
    fake_sounddevice._terminate.assert_not_called()


def test_a_device_plugged_in_since_is_found(fake_sounddevice: mock.Mock) -> None:
    missing = PortAudioError("Error querying device -1")
    fake_sounddevice.RawOutputStream.side_effect = [missing, missing, mock.Mock(samplerate=24_000.0)]
    Player().open()
    fake_sounddevice.assert_has_calls([mock.call._terminate(), mock.call._initialize()])


def test_without_any_device_the_remedy_is_named(fake_sounddevice: mock.Mock) -> None:
    fake_sounddevice.RawOutputStream.side_effect = PortAudioError("Error querying device -1")
    with pytest.raises(NoAudioDevice, match=r"no audio device \(.*-1\); plug one in, or write a file with -o out.wav"):
        Player().open()


def test_an_unknown_device_is_answered_with_the_known_ones(fake_sounddevice: mock.Mock) -> None:
    fake_sounddevice.RawOutputStream.side_effect = ValueError("No output device matching 'cellar'")
    with pytest.raises(NoAudioDevice, match=r"'cellar' does not name one audio device; choose from: attic$"):
        Player("cellar").open()


def test_without_portaudio_the_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(playback, "_alsa_is_empty", lambda: False)
    with pytest.raises(NoAudioDevice, match=r"PortAudio is missing .*; install libportaudio2"):
        Player().open()


def test_importing_the_room_imports_nothing_heavy() -> None:
    code = "import sys, kokoro_common.playback; print({'numpy', 'sounddevice', 'soundfile', 'soxr'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


# The real PortAudio on the silent card


@contextlib.contextmanager
def playing(card: SilentCard, script: str) -> Iterator[subprocess.Popen[str]]:
    """A process that runs the script with a `player`. Its standard input and output are pipes of lines."""
    program = """
        import os, sys, time
        import numpy as np
        from kokoro_common.errors import NoAudioDevice
        from kokoro_common.playback import Player
        from tests.recorder import ramp
        player = Player()
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


def played(card: SilentCard, script: str) -> str:
    """What the script prints, to its end."""
    with playing(card, script) as process:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        return out


@pytest.mark.card
def test_the_card_hears_three_chunks_sample_for_sample(silent_card: SilentCard) -> None:
    script = """
        for chunk in ramp(17_777), ramp(301, first=17_778), ramp(11_111, first=18_079):
            player.feed(chunk)
        print(player.sync(), player.heard, player.underflows)
        player.close()
    """
    with silent_card.capture() as captured:
        assert played(silent_card, script) == "True 29189 0\n"
    expected = to_pcm16(ramp(29_189))
    heard = np.trim_zeros(captured.samples)
    assert len(heard) == len(expected), f"heard {len(heard)} of {len(expected)} frames"
    assert (heard == expected).all()


@pytest.mark.card
def test_the_card_hears_the_run_after_an_abort_whole_and_nothing_else_in_it(silent_card: SilentCard) -> None:
    script = """
        for number in range(6):
            player.feed(ramp(30_000))
            player.wait(600 + 1_100 * number)  # some phase or other
            player.abort()
            player.feed(ramp(1_200, sign=-1))
            assert player.sync()
        player.close()
    """
    with silent_card.capture() as captured:
        played(silent_card, script)
    negative = np.flatnonzero(captured.samples < 0)
    assert len(negative) == 6 * 1_200
    for run in np.split(negative, 6):
        assert captured.samples[run[0] : run[0] + 1_200].tolist() == to_pcm16(ramp(1_200, sign=-1)).tolist()
    assert (captured.samples > 0).any()


@pytest.mark.card
def test_a_card_lost_while_playing_fails_that_run_and_the_next_is_heard(silent_card: SilentCard) -> None:
    script = """
        player.feed(ramp(240_000))
        player.wait(2_000)
        print("playing", flush=True)
        try:
            player.sync()
        except NoAudioDevice as error:
            print(error, flush=True)
        sys.stdin.readline()
        player.feed(ramp(1_200, sign=-1))
        print(player.sync(), flush=True)
        sys.stdin.readline()
        player.feed(ramp(2_400, sign=-1))
        print(player.sync(), flush=True)
        player.close()
    """
    with playing(silent_card, script) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "playing\n"
        silent_card.unplug()
        assert process.stdout.readline().startswith("the audio device was lost; plug one in")
        for frames in 1_200, 2_400:  # after a loss while playing; after one while the stream was stopped
            silent_card.plug_in()
            with silent_card.capture() as captured:
                process.stdin.write("\n")
                process.stdin.flush()
                assert process.stdout.readline() == "True\n"
            assert np.trim_zeros(captured.samples).tolist() == to_pcm16(ramp(frames, sign=-1)).tolist()
            silent_card.unplug()
        silent_card.plug_in()
        process.communicate(timeout=60)


@pytest.mark.card
def test_without_any_configured_sound_the_process_survives_and_says_so(silent_card: SilentCard) -> None:
    silent_card.environment["ALSA_CONFIG_PATH"] = "/nonexistent"
    script = """
        try:
            player.open()
        except NoAudioDevice as error:
            print(error)
    """
    assert played(silent_card, script).startswith("no audio device")


@pytest.mark.card
def test_a_card_that_hangs_fails_sync(silent_card: SilentCard) -> None:
    script = """
        player.feed(ramp(240_000))
        player.wait(2_000)
        print("playing", flush=True)
        try:
            player.sync()
        except NoAudioDevice as error:
            player.abort()
            player.close()
            print(error, flush=True)
            os._exit(3)
    """
    with playing(silent_card, script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "playing\n"
        silent_card.hang()
        assert process.stdout.readline().startswith("the audio device hangs")
        assert process.wait(10) == 3
