"""The whole line to the speakers: say.py, both servers, real PortAudio, and the monitor of a silent card at the end."""

from __future__ import annotations

import json
import os
import signal
import threading

import numpy as np
import pytest
import soundfile

from tests.conftest import World
from tests.helpers.silent_card import Capture, SilentCard

pytestmark = [pytest.mark.e2e, pytest.mark.card]

TEXT = "The first sentence is here. A second one follows it, at once. And the third one ends the speech."


def test_the_card_hears_what_the_file_holds_sample_for_sample(world: World, silent_card: SilentCard) -> None:
    world.environment |= silent_card.environment
    assert world.say("-o", "file.wav", TEXT).returncode == 0
    with silent_card.capture() as captured:
        done = world.say("--timing", TEXT)
        assert done.returncode == 0, done.stderr
    assert "0 underflows" in done.stderr
    expected, _ = soundfile.read(world.path / "file.wav", dtype="int16")
    assert np.array_equal(np.trim_zeros(captured.samples), np.trim_zeros(expected))
    chunks = [entry for entry in world.log("voice_server-af_heart") if entry["event"] == "finished"]
    assert len(chunks) == 2


def test_speech_in_a_pipe_and_two_voices_follow_each_other(world: World, silent_card: SilentCard) -> None:
    world.environment |= silent_card.environment
    world.say("-o", "one.wav", "One is spoken.")
    world.say("-o", "two.wav", "-v", "am_adam", "Two is spoken.")
    with silent_card.capture() as captured:
        assert world.say("--no-wait", stdin=b"One is spoken.").returncode == 0
        assert world.say("-v", "am_adam", "Two is spoken.").returncode == 0
    heard = np.trim_zeros(captured.samples)
    first, second = (
        np.trim_zeros(soundfile.read(world.path / f"{name}.wav", dtype="int16")[0]) for name in ("one", "two")
    )
    assert np.array_equal(heard[: len(first)], first)
    assert np.array_equal(heard[-len(second) :], second)
    assert not heard[len(first) : -len(second)].any()


def test_ctrl_c_silences_and_the_next_speech_is_whole(world: World, silent_card: SilentCard) -> None:
    world.environment |= silent_card.environment
    world.say("-o", "next.wav", "The next one.")
    with silent_card.capture() as captured:
        process = world.popen("A very long sentence goes on. " * 50)
        world.wait_for_speech()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
        assert (process.returncode, errors) == (-signal.SIGINT, b"")
        assert world.say("The next one.").returncode == 0
    expected = np.trim_zeros(soundfile.read(world.path / "next.wav", dtype="int16")[0])
    heard = np.trim_zeros(captured.samples)
    assert np.array_equal(heard[-len(expected) :], expected)
    assert len(heard) < 24_000 * 20
    ledger = json.loads(world.say("--status", "--json").stdout)["model_server"]["ledger"]
    assert (ledger["cancelled"], ledger["finished"], ledger["in_flight"]) == (1, 2, 0)


def test_words_that_come_one_by_one_are_spoken_before_the_text_is_complete(
    world: World, silent_card: SilentCard
) -> None:
    world.environment |= silent_card.environment
    world.say("-o", "warm.wav", "warm")
    text = b"This is the first sentence here. The second sentence comes after it and takes its time."
    words = text.split(b" ")
    reading, writing = os.pipe()
    with silent_card.capture() as captured:
        process = world.popen("-e", "--timing", stdin=reading)
        os.close(reading)
        pace = threading.Event()  # never set: the writer's own rhythm, which is what is tested
        for position, word in enumerate(words):
            pace.wait(0.15)
            os.write(writing, word if position == 0 else b" " + word)
            if word == b"its":
                assert np.abs(captured.samples).max() > 500, "nothing was heard before the second sentence was complete"
        os.close(writing)
        out, errors = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, text), errors
    for name, sentence in (("one", "This is the first sentence here."), ("two", text.decode()[33:])):
        world.say("-o", f"{name}.wav", sentence)
        expected = np.trim_zeros(soundfile.read(world.path / f"{name}.wav", dtype="int16")[0])
        heard = np.lib.stride_tricks.sliding_window_view(captured.samples, len(expected))
        loudest = int(np.abs(expected).argmax())
        places = np.flatnonzero(heard[:, loudest] == expected[loudest])
        assert any(np.array_equal(heard[place], expected) for place in places), f"sentence {name} has a gap"


