"""say.py --doctor: every check is seen to fail, with the remedy it names; whatever a check does makes one line."""

from __future__ import annotations

import ctypes.util
import faulthandler
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kokoro_common import __version__
from kokoro_common.client import client
from kokoro_common.client.text_source import TextSource
from kokoro_common.command.doctor import examination, installation, servers
from kokoro_common.command.doctor.examination import CHECKS, examine, judged, outcome
from kokoro_common.command.doctor.findings import Check, Finding
from kokoro_common.command.name import NAME
from kokoro_common.errors import NoAudioDevice
from kokoro_common.installed import add_extra, mend
from kokoro_common.phonemes import g2p, spoken
from kokoro_common.settings import Settings
from kokoro_common.text.speech import Speech
from kokoro_common.wire.messages import Finished, Route
from kokoro_common.wire.reports import StatusReport, VoiceServerReport
from tests.conftest import World
from tests.helpers.kokoro_world import connect_to_hub, hub_of
from tests.helpers.reports import SERVER
from tests.helpers.silent_card import SilentCard
from tests.helpers.toy_kokoro import ToyKokoro

ROOT = Path(__file__).parent.parent.parent
REVISION = "0" * 40
FILES = {"m.pth": b"weights", "config.json": b"{}", "voices/af_heart.pt": b"heart", "voices/am_adam.pt": b"adam"}


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Of a machine where nothing was made yet."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    files = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
    manifest = {"repo": "toy/toy", "revision": REVISION, "model": "m.pth", "config": "config.json", "files": files}
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "spacy": None}))
    return Settings(
        runtime_dir=str(tmp_path / "run"),
        cache_dir=str(tmp_path / "cache"),
        config_dir=str(tmp_path / "config"),
        log_dir=str(tmp_path / "cache" / "logs"),
        manifest=str(tmp_path / "manifest.json"),
        port=0,
    )


@pytest.fixture
def cache(settings: Settings) -> Path:
    """The snapshot with all of the manifest's files."""
    snapshot = Path(settings.cache_dir, "hub", "models--toy--toy", "snapshots", REVISION)
    (snapshot / "voices").mkdir(parents=True)
    Path(settings.cache_dir).chmod(0o700)
    for name, content in FILES.items():
        (snapshot / name).write_bytes(content)
    return snapshot


def check(name: str) -> Check:
    return next(each for each in CHECKS if each.name == name)


PIP = f"{sys.executable} -m pip"


def told(name: str, settings: Settings) -> tuple[int, str]:
    finding = judged(check(name), settings)
    return finding.exit_code, NAME.filled(finding.text)


# --- The frame -------------------------------------------------------------------------------------------------------


def abort(_: Settings) -> str:
    faulthandler.disable()  # pytest's would tell of it
    os.abort()


def hang(_: Settings) -> str:
    signal.pause()
    return ""


def leave(_: Settings) -> str:
    sys.exit(3)  # as spaCy does when it cannot download


def fail(_: Settings) -> str:
    raise ValueError("two\nlines")


def lack(_: Settings) -> str:
    import no_such_module  # noqa: F401

    return ""


def refuse(_: Settings) -> str:
    raise NoAudioDevice("no audio device", "plug one in")


def chatter(_: Settings) -> str:
    os.write(1, b"noise")
    os.write(2, b"noise")
    Path(tempfile.mkdtemp(), "litter").touch()
    return "fine"


