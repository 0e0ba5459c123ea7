"""say.py by transcripts, with the embedded default voice: command, expected lines, exit code."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

import numpy as np
import pytest
import soundfile

from tests.conftest import World

pytestmark = pytest.mark.e2e


def pcm(path: Path) -> np.ndarray:
    samples, rate = soundfile.read(path, dtype="int16")
    assert rate == 24_000
    return samples


def test_version_and_help_fit_a_screen(world: World) -> None:
    assert re.fullmatch(r"kokoro-say \d+\.\d+\.\d+\n", world.say("--version").stdout)
    text = world.say("--help").stdout
    assert len(text.splitlines()) <= 50
    assert max(map(len, text.splitlines())) <= 80
    everything = world.say("--help", "all", COLUMNS="50").stdout
    assert max(map(len, everything.splitlines())) <= 50
    assert "--overlap" in everything and "--overlap" not in text


@pytest.mark.parametrize("arguments", [["-v", "?"], ["--list-voices"]])
def test_voices_are_listed(world: World, arguments: list[str]) -> None:
    done = world.say(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(re.findall(r"^[a-z]{2}_[a-z]+ ", done.stdout, re.MULTILINE)) == 54


def test_status_and_shutdown_without_servers(world: World) -> None:
    assert json.loads(world.say("--status", "--json").stdout) == {"model_server": None, "voice_servers": []}
    told = world.say("--status").stdout
    assert told.startswith("no servers are running; they start with the first ") and told.endswith("say.py\n")
    done = world.say("--shutdown")
    assert (done.returncode, done.stderr) == (0, "say.py: no servers are running\n")


def test_text_becomes_a_file_and_the_same_text_the_same_file(world: World) -> None:
    for name in ("one.wav", "two.wav"):
        done = world.say("-o", name, "Hello there. This is the second sentence.")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(pcm(world.path / "one.wav")) > 24_000
    assert (world.path / "one.wav").read_bytes() == (world.path / "two.wav").read_bytes()
    report = json.loads(world.say("--status", "--json").stdout)
    assert report["model_server"]["ledger"] == {
        "accepted": 2, "finished": 2, "cancelled": 0, "failed": 0, "in_flight": 0
    }  # fmt: skip
    assert [voice["voice"] for voice in report["voice_servers"]] == ["af_heart"]
    assert "2 finished" in world.say("--status").stdout


def test_stdin_and_file_and_argument_say_the_same(world: World) -> None:
    text = "First sentence. Second one, with a clause."
    (world.path / "text.txt").write_text(text)
    world.say("-o", "argument.wav", *text.split(" "))
    world.say("-o", "stdin.wav", stdin=text.encode())
    world.say("-o", "file.wav", "-f", "text.txt")
    world.say("-o", "dash.wav", "-f", "-", stdin=text.encode())
    expected = pcm(world.path / "argument.wav")
    for name in ("stdin", "file", "dash"):
        assert np.array_equal(pcm(world.path / f"{name}.wav"), expected)


def test_wav_to_stdout(world: World) -> None:
    world.say("-o", "file.wav", "hello")
    done = world.popen("-o", "-", "hello")
    out, _ = done.communicate(timeout=60)
    assert done.returncode == 0
    samples, _ = soundfile.read(io.BytesIO(out), dtype="int16")
    assert np.array_equal(samples, pcm(world.path / "file.wav"))


@pytest.mark.parametrize("extension", ["flac", "ogg", "opus", "mp3", "raw"])
def test_every_format_is_written(world: World, extension: str) -> None:
    done = world.say("-o", f"out.{extension}", "hello")
    assert (done.returncode, done.stderr) == (0, "")
    path = world.path / f"out.{extension}"
    if extension == "raw":
        assert np.abs(np.frombuffer(path.read_bytes(), "<i2")).max() > 1000
    else:
        assert np.abs(soundfile.read(path)[0]).max() > 0.03


def test_speed_and_voice_change_the_speech(world: World) -> None:
    world.say("-o", "slow.wav", "-s", "0.5", "one two three four five six")
    world.say("-o", "fast.wav", "-s", "2", "one two three four five six")
    world.say("-o", "man.wav", "-v", "am_adam", "-s", "2", "one two three four five six")
    assert len(pcm(world.path / "slow.wav")) > 2 * len(pcm(world.path / "fast.wav"))
    assert not np.array_equal(pcm(world.path / "man.wav"), pcm(world.path / "fast.wav"))


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["-v", "af_hart", "x"], 5, r"unknown voice 'af_hart'; did you mean .*af_heart.*\?"),
        (["-v", "../../x.pt", "x"], 5, r"unknown voice '../../x.pt'; .*"),
        (["-v", "", "x"], 5, r"unknown voice ''; .*"),
        (["-v", "https://example.org/x", "x"], 5, r"unknown voice .*"),
        (["-s", "9", "x"], 2, r"--speed is '9'; choose 0.25 to 4"),
        (["-s", "nan", "x"], 2, r"--speed is 'nan'; .*"),
        (["-s", "fast", "x"], 2, r"--speed is 'fast'; .*"),
        (["-f", "missing.txt"], 2, r"cannot read missing.txt: No such file or directory; .*"),
        (["-f", "missing.txt", "text"], 2, r"both TEXT and -f were given; .*"),
        (["-o", "out.xyz", "x"], 2, r".*xyz.*wav.*"),
        (["-o", "nowhere/out.wav", "x"], 8, r".*nowhere.*"),
        (["-o", "out.wav", "-n", "x"], 2, r"--no-wait does not go with -o; .*"),
        (["--lang", "klingon", "x"], 2, r"unknown language 'klingon'; choose one of .*"),
        (["--engine", "piper", "x"], 2, r"--engine is 'piper'; choose one of auto, kokoro, espeak"),
        (["--seed", "x", "x"], 2, r"--seed is 'x'; give a whole number"),
        (["--what"], 2, r"unknown option --what; see .*say.py --help; a text goes after --"),
        (["--device", "cuda", "-o", "x.wav", "x"], 4, r".*NVIDIA.*--device.*"),
        (["--engine", "kokoro", "-o", "x.wav", "x"], 4, r".*KOKORO_OFFLINE.*"),
    ],
    ids=str,
)
def test_bad_input_is_one_line_with_its_exit_code(world: World, arguments: list[str], code: int, line: str) -> None:
    done = world.say(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert re.fullmatch(f"say.py: {line}\n", done.stderr), done.stderr
    assert [path.name for path in world.path.glob("*.wav")] == []


@pytest.mark.parametrize("text", ["", "   \n ", "!?... --- ~~~"])
def test_nothing_to_speak_is_said_and_no_error(world: World, text: str) -> None:
    for arguments, stdin in ((["-o", "x.wav", text], b""), (["-o", "x.wav"], text.encode())):
        done = world.say(*arguments, stdin=stdin)
        assert done.returncode == 0
        assert re.fullmatch("say.py: nothing to speak.*\n", done.stderr)
    assert not (world.path / "x.wav").exists()


@pytest.mark.parametrize(
    "data",
    [b"a" * 5_000, b"7" * 500, b"before\0after", "one \ud800 two".encode("utf-8", "surrogatepass")],
    ids=["5,000 letters", "500 digits", "NUL", "surrogate"],
)
def test_odd_text_is_spoken(world: World, data: bytes) -> None:
    done = world.say("-s", "4", "-o", "x.raw", stdin=data, timeout=100)
    assert done.returncode == 0, done.stderr
    assert (world.path / "x.raw").stat().st_size > 1000


def test_undecodable_bytes_are_replaced_and_said_so(world: World) -> None:
    for done in (
        world.say("-o", "x.wav", stdin=b"caf\xe9 au lait"),
        world.say("-o", "x.wav", os.fsdecode(b"caf\xe9 au lait")),
    ):
        assert done.returncode == 0
        assert "not all UTF-8" in done.stderr


def test_no_audio_device_is_exit_3(world: World) -> None:
    done = world.say("hello")
    assert done.returncode == 3
    assert re.fullmatch("say.py: .*-o out.wav\n", done.stderr)
    assert world.say("-o", "x.wav", "hello").returncode == 0  # and files go on


def test_a_taken_port_is_stepped_over(world: World) -> None:
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as foreign:
        foreign.settimeout(60)
        port = foreign.getsockname()[1]

        def listen() -> None:
            try:
                while True:
                    connection, _ = foreign.accept()
                    heard.append(connection.recv(9999))
                    connection.close()
            except OSError:
                pass

        thread = threading.Thread(target=listen)
        thread.start()
        world.environment["KOKORO_PORT"] = str(port)
        assert world.say("-o", "x.wav", "secret text").returncode == 0
        report = json.loads(world.say("--status", "--json").stdout)
        assert report["model_server"]["port"] > port
        foreign.shutdown(socket.SHUT_RDWR)
        thread.join(10)
    assert b"secret" not in b"".join(heard)


def test_interrupt_during_a_file_leaves_no_file_and_cancels(world: World) -> None:
    world.say("-o", "warm.wav", "warm")
    reading, writing = os.pipe()
    process = world.popen("-o", "x.wav", stdin=reading)
    os.close(reading)
    os.write(writing, b"One sentence is here. ")
    wait_for_event(world, "speak", 2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (-signal.SIGINT, b"")
    os.close(writing)
    wait_for_event(world, "cancelled", 1)
    assert sorted(path.name for path in world.path.glob("*x.wav*")) == []


def wait_for_event(world: World, event: str, count: int) -> None:
    """The logs are the servers' only outlet that tells what they have seen; a second is their worst delay."""
    deadline = threading.Event()
    for _ in range(200):
        if sum(entry["event"] == event for entry in world.log()) >= count:
            return
        deadline.wait(0.05)
    raise AssertionError(f"{event} was not logged {count} times")


