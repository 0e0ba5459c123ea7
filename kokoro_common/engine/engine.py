"""Phonemes, style, speed and seed to audio. Owns torch, with the rooms that compute: network, checkpoint, kernel.

The engine is used by one thread. What it speaks is what kokoro.KModel speaks, sample for sample within rounding.
Importing this room costs nothing; torch (2 s) is imported by the first call that needs it. kokoro (7 s) is never.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import platform
import warnings

from kokoro_common.errors import KokoroError, ModelUnavailable
from kokoro_common.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    import numpy as np
    import numpy.typing as npt

SAMPLES_PER_DURATION = 600  # 24 kHz / 40 per second

_MODEL_REMEDY = "name another model with KOKORO_MANIFEST, or use --engine espeak"


class Phrase(Record):
    """What one forward speaks."""

    phonemes: str  # 1 to 510; those outside the model's vocabulary are not spoken
    style: npt.NDArray[np.float32]  # (1, 256), a row of a voice pack
    speed: float  # rate multiplier, 1.0 natural
    seed: int  # of the noise and the phases


class Waveform(Record):
    """What became of a phrase."""

    samples: npt.NDArray[np.float32]  # (frames,), 24 kHz, mono
    durations: npt.NDArray[np.int64]  # (token ids,), units of 600 samples; the first and last are the 0 at both ends


def device_problem(requested: str) -> str:
    """Why a device asked for cannot be here, or "" if it may be. Asks the system only: no torch, some milliseconds."""
    if requested == "cuda":
        try:
            driver = ctypes.CDLL("libcuda.so.1")
        except OSError:
            return "there is no NVIDIA driver"
        count = ctypes.c_int(0)
        if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
            return "the NVIDIA driver finds no GPU"
    if requested == "mps" and (platform.system(), platform.machine()) != ("Darwin", "arm64"):
        return "Metal needs a Mac with Apple silicon"
    return ""


def choose_device(requested: str) -> tuple[str, str]:
    """(device, why), for auto, cpu, cuda or mps. Imports torch unless cpu is asked for.

    auto is CUDA if it runs a small forward, else the CPU; Metal has to be asked for. Raises ModelUnavailable for a
    device that was asked for and does not run one.
    """
    if requested == "cpu":
        return "cpu", "asked for"
    device = "cuda" if requested == "auto" else requested
    problem = _trial(device)
    if not problem:
        return device, "a trial runs on it" if requested == "auto" else "asked for"
    if requested == "auto":
        return "cpu", problem
    raise ModelUnavailable(f"{requested} cannot be used: {problem}", "use --device cpu or --device auto")


def _trial(device: str) -> str:
    """Why the device does not run what Kokoro is made of, or ""."""
    import torch

    with warnings.catch_warnings(action="ignore"):
        if device == "cuda" and not torch.cuda.is_available():
            return "torch finds no CUDA device" if torch.version.cuda else "this torch is built without CUDA"
        if device == "mps" and not torch.backends.mps.is_available():
            return "torch finds no Metal device"
        try:
            with torch.inference_mode():
                x = torch.nn.Conv1d(8, 8, 3, device=device)(torch.randn(1, 8, 66, device=device))  # (1, 8, 64)
                x, _ = torch.nn.LSTM(8, 32, bidirectional=True, batch_first=True, device=device)(x.mT)  # (1, 64, 64)
                window = torch.hann_window(20, device=device)
                torch.stft(x.flatten(1), 20, 5, window=window, return_complex=True).angle().sum().item()  # waits for it
        except RuntimeError as error:
            return _first_line(error)
    return ""


class DeviceLost(KokoroError):
    """The device has failed, and with it all that this process had on it: only another process can use it again."""


class OutOfMemory(KokoroError):
    """The device has no memory for these phrases at once."""


def versions(device: str) -> list[str]:
    """What the speed depends on beside the processor. Imports torch."""
    import torch

    from kokoro_common.engine import kernel

    card = torch.cuda.get_device_name() if device == "cuda" else ""
    return [torch.__version__, str(kernel.INTERFACE), kernel.load()[1], bf16_problem(device), device, card]


def bf16_problem(device: str) -> str:
    """Why bfloat16 cannot be faster than float32 on a device, or "" if it may be."""
    from kokoro_common.engine import kernel

    if device == "cuda":
        return ""
    if device != "cpu":
        return f"it is not made for {device}"
    library, problem = kernel.load()
    if library is None:
        return f"the compiled kernel cannot be used: {problem}"
    return "" if kernel.has_bf16(library) else "this processor has no matrix unit"


class KokoroEngine:
    """One Kokoro in memory. One thread at a time may use it; the loader's makes it, the synthesis thread uses it."""

    def __init__(
        self, config_path: str, weights_path: str, device: str, precision: str = "fp32", *alternatives: str
    ) -> None:
        """Blocks for a second or two: imports torch and reads the weights, whose digest the caller has checked.

        `precision`: fp32, or bf16 for the decoder's products where bf16_problem has nothing against it; use() changes
        to an alternative. Raises ModelUnavailable for files that are damaged or do not make a Kokoro together.
        """
        self._config = _read_config(config_path)
        self._weights_path = weights_path
        self.notice = ""  # what has become of the device that was chosen
        self._load(device, [precision, *alternatives])

    def _load(self, device: str, precisions: Sequence[str]) -> None:
        """Anew, for a device, with a decoder of each precision; the first is used."""
        with warnings.catch_warnings(action="ignore"):  # torch's, which are not the user's concern
            from kokoro_common.engine.network import Network

            try:
                network = Network(self._config, self._weights_path, device)
                decoders = self._make_decoders(network.take_decoder_weights(), device, precisions)
            except ValueError as error:
                problem = f"{self._weights_path} does not fill the model: {error}"
                raise ModelUnavailable(problem, _MODEL_REMEDY) from error
            except Exception as error:  # a wrong file can fail anywhere in torch
                problem = f"{self._weights_path} cannot be loaded: {_first_line(error)}"
                raise ModelUnavailable(problem, _MODEL_REMEDY) from error
        self._network, self._decoders = network, decoders
        self.device, self.precision = device, precisions[0]
        self.batch_limit = 1  # phrases that are worth a forward together
        _give_back_memory()

    def _make_decoders(self, weights: Mapping[str, Any], device: str, precisions: Sequence[str]) -> dict[str, Any]:
        import torch

        from kokoro_common.engine import kernel, network

        generator = self._config["istftnet"]
        self.path = f"plain torch on {device}"  # how the decoder is computed, for a person
        if device == "cpu":
            library, problem = kernel.load()
            problem = problem or kernel.misfit(weights, generator)
            if library is not None and not problem:
                self.path = "compiled kernel"
                return {each: kernel.Decoder(library, weights, generator, each) for each in precisions}
            self.path += f"; the compiled kernel cannot be used: {problem}"
        dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16}
        return {each: network.Decoder(weights, generator, dtypes[each]) for each in precisions}

    @property
    def vocabulary(self) -> frozenset[str]:
        """The phonemes that have a token id."""
        return frozenset(self._network.vocabulary)

    def use(self, precision: str) -> None:
        """One of those that it was made with, else KeyError."""
        self._decoders[precision]
        self.precision = precision

    def synthesize(self, phrases: Sequence[Phrase]) -> list[Waveform]:
        """One waveform for each phrase, empty where no phoneme is in the vocabulary. Blocks for the forward.

        The same batch gives the same samples, whatever was spoken before it. In another batch the pitch of a phrase may
        differ in the last bit, which is enough to turn phases: it sounds the same, its samples are others.
        A graphics card without memory gets half as many phrases at once, then none: from then on the CPU speaks, and
        `notice` says so. Raises DeviceLost, and KokoroError if a forward fails otherwise.
        """
        with contextlib.suppress(OutOfMemory):
            return self.forward(phrases)
        self._empty_cache()  # now that the traceback holds no tensors
        half = -(-len(phrases) // 2)
        try:
            return [wave for part in (phrases[:half], phrases[half:]) if part for wave in self.forward(part)]
        except OutOfMemory as error:
            notice = f"{self.device} is out of memory, so the CPU speaks: {error.problem}"
        self._load("cpu", ["fp32"])
        self.notice = notice
        self._empty_cache()
        return [wave for phrase in phrases for wave in self.forward([phrase])]

    def _empty_cache(self) -> None:
        import torch

        if torch.accelerator.is_available():
            torch.accelerator.empty_cache()

    def forward(self, phrases: Sequence[Phrase]) -> list[Waveform]:
        """As synthesize, in one forward, come what may. Raises OutOfMemory, DeviceLost, KokoroError."""
        import numpy as np
        import torch

        network = self._network
        known = network.vocabulary
        ids = [[known[each] for each in phrase.phonemes if each in known] for phrase in phrases]
        spoken = [number for number, each in enumerate(ids) if each]
        waves = [Waveform(samples=np.empty(0, np.float32), durations=np.empty(0, np.int64))] * len(phrases)
        if not spoken:
            return waves
        styles = torch.tensor(np.stack([phrases[number].style[0] for number in spoken]))  # (batch, 256)
        try:
            prosody = network.prosody(
                [[0, *ids[number], 0] for number in spoken], styles, [phrases[number].speed for number in spoken]
            )
            source = network.source(prosody.f0, prosody.units, [phrases[number].seed for number in spoken])
            spectrum = self._decoders[self.precision].decode(
                prosody.asr, prosody.f0, prosody.energy, styles, source, prosody.units
            )
            audio = network.waveform(spectrum, prosody.units)
        except (RuntimeError, MemoryError) as error:
            raise self._failure(error, phrases) from error
        for number, samples, durations in zip(spoken, audio, prosody.durations, strict=True):
            waves[number] = Waveform(samples=samples.numpy(), durations=durations.numpy())
        return waves

    def _failure(self, error: Exception, phrases: Sequence[Phrase]) -> KokoroError:
        if self.device != "cpu" and "out of memory" in str(error):  # MPS has no type of its own for it
            return OutOfMemory(_first_line(error))
        if self.device == "cuda" and ("CUDA" in str(error) or type(error).__name__ == "AcceleratorError"):
            return DeviceLost(f"{self.device} has failed: {_first_line(error)}")
        what = " and ".join(f"{len(phrase.phonemes)} phonemes at speed {phrase.speed:g}" for phrase in phrases)
        return KokoroError(f"the model failed on {what}: {_first_line(error)}")


def _read_config(path: str) -> dict[str, Any]:
    """config.json, with a vocabulary that stays within the embeddings. KModel finds out about the rest."""
    try:
        with open(path, encoding="utf-8") as file:
            config: dict[str, Any] = json.load(file)
        if not all(number in range(1, config["n_token"]) for number in config["vocab"].values()):
            raise ValueError("a symbol's id is out of range")
    except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise ModelUnavailable(f"{path} is no configuration of Kokoro: {error!r}", _MODEL_REMEDY) from error
    return config


def _give_back_memory() -> None:
    """Returns to the system what loading has freed: with the servers' ENVIRONMENT the heap keeps all it ever had."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)


def _first_line(error: BaseException) -> str:
    """The kind of error and the first line of its message: torch's run to pages."""
    line = next((line for line in str(error).splitlines() if line.strip()), "no message")
    return f"{type(error).__name__}: {line}"
