"""What a user prefers for each call: where it stands, what fits, and what stands nearer to the call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kokoro_common.errors import KokoroError, UnknownVoice, UsageError
from kokoro_common.text.defaults import Defaults, call_defaults

OWN = {"af_mine": "af_bella:0.7,af_sky:0.3"}


def defaults(path: Path, file: str = "", flags: dict[str, object] | None = None, **variables: str) -> Defaults:
    (path / "config.toml").write_text(file)
    environ = {"KOKORO_CONFIG_DIR": str(path), **{f"KOKORO_{name.upper()}": value for name, value in variables.items()}}
    return call_defaults(flags, OWN, environ)


def test_nothing_said_is_the_default_voice_as_it_is(tmp_path: Path) -> None:
    assert defaults(tmp_path) == Defaults()


@pytest.mark.parametrize(
    ("name", "written", "value"),
    [
        ("voice", "am_adam", "am_adam"),
        ("voice", "af_sky:1,af_bella:3", "af_sky:0.25,af_bella:0.75"),
        ("voice", "af_mine", "af_bella:0.7,af_sky:0.3"),
        ("speed", "1.5", 1.5),
        ("volume", "0", 0.0),
        ("lang", "en-gb", "b"),
        ("lang", "PT_br", "p"),
        ("audio_device", "USB", "USB"),
        ("lufs", "-16", -16.0),
        ("emoji", "drop", False),
        ("plain", "1", True),
    ],
)
def test_each_may_stand_in_the_file_the_environment_and_a_flag(
    tmp_path: Path, name: str, written: str, value: Any
) -> None:
    others = {"speed": "0.5", "volume": "2", "audio_device": "HDMI", "lufs": "-20", "emoji": "names", "plain": "0"}
    other = others.get(name, {"voice": "bm_lewis", "lang": "es"}.get(name))
    assert getattr(defaults(tmp_path, f"{name} = '{written}'"), name) == value
    assert getattr(defaults(tmp_path, f"{name} = '{other}'", **{name: written}), name) == value
    assert getattr(defaults(tmp_path, f"{name} = '{other}'", {name: written}, **{name: str(other)}), name) == value


def test_the_file_may_have_numbers_and_booleans(tmp_path: Path) -> None:
    found = defaults(tmp_path, "speed = 2\nvolume = 0.5\nlufs = -16\nplain = true\n")
    assert (found.speed, found.volume, found.lufs, found.plain) == (2.0, 0.5, -16.0, True)
    assert defaults(tmp_path, "lufs = -16", {"lufs": "off"}).lufs is None
    assert defaults(tmp_path, "plain = true", {"plain": False}).plain is False


@pytest.mark.parametrize(
    ("name", "written", "complaint"),
    [
        ("speed", "x", " is 'x'; choose 0.25 to 4"),
        ("speed", "nan", " is 'nan'; choose 0.25 to 4"),
        ("volume", "2.1", " is '2.1'; choose 0 to 2"),
        ("lufs", "0", " is '0'; choose -70 to -5, or off"),
        ("emoji", "some", " is 'some'; choose one of names, drop"),
        ("plain", "perhaps", " is 'perhaps'; give 0 or 1"),
        ("audio_device", "?", " is '?'; give a part of a device's name; {say} -a '?' lists them"),
        ("voice", "af_hart", ": unknown voice 'af_hart'; did you mean af_heart, af_sarah?"),
        ("lang", "klingon", ": unknown language 'klingon'; choose one of"),
    ],
)
def test_what_does_not_fit_is_named_where_it_stands(tmp_path: Path, name: str, written: str, complaint: str) -> None:
    kind = UnknownVoice if name == "voice" else UsageError
    with pytest.raises(kind) as wrong:
        defaults(tmp_path, **{name: written})
    assert wrong.value.line.startswith(f"KOKORO_{name.upper()}{complaint}")
    with pytest.raises(kind) as wrong:
        defaults(tmp_path, f"{name} = '{written}'")
    assert wrong.value.line.startswith(f"{tmp_path}/config.toml: {name}{complaint}")
    right = {"voice": "af_heart", "lang": "fr", "speed": "1", "volume": "1", "lufs": "-16", "emoji": "names"}.get(
        name, "0"
    )
    assert defaults(tmp_path, f"{name} = '{written}'", {name: right})  # what is not used is not judged


def test_a_list_is_no_voice_and_a_broken_file_is_named(tmp_path: Path) -> None:
    for content in ("voice = ['af_heart']", "[voice]\nname = 'af_heart'", "voice = "):
        with pytest.raises(KokoroError, match=r"config\.toml"):
            defaults(tmp_path, content)


def test_a_voice_that_stands_nearer_to_the_call_brings_its_own_language(tmp_path: Path) -> None:
    british = "lang = 'en-gb'\n"
    assert defaults(tmp_path, british).lang == "b"
    assert defaults(tmp_path, british + "voice = 'af_sky'").lang == "b"
    assert defaults(tmp_path, british, voice="jf_alpha").lang == "j"
    assert defaults(tmp_path, british, {"voice": "jf_alpha"}).lang == "j"
    assert defaults(tmp_path, "voice = 'jf_alpha'", lang="en-gb").lang == "b"
    assert defaults(tmp_path, british, {"voice": "jf_alpha", "lang": "es"}).lang == "e"
    assert defaults(tmp_path, british, {"lang": ""}).lang == "a"
    assert defaults(tmp_path, "voice = 'jf_alpha'").lang == "j"


def test_what_the_caller_has_chosen_is_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("speed = 'x'\nvoice = 'y'\nlang = 'en-gb'\nvolume = 0.5\n")
    found = call_defaults({}, {}, {"KOKORO_CONFIG_DIR": str(tmp_path)}, chosen={"speed", "voice"})
    assert (found.speed, found.volume, found.lang) == (1.0, 0.5, "a")
