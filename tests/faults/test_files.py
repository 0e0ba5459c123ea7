"""C1-C12, C14, C15: the hub, the cache and what lies in it, hostile names, and what nobody may leave behind."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pickle
import queue
import random
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest

from kokoro_common.client.client import Client
from kokoro_common.daemon import starter
from kokoro_common.daemon.runtime_directory import LIBRARIES, RuntimeDirectory
from kokoro_common.engine.engine import KokoroEngine
from kokoro_common.engine.tuning import Choice
from kokoro_common.errors import ModelUnavailable, UnknownVoice
from kokoro_common.hub.download import Hub
from kokoro_common.hub.manifest import Manifest, load_manifest
from kokoro_common.settings import Settings, resolve
from kokoro_common.synthesis import loader as loader_module
from kokoro_common.synthesis.loader import Loader, VoiceLoaded
from kokoro_common.synthesis.styles import MAX_PACKS
from kokoro_common.synthesis.synthesis import Synthesis
from kokoro_common.text.speech import ChunkRequest, Speech
from kokoro_common.voices.catalogue import VOICES, parse_voice
from kokoro_common.voices.pack import read_voice_pack
from kokoro_common.wire.connection import Connection
from kokoro_common.wire.messages import (
    Admitted,
    Download,
    Failed,
    Message,
    Register,
    Route,
    ServerState,
    Speak,
    Synthesize,
    UtteranceEnded,
    UtteranceOpened,
    VoiceServerFor,
)
from tests.conftest import ROOT, World
from tests.faults.conftest import FULL, Shown, times
from tests.helpers.hub_setting import BELLA, CONFIG, HEART, MODEL, Setting, contents
from tests.helpers.kokoro_world import connect_to_hub, hub_of
from tests.helpers.local_hub import LocalHub
from tests.helpers.small_disk import fill, small_disk
from tests.helpers.toy_kokoro import ToyKokoro

pytestmark = pytest.mark.timeout(3600)

BOMB_BYTES = 10**9


@pytest.fixture
def setting(local_hub: Callable[..., LocalHub], tmp_path: Path) -> Setting:
    return Setting(local_hub(contents()), tmp_path)


# --- C6: what lies in the cache under the final name -----------------------------------------------------------------


class Shelf:
    """A cache in which files are damaged, the hub they come from, and a watch on what is parsed."""

    def __init__(self, toy: ToyKokoro, hub: LocalHub, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import torch

        self.toy = toy
        self.hub = hub
        self.cache = path / "cache"
        self.snapshot = self.cache / "hub" / f"models--{hub.repo.replace('/', '--')}" / "snapshots" / hub.revision
        self.parsed: list[str] = []  # SHA-256 of all that reached torch.load or the reader of zips
        real_load, real_zip = torch.load, zipfile.ZipFile

        def load(file: str, **options: Any) -> Any:
            self.parsed.append(hashlib.sha256(Path(file).read_bytes()).hexdigest())
            return real_load(file, **options)

        def zip_file(file: io.BytesIO, *args: Any) -> zipfile.ZipFile:
            self.parsed.append(hashlib.sha256(file.getvalue()).hexdigest())
            return real_zip(file, *args)

        class Engine:
            """Reads its files as KokoroEngine and KModel do, without building a network for each."""

            def __init__(self, files: tuple[str, str]) -> None:
                _, weights = files
                torch.load(weights, map_location="cpu", weights_only=True, mmap=True)

        monkeypatch.setattr(torch, "load", load)
        monkeypatch.setattr(zipfile, "ZipFile", zip_file)
        choice = Choice(precision="fp32", reason="a test")
        monkeypatch.setattr(loader_module, "make_engine", lambda files, *_, **__: (Engine(files), choice))
        monkeypatch.setattr(loader_module, "choose_device", lambda _: ("cpu", "a test"))

    def put(self, name: str, content: bytes) -> Path:
        path = self.snapshot / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def load(self, name: str, *, offline: bool) -> str:
        """What a server makes of the cache: "" or the error."""
        heard: queue.SimpleQueue[Any] = queue.SimpleQueue()
        settings = Settings(
            cache_dir=str(self.cache), manifest=str(self.toy.manifest_path), offline=offline, device="cpu"
        )
        loader = Loader(settings, heard.put)
        loader.start()
        if name == HEART:
            loader.want_voice("af_heart")
        else:
            loader.want_model()
        try:
            while True:
                event = heard.get(timeout=30)
                if isinstance(event, VoiceLoaded):
                    return str(event.error or "")
                if isinstance(event, ServerState) and event.state in ("ready", "default", "failed"):
                    return event.detail
        finally:
            loader.close()


@pytest.fixture
def shelf(
    toy_kokoro: ToyKokoro,
    local_hub: Callable[..., LocalHub],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Shelf]:
    with hub_of(toy_kokoro.directory, toy_kokoro.manifest) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        yield Shelf(toy_kokoro, hub, tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def impostors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Whole files that are not what their name says."""
    import torch

    def saved(thing: object) -> bytes:
        buffer = io.BytesIO()
        torch.save(thing, buffer)
        return buffer.getvalue()

    pack = torch.zeros(510, 1, 256)
    not_a_number = pack.clone()
    not_a_number[100, 0, 100] = torch.nan
    return {
        "nothing": b"",
        "a page": b"<!doctype html><html><body>Please log in</body></html>",
        "a pointer of LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 523425\n",
        "a pickled dict": pickle.dumps({"pack": [0.0] * 100}),
        "a saved dict": saved({"pack": pack}),
        "whole numbers": saved(pack.long()),
        "not a number": saved(not_a_number),
        "another shape": saved(torch.zeros(511, 1, 256)),
        "a view of 10^9 numbers": saved(torch.zeros(1).expand(10**9)),
        "a bomb": bomb(saved(pack)),
    }


