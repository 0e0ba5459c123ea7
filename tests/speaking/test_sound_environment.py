"""A caller's sound environment becomes the process's own as a whole, and nothing else of it does."""

from __future__ import annotations

import os

import pytest

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
