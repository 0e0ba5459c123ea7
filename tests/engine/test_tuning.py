"""What is measured once, what is noted, and what is made of notes that are damaged or not for this machine."""

from __future__ import annotations

import gc
import json
import os
import time
import weakref
from typing import ClassVar

import numpy as np
import pytest

from kokoro_common.engine import tuning
from kokoro_common.engine.engine import OutOfMemory, Waveform
from kokoro_common.errors import KokoroError, ModelUnavailable

PACK = np.zeros((510, 1, 256), np.float32)


class FakeEngine:
    """Takes the seconds that a test says, and gives samples as far apart as it says."""

    seconds: ClassVar = {"fp32": 0.02, "bf16": 0.005}
    noise = 1e-3  # of bf16: 60 dB
    each_more = 1.0  # of the seconds of the first phrase that each further one takes
    error: KokoroError | None = None
    made: list[tuple[str, ...]]

    def __init__(self, config, weights, device, *precisions):
        self.device, self.precision, self.batch_limit = device, precisions[0], 1
        self.made.append(precisions)

    def use(self, precision):
        self.precision = precision

    def forward(self, phrases):
        if self.error is not None and len(phrases) > 1 - (self.device == "cpu"):
            raise self.error
        time.sleep(self.seconds[self.precision] * (1 + self.each_more * (len(phrases) - 1)))
        samples = np.ones(1000, np.float32) + self.noise * (self.precision == "bf16") * np.float32(1)
        return [Waveform(samples=samples, durations=np.ones(3, np.int64)) for _ in phrases]


@pytest.fixture
def make(monkeypatch, tmp_path):
    """make_engine with the fake one; keywords change what the machine is like."""
    monkeypatch.setattr(tuning, "KokoroEngine", FakeEngine)
    monkeypatch.setattr(tuning, "versions", lambda device: ["torch 1"])
    monkeypatch.setattr(FakeEngine, "made", [], raising=False)

    def make_engine(asked="auto", device="cpu", problem="", pack=PACK, **engine):
        for name, value in engine.items():
            monkeypatch.setattr(FakeEngine, name, value)
        monkeypatch.setattr(tuning, "bf16_problem", lambda _: problem)
        FakeEngine.made.clear()
        notes = str(tmp_path / "measured.json")
        return tuning.make_engine(("config", "weights"), device, asked, model="m", pack=pack, notes=notes)

    return make_engine


def test_bf16_is_taken_where_it_is_faster_and_close_and_that_is_measured_once(make):
    engine, choice = make()
    assert choice.precision == engine.precision == "bf16"
    assert choice.reason.startswith("bf16 is ") and choice.reason.endswith(" times as fast as fp32, 60 dB from it")
    assert FakeEngine.made == [("fp32", "bf16"), ("bf16",)]
    again = make()
    assert again[1] == choice and FakeEngine.made == [("bf16",)]


@pytest.mark.parametrize("machine", [{"seconds": {"fp32": 0.02, "bf16": 0.018}}, {"noise": 0.05}, {"noise": np.nan}])
def test_fp32_stays_where_bf16_is_not_faster_or_not_close(make, machine):
    engine, choice = make(**machine)
    assert choice.precision == engine.precision == "fp32"
    assert "times as fast" in choice.reason


def test_the_engine_that_was_measured_is_gone_before_another_is_made(make, monkeypatch):
    measured, left = [], []

    class CyclicEngine(FakeEngine):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            left.extend(each for each in measured if each() is not None)
            self.itself = self
            measured.append(weakref.ref(self))

    monkeypatch.setattr(tuning, "KokoroEngine", CyclicEngine)
    gc.disable()  # as the loader does
    try:
        make()
    finally:
        gc.enable()
    assert len(measured) == 2 and left == []


def test_without_a_unit_for_it_nothing_is_measured_and_bf16_that_is_asked_for_is_an_error(make):
    _, choice = make(problem="this processor has no matrix unit")
    assert (choice.precision, choice.reason) == ("fp32", "this processor has no matrix unit")
    assert FakeEngine.made == [("fp32",)]
    with pytest.raises(ModelUnavailable, match="bf16 cannot be used: this processor has no matrix unit"):
        make("bf16", problem="this processor has no matrix unit")


def test_a_note_from_a_time_with_a_matrix_unit_does_not_count_without_one(make):
    make()
    engine, choice = make(problem="this processor has no matrix unit")
    assert choice.precision == engine.precision == "fp32"


def test_what_is_asked_for_is_taken_without_measuring(make):
    for precision in ("fp32", "bf16"):
        engine, choice = make(precision)
        assert engine.precision == precision and choice.reason == "asked for"
        assert FakeEngine.made == [(precision,)]


def test_without_a_voice_it_is_fp32_for_now(make):
    _, choice = make(pack=None)
    assert (choice.precision, choice.reason) == ("fp32", "not measured yet")
    assert make()[1].precision == "bf16"


@pytest.mark.parametrize(
    ("each_more", "limit"), [(0.0, tuning.LARGEST_BATCH), (1.0, 1)], ids=["batches are free", "batches bring nothing"]
)
def test_a_card_gets_as_large_batches_as_pay(make, each_more, limit):
    engine, choice = make(device="cuda", each_more=each_more)
    assert engine.batch_limit == choice.batch_limit == limit
    assert make("fp32", device="cuda", each_more=each_more)[0].batch_limit == limit


def test_no_memory_for_a_batch_is_no_reason_to_leave_the_card(make):
    engine, choice = make(device="cuda", each_more=0.0, error=OutOfMemory("full"))
    assert engine.device == "cuda" and choice.batch_limit == 1 and choice.precision == "bf16"


def test_a_machine_on_which_measuring_fails_speaks_in_fp32(make):
    _, choice = make(error=KokoroError("cuDNN refuses"))
    assert (choice.precision, choice.reason) == ("fp32", "not measured yet")
    assert FakeEngine.made[-1] == ("fp32",)
    assert make(error=None)[1].precision == "bf16"


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[]", "null", "[" * 100_000, '{"k": 1}', '{"k": {}}'),
        *(
            json.dumps({"precision": "bf16", "reason": "r", "batch_limit": limit})
            for limit in (0, -1, 99, None, "8", True)
        ),
        json.dumps({"precision": "fp8", "reason": "r"}),
        json.dumps({"precision": "fp32", "reason": 7}),
    ],
)
def test_damaged_notes_are_measured_anew(make, tmp_path, content):
    make()
    path = tmp_path / "measured.json"
    (key,) = json.loads(path.read_text())
    path.write_text(json.dumps({key: json.loads(content)}) if content.startswith('{"p') else content)
    engine, choice = make()
    assert choice.precision == "bf16" and engine.batch_limit == 1
    assert FakeEngine.made[0] == ("fp32", "bf16")
    assert json.loads(path.read_text())[key] == choice.as_dict()


def test_notes_that_cannot_be_written_cost_nothing_but_the_next_measurement(make, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "replace", refuse)
    assert make()[1].precision == "bf16"
    assert list(tmp_path.iterdir()) == []
    make()
    assert FakeEngine.made[0] == ("fp32", "bf16")


def test_noise_is_measured_against_the_signal():
    signal = np.ones(100, np.float32)
    assert tuning.signal_to_noise(signal, signal) == np.inf
    assert tuning.signal_to_noise(signal, signal * np.float32(1.1)) == pytest.approx(20, abs=0.01)
    assert tuning.signal_to_noise(signal, signal[:99]) == tuning.signal_to_noise(signal, signal * np.nan) == 0
