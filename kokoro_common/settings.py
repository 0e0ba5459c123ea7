"""Settings: flag > KOKORO_* environment > config.toml > default, resolved once into one frozen object.

Nothing else in the project reads KOKORO_* variables. `Settings.environment()` gives them back for a child process. What
a user prefers for each call (CALL_DEFAULTS) stands in the same places, and is for clients alone: text/defaults.py.

A name that is no setting stops nothing: it becomes a note. A value that does not fit stops what would use it.
"""

from __future__ import annotations

import math
import os

from kokoro_common.errors import SAY, UsageError, choice_remedy, near
from kokoro_common.files import is_trusted, read_regular
from kokoro_common.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

ENGINES = ("auto", "kokoro", "espeak")
DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "bf16")
LOOPBACK = "127.0.0.1"  # the only address that servers listen on; literally, for "localhost" may resolve to another
MAX_FILE_BYTES = 1 << 20  # of config.toml
NEVER = -1.0  # seconds, for things that would happen after a time
FILE, ENVIRONMENT, FLAG = range(3)  # where a value may stand, the nearest to the call last
CALL_DEFAULTS = ("voice", "speed", "volume", "lang", "audio_device", "lufs", "emoji", "plain", "untouched")
PREFIX = "KOKORO_"

_CHOICES = {"engine": ENGINES, "device": DEVICES, "precision": PRECISIONS}
_LEAST = {  # smallest value of each setting in seconds
    "idle_timeout": NEVER,
    "keep_alive": NEVER,
    "unload_after": NEVER,
    "stuck_timeout": 1.0,
    "hub_retry": 0.5,  # less is a flood of requests
    "clause_wait": 0.0,
    "word_wait": 0.0,
    "lead_in": 0.0,
}
_PATHS = ("runtime_dir", "cache_dir", "config_dir", "log_dir", "manifest")
_MAX_SHOWN = 40  # characters of a name that is no setting


class Settings(Record):
    """What servers and clients are set to. In the order of docs/reference.md, after CALL_DEFAULTS."""

    runtime_dir: str = ""  # empty: chosen and checked by RuntimeDirectory
    cache_dir: str = ""
    config_dir: str = ""
    log_dir: str = ""
    host: str = LOOPBACK  # nothing else is accepted: it is a setting so that whoever looks for one finds the reason
    port: int = 5000  # preferred port of the model server, voice servers from the next one up; 0: any free port
    engine: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    seed: int = 0
    offline: bool = False  # never touch the network
    idle_timeout: float = 600.0  # seconds until an idle voice server exits; -1: never
    clause_wait: float = 0.7  # seconds without new text after which the complete clauses of half a sentence are spoken
    word_wait: float = 2.0  # the same for all of it
    lead_in: float = 0.0  # seconds of silence before the first sound of an idle device: some Bluetooth swallows it
    keep_alive: float = NEVER  # seconds until an idle model server exits
    unload_after: float = 1800.0  # seconds until an idle model server frees the model's memory; -1: never
    kept_audio: int = 64  # MB of audio that the model server keeps for texts that are spoken again; 0: none
    memory_limit: int = 4096  # MB of RSS at which the model server replaces its process between utterances; 0: never
    stuck_timeout: float = 30.0  # seconds without any progress of the work under way until a server is taken for hung
    hub_retry: float = 60.0  # seconds between attempts to fetch a model that could not be had
    manifest: str = ""  # path; empty: the built-in manifest of Kokoro-82M
    debug: bool = False  # servers log what is spoken

    def environment(self) -> dict[str, str]:
        """These settings as KOKORO_* variables, so that a child resolves the same ones."""
        return {
            variable(name): str(int(value)) if isinstance(value, bool) else str(value)
            for name, value in self.as_dict().items()
        }


NAMES = (*CALL_DEFAULTS, *Settings._fields)


