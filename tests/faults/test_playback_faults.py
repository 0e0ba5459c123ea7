"""3.E, what the ear gets: no device, a device that goes, hangs or changes, interrupts in a storm, a slow engine.

E4, the fault of a stalled listener, and all with a real sound server stand in test_playback.py and test_speakers.py.
"""

from __future__ import annotations

import concurrent.futures
import json
import random
import time
from typing import Any

import numpy as np
import pytest

from kokoro_common.client.client import Client
from kokoro_common.client.text_source import TextSource
from kokoro_common.errors import NoAudioDevice
from kokoro_common.settings import resolve
from kokoro_common.sound import player as playback
from kokoro_common.sound.player import Player
from kokoro_common.sound.samples import to_pcm16
from kokoro_common.text.speech import Speech
from kokoro_common.wire.messages import Route
from tests.conftest import World
from tests.faults.conftest import Shown, times
from tests.helpers.recorder import BLOCK_FRAMES, Recorder, feed_all, ramp
from tests.helpers.stub_engine import SILENCE, decode_samples, tag_of
from tests.helpers.stub_model_server import FRAMES_PER_CHARACTER

pytestmark = pytest.mark.timeout(900)


@pytest.mark.e2e
def test_e1_no_audio_device(world: World, shown: Shown) -> None:
    assert world.say("-o", "x.wav", "hello").returncode == 0
    pid = world.status()["model_server"]["pid"]
    count, held, worst = times(20), 0, 0.0
    for _ in range(count):
        began = time.monotonic()
        done = world.say("hello")
        took = time.monotonic() - began
        worst = max(worst, took)
        held += done.returncode == 3 and "no audio device" in done.stderr and took <= 2.0
    assert world.say("-o", "x.wav", "hello").returncode == 0
    assert world.status()["model_server"]["pid"] == pid
    shown("E1", "no audio device: said within 2 s, the model server stays", held, of=count,
          worst_seconds=round(worst, 2))  # fmt: skip


def test_e2_a_device_that_vanishes_and_comes_back(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playback, "RETRY_SECONDS", 0.01)
    samples = ramp(9_000)  # 38 blocks
    count, whole, most = max(10, times(50)), 0, 0
    for seed in range(count):
        chance = random.Random(seed)
        recorder = Recorder()
        player = Player(open_stream=recorder)
        recorder.lost_at, recorder.back_after = chance.randrange(1, 48), chance.randrange(4)
        feed_all(player, samples)
        assert player.play()
        heard: list[int] = []
        twice = 0
        for run in recorder.heard():
            again = len(heard) + 2 - int(run[0]) if len(run) else 0  # the ramp begins with 2
            twice = max(twice, again)
            heard[len(heard) - again :] = run.tolist()
        most = max(most, twice)
        whole += heard == to_pcm16(samples).tolist() and 0 <= twice <= BLOCK_FRAMES
    shown("E2", "a device that was lost is opened again, nothing is lost, a block at most heard twice", whole,
          of=count, most_frames_twice=most)  # fmt: skip


def test_e2_a_device_that_does_not_come_back(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playback, "REOPEN_SECONDS", 0.2)
    monkeypatch.setattr(playback, "RETRY_SECONDS", 0.05)
    count, held = times(50), 0
    for seed in range(count):
        recorder = Recorder()
        player = Player(open_stream=recorder)
        recorder.lost_at = random.Random(seed).randrange(1, 38)
        feed_all(player, ramp(9_000))
        with pytest.raises(NoAudioDevice, match=r"was lost and did not come back|no audio device"):
            player.play()
        recorder.present = True
        feed_all(player, ramp(500))
        held += player.play()
    shown("E2", "a device that does not come back is a named error, and the next run is heard", held, of=count)


