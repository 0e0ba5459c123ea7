"""Faults are counted: each test says how many times it broke what, and how often the promise held.

The suite runs a tenth of the release figures; FAULTS_FULL=1 (benchmarks/faults.py sets it) runs all of them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FULL = os.environ.get("FAULTS_FULL") == "1"
Shown = Callable[..., None]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("fault")


def times(full: int) -> int:
    """How often to break something: the release figure, or a tenth of it."""
    return full if FULL else max(1, full // 10)


@pytest.fixture
def shown(request: pytest.FixtureRequest) -> Shown:
    """shown("B4", "wrong tokens refused", 1000, of=1000, seconds=2.5): fails unless all held, and notes the figure."""

    def note(row: str, promise: str, held: int, *, of: int, **figures: object) -> None:
        if path := os.environ.get("FAULTS_REPORT"):
            entry = {"row": row, "promise": promise, "held": held, "of": of, **figures, "test": request.node.nodeid}
            with open(path, "a") as file:
                file.write(json.dumps(entry) + "\n")
        assert held == of, f"{row}: {promise}: {held} of {of} {figures}"

    return note
