"""The catalogue: 54 voices, their languages, blends of them. The only way from a user's word to the name of a voice.

`say.py` imports this at each call, so it imports nothing itself beyond records and errors.
"""

from __future__ import annotations

import re

from kokoro_common.errors import SAY, UnknownVoice, UsageError, choice_remedy, near
from kokoro_common.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_VOICE = "af_heart"
NAME_COLUMNS = 15  # of the listing; own names may be longer
MAX_PARTS = 4  # of a blend, as it is written
_WEIGHT_STEPS = 1000  # weights are kept in thousandths: a canonical name then reads back as itself

LANGUAGES = {  # letter: name, tags; the first tag is the usual one
    "a": ("American English", ("en-us", "en")),
    "b": ("British English", ("en-gb",)),
    "e": ("Spanish", ("es", "es-es")),
    "f": ("French", ("fr", "fr-fr")),
    "h": ("Hindi", ("hi", "hi-in")),
    "i": ("Italian", ("it", "it-it")),
    "j": ("Japanese", ("ja", "ja-jp")),
    "p": ("Brazilian Portuguese", ("pt-br", "pt")),
    "z": ("Mandarin Chinese", ("zh", "zh-cn", "cmn")),
}

_BY_PREFIX = {  # language letter, f or m: hexgrad/Kokoro-82M, folder voices/, at the pinned revision
    "af": "alloy aoede bella heart jessica kore nicole nova river sarah sky",
    "am": "adam echo eric fenrir liam michael onyx puck santa",
    "bf": "alice emma isabella lily",
    "bm": "daniel fable george lewis",
    "ef": "dora",
    "em": "alex santa",
    "ff": "siwis",
    "hf": "alpha beta",
    "hm": "omega psi",
    "if": "sara",
    "im": "nicola",
    "jf": "alpha gongitsune nezumi tebukuro",
    "jm": "kumo",
    "pf": "dora",
    "pm": "alex santa",
    "zf": "xiaobei xiaoni xiaoxiao xiaoyi",
    "zm": "yunjian yunxi yunxia yunyang",
}
VOICES = tuple(f"{prefix}_{name}" for prefix, names in _BY_PREFIX.items() for name in names.split())

# [0-9], not \d: that would take the digits of every script.
_PART = re.compile(r"([a-z]{2}_[a-z0-9]{1,32})(?::([0-9]{1,6}(?:\.[0-9]{1,6})?|\.[0-9]{1,6}))?")


class Voice(Record):
    name: str  # canonical: "af_heart", or "af_bella:0.7,af_sky:0.3"
    parts: tuple[tuple[str, float], ...]  # catalogue names and weights; the weights add up to 1
    lang: str  # letter, a key of LANGUAGES: that of the first part

    @property
    def female(self) -> bool:
        return self.name[1] == "f"


def parse_voice(argument: str, own: Mapping[str, str] | None = None) -> Voice:
    """`NAME` or `NAME[:WEIGHT],NAME[:WEIGHT],...`; without weights all count the same, and all or none have one.

    The canonical name keeps the part that was written first at its place, because it chooses the language and the
    server; the others are sorted by name, the same voice twice is added up, and weights are thousandths of the sum, no
    part below one. `own`: see own_voices; a blend's name stands for its parts. Raises UnknownVoice for everything else.
    """
    own = own or {}
    written = argument.split(",") if len(argument) <= 256 else []
    if not 0 < len(written) <= MAX_PARTS:
        raise _unknown(argument, own)
    weighted = []
    weights: dict[str, float] = {}
    for part in written:
        match = _PART.fullmatch(part)
        if match is None or (match[1] not in VOICES and match[1] not in own):
            raise _unknown(argument, own, part)
        packs = {name: blend for name, blend in own.items() if not blend}  # a blend is of voices, not of blends
        parts = parse_voice(own[match[1]], packs).parts if own.get(match[1]) else ((match[1], 1.0),)
        weighted.append(match[2] is not None)
        for name, share in parts:
            weights[name] = weights.get(name, 0.0) + share * float(match[2] or 1)
    blend = f"in the blend {_shown(argument)}"
    if any(weighted) != all(weighted):
        without = written[weighted.index(False)]
        raise UnknownVoice(f"{without} has no weight {blend}", "give all voices one, or none")
    if len(weights) > MAX_PARTS:
        raise UnknownVoice(f"{len(weights)} voices are {blend}", f"at most {MAX_PARTS} go")
    if min(weights.values()) <= 0:
        raise UnknownVoice(f"{min(weights, key=lambda name: weights[name])} weighs nothing {blend}", "leave it out")
    first = next(iter(weights))
    if len(weights) == 1:
        return Voice(name=first, parts=((first, 1.0),), lang=first[0])
    parts = tuple((name, steps / _WEIGHT_STEPS) for name, steps in _in_steps(weights))
    return Voice(name=",".join(f"{name}:{weight:g}" for name, weight in parts), parts=parts, lang=first[0])


