"""Phonemes, style, speed and seed to audio. torch stays in this package; nothing outside imports it.

The engine is used by one thread. What it speaks is what kokoro.KModel speaks, sample for sample within rounding.
Importing this module costs nothing; torch (2 s) is imported by the first call that needs it. kokoro (7 s) is never.
The process should have the ENVIRONMENT of daemon.model_server: without it a forward is slower and memory grows.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import warnings

from kokoro_common.engine.device import OutOfMemory, failure, first_line
from kokoro_common.errors import ModelUnavailable
from kokoro_common.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    import numpy as np
    import numpy.typing as npt

    from kokoro_common.engine.decoder import TorchDecoder
    from kokoro_common.engine.kernel_decoder import KernelDecoder


_MODEL_REMEDY = "name another model with KOKORO_MANIFEST, or use --engine espeak"


class Phrase(Record):
    """The input of the engine: one text chunk as phonemes, and how it is spoken."""

    phonemes: str  # 1 to 510; those outside the model's vocabulary are not spoken
    style: npt.NDArray[np.float32]  # (1, 256), a row of a voice pack
    speed: float  # rate multiplier, 1.0 natural
    seed: int  # of the noise and the phases


class Waveform(Record):
    """The audio of one phrase."""

    samples: npt.NDArray[np.float32]  # (frames,), 24 kHz, mono
    durations: npt.NDArray[np.int64]  # (token ids,), units of SAMPLES_PER_DURATION; first and last of the 0 at each end


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
        """Loads the model again, onto a device, with a decoder of each precision; the first is used."""
        with warnings.catch_warnings(action="ignore"):  # torch's, which are not the user's concern
            from kokoro_common.engine.network import Network

            try:
                network = Network(self._config, self._weights_path, device)
                decoders = self._make_decoders(network.take_decoder_weights(), device, precisions)
            except ValueError as error:
                problem = f"{self._weights_path} does not fill the model: {error}"
                raise ModelUnavailable(problem, _MODEL_REMEDY) from error
            except Exception as error:  # a wrong file can fail anywhere in torch
                problem = f"{self._weights_path} cannot be loaded: {first_line(error)}"
                raise ModelUnavailable(problem, _MODEL_REMEDY) from error
        self._network, self._decoders = network, decoders
        self.device, self.precision = device, precisions[0]
        self.batch_limit = 1  # phrases that are worth a forward together
        _give_back_memory()

    def _make_decoders(
        self, weights: Mapping[str, Any], device: str, precisions: Sequence[str]
    ) -> dict[str, TorchDecoder | KernelDecoder]:
        import torch

        from kokoro_common.engine import kernel
        from kokoro_common.engine.decoder import TorchDecoder
        from kokoro_common.engine.kernel_decoder import KernelDecoder

        generator = self._config["istftnet"]
        self.path = f"plain torch on {device}"  # how the decoder is computed, for a person
        if device == "cpu":
            library, problem = kernel.load()
            problem = problem or kernel.misfit(weights, generator)
            if library is not None and not problem:
                self.path = "compiled kernel"
                return {each: KernelDecoder(library, weights, generator, each) for each in precisions}
            self.path += f"; the compiled kernel cannot be used: {problem}"
        dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16}
        return {each: TorchDecoder(weights, generator, dtypes[each]) for each in precisions}

    @property
    def vocabulary(self) -> frozenset[str]:
        """The phonemes that have a token id."""
        return frozenset(self._network.vocabulary)

    @property
    def threads(self) -> int:
        """Of the CPU. Another number changes the order of sums, and with it the samples."""
        import torch

        return torch.get_num_threads()

    def use(self, precision: str) -> None:
        """Changes to another precision that the engine was made with; raises KeyError for any other."""
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
        """As synthesize, always in one forward. Raises OutOfMemory, DeviceLost, KokoroError."""
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
            text = " and ".join(f"{len(phrase.phonemes)} phonemes at speed {phrase.speed:g}" for phrase in phrases)
            raise failure(error, self.device, text) from error
        for number, samples, durations in zip(spoken, audio, prosody.durations, strict=True):
            waves[number] = Waveform(samples=samples.numpy(), durations=durations.numpy())
        return waves


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
