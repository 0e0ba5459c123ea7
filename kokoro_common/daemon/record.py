"""What a server publishes about itself: NAME.json for clients, and the note inside NAME.lock for the next starter.

Both are hints, read without trust: a damaged one counts as absent. The lock and the handshake decide.
"""

from __future__ import annotations

import json
import time

from kokoro_common import __version__
from kokoro_common.daemon import process
from kokoro_common.daemon.runtime_directory import RuntimeDirectory
from kokoro_common.record import Record
from kokoro_common.wire.messages import PROTOCOL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_DEATHS = 5  # deaths kept in a note; as many within DEATH_SECONDS, and the next starter gives up
DEATH_SECONDS = 60.0  # age at which a death no longer counts
MAX_PID = 1 << 31
_RECORD: dict[str, type] = {"pid": int, "port": int, "started": str, "version": str, "protocol": int, "network": str}
_NOTE: dict[str, type] = {"leaving": bool, "stderr_bytes": int, "died": int}


class ServerRecord(Record):
    """The contents of NAME.json: where to call."""

    pid: int
    port: int  # 0 in a Note: it does not listen yet
    started: str = ""  # process.start_of(pid)
    version: str = __version__
    protocol: int = PROTOCOL
    network: str = ""  # process.network(): where the port can be called; empty: not known

    @property
    def is_elsewhere(self) -> bool:
        """Whether it runs in another network namespace, so that its port here is nobody's, or another program's."""
        own = process.network()
        return bool(own and self.network) and self.network != own


class Note(Record):
    """The contents of NAME.lock: the state of the last server, for any reader. Only the lock's holder writes it."""

    record: ServerRecord | None = None  # None: the last server left in order
    leaving: bool = False  # it accepts no new connection
    stderr_bytes: int = 0  # size of the stderr file at the server's start: its own last words begin there
    deaths: tuple[tuple[float, str], ...] = ()  # (time.monotonic(), reason) of the last MAX_DEATHS servers that died
    died: int = 0  # number of servers that died, in all

    def recent_deaths(self) -> int:
        """Number of deaths within DEATH_SECONDS."""
        now = time.monotonic()
        return sum(now - DEATH_SECONDS < when <= now for when, _ in self.deaths)


def record_of(runtime: RuntimeDirectory, name: str) -> ServerRecord | None:
    """The server record in NAME.json; None when there is no readable one."""
    return _checked_record(_parsed_object(runtime.read(f"{name}.json")))


def note_of(runtime: RuntimeDirectory, name: str) -> Note:
    """The note in NAME.lock; an empty Note when there is no readable one."""
    fields = _parsed_object(runtime.read(f"{name}.lock"))
    try:
        deaths = tuple((float(when), printable(reason)) for when, reason in fields.get("deaths", ()))
    except (TypeError, ValueError, OverflowError):
        return Note()
    record = fields.get("record")
    plain = _typed({name: fields.get(name, getattr(Note, name)) for name in ("leaving", "stderr_bytes", "died")}, _NOTE)
    checked = _checked_record(record)
    if plain is None or min(plain["stderr_bytes"], plain["died"]) < 0 or (record is not None and checked is None):
        return Note()
    return Note(record=checked, deaths=deaths[-MAX_DEATHS:], **plain)


def write_note(runtime: RuntimeDirectory, life_lock: int, note: Note) -> None:
    """Overwrites the note in a lock file that the caller holds. Raises ServersUnreachable when the disk is full."""
    fields = note.as_dict() | {"record": note.record and note.record.as_dict()}
    runtime.overwrite(life_lock, json.dumps(fields).encode())


def deaths(runtime: RuntimeDirectory) -> int:
    """How many servers of this directory had to be replaced because they had died."""
    names = (name.removesuffix(".lock") for name in runtime.names() if name.endswith(".lock"))
    return sum(note_of(runtime, name).died for name in names)


def is_newer(version: str) -> bool:
    """Whether a version is newer than this program's; False for one that cannot be compared."""
    try:
        return [int(part) for part in version.split(".")] > [int(part) for part in __version__.split(".")]
    except ValueError:
        return False


def _parsed_object(data: bytes | None) -> dict[str, Any]:
    try:
        fields = json.loads(data) if data else {}
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _checked_record(fields: object) -> ServerRecord | None:
    """None unless all fields have their types. Fields that we do not know are a newer program's, and passed over."""
    if not isinstance(fields, dict):
        return None
    known = _typed({name: fields[name] for name in _RECORD if name in fields}, _RECORD)
    if known is None or not ServerRecord._required <= known.keys():
        return None
    record = ServerRecord(**known)
    words = (record.started, record.version, record.network)
    if not 0 <= record.port < 65536 or not 0 <= record.pid < MAX_PID or not all(map(_is_short_word, words)):
        return None
    return record


def _typed(fields: dict[str, Any], kinds: dict[str, type]) -> dict[str, Any] | None:
    return fields if all(type(value) is kinds[name] for name, value in fields.items()) else None


def printable(words: str) -> str:
    """The last words of a server, as they may be shown. Raises TypeError for what is no text."""
    return "".join(filter(str.isprintable, words))[:300]


def _is_short_word(text: str) -> bool:
    """It may be shown: a damaged file must not reach a terminal."""
    return len(text) <= 100 and text.isprintable()
