"""Checks of --doctor: the model and voices in the cache, room on the disk, directories and their permissions."""

from __future__ import annotations

import os
import shutil
import stat

from kokoro_common.command.doctor.findings import counted
from kokoro_common.errors import SAY, KokoroError, ModelUnavailable, ServersUnreachable, UsageError

# Everything else is imported by the check that uses it: a module that cannot be imported is a finding, too.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from kokoro_common.hub.manifest import Manifest
    from kokoro_common.settings import Settings

MODEL_BYTES = 350_000_000  # Kokoro-82M with its first voices
OTHER_BYTES = 50_000_000  # logs, and the espeak-ng library once per language


def model(settings: Settings) -> str:
    manifest = pinned(settings)
    states = {name: _state_of(settings, manifest, name) for name in (manifest.model, manifest.config)}
    if damaged := [name for name, state in states.items() if state == "damaged"]:
        raise ModelUnavailable(f"{' and '.join(damaged)} in the cache: wrong SHA-256", _fetching(settings))
    if missing := [name for name, state in states.items() if state == "missing"]:
        problem = f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not in the cache"
        if settings.engine == "espeak":
            return f"{problem}, and engine espeak needs none"
        raise ModelUnavailable(f"{problem}: the embedded default speaks", _fetching(settings))
    return f"{manifest.repo} is in the cache, every bit as it should be"


def voices(settings: Settings) -> str:
    manifest = pinned(settings)
    names = [name for name in manifest.files if name.startswith("voices/")]
    states = {_voice_of(name): _state_of(settings, manifest, name) for name in names}
    if damaged := [voice for voice, state in states.items() if state == "damaged"]:
        shown = ", ".join(damaged[:5]) + (", ..." if len(damaged) > 5 else "")
        wanted = " ".join(damaged) if len(damaged) <= 5 else "all"
        raise ModelUnavailable(
            f"{counted(len(damaged), 'voice')} with wrong SHA-256 in the cache: {shown}", _fetching(settings, wanted)
        )
    count = sum(state == "right" for state in states.values())
    if not count and settings.engine != "espeak":
        raise ModelUnavailable("no voice is in the cache", _fetching(settings))
    return f"{count} of {len(names)} in the cache; others are fetched when they are first asked for"


def disk(settings: Settings) -> str:
    manifest = pinned(settings)
    path = _cache_path(settings, manifest, manifest.model)
    needed = OTHER_BYTES if settings.engine == "espeak" or os.path.exists(path) else MODEL_BYTES
    free = shutil.disk_usage(_existing_part(settings.cache_dir)).free
    if free < needed:
        raise ModelUnavailable(
            f"{free / 1e6:.0f} MB are free for {settings.cache_dir}, {needed / 1e6:.0f} MB are needed",
            "make room or set KOKORO_CACHE_DIR",
        )
    return f"{free / 1e9:.1f} GB are free for {settings.cache_dir}"


def pinned(settings: Settings) -> Manifest:
    from kokoro_common.hub.manifest import load_manifest

    return load_manifest(settings.manifest)


def _cache_path(settings: Settings, manifest: Manifest, name: str) -> str:
    """As docs/reference.md has it."""
    folder = "models--" + manifest.repo.replace("/", "--")
    return os.path.join(settings.cache_dir, "hub", folder, "snapshots", manifest.revision, name)


def _state_of(settings: Settings, manifest: Manifest, name: str) -> str:
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
    command = f"run {SAY} --download {voices}".strip()
    return f"unset KOKORO_OFFLINE and {command}" if settings.offline else command


def cached_voice(settings: Settings) -> str:
    """A voice that can be spoken without fetching anything, or ""."""
    from kokoro_common.voices.catalogue import DEFAULT_VOICE

    manifest = pinned(settings)
    if any(_state_of(settings, manifest, name) != "right" for name in (manifest.model, manifest.config)):
        return ""
    names = sorted(
        (name for name in manifest.files if name.startswith("voices/")), key=lambda name: DEFAULT_VOICE not in name
    )
    return next((_voice_of(name) for name in names if _state_of(settings, manifest, name) == "right"), "")


# --- Directories -----------------------------------------------------------------------------------------------------


def runtime_directory(settings: Settings) -> str:
    from kokoro_common.daemon.runtime_directory import RuntimeDirectory

    path = RuntimeDirectory(settings.runtime_dir).path  # made, if need be, and judged
    _judge_directory(path, ServersUnreachable, "KOKORO_RUNTIME_DIR")
    return f"{path} is yours alone"


def cache_directory(settings: Settings) -> str:
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


def log_directory(settings: Settings) -> str:
    path = settings.log_dir
    if not _exists(path, ServersUnreachable, "KOKORO_LOG_DIR"):
        return f"{path} will be made"
    _judge_directory(path, ServersUnreachable, "KOKORO_LOG_DIR")
    return f"{path} is yours alone"


def config_directory(settings: Settings) -> str:
    from kokoro_common.settings import may_set

    path = settings.config_dir
    if not _exists(path, UsageError, "KOKORO_CONFIG_DIR"):
        return f"{path} is not there, and need not be"
    for each in (path, os.path.join(path, "config.toml")):
        if not os.path.exists(each):
            return f"{path} has no config.toml, and needs none"
        found = os.stat(each)
        if not may_set(found.st_uid) or stat.S_IMODE(found.st_mode) & 0o022:
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
    parent = _existing_part(path)
    if not os.access(parent, os.W_OK | os.X_OK) or not os.path.isdir(parent):
        raise error(f"{path} cannot be made: {parent} cannot be written", f"set {variable}")
    return False


def _existing_part(path: str) -> str:
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
