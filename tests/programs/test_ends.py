"""However an utterance ends, it ends alone: the floor, its client's place and its server's life are given back."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import numpy as np
import psutil
import pytest

from kokoro_common.client.client import Client
from kokoro_common.client.conversation import Audio
from kokoro_common.client.text_source import TextSource
from kokoro_common.daemon import starter
from kokoro_common.daemon.runtime_directory import RuntimeDirectory
from kokoro_common.settings import resolve
from kokoro_common.text.speech import Speech
from kokoro_common.wire.messages import (
    Accepted,
    Credit,
    EndOfText,
    Failed,
    Message,
    Route,
    Speak,
    TextAccepted,
    TextPart,
)
from tests.conftest import World
from tests.helpers.stub_engine import decode_samples, tag_of

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

VOICE, OTHER = "af_heart", "am_adam"
LONG = "A sentence without an end in sight. " * 400  # 12 minutes; the recorder is 20 times faster
BREAKS = '<speak><break time="1s"/><p><break time="200ms"/></p></speak>'
Pipe = subprocess.Popen[bytes]


class Shell:
    """What a user does in one world: texts from pipes that are open, and what became of them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.client = Client(resolve({}, world.environment))
        self._open: list[Pipe] = []

    def pipe(self, *arguments: str, text: str = "") -> Pipe:
        """say.py that reads from a pipe, into which the text has been written."""
        process = self.world.popen(*arguments, stdin=subprocess.PIPE)
        self._open.append(process)
        self.write(process, text)
        return process

    def write(self, process: Pipe, text: str) -> None:
        assert process.stdin is not None
        process.stdin.write(text.encode())
        process.stdin.flush()

    def end(self, process: Pipe) -> tuple[int, str]:
        """Closes the pipe and waits. The exit code and stderr."""
        _, errors = process.communicate(timeout=60)
        return process.returncode, errors.decode()

    def wait_for(self, reached: Callable[[dict[str, str]], bool]) -> None:
        """Blocks until the states of the utterances by voice are so; asks for some 30 s at the most."""
        for _ in range(3000):
            if reached({each.voice: each.state for each in self.client.status().utterances}):
                return
            time.sleep(0.01)  # the pace of the questions
        raise AssertionError("it never came to that")

    def wait_for_seconds(self, voice: str, seconds: float) -> None:
        """Blocks until so much of the voice's utterance has been heard; asks for some 30 s at the most."""
        for _ in range(3000):
            if any(each.voice == voice and each.seconds >= seconds for each in self.client.status().utterances):
                return
            time.sleep(0.01)  # the pace of the questions
        raise AssertionError(f"{seconds} s of {voice} were never heard")

    def wait_for_requests(self, count: int) -> None:
        """Blocks until the model server knows so many utterances that have not ended."""
        for _ in range(3000):
            server = self.client.status().model_server
            if server is not None and server.ledger.in_flight == count:
                return
            time.sleep(0.01)  # the pace of the questions
        raise AssertionError(f"never {count} in flight")

    def close(self) -> None:
        for process in self._open:
            process.kill()
            process.communicate()


@pytest.fixture
def shell(stub_world: World) -> Iterator[Shell]:
    shell = Shell(stub_world)
    yield shell
    shell.close()


# --- An interrupt that never says a word -----------------------------------------------------------------------------


def ends_in_breaks(shell: Shell) -> None:
    assert shell.world.say("-i", BREAKS).returncode == 0


def ends_in_breaks_after_an_overlap(shell: Shell) -> None:
    over = shell.world.popen("--overlap", LONG)
    shell.wait_for(lambda states: states == {VOICE: "speaking"})
    assert shell.world.say("-i", "-v", OTHER, BREAKS).returncode == 0
    assert shell.end(over)[0] == 7


def ends_without_a_word_after_a_skip(shell: Shell) -> None:
    before = shell.world.popen(LONG)
    shell.wait_for(lambda states: states == {VOICE: "speaking"})
    silent = shell.pipe("-i")
    assert shell.end(before)[0] == 7
    assert shell.world.say("--skip").returncode == 0
    assert shell.end(silent)[0] in (0, 7)