def bomb(pack: bytes) -> bytes:
    """A pack whose numbers unpack to a gigabyte: a megabyte in all."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(pack)) as old,
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as new,
    ):
        for record in old.namelist():
            if not record.endswith("data/0"):
                new.writestr(record, old.read(record))
        with new.open("archive/data/0", "w", force_zip64=True) as numbers:
            for _ in range(BOMB_BYTES // 10**6):
                numbers.write(bytes(10**6))
    return buffer.getvalue()


def flipped(good: bytes, chance: random.Random) -> bytes:
    damaged = bytearray(good)
    damaged[chance.randrange(len(good))] ^= 1 << chance.randrange(8)
    return bytes(damaged)


def test_c6_a_bad_file_in_the_cache_is_seen_before_it_is_parsed(
    shelf: Shelf, impostors: dict[str, bytes], shown: Shown, caplog: pytest.LogCaptureFixture
) -> None:
    """Bits flipped, cut short, or something else; the hub is well, out of reach, or has nothing better."""
    chance = random.Random(6)
    good = {name: Path(shelf.toy.directory / name).read_bytes() for name in (HEART, "kokoro-v1_0.pth")}
    wrong = {name: content[:-1] + bytes([content[-1] ^ 1]) for name, content in good.items()}
    others = list(impostors.values())
    damages: list[Callable[[bytes, int], bytes]] = [
        *[lambda content, _: flipped(content, chance)] * times(300),
        *[lambda content, _: content[: chance.randrange(len(content))]] * times(100),
        *[lambda _, number: others[number % len(others)]] * times(100),
    ]
    truths = set(shelf.toy.manifest["files"].values())
    assert shelf.load("kokoro-v1_0.pth", offline=False) == ""
    seen = set_aside = fetched = 0
    for number, damage in enumerate(damages):
        name = HEART if number // len(others) % 2 else "kokoro-v1_0.pth"
        situation = ("well", "well", "offline", "no better")[number % 4]
        damaged = damage(good[name], number)
        path = shelf.put(name, damaged)
        shelf.parsed.clear()
        shelf.hub.requests.clear()
        shelf.hub.files[name] = wrong[name] if situation == "no better" else good[name]
        caplog.clear()
        error = shelf.load(name, offline=situation == "offline")
        seen += set(shelf.parsed) <= truths and bool(shelf.parsed) == (situation == "well")
        corrupt = Path(f"{path}.corrupt")
        set_aside += corrupt.read_bytes() == damaged and any(str(corrupt) in line for line in caplog.messages)
        gets = shelf.hub.gets()[name]
        if situation == "well":
            fetched += (gets, error, path.read_bytes()) == (1, "", good[name])
        elif situation == "offline":
            fetched += gets == 0 and "KOKORO_OFFLINE" in error and not path.exists()
        else:
            fetched += gets == 2 and "SHA-256" in error and not path.exists()
    shown("C6", "seen by its digest; nothing wrong was parsed", seen, of=times(500))
    shown("C6", "set aside, and the log says where", set_aside, of=times(500))
    shown("C6", "fetched again once, else a clear error", fetched, of=times(500))


@pytest.mark.skipif(not FULL, reason="writes 327 MB")
def test_c6_the_check_of_the_real_size_takes_half_a_second(tmp_path: Path, shown: Shown) -> None:
    block = random.Random(1).randbytes(1 << 20)
    content = hashlib.sha256()
    manifest = Manifest(repo="a/b", revision="0" * 40, model="m", config="m", files={"m": ""}, spacy=None)
    path = tmp_path / "hub" / "models--a--b" / "snapshots" / ("0" * 40) / "m"
    path.parent.mkdir(parents=True)
    with open(path, "wb") as file:
        for _ in range(312):
            file.write(block)
            content.update(block)
    manifest = manifest.replace(files={"m": content.hexdigest()})
    seconds = []
    for _ in range(5):
        hub = Hub(manifest, str(tmp_path), True)
        began = time.monotonic()
        assert hub.cached("m") == str(path)
        seconds.append(time.monotonic() - began)
        assert hub.cached("m") == str(path)  # once per start
    shown("C6", "checked in half a second", sum(each <= 0.5 for each in seconds), of=5, worst_s=round(max(seconds), 2))


# --- C12: pickles that would run something, behind a digest that is right --------------------------------------------


def evil_files(canary: Path) -> list[bytes]:
    """50 files, each of which makes the canary when it is unpickled."""
    import builtins
    import subprocess

    touch = f"touch {canary}"
    python = f"open({str(canary)!r}, 'w').close()"

    class Call:
        def __init__(self, function: Any, *arguments: object) -> None:
            self.call = (function, arguments)

        def __reduce__(self) -> Any:
            return self.call

    calls: list[object] = [
        Call(os.system, touch),
        Call(subprocess.call, ["touch", str(canary)]),
        Call(subprocess.getoutput, touch),
        Call(builtins.exec, python),
        Call(builtins.eval, python),
        Call(os.mkdir, str(canary)),
        {"weight": Call(os.system, touch)},
        [1.0, (Call(builtins.exec, python),)],
    ]
    magic = [pickle.dumps(thing, 2) for thing in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    files = []
    for call in calls:
        for protocol in (0, 2, 4):
            files.append(pickle.dumps(call, protocol))
        files.append(b"".join(magic) + pickle.dumps(call, 2))  # torch's format before the zip
        files.append(zip_of(pickle.dumps(call, 2), bytes(510 * 256 * 4)))
        files.append(zip_of(pickle.dumps(call, 2)[:-1] + b"0" + DESCRIPTION[2:], bytes(510 * 256 * 4)))  # then a pack
    files += [b"cos\nsystem\n(V" + touch.encode() + b"\ntR.", b"(V" + touch.encode() + b"\nios\nsystem\n."]
    return files


# A pickle that describes a pack, as torch.save writes it.
DESCRIPTION = (
    b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nq\x00((X\x07\x00\x00\x00storageq\x01ctorch\nFloatStorage\nq\x02"
    b"X\x01\x00\x00\x000q\x03X\x03\x00\x00\x00cpuq\x04J\x00\xfe\x01\x00tq\x05QK\x00M\xfe\x01K\x01M\x00\x01\x87q\x06"
    b"M\x00\x01M\x00\x01K\x01\x87q\x07\x89ccollections\nOrderedDict\nq\x08)Rq\ttq\nRq\x0b."
)


def zip_of(pickled: bytes, numbers: bytes) -> bytes:
    buffer = io.BytesIO()
    records = {"data.pkl": pickled, "byteorder": b"little", "data/0": numbers, "version": b"3\n"}
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in records.items():
            archive.writestr(f"archive/{name}", content)
    return buffer.getvalue()


def test_c12_the_pickles_are_live_and_the_description_is_a_packs(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    (tmp_path / "pack.pt").write_bytes(zip_of(DESCRIPTION, bytes(510 * 256 * 4)))
    assert read_voice_pack(tmp_path / "pack.pt").shape == (510, 1, 256)
    files = evil_files(canary)
    assert len(files) == len(set(files)) == 50
    for content in files:
        pickled = content
        if content.startswith(b"PK"):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                pickled = archive.read("archive/data.pkl")
        stream = io.BytesIO(pickled)
        while not canary.exists():
            try:
                pickle.load(stream)
            except (pickle.UnpicklingError, EOFError):  # what comes after the call is no pickle: the call was made
                break
        assert canary.exists(), pickled[:100]
        canary.rmdir() if canary.is_dir() else canary.unlink()


def test_c12_a_voice_that_is_a_pickle_runs_nothing(tmp_path: Path, shown: Shown) -> None:
    canary, path = tmp_path / "canary", tmp_path / "voice.pt"
    refused = 0
    for content in evil_files(canary):
        path.write_bytes(content)
        with pytest.raises(ModelUnavailable):
            read_voice_pack(path)
        refused += not canary.exists()
    shown("C12", "voices: refused, canary untouched", refused, of=50)


@pytest.mark.model
def test_c12_weights_that_are_a_pickle_run_nothing(toy_kokoro: ToyKokoro, tmp_path: Path, shown: Shown) -> None:
    canary, path = tmp_path / "canary", tmp_path / "weights.pth"
    refused = 0
    files = evil_files(canary)[:: 50 // times(50)]
    for content in files:
        path.write_bytes(content)
        with pytest.raises(ModelUnavailable, match="cannot be loaded"):
            KokoroEngine(str(toy_kokoro.config_path), str(path), "cpu")
        refused += not canary.exists()
    shown("C12", "weights: refused, canary untouched", refused, of=times(50))


def test_c12_an_impostor_behind_its_right_digest_is_refused(impostors: dict[str, bytes], tmp_path: Path) -> None:
    """Memory included: the bomb would be a gigabyte."""
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for content in impostors.values():
        (tmp_path / "voice.pt").write_bytes(content)
        with pytest.raises(ModelUnavailable):
            read_voice_pack(tmp_path / "voice.pt")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10  # KiB


# --- C11: hostile names ----------------------------------------------------------------------------------------------

WATCH = """
import os, sys
watched = os.open(os.environ["WATCHED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.listdir", "os.scandir", "os.rmdir", "os.link", "os.symlink",
          "os.truncate", "os.chmod", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect", "shutil.rmtree",
          "socket.getaddrinfo"}
def watch(event, args):
    if event in EVENTS:
        os.write(watched, f"{os.getpid()} {event} {args[:2]!r}\\n".encode("utf-8", "replace"))
sys.addaudithook(watch)
"""


class Watch:
    """What the processes of a world open, make, remove, run and connect to, from the last look on."""

    def __init__(self, world: World) -> None:
        self.path = world.path / "watched"
        self.path.touch()
        (world.path / "site").mkdir()
        (world.path / "site" / "sitecustomize.py").write_text(WATCH)
        world.environment |= {"PYTHONPATH": str(world.path / "site"), "WATCHED": str(self.path)}
        self._seen = 0

    def events(self) -> list[str]:
        lines = self.path.read_text().splitlines()
        new, self._seen = lines[self._seen :], len(lines)
        return new


def hostile_names() -> list[str]:
    """500 names that are in no catalogue."""
    chance = random.Random(11)
    paths = ["../../x", "/etc/passwd", "..", ".", "./af_heart", "af_heart/", "/", "//", "~", "~/x", "af_heart/../x",
             "..\\..\\x", "C:\\x", "file:///etc/passwd", "voices/af_heart", "af_heart.pt", ".pt", "hub/x.pt",
             "%2e%2e%2fx", "..%c0%af", "/proc/self/environ", "/dev/stdin", "\\\\host\\share", "x\\..\\y"]  # fmt: skip
    odd = ["", " ", "a", "af_", "_heart", "af__heart", "AF_HEART", "Af_heart", "af_heart ", " af_heart", "af_heart\n",
           "af\u2024heart", "\u2025/\u2025/x", "\uff0e\uff0e/x", "a\u200bf_heart", "\u202eaf_heart", "af_h\u00e9art",
           "af_heart\u0301", "\ufeffaf_heart", "\u0430f_heart", "CON", "NUL", "aux", "COM1", "-rf", "--help", "-", "*",
           "af_*", "?x", "$HOME", "`id`", "$(id)", ";id", "|id", "&", "<x>", "'", '"', "{}", "{0}", "%s", "%n", "None",
           "zz_none", "af_nobody", "null", "0", "1e999", "NaN", "af_heart#", "af_heart?x=1", "https://example.com/af_heart.pt",
           "http://127.0.0.1:1/x", "hf://a/b", "hexgrad/Kokoro-82M", "git@x:y", "a" * 10_240, "af_" + "a" * 33,
           "/" * 300, "../" * 3_000, "af_heart," * 60, "\u0660" * 40, "af_heart'; drop table voices;--"]  # fmt: skip
    nul = ["af_heart\0", "\0", "af_heart\0.pt", "\0/etc/passwd", "af_\ud800", "\udcff", "af_heart\x1b[2J", "\r\nx: y"]
    blends = [",", "a,b,..", "af_heart,", ",af_heart", "af_heart,,am_adam", "af_heart,../x", "af_heart:1,/etc/passwd:1",
              "af_heart:", "af_heart:-1", "af_heart:nan,am_adam:nan", "af_heart:inf,am_adam:1",
              "af_heart:1e3,am_adam:1", "af_heart:0,am_adam:0",
              "af_heart:1,am_adam", "af_heart:\u0661,am_adam:1", "af_heart:0x1,am_adam:1",
              "af_heart:1:2,am_adam:1", "af_heart:0.5;am_adam:0.5", "af_heart;am_adam", "af_heart+am_adam",
              ",".join(["af_heart"] * 5), ",".join(VOICES), ",".join(list(VOICES[:30]) * 2)]  # fmt: skip
    names = dict.fromkeys([*paths, *odd, *nul, *blends])
    pieces = [*paths, *odd[:60], *nul, "af_heart", "am_adam", ":0.5", ",", "/", "\0", ".pt", "..", "\u2215"]
    while len(names) < 500:
        name = "".join(chance.choices(pieces, k=chance.randrange(2, 5)))
        try:
            parse_voice(name)
        except UnknownVoice:
            names[name] = None
    return list(names)


COMMAND_DOOR = """
import contextlib, io, json, sys
sys.path.insert(0, {root!r})
import say
names = json.load(open({names!r}))
codes = []
errors = io.StringIO()
with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(errors):
    say.main(["--voice=warm up", "x"])
    say.main(["--download", "--", "warm up"])
    marked = []
    sys.addaudithook(lambda event, args: marked.append((event, str(args[:2]))) if event in WATCHED else None)
    WATCHED = {{"open", "os.listdir", "os.scandir", "os.mkdir", "os.rename", "os.remove", "socket.connect",
               "subprocess.Popen", "os.exec", "os.posix_spawn", "socket.getaddrinfo"}}
    for name in names:
        codes.append((say.main(["--voice=" + name, "x"]), say.main(["--download", "--", name])))
    seen = len(marked)
    open("/dev/null").close()
    assert len(marked) == seen + 1, "nothing was watched"
    WATCHED = set()
print(json.dumps([codes, marked[:seen], max(map(len, errors.getvalue().splitlines()))]))
"""


def test_c11_the_command_refuses_hostile_names_and_opens_nothing(world: World, shown: Shown) -> None:
    names = hostile_names()
    (world.path / "names.json").write_text(json.dumps(names))
    code = COMMAND_DOOR.format(root=str(ROOT), names=str(world.path / "names.json"))
    done = subprocess.run(
        [sys.executable, "-c", code], env=world.environment, cwd=world.path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    codes, opened, longest = json.loads(done.stdout)
    listing = ["os.listdir", f"({str(world.path / 'config' / 'voices')!r},)"]  # the user's own, whatever the name
    opened = [event for event in opened if event != listing]
    refused = sum(spoken == (2 if "\0" in name else 5) for name, (spoken, _) in zip(names, codes, strict=True))
    shown("C11", "say.py -v refuses", refused, of=500)
    shown("C11", "say.py --download refuses", sum(fetched == 5 for _, fetched in codes), of=500)
    shown("C11", "the command opens, runs and calls nothing", 500 - len(opened), of=500, first=opened[:3])
    assert longest < 300
    assert world.servers() == []
    for name in ("../../x", "-rf", "a" * 10_240, "\udcff"):  # as a shell gives it
        assert world.say("-v", name, "x").returncode == (2 if name == "-rf" else 5)


def test_c11_the_servers_refuse_hostile_names_and_open_nothing(world: World, shown: Shown) -> None:
    """Raw messages, as a client could send them that is not ours; and through Client.download."""
    watch = Watch(world)
    assert world.say("-o", "x.wav", "warm up").returncode == 0
    runtime = RuntimeDirectory(str(world.runtime))
    speaker, model, voice = (
        starter.connect(runtime, "voice-af_heart"),
        starter.connect(runtime, "model"),
        starter.connect(runtime, "model", "voice"),
    )
    assert speaker is not None and model is not None and voice is not None
    client = Client(resolve(environ=world.environment))

    def speak(name: str) -> int:
        message = Speak(
            utterance=os.urandom(16).hex(),
            speech=Speech(voice=name, lang="a", speed=1.0, engine="espeak", seed=0),
            route=Route(sink="client"),
        )
        return code_of(speaker, message)

    def synthesize(name: str) -> int:
        utterance = os.urandom(16).hex()
        voice.send(UtteranceOpened(utterance=utterance))
        assert isinstance(voice.receive(10)[0], Admitted)
        message = Synthesize(
            utterance=utterance,
            request=ChunkRequest(
                index=0, text="x", speech=Speech(voice=name, lang="a", speed=1.0, engine="espeak", seed=0)
            ),
        )
        code = code_of(voice, message)
        voice.send(UtteranceEnded(utterance=utterance, outcome="failed"))
        return code

    def download(name: str) -> int:
        try:
            list(client.download(["af_heart", name]))
        except UnknownVoice as error:
            return error.exit_code
        return 0

    doors = {
        "Speak": speak,
        "VoiceServerFor": lambda name: code_of(model, VoiceServerFor(voice=name, engine="espeak", environment={})),
        "Download": lambda name: code_of(model, Download(voices=(name,))),
        "Synthesize": synthesize,
        "Client.download": download,
    }
    voice.send(Register(voice="am_adam", pid=os.getpid(), port=1, instance="0" * 32, open=[]))
    assert isinstance(voice.receive(10)[0], ServerState)
    for door in doors.values():
        door("warm up")
    world.status()  # imports what looks at processes
    size = {process.pid: process.memory_info().rss for process in world.servers()}
    assert any("kokoro.log" in event for event in watch.events()), "nothing was watched"
    names = hostile_names()

    def refuses(door: Callable[[str], int], name: str) -> bool:
        try:
            return door(name) == 5
        except ValueError as error:  # our side does not even send it
            return "more than" in str(error)

    refused = {kind: sum(refuses(door, name) for name in names) for kind, door in doors.items()}
    events = watch.events()
    grown = max(process.memory_info().rss - size[process.pid] for process in world.servers())
    for connection in (speaker, model, voice):
        connection.close()
    records, program = r"\.?(model|voice-\w+|token)[\w.-]*|/proc/.*", re.escape(str(ROOT / "kokoro_common"))
    own = re.compile(rf"\d+ ([\w.]+ \(b?'({records})'|os\.scandir \('{program}[\w/]*',)")  # which servers look after
    listing = f"os.listdir ({str(world.path / 'config' / 'voices')!r},)"  # the user's own, whatever the name
    foreign = [event for event in events if not own.match(event) and not event.endswith(listing)]
    for kind, count in refused.items():
        shown("C11", f"{kind} refuses", count, of=500)
    rss = round(grown / 1e6, 1)
    shown("C11", "servers open, run, call nothing", 500 - len(foreign), of=500, first=foreign[:3], rss_grown_mb=rss)
    assert "Traceback" not in (world.cache / "logs" / "kokoro.log").read_text()


def code_of(connection: Connection, message: Message) -> int:
    connection.send(message)
    answer = connection.receive(10)[0]
    return answer.code if isinstance(answer, Failed) else 0


def test_c11_the_loader_and_the_parser_open_nothing_for_a_hostile_name(
    setting: Setting, shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last door: behind it lie paths."""
    heard: queue.SimpleQueue[Any] = queue.SimpleQueue()
    loader = Loader(Settings(cache_dir=str(setting.cache), manifest=setting.manifest_path), heard.put)
    loader.start()
    refused = 0
    for name in hostile_names():
        loader.want_voice(name)
        error = heard.get(timeout=10).error
        refused += isinstance(error, ModelUnavailable) and "manifest" in str(error)
    loader.close()
    shown("C11", "the loader refuses", refused, of=500)
    assert setting.server.requests == []
    assert not setting.cache.exists()


def test_c11_ten_thousand_blends_take_no_memory(toy_kokoro: ToyKokoro, shown: Shown) -> None:
    packs = {voice: read_voice_pack(toy_kokoro.voice_path(voice)) for voice in ("af_heart", "af_bella", "am_adam")}
    synthesis = Synthesis(cast(Loader, SimpleNamespace(packs=packs)), "/nonexistent", debug=False)
    try:
        chance = random.Random(4)

        def blends(count: int) -> Iterator[str]:
            for _ in range(count):
                weights = [chance.randrange(1, 1000) for _ in packs]
                yield ",".join(f"{name}:{weight}" for name, weight in zip(packs, weights, strict=True))

        for name in blends(200):
            synthesis._styles.pack(parse_voice(name).name)
        before = psutil.Process().memory_info().rss
        for name in blends(times(10_000)):
            synthesis._styles.pack(parse_voice(name).name)
        grown = psutil.Process().memory_info().rss - before
        kept = synthesis._styles.pack.cache_info().currsize
    finally:
        synthesis._espeak.close()
    shown("C11", "blends without growth", times(10_000) if grown < 2 << 20 else 0, of=times(10_000),
          rss_grown_kib=grown >> 10, kept=kept)  # fmt: skip
    assert kept == MAX_PACKS == 32


# --- C4, C5: a hub that answers otherwise ----------------------------------------------------------------------------


@pytest.fixture
def odd_server() -> Iterator[Callable[..., str]]:
    """Starts a server of one connection after the other, over TLS if it has a certificate; returns host and port."""
    listeners: list[socket.socket] = []

    def serve(answer: bytes, certificate: Path | None = None) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if certificate is not None:
            context.load_cert_chain(certificate)

        def run() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with contextlib.suppress(OSError), connection:
                    stream = context.wrap_socket(connection, server_side=True) if certificate else connection
                    stream.recv(65536)
                    stream.sendall(answer)
                    stream.close()

        threading.Thread(target=run, daemon=True).start()
        return f"127.0.0.1:{listener.getsockname()[1]}"

    yield serve
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def certificate_of_nobody(directory: Path) -> Path:
    path = directory / "both.pem"
    command = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    try:
        subprocess.run(
            ["openssl", *command.split(), "-keyout", directory / "key", "-out", path], check=True, capture_output=True
        )
    except FileNotFoundError:
        pytest.skip("making a certificate needs the command openssl")
    path.write_bytes(path.read_bytes() + (directory / "key").read_bytes())
    return path


@pytest.mark.parametrize("kind", ["redirect loop", "redirect away and back", "untrusted certificate", "no TLS at all"])
def test_c4_a_hub_that_leads_nowhere_is_given_up_at_once(
    setting: Setting, odd_server: Callable[..., str], kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    shown: Shown,
) -> None:  # fmt: skip
    empty = b"Content-Length: 0\r\nConnection: close\r\n\r\n"
    if kind == "redirect loop":
        endpoint = "http://" + odd_server(b"HTTP/1.1 302 Found\r\nLocation: /again\r\n" + empty)
    elif kind == "redirect away and back":
        endpoint = "http://" + odd_server(
            b"HTTP/1.1 302 Found\r\nLocation: http://localhost:1/x\r\nX-Repo-Commit: 1\r\n" + empty
        )
    elif kind == "untrusted certificate":
        endpoint = "https://" + odd_server(b"HTTP/1.1 200 OK\r\n" + empty, certificate_of_nobody(tmp_path))
    else:
        endpoint = "https://" + odd_server(b"HTTP/1.1 400 Bad Request\r\n" + empty)
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    began = time.monotonic()
    for call in (setting.hub().preflight, lambda: setting.fetch(MODEL)):
        with pytest.raises(ModelUnavailable, match=f"cannot be fetched from {endpoint}"):
            call()
    seconds = time.monotonic() - began
    assert setting.files() == set()
    shown("C4", f"{kind}: given up with the reason", int(seconds < 10), of=1, seconds=round(seconds, 1))


BODIES = ["cut_after", "reset_after", "stall_after", "wrong_bytes", "too_long", "html"]


def test_c5_no_bad_file_is_ever_visible_under_its_name(
    setting: Setting, shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is sent, however often: what is renamed to the final name is what the manifest says."""
    chance = random.Random(5)
    renamed: list[str] = []
    replace = os.replace

    def watched(source: str, target: str) -> None:
        renamed.append(hashlib.sha256(Path(source).read_bytes()).hexdigest())
        replace(source, target)

    monkeypatch.setattr(os, "replace", watched)
    server = setting.server
    path = setting.snapshot / MODEL
    good = whole = 0
    for number in range(times(500)):
        server.healthy()
        knob = BODIES[number % len(BODIES)]
        setattr(server, knob, chance.randrange(300_000) if knob.endswith("after") else True)
        server.times = chance.randrange(1, 7)
        try:
            setting.fetch(MODEL, hub=setting.hub(stall=0.05, backoff=0.001))
        except ModelUnavailable:
            good += not path.exists()
        else:
            good += path.read_bytes() == contents()[MODEL]
            whole += 1
            path.unlink()
    shown("C5", "no bad file under the final name", good, of=times(500), fetched=whole)
    assert whole
    assert set(renamed) == {setting.manifest.files[MODEL]}


# --- C7, C8: many processes, killed processes, full and broken disks -------------------------------------------------

# One process that has imported everything forks those that fetch: hundreds of starts would be minutes of imports.
FETCHERS = """
import errno, os, signal, sys
from kokoro_common.errors import ModelUnavailable
from kokoro_common.hub.download import Hub, quieten_huggingface_hub
from kokoro_common.hub.manifest import load_manifest
manifest, cache, *names = sys.argv[1:]
quieten_huggingface_hub()
import huggingface_hub.errors, huggingface_hub.utils, httpx2
# Without the certificates of the world, which each process would read for a third of a second.
huggingface_hub.set_client_factory(lambda: httpx2.Client(verify=False, follow_redirects=True))
LENGTHS = dict(zip(names, map(int, os.environ["LENGTHS"].split())))

def fetch(progress=lambda *_: None):
    hub = Hub(load_manifest(manifest), cache, False, backoff=0.05)
    found = hub.fetch(names, progress)
    assert [os.path.getsize(found[name]) for name in names] == [LENGTHS[name] for name in names]

def child(work):
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except ModelUnavailable as error:
            print(error, flush=True)
            os._exit(4)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return pid

def ended(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


def fetchers(setting: Setting, code: str, *names: str) -> str:
    """Runs FETCHERS with this code; what it printed."""
    sizes = " ".join(str(len(contents()[name])) for name in names)
    done = subprocess.run(
        [sys.executable, "-c", FETCHERS + code, setting.manifest_path, str(setting.cache), *names],
        cwd=ROOT, env={**os.environ, "LENGTHS": sizes}, capture_output=True, text=True, timeout=3000,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_c7_fifty_cold_processes_fetch_each_file_once(
    setting: Setting, shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
reading, writing = os.pipe()
pids = [child(lambda: (os.close(writing), os.read(reading, 1), fetch())) for _ in range(50)]
os.close(writing)
print(sum(ended(pid) == 0 for pid in pids))
"""
    names = [MODEL, CONFIG, HEART, BELLA]
    held = 0
    for _ in range(times(20)):
        setting.server.requests.clear()
        succeeded = fetchers(setting, code, *names)
        assert succeeded.split()[-1] == "50", succeeded
        left = setting.file_names()
        gets = setting.server.gets()
        held += (gets, left) == (dict.fromkeys(names, 1), {MODEL, CONFIG, "af_heart.pt", "af_bella.pt"})
        shutil.rmtree(setting.cache)
    shown("C7", "50 cold processes, one GET for each file", held, of=times(20), last=str(gets), left=sorted(left))


KILLED = """
import shutil
count = int(os.environ["COUNT"])
EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "fcntl.flock", "socket.connect", "os.listdir", "os.scandir"}

def until(limit):
    '''A fetch that is killed at its event number `limit`; every block of a body is an event, too.'''
    seen = 0
    def count(*_):
        nonlocal seen
        seen += 1
        if seen == limit:
            os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(lambda event, _: count() if event in EVENTS else None)
    fsync, write = os.fsync, os.write
    os.fsync = lambda fd: (count(), fsync(fd), count())
    fetch(count)

good = killed = 0
limit = 0
for _ in range(count):
    limit += 1
    status = ended(child(lambda: until(limit)))
    killed += status == -signal.SIGKILL
    if status == 0:  # it was through before the event: all have been tried
        limit = 0
    good += ended(child(fetch)) == 0
    left = sorted(name for _, _, files in os.walk(cache) for name in files if name != ".lock")
    good -= left != sorted(os.path.basename(name) for name in names)
    shutil.rmtree(cache)
print(good, killed)
"""


def test_c8_after_a_kill_at_any_moment_the_next_start_is_good(
    setting: Setting, shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = times(500)  # there are about 40 moments
    monkeypatch.setenv("COUNT", str(count))
    good, killed = map(int, fetchers(setting, KILLED, MODEL, HEART).split()[-2:])
    shown("C8", "killed at every system call: the next start is good, no litter", good, of=count, killed=killed)
    assert killed > 0.9 * count


BROKEN = """
import shutil
def broken(*_):
    raise OSError(errno.EIO, "Input/output error")

good = 0
for _ in range(int(os.environ["COUNT"])):
    fsync, os.fsync = os.fsync, broken
    status = ended(child(fetch))
    os.fsync = fsync
    left = [name for _, _, files in os.walk(cache) for name in files if name != ".lock"]
    good += (status, left, ended(child(fetch))) == (4, [], 0)
    shutil.rmtree(cache)
print(good)
"""


def test_c8_a_disk_that_cannot_keep_its_word_is_told_and_the_next_start_is_good(
    setting: Setting, shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COUNT", str(times(100)))
    output = fetchers(setting, BROKEN, HEART)
    assert f"the cache {setting.cache}/hub cannot be written: Input/output error" in output
    shown("C8", "fsync fails: an error, then a good start, no litter", int(output.split()[-1]), of=times(100))


def test_c8_a_disk_that_fills_up_is_told_and_the_next_start_is_good(setting: Setting, shown: Shown) -> None:
    chance = random.Random(8)
    good = 0
    with small_disk(setting.cache, "1m"):
        for _ in range(times(100)):
            ballast = fill(setting.cache, leave=chance.randrange(300_000))
            with pytest.raises(
                ModelUnavailable, match=f"(are free in {setting.cache}/hub|hub cannot be written: No space left)"
            ):
                setting.fetch(MODEL)
            assert setting.file_names() <= {"ballast"}
            ballast.unlink()
            good += Path(setting.fetch(MODEL)[MODEL]).read_bytes() == contents()[MODEL]
            good -= setting.file_names() != {MODEL}
            shutil.rmtree(setting.cache / "hub")
    shown("C8", "full disk: an error, then a good start, no litter", good, of=times(100))


# --- C9, C10: disks that are full, read-only or another's ------------------------------------------------------------


def test_c9_a_full_runtime_directory_is_named_at_the_start_and_does_not_stop_speech(world: World, shown: Shown) -> None:
    told = spoken = 0
    with small_disk(world.runtime, "64k"):
        for _ in range(times(10)):
            ballast = fill(world.runtime)
            done = world.say("-o", "x.wav", "hello")
            told += done.returncode == 6 and str(world.runtime) in done.stderr and done.stderr.count("\n") == 1
            ballast.unlink()
            spoken += world.say("-o", "x.wav", "hello").returncode == 0
            ballast = fill(world.runtime)
            spoken += world.say("-o", "x.wav", "hello").returncode == 0
            ballast.unlink()
            world.say("--shutdown", "-q")
        world.environment["KOKORO_RUNTIME_DIR"] = str(world.path / "elsewhere")
    shown("C9", "full runtime directory: the start names it", told, of=times(10))
    shown("C9", "full runtime directory: who runs speaks on", spoken, of=2 * times(10))


def test_c9_full_logs_and_temporary_files_do_not_stop_speech(world: World, shown: Shown) -> None:
    spoken = 0
    with small_disk(world.path / "full", "64k") as full:
        fill(full)
        world.environment |= {"KOKORO_LOG_DIR": str(full / "logs"), "TMPDIR": str(full)}
        for _ in range(times(10)):
            spoken += world.say("-o", "x.wav", "hello").returncode == 0
            world.say("--shutdown", "-q")
        world.environment |= {"KOKORO_LOG_DIR": str(world.path / "logs"), "TMPDIR": str(world.path)}
    shown("C9", "full logs and TMPDIR: speech goes on", spoken, of=times(10))


OTHER_OWNER = """
fetch()  # so that all that is imported is there: the other user may not read our modules
mode = os.environ["CACHE"]
paths = [os.path.join(directory, name) for directory, _, files in os.walk(cache) for name in files]
if mode == "unreadable":
    for path in paths:
        os.chmod(path, 0)
elif mode != "ours":
    for directory, _, _ in os.walk(cache):
        os.chmod(directory, 0o755)
    for path in paths:
        os.chmod(path, 0o644)
def visit():
    if os.getuid() == 0:
        os.setgroups([]); os.setgid(65534); os.setuid(65534)
    fetch()
before = [(path, os.stat(path).st_mtime_ns, os.stat(path).st_mode) for path in paths]
print(ended(child(visit)), before == [(path, os.stat(path).st_mtime_ns, os.stat(path).st_mode) for path in paths])
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can act as two users")
@pytest.mark.parametrize(("cache", "code"), [("another's, readable", 0), ("unreadable", 4), ("ours", 4)])
def test_c10_a_cache_of_another_user_is_read_or_named(
    local_hub: Callable[..., LocalHub], shown: Shown, monkeypatch: pytest.MonkeyPatch, cache: str, code: int
) -> None:
    with tempfile.TemporaryDirectory(prefix="kokoro-test-") as directory:
        os.chmod(directory, 0o755)
        setting = Setting(local_hub(contents()), Path(directory))
        monkeypatch.setenv("CACHE", cache)
        output = fetchers(setting, OTHER_OWNER, MODEL, HEART)
        assert output.split()[-2:] == [str(code), "True"], output
        assert code == 0 or f"the cache {setting.cache}/hub cannot be written: Permission denied" in output
        shown("C10", f"{cache}: {'read' if code == 0 else 'named'}, untouched", 1, of=1)


@pytest.mark.skipif(os.getuid() != 0 or sys.platform != "linux", reason="a read-only mount needs root on Linux")
def test_c10_a_read_only_cache_is_used_as_it_is(setting: Setting, shown: Shown) -> None:
    setting.fetch(MODEL, HEART)
    setting.server.requests.clear()
    with small_disk(setting.cache / "mounted", "1m") as disk:
        shutil.copytree(setting.cache / "hub", disk / "hub")
        if subprocess.run(["mount", "-o", "remount,ro", str(disk)], capture_output=True).returncode:
            pytest.skip("tmpfs cannot be remounted here")
        hub = Hub(setting.manifest, str(disk), False)
        assert set(hub.fetch([MODEL, HEART], lambda *_: None)) == {MODEL, HEART}
        assert setting.server.requests == []
        with pytest.raises(ModelUnavailable, match=f"the cache {disk}/hub cannot be written: Read-only file system"):
            hub.fetch([BELLA], lambda *_: None)
    shown("C10", "read-only: what is there is used, what is not is named", 1, of=1)


# --- C1, C2, C3, C14: nothing is asked of the network that is not missing --------------------------------------------

LANGUAGES_AT_ONCE = """
import json, os, sys
calls = []
sys.addaudithook(lambda event, args: calls.append(f"{event} {args[:2]!r}") if event in WATCHED else None)
WATCHED = {"socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.system"}
from kokoro_common.errors import ModelUnavailable
from kokoro_common.phonemes.g2p import G2P
g2p = G2P(None, sys.argv[1])
texts = {"a": "Hello, world number {}.", "b": "Colour and flavour, {}.", "e": "Hola, número {}.",
         "f": "Bonjour, le {}.", "h": "नमस्ते {}", "i": "Ciao, numero {}.",
         "p": "Olá, número {}.", "j": "こんにちは、{}。", "z": "你好，{}。"}
spoken = 0
lacking = []
for number in range(int(sys.argv[2])):
    for lang in [lang for lang in texts if lang not in lacking]:
        try:
            spoken += bool(g2p.spoken(texts[lang].format(number), lang).phonemes)
        except ModelUnavailable as error:
            lacking.append(lang)
WATCHED = set()
print(json.dumps([spoken, "".join(lacking), calls]))
"""


def without_network() -> list[str]:
    """What to put before a command, so that it has loopback at the most; or nothing, where that cannot be."""
    command = ["unshare", "-rn"]
    try:
        return command if subprocess.run([*command, "true"], capture_output=True).returncode == 0 else []
    except FileNotFoundError:
        return []


def test_c14_no_language_fetches_anything_when_it_is_first_spoken(tmp_path: Path, shown: Shown) -> None:
    """No pip, no download: neither by misaki nor by spaCy, nltk or jieba."""
    rounds = times(1500)
    done = subprocess.run(
        [*without_network(), sys.executable, "-W", "ignore", "-c", LANGUAGES_AT_ONCE, str(tmp_path), str(rounds)],
        cwd=ROOT, capture_output=True, text=True, timeout=1200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    spoken, lacking, calls = json.loads(done.stdout.splitlines()[-1])
    own = ("ldconfig", "uname", "phonemes.espeak_process")  # of ctypes, platform and our own worker
    foreign = [call for call in calls if not any(name in call for name in own)]
    wanted = rounds * (9 - len(lacking))
    shown("C14", "spoken without a process or a connection", spoken - len(foreign), of=wanted, lacking=lacking,
          first=foreign[:3], isolated=bool(without_network()))  # fmt: skip
    assert not set(lacking) - set("jz"), "only the extras may be absent"


def test_c2_a_full_cache_asks_a_silent_hub_nothing(setting: Setting, shown: Shown) -> None:
    names = [MODEL, CONFIG, HEART, BELLA]
    setting.fetch(*names)
    setting.server.silent = True
    setting.server.requests.clear()
    held = 0
    for _ in range(20):
        began = time.monotonic()
        held += len(setting.hub().fetch(names, lambda *_: None)) == 4 and time.monotonic() - began < 1
    shown("C2", "starts beside a silent hub", held - len(setting.server.requests), of=20)


def test_c3_without_network_and_cache_the_error_has_the_recipe(world: World, shown: Shown) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
    world.environment |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(world.path / "hf"), "KOKORO_ENGINE": "kokoro"}
    del world.environment["KOKORO_OFFLINE"]
    assert world.say("-o", "x.wav", "--engine", "espeak", "warm up").returncode == 0
    began = time.monotonic()
    done = world.say("--download")
    seconds = time.monotonic() - began
    assert done.returncode == 4, done.stderr
    manifest = load_manifest("")
    for part in (manifest.config, f"{endpoint}/{manifest.repo}/resolve/{manifest.revision}/", str(world.cache / "hub")):
        assert part in done.stderr
    spoken = world.say("-o", "x.wav", "hello")
    assert spoken.returncode == 4
    assert "say.py --download" in spoken.stderr
    shown("C3", "the error has file, URL, path and remedy", int(seconds <= 5), of=1, seconds=round(seconds, 1))


@pytest.mark.model
def test_c1_a_full_cache_speaks_without_a_network(world: World, toy_kokoro: ToyKokoro, shown: Shown) -> None:
    """The whole line, in a namespace without a way out, under strace where it is there."""
    with hub_of(toy_kokoro.directory, toy_kokoro.manifest) as hub:
        connect_to_hub(world, hub, toy_kokoro)
        assert world.say("--download").returncode == 0
        assert world.say("--shutdown", "-q").returncode == 0
        hub.requests.clear()
        if not without_network():
            pytest.skip("the network cannot be taken away here")
        # 198.51.100.1 is nobody's: where a call went out, it would be seen.
        world.environment |= {"HF_ENDPOINT": "http://198.51.100.1", "KOKORO_RUNTIME_DIR": str(world.path / "alone")}
        trace = world.path / "trace"
        tracer = ["strace", "-f", "--seccomp-bpf", "-e", "trace=connect,execve", "-o", str(trace)]
        command = [sys.executable, str(ROOT / "say.py")]
        script = 'ip link set lo up; "$@" -o x.wav "Hello there."; code=$?; "$@" --shutdown -q; exit $code'
        done = subprocess.run(
            [*without_network(), *(tracer if shutil.which("strace") else []), "sh", "-c", script, "sh", *command],
            cwd=world.path, env=world.environment, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert hub.requests == []
    calls = trace.read_text().splitlines() if trace.exists() else []
    outside = [call for call in calls if "AF_INET" in call and "127.0.0.1" not in call]
    pip = [call for call in calls if "execve" in call and "pip" in call]
    assert pip == []
    shown(
        "C1", "spoken from the cache, 0 connects outside", 1 - len(outside), of=1, watched=len(calls), first=outside[:2]
    )


# --- C15: what espeak's copies leave ---------------------------------------------------------------------------------

COPYING_SERVER = """
import os, sys
sys.path.insert(0, {root!r})
import model_server
from kokoro_common.phonemes.g2p import G2P

class CopyingServer(model_server.ModelServer):
    '''Uses espeak for two languages after it has swept, and before it listens: phonemizer makes two copies for each.'''
    g2p = None

    def _sweep(self):
        super()._sweep()
        if self.g2p is None:
            os.makedirs(self._temporary_directory, mode=0o700, exist_ok=True)
            self.g2p = G2P(None, self._temporary_directory)
            for lang in "ef":
                self.g2p.spoken("a", lang)

sys.exit(model_server.main(server=CopyingServer))
"""


def test_c15_copies_of_killed_servers_are_swept(world: World, shown: Shown) -> None:
    program = world.path / "copying_model_server.py"
    program.write_text(COPYING_SERVER.format(root=str(ROOT)))
    (world.cache / "logs").mkdir(parents=True)
    runtime = RuntimeDirectory(str(world.runtime))
    held = most = 0
    for _ in range(times(100)):
        server = starter.Program(
            name="model", path=str(program), environment=world.environment,
            stderr_path=str(world.cache / "logs" / "stderr"),
        )  # fmt: skip
        starter.ensure(runtime, server).close()
        copies = len(os.listdir(world.runtime / LIBRARIES))
        most = max(most, copies)
        held += 1 <= copies <= 4
        for process in world.servers():
            process.kill()
            process.wait(10)
        assert starter.clear_away(runtime, "model")  # five deaths in a minute would be too many
    shown("C15", "directories of killed servers", held, of=times(100), most=most)
    starter.ensure(runtime, server).close()
    assert world.say("--shutdown", "-q").returncode == 0
    assert not (world.runtime / LIBRARIES).exists()


def test_c15_a_language_that_is_new_after_a_clean_up_is_spoken(tmp_path: Path, shown: Shown) -> None:
    """The copies were removed while the server runs, by a clean-up or the end of another server."""
    code = """
import shutil, sys
from kokoro_common.phonemes.g2p import G2P
g2p = G2P(None, sys.argv[1])
for lang in "efi":
    assert g2p.spoken("a", lang).phonemes
    shutil.rmtree(sys.argv[1])
print("spoken")
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "espeak")], cwd=ROOT, capture_output=True, text=True
    )
    shown("C15", "new languages after a clean-up", int("spoken" in done.stdout), of=1, error=done.stderr[-200:])
