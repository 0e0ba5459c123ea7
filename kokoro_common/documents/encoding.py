"""The encoding of a page of HTML, and its text a chunk at a time, so that no copy of a whole page is made. No I/O."""

from __future__ import annotations

import codecs
import re

from kokoro_common.documents.kind import encoding_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK = 1 << 16  # bytes that are decoded at a time; the parser loses what is above 10 MB in a row

_DECLARED = rb"""(?i)(?:charset|encoding)\s{0,9}=\s{0,9}["']?\s{0,9}([\w.:-]{1,40})"""
_FOR_TEXT = (
    r"(?i)utf-?8|us-ascii|ascii|iso[-_]?8859.*|latin-?\d|(?:windows|cp|ibm)[-_]?\d{3,4}|koi8.*|mac.*|x-mac.*"
    r"|gb.*|big5.*|euc.*|shift.*|sjis|x-sjis|iso-2022-(?:jp|kr)|tis-?620"
)
_WEB_NAMES = {"iso8859-1": "cp1252", "ascii": "cp1252", "gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932"}


def encoding_for(data: bytes) -> str:
    """That of its byte order mark, or what the page declares, which for some names is another one, as in browsers."""
    if marked := encoding_of(data[:4]):
        return marked
    declared = re.search(_DECLARED, data[:4096])
    name = declared[1].decode("latin-1") if declared else ""
    if not re.fullmatch(_FOR_TEXT, name):
        return "utf-8"  # also for UTF-16, which would show otherwise
    try:
        name = codecs.lookup(name).name
    except LookupError:
        return "utf-8"
    return _WEB_NAMES.get(name, name)


def decoded_by_chunks(data: bytes, encoding: str, errors: str) -> Iterator[str]:
    """The text, a chunk at a time."""
    decoder = codecs.getincrementaldecoder(encoding)(errors)
    for place in range(0, len(data), CHUNK):
        yield decoder.decode(data[place : place + CHUNK])
    yield decoder.decode(b"", True)


def is_broken(data: bytes, encoding: str) -> bool:
    """Whether some bytes are no text in this encoding."""
    try:
        for _ in decoded_by_chunks(data, encoding, "strict"):
            pass
    except UnicodeDecodeError:
        return True
    return False
