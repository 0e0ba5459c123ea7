"""The servers of a test's world, for calls of the library in the test's own process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import World


@pytest.fixture
def here(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The test's process lives in its world; the servers are the real ones, with the embedded default."""
    for name, value in world.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(world.path)
    return world


@pytest.fixture
def stub(here: World) -> World:
    """The same with the stub engine, and recorders as speakers."""
    here.start_stub_server()
    return here
