"""The codec: what one side encodes the other decodes, however it is cut; strangers' bytes end in ProtocolError."""

from __future__ import annotations

import json
import random
import struct
import typing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kokoro_common.record import Record
from kokoro_common.text.edits import Edit
from kokoro_common.text.speech import Speech
from kokoro_common.wire import messages as protocol
from kokoro_common.wire.codec import MAX_HELLO_BYTES, MAX_JSON_BYTES, Decoder, encode, records
from kokoro_common.wire.messages import MESSAGES, AudioChunk, Hello, Message, ProtocolError, Speak, Synthesize

SPECIFICATION = Path(__file__).parent.parent.parent / "docs" / "protocol.md"
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
VALUES = {
    str: WORDS,
    int: st.integers(0, 2**31),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    dict[str, str]: st.dictionaries(st.sampled_from("ABC"), st.just("x")),
    dict[str, float]: st.dictionaries(st.sampled_from("ABC"), st.floats(0, 9)),
    Edit: st.builds(Edit, st.integers(0, 9), st.integers(0, 9), WORDS, st.booleans()),
}


def values_of(hint: typing.Any) -> st.SearchStrategy[typing.Any]:
    """Values of a field's type, records within records included."""
    if hint in VALUES:
        return VALUES[hint]
    if isinstance(hint, type) and issubclass(hint, Record):
        return st.builds(hint, **fields_of(hint))
    inner = typing.get_args(hint)[0]
    if typing.get_origin(hint) is tuple:
        return st.lists(values_of(inner), max_size=3).map(tuple)
    return st.none() | values_of(inner)


def fields_of(kind: type[Record]) -> dict[str, st.SearchStrategy[typing.Any]]:
    hints = typing.get_type_hints(kind, localns={"Edit": Edit})
    return {name: values_of(hints[name]) for name in kind._fields if name != "payload_bytes"}


FOR_SERVERS = {Synthesize}  # which no client ever hears
ANY_MESSAGE = st.one_of(*(st.builds(kind, **fields_of(kind)) for kind in MESSAGES.values()))


def trusted(*, strict: bool) -> Decoder:
    decoder = Decoder(strict=strict)
    decoder.trust()
    return decoder


@given(st.lists(ANY_MESSAGE, min_size=1, max_size=4), st.integers(1, 50))
def test_both_decoders_return_what_was_encoded_however_it_is_cut(sent: list[Message], size: int) -> None:
    for_client = [message for message in sent if type(message) not in FOR_SERVERS]
    for messages, decoder in ((sent, trusted(strict=True)), (for_client, trusted(strict=False))):
        stream = b"".join(encode(message) for message in messages)
        pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
        received = [message for piece in pieces for message, _ in decoder.feed(piece)]
        assert received == messages
        assert not decoder.within_frame


@given(st.binary(max_size=400), st.integers(1, 30))
def test_a_payload_comes_back_whole(pcm: bytes, size: int) -> None:
    frame = encode(AudioChunk(utterance="u", index=1, payload_bytes=len(pcm)), pcm)
    decoder = trusted(strict=True)
    received = [item for at in range(0, len(frame), size) for item in decoder.feed(frame[at : at + size])]
    assert [payload for _, payload in received] == [pcm]


