"""What the model server tells about itself: its status, and the figures that it is made of."""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING, TypeVar

from kokoro_common import __version__
from kokoro_common.wire.messages import Status, UtteranceEnded
from kokoro_common.wire.reports import LedgerReport, ModelServerReport, VoiceServerReport

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable

    from kokoro_common.synthesis.ledger import Ledger
    from kokoro_common.synthesis.loader import Loader
    from kokoro_common.synthesis.roster import Roster
    from kokoro_common.synthesis.synthesis import Synthesis

P = TypeVar("P", bound="Hashable")  # a connection

MAX_REASON = 500  # characters
MEASURED = 200  # utterances that the median time to the first audio is taken over


class Figures:
    """Measured over the utterances that have ended."""

    def __init__(self, now: float) -> None:
        self.started = now  # seconds
        self.first_audio: deque[float] = deque(maxlen=MEASURED)  # seconds
        self.underflows = 0

    def count(self, message: UtteranceEnded) -> None:
        self.underflows += message.underflows
        if message.first_audio:
            self.first_audio.append(message.first_audio)


UNLOADED = "unloaded"  # the model server's state when it has freed the memory of its model


def model_server_report(
    loader: Loader, synthesis: Synthesis, figures: Figures, ledger: LedgerReport, now: float
) -> ModelServerReport:
    """All that concerns the model. Port and restarts are the caller's to fill in."""
    engine, state = loader.engine, loader.state
    loaded = engine is not None
    reason = "the model is loaded" if loaded else loader.unloaded or "speech that needs the model loads it"
    return ModelServerReport(
        pid=os.getpid(),
        port=0,
        state=UNLOADED if loader.unloaded and not loader.has_memory else state.state,
        uptime_s=round(now - figures.started, 1),
        engine="kokoro" if loaded else "espeak",
        engine_reason=state.detail[:MAX_REASON] or reason,
        device=loader.device or loader.wanted_device,
        device_reason=loader.device_reason[:MAX_REASON],
        precision=loader.precision or loader.wanted_precision,
        precision_reason=loader.precision_reason[:MAX_REASON],
        decoder=engine.path[:MAX_REASON] if engine is not None else "",
        batch_limit=engine.batch_limit if engine is not None else 1,
        revision=loader.manifest.revision,
        g2p=synthesis.g2p_quality,
        queue=synthesis.waiting,
        rss_bytes=rss_bytes(os.getpid()),
        busy_s=round(synthesis.busy(now), 1),
        ledger=ledger,
        rtf_p50=percentile(synthesis.real_time_factors, 50),
        rtf_p95=percentile(synthesis.real_time_factors, 95),
        first_audio_ms_p50=percentile([1000 * seconds for seconds in figures.first_audio], 50),
        first_audio_ms_p95=percentile([1000 * seconds for seconds in figures.first_audio], 95),
        underflows=figures.underflows,
        restarts=0,
        kept_asked=synthesis.kept.asked,
        kept_hits=synthesis.kept.hits,
        kept_bytes=synthesis.kept.bytes,
    )


def status(server: ModelServerReport, roster: Roster[P], ledger: Ledger[str], now: float) -> Status:
    voices = tuple(
        VoiceServerReport(
            voice=voice.name,
            pid=voice.pid,
            port=voice.port,
            rss_bytes=rss_bytes(voice.pid),
            idle_s=0.0 if ledger.open_of(voice.instance) else round(now - voice.last_used, 1),
        )
        for voice in roster.registered
    )
    return Status(version=__version__, model_server=server, voice_servers=voices)


def rss_bytes(pid: int) -> int:
    """0 for a process that has just ended, and when this one has no descriptor to look with."""
    try:
        import psutil  # 30 ms: not on the way to listening

        return int(psutil.Process(pid).memory_info().rss)
    except OSError:
        return 0
    except psutil.Error:
        return 0


def percentile(values: Collection[float], percent: int) -> float | None:
    """None while nothing was measured."""
    known = sorted(values)
    return round(known[(len(known) - 1) * percent // 100], 3) if known else None
