"""Phonemes, style, speed and seed to audio, by kokoro.KModel as it is. Owns torch and kokoro.

torch's random state belongs to the whole process: the thread that has the engine must be the only one to use torch.
Importing this room costs nothing; torch (2 s) and kokoro (7 s) are imported by the first call that needs them.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import sys
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

_BEFORE_TORCH = {
    # oneDNN and torch keep compiled kernels for each input shape, 21 MB a length, without end unless they are bounded.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "8",
    "LRU_CACHE_CAPACITY": "8",
    # Threads that wait for the next operation sleep instead of spinning: beside other work a forward takes half of the
    # time and of the processor. The samples are the same.
    "OMP_WAIT_POLICY": "passive",
    "PYTORCH_ENABLE_MPS_FALLBACK": "1",  # the CPU does what Metal has no kernel for
}
# What the process that runs the engine is to be started with.
ENVIRONMENT = {
    **_BEFORE_TORCH,
    # One heap for all threads. Else each has several that never shrink, the synthesis thread does not find what the
    # loader's has freed, half a gigabyte, and the holes that one length of speech leaves are too small for the next.
    "MALLOC_ARENA_MAX": "1",
    # glibc gives large blocks back to the system after each forward and faults them in again: 5 to 20 % of the time.
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "268435456",
}

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
    _prepare_environment()
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


class KokoroEngine:
    """One Kokoro in memory. Make and use it on one thread, the only one of the process that uses torch."""

    batch_limit = 1  # KModel.forward takes one phrase at a time

    def __init__(self, config_path: str, weights_path: str, device: str) -> None:
        """Blocks for seconds: imports kokoro and loads the weights, whose digest the caller has checked.

        Raises ModelUnavailable for files that are damaged or do not make a Kokoro together.
        """
        config = _read_config(config_path)
        with warnings.catch_warnings(action="ignore"):  # upstream's deprecations, which are not the user's concern
            kokoro = _import_kokoro()
            try:
                model = kokoro.KModel(repo_id="hexgrad/Kokoro-82M", config=config, model=weights_path)
                lacking = _lacking(model, weights_path)
                self._model = model.to(device).eval()
            except Exception as error:  # a wrong file can fail anywhere in kokoro, transformers and torch
                problem = f"{weights_path} cannot be loaded: {_first_line(error)}"
                raise ModelUnavailable(problem, _MODEL_REMEDY) from error
        if lacking:
            problem = (
                f"{weights_path} does not fill the model: {len(lacking)} weights missing or wrong, as {lacking[0]}"
            )
            raise ModelUnavailable(problem, _MODEL_REMEDY)

    @property
    def vocabulary(self) -> frozenset[str]:
        """The phonemes that have a token id."""
        return frozenset(self._model.vocab)

    def synthesize(self, phrases: Sequence[Phrase]) -> list[Waveform]:
        """One waveform for each phrase, empty where no phoneme is in the vocabulary. Blocks for the forwards.

        The same phrase gives the same samples, whatever was spoken before it. Raises KokoroError if a forward fails.
        """
        return [self._speak(phrase) for phrase in phrases]

    def _speak(self, phrase: Phrase) -> Waveform:
        import torch

        if not any(phoneme in self._model.vocab for phoneme in phrase.phonemes):
            return Waveform(samples=torch.empty(0).numpy(), durations=torch.empty(0, dtype=torch.int64).numpy())
        style = torch.tensor(phrase.style)  # (1, 256), a copy: packs are read-only, which from_numpy warns about
        try:
            with torch.inference_mode():
                torch.manual_seed(phrase.seed)
                output = self._model(phrase.phonemes, style, phrase.speed, return_output=True)
        except RuntimeError as error:
            problem = f"the model failed on {len(phrase.phonemes)} phonemes at speed {phrase.speed:g}"
            raise KokoroError(f"{problem}: {_first_line(error)}") from error
        return Waveform(samples=output.audio.numpy(), durations=output.pred_dur.numpy())


def begin_with_environment() -> None:
    """For the first line of a program that was started by hand: the same program again, unless ENVIRONMENT is there.

    Returns, or does not: glibc reads its variables once, when a process begins. What the user has set stays.
    """
    if missing := {name: value for name, value in ENVIRONMENT.items() if name not in os.environ}:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **missing})


def without_engine(environment: Mapping[str, str]) -> dict[str, str]:
    """The same for a process that runs no engine: its heaps may shrink."""
    return {name: value for name, value in environment.items() if ENVIRONMENT.get(name) != value}


def _prepare_environment() -> None:
    """To be called before torch is imported, for a process that was started without ENVIRONMENT."""
    for name, value in _BEFORE_TORCH.items():
        os.environ.setdefault(name, value)


def _import_kokoro() -> Any:
    _prepare_environment()
    import kokoro
    from loguru import logger

    logger.remove()  # kokoro's import makes loguru write to stderr; this project logs through logging
    return kokoro


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


def _lacking(model: Any, weights_path: str) -> list[str]:
    """The weights of the model that are not those of the file, which is mapped, not read into memory again.

    KModel takes renamed, missing and empty state dicts silently: when a part does not fit, it drops seven letters of
    each key, for the `module.` of the real file, and loads what then happens to fit. NaN is wrong: it equals nothing.
    """
    import torch

    checkpoint = torch.load(weights_path, map_location="cpu", weights_only=True, mmap=True)
    lacking = []
    for part, module in model.named_children():
        given = {name.removeprefix("module."): tensor for name, tensor in checkpoint.get(part, {}).items()}
        # kokoro gives these a weight and a bias for the sake of an exporter; the real file has none, they are 1 and 0.
        norms = {name for name, child in module.named_modules() if isinstance(child, torch.nn.InstanceNorm1d)}
        for name, loaded in module.state_dict().items():
            if name not in given and name.rpartition(".")[0] in norms:
                continue
            if name not in given or not torch.equal(given[name].to(loaded.dtype), loaded):
                lacking.append(f"{part}.{name}")
    return lacking


def _first_line(error: BaseException) -> str:
    """The kind of error and the first line of its message: torch's run to pages."""
    line = next((line for line in str(error).splitlines() if line.strip()), "no message")
    return f"{type(error).__name__}: {line}"