def frame_of(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


MALFORMED = {
    "length 0": b"\0\0\0\0",
    "length 2**31": struct.pack(">I", 2**31),
    "length 2**32 - 1": b"\xff" * 4,
    "limit + 1": struct.pack(">I", MAX_JSON_BYTES + 1),
    "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "TLS": bytes.fromhex("16030100c8010000c40303"),
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "not UTF-8": frame_of(b'{"type":"Cancel","utterance":"\xff"}'),
    "UTF-16": frame_of('{"type":"Ping"}'.encode("utf-16")),
    "BOM": frame_of(b"\xef\xbb\xbf" + b'{"type":"Ping"}'),
    "not JSON": frame_of(b"hello"),
    "a list": frame_of(b"[]"),
    "a number": frame_of(b"1"),
    "null": frame_of(b"null"),
    "nesting": frame_of(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b',"type":"Ping"}'),
    "nesting in Status": frame_of(b'{"type":"Status","utterances":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "unknown field within": frame_of(b'{"type":"Speak","utterance":"u","speech":{"path":"/etc"}}'),
    "wrong type within": frame_of(b'{"type":"Speak","utterance":"u","speech":{"speed":"1"}}'),
    "a word too short": frame_of(b'{"type":"AudioChunk","utterance":"u","index":0,"words":[[0,1,2]]}'),
    "a word too long": frame_of(b'{"type":"AudioChunk","utterance":"u","index":0,"words":[[0,1,2,3,4]]}'),
    "NaN": frame_of(b'{"type":"Progress","utterance":"u","seconds":NaN}'),
    "1e999": frame_of(b'{"type":"Progress","utterance":"u","seconds":1e999}'),
    "unknown type": frame_of(b'{"type":"Reboot"}'),
    "no type": frame_of(b'{"utterance":"u"}'),
    "unknown field": frame_of(b'{"type":"Cancel","utterance":"u","path":"/etc/passwd"}'),
    "missing field": frame_of(b'{"type":"Cancel"}'),
    "wrong type": frame_of(b'{"type":"Cancel","utterance":1}'),
    "bool for a number": frame_of(b'{"type":"Credit","utterance":"u","bytes":true}'),
    "lone surrogate": frame_of(b'{"type":"Cancel","utterance":"\\ud800"}'),
    "raw control character": frame_of(b'{"type":"Cancel","utterance":"\x01"}'),
    "negative payload": frame_of(b'{"type":"AudioChunk","utterance":"u","index":0,"payload_bytes":-1}'),
    "payload too long": frame_of(b'{"type":"AudioChunk","utterance":"u","index":0,"payload_bytes":1048577}'),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_frames_are_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        trusted(strict=True).feed(data)


@pytest.mark.parametrize("size", ["-1", "1048577", '"4"', "1.5", "true", "null", "[4]", "1e3", "9" * 25])
def test_a_payload_without_a_sensible_size_is_refused_by_both_decoders(size: str) -> None:
    frame = frame_of(b'{"type":"AudioChunk","utterance":"u","index":0,"payload_bytes":%s}' % size.encode())
    for strict in (True, False):
        with pytest.raises(ProtocolError):
            trusted(strict=strict).feed(frame)


def test_before_the_handshake_long_frames_and_payloads_are_refused() -> None:
    with pytest.raises(ProtocolError, match="frame"):
        Decoder(strict=True).feed(struct.pack(">I", MAX_HELLO_BYTES + 1))
    with pytest.raises(ProtocolError, match="payload"):
        Decoder(strict=True).feed(encode(AudioChunk(utterance="u", index=0, payload_bytes=4), b"1234"))


def test_mutated_frames_end_in_messages_or_protocol_errors() -> None:
    chance = random.Random(1)
    seeds = [
        encode(Hello(role="client", protocol=1, version="1", nonce="0" * 32)),
        encode(Speak(utterance="0" * 32, speech=Speech(voice="af_heart", lang="a"))),
        encode(AudioChunk(utterance="u", index=3, payload_bytes=8), b"12345678"),
    ]
    decoder = trusted(strict=True)
    for _ in range(20_000):
        frame = bytearray(chance.choice(seeds))
        for _ in range(chance.randrange(1, 4)):
            frame[chance.randrange(4, len(frame))] = chance.randrange(256)
        try:
            decoder.feed(bytes(frame))
        except ProtocolError:
            decoder = trusted(strict=True)
        if decoder.within_frame:
            decoder = trusted(strict=True)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf")])
def test_what_no_peer_would_accept_is_not_encoded(seconds: float) -> None:
    with pytest.raises(ValueError, match="Out of range"):
        encode(protocol.Progress(utterance="u", seconds=seconds))


def test_lone_surrogates_are_replaced_on_the_wire() -> None:
    message = trusted(strict=True).feed(encode(protocol.TextPart(utterance="u", text="a\udcffb")))[0][0]
    assert message == protocol.TextPart(utterance="u", text="a?b")


def test_an_error_in_a_record_names_its_place() -> None:
    with pytest.raises(ProtocolError, match=r"speech\.cast\[0\]\.voice"):
        trusted(strict=True).feed(
            frame_of(b'{"type":"Speak","utterance":"u","speech":{"cast":[{"name":"Alice","voice":1}]}}')
        )


def test_every_message_and_record_is_in_the_specification_with_every_field() -> None:
    sections = {
        section.split("`", 1)[0]: section for section in SPECIFICATION.read_text().split("\n### `")[1:]
    }  # a heading per message
    specified: dict[str, type[Record]] = {**records(), **MESSAGES}
    assert set(sections) == set(specified) - {"StatusReport"}  # which never travels
    for name, kind in specified.items() - {("StatusReport", records()["StatusReport"])}:
        for field in kind._fields:
            assert f"`{field}`" in sections[name], f"{name}.{field}"


def test_the_examples_of_the_specification_are_valid() -> None:
    examples = [line[4:] for line in SPECIFICATION.read_text().splitlines() if line.startswith('    {"type"')]
    assert len(examples) >= 10
    for example in examples:
        json.loads(example)
        decoder = trusted(strict=True)
        decoder.feed(frame_of(example.encode()))