def holds_emoji_alone(shell: Shell) -> None:
    assert shell.world.say("-i", "--emoji", "drop", "\U0001f389 \U0001f389").returncode == 0


def holds_code_alone(shell: Shell) -> None:
    assert shell.world.say("-i", stdin=b"```sh\nrm -r build\n```\n").returncode == 0


def is_ssml_of_nothing(shell: Shell) -> None:
    assert shell.world.say("-i", "-v", OTHER, "<speak> <p></p> <!-- nothing --> </speak>").returncode == 0


def is_an_empty_line_at_a_time(shell: Shell) -> None:
    silent = shell.pipe("-i", "-v", OTHER, text="\n \n")
    shell.wait_for_requests(1)
    shell.write(silent, "---\n")
    assert shell.end(silent)[0] == 0


def is_cancelled_before_its_first_word(shell: Shell) -> None:
    silent = shell.pipe("-i")
    shell.wait_for_requests(1)
    silent.send_signal(signal.SIGINT)
    assert shell.end(silent)[0] in (130, -signal.SIGINT)


def is_killed_before_its_first_word(shell: Shell) -> None:
    silent = shell.pipe("-i", text="***  ")
    shell.wait_for_requests(1)
    silent.kill()
    silent.communicate()


def is_interrupted_by_another_that_says_nothing_either(shell: Shell) -> None:
    first = shell.pipe("-i")
    shell.wait_for_requests(1)
    second = shell.pipe("-i", "-v", OTHER)
    assert first.wait(60) == 7
    assert shell.end(second)[0] == 0


def is_stopped_before_its_first_word(shell: Shell) -> None:
    silent = shell.pipe("-i", text="[pause:1s]")
    shell.wait_for_requests(1)
    shell.world.say("--stop")
    assert shell.end(silent)[0] == 7


def turns_out_to_be_no_ssml(shell: Shell) -> None:
    assert shell.world.say("-i", "--ssml", '<speak><break time="1s"/><p></speak>').returncode != 0


