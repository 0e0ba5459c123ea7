"""The servers' logs: JSON lines that no text can forge, rate limits, rotation, one writer per file.

Each server writes its own component's file. The central kokoro.log has one writer as well, the model server: a voice
server forwards its finished lines over the connection it has anyway.

What is spoken is in no line unless somebody has asked for it with debug. Messages of exceptions may quote it, so at the
default level a traceback has types and places alone.

Nothing here raises: a log that cannot be written is no reason to fall silent. What was dropped is counted.
"""

from __future__ import annotations

import datetime
import errno
import json
import logging
import logging.handlers
import math
import os
import sys
import threading
import time
import traceback
from collections import deque
from typing import TYPE_CHECKING

from kokoro_common.files import open_for_lines
from kokoro_common.settings import look_up

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, NoReturn

    from kokoro_common.settings import Settings

    Key = tuple[str, str, str, str]

MAX_FILE_BYTES = 10_000_000
FILES = 5  # per component: the current one and NAME.log.1 to .4
MAX_LINE_BYTES = 64 << 10
FIELD_CHARACTERS = (2_000, 200, 20)  # a longer value is cut; the smaller ones if a line is too long with the larger
BURST = 10  # equal events that are logged at once
INTERVAL = 1.0  # seconds between equal events after that
MAX_KEPT = 1_000  # lines kept while there is no model server to forward them to
MAX_CAUSES = 5  # exceptions in one traceback
PLAIN = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}  # what is in every LogRecord


def start_log(settings: Settings, component: str, also: Callable[[str], None]) -> logging.Logger:
    """The logger "kokoro", whose lines go to the component's file and to `also`, which must not block or raise.

    An exception that nobody catches is logged too and ends the process. Begins with what is no setting, if anything.
    """
    logger = logging.getLogger("kokoro")
    logger.setLevel(logging.DEBUG if settings.debug else logging.INFO)
    logger.propagate = False
    logger.addHandler(JsonLines(component, [log_file(settings, component).append, also], debug=settings.debug))

    def died(error: BaseException | None) -> NoReturn:
        """Ends the process: a server that has lost a thread only looks alive. Its next client starts it again."""
        try:
            assert error is not None
            logger.critical("died: the server ends", exc_info=error, extra={"in": threading.current_thread().name})
            print(trace(error, messages=settings.debug), file=sys.stderr, flush=True)
        finally:
            os._exit(1)

    threading.excepthook = lambda problem: died(problem.exc_value)
    sys.excepthook = lambda _, error, __: died(error)
    if note := look_up().note:
        logger.warning("not a setting", extra={"note": note})
    return logger


def log_file(settings: Settings, name: str) -> LogFile:
    """NAME.log in the log directory, whose only writer the caller is from now on."""
    return LogFile(os.path.join(settings.log_dir, f"{name}.log"))


# --- Lines -----------------------------------------------------------------------------------------------------------


def json_line(
    component: str, level: str, event: str, details: Mapping[str, object], *, room: str = "kokoro", at: float = 0.0
) -> str:
    """One event as ASCII without control characters, at most MAX_LINE_BYTES. `at`: time.time(), or 0 for now.

    Raises ValueError for what has no form in JSON, and whatever a value's own str() raises.
    """
    head = {
        "time": datetime.datetime.fromtimestamp(at or time.time()).astimezone().isoformat(timespec="milliseconds"),
        "component": component,
        "pid": os.getpid(),
        "level": level,
        "room": room,
        "event": event,
    }
    rest = {f"{key}_" if key in head else key: details[key] for key in sorted(details)}
    for limit in FIELD_CHARACTERS:
        line = json.dumps({key: _plain(value, limit) for key, value in (head | rest).items()}, allow_nan=False)
        if len(line) <= MAX_LINE_BYTES:
            return line
    raise ValueError("too many fields for one line")


def _plain(value: object, limit: int) -> object:
    if value is None or isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    text = str(value)
    if len(text) > limit:
        text = f"{text[:limit]}... ({len(text):,} characters)"
    return text.encode("utf-8", "replace").decode()  # a lone surrogate is no JSON to a strict reader


def is_line(line: str) -> bool:
    """Whether text from another process may be written as a line: it must neither tear nor forge one."""
    if len(line) > MAX_LINE_BYTES or not line.isascii() or not line.isprintable():
        return False
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def trace(error: BaseException, *, messages: bool) -> str:
    """An exception and its causes: their types and places, the innermost first."""
    parts: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(parts) < MAX_CAUSES:
        title = type(cause).__name__
        if messages:
            title += f": {cause}"
        elif isinstance(cause, OSError) and cause.errno:
            title += f": {os.strerror(cause.errno)}"
        places = [
            f"{'/'.join(frame.f_code.co_filename.split('/')[-2:])}:{line} {frame.f_code.co_name}"
            for frame, line in traceback.walk_tb(cause.__traceback__)
        ]
        parts.append("\n  at ".join([title, *reversed(places)]))
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return "\nfrom ".join(parts)


