"""The whole line to the speakers: say.py, both servers, real PortAudio, and the monitor of a silent card at the end."""

from __future__ import annotations

import json
import signal

import numpy as np
import pytest
import soundfile

from tests.conftest import World
from tests.silent_card import SilentCard

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
        assert (process.returncode, errors) == (130, b"")
        assert world.say("The next one.").returncode == 0
    expected = np.trim_zeros(soundfile.read(world.path / "next.wav", dtype="int16")[0])
    heard = np.trim_zeros(captured.samples)
    assert np.array_equal(heard[-len(expected) :], expected)
    assert len(heard) < 24_000 * 20
    ledger = json.loads(world.say("--status", "--json").stdout)["model_server"]["ledger"]
    assert (ledger["cancelled"], ledger["finished"], ledger["in_flight"]) == (1, 2, 0)


def test_a_server_without_a_device_ends_and_the_next_finds_the_card(world: World, silent_card: SilentCard) -> None:
    assert world.say("hello").returncode == 3
    world.environment |= silent_card.environment
    assert world.say("hello").returncode == 0
