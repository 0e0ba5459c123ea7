"""say.py --doctor: looks at all that speech needs here; a line each for what is well and what to do about the rest.

A check is a function of the settings that returns a few words, or raises the error that say.py would end with. Each
runs in a forked process of its own: so a library that crashes, hangs or prints makes one line too, and nothing that a
check imports is in the way of the next one. Nothing is fetched, set aside or ended; servers that have to be started
for the measurement have a runtime directory of their own and leave with it.
"""

from __future__ import annotations

import errno
import json
import os
import re
import select
import shutil
import signal
import stat
import sys
import tempfile
import time
import warnings

from kokoro_common import __version__
from kokoro_common.errors import KokoroError, ModelUnavailable, NoAudioDevice, ServersUnreachable, UsageError
from kokoro_common.record import Record
from kokoro_common.settings import LOOPBACK, Settings, resolve

# The other rooms are imported by the checks that use them: one that cannot be imported is a finding, too.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any, NoReturn

    from kokoro_common.hub.manifest import Manifest

PYTHON = ">=3.11"
REQUIRED = (  # the dependencies of pyproject.toml, which is not there once the project is installed
    "av>=15",
    "kokoro>=0.9.4,<0.10",
    "misaki[en]>=0.9.4,<0.10",
    "torch>=2.10",
    "espeakng-loader>=0.2.4",
    "huggingface_hub>=2.4,<3",
    "lxml>=5",
    "msgspec>=0.20",
    "num2words>=0.5.14",
    "numpy>=2.0",
    "psutil>=6.0",
    "pypdfium2>=5",
    "sounddevice>=0.5.1",
    "soundfile>=0.13",
    "soxr>=0.5",
)
EXTRAS = {"ja": ("fugashi", "jaconv", "mojimoji", "unidic_lite"), "zh": ("jieba", "pypinyin", "cn2an", "ordered_set")}
_IMPORTED = (
    "numpy",
    "msgspec",
    "soundfile",
    "soxr",
    "psutil",
)  # quick ones with binary parts; others below do the rest
_MODEL_BYTES = 350_000_000  # of Kokoro-82M with its first voices; a manifest does not tell
_OTHER_BYTES = 50_000_000  # logs, and the espeak-ng library once per language
_LOG_BYTES = 1 << 20  # of the end of the log that are looked at
_SENTENCE = "The quick brown fox jumps over the lazy dog."


class Finding(Record):
    check: str
    text: str  # what is well, or the problem with its remedy
    exit_code: int = 0  # of say.py, if this were its only problem

    @property
    def line(self) -> str:
        """For the terminal: what a log or a file name holds cannot steer it."""
        text = "".join(sign if sign.isprintable() else "?" for sign in self.text)
        return f"{'problem' if self.exit_code else 'ok':<9}{self.check:<11}{text}"


class Check(Record):
    name: str
    look: Callable[[Settings], str]
    seconds: float = 60.0  # until it is taken for hung; a busy machine is no problem
    remedy: str = "install Kokoro Say anew"  # if it crashes or hangs


def examine(flags: Mapping[str, object]) -> Iterator[Finding]:
    """One finding per check, as soon as it is there. Raises nothing. Blocks; some 20 s on a machine that is well."""
    try:
        settings = resolve(flags)
        scratch = tempfile.mkdtemp(prefix="kokoro-doctor-")
    except UsageError as error:
        yield Finding(check="settings", text=str(error), exit_code=error.exit_code)
        return
    except OSError as error:
        text = f"no temporary file can be made: {error.strerror}; make room in /tmp or set TMPDIR"
        yield Finding(check="settings", text=text, exit_code=1)
        return
    try:
        for check in CHECKS:
            yield outcome(check, settings, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)  # of what is killed as well


def outcome(check: Check, settings: Settings, scratch: str) -> Finding:
    """The finding of one check, from a process of its own, whatever becomes of that. `scratch` is its TMPDIR."""
    reading, writing = os.pipe()
    child = os.fork()  # there is no other thread here, and what the check needs is imported in the child
    if child == 0:
        _answer(check, settings, scratch, writing)
    os.close(writing)
    try:
        answer = _read_within(reading, check.seconds)
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)  # at the latest now; it has answered, or it hangs
        status = os.waitpid(child, 0)[1]
    if answer:
        return Finding(**json.loads(answer))
    if answer is None:
        problem = f"no answer within {check.seconds:.0f} s"
    elif os.WIFSIGNALED(status) and os.WTERMSIG(status) != signal.SIGKILL:
        problem = f"a library crashes ({signal.Signals(os.WTERMSIG(status)).name})"
    else:
        problem = "a library ends the process, or memory is short"
    return Finding(check=check.name, text=f"{problem}; {check.remedy}", exit_code=1)


