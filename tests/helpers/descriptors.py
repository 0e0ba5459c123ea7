"""A process that has no descriptor left."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator

STANDARD = 3  # standard input, output and error, which are open


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """Nothing can be opened meanwhile; what is open stays so."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (STANDARD, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def open_descriptors() -> set[str]:
    """Empty where the system does not tell."""
    return set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()
