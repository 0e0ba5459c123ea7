"""kernel.c: its library, the steps that it runs, and a decoder's weights in the order in which it reads them.

kernel.c is compiled when the package is installed, if there is a compiler; `load()` says whether it can be used.

    in (rows, channels) -> norm and activation -> taps x dilation @ weights -> + bias, residuals -> out, its moments

Each arrow from memory to memory is one step; a normalisation needs the moments of all rows before it, so a step is as
much as can be done in one pass.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
from typing import NamedTuple

from kokoro_common.installed import install_again

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from torch import Tensor

INTERFACE = 2  # of kernel.c; a library that was built from another one is not used
STYLES_KEPT = 32  # styles whose terms are remembered, 150 KB each
PLAIN = ("F0_conv", "N_conv", "asr_res", "generator.noise_convs")  # convolutions that torch does
BLOCK = 32  # rows and channels; channels are padded to a multiple of it
CONVOLUTION, SUM, POOL = range(3)
NO_ACTIVATION, LEAKY, SNAKE = range(3)
WEIGHT_PARTS = {1: 1, 3: 2}  # two are 17 bits: over 100 dB, of memory no more than float32 takes
WIDE = 256  # input channels beyond which all rows are activated before any is multiplied


class Step(ctypes.Structure):
    """One step as kernel.c has it; what the fields mean is said there."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("kind", "parts")),
        ("in_", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("rows", "stride", "channels")),
        ("scale", ctypes.c_double),
        *((name, ctypes.c_void_p) for name in ("in_moments", "gain", "offset")),
        ("activation", ctypes.c_int64),
        ("slope", ctypes.c_double),
        ("alpha", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("taps", "dilation", "padding", "out_channels")),
        *((name, ctypes.c_void_p) for name in ("weights", "bias", "activated", "out")),
        *((name, ctypes.c_int64) for name in ("out_rows", "out_stride")),
        ("first", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("first_stride", "first_shift")),
        ("second", ctypes.c_void_p),
        ("second_stride", ctypes.c_int64),
        ("out_scale", ctypes.c_double),
        ("out_moments", ctypes.c_void_p),
    ]


@functools.cache
def load() -> tuple[ctypes.CDLL | None, str]:
    """The compiled kernel, or None, and why not."""
    spec = importlib.util.find_spec("kokoro_kernel")
    if spec is None or spec.origin is None:
        return None, "it was not compiled when this was installed"
    return load_from(spec.origin)


def load_from(path: str) -> tuple[ctypes.CDLL | None, str]:
    """The kernel in that file, or None, and why not."""
    try:
        library = ctypes.CDLL(path)
        if library.kokoro_interface() != INTERFACE or library.kokoro_step_bytes() != ctypes.sizeof(Step):
            return None, f"it was compiled from another version; run {install_again()}"
    except (OSError, AttributeError) as error:
        return None, f"it cannot be loaded: {error}"
    if not library.kokoro_runs_here():
        return None, f"it was compiled for another processor; run {install_again()}"
    library.kokoro_run.argtypes = [ctypes.POINTER(Step), ctypes.c_int64, ctypes.c_int]
    return library, ""


def has_bf16(library: ctypes.CDLL) -> bool:
    """Whether the processor multiplies bfloat16 faster than float32. Asks the system for its tiles, for good."""
    return bool(library.kokoro_has_tiles())


def misfit(weights: Mapping[str, Tensor], generator: Mapping[str, Any]) -> str:
    """Why a Kokoro that plain torch can speak is not for this kernel, or ""."""
    alphas = [alpha.numel() for name, alpha in weights.items() if ".alpha" in name]
    if any(channels % BLOCK for channels in alphas):
        return f"channels of the model are no multiple of {BLOCK}"
    if any(
        size != 2 * rate
        for size, rate in zip(generator["upsample_kernel_sizes"], generator["upsample_rates"], strict=True)
    ):
        return "upsamplings of the model are not twice as wide as their rate"
    return ""


