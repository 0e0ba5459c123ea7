"""Books on the command line: by file and by pipe, some of their chapters, and the place where listening stopped."""

from __future__ import annotations

import json
import os
import random
import shlex
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from kokoro_common.documents.bookmark import Bookmark, Bookmarks, digest_of
from tests.conftest import World
from tests.documents.test_epub import PAGES, book, nav_of, package

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.e2e

TITLES = ["The Boat", "A Storm", "The Island", "Home again"]
SENTENCES = [
    f"Sentence {number} of chapter {at} tells of Dr. Smith and of the sea." for at in range(4) for number in range(30)
]
BOOK = "\n\n".join(f"# {title}\n\n{' '.join(SENTENCES[30 * at : 30 * at + 30])}" for at, title in enumerate(TITLES))


@pytest.fixture
def shelf(world: World) -> Path:
    (world.path / "book.md").write_text(BOOK)
    (world.path / "short.md").write_text("\n\n".join(f"# {title}\n\nIn {title} all is well." for title in TITLES))
    return world.path


def epub() -> bytes:
    return book({**PAGES, "nav.xhtml": nav_of(("one.xhtml", "One"))}, package(PAGES, nav="nav.xhtml"))


# --- By pipe ---------------------------------------------------------------------------------------------------------


def test_a_book_in_a_pipe_is_read_as_its_file_is(world: World) -> None:
    (world.path / "book.epub").write_bytes(epub())
    by_file = world.say("--explain", "-f", "book.epub")
    by_pipe = world.say("--explain", stdin=epub())
    assert (by_pipe.returncode, by_pipe.stdout) == (0, by_file.stdout)
    assert "Text of First." in by_pipe.stdout
    for name in ("file.wav", "pipe.wav"):
        arguments = ["-f", "book.epub"] if name == "file.wav" else []
        assert world.say("-o", name, *arguments, stdin=epub()).returncode == 0
    assert (world.path / "file.wav").read_bytes() == (world.path / "pipe.wav").read_bytes()


@pytest.mark.parametrize("arguments", [[], ["-f", "-"], ["-o", "x.wav"], ["-e"], ["-f", "unnamed"]])
def test_what_is_no_text_is_refused_unspoken(world: World, arguments: list[str]) -> None:
    for data in (random.Random(1).randbytes(5_000), b"\x7fELF\x02\x01\x01\0" * 100, b"PK\x03\x04\x14\0" * 50):
        (world.path / "unnamed").write_bytes(data)
        done = world.say(*arguments, stdin=data)
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1), done.stderr
        assert not (world.path / "x.wav").exists()


@pytest.mark.parametrize("name", ["x.wav", "x.mp3"])
def test_a_cover_of_no_use_is_told_of_where_a_file_could_have_one(world: World, name: str) -> None:
    item = "<item id='c' href='cover.jpg' media-type='image/jpeg' properties='cover-image'/>"
    files = {**PAGES, "cover.jpg": b"none"}
    (world.path / "book.epub").write_bytes(book(files, package(PAGES).replace("<manifest>", f"<manifest>{item}")))
    done = world.say("-f", "book.epub", "-o", name)
    assert (done.returncode, "the cover of book.epub is left out" in done.stderr) == (0, name == "x.mp3"), done.stderr


# --- Chapters --------------------------------------------------------------------------------------------------------


def test_chapters_are_listed_without_a_server(shelf: Path, world: World) -> None:
    done = world.say("-f", "book.md", "--list-chapters")
    assert (done.returncode, len(done.stderr.splitlines())) == (0, 1)
    rows = [line.split("  ") for line in done.stdout.splitlines()]
    assert [(row[0].strip() or row[1].strip()) for row in rows] == ["1", "2", "3", "4"]
    for line, title in zip(done.stdout.splitlines(), TITLES, strict=True):
        assert title in line
        assert "words" in line
        assert "min" in line
    assert world.servers() == []
    faster = world.say("-f", "book.md", "--list-chapters", "-s", "2", "--chapters", "2,4", "-q")
    assert [line.split()[0] for line in faster.stdout.splitlines()] == ["2", "4"]
    assert world.say("--list-chapters", stdin=BOOK.encode()).returncode == 0


