"""The embedded default voice: espeak-ng, from the library in the espeakng-loader wheel. Torch-free.

    EspeakEngine --a line of JSON--> worker process --fork--> child: sets the voice, speaks one text
                 <-- status, int16 PCM --------------------------'

The library is not called in the process that asks, for two reasons, both seen in 1.52. It crashes: "a.b.c.d." fifty
times is a segmentation fault, for which the model server must not die. And it has no reset: its pitch flutter runs on
from text to text, even through espeak_Terminate, so that no text ever sounds the same twice; every child starts from
the state just after espeak_Initialize. The worker has neither numpy nor site-packages: 10 MB, and 15 ms a text.
"""

from __future__ import annotations

import json
import os
import re
import struct
import sys

from kokoro_common.audio import SAMPLE_RATE, Resampler
from kokoro_common.errors import KokoroError, ModelUnavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ctypes
    import subprocess
    from typing import Any

    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

_TAGS = {  # language letter (voices.LANGUAGES): espeak-ng's tag
    "a": "en-us",
    "b": "en-gb",
    "e": "es",
    "f": "fr-fr",
    "h": "hi",
    "i": "it",
    "j": "ja",
    "p": "pt-br",
    "z": "cmn",
}

WORDS_PER_MINUTE = 175  # at speed 1.0: espeak-ng's own default
_SLOWEST = 80  # words per minute; the library knows nothing slower. Up to 450 it synthesizes faster, above it skips

_REPLY = struct.Struct("<iI")  # exit status of the child, negative if a signal ended it; bytes of PCM that follow
_CPU_SECONDS = 30  # that a child may use; 400 characters take 0.01 to 0.1

# What the library would not take as text: its embedded commands begin with a control character.
_NO_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
# It drops, silently, what is beyond about 160 bytes of a word, 25 digits of a number or 1,000 phonemes of a clause.
_WIDE_ENDS = "、。，；：！？।॥"  # of clauses, with no blank after them
_LONG_WORD = re.compile(rf"\d{{18}}(?=\d)|[^\s{_WIDE_ENDS}]{{32}}(?=\w)")
_MAX_CLAUSE_PHONEMES = 900


