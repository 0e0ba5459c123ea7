"""A text chunk's way to audio: the real Synthesis, a step at a time, with fakes for its engines."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import pytest

from kokoro_common.engine.device import DeviceLost
from kokoro_common.engine.engine import Phrase, Waveform
from kokoro_common.engine.espeak import EspeakSound, SpokenWord
from kokoro_common.errors import KokoroError, ModelUnavailable, UnknownVoice, UsageError
from kokoro_common.phonemes.spoken import PhonemeWord, Spoken
from kokoro_common.sound.edges import TAIL_SECONDS
from kokoro_common.sound.samples import SAMPLE_RATE, SAMPLES_PER_DURATION
from kokoro_common.synthesis import synthesis as synthesis_module
from kokoro_common.synthesis.kept import Kept
from kokoro_common.synthesis.loader import VoiceLoaded
from kokoro_common.synthesis.synthesis import Synthesis
from kokoro_common.text.chunker import MAX_CHUNK_CHARACTERS
from kokoro_common.text.edits import Edit
from kokoro_common.text.pauses import SENTENCE_SECONDS
from kokoro_common.text.speech import ChunkRequest, Speech, TimedWord
from kokoro_common.voices.levels import LENGTHS, Level
from kokoro_common.voices.pack import PACK_SHAPE
from kokoro_common.wire.messages import (
    MAX_CHUNK_FRAMES,
    AudioChunk,
    Explained,
    Failed,
    Message,
    ProtocolError,
    ServerState,
    Synthesize,
    Synthesized,
)
from kokoro_common.wire.server import Peer

SECONDS = 10  # for what takes none
M = TypeVar("M", bound=Message)


class FakeLoader:
    """A loader that has loaded everything, until a test says otherwise."""

    def __init__(self) -> None:
        self.state = ServerState(state="ready")
        self.packs = {"af_heart": np.full(PACK_SHAPE, 1.0, np.float32), "af_sky": np.full(PACK_SHAPE, 3.0, np.float32)}
        self.packs["af_heart"][:, 0, 0] = np.arange(1, 511)  # tells the row
        self.engine: Any = FakeEngine()
        self.spacy_path = "/spacy"
        self.model_digest = "0" * 64
        self.told: list[str] = []

    def want_model(self) -> None:
        self.told.append("model")

    def want_voice(self, name: str) -> None:
        self.told.append(name)

    def want_language(self, lang: str) -> None:
        self.told.append(f"cold {lang}")

    def language_warm(self, lang: str) -> None:
        self.told.append(f"warm {lang}")

    def engine_lost(self, reason: str) -> None:
        self.told.append(f"lost: {reason}")

    def engine_changed(self) -> None:
        self.told.append("engine changed")


class FakeEngine:
    """A second for each phoneme, and its number in the samples. A text with "fault" in it is too much for it."""

    batch_limit = 4
    vocabulary = frozenset("abcdefghijklmnopqrstuvwxyz ")

    def __init__(self) -> None:
        self.notice = ""
        self.phrases: list[Phrase] = []
        self.error: Exception | None = None
        self.frames = SAMPLES_PER_DURATION  # a phoneme
        self.amplitude = 1.0
        self.device, self.precision, self.path, self.threads = "cpu", "fp32", "the fake", 1

    def synthesize(self, phrases: list[Phrase]) -> list[Waveform]:
        self.phrases += phrases
        if self.error is not None:
            raise self.error
        if any("fault" in phrase.phonemes for phrase in phrases):
            raise KokoroError("the engine failed")
        return [
            Waveform(
                samples=np.full(len(phrase.phonemes) * self.frames, self.amplitude, np.float32),
                durations=np.array([0, *[self.frames // SAMPLES_PER_DURATION] * len(phrase.phonemes), 0]),
            )
            for phrase in phrases
        ]


class FakeG2P:
    """Its phonemes are the letters of the text."""

    error: Exception | None = None
    missing = ""  # a language whose extra is not installed
    letters = "abcdefghijklmnopqrstuvwxyz "

    def __init__(self, spacy_path: str | None, temporary_directory: str) -> None:
        assert spacy_path == "/spacy"
        self.quality = {"a": "good"}

    def warm(self, lang: str) -> None:
        self.spoken("a", lang)

    def spoken(self, text: str, lang: str, edits: object = ()) -> Spoken:
        if self.error is not None:
            raise self.error
        if lang == self.missing:
            raise ModelUnavailable("an extra is missing", "install it")
        phonemes = "".join(letter for letter in text.lower() if letter in self.letters)
        words: list[PhonemeWord] = []
        place = 0
        for word in phonemes.split():
            place = phonemes.index(word, place)
            words.append(PhonemeWord(start=place, end=place + len(word), first=place, last=place + len(word)))
            place += len(word)
        return Spoken(phonemes=phonemes, words=tuple(words))


class FakePeer:
    """A voice server: what it is told waits here."""

    def __init__(self) -> None:
        self.posted: list[tuple[Message, bytes]] = []

    def post(self, message: Message, payload: bytes = b"") -> None:
        self.posted.append((message, payload))

    def got(self, kind: type[M]) -> list[M]:
        return [message for message, _ in self.posted if isinstance(message, kind)]

    @property
    def samples(self) -> np.ndarray[Any, Any]:
        return np.frombuffer(b"".join(payload for _, payload in self.posted), "<f4")


class Shop:
    """A synthesis that goes on only when a test says so."""

    def __init__(self, config_dir: str = "") -> None:
        self.loader = FakeLoader()
        self.synthesis = Synthesis(cast(Any, self.loader), "/nowhere", config_dir=config_dir, debug=False)

    def peer(self, *utterances: str) -> FakePeer:
        """A voice server with these utterances open."""
        peer = FakePeer()
        for utterance in utterances or ("u",):
            self.synthesis.open(cast(Peer, peer), utterance)
        return peer

    def ask(self, peer: FakePeer, text: str = "hello there", utterance: str = "u", **fields: Any) -> None:
        message = {name: fields.pop(name) for name in ("explain", "debug") if name in fields}
        request = {name: fields.pop(name) for name in ("index", "edits", "gain", "rest") if name in fields}
        speech = Speech(**{"voice": "af_heart", "lang": "a", "engine": "kokoro", "untouched": True, **fields})
        chunk = ChunkRequest(**{"index": 0, "text": text, "speech": speech, **request})
        self.synthesis.request(cast(Peer, peer), Synthesize(utterance=utterance, request=chunk, **message))

    def keep(self, size: int) -> None:
        """Audio is kept from now on, and pieces are spoken one by one."""
        self.synthesis.kept = Kept(size)
        self.loader.engine.batch_limit = 1

    def g2p(self) -> None:
        """What the g2p thread has to do."""
        while not self.synthesis._g2p_jobs.empty():
            job = self.synthesis._g2p_jobs.get()
            assert job is not None
            job()

    def work(self) -> None:
        """What both threads have to do, a batch at a time."""
        self.g2p()
        while self.synthesis.waiting:
            self.synthesis._speak(self.synthesis._scheduler.next_batch(self.loader.engine.batch_limit))

    def warm_up(self, state: str) -> None:
        """The model server is told of a state of the loader."""
        self.loader.state = ServerState(state=state, detail="no network" if state in ("default", "failed") else "")
        self.synthesis.model_changed()


def by_espeak(self: object, text: str, lang: str, speed: float, female: bool) -> EspeakSound:
    """Ten frames a character, and a word for each word. -1 in the samples: a female voice."""
    words = []
    place = 0
    for word in text.split():
        start = text.index(word, place)
        place = start + len(word)
        words.append(SpokenWord(start=start, end=place, begins=10 * start, ends=10 * place))
    return EspeakSound(samples=np.full(10 * len(text), -1.0 if female else 1.0, np.float32), words=tuple(words))


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.setattr(synthesis_module, "G2P", FakeG2P)
    monkeypatch.setattr(synthesis_module, "import_torch", lambda: None)
    monkeypatch.setattr(synthesis_module.EspeakEngine, "start", lambda self: None)  # it starts a process
    monkeypatch.setattr(synthesis_module.EspeakEngine, "synthesize", by_espeak)
    monkeypatch.setattr(FakeG2P, "error", None)
    monkeypatch.setattr(FakeG2P, "missing", "")
    return Shop()


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("kokoro"), "propagate", True)
    caplog.set_level(logging.INFO, logger="kokoro")
    return caplog


# --- the straight way ------------------------------------------------------------------------------------------------


def test_a_text_chunk_becomes_audio_with_the_places_of_its_words(shop: Shop) -> None:
    peer = shop.peer()
    shop.ask(peer, index=3, seed=7, speed=1.5)
    shop.work()
    (audio,), (done,) = peer.got(AudioChunk), peer.got(Synthesized)
    assert (audio.index, done.index, len(peer.samples)) == (3, 3, 11 * SAMPLES_PER_DURATION)
    assert audio.words == (
        TimedWord(start=0, end=5, first_frame=0, last_frame=5 * SAMPLES_PER_DURATION),
        TimedWord(start=6, end=11, first_frame=5 * SAMPLES_PER_DURATION, last_frame=11 * SAMPLES_PER_DURATION),
    )
    (phrase,) = shop.loader.engine.phrases
    assert (phrase.phonemes, phrase.speed, phrase.style[0, 0]) == ("hello there", 1.5, 11.0)
    assert shop.synthesis.chunks_done == 1 and len(shop.synthesis.real_time_factors) == 1
    assert shop.synthesis.g2p_quality == {"a": "good"}


def test_long_audio_travels_in_parts_each_with_the_words_that_begin_there(shop: Shop) -> None:
    shop.loader.engine.frames = 10 * SAMPLES_PER_DURATION
    peer = shop.peer()
    shop.ask(peer)
    shop.work()
    chunks = peer.got(AudioChunk)
    assert [chunk.payload_bytes // 4 for chunk in chunks] == [MAX_CHUNK_FRAMES, MAX_CHUNK_FRAMES, 18_000]
    assert [(word.start, word.first_frame) for word in chunks[0].words] == [(0, 0)]
    assert [(word.start, word.first_frame) for word in chunks[1].words] == [(6, 30_000 - MAX_CHUNK_FRAMES)]


def test_a_text_of_more_phonemes_than_the_model_takes_is_answered_once(shop: Shop) -> None:
    peer = shop.peer()
    shop.ask(peer, "abcd efgh " * 70)
    shop.g2p()
    assert shop.synthesis.waiting == 2
    shop.work()
    assert len(peer.got(Synthesized)) == 1 and shop.synthesis.chunks_done == 1
    first, second = shop.loader.engine.phrases
    assert first.seed != second.seed and len(first.phonemes) <= synthesis_module.MAX_PHONEMES


def test_marks_alone_are_answered_and_not_spoken(shop: Shop) -> None:
    peer = shop.peer()
    shop.ask(peer, "...")
    shop.work()
    assert [phrase.phonemes for phrase in shop.loader.engine.phrases] == [""]
    assert len(peer.got(Synthesized)) == 1 and not len(peer.samples)


def test_the_markups_gain_is_on_the_samples(shop: Shop) -> None:
    peer = shop.peer()
    shop.ask(peer, gain=0.5)
    shop.work()
    assert set(peer.samples) == {0.5}


def test_a_blend_is_the_weighted_sum_of_its_voices(shop: Shop) -> None:
    shop.ask(shop.peer(), voice="af_heart:0.5,af_sky:0.5")
    shop.work()
    (phrase,) = shop.loader.engine.phrases
    assert (phrase.style[0, 0], phrase.style[0, 1]) == ((11 + 3) / 2, 2.0)


def test_espeak_says_it_in_words_and_tells_their_places_in_the_text(shop: Shop) -> None:
    peer = shop.peer()
    shop.loader.state = ServerState(state="failed", detail="it has no need of a model")
    shop.ask(peer, "say W3C now", engine="espeak", edits=(Edit(4, 7, "a b c", False),))
    shop.work()
    (audio,) = peer.got(AudioChunk)
    assert [(word.start, word.end) for word in audio.words] == [(0, 3), (4, 7), (8, 11)]
    assert [word.first_frame for word in audio.words] == [0, 40, 100] and set(peer.samples) == {-1.0}
    assert shop.synthesis._g2p_jobs.empty()


def test_espeak_has_a_voice_for_each_gender(shop: Shop) -> None:
    peer = shop.peer()
    shop.ask(peer, engine="espeak", voice="am_adam")
    shop.work()
    assert set(peer.samples) == {1.0}


@pytest.mark.parametrize(("engine", "phonemes"), [("kokoro", "hello there"), ("espeak", "")])
def test_an_explanation_comes_instead_of_audio(shop: Shop, engine: str, phonemes: str) -> None:
    peer = shop.peer()
    shop.ask(peer, explain=True, engine=engine)
    shop.work()
    assert [(each.text, each.phonemes) for each in peer.got(Explained)] == [("hello there", phonemes)]
    assert len(peer.got(Synthesized)) == 1 and not peer.got(AudioChunk)


# --- requests that wait ----------------------------------------------------------------------------------------------


def test_requests_that_come_before_the_model_have_their_turn_in_order(shop: Shop) -> None:
    shop.loader.state = ServerState(state="starting")
    peer = shop.peer()
    for index in range(3):
        shop.ask(peer, index=index)
    assert shop.loader.told == ["model"] * 3
    shop.warm_up("loading")
    shop.work()
    assert not peer.posted
    shop.warm_up("ready")
    shop.work()
    assert [done.index for done in peer.got(Synthesized)] == [0, 1, 2]


@pytest.mark.parametrize("state", ["default", "failed"])
def test_requests_that_wait_for_a_model_that_will_not_come_are_told(shop: Shop, state: str) -> None:
    shop.loader.state = ServerState(state="starting")
    peer, other = shop.peer(), shop.peer()
    shop.ask(peer)
    shop.ask(other)
    shop.warm_up(state)
    for each in (peer, other):
        assert [(failed.code, failed.text) for failed in each.got(Failed)] == [(4, "no network")]
    with pytest.raises(ModelUnavailable, match="no network"):
        shop.ask(peer)


def test_a_request_waits_for_each_voice_of_a_blend_and_what_is_behind_it_keeps_its_place(shop: Shop) -> None:
    sky = shop.loader.packs.pop("af_sky")
    heart = shop.loader.packs.pop("af_heart")
    peer = shop.peer()
    shop.ask(peer, voice="af_heart:0.5,af_sky:0.5", index=0)
    shop.ask(peer, voice="af_heart", index=1)
    shop.loader.packs["af_heart"] = heart
    shop.ask(peer, voice="af_heart", index=2)  # could be spoken, but word of the voice has not come
    shop.synthesis.voice_loaded(VoiceLoaded(voice="af_heart"))
    shop.work()
    assert not peer.posted and shop.loader.told == ["af_heart", "af_sky"]
    shop.loader.packs["af_sky"] = sky
    shop.synthesis.voice_loaded(VoiceLoaded(voice="af_sky"))
    shop.work()
    assert [done.index for done in peer.got(Synthesized)] == [0, 1, 2]


def test_those_that_wait_for_a_voice_that_cannot_be_had_are_told(shop: Shop) -> None:
    shop.loader.packs.clear()
    peers = [shop.peer() for _ in range(2)]
    for peer in peers:
        shop.ask(peer)
    shop.synthesis.voice_loaded(VoiceLoaded(voice="af_heart", error=ModelUnavailable("it cannot be had", "")))
    assert [peer.got(Failed)[0].text for peer in peers] == ["it cannot be had"] * 2
    shop.synthesis.voice_loaded(VoiceLoaded(voice="af_heart"))  # nobody waits any more
    assert all(len(peer.posted) == 1 for peer in peers)


def test_what_has_become_wrong_with_one_that_waited_for_a_voice_is_told_and_the_others_are_spoken(
    shop: Shop, tmp_path: Path
) -> None:
    own = tmp_path / "voices"
    own.mkdir()
    (own / "af_mine.pack").touch()
    shop = Shop(str(tmp_path))
    heart = shop.loader.packs.pop("af_heart")
    shop.loader.packs["af_mine"] = heart
    peer, other = shop.peer(), shop.peer()
    shop.ask(peer, voice="af_mine:0.5,af_heart:0.5")
    shop.ask(other)
    (own / "af_mine.pack").unlink()  # the user has removed it
    shop.loader.packs["af_heart"] = heart
    shop.synthesis.voice_loaded(VoiceLoaded(voice="af_heart"))
    shop.work()
    assert [failed.code for failed in peer.got(Failed)] == [UnknownVoice.exit_code]
    assert len(other.got(Synthesized)) == 1


def test_the_g2p_of_an_expected_language_is_built_once_and_as_soon_as_the_loader_is_at_work(shop: Shop) -> None:
    shop.loader.state = ServerState(state="starting")
    for _ in range(2):
        shop.synthesis.expect("a")
    shop.g2p()
    assert shop.loader.told == ["cold a"]
    shop.warm_up("loading")
    shop.warm_up("ready")
    shop.g2p()
    assert shop.loader.told == ["cold a", "warm a"]


def test_a_g2p_that_cannot_be_built_does_not_hold_up_the_start(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, logged: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(FakeG2P, "error", ZeroDivisionError("a library"))
    shop.synthesis.expect("a")
    shop.g2p()
    assert shop.loader.told == ["cold a", "warm a"] and "g2p cannot be built" in logged.text


# --- what is wrong with a request ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"speed": 9.0}, UsageError),
        ({"gain": 9.0}, UsageError),
        ({"edits": (Edit(3, 99, "x", False),)}, UsageError),
        ({"voice": "af_nobody"}, UnknownVoice),
        ({"text": "a" * (2 * MAX_CHUNK_CHARACTERS + 1)}, ProtocolError),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(shop: Shop, fields: dict[str, Any], error: type[Exception]) -> None:
    peer = shop.peer()
    with pytest.raises(error):
        shop.ask(peer, **fields)
    assert not peer.posted and not shop.synthesis.waiting


@pytest.mark.parametrize("error", [KokoroError("no dictionary"), ZeroDivisionError("a library")])
def test_a_text_that_g2p_fails_on_costs_one_utterance(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    peer, other = shop.peer(), shop.peer()
    shop.ask(peer)
    monkeypatch.setattr(FakeG2P, "error", error)
    shop.g2p()
    monkeypatch.setattr(FakeG2P, "error", None)
    shop.ask(other)
    shop.work()
    assert len(peer.got(Failed)) == 1 and not peer.got(AudioChunk)
    assert len(other.got(Synthesized)) == 1


def test_words_of_another_language_whose_extra_is_missing_are_left_out(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeG2P, "missing", "j")
    peer = shop.peer("u", "v")
    shop.ask(peer, "hello ひらがな there")
    shop.ask(peer, "ひらがな", utterance="v", lang="j")
    shop.work()
    assert [phrase.phonemes.split() for phrase in shop.loader.engine.phrases] == [["hello", "there"]]
    assert [failed.utterance for failed in peer.got(Failed)] == ["v"]


def test_one_that_fails_in_a_batch_spares_the_others(shop: Shop, logged: pytest.LogCaptureFixture) -> None:
    peer = shop.peer("u", "v", "w")
    for utterance, text in (("u", "one"), ("v", "a fault"), ("w", "two")):
        shop.ask(peer, text, utterance)
    shop.work()
    assert [done.utterance for done in peer.got(Synthesized)] == ["u", "w"]
    assert [(failed.utterance, failed.text) for failed in peer.got(Failed)] == [("v", "the engine failed")]
    assert "synthesis failed" in logged.text


def test_a_lost_device_answers_nobody_and_ends_the_thread(shop: Shop) -> None:
    peer = shop.peer("u", "v")
    for utterance in ("u", "v"):
        shop.ask(peer, utterance=utterance)
    shop.g2p()
    shop.loader.engine.error = DeviceLost("the card fell off")
    shop.synthesis._run_engine()
    assert shop.loader.told == ["lost: the card fell off"] and not peer.posted


def test_an_engine_that_leaves_its_device_says_so_once(shop: Shop, logged: pytest.LogCaptureFixture) -> None:
    shop.loader.engine.notice = "it goes on with the CPU"
    peer = shop.peer()
    for index in range(2):
        shop.ask(peer, index=index)
        shop.work()
    assert shop.loader.told == ["engine changed"] and logged.text.count("it goes on with the CPU") == 1


# --- cancelled -------------------------------------------------------------------------------------------------------


def ended_before_the_request(shop: Shop, peer: FakePeer) -> None:
    shop.synthesis.end(cast(Peer, peer), "u")
    shop.ask(peer)


def ended_before_g2p(shop: Shop, peer: FakePeer) -> None:
    shop.ask(peer)
    shop.synthesis.end(cast(Peer, peer), "u")


def ended_before_the_engine(shop: Shop, peer: FakePeer) -> None:
    shop.ask(peer)
    shop.g2p()
    shop.synthesis.end(cast(Peer, peer), "u")


def gone_before_the_engine(shop: Shop, peer: FakePeer) -> None:
    shop.ask(peer)
    shop.g2p()
    shop.synthesis.forget(cast(Peer, peer))


def ended_while_it_waited_for_the_model(shop: Shop, peer: FakePeer) -> None:
    shop.loader.state = ServerState(state="loading")
    shop.ask(peer)
    shop.synthesis.end(cast(Peer, peer), "u")
    shop.warm_up("ready")


def ended_while_it_waited_for_its_voice(shop: Shop, peer: FakePeer) -> None:
    pack = shop.loader.packs.pop("af_heart")
    shop.ask(peer)
    shop.synthesis.end(cast(Peer, peer), "u")
    shop.loader.packs["af_heart"] = pack
    shop.synthesis.voice_loaded(VoiceLoaded(voice="af_heart"))


@pytest.mark.parametrize(
    "course",
    [
        ended_before_the_request,
        ended_before_g2p,
        ended_before_the_engine,
        gone_before_the_engine,
        ended_while_it_waited_for_the_model,
        ended_while_it_waited_for_its_voice,
    ],
)
def test_what_has_ended_is_dropped_wherever_it_stands(shop: Shop, course: Callable[[Shop, FakePeer], None]) -> None:
    peer, other = shop.peer(), shop.peer()
    course(shop, peer)
    shop.ask(other)
    shop.work()
    assert not peer.posted and len(other.got(Synthesized)) == 1
    assert len(shop.loader.engine.phrases) == 1


def test_what_ends_while_the_engine_is_at_work_is_not_sent(shop: Shop) -> None:
    peer = shop.peer()
    shop.ask(peer)
    shop.g2p()
    batch = shop.synthesis._scheduler.next_batch(1)
    shop.synthesis.end(cast(Peer, peer), "u")
    shop.synthesis._speak(batch)
    assert not peer.posted and shop.synthesis.chunks_done == 0


# --- what others see of it -------------------------------------------------------------------------------------------


def test_the_log_has_the_text_of_those_alone_who_asked_for_it(
    shop: Shop, logged: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = shop.peer("u", "v")
    shop.ask(peer, "secret", "u")
    shop.ask(peer, "spoken", "v", debug=True)
    shop.g2p()
    taken = [shop.synthesis._scheduler.next_batch(4), []]  # nothing more comes, and the thread ends
    monkeypatch.setattr(shop.synthesis._scheduler, "next_batch", lambda limit: taken.pop(0))
    shop.synthesis._run_engine()
    said = [record.__dict__.get("phonemes") for record in logged.records]
    assert "spoken" in said and "secret" not in said
    assert [record.__dict__["utterance"] for record in logged.records if record.getMessage() == "synthesized"] == ["v"]


def test_how_long_the_engine_has_been_at_it_is_seen(shop: Shop) -> None:
    assert shop.synthesis.busy(1.0) == 0.0 and shop.synthesis.stuck(1.0, 30) == ""
    with shop.synthesis._work["synthesis"]:
        began = shop.synthesis._work["synthesis"].began
        assert began is not None and shop.synthesis.busy(began + 7) == pytest.approx(7)


def test_both_threads_end_when_it_is_closed_though_espeak_cannot_be_started(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, logged: pytest.LogCaptureFixture
) -> None:
    def fail(self: object) -> None:
        raise ModelUnavailable("espeak-ng is not installed", "install it")

    monkeypatch.setattr(synthesis_module.EspeakEngine, "start", fail)
    before = set(threading.enumerate())
    shop.synthesis.start()
    threads = set(threading.enumerate()) - before
    for _ in range(2):  # idempotent
        shop.synthesis.close()
    for thread in threads:
        thread.join(SECONDS)
    assert not set(threading.enumerate()) - before and "espeak-ng cannot be started" in logged.text


# --- made ready to be heard, and kept --------------------------------------------------------------------------------


def test_what_is_spoken_has_the_common_level_and_a_rest_before_it(shop: Shop) -> None:
    level = Level((-30.0,) * len(LENGTHS), -20.0)
    shop.synthesis._styles.levels = lambda _: ((level, 1.0),)  # type: ignore[assignment, misc]
    shop.loader.engine.amplitude = 0.1
    peer = shop.peer()
    shop.ask(peer, untouched=False, rest=0.44)
    shop.work()
    silence = int(np.flatnonzero(peer.samples)[0])
    assert silence == round((0.44 - TAIL_SECONDS) * SAMPLE_RATE)
    assert peer.samples[silence] == pytest.approx(0.1 * 10 ** (6 / 20))
    first = peer.got(AudioChunk)[0].words[0]
    assert first.first_frame == silence


def test_between_the_parts_of_a_long_text_chunk_the_voice_rests_too(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeG2P, "letters", f"{FakeG2P.letters}.")
    peer = shop.peer()
    shop.ask(peer, "abcd efgh. " * 40, untouched=False)
    shop.g2p()
    pieces = [piece for pieces in shop.synthesis._scheduler._turns.values() for piece in pieces]
    assert [piece.rest for piece in pieces] == [0.0, *[SENTENCE_SECONDS] * (len(pieces) - 1)] and len(pieces) > 1
    assert all(len(piece.text) <= synthesis_module.UNHURRIED_PHONEMES for piece in pieces)


def test_what_was_said_before_is_said_from_memory_in_its_turn(shop: Shop) -> None:
    shop.keep(1 << 20)
    shop.loader.engine.frames = 10
    first = shop.peer()
    for index, text in enumerate(("one", "two", "three")):
        shop.ask(first, text, index=index)
    shop.work()
    spoken = len(shop.loader.engine.phrases)
    again = shop.peer()
    for index, text in enumerate(("one", "new", "three")):
        shop.ask(again, text, index=index)
    shop.work()
    assert [phrase.phonemes for phrase in shop.loader.engine.phrases[spoken:]] == ["new"]
    assert [chunk.index for chunk in again.got(Synthesized)] == [0, 1, 2]
    assert np.array_equal(again.samples[:30], first.samples[:30])
    assert again.got(AudioChunk)[0].words == first.got(AudioChunk)[0].words
    assert (shop.synthesis.kept.hits, shop.synthesis.kept.asked) == (2, 6)


def test_another_engine_or_voice_does_not_say_what_was_kept(shop: Shop) -> None:
    shop.keep(1 << 20)
    shop.loader.engine.frames = 10
    for change in (lambda: None, lambda: setattr(shop.loader.engine, "precision", "bf16"), lambda: None):
        change()
        shop.ask(shop.peer(), "one")
        shop.work()
    shop.loader.packs["af_heart"] = np.full(PACK_SHAPE, 2.0, np.float32)
    shop.synthesis._styles.pack.cache_clear()
    shop.synthesis._styles.digest.cache_clear()
    shop.ask(shop.peer(), "one")
    shop.work()
    assert (shop.synthesis.kept.hits, shop.synthesis.kept.asked) == (1, 4)
