"""What the model server tells about itself, before the model is loaded and after it."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kokoro_common import __version__
from kokoro_common.settings import Settings
from kokoro_common.synthesis.ledger import Ledger
from kokoro_common.synthesis.loader import Loader
from kokoro_common.synthesis.report import MEASURED, Figures, model_server_report, percentile, rss_bytes, status
from kokoro_common.synthesis.roster import Roster
from kokoro_common.synthesis.synthesis import Synthesis
from kokoro_common.wire.codec import Decoder, encode
from kokoro_common.wire.messages import Register, ServerState, Status, UtteranceEnded
from kokoro_common.wire.reports import LedgerReport, ModelServerReport
from tests.helpers.descriptors import no_descriptors

NOW = 1_000.0


def ended(first_audio: float = 0.0, underflows: int = 0) -> UtteranceEnded:
    return UtteranceEnded(utterance="u", outcome="finished", first_audio=first_audio, underflows=underflows)


class Server:
    """What a report is made of; nothing of it is started."""

    def __init__(self) -> None:
        settings = Settings(cache_dir="/nowhere", device="cuda", precision="bf16")
        self.loader = Loader(settings, lambda _: None)
        self.synthesis = Synthesis(self.loader, "/nowhere", debug=False)
        self.figures = Figures(NOW)

    def report(self, ledger: LedgerReport | None = None, now: float = NOW) -> ModelServerReport:
        return model_server_report(self.loader, self.synthesis, self.figures, ledger or LedgerReport(), now)


def test_before_anybody_has_asked_it_says_what_is_wanted_and_that_espeak_speaks() -> None:
    report = Server().report(LedgerReport(accepted=3, finished=3), NOW + 12.34)
    assert (report.engine, report.engine_reason) == ("espeak", "speech that needs the model loads it")
    assert (report.device, report.precision, report.decoder, report.batch_limit) == ("cuda", "bf16", "", 1)
    assert (report.pid, report.uptime_s, report.ledger.accepted) == (os.getpid(), 12.3, 3)
    assert report.rss_bytes > 0 and report.queue == 0 and report.busy_s == 0.0
    assert (report.rtf_p50, report.rtf_p95, report.first_audio_ms_p50, report.first_audio_ms_p95) == (None,) * 4


def test_with_a_model_it_says_what_speaks_and_why() -> None:
    server = Server()
    server.loader.engine = cast(Any, SimpleNamespace(path="kernel", batch_limit=4))
    server.loader.state = ServerState(state="ready")
    server.loader.device, server.loader.device_reason = "cpu", "no CUDA device"
    server.loader.precision, server.loader.precision_reason = "fp32", "measured"
    report = server.report()
    assert (report.state, report.engine, report.engine_reason) == ("ready", "kokoro", "the model is loaded")
    assert (report.device, report.device_reason) == ("cpu", "no CUDA device")
    assert (report.precision, report.precision_reason) == ("fp32", "measured")
    assert (report.decoder, report.batch_limit) == ("kernel", 4)


def test_the_reason_for_the_default_voice_is_the_states() -> None:
    server = Server()
    server.loader.state = ServerState(state="default", detail="no network")
    assert server.report().engine_reason == "no network"


def test_the_figures_are_those_of_the_last_utterances() -> None:
    server = Server()
    for _ in range(MEASURED):
        server.figures.count(ended(first_audio=9.0))
    for number in range(MEASURED):
        server.figures.count(ended(first_audio=(number + 1) / 1000, underflows=number % 2))
    server.synthesis.real_time_factors.extend([0.1, 0.2, 0.3])
    report = server.report()
    assert (report.first_audio_ms_p50, report.first_audio_ms_p95) == (pytest.approx(100.0), pytest.approx(190.0))
    assert (report.underflows, report.rtf_p50, report.rtf_p95) == (MEASURED // 2, 0.2, 0.2)


def test_an_utterance_that_was_never_heard_is_no_measure() -> None:
    figures = Figures(NOW)
    figures.count(ended())
    assert not figures.first_audio


def test_voice_servers_that_have_registered_are_listed_and_rest_while_they_have_nothing_open() -> None:
    roster: Roster[str] = Roster()
    ledger: Ledger[str] = Ledger()
    for place, name in enumerate(("af_heart", "am_adam")):
        instance = f"{place:032}"
        message = Register(voice=name, pid=os.getpid(), port=5_001 + place, instance=instance, open=())
        roster.register(name, message, NOW)
        ledger.register(instance, {}, [])
    ledger.open(f"{0:032}", "u")
    roster.expect("af_sky", "a client", NOW)
    found = status(Server().report(), roster, ledger, NOW + 7)
    assert found.version == __version__ and found.model_server is not None
    assert [(each.voice, each.port, each.idle_s) for each in found.voice_servers] == [
        ("af_heart", 5_001, 0.0),
        ("am_adam", 5_002, 7.0),
    ]
    assert all(each.rss_bytes > 0 for each in found.voice_servers)


def test_a_process_that_has_just_ended_has_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(pid: int) -> None:
        raise psutil.NoSuchProcess(pid)

    monkeypatch.setattr(psutil, "Process", gone)
    assert rss_bytes(4711) == 0


@settings(deadline=None)
@given(st.lists(st.floats(0, 100), min_size=1), st.integers(0, 100))
def test_a_percentile_is_a_value_that_was_measured(values: list[float], percent: int) -> None:
    found = percentile(values, percent)
    assert found is not None and found in {round(value, 3) for value in values}
    assert round(min(values), 3) == percentile(values, 0) <= found <= round(max(values), 3) == percentile(values, 100)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere psutil opens nothing")
def test_memory_that_cannot_be_looked_at_is_no_end_of_the_server() -> None:
    assert rss_bytes(os.getpid()) > 0
    with no_descriptors():
        assert rss_bytes(os.getpid()) == 0


def test_whatever_path_the_program_has_its_status_can_be_sent() -> None:
    server = Server()
    server.loader.engine = cast(Any, SimpleNamespace(path="/very/long" * 1_000, batch_limit=4))
    server.loader.device_reason = server.loader.precision_reason = "x" * 10_000
    server.loader.state = ServerState(state="ready", detail="y" * 500)
    Decoder(strict=True).feed(encode(Status(version="0", model_server=server.report())))
