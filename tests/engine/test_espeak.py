from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import espeakng_loader
import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kokoro_common.engine.espeak import EspeakEngine, EspeakSound, _within_limits
from kokoro_common.errors import ModelUnavailable

SENTENCES = {
    "a": "The quick brown fox jumps over the lazy dog.",
    "b": "The quick brown fox jumps over the lazy dog.",
    "e": "El veloz murciélago hindú comía feliz cardillo.",
    "f": "Portez ce vieux whisky au juge blond qui fume.",
    "h": "नमस्ते दुनिया, आप कैसे हैं?",
    "i": "Quel vituperabile xenofobo zelante assaggia il whisky.",
    "j": "こんにちは、せかい。",
    "p": "Luís argüia à Júlia que brações, fé e chá não são coisas.",
    "z": "你好，世界。",
}


@pytest.fixture(scope="module")
def engine() -> Iterator[EspeakEngine]:
    engine = EspeakEngine()
    yield engine
    engine.close()


def seconds(speech: EspeakSound) -> float:
    return len(speech.samples) / 24_000


@pytest.mark.parametrize("lang", SENTENCES)
def test_every_language_speaks(engine: EspeakEngine, lang: str) -> None:
    speech = engine.synthesize(SENTENCES[lang], lang, 1.0, True)
    samples = speech.samples
    assert samples.dtype == np.float32 and samples.ndim == 1
    assert 1.0 < seconds(speech) < 8.0
    assert 0.05 < np.abs(samples).max() < 1.5


def test_the_same_text_gives_the_same_samples_whatever_came_before(engine: EspeakEngine) -> None:
    before = engine.synthesize(SENTENCES["a"], "a", 1.0, True).samples
    for lang, sentence in SENTENCES.items():
        engine.synthesize(sentence, lang, 3.5, lang != "a")
        assert np.array_equal(engine.synthesize(SENTENCES["a"], "a", 1.0, True).samples, before)


def test_another_process_gives_the_same_samples(engine: EspeakEngine) -> None:
    other = EspeakEngine()
    try:
        samples = other.synthesize(SENTENCES["e"], "e", 1.0, False).samples
    finally:
        other.close()
    assert np.array_equal(samples, engine.synthesize(SENTENCES["e"], "e", 1.0, False).samples)


def test_language_and_gender_choose_different_voices(engine: EspeakEngine) -> None:
    spoken = [engine.synthesize("Pan, ten, no.", lang, 1.0, female) for lang in SENTENCES for female in (True, False)]
    assert len({speech.samples.tobytes() for speech in spoken}) == len(spoken)


def test_speed_is_a_multiplier_down_to_what_the_library_knows(engine: EspeakEngine) -> None:
    text = SENTENCES["a"] * 2
    natural = seconds(engine.synthesize(text, "a", 1.0, True))
    for speed in (0.5, 2.0, 4.0):
        assert seconds(engine.synthesize(text, "a", speed, True)) == pytest.approx(natural / speed, rel=0.15)
    slowest = engine.synthesize(text, "a", 80 / 175, True)
    assert np.array_equal(engine.synthesize(text, "a", 0.25, True).samples, slowest.samples)


@pytest.mark.parametrize("text", ["[[h@l'oU]]", "<b>hello</b>", "&lt;hello&gt;", "<audio src='x'/>hello"])
def test_nothing_in_the_text_is_a_command(engine: EspeakEngine, text: str) -> None:
    assert seconds(engine.synthesize(text, "a", 1.0, True)) > 1.5 * seconds(engine.synthesize("hello", "a", 1.0, True))


def test_control_characters_and_surrogates_are_blanks(engine: EspeakEngine) -> None:
    plain = engine.synthesize("one  two", "a", 1.0, True)
    assert np.array_equal(engine.synthesize("one\0\ud800two", "a", 1.0, True).samples, plain.samples)
    command = engine.synthesize("one\x0150s two", "a", 1.0, True)
    assert np.array_equal(command.samples, engine.synthesize("one 50s two", "a", 1.0, True).samples)


@pytest.mark.parametrize("text", ["", " ", "\0", "。", "..", "\u202e", "😀", "́" * 400, "H̷̢̛" * 100])
def test_text_with_nothing_to_say_is_no_error(engine: EspeakEngine, text: str) -> None:
    assert len(engine.synthesize(text, "a", 1.0, True).samples) > 0