class JsonLines(logging.Handler):
    """Records to lines, each given to every one of `takers`, which must neither block nor raise.

    Equal events are limited, except those about an utterance: there are never more of these than somebody speaks.
    """

    def __init__(self, component: str, takers: list[Callable[[str], None]], *, debug: bool = False) -> None:
        super().__init__()
        self._component = component
        self._takers = takers
        self._debug = debug
        self._limiter = Limiter()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            suppressed = 0
            if not hasattr(record, "utterance"):
                key = (record.name, str(record.msg), record.levelname, str(getattr(record, "voice", "")))
                admitted = self._limiter.admit(key)
                if admitted is None:
                    return
                suppressed = admitted
            line = self._line(record, suppressed)
        except Exception as error:  # a value whose str() fails, for example: not the caller's concern
            where = f"{record.filename}:{record.lineno}"
            details = {"logged_at": where, "reason": type(error).__name__}
            line = json_line(self._component, "error", "an event could not be logged", details)
        self._give(line)

    def _line(self, record: logging.LogRecord, suppressed: int) -> str:
        details = {key: value for key, value in vars(record).items() if key not in PLAIN}
        if suppressed:
            details["suppressed"] = suppressed  # equal events before this one
        if record.exc_info and record.exc_info[1] is not None:
            messages = self._debug or bool(details.get("debug"))
            details["traceback"] = trace(record.exc_info[1], messages=messages)
        return json_line(
            self._component,
            record.levelname.lower(),
            record.getMessage(),
            details,
            room=record.name,
            at=record.created,
        )

    def _give(self, line: str) -> None:
        for take in self._takers:
            take(line)

    def close(self) -> None:
        """Logs how many events were suppressed since the last line of their kind."""
        for (room, event, level, _), suppressed in self._limiter.drain():
            self._give(json_line(self._component, level.lower(), event, {"suppressed": suppressed}, room=room))
        super().close()


class Limiter:
    """Which events may be seen: of equal ones BURST at once, then one an INTERVAL; the others are counted.

    Used under the handler's lock. The keys are as many as the code has events.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[Key, tuple[float, int]] = {}  # the time up to which it has used its turns; suppressed since

    def admit(self, key: Key) -> int | None:
        """How many were suppressed before this one, or None: it is suppressed too."""
        now = self._clock()
        used, suppressed = self._seen.get(key, (-math.inf, 0))
        used = max(used, now - BURST * INTERVAL) + INTERVAL
        if used > now:
            self._seen[key] = (used - INTERVAL, suppressed + 1)
            return None
        self._seen[key] = (used, 0)
        return suppressed

    def drain(self) -> list[tuple[Key, int]]:
        """The suppressed events that no line has mentioned so far."""
        untold = [(key, suppressed) for key, (_, suppressed) in self._seen.items() if suppressed]
        self._seen.clear()
        return untold


# --- Where they go ---------------------------------------------------------------------------------------------------


class LogFile(logging.handlers.RotatingFileHandler):
    """A file of lines, 0600, at most MAX_FILE_BYTES, with FILES - 1 older ones beside it. This is its only writer.

    A file or directory that was moved or removed is made again. Lines that cannot be written are dropped and counted.
    """

    def __init__(self, path: str, max_bytes: int = MAX_FILE_BYTES) -> None:
        super().__init__(path, maxBytes=max_bytes, backupCount=FILES - 1, delay=True)
        self._name = os.path.basename(path).removesuffix(".log")
        self._dropped = 0
        self._complained = False

    def append(self, line: str) -> None:
        """From any thread. Blocks as long as the disk does."""
        self.acquire()
        try:
            notice = ""
            if self._dropped:
                notice = json_line(self._name, "error", "lines were dropped", {"dropped": self._dropped}) + "\n"
            self._write(f"{notice}{line}\n".encode())
            self._dropped = 0
        except OSError as error:
            self._dropped += 1
            if not self._complained:  # once: stderr lies on the same disk
                self._complained = True
                try:
                    print(f"{self.baseFilename} cannot be written: {error.strerror}", file=sys.stderr, flush=True)
                except OSError:
                    pass  # it does lie on the same disk
        finally:
            self.release()

    def _write(self, data: bytes) -> None:
        """All of it, or nothing and OSError: one write to O_APPEND, so lines do not mix even with a second writer."""
        fd = self._current()
        size = os.fstat(fd).st_size
        if size and size + len(data) > self.maxBytes:
            self.doRollover()
            fd, size = self._current(), 0
        if os.write(fd, data) < len(data):
            os.ftruncate(fd, size)  # the disk is full: half a line would spoil the next one too
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _current(self) -> int:
        """The descriptor, of a new file if there is none or somebody, logrotate say, moved or removed it."""
        if self.stream is not None:
            try:
                found = os.stat(self.baseFilename, follow_symlinks=False)
                if os.path.samestat(found, os.fstat(self.stream.fileno())):
                    return self.stream.fileno()
            except OSError:
                pass
            self.stream.close()
            self.stream = None
        self.stream = self._open()
        return self.stream.fileno()

    def _open(self) -> Any:
        return os.fdopen(open_for_lines(self.baseFilename), "ab", buffering=0)


class Forwarding:
    """Forwards a voice server's lines to kokoro.log. Lines that no connection takes are kept for later.

    `post` takes a line without blocking, from any thread; False: not now.
    """

    def __init__(self, component: str, post: Callable[[str], bool]) -> None:
        self._component = component
        self._post = post
        self._kept: deque[str] = deque()
        self._missed = 0  # lines that were too old to be kept
        self._offering = False
        self._lock = threading.RLock()

    @property
    def waiting(self) -> int:
        """Number of lines not forwarded so far, those too old to be kept included."""
        return self._missed + len(self._kept)

    def append(self, line: str) -> None:
        with self._lock:
            self._kept.append(line)
            self.flush()
            while len(self._kept) > MAX_KEPT:
                self._kept.popleft()
                self._missed += 1

    def flush(self) -> None:
        """Offers what is kept. Call it when the connection is there again."""
        with self._lock:
            if self._offering:
                return  # post itself had something to log
            self._offering = True
            try:
                if self._missed:
                    event = f"{self._missed:,} lines are only in {self._component}.log"
                    if not self._post(json_line(self._component, "warning", event, {"missed": self._missed})):
                        return
                    self._missed = 0
                while self._kept:
                    line = self._kept.popleft()
                    if not self._post(line):
                        self._kept.appendleft(line)
                        return
            finally:
                self._offering = False
