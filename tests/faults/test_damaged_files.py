"""A3: whatever stands in a file that we have written and read again is no obstacle, and nothing but a named error.

Each field is replaced by each kind of value, the file is cut, emptied, made huge, nested deeply, filled with noise.
"""

from __future__ import annotations

import json
import os
import random
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kokoro_common.command.doctor import servers as doctor
from kokoro_common.daemon import starter
from kokoro_common.daemon.record import MAX_DEATHS, Note, ServerRecord, note_of, record_of
from kokoro_common.daemon.runtime_directory import RuntimeDirectory
from kokoro_common.engine import tuning
from kokoro_common.errors import KokoroError
from kokoro_common.hub import manifest
from kokoro_common.recording.journal import Journal
from kokoro_common.settings import resolve
from kokoro_common.voices.catalogue import parse_voice
from kokoro_common.voices.user_voices import own_voices, read_own_pack
from kokoro_common.wire.messages import ChunkSpoken
from tests.conftest import World
from tests.faults.conftest import Shown, times

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1 << 31, 1 << 63, 1 << 100, 10**400, 0.5, -1e308, float("nan"), float("inf"),
    "", "x", "\x1b]0;title\x07", "\ud800", "x" * 100_000, [], [None], [[]], [["x", "y"]], [[None, "x"]], {}, {"x": 1},
    {"port": "x"},
)  # fmt: skip
RECORD = {"pid": 1, "port": 1, "started": "1", "version": "0.1.0", "protocol": 1, "network": "net:[1]"}
NOTE = {"record": RECORD, "leaving": False, "stderr_bytes": 0, "deaths": [[1.0, "why"]], "died": 1}
SPOKEN = {"index": 0, "text": "x", "start": 0, "places": [0], "words": [[0, 1, 0, 2]], "frames": 2,
          "checksum": zlib.crc32(bytes(8))}  # fmt: skip


def mutations(good: Any) -> Iterator[bytes]:
    """Every field at every depth: replaced by every value, left out, and joined by one that we do not know."""
    for path in paths(good):
        for value in VALUES:
            yield dumped(replaced(good, path, value))
        if path and isinstance(path[-1], str):
            yield dumped(left_out(good, path))
    if isinstance(good, dict):
        yield dumped({**good, "unknown": [1]})


def paths(thing: Any) -> Iterator[tuple[str | int, ...]]:
    yield ()
    children = thing.items() if isinstance(thing, dict) else enumerate(thing) if isinstance(thing, list) else ()
    for key, child in children:
        yield from ((key, *path) for path in paths(child))


def replaced(thing: Any, path: tuple[str | int, ...], value: Any) -> Any:
    if not path:
        return value
    copy = thing.copy()
    copy[path[0]] = replaced(thing[path[0]], path[1:], value)
    return copy


def left_out(thing: Any, path: tuple[str | int, ...]) -> Any:
    copy = thing.copy()
    if len(path) == 1:
        del copy[path[0]]
    else:
        copy[path[0]] = left_out(thing[path[0]], path[1:])
    return copy


def dumped(thing: Any) -> bytes:
    return json.dumps(thing).encode()


def noise(good: bytes) -> Iterator[bytes]:
    """What a disk, an editor or a stranger makes of any file."""
    chance = random.Random(1)
    yield from (b"", b"\0" * 100, b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000, b'"' * 1000, good * 2, b"1" * 5000)
    yield good + b" " * (1 << 20)
    for _ in range(times(200)):
        yield good[: chance.randrange(len(good))]
        place = chance.randrange(len(good))
        yield good[:place] + bytes([chance.randrange(256)]) + good[place + 1 :]


