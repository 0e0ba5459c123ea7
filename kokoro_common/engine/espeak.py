"""The embedded default voice: espeak-ng, from the library in the espeakng-loader wheel. Torch-free.

    EspeakEngine --JSON--> worker process --fork--> child: sets the voice, speaks one text
                 <-- status, int16 PCM, events --'

The library is not called in the process that asks, for two reasons, both seen in 1.52. It crashes: "a.b.c.d." fifty
times is a segmentation fault, for which the model server must not die. And it has no reset: its pitch flutter runs on
from text to text, even through espeak_Terminate, so that no text ever sounds the same twice; every child starts from
the state just after espeak_Initialize. The worker has neither numpy nor site-packages: 10 MB, and 15 ms a text.

A child or worker that was ended from outside costs nothing: the same text gives the same samples, and is asked again.
"""

from __future__ import annotations

import bisect
import itertools
import json
import logging
import re
import signal
import struct

from kokoro_common.engine import espeak_worker
from kokoro_common.engine.espeak_worker import CHILD_SECONDS, CLAUSE_ENDS, EVENT, STATUS
from kokoro_common.errors import KokoroError, ModelUnavailable
from kokoro_common.installed import mend
from kokoro_common.record import Record
from kokoro_common.sound.samples import SAMPLE_RATE, Resampler
from kokoro_common.text.marks import WIDE_COMMAS, WIDE_STOPS
from kokoro_common.worker import ATTEMPTS, CRASHES, Worker, WorkerLost
from kokoro_common.worker import command as worker_command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

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

log = logging.getLogger("kokoro.espeak")

START_SECONDS = 20.0  # for a worker to load the library; 0.05 on an idle machine
WORKER_SECONDS = 5.0  # for a worker to hand on what its child says
WORDS_PER_MINUTE = 175  # at speed 1.0: espeak-ng's own default
_SLOWEST = 80  # words per minute; the library knows nothing slower. Up to 450 it synthesizes faster, above it skips

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


class EspeakSound(Record):
    samples: Samples  # float32 (frames,) at 24 kHz
    words: tuple[SpokenWord, ...]


