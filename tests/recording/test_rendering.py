"""Texts rendered into files: whatever interrupts it, the same bytes come out; one line says what is wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile
import srt

from kokoro_common.client.conversation import Audio
from kokoro_common.documents.document import Chapter, Document
from kokoro_common.errors import OutputError, ServersUnreachable, UsageError
from kokoro_common.recording.formats import Form
from kokoro_common.recording.recording import Plan, Recording
from kokoro_common.recording.rendering import WORTH_KEEPING, Rendering
from kokoro_common.sound.samples import SAMPLE_RATE
from kokoro_common.text.speech import Speech, TimedWord
from kokoro_common.wire.messages import Accepted, ChunkSpoken, Finished, Started
from tests.conftest import World
from tests.helpers.kokoro_world import connect_to_hub, hub_of
from tests.helpers.players import ffmpeg, loudness, probe
from tests.helpers.small_disk import small_disk
from tests.helpers.toy_kokoro import ToyKokoro

if TYPE_CHECKING:
    from kokoro_common.client.conversation import Event

SENTENCES = [f"This is sentence number {number}." for number in range(6)]
TEXT = " ".join(SENTENCES)
BORDERS = [0, TEXT.index(SENTENCES[2]), TEXT.index(SENTENCES[5])]
BOOK = Document(
    text=TEXT,
    title="A Book",
    author="An Author",
    chapters=tuple(
        Chapter(title=f"Part {number}", start=start, end=end)
        for number, (start, end) in enumerate(zip(BORDERS, [*BORDERS[1:], len(TEXT)], strict=True))
    ),
)
FRAMES = 30_000  # of each sentence


def spoken(number: int) -> tuple[bytes, ChunkSpoken]:
    noise = np.random.default_rng(number).normal(0, 0.2, FRAMES + 7)
    samples = np.convolve(noise, np.ones(8) / 8, "valid").astype("<f4")  # as low as a voice: all formats keep it
    text, start = SENTENCES[number], TEXT.index(SENTENCES[number])
    places = tuple(start + at for at in range(len(text)))
    found = re.finditer(r"\w+", text)
    words = tuple(
        TimedWord(start=word.start(), end=word.end(), first_frame=at * 5_000, last_frame=at * 5_000 + 4_000)
        for at, word in enumerate(found)
    )
    chunk = ChunkSpoken(
        utterance="0" * 32, index=number, text=text, start=start, places=places, words=words, frames=FRAMES
    )
    return samples.tobytes(), chunk


def audio(pcm: bytes) -> Audio:
    return Audio(pcm=pcm, index=0, words=())


def events(numbers: range) -> Iterator[Event]:
    for number in numbers:
        pcm, chunk = spoken(number)
        yield audio(pcm[:50_000])
        yield audio(pcm[50_000:])
        yield chunk
    yield Finished(utterance="", seconds=1.0, timing={})


def speak(output: Rendering | Recording, numbers: range) -> None:
    for event in events(numbers):
        output.take(event)


def render(rendering: Rendering, speak: Callable[[int, str], Iterator[Event]]) -> None:
    for event in rendering.events(lambda first, engine: closing(speak(first, engine))):  # type: ignore[arg-type, return-value]
        rendering.take(event)


def plan(folder: Path, name: str = "book.m4b", **fields: object) -> Plan:
    return Plan(output=str(folder / name), **{"form": Form(), "resumable": True, **fields})  # type: ignore[arg-type]


def rendered(wanted: Plan, document: Document = BOOK) -> None:
    rendering = Rendering(wanted, document, Speech())
    render(rendering, lambda first, _: events(range(first, 6)))
    rendering.finish(lambda _: None)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """However short it is."""
    monkeypatch.setattr("kokoro_common.recording.rendering.WORTH_KEEPING", 0.0)


def test_one_file_has_all_chapters_tags_and_captions(tmp_path: Path) -> None:
    captions = (("srt", str(tmp_path / "book.srt")), ("words", str(tmp_path / "book.json")))
    rendered(plan(tmp_path, captions=captions))
    assert sorted(os.listdir(tmp_path)) == ["book.json", "book.m4b", "book.srt"]
    seen = probe(tmp_path / "book.m4b")
    tags = seen["format"]["tags"]
    assert (tags["title"], tags["artist"], tags["album"]) == ("A Book", "An Author", "A Book")
    starts = [(float(each["start_time"]), each["tags"]["title"]) for each in seen["chapters"]]
    assert starts == [(0.0, "Part 0"), (2.5, "Part 1"), (6.25, "Part 2")]
    assert float(seen["streams"][0]["duration"]) == 7.5
    words = json.loads((tmp_path / "book.json").read_text())
    assert " ".join(word["word"] for word in words["words"]) == TEXT
    assert [TEXT[word["source_start"] : word["source_end"]] for word in words["words"]] == TEXT.split()
    assert words["words"][-1]["end"] == words["duration"] == 7.5
    assert [cue.content for cue in srt.parse((tmp_path / "book.srt").read_text())] == SENTENCES


def test_a_file_for_each_chapter_has_its_own_captions(tmp_path: Path) -> None:
    captions = (("srt", str(tmp_path / "subs.srt")), ("words", str(tmp_path / "w.json")))
    rendered(plan(tmp_path, "book.mp3", split=True, captions=captions), BOOK.replace(extracted=True))
    names = [f"book-0{n}.mp3" for n in (1, 2, 3)] + [f"subs-0{n}.srt" for n in (1, 2, 3)]
    assert sorted(os.listdir(tmp_path)) == [*names, *(f"w-0{n}.json" for n in (1, 2, 3))]
    tags = probe(tmp_path / "book-02.mp3")["format"]["tags"]
    assert tags == tags | {"title": "Part 1", "album": "A Book", "artist": "An Author", "track": "2"}
    cues = list(srt.parse((tmp_path / "subs-02.srt").read_text()))
    assert [cue.content for cue in cues] == SENTENCES[2:5]
    assert (cues[0].start.total_seconds(), cues[-1].end.total_seconds()) == (0.0, 3.75)
    words = json.loads((tmp_path / "w-02.json").read_text())
    assert words["source"] == TEXT[BORDERS[1] : BORDERS[2]]
    assert [words["source"][word["source_start"] : word["source_end"]] for word in words["words"]] == words[
        "source"
    ].split()


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("stop", range(7))
def test_what_was_interrupted_goes_on_and_comes_out_the_same(
    stop: int, split: bool, tmp_path: Path, kept: None
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir(), parts.mkdir()
    rendered(plan(whole, "book.flac", split=split))
    rendering = Rendering(plan(parts, "book.flac", split=split), BOOK, Speech())
    rendering.take(Started(utterance="", engine="espeak"))
    speak(rendering, range(stop))
    rendering.take(audio(b"\0" * 40))  # of the next one
    assert rendering.abandon()
    again = Rendering(plan(parts, "book.flac", split=split), BOOK, Speech())
    assert (again.count, again.engine) == (stop, "espeak" if stop else "")
    assert (again.fraction == 0.0) == (stop == 0)
    render(again, lambda first, _: events(range(first, 6)))
    again.finish(lambda _: None)
    for path in whole.iterdir():
        assert (parts / path.name).read_bytes() == path.read_bytes()
    assert sorted(os.listdir(parts)) == sorted(os.listdir(whole))


def test_another_voice_is_told_of_what_is_kept(tmp_path: Path, kept: None, monkeypatch: pytest.MonkeyPatch) -> None:
    rendering = Rendering(plan(tmp_path), BOOK, Speech())
    speak(rendering, range(4))
    rendering.abandon()
    monkeypatch.setattr("kokoro_common.recording.journal.WORTH_KEEPING", 1.0)
    with pytest.raises(UsageError, match="go on with the same text and options, or begin anew: rm -r"):
        Rendering(plan(tmp_path), BOOK, Speech(speed=2.0))
    shutil.rmtree(rendering.folder)
    rendered(plan(tmp_path))


@pytest.mark.parametrize("change", ["loudness", "title", "removed", "captions", "replaced"])
def test_a_chapter_that_is_not_what_it_should_be_is_encoded_again(change: str, tmp_path: Path, kept: None) -> None:
    captions = (("srt", str(tmp_path / "b.srt")),)
    wanted = plan(tmp_path, "b.wav", split=True, captions=captions)
    rendered(wanted)
    whole = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for path in tmp_path.iterdir():
        path.unlink()

    def interrupted(other: Plan) -> None:
        rendering = Rendering(other, BOOK, Speech())
        render(rendering, lambda first, _: events(range(first, 6)))
        rendering._jobs.put(None)
        rendering._encoder.join()  # two chapters are there
        assert rendering.abandon()

    interrupted(wanted)
    before = (tmp_path / "b-01.wav").stat()
    interrupted(wanted)
    assert (tmp_path / "b-01.wav").stat() == before  # what is done stays
    if change == "loudness":
        interrupted(wanted.replace(loudness=-30.0))
    elif change == "title":
        interrupted(wanted.replace(title="Another"))
    elif change == "replaced":
        (tmp_path / "b-01.wav").write_bytes(b"x")
    else:
        (tmp_path / ("b-01.wav" if change == "removed" else "b-02.srt")).unlink()
    rendered(wanted)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == whole


def test_captions_may_go_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "subs").mkdir()
    captions = (("srt", str(tmp_path / "subs" / "b.srt")), ("vtt", os.devnull))
    rendered(plan(tmp_path, "b.wav", split=True, captions=captions))
    assert sorted(os.listdir(tmp_path / "subs")) == ["b-01.srt", "b-02.srt", "b-03.srt"]
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode) and not os.path.exists("/dev/null-01")


def test_tags_are_one_line_of_utf_8(tmp_path: Path) -> None:
    rendered(plan(tmp_path, "b.mp3", title="a\udcff\nb", artist="c\0d"))
    tags = probe(tmp_path / "b.mp3")["format"]["tags"]
    assert (tags["title"], tags["artist"]) == ("a? b", "cd")


@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_the_ceiling_is_kept_at_another_rate_too(rate: int, tmp_path: Path) -> None:
    rendered(plan(tmp_path, "b.wav", form=Form(rate=rate, bits=32), loudness=-9.0))
    samples, _ = soundfile.read(tmp_path / "b.wav")
    assert np.abs(samples).max() <= 10 ** (-1 / 20) * (1 + 1e-6)
    assert abs(loudness(tmp_path / "b.wav") + 9.0) <= 0.5


def test_a_removed_journal_costs_nothing(tmp_path: Path) -> None:
    rendering = Rendering(plan(tmp_path, "b.flac"), BOOK, Speech())
    speak(rendering, range(3))
    shutil.rmtree(rendering.folder)
    speak(rendering, range(3, 6))
    rendering.finish(lambda _: None)
    assert soundfile.info(tmp_path / "b.flac").frames == 6 * FRAMES


def test_a_pipe_that_nobody_reads_holds_nobody(tmp_path: Path, kept: None) -> None:
    os.mkfifo(tmp_path / "pipe")
    rendering = Rendering(plan(tmp_path, "b.wav", captions=(("srt", str(tmp_path / "pipe")),)), BOOK, Speech())
    speak(rendering, range(6))
    rendering._end_chapter(rendering._journal.place)
    rendering._jobs.put(rendering._whole())
    assert rendering.abandon()
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)  # lets the thread go
    rendering._encoder.join()
    os.close(reader)


def test_what_is_short_is_not_kept(tmp_path: Path) -> None:
    rendering = Rendering(plan(tmp_path), BOOK, Speech())
    speak(rendering, range(4))
    assert rendering.seconds < WORTH_KEEPING
    assert not rendering.abandon()
    assert os.listdir(tmp_path) == []


def test_lost_servers_are_asked_again_as_long_as_it_goes_on(tmp_path: Path) -> None:
    rendering = Rendering(plan(tmp_path, "book.wav"), BOOK, Speech())
    asked = []

    def fragile(first: int, _: str) -> Iterator[Event]:
        asked.append(first)
        yield from events(range(first, min(first + 2, 6)))
        if first < 4:
            yield audio(b"\0" * 400)
            raise ServersUnreachable("lost")

    render(rendering, fragile)
    rendering.finish(lambda _: None)
    assert asked == [0, 2, 4]
    assert (tmp_path / "book.wav").stat().st_size > 2 * 6 * FRAMES
    samples = np.frombuffer(ffmpeg("-i", str(tmp_path / "book.wav"), "-f", "f32le", "-"), "<f4")
    assert len(samples) == 6 * FRAMES


def test_servers_that_bring_nothing_are_given_up(tmp_path: Path) -> None:
    rendering = Rendering(plan(tmp_path), BOOK, Speech())

    def dead(_: int, __: str) -> Iterator[Event]:
        yield Accepted(utterance="", text_credit=1)
        raise ServersUnreachable("lost")

    with pytest.raises(ServersUnreachable):
        render(rendering, dead)
    rendering.abandon()


@pytest.mark.parametrize("name", ["book.wav", "book.flac", "book.ogg", "book.opus", "book.mp3", "book.m4b"])
def test_every_format_is_as_loud_as_wanted(name: str, tmp_path: Path) -> None:
    rendered(plan(tmp_path, name, loudness=-19.0))
    assert abs(loudness(tmp_path / name) + 19.0) <= 0.5


def test_an_error_of_the_encoder_is_raised_and_the_audio_kept(tmp_path: Path, kept: None) -> None:
    rendering = Rendering(plan(tmp_path, "book.mp3", split=True), BOOK, Speech())
    speak(rendering, range(2))
    (tmp_path / "book-01.mp3").mkdir()  # in the way
    with pytest.raises(OutputError, match=r"book-01\.mp3 cannot be written: is a directory"):
        speak(rendering, range(2, 6))
        rendering.finish(lambda _: None)
    assert rendering.abandon()
    (tmp_path / "book-01.mp3").rmdir()
    rendered(plan(tmp_path, "book.mp3", split=True))


def test_outputs_that_cannot_be_written_are_told_before_the_work(tmp_path: Path) -> None:
    for wanted in (
        plan(tmp_path / "missing"),
        plan(tmp_path, captions=(("srt", str(tmp_path / "missing" / "x.srt")),)),
        plan(tmp_path / "missing", split=True),
    ):
        with pytest.raises(OutputError, match="make the folder first"):
            Rendering(wanted, BOOK, Speech())
    assert os.listdir(tmp_path) == []
    (tmp_path / "b-03.mp3").mkdir()
    with pytest.raises(OutputError, match=r"b-03\.mp3 cannot be written: is a directory"):
        Rendering(plan(tmp_path, "b.mp3", split=True), BOOK, Speech())
    with pytest.raises(OutputError, match="file name too long"):
        Rendering(plan(tmp_path, f"{'x' * 250}.mp3", split=True), BOOK, Speech())


def test_chapters_without_speech_are_no_chapters(tmp_path: Path) -> None:
    first, second, third = BOOK.chapters
    silent = Chapter(title="silent", start=second.start - 1, end=second.start)
    rendered(plan(tmp_path), BOOK.replace(chapters=(first.replace(end=silent.start), silent, second, third)))
    titles = [each["tags"]["title"] for each in probe(tmp_path / "book.m4b")["chapters"]]
    assert titles == ["Part 0", "Part 1", "Part 2"]


def test_what_stands_before_the_first_heading_has_the_name_of_the_book(tmp_path: Path) -> None:
    first, *others = BOOK.chapters
    rendered(plan(tmp_path), BOOK.replace(chapters=(first.replace(title=""), *others)))
    assert probe(tmp_path / "book.m4b")["chapters"][0]["tags"]["title"] == "A Book"


def test_a_recording_has_captions_too_and_of_silence_there_is_no_file(tmp_path: Path) -> None:
    wanted = plan(tmp_path, "a.ogg", captions=(("srt", str(tmp_path / "a.srt")),), title="T")
    recording = Recording(wanted)
    speak(recording, range(6))
    recording.finish(lambda _: None)
    assert [cue.content for cue in srt.parse((tmp_path / "a.srt").read_text())] == SENTENCES
    assert probe(tmp_path / "a.ogg")["streams"][0]["tags"]["TITLE"] == "T"
    for name in ("a.ogg", "a.srt"):
        (tmp_path / name).unlink()
    silent = Recording(wanted)
    silent.finish(lambda _: None)
    assert list(tmp_path.iterdir()) == []
    assert not silent.abandon()
    assert os.listdir(tmp_path) == []


# Through the whole line, with the embedded default


def book(chapters: int, paragraphs: int) -> str:
    """Some 170 characters a paragraph, no two alike."""
    parts = []
    for number in range(1, chapters + 1):
        parts.append(f"Chapter {number}")
        parts += [
            f"On day {at} of chapter {number} they went on, as they had on all the days before it. It was raining. "
            f"Nobody knew, or would say, how far the {at + 3} hills behind the river were."
            for at in range(paragraphs)
        ]
    return "\n\n".join(parts) + "\n"


def killed_after(world: World, frames: int, *arguments: str) -> None:
    """Runs say.py and kills it with -9 when its journal holds so much."""
    with world.popen(*arguments) as process:
        until = time.monotonic() + 60
        while sum(path.stat().st_size for path in world.path.glob(".kokoro-*/audio.f32")) < 4 * frames:
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.005)  # nobody tells how long a file is
        process.send_signal(signal.SIGKILL)
        process.wait()


@pytest.mark.e2e
@pytest.mark.fault
@pytest.mark.timeout(300)
@pytest.mark.parametrize("untouched", ["0", "1"])
def test_a_book_that_is_killed_three_times_is_the_same_book(world: World, untouched: str) -> None:
    world.environment["KOKORO_UNTOUCHED"] = untouched
    text = book(3, 12)
    (world.path / "book.txt").write_text(text)
    command = ("-f", "book.txt", "-o", "book.m4b", "--srt", "book.srt", "--words", "words.json", "--lufs", "-18")
    done = world.say(*command, timeout=200)
    assert (done.returncode, done.stderr) == (0, "")
    names = ("book.m4b", "book.srt", "words.json")
    whole = {name: (world.path / name).read_bytes() for name in names}
    for name in names:
        (world.path / name).unlink()
    frames = json.loads(whole["words.json"])["duration"] * SAMPLE_RATE
    for share in (0.2, 0.5, 0.8):
        killed_after(world, int(share * frames), *command)
        assert not (world.path / "book.m4b").exists()
    done = world.say(*command, timeout=200)
    assert done.returncode == 0 and done.stderr.startswith("say.py: going on at ")
    assert {name: (world.path / name).read_bytes() for name in names} == whole
    assert sorted(path.name for path in world.path.glob(".kokoro*")) == []
    words = json.loads(whole["words.json"])["words"]
    assert " ".join(word["word"] for word in words) == " ".join(text.split())
    chapters = probe(world.path / "book.m4b")["chapters"]
    assert [each["tags"]["title"] for each in chapters] == ["Chapter 1", "Chapter 2", "Chapter 3"]
    assert abs(loudness(world.path / "book.m4b") + 18) <= 0.5


@pytest.fixture
def toy_world(world: World, toy_kokoro: ToyKokoro) -> Iterator[World]:
    with hub_of(toy_kokoro.directory, toy_kokoro.manifest) as hub:
        connect_to_hub(world, hub, toy_kokoro)
        yield world
        world.say("--shutdown", "-q")


@pytest.mark.e2e
@pytest.mark.fault
@pytest.mark.model
@pytest.mark.timeout(400)
def test_a_chapter_by_the_model_is_the_same_after_three_kills_and_its_words_stand_at_its_durations(
    toy_world: World,
) -> None:
    text = book(1, 4)
    (toy_world.path / "book.md").write_text(text)
    command = ("-f", "book.md", "-o", "book.flac", "--words", "words.json")
    done = toy_world.say(*command, timeout=300)
    assert done.returncode == 0, done.stderr
    whole = (toy_world.path / "book.flac").read_bytes(), (toy_world.path / "words.json").read_bytes()
    report = json.loads(whole[1])
    words = report["words"]
    assert " ".join(word["word"] for word in words) == " ".join(text.split())
    assert report["duration"] == soundfile.info(toy_world.path / "book.flac").frames / SAMPLE_RATE
    ends = [word["end"] * 40 for word in words]  # in durations, of 25 ms
    assert all(abs(end - round(end)) < 1e-3 for end in ends) and ends == sorted(ends)
    for share in (0.1, 0.4, 0.7):
        killed_after(toy_world, int(share * report["duration"] * SAMPLE_RATE), *command)
    done = toy_world.say(*command, timeout=300)
    assert done.returncode == 0 and "going on at" in done.stderr
    assert ((toy_world.path / "book.flac").read_bytes(), (toy_world.path / "words.json").read_bytes()) == whole


@pytest.mark.e2e
@pytest.mark.fault
@pytest.mark.timeout(300)
@pytest.mark.parametrize("victim", ["voice_server", "model_server"])
def test_a_server_that_is_killed_costs_a_book_nothing(victim: str, world: World) -> None:
    (world.path / "book.txt").write_text(book(2, 30))
    command = ("-f", "book.txt", "-o", "book.wav")
    assert world.say(*command, timeout=200).returncode == 0
    whole = (world.path / "book.wav").read_bytes()
    with world.popen(*command) as process:
        for share in (0.2, 0.6):
            until = time.monotonic() + 60
            while 2 * share * len(whole) > sum(path.stat().st_size for path in world.path.glob(".kokoro-*/audio.f32")):
                assert process.poll() is None and time.monotonic() < until
                time.sleep(0.005)
            for server in world.servers():
                if victim in " ".join(server.cmdline()):
                    server.kill()
        _, stderr = process.communicate(timeout=200)
    assert (process.returncode, stderr) == (0, b"")
    assert (world.path / "book.wav").read_bytes() == whole


@pytest.mark.e2e
@pytest.mark.fault
@pytest.mark.timeout(300)
def test_ctrl_c_in_the_middle_keeps_what_there_is(world: World) -> None:
    (world.path / "book.txt").write_text(book(6, 12))
    command = ("-f", "book.txt", "--split", "-o", "book.ogg")
    with world.popen(*command) as process:
        until = time.monotonic() + 60
        while not (world.path / "book-01.ogg").exists():
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT
    assert b"of audio are kept: the same command goes on there" in stderr
    assert stderr.count(b"\n") == 1
    done = world.say(*command, timeout=200)
    assert done.returncode == 0
    assert sorted(path.name for path in world.path.glob("*.ogg")) == [f"book-0{n}.ogg" for n in range(1, 7)]
    assert list(world.path.glob(".kokoro*")) == []


@pytest.mark.e2e
@pytest.mark.fault
@pytest.mark.timeout(300)
def test_a_full_disk_costs_no_chapter(world: World) -> None:
    (world.path / "book.txt").write_text(book(4, 12))
    with small_disk(world.path / "disk", "40m") as disk:
        command = ("-f", "book.txt", "--split", "-o", str(disk / "book.wav"))
        done = world.say(*command, timeout=200)
        assert done.returncode == 8 and done.stderr.count("\n") == 1
        assert "no space left on device; free some space or choose another folder; 0:0" in done.stderr
        assert "of audio are kept: the same command goes on there" in done.stderr
        finished = {path.name: path.read_bytes() for path in disk.glob("book-*.wav")}
        assert finished
        subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
        assert world.say(*command, timeout=200).returncode == 0
        rendered_now = {path.name: path.read_bytes() for path in disk.glob("*")}
        assert sorted(rendered_now) == [f"book-0{n}.wav" for n in (1, 2, 3, 4)]
        assert rendered_now == rendered_now | finished


@pytest.mark.e2e
@pytest.mark.parametrize("name", ["missing.epub", "broken.epub", "secret.pdf", "picture.txt", "folder.txt"])
def test_what_cannot_be_read_is_one_line(name: str, world: World) -> None:
    from fpdf import FPDF

    (world.path / "broken.epub").write_bytes(b"PK\x03\x04 nothing")
    (world.path / "picture.txt").write_bytes(bytes(range(256)) * 9)
    (world.path / "folder.txt").mkdir()
    secret = FPDF()
    secret.add_page()
    secret.set_encryption(owner_password="a", user_password="b")
    secret.output(str(world.path / "secret.pdf"))
    done = world.say("-f", name, "-o", "out.m4b")
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("say.py: ") and name in done.stderr and "; " in done.stderr
    assert not (world.path / "out.m4b").exists()


@pytest.mark.e2e
def test_a_folder_that_cannot_be_written_is_one_line(world: World) -> None:
    (world.path / "book.txt").write_text(book(1, 1))
    with small_disk(world.path / "disk", "1m") as disk:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for arguments in (("-o", str(disk / "book.m4b")), ("-o", "x.wav", "--srt", str(disk / "x.srt"))):
            done = world.say("-f", "book.txt", *arguments)
            assert done.returncode == 8 and done.stderr.count("\n") == 1
            assert "cannot be written: read-only file system; choose another" in done.stderr
    assert list(world.path.glob(".kokoro*")) == []


@pytest.mark.e2e
@pytest.mark.timeout(200)
def test_the_text_of_a_web_page_is_spoken_and_not_its_markup(world: World) -> None:
    page = "<html><head><title>A page</title><style>p {}</style></head><body><h1>One</h1><p>Hello <b>there</b>.</p>"
    (world.path / "page.html").write_text(page + "<h1>Two</h1><p>Good night.</p></body></html>")
    done = world.say("-f", "page.html", "-o", "page.mp3", "--words", "words.json", timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads((world.path / "words.json").read_text())
    assert [word["word"] for word in report["words"]] == ["One", "Hello", "there.", "Two", "Good", "night."]
    source = report["source"]
    assert [source[word["source_start"] : word["source_end"]] for word in report["words"]] == [
        word["word"] for word in report["words"]
    ]
    assert [each["tags"]["title"] for each in probe(world.path / "page.mp3")["chapters"]] == ["One", "Two"]


@pytest.mark.e2e
@pytest.mark.parametrize("speed", ["0.5", "1", "2.5"])
def test_times_hold_pauses_and_speed(speed: str, world: World) -> None:
    text = "One is here. [pause:2s] Two, as said, is **there**."
    done = world.say("-s", speed, "-o", "out.wav", "--sample-rate", "16000", "--words", "w.json", text)
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads((world.path / "w.json").read_text())
    words = {word["word"]: word for word in report["words"]}
    assert [word["word"] for word in report["words"]] == [
        "One",
        "is",
        "here.",
        "Two,",
        "as",
        "said,",
        "is",
        "**there**.",
    ]
    samples, rate = soundfile.read(world.path / "out.wav")
    assert abs(len(samples) / rate - report["duration"]) <= 1 / rate
    assert report["words"][-1]["end"] == report["duration"]
    assert words["Two,"]["start"] - words["here."]["end"] >= 2.0 - 1e-6
    silent = samples[int(rate * words["here."]["end"]) + 50 : int(rate * words["here."]["end"]) + 2 * rate - 50]
    assert np.abs(silent).max() < 1e-3
    assert [text[word["source_start"] : word["source_end"]] for word in report["words"]] == [
        *text.split()[:3],
        *text.split()[4:],
    ]


@pytest.mark.e2e
def test_captions_alone_have_the_text_that_they_are_about(world: World) -> None:
    (world.path / "page.html").write_text("<title>T</title><p>Good &amp; <b>well</b>.</p>")
    done = world.say("-f", "page.html", "-o", "/dev/null", "--words", "-")
    report = json.loads(done.stdout)
    assert report["source"].strip() == "Good & well."
    lyrics = world.say("-f", "page.html", "-o", "/dev/null", "--lrc", "-").stdout
    assert lyrics.startswith("[ti:T]\n[00:00.00]Good & well.\n")


@pytest.mark.e2e
def test_a_text_in_utf_16_is_a_text(world: World) -> None:
    (world.path / "text.txt").write_bytes("Hello there.".encode("utf-16"))
    report = json.loads(world.say("-f", "text.txt", "-o", "/dev/null", "--words", "-").stdout)
    assert [word["word"] for word in report["words"]] == ["Hello", "there."]


@pytest.mark.e2e
@pytest.mark.timeout(200)
def test_one_say_at_a_time_writes_a_file(world: World) -> None:
    (world.path / "book.txt").write_text(book(2, 30))
    with world.popen("-f", "book.txt", "-o", "book.wav") as process:
        until = time.monotonic() + 60
        while not list(world.path.glob(".kokoro-*/audio.f32")):
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.005)
        process.send_signal(signal.SIGSTOP)
        second = world.say("-f", "book.txt", "-o", "book.wav")
        process.send_signal(signal.SIGCONT)
        assert process.wait(100) == 0
    assert (second.returncode, second.stderr.count("\n")) == (8, 1)
    assert "book.wav is being written by another call; wait for it" in second.stderr


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--srt", "x.srt", "hi"), "--srt is about a file; write it with -o"),
        (("--lufs", "-16", "hi"), "--lufs is about a file"),
        (("-o", "x.mp3", "--sample-rate", "96000", "hi"), "mp3 has no sample rate of 96000"),
        (("-o", "x.wav", "--bit-depth", "12", "hi"), "wav has no bit depth of 12"),
        (("-o", "x.wav", "--lufs", "3", "hi"), "--lufs is '3'; choose -70 to -5, or off"),
        (("-o", "x.wav", "--split", "hi"), "--split writes files for each chapter of a document"),
        (("-o", "-", "--srt", "-", "hi"), "the standard output cannot be two things at once"),
        (("-o", "/dev/stdout", "--srt", "-", "hi"), "the standard output cannot be two things at once"),
        (("-o", "x.wav", "--srt", "./x.wav", "hi"), "x.wav cannot be two things at once"),
        (("-o", "x.wav", "--srt", "x.srt", "--vtt", "x.srt", "hi"), "x.srt cannot be two things at once"),
        (("-f", "x.txt", "-o", "x.wav", "--words", "x.txt"), "x.txt cannot be two things at once"),
        (("-f", "x.md", "-o", "x.wav", "--split", "--srt", "-"), "--split writes files for each chapter"),
        (("-f", "x.epub", "-e"), "-e passes the text through as it is, which here is none"),
        (("-o", "x.wav", "--sample-rate", "44100.7", "hi"), "sample rate '44100.7'; give a whole number"),
    ],
)
def test_what_does_not_go_together_is_a_usage_error(arguments: tuple[str, ...], problem: str, world: World) -> None:
    done = world.say(*arguments)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert problem in done.stderr
    assert list(world.path.glob("x.*")) == []
