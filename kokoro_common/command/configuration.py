"""--config: every setting with its value, and where the value comes from."""

from __future__ import annotations

import os

from kokoro_common.daemon.runtime_directory import RuntimeDirectory
from kokoro_common.errors import SAY, KokoroError, ServersUnreachable
from kokoro_common.settings import CALL_DEFAULTS, NAMES, Settings, not_a_setting, settings_in
from kokoro_common.settings import value_of as setting_of
from kokoro_common.text.defaults import OFF, Defaults, overrides_language
from kokoro_common.text.defaults import value_of as default_of
from kokoro_common.voices.user_voices import own_voices

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kokoro_common.settings import Found

WIDEST_VALUE = 28  # columns; a longer one, which is a path, moves only its own line
NOTHING = {  # what the empty value means
    "lang": "the voice's own",
    "audio_device": "the system's",
    "lufs": OFF,
    "manifest": "built in",
}


def listing(found: Found) -> tuple[list[str], bool]:
    """Lines in the order of docs/reference.md, then the names that are no settings. False: some value does not fit."""
    settings, _ = settings_in(found)
    if overrides_language(found.given):
        found = found.replace(given={**found.given, "lang": found.given["voice"].replace(text="")})
    own = own_voices(settings.config_dir)
    rows, wrong = [], [found.problem.line] if found.problem is not None else []
    for name in NAMES:
        given = found.given.get(name)
        source = "default" if given is None else _home(given.source)
        shown = _shown(name, settings)
        if given is not None:
            try:
                (default_of(name, given, own) if name in CALL_DEFAULTS else setting_of(name, given))
                if name in CALL_DEFAULTS:
                    shown = given.value or NOTHING.get(name, "")
            except KokoroError as error:
                wrong.append(error.line)
                shown, source = given.text or "?", f"{source}  (wrong, see below)"
        rows.append((name, _printable(shown), source))
    names = max(len(name) for name, _, _ in rows)
    values = max(len(value) for _, value, _ in rows if len(value) <= WIDEST_VALUE)
    lines = [f"{name:<{names}}  {value:<{values}}  {source}" for name, value, source in rows]
    return [
        *lines,
        *(f"wrong: {_printable(_home(line))}" for line in wrong),
        *map(not_a_setting, found.unknown),
    ], not wrong


def _shown(name: str, settings: Settings) -> str:
    """The value that holds if nothing is given; for Settings, that holds."""
    if name == "runtime_dir":
        try:
            return _home(RuntimeDirectory(settings.runtime_dir).path)
        except ServersUnreachable:
            return _home(settings.runtime_dir) or f"none can be used; see {SAY} --doctor"
    value = getattr(Defaults if name in CALL_DEFAULTS else settings, name)
    if name in NOTHING and (value in ("", None) or name == "lang"):
        return NOTHING[name]
    if name == "emoji":
        return "names"
    if isinstance(value, bool):
        return str(int(value))
    return f"{value:g}" if isinstance(value, float) else _home(str(value))


def _home(text: str) -> str:
    """With ~ for the home directory."""
    home = os.path.expanduser("~")
    return text.replace(f"{home}/", "~/") if os.path.isabs(home) and home != "/" else text


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() else "?" for sign in text)