@pytest.mark.parametrize(
    "interrupt",
    [
        ends_in_breaks,
        ends_in_breaks_after_an_overlap,
        ends_without_a_word_after_a_skip,
        holds_emoji_alone,
        holds_code_alone,
        is_ssml_of_nothing,
        is_an_empty_line_at_a_time,
        is_cancelled_before_its_first_word,
        is_killed_before_its_first_word,
        is_interrupted_by_another_that_says_nothing_either,
        is_stopped_before_its_first_word,
        turns_out_to_be_no_ssml,
    ],
    ids=lambda case: case.__name__,
)
def test_the_floor_is_free_after_an_interrupt_that(shell: Shell, interrupt: Callable[[Shell], None]) -> None:
    assert shell.world.say("Good morning.").returncode == 0
    interrupt(shell)
    for arguments in (["-v", OTHER], [], ["-i", "-v", "bf_emma"]):
        done = shell.world.say(*arguments, "Is anybody there?", timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
    ledger = shell.world.status()["model_server"]["ledger"]
    assert ledger["in_flight"] == 0
    assert ledger["accepted"] == ledger["finished"] + ledger["cancelled"] + ledger["failed"]


# --- A fault that shows late -----------------------------------------------------------------------------------------


def test_ssml_that_turns_out_to_be_none_while_its_writer_rests_ends_that_utterance_alone(shell: Shell) -> None:
    """Nothing has arrived when it is found: the server cuts the half sentence because the writer has paused."""
    bystander = shell.pipe("-o", "whole.wav", text="The first of two sentences. ")
    shell.wait_for(lambda states: states == {VOICE: "writing"})
    pids = sorted(each.pid for each in shell.world.servers())
    for text in ("<speak>Half a sentence <emph", "<speak>Two <p>halves of </q> a sentence", "<speak>&#xD800; one two"):
        faulty = shell.pipe("--ssml", text=text)
        time.sleep(1.5)  # longer than a server waits for the rest of a word
        code, errors = shell.end(faulty)
        assert code in (0, 2) and errors.count("\n") <= 1, (text, code, errors)
    shell.write(bystander, "And the second.")
    assert shell.end(bystander) == (0, "")
    assert sorted(each.pid for each in shell.world.servers()) == pids
    assert shell.world.say("Here we are.").returncode == 0


def test_a_fault_in_what_a_render_has_behind_it_is_named_again_and_again(shell: Shell) -> None:
    """Going on, the server passes over what the journal has: the fault is then found by the clock, not by a message."""
    bystander = shell.pipe("-o", "whole.wav", text="The first of two sentences. ")
    shell.wait_for(lambda states: states == {VOICE: "writing"})
    pids = sorted(each.pid for each in shell.world.servers())
    said = set()
    for fault in ("</q>", "<p", '<break time="1s'):
        document = shell.world.path / "document.txt"
        text = "".join(f"<p>Number {number} is spoken here, and then the next.</p>" for number in range(300))
        document.write_text(f"<speak>{text}{fault} Behind it.</speak>")
        for _ in range(3):
            done = shell.world.say("-o", "book.wav", "-f", str(document))
            said.add(done.returncode)
            assert done.returncode in (0, 2) and "server" not in done.stderr, done.stderr
    assert said - {0}, "no fault was found"
    shell.write(bystander, "And the second.")
    assert shell.end(bystander) == (0, "")
    assert sorted(each.pid for each in shell.world.servers()) == pids


# --- A client that can give no credit --------------------------------------------------------------------------------


def connected(world: World) -> starter.Connection:
    connection = starter.connect(RuntimeDirectory(str(world.runtime)), f"voice-{VOICE}")
    assert connection is not None
    return connection


def until(connection: starter.Connection, *kinds: type[Message]) -> Message:
    while not isinstance(message := connection.receive(30)[0], kinds):
        pass
    return message


@pytest.mark.parametrize("route", [Route(sink="client", wait=False), Route(sink="client", wait=False, explain=True)])
def test_audio_that_nobody_can_take_is_refused_whoever_sends_the_message(shell: Shell, route: Route) -> None:
    assert shell.world.say("-o", "short.wav", "Hello.").returncode == 0
    for number in range(20):
        connection = connected(shell.world)
        utterance = f"{number:032x}"
        connection.send(Speak(utterance=utterance, speech=Speech(engine="espeak", lang="a"), route=route))
        refused = until(connection, Failed, Accepted)
        assert isinstance(refused, Failed) and refused.code == 2 and "waited for" in refused.text
        connection.close()
    ledger = shell.world.status()["model_server"]["ledger"]
    assert (ledger["in_flight"], ledger["finished"]) == (0, 1)


@pytest.mark.parametrize("route", [Route(sink="client"), Route(sink="client", words=True), Route(wait=False)])
def test_a_client_that_leaves_after_its_text_gives_its_place_back(shell: Shell, route: Route) -> None:
    """For the client: without credit for what is longer than the server would keep. Aloud: it is spoken to its end."""
    assert shell.world.say("-o", "short.wav", "Hello.").returncode == 0
    text = LONG if route.wait else "Spoken to its end."
    for number in range(10):
        connection = connected(shell.world)
        utterance = f"{number:032x}"
        connection.send(Speak(utterance=utterance, speech=Speech(engine="espeak", lang="a"), route=route))
        until(connection, Accepted)
        connection.send(TextPart(utterance=utterance, text=text))
        if route.wait:
            connection.send(Credit(utterance=utterance, bytes=4))
        connection.send(EndOfText(utterance=utterance))
        until(connection, TextAccepted)
        connection.close()
    shell.wait_for_requests(0)
    ledger = shell.world.status()["model_server"]["ledger"]
    outcome = "cancelled" if route.wait else "finished"
    assert (ledger[outcome], ledger["failed"]) == (10 + (not route.wait), 0)


# --- A pipe that rests -----------------------------------------------------------------------------------------------


def test_a_log_that_is_followed_gives_the_speakers_to_others_between_its_lines(shell: Shell) -> None:
    """And asks for them again: no line is lost, and none is cut by what another voice says."""
    world = shell.world
    log = world.path / "log"
    log.write_text("The service has started.\n")
    tail = subprocess.Popen(["tail", "-n", "+1", "-f", str(log)], stdout=subprocess.PIPE)
    assert tail.stdout is not None
    follower = world.popen(stdin=tail.stdout)
    tail.stdout.close()
    shell.wait_for(lambda states: states == {VOICE: "speaking"})
    resting = shell.pipe("-v", "bf_emma", text="A second one that rests. ")
    for number, arguments in enumerate((["-v", OTHER], [], ["-v", "bm_george"])):
        done = world.say(*arguments, f"Number {number} is spoken.", timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
        with log.open("a") as file:
            file.write(f"Line {number} of the log.\n")
    assert (follower.poll(), resting.poll()) == (None, None)
    shell.wait_for_seconds(VOICE, 0.05 * len(log.read_text()) - 0.3)  # without the ends of the lines
    tail.terminate()
    tail.wait()
    assert follower.wait(60) == 0
    follower.communicate()
    shell.write(resting, "It ends.")
    assert shell.end(resting) == (0, "")
    speeches = [entry["utterance"] for entry in world.log("voice_server-af_heart") if entry["event"] == "speak"]
    assert world.say("--shutdown", "-q").returncode == 0
    runs = [run for run in decode_samples(np.load(world.path / f"heard-{VOICE}.npy")) if run.chunk >= 0]
    chunks = [(run.chunk, run.first_frame) for run in runs if run.tag == tag_of(str(speeches[0]))]
    assert chunks == [(number, 0) for number in range(len(chunks))] and len(chunks) >= 4


# --- A consumer that blocks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [1_000, 500_000])
def test_a_program_at_the_end_of_a_pipe_may_stop_reading_for_as_long_as_it_likes(world: World, at: int) -> None:
    """A second is the longest that the server lets one write wait here; the rest is more than any buffer holds."""
    world.environment |= {"STUB_WRITE_SECONDS": "1", "KOKORO_IDLE_TIMEOUT": "1"}
    world.start_stub_server()
    text = "A sentence of fifty characters, as long as others. " * 60  # 2.5 minutes, 15 MB on the wire
    process = world.popen("-o", "-", text, bufsize=0)
    assert process.stdout is not None
    begin = b""
    while len(begin) < at:
        begin += process.stdout.read(at - len(begin))
    (server,) = [each for each in world.servers() if "voice_server" in " ".join(each.cmdline())]
    time.sleep(4)  # the rest of a consumer that blocks
    rest, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, b"")
    assert psutil.pid_exists(server.pid)
    runs = decode_samples(np.frombuffer((begin + rest)[44:], "<i2"))
    assert [run.chunk for run in runs] == list(range(len(runs)))
    assert {run.tag for run in runs} == {runs[0].tag} and sum(run.frames for run in runs) > 24_000 * 120


def test_a_listener_that_blocks_in_one_event_loses_nothing_and_delays_nobody(world: World) -> None:
    world.environment["STUB_WRITE_SECONDS"] = "1"
    world.start_stub_server()
    client = Client(resolve({}, world.environment))
    text = "A sentence of fifty characters, as long as others. " * 60
    heard = bytearray()
    for event in client.speak(TextSource(text), Speech(engine="espeak"), Route(sink="client", words=True)):
        if not heard:
            done = world.say("-o", "other.wav", "Another one is served.")  # while this one takes no event
            assert (done.returncode, done.stderr) == (0, "")
            time.sleep(2.5)
        if isinstance(event, Audio):
            heard += event.pcm
            if len(heard) < 1_000_000:
                time.sleep(0.3)  # slower than the engine, all along
    runs = decode_samples(np.frombuffer(heard, "<f4"))
    assert [run.chunk for run in runs] == list(range(len(runs)))
    assert 4 * sum(run.frames for run in runs) == len(heard)


def test_a_consumer_that_goes_away_ends_its_speech_and_nothing_else(shell: Shell) -> None:
    reading, writing = os.pipe()
    process = shell.world.popen("-o", "-", LONG, stdout=writing)
    os.close(writing)
    os.read(reading, 100)
    os.close(reading)
    assert process.wait(60) != 0
    errors = process.communicate()[1].decode()
    assert errors.count("\n") <= 1 and "Traceback" not in errors, errors
    shell.wait_for_requests(0)
    assert shell.world.say("Here we are.").returncode == 0
