"""A cover picture out of a document: looked at before it is copied into files, for it may come from anybody.

Nothing is decoded. A JPEG or PNG is walked from its first bytes to its end, so what is no picture, or half of
one, or of a size that players choke on, is left out.
"""

from __future__ import annotations

import struct
import zlib

from kokoro_common.documents.document import Picture

MAX_BYTES = 10 << 20  # a FLAC holds 16 MiB; shops ask for a tenth of this
TOO_LARGE = f"it has more than {MAX_BYTES >> 20} MiB"
MAX_SIDE = 10_000  # pixels
_PNG = b"\x89PNG\r\n\x1a\n"
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # JPEG markers that tell the size
_BARE = {0x01, *range(0xD0, 0xD9)}  # markers without a length
_SCAN, _END = 0xDA, b"\xff\xd9"


class NoCover(Exception):
    """Says what is wrong with the picture."""


def picture(data: bytes) -> Picture:
    """Raises NoCover for anything but a whole JPEG or PNG of reasonable size."""
    if len(data) > MAX_BYTES:
        raise NoCover(TOO_LARGE)
    if data.startswith(_PNG):
        mime, (width, height) = "image/png", _png_size(data)
    elif data.startswith(b"\xff\xd8\xff"):
        mime, (width, height) = "image/jpeg", _jpeg_size(data)
    else:
        raise NoCover("it is no JPEG or PNG")
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise NoCover(f"it has {width} x {height} pixels")
    return Picture(data=data, mime=mime, width=width, height=height)


def _png_size(data: bytes) -> tuple[int, int]:
    place, size = len(_PNG), (0, 0)
    while place + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        end = place + 12 + length
        if end > len(data) or zlib.crc32(data[place + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            break
        if kind == b"IHDR" and length >= 8:
            size = struct.unpack_from(">II", data, place + 8)
        if kind == b"IEND":
            return size
        place = end
    raise NoCover("it is broken")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    place, size = 2, (0, 0)
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF or marker in _BARE:
            place += 1 if marker == 0xFF else 2
            continue
        length = struct.unpack_from(">H", data, place + 2)[0]
        if marker in _FRAMES and place + 9 <= len(data):
            height, width = struct.unpack_from(">HH", data, place + 5)
            size = (width, height)
        if marker == _SCAN:
            if data.rfind(_END) > place and size != (0, 0):
                return size
            break
        place += 2 + length
    raise NoCover("it is broken")
