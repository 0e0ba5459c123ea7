"""What servers tell about themselves: the records of Status, and of `say.py --status --json`.

Keys may be added, not renamed: scripts read them.
"""

from __future__ import annotations

from kokoro_common.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class LedgerReport(Record):
    """Utterances, counted over all voice servers since the model server's start."""

    accepted: int = 0
    finished: int = 0
    cancelled: int = 0
    failed: int = 0
    in_flight: int = 0


class ModelServerReport(Record):
    pid: int
    port: int
    state: str  # see messages.ServerState
    uptime_s: float
    engine: str  # kokoro or espeak: what speaks now
    engine_reason: str
    device: str
    device_reason: str
    precision: str
    precision_reason: str
    decoder: str  # which code decodes; empty while no model is loaded
    batch_limit: int  # phrases in one forward
    revision: str  # of the model
    g2p: dict[str, str]  # by language
    queue: int  # pieces that wait for the engine
    rss_bytes: int
    busy_s: float  # that the engine has been at its present batch
    ledger: LedgerReport
    rtf_p50: float | None  # seconds of work for a second of audio
    rtf_p95: float | None
    first_audio_ms_p50: float | None
    first_audio_ms_p95: float | None
    underflows: int
    restarts: int  # of servers that had died
    kept_asked: int = 0  # text chunks that were looked for among those spoken before
    kept_hits: int = 0  # of these, that were found
    kept_bytes: int = 0  # of audio that is kept


class VoiceServerReport(Record):
    voice: str
    pid: int
    port: int
    rss_bytes: int
    idle_s: float


class UtteranceReport(Record):
    utterance: str
    voice: str
    state: str  # speaking, paused, waiting or writing
    seconds: float  # of audio heard, or sent, so far
    client: str  # who asked
    age_s: float
    state_s: float = 0.0  # seconds since it is in this state


class StatusReport(Record):
    """All servers of a runtime directory. `model_server` is None when it does not run or does not answer."""

    version: str = ""  # of the model server
    model_server: ModelServerReport | None = None
    voice_servers: tuple[VoiceServerReport, ...] = ()
    utterances: tuple[UtteranceReport, ...] = ()  # oldest first
    more: int = 0  # utterances that are left out of these: there are hundreds
    silent: tuple[str, ...] = ()  # servers that run and have not answered, as they are named in the runtime directory

    @property
    def speaking(self) -> tuple[UtteranceReport, ...]:
        return self._in("speaking", "paused")

    @property
    def waiting(self) -> tuple[UtteranceReport, ...]:
        return self._in("waiting")

    @property
    def writing(self) -> tuple[UtteranceReport, ...]:
        return self._in("writing")

    def _in(self, *states: str) -> tuple[UtteranceReport, ...]:
        return tuple(each for each in self.utterances if each.state in states)

    def told(self, fill: Callable[[str], str]) -> StatusReport:
        """With the command's name put into the model server's line; see errors.SAY."""
        model = self.model_server
        return self.replace(model_server=model and model.replace(engine_reason=fill(model.engine_reason)))

    def as_json(self) -> dict[str, Any]:
        """What `say.py --status --json` prints. Without servers: model_server None, voice_servers []."""
        servers = {
            "model_server": _plain(self.model_server),
            "voice_servers": [_plain(each) for each in self.voice_servers],
        }
        silent: dict[str, Any] = {"silent": list(self.silent)} if self.silent else {}
        if self.model_server is None and not self.utterances:
            return servers | silent
        more = {"more": self.more} if self.more else {}
        speech = {key: [_plain(each) for each in getattr(self, key)] for key in ("speaking", "waiting", "writing")}
        version = {"version": self.version} if self.version else {}
        return {**version, **servers, **speech, **more, **silent}


def _plain(value: object) -> Any:
    """A record as nested dicts."""
    if not isinstance(value, Record):
        return value
    return {name: _plain(each) for name, each in value.as_dict().items()}
