"""Stands for the Python of espeak's processes, whose library aborts at "¤" and never returns from "§"."""

import ctypes
import os
import sys

ROOT, PYTHON, *ARGUMENTS = sys.argv[1:]
if "-c" not in ARGUMENTS:
    os.execv(PYTHON, [PYTHON, *ARGUMENTS])  # another program of the server that was told to use us

sys.path.insert(0, ROOT)
from kokoro_common.engine import espeak_worker  # noqa: E402
from kokoro_common.phonemes import espeak_process as espeak_g2p  # noqa: E402

espeak_worker.CHILD_SECONDS = espeak_g2p.SECONDS = 1
speak, phonemes = espeak_worker.EspeakLibrary.speak, espeak_g2p._phonemes


def break_at(text):
    if "¤" in text:
        os.abort()
    if "§" in text:
        ctypes.CDLL(None).sleep(100)


def fragile_speak(self, text):
    break_at(text)
    return speak(self, text)


def fragile_phonemes(backends, options, text):
    break_at(text)
    return phonemes(backends, options, text)


espeak_worker.EspeakLibrary.speak, espeak_g2p._phonemes = fragile_speak, fragile_phonemes
code = ARGUMENTS.index("-c") + 1
sys.argv = ARGUMENTS[code:]
exec(ARGUMENTS[code])