class Reading:
    """A file of ours and all that reads it. `read` raises a KokoroError or says whether it could use the file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runtime = RuntimeDirectory(str(folder / "runtime"))
        self.config = folder / "config"
        (self.config / "voices").mkdir(parents=True)

    def record(self, data: bytes) -> bool:
        self.runtime.write("model.json", data)
        return self._as_clients_do(record_of(self.runtime, "model"))

    def note(self, data: bytes) -> bool:
        self.runtime.write("model.lock", data)
        note = note_of(self.runtime, "model")
        assert [type(each) for each in (note.leaving, note.stderr_bytes, note.died)] == [bool, int, int]
        assert note.recent_deaths() <= len(note.deaths) <= MAX_DEATHS
        assert all(reason.isprintable() and len(reason) <= 300 for _, reason in note.deaths)
        return self._as_clients_do(note.record)

    def _as_clients_do(self, record: ServerRecord | None) -> bool:
        assert starter.connect(self.runtime, "model") is None, "port 1 is nobody's"
        assert not starter.end_elsewhere(self.runtime, "model")
        if record is not None:
            kinds = [type(value) for value in record.as_dict().values()]
            assert kinds == [int, int, str, str, int, str] and record.version.isprintable()
        assert starter.clear_away(self.runtime, "model")
        assert note_of(self.runtime, "model") == Note()
        return record is not None

    def measured(self, data: bytes) -> bool:
        path = self.folder / "measured.json"
        path.write_bytes(data)
        known = tuning._read(str(path))
        for choice in known.values():
            json.dumps(choice.as_dict())
            assert choice.precision in ("fp32", "bf16") and 1 <= choice.batch_limit <= tuning.LARGEST_BATCH
        return bool(known)

    def manifest(self, data: bytes) -> bool:
        path = self.folder / "manifest.json"
        path.write_bytes(data)
        return bool(manifest.load_manifest(str(path)).files)

    def settings(self, data: bytes) -> bool:
        (self.config / "config.toml").write_bytes(data)
        resolve({}, {"HOME": str(self.folder), "KOKORO_CONFIG_DIR": str(self.config)})
        return True

    def blend(self, data: bytes) -> bool:
        (self.config / "voices" / "af_mine.blend").write_bytes(data)
        parse_voice("af_mine", own_voices(str(self.config)))
        return True

    def pack(self, data: bytes) -> bool:
        (self.config / "voices" / "af_mine.pack").write_bytes(data)
        pack = read_own_pack(str(self.config), "af_mine")
        assert pack is None or pack.shape == (510, 1, 256)
        return pack is not None

    def log_line(self, data: bytes) -> bool:
        return bool(doctor._entry(data))

    def identity(self, data: bytes) -> bool:
        return self._journal("render.json", data)

    def chunk(self, data: bytes) -> bool:
        return self._journal("chunks.jsonl", data.replace(b"\n", b" ") + b"\n")

    def done(self, data: bytes) -> bool:
        return self._journal("done.txt", data.replace(b"\n", b" ") + b"\n")

    def _journal(self, name: str, data: bytes) -> bool:
        """Whether its one text chunk is still there."""
        folder = self.folder / "render"
        folder.mkdir(exist_ok=True)
        (folder / "audio.f32").write_bytes(bytes(8))
        (folder / "chunks.jsonl").write_bytes(dumped(SPOKEN) + b"\n")
        (folder / "done.txt").write_bytes(b"")
        (folder / "render.json").write_bytes(dumped({"identity": "x", "engine": "espeak"}))
        (folder / name).write_bytes(data)
        journal = Journal(str(folder), "x", str(self.folder / "x.wav"))
        try:
            assert journal.engine in ("", "kokoro", "espeak")
            assert all(isinstance(each, str) for pair in journal.done.items() for each in pair)
            chunks = [chunk for _, chunk in journal.chunks(0)]
            assert all(isinstance(chunk, ChunkSpoken) for chunk in chunks)
            assert sum(chunk.frames for chunk in chunks) == journal.frames == 2 * len(chunks)
            return bool(chunks)
        finally:
            journal.close()


MEND_SECONDS = 60.0  # servers look after their records every 5 and 10 s, on a busy machine
MANIFEST = {"repo": "a/b", "revision": "0" * 40, "model": "m.pth", "config": "c.json",
            "files": {"m.pth": "0" * 64, "c.json": "0" * 64},
            "spacy": {"url": "https://x/a.whl", "sha256": "0" * 64}}  # fmt: skip
TOML = b'engine = "espeak"\nport = 5000\nidle_timeout = 600.0\noffline = true\n'
GOOD: dict[str, tuple[bytes, Callable[[], Iterator[bytes]]]] = {
    "record": (dumped(RECORD), lambda: mutations(RECORD)),
    "note": (dumped(NOTE), lambda: mutations(NOTE)),
    "measured": (
        dumped({"x": {"precision": "fp32", "reason": "y", "batch_limit": 1}}),
        lambda: mutations({"x": {"precision": "fp32", "reason": "y", "batch_limit": 1}}),
    ),
    "manifest": (dumped(MANIFEST), lambda: mutations(MANIFEST)),
    "settings": (TOML, lambda: iter(())),
    "blend": (b"af_heart:0.5,af_sky:0.5\n", lambda: iter(())),
    "pack": (b"\1" * (32 + 510 * 256 * 4), lambda: iter(())),
    "log_line": (dumped({"level": "error", "event": "x"}), lambda: mutations({"level": "error", "event": "x"})),
    "identity": (
        dumped({"identity": "x", "engine": "espeak"}),
        lambda: mutations({"identity": "x", "engine": "espeak"}),
    ),
    "chunk": (dumped(SPOKEN), lambda: mutations(SPOKEN)),
    "done": (dumped(["path", "key"]), lambda: mutations(["path", "key"])),
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", GOOD)
def test_a3_no_damage_to_a_file_of_ours_is_more_than_a_named_error(tmp_path: Path, shown: Shown, kind: str) -> None:
    read: Callable[[bytes], bool] = getattr(Reading(tmp_path), kind)
    good, mutated = GOOD[kind]
    if kind != "pack":  # whose digest nobody can make up
        assert read(good), "the file that is whole is not read"
    tried = named = 0
    for data in (*mutated(), *noise(good)):
        tried += 1
        try:
            read(data)
        except KokoroError as error:
            named += 1
            assert len(str(error).splitlines()) == 1
    shown("A3", f"{kind}: damaged files are no obstacle", tried, of=tried, named_errors=named)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ["measured.json", "manifest.json", "voices/af_mine.pack", "voices/af_mine.blend"])
def test_a3_a_pipe_in_place_of_a_file_keeps_nobody_waiting(tmp_path: Path, kind: str) -> None:
    """Opening or reading one blocks for ever."""
    reading = Reading(tmp_path)
    path = (reading.config if "/" in kind else tmp_path) / kind
    os.mkfifo(path)
    if kind == "measured.json":
        assert tuning._read(str(path)) == {}
    elif kind == "manifest.json":
        with pytest.raises(KokoroError, match="not a regular file"):
            manifest.load_manifest(str(path))
    elif kind.endswith("pack"):
        with pytest.raises(KokoroError, match="af_mine"):
            read_own_pack(str(reading.config), "af_mine")
    else:
        assert own_voices(str(reading.config)) == {}


@pytest.mark.e2e
@pytest.mark.timeout(3600)
def test_a3_servers_run_on_beside_their_damaged_records_and_mend_them(world: World, shown: Shown) -> None:
    """The locks are held, and what is written of their holders is nonsense."""
    chance = random.Random(2)
    rounds, held = times(20), 0
    assert world.say("-o", "x.wav", "hello").returncode == 0
    runtime = RuntimeDirectory(str(world.runtime))
    notes = {name: (record_of(runtime, name), note_of(runtime, name).record) for name in ("model", "voice-af_heart")}
    servers = world.servers()
    for _ in range(rounds):
        for name in notes:
            for ending, good in (("lock", NOTE), ("json", RECORD)):
                with open(world.runtime / f"{name}.{ending}", "r+b") as file:
                    file.truncate(0)
                    file.write(chance.choice([*mutations(good), *noise(dumped(good))]))
        beside = world.say("-o", "x.wav", "hello")
        deadline = time.monotonic() + MEND_SECONDS
        while any((record_of(runtime, name), note_of(runtime, name).record) != note for name, note in notes.items()):
            assert time.monotonic() < deadline, "the servers do not mend their records"
            time.sleep(0.2)
        after = world.say("-o", "x.wav", "hello")
        named = "unexpected" not in beside.stderr and beside.returncode in (0, 6)
        held += (named, after.returncode, after.stderr, world.servers()) == (True, 0, "", servers)
    shown("A3", "damaged beside running servers: they mend it, and go on", held, of=rounds)
