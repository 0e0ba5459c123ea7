"""What stands in config.toml and KOKORO_* variables, by transcripts: one note for what is no setting, no stop."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kokoro_common.settings import CALL_DEFAULTS, NAMES, variable
from tests.conftest import ROOT, World

pytestmark = pytest.mark.e2e

SENTENCE = "One two three four five six seven."


def configure(world: World, content: str) -> Path:
    file = world.path / "config" / "config.toml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(content)
    return file


def written(world: World, *arguments: str, **environment: str) -> np.ndarray:
    done = world.say("-o", "out.wav", *arguments, SENTENCE, **environment)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    samples: np.ndarray = soundfile.read(world.path / "out.wav", dtype="int16")[0]
    return samples


def test_each_preference_does_what_its_flag_does_and_the_flag_counts_more(world: World) -> None:
    plain = written(world)
    for name, value, flags in [
        ("voice", "am_adam", ["-v", "am_adam"]),
        ("speed", "2", ["-s", "2"]),
        ("volume", "0.25", ["--volume", "0.25"]),
        ("lang", "es", ["--lang", "es"]),
        ("lufs", "-30", ["--lufs", "-30"]),
    ]:
        wanted = written(world, *flags)
        assert not np.array_equal(wanted, plain), name
        assert np.array_equal(written(world, **{variable(name): value}), wanted), name
        configure(world, f"{name} = '{value}'")
        assert np.array_equal(written(world), wanted), name
        undone = {"voice": "af_heart", "speed": "1", "volume": "1", "lang": "", "lufs": "off"}[name]
        assert np.array_equal(written(world, flags[0], undone), plain), name
        configure(world, "")
    assert np.array_equal(written(world, "-r", "175", KOKORO_SPEED="2"), plain)


def test_preferences_about_the_text_can_be_undone_for_one_call(world: World) -> None:
    def said(text: str, *arguments: str, **environment: str) -> str:
        return world.say("--explain", *arguments, text, **environment).stdout

    tea = "Tea \N{HOT BEVERAGE} and **more**."
    assert said(tea, KOKORO_PLAIN="1") == said(tea, "--plain") != said(tea)
    assert said(tea, "--no-plain", KOKORO_PLAIN="1") == said(tea)
    assert said(tea, KOKORO_EMOJI="drop") == said(tea, "--emoji", "drop") != said(tea)
    assert said(tea, "--emoji", "names", KOKORO_EMOJI="drop") == said(tea)
    ssml = '<say-as interpret-as="characters">ab</say-as> c'
    assert said(ssml, "--ssml", KOKORO_PLAIN="1") == said(ssml, "--ssml")


def test_a_loudness_for_files_is_none_for_pipes_and_no_error_without_a_file(world: World) -> None:
    def piped(**environment: str) -> bytes:
        done = subprocess.run(
            [sys.executable, str(world.program), "-o", "-", SENTENCE],
            cwd=world.path, env={**world.environment, **environment}, capture_output=True, check=True,
        )  # fmt: skip
        return done.stdout

    assert piped(KOKORO_LUFS="-30") == piped()
    done = world.say("hello", KOKORO_LUFS="-30")
    assert done.returncode == 3, done.stderr  # there is no sound card, and no word of a file
    assert "lufs" not in done.stderr.lower()


def test_another_shells_calls_are_not_affected_by_the_one_that_starts_the_servers(world: World) -> None:
    fast = written(world, KOKORO_SPEED="2", KOKORO_VOLUME="0.5", KOKORO_PLAIN="1")
    assert len(world.servers()) == 2
    for server in world.servers():
        assert {variable(name) for name in CALL_DEFAULTS} & server.environ().keys() == set()
    slow = written(world)
    assert len(slow) > 1.5 * len(fast)
    world.say("--shutdown", "-q")
    assert np.array_equal(written(world), slow)


def test_what_is_no_setting_is_one_note_that_quiet_silences_and_servers_log(world: World) -> None:
    configure(world, 'voise = "af_sky"\nport = 0\n')
    note = 'config.toml: "voise" is not a setting; did you mean "voice"?'
    done = world.say("-o", "out.wav", "hello")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", f"say.py: {note}\n")
    done = world.say("-o", "out.wav", "hello", KOKORO_SPED="1", KOKORO_COLOR="1")
    command = f"{sys.executable} {world.program}"
    assert done.stderr == f"say.py: {note}; 2 more: see {command} --config\n"
    assert world.say("-q", "-o", "out.wav", "hello").stderr == ""
    logged = [entry for component in ("model_server", "voice_server-af_heart") for entry in world.log(component)]
    assert [entry["note"] for entry in logged if entry["event"] == "not a setting"] == [note, note]


@pytest.mark.parametrize("content", ["port = ", "seed = 'x'", "speed = 'x'", "voice = ['x']", "voise = 'x'"])
def test_whatever_stands_there_servers_can_be_asked_stopped_and_ended(world: World, content: str) -> None:
    assert world.say("-o", "out.wav", "hello").returncode == 0
    configure(world, content)
    stops = world.say("-o", "out.wav", "hello")
    assert (stops.returncode, "config.toml" in stops.stderr) == (0 if "voise" in content else 2, True)
    for arguments in (["--help"], ["--version"], ["-v", "?"], ["--status"], ["--stop"], ["--pause"], ["--resume"],
                      ["--skip"], ["--lex", "list"]):  # fmt: skip
        done = world.say(*arguments)
        assert done.returncode == 0, (arguments, done.stderr)
    assert "pid" in world.say("--status").stdout
    assert world.say("--shutdown").stderr.endswith("say.py: the servers have ended\n")


def test_config_says_what_holds_and_where_it_comes_from(world: World) -> None:
    file = configure(world, 'voise = 1\nspeed = 1.5\nvoice = "jf_alpha"\nlang = "ja"\n')
    done = world.say("--config", "-v", "am_adam", KOKORO_VOLUME="0.5", KOKORO_SPED="x")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[: len(NAMES)]] == list(NAMES)
    rows = dict(zip(NAMES, lines, strict=False))
    assert rows["voice"].split() == ["voice", "am_adam", "--voice"]
    assert rows["speed"].split() == ["speed", "1.5", f"{file}:", "speed"]
    assert rows["volume"].split() == ["volume", "0.5", "KOKORO_VOLUME"]
    assert "the voice's own" in rows["lang"] and rows["lang"].endswith("--voice")
    assert rows["unload_after"].split() == ["unload_after", "1800", "default"]
    assert lines[len(NAMES) :] == [
        'config.toml: "voise" is not a setting; did you mean "voice"?',
        "KOKORO_SPED is not a setting; did you mean KOKORO_SPEED?",
    ]
    starts = {line.rindex("  ") for line in (rows["speed"], rows["volume"], rows["host"], rows["debug"])}
    assert len(starts) == 1, "the sources stand below each other"
    wrong = world.say("--config", KOKORO_SPEED="x", KOKORO_PORT="y")
    assert wrong.returncode == 2
    assert "wrong: KOKORO_SPEED is 'x'; choose 0.25 to 4" in wrong.stdout.splitlines()
    assert "wrong: KOKORO_PORT is 'y'; give a whole number" in wrong.stdout.splitlines()


def test_config_fits_80_columns_with_the_usual_paths(world: World) -> None:
    home = {"HOME": "/home/somebody", "PATH": os.environ["PATH"], "KOKORO_RUNTIME_DIR": str(world.runtime)}
    done = subprocess.run(
        [sys.executable, str(ROOT / "say.py"), "--config"], env=home, capture_output=True, text=True, check=True
    )
    lines = [line for line in done.stdout.splitlines() if not line.startswith("runtime_dir")]
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("cache_dir") and "~/.cache/kokoro" in line for line in lines)


def test_the_settings_stand_in_the_order_of_the_reference() -> None:
    page = (ROOT / "docs" / "reference.md").read_text()
    named = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `KOKORO_")]
    assert named == [variable(name) for name in NAMES]