class Packed(NamedTuple):
    """The weights of one convolution in the order in which kernel.c reads them."""

    weights: Tensor
    bias: Tensor | None  # (out_channels,)
    taps: int
    channels: int  # padded, as the others are
    out_channels: int
    parts: int  # of bfloat16 that a number is cut into, 1 or 3, and a weight into WEIGHT_PARTS; 0: float32


class Norm(NamedTuple):
    """An instance norm whose gain and offset come from the style."""

    at: int  # of its gains in the style's terms; as many offsets follow
    channels: int


class Signal(NamedTuple):
    """The output of one step and input of others."""

    rows: Tensor  # (rows, channels), each row contiguous
    moments: Tensor | None = None  # (blocks, 2, channels)


class Before(NamedTuple):
    """What a step does to its input before the product: norm or scale, then leaky ReLU or snake."""

    norm: str = ""  # name of an instance norm
    scale: float = 1.0
    slope: float | None = None  # of a leaky ReLU
    alpha: str = ""  # name of a snake's alphas


class After(NamedTuple):
    """What a step does to its product: adds `first` and `second`, multiplies by `scale`, writes the result to `out`."""

    out: Tensor | None = None  # None: new memory
    first: Tensor | None = None  # its row t >> shift is added to row t
    shift: int = 0
    second: Tensor | None = None
    scale: float = 1.0
    moments: bool = True  # whether a normalisation follows


NOTHING_BEFORE, NOTHING_AFTER = Before(), After()


