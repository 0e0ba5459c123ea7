"""A caller's sound environment becomes the process's own as a whole, and nothing else of it does."""

from __future__ import annotations

import os
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from kokoro_common.speaking import sound_environment
from kokoro_common.speaking.sound_environment import adopt
from kokoro_common.wire.messages import SOUND_VARIABLES


def sound() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(SOUND_VARIABLES)}


def test_it_is_taken_over_as_a_whole_and_nothing_besides(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in sound():
        monkeypatch.delenv(name)
    monkeypatch.setenv("PULSE_SERVER", "unix:/old")
    monkeypatch.setenv("ALSA_CARD", "old")
    with monkeypatch.context():
        path = os.environ["PATH"]
        assert adopt(("PULSE_SERVER=unix:/a=b", "XDG_RUNTIME_DIR=/run/me", "PATH=/evil", "PULSE_X=\0", "LD_PRELOAD=x"))
        assert sound() == {"PULSE_SERVER": "unix:/a=b", "XDG_RUNTIME_DIR": "/run/me"}
        assert (os.environ["PATH"], os.environ.get("LD_PRELOAD")) == (path, None)
        assert not adopt(("XDG_RUNTIME_DIR=/run/me", "PULSE_SERVER=unix:/a=b"))  # it is the same
        assert not adopt(None)  # a client that does not say
        assert adopt(())
        assert sound() == {}


def test_two_that_adopt_at_once_do_so_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is held up in the midst of it, for as long as the second one needs."""

    class Environment(dict[str, str]):
        reading = threading.Event()
        second_through = threading.Event()
        reads = 0

        def items(self) -> Any:
            Environment.reads += 1
            found = list(super().items())
            if Environment.reads == 1:
                self.reading.set()
                self.second_through.wait(0.3)
            return found

    environment = Environment(PULSE_SERVER="unix:/old", HOME="/home/me")
    monkeypatch.setattr(sound_environment, "os", SimpleNamespace(environ=environment))
    seen: list[dict[str, str]] = []

    def second() -> None:
        assert environment.reading.wait(10)
        seen.append(sound_environment.environment())
        adopt(("ALSA_CARD=second",))
        environment.second_through.set()

    thread = threading.Thread(target=second)
    thread.start()
    assert adopt(("ALSA_CARD=first",))
    thread.join(10)
    assert seen == [{"HOME": "/home/me", "ALSA_CARD": "first"}]
    assert dict(environment) == {"HOME": "/home/me", "ALSA_CARD": "second"}