class EspeakEngine:
    """Text to audio in espeak-ng's voices. For one thread. `close()` ends the worker; so does the end of this process.

    The worker is started by `start()`, by the first text without it, and again whenever it was lost or ended.
    """

    def __init__(self) -> None:
        self._worker: Worker | None = None
        self._rate = 0  # Hz, of the library

    def start(self) -> None:
        """Starts the worker, if there is none. Blocks some 50 ms.

        Raises ModelUnavailable without a library, KokoroError if no process can be started now.
        """
        if self._worker is None:
            self._worker, self._rate = _started_worker()

    def synthesize(self, text: str, lang: str, speed: float, female: bool) -> EspeakSound:
        """The sound, with the pause that the last punctuation asks for. Blocks, 20 ms for a sentence.

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
        return EspeakSound(samples=samples, words=words)

    def close(self) -> None:
        """Idempotent."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()

    def _spoken(self, text: str, tag: str, rate: int, female: bool) -> tuple[bytes, list[tuple[int, int]]]:
        """PCM and events of a text; of its two halves, if the library crashes on the whole."""
        status, pcm, events = self._answer({"text": text, "tag": tag, "rate": rate, "female": female})
        if status == 0:
            return pcm, list(EVENT.iter_unpack(events))
        if status > 0:
            raise ModelUnavailable(f"espeak-ng cannot speak {tag}", f"run {mend('espeakng-loader')}")
        if status == -signal.SIGALRM:
            raise KokoroError(
                f"espeak-ng took more than {CHILD_SECONDS} s over {len(text)} characters", "leave them out"
            )
        if len(text) < 2:
            raise KokoroError(f"espeak-ng crashes on {text!r}", "leave it out")
        blank = text.find(" ", len(text) // 2, -1)
        middle = len(text) // 2 if blank < 0 else blank
        left, left_events = self._spoken(text[:middle], tag, rate, female)
        right, right_events = self._spoken(text[middle:], tag, rate, female)
        moved = ((at if at == CLAUSE_ENDS else at + middle, sample + len(left) // 2) for at, sample in right_events)
        return left + right, [*left_events, *moved]

    def _answer(self, request: dict[str, object]) -> tuple[int, bytes, bytes]:
        """Status, PCM and events. Asks again where the child or the worker was ended from outside."""
        data = json.dumps(request).encode()
        for _ in range(ATTEMPTS):
            self.start()
            assert self._worker is not None
            try:
                answer = self._worker.ask(data, CHILD_SECONDS + WORKER_SECONDS)
                status, pcm_bytes = STATUS.unpack_from(answer)
                pcm, events = answer[STATUS.size : STATUS.size + pcm_bytes], answer[STATUS.size + pcm_bytes :]
                if len(pcm) != pcm_bytes or pcm_bytes % 2 or len(events) % EVENT.size:
                    raise WorkerLost("its answer has another length than it says")
            except (WorkerLost, struct.error) as error:
                log.warning("espeak-ng's worker is lost", extra={"reason": str(error)})
                self.close()
                continue
            if status >= 0 or -status in CRASHES or status == -signal.SIGALRM:
                return status, pcm, events
            log.warning("espeak-ng's child was ended", extra={"signal": -status})
        raise KokoroError(f"espeak-ng's process was ended {ATTEMPTS} times from outside", "see whether memory runs out")


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
        if at == CLAUSE_ENDS:
            borders.append((at, sample))
        elif run > latest:
            latest = run
            borders.append((starts[run], sample))
        elif borders and borders[-1][0] == CLAUSE_ENDS:  # the word goes on behind it
            borders.pop()
    borders.append((CLAUSE_ENDS, frames))
    samples = [*itertools.accumulate((sample for _, sample in reversed(borders)), min)][::-1]
    borders = [(at, sample) for (at, _), sample in zip(borders, samples, strict=True)]
    words = [(at, begins, ends) for (at, begins), (_, ends) in itertools.pairwise(borders) if at != CLAUSE_ENDS]
    for (start, begins, ends), (following, _, _) in itertools.pairwise([*words, (len(line), 0, 0)]):
        word = line[start:following].strip(_AROUND_WORDS) or line[start]
        start = line.index(word, start)
        yield start, start + len(word), begins, ends


def _loud_until(pcm: NDArray[np.int16], begins: int, ends: int) -> int:
    """Behind the last sample of a word that can be heard: the pause at the end of a clause is not part of it."""
    import numpy as np

    loud = np.flatnonzero(np.abs(pcm[begins:ends].astype(np.int32)) > _QUIET)
    return begins + int(loud[-1]) + 1 if len(loud) else ends


def _started_worker() -> tuple[Worker, int]:
    """The worker and the sample rate of its library."""
    try:
        import espeakng_loader

        library, data = espeakng_loader.get_library_path(), espeakng_loader.get_data_path()
    except (ImportError, RuntimeError) as error:
        raise ModelUnavailable(f"espeak-ng is not installed: {error}", f"run {mend('espeakng-loader')}") from error
    problem = ""
    for _ in range(ATTEMPTS):
        try:
            worker = Worker(worker_command(espeak_worker.__name__, library, data, options=("-I", "-S")))
            greeting = json.loads(worker.ask(b"", START_SECONDS))
        except OSError as error:
            raise KokoroError(
                f"espeak-ng's process cannot be started: {error.strerror}", "the next call tries it again"
            ) from error
        except WorkerLost as error:
            problem = str(error)
            continue
        if "rate" in greeting:
            return worker, greeting["rate"]
        worker.close()
        problem = greeting["error"]
        break
    raise ModelUnavailable(f"espeak-ng's library cannot be loaded: {problem}", f"run {mend('espeakng-loader')}")
