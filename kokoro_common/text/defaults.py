"""What a user prefers for each call: voice, speed, volume and the rest of CALL_DEFAULTS, from the places of settings.

For clients alone: servers are told with each utterance how to speak it, and never look here.
"""

from __future__ import annotations

import os

from kokoro_common.errors import SAY, KokoroError, UsageError
from kokoro_common.record import Record
from kokoro_common.settings import CALL_DEFAULTS, FLAG, look_up, switched
from kokoro_common.text.speech import MAX_SPEED, MAX_VOLUME, MIN_SPEED
from kokoro_common.voices.catalogue import DEFAULT_VOICE, parse_language, parse_voice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Any

    from kokoro_common.settings import Found, Given

LOUDNESS = (-70.0, -5.0)  # LUFS of a file, least and most
OFF = "off"  # of lufs: the file is as loud as the voice is
EMOJI = {"names": True, "drop": False}


class Defaults(Record):
    """For a call that says nothing else."""

    voice: str = DEFAULT_VOICE  # canonical, see voices.catalogue.parse_voice
    speed: float = 1.0
    volume: float = 1.0
    lang: str = DEFAULT_VOICE[0]  # a letter of LANGUAGES
    audio_device: str = ""  # a part of its name; "": that of the system
    lufs: float | None = None  # loudness of a file; None: as it is
    emoji: bool = True  # said by name
    plain: bool = False
    untouched: bool = False


def call_defaults(
    flags: Mapping[str, object] | None,
    own: Mapping[str, str],
    environ: Mapping[str, str] = os.environ,
    chosen: Collection[str] = (),
) -> Defaults:
    """Flag > environment > config.toml > default, as for `settings.resolve`. Flags that are None do not count.

    `own`: see own_voices. `chosen`: names for which the caller has a value of its own; what stands elsewhere for them
    is not looked at. A voice that stands nearer to the call than the language does brings its own language: with
    `lang = "en-gb"` in config.toml, `-v jf_alpha` speaks Japanese.

    Raises UsageError or UnknownVoice, naming the variable or key, for a value that does not fit.
    """
    return defaults_in(look_up(flags, environ), own, chosen)


def defaults_in(found: Found, own: Mapping[str, str], chosen: Collection[str] = ()) -> Defaults:
    """As call_defaults, of what has been looked up. Raises as it does, and the problem of config.toml."""
    if found.problem is not None:
        raise found.problem
    given = {name: found.given[name] for name in CALL_DEFAULTS if name in found.given and name not in chosen}
    values: dict[str, Any] = {name: value_of(name, each, own) for name, each in given.items()}
    if "lang" in given and ("voice" in chosen or overrides_language(given)):
        del values["lang"]
    values["lang"] = values.get("lang") or values.get("voice", DEFAULT_VOICE)[0]
    return Defaults(**values)


def overrides_language(given: Mapping[str, Given]) -> bool:
    """Whether the voice stands nearer to the call than the language, so that its own language is meant."""
    return "voice" in given and "lang" in given and given["lang"].level < given["voice"].level


def value_of(name: str, given: Given, own: Mapping[str, str]) -> object:
    """One of them, checked. The language "" is that of the voice. Raises UsageError or UnknownVoice."""
    text = given.value
    if name in ("voice", "lang"):
        try:
            return parse_voice(text, own).name if name == "voice" else parse_language(text) if text else ""
        except KokoroError as error:
            if given.level == FLAG:
                raise
            raise type(error)(f"{given.source}: {error.problem}", error.remedy) from None
    if name == "speed":
        return number(given, MIN_SPEED, MAX_SPEED)
    if name == "volume":
        return number(given, 0.0, MAX_VOLUME)
    if name == "lufs":
        return None if text.lower() == OFF else number(given, *LOUDNESS, other=f", or {OFF}")
    if name == "emoji":
        if text not in EMOJI:
            raise given.misfit(f"choose one of {', '.join(EMOJI)}")
        return EMOJI[text]
    if name in ("plain", "untouched"):
        return switched(given)
    if text == "?":  # as a flag it asks for the list
        raise UsageError(f"{given.source} is '?'", f"give a part of a device's name; {SAY} -a '?' lists them")
    return text


def number(given: Given, least: float, most: float, other: str = "") -> float:
    """A value in a range. Raises UsageError, with `other` choices in its remedy."""
    try:
        value = float(given.value)
    except ValueError:
        value = least - 1.0
    if not least <= value <= most:  # NaN is not in the range either
        raise given.misfit(f"choose {least:g} to {most:g}{other}")
    return value
