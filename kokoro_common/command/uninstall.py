"""--uninstall: what Kokoro Say has put on this machine, and its removal.

Only files that have our names at our places are removed, one by one, and directories that are empty then. No link is
followed: KOKORO_CACHE_DIR may be a home directory, and the cache may hold links to what others use, above all to the
machine's Hugging Face cache.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys

from kokoro_common import installed
from kokoro_common.command.name import NAME
from kokoro_common.daemon.runtime_directory import LIBRARIES, SHARED_PARENT
from kokoro_common.documents.bookmark import NAME as BOOKMARK
from kokoro_common.errors import SAY, KokoroError, UsageError
from kokoro_common.files import working_directory
from kokoro_common.hub.cache import CORRUPT, shared_cache
from kokoro_common.hub.download import PARTIAL
from kokoro_common.hub.manifest import load_manifest
from kokoro_common.record import Record
from kokoro_common.settings import resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from kokoro_common.client.client import Client
    from kokoro_common.settings import Settings

UNIT = "kokoro-say.service"  # docs/kokoro-say.service, where a user has copied it
_VOICE = "[a-z]{2}_[a-z0-9]{1,32}"
_SERVER = f"(model|voice-{_VOICE})"
_TEMPORARY = r"(\.[0-9]+\.[0-9a-f]{8})?"  # files.write_private; with a dot before it, RuntimeDirectory.write
RUNTIME_FILES = rf"\.?({_SERVER}\.json|token){_TEMPORARY}|({_SERVER}(\.start)?|floor|token)\.lock"
LOG_FILES = rf"(kokoro|model_server|voice_server-{_VOICE})\.(log(\.[1-9])?|stderr)"
CONFIG_FILES = rf"(config\.toml|lexicon|lexicon\.lock){_TEMPORARY}"
VOICE_FILES = rf"{_VOICE}\.(blend|pack|level){_TEMPORARY}"
UNFINISHED = r"\.kokoro-[0-9a-f]{16}\.part"  # a render that can be continued, see Rendering.folder


class Part(Record):
    """What goes from one directory."""

    name: str
    directory: str
    files: tuple[str, ...]  # paths; also links, which are not followed
    trees: tuple[str, ...] = ()  # directories that go with all that is in them
    told: str = ""  # in place of their number

    def without_links(self, roots: tuple[str, ...]) -> Part:
        """Without what is reached through a link at or below one of these directories."""

        def is_reached(path: str) -> bool:
            above = os.path.dirname(path)
            inside = [root for root in roots if root and (above == root or above.startswith(root + os.sep))]
            outermost = min(inside, key=len, default=above)
            while not os.path.islink(above):
                if above == outermost:
                    return True
                above = os.path.dirname(above)
            return False

        files, trees = (tuple(filter(is_reached, paths)) for paths in (self.files, self.trees))
        return self.replace(files=files, trees=trees)

    @property
    def line(self) -> str:
        count = len(self.files)
        told = self.told or f"{count} file{'' if count == 1 else 's'}, {_readable(_size(self.files, self.trees))}"
        return f"  {self.name:<11}{self.directory}: {told}"


def parts(settings: Settings, runtime: str) -> list[Part]:
    """What there is to remove. Changes nothing. `runtime`: the runtime directory that is in use."""
    found = [
        Part(name="runtime", directory=runtime, files=_named(runtime, RUNTIME_FILES),
             trees=_directories(runtime, re.escape(LIBRARIES))),
        _model(settings),
        _cache(settings),
        Part(name="logs", directory=settings.log_dir, files=_named(settings.log_dir, LOG_FILES)),
        Part(name="settings", directory=settings.config_dir, files=_named(settings.config_dir, CONFIG_FILES)),
        Part(name="voices", directory=os.path.join(settings.config_dir, "voices"),
             files=_named(os.path.join(settings.config_dir, "voices"), VOICE_FILES)),
        _service(),
    ]  # fmt: skip
    roots = (runtime, settings.cache_dir, settings.log_dir, settings.config_dir, _units())
    found = [part.without_links(roots) for part in found]
    return [part for part in found if part.files or part.trees]


def kept(settings: Settings) -> list[str]:
    """Lines about what is ours or is used by us, and stays."""
    lines = []
    for path in dict.fromkeys((settings.cache_dir, settings.log_dir, settings.config_dir)):
        if os.path.islink(path):
            lines.append(f"  {path}: a link, which is not followed")
    shared = shared_cache()
    if os.path.isdir(os.path.join(shared, _repository(settings))):
        lines.append(f"  {shared}: other programs use it, too")
    unfinished = map(os.path.basename, _directories(working_directory(), UNFINISHED))
    lines += [f"  {name}: unfinished; the same command goes on with it" for name in unfinished]
    return lines


def remove(part: Part) -> None:
    """Removes its files, and the directories below its own that are empty then. Raises OSError."""
    for tree in part.trees:
        shutil.rmtree(tree)
    folders = set()
    for path in part.files:
        os.unlink(path)
        folder = os.path.dirname(path)
        while folder.startswith(part.directory + os.sep):
            folders.add(folder)
            folder = os.path.dirname(folder)
    for folder in sorted(folders, key=len, reverse=True):
        _remove_empty(folder)


def uninstall(settings: Settings, *, yes: bool, quiet: bool) -> int:
    """Says what goes, asks, ends the servers and removes it. Returns the exit code."""
    from kokoro_common.client.client import Client

    client = Client(settings)
    runtime = client.runtime_directory
    running = _servers(client)
    found = parts(settings, runtime)
    goes = ([f"  servers    {running} running"] if running else []) + [part.line for part in found]
    if not quiet or not yes:
        print("\n".join(["This is removed:", *goes] if goes else ["There is nothing to remove."]))
        if stays := kept(settings):
            print("\n".join(["This stays:", *stays]))
    if goes and not yes:
        if not sys.stdin.isatty():
            raise UsageError("--uninstall asks before it removes anything, here nobody can answer", "add --yes")
        print("Remove it? [y/N] ", end="", flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            print("Nothing was removed.")
            return 0
    _stop_service()
    client.shutdown()
    problems = []
    for part in parts(settings, runtime):  # again: servers write until they end
        try:
            remove(part)
        except OSError as error:
            problems.append(f"{error.filename} cannot be removed: {error.strerror}")
    for folder in _own_folders(settings, runtime):
        _remove_empty(folder)
    if problems:
        raise KokoroError(problems[0], f"remove it, then run {SAY} --uninstall again")
    if not quiet:
        print(NAME.filled(_last_line()))
    return 0


def _last_line() -> str:
    if command := installed.uninstall():
        return f"The program itself goes with: {command}"
    return f"The program itself is the directory {installed.ROOT}"


def _servers(client: Client) -> int:
    report = client.status()
    return len(report.voice_servers) + (report.model_server is not None)


def _own_folders(settings: Settings, runtime: str) -> list[str]:
    """Directories that go when they are empty, inner ones first: one that a user has named may be a home directory."""
    usual = resolve({}, {name: value for name, value in os.environ.items() if not name.startswith("KOKORO_")})
    inner = [os.path.join(settings.cache_dir, name) for name in ("hub", "spacy", "bookmarks", "logs")]
    inner.append(os.path.join(settings.config_dir, "voices"))
    outer = [usual.log_dir, usual.cache_dir, usual.config_dir]
    return [*inner, *outer, *([] if settings.runtime_dir else [runtime, SHARED_PARENT])]


# --- What is where ---------------------------------------------------------------------------------------------------


def _repository(settings: Settings) -> str:
    return "models--" + load_manifest(settings.manifest).repo.replace("/", "--")


def _model(settings: Settings) -> Part:
    """Files of the manifest in our own cache, of any revision. No links: they lead to huggingface_hub's own."""
    hub = os.path.join(settings.cache_dir, "hub")
    manifest = load_manifest(settings.manifest)
    repository = os.path.join(hub, _repository(settings))
    files = []
    if os.path.realpath(hub) != os.path.realpath(shared_cache()):
        for revision in _directories(os.path.join(repository, "snapshots"), "[0-9a-f]{40}"):
            names = [name + ending for name in manifest.files for ending in ("", PARTIAL, CORRUPT)]
            paths = [os.path.join(revision, name) for name in names]
            files += [path for path in paths if _is_file(path)]
        files += _named(hub, r"\.lock") if files or not os.path.exists(repository) else []
    return Part(name="model", directory=hub, files=tuple(files))