def _answer(check: Check, settings: Settings, scratch: str, writing: int) -> NoReturn:
    try:
        quiet = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(quiet, descriptor)  # ALSA, for one, prints what it thinks
        warnings.simplefilter("ignore")  # of what libraries will once do otherwise
        tempfile.tempdir = scratch
        os.write(writing, json.dumps(judged(check, settings).as_dict()).encode())
    finally:
        os._exit(0)


def judged(check: Check, settings: Settings) -> Finding:
    try:
        return Finding(check=check.name, text=check.look(settings))
    except KokoroError as error:
        return Finding(check=check.name, text=str(error), exit_code=error.exit_code)
    except ImportError as error:
        return Finding(check=check.name, text=f"{error}; install Kokoro Say anew", exit_code=1)
    except Exception as error:  # what breaks speech here may break the check in the same way, and is to be told as well
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return Finding(check=check.name, text=f"{text}; please report it", exit_code=1)


def _read_within(descriptor: int, seconds: float) -> bytes | None:
    """All that comes until the end; None when that does not come in time."""
    answer = b""
    deadline = time.monotonic() + seconds
    while select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
        data = os.read(descriptor, 1 << 16)
        if not data:
            return answer
        answer += data
    return None


# --- What is installed -----------------------------------------------------------------------------------------------


def _install(_: Settings) -> str:
    from importlib import import_module
    from importlib.metadata import PackageNotFoundError, version
    from importlib.util import find_spec

    python = sys.version.split()[0]
    if not _fits(python, PYTHON):
        raise KokoroError(f"Python is {python}", f"install Python {PYTHON}")
    wrong, unfit, found = [], [], {}
    for requirement in REQUIRED:
        name, bounds = _parsed(requirement)
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            problem = "is missing"
        else:
            problem = "" if _fits(found[name], bounds) else f"is {found[name]}"
        if not problem and find_spec(name.replace("-", "_")) is None:
            problem = "is damaged"
        if problem:
            wrong.append(f"{name} {problem}")
            unfit.append(f"'{requirement}'")
    if wrong:
        raise KokoroError(", ".join(wrong), f"run pip install {' '.join(unfit)}")
    for name in _IMPORTED:
        try:
            import_module(name)
        except (ImportError, OSError) as error:
            raise KokoroError(f"{name} cannot be used: {error}", f"run pip install --force-reinstall {name}") from error
    versions = ", ".join(f"{name} {found[name]}" for name in ("torch", "kokoro", "misaki"))
    return f"kokoro-say {__version__}, Python {python}, {versions}"


def _parsed(requirement: str) -> tuple[str, str]:
    """Name of the distribution, and its bounds."""
    match = re.fullmatch(r"([\w-]+)(?:\[\w+\])?(.*)", requirement)
    assert match is not None
    return match[1], match[2]


def _fits(version: str, bounds: str) -> bool:
    def numbers(text: str) -> list[int]:
        return [int(number) for number in re.findall(r"\d+", text.partition("+")[0])]

    for operator, bound in re.findall(r"(>=|<)([\d.]+)", bounds):
        if (numbers(version) < numbers(bound)) == (operator == ">="):
            return False
    return True