class Steps:
    """The steps of one forward, and the memory that they use until they have run."""

    def __init__(self, weights: KernelWeights, style: bytes) -> None:
        """`style`: the decoder's numbers of a style, float32."""
        import torch

        self._new = torch.empty
        self._weights = weights
        self._style_terms = weights.terms_of(style)
        self._steps: list[Step] = []
        self._kept: list[Tensor] = []

    def run(self, library: ctypes.CDLL, threads: int) -> None:
        """Blocks, without the interpreter's lock. Raises MemoryError."""
        steps = (Step * len(self._steps))(*self._steps)
        failed = library.kokoro_run(steps, len(steps), threads)
        if failed == -1:
            raise MemoryError("no memory for the decoder's threads")
        assert not failed, "the kernel was not compiled for these weights"

    def convolve(
        self,
        name: str,
        x: Signal,
        before: Before = NOTHING_BEFORE,
        after: After = NOTHING_AFTER,
        *,
        dilation: int = 1,
        padding: int | None = None,
        more_rows: int = 0,
    ) -> Signal:
        """Appends a convolution, whose result is there when the steps have run. Without `padding` x keeps its rows."""
        packed = self._weights.packed[name]
        assert packed.channels == x.rows.shape[1]
        rows = x.rows.shape[0] + more_rows
        out = self.empty(rows, packed.out_channels) if after.out is None else after.out
        step = Step(kind=CONVOLUTION, parts=packed.parts, scale=before.scale, out_scale=after.scale, out_rows=rows)
        self._take(step, x, before.norm)
        if before.alpha:
            step.activation, step.alpha = SNAKE, self._keep(self._weights.alphas[before.alpha])
        elif before.slope is not None:
            step.activation, step.slope = LEAKY, before.slope
        step.taps, step.dilation, step.out_channels = packed.taps, dilation, packed.out_channels
        step.padding = (packed.taps - 1) * dilation // 2 if padding is None else padding
        step.weights = self._keep(packed.weights)
        step.bias = self._keep(packed.bias)
        if packed.channels > WIDE:
            step.activated = self._keep(
                self.empty(rows + BLOCK + packed.taps * dilation + 8, packed.channels * max(2, packed.parts) // 2)
            )
        step.first, step.first_stride, step.first_shift = *self._rows(after.first), after.shift
        step.second, step.second_stride = self._rows(after.second)
        return self._give(step, out, after.moments)

    def add(self, x: Signal, other: Tensor | None = None) -> Signal:
        """x + other in the memory of x, and its moments."""
        step = Step(kind=SUM, out_scale=1.0, out_rows=x.rows.shape[0], out_channels=x.rows.shape[1])
        self._take(step, x, "")
        step.first, step.first_stride = self._rows(other)
        return self._give(step, x.rows, moments=True)

    def copy_row(self, rows: Tensor, source: int, target: int) -> None:
        step = Step(kind=SUM, out_scale=1.0, out_rows=1, out_channels=rows.shape[1])
        self._take(step, Signal(rows[source : source + 1]), "")
        self._give(step, rows[target : target + 1], moments=False)

    def pool(self, name: str, x: Signal, norm: str, slope: float) -> Signal:
        """Twice as many rows: norm, leaky ReLU, and a transposed convolution of each channel by itself."""
        taps, bias = self._weights.pools[name]
        step = Step(kind=POOL, activation=LEAKY, slope=slope)
        self._take(step, x, norm)
        step.weights, step.bias = self._keep(taps), self._keep(bias)
        return self._give(step, self.empty(2 * x.rows.shape[0], x.rows.shape[1]), moments=False)

    def empty(self, rows: int, channels: int) -> Tensor:
        empty: Tensor = self._new(rows, channels)
        return empty

    def _take(self, step: Step, x: Signal, norm: str) -> None:
        step.in_, step.stride = self._rows(x.rows)
        step.rows, step.channels = x.rows.shape
        if norm:
            assert x.moments is not None
            at, channels = self._weights.norms[norm]
            step.in_moments = self._keep(x.moments)
            step.gain = self._keep(self._style_terms[at : at + channels])
            step.offset = self._keep(self._style_terms[at + channels : at + 2 * channels])

    def _give(self, step: Step, out: Tensor, moments: bool) -> Signal:
        step.out, step.out_stride = self._rows(out)
        sums = None
        if moments:
            blocks = -(-step.out_rows // BLOCK)
            sums = self._new(blocks, 2, step.out_channels)
            step.out_moments = self._keep(sums)
        self._steps.append(step)
        return Signal(out, sums)

    def _rows(self, rows: Tensor | None) -> tuple[int | None, int]:
        return self._keep(rows), 0 if rows is None else rows.stride(0)

    def _keep(self, tensor: Tensor | None) -> int | None:
        if tensor is None:
            return None
        self._kept.append(tensor)
        return tensor.data_ptr()


class KernelWeights:
    """A decoder's weights as the steps read them: a copy, after which the originals are needed no more."""

    def __init__(self, library: ctypes.CDLL, weights: Mapping[str, Tensor], precision: str) -> None:
        """Raises ValueError for bf16 where has_bf16() does not say so."""
        import torch

        tiles = has_bf16(library)
        if precision == "bf16" and not tiles:
            raise ValueError("this processor has no matrix unit for bf16")
        self._panel = library.kokoro_panel()
        self._exact = 3 if tiles else 0  # three bfloat16 are a float32
        self._parts = 1 if precision == "bf16" else self._exact
        self.packed: dict[str, Packed] = {}
        self.norms: dict[str, Norm] = {}
        self.alphas: dict[str, Tensor] = {}
        self.pools: dict[str, tuple[Tensor, Tensor]] = {}
        self.plain: dict[str, Tensor] = {}  # for what torch does: a hundredth of the work
        terms = []
        for name, weight in weights.items():
            stem = name.removesuffix(".weight")
            if name.endswith(".fc.weight"):
                terms.append(self._norm_terms(stem.removesuffix(".fc"), weights))
            elif ".alpha" in name:
                self.alphas[name] = torch.cat([weight.flatten(), 1 / weight.flatten()])  # (2 * channels,)
            elif name.endswith(".pool.weight"):
                channels = _padded(weight.shape[0])
                taps = _pad(weight[:, 0].T, 3, channels)  # (3, channels)
                self.pools[stem] = taps, _pad(weights[f"{stem}.bias"], channels)
            elif weight.dim() == 3 and not stem.startswith(PLAIN):
                self.packed[stem] = self._pack(stem, weight, weights.get(f"{stem}.bias"))
            elif stem.removesuffix(".bias").startswith(PLAIN):
                self.plain[name] = weight
        self._term_weights = torch.cat([weight for weight, _ in terms])  # (terms, style)
        self._term_biases = torch.cat([bias for _, bias in terms])  # (terms,)
        self._terms: dict[bytes, Tensor] = {}  # of styles used recently, the latest last

    def _norm_terms(self, name: str, given: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Weights (2 * channels, style) and biases that make gains and offsets of a style."""
        import torch

        gamma, beta = given[f"{name}.fc.weight"].chunk(2)  # (channels, style)
        gamma_bias, beta_bias = given[f"{name}.fc.bias"].chunk(2)
        count = gamma.shape[0]
        gain = given.get(f"{name}.norm.weight", torch.ones(count))  # the real file has neither
        offset = given.get(f"{name}.norm.bias", torch.zeros(count))
        channels = _padded(count)
        self.norms[name] = Norm(sum(2 * norm.channels for norm in self.norms.values()), channels)
        weights = [gain[:, None] * gamma, beta + offset[:, None] * gamma]
        biases = [gain * (1 + gamma_bias), beta_bias + offset * (1 + gamma_bias)]
        return (
            torch.cat([_pad(weight, channels, weight.shape[1]) for weight in weights]),
            torch.cat([_pad(bias, channels) for bias in biases]),
        )

    def _pack(self, name: str, weight: Tensor, bias: Tensor | None) -> Packed:
        if name.startswith("generator.ups."):  # transposed, (in, out, 2 * up): two taps that give `up` rows at once
            up = weight.shape[2] // 2
            taps = weight.view(*weight.shape[:2], 2, up).flip(2).permute(2, 0, 3, 1).flatten(2)  # (2, in, up * out)
            bias = None if bias is None else bias.repeat(up)
        else:  # (out, in, taps)
            taps = weight.permute(2, 1, 0)
        parts = self._exact if name == "generator.conv_post" else self._parts  # its exponential is taken
        taps = _pad(taps, taps.shape[0], _padded(taps.shape[1]), _padded(taps.shape[2]))
        count, channels, out_channels = taps.shape
        packed = _tiles(taps, WEIGHT_PARTS[parts]) if parts else _panels(taps, self._panel)
        bias = None if bias is None else _pad(bias, out_channels)
        return Packed(packed, bias, count, channels, out_channels, parts)

    def terms_of(self, style: bytes) -> Tensor:
        """(terms,): gains and offsets of all norms, for the numbers of a style."""
        import torch

        terms = self._terms.pop(style, None)
        if terms is None:
            numbers = torch.frombuffer(bytearray(style), dtype=torch.float32)
            terms = torch.addmv(self._term_biases, self._term_weights, numbers)
        self._terms[style] = terms
        if len(self._terms) > STYLES_KEPT:
            del self._terms[next(iter(self._terms))]
        return terms


def _padded(channels: int) -> int:
    return -(-channels // BLOCK) * BLOCK


def _pad(tensor: Tensor, *shape: int) -> Tensor:
    """Zeros behind it in each dimension."""
    padded = tensor.new_zeros(shape)
    padded[tuple(slice(size) for size in tensor.shape)] = tensor
    return padded


def _panels(taps: Tensor, panel: int) -> Tensor:
    """(taps, in, out) in the order of the vector product: panels of `out`; in each all taps and `in` of its columns."""
    import torch

    return torch.cat([taps[:, :, at : at + panel].flatten() for at in range(0, taps.shape[2], panel)])


def _tiles(taps: Tensor, parts: int) -> Tensor:
    """(taps, in, out) as bfloat16 tiles: 32 of out, taps, 32 of in, parts, 2 tiles of 16 pairs by 16 columns."""
    import torch

    count, channels, out_channels = taps.shape
    shape = (count, channels // BLOCK, 16, 2, out_channels // BLOCK, 2, 16)  # taps, in, row, pair, out, tile, column
    tiles = []
    for _ in range(parts):
        part = taps.bfloat16()
        tiles.append(part.view(shape).permute(4, 0, 1, 5, 2, 6, 3))  # out, taps, in, tile, row, column, pair
        taps = taps - part.float()
    return torch.stack(tiles, dim=3)
