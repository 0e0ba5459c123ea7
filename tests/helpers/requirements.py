"""What some tests need of the machine: without it they are skipped, with CI=true they fail."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def missing(reason: str) -> NoReturn:
    """Skips the running test or fixture and says why; in CI nothing may be missing, so there it fails."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def program(name: str, package: str) -> str:
    """The path of a program that a Debian package brings."""
    return shutil.which(name) or missing(f"{name} is missing: apt-get install {package}")
