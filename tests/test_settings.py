"""Flag > environment > config.toml > default, and a wrong value is named where it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from kokoro_common.errors import UsageError
from kokoro_common.settings import Settings, resolve


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


@pytest.mark.parametrize(
    ("variable", "value"),
    [("PORT", "x"), ("PORT", "-1"), ("PORT", "99999"), ("ENGINE", "piper"), ("DEVICE", "tpu"), ("OFFLINE", "maybe"),
     ("IDLE_TIMEOUT", "nan"), ("KEEP_ALIVE", "inf"), ("SEED", "1.5")],
)  # fmt: skip
def test_a_wrong_value_is_named(tmp_path: Path, variable: str, value: str) -> None:
    with pytest.raises(UsageError, match=variable.lower() if variable in ("ENGINE", "DEVICE") else f"(?i){variable}"):
        resolve({}, environment(tmp_path, **{f"KOKORO_{variable}": value}))


@pytest.mark.parametrize("content", ["port = ", "voice = 'af_heart'\n", "\xff"])
def test_a_bad_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.toml").write_bytes(content.encode("latin-1"))
    with pytest.raises(UsageError, match=r"config\.toml"):
        resolve({}, environment(tmp_path))


def test_settings_are_frozen() -> None:
    with pytest.raises(AttributeError):
        Settings().port = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        Settings(colour="red")  # type: ignore[call-arg]
