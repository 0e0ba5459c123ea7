"""Flag > environment > config.toml > default; a wrong value is named where it stands, a wrong name stops nothing."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from kokoro_common.command.doctor.examination import judged
from kokoro_common.command.doctor.files import config_directory
from kokoro_common.command.doctor.findings import Check
from kokoro_common.errors import UsageError
from kokoro_common.settings import (
    CALL_DEFAULTS,
    NAMES,
    Settings,
    look_up,
    resolve,
    settings_in,
    variable,
    without_call_defaults,
)

ROOT = Path(__file__).parent.parent


def environment(path: Path, **variables: str) -> dict[str, str]:
    return {"KOKORO_CONFIG_DIR": str(path), **variables}


def test_the_order_is_flag_environment_file_default(tmp_path: Path) -> None:
    assert resolve({}, environment(tmp_path)).port == 5000
    (tmp_path / "config.toml").write_text("port = 6000\noffline = true\n")
    assert resolve({}, environment(tmp_path)).port == 6000
    assert resolve({}, environment(tmp_path)).offline is True
    assert resolve({}, environment(tmp_path, KOKORO_PORT="7000")).port == 7000
    assert resolve({"port": 8000}, environment(tmp_path, KOKORO_PORT="7000")).port == 8000
    assert resolve({"port": None}, environment(tmp_path, KOKORO_PORT="7000")).port == 7000


def test_a_child_resolves_what_its_parent_had(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("port = 6000\n")
    first = resolve({"engine": "espeak"}, environment(tmp_path, KOKORO_DEBUG="1", KOKORO_CACHE_DIR="/x"))
    assert resolve({}, first.environment()) == first


WRONG = [
    ("PORT", "x", "'x'; give a whole number"),
    ("PORT", "-1", "-1; choose one from 1 to 65000, or 0 for any free port"),
    ("PORT", "99999", "99999; choose one from 1 to 65000, or 0 for any free port"),
    ("ENGINE", "piper", "'piper'; choose one of auto, kokoro, espeak"),
    ("DEVICE", "tpu", "'tpu'; choose one of auto, cpu, cuda, mps"),
    ("PRECISION", "fp8", "'fp8'; choose one of auto, fp32, bf16"),
    ("OFFLINE", "maybe", "'maybe'; give 0 or 1"),
    ("IDLE_TIMEOUT", "nan", "nan; give a number of seconds, at least -1"),
    ("KEEP_ALIVE", "inf", "inf; give a number of seconds, at least -1"),
    ("UNLOAD_AFTER", "-2", "-2; give a number of seconds, at least -1"),
    ("STUCK_TIMEOUT", "0.5", "0.5; give a number of seconds, at least 1"),
    ("LEAD_IN", "-1", "-1; give a number of seconds, at least 0"),
    ("MEMORY_LIMIT", "-1", "-1; give a number of MB, or 0 for none"),
    ("SEED", "1.5", "'1.5'; give a whole number"),
]


@pytest.mark.parametrize(("variable", "value", "complaint"), WRONG)
def test_a_wrong_value_is_named_where_it_stands(tmp_path: Path, variable: str, value: str, complaint: str) -> None:
    key, file = variable.lower(), tmp_path / "config.toml"
    with pytest.raises(UsageError) as wrong:
        resolve({}, environment(tmp_path, **{f"KOKORO_{variable}": value}))
    assert str(wrong.value) == f"KOKORO_{variable} is {complaint}"
    with pytest.raises(UsageError) as wrong:
        resolve({key: value}, environment(tmp_path))
    assert str(wrong.value) == f"--{key.replace('_', '-')} is {complaint}"
    file.write_text(f"{key} = '{value}'\n")
    with pytest.raises(UsageError) as wrong:
        resolve({}, environment(tmp_path))
    assert str(wrong.value) == f"{file}: {key} is {complaint}"
    right = str(getattr(Settings, key)).lower()  # what is not used is not judged
    assert resolve({}, environment(tmp_path, **{f"KOKORO_{variable}": right})).as_dict()[key] == getattr(Settings, key)


def test_every_number_of_seconds_has_a_least_value(tmp_path: Path) -> None:
    for name in Settings._fields:
        if isinstance(getattr(Settings, name), float):
            with pytest.raises(UsageError, match=f"KOKORO_{name.upper()} is -9; give a number of seconds"):
                resolve({}, environment(tmp_path, **{f"KOKORO_{name.upper()}": "-9"}))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "::1", "localhost", "127.0.0.2", "192.168.1.2", "127.0.0.1 "])
def test_any_other_host_than_the_loopback_is_refused_with_the_reason(tmp_path: Path, host: str) -> None:
    with pytest.raises(UsageError) as refused:
        resolve({}, environment(tmp_path, KOKORO_HOST=host))
    assert str(refused.value) == (
        f"KOKORO_HOST is {host!r}, but Kokoro Say listens on 127.0.0.1 only; "
        "leave it out, and from another machine call it by ssh: ssh HOST kokoro-say TEXT"
    )
    assert resolve({}, environment(tmp_path, KOKORO_HOST="127.0.0.1")).host == "127.0.0.1"


def test_a_path_with_a_nul_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('cache_dir = "a\\u0000b"\n')
    with pytest.raises(UsageError, match=r"config\.toml: cache_dir holds a NUL; remove it"):
        resolve({}, environment(tmp_path))


@pytest.mark.parametrize("content", ["port = ", "port = [1, 2]\n", "[port]\nnumber = 1\n", "port = 2026-01-01", "\xff"])
def test_a_bad_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.toml").write_bytes(content.encode("latin-1"))
    with pytest.raises(UsageError, match=r"config\.toml"):
        resolve({}, environment(tmp_path))


@pytest.mark.parametrize(
    ("content", "note"),
    [
        ('voise = "af_heart"', 'config.toml: "voise" is not a setting; did you mean "voice"?'),
        ("audio-device = 'USB'", 'config.toml: "audio-device" is not a setting; did you mean "audio_device"?'),
        ("[voice_servers]\nport = 1", 'config.toml: "voice_servers" is not a setting; {say} --config lists all'),
        ("idel_timeout = 'x'\nqqq = 1", 'config.toml: "idel_timeout" is not a setting; did you mean "idle_timeout"?; '
                                        "1 more: see {say} --config"),
        ('"\\u001b[31m\\n" = 1', 'config.toml: "?[31m?" is not a setting; {say} --config lists all'),
        (f"{'x' * 3000} = 1", f'config.toml: "{"x" * 40}..." is not a setting; {{say}} --config lists all'),
    ],
)  # fmt: skip
def test_a_key_that_is_no_setting_is_one_line_and_stops_nothing(tmp_path: Path, content: str, note: str) -> None:
    (tmp_path / "config.toml").write_text(f"seed = 3\n{content}\n")
    assert look_up({}, environment(tmp_path)).note == note
    assert resolve({}, environment(tmp_path)).seed == 3


def test_a_variable_that_is_no_setting_is_one_line_and_stops_nothing(tmp_path: Path) -> None:
    strange = environment(tmp_path, KOKORO_IDLETIMEOUT="x", KOKORO_SEED="3", kokoro_voice="x", XKOKORO_SEED="x")
    assert look_up({}, strange).note == "KOKORO_IDLETIMEOUT is not a setting; did you mean KOKORO_IDLE_TIMEOUT?"
    assert resolve({}, strange).seed == 3
    assert look_up({}, environment(tmp_path, KOKORO_SEED="x")).note == ""


def test_every_variable_that_the_project_names_is_a_setting(tmp_path: Path) -> None:
    """Else its own tests, services and benchmarks would be told that theirs is none."""
    folders = ("kokoro_common", "tests/helpers", "tests/faults", "benchmarks")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    sources = [*files, *ROOT.glob("*.py"), *(ROOT / "docs").glob("*.service"), ROOT / "README.md", ROOT / ".ci" / "run"]
    found = {name for path in sources for name in re.findall(r"\bKOKORO_[A-Z_]*[A-Z]\b", path.read_text())}
    assert len(found) > 10
    assert found - {variable(name) for name in NAMES} == set()


def test_what_does_not_fit_is_left_at_its_default_for_what_must_work(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('port = "x"\ncache_dir = "/x"\n')
    settings, problems = settings_in(look_up({}, environment(tmp_path, KOKORO_SEED="y", KOKORO_RUNTIME_DIR="/r")))
    assert (settings.port, settings.seed, settings.cache_dir, settings.runtime_dir) == (5000, 0, "/x", "/r")
    assert [str(each).rsplit("/", 1)[-1] for each in problems] == [
        "config.toml: port is 'x'; give a whole number",
        "KOKORO_SEED is 'y'; give a whole number",
    ]
    (tmp_path / "config.toml").write_text("port = ")
    settings, problems = settings_in(look_up({}, environment(tmp_path, KOKORO_SEED="3")))
    assert (settings.seed, len(problems)) == (3, 1)


def test_what_a_shell_prefers_for_its_calls_does_not_reach_the_servers(tmp_path: Path) -> None:
    own = {variable(name): "x" for name in CALL_DEFAULTS}
    others = environment(tmp_path, KOKORO_PORT="7000", KOKORO_VOICES="x")
    assert without_call_defaults({**own, **others}) == others
    assert own.keys() & resolve({}, {**own, **others}).environment().keys() == set()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("owner", [12345, 54321])
def test_under_sudo_the_settings_of_the_homes_owner_count_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: int
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    config = tmp_path / ".config" / "kokoro"
    config.mkdir(0o755, parents=True)
    config.chmod(0o755)
    (config / "config.toml").write_text("seed = 3\n")
    (config / "config.toml").chmod(0o644)
    os.chown(tmp_path, 12345, -1)
    for directory, file in ((owner, 0), (0, owner), (owner, owner)):
        os.chown(config, directory, -1)
        os.chown(config / "config.toml", file, -1)
        found = look_up({}, {})
        settings, _ = settings_in(found)
        doctor = judged(Check(name="config", look=config_directory), settings)
        theirs = owner != 12345
        assert (found.problem is not None, settings.seed) == (theirs, 0 if theirs else 3)
        assert doctor.exit_code == (2 if theirs else 0)


def test_settings_are_frozen() -> None:
    with pytest.raises(AttributeError):
        Settings().port = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        Settings(colour="red")  # type: ignore[call-arg]
