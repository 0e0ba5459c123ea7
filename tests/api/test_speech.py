"""Calls of the library in this process, with real servers: a stub engine, and recorders instead of speakers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

import kokoro_common as kokoro
from tests.helpers.stub_engine import decode_samples

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import World

pytestmark = pytest.mark.e2e

LONG = "A sentence without an end in sight. " * 400  # 12 minutes; the recorder is 20 times faster
ROOT = Path(__file__).parent.parent.parent


def ledger() -> dict[str, int]:
    model = kokoro.status().model_server
    assert model is not None
    return {name: getattr(model.ledger, name) for name in ("finished", "cancelled", "failed", "in_flight")}


def wait_until(reached: Any) -> None:
    """Asks for 20 s at the most; each time asks the servers, which takes milliseconds."""
    end = time.monotonic() + 20
    while not reached():
        assert time.monotonic() < end


def wait_for_speech() -> None:
    wait_until(lambda: kokoro.status().speaking)


def all_silent() -> bool:
    report = kokoro.status()
    return not report.utterances and ledger()["in_flight"] == 0


def by_itself(text: str = LONG) -> tuple[threading.Thread, list[BaseException]]:
    """A thread that speaks, and its exception."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            kokoro.speak(text)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, raised


# --- speak -----------------------------------------------------------------------------------------------------------


def test_speak_returns_the_seconds_that_were_heard(stub: World) -> None:
    assert kokoro.speak("Twenty characters ..") == pytest.approx(20 * 0.05, abs=0.11)
    assert ledger() == {"finished": 1, "cancelled": 0, "failed": 0, "in_flight": 0}


def test_speak_without_waiting_returns_while_it_is_spoken(stub: World) -> None:
    assert kokoro.speak(LONG, wait=False) == 0.0
    wait_for_speech()
    assert kokoro.stop() == 1
    assert ledger()["cancelled"] == 1


def test_a_stop_from_another_thread_is_an_exception_of_speak(stub: World) -> None:
    thread, raised = by_itself()
    wait_for_speech()
    assert kokoro.stop() == 1
    thread.join(10)
    assert [type(error) for error in raised] == [kokoro.UtteranceCancelled]


def test_interrupt_cancels_what_is_before(stub: World) -> None:
    first = kokoro.start(LONG)
    wait_for_speech()
    assert kokoro.speak("Fire!", interrupt=True, voice="am_adam") > 0
    with pytest.raises(kokoro.UtteranceCancelled):
        first.result(10)


def test_overlap_does_not_wait(stub: World) -> None:
    first = kokoro.start(LONG)
    wait_for_speech()
    assert kokoro.speak("Beside it.", overlap=True, voice="am_adam") > 0
    assert not first.done()
    assert first.cancel()


def test_without_a_device_it_is_no_audio_device(here: World) -> None:
    with pytest.raises(kokoro.NoAudioDevice) as raised:
        kokoro.speak("Hello.")
    assert raised.value.exit_code == 3


def test_an_interrupt_from_the_keyboard_silences(stub: World) -> None:
    script = f"import kokoro_common as kokoro; kokoro.speak({LONG!r})"
    process = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=-3)
    wait_for_speech()
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == -signal.SIGINT
    wait_until(all_silent)
    assert ledger()["cancelled"] == 1


# --- Text that arrives -----------------------------------------------------------------------------------------------


def test_an_iterable_is_spoken_while_it_arrives(stub: World) -> None:
    heard = threading.Event()

    def answer() -> Iterator[str]:
        yield "The first sentence. "
        yield "The sec"
        assert heard.wait(20), "the first sentence was not spoken before the second was complete"
        yield "ond sentence. "

    sounds = kokoro.synthesize(answer())
    first = next(sounds)
    heard.set()
    assert [first.text, *(sound.text for sound in sounds)] == ["The first sentence.", "The second sentence."]


def test_an_iterable_may_be_larger_than_any_buffer_and_hold_any_character(stub: World) -> None:
    parts = ["Grüße, 東京 \ud800. "] * 5_000
    with kokoro.synthesize(iter(parts)) as sounds:
        assert "Grüße, 東京" in next(sounds).text


@pytest.mark.parametrize("call", ["speak", "synthesize", "save", "start"])
def test_an_exception_of_the_iterable_is_raised_and_cancels(stub: World, call: str) -> None:
    def answer() -> Iterator[str]:
        yield LONG
        raise ConnectionResetError("the model has gone")

    with pytest.raises(ConnectionResetError, match="the model has gone"):
        if call == "speak":
            kokoro.speak(answer())
        elif call == "synthesize":
            list(kokoro.synthesize(answer()))
        elif call == "save":
            kokoro.save(answer(), "x.wav")
        else:
            kokoro.start(answer()).result(20)
    wait_until(all_silent)
    assert ledger()["cancelled"] == 1
    assert not (stub.path / "x.wav").exists()


