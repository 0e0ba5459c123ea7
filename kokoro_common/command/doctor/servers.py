"""Checks of --doctor: the port, the servers that run, what they have logged, how fast they speak."""

from __future__ import annotations

import errno
import json
import os
import tempfile

from kokoro_common import __version__
from kokoro_common.command.doctor.files import cached_voice
from kokoro_common.command.doctor.findings import SENTENCE, counted
from kokoro_common.errors import SAY, KokoroError, ModelUnavailable, ServersUnreachable
from kokoro_common.settings import LOOPBACK

# Everything else is imported by the check that uses it: a module that cannot be imported is a finding, too.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from kokoro_common.settings import Settings

LOG_BYTES = 1 << 20  # read from the end of the log


def port(settings: Settings) -> str:
    import socket

    from kokoro_common.daemon.runtime_directory import RuntimeDirectory
    from kokoro_common.wire.connection import ConnectionLost, NotOurServer, call

    if not settings.port:
        return "any free one"
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((LOOPBACK, settings.port))
            sock.listen()  # two sockets may be bound with SO_REUSEADDR, one may listen
            return f"{settings.port} is free"
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                problem = f"{settings.port} cannot be used: {error.strerror}"
                raise ServersUnreachable(problem, "set KOKORO_PORT to one above 1023") from error
    try:
        call(settings.port, RuntimeDirectory(settings.runtime_dir).token(), "client").close()
    except (ConnectionLost, NotOurServer):
        problem = f"{settings.port} is taken by {_listener(settings.port)}: the next free one is used"
        raise ServersUnreachable(problem, "end it, or set KOKORO_PORT to another one") from None
    return f"{settings.port} is ours"


def _listener(port: int) -> str:
    """The program that listens on a port, as far as the system tells."""
    import psutil

    try:
        for each in psutil.net_connections("tcp"):
            if each.status == psutil.CONN_LISTEN and getattr(each.laddr, "port", 0) == port and each.pid:
                return f"{psutil.Process(each.pid).name()} (pid {each.pid})"
    except psutil.Error:
        pass  # macOS shows them to root only
    return "another program"


def servers(settings: Settings) -> str:
    from kokoro_common.client.client import Client
    from kokoro_common.daemon.runtime_directory import RuntimeDirectory

    report = Client(settings).status()
    model = report.model_server
    if model is None:
        lock = RuntimeDirectory(settings.runtime_dir).lock("model.lock", wait=False)
        if lock is None:
            raise ServersUnreachable("the model server does not answer", f"run {SAY} --shutdown, or end its process")
        os.close(lock)
        return f"none is running; they start with the first {SAY}"
    if report.version != __version__:
        raise ServersUnreachable(
            f"the servers are of version {report.version}, {SAY} of {__version__}",
            f"run {SAY} --shutdown: the next call starts the new ones",
        )
    if model.state == "failed":
        raise ModelUnavailable(f"the model cannot be used: {model.engine_reason}", f"after that run {SAY} --shutdown")
    return (
        f"model server ({model.state}, {model.rss_bytes / 1e6:.0f} MB) and "
        f"{counted(len(report.voice_servers), 'voice server')}, {counted(model.restarts, 'restart')}"
    )


def logged_errors(settings: Settings) -> str:
    """Errors in the log since the model server last began to listen."""
    path = os.path.join(settings.log_dir, "kokoro.log")
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.path.getsize(path) - LOG_BYTES))
            entries = [_entry(line) for line in file]
    except FileNotFoundError:
        return "nothing was logged yet"
    except OSError as error:
        raise ServersUnreachable(
            f"{path} cannot be read: {error.strerror}", "remove it, or set KOKORO_LOG_DIR"
        ) from error
    errors: list[dict[str, Any]] = []
    for entry in entries:
        if (entry.get("component"), entry.get("event")) == ("model_server", "listening"):
            errors.clear()
        elif entry.get("level") in ("error", "critical"):
            errors.append(entry)
    if not errors:
        return "none in the log since the servers last started"
    last = errors[-1]
    reason = str(last.get("traceback", "")).strip().rpartition("\n")[2]
    shown = ": ".join(filter(None, (str(last.get("event")), reason)))[:200]
    raise KokoroError(
        f"{counted(len(errors), 'error')} since the servers last started, the last of {last.get('component')} at "
        f"{last.get('time')}: {shown}",
        f"see {path}; {SAY} --shutdown makes a fresh start",
    )


def _entry(line: bytes) -> dict[str, Any]:
    """A record of the log; empty if the line is cut or torn."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return entry if isinstance(entry, dict) else {}


def speed(settings: Settings) -> str:
    """Measures both servers, with the audio sent here instead of the speakers. The first of two sentences warms up."""
    from kokoro_common.client.client import Client
    from kokoro_common.client.text_source import TextSource
    from kokoro_common.text.speech import Speech
    from kokoro_common.wire.messages import Route

    voice = "" if settings.engine == "espeak" else cached_voice(settings)
    running = Client(settings).status().model_server
    private = running is None or (bool(voice) and running.engine != "kokoro")
    if private:
        scratch = tempfile.gettempdir()
        settings = settings.replace(
            runtime_dir=os.path.join(scratch, "runtime"),
            log_dir=os.path.join(scratch, "logs"),
            offline=True,  # the spaCy model, too, is fetched by a start that may
            port=0,
            keep_alive=30.0,
            idle_timeout=30.0,
        )
    client = Client(settings)
    speech = Speech(voice=voice or Speech.voice, engine="kokoro" if voice else "espeak")
    try:
        for _ in range(2):
            finished = client.speak(TextSource(SENTENCE), speech, Route(sink="client")).finish()
    finally:
        if private:
            client.shutdown()
    assert finished is not None
    factor = finished.timing["model"] / finished.seconds
    what = f"{voice} takes" if voice else "the embedded default takes"
    problem = f"{what} {factor:.2f} s for 1 s of speech"
    if factor > 1:
        raise KokoroError(f"{problem}: there will be gaps", "end other work here, or use --engine espeak")
    return f"{problem}, the first sound after {finished.timing['first_audio'] * 1000:.0f} ms"