def test_text_in_a_pipe_is_spoken_while_it_arrives(world: World) -> None:
    world.say("-o", "warm.wav", "warm")
    reading, writing = os.pipe()
    process = world.popen("-o", "-", stdin=reading)
    os.close(reading)
    os.write(writing, b"The first sentence is complete. The second is")
    assert process.stdout is not None
    first = process.stdout.read(20_000)  # while the pipe is still open
    os.write(writing, b" complete as well.")
    os.close(writing)
    rest = process.stdout.read()
    process.communicate(timeout=20)
    assert process.returncode == 0
    world.say("-o", "whole.wav", "The first sentence is complete. The second is complete as well.")
    assert np.array_equal(np.frombuffer((first + rest)[44:], "<i2"), pcm(world.path / "whole.wav"))


def test_later_requests_go_straight_to_the_voice_server(world: World) -> None:
    def callers(component: str) -> int:
        return sum(entry["event"] == "connection" and entry["role"] == "client" for entry in world.log(component))

    world.say("-o", "x.wav", "one")
    model_calls, voice_calls = callers("model_server"), callers("voice_server-af_heart")
    world.say("-o", "x.wav", "two")
    assert callers("model_server") == model_calls
    assert callers("voice_server-af_heart") == voice_calls + 1


def test_spoken_text_is_not_logged_unless_debug_says_so(world: World) -> None:
    world.say("-o", "x.wav", "canary one")
    assert "canary" not in json.dumps(world.log())
    debugged = world.say("-o", "x.wav", "--debug", "canary two")
    utterance = debugged.stderr.split()[2].rstrip(":")
    assert debugged.stderr == f"say.py: utterance {utterance}: grep {utterance} {world.cache}/logs/kokoro.log\n"
    assert {"speak", "text", "finished"} <= {
        entry["event"] for entry in world.log() if entry.get("utterance") == utterance
    }
    assert "canary two" in json.dumps(world.log())
    assert "canary one" not in json.dumps(world.log())


