from __future__ import annotations

import math
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kokoro_common.errors import UnknownVoice, UsageError
from kokoro_common.voices.catalogue import (
    LANGUAGES,
    MAX_PARTS,
    VOICES,
    listing,
    parse_language,
    parse_voice,
    server_name,
)


def test_the_catalogue_holds_54_voices_of_nine_languages() -> None:
    assert len(VOICES) == len(set(VOICES)) == 54
    assert all(re.fullmatch(r"[a-z][fm]_[a-z]+", name) for name in VOICES)
    assert {name[0] for name in VOICES} == set(LANGUAGES)


@pytest.mark.parametrize("name", VOICES)
def test_a_catalogue_name_is_its_own_canonical_name(name: str) -> None:
    voice = parse_voice(name)
    assert (voice.name, voice.parts, voice.lang) == (name, ((name, 1.0),), name[0])
    assert server_name(voice) == name


@pytest.mark.parametrize(
    ("argument", "canonical"),
    [
        ("af_bella:0.7,af_sky:0.3", "af_bella:0.7,af_sky:0.3"),
        ("af_bella:7,af_sky:3", "af_bella:0.7,af_sky:0.3"),
        ("af_bella,af_sky", "af_bella:0.5,af_sky:0.5"),
        ("af_sky:.3,af_bella:.7", "af_sky:0.3,af_bella:0.7"),
        ("bf_emma,am_puck,af_sky", "bf_emma:0.334,af_sky:0.333,am_puck:0.333"),
        ("af_sky,af_sky", "af_sky"),
        ("af_sky:0.2", "af_sky"),
        ("af_sky:1,af_bella:2,af_sky:1", "af_sky:0.5,af_bella:0.5"),
        ("af_sky:999999,af_bella:0.000001", "af_sky:0.999,af_bella:0.001"),
    ],
)
def test_blends_have_one_canonical_name(argument: str, canonical: str) -> None:
    assert parse_voice(argument).name == canonical


def test_the_first_voice_of_a_blend_chooses_language_and_server() -> None:
    voice = parse_voice("bf_emma:0.1,af_sky:0.9")
    assert (voice.lang, server_name(voice), voice.female) == ("b", "bf_emma", True)
    assert not parse_voice("am_puck,af_sky").female


@given(
    st.lists(
        st.tuples(st.sampled_from(VOICES), st.decimals("0.000001", "999999", places=6).map(lambda d: f"{d:f}")),
        min_size=1,
        max_size=MAX_PARTS,
    )
)
def test_parsing_a_canonical_name_changes_nothing(parts: list[tuple[str, str]]) -> None:
    voice = parse_voice(",".join(f"{name}:{weight}" for name, weight in parts))
    assert parse_voice(voice.name) == voice
    assert math.isclose(sum(weight for _, weight in voice.parts), 1.0)
    assert all(weight > 0 for _, weight in voice.parts)
    assert server_name(voice) == parts[0][0]


@pytest.mark.parametrize(
    "argument",
    [
        "",
        "?",
        "af_nobody",
        "AF_HEART",
        "af_heart ",
        "af_heart\n",
        "af_heart\0",
        "../../x.pt",
        "/etc/passwd",
        "voices/af_heart.pt",
        "af_heart.pt",
        "https://example.com/af_heart",
        "af_heart,",
        ",af_heart",
        "af_heart:",
        "af_heart:0",
        "af_heart:-1",
        "af_heart:nan,af_sky:1",
        "af_heart:inf",
        "af_heart:1e400",
        "af_heart:٣",
        "af_heart:1,af_sky",
        "af_bella,af_sky,af_nova,af_kore,af_heart",
        "af_heart:1,../../x:1",
        "\udcff\ud800",
        "é́" * 20,
        "a" * 10_240,
        "af_heart," * 2_000,
        "\x1b[31maf_heart",
    ],
)
def test_everything_else_is_an_unknown_voice_in_one_short_line(argument: str) -> None:
    with pytest.raises(UnknownVoice) as caught:
        parse_voice(argument)
    line = str(caught.value)
    assert caught.value.exit_code == 5
    assert line.isprintable() and len(line) < 300


@given(st.text(max_size=60))
def test_no_text_but_a_name_is_taken(argument: str) -> None:
    try:
        voice = parse_voice(argument)
    except UnknownVoice:
        return
    assert all(name in VOICES for name, _ in voice.parts)


@pytest.mark.parametrize(
    ("argument", "meant"),
    [("af_hart", "af_heart"), ("Bella", "af_bella"), ("am_mikael", "am_michael"), ("bf_ema", "bf_emma")],
)
def test_an_unknown_voice_names_the_nearest(argument: str, meant: str) -> None:
    with pytest.raises(UnknownVoice, match=meant):
        parse_voice(argument)


@pytest.mark.parametrize(
    "case",
    ["a a", "en-us a", "en a", "EN_GB b", "es e", "fr f", "hi h", "it i", "ja j", "pt-BR p", "pt p", "zh z"],
)
def test_a_language_is_a_letter_or_a_tag(case: str) -> None:
    code, letter = case.split()
    assert parse_language(code) == letter


@pytest.mark.parametrize("code", ["", "xx", "english", "e" * 10_000, "\0"])
def test_an_unknown_language_is_a_usage_error_with_the_list(code: str) -> None:
    with pytest.raises(UsageError, match="en-us, en-gb, es, fr, hi, it, ja, pt-br, zh") as caught:
        parse_language(code)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 200


def test_the_listing_has_a_line_for_each_voice_and_fits_80_columns() -> None:
    header, *lines = listing().splitlines()
    assert [line.split()[0] for line in lines] == list(VOICES)
    assert all(len(line) < 80 for line in (header, *lines))
    assert "bm_lewis        British English         male" in lines


def test_the_listing_keeps_the_longest_name_apart_from_its_language() -> None:
    longest = f"af_{'x' * 32}"
    header, *lines = listing({"af_me": "", longest: "af_bella"}).splitlines()
    assert [line.split()[0] for line in lines] == [*VOICES, "af_me", longest]
    assert {line.index(LANGUAGES[line[0]][0]) for line in lines} == {header.index("LANGUAGE")}


def test_importing_the_catalogue_imports_nothing_heavy() -> None:
    code = "import sys, kokoro_common.voices.catalogue; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {
        "typing",
        "difflib",
        "dataclasses",
        "inspect",
        "json",
        "numpy",
        "torch",
        "kokoro_common.sound",
    } & {*modules}


@pytest.mark.parametrize(
    ("argument", "line"),
    [
        ("af_bella:0.7,af_sx:0.3", "unknown voice 'af_sx' in the blend 'af_bella:0.7,af_sx:0.3'; did you mean af_sky"),
        ("af_bela,am_adam", "unknown voice 'af_bela' in the blend 'af_bela,am_adam'; did you mean af_bella"),
        ("am_adam,carl", "unknown voice 'carl' in the blend 'am_adam,carl'; did you mean am_carl?"),
        ("af_bella:x,am_adam:1", "'x' is no weight for af_bella in the blend"),
        ("af_bella:0.5,am_adam", "am_adam has no weight in the blend"),
        ("af_bella:1,am_adam:0", "am_adam weighs nothing in the blend"),
    ],
)
def test_a_blend_names_the_part_that_is_wrong(argument: str, line: str) -> None:
    with pytest.raises(UnknownVoice) as caught:
        parse_voice(argument, {"am_carl": ""})
    assert str(caught.value).startswith(line)