@pytest.mark.parametrize(
    ("lang", "word"),
    [
        ("a", "x"),
        ("a", "1"),
        ("a", "777 "),
        ("a", "pneumono"),
        ("e", "palabra "),
        ("z", "中"),
        ("j", "日本"),
        ("h", "न"),
    ],
)
def test_no_part_of_a_long_word_or_clause_is_lost(engine: EspeakEngine, lang: str, word: str) -> None:
    """The library drops what is too much for it: then twice the text would not take twice the time."""
    half, whole = (seconds(engine.synthesize(word * (n // len(word)), lang, 1.0, True)) for n in (192, 384))
    assert whole == pytest.approx(2 * half, rel=0.08)


def test_a_text_that_crashes_the_library_is_spoken_in_halves(engine: EspeakEngine) -> None:
    text = "a.b.c.d." * 50
    status, _, _ = engine._answer({"text": text, "tag": "en-us", "rate": 175, "female": True})
    assert status < 0
    assert len(engine._spoken(text, "en-us", 175, True)[0]) > 5 * 2 * 22_050
    assert seconds(engine.synthesize(text, "a", 1.0, True)) > 5


def test_words_keep_their_place_in_halves(engine: EspeakEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "One river, two boats, three houses, four people."
    whole = engine.synthesize(text, "a", 1.0, True)
    answer = engine._answer

    def fragile(request: dict[str, object]) -> tuple[int, bytes, bytes]:
        return answer(request) if len(str(request["text"])) < 30 else (-11, b"", b"")

    monkeypatch.setattr(engine, "_answer", fragile)
    halves = engine.synthesize(text, "a", 1.0, True)
    assert_in_order(text, halves)
    words = ["One", "river", "two", "boats", "three", "houses", "four", "people"]
    assert heard(text, halves) == heard(text, whole) == words
    one_word = "extraordinary-misunderstandings"
    (only,) = engine.synthesize(one_word, "a", 1.0, True).words  # halved within
    assert (only.start, only.end) == (0, len(one_word))
    assert only.ends > 1.5 * 24_000
    right = engine.synthesize(text[text.index("houses") :], "a", 1.0, True)
    assert [word.begins for word in halves.words[5:]] == pytest.approx(
        [word.begins + len(halves.samples) - len(right.samples) for word in right.words], abs=24
    )


# --- Words -----------------------------------------------------------------------------------------------------------

TEXTS = {
    "a": "Hello world, it costs $3.50 in 2024! And well-known, e.g. 50% of\nit's é😀 (x).\0 “The” end, so—really…  yes",
    "b": "A hot bath: 12:30 and/or *stars* x…y, I'm 1,000 \U0001d400bc e\u0301t ﬁne. 'Tis www.example.com/a_b [1]",
    "e": "El río cuesta 21 € de la casa; mañana. ¿Qué? ¡1.200,50! «sí»",
    "f": "Qu'est-ce que l’eau de la vie, aujourd'hui ? « Peut-être » : œuvre n° 5.",
    "h": "नमस्ते दुनिया, आप कैसे हैं? यह 2024 है। और 50% भी।",
    "i": "L’uomo c'è, 3,5% più o meno; perché no? Città.",
    "j": "こんにちは、せかい。日本語は１２３です。「はい」ABC",
    "p": "Luís foi à casa da avó: guarda-chuva, não? R$ 2,50.",
    "z": "你好，世界。我有3个苹果。《红楼梦》abc很好！",
}


def assert_in_order(text: str, speech: EspeakSound) -> None:
    place = frame = 0
    for word in speech.words:
        assert place <= word.start < word.end <= len(text)
        assert frame <= word.begins <= word.ends <= len(speech.samples)
        place, frame = word.end, word.ends


def heard(text: str, speech: EspeakSound) -> list[str]:
    return [text[word.start : word.end] for word in speech.words]


@pytest.mark.parametrize("speed", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("lang", TEXTS)
def test_every_letter_and_digit_is_in_one_word(engine: EspeakEngine, lang: str, speed: float) -> None:
    text = TEXTS[lang]
    speech = engine.synthesize(text, lang, speed, True)
    assert_in_order(text, speech)
    covered = {place for word in speech.words for place in range(word.start, word.end)}
    assert [text[place:] for place in range(len(text)) if text[place].isalnum() and place not in covered] == []


@pytest.mark.parametrize(
    ("lang", "text", "words"),
    [
        ("a", "It costs $3.50, well-known—e.g. 50%!", ["It", "costs", "$3.50", "well-known", "e.g", "50%"]),
        ("a", "The end of the road", ["The", "end", "of the", "road"]),  # "of the" is one word of its dictionary
        ("e", "¿Qué? «1.200,50» euros", ["Qué", "1.200,50", "euros"]),
        ("f", "L’été, peut-être", ["L’été", "peut-être"]),
        ("h", "आप कैसे हैं? भी।", ["आप", "कैसे", "हैं", "भी"]),
        ("j", "こんにちは、せかい。", ["こんにちは", "せかい"]),
        ("z", "你好，世界。苹果", ["你好", "世", "界", "苹果"]),
    ],
)
def test_words_are_those_of_the_text(engine: EspeakEngine, lang: str, text: str, words: list[str]) -> None:
    assert heard(text, engine.synthesize(text, lang, 1.0, False)) == words


def test_a_word_begins_and_ends_where_it_is_heard(engine: EspeakEngine) -> None:
    text = "Yes. No. Go."
    speech = engine.synthesize(text, "a", 1.0, False)  # the male voices are silent between sentences
    loud = np.flatnonzero(np.abs(speech.samples) > 0.01)
    gaps = np.flatnonzero(np.diff(loud) > 0.1 * 24_000)
    begins = [loud[0], *loud[gaps + 1]]
    ends = [*loud[gaps], loud[-1]]
    assert heard(text, speech) == ["Yes", "No", "Go"]
    assert [word.begins for word in speech.words] == pytest.approx(begins, abs=1200)  # a stop begins with its closure
    assert [word.ends for word in speech.words] == pytest.approx(ends, abs=25)


def test_words_follow_each_other_without_a_gap_longer_than_a_stop(engine: EspeakEngine) -> None:
    words = engine.synthesize("we were on our way in an airy hall", "a", 1.0, True).words
    assert len(words) > 6
    assert all(after.begins - word.ends < 0.05 * 24_000 for word, after in itertools.pairwise(words))


def test_words_keep_their_place_beside_what_the_library_does_not_take(engine: EspeakEngine) -> None:
    text = "one\0\ud800 \n two " + "x" * 70 + " " + "7" * 30 + " three"
    speech = engine.synthesize(text, "a", 1.0, True)
    assert_in_order(text, speech)
    assert heard(text, speech) == ["one", "two", "x" * 32, "x" * 32, "x" * 6, "7" * 18, "7" * 12, "three"]


def test_words_keep_their_place_beside_commas_in_a_long_clause(engine: EspeakEngine) -> None:
    text = " ".join(f"river{', ,house' * (place % 60 == 0)}" for place in range(120))
    assert _within_limits(text).count(",") > text.count(",")
    speech = engine.synthesize(text, "a", 1.0, True)
    assert_in_order(text, speech)
    assert set(heard(text, speech)) == {"river", "house"}
    assert len(speech.words) == 122


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60) | st.text(alphabet="aé1.,-'$%’ ()—\n你のह\u0301😀", max_size=40), st.sampled_from([*TEXTS]))
def test_the_words_of_odd_text_are_in_order(engine: EspeakEngine, text: str, lang: str) -> None:
    for speed in (1.0, 4.0):
        assert_in_order(text, engine.synthesize(text, lang, speed, True))


def test_a_worker_that_was_killed_is_replaced(engine: EspeakEngine) -> None:
    before = engine.synthesize(SENTENCES["a"], "a", 1.0, True).samples
    os.kill(engine._worker.pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(engine._worker.pid)], 10)
    assert np.array_equal(engine.synthesize(SENTENCES["a"], "a", 1.0, True).samples, before)


def test_close_leaves_no_process() -> None:
    engine = EspeakEngine()
    engine.start()
    assert engine._worker is not None
    pid = engine._worker.pid
    os.kill(pid, 0)
    engine.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_worker_ends_with_its_owner() -> None:
    code = "import os; from kokoro_common.engine.espeak import EspeakEngine\n"
    code += "engine = EspeakEngine(); engine.start(); os._exit(7)"
    # The worker holds the owner's standard error: run() returns only when the worker has ended, too.
    owner = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, timeout=30)
    assert owner.returncode == 7


def test_a_library_that_cannot_be_loaded_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "libespeak-ng.so"
    broken.write_bytes(b"no library")
    monkeypatch.setattr(espeakng_loader, "get_library_path", lambda: str(broken))
    with pytest.raises(ModelUnavailable, match="pip install --force-reinstall --no-deps espeakng-loader"):
        EspeakEngine().start()


def test_a_library_without_its_data_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(espeakng_loader, "get_data_path", lambda: str(tmp_path))
    with pytest.raises(ModelUnavailable, match="no usable data"):
        EspeakEngine().start()


def test_a_voice_that_is_not_there_is_not_replaced_by_another(
    engine: EspeakEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules["kokoro_common.engine.espeak"]._TAGS, "a", "xx")
    with pytest.raises(ModelUnavailable, match="xx"):
        engine.synthesize("hello", "a", 1.0, True)


def test_importing_the_room_loads_nothing() -> None:
    code = "import sys, kokoro_common.engine.espeak; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "soxr", "soundfile", "ctypes", "subprocess", "espeakng_loader"} & {*modules}


def test_the_step_at_a_seam_is_far_below_those_in_speech(engine: EspeakEngine) -> None:
    sounds = [
        engine.synthesize(text, "a", 1.0, True).samples
        for text in ("One sentence.", "A clause,", "half of a", "Is it?")
    ]
    for before, after in itertools.pairwise(sounds):
        assert abs(after[0] - before[-1]) < 0.2 * np.abs(np.diff(before)).max()
