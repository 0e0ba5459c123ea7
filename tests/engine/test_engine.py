"""The engine on the toy Kokoro, through the real kokoro and torch."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from kokoro_common.engine.device import DeviceLost
from kokoro_common.engine.engine import KokoroEngine, Phrase
from kokoro_common.engine.tuning import signal_to_noise
from kokoro_common.errors import KokoroError, ModelUnavailable
from kokoro_common.sound.samples import SAMPLES_PER_DURATION
from kokoro_common.voices.pack import read_voice_pack, style_row
from tests.helpers.toy_kokoro import VOCABULARY, make_broken_kokoro

PHONEMES = "həlˈO"

UPSTREAM = """
import sys, torch, kokoro
config, weights, voice, phonemes, speed, seed, output = sys.argv[1:]
model = kokoro.KModel(repo_id="hexgrad/Kokoro-82M", config=config, model=weights).eval()
style = torch.load(voice, weights_only=True)[len(phonemes) - 1]
torch.manual_seed(int(seed))
model(phonemes, style, float(speed), return_output=True).audio.numpy().tofile(output)
"""


@pytest.fixture(scope="module")
def engine(toy_kokoro):
    return KokoroEngine(str(toy_kokoro.config_path), str(toy_kokoro.weights_path), "cpu")


@pytest.fixture(scope="module")
def pack(toy_kokoro):
    return read_voice_pack(toy_kokoro.voice_path("af_bella"))


@pytest.fixture
def phrase(pack):
    return Phrase(phonemes=PHONEMES, style=style_row(pack, len(PHONEMES)), speed=1.25, seed=7)


def samples(engine, phrase):
    (waveform,) = engine.synthesize([phrase])
    return waveform.samples


@pytest.mark.model
def test_audio_equals_upstreams_in_a_process_of_its_own(engine, phrase, toy_kokoro, tmp_path):
    paths = (toy_kokoro.config_path, toy_kokoro.weights_path, toy_kokoro.voice_path("af_bella"))
    arguments = [*map(str, paths), phrase.phonemes, str(phrase.speed), str(phrase.seed), str(tmp_path / "audio")]
    subprocess.run([sys.executable, "-c", UPSTREAM, *arguments], check=True)
    expected = np.fromfile(tmp_path / "audio", np.float32)
    assert len(expected) > 5000 and expected.std() > 0.01
    # Beyond 100 where F0 is equal to the last bit, which some processors do not make it: see test_network.py.
    assert signal_to_noise(expected, samples(engine, phrase)) > 15


@pytest.mark.model
def test_a_phrase_sounds_the_same_whatever_was_spoken_before(engine, phrase):
    other = phrase.replace(phonemes="mˈɔɹ", seed=8)
    first, second, third = engine.synthesize([phrase, other, phrase])
    assert np.array_equal(first.samples, third.samples)
    assert not np.array_equal(first.samples, samples(engine, phrase.replace(seed=8)))
    assert second.samples.dtype == np.float32 and second.samples.ndim == 1


@pytest.mark.model
def test_durations_count_600_samples_for_each_token_id(engine, phrase):
    (waveform,) = engine.synthesize([phrase])
    assert waveform.durations.shape == (len(PHONEMES) + 2,)
    assert waveform.durations.sum() * SAMPLES_PER_DURATION == len(waveform.samples)
    assert len(samples(engine, phrase.replace(speed=0.5))) > 2 * len(waveform.samples)


@pytest.mark.model
def test_unknown_phonemes_are_not_spoken(engine, phrase):
    assert not {"7", "ß"} & VOCABULARY.keys()
    assert np.array_equal(samples(engine, phrase.replace(phonemes=f"7{PHONEMES}ß")), samples(engine, phrase))
    (waveform,) = engine.synthesize([phrase.replace(phonemes="7ß")])
    assert waveform.samples.shape == (0,) and waveform.samples.dtype == np.float32
    assert waveform.durations.shape == (0,) and waveform.durations.dtype == np.int64


@pytest.mark.model
def test_a_failed_forward_says_what_failed_and_harms_nothing(engine, phrase):
    expected = samples(engine, phrase)
    with pytest.raises(KokoroError, match=r"the model failed on 5 phonemes at speed 1\.25: ") as caught:
        engine.synthesize([phrase.replace(style=phrase.style[:, :200])])
    assert caught.value.exit_code == 1 and "\n" not in str(caught.value)
    assert np.array_equal(samples(engine, phrase), expected)


@pytest.mark.model
def test_together_phrases_sound_as_they_do_alone(engine, pack):
    texts = ("a", PHONEMES, "wˈʌn tˈu θɹˈi", "7")
    phrases = [Phrase(phonemes=each, style=style_row(pack, len(each)), speed=1.0, seed=3) for each in texts]
    for phrase, wave in zip(phrases, engine.synthesize(phrases), strict=True):
        (alone,) = engine.synthesize([phrase])
        assert np.array_equal(wave.durations, alone.durations)
        assert wave.samples.shape == alone.samples.shape


class Failing:
    """A decoder on a card that fails so many times."""

    def __init__(self, decoder, *failures):
        self.decoder = decoder
        self.failures = list(failures)
        self.batches = []

    def decode(self, *arguments):
        self.batches.append(len(arguments[0]))
        if self.failures:
            raise self.failures.pop(0)
        return self.decoder.decode(*arguments)


@pytest.fixture
def card(engine, monkeypatch):
    """An engine whose decoder fails as it is told."""

    def fail(*failures):
        failing = Failing(engine._decoders["fp32"], *failures)
        monkeypatch.setitem(engine._decoders, "fp32", failing)
        return failing

    return fail


def out_of_memory():
    import torch

    return torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")


@pytest.mark.model
def test_a_card_without_memory_gets_half_the_batch_once(engine, phrase, card, monkeypatch):
    expected = samples(engine, phrase)
    monkeypatch.setattr(engine, "device", "cuda")
    failing = card(out_of_memory())
    waves = engine.synthesize([phrase, phrase, phrase])
    assert failing.batches == [3, 2, 1]
    assert np.array_equal(waves[2].samples, expected) and not engine.notice


@pytest.mark.model
def test_without_memory_for_half_of_it_the_cpu_speaks_and_says_so(phrase, toy_kokoro, monkeypatch):
    engine = KokoroEngine(str(toy_kokoro.config_path), str(toy_kokoro.weights_path), "cpu")
    expected = samples(engine, phrase)
    failing = Failing(engine._decoders["fp32"], out_of_memory(), out_of_memory())
    engine._decoders, engine.device = {"fp32": failing}, "cuda"
    waves = engine.synthesize([phrase, phrase])
    assert failing.batches == [2, 1]
    assert engine.device == "cpu" and engine.notice.startswith("cuda is out of memory, so the CPU speaks: OutOfMemory")
    assert [np.array_equal(wave.samples, expected) for wave in waves] == [True, True]


@pytest.mark.model
def test_a_card_that_is_lost_is_told_from_a_forward_that_fails(engine, phrase, card, monkeypatch):
    monkeypatch.setattr(engine, "device", "cuda")
    card(RuntimeError("CUDA error: unspecified launch failure\nand pages of advice"))
    with pytest.raises(DeviceLost, match=r"cuda has failed: RuntimeError: CUDA error: unspecified launch failure$"):
        engine.synthesize([phrase])
    card(RuntimeError("shapes do not fit"))
    with pytest.raises(KokoroError, match=r"the model failed on 5 phonemes") as caught:
        engine.synthesize([phrase])
    assert not isinstance(caught.value, DeviceLost)


@pytest.mark.model
def test_no_memory_on_the_cpu_is_a_kokoro_error(engine, phrase, card):
    card(MemoryError("no memory for the decoder's threads"))
    with pytest.raises(KokoroError, match="no memory for the decoder's threads"):
        engine.synthesize([phrase])


@pytest.mark.model
def test_loading_and_speaking_write_nothing(engine, phrase, toy_kokoro, capfd):
    second = KokoroEngine(str(toy_kokoro.config_path), str(toy_kokoro.weights_path), "cpu")
    second.synthesize([phrase])
    assert capfd.readouterr() == ("", "")


@pytest.mark.model
@pytest.mark.parametrize("damage", ["empty", "renamed", "misshapen", "part missing", "key missing", "not finite"])
def test_a_checkpoint_that_does_not_fill_the_model_is_refused(damage, toy_kokoro, tmp_path):
    make_broken_kokoro(tmp_path, toy_kokoro, damage)
    with pytest.raises(ModelUnavailable, match="does not fill the model") as caught:
        KokoroEngine(str(tmp_path / "config.json"), str(tmp_path / "kokoro-v1_0.pth"), "cpu")
    assert caught.value.exit_code == 4


@pytest.mark.model
@pytest.mark.parametrize("content", [b"", b"<html>", b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R."])
def test_weights_that_are_no_checkpoint_are_refused(content, toy_kokoro, tmp_path):
    weights = tmp_path / "kokoro-v1_0.pth"
    weights.write_bytes(content)
    with pytest.raises(ModelUnavailable, match="cannot be loaded: ") as caught:
        KokoroEngine(str(toy_kokoro.config_path), str(weights), "cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.model
@pytest.mark.parametrize("key", ["n_layer", "istftnet"])
def test_a_configuration_of_another_network_is_refused(key, toy_kokoro, tmp_path):
    config = json.loads(toy_kokoro.config_path.read_text("utf-8"))
    config[key] = {"n_layer": 2, "istftnet": None}[key]
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config), "utf-8")
    with pytest.raises(ModelUnavailable):
        KokoroEngine(str(path), str(toy_kokoro.weights_path), "cpu")


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"[]", b"{}", b"\xff\xfe", b"[" * 100_000),
        *(b'{"n_token": 178, "vocab": %s}' % vocab for vocab in (b"[]", b'{"a": 178}', b'{"a": 0}', b'{"a": "b"}')),
    ],
)
def test_a_damaged_configuration_is_refused_before_anything_is_imported(content, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "kokoro_common.engine.network", None)  # its import fails
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ModelUnavailable, match="is no configuration") as caught:
        KokoroEngine(str(path), "nowhere.pth", "cpu")
    assert caught.value.exit_code == 4