def test_files_are_owner_only_whatever_the_umask(world: World) -> None:
    previous = os.umask(0)
    try:
        assert world.say("-o", "x.wav", "hello").returncode == 0
    finally:
        os.umask(previous)
    for path in [*world.runtime.rglob("*"), world.runtime, *(world.cache / "logs").rglob("*"), world.cache / "logs"]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_ctrl_c_ends_an_mp3_too_and_leaves_none(world: World) -> None:
    world.say("-o", "warm.mp3", "warm")
    text = b"A sentence that is written to a file, and another one. " * 20_000
    for _ in range(4):
        process = world.popen("-q", "-o", "x.mp3", stdin=subprocess.PIPE)
        assert process.stdin is not None
        feeder = threading.Thread(target=feed, args=(process.stdin, text))
        feeder.start()
        wait_for_part(world)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == -signal.SIGINT
        feeder.join()
        assert process.stdout is not None and process.stderr is not None
        assert process.stderr.read() == b""
        process.stdout.close()
        process.stderr.close()
    assert [path.name for path in world.path.iterdir() if "x.mp3" in path.name or ".part" in path.name] == []


def feed(pipe: IO[bytes], text: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):
        pipe.write(text)
    with contextlib.suppress(BrokenPipeError):  # closing flushes once more
        pipe.close()


