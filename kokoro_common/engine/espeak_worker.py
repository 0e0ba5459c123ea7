"""espeak-ng's worker process, and the child that it forks for each text. espeak.py says why. Standard library only.

The first request is empty and answered by a greeting in JSON. Every other one is JSON, and its answer is the child's
STATUS, the PCM and the EVENTs.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import signal
import struct

from kokoro_common.worker import Requests

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ctypes
    from typing import Any

STATUS = struct.Struct("<iI")  # exit status of the child, negative if a signal ended it; bytes of PCM
EVENT = struct.Struct("<ii")  # where a word begins in the text, in characters, or CLAUSE_ENDS; and in the PCM
CLAUSE_ENDS = -1
CHILD_SECONDS = 15  # that a child may take; 400 characters take 0.01 to 0.1


def serve(library_path: str, data_path: str) -> None:
    """Main of the worker: answers each request, until there are no more."""
    requests = Requests()
    library: EspeakLibrary | None = None
    for number, request in requests:
        if library is None:
            try:
                library = EspeakLibrary(library_path, data_path)
            except OSError as error:
                requests.answer(number, json.dumps({"error": str(error)}).encode())
                return
            requests.answer(number, json.dumps({"rate": library.rate}).encode())
            continue
        status, spoken = requests.forked(functools.partial(_spoken, library, request))
        requests.answer(number, spoken or STATUS.pack(status, 0))


def _spoken(library: EspeakLibrary, asked: bytes) -> bytes:
    """In the child: the whole answer, if the library survives the text."""
    request = json.loads(asked)
    signal.alarm(CHILD_SECONDS)  # ends this process, whatever the library is at
    library.choose_voice(request["tag"], request["rate"], request["female"])
    pcm, events = library.speak(request["text"])
    signal.alarm(0)
    return STATUS.pack(0, len(pcm)) + pcm + events


class EspeakLibrary:
    """The functions of espeak-ng that are needed, see its speak_lib.h. Raises OSError when it cannot be loaded."""

    _SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS: audio goes to the callback, on the calling thread
    _DONT_EXIT = 0x8000  # espeakINITIALIZE_DONT_EXIT: an error code instead of exit() when data files are missing
    _RATE = 1  # espeakRATE
    _MALE, _FEMALE = 1, 2
    _LAST_EVENT, _WORD, _END = 0, 1, 5  # espeakEVENT_LIST_TERMINATED, _WORD, _END
    _UTF_8, _END_PAUSE = 1, 0x1000  # espeakCHARS_UTF8, espeakENDPAUSE; without espeakSSML and espeakPHONEMES

    def __init__(self, library_path: str, data_path: str) -> None:
        import ctypes

        self._espeak = ctypes.CDLL(library_path)
        self.rate: int = self._espeak.espeak_Initialize(self._SYNCHRONOUS, 0, os.fsencode(data_path), self._DONT_EXIT)
        if self.rate <= 0:
            raise OSError(f"no usable data in {data_path}")
        self._espeak.espeak_ng_SetRandSeed(ctypes.c_long(1))  # else the time of day is the seed
        self._pcm: list[bytes] = []
        self._events: list[bytes] = []

        def take(samples: int | None, count: int, events: Any) -> int:
            if samples:
                self._pcm.append(ctypes.string_at(samples, 2 * count))
            for event in itertools.takewhile(lambda event: event.type != self._LAST_EVENT, events):
                if event.type == self._WORD:
                    self._events.append(EVENT.pack(event.text_position - 1, event.sample))
                elif event.type == self._END:
                    self._events.append(EVENT.pack(CLAUSE_ENDS, event.sample))
            return 0  # go on

        pointer = ctypes.POINTER(_event_type())
        signature = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, pointer)
        self._callback = signature(take)  # held: the library keeps only a pointer
        self._espeak.espeak_SetSynthCallback(self._callback)

    def choose_voice(self, tag: str, rate: int, female: bool) -> None:
        """`rate` in words per minute. Raises LookupError without such a voice: the old one would stay, silently."""
        import ctypes

        voice = _voice_type()
        self._espeak.espeak_GetCurrentVoice.restype = ctypes.POINTER(voice)
        wanted = voice(languages=tag.encode(), gender=self._FEMALE if female else self._MALE)
        self._espeak.espeak_SetVoiceByProperties(ctypes.byref(wanted))
        current = self._espeak.espeak_GetCurrentVoice().contents.languages
        if current[1:] != tag.encode():  # the first byte is a priority
            raise LookupError(tag)
        self._espeak.espeak_SetParameter(self._RATE, rate, 0)

    def speak(self, text: str) -> tuple[bytes, bytes]:
        """int16 PCM in the byte order of the machine, and EVENTs."""
        data = text.encode()
        flags = self._UTF_8 | self._END_PAUSE
        if error := self._espeak.espeak_Synth(data, len(data) + 1, 0, 1, 0, flags, None, None):
            raise OSError(f"espeak_Synth gives {error}")
        return b"".join(self._pcm), b"".join(self._events)


def _voice_type() -> type[ctypes.Structure]:
    import ctypes

    class Voice(ctypes.Structure):
        """espeak_VOICE of speak_lib.h."""

        _fields_ = (
            ("name", ctypes.c_char_p),
            ("languages", ctypes.c_char_p),
            ("identifier", ctypes.c_char_p),
            ("gender", ctypes.c_ubyte),
            ("age", ctypes.c_ubyte),
            ("variant", ctypes.c_ubyte),
            ("unused", ctypes.c_ubyte),
            ("score", ctypes.c_int),
            ("spare", ctypes.c_void_p),
        )

    return Voice


def _event_type() -> type[ctypes.Structure]:
    import ctypes

    class Event(ctypes.Structure):
        """espeak_EVENT of speak_lib.h."""

        _fields_ = (
            ("type", ctypes.c_int),
            ("unique_identifier", ctypes.c_uint),
            ("text_position", ctypes.c_int),  # in characters, from 1
            ("length", ctypes.c_int),  # of the word; wrong for numbers
            ("audio_position", ctypes.c_int),  # in ms
            ("sample", ctypes.c_int),  # in samples since the beginning of the text
            ("user_data", ctypes.c_void_p),
            ("id", ctypes.c_char * 8),  # a union
        )

    return Event
