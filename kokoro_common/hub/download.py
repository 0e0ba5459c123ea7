"""Fetches the files of a manifest from the hub into the cache, resumed, verified, one process at a time.

huggingface_hub gives addresses, credentials, redirects and the HTTP client. The body is read here, because its own
`hf_hub_download` puts bytes under the final name without checking them, begins again from zero after a reset or a kill,
and retries a silent hub for minutes, beyond the reach of a deadline or an abort.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import queue
import threading

from kokoro_common.errors import ModelUnavailable
from kokoro_common.files import private_directory, private_opener
from kokoro_common.hub.cache import Cache
from kokoro_common.hub.transfer import Transfer
from kokoro_common.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import ModuleType
    from typing import IO, Any, TypeVar

    from kokoro_common.hub.manifest import Manifest

    Result = TypeVar("Result")
    Progress = Callable[[str, int, int], None]  # file name; bytes of the whole fetch, so far and in all

log = logging.getLogger("kokoro.hub")

ANSWER_SECONDS = 2.0  # time limit of a HEAD request
PREFLIGHT_SECONDS = 3.0  # the same with name resolution, which has no time limit of its own
STALL_SECONDS = 10.0  # without a byte, or at less than transfer.LEAST_RATE, after which an attempt fails
ATTEMPTS = 3  # failures in a row before a download is given up
HEADWAY_BYTES = 1 << 20  # received in one attempt: the count of failures starts again
BACKOFF_SECONDS = 1.0  # pause before the second attempt, doubled before each later one
MAX_RETRY_AFTER = 60  # seconds: a hub that asks for more is given up
LOCK_RETRY_SECONDS = 0.1  # flock cannot wait with a time limit or for an abort
PARTIAL = ".incomplete"


class Source(Record):
    """One file that may be fetched."""

    url: str
    path: str  # where it goes
    sha256: str
    token: bool | None  # None: the user's Hugging Face token goes along, if there is one; False: never
    most: int  # bytes that it may have

    @property
    def partial(self) -> str:
        return self.path + PARTIAL

    def unavailable(self, reason: str) -> ModelUnavailable:
        site = "/".join(self.url.split("/")[:3])
        return ModelUnavailable(
            f"{os.path.basename(self.path)} cannot be fetched from {site}: {reason}",
            f"check the network and HF_ENDPOINT, or put {self.url} at {self.path}",
        )

    def check_size(self, size: int) -> int:
        """The size, as the hub tells it. Raises ModelUnavailable for one that the file cannot have."""
        if size > self.most:
            raise self.unavailable(f"it has {size:,} bytes there, and may have {self.most:,}")
        return size


class Hub(Cache):
    """The files of one manifest: from the cache, else over the network. All methods may be called from any thread.

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
        super().__init__(manifest, cache_dir)
        self.offline = offline
        self.aborted = threading.Event()
        self._stall = stall
        self._backoff = backoff

    def preflight(self) -> None:
        """Asks the hub for the model's size, within about 3 s. Raises ModelUnavailable if the hub does not have it."""
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
        return {name: self._cached_now(name) for name in names}

    def abort(self) -> None:
        """Ends running and later fetches, which raise ModelUnavailable within `stall` seconds. Does not block."""
        self.aborted.set()

    def _cached_now(self, name: str) -> str:
        path = self.cached(name)
        if path is None:
            raise ModelUnavailable(f"{self.path_of(name)} was there and has vanished", "try again")
        return path

    def _source(self, name: str) -> Source:
        """Raises ModelUnavailable for what is not in the manifest, and when the network is not allowed."""
        if name not in self.manifest.files:
            raise ModelUnavailable(f"{name[:80]} is not in the manifest of {self.manifest.repo}")
        endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
        url = f"{endpoint}/{self.manifest.repo}/resolve/{self.manifest.revision}/{name}"
        path = self.path_of(name)
        if self.offline:
            raise ModelUnavailable(
                f"{name} is not in the cache and KOKORO_OFFLINE is set", f"unset it, or put {url} at {path}"
            )
        return Source(url=url, path=path, sha256=self.manifest.files[name], token=None, most=self.manifest.most(name))

    def _fetch_missing(self, sources: dict[str, Source], progress: Progress) -> None:
        """Looks again once it has the lock: another process may have fetched the files in the meantime."""
        with self.exclusive(self.hub_directory):
            sources = {name: source for name, source in sources.items() if self.cached(name) is None}
            sizes = {name: self._size(source, ATTEMPTS) for name, source in sources.items()}
            meter = FetchMeter(progress, sum(sizes.values()))
            self._sweep({source.partial for source in sources.values()})
            self.require_space(sum(sizes.values()) - sum(_size_of(each.partial) for each in sources.values()))
            for name, source in sources.items():
                meter.begin(name)
                self.download(source, sizes[name], meter)
                meter.end(sizes[name])

    @contextlib.contextmanager
    def exclusive(self, directory: str) -> Iterator[None]:
        """Blocks until no other process or thread writes in this directory of the cache, then keeps them out.

        An OSError of the disk within becomes ModelUnavailable; errors of the network are translated where they occur.
        """
        try:
            private_directory(directory)
            with open(os.path.join(directory, ".lock"), "wb", opener=private_opener) as lock:
                while not _locked(lock):
                    if self.aborted.wait(LOCK_RETRY_SECONDS):
                        raise _ended()
                yield
        except OSError as error:
            raise ModelUnavailable(
                f"the cache {directory} cannot be written: {error.strerror or error}",
                "make room and check its permissions, or set KOKORO_CACHE_DIR",
            ) from error

    def require_space(self, size: int) -> None:
        """Raises ModelUnavailable if the disk has no room for so many bytes more. The cache's directory exists."""
        disk = os.statvfs(os.path.dirname(self.hub_directory))
        free = disk.f_bavail * disk.f_frsize
        if disk.f_blocks and free < size:  # a file system without blocks does not tell
            raise ModelUnavailable(
                f"{size / 1e6:.0f} MB are to be fetched, and {free / 1e6:.0f} MB are free in {self.hub_directory}",
                "make room, or set KOKORO_CACHE_DIR",
            )

    def _sweep(self, keep: set[str]) -> None:
        """Removes partial files of killed processes that are not resumed now. Only for the holder of the lock."""
        for directory, _, names in os.walk(os.path.join(self.hub_directory, self._repo, "snapshots")):
            for name in names:
                if name.endswith(PARTIAL) and (path := os.path.join(directory, name)) not in keep:
                    os.remove(path)

    # --- Transport ---------------------------------------------------------------------------------------------------

    def _size(self, source: Source, attempts: int) -> int:
        """Bytes of a file on the hub. Raises ModelUnavailable, also when another kind of server answers."""
        answer = self._persist(source, lambda: self._head(source), attempts)
        if answer.commit_hash is None or answer.size is None:
            raise source.unavailable("what answers there is not a Hugging Face hub")
        return source.check_size(int(answer.size))

    def _head(self, source: Source) -> Any:
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

    def require(self, source: Source) -> int:
        """Asks the hub once for a file's size, at most what it may have; ModelUnavailable with the reason if it has
        none."""
        answer = self._persist(source, lambda: self._head(source), attempts=1)
        return source.check_size(source.most if answer.size is None else int(answer.size))

    def _persist(self, source: Source, attempt: Callable[[], Result], attempts: int) -> Result:
        """The result of `attempt`, repeated after failures that may pass: cut, reset, stall, 5xx and 429.

        Raises ModelUnavailable after `attempts` failures in a row, or at once after one that will not pass.
        """
        import httpx2

        failures = 0
        while True:
            if self.aborted.is_set():
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
            self.aborted.wait(pause)

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

    def download(self, source: Source, size: int, meter: FetchMeter) -> None:
        """Brings a verified source to its path, in one step. Only for the holder of the lock.

        `size` is the most it may have. Raises ModelUnavailable, and OSError for the disk.
        """
        private_directory(os.path.dirname(source.path))
        try:
            for _ in range(2):  # wrong bytes may come from a torn partial file or a proxy's cache: try once more
                self._persist(source, lambda: self._append(source, size, meter), ATTEMPTS)
                if self.digest(source.partial) == source.sha256:
                    self.adopt(source.partial, source.path)
                    return
                os.remove(source.partial)
        except OSError:  # give a full disk its space back
            with contextlib.suppress(OSError):
                os.remove(source.partial)
            raise
        raise source.unavailable("its SHA-256 is wrong")

    def _append(self, source: Source, size: int, meter: FetchMeter) -> None:
        """One GET request for the rest of a partial file. Raises httpx2.HTTPError, and OSError for the disk."""
        client = _huggingface_hub()
        headers = {**client.utils.build_hf_headers(token=source.token), "Accept-Encoding": "identity"}
        with open(source.partial, "ab", opener=private_opener) as file:
            done = file.tell()
            if done > size:  # of another file, and perhaps too much to be hashed
                file.truncate(0)
                done = 0
            if done == size:
                return
            if done:
                headers["Range"] = f"bytes={done}-"
            with Transfer(source.url, headers, self._stall, client.hf_raise_for_status) as body:
                if done and body.status != 206:  # the whole file after all
                    file.truncate(0)
                    done = 0
                expected = source.check_size(done + (size - done if body.length is None else body.length))
                for data in body:
                    if self.aborted.is_set():
                        raise _ended()
                    file.write(data)
                    done += len(data)
                    meter.advance(done, expected)
                    if done > size:
                        break  # too long: it is another file
            file.flush()
            os.fsync(file.fileno())


