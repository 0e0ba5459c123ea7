"""Messages to bytes and back. No I/O.

A frame is a 4-byte big-endian length and that many bytes of JSON, an object whose "type" is the name of a message.
JSON with a `payload_bytes` of n > 0 is followed by n raw bytes: float32 little-endian PCM, mono, 24 kHz.

Two decoders read the same classes. Servers hear strangers and use `strict=True`: msgspec checks every field's type, in
nested records too, and refuses unknown ones, and limits.py how long each string is. A client hears only a server that
has proved itself, and is spared msgspec's 40 ms of import.
"""

from __future__ import annotations

import functools
import json
import struct

from kokoro_common.record import Record
from kokoro_common.text import speech
from kokoro_common.wire import messages, reports
from kokoro_common.wire.limits import check_strings, fitting
from kokoro_common.wire.messages import MESSAGES, Challenge, Denied, Message, ProtocolError, Welcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MAX_JSON_BYTES = 1 << 20
MAX_PAYLOAD_BYTES = 1 << 20
MAX_HELLO_BYTES = 4096  # JSON before the handshake is done; a payload is not allowed there
_LENGTH = struct.Struct(">I")


def encode(message: Message, payload: bytes | bytearray | memoryview = b"") -> bytes:
    """The frame of a message. Raises ValueError for what no peer would accept: NaN, too long, a wrong payload_bytes.

    Lines for people are cut where they are too long. Lone surrogates are replaced: they come from undecodable
    command-line bytes and have no form in UTF-8.
    """
    fields = fitting(message).as_dict()
    if fields.get("payload_bytes", 0) != len(payload):
        raise ValueError(f"{type(message).__name__} announces {fields.get('payload_bytes')} bytes, has {len(payload)}")
    fields = {"type": type(message).__name__, **fields}
    text = json.dumps(fields, ensure_ascii=False, allow_nan=False, default=form_of)
    body = text.encode("utf-8", "replace")
    if len(body) > MAX_JSON_BYTES or len(payload) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"{type(message).__name__} is longer than a frame may be")
    return b"".join((_LENGTH.pack(len(body)), body, payload))


def form_of(value: object) -> object:
    """A record inside a message, for json.dumps."""
    if not isinstance(value, Record):
        raise ValueError(f"{type(value).__name__} has no form in JSON")
    return list(value.as_dict().values()) if value._array_form else value.as_dict()


class Decoder:
    """Bytes to (message, payload). Never allocates before a length is judged. One per connection, one thread.

    Starts with the limits for strangers; `trust()` lifts them when the handshake is done.
    """

    def __init__(self, *, strict: bool) -> None:
        self._parse: Callable[[bytes], Message] = strict_parser() if strict else _parse_plain
        self._buffer = bytearray()
        self._trusted = False
        self._pending: Message | None = None  # its payload is still on the way
        self._wanted = 0  # bytes of that payload

    def trust(self) -> None:
        self._trusted = True

    @property
    def within_frame(self) -> bool:
        """Whether a frame has begun and is not complete: an end of stream now would cut it."""
        return bool(self._buffer) or self._pending is not None

    def feed(self, data: bytes) -> list[tuple[Message, bytes]]:
        """The messages that `data` completes, in order. Raises ProtocolError; the decoder is useless afterwards."""
        self._buffer += data
        complete = []
        while (item := self._next()) is not None:
            complete.append(item)
        return complete

    def _next(self) -> tuple[Message, bytes] | None:
        if self._pending is None:
            if len(self._buffer) < _LENGTH.size:
                return None
            (length,) = _LENGTH.unpack_from(self._buffer)
            if not 0 < length <= (MAX_JSON_BYTES if self._trusted else MAX_HELLO_BYTES):
                raise ProtocolError(f"a frame of {length} bytes")
            if len(self._buffer) < _LENGTH.size + length:
                return None
            message = self._parse(bytes(self._buffer[_LENGTH.size : _LENGTH.size + length]))
            del self._buffer[: _LENGTH.size + length]
            self._wanted = getattr(message, "payload_bytes", 0)
            if type(self._wanted) is not int or not 0 <= self._wanted <= (MAX_PAYLOAD_BYTES if self._trusted else 0):
                raise ProtocolError(f"a payload of {self._wanted} bytes")
            self._pending = message
        if len(self._buffer) < self._wanted:
            return None
        message, payload = self._pending, bytes(self._buffer[: self._wanted])
        del self._buffer[: self._wanted]
        self._pending = None
        return message, payload


