"""Vorbis in Ogg as libsndfile writes it, given comments of ours and a serial number that is the same each time.

libsndfile knows no chapters, and draws each file's serial number by chance. The pages pass through here on their way to
the file: RFC 3533 is what a page is, RFC 5215 what Vorbis's three header packets are.
"""

from __future__ import annotations

import struct
import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Protocol

    class ByteSink(Protocol):
        def write(self, data: bytes) -> int: ...


_PAGE = struct.Struct("<4sBBqIIIB")  # OggS, version, flags, position in frames, serial, number, checksum, segments
_CONTINUED = 1  # flag: the first packet began on an earlier page
_HEADERS = 3  # packets: identification, comment, setup
_SEGMENTS = 255  # in a page at most, each of 255 bytes at most
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))  # each byte with its bits in reverse order


class OggComments:
    """The file that libsndfile is given to write to. It writes in order, and at most asks for its position."""

    def __init__(self, output: ByteSink, comments: Mapping[str, str]) -> None:
        self._output = output
        self._comments = comments
        self._pending = bytearray()  # the beginning of a page
        self._headers: list[bytes] = []  # packets
        self._unfinished = b""  # beginning of a header packet
        self._pages = 0  # written
        self._taken = 0  # bytes

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Takes all of it."""
        self._pending += data
        self._taken += len(data)
        while (page := self._next_page()) is not None:
            self._pass_on(*page)
        return len(data)

    def tell(self) -> int:
        return self._taken

    def seek(self, _offset: int, _whence: int = 0) -> int:
        """Does not move: libsndfile calls it to find the length of its file."""
        return self._taken

    def _next_page(self) -> tuple[int, int, bytes, bytes] | None:
        """Flags, position, lacing and body of a page that is complete."""
        if len(self._pending) < _PAGE.size:
            return None
        _, _, flags, position, _, _, _, segments = _PAGE.unpack_from(self._pending)
        body = _PAGE.size + segments
        lacing = bytes(self._pending[_PAGE.size : body])
        end = body + sum(lacing)
        if len(self._pending) < end:
            return None
        page = flags, position, lacing, bytes(self._pending[body:end])
        del self._pending[:end]
        return page

    def _pass_on(self, flags: int, position: int, lacing: bytes, body: bytes) -> None:
        if len(self._headers) == _HEADERS:  # no page has both headers and audio
            self._write_page(flags, position, lacing, body)
            return
        for size in lacing:
            self._unfinished += body[:size]
            body = body[size:]
            if size < 255:
                self._headers.append(self._unfinished)
                self._unfinished = b""
        if self._pages == 0:
            self._write_page(flags, position, lacing, self._headers[0])
        if len(self._headers) == _HEADERS:
            self._write_headers(_comment_packet(self._comments), self._headers[2])

    def _write_headers(self, *packets: bytes) -> None:
        lacing = b"".join(b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255]) for packet in packets)
        body = b"".join(packets)
        continued = 0
        for start in range(0, len(lacing), _SEGMENTS):
            part = lacing[start : start + _SEGMENTS]
            ends = any(size < 255 for size in part)
            self._write_page(continued, 0 if ends else -1, part, body[: sum(part)])
            body = body[sum(part) :]
            continued = _CONTINUED if part[-1] == 255 else 0

    def _write_page(self, flags: int, position: int, lacing: bytes, body: bytes) -> None:
        def page(checksum: int) -> bytes:
            head = _PAGE.pack(b"OggS", 0, flags, position, 1, self._pages, checksum, len(lacing))
            return head + lacing + body

        self._output.write(page(_checksum(page(0))))
        self._pages += 1


def _checksum(data: bytes) -> int:
    """Ogg's CRC is zlib's with all bits reversed, starting at 0 and without the final inversion."""
    reflected = zlib.crc32(data.translate(_REVERSED), 0xFFFF_FFFF) ^ 0xFFFF_FFFF
    return int.from_bytes(reflected.to_bytes(4, "little").translate(_REVERSED), "big")


def _comment_packet(comments: Mapping[str, str]) -> bytes:
    fields = [f"{key.upper()}={value}".encode() for key, value in comments.items()]
    vendor = b"Kokoro Say"
    listed = b"".join(struct.pack("<I", len(field)) + field for field in fields)
    return b"".join(
        (b"\x03vorbis", struct.pack("<I", len(vendor)), vendor, struct.pack("<I", len(fields)), listed, b"\x01")
    )
