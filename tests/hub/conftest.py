"""The hub on loopback that huggingface_hub's real client talks to."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.hub_setting import MakeHub, Setting, contents, wheel


@pytest.fixture
def setting(local_hub: MakeHub, tmp_path: Path) -> Setting:
    return Setting(local_hub(contents(), wheel=wheel()), tmp_path)
