"""Our forward pass against kokoro's own, on a toy Kokoro, and its batches against single forwards."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings

import pytest

from tests.helpers.toy_kokoro import TOY_CONFIG, VOCABULARY, make_broken_kokoro

SYMBOLS = list(VOCABULARY)


@pytest.fixture(scope="module")
def config(varied_kokoro):
    return json.loads(varied_kokoro.config_path.read_text("utf-8"))


@pytest.fixture(scope="module")
def network(varied_kokoro, config):
    from kokoro_common.engine.network import Network

    return Network(config, str(varied_kokoro.weights_path), "cpu")


@pytest.fixture(scope="module")
def decoder_weights(network):
    return network.take_decoder_weights()


@pytest.fixture(scope="module")
def decoder(decoder_weights, config):
    import torch

    from kokoro_common.engine.decoder import TorchDecoder

    return TorchDecoder(decoder_weights, config["istftnet"], torch.float32)


class Upstream:
    """KModel, and what went into its decoder and its generator at the last forward."""

    def __init__(self, config, weights):
        with warnings.catch_warnings(action="ignore"):
            import kokoro

            self.model = kokoro.KModel(repo_id="hexgrad/Kokoro-82M", config=config, model=weights).eval()
        self.stages = {}
        generator = self.model.decoder.generator
        self.model.decoder.register_forward_pre_hook(lambda _, x: self.stages.update(asr=x[0], f0=x[1], energy=x[2]))
        generator.noise_convs[0].register_forward_pre_hook(lambda _, x: self.stages.update(source=x[0]))

    def speak(self, phonemes, style, speed, seed):
        import torch

        torch.manual_seed(seed)
        return self.model(phonemes, style, speed, return_output=True)


@pytest.fixture(scope="module")
def upstream(varied_kokoro, config):
    return Upstream(config, str(varied_kokoro.weights_path))


@pytest.fixture(scope="module")
def pack(varied_kokoro):
    import torch

    return torch.load(varied_kokoro.voice_path("af_bella"), weights_only=True)


def phonemes_of(length):
    """A phrase of so many phonemes, always the same."""
    return "".join(SYMBOLS[(7 * place + length) % len(SYMBOLS)] for place in range(length))


def ids_of(length):
    return [0, *(VOCABULARY[phoneme] for phoneme in phonemes_of(length)), 0]


def noise_below_signal(actual, expected):
    """dB."""
    import torch

    error = (actual.double() - expected.double()).square().sum()
    return float(10 * torch.log10(expected.double().square().sum() / error))


@pytest.mark.model
@pytest.mark.parametrize(
    ("length", "speed"), [(1, 1.0), (2, 4.0), (5, 0.25), (24, 1.1), (61, 2.0), (510, 4.0)]
)  # up to 13 s of audio
def test_a_phrase_equals_upstreams(length, speed, network, decoder, upstream, pack):
    import torch

    style = pack[length - 1]  # (1, 256)
    expected = upstream.speak(phonemes_of(length), style, speed, seed=length)
    prosody = network.prosody([ids_of(length)], style, [speed])
    assert torch.equal(prosody.durations[0], expected.pred_dur)
    assert prosody.units == [int(expected.pred_dur.sum())]
    # Each stage from upstream's own: the last bit of F0, which differs on some processors, is a phase in the source.
    stages = upstream.stages
    for name in ("asr", "f0", "energy"):
        assert (
            torch.equal(getattr(prosody, name), stages[name])
            or noise_below_signal(getattr(prosody, name), stages[name]) > 100
        ), name
    assert torch.equal(network.source(stages["f0"], prosody.units, [length]), stages["source"])
    inputs = (stages["asr"], stages["f0"], stages["energy"], style, stages["source"])
    spectrum = decoder.decode(*inputs, prosody.units)
    (audio,) = network.waveform(spectrum, prosody.units)
    assert audio.shape == expected.audio.shape == (600 * prosody.units[0],)
    assert noise_below_signal(audio, expected.audio) > 100


@pytest.mark.model
def test_voiced_and_unvoiced_source_equal_upstreams(network, upstream):
    import torch

    f0 = torch.tensor([[0.0, 0.0, -3.0, 10.0, 10.1, 80.0, 251.7, 3999.9, 0.0, 120.0]])  # Hz, (1, 2 * units)
    generator = upstream.model.decoder.generator
    with torch.inference_mode():
        torch.manual_seed(11)
        excitation, _, _ = generator.m_source(generator.f0_upsamp(f0[:, None]).transpose(1, 2))
        expected = torch.cat(generator.stft.transform(excitation.transpose(1, 2).squeeze(1)), 1)
    assert torch.equal(network.source(f0, [5], [11]), expected)


@pytest.mark.model
def test_the_random_state_of_the_process_is_left_alone(network):
    import torch

    torch.manual_seed(1)
    before = torch.get_rng_state()
    network.source(torch.full((1, 4), 200.0), [2], [5])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.model
def test_weight_norm_is_folded_to_the_last_bit(decoder_weights, upstream, pack):
    import torch

    upstream.speak("a", pack[0], 1.0, seed=0)  # kokoro computes them at each forward
    normed = {name: module for name, module in upstream.model.decoder.named_modules() if hasattr(module, "weight_g")}
    assert len(normed) > 30
    for name, module in normed.items():
        assert torch.equal(decoder_weights[f"{name}.weight"], module.weight), name


LENGTHS = (12, 1, 25, 3)
SPEEDS = (1.0, 4.0, 1.2, 0.5)


@pytest.mark.model
def test_in_a_batch_each_phrase_is_what_it_is_alone(network, decoder, pack):
    import torch

    styles = torch.cat([pack[length - 1] for length in LENGTHS])  # (batch, 256)
    prosody = network.prosody([ids_of(length) for length in LENGTHS], styles, SPEEDS)
    source = network.source(prosody.f0, prosody.units, LENGTHS)
    spectrum = decoder.decode(prosody.asr, prosody.f0, prosody.energy, styles, source, prosody.units)
    waves = network.waveform(spectrum, prosody.units)
    assert min(prosody.units) == 3 < max(prosody.units) / 10
    for i, (length, units) in enumerate(zip(LENGTHS, prosody.units, strict=True)):
        style = styles[i : i + 1]
        alone = network.prosody([ids_of(length)], style, [SPEEDS[i]])
        assert torch.equal(prosody.durations[i], alone.durations[0])
        for name, steps in (("asr", units), ("f0", 2 * units), ("energy", 2 * units)):
            curve, expected = getattr(prosody, name)[i], getattr(alone, name)[0]
            torch.testing.assert_close(curve[..., :steps], expected, rtol=1e-4, atol=1e-4)
            assert not curve[..., steps:].any()
        # A bit of the pitch is another waveform, so from here on with the batch's.
        f0, energy = prosody.f0[i : i + 1, : 2 * units], prosody.energy[i : i + 1, : 2 * units]
        excitation = network.source(f0, [units], [length])
        assert torch.equal(source[i : i + 1, :, : excitation.shape[2]], excitation)
        assert not source[i, :, excitation.shape[2] :].any()
        expected = decoder.decode(prosody.asr[i : i + 1, :, :units], f0, energy, style, excitation, [units])
        (audio,) = network.waveform(expected, [units])
        assert waves[i].shape == audio.shape
        for part in (slice(None), slice(300), slice(-300, None)):
            assert noise_below_signal(waves[i][part], audio[part]) > 100


@pytest.mark.model
def test_bfloat16_convolutions_are_near(network, decoder, decoder_weights, config, pack):
    import torch

    from kokoro_common.engine.decoder import TorchDecoder

    prosody = network.prosody([ids_of(6)], pack[5], [1.0])
    source = network.source(prosody.f0, prosody.units, [0])
    arguments = (prosody.asr, prosody.f0, prosody.energy, pack[5], source, prosody.units)
    exact = decoder.decode(*arguments)
    near = TorchDecoder(decoder_weights, config["istftnet"], torch.bfloat16).decode(*arguments)
    assert near.dtype == torch.float32 and not torch.equal(near, exact)
    assert noise_below_signal(near, exact) > 30


@pytest.mark.model
def test_what_a_style_says_is_kept_for_the_latest(decoder):
    import torch

    from kokoro_common.engine.decoder import STYLES_KEPT

    styles = torch.randn(STYLES_KEPT + 5, 128)
    terms = [decoder._terms(style) for style in styles]
    assert len(decoder._known) == STYLES_KEPT
    assert decoder._terms(styles[-1].clone()) is terms[-1]
    again = decoder._terms(styles[0])
    assert again is not terms[0] and torch.equal(again, terms[0])


@pytest.mark.model
@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        ("empty", r"bert\.embeddings\.word_embeddings\.weight is missing"),
        ("renamed", r"decoder\.F0_conv\.weight is missing"),
        (
            "misshapen",
            r"^1 weights .*: predictor\.F0_proj\.weight has the shape \(1, 255, 1\) instead of \(1, 256, 1\)$",
        ),
        ("part missing", r"text_encoder\.embedding\.weight is missing"),
        ("key missing", r"^1 weights missing or wrong: predictor\.N_proj\.bias is missing$"),
        ("not finite", r"^1 weights missing or wrong: predictor\.F0_proj\.bias is not finite$"),
    ],
)
def test_weights_that_do_not_fill_the_network_are_named(damage, problem, toy_kokoro, tmp_path):
    from kokoro_common.engine.network import Network

    make_broken_kokoro(tmp_path, toy_kokoro, damage)
    with pytest.raises(ValueError, match=problem):
        Network(TOY_CONFIG, str(tmp_path / "kokoro-v1_0.pth"), "cpu")


@pytest.mark.model
@pytest.mark.parametrize("key", ["hidden_dim", "plbert", "istftnet"])
def test_a_configuration_of_something_else_is_refused(key, varied_kokoro, config):
    from kokoro_common.engine.network import Network

    for changed in ({**config, key: None}, {name: value for name, value in config.items() if name != key}):
        with pytest.raises(ValueError, match="not a configuration of Kokoro"):
            Network(changed, str(varied_kokoro.weights_path), "cpu")


def checkpoint_weights(path, config, checkpoint):
    """What is read from a checkpoint with these parts."""
    import torch

    from kokoro_common.engine.checkpoint import read_weights

    torch.save(checkpoint, path)
    return read_weights(str(path), config, torch.device("cpu"))


@pytest.mark.model
def test_what_the_forward_does_not_need_is_left_alone(varied_kokoro, config, tmp_path):
    import torch

    checkpoint = torch.load(varied_kokoro.weights_path, weights_only=True)
    checkpoint["bert"] |= {"module.embeddings.position_ids": torch.arange(512)[None], "module.more": torch.ones(1)}
    checkpoint["optimizer"] = {"step": 3}
    norm = {"module.encode.norm1.norm.weight": torch.ones(514), "module.encode.norm1.norm.bias": torch.zeros(514)}
    checkpoint["decoder"] |= norm
    weights = checkpoint_weights(tmp_path / "more.pth", config, checkpoint)
    assert not [name for name in weights if "position_ids" in name or "pooler" in name or ".norm1.norm." in name]
    checkpoint["decoder"]["module.encode.norm1.norm.weight"][3] = 1.5
    with pytest.raises(ValueError, match=r"decoder\.encode\.norm1\.norm\.weight is not neutral"):
        checkpoint_weights(tmp_path / "trained.pth", config, checkpoint)


@pytest.mark.model
def test_half_precision_and_names_without_prefix_are_read(varied_kokoro, config, network, tmp_path):
    import torch

    checkpoint = torch.load(varied_kokoro.weights_path, weights_only=True)
    halves = {
        part: {name.removeprefix("module."): weight.half() for name, weight in weights.items()}
        for part, weights in checkpoint.items()
    }
    weights = checkpoint_weights(tmp_path / "half.pth", config, halves)
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    for name, weight in network.weights.items():
        torch.testing.assert_close(weights[name], weight, rtol=2e-3, atol=1e-4)


@pytest.mark.model
@pytest.mark.parametrize("content", [[1, 2], {"bert": [1]}])
def test_a_file_of_something_else_is_refused(content, config, tmp_path):
    with pytest.raises(ValueError, match="not a dict of state dicts"):
        checkpoint_weights(tmp_path / "other.pth", config, content)


WITHOUT_KOKORO = """
import json, sys
import torch
from kokoro_common.engine.decoder import TorchDecoder
from kokoro_common.engine.network import Network
config = json.load(open(sys.argv[1], encoding="utf-8"))
network = Network(config, sys.argv[2], "cpu")
decoder = TorchDecoder(network.take_decoder_weights(), config["istftnet"], torch.float32)
style = torch.zeros(1, 256)
prosody = network.prosody([[0, 5, 0]], style, [4.0])
source = network.source(prosody.f0, prosody.units, [0])
network.waveform(decoder.decode(*prosody[2:], style, source, prosody.units), prosody.units)
print(*sorted(sys.modules.keys() & {"kokoro", "transformers", "misaki", "huggingface_hub", "loguru", "spacy"}))
"""


@pytest.mark.model
def test_neither_kokoro_nor_transformers_is_imported(varied_kokoro):
    arguments = [sys.executable, "-c", WITHOUT_KOKORO, varied_kokoro.config_path, varied_kokoro.weights_path]
    assert subprocess.run(arguments, capture_output=True, text=True, check=True).stdout == "\n"
