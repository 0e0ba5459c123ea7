"""Voices of the user's own, in the configuration directory: blends with a name, and voice packs that were imported.

    voices/af_mine.blend    a line: the canonical name of the blend
    voices/af_mine.pack     SHA-256 of what follows, then the pack, (510, 1, 256) little-endian float32
    voices/af_mine.level    a line: how loud that pack is, LUFS at each of levels.LENGTHS and true peak in dBTP

Their names have the catalogue's form, so on the wire a voice stays a name. To forget one, remove its file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat

from kokoro_common.errors import SAY, ModelUnavailable, UsageError
from kokoro_common.files import private_directory, read_regular, write_private
from kokoro_common.voices.catalogue import LANGUAGES, VOICES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kokoro_common.voices.catalogue import Voice
    from kokoro_common.voices.levels import Level
    from kokoro_common.voices.pack import FloatArray

_NAME = re.compile(r"[a-z][fm]_[a-z0-9]{1,32}")
_LONGEST_BLEND = 256  # characters
_LONGEST_LEVEL = 64  # bytes
_LEAST_LEVEL, _MOST_LEVEL = -70.0, 20.0  # LUFS, dBTP: no voice is outside
_PACK_BYTES = 32 + 510 * 256 * 4


def own_voices(config_dir: str) -> dict[str, str]:
    """Names, each with its blend; "" for a pack. Reads a directory and what is in it, microseconds if that is empty."""
    directory = os.path.join(config_dir, "voices")
    found = {}
    try:
        files = sorted(os.listdir(directory))
    except OSError:
        return {}
    for file in files:
        name, ending = os.path.splitext(file)
        if not _NAME.fullmatch(name) or name[0] not in LANGUAGES or name in VOICES:
            continue
        if ending == ".pack":
            found[name] = ""
        elif ending == ".blend" and (blend := _read_blend(os.path.join(directory, file))):
            found[name] = blend
    return found


def _read_blend(path: str) -> str:
    """ "" for what is none: a file that cannot be read, a directory, a pipe."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            return (
                file.read(_LONGEST_BLEND).decode("ascii", "replace").strip()
                if stat.S_ISREG(os.fstat(fd).st_mode)
                else ""
            )
    except OSError:
        return ""


def save_blend(config_dir: str, name: str, voice: Voice) -> str:
    """From now on `name` is this blend. Returns the other blend that it was before, or "". Raises UsageError.

    A pack of that name is not replaced: it may be the only copy.
    """
    _check(name, voice.lang)
    _check_kind(config_dir, name, "pack", "an imported voice")
    before = own_voices(config_dir).get(name, "")
    _write(config_dir, name, "blend", f"{voice.name}\n".encode())
    return before if before != voice.name else ""


def add_pack(config_dir: str, name: str, file: str) -> bool:
    """Imports what torch.save wrote of a voice pack, without unpickling it. Returns whether it replaced another pack.

    Raises UsageError, ModelUnavailable.
    """
    import numpy as np

    from kokoro_common.voices.pack import read_voice_pack  # its zipfile and pickletools are nothing for a client

    _check(name, name[:1])
    try:
        pack = read_voice_pack(file)
    except ModelUnavailable as error:
        raise UsageError(error.problem, "give a voice pack of Kokoro, a .pt file") from error
    numbers = pack.astype("<f4", copy=False).tobytes()
    if not np.any(pack):
        raise UsageError(f"{file} is all zeros", "give a voice pack of Kokoro, a .pt file")
    _check_kind(config_dir, name, "blend", "a blend")
    data = hashlib.sha256(numbers).digest() + numbers
    try:
        with open(_path(config_dir, name, "pack"), "rb") as pack_file:
            replaced = pack_file.read(len(data) + 1) != data
    except OSError:
        replaced = False  # there is none, or it cannot be read
    with contextlib.suppress(OSError):
        os.unlink(_path(config_dir, name, "level"))  # that of another pack
    _write(config_dir, name, "pack", data)
    return replaced


def read_own_pack(config_dir: str, name: str) -> FloatArray | None:
    """(510, 1, 256), read-only; None if there is none of that name. Raises ModelUnavailable for a damaged file."""
    import numpy as np

    from kokoro_common.voices.pack import PACK_SHAPE

    if not _NAME.fullmatch(name):
        return None
    path = _path(config_dir, name, "pack")
    try:
        data = read_regular(path, _PACK_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ModelUnavailable(f"{path} cannot be read: {error.strerror}", "mend or remove it") from error
    digest, numbers = data[:32], data[32:]
    if len(data) < _PACK_BYTES or hashlib.sha256(numbers).digest() != digest:
        raise ModelUnavailable(f"{path} is damaged", f"{SAY} --add-voice {name} FILE imports it again")
    return np.frombuffer(numbers, "<f4").reshape(PACK_SHAPE)


def save_level(config_dir: str, name: str, level: Level) -> None:
    """Keeps how loud an imported voice is. Raises UsageError."""
    _write(config_dir, name, "level", " ".join(f"{each:.1f}" for each in (*level.lufs, level.peak)).encode() + b"\n")


def own_level(config_dir: str, name: str) -> Level | None:
    """How loud an imported voice is; None if that was never measured."""
    from kokoro_common.voices.levels import LENGTHS, Level

    try:
        *lufs, peak = map(float, read_regular(_path(config_dir, name, "level"), _LONGEST_LEVEL).split())
    except (OSError, ValueError):
        return None
    sound = len(lufs) == len(LENGTHS) and all(_LEAST_LEVEL <= each <= _MOST_LEVEL for each in (*lufs, peak))
    return Level(tuple(lufs), peak) if sound else None


def _check(name: str, lang: str) -> None:
    if not _NAME.fullmatch(name) or name[0] not in LANGUAGES:
        raise UsageError(f"{name[:48]!r} is no name for a voice", "give one as af_mine: language, f or m, _, letters")
    if name in VOICES:
        raise UsageError(f"{name} is a voice of the catalogue", "choose another name")
    if name[0] != lang:
        raise UsageError(
            f"{name} says {LANGUAGES[name[0]][0]}, the voice speaks {LANGUAGES[lang][0]}", f"begin it with {lang}"
        )


def _check_kind(config_dir: str, name: str, other: str, what: str) -> None:
    """Raises UsageError for a name that is a voice of the `other` kind."""
    path = _path(config_dir, name, other)
    if os.path.lexists(path):
        raise UsageError(f"{name} is {what} of yours", f"choose another name, or remove {path}")


def _path(config_dir: str, name: str, kind: str) -> str:
    return os.path.join(config_dir, "voices", f"{name}.{kind}")


def _write(config_dir: str, name: str, kind: str, data: bytes) -> None:
    path = _path(config_dir, name, kind)
    try:
        private_directory(os.path.dirname(path))
        write_private(path, data)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}", "make room there or mend its mode") from error
