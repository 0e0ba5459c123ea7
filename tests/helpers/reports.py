"""A model server's report, for tests of what is made of it."""

from __future__ import annotations

from kokoro_common.wire.reports import LedgerReport, ModelServerReport

SERVER = ModelServerReport(
    pid=1,
    port=5000,
    state="ready",
    uptime_s=1.0,
    engine="kokoro",
    engine_reason="",
    device="cpu",
    device_reason="",
    precision="fp32",
    precision_reason="",
    decoder="",
    batch_limit=1,
    revision="0" * 40,
    g2p={},
    queue=0,
    rss_bytes=10**9,
    busy_s=0.0,
    ledger=LedgerReport(),
    rtf_p50=None,
    rtf_p95=None,
    first_audio_ms_p50=None,
    first_audio_ms_p95=None,
    underflows=0,
    restarts=0,
)
