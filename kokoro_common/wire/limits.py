"""How long the strings inside messages may be: every one has a limit, on both sides of the wire.

What a peer sends comes back in answers to others (a status, an error, a notice), and several of them have to fit into
one frame there.
"""

from __future__ import annotations

from kokoro_common.record import Record

CHARACTERS = 1_000  # in a string that is not named here
# By record and field. A limit holds for each string in a tuple or dict, keys too.
OTHERS = {
    "TextPart.text": 100_000,  # bytes of UTF-8, which are more
    "ChunkSpoken.text": 100_000,
    "Explained.text": 100_000,
    "Explained.phonemes": 100_000,
    "ChunkRequest.text": 100_000,
    "ChunkRequest.edits": 100_000,
    "LogLine.line": 65_536,
    "VoiceServerFor.environment": 4_096,
    "Route.environment": 8_200,  # name and value
    "Downloaded.path": 4_096,  # the longest that Linux has
    "Proof.proof": 4_096,  # a wrong one gets the same answer, however long it is
    "Route.client": 100,  # it stands in the status, as often as there are utterances
}
# Lines for people, of which the beginning says enough: cut when they are sent.
PROSE = frozenset({"Failed.text", "Notice.text", "Denied.text", "ServerState.detail"})


def limit_of(place: str) -> int:
    """`place`: as in OTHERS. In characters."""
    return OTHERS.get(place, CHARACTERS)


def fitting(record: Record) -> Record:
    """The same with lines for people cut to their limit. Raises ValueError as `check_strings`."""
    kind = type(record).__name__
    long = {
        name: text[: CHARACTERS - 3] + "..."
        for name in record._fields
        if f"{kind}.{name}" in PROSE and len(text := getattr(record, name)) > CHARACTERS
    }
    record = record.replace(**long) if long else record
    check_strings(record)
    return record


def check_strings(record: Record) -> None:
    """Raises ValueError for a string that is too long, in a record within it too, and names its place."""
    kind = type(record).__name__
    for name in record._fields:
        _check(getattr(record, name), f"{kind}.{name}")


def _check(value: object, place: str) -> None:
    if isinstance(value, str):
        if len(value) > limit_of(place):
            raise ValueError(f"{place} has {len(value):,} characters, more than {limit_of(place):,}")
    elif isinstance(value, Record):
        check_strings(value)
    elif isinstance(value, (tuple, dict)):
        for each in value:
            _check(each, place)
        if isinstance(value, dict):
            _check(tuple(value.values()), place)
