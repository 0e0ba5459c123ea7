"""C1-C12, C14, C15: the hub, the cache and what lies in it, hostile names, and what nobody may leave behind."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import queue
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kokoro_common import loader as loader_module
from kokoro_common.engine import KokoroEngine
from kokoro_common.errors import ModelUnavailable
from kokoro_common.loader import Loader, VoiceLoaded
from kokoro_common.protocol import ServerState
from kokoro_common.settings import Settings
from kokoro_common.voicepack import read_voice_pack
from tests.faults.conftest import FULL, Shown, times
from tests.kokoro_world import hub_of
from tests.local_hub import LocalHub
from tests.test_hub import contents
from tests.toy_kokoro import ToyKokoro

pytestmark = pytest.mark.timeout(3600)

HEART = "voices/af_heart.pt"
BOMB_BYTES = 10**9


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

            def __init__(self, config: str, weights: str, device: str) -> None:
                torch.load(weights, map_location="cpu", weights_only=True, mmap=True)

        monkeypatch.setattr(torch, "load", load)
        monkeypatch.setattr(zipfile, "ZipFile", zip_file)
        monkeypatch.setattr(loader_module, "KokoroEngine", Engine)
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
    import time

    from kokoro_common.hub import Hub, Manifest

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


assert contents  # used by the tests below