@pytest.mark.parametrize(
    ("look", "line"),
    [
        (chatter, "ok       x          fine"),
        (refuse, "problem  x          no audio device; plug one in"),
        (fail, "problem  x          ValueError: two lines; please report it"),
        (lack, "problem  x          No module named 'no_such_module'; install Kokoro Say again"),
        (abort, "problem  x          a library crashes (SIGABRT); do this"),
        (leave, "problem  x          a library ends the process, or memory is short; do this"),
        (hang, "problem  x          no answer within 0 s; do this"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_whatever_a_check_does_is_one_line(look: Any, line: str, tmp_path: Path, capfd: Any) -> None:
    remedy = "install Kokoro Say again" if look is lack else "do this"
    seconds = 0.3 if look is hang else 30.0
    finding = outcome(Check(name="x", look=look, seconds=seconds, remedy=remedy), Settings(), str(tmp_path))
    assert finding.line == line
    assert finding.exit_code == (3 if look is refuse else 0 if look is chatter else 1)
    assert capfd.readouterr() == ("", "")
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    if look is chatter:
        assert len(list(tmp_path.rglob("litter"))) == 1  # where the doctor sweeps


def test_a_line_cannot_steer_the_terminal() -> None:
    assert Finding(check="x", text="a\x1b[2Jb\rc\n").line == "ok       x          a?[2Jb?c?"


def test_all_checks_are_made_whatever_fails_and_litter_is_swept(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    looks = (chatter, abort, refuse, chatter)
    monkeypatch.setattr(examination, "CHECKS", tuple(Check(name="x", look=look) for look in looks))
    found = [(finding.check, finding.exit_code) for finding in examine({})]
    assert found == [("settings", 0), ("x", 0), ("x", 1), ("x", 3), ("x", 0)]
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_setting_that_does_not_fit_and_no_room_for_a_file_are_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination, "CHECKS", (Check(name="x", look=chatter),))
    finding, other = examine({"engine": "piper"})
    assert finding.line == "problem  settings   --engine is 'piper'; choose one of auto, kokoro, espeak"
    assert (finding.exit_code, other.exit_code) == (2, 0)
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")
    _, finding = examine({})
    line = (
        "problem  scratch    no temporary file can be made: No such file or directory; make room in /tmp or set TMPDIR"
    )
    assert (finding.exit_code, finding.line) == (1, line)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("", "ok       settings   none set; {say} --config shows all"),
        ("speed = 2\nvoice = 'af_sky'", "ok       settings   voice, speed set; {say} --config shows all"),
        ("voise = 'x'", 'problem  settings   config.toml: "voise" is not a setting; did you mean "voice"?'),
        ("speed = 'x'", "problem  settings   {file}: speed is 'x'; choose 0.25 to 4"),
        ("voice = 'x'", "problem  settings   {file}: voice: unknown voice 'x'; {say} -v '?' lists the voices"),
        ("port = 'x'", "problem  settings   {file}: port is 'x'; give a whole number"),
        ("port =", "problem  settings   {file} cannot be read: Invalid value (at end of document); mend or remove it"),
    ],
)
def test_what_is_wrong_in_the_configuration_is_a_finding_and_hinders_no_other_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, line: str
) -> None:
    for name in [name for name in os.environ if name.startswith("KOKORO_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(examination, "CHECKS", (Check(name="x", look=lambda settings: settings.cache_dir),))
    file = tmp_path / "config.toml"
    file.write_text(content)
    monkeypatch.setenv("KOKORO_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("KOKORO_CACHE_DIR", "/cache")
    line = line.replace("none", "cache_dir, config_dir").replace("speed set", "speed, cache_dir, config_dir set")
    finding, other = examine({})
    assert finding.line == line.replace("{file}", str(file))
    assert other.line == "ok       x          /cache"


# --- install and sound -----------------------------------------------------------------------------------------------


def test_what_must_be_installed_is_what_the_project_file_says() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [each for each in project["dependencies"] if not each.startswith("kokoro")]  # which no program imports
    assert tuple(needed) == installation.REQUIRED
    assert project["requires-python"] == installation.PYTHON
    assert set(installation.EXTRAS) == set(project["optional-dependencies"]) - {"bench", "test"}


def test_install_names_what_is_old_missing_or_broken(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert told("install", settings)[0] == 0
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "soxr":
            raise importlib.metadata.PackageNotFoundError(name)
        return {"torch": "2.9.1+cpu", "lxml": "4.9.1"}.get(name) or real(name)

    with monkeypatch.context() as patch:
        patch.setattr(importlib.metadata, "version", version)
        patch.setattr(importlib.util, "find_spec", lambda name: None if name == "misaki" else name)
        assert told("install", settings) == (
            1,
            "misaki is damaged, torch is 2.9.1+cpu, lxml is 4.9.1, soxr is missing; "
            f"run {PIP} install 'misaki[en]>=0.9.4,<0.10' 'torch>=2.10' 'lxml>=5' 'soxr>=0.5'",
        )
    with monkeypatch.context() as patch:
        (tmp_path / "soxr.py").write_text("raise OSError('libsoxr.so is missing')")
        patch.syspath_prepend(tmp_path)
        patch.delitem(sys.modules, "soxr", raising=False)
        assert told("install", settings) == (
            1, f"soxr cannot be used: libsoxr.so is missing; run {PIP} install --force-reinstall --no-deps soxr"
        )  # fmt: skip
    monkeypatch.setattr(installation, "PYTHON", ">=3.99")
    assert told("install", settings) == (1, f"Python is {sys.version.split()[0]}; install Python >=3.99")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere sounddevice brings PortAudio")
def test_sound_names_the_missing_library(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    assert told("sound", settings) == (3, "PortAudio is missing; install libportaudio2")


@pytest.mark.card
def test_sound_on_a_card_that_works_hangs_and_is_gone(
    settings: Settings, silent_card: SilentCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in silent_card.environment.items():
        monkeypatch.setenv(name, value)
    assert outcome(check("sound"), settings, str(tmp_path)).line.startswith("ok       sound ")
    silent_card.hang()
    finding = outcome(check("sound").replace(seconds=3.0), settings, str(tmp_path))
    assert (finding.exit_code, finding.text) == (1, "no answer within 3 s; restart the sound server")
    silent_card.unplug()
    finding = outcome(check("sound"), settings, str(tmp_path))
    assert (finding.exit_code, finding.text.partition("; ")[2]) == (3, "plug one in, or write a file with -o out.wav")
    silent_card.plug_in()


# --- model, voices, disk ---------------------------------------------------------------------------------------------


def test_model_missing_is_not_damaged(settings: Settings) -> None:
    missing = "m.pth and config.json are not in the cache"
    assert told("model", settings) == (4, f"{missing}: the embedded default speaks; run say.py --download")
    assert told("model", settings.replace(offline=True)) == (
        4, f"{missing}: the embedded default speaks; unset KOKORO_OFFLINE and run say.py --download",
    )  # fmt: skip
    assert told("model", settings.replace(engine="espeak")) == (0, f"{missing}, and engine espeak needs none")
    assert told("voices", settings) == (4, "no voice is in the cache; run say.py --download")
    assert told("voices", settings.replace(engine="espeak"))[0] == 0


def test_model_right_damaged_and_unreadable(settings: Settings, cache: Path) -> None:
    assert told("model", settings) == (0, "toy/toy is in the cache, every bit as it should be")
    (cache / "m.pth").write_bytes(b"weightz")
    for _ in range(2):  # looking changes nothing
        assert told("model", settings) == (4, "m.pth in the cache: wrong SHA-256; run say.py --download")
    (cache / "m.pth").unlink()
    assert told("model", settings) == (
        4, "m.pth is not in the cache: the embedded default speaks; run say.py --download"
    )  # fmt: skip
    (cache / "m.pth").mkdir()
    assert told("model", settings) == (
        4, f"{cache / 'm.pth'} cannot be read: Is a directory; make it readable or remove it"
    )  # fmt: skip
    assert told("model", settings.replace(manifest=str(cache / "config.json")))[0] == 2


def test_every_cached_voice_is_looked_at(settings: Settings, cache: Path) -> None:
    assert told("voices", settings)[1].startswith("2 of 2 in the cache")
    (cache / "voices" / "am_adam.pt").write_bytes(b"madam")
    problem = "1 voice with wrong SHA-256 in the cache: am_adam"
    assert told("voices", settings) == (4, f"{problem}; run say.py --download am_adam")
    (cache / "voices" / "am_adam.pt").unlink()
    assert told("voices", settings)[1].startswith("1 of 2 in the cache")


def test_a_model_in_the_shared_cache_is_as_good(settings: Settings, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "huggingface").mkdir()
    shutil.move(Path(settings.cache_dir, "hub"), tmp_path / "huggingface" / "hub")
    assert (told("model", settings)[0], told("voices", settings)[0]) == (0, 0)


def test_disk_without_room(settings: Settings, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert told("disk", settings)[0] == 0
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 9 * 10**8, 10**8))
    assert told("disk", settings)[0] == 0  # all is here
    (cache / "m.pth").unlink()
    assert told("disk", settings) == (
        4,
        f"100 MB are free for {settings.cache_dir}, 350 MB are needed; make room or set KOKORO_CACHE_DIR",
    )


# --- port and directories --------------------------------------------------------------------------------------------


def test_port_free_foreign_and_impossible(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as foreign:
        port = foreign.getsockname()[1]
        code, text = told("port", settings.replace(port=port))
        assert (code, text) == (
            6,
            f"{port} is taken by {Path(f'/proc/{os.getpid()}/comm').read_text().strip()} (pid {os.getpid()}): "
            "the next free one is used; end it, or set KOKORO_PORT to another one",
        )
    assert told("port", settings.replace(port=port)) == (0, f"{port} is free")
    assert told("port", settings) == (0, "any free one")
    monkeypatch.setattr(servers, "LOOPBACK", "203.0.113.1")
    assert told("port", settings.replace(port=port)) == (
        6, f"{port} cannot be used: Cannot assign requested address; set KOKORO_PORT to one above 1023"
    )  # fmt: skip


def test_runtime_directory_and_its_files_are_the_owners_alone(settings: Settings) -> None:
    path = Path(settings.runtime_dir)
    assert told("runtime", settings) == (0, f"{path} is yours alone")
    (path / "model.json").write_text("{}")
    (path / "model.json").chmod(0o644)
    assert told("runtime", settings) == (6, f"{path}/model.json is open to other users; run chmod -R go-rwx {path}")
    path.chmod(0o755)
    assert told("runtime", settings) == (
        6,
        f"the runtime directory {path} is open to other users; make it yours with mode 0700 or set KOKORO_RUNTIME_DIR",
    )
    shutil.rmtree(path)
    path.touch()
    assert told("runtime", settings)[1].endswith("; remove what is in its place or set KOKORO_RUNTIME_DIR")


def test_a_file_of_another_user_is_seen(settings: Settings) -> None:
    if os.getuid():
        pytest.skip("only root can make one")
    told("runtime", settings)
    token = Path(settings.runtime_dir, "token")
    token.touch(0o600)
    os.chown(token, 65534, 65534)
    assert told("runtime", settings) == (6, f"{token} belongs to another user; remove it, or set KOKORO_RUNTIME_DIR")


def test_cache_that_others_can_write_or_that_is_none(settings: Settings, cache: Path) -> None:
    path = Path(settings.cache_dir)
    assert told("cache", settings) == (0, f"{path} can be written by you alone")
    path.chmod(0o777)
    assert told("cache", settings) == (
        4, f"{path} can be written by other users; run chmod go-w {path}, or set KOKORO_CACHE_DIR"
    )  # fmt: skip
    shutil.rmtree(path)
    assert told("cache", settings) == (0, f"{path} will be made")
    path.touch()
    assert told("cache", settings) == (4, f"{path} is not a directory; remove it, or set KOKORO_CACHE_DIR")
    below = settings.replace(cache_dir=str(path / "below"))
    assert told("cache", below) == (
        4, f"{path}/below cannot be made: {path} cannot be written; set KOKORO_CACHE_DIR"
    )  # fmt: skip


def test_logs_and_their_directory_are_the_owners_alone(settings: Settings) -> None:
    path = Path(settings.log_dir)
    assert told("logs", settings) == (0, f"{path} will be made")
    path.mkdir(parents=True, mode=0o700)
    assert told("logs", settings) == (0, f"{path} is yours alone")
    (path / "kokoro.log").touch()
    (path / "kokoro.log").chmod(0o640)
    assert told("logs", settings) == (6, f"{path}/kokoro.log is open to other users; run chmod -R go-rwx {path}")
    (path / "kokoro.log").unlink()
    path.chmod(0o750)
    assert told("logs", settings) == (6, f"{path} is open to other users; run chmod -R go-rwx {path}")


def test_config_that_others_can_write(settings: Settings) -> None:
    path = Path(settings.config_dir)
    assert told("config", settings)[0] == 0
    path.mkdir(mode=0o700)
    assert told("config", settings) == (0, f"{path} has no config.toml, and needs none")
    (path / "config.toml").touch()
    (path / "config.toml").chmod(0o666)
    assert told("config", settings) == (
        2,
        f"{path}/config.toml can be written by other users; make it yours and run chmod go-w {path}/config.toml",
    )
    (path / "config.toml").chmod(0o600)
    assert told("config", settings) == (0, f"{path}/config.toml counts")


class Unreadable(NamedTuple):
    name: str
    field: str
    code: int
    text: str


@pytest.mark.parametrize(
    "case",
    [
        Unreadable("cache", "cache_dir", 4, "{} cannot be read; run chmod u+rx {}, or set KOKORO_CACHE_DIR"),
        Unreadable("logs", "log_dir", 6, "{} cannot be written; run chmod u+rwx {}, or set KOKORO_LOG_DIR"),
        Unreadable("config", "config_dir", 2, "{} cannot be read; run chmod u+r {}"),
    ],
    ids=lambda case: case.name,
)
def test_a_directory_that_cannot_be_read_is_said(settings: Settings, case: Unreadable) -> None:
    """Root can read all, so the check is made as nobody, below a directory that anyone may enter."""
    with tempfile.TemporaryDirectory() as open_to_all:
        os.chmod(open_to_all, 0o755)
        path = Path(open_to_all, case.name)
        path.mkdir(mode=0o000)

        def look_as_nobody(settings: Settings) -> str:
            if os.getuid() == 0:
                os.chown(path, 65534, 65534)
                os.setgid(65534)
                os.setuid(65534)
            return check(case.name).look(settings)

        finding = outcome(
            Check(name=case.name, look=look_as_nobody), settings.replace(**{case.field: str(path)}), open_to_all
        )
        assert (finding.exit_code, finding.text) == (case.code, case.text.format(path, path))


# --- phonemes --------------------------------------------------------------------------------------------------------


def test_languages_without_phonemes(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(self: g2p.G2P, text: str, lang: str) -> spoken.Spoken:
        return spoken.Spoken(phonemes="", words=())

    monkeypatch.setattr(g2p.G2P, "spoken", nothing)
    assert told("languages", settings) == (1, f"a Spanish sentence has 0 phonemes; run {mend('espeakng-loader')}")
    sentence = "'The quick brown fox jumps over the lazy dog.'"
    assert told("english", settings) == (1, f"{sentence} has 0 phonemes; run {mend('misaki')}")


def test_languages_that_are_there_and_those_that_can_be(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    for present, line in (
        (False, f"es fr hi it pt-br; ja by {add_extra('ja')}; zh by {add_extra('zh')}"),
        (True, "es fr hi it pt-br, and ja zh are there"),
    ):
        extras = {module for modules in installation.EXTRAS.values() for module in modules}
        with monkeypatch.context() as patch:
            patch.setattr(importlib.util, "find_spec", lambda n, p=present: p or None if n in extras else real(n))  # noqa: B023
            finding = outcome(check("languages"), settings, str(tmp_path))
        assert (finding.exit_code, finding.text) == (0, f"espeak-ng speaks {line}")


@pytest.mark.model
def test_english_with_a_spacy_model_that_does_not_load(settings: Settings, tmp_path: Path) -> None:
    manifest = json.loads(Path(settings.manifest).read_text())
    manifest["spacy"] = {"url": "https://example.org/en_core-1.0-py3-none-any.whl", "sha256": "0" * 64}
    Path(settings.manifest).write_text(json.dumps(manifest))
    model = Path(settings.cache_dir, "spacy", "0" * 64, "en_core", "en_core-1.0")
    model.mkdir(parents=True)
    (model / "config.cfg").write_text("[nlp]\nlang = broken\n")
    finding = outcome(check("english"), settings, str(tmp_path))
    assert (finding.exit_code, finding.text) == (
        4, f"the spaCy model in {model} cannot be loaded; remove it: the next start fetches it"
    )  # fmt: skip


# --- servers, log, speed ---------------------------------------------------------------------------------------------


def status_of(**model: Any) -> StatusReport:
    voices = (VoiceServerReport(voice="af_heart", pid=1, port=1, rss_bytes=1, idle_s=0.0),) * 2
    return StatusReport(version=__version__, model_server=SERVER.replace(**model), voice_servers=voices)


def test_servers_of_another_version_or_without_a_model(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert told("servers", settings) == (0, "none is running; they start with the first say.py")
    monkeypatch.setattr(client.Client, "status", lambda self: status_of(restarts=1))
    assert told("servers", settings) == (0, "model server (ready, 1000 MB) and 2 voice servers, 1 restart")
    monkeypatch.setattr(client.Client, "status", lambda self: status_of().replace(version="0.0.1"))
    assert told("servers", settings) == (
        6,
        f"the servers are of version 0.0.1, say.py of {__version__}; "
        "run say.py --shutdown: the next call starts the new ones",
    )
    failed = status_of(state="failed", engine_reason="m.pth does not fill the model; name another")
    monkeypatch.setattr(client.Client, "status", lambda self: failed)
    assert told("servers", settings) == (
        4, "the model cannot be used: m.pth does not fill the model; name another; after that run say.py --shutdown"
    )  # fmt: skip


ERROR = {"component": "voice_server-af_heart", "level": "error", "event": "handler failed", "time": "2026-01-01T00:00"}


def test_errors_count_since_the_servers_last_started(settings: Settings) -> None:
    assert told("errors", settings) == (0, "nothing was logged yet")
    path = Path(settings.log_dir, "kokoro.log")
    path.parent.mkdir(parents=True)
    listening = {"component": "model_server", "level": "info", "event": "listening"}
    trace = {"traceback": "Traceback\n  File\nValueError: no\n"}
    path.write_text("\n".join(map(json.dumps, [ERROR, listening, {"level": "warning"}])) + '\n[1]\n{"torn\n')
    assert told("errors", settings) == (0, "none in the log since the servers last started")
    with path.open("a") as file:
        file.write(f"{json.dumps(ERROR)}\n{json.dumps(ERROR | trace)}\n")
    assert told("errors", settings) == (
        1,
        "2 errors since the servers last started, the last of voice_server-af_heart at 2026-01-01T00:00: "
        f"handler failed: ValueError: no; see {path}; say.py --shutdown makes a fresh start",
    )
    path.unlink()
    path.mkdir()
    assert told("errors", settings) == (
        6, f"{path} cannot be read: Is a directory; remove it, or set KOKORO_LOG_DIR"
    )  # fmt: skip


class SpokenAtOnce:
    """In the place of UtteranceEvents."""

    def finish(self) -> Finished:
        return Finished(utterance="0" * 32, seconds=2.0, timing={"model": 3.0, "first_audio": 0.5})


def test_speed_below_that_of_speech(settings: Settings, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def speak(self: client.Client, source: TextSource, speech: Speech, route: Route) -> SpokenAtOnce:
        asked.append((speech.voice, speech.engine, route.sink == "client"))
        return SpokenAtOnce()

    monkeypatch.setattr(client.Client, "speak", speak)
    monkeypatch.setattr(client.Client, "status", lambda self: status_of())
    assert told("speed", settings) == (
        1, "af_heart takes 1.50 s for 1 s of speech: there will be gaps; end other work here, or use --engine espeak"
    )  # fmt: skip
    (cache / "voices" / "af_heart.pt").unlink()
    assert told("speed", settings)[1].startswith("am_adam takes 1.50 s")
    (cache / "m.pth").write_bytes(b"damaged")  # nothing that would have to be fetched is asked for
    assert told("speed", settings)[1].startswith("the embedded default takes 1.50 s")
    assert asked[::2] == [("af_heart", "kokoro", True), ("am_adam", "kokoro", True), ("af_heart", "espeak", True)]


# --- The command -----------------------------------------------------------------------------------------------------


def report(world: World, *arguments: str, **environment: str) -> tuple[int, dict[str, str]]:
    """Exit code, and check to the rest of its line."""
    done = world.say("--doctor", *arguments, timeout=200, **environment)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert len(lines) <= 20
    return done.returncode, {line.split()[1]: f"{line.split()[0]} {line[20:]}" for line in lines}


@pytest.mark.e2e
def test_the_command_in_a_world_without_a_card(world: World) -> None:
    temporary = world.path / "tmp"
    temporary.mkdir()
    code, lines = report(world, TMPDIR=str(temporary))
    assert list(lines) == ["settings", *(each.name for each in CHECKS)]
    assert [name for name, line in lines.items() if not line.startswith("ok ")] == ["sound"], lines
    library = sys.platform != "linux" or ctypes.util.find_library("portaudio")
    assert lines["sound"].endswith(
        "; plug one in, or write a file with -o out.wav" if library else "; install libportaudio2"
    )
    assert code == 3
    assert lines["speed"].startswith("ok the embedded default takes 0.")
    assert world.servers() == []  # those of the measurement have gone
    assert list(temporary.glob("kokoro-doctor-*")) == []
    code, lines = report(world, "--engine", "piper", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert (code, lines["settings"]) == (2, "problem --engine is 'piper'; choose one of auto, kokoro, espeak")
    assert lines["install"].startswith("ok "), "a wrong setting hinders no other check"


@pytest.mark.e2e
def test_servers_that_run_and_one_that_hangs(world: World, tmp_path: Path) -> None:
    assert world.say("-o", "x.wav", "hello").returncode == 0
    port = world.status()["model_server"]["port"]
    settings = Settings(runtime_dir=str(world.runtime), cache_dir=str(world.cache), port=port)
    assert outcome(check("port"), settings, str(tmp_path)).text == f"{port} is ours"
    assert outcome(check("servers"), settings, str(tmp_path)).text.startswith("model server (")
    (model,) = (server for server in world.servers() if "model_server" in " ".join(server.cmdline()))
    model.suspend()
    try:
        finding = outcome(check("servers"), settings, str(tmp_path))
    finally:
        model.resume()
    text = "the model server does not answer; run say.py --shutdown, or end its process"
    assert (finding.exit_code, NAME.filled(finding.text)) == (6, text)


@pytest.fixture
def well(world: World, silent_card: SilentCard, toy_kokoro: ToyKokoro) -> Iterator[World]:
    """A machine on which all is well, the hub but for the download out of reach."""
    world.environment |= silent_card.environment
    with hub_of(toy_kokoro.directory, toy_kokoro.manifest) as hub:
        connect_to_hub(world, hub, toy_kokoro)
        assert world.say("--download", "am_adam", "-q").returncode == 0
        hub.requests.clear()
        yield world
        assert hub.requests == []  # the doctor fetches nothing
    world.say("--shutdown", "-q")


@pytest.mark.e2e
@pytest.mark.model
@pytest.mark.card
@pytest.mark.timeout(300)
def test_all_is_well_with_the_real_voice(well: World) -> None:
    well.say("--shutdown", "-q")
    code, lines = report(well)
    assert (code, [name for name, line in lines.items() if not line.startswith("ok ")]) == (0, []), lines
    assert lines["speed"].startswith("ok am_adam takes ")
    assert well.servers() == []