def wait_for_part(world: World) -> None:
    """Returns when a file is being written: some hundred kilobytes are there."""
    deadline = threading.Event()
    for _ in range(400):
        if any(path.stat().st_size > 100_000 for path in world.path.glob(".kokoro-*")):
            return
        deadline.wait(0.02)
    raise AssertionError("nothing was written")


def test_volume_counts_for_files_too(world: World) -> None:
    for volume in ("1", "0.5", "0"):
        assert world.say("--volume", volume, "-o", f"{volume}.wav", "hello").returncode == 0
    full, half, none = (pcm(world.path / f"{volume}.wav").astype(int) for volume in ("1", "0.5", "0"))
    assert np.abs(full - 2 * half).max() <= 2
    assert not none.any()


def test_a_private_file_stays_private(world: World) -> None:
    (world.path / "x.wav").touch(0o600)
    world.say("-o", "x.wav", "hello")
    assert (world.path / "x.wav").stat().st_mode & 0o777 == 0o600


def test_without_a_home_directory_none_is_made_up(world: World) -> None:
    for name in ("HOME", "KOKORO_CACHE_DIR"):
        world.environment.pop(name)
    code = "import os, sys, say; os.path.expanduser = str; sys.exit(say.main(['-o', 'x.wav', 'x']))"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent.parent, env=world.environment,
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "set HOME" in done.stderr
    world.environment |= {"HOME": str(world.path / "home"), "KOKORO_CACHE_DIR": str(world.cache)}


@pytest.mark.parametrize(
    ("text", "same_as", "note"),
    [
        ("Go to Москва now.", "Go to now.", "words in Cyrillic letters are left out: no voice reads them"),
        ("Go 漢字を now.", "Go を now.", "kanji are left out: only the neural voices read them, with the extra ja"),
    ],
)
def test_words_that_the_embedded_voice_cannot_read_are_left_out_and_told_once(
    world: World, text: str, same_as: str, note: str
) -> None:
    """Not spelled, and no "Chinese letter" for each."""
    done = world.say("-o", "x.wav", f"{text} " * 5)
    assert (done.returncode, done.stderr) == (0, f"say.py: {note}\n")
    world.say("-o", "y.wav", f"{same_as} " * 5)
    assert abs(len(pcm(world.path / "x.wav")) - len(pcm(world.path / "y.wav"))) < 5 * 2_400  # a blank is a moment


def test_other_scripts_are_spoken_in_their_own_language(world: World) -> None:
    for number, (text, lang) in enumerate({"你好，世界": "zh", "こんにちは": "ja", "नमस्ते": "hi"}.items()):
        assert world.say("-o", f"{number}.wav", text).returncode == 0
        assert world.say("--lang", lang, "-o", f"{number}-own.wav", text).returncode == 0
        assert np.array_equal(pcm(world.path / f"{number}.wav"), pcm(world.path / f"{number}-own.wav"))