class Given(Record):
    """A value as it stands somewhere, not yet judged."""

    text: str | None  # None: a list, table or date of TOML, which no setting is
    source: str  # where it stands, for an error: KOKORO_PORT, /home/.../config.toml: port, --port
    level: int  # FILE, ENVIRONMENT or FLAG

    @property
    def value(self) -> str:
        """Raises UsageError if it is not one value."""
        if self.text is None:
            raise UsageError(f"{self.source} is a list, a table or a date", "give one value")
        if "\0" in self.text:  # only a file can hold one
            raise UsageError(f"{self.source} holds a NUL", "remove it")
        return self.text

    def misfit(self, remedy: str) -> UsageError:
        """The error that says that the value does not fit, and where it stands."""
        return UsageError(f"{self.source} is {self.value!r}", remedy)


class Found(Record):
    """All that flags, environment and config.toml say."""

    path: str  # of config.toml, which need not be there
    cache_home: str  # the directory of all programs' caches
    given: dict[str, Given]  # by the name of the setting, the nearest to the call
    unknown: tuple[str, ...] = ()  # names that are no settings: variables as they are, keys of config.toml in quotes
    problem: UsageError | None = None  # why config.toml could not be read

    @property
    def note(self) -> str:
        """One line about all names that are no settings, or nothing."""
        if not self.unknown:
            return ""
        rest = f"; {len(self.unknown) - 1} more: see {SAY} --config" if len(self.unknown) > 1 else ""
        return f"{not_a_setting(self.unknown[0])}{rest}"


def variable(name: str) -> str:
    return f"{PREFIX}{name.upper()}"