def _cache(settings: Settings) -> Part:
    spacy = os.path.join(settings.cache_dir, "spacy")
    wheel = load_manifest(settings.manifest).spacy
    name = re.escape(wheel.url.rpartition("/")[2]) if wheel else "(?!)"
    files = [
        *_named(settings.cache_dir, rf"measured\.json{_TEMPORARY}"),
        *_named(os.path.join(settings.cache_dir, "bookmarks"), BOOKMARK + _TEMPORARY),
        *_named(spacy, rf"({name})({re.escape(PARTIAL)}|{re.escape(CORRUPT)})?|[0-9a-f]{{64}}\.failed|\.lock"),
    ]
    trees = _directories(spacy, rf"[0-9a-f]{{64}}({re.escape(PARTIAL)})?")
    return Part(name="cache", directory=settings.cache_dir, files=tuple(files), trees=trees)


def _service() -> Part:
    """The user unit, if a user has put ours there."""
    folder = _units()
    files = [os.path.join(folder, UNIT), os.path.join(folder, "default.target.wants", UNIT)]
    return Part(name="service", directory=folder, files=tuple(filter(os.path.lexists, files)) if _is_ours() else (),
                told=UNIT)  # fmt: skip


def _units() -> str:
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return os.path.join(home, "systemd", "user")


def _is_ours() -> bool:
    try:
        with open(os.path.join(_units(), UNIT), encoding="utf-8", errors="replace") as file:
            return "kokoro-model-server" in file.read(1 << 16)
    except OSError:
        return False


def _stop_service() -> None:
    """Before the servers end: systemd would start a new one."""
    if _is_ours() and (systemctl := shutil.which("systemctl")):
        # Without a session of systemd it fails, and there is nothing to stop.
        subprocess.run([systemctl, "--user", "disable", "--now", UNIT], capture_output=True, check=False)


def _named(directory: str, pattern: str) -> tuple[str, ...]:
    """Files, and links, of a directory whose whole name matches."""
    return tuple(path for path in _entries(directory, pattern) if not stat.S_ISDIR(os.lstat(path).st_mode))


def _directories(directory: str, pattern: str) -> tuple[str, ...]:
    return tuple(path for path in _entries(directory, pattern) if stat.S_ISDIR(os.lstat(path).st_mode))


def _entries(directory: str, pattern: str) -> list[str]:
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return []
    return [os.path.join(directory, name) for name in names if re.fullmatch(pattern, name)]


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def _remove_empty(folder: str) -> None:
    try:
        os.rmdir(folder)
    except OSError:
        pass  # it holds something that is not ours, or is not there


def _size(files: Iterable[str], trees: Iterable[str]) -> int:
    inside = (os.path.join(folder, name) for tree in trees for folder, _, names in os.walk(tree) for name in names)
    return sum(os.lstat(path).st_size for path in (*files, *inside))


def _readable(size: int) -> str:
    return f"{size / 1e6:.0f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"