def test_what_is_no_str_in_the_iterable_is_a_type_error(stub: World) -> None:
    parts: Any = ["Hello. ", b"bytes"]
    with pytest.raises(TypeError, match="made of str, not bytes"):
        list(kokoro.synthesize(parts))


def test_the_iterable_is_left_when_the_speech_has_ended(stub: World) -> None:
    closed = threading.Event()

    def endless() -> Iterator[str]:
        try:
            while True:
                yield "One more sentence. " * 100
        finally:
            closed.set()

    for _ in kokoro.synthesize(endless()):
        break
    assert closed.wait(20)


def test_no_descriptor_is_left(stub: World) -> None:
    kokoro.speak(["Once ", "before. "])
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(5):
        list(kokoro.synthesize(["Some ", "text. "]))
        next(kokoro.synthesize(["Some ", "text. And more. "]))
    wait_until(lambda: (len(os.listdir("/proc/self/fd")) if before else 0) <= before)


# --- start -----------------------------------------------------------------------------------------------------------


def test_start_returns_a_future_of_the_seconds(stub: World) -> None:
    speech = kokoro.start("Twenty characters ..")
    assert speech.result(20) == pytest.approx(20 * 0.05, abs=0.11)
    assert (speech.done(), speech.exception(), speech.cancel()) == (True, None, False)


def test_cancel_silences(stub: World) -> None:
    speech = kokoro.start(LONG)
    wait_for_speech()
    assert speech.cancel()
    with pytest.raises(kokoro.UtteranceCancelled):
        speech.result(10)
    wait_until(all_silent)
    assert ledger() == {"finished": 0, "cancelled": 1, "failed": 0, "in_flight": 0}


def test_cancel_at_once_lets_nothing_begin(stub: World) -> None:
    speech = kokoro.start(LONG)
    speech.cancel()
    with pytest.raises(kokoro.UtteranceCancelled):
        speech.result(20)
    wait_until(all_silent)


def test_an_asyncio_task_waits_for_the_speech(stub: World) -> None:
    async def main() -> list[float]:
        return await asyncio.gather(*(asyncio.wrap_future(kokoro.start("Hello.", voice=voice)) for voice in voices))

    voices = ["af_heart", "am_adam"]
    assert all(seconds > 0 for seconds in asyncio.run(main()))


def test_cancelling_an_asyncio_task_silences(stub: World) -> None:
    async def announce() -> None:
        await asyncio.wrap_future(kokoro.start(LONG))

    async def main() -> None:
        task = asyncio.create_task(announce())
        await asyncio.to_thread(wait_for_speech)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(wait_until, all_silent)

    asyncio.run(main())
    assert ledger() == {"finished": 0, "cancelled": 1, "failed": 0, "in_flight": 0}


def test_speak_in_a_thread_of_asyncio_is_stopped_by_stop(stub: World) -> None:
    async def main() -> None:
        task = asyncio.create_task(asyncio.to_thread(kokoro.speak, LONG))
        await asyncio.to_thread(wait_for_speech)
        await asyncio.to_thread(kokoro.stop)
        with pytest.raises(kokoro.UtteranceCancelled):
            await task

    asyncio.run(main())


def test_speech_ends_with_its_program(stub: World) -> None:
    script = (
        f"import kokoro_common as kokoro; kokoro.start({LONG!r})\n"
        "while not kokoro.status().speaking: pass\n"
    )  # fmt: skip
    done = subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == 0
    wait_until(all_silent)


# --- synthesize ------------------------------------------------------------------------------------------------------


def test_sounds_are_all_the_audio_with_times_of_the_words(stub: World) -> None:
    sounds = list(kokoro.synthesize("One two. [pause:0.5s] Three four."))
    assert [sound.text for sound in sounds] == ["One two.", "", "Three four."]
    for sound in sounds:
        assert (sound.samples.dtype, sound.samples.ndim, sound.sample_rate) == (np.float32, 1, 24_000)
        sound.samples[:] = sound.samples * 2  # they are the program's
    assert (sounds[1].samples.tolist(), sounds[1].seconds, sounds[1].words) == ([0.0] * 12_000, 0.5, ())
    first = sounds[0].words[0]
    assert sounds[0].text[first.start : first.end] == "One"
    assert sounds[0].word_times() == [("One", 0.0, 0.15), ("two", 0.2, 0.35)]


def test_samples_are_those_of_the_engine(stub: World) -> None:
    samples = np.concatenate([sound.samples for sound in kokoro.synthesize("One sentence. " * 50)])
    runs = [run for run in decode_samples(samples) if run.tag > 0]
    assert [run.first_frame for run in runs] == [0] * len(runs)
    assert [run.chunk for run in runs] == list(range(len(runs)))


