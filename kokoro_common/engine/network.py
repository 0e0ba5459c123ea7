"""Kokoro-82M's forward pass in plain torch, over the checkpoint that kokoro.KModel loads. Owns torch, with the engine.

Four stages, so that one of them can be done by other means:

    prosody   token ids, styles, speeds -> durations; what is said, pitch and energy along time
    source    pitch -> spectrogram of the excitation, sines and noise
    decode    all of that -> spectrogram of the speech: nine tenths of the time, by TorchDecoder or KernelDecoder
    waveform  spectrogram -> audio

For a batch of one on the CPU `prosody` and `source` do upstream's operations in upstream's order and agree with KModel
to the last bit. They have to: phases are angles of numbers near zero, so a bit of the pitch changes the waveform.
`decode` is free to be faster; from the same source its audio agrees to 100 dB.

In a batch of several the items are padded at their ends, and masks keep the padding from being heard: each item is what
it would be alone, within rounding. A unit is 25 ms: 600 samples, 2 steps of pitch and energy, 120 of a spectrogram.
Calls block for the computing and leave torch's random state alone. (`import kokoro` would import transformers: 5 s.)
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from kokoro_common.engine.checkpoint import ALBERT_LAYER, HARMONICS, LSTM_WEIGHTS, SOURCE_LINEAR, read_weights
from kokoro_common.sound.samples import SAMPLE_RATE, SAMPLES_PER_DURATION

if TYPE_CHECKING:
    from collections.abc import Sequence

STYLE = 128  # the first 128 numbers of a style are for the decoder, the last for prosody
SINE_AMPLITUDE = 0.1
VOICED_NOISE = 0.003  # amplitude; unvoiced it is a third of SINE_AMPLITUDE
VOICED_ABOVE = 10  # Hz
EPSILON = 1e-5  # of all normalisations but ALBERT's
ALBERT_EPSILON = 1e-12
HALF_POWER = float(torch.rsqrt(torch.tensor(2)))  # factor for the sum of two paths, as upstream computes it


class Prosody(NamedTuple):
    """How a batch is to be spoken. The curves are zero beyond an item's end."""

    durations: list[Tensor]  # (tokens,) int64 each, in units; on the CPU
    units: list[int]  # their sums
    asr: Tensor  # (batch, 512, units): what is said
    f0: Tensor  # (batch, 2 * units): pitch in Hz
    energy: Tensor  # (batch, 2 * units)


