"""Settings: flag > KOKORO_* environment > config.toml > default, resolved once into one frozen object.

Nothing else in the project reads KOKORO_* variables. `Settings.environment()` gives them back for a child process.
"""

from __future__ import annotations

import math
import os

from kokoro_common.errors import UsageError, choice_remedy
from kokoro_common.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

ENGINES = ("auto", "kokoro", "espeak")
DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "bf16")
LOOPBACK = "127.0.0.1"  # the only address that servers listen on; literally, for "localhost" may resolve to another
NEVER = -1.0  # seconds, for things that would happen after a time

_CHOICES = {"engine": ENGINES, "device": DEVICES, "precision": PRECISIONS}
_LEAST = {  # smallest value of each setting in seconds
    "idle_timeout": NEVER,
    "keep_alive": NEVER,
    "unload_after": NEVER,
    "stuck_timeout": 1.0,
    "hub_retry": 0.0,
    "clause_wait": 0.0,
    "word_wait": 0.0,
    "lead_in": 0.0,
}


class Settings(Record):
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
    unload_after: float = NEVER  # seconds until an idle model server frees the model's memory
    memory_limit: int = 4096  # MB of RSS at which the model server replaces its process between utterances; 0: never
    stuck_timeout: float = 30.0  # seconds without any progress of the work under way until a server is taken for hung
    manifest: str = ""  # path; empty: the built-in manifest of Kokoro-82M
    hub_retry: float = 60.0  # seconds between attempts to fetch a model that could not be had
    debug: bool = False  # servers log what is spoken

    def environment(self) -> dict[str, str]:
        """These settings as KOKORO_* variables, so that a child resolves the same ones."""
        return {
            f"KOKORO_{name.upper()}": str(int(value)) if isinstance(value, bool) else str(value)
            for name, value in self.as_dict().items()
        }


def resolve(flags: Mapping[str, object] | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Reads the environment and, if there is one, config.toml. Flags that are None do not count.

    Raises UsageError, naming the variable or key, for a value that does not fit.
    """
    home = os.path.expanduser("~")
    config_dir = environ.get("KOKORO_CONFIG_DIR") or os.path.join(
        environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config"), "kokoro"
    )
    if not os.path.isabs(home) and not (environ.get("KOKORO_CONFIG_DIR") and environ.get("KOKORO_CACHE_DIR")):
        raise UsageError("there is no home directory", "set HOME, or KOKORO_CONFIG_DIR and KOKORO_CACHE_DIR")
    found = _from_file(os.path.join(config_dir, "config.toml"))
    for name in Settings._fields:
        variable = f"KOKORO_{name.upper()}"
        if environ.get(variable):
            found[name] = (environ[variable], variable)
    for name, value in (flags or {}).items():
        if value is not None:
            found[name] = (str(value), f"--{name.replace('_', '-')}")
    values = {name: _converted(name, text, source) for name, (text, source) in found.items()}
    _check(values, {name: source for name, (_, source) in found.items()})
    cache_home = environ.get("XDG_CACHE_HOME") or os.path.join(home, ".cache")
    values["config_dir"] = config_dir
    values.setdefault("cache_dir", os.path.join(cache_home, "kokoro"))
    values.setdefault("log_dir", os.path.join(str(values["cache_dir"]), "logs"))
    for name in ("runtime_dir", "cache_dir", "config_dir", "log_dir", "manifest"):
        if values.get(name):
            values[name] = os.path.abspath(os.path.expanduser(values[name]))
    return Settings(**values)


def _from_file(path: str) -> dict[str, tuple[str, str]]:
    """Key to (value as text, where it stands). A file that is not there has no keys."""
    if not os.path.exists(path):
        return {}
    import tomllib

    try:
        with open(path, "rb") as file:
            table = tomllib.load(file)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}", "mend or remove it") from error
    if unknown := table.keys() - set(Settings._fields):
        raise UsageError(
            f"{path} has no key {', '.join(sorted(unknown))}", f"known keys: {', '.join(Settings._fields)}"
        )
    return {key: (str(value), f"{path}: {key}") for key, value in table.items()}


def _converted(name: str, text: str, source: str) -> Any:
    kind = type(getattr(Settings, name))
    try:
        if kind is bool:
            return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[text.lower()]
        return kind(text)
    except (KeyError, ValueError):
        expected = {bool: "0 or 1", int: "a whole number", float: "a number"}[kind]
        raise UsageError(f"{source} is {text!r}", f"give {expected}") from None


def _check(values: Mapping[str, Any], sources: Mapping[str, str]) -> None:
    """`sources` says where each value stands, for the error."""
    for name, value in values.items():
        if name in _CHOICES and value not in _CHOICES[name]:
            raise UsageError(f"{sources[name]} is {value!r}", choice_remedy(value, _CHOICES[name]))
        if name == "host" and value != LOOPBACK:
            raise UsageError(
                f"{sources[name]} is {value!r}, but Kokoro Say listens on {LOOPBACK} only",
                "leave it out, and from another machine call it by ssh: ssh HOST kokoro-say TEXT",
            )
        if name == "port" and not 0 <= value <= 65000:
            raise UsageError(f"{sources[name]} is {value}", "choose one from 1 to 65000, or 0 for any free port")
        if name == "memory_limit" and value < 0:
            raise UsageError(f"{sources[name]} is {value}", "give a number of MB, or 0 for none")
        if isinstance(value, float) and not (math.isfinite(value) and value >= _LEAST[name]):
            raise UsageError(f"{sources[name]} is {value:g}", f"give a number of seconds, at least {_LEAST[name]:g}")
        if isinstance(value, str) and "\0" in value:  # only a file can hold one
            raise UsageError(f"{sources[name]} holds a NUL", "remove it")
