"""Streams that break the protocol: the corpus of mutants.txt, random mutations of valid frames, hostile fields."""

from __future__ import annotations

import functools
import random
import re
import struct
import typing
from collections.abc import Iterator
from pathlib import Path

from kokoro_common.record import Record
from kokoro_common.text.edits import Edit
from kokoro_common.text.speech import TimedWord
from kokoro_common.wire.codec import encode
from kokoro_common.wire.messages import MESSAGES, AudioChunk, Message

CORPUS = Path(__file__).with_suffix(".txt")
TOKENS = [
    *(b"{", b"}", b"[", b"]", b'"', b",", b":", b"null", b"true", b"-1", b"1e999", b"NaN", b"9" * 25, b"\0", b"\xff"),
    *(b"\\ud800", b"\\u0000", b'"type":', b'"payload_bytes":4,', b'"Shutdown"', b"[" * 40, b"\0\0\0\0"),
]
STRINGS = [
    *("", "\0", "\x1b]0;x\a\x1b[2J", "\u202e\u2028\n", "../../../etc/passwd", "9" * 25, "-1", "'\"{}%s$(x)", "é" * 99),
    *("a" * 1_000_000, "\0" * 170_000, "\x1b" * 170_000, "\\" * 500_000, "\U0001f600" * 80_000),
]
INTEGERS = [-1, 0, 1, 65_536, -(2**31), 2**31, 2**63, -(2**63), 10**25, 10**400]
FLOATS = [-1.0, 0.0, -0.0, 1e-300, 1e308, -1e308, 5e-324, 2.0**63]
DICTIONARIES = [{}, {"": ""}, {"\0": "\0"}, {"PULSE_SERVER\0": "x"}, {"PULSE_X=": "\n"}, {"LD_PRELOAD": "x.so"},
                {f"PULSE_{number}": "x" for number in range(40_000)}, {"ALSA_CONFIG_PATH": "\0" * 170_000}]  # fmt: skip


def frame_of(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


@functools.cache
def corpus() -> dict[str, bytes]:
    """Name to stream."""
    streams = {}
    for line in CORPUS.read_text(encoding="ascii").splitlines():
        if line and not line.startswith("#"):
            name, rest = line.split(": ", 1)
            kind, data = rest.split(" ", 1)
            unescaped = data.encode("latin-1").decode("unicode_escape").encode("latin-1")
            body = re.sub(rb"<(\d+)\*(.+?)>", lambda found: int(found[1]) * found[2], unescaped, flags=re.DOTALL)
            assert kind in ("raw", "frame"), line
            streams[name] = frame_of(body) if kind == "frame" else body
    return streams


def messages(values: dict[object, object], **known: object) -> list[Message]:
    """One of each kind, its fields from `values` by their type, or from `known` by their name."""
    return [kind(**fields_of(kind, values) | {name: known[name] for name in kind._fields if name in known})
            for kind in MESSAGES.values()]  # fmt: skip


PLAIN: dict[object, object] = {
    str: "abc",
    int: 7,
    float: 0.5,
    bool: True,
    Edit: Edit(0, 1, "x"),
    dict[str, str]: {"PULSE_SERVER": "x"},
    dict[str, float]: {"g2p": 0.1},
}
NONSENSE: dict[object, list[object]] = {
    str: [*STRINGS],
    int: [*INTEGERS],
    float: [*FLOATS],
    bool: [True, False],
    Edit: [
        *(Edit(-1, 2, "a"), Edit(0, 2**60, "a", True), Edit(1, 0, "a"), Edit(0, 1, "](/x/)[", True)),
        Edit(0, 1, "a" * 900_000),
    ],
    dict[str, str]: [*DICTIONARIES],
    dict[str, float]: [{"": 1e308}],
}
MANY = 10_000  # records in one message: as many as fit into it


def hints_of(kind: type[Record]) -> dict[str, typing.Any]:
    hints = typing.get_type_hints(kind, localns={"Edit": Edit})
    return {name: hints[name] for name in kind._fields if name != "payload_bytes"}


def plain(hint: typing.Any, values: dict[object, object], known: dict[str, object]) -> typing.Any:
    """A value of a field's type; `known`: values of fields by name, in records within too."""
    if hint in values:
        return values[hint]
    if isinstance(hint, type) and issubclass(hint, Record):
        return hint(**fields_of(hint, values, known))
    inner = plain(typing.get_args(hint)[0], values, known)
    return (inner,) if typing.get_origin(hint) is tuple else inner


def fields_of(
    kind: type[Record], values: dict[object, object], known: dict[str, object] | None = None
) -> dict[str, object]:
    known = known or {}
    return {name: known[name] if name in known else plain(hint, values, known) for name, hint in hints_of(kind).items()}


def nonsense(hint: typing.Any, known: dict[str, object]) -> list[typing.Any]:
    """Values of a field's type that make no sense; of a record each with one field that makes none."""
    if hint in NONSENSE:
        return NONSENSE[hint]
    if isinstance(hint, type) and issubclass(hint, Record):
        sane = fields_of(hint, PLAIN, known)
        return [
            hint(**{**sane, name: value}) for name, inner in hints_of(hint).items() for value in nonsense(inner, known)
        ]
    inner = typing.get_args(hint)[0]
    if typing.get_origin(hint) is tuple:
        return [(), *((value,) for value in nonsense(inner, known)), (plain(inner, PLAIN, known),) * MANY]
    return [None, *nonsense(inner, known)]


def hostile(kind: type[Message], **known: object) -> Iterator[Message]:
    """Well-typed messages with one field that makes no sense, all others as in `known` or plain."""
    sane = fields_of(kind, PLAIN, known)
    yield kind(**sane)
    for name, hint in hints_of(kind).items():
        for value in nonsense(hint, known):
            yield kind(**{**sane, name: value})


def mutated(chance: random.Random, stream: bytes, other: bytes) -> bytes:
    """One to three changes, each at a random place."""
    data = bytearray(stream)
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(data) + 1)
        to = min(len(data), at + chance.choice((1, 1, 2, 5, 40)))
        change = chance.randrange(7)
        if change == 0 and at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        elif change == 1:
            del data[at:to]
        elif change == 2:
            data[at:at] = data[at:to]
        elif change == 3:
            data[at:to] = chance.choice(TOKENS)
        elif change == 4:
            data[at:] = other[chance.randrange(len(other) + 1) :]
        elif change == 5:
            data[at:at] = chance.randbytes(chance.randint(1, 4))
        elif len(data) > 4 and chance.random() < 0.8:
            data[:4] = struct.pack(">I", len(data) - 4)  # so that what is inside is judged
    return bytes(data)


def pieces(chance: random.Random, data: bytes) -> list[bytes]:
    """Cut at up to three random places, one of them often in the header."""
    cuts = sorted({chance.randrange(chance.choice((6, len(data))) + 1) for _ in range(chance.randint(0, 3))})
    ends = [*cuts, len(data)]
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def seeds() -> list[bytes]:
    """Valid frames of every kind, and what of the corpus is small enough to be mutated a million times."""
    word = TimedWord(start=0, end=1, first_frame=0, last_frame=2)
    audio = AudioChunk(utterance="u", index=1, words=(word,), payload_bytes=8)
    small = [stream for stream in corpus().values() if len(stream) < 2_000]
    return [*map(encode, messages(PLAIN)), encode(audio, b"12345678"), *small]