def test_the_devices_are_listed_and_one_can_be_named(world: World, silent_card: SilentCard) -> None:
    world.environment |= silent_card.environment
    listed = world.say("-a", "?")
    assert listed.returncode == 0, listed.stderr
    assert "default" in listed.stdout
    assert world.say("-a", "default", "hello").returncode == 0
    wrong = world.say("-a", "no such device", "hello")
    assert wrong.returncode == 3
    assert "no such device" in wrong.stderr


def test_an_interrupt_of_breaks_alone_leaves_the_card_to_the_next_voice(world: World, silent_card: SilentCard) -> None:
    world.environment |= silent_card.environment
    world.say("-o", "two.wav", "-v", "am_adam", "Two is spoken.")
    expected = np.trim_zeros(soundfile.read(world.path / "two.wav", dtype="int16")[0])
    for silent in ('<speak><break time="300ms"/></speak>', "- ", "[pause:100ms] ***"):
        assert world.say("One is spoken.").returncode == 0
        assert world.say("-i", silent).returncode == 0
        with silent_card.capture() as captured:
            assert world.say("-v", "am_adam", "Two is spoken.", timeout=60).returncode == 0
        assert np.array_equal(np.trim_zeros(captured.samples), expected)


def test_volume_is_a_factor(world: World, silent_card: SilentCard) -> None:
    world.environment |= silent_card.environment
    peaks = []
    for volume in ("1", "0.5", "0"):
        with silent_card.capture() as captured:
            assert world.say("--volume", volume, "hello").returncode == 0
        peaks.append(int(np.abs(captured.samples.astype(int)).max()))
    assert abs(peaks[1] * 2 - peaks[0]) <= 2
    assert peaks[2] == 0


def test_a_server_without_a_device_ends_and_the_next_finds_the_card(world: World, silent_card: SilentCard) -> None:
    assert world.say("hello").returncode == 3
    world.environment |= silent_card.environment
    assert world.say("hello").returncode == 0


def test_speech_goes_on_when_the_sound_server_is_killed_and_started_again(
    world: World, silent_card: SilentCard
) -> None:
    world.environment |= silent_card.environment
    text = "This sentence goes on and on for a while, so that there is time to pull the plug in the middle of it."
    world.say("-o", "whole.wav", text)
    expected = np.trim_zeros(soundfile.read(world.path / "whole.wav", dtype="int16")[0])
    (voice,) = [server for server in world.servers() if "voice_server" in " ".join(server.cmdline())]
    before = Capture(os.environ | silent_card.environment)
    process = world.popen(text)
    before.wait_for_sound(24_000)
    silent_card.unplug()
    before.end()
    voice.send_signal(signal.SIGSTOP)  # it shall not play before it is recorded
    silent_card.plug_in()
    with silent_card.capture() as after:
        voice.send_signal(signal.SIGCONT)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, b"")
    first, second = np.trim_zeros(before.samples), np.trim_zeros(after.samples)
    assert np.array_equal(first[:12_000], expected[:12_000])
    assert np.array_equal(second[-12_000:], expected[-12_000:])
    assert len(first) + len(second) > len(expected) - 12_000  # at most half a second is lost


def test_a_server_that_was_started_elsewhere_speaks_where_the_caller_is(world: World, silent_card: SilentCard) -> None:
    """By the first call, whether it waits or not; a caller without a device hears that there is none, as before."""
    assert world.say("-o", "x.wav", "Hello.").returncode == 0  # starts the server, in a shell without sound
    assert world.say("-o", "one.wav", "One is spoken.").returncode == 0
    (server,) = [each.pid for each in world.servers() if "voice" in " ".join(each.cmdline())]
    nowhere = dict(world.environment)
    world.environment |= silent_card.environment
    with silent_card.capture() as captured:
        done = world.say("-n", "One is spoken.")
        assert (done.returncode, done.stderr) == (0, "")
        captured.wait_for_sound(1)
        done = world.say("One is spoken.")
        assert (done.returncode, done.stderr) == (0, "")
    expected = np.trim_zeros(soundfile.read(world.path / "one.wav", dtype="int16")[0])
    heard = np.trim_zeros(captured.samples)
    assert np.array_equal(heard[: len(expected)], expected)
    assert np.array_equal(heard[-len(expected) :], expected)
    assert world.status()["voice_servers"][0]["pid"] == server
    world.environment = nowhere | {"PULSE_SERVER": "unix:/nowhere", "ALSA_CONFIG_PATH": "/dev/null"}
    with silent_card.capture() as captured:
        assert world.say("One is spoken.").returncode == 0  # it needs no device of its own while another's is there