def test_e3_a_device_that_hangs(shown: Shown) -> None:
    count, held, worst = max(4, times(20)), 0, 0.0

    def hang(block: int) -> float:
        recorder = Recorder()
        player = Player(open_stream=recorder)
        recorder.hung_at = block
        feed_all(player, ramp(20_000))
        began = time.monotonic()
        with pytest.raises(NoAudioDevice, match="hangs"):
            player.play()
        took = time.monotonic() - began
        recorder.wake()
        for stream in recorder.streams:
            stream.end()
        return took

    with concurrent.futures.ThreadPoolExecutor(4) as executor:
        for took in executor.map(hang, range(1, 4 * count, 4)):
            worst = max(worst, took)
            held += took <= 5.0
    shown("E3", "a device that hangs is a named error within 5 s", held, of=count, worst_seconds=round(worst, 2))


@pytest.mark.e2e
def test_e5_after_a_storm_of_interrupts_the_last_is_spoken_whole(stub_world: World, shown: Shown) -> None:
    assert stub_world.say("First.").returncode == 0
    client = Client(resolve({}, stub_world.environment))
    count = times(50)
    last = "The last one is spoken. All of it."
    for storm in range(count):
        for number in range(60):  # at some 50 a second
            client.speak(
                TextSource(f"Number {number} of storm {storm} is cut."), Speech(), Route(floor="interrupt", wait=False)
            ).finish()
        assert client.speak(TextSource(last), Speech(), Route(floor="interrupt")).finish() is not None
    spoken = [str(entry["utterance"]) for entry in stub_world.log() if entry["event"] == "speak"]
    lasts = [spoken[61 * (storm + 1)] for storm in range(count)]
    assert stub_world.say("--shutdown", "-q").returncode == 0
    runs = decode_samples(np.load(stub_world.path / "heard-af_heart.npy"))
    whole = [FRAMES_PER_CHARACTER * len(sentence) for sentence in ("The last one is spoken.", "All of it.")]
    held = sum([run.frames for run in runs if run.tag == tag_of(utterance)] == whole for utterance in lasts)
    shown("E5", "after 60 interrupts the last utterance is heard whole", held, of=count)


@pytest.mark.e2e
def test_e6_gaps_of_a_slow_engine_are_those_that_are_reported(world: World, shown: Shown) -> None:
    world.environment["STUB_RTF"] = str(1.5 / 20)  # 1.5 by the clock of the recorder, which is 20 times faster
    world.start_stub_server()
    sentences = "Here is a rather short one. And here is another, which is longer. Gap. It ends with this one."
    reported = 0
    for _ in range(max(3, times(20))):
        done = world.say("--timing", sentences)
        assert done.returncode == 0, done.stderr
        reported += int(done.stderr.rsplit(",", 1)[1].split()[0])
    ledger: dict[str, Any] = world.status()["model_server"]
    assert world.say("--shutdown", "-q").returncode == 0
    runs = decode_samples(np.load(world.path / "heard-af_heart.npy"))
    gaps = sum(run.tag == SILENCE for run in runs)
    assert gaps > 0
    assert {run.tag == SILENCE or run.first_frame == 0 for run in runs} == {True}, "a gap within a sentence"
    assert ledger["underflows"] == reported, json.dumps(ledger)
    shown("E6", "gaps of an engine slower than speech stand between sentences and are reported", reported, of=gaps)


def test_e7_the_default_device_changes_between_utterances(shown: Shown) -> None:
    recorders = [Recorder(), Recorder()]
    current = 0
    player = Player(open_stream=lambda fill, finished, device: recorders[current](fill, finished, device))
    count, held = times(20), 0
    for number in range(count):
        current = number % 2
        before = [len(recorder.runs) for recorder in recorders]
        samples = ramp(1_000, first=number)
        feed_all(player, samples)
        assert player.play()
        after = [len(recorder.runs) for recorder in recorders]
        heard = recorders[current].heard()[-1].tolist()
        held += after[current] == before[current] + 1 and after[1 - current] == before[1 - current] and (
            heard == np.trim_zeros(to_pcm16(samples)).tolist()
        )  # fmt: skip
    shown("E7", "the next utterance is on the new default device", held, of=count)