def _parse_plain(body: bytes) -> Message:
    """For a peer that has proved itself: checks names, and types only where it has yet to prove itself."""
    try:
        fields = json.loads(body)
        message: Message = built(MESSAGES[fields.pop("type")], fields)
        if isinstance(message, (Challenge, Welcome, Denied)):
            _check_types(message)
        return message
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ProtocolError(f"not a message: {error!r}") from error


def _check_types(message: Message) -> None:
    for name, kind in type(message).__annotations__.items():
        if type(getattr(message, name)).__name__ not in (("float", "int") if kind == "float" else (kind,)):
            raise TypeError(f"{type(message).__name__}.{name} is no {kind}")


def built(kind: type[Any], fields: Any) -> Any:
    """The record that its JSON form stands for."""
    if kind._array_form:
        fields = dict(zip(kind._fields, fields, strict=True))
    return kind(**{name: _value(kind.__annotations__.get(name, ""), value) for name, value in fields.items()})


def _value(annotation: str, value: Any) -> Any:
    """A field's value of the annotated type: a record, a tuple of records or of plain values, or the value itself.

    Annotations are strings here; what can evaluate any of them (typing) is what the client cannot afford.
    """
    inner = annotation.removesuffix(" | None")
    if value is None or not inner:
        return value
    if inner.startswith("tuple["):
        item = inner[len("tuple[") : -len(", ...]")]
        return tuple(_value(item, each) for each in value) if item in records() else tuple(value)
    record = records().get(inner)
    return built(record, value) if record is not None else value


@functools.cache
def records() -> dict[str, type[Record]]:
    """The records that stand inside messages, by name."""
    rooms = (messages, reports, speech)
    found = {name: kind for room in rooms for name, kind in vars(room).items() if isinstance(kind, type)}
    return {
        name: kind
        for name, kind in found.items()
        if issubclass(kind, Record) and kind is not Record and not issubclass(kind, Message)
    }


@functools.cache
def strict_parser() -> Callable[[bytes], Message]:
    """For strangers: a msgspec union of all messages, every type checked, unknown fields refused."""
    import types
    import typing

    import msgspec

    from kokoro_common.text.edits import Edit

    structs: dict[str, type[msgspec.Struct]] = {}

    def struct_of(kind: type[Record]) -> type[msgspec.Struct]:
        """The struct that checks a record; a message is told by its tag."""
        if kind.__name__ in structs:
            return structs[kind.__name__]
        hints = typing.get_type_hints(kind, localns={"Edit": Edit})
        fields: list[Any] = [
            (name, wire_type(hints[name]))
            if name in kind._required
            else (name, wire_type(hints[name]), form(getattr(kind, name)))
            for name in kind._fields
        ]
        tag = kind.__name__ if issubclass(kind, Message) else None
        structs[kind.__name__] = msgspec.defstruct(
            kind.__name__, fields, kw_only=True, frozen=True, tag=tag, array_like=kind._array_form,
            forbid_unknown_fields=True,
        )  # fmt: skip
        return structs[kind.__name__]

    def wire_type(hint: Any) -> Any:
        """The type with structs in the place of records."""
        if isinstance(hint, type) and issubclass(hint, Record):
            return struct_of(hint)
        if not (arguments := typing.get_args(hint)):
            return hint
        arguments = tuple(each if each is Ellipsis else wire_type(each) for each in arguments)
        origin = typing.get_origin(hint)
        return typing.Union[arguments] if origin in (typing.Union, types.UnionType) else origin[arguments]  # noqa: UP007

    def form(value: Any) -> Any:
        """A default as a struct."""
        if not isinstance(value, Record):
            return value
        return struct_of(type(value))(**{name: form(each) for name, each in value.as_dict().items()})

    known: dict[str, type[Record]] = {**records(), **MESSAGES}
    decoder = msgspec.json.Decoder(typing.Union[tuple(struct_of(kind) for kind in MESSAGES.values())])  # noqa: UP007

    def record_of(value: Any) -> Any:
        if isinstance(value, msgspec.Struct):
            kind = known[type(value).__name__]
            return kind(**{name: record_of(getattr(value, name)) for name in kind._fields})
        if type(value) is tuple:
            return tuple(map(record_of, value)) if value and isinstance(value[0], msgspec.Struct) else value
        return value

    def parse(body: bytes) -> Message:
        try:
            struct = decoder.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise ProtocolError(f"not a message: {error}") from error
        message: Message = record_of(struct)
        try:
            check_strings(message)
        except ValueError as error:
            raise ProtocolError(f"not a message: {error}") from error
        return message

    return parse
