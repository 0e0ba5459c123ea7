"""A text chunk's way to audio in the model server: phonemes, the scheduler's turn, the engine, the sender's outbox.

Two threads: g2p (espeak-ng inside it has global state) and synthesis (the only one that calls an engine). What is
asked of an utterance that has been cancelled meanwhile is dropped wherever it stands. The G2P of a language is built
while the loader makes the engine, if a request in that language is to come.

Over 400 lines: one request's way over three threads, in order.
"""

from __future__ import annotations

import functools
import logging
import queue
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, cast

from kokoro_common import __version__
from kokoro_common.engine.device import DeviceLost
from kokoro_common.engine.engine import Phrase
from kokoro_common.engine.espeak import EspeakEngine
from kokoro_common.errors import KokoroError, ModelUnavailable
from kokoro_common.phonemes.g2p import ENGLISH, G2P
from kokoro_common.phonemes.said import check_request, explained, in_words, stretches
from kokoro_common.phonemes.spoken import Spoken, concatenated, split_spoken, word_frames
from kokoro_common.sound.samples import SAMPLE_RATE, Sound
from kokoro_common.synthesis.fingerprint import Fingerprint
from kokoro_common.synthesis.kept import Kept
from kokoro_common.synthesis.loader import Loader, VoiceLoaded, import_torch
from kokoro_common.synthesis.scheduler import Piece, Scheduler
from kokoro_common.synthesis.styles import Styles
from kokoro_common.synthesis.work import Work, piece_of
from kokoro_common.text.chunker import MAX_CHUNK_CHARACTERS
from kokoro_common.text.edits import Edit
from kokoro_common.text.marks import speakable
from kokoro_common.text.pauses import pause_after
from kokoro_common.text.speech import ChunkRequest, Speech, TimedWord, check_speech
from kokoro_common.voices.catalogue import parse_voice
from kokoro_common.voices.levels import common_gain
from kokoro_common.voices.user_voices import own_voices
from kokoro_common.wire.failure import failed
from kokoro_common.wire.messages import (
    MAX_CHUNK_FRAMES,
    AudioChunk,
    Explained,
    ProtocolError,
    Synthesize,
    Synthesized,
)
from kokoro_common.wire.server import Peer

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

log = logging.getLogger("kokoro.synthesis")

MAX_PHONEMES = 510  # of one call into the model: its 512 positions less a mark at each end
UNHURRIED_PHONEMES = 300  # above 350 Kokoro rushes, at 500 by a fifth, and commas vanish
MEASURED = 200  # text chunks that the median real-time factor is taken over


