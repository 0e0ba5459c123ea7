"""The status report as lines for a person."""

from __future__ import annotations

from kokoro_common.errors import SAY, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kokoro_common.wire.reports import StatusReport, UtteranceReport


NOT_RUNNING = f"no servers are running; they start with the first {SAY}"


def readable(report: StatusReport) -> str:
    """Several lines, no newline at the end."""
    model = report.model_server
    if model is None:
        lines = [*_silent(report), *_utterances(report)]
        return "\n".join(map(shown, lines or [NOT_RUNNING]))
    ledger = model.ledger
    state = "not loaded" if model.state == "starting" else model.state
    lines = [
        f"model server   pid {model.pid}, port {model.port}, up {_span(model.uptime_s)}, {_megabytes(model.rss_bytes)}",
        f"model          {model.state}, {model.engine_reason}"
        if model.state == "unloaded"
        else f"model          {state}: {model.engine} ({model.engine_reason})",
        f"device         {model.device}{_reason(model.device_reason)}",
        f"precision      {model.precision}{_reason(model.precision_reason)}",
        *([f"decoder        {model.decoder}"] if model.decoder else []),
        f"utterances     {ledger.accepted} accepted, {ledger.finished} finished, "
        f"{ledger.cancelled} cancelled, {ledger.failed} failed, {ledger.in_flight} in flight",
    ]
    if model.restarts:
        lines.append(f"restarts       {model.restarts}, of servers that had died; the logs say of what")
    if model.rtf_p50 is not None:
        lines.append(f"speed          {model.rtf_p50:.2f} s of work for 1 s of audio (median)")
    if model.first_audio_ms_p50 is not None:
        lines.append(f"first sound    after {model.first_audio_ms_p50:.0f} ms (median), "
                     f"{model.underflows} underflows")  # fmt: skip
    if model.kept_asked:
        hits = f"{model.kept_hits} of {model.kept_asked} text chunks"
        lines.append(f"said again     {hits}, from {_megabytes(model.kept_bytes)} of kept audio")
    lines += [f"{name:<15}{quality}" for name, quality in (("g2p", _pairs(model.g2p)),) if quality]
    lines += [
        f"{voice.voice:<15}pid {voice.pid}, port {voice.port}, idle {_span(voice.idle_s)}, "
        f"{_megabytes(voice.rss_bytes)}"
        for voice in report.voice_servers
    ]
    return "\n".join(map(shown, [*lines, *_silent(report), *_utterances(report)]))


def _silent(report: StatusReport) -> list[str]:
    names = [name.removeprefix("voice-") for name in report.silent if name != "model"]
    if report.model_server is None and (report.utterances or report.silent):
        names.insert(0, "the model server")
    return [f"no answer      from {', '.join(names)}"] if names else []


def _utterances(report: StatusReport) -> list[str]:
    lines = [
        f"{each.state:<15}{each.voice}, {_course(each)}, for {each.client or 'somebody'}"
        for key in ("speaking", "waiting", "writing")
        for each in getattr(report, key)
    ]
    return [*lines, f"and {report.more} more"] if report.more else lines


def _course(each: UtteranceReport) -> str:
    """How far it is, or how long it has been waiting for that."""
    if each.state == "waiting":
        return f"for {_span(each.state_s)}" + (f", {_span(each.seconds)} heard before" if each.seconds else "")
    if each.state == "paused":
        return f"for {_span(each.state_s)}, {_span(each.seconds)} heard; {SAY} --resume goes on"
    return f"{_span(each.seconds)} {'written' if each.state == 'writing' else 'heard'}"


def _reason(text: str) -> str:
    return f" ({text})" if text else ""


def _pairs(table: dict[str, str]) -> str:
    return ", ".join(f"{key}: {value}" for key, value in table.items())


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB"


def _span(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02} min"
