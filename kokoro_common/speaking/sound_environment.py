"""The environment variables that say where sound goes: the process's own, until another caller's are needed.

Utterances that overlap have a speaker thread each, and each may change them: who reads all variables on another thread
takes `environment`.
"""

from __future__ import annotations

import logging
import os
import threading

from kokoro_common.wire.messages import SOUND_VARIABLES

log = logging.getLogger("kokoro")
_lock = threading.Lock()  # held by who changes the environment, or goes through it


def environment() -> dict[str, str]:
    """All variables of this process."""
    with _lock:
        return dict(os.environ)


def adopt(environment: tuple[str, ...] | None) -> bool:
    """Makes a caller's variables, NAME=value, the process's own. False: they are already, or the caller names none.

    PortAudio, ALSA and PulseAudio's library read them when they are started, which PortAudioStream does again before
    it gives up. Others than SOUND_VARIABLES are passed over.
    """
    if environment is None:
        return False
    pairs = (each.partition("=")[::2] for each in environment if "\0" not in each)
    theirs = {name: value for name, value in pairs if name.startswith(SOUND_VARIABLES)}
    with _lock:
        own = {name: value for name, value in os.environ.items() if name.startswith(SOUND_VARIABLES)}
        if theirs == own:
            return False
        for name in own.keys() - theirs.keys():
            os.environ.pop(name, None)
        os.environ.update(theirs)
    log.info("the sound environment of another caller", extra={"variables": len(theirs)})
    return True