class Network:
    """One Kokoro in memory."""

    def __init__(self, config: dict[str, Any], weights_path: str, device: str) -> None:
        """Loads in half a second.

        Raises ValueError if configuration and weights do not make a Kokoro, and what torch.load raises for a file that
        is no checkpoint. The file stays mapped: it may be deleted or replaced, but not written to.
        """
        try:
            self._configure(config)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a configuration of Kokoro: {error!r}") from error
        self._device = torch.device(device)
        # Weights by their names in the checkpoint, part first: "decoder.encode.conv1.weight". Weight norm is folded,
        # bit for bit; the LSTMs' are not here.
        self.weights = read_weights(weights_path, config, self._device)
        names = [name.removesuffix(".weight_ih_l0") for name in self.weights if name.endswith(".weight_ih_l0")]
        self._lstms = {
            name: _make_lstm({key: self.weights.pop(f"{name}.{key}") for key in LSTM_WEIGHTS}) for name in names
        }
        self._window = torch.hann_window(self._n_fft, device=self._device)

    def _configure(self, config: dict[str, Any]) -> None:
        generator = config["istftnet"]
        self.vocabulary: dict[str, int] = config["vocab"]
        self._heads: int = config["plbert"]["num_attention_heads"]
        self._albert_layers: int = config["plbert"]["num_hidden_layers"]
        self._layers: int = config["n_layer"]
        self._text_padding: int = config["text_encoder_kernel_size"] // 2
        self._n_fft: int = generator["gen_istft_n_fft"]
        self._hop: int = generator["gen_istft_hop_size"]  # samples
        if 2 * math.prod(generator["upsample_rates"]) * self._hop != SAMPLES_PER_DURATION:
            raise ValueError(f"the rates of the configuration do not make {SAMPLES_PER_DURATION} samples")

    # ---- prosody

    @torch.inference_mode()
    def prosody(self, ids: Sequence[Sequence[int]], styles: Tensor, speeds: Sequence[float]) -> Prosody:
        """For each item its token ids, with the 0 at both ends, a style (of (batch, 256)) and a rate multiplier."""
        style = styles[:, STYLE:].to(self._device)
        lengths = [len(item) for item in ids]
        mask = padding_mask(lengths, self._device)  # (batch, 1, tokens)
        tokens = pad_sequence([torch.tensor(item) for item in ids], batch_first=True).to(self._device)
        hidden = self._linear("bert_encoder", self._albert(tokens, mask))  # (batch, tokens, 512)
        encoded = self._encode_durations(hidden, style, lengths)  # (batch, tokens, 640)
        x = self._lstm("predictor.lstm", encoded, lengths if len(ids) > 1 else None)
        logits = self._linear("predictor.duration_proj.linear_layer", x)  # (batch, tokens, 50)
        expected = torch.sigmoid(logits).sum(-1).cpu()  # (batch, tokens), in units at speed 1
        durations = [
            torch.round(row[:length] / speed).clamp(min=1).long()
            for row, length, speed in zip(expected, lengths, speeds, strict=True)
        ]
        units = [int(each.sum()) for each in durations]
        spoken = _spread(durations, self._device)  # (batch, units)
        f0, energy = self._curves(_take(encoded, spoken), style, units)
        asr = _take(self._encode_text(tokens, mask, lengths), spoken)  # (batch, units, 512)
        return Prosody(durations, units, masked(asr.mT, padding_mask(units, self._device)).contiguous(), f0, energy)

    def _albert(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """(batch, tokens) to (batch, tokens, 768)."""
        embeddings = "bert.embeddings"
        x = F.embedding(tokens, self.weights[f"{embeddings}.word_embeddings.weight"])
        x = x + self.weights[f"{embeddings}.token_type_embeddings.weight"][0]
        x = x + self.weights[f"{embeddings}.position_embeddings.weight"][: tokens.shape[1]]
        x = self._layer_norm(f"{embeddings}.LayerNorm", x)
        x = self._linear("bert.encoder.embedding_hidden_mapping_in", x)
        heard = None if mask is None else mask[:, None] > 0  # (batch, 1, 1, tokens)
        for _ in range(self._albert_layers):
            query, key, value = (
                self._linear(f"{ALBERT_LAYER}.attention.{each}", x).view(*x.shape[:2], self._heads, -1).transpose(1, 2)
                for each in ("query", "key", "value")
            )  # (batch, heads, tokens, 64)
            y = F.scaled_dot_product_attention(query, key, value, heard, scale=query.shape[-1] ** -0.5)
            y = self._linear(f"{ALBERT_LAYER}.attention.dense", y.transpose(1, 2).flatten(2))
            x = self._layer_norm(f"{ALBERT_LAYER}.attention.LayerNorm", x + y)
            y = self._linear(f"{ALBERT_LAYER}.ffn", x)
            y = self._linear(f"{ALBERT_LAYER}.ffn_output", _gelu(y))
            x = self._layer_norm(f"{ALBERT_LAYER}.full_layer_layer_norm", y + x)
        return x

    def _encode_durations(self, x: Tensor, style: Tensor, lengths: list[int]) -> Tensor:
        """(batch, tokens, 512) to (batch, tokens, 640): the last 128 are the style, again at each layer."""
        styles = style[:, None].expand(-1, x.shape[1], -1)
        x = torch.cat([x, styles], -1)
        for i in range(0, 2 * self._layers, 2):
            x = self._lstm(f"predictor.text_encoder.lstms.{i}", x, lengths)
            gain, shift = self._linear(f"predictor.text_encoder.lstms.{i + 1}.fc", style)[:, None].chunk(2, -1)
            x = (1 + gain) * F.layer_norm(x, x.shape[-1:], eps=EPSILON) + shift
            x = torch.cat([x, styles], -1)
        return x

    def _curves(self, x: Tensor, style: Tensor, units: list[int]) -> tuple[Tensor, Tensor]:
        """(batch, units, 640) to pitch and energy, (batch, 2 * units)."""
        x = self._lstm("predictor.shared", x, units if len(units) > 1 else None).mT  # (batch, 512, units)
        masks = padding_mask(units, self._device), padding_mask([2 * each for each in units], self._device)
        curves = []
        for kind in ("F0", "N"):
            y = self._residual(f"predictor.{kind}.0", x, style, masks[0], masks[0])
            y = self._residual(f"predictor.{kind}.1", y, style, *masks)  # (batch, 256, 2 * units)
            y = self._residual(f"predictor.{kind}.2", y, style, masks[1], masks[1])
            curves.append(masked(self._conv(f"predictor.{kind}_proj", y), masks[1]).squeeze(1))
        return curves[0], curves[1]

    def _encode_text(self, tokens: Tensor, mask: Tensor | None, lengths: list[int]) -> Tensor:
        """(batch, tokens) to (batch, tokens, 512)."""
        x = masked(F.embedding(tokens, self.weights["text_encoder.embedding.weight"]).mT, mask)
        for i in range(self._layers):
            x = self._conv(f"text_encoder.cnn.{i}.0", x, padding=self._text_padding)
            gain, shift = self.weights[f"text_encoder.cnn.{i}.1.gamma"], self.weights[f"text_encoder.cnn.{i}.1.beta"]
            x = F.layer_norm(x.mT, gain.shape, gain, shift, EPSILON).mT
            x = masked(F.leaky_relu(x, 0.2), mask)
        return self._lstm("text_encoder.lstm", x.mT, lengths)

    def _residual(self, name: str, x: Tensor, style: Tensor, before: Tensor | None, after: Tensor | None) -> Tensor:
        """(batch, channels, time) to the same, or twice the time: the masks are those before and after."""
        y = masked(F.leaky_relu(self._adain(f"{name}.norm1", x, style, before), 0.2), before)
        if f"{name}.pool.weight" in self.weights:
            x = F.interpolate(x, scale_factor=2, mode="nearest")
            weight, bias = self.weights[f"{name}.pool.weight"], self.weights[f"{name}.pool.bias"]
            y = F.conv_transpose1d(y, weight, bias, stride=2, padding=1, output_padding=1, groups=len(weight))
        y = self._conv(f"{name}.conv1", masked(y, after), padding=1)
        y = masked(F.leaky_relu(self._adain(f"{name}.norm2", y, style, after), 0.2), after)
        y = self._conv(f"{name}.conv2", y, padding=1)
        if f"{name}.conv1x1.weight" in self.weights:
            x = self._conv(f"{name}.conv1x1", x)
        return (y + x) * HALF_POWER

    def _adain(self, name: str, x: Tensor, style: Tensor, mask: Tensor | None) -> Tensor:
        gain, shift = self._linear(f"{name}.fc", style)[:, :, None].chunk(2, 1)
        return (1 + gain) * (F.instance_norm(x) if mask is None else normalise(x, mask)) + shift

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def _conv(self, name: str, x: Tensor, padding: int = 0) -> Tensor:
        return F.conv1d(x, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"), padding=padding)

    def _layer_norm(self, name: str, x: Tensor) -> Tensor:
        gain, shift = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return F.layer_norm(x, gain.shape, gain, shift, ALBERT_EPSILON)

    def _lstm(self, name: str, x: Tensor, lengths: list[int] | None) -> Tensor:
        """(batch, time, channels) to (batch, time, 512). Packed if there are lengths, which rounds otherwise."""
        if lengths is None:
            y: Tensor = self._lstms[name](x)[0]
            return y
        packed = pack_padded_sequence(x, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self._lstms[name](packed)[0], batch_first=True)[0]

    # ---- source

    @torch.inference_mode()
    def source(self, f0: Tensor, units: Sequence[int], seeds: Sequence[int]) -> Tensor:
        """Pitch (batch, 2 * units) to magnitudes and phases, (batch, 22, 120 * units + 1), zero beyond an item's end.

        A seed gives what upstream gives after torch.manual_seed.
        """
        items = [
            self._excite(row[None, : 2 * length], torch.Generator().manual_seed(seed))
            for row, length, seed in zip(f0, units, seeds, strict=True)
        ]
        longest = max(item.shape[2] for item in items)
        return torch.cat([F.pad(item, (0, longest - item.shape[2])) for item in items])

    def _excite(self, f0: Tensor, generator: torch.Generator) -> Tensor:
        """(1, 2 * units) to (1, 22, 120 * units + 1)."""
        # Upstream draws initial phases, and then interpolates so that they have no effect: the pitch is constant over
        # `step` samples, of which it takes the two in the middle, and the phases are added to the first.
        torch.rand(1, HARMONICS, generator=generator)
        step = SAMPLES_PER_DURATION // 2
        overtones = torch.arange(1.0, HARMONICS + 1, device=f0.device)[:, None]
        cycles = f0[:, None] * overtones / SAMPLE_RATE % 1  # (1, 9, 2 * units), per sample
        phase = torch.cumsum(cycles, 2) * 2 * torch.pi * step
        wave = F.interpolate(phase, scale_factor=step, mode="linear").mT  # (1, samples, 9), in memory (1, 9, samples)
        wave = wave.sin_().mul_(SINE_AMPLITUDE)
        noise = torch.empty(1, HARMONICS, wave.shape[1]).mT.normal_(generator=generator)  # drawn in the memory's order
        voiced = (f0 > VOICED_ABOVE).float().repeat_interleave(step, 1)[:, :, None]  # (1, samples, 1)
        amplitude = voiced * VOICED_NOISE + (1 - voiced) * SINE_AMPLITUDE / 3
        wave.mul_(voiced).add_(noise.to(f0.device).mul_(amplitude))
        wave = torch.tanh(self._linear(SOURCE_LINEAR, wave)).squeeze(2)  # (1, samples)
        spectrum = torch.stft(wave, self._n_fft, self._hop, self._n_fft, self._window, return_complex=True)
        return torch.cat([spectrum.abs(), spectrum.angle()], 1)

    # ---- decode

    def take_decoder_weights(self) -> dict[str, Tensor]:
        """The weights of the decoder, for TorchDecoder or KernelDecoder, no longer held here. Call once."""
        mine = [name for name in self.weights if name.startswith("decoder.") and not name.startswith(SOURCE_LINEAR)]
        return {name.removeprefix("decoder."): self.weights.pop(name) for name in mine}

    # ---- waveform

    @torch.inference_mode()
    def waveform(self, spectrum: Tensor, units: Sequence[int]) -> list[Tensor]:
        """Turns a decoder's spectrogram into audio: (600 * units,) for each item, 24 kHz, on the CPU."""
        waves = []
        for item, length in zip(spectrum, units, strict=True):
            steps = SAMPLES_PER_DURATION * length // self._hop + 1
            magnitude, phase = item[:, :steps].split(self._n_fft // 2 + 1)
            complex_spectrum = torch.exp(magnitude) * torch.exp(torch.sin(phase) * 1j)
            waves.append(torch.istft(complex_spectrum, self._n_fft, self._hop, self._n_fft, self._window).cpu())
        return waves


def _gelu(x: Tensor) -> Tensor:
    """In place, as ALBERT computes it: F.gelu(approximate="tanh") differs in the last bit."""
    curve = torch.pow(x, 3.0).mul_(0.044715).add_(x).mul_(math.sqrt(2.0 / math.pi)).tanh_().add_(1.0)
    return x.mul_(0.5).mul_(curve)


def padding_mask(lengths: Sequence[int], device: torch.device) -> Tensor | None:
    """1 where an item is, 0 where its padding is: (batch, 1, time). None for one item."""
    if len(lengths) == 1:
        return None
    steps = torch.arange(max(lengths), device=device)
    return (steps < torch.tensor(lengths, device=device)[:, None, None]).float()


def masked(x: Tensor, mask: Tensor | None) -> Tensor:
    return x if mask is None else x * mask


def normalise(x: Tensor, mask: Tensor) -> Tensor:
    """Instance norm over an item without its padding."""
    count = mask.sum(-1, keepdim=True)
    x = x - (x * mask).sum(-1, keepdim=True) / count
    return x * torch.rsqrt((x * mask).square().sum(-1, keepdim=True) / count + EPSILON)


def _spread(durations: list[Tensor], device: torch.device) -> Tensor:
    """(batch, units): the index of the token that is spoken."""
    indices = [torch.repeat_interleave(torch.arange(len(each)), each) for each in durations]
    return pad_sequence(indices, batch_first=True).to(device)


def _take(x: Tensor, index: Tensor) -> Tensor:
    """(batch, tokens, channels) and (batch, units) to (batch, units, channels)."""
    return x[torch.arange(len(x), device=x.device)[:, None], index]


def _make_lstm(parameters: dict[str, Tensor]) -> torch.nn.LSTM:
    four_hidden, inputs = parameters["weight_ih_l0"].shape
    lstm = torch.nn.LSTM(inputs, four_hidden // 4, batch_first=True, bidirectional=True, device="meta")
    lstm.load_state_dict(parameters, assign=True)
    lstm.requires_grad_(False).eval().flatten_parameters()  # on a GPU they have to lie together
    return lstm
