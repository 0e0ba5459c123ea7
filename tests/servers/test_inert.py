"""Making what the servers are made of touches nothing: it is `run` and `start` that open, bind, hook and begin."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

import model_server
import voice_server
from kokoro_common.daemon.logs import Forwarding
from kokoro_common.engine.espeak import EspeakEngine
from kokoro_common.settings import Settings
from kokoro_common.sound.player import Player
from kokoro_common.sound.portaudio import PortAudioStream
from kokoro_common.speaking.link import Link
from kokoro_common.speaking.ports import Model, Waits
from kokoro_common.speaking.speaker_thread import SpeakerThread
from kokoro_common.speaking.turns import Turns
from kokoro_common.synthesis.floor import Floor
from kokoro_common.synthesis.ledger import Ledger
from kokoro_common.synthesis.loader import Loader
from kokoro_common.synthesis.roster import Roster
from kokoro_common.synthesis.scheduler import Scheduler
from kokoro_common.synthesis.synthesis import Synthesis
from kokoro_common.synthesis.voice_starter import VoiceStarter
from kokoro_common.wire.server import Inbox, Switchboard
from tests.helpers.small_world import Life, Runtime


def surroundings(folder: Path) -> dict[str, object]:
    """All that a constructor could change outside of what it makes."""
    return {
        "threads": {thread.name for thread in threading.enumerate()},
        "descriptors": sorted(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else [],
        "children": sorted(os.listdir(f"/proc/{os.getpid()}/task")) if os.path.isdir("/proc/self/task") else [],
        "files": sorted(str(path) for path in folder.rglob("*")),
        "hooks": (sys.excepthook, threading.excepthook),
        "environment": dict(os.environ),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)],
        "log handlers": list(logging.getLogger("kokoro").handlers),
        "switch interval": sys.getswitchinterval(),
    }


def makers(folder: Path) -> dict[str, Callable[[], object]]:
    settings = Settings(
        runtime_dir=str(folder / "runtime"), cache_dir=str(folder / "cache"), log_dir=str(folder / "logs"),
        config_dir=str(folder / "config"), port=0,
    )  # fmt: skip
    runtime, life, nothing = cast(Any, Runtime()), cast(Any, Life()), cast(Any, None)
    inbox = Inbox()
    loader = Loader(settings, inbox.report)
    player = Player(PortAudioStream)
    return {
        "ModelServer": lambda: model_server.ModelServer(settings, runtime, life),
        "VoiceServer": lambda: voice_server.VoiceServer(settings, runtime, "af_heart", nothing, life),
        "Turns": lambda: Turns(Model(print), lambda overlap: nothing, Waits(1.0, 2.0), lambda: 0.0),
        "SpeakerThread": lambda: SpeakerThread(runtime, player, inbox.report, floor_for="voice-af_heart"),
        "Player": lambda: Player(PortAudioStream),
        "Link": lambda: Link(settings, runtime, inbox),
        "Forwarding": lambda: Forwarding("voice", lambda line: True),
        "Switchboard": lambda: Switchboard("model", 0, inbox, logging.getLogger("kokoro")),
        "Synthesis": lambda: Synthesis(loader, str(folder / "espeak"), debug=False),
        "Loader": lambda: Loader(settings, inbox.report),
        "VoiceStarter": lambda: VoiceStarter(settings, runtime, "voice_server.py", inbox.report),
        "EspeakEngine": EspeakEngine,
        "Scheduler": Scheduler,
        "Ledger": Ledger,
        "Roster": Roster,
        "Floor": lambda: Floor(print, print),
    }


@pytest.mark.parametrize("name", sorted(makers(Path("/nowhere"))))
def test_making_one_touches_nothing(tmp_path: Path, name: str) -> None:
    make = makers(tmp_path)[name]
    before = surroundings(tmp_path)
    made = [make() for _ in range(3)]
    assert surroundings(tmp_path) == before
    assert len(made) == 3
