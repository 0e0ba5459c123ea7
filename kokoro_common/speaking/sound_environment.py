"""The environment variables that say where sound goes: the process's own, until another caller's are needed."""

from __future__ import annotations

import logging
import os

from kokoro_common.wire.messages import SOUND_VARIABLES

log = logging.getLogger("kokoro")


def adopt(environment: tuple[str, ...] | None) -> bool:
    """Makes a caller's variables, NAME=value, the process's own. False: they are already, or the caller names none.

    PortAudio, ALSA and PulseAudio's library read them when they are started, which PortAudioStream does again before
    it gives up. Others than SOUND_VARIABLES are passed over.
    """
    if environment is None:
        return False
    pairs = (each.partition("=")[::2] for each in environment if "\0" not in each)
    theirs = {name: value for name, value in pairs if name.startswith(SOUND_VARIABLES)}
    own = {name: value for name, value in os.environ.items() if name.startswith(SOUND_VARIABLES)}
    if theirs == own:
        return False
    for name in own.keys() - theirs.keys():
        del os.environ[name]
    os.environ.update(theirs)
    log.info("the sound environment of another caller", extra={"variables": len(theirs)})
    return True
