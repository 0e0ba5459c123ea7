"""A book rendered whole, and once more with kills on the way. Run from the repository root:

    python -m benchmarks.bench_books [--pages N] [--name book.m4b] [--kills N] [--servers] [--json FILE]

The text is made here, 300 words a page; the embedded default reads it, or the model to measure if there is one. Printed
are whether the bytes are the same, how long the engine waited for work, and what each process holds from page to page.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.bench_throughput import text_of
from benchmarks.measure import model_if_named, new_world, print_machine
from tests.conftest import World

WORDS_PER_PAGE = 300
CHAPTER_PAGES = 20
LOOK_SECONDS = 0.25  # between two looks at the processes
CAPTIONS = ("book.srt", "words.json")


def book_of(pages: int) -> str:
    """Chapters of CHAPTER_PAGES pages."""
    chapters = []
    for number, first in enumerate(range(0, pages, CHAPTER_PAGES), 1):
        wanted = WORDS_PER_PAGE * min(CHAPTER_PAGES, pages - first)
        words = text_of(wanted // 8, number).split(" ")  # a sentence has 8 to 13
        chapters.append(f"Chapter {number}\n\n{' '.join(words[:wanted])}\n")
    return "\n".join(chapters)


class Render:
    """say.py at work on the book, watched."""

    def __init__(self, world: World, name: str) -> None:
        captions = ("--srt", CAPTIONS[0], "--words", CAPTIONS[1])
        self._world = world
        self.process = world.popen("-f", "book.txt", "-o", name, *captions, "--timing")
        self.looks: list[dict[str, Any]] = []  # seconds of audio, and MB of each process
        self.began = time.monotonic()
        self.spoken_at = 0.0  # seconds until all audio was there

    def run(self, kill_at: float = 0.0, victim: str = "say.py") -> str:
        """Until its end, or until so many seconds of audio are there: then the victim is killed with -9.

        Returns what it said.
        """
        last = 0.0
        while self.process.poll() is None:
            audio = self.seconds
            if audio > last:
                last, self.spoken_at = audio, time.monotonic() - self.began
                self.looks.append({"audio": audio, **self._megabytes()})
            if kill_at and audio >= kill_at:
                kill_at = 0.0
                self._kill(victim)
            time.sleep(LOOK_SECONDS)
        return self.process.communicate()[1].decode()

    @property
    def seconds(self) -> float:
        """Of audio in the journal."""
        return sum(path.stat().st_size for path in self._world.path.glob(".kokoro-*/audio.f32")) / 4 / 24_000

    def _kill(self, victim: str) -> None:
        if victim == "say.py":
            self.process.send_signal(signal.SIGKILL)
            return
        for server in self._world.servers():
            if victim in " ".join(server.cmdline()):
                server.send_signal(signal.SIGKILL)

    def _megabytes(self) -> dict[str, float]:
        names = {"say": psutil.Process(self.process.pid)}
        for server in self._world.servers():
            names["model" if "model_server" in " ".join(server.cmdline()) else "voice"] = server
        found = {}
        for name, process in names.items():
            try:
                found[name] = process.memory_info().rss / 1e6
            except psutil.Error:
                continue  # it has just ended
        return found


def digests(world: World, name: str) -> dict[str, str]:
    """SHA-256 of each file of the book, which is removed."""
    found = {}
    for each in (name, *CAPTIONS):
        path = world.path / each
        found[each] = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""
        path.unlink(missing_ok=True)
    return found


def whole(world: World, name: str, pages: int) -> dict[str, Any]:
    render = Render(world, name)
    said = render.run()
    if render.process.returncode:
        sys.exit(f"say.py ended with {render.process.returncode}: {said.strip()}")
    took = time.monotonic() - render.began
    busy = float(said.rpartition("the engine at work ")[2].partition("%")[0])
    words = json.loads((world.path / CAPTIONS[1]).read_text())
    text = (world.path / "book.txt").read_text()
    in_order = " ".join(text[word["source_start"] : word["source_end"]] for word in words["words"]) == " ".join(
        text.split()
    )
    looks = render.looks
    audio = looks[-1]["audio"]
    print(f"{audio / 3600:.2f} h of audio in {took:.0f} s, all of it there after {render.spoken_at:.0f} s")
    print(f"the engine waited for work {100 - busy:.1f} % of the time")
    print(f"{len(words['words'])} captioned words, the source's {len(text.split())} once and in order: {in_order}")
    print(f"last word's end: {1000 * abs(words['words'][-1]['end'] - audio):.3f} ms from the end of the audio")
    for page in (10, pages // 3, 2 * pages // 3, pages):
        at = min(looks, key=lambda look: abs(look["audio"] - audio * page / pages))
        held = ", ".join(f"{each} {at[each]:.0f} MB" for each in ("say", "voice", "model") if each in at)
        print(f"page {page:4}: {held}")
    return {
        "audio": audio,
        "seconds": took,
        "spoken_at": render.spoken_at,
        "busy": busy,
        "in_order": in_order,
        "looks": looks,
    }


def interrupted(world: World, name: str, audio: float, kills: int, victims: list[str]) -> list[str]:
    """Renders it again, with a kill at equal distances. Returns what was said behind each."""
    said = []
    for number in range(kills):
        victim = victims[number % len(victims)]
        render = Render(world, name)
        said.append(f"{victim}: " + render.run(audio * (number + 1) / (kills + 1), victim).strip())
        if render.process.returncode == 0:  # only a server died, and it went on by itself
            return said
    render = Render(world, name)
    said.append(render.run().strip())
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description="A book rendered whole, and once more with kills on the way.")
    parser.add_argument("--pages", type=int, default=300)
    parser.add_argument("--name", default="book.m4b")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--servers", action="store_true", help="kill servers too: they are replaced on the way")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print_machine()
    model = model_if_named()
    engine = model.environment if model else {"KOKORO_ENGINE": "espeak"}
    with new_world() as world:
        world.environment |= engine
        (world.path / "book.txt").write_text(book_of(options.pages))
        report = whole(world, options.name, options.pages)
        expected = digests(world, options.name)
        runs = [["say.py"]] + ([["voice_server"], ["model_server"]] if options.servers else [])
        report["same"] = {}
        for victims in runs:
            said = interrupted(world, options.name, report["audio"], options.kills, victims)
            same = digests(world, options.name) == expected
            report["same"][victims[0]] = same
            print(f"{victims[0]} killed: the same bytes: {same}", *said, sep="\n  ")
        if options.json:
            options.json.write_text(json.dumps(report))
        world.say("--shutdown", "-q")


if __name__ == "__main__":
    main()
