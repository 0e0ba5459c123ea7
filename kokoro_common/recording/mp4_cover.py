"""A cover in the tags of an MP4 file, which libav's ipod format refuses to write by way of PyAV.

    moov > udta > meta > ilst > covr > data    (QuickTime File Format, iTunes metadata)

The file's index (moov) is its last box, so it can grow without moving the audio that it points to.
"""

from __future__ import annotations

import struct

from kokoro_common.errors import OutputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class SeekableFile(Protocol):
        def write(self, data: bytes) -> int: ...

        def read(self, size: int) -> bytes: ...

        def seek(self, offset: int, whence: int = 0) -> int: ...


_TYPES = {"image/jpeg": 13, "image/png": 14}
_PATH = (b"udta", b"meta", b"ilst")


def add_cover(file: SeekableFile, mime: str, data: bytes) -> None:
    """Writes the picture into a complete file. Raises OutputError if the file is not as libav writes it."""
    place, size, kind = 0, 0, b""
    end = file.seek(0, 2)
    while place + size < end:
        place += size
        file.seek(place)
        size, kind = struct.unpack(">I4s", file.read(8))
        if size == 1:  # more than 4 GiB
            size = struct.unpack(">Q", file.read(8))[0]
        if size < 8:
            break
    if kind != b"moov" or place + size != end:
        raise OutputError("the cover cannot be written: the file's index is not its last part", "report it")
    file.seek(place)
    moov = _with_cover(
        _whole(file, size), _PATH, _box(b"covr", _box(b"data", struct.pack(">II", _TYPES[mime], 0) + data))
    )
    file.seek(place)
    file.write(moov)


def _with_cover(box: bytes, path: tuple[bytes, ...], cover: bytes) -> bytes:
    """The box with the cover at the end of the box at this path within it."""
    kind, body = box[4:8], box[8:]
    if not path:
        return _box(kind, body + cover)
    place = 4 if kind == b"meta" else 0  # version and flags
    while place + 8 <= len(body):
        size, name = struct.unpack_from(">I4s", body, place)
        if name == path[0]:
            inner = _with_cover(body[place : place + size], path[1:], cover)
            return _box(kind, body[:place] + inner + body[place + size :])
        if size < 8:
            break
        place += size
    raise OutputError("the cover cannot be written: the file has no tags", "report it")


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


def _whole(file: SeekableFile, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := file.read(size - len(data))):
        data += more
    return data
