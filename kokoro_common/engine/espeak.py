"""The embedded default voice: espeak-ng, from the library in the espeakng-loader wheel. Torch-free.

    EspeakEngine --a line of JSON--> worker process --fork--> child: sets the voice, speaks one text
                 <-- status, int16 PCM, events ------------------'

The library is not called in the process that asks, for two reasons, both seen in 1.52. It crashes: "a.b.c.d." fifty
times is a segmentation fault, for which the model server must not die. And it has no reset: its pitch flutter runs on
from text to text, even through espeak_Terminate, so that no text ever sounds the same twice; every child starts from
the state just after espeak_Initialize. The worker has neither numpy nor site-packages: 10 MB, and 15 ms a text.
"""

from __future__ import annotations

import bisect
import itertools
import json
import os
import re
import signal
import struct
import sys

from kokoro_common.errors import KokoroError, ModelUnavailable
from kokoro_common.record import Record
from kokoro_common.sound.samples import SAMPLE_RATE, Resampler
from kokoro_common.text.marks import WIDE_COMMAS, WIDE_STOPS
from kokoro_common.worker import command as worker_command

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ctypes
    import subprocess
    from collections.abc import Iterator
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

_REPLY = struct.Struct("<iII")  # exit status of the child, negative if a signal ended it; bytes of PCM, of events
_EVENT = struct.Struct("<ii")  # where a word begins in the text, in characters, or _CLAUSE_ENDS; and in the PCM
_CLAUSE_ENDS = -1
_SECONDS = 15  # that a child may take; 400 characters take 0.01 to 0.1

# What the library would not take as text: its embedded commands begin with a control character.
_NO_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
# It drops, silently, what is beyond about 160 bytes of a word, 25 digits of a number or 1,000 phonemes of a clause.
_WIDE_ENDS = WIDE_COMMAS + WIDE_STOPS.replace("｡", "")  # end a clause without a blank; ｡ does not in every language
_LONG_WORD = re.compile(rf"\d{{18}}(?=\d)|[^\s{_WIDE_ENDS}]{{32}}(?=\w)")
_MAX_CLAUSE_PHONEMES = 900

# What stands between blanks, dashes, brackets and quotes; of ideographs, which know no blanks, each one.
_APART = re.escape('—–…()[]{}<>"“”«»¿¡।॥')
_RUN = re.compile(rf"[\u2e80-\U0010ffff]|[^\s{_APART}\u2e80-\U0010ffff]+")
_AROUND_WORDS = " ,.;:!?'‘’-—–…()[]{}<>\"“”«»¿¡" + _WIDE_ENDS
_QUIET = 328  # of 32,768, -40 dB: what is left of the echo of the female voices 0.1 s after a clause


class SpokenWord(Record):
    """A word, or several that the library fuses ("of the"). Words are in order and do not overlap."""

    start: int  # in characters of the text as it was given
    end: int  # behind its last character
    begins: int  # in frames at 24 kHz
    ends: int  # behind its last frame


class Speech(Record):
    samples: Samples  # float32 (frames,) at 24 kHz
    words: tuple[SpokenWord, ...]