def test_hostile_titles_stay_on_their_line(world: World) -> None:
    title = "A\x1b[2J\u202e\x9bB\nsay.py: all files were deleted" + "x" * 400
    files = {**PAGES, "nav.xhtml": nav_of(("one.xhtml", title.replace("\x1b", "&#27;")), ("two.xhtml", "Two"))}
    (world.path / "book.epub").write_bytes(book(files, package(PAGES, nav="nav.xhtml")))
    done = world.say("-f", "book.epub", "--list-chapters", "-q")
    assert len(done.stdout.splitlines()) == 2
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert all(line.isprintable() for line in done.stdout.splitlines())


def test_chosen_chapters_are_rendered_alone_under_their_own_numbers(shelf: Path, world: World) -> None:
    assert world.say("-f", "short.md", "--split", "-o", "all.wav", "-q").returncode == 0
    assert world.say("-f", "short.md", "--split", "--chapters", "2,4", "-o", "some.wav", "-q").returncode == 0
    assert sorted(path.name for path in shelf.glob("some*")) == ["some-02.wav", "some-04.wav"]
    for number in ("02", "04"):
        assert (shelf / f"some-{number}.wav").stat().st_size > 44
    assert world.say("-f", "short.md", "--from", "the isl", "--split", "-o", "rest.wav", "-q").returncode == 0
    assert sorted(path.name for path in shelf.glob("rest*")) == ["rest-03.wav", "rest-04.wav"]
    heard = world.say("--explain", "-f", "short.md", "--chapters", "3-").stdout
    assert ("The Island" in heard, "Home again" in heard, "A Storm" in heard) == (True, True, False)


def test_several_files_are_read_in_order(shelf: Path, world: World) -> None:
    (shelf / "two.txt").write_text("The second file.")
    done = world.say("-f", "short.md", "-f", "two.txt", "-f", "-", "--list-chapters", stdin=b"And the third.")
    titles = [line[6:].split("  ")[0] for line in done.stdout.splitlines()]
    assert titles == [*TITLES, "two", "standard input"]
    heard = world.say("--explain", "-f", "two.txt", "-f", "short.md").stdout
    assert heard.index("The second file.") < heard.index("The Boat")
    missing = world.say("-f", "short.md", "-f", "none.md", "-o", "x.wav")
    assert (missing.returncode, "none.md" in missing.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--chapters", "0"], "1 to 4"),
        (["--chapters", "5"], "1 to 4"),
        (["--chapters", "3-2"], "1 to 4"),
        (["--chapters", "x"], "3-7,12"),
        (["--from", "The"], "several chapters"),
        (["--from", "Atlantis"], "no chapter"),
        (["--from", "2", "--chapters", "3"], "--from"),
        (["--from", "2", "--chapters", "3", "--list-chapters"], "--from"),
        (["--continue", "--list-chapters"], "--continue"),
        (["--continue"], "not interrupted"),
        (["--continue", "-o", "x.wav"], "for listening"),
        (["-f", "-", "-f", "-"], "twice"),
    ],
)
def test_what_cannot_be_meant_is_one_line(shelf: Path, world: World, arguments: list[str], words: str) -> None:
    done = world.say("-f", "short.md", *arguments, stdin=b"x")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert words in done.stderr


# --- The place where listening stopped -------------------------------------------------------------------------------


def follow(world: World, *arguments: str) -> subprocess.Popen[bytes]:
    return world.popen("--follow", *arguments)


def read_until(process: subprocess.Popen[bytes], words: str) -> str:
    """What was heard up to these words."""
    assert process.stdout is not None
    heard = b""
    while words.encode() not in heard:
        more = os.read(process.stdout.fileno(), 4096)
        assert more, heard.decode()
        heard += more
    return heard.decode()


def bookmarks(world: World) -> list[dict[str, object]]:
    folder = world.cache / "bookmarks"
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*"))] if folder.exists() else []


def keep_mark(world: World, text: str, place: int = 0, chapters: str = "", number: int = 1) -> None:
    """As listening to book.md left it."""
    mark = Bookmark(paths=(os.path.realpath(world.path / "book.md"),), digest=digest_of(text), place=place,
                    chapters=chapters, number=number)  # fmt: skip
    Bookmarks(str(world.cache)).keep(mark)