def server_name(voice: Voice) -> str:
    """The catalogue name whose voice server speaks it: one process per voice, not per mixture."""
    return voice.parts[0][0]


def parse_language(code: str) -> str:
    """A letter or a tag, in any case and with - or _, to the letter. Raises UsageError with the list."""
    wanted = code.lower().replace("_", "-")
    for letter, (_, tags) in LANGUAGES.items():
        if wanted == letter or wanted in tags:
            return letter
    raise UsageError(
        f"unknown language {_shown(code)}", choice_remedy(wanted, tuple(tags[0] for _, tags in LANGUAGES.values()))
    )


def listing(own: Mapping[str, str] | None = None) -> str:
    """What `-v '?'` prints: a line per voice, grouped by language, the user's own last; no newline at the end."""
    own = own or {}
    width = max([NAME_COLUMNS, *map(len, own)]) + 1
    lines = [f"{'VOICE':<{width}}{'LANGUAGE':<24}GENDER"]
    for name in VOICES:
        gender = "female" if name[1] == "f" else "male"
        default = "   (default)" if name == DEFAULT_VOICE else ""
        lines.append(f"{name:<{width}}{LANGUAGES[name[0]][0]:<24}{gender}{default}")
    lines += [f"{name:<{width}}{LANGUAGES[name[0]][0]:<24}{blend or 'imported'}" for name, blend in own.items()]
    return "\n".join(lines)


def _in_steps(weights: dict[str, float]) -> list[tuple[str, int]]:
    """Weights as whole steps that add up to _WEIGHT_STEPS: the heaviest part takes what rounding leaves over."""
    first, *others = weights
    total = sum(weights.values())
    steps = {name: max(1, round(weights[name] / total * _WEIGHT_STEPS)) for name in (first, *sorted(others))}
    heaviest = max(steps, key=lambda name: steps[name])
    steps[heaviest] += _WEIGHT_STEPS - sum(steps.values())
    return list(steps.items())


def _unknown(argument: str, own: Mapping[str, str], part: str = "") -> UnknownVoice:
    """`part`: of a blend, the one that is wrong."""
    name, colon, weight = part.partition(":")
    inside = f" in the blend {_shown(argument)}" if "," in argument else ""
    if colon and (name in VOICES or name in own):
        return UnknownVoice(f"{weight[:48]!r} is no weight for {name}{inside}", "give a number, as af_bella:0.7")
    wanted = (name or argument)[:48].lower()
    known = (*VOICES, *own)
    by_first_name = {name.split("_")[1]: name for name in reversed(known)}
    nearest = near(wanted, known) or [by_first_name[each] for each in near(wanted, by_first_name)]
    hint = f"did you mean {', '.join(nearest)}?" if nearest else f"{SAY} -v '?' lists the voices"
    if "," in argument and part:
        return UnknownVoice(f"unknown voice {_shown(name)}{inside}", hint)
    return UnknownVoice(f"unknown voice {_shown(argument)}", hint)


def _shown(argument: str) -> str:
    return repr(argument) if len(argument) <= 48 else f"{argument[:48]!r}..."