def _sound(_: Settings) -> str:
    from ctypes.util import find_library

    # Without any device of ALSA's the player does not get as far as asking for PortAudio.
    if sys.platform == "linux" and find_library("portaudio") is None:
        raise NoAudioDevice("PortAudio is missing", "install libportaudio2")
    import numpy as np

    from kokoro_common.sound.player import Player
    from kokoro_common.sound.portaudio import PortAudioStream, devices
    from kokoro_common.sound.samples import SAMPLE_RATE

    names = devices()
    player = Player(PortAudioStream)
    player.begin()
    player.feed(np.zeros(SAMPLE_RATE // 20, np.float32))
    player.finish()
    player.play()
    return f"{_count(len(names), 'output device')}; {names[0]} opens and plays"


# --- The model and its cache -----------------------------------------------------------------------------------------


def _model(settings: Settings) -> str:
    manifest = _manifest(settings)
    states = {name: _state(settings, manifest, name) for name in (manifest.model, manifest.config)}
    if damaged := [name for name, state in states.items() if state == "damaged"]:
        raise ModelUnavailable(f"{' and '.join(damaged)} in the cache: wrong SHA-256", _fetching(settings))
    if missing := [name for name, state in states.items() if state == "missing"]:
        problem = f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not in the cache"
        if settings.engine == "espeak":
            return f"{problem}, and engine espeak needs none"
        raise ModelUnavailable(f"{problem}: the embedded default speaks", _fetching(settings))
    return f"{manifest.repo} is in the cache, every bit as it should be"


def _voices(settings: Settings) -> str:
    manifest = _manifest(settings)
    names = [name for name in manifest.files if name.startswith("voices/")]
    states = {_voice_of(name): _state(settings, manifest, name) for name in names}
    if damaged := [voice for voice, state in states.items() if state == "damaged"]:
        shown = ", ".join(damaged[:5]) + (", ..." if len(damaged) > 5 else "")
        wanted = " ".join(damaged) if len(damaged) <= 5 else "all"
        raise ModelUnavailable(
            f"{_count(len(damaged), 'voice')} with wrong SHA-256 in the cache: {shown}", _fetching(settings, wanted)
        )
    count = sum(state == "right" for state in states.values())
    if not count and settings.engine != "espeak":
        raise ModelUnavailable("no voice is in the cache", _fetching(settings))
    return f"{count} of {len(names)} in the cache; others are fetched when they are first asked for"


def _room(settings: Settings) -> str:
    manifest = _manifest(settings)
    path = _cache_path(settings, manifest, manifest.model)
    needed = _OTHER_BYTES if settings.engine == "espeak" or os.path.exists(path) else _MODEL_BYTES
    free = shutil.disk_usage(_existing(settings.cache_dir)).free
    if free < needed:
        raise ModelUnavailable(
            f"{free / 1e6:.0f} MB are free for {settings.cache_dir}, {needed / 1e6:.0f} MB are needed",
            "make room or set KOKORO_CACHE_DIR",
        )
    return f"{free / 1e9:.1f} GB are free for {settings.cache_dir}"


def _manifest(settings: Settings) -> Manifest:
    from kokoro_common.hub.manifest import load_manifest

    return load_manifest(settings.manifest)


def _cache_path(settings: Settings, manifest: Manifest, name: str) -> str:
    """As docs/reference.md has it."""
    folder = "models--" + manifest.repo.replace("/", "--")
    return os.path.join(settings.cache_dir, "hub", folder, "snapshots", manifest.revision, name)


def _state(settings: Settings, manifest: Manifest, name: str) -> str:
    """right, damaged or missing. Cache.cached would set a damaged file aside, and the next look find it missing."""
    import hashlib

    from kokoro_common.hub.cache import Cache

    path = _cache_path(settings, manifest, name)
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        shared = Cache(manifest, settings.cache_dir).cached(name)  # in the machine's Hugging Face cache
        return "right" if shared else "missing"
    except OSError as error:
        raise ModelUnavailable(f"{path} cannot be read: {error.strerror}", "make it readable or remove it") from error
    return "right" if digest == manifest.files[name] else "damaged"


def _voice_of(name: str) -> str:
    return name.removeprefix("voices/").removesuffix(".pt")


def _fetching(settings: Settings, voices: str = "") -> str:
    command = f"run say.py --download {voices}".strip()
    return f"unset KOKORO_OFFLINE and {command}" if settings.offline else command


# --- Ports and directories -------------------------------------------------------------------------------------------


def _port(settings: Settings) -> str:
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
    """The program that listens on a port, as far as the system lets us see."""
    import psutil

    try:
        for each in psutil.net_connections("tcp"):
            if each.status == psutil.CONN_LISTEN and getattr(each.laddr, "port", 0) == port and each.pid:
                return f"{psutil.Process(each.pid).name()} (pid {each.pid})"
    except psutil.Error:
        pass  # macOS shows them to root only
    return "another program"


def _runtime(settings: Settings) -> str:
    from kokoro_common.daemon.runtime_directory import RuntimeDirectory

    path = RuntimeDirectory(settings.runtime_dir).path  # made, if need be, and judged
    _judge_directory(path, ServersUnreachable, "KOKORO_RUNTIME_DIR")
    return f"{path} is yours alone"


def _cache(settings: Settings) -> str:
    path = settings.cache_dir
    if not _exists(path, ModelUnavailable, "KOKORO_CACHE_DIR"):
        return f"{path} will be made"
    found = os.stat(path)
    if not os.access(path, os.R_OK | os.X_OK):
        raise ModelUnavailable(f"{path} cannot be read", f"run chmod u+rx {path}, or set KOKORO_CACHE_DIR")
    if found.st_uid not in (os.getuid(), 0) or stat.S_IMODE(found.st_mode) & 0o022:
        # The model's files are checked each time; spaCy's, once unpacked, are not.
        raise ModelUnavailable(
            f"{path} can be written by other users", f"run chmod go-w {path}, or set KOKORO_CACHE_DIR"
        )
    if not os.access(path, os.W_OK):
        return f"{path} is read-only: nothing can be fetched"
    return f"{path} can be written by you alone"


def _logs(settings: Settings) -> str:
    path = settings.log_dir
    if not _exists(path, ServersUnreachable, "KOKORO_LOG_DIR"):
        return f"{path} will be made"
    _judge_directory(path, ServersUnreachable, "KOKORO_LOG_DIR")
    return f"{path} is yours alone"


def _config(settings: Settings) -> str:
    path = settings.config_dir
    if not _exists(path, UsageError, "KOKORO_CONFIG_DIR"):
        return f"{path} is not there, and need not be"
    for each in (path, os.path.join(path, "config.toml")):
        if not os.path.exists(each):
            return f"{path} has no config.toml, and needs none"
        found = os.stat(each)
        if found.st_uid not in (os.getuid(), 0) or stat.S_IMODE(found.st_mode) & 0o022:
            raise UsageError(f"{each} can be written by other users", f"make it yours and run chmod go-w {each}")
        if not os.access(each, os.R_OK):
            raise UsageError(f"{each} cannot be read", f"run chmod u+r {each}")
    return f"{path}/config.toml counts"


def _exists(path: str, error: type[KokoroError], variable: str) -> bool:
    """Whether a directory is there; if not, it can be made. Raises `error` if neither."""
    if os.path.isdir(path):
        return True
    if os.path.lexists(path):
        raise error(f"{path} is not a directory", f"remove it, or set {variable}")
    parent = _existing(path)
    if not os.access(parent, os.W_OK | os.X_OK) or not os.path.isdir(parent):
        raise error(f"{path} cannot be made: {parent} cannot be written", f"set {variable}")
    return False


def _existing(path: str) -> str:
    """The path, or the nearest that is there of those above it."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def _judge_directory(path: str, error: type[KokoroError], variable: str) -> None:
    """Raises `error` unless the directory, and each file in it, is ours alone."""
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise error(f"{path} cannot be written", f"run chmod u+rwx {path}, or set {variable}")
    for each in (path, *(os.path.join(path, name) for name in os.listdir(path))):
        try:
            found = os.lstat(each)
        except FileNotFoundError:
            continue  # a server has just removed it
        if found.st_uid != os.getuid():
            raise error(f"{each} belongs to another user", f"remove it, or set {variable}")
        if stat.S_IMODE(found.st_mode) & 0o077 and not stat.S_ISLNK(found.st_mode):
            raise error(f"{each} is open to other users", f"run chmod -R go-rwx {path}")


# --- Text to phonemes ------------------------------------------------------------------------------------------------


def _english(settings: Settings) -> str:
    from kokoro_common.hub.download import Hub
    from kokoro_common.hub.spacy import spacy_path
    from kokoro_common.phonemes.g2p import G2P

    path = spacy_path(Hub(_manifest(settings), settings.cache_dir, offline=True), lambda *_: None)
    g2p = G2P(path, tempfile.gettempdir())
    phonemes = g2p.spoken(_SENTENCE, "a").phonemes
    if len(phonemes) < 20:
        raise KokoroError(f"{_SENTENCE!r} has {_count(len(phonemes), 'phoneme')}", "install misaki anew")
    quality = g2p.quality["en"]
    if path is not None and not quality.startswith("spacy"):
        raise ModelUnavailable(f"the spaCy model in {path} cannot be loaded", "remove it: the next start fetches it")
    return f"{quality}; {_count(len(phonemes), 'phoneme')} for a sentence"


def _languages(_: Settings) -> str:
    from importlib.util import find_spec

    from kokoro_common.phonemes.g2p import G2P

    phonemes = G2P(None, tempfile.gettempdir()).spoken("El perro no come nada.", "e").phonemes
    if len(phonemes) < 10:
        raise KokoroError(f"a Spanish sentence has {_count(len(phonemes), 'phoneme')}", "install espeakng-loader anew")
    absent = [extra for extra, modules in EXTRAS.items() if not all(map(find_spec, modules))]
    notes = [f"{extra} by pip install 'kokoro-say[{extra}]'" for extra in absent]
    return "; ".join([f"espeak-ng speaks es fr hi it pt-br{'' if absent else ', and ja zh are there'}", *notes])


# --- The servers -----------------------------------------------------------------------------------------------------


def _servers(settings: Settings) -> str:
    from kokoro_common.client.client import Client
    from kokoro_common.daemon.runtime_directory import RuntimeDirectory

    report = Client(settings).status()
    model = report.model_server
    if model is None:
        lock = RuntimeDirectory(settings.runtime_dir).lock("model.lock", wait=False)
        if lock is None:
            raise ServersUnreachable("the model server does not answer", "run say.py --shutdown, or end its process")
        os.close(lock)
        return "none is running; they start with the first say.py"
    if report.version != __version__:
        raise ServersUnreachable(
            f"the servers are of version {report.version}, say.py of {__version__}",
            "run say.py --shutdown: the next say.py starts the new ones",
        )
    if model.state == "failed":
        raise ModelUnavailable(f"the model cannot be used: {model.engine_reason}", "after that run say.py --shutdown")
    return (
        f"model server ({model.state}, {model.rss_bytes / 1e6:.0f} MB) and "
        f"{_count(len(report.voice_servers), 'voice server')}, {_count(model.restarts, 'restart')}"
    )


def _errors(settings: Settings) -> str:
    """What the log has since the model server last began to listen."""
    path = os.path.join(settings.log_dir, "kokoro.log")
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.path.getsize(path) - _LOG_BYTES))
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
        f"{_count(len(errors), 'error')} since the servers last started, the last of {last.get('component')} at "
        f"{last.get('time')}: {shown}",
        f"see {path}; say.py --shutdown makes a fresh start",
    )


def _entry(line: bytes) -> dict[str, Any]:
    """Empty for what is no record: the first line is cut, others may be torn."""
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}


def _kernel(_: Settings) -> str:
    """Not a problem: speech goes on without it, at half the speed or less."""
    from kokoro_common.engine import kernel

    library, problem = kernel.load()
    if library is None:
        return f"not used, so the model takes longer: {problem}; with a C compiler install Kokoro Say anew"
    return f"compiled for this processor{', bf16 on its matrix unit' if kernel.has_bf16(library) else ''}"


def _speed(settings: Settings) -> str:
    """By the whole line of servers, to us instead of the speakers. Two sentences: the first one warms up."""
    from kokoro_common.client.client import Client, TextSource
    from kokoro_common.text.speech import Speech
    from kokoro_common.wire.messages import Route

    voice = "" if settings.engine == "espeak" else _neural_voice(settings)
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
            finished = client.speak(TextSource(_SENTENCE), speech, Route(sink="client"))
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


def _neural_voice(settings: Settings) -> str:
    """A voice that can be spoken without fetching anything, or ""."""
    from kokoro_common.voices.catalogue import DEFAULT_VOICE

    manifest = _manifest(settings)
    if any(_state(settings, manifest, name) != "right" for name in (manifest.model, manifest.config)):
        return ""
    names = sorted(
        (name for name in manifest.files if name.startswith("voices/")), key=lambda name: DEFAULT_VOICE not in name
    )
    return next((_voice_of(name) for name in names if _state(settings, manifest, name) == "right"), "")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


CHECKS = (
    Check(name="install", look=_install),
    Check(name="sound", look=_sound, seconds=30.0, remedy="restart the sound server"),
    Check(name="model", look=_model),
    Check(name="voices", look=_voices),
    Check(name="disk", look=_room),
    Check(name="port", look=_port),
    Check(name="runtime", look=_runtime),
    Check(name="cache", look=_cache),
    Check(name="logs", look=_logs),
    Check(name="config", look=_config),
    Check(name="english", look=_english, seconds=180.0),
    Check(name="languages", look=_languages, seconds=120.0),
    Check(name="kernel", look=_kernel),
    Check(name="servers", look=_servers),
    Check(name="errors", look=_errors),
    Check(name="speed", look=_speed, seconds=180.0, remedy="see say.py --status, then run say.py --shutdown"),
)