class FetchMeter:
    """Reports the progress of a fetch of several files, about a thousand times at most."""

    def __init__(self, progress: Progress, total: int = 0) -> None:
        self._progress = progress
        self._total = total  # bytes; 0: unknown, it is what the one file turns out to have
        self._before = 0  # bytes of the files that are complete
        self._name = ""
        self._told = -1.0

    def begin(self, name: str) -> None:
        self._name = name

    def advance(self, done: int, expected: int) -> None:
        """Call when `done` of `expected` bytes of the current file have arrived."""
        total = max(1, self._total or expected)
        done = min(total, self._before + done)
        if done == total or abs(done / total - self._told) >= 0.001:
            self._told = done / total
            self._progress(self._name, done, total)

    def end(self, size: int) -> None:
        self.advance(size, size)
        self._before += size


def quieten_huggingface_hub() -> None:
    """No telemetry, no progress bars, plain HTTP. Only takes effect before the first import of huggingface_hub."""
    for variable in ("HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_PROGRESS_BARS"):
        os.environ[variable] = "1"


def _huggingface_hub() -> ModuleType:
    quieten_huggingface_hub()
    import huggingface_hub.errors
    import huggingface_hub.utils

    return huggingface_hub


def _reason(error: Exception) -> str:
    import httpx2

    if (response := getattr(error, "response", None)) is not None:
        return f"HTTP {response.status_code}"
    if isinstance(error, httpx2.TimeoutException):
        return "no answer in time"
    return str(error) or type(error).__name__


def _ended() -> ModelUnavailable:
    return ModelUnavailable("the download was ended")


def _size_of(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:  # it does not exist, or the cache cannot be read, which is reported where it is written
        return 0


def _locked(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