def resolve(flags: Mapping[str, object] | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Reads the environment and, if there is one, config.toml. Flags that are None do not count.

    Raises UsageError, naming the variable or key, for a value that does not fit.
    """
    settings, problems = settings_in(look_up(flags, environ))
    if problems:
        raise problems[0]
    return settings


def look_up(flags: Mapping[str, object] | None = None, environ: Mapping[str, str] = os.environ) -> Found:
    """What stands where, not yet judged. Raises UsageError only if there is no home directory."""
    home = os.path.expanduser("~")
    if not os.path.isabs(home) and not (environ.get("KOKORO_CONFIG_DIR") and environ.get("KOKORO_CACHE_DIR")):
        raise UsageError("there is no home directory", "set HOME, or KOKORO_CONFIG_DIR and KOKORO_CACHE_DIR")
    path = os.path.join(_config_dir(environ), "config.toml")
    problem: UsageError | None = None
    table: dict[str, object] = {}
    try:
        _check_owner(os.path.dirname(path))
        table = _read(path)
    except UsageError as error:
        problem = error
    given = {
        name: Given(
            text=str(value) if isinstance(value, (str, int, float)) else None, source=f"{path}: {name}", level=FILE
        )
        for name, value in table.items()
        if name in NAMES
    }
    for name in NAMES:
        if text := environ.get(variable(name)):
            given[name] = Given(text=text, source=variable(name), level=ENVIRONMENT)
    for name, value in (flags or {}).items():
        if value is not None:
            given[name] = Given(text=str(value), source=f"--{name.replace('_', '-')}", level=FLAG)
    known = {variable(name) for name in NAMES}
    strange = sorted(name for name in environ if name.startswith(PREFIX) and name not in known)
    return Found(
        path=path,
        cache_home=environ.get("XDG_CACHE_HOME") or os.path.join(home, ".cache"),
        given=given,
        unknown=(*(_quoted(name) for name in table if name not in NAMES), *map(_clean, strange)),
        problem=problem,
    )


def not_a_setting(name: str) -> str:
    """A line about a name of `Found.unknown`, with the setting that is nearest to it."""
    quoted = name.startswith('"')
    wanted = (name.strip('"') if quoted else name.removeprefix(PREFIX)).lower().replace("-", "_")
    nearest = near(wanted, NAMES, count=1)
    said = f"config.toml: {name} is not a setting" if quoted else f"{name} is not a setting"
    if not nearest:
        return f"{said}; {SAY} --config lists all"
    return f"{said}; did you mean {_quoted(nearest[0]) if quoted else variable(nearest[0])}?"


def without_call_defaults(environ: Mapping[str, str]) -> dict[str, str]:
    """An environment for servers: what one shell prefers for its own calls is nothing to the calls of others."""
    own = {variable(name) for name in CALL_DEFAULTS}
    return {name: value for name, value in environ.items() if name not in own}


def _config_dir(environ: Mapping[str, str]) -> str:
    return environ.get("KOKORO_CONFIG_DIR") or os.path.join(
        environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config"), "kokoro"
    )


def may_set(uid: int) -> bool:
    """Whether settings of that user count: our own, root's, and those of the home directory's owner. Under sudo that is
    often still the caller's."""
    if is_trusted(uid):
        return True
    try:
        return uid == os.stat(os.path.expanduser("~")).st_uid
    except OSError:
        return False


def _check_owner(config_dir: str) -> None:
    """Raises UsageError for a directory that other users can put a config.toml, voices or a lexicon into."""
    try:
        status = os.stat(config_dir)
    except OSError:
        return  # there is none, or it cannot be read: so nobody's settings are
    theirs = not may_set(status.st_uid)
    if theirs or status.st_mode & 0o002:
        problem = "belongs to another user" if theirs else "can be written by other users"
        raise UsageError(
            f"{config_dir} {problem}", "set KOKORO_CONFIG_DIR to a directory of your own, or mend its mode"
        )


def _read(path: str) -> dict[str, object]:
    """A file that is not there has no keys. Raises UsageError for one that cannot be read."""
    if not os.path.exists(path):
        return {}
    import tomllib

    try:
        return tomllib.loads(read_regular(path, MAX_FILE_BYTES, may_set).decode())
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read: {error}", "mend or remove it") from error


def _clean(name: str) -> str:
    shown = "".join(each if each.isascii() and each.isprintable() and each != '"' else "?" for each in name)
    return shown if len(shown) <= _MAX_SHOWN else f"{shown[:_MAX_SHOWN]}..."


def _quoted(name: str) -> str:
    return f'"{_clean(name)}"'


def settings_in(found: Found) -> tuple[Settings, tuple[UsageError, ...]]:
    """The settings, and what is wrong with values that do not fit, each of which is left at its default."""
    problems = [found.problem] if found.problem is not None else []
    values: dict[str, Any] = {}
    for name in Settings._fields:
        if given := found.given.get(name):
            try:
                values[name] = value_of(name, given)
            except UsageError as error:
                problems.append(error)
    values["config_dir"] = os.path.dirname(found.path)
    values.setdefault("cache_dir", os.path.join(found.cache_home, "kokoro"))
    values.setdefault("log_dir", os.path.join(str(values["cache_dir"]), "logs"))
    for name in _PATHS:
        if values.get(name):
            values[name] = os.path.abspath(os.path.expanduser(values[name]))
    return Settings(**values), tuple(problems)


def value_of(name: str, given: Given) -> Any:
    """A field of Settings, converted and checked. Raises UsageError."""
    kind = type(getattr(Settings, name))
    try:
        value = switched(given) if kind is bool else kind(given.value)
    except ValueError:
        raise given.misfit("give a whole number" if kind is int else "give a number") from None
    if name in _CHOICES and value not in _CHOICES[name]:
        raise given.misfit(choice_remedy(str(value), _CHOICES[name]))
    if name == "host" and value != LOOPBACK:
        raise UsageError(
            f"{given.source} is {value!r}, but Kokoro Say listens on {LOOPBACK} only",
            "leave it out, and from another machine call it by ssh: ssh HOST kokoro-say TEXT",
        )
    if name == "port" and not 0 <= value <= 65000:
        raise UsageError(f"{given.source} is {value}", "choose one from 1 to 65000, or 0 for any free port")
    if name in ("memory_limit", "kept_audio") and value < 0:
        raise UsageError(f"{given.source} is {value}", "give a number of MB, or 0 for none")
    if isinstance(value, float) and not (math.isfinite(value) and value >= _LEAST[name]):
        raise UsageError(f"{given.source} is {value:g}", f"give a number of seconds, at least {_LEAST[name]:g}")
    return value


def switched(given: Given) -> bool:
    """A value that is on or off. Raises UsageError."""
    switch = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    if (text := given.value.lower()) not in switch:
        raise given.misfit("give 0 or 1")
    return switch[text]