class Synthesis:
    """open, request, cancel and end are called by the server's main thread; the audio goes to the asking peer."""

    def __init__(
        self, loader: Loader, temporary_directory: str, *, config_dir: str = "", debug: bool, keep_bytes: int = 0
    ) -> None:
        """`temporary_directory` is for espeak's copies of its library; it is made when it is needed.

        `config_dir`: where the user's own voices are; empty: there are none. `keep_bytes`: of audio, see Kept.
        """
        self._config_dir = config_dir
        self._loader = loader
        self._temporary_directory = temporary_directory
        self._debug = debug
        self._scheduler = Scheduler()
        self._g2p_jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._g2p: G2P | None = None
        self._espeak = EspeakEngine()
        self._open: set[tuple[Peer, str]] = set()  # changed by the main thread, looked at by the others
        self._parked: dict[str, list[tuple[Peer, Synthesize]]] = {}  # by the voice whose pack is on its way
        self._early: list[tuple[Peer, Synthesize]] = []  # that came before the model was ready
        self._expected: dict[str, bool] = {}  # languages; True: the g2p thread has been told to build it
        self._work = {"g2p": Work(), "synthesis": Work()}
        self._notice = ""  # of the engine, about its device
        self._styles = Styles(loader.packs, config_dir)
        self.kept = Kept(keep_bytes)
        self.chunks_done = 0
        self.real_time_factors: deque[float] = deque(maxlen=MEASURED)  # seconds of engine per second of audio

    def start(self) -> None:
        threading.Thread(target=self._run_g2p, name="g2p", daemon=True).start()
        threading.Thread(target=self._run_engine, name="synthesis", daemon=True).start()

    def close(self) -> None:
        """Both threads end after what they are at. Idempotent, does not wait. For tests alone."""
        self._scheduler.close()
        self._g2p_jobs.put(None)

    @property
    def waiting(self) -> int:
        return len(self._scheduler)

    @property
    def g2p_quality(self) -> dict[str, str]:
        return self._g2p.quality if self._g2p is not None else {}

    def busy(self, now: float) -> float:
        """Seconds that the engine has been at its present batch."""
        began = self._work["synthesis"].began
        return now - began if began is not None else 0.0

    def stuck(self, now: float, seconds: float) -> str:
        """The name of a thread that has shown no sign of progress for so long, or nothing. To be asked regularly."""
        still = [name for name, work in self._work.items() if work.still_for(now) > seconds]
        return still[0] if still else ""

    # --- on the main thread ------------------------------------------------------------------------------------------

    def open(self, peer: Peer, utterance: str) -> None:
        self._open.add((peer, utterance))

    def end(self, peer: Peer, utterance: str) -> None:
        """Finished, cancelled or failed: nothing more is synthesized for it."""
        self._open.discard((peer, utterance))
        self._scheduler.cancel(peer, utterance)

    def forget(self, peer: Peer) -> None:
        """The peer is gone with all its utterances."""
        self._open = {key for key in self._open if key[0] is not peer}
        self._scheduler.cancel(peer)

    def expect(self, lang: str) -> None:
        """There will be requests in this language, if the model is loaded: its G2P is built at the same time."""
        if lang not in self._expected:
            self._expected[lang] = False
            self._loader.want_language(lang)
            self._warm_expected()

    def request(self, peer: Peer, message: Synthesize) -> None:
        """Answered to the peer by AudioChunk..., Synthesized; or Failed. Raises what is wrong with the request."""
        if (peer, message.utterance) not in self._open:
            return  # cancelled: the messages crossed
        request = message.request
        check_speech(request.speech)
        check_request(request)
        parts = parse_voice(request.speech.voice, own_voices(self._config_dir)).parts
        if len(request.text) > 2 * MAX_CHUNK_CHARACTERS:
            raise ProtocolError(f"a text chunk of {len(request.text)} characters")
        if request.speech.engine == "espeak":  # it makes its own phonemes, and waits for no G2P
            if message.explain:
                self._explain(peer, message, "")
            elif not self._say_again(peer, message):
                self._scheduler.add(piece_of(peer, message, request.text))
            return
        state = self._loader.state
        if state.state in ("default", "failed"):
            raise ModelUnavailable(state.detail)
        if state.state != "ready":
            self._early.append((peer, message))
            self._loader.want_model()
            return
        if waiting := self._parked_with(peer, message.utterance):  # what comes behind it keeps its place
            waiting.append((peer, message))
            return
        for name, _ in parts:
            # A pack may be there already while earlier requests for it still wait for word of it: keep their order.
            if name in self._parked or name not in self._loader.packs:
                self._parked.setdefault(name, []).append((peer, message))
                self._loader.want_voice(name)
                return
        self._g2p_jobs.put(functools.partial(self._make_phonemes, peer, message))

    def _parked_with(self, peer: Peer, utterance: str) -> list[tuple[Peer, Synthesize]]:
        """The requests among which one of this utterance waits for a voice; none: empty."""
        lists = self._parked.values()
        return next(
            (each for each in lists if any(one[0] is peer and one[1].utterance == utterance for one in each)), []
        )

    def _warm_expected(self) -> None:
        """As soon as the loader knows which spaCy model it is to be; without a model there will be no G2P."""
        if self._loader.state.state in ("loading", "ready"):
            for lang in [lang for lang, told in self._expected.items() if not told]:
                self._expected[lang] = True
                self._g2p_jobs.put(functools.partial(self._warm, lang))

    def model_changed(self) -> None:
        """The loader has a new state: what came early may have its turn now."""
        self._warm_expected()
        if self._early and self._loader.state.state in ("ready", "default", "failed"):
            early, self._early = self._early, []
            self._request_again(early)

    def voice_loaded(self, message: VoiceLoaded) -> None:
        waited = self._parked.pop(message.voice, [])
        if message.error is None:
            self._request_again(waited)
            return
        for peer, request in waited:
            peer.post(failed(request.utterance, message.error, log="model server"))

    def _request_again(self, requests: list[tuple[Peer, Synthesize]]) -> None:
        """Requests that have waited long enough. What has become wrong with one is no fault of those behind it."""
        for peer, request in requests:
            try:
                self.request(peer, request)
            except KokoroError as error:
                peer.post(failed(request.utterance, error, log="model server"))

    # --- on the g2p thread -------------------------------------------------------------------------------------------

    def _run_g2p(self) -> None:
        while (job := self._g2p_jobs.get()) is not None:
            job()

    def _explain(self, peer: Peer, message: Synthesize, phonemes: str) -> None:
        """On the thread that would have spoken it next: the answers to an utterance have to keep their order."""
        utterance, index = message.utterance, message.request.index
        text = explained(message.request)
        peer.post(Explained(utterance=utterance, index=index, text=text, phonemes=phonemes))
        peer.post(Synthesized(utterance=utterance, index=index, g2p=0.0, queue=0.0, model=0.0))

    def _make_phonemes(self, peer: Peer, message: Synthesize) -> None:
        if (peer, message.utterance) not in self._open:
            return
        if not message.explain and self._say_again(peer, message):
            return
        began = time.monotonic()
        try:
            with self._work["g2p"]:
                pieces = self._phonemes(message.request)
                if message.explain:
                    self._explain(peer, message, " ".join(piece.phonemes for piece in pieces))
                    return
        except KokoroError as error:
            peer.post(failed(message.utterance, error, log="model server"))
            return
        except Exception as error:  # out of one of the many libraries behind G2P: this text fails, not the server
            log.exception("g2p failed", extra={"utterance": message.utterance})
            peer.post(failed(message.utterance, error, log="model server"))
            return
        took = time.monotonic() - began
        speech, rest = message.request.speech, message.request.rest
        for part, spoken in enumerate(pieces):
            last = part == len(pieces) - 1
            piece = piece_of(peer, message, spoken.phonemes, part=part, last=last, g2p=took, spoken=spoken)
            self._scheduler.add(piece.replace(rest=rest))
            rest = 0.0 if speech.untouched else pause_after(spoken.phonemes) / speech.speed

    def _say_again(self, peer: Peer, message: Synthesize) -> bool:
        """Delivers what was spoken before, in its turn. Whether there is that."""
        fingerprint = self.fingerprint(message.request.speech) if self.kept.keeps else None
        if fingerprint is None:
            return False
        sound = self.kept.get(message.request, fingerprint)
        if sound is not None:
            self._scheduler.add(piece_of(peer, message, "").replace(engine="kept", sound=sound))
        return sound is not None

    def fingerprint(self, speech: Speech) -> Fingerprint | None:
        """Of the engine as it is now, for this language and voice, whose pack is loaded; None: there is none yet."""
        if speech.engine == "espeak":
            return Fingerprint(
                version=__version__,
                model="espeak-ng",
                voices="",
                g2p="",
                device="cpu",
                precision="",
                kernel="",
                threads=1,
            )
        engine = self._loader.engine
        if engine is None:
            return None
        return Fingerprint(
            version=__version__,
            model=self._loader.model_digest,
            voices=self._styles.digest(speech.voice),
            g2p=self.g2p_quality.get(speech.lang, ""),
            device=engine.device,
            precision=engine.precision,
            kernel=engine.path,
            threads=engine.threads,
        )

    def _warm(self, lang: str) -> None:
        began = time.monotonic()
        try:
            self._build(lang)
        except Exception as error:  # the request that needs it will fail with it
            log.warning("g2p cannot be built", extra={"lang": lang, "reason": repr(error)})
        else:
            log.info("g2p warm", extra={"lang": lang, "seconds": round(time.monotonic() - began, 3)})
        self._loader.language_warm(lang)

    def _build(self, lang: str) -> None:
        if lang in ENGLISH:
            import_torch()  # as spaCy would, and the loader does: who waits for that is not stuck
        with self._work["g2p"]:
            self._our_g2p().warm(lang)

    def _our_g2p(self) -> G2P:
        if self._g2p is None:
            self._g2p = G2P(self._loader.spacy_path, self._temporary_directory)
        return self._g2p

    def _phonemes(self, request: ChunkRequest) -> list[Spoken]:
        """At least one piece, so that a chunk without anything to say is answered too."""
        own = request.speech.lang
        said = [
            (start, self._spoken(text, lang, edits, required=lang == own))
            for start, text, lang, edits in stretches(request)
        ]
        spoken = said[0][1] if len(said) == 1 else concatenated(said)
        if not any(map(str.isalpha, spoken.phonemes)):  # marks alone would be a silence that nobody asked for
            return [Spoken(phonemes="", words=())]
        most = MAX_PHONEMES if request.speech.untouched else UNHURRIED_PHONEMES
        return split_spoken(spoken, int(most * min(1.0, request.speech.speed))) or [Spoken(phonemes="", words=())]

    def _spoken(self, text: str, lang: str, edits: list[Edit], *, required: bool) -> Spoken:
        """Raises as G2P.spoken does; if the language is not required, a missing extra costs the words."""
        try:
            return self._our_g2p().spoken(text, lang, edits)
        except ModelUnavailable as error:
            if required:
                raise
            log.warning("words of another language are not spoken", extra={"lang": lang, "reason": str(error)})
            return Spoken(phonemes="", words=())

    # --- on the synthesis thread -------------------------------------------------------------------------------------

    def _run_engine(self) -> None:
        import numpy  # noqa: F401 - 0.1 s, while the first request is on its way

        try:
            self._espeak.start()
        except KokoroError as error:  # the request that needs it will fail with it
            log.warning("espeak-ng cannot be started", extra={"reason": str(error)})
        while batch := self._scheduler.next_batch(self._loader.engine.batch_limit if self._loader.engine else 1):
            for piece in batch:
                kind = "text" if piece.engine == "espeak" else "phonemes"
                speech = piece.request.speech
                self._follow(piece, kind, voice=speech.voice, speed=speech.speed, seed=piece.seed, **{kind: piece.text})
            try:
                self._speak(batch)
            except DeviceLost as error:  # what is unanswered is asked again, of the process that follows
                log.error("the device is lost", extra={"reason": str(error)})
                self._loader.engine_lost(str(error))
                return

    def _speak(self, batch: list[Piece]) -> None:
        """Delivers the pieces, or tells their owners what became of them. Raises DeviceLost."""
        began = time.monotonic()
        try:
            with self._work["synthesis"]:
                sounds = self.synthesize(batch)
        except DeviceLost:
            raise
        except Exception as error:
            if len(batch) > 1:  # it may be the fault of one of them
                for piece in batch:
                    self._speak([piece])
                return
            said = {"debug": True} if batch[0].debug else {}
            log.exception("synthesis failed", extra={"utterance": batch[0].utterance, **said})
            cast(Peer, batch[0].owner).post(failed(batch[0].utterance, error, log="model server"))
            return
        again = batch[0].engine == "kept"
        took = 0.0 if again else time.monotonic() - began  # 0.0 tells the voice server nothing about the engine
        if not again and (frames := sum(len(sound.samples) for sound in sounds)):
            self.real_time_factors.append(took * SAMPLE_RATE / frames)
        for piece, sound in zip(batch, sounds, strict=True):
            self._deliver(piece, sound, began - piece.added, took / len(batch))
            whole = len(batch) == 1 and piece.last and not piece.part  # in a batch the last bit of the pitch may differ
            fingerprint = self.fingerprint(piece.request.speech) if whole and not again and self.kept.keeps else None
            if fingerprint is not None:
                self.kept.add(piece.request, fingerprint, sound)

    def _follow(self, piece: Piece, event: str, **details: object) -> None:
        """Logs what only who asked for debug may read."""
        if piece.debug or self._debug:
            known = {
                "utterance": piece.utterance,
                "index": piece.request.index,
                "part": piece.part,
                "engine": piece.engine,
            }
            log.info(event, extra={**known, **details, "debug": True})

    def synthesize(self, batch: list[Piece]) -> list[Sound]:
        """Pieces of one engine to sounds, in the same order. The seam for a stub engine."""
        if batch[0].engine == "kept":
            return [piece.sound for piece in batch if piece.sound is not None]
        make = self._by_espeak if batch[0].engine == "espeak" else self._by_kokoro
        return [self._finished(piece, sound) for piece, sound in zip(batch, make(batch), strict=True)]

    def _finished(self, piece: Piece, sound: Sound) -> Sound:
        from kokoro_common.synthesis.finish import finished  # numpy: see _run_engine

        speech = piece.request.speech
        if speech.untouched:
            return sound
        levels = self._styles.espeak_levels(speech) if piece.engine == "espeak" else self._styles.levels(speech.voice)
        gain = common_gain(levels, len(piece.text)) if levels else 1.0
        return finished(sound, rest=piece.rest, speed=speech.speed, gain=gain)

    def _by_kokoro(self, batch: list[Piece]) -> list[Sound]:
        engine = self._loader.engine
        assert engine is not None
        phrases = [
            Phrase(
                phonemes=piece.text,
                style=self._styles.row(piece.request.speech.voice, len(piece.text)),
                speed=piece.request.speech.speed,
                seed=piece.seed,
            )
            for piece in batch
        ]
        waveforms = engine.synthesize(phrases)
        if engine.notice != self._notice:
            self._notice = engine.notice
            log.warning(engine.notice)
            self._loader.engine_changed()
        sounds = []
        for piece, waveform in zip(batch, waveforms, strict=True):
            spoken = piece.spoken
            assert spoken is not None
            frames = word_frames(spoken, waveform.durations, engine.vocabulary)
            words = tuple(
                TimedWord(start=word.start, end=word.end, first_frame=first, last_frame=last)
                for word, (first, last) in zip(spoken.words, frames, strict=True)
            )
            sounds.append(Sound(samples=waveform.samples, words=words))
        return sounds

    def _by_espeak(self, batch: list[Piece]) -> list[Sound]:
        return [self._piece_by_espeak(piece) for piece in batch]

    def _piece_by_espeak(self, piece: Piece) -> Sound:
        """Each stretch in its own language. One with nothing to say would be a pause, and is left out."""
        import numpy as np

        spoken = [each for each in in_words(piece.request) if speakable(each[1])]
        sounds = [self._stretch_by_espeak(piece.request.speech, *each) for each in spoken]
        samples = np.concatenate([np.zeros(0, np.float32), *(sound.samples for sound in sounds)])
        words: list[TimedWord] = []
        begins = 0
        for sound in sounds:
            words += (
                word.replace(first_frame=word.first_frame + begins, last_frame=word.last_frame + begins)
                for word in sound.words
            )
            begins += len(sound.samples)
        return Sound(samples=samples, words=tuple(words))

    def _stretch_by_espeak(self, wanted: Speech, lang: str, text: str, spans: list[tuple[int, int]]) -> Sound:
        speech = self._espeak.synthesize(text, lang, wanted.speed, female=wanted.voice[1] == "f")
        words: list[TimedWord] = []
        for word in speech.words:
            start, end = spans[word.start][0], spans[word.end - 1][1]
            if words and start < words[-1].end:  # another word of the same edit
                words[-1] = words[-1].replace(end=max(end, words[-1].end), last_frame=word.ends)
            else:
                words.append(TimedWord(start=start, end=end, first_frame=word.begins, last_frame=word.ends))
        return Sound(samples=speech.samples, words=tuple(words))

    def _deliver(self, piece: Piece, sound: Sound, queued: float, took: float) -> None:
        gain = piece.request.gain
        samples = sound.samples if gain == 1.0 else sound.samples * gain
        peer = cast(Peer, piece.owner)
        if (peer, piece.utterance) not in self._open:
            self._follow(piece, "dropped: the utterance has ended")
            return  # cancelled while the engine was at work
        self._follow(
            piece,
            "synthesized",
            frames=len(samples),
            g2p=round(piece.g2p, 4),
            queue=round(queued, 4),
            model=round(took, 4),
        )
        for start in range(0, len(samples), MAX_CHUNK_FRAMES):
            payload = samples[start : start + MAX_CHUNK_FRAMES].astype("<f4", copy=False).tobytes()
            words = tuple(
                word.replace(first_frame=word.first_frame - start, last_frame=word.last_frame - start)
                for word in sound.words
                if start <= word.first_frame < start + MAX_CHUNK_FRAMES
            )
            message = AudioChunk(
                utterance=piece.utterance, index=piece.request.index, words=words, payload_bytes=len(payload)
            )
            peer.post(message, payload)
        if piece.last:
            self.chunks_done += 1
            peer.post(
                Synthesized(
                    utterance=piece.utterance,
                    index=piece.request.index,
                    g2p=round(piece.g2p, 4),
                    queue=round(queued, 4),
                    model=round(took, 4),
                )
            )
