"""Kokoro's decoder in plain torch, arranged for speed: where the compiled one (kernel_decoder.py) cannot be used.

From the same source its audio agrees with upstream's to 100 dB in float32.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kokoro_common.engine.network import HALF_POWER, STYLE, masked, normalise, padding_mask

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NOISE_DILATIONS = (1, 3, 5)  # dilations of the resblocks for the source; not in the configuration
STYLES_KEPT = 32  # styles whose terms are remembered, 150 KB each
LONG = 8192  # steps, above which the sums of a normalisation lose precision
STREAMS = 32  # partial sums in which they are then taken


class TorchDecoder:
    """Kokoro's decoder in plain torch, on any device. One thread at a time may use it.

    Tensors are (batch, channels, 1, time) with the channels last in memory: so oneDNN's convolutions read and write
    them without a copy. Normalisation, style and the alpha of the snake that follows are one batch_norm. With
    w = alpha * adain(x) the snake, adain(x) + sin(w)² / alpha, is (w + sin(w)²) / alpha, and that division is in the
    weights of the convolution after it.
    """

    def __init__(self, weights: Mapping[str, Tensor], generator: dict[str, Any], dtype: torch.dtype) -> None:
        """`weights`: from Network.take_decoder_weights. `dtype`: of the convolutions; all else is float32."""
        self._rates: list[int] = generator["upsample_rates"]
        self._dilations: list[Sequence[int]] = generator["resblock_dilation_sizes"]
        given = dict(weights)
        self._take_styles(given)
        self._convs: dict[str, tuple[Tensor, Tensor | None]] = {}
        for name in [name.removesuffix(".weight") for name in given if name.endswith(".weight")]:
            weight = given.pop(f"{name}.weight")[:, :, None]  # (out, in, 1, width)
            bias = given.pop(f"{name}.bias", None)
            if ".convs" in name:
                weight = weight / given.pop(name.replace(".convs", ".alpha"))[..., None]
            # Pitch, energy and phases go into or come out of these convolutions: a rounded bit there would be heard.
            exact = any(part in name for part in ("F0_conv", "N_conv", "noise_convs", "conv_post", "pool"))
            number = torch.float32 if exact else dtype
            weight = weight.to(number, memory_format=torch.channels_last)
            self._convs[name] = weight, None if bias is None else bias.to(number)

    def _take_styles(self, given: dict[str, Tensor]) -> None:
        """Joins the linear layers that turn a style into gain and shift of each normalisation into one."""
        names = [name.removesuffix(".fc.weight") for name in given if name.endswith(".fc.weight")]
        sizes = [len(given[f"{name}.fc.bias"]) for name in names]
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        self._places = {
            name: slice(start, start + size) for name, start, size in zip(names, starts, sizes, strict=True)
        }
        like = given[f"{names[0]}.fc.weight"]
        self._style_weights = like.new_empty(sum(sizes), like.shape[1])  # (terms, 128)
        self._style_biases = like.new_empty(sum(sizes))
        for name, place in self._places.items():
            weight, bias = given.pop(f"{name}.fc.weight"), given.pop(f"{name}.fc.bias")
            bias = bias + (torch.arange(len(bias), device=bias.device) < len(bias) // 2)  # the gain is 1 + what it says
            alpha = given[name.replace(".adain", ".alpha")].view(1, -1) if ".adain" in name else bias.new_ones(1, 1)
            self._style_weights[place] = (weight.view(2, -1, weight.shape[1]) * alpha[..., None]).flatten(0, 1)
            self._style_biases[place] = (bias.view(2, -1) * alpha).flatten()
        self._known: dict[bytes, Tensor] = {}  # terms of the styles used recently, the latest last

    def _terms(self, style: Tensor) -> Tensor:
        """(128,) to gain and shift of every normalisation, (terms,)."""
        key = style.cpu().numpy().tobytes()
        terms = self._known.pop(key, None)
        if terms is None:
            terms = torch.addmv(self._style_biases, self._style_weights, style.to(self._style_weights.device))
        self._known[key] = terms
        if len(self._known) > STYLES_KEPT:
            del self._known[next(iter(self._known))]
        return terms

    @torch.inference_mode()
    def decode(
        self, asr: Tensor, f0: Tensor, energy: Tensor, styles: Tensor, source: Tensor, units: Sequence[int]
    ) -> Tensor:
        """Prosody, styles (batch, 256) and source to the spectrogram of the speech, (batch, 22, 120 * units + 1).

        It is what Network.waveform takes: logarithms of magnitudes, and phases before their sine.
        """
        terms = torch.stack([self._terms(row) for row in styles[:, :STYLE]])  # (batch, terms)
        f0 = self._conv("F0_conv", f0[:, None, None], stride=2)  # (batch, 1, 1, units)
        energy = self._conv("N_conv", energy[:, None, None], stride=2)
        masks = [_wide_mask([count * each for each in units], f0.device) for count in (1, 2)]
        asr = asr[:, :, None]  # (batch, 512, 1, units)
        x = self._residual("encode", _join(asr, f0, energy), terms, masks[0], masks[0])
        words = self._conv("asr_res.0", asr)
        for i in range(4):
            x = self._residual(f"decode.{i}", _join(x, words, f0, energy), terms, masks[0], masks[i == 3])
        source, mask, steps = _join(source[:, :, None]), masks[1], 2  # steps of x per unit
        for i, rate in enumerate(self._rates):
            stride, last = math.prod(self._rates[i + 1 :]), i + 1 == len(self._rates)
            steps *= rate
            after = _wide_mask([steps * each + last for each in units], x.device)
            y = self._conv(f"generator.noise_convs.{i}", source, stride, padding=(stride + 1) // 2 * (not last))
            y = self._resblock(f"generator.noise_res.{i}", y, terms, after, NOISE_DILATIONS)
            x = self._upsample(f"generator.ups.{i}", masked(F.leaky_relu_(x, 0.1), mask), rate)
            x = y.add_(torch.cat([x[..., 1:2], x], 3) if last else x)  # reflected at the beginning
            total = torch.zeros_like(x)
            for j, dilations in enumerate(self._dilations, i * len(self._dilations)):
                total += self._resblock(f"generator.resblocks.{j}", x, terms, after, dilations)
            x, mask = total.div_(len(self._dilations)), after
        return self._conv("generator.conv_post", masked(F.leaky_relu_(x), mask))[:, :, 0]

    def _residual(self, name: str, x: Tensor, terms: Tensor, before: Tensor | None, after: Tensor | None) -> Tensor:
        """Network._residual, in this layout."""
        y = masked(F.leaky_relu_(self._adain(f"{name}.norm1", x, terms, before), 0.2), before)
        if f"{name}.pool" in self._convs:
            x = F.interpolate(x, scale_factor=(1.0, 2.0), mode="nearest")
            y = self._upsample(f"{name}.pool", y, 2)
        y = self._conv(f"{name}.conv1", masked(y, after))
        y = masked(F.leaky_relu_(self._adain(f"{name}.norm2", y, terms, after), 0.2), after)
        y = self._conv(f"{name}.conv2", y)
        return y.add_(self._conv(f"{name}.conv1x1", x) if f"{name}.conv1x1" in self._convs else x).mul_(HALF_POWER)

    def _resblock(self, name: str, x: Tensor, terms: Tensor, mask: Tensor | None, dilations: Sequence[int]) -> Tensor:
        for j, dilation in enumerate(dilations):
            y = x
            for half, step in ((1, dilation), (2, 1)):
                y = self._adain(f"{name}.adain{half}.{j}", y, terms, mask)
                sine = torch.sin(y)
                y = masked(torch.addcmul(y, sine, sine, out=y), mask)
                del sine  # an item of a minute has 120 MB in each
                y = self._conv(f"{name}.convs{half}.{j}", y, dilation=step)
            x = y.add_(x)
        return x

    def _adain(self, name: str, x: Tensor, terms: Tensor, mask: Tensor | None) -> Tensor:
        gain, shift = terms[:, self._places[name]].chunk(2, 1)
        if mask is None and x.is_cpu and x.shape[3] > LONG:
            return F.batch_norm(x, *_moments(x), gain[0], shift[0])
        if mask is None:
            return F.batch_norm(x, None, None, gain[0], shift[0], training=True)
        return torch.addcmul(shift[..., None, None], normalise(x, mask), gain[..., None, None])

    def _conv(self, name: str, x: Tensor, stride: int = 1, dilation: int = 1, padding: int | None = None) -> Tensor:
        """Keeps the number of steps, unless there is a stride."""
        weight, bias = self._convs[name]
        if padding is None:
            padding = dilation * (weight.shape[3] - 1) // 2
        return F.conv2d(x.to(weight.dtype), weight, bias, (1, stride), (0, padding), (1, dilation)).float()

    def _upsample(self, name: str, x: Tensor, rate: int) -> Tensor:
        """Turns each step into `rate` steps."""
        weight, bias = self._convs[name]
        padding = (weight.shape[3] - rate + 1) // 2
        lacking = rate - weight.shape[3] + 2 * padding
        groups = len(weight) if weight.shape[1] == 1 else 1  # the pools are depthwise
        y = F.conv_transpose2d(x.to(weight.dtype), weight, bias, (1, rate), (0, padding), (0, lacking), groups)
        return y.float()


def _join(*parts: Tensor) -> Tensor:
    """Parts with different channels, side by side; in channels-last memory."""
    return torch.cat(parts, 1).contiguous(memory_format=torch.channels_last)


def _wide_mask(lengths: Sequence[int], device: torch.device) -> Tensor | None:
    """The same for TorchDecoder's layout: (batch, 1, 1, time)."""
    mask = padding_mask(lengths, device)
    return None if mask is None else mask[:, :, None]


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of (1, channels, 1, time), channels last in memory: (channels,) each.

    batch_norm's own add up one step after another in float32: over a minute of speech that costs 30 dB. As many numbers
    side by side, taken for more channels than there are, cost nothing.
    """
    channels, time = x.shape[1], x.shape[3]
    rows, count = x[0, :, 0].T, time // STREAMS  # (time, channels)
    most, rest = rows[: count * STREAMS], rows[count * STREAMS :]
    streams = most.reshape(count, STREAMS * channels).T[None, :, None]  # (1, streams * channels, 1, count)
    sums = torch.batch_norm_update_stats(streams, None, None, 0.0)
    means, variances = (each.view(STREAMS, channels) for each in sums)
    mean = (means.sum(0) * count + rest.sum(0)) / time
    variance = ((variances + (means - mean).square()).sum(0) * count + (rest - mean).square().sum(0)) / time
    return mean, variance
