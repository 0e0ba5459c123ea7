"""CPU, CUDA or Metal: which can be used here, which is chosen, and what became of one that failed.

Importing this module costs nothing; torch (2 s) is imported by the calls whose docstrings say so.
"""

from __future__ import annotations

import ctypes
import platform
import warnings

from kokoro_common.errors import KokoroError, ModelUnavailable


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
    problem = trial(device)
    if not problem:
        return device, "a trial runs on it" if requested == "auto" else "asked for"
    if requested == "auto":
        return "cpu", problem
    raise ModelUnavailable(f"{requested} cannot be used: {problem}", "use --device cpu or --device auto")


def trial(device: str) -> str:
    """Why the device does not run the kinds of layers that Kokoro has, or "". Imports torch."""
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
            return first_line(error)
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


def failure(error: Exception, device: str, spoken: str) -> KokoroError:
    """The exception to raise for a forward over `spoken` that failed: OutOfMemory, DeviceLost or KokoroError."""
    if device != "cpu" and "out of memory" in str(error):  # MPS has no type of its own for it
        return OutOfMemory(first_line(error))
    if device == "cuda" and ("CUDA" in str(error) or type(error).__name__ == "AcceleratorError"):
        return DeviceLost(f"{device} has failed: {first_line(error)}")
    return KokoroError(f"the model failed on {spoken}: {first_line(error)}")


def first_line(error: BaseException) -> str:
    """The kind of error and the first line of its message: torch's run to pages."""
    line = next((line for line in str(error).splitlines() if line.strip()), "no message")
    return f"{type(error).__name__}: {line}"
