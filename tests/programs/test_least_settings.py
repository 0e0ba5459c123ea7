"""Each setting at its least value works: what cannot work is refused by name."""

from __future__ import annotations

import pytest

from kokoro_common import settings
from kokoro_common.settings import Settings
from tests.conftest import World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

NUMBERS = {name: str(least) for name, least in settings._LEAST.items()}
WHOLE = {"port": "0", "memory_limit": "1", "seed": "0"}
SECONDS = {name for name in Settings._fields if isinstance(getattr(Settings, name), float)}


def test_every_setting_in_seconds_has_a_least_value() -> None:
    assert set(settings._LEAST) == SECONDS


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == "idle_timeout" else pytest.mark.slow)
        for name in [*sorted(NUMBERS), *WHOLE]
    ],
)
def test_a_setting_at_its_least_value_works(stub_world: World, name: str) -> None:
    """Started by the first call, and by the second if that is what it takes."""
    world = stub_world
    assert world.say("--shutdown", "-q").returncode == 0
    least = {**NUMBERS, **WHOLE}[name]
    world.environment[f"KOKORO_{name.upper()}"] = "0" if least == "-1.0" else least
    for _ in range(3):
        done = world.say("-o", "x.wav", "Hello there. This is a second sentence.")
        assert (done.returncode, done.stderr) == (0, "")
        (world.path / "x.wav").unlink()
    spoken = world.say("Hello there.")
    assert (spoken.returncode, spoken.stderr) == (0, "")
    piped = world.say("-o", "x.wav", stdin=b"Hello there. This is a")
    assert (piped.returncode, piped.stderr) == (0, "")
    assert world.status()["model_server"] is None or world.status()["model_server"]["restarts"] == 0
