"""Every string of every message has a limit. The classes are looked at, so none is forgotten in a message to come."""

from __future__ import annotations

import json
import typing
from collections.abc import Iterator
from typing import Any

import pytest

from kokoro_common.record import Record
from kokoro_common.text.edits import Edit
from kokoro_common.wire.codec import Decoder, encode, form_of
from kokoro_common.wire.limits import PROSE, limit_of
from kokoro_common.wire.messages import MAX_REPORTS, MESSAGES, Message, ProtocolError, Status
from kokoro_common.wire.reports import UtteranceReport
from tests.wire.test_messages import frame_of

PLAIN: dict[Any, Any] = {str: "x", int: 1, float: 1.0, bool: True}


def small(hint: Any) -> Any:
    """A value of that type, in which every table has one entry and every record is there."""
    if hint in PLAIN:
        return PLAIN[hint]
    if hint is Edit:
        return Edit(0, 1, "x")
    if isinstance(hint, type) and issubclass(hint, Record):
        return hint(**{name: small(each) for name, each in hints_of(hint).items()})
    inner = typing.get_args(hint)
    if typing.get_origin(hint) is tuple:
        return (small(inner[0]),)
    if typing.get_origin(hint) is dict:
        return {small(inner[0]): small(inner[1])}
    return small(inner[0])  # or None


def hints_of(kind: type[Record]) -> dict[str, Any]:
    hints = typing.get_type_hints(kind, localns={"Edit": Edit})
    return {name: hints[name] for name in kind._fields if name != "payload_bytes"}


def with_string(hint: Any, place: str, size: int | None) -> Iterator[tuple[str, Any]]:
    """Each value of that type in which one string has `size` characters, None for its limit; and where it stands."""
    text = "y" * (limit_of(place) if size is None else size)
    inner = typing.get_args(hint)
    if hint is str:
        yield place, text
    elif hint is Edit:
        yield place, Edit(0, 1, text)
    elif isinstance(hint, type) and issubclass(hint, Record):
        fields = {name: small(each) for name, each in hints_of(hint).items()}
        for name, each in hints_of(hint).items():
            for where, value in with_string(each, f"{hint.__name__}.{name}", size):
                yield where, hint(**{**fields, name: value})
    elif typing.get_origin(hint) is tuple:
        for where, value in with_string(inner[0], place, size):
            yield where, (small(inner[0]), value)
    elif typing.get_origin(hint) is dict:
        yield place, {text: small(inner[1])}
        for where, value in with_string(inner[1], place, size):
            yield where, {"x": value}
    elif hint not in PLAIN:
        yield from with_string(inner[0], place, size)


def received(message: Message) -> Message:
    """What a server makes of the message's bytes, whatever our own encoder thinks of it."""
    fields = {"type": type(message).__name__, **message.as_dict()}
    decoder = Decoder(strict=True)
    decoder.trust()
    ((arrived, _),) = decoder.feed(frame_of(json.dumps(fields, default=form_of).encode()))
    return arrived


@pytest.mark.parametrize("kind", MESSAGES.values(), ids=MESSAGES)
def test_a_string_of_half_a_megabyte_is_refused_wherever_it_stands(kind: type[Message]) -> None:
    for place, message in with_string(kind, kind.__name__, 600_000):
        with pytest.raises(ProtocolError, match=place):
            received(message)
        if place in PROSE:
            assert len(encode(message)) < 2_000
        else:
            with pytest.raises(ValueError, match=place):
                encode(message)


@pytest.mark.parametrize("kind", MESSAGES.values(), ids=MESSAGES)
def test_a_string_at_its_limit_arrives_and_one_beyond_it_does_not(kind: type[Message]) -> None:
    for _, message in with_string(kind, kind.__name__, None):
        assert received(message) == message
        encode(message)
    for place, _ in with_string(kind, kind.__name__, None):
        longer = dict(with_string(kind, kind.__name__, limit_of(place) + 1))[place]
        with pytest.raises(ProtocolError, match="characters"):
            received(longer)


def test_the_walk_above_finds_the_strings_in_records_tuples_and_objects() -> None:
    places = {place for kind in MESSAGES.values() for place, _ in with_string(kind, kind.__name__, 1)}
    assert {
        "Route.client", "Pronunciation.said", "Role.name", "ChunkRequest.edits", "VoiceServerFor.environment",
        "ModelServerReport.g2p", "UtteranceReport.client", "Skip.utterances", "Finished.timing",
    } <= places  # fmt: skip


def test_a_status_of_as_many_utterances_as_it_may_have_fits_into_a_frame() -> None:
    """Whatever their clients are called: characters that JSON writes as six."""
    report = UtteranceReport(
        utterance="f" * 32, voice="af_heart:0.25," * 4, state="speaking", seconds=1e9 / 3, age_s=1e9 / 3,
        client="\x01" * limit_of("Route.client"),
    )  # fmt: skip
    assert len(encode(Status(utterances=(report,) * MAX_REPORTS, more=1 << 30))) < 1 << 20
