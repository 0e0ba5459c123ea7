"""Kokoro's decoder on a CPU, as steps for the compiled kernel. Nine tenths of a forward are spent here.

Its result equals TorchDecoder's: in float32 to 100 dB and more, in bfloat16 to about 40.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from kokoro_common.engine.decoder import NOISE_DILATIONS
from kokoro_common.engine.kernel import After, Before, KernelWeights, Signal, Steps
from kokoro_common.engine.network import STYLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ctypes
    from collections.abc import Mapping, Sequence
    from typing import Any

DECODE_BLOCKS = 4  # of kokoro's Decoder; not in the configuration
ROOT_HALF = math.sqrt(0.5)  # factor for the sum of two paths


class KernelDecoder:
    """TorchDecoder for one phrase at a time, on the CPU. One thread at a time may use it."""

    def __init__(
        self, library: ctypes.CDLL, weights: Mapping[str, Tensor], generator: Mapping[str, Any], precision: str
    ) -> None:
        """`weights`: from Network.take_decoder_weights, copied. `generator`: the configuration's "istftnet".

        `precision`: fp32, or bf16. Raises ValueError for bf16 where kernel.has_bf16() does not say so. The model must
        not be a kernel.misfit().
        """
        self._library = library
        self._dilations = generator["resblock_dilation_sizes"]
        self._kernels = len(self._dilations)
        self._weights = KernelWeights(library, weights, precision)
        packed = self._weights.packed
        self._ups = [packed[name].out_channels for name in packed if name.startswith("generator.ups.")]

    def decode(
        self, asr: Tensor, f0: Tensor, energy: Tensor, styles: Tensor, source: Tensor, units: Sequence[int]
    ) -> Tensor:
        """As TorchDecoder.decode, one item after the other: together they would not be faster here. Blocks."""
        rows = source.shape[2] // max(units)  # of a spectrogram, per unit
        with torch.inference_mode():
            items = [
                self._decode(
                    asr[i, :, :count],
                    f0[i, : 2 * count],
                    energy[i, : 2 * count],
                    styles[i, :STYLE],
                    source[i, :, : rows * count + 1],
                )
                for i, count in enumerate(units)
            ]  # (rows, 22) each
        return torch.nn.utils.rnn.pad_sequence(items, batch_first=True).mT

    def _decode(self, asr: Tensor, f0: Tensor, energy: Tensor, style: Tensor, source: Tensor) -> Tensor:
        steps = Steps(self._weights, style.numpy().tobytes())
        x = self._encode(steps, asr.T, f0, energy)
        for stage in range(len(self._ups)):
            x = self._generate(steps, stage, x, source[None])
        x = steps.convolve("generator.conv_post", x, Before(slope=0.01, scale=1 / self._kernels), After(moments=False))
        steps.run(self._library, torch.get_num_threads())
        return x.rows[:, : len(source)]

    def _encode(self, steps: Steps, text: Tensor, f0: Tensor, energy: Tensor) -> Signal:
        """text (units, 512), curves (2 * units,) to (2 * units, 512): what the generator starts with."""
        plain = self._weights.plain
        curves = [
            torch.conv1d(each[None, None], plain[f"{name}.weight"], plain[f"{name}.bias"], stride=2, padding=1)[0].T
            for name, each in (("F0_conv", f0), ("N_conv", energy))
        ]  # 2 of (units, 1)
        beside = torch.addmm(plain["asr_res.0.bias"], text, plain["asr_res.0.weight"][:, :, 0].T)  # (units, 64)
        x = steps.add(Signal(_columns(self._weights.packed["encode.conv1"].channels, text, *curves)))
        names = ["encode", *(f"decode.{number}" for number in range(DECODE_BLOCKS))]
        for name, following in itertools.pairwise(names):
            channels = self._weights.packed[f"{name}.conv2"].out_channels
            room = text.new_empty(len(text), channels)  # for what the block gives
            out = _columns(self._weights.packed[f"{following}.conv1"].channels, room, beside, *curves)
            self._residual_block(steps, name, x, out)
            x = steps.add(Signal(out))
        return self._residual_block(steps, names[-1], x, None)

    def _residual_block(self, steps: Steps, name: str, x: Signal, out: Tensor | None) -> Signal:
        up = f"{name}.pool" in self._weights.pools
        if up:
            pooled = steps.pool(f"{name}.pool", x, f"{name}.norm1", 0.2)
            inner = steps.convolve(f"{name}.conv1", pooled)
        else:
            inner = steps.convolve(f"{name}.conv1", x, Before(norm=f"{name}.norm1", slope=0.2))
        straight = x
        if f"{name}.conv1x1" in self._weights.packed:
            straight = steps.convolve(f"{name}.conv1x1", x, after=After(moments=False))
        return steps.convolve(
            f"{name}.conv2",
            inner,
            Before(norm=f"{name}.norm2", slope=0.2),
            After(out=out, first=straight.rows, shift=int(up), scale=ROOT_HALF, moments=False),
        )

    def _generate(self, steps: Steps, stage: int, x: Signal, har: Tensor) -> Signal:
        """One upsampling with its source, and the sum of its residual blocks, yet to be divided by their number."""
        noise = steps.add(Signal(self._noise(stage, har)))
        scratch = [steps.empty(*noise.rows.shape) for _ in range(3)]  # each as large as all else of a forward
        total = scratch.pop()
        noise = self._snake_block(
            steps, f"generator.noise_res.{stage}", noise, NOISE_DILATIONS, scratch, total, more=False
        )
        scale = 1.0 if stage == 0 else 1 / self._kernels
        rows, channels = noise.rows.shape
        up = self._ups[stage] // channels
        wide = steps.convolve(
            f"generator.ups.{stage}", x, Before(slope=0.1, scale=scale), After(moments=False), padding=1, more_rows=1
        )
        risen = wide.rows.view(-1, channels)[up // 2 :]  # the transposed convolution's own padding
        if stage == len(self._ups) - 1:  # reflection at the left: row 1 comes before row 0
            risen = wide.rows.view(-1, channels)[up // 2 - 1 :]
            steps.copy_row(risen, 2, 0)
        x = steps.add(Signal(risen[:rows]), noise.rows)
        for number, dilations in enumerate(self._dilations):
            name = f"generator.resblocks.{stage * self._kernels + number}"
            self._snake_block(steps, name, x, dilations, scratch, total, more=number > 0)
        return Signal(total)

    def _snake_block(
        self,
        steps: Steps,
        name: str,
        x: Signal,
        dilations: Sequence[int],
        scratch: Sequence[Tensor],
        out: Tensor,
        *,
        more: bool,
    ) -> Signal:
        """Three times two convolutions around a residual, written to `out`; added to its contents if `more`."""
        inner, middle = scratch
        for number, dilation in enumerate(dilations):
            half = steps.convolve(
                f"{name}.convs1.{number}",
                x,
                Before(norm=f"{name}.adain1.{number}", alpha=f"{name}.alpha1.{number}"),
                After(out=inner),
                dilation=dilation,
            )
            last = number == len(dilations) - 1
            x = steps.convolve(
                f"{name}.convs2.{number}",
                half,
                Before(norm=f"{name}.adain2.{number}", alpha=f"{name}.alpha2.{number}"),
                After(
                    out=out if last else middle,
                    first=x.rows,
                    second=out if last and more else None,
                    moments=not last,
                ),
            )
        return x

    def _noise(self, stage: int, har: Tensor) -> Tensor:
        """(rows, channels) of the source, by a strided convolution."""
        name = f"generator.noise_convs.{stage}"
        weight, bias = self._weights.plain[f"{name}.weight"], self._weights.plain[f"{name}.bias"]
        if weight.shape[2] == 1:
            return torch.addmm(bias, har[0].T, weight[:, :, 0].T)
        stride = weight.shape[2] // 2
        return torch.conv1d(har, weight, bias, stride, (stride + 1) // 2)[0].T.contiguous()


def _columns(width: int, *parts: Tensor) -> Tensor:
    """(rows, width): the parts side by side, then zeros."""
    rows = parts[0].new_zeros(len(parts[0]), width)
    at = 0
    for part in parts:
        rows[:, at : at + part.shape[1]] = part
        at += part.shape[1]
    return rows