class EspeakEngine:
    """Text to audio in espeak-ng's voices. For one thread. `close()` ends the worker; so does the end of this process.

    Raises ModelUnavailable when the library cannot be loaded.
    """

    def __init__(self) -> None:
        self._worker, self._rate = _started_worker()

    def synthesize(self, text: str, lang: str, speed: float, female: bool) -> Speech:
        """Speech with the pause that the last punctuation asks for. Blocks, 20 ms for a sentence.

        The same arguments give the same samples, whatever was spoken before. `lang` is a letter of voices.LANGUAGES;
        below speed 0.46 the speech gets no slower. Nothing in the text is a command: no SSML, no [[phonemes]].
        A word begins at the sample that the library says; it ends where the next begins, less the quiet before that.
        Above speed 2.57 the library stretches time afterwards, and words are up to 50 ms off.
        Raises ModelUnavailable if the library lacks the language, KokoroError if it cannot speak the text.
        """
        import numpy as np

        text = _NO_TEXT.sub(" ", text)
        line = _within_limits(text)
        places = _places(line, text)
        rate = max(_SLOWEST, round(WORDS_PER_MINUTE * speed))
        data, events = self._spoken(line, _TAGS[lang], rate, female)
        pcm = np.frombuffer(data, np.dtype("<i2"))
        resampler = Resampler(self._rate, SAMPLE_RATE)
        samples = np.concatenate((resampler.feed(pcm.astype(np.float32) / np.float32(32_768)), resampler.flush()))
        words = tuple(
            SpokenWord(
                start=places[start],
                end=places[end - 1] + 1,
                begins=min(len(samples), round(begins * SAMPLE_RATE / self._rate)),
                ends=min(len(samples), round(_loud_until(pcm, begins, ends) * SAMPLE_RATE / self._rate)),
            )
            for start, end, begins, ends in _words(line, events, len(pcm))
        )
        return Speech(samples=samples, words=words)

    def close(self) -> None:
        _end(self._worker)

    def _spoken(self, text: str, tag: str, rate: int, female: bool) -> tuple[bytes, list[tuple[int, int]]]:
        """PCM and events of a text; of its two halves, if the library crashes on the whole."""
        status, pcm, events = self._answer({"text": text, "tag": tag, "rate": rate, "female": female})
        if status == 0:
            return pcm, list(_EVENT.iter_unpack(events))
        if status > 0:
            raise ModelUnavailable(f"espeak-ng cannot speak {tag}", "reinstall espeakng-loader")
        if status == -signal.SIGALRM:
            raise KokoroError(f"espeak-ng took more than {_SECONDS} s over {len(text)} characters", "leave them out")
        if len(text) < 2:
            raise KokoroError(f"espeak-ng crashes on {text!r}", "leave it out")
        blank = text.find(" ", len(text) // 2, -1)
        middle = len(text) // 2 if blank < 0 else blank
        left, left_events = self._spoken(text[:middle], tag, rate, female)
        right, right_events = self._spoken(text[middle:], tag, rate, female)
        moved = ((at if at == _CLAUSE_ENDS else at + middle, sample + len(left) // 2) for at, sample in right_events)
        return left + right, [*left_events, *moved]

    def _answer(self, request: dict[str, object]) -> tuple[int, bytes, bytes]:
        """Status, PCM and events from the worker; from a new one, if it was killed: it holds nothing to lose."""
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


def _places(line: str, text: str) -> list[int]:
    """Where in a text each character of its `_within_limits` line stands; what was added, as the one before it."""
    kept = [place for place, character in enumerate(text) if not character.isspace()]
    places = []
    done = 0
    for character in line:
        done += done < len(kept) and character == text[kept[done]]
        places.append(kept[done - 1])
    return places


def _words(line: str, events: list[tuple[int, int]], frames: int) -> Iterator[tuple[int, int, int, int]]:
    """start, end in the line and begins, ends in the PCM of each word.

    An event opens a word if its run is behind that of the event before it: "$3.50" has five. A run without an event is
    fused with the one before it. A clause ends no later than the next word begins, as it does above 450 words a minute.
    """
    starts = [run.start() for run in _RUN.finditer(line)]
    borders: list[tuple[int, int]] = []  # the events that count
    latest = -1
    for at, sample in events:
        run = bisect.bisect_right(starts, at) - 1
        if at == _CLAUSE_ENDS:
            borders.append((at, sample))
        elif run > latest:
            latest = run
            borders.append((starts[run], sample))
        elif borders and borders[-1][0] == _CLAUSE_ENDS:  # the word goes on behind it
            borders.pop()
    borders.append((_CLAUSE_ENDS, frames))
    samples = [*itertools.accumulate((sample for _, sample in reversed(borders)), min)][::-1]
    borders = [(at, sample) for (at, _), sample in zip(borders, samples, strict=True)]
    words = [(at, begins, ends) for (at, begins), (_, ends) in itertools.pairwise(borders) if at != _CLAUSE_ENDS]
    for (start, begins, ends), (following, _, _) in itertools.pairwise([*words, (len(line), 0, 0)]):
        word = line[start:following].strip(_AROUND_WORDS) or line[start]
        start = line.index(word, start)
        yield start, start + len(word), begins, ends


def _loud_until(pcm: NDArray[np.int16], begins: int, ends: int) -> int:
    """Behind the last sample of a word that can be heard: the pause at the end of a clause is not part of it."""
    import numpy as np

    loud = np.flatnonzero(np.abs(pcm[begins:ends].astype(np.int32)) > _QUIET)
    return begins + int(loud[-1]) + 1 if len(loud) else ends


def _started_worker() -> tuple[subprocess.Popen[bytes], int]:
    """The worker and the sample rate of its library."""
    import subprocess

    try:
        import espeakng_loader

        library, data = espeakng_loader.get_library_path(), espeakng_loader.get_data_path()
    except (ImportError, RuntimeError) as error:
        raise ModelUnavailable(f"espeak-ng is not installed: {error}", "reinstall espeakng-loader") from error
    command = worker_command(__name__, library, data, options=("-I", "-S"))
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert worker.stdout is not None
    greeting = json.loads(worker.stdout.readline() or '{"error": "its process ended"}')
    if "error" in greeting:
        _end(worker)
        raise ModelUnavailable(
            f"espeak-ng's library cannot be loaded: {greeting['error']}", "reinstall espeakng-loader"
        )
    return worker, greeting["rate"]


def _exchange(worker: subprocess.Popen[bytes], line: bytes) -> tuple[int, bytes, bytes]:
    assert worker.stdin is not None and worker.stdout is not None
    worker.stdin.write(line)
    worker.stdin.flush()
    head = worker.stdout.read(_REPLY.size)
    if len(head) < _REPLY.size:
        raise EOFError
    status, pcm_bytes, event_bytes = _REPLY.unpack(head)
    body = worker.stdout.read(pcm_bytes + event_bytes)
    if len(body) < pcm_bytes + event_bytes:
        raise EOFError
    return status, body[:pcm_bytes], body[pcm_bytes:]


def _end(worker: subprocess.Popen[bytes]) -> None:
    import contextlib

    assert worker.stdin is not None and worker.stdout is not None
    with contextlib.suppress(OSError):  # a request that never reached a dead worker
        worker.stdin.close()
    worker.stdout.close()
    worker.wait()


# --- In the worker ---------------------------------------------------------------------------------------------------


def serve(library_path: str, data_path: str) -> None:
    """Main of the worker: greets, then answers each line of its standard input, until it ends."""
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
            _write(_REPLY.pack(status, 0, 0))


def _speak_and_exit(library: _Library, request: dict[str, Any]) -> None:
    """The child: one answer on the standard output, if the library survives the text. Never returns."""
    import resource
    import traceback

    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.alarm(_SECONDS)  # ends this process, whatever the library is at
        library.choose_voice(request["tag"], request["rate"], request["female"])
        pcm, events = library.speak(request["text"])
        signal.alarm(0)
        _write(_REPLY.pack(0, len(pcm), len(events)) + pcm + events)
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
                    self._events.append(_EVENT.pack(event.text_position - 1, event.sample))
                elif event.type == self._END:
                    self._events.append(_EVENT.pack(_CLAUSE_ENDS, event.sample))
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
        """int16 PCM in the byte order of the machine, and _EVENTs."""
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
