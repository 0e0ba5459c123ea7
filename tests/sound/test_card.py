"""The player and the real PortAudio on the silent card."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from kokoro_common.sound.samples import SAMPLE_RATE, to_pcm16
from tests.helpers.recorder import ramp
from tests.helpers.silent_card import Capture, SilentCard

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@contextlib.contextmanager
def playing(card: SilentCard, script: str) -> Iterator[subprocess.Popen[str]]:
    """A process that runs the script with a `player`. Its standard input and output are pipes of lines."""
    program = """
        import os, sys, threading, time
        import numpy as np
        from kokoro_common.errors import NoAudioDevice
        from kokoro_common.sound.player import Player
        from kokoro_common.sound.portaudio import PortAudioStream, devices
        from tests.helpers.recorder import feed_all, ramp
        player = Player(PortAudioStream)
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
    new = sounds(np.minimum(captured.samples, 0))
    assert [sound.tolist() for sound in new] == [to_pcm16(ramp(1_200, sign=-1)).tolist()] * 6
    # What is heard of the old run before each new one; a device that gets a block too late puts a gap into it.
    starts = np.flatnonzero((captured.samples == new[0][0]) & (np.roll(captured.samples, 1) >= 0))
    old = [part[part > 0] for part in np.split(captured.samples, starts)[:-1]]
    assert [sound.tolist() for sound in old] == [to_pcm16(ramp(len(sound))).tolist() for sound in old]
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
        other = Player(PortAudioStream)
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