def test_the_iterator_makes_the_servers_wait(stub: World) -> None:
    sounds = kokoro.synthesize(LONG)
    next(sounds)
    wait_until(lambda: len(kokoro.status().writing) == 1)
    assert not kokoro.status().speaking
    sounds.close()
    assert list(sounds) == []


@pytest.mark.parametrize("leave", ["break", "close", "with", "drop"])
def test_leaving_the_iterator_cancels(stub: World, leave: str) -> None:
    sounds = kokoro.synthesize(LONG)
    if leave == "break":
        for _ in kokoro.synthesize(LONG):
            break
    elif leave == "with":
        with pytest.raises(ZeroDivisionError), sounds:
            next(sounds)
            raise ZeroDivisionError
    else:
        next(sounds)
        if leave == "close":
            sounds.close()
        else:
            del sounds
    wait_until(all_silent)
    assert ledger() == {"finished": 0, "cancelled": 1, "failed": 0, "in_flight": 0}


def test_cancel_from_another_thread_ends_the_iteration(stub: World) -> None:
    sounds = kokoro.synthesize(LONG)
    next(sounds)
    threading.Thread(target=sounds.cancel).start()
    with pytest.raises(kokoro.UtteranceCancelled):
        list(sounds)


def test_stop_does_not_touch_it(stub: World) -> None:
    sounds = kokoro.synthesize("One sentence. " * 20)
    next(sounds)
    assert kokoro.stop() == 0
    assert len(list(sounds)) > 5


# --- save ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.wav", "x.flac", "x.ogg", "x.opus", "x.mp3", "x.m4a"])
def test_save_writes_any_format_with_captions(stub: World, name: str) -> None:
    captions = ["x.srt", stub.path / "x.vtt", "x.json"]
    seconds = kokoro.save("Hello, here is a file.", stub.path / name, captions=captions, title="A title")
    assert seconds == pytest.approx(22 * 0.05, abs=0.2)
    assert (stub.path / name).stat().st_size > 500
    if name != "x.m4a":  # which libsndfile does not read
        assert soundfile.info(name).duration == pytest.approx(seconds, abs=0.1)
    assert "Hello, here is a file." in (stub.path / "x.srt").read_text()
    assert (stub.path / "x.vtt").read_text().startswith("WEBVTT")
    assert json.loads((stub.path / "x.json").read_text())


def test_save_takes_one_path_of_captions_and_a_form(stub: World) -> None:
    kokoro.save("Hello.", "x.wav", captions="x.srt", sample_rate=48_000, bit_depth=24)
    info = soundfile.info("x.wav")
    assert (info.samplerate, info.subtype) == (48_000, "PCM_24")
    assert (stub.path / "x.srt").exists()


def test_save_gives_the_same_bytes_as_the_command(here: World) -> None:
    text = "Hello, here is a file. It has two sentences."
    kokoro.save(text, "library.flac", captions="library.srt", seed=3)
    assert here.say("-o", "command.flac", "--srt", "command.srt", "--seed", "3", text).returncode == 0
    for kind in ("flac", "srt"):
        assert (here.path / f"library.{kind}").read_bytes() == (here.path / f"command.{kind}").read_bytes()


def test_an_output_that_cannot_be_written_is_an_output_error(stub: World) -> None:
    with pytest.raises(kokoro.OutputError, match="make the folder first"):
        kokoro.save("Hello.", "nowhere/x.wav")
    with pytest.raises(kokoro.OutputError):
        kokoro.save("Hello.", "x.wav", captions="nowhere/x.srt")
    assert not [name for name in os.listdir(stub.path) if name.endswith((".wav", ".part"))]


@pytest.mark.parametrize("name", ["x.ogg", "x.flac"])
def test_an_interrupt_from_the_keyboard_leaves_the_older_file(stub: World, name: str) -> None:
    (stub.path / name).write_bytes(b"older")
    script = f"import kokoro_common as kokoro; kokoro.save({LONG!r} * 20, {name!r})"
    process = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=-3)
    wait_until(lambda: kokoro.status().writing)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == -signal.SIGINT
    assert (stub.path / name).read_bytes() == b"older"
    assert not [each for each in os.listdir(stub.path) if each.endswith(".part")]
    wait_until(all_silent)


# --- The rest --------------------------------------------------------------------------------------------------------


def test_notes_go_to_the_log(here: World, caplog: pytest.LogCaptureFixture) -> None:
    here.environment["KOKORO_ENGINE"] = "auto"
    os.environ["KOKORO_ENGINE"] = "auto"  # the fixture takes it back
    list(kokoro.synthesize("Hello."))
    assert [record.levelname for record in caplog.records if record.name == "kokoro_common"].count("WARNING") == 1
    with pytest.raises(kokoro.ModelUnavailable):
        list(kokoro.synthesize("Hello.", engine="kokoro"))
