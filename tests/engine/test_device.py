"""The device that the engine runs on: what can be used here, and what is chosen."""

from __future__ import annotations

import subprocess
import sys

import pytest

from kokoro_common.engine import device
from kokoro_common.engine.device import choose_device, device_problem
from kokoro_common.errors import ModelUnavailable


def test_the_cpu_is_chosen_when_asked_for():
    assert choose_device("cpu") == ("cpu", "asked for")


def test_auto_takes_cuda_only_if_it_runs_a_forward(monkeypatch):
    monkeypatch.setattr(device, "trial", {"cuda": ""}.get)
    assert choose_device("auto") == ("cuda", "a trial runs on it")
    monkeypatch.setattr(device, "trial", {"cuda": "no kernel image", "mps": ""}.get)
    assert choose_device("auto") == ("cpu", "no kernel image")
    assert choose_device("mps") == ("mps", "asked for")


@pytest.mark.parametrize("requested", ["cuda", "mps"])
def test_a_device_that_is_asked_for_and_fails_is_an_error(requested, monkeypatch):
    monkeypatch.setattr(device, "trial", {requested: "no kernel image"}.get)
    with pytest.raises(ModelUnavailable, match=f"{requested} cannot be used: no kernel image; use --device") as caught:
        choose_device(requested)
    assert caught.value.exit_code == 4


@pytest.mark.model
def test_the_trial_runs_a_forward():
    assert device.trial("cpu") == ""
    assert "meta" in device.trial("meta")  # a device on which nothing can be computed


@pytest.mark.model
def test_a_device_that_torch_does_not_find_is_a_reason(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert device.trial("cuda") == "this torch is built without CUDA"
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert device.trial("cuda") == "torch finds no CUDA device"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert device.trial("mps") == "torch finds no Metal device"


class Driver:
    """Stands in for libcuda.so.1."""

    def __init__(self, init_error, devices):
        self.init_error = init_error
        self.devices = devices

    def cuInit(self, flags):
        return self.init_error

    def cuDeviceGetCount(self, count):
        count._obj.value = self.devices
        return 0


def test_the_driver_tells_whether_there_may_be_a_gpu(monkeypatch):
    assert device_problem("auto") == device_problem("cpu") == ""
    monkeypatch.setattr(device.ctypes, "CDLL", lambda name: Driver(0, 1))
    assert device_problem("cuda") == ""
    for driver in (Driver(100, 1), Driver(0, 0)):
        monkeypatch.setattr(device.ctypes, "CDLL", lambda name, driver=driver: driver)
        assert device_problem("cuda") == "the NVIDIA driver finds no GPU"

    def absent(name):
        raise OSError(name)

    monkeypatch.setattr(device.ctypes, "CDLL", absent)
    assert device_problem("cuda") == "there is no NVIDIA driver"


def test_metal_needs_apple_silicon(monkeypatch):
    for system, machine, problem in [("Darwin", "arm64", False), ("Darwin", "x86_64", True), ("Linux", "arm64", True)]:
        monkeypatch.setattr(device.platform, "system", lambda system=system: system)
        monkeypatch.setattr(device.platform, "machine", lambda machine=machine: machine)
        assert bool(device_problem("mps")) is problem


def test_the_cheap_checks_import_nothing_heavy():
    program = """
import sys
from kokoro_common.engine import device, engine
device.device_problem("cuda"), device.device_problem("mps"), device.choose_device("cpu")
assert not sys.modules.keys() & {"torch", "kokoro", "numpy", "transformers", "loguru"}
"""
    subprocess.run([sys.executable, "-c", program], check=True)
