from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import espeakng_loader
import numpy as np
import pytest

from kokoro_common.errors import ModelUnavailable
from kokoro_common.espeak import EspeakEngine

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


def seconds(samples: np.ndarray) -> float:
    return len(samples) / 24_000


@pytest.mark.parametrize("lang", SENTENCES)
def test_every_language_speaks(engine: EspeakEngine, lang: str) -> None:
    samples = engine.synthesize(SENTENCES[lang], lang, 1.0, True)
    assert samples.dtype == np.float32 and samples.ndim == 1
    assert 1.0 < seconds(samples) < 8.0
    assert 0.05 < np.abs(samples).max() < 1.5


def test_the_same_text_gives_the_same_samples_whatever_came_before(engine: EspeakEngine) -> None:
    before = engine.synthesize(SENTENCES["a"], "a", 1.0, True)
    for lang, sentence in SENTENCES.items():
        engine.synthesize(sentence, lang, 3.5, lang != "a")
        assert np.array_equal(engine.synthesize(SENTENCES["a"], "a", 1.0, True), before)


def test_another_process_gives_the_same_samples(engine: EspeakEngine) -> None:
    other = EspeakEngine()
    try:
        samples = other.synthesize(SENTENCES["e"], "e", 1.0, False)
    finally:
        other.close()
    assert np.array_equal(samples, engine.synthesize(SENTENCES["e"], "e", 1.0, False))


def test_language_and_gender_choose_different_voices(engine: EspeakEngine) -> None:
    spoken = [engine.synthesize("Pan, ten, no.", lang, 1.0, female) for lang in SENTENCES for female in (True, False)]
    assert len({samples.tobytes() for samples in spoken}) == len(spoken)


def test_speed_is_a_multiplier_down_to_what_the_library_knows(engine: EspeakEngine) -> None:
    text = SENTENCES["a"] * 2
    natural = seconds(engine.synthesize(text, "a", 1.0, True))
    for speed in (0.5, 2.0, 4.0):
        assert seconds(engine.synthesize(text, "a", speed, True)) == pytest.approx(natural / speed, rel=0.15)
    slowest = engine.synthesize(text, "a", 80 / 175, True)
    assert np.array_equal(engine.synthesize(text, "a", 0.25, True), slowest)


@pytest.mark.parametrize("text", ["[[h@l'oU]]", "<b>hello</b>", "&lt;hello&gt;", "<audio src='x'/>hello"])
def test_nothing_in_the_text_is_a_command(engine: EspeakEngine, text: str) -> None:
    assert seconds(engine.synthesize(text, "a", 1.0, True)) > 1.5 * seconds(engine.synthesize("hello", "a", 1.0, True))


def test_control_characters_and_surrogates_are_blanks(engine: EspeakEngine) -> None:
    plain = engine.synthesize("one  two", "a", 1.0, True)
    assert np.array_equal(engine.synthesize("one\0\ud800two", "a", 1.0, True), plain)
    assert np.array_equal(
        engine.synthesize("one\x0150s two", "a", 1.0, True), engine.synthesize("one 50s two", "a", 1.0, True)
    )


@pytest.mark.parametrize("text", ["", " ", "\0", "。", "..", "\u202e", "😀", "́" * 400, "H̷̢̛" * 100])
def test_text_with_nothing_to_say_is_no_error(engine: EspeakEngine, text: str) -> None:
    assert len(engine.synthesize(text, "a", 1.0, True)) > 0


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
    status, _ = engine._answer({"text": text, "tag": "en-us", "rate": 175, "female": True})
    assert status < 0
    assert len(engine._spoken(text, "en-us", 175, True)) > 5 * 2 * 22_050
    assert seconds(engine.synthesize(text, "a", 1.0, True)) > 5


def test_a_worker_that_was_killed_is_replaced(engine: EspeakEngine) -> None:
    before = engine.synthesize(SENTENCES["a"], "a", 1.0, True)
    os.kill(engine._worker.pid, signal.SIGKILL)
    engine._worker.wait()
    assert np.array_equal(engine.synthesize(SENTENCES["a"], "a", 1.0, True), before)


def test_close_leaves_no_process() -> None:
    engine = EspeakEngine()
    pid = engine._worker.pid
    os.kill(pid, 0)
    engine.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_worker_ends_with_its_owner() -> None:
    code = "import os; from kokoro_common.espeak import EspeakEngine; engine = EspeakEngine(); os._exit(7)"
    # The worker holds the owner's standard error: run() returns only when the worker has ended, too.
    owner = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, timeout=30)
    assert owner.returncode == 7


def test_a_library_that_cannot_be_loaded_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "libespeak-ng.so"
    broken.write_bytes(b"no library")
    monkeypatch.setattr(espeakng_loader, "get_library_path", lambda: str(broken))
    with pytest.raises(ModelUnavailable, match="reinstall espeakng-loader"):
        EspeakEngine()


def test_a_library_without_its_data_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(espeakng_loader, "get_data_path", lambda: str(tmp_path))
    with pytest.raises(ModelUnavailable, match="no usable data"):
        EspeakEngine()


def test_a_voice_that_is_not_there_is_not_replaced_by_another(
    engine: EspeakEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules["kokoro_common.espeak"]._TAGS, "a", "xx")
    with pytest.raises(ModelUnavailable, match="xx"):
        engine.synthesize("hello", "a", 1.0, True)


def test_importing_the_room_loads_nothing() -> None:
    code = "import sys, kokoro_common.espeak; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "soxr", "soundfile", "ctypes", "subprocess", "espeakng_loader"} & {*modules}