@pytest.mark.parametrize(
    "end", ["ctrl-c", *(pytest.param(each, marks=pytest.mark.slow) for each in ("kill", "stop", "shutdown"))]
)
def test_listening_goes_on_with_the_sentence_in_which_it_stopped(stub_world: World, end: str) -> None:
    world = stub_world
    (world.path / "book.md").write_text(BOOK)
    process = follow(world, "-f", "book.md", "--from", "2")
    heard = read_until(process, "Sentence 9 of chapter 1")
    if end == "ctrl-c":
        process.send_signal(signal.SIGINT)
    elif end == "kill":
        world.wait_for_speech()
        while not bookmarks(world):
            heard += read_until(process, " ")
        process.kill()
    else:
        world.say(f"--{end}")
    rest, _ = process.communicate(timeout=60)
    heard += rest.decode()
    (mark,) = bookmarks(world)
    for path in (world.cache / "bookmarks", *(world.cache / "bookmarks").iterdir()):
        assert path.stat().st_mode & 0o077 == 0
        assert "Smith" not in (path.read_text() if path.is_file() else "")
    again = follow(world, "--continue")  # the file is known
    first = f"{read_until(again, 'of the sea.').partition(' of the sea.')[0].strip()} of the sea."
    began = SENTENCES.index(first)  # the whole sentence, from its first word
    stopped = 30 + heard.count("Sentence") - 1  # it began with the second chapter
    # The end may come between the word on the screen and the note of it; a kill, up to KEEP_SECONDS after the note.
    assert (30 if end == "kill" else stopped - 1) <= began <= stopped
    assert mark["number"] == began // 30 + 1
    out, errors = again.communicate(timeout=120)
    assert again.returncode == 0, errors
    assert SENTENCES[-1].removesuffix(".") in out.decode()
    assert bookmarks(world) == []


def test_another_text_under_the_same_name_is_noticed(stub_world: World) -> None:
    world = stub_world
    (world.path / "book.md").write_text(BOOK)
    process = follow(world, "-f", "book.md")
    read_until(process, "Sentence 3 of chapter 0")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    (world.path / "book.md").write_text(BOOK.replace("Boat", "Ship"))
    done = world.say("-f", "book.md", "--continue")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "--from 1" in done.stderr


@pytest.mark.parametrize(
    ("text", "chapters", "number", "there"),
    [
        ("\n\n".join(BOOK.split("\n\n")[:4]), "3-", 3, "--list-chapters"),
        (f"<speak>{BOOK}</speak>", "2", 1, "--from 1"),
        (BOOK.replace("Boat", "Ship"), "", 1, "--from 1"),
    ],
    ids=["fewer chapters", "SSML", "other words"],
)
def test_a_changed_file_is_the_reason_whatever_was_chosen_of_it(
    world: World, text: str, chapters: str, number: int, there: str
) -> None:
    keep_mark(world, BOOK, chapters=chapters, number=number)
    (world.path / "book.md").write_text(text)
    done = world.say("-f", "book.md", "--continue")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "say.py: book.md has another text than when listening stopped; "
        f"it was in chapter {number}: {shlex.join([sys.executable, str(world.program)])} -f book.md {there}\n"
    )


def test_the_sentence_is_looked_for_in_the_language_that_is_spoken(stub_world: World) -> None:
    world = stub_world
    text = "Llega el verano. La Sra. García habla. Y calla."
    (world.path / "book.md").write_text(text)
    for environment, begin in (({"KOKORO_VOICE": "ef_dora"}, "La Sra. García"), ({"KOKORO_LANG": "en-us"}, "García")):
        keep_mark(world, text, place=text.index("García"))
        done = world.say("--continue", "--follow", "-q", **environment)
        assert (done.returncode, done.stdout.startswith(begin)) == (0, True), done.stdout


def test_a_place_that_cannot_be_kept_stops_nothing(stub_world: World) -> None:
    world = stub_world
    (world.path / "book.md").write_text("\n\n".join(BOOK.split("\n\n")[:2]))
    (world.cache / "bookmarks").write_text("in the way")
    done = world.say("-f", "book.md", "--follow")
    assert done.returncode == 0, done.stderr
    assert "of the sea." in done.stdout
