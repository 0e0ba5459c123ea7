"""Threads that cannot be started."""

from __future__ import annotations

import threading

import pytest


def refuse_threads(monkeypatch: pytest.MonkeyPatch, beginning: str) -> None:
    """From now on no thread starts whose name begins so."""
    start = threading.Thread.start

    def start_but_not_that_one(thread: threading.Thread) -> None:
        if thread.name.startswith(beginning):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_but_not_that_one)


def alive(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]