class EspeakEngine:
    """Text to audio in espeak-ng's voices. For one thread. `close()` ends the worker; so does the end of this process.

    Raises ModelUnavailable when the library cannot be loaded.
    """

    def __init__(self) -> None:
        self._worker, self._rate = _started_worker()

    def synthesize(self, text: str, lang: str, speed: float, female: bool) -> Samples:
        """float32 (frames,) at 24 kHz, with the pause that the last punctuation asks for. Blocks, 20 ms for a sentence.

        The same arguments give the same samples, whatever was spoken before. `lang` is a letter of voices.LANGUAGES;
        below speed 0.46 the speech gets no slower. Nothing in the text is a command: no SSML, no [[phonemes]].
        Raises ModelUnavailable if the library lacks the language, KokoroError if it cannot speak the text.
        """
        import numpy as np

        words = _within_limits(_NO_TEXT.sub(" ", text))
        rate = max(_SLOWEST, round(WORDS_PER_MINUTE * speed))
        pcm = np.frombuffer(self._spoken(words, _TAGS[lang], rate, female), np.dtype("<i2"))
        resampler = Resampler(self._rate, SAMPLE_RATE)
        return np.concatenate((resampler.feed(pcm.astype(np.float32) / np.float32(32_768)), resampler.flush()))

    def close(self) -> None:
        _end(self._worker)

    def _spoken(self, text: str, tag: str, rate: int, female: bool) -> bytes:
        """PCM of a text; of its two halves, if the library crashes on the whole."""
        status, pcm = self._answer({"text": text, "tag": tag, "rate": rate, "female": female})
        if status == 0:
            return pcm
        if status > 0:
            raise ModelUnavailable(f"espeak-ng cannot speak {tag}", "reinstall espeakng-loader")
        if len(text) < 2:
            raise KokoroError(f"espeak-ng crashes on {text!r}", "leave it out")
        blank = text.find(" ", len(text) // 2, -1)
        middle = len(text) // 2 if blank < 0 else blank
        return self._spoken(text[:middle], tag, rate, female) + self._spoken(text[middle:], tag, rate, female)

    def _answer(self, request: dict[str, object]) -> tuple[int, bytes]:
        """Asks the worker; a new one, if it was killed: it holds nothing that could be lost."""
        line = json.dumps(request).encode() + b"\n"
        try:
            return _exchange(self._worker, line)
        except (OSError, EOFError):
            _end(self._worker)
            self._worker, self._rate = _started_worker()
        try:
            return _exchange(self._worker, line)
        except (OSError, EOFError) as error:
            raise KokoroError("espeak-ng's worker process was ended twice", "see whether memory runs out") from error


def _within_limits(text: str) -> str:
    """The text with a blank in words, and a comma in clauses, that are too long for the library."""
    words = _LONG_WORD.sub(r"\g<0> ", text).split()
    phonemes = 0  # of the clause so far, at the most
    for index, word in enumerate(words):
        longest = sum(10 if letter.isdigit() else 5 if letter >= "\u2e80" else 4 for letter in word)
        phonemes += longest
        if phonemes > _MAX_CLAUSE_PHONEMES and index:
            words[index - 1] += ","
            phonemes = longest
        if word[-1] in ",.;:!?…" + _WIDE_ENDS:
            phonemes = 0
    return " ".join(words)


def _started_worker() -> tuple[subprocess.Popen[bytes], int]:
    """The worker and the sample rate of its library."""
    import subprocess

    try:
        import espeakng_loader

        library, data = espeakng_loader.get_library_path(), espeakng_loader.get_data_path()
    except (ImportError, RuntimeError) as error:
        raise ModelUnavailable(f"espeak-ng is not installed: {error}", "reinstall espeakng-loader") from error
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    code = "import sys; sys.path.insert(0, sys.argv[1]); from kokoro_common import espeak; espeak.serve(*sys.argv[2:])"
    command = [sys.executable, "-I", "-S", "-c", code, root, library, data]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert worker.stdout is not None
    greeting = json.loads(worker.stdout.readline() or '{"error": "its process ended"}')
    if "error" in greeting:
        _end(worker)
        raise ModelUnavailable(
            f"espeak-ng's library cannot be loaded: {greeting['error']}", "reinstall espeakng-loader"
        )
    return worker, greeting["rate"]


def _exchange(worker: subprocess.Popen[bytes], line: bytes) -> tuple[int, bytes]:
    assert worker.stdin is not None and worker.stdout is not None
    worker.stdin.write(line)
    worker.stdin.flush()
    head = worker.stdout.read(_REPLY.size)
    if len(head) < _REPLY.size:
        raise EOFError
    status, length = _REPLY.unpack(head)
    pcm = worker.stdout.read(length)
    if len(pcm) < length:
        raise EOFError
    return status, pcm


def _end(worker: subprocess.Popen[bytes]) -> None:
    import contextlib

    assert worker.stdin is not None and worker.stdout is not None
    with contextlib.suppress(OSError):  # a request that never reached a dead worker
        worker.stdin.close()
    worker.stdout.close()
    worker.wait()


# --- In the worker ---------------------------------------------------------------------------------------------------


def serve(library_path: str, data_path: str) -> None:
    """Main of the worker: greets, then answers each line of its standard input with status and PCM, until it ends."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program that asks
    try:
        library = _Library(library_path, data_path)
    except OSError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return
    print(json.dumps({"rate": library.rate}), flush=True)
    for line in sys.stdin.buffer:
        child = os.fork()
        if child == 0:
            _speak_and_exit(library, json.loads(line))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status != 0:
            _write(_REPLY.pack(status, 0))


def _speak_and_exit(library: _Library, request: dict[str, Any]) -> None:
    """The child: one answer on the standard output, if the library survives the text. Never returns."""
    import resource
    import traceback

    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
        library.choose_voice(request["tag"], request["rate"], request["female"])
        pcm = library.speak(request["text"])
        _write(_REPLY.pack(0, len(pcm)) + pcm)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


class _Library:
    """The functions of espeak-ng that are needed, see its speak_lib.h. Raises OSError when it cannot be loaded."""

    _SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS: audio goes to the callback, on the calling thread
    _DONT_EXIT = 0x8000  # espeakINITIALIZE_DONT_EXIT: an error code instead of exit() when data files are missing
    _RATE = 1  # espeakRATE
    _MALE, _FEMALE = 1, 2
    _UTF_8, _END_PAUSE = 1, 0x1000  # espeakCHARS_UTF8, espeakENDPAUSE; without espeakSSML and espeakPHONEMES

    def __init__(self, library_path: str, data_path: str) -> None:
        import ctypes

        self._espeak = ctypes.CDLL(library_path)
        self.rate: int = self._espeak.espeak_Initialize(self._SYNCHRONOUS, 0, os.fsencode(data_path), self._DONT_EXIT)
        if self.rate <= 0:
            raise OSError(f"no usable data in {data_path}")
        self._espeak.espeak_ng_SetRandSeed(ctypes.c_long(1))  # else the time of day is the seed
        self._pcm: list[bytes] = []

        def take(samples: int | None, count: int, _events: int) -> int:
            if samples:
                self._pcm.append(ctypes.string_at(samples, 2 * count))
            return 0  # go on

        signature = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
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

    def speak(self, text: str) -> bytes:
        """int16 PCM in the byte order of the machine."""
        data = text.encode()
        flags = self._UTF_8 | self._END_PAUSE
        if error := self._espeak.espeak_Synth(data, len(data) + 1, 0, 1, 0, flags, None, None):
            raise OSError(f"espeak_Synth gives {error}")
        return b"".join(self._pcm)


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
