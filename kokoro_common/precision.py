"""What is worth it on this machine with this model: bfloat16, and several phrases in one forward. Measured once, then
remembered beside the cache, by model and machine. Layer of the loader: knows the engine, not torch.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import statistics
import time

from kokoro_common.engine import KokoroEngine, Phrase, bf16_may_pay, versions
from kokoro_common.errors import ModelUnavailable
from kokoro_common.record import Record
from kokoro_common.voicepack import style_row

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from kokoro_common.voicepack import FloatArray

log = logging.getLogger("kokoro.precision")

FASTER, CLOSER = 1.3, 35.0  # times, and dB, that bf16 has to be better and may not be worse than
WORTH = 1.1  # times the phrases a second that twice the batch has to bring
LARGEST_BATCH = 8
ROUNDS = 3  # each, in turn
# Two breaths, of 28 and 47 phonemes.
PROBES = ("ðə kwˈɪk bɹˈWn fˈɑks ʤˈʌmps.", "ˌO vəɹ ðə lˈAzi dˈɔɡ, ænd ðˈɛn ɪt slˈips ɪn ðə sˈʌn.")


class Choice(Record):
    precision: str  # fp32 or bf16
    reason: str  # for a person, with the two figures if they were measured
    batch_limit: int = 1


def make_engine(
    files: tuple[str, str], device: str, asked: str, *, model: str, pack: FloatArray | None, memory: str
) -> tuple[KokoroEngine, Choice]:
    """The engine with the precision that was asked for, auto, fp32 or bf16; and why that one. Blocks for seconds.

    `files`: configuration and weights. `model`: their digest. `pack`: the voice to measure with; without one auto is
    fp32 for now. `memory`: path of the file that remembers what was measured.
    Raises ModelUnavailable, also for bf16 that is asked for where nothing multiplies it.
    """
    config, weights = files
    possible = bf16_may_pay(device)
    if asked == "bf16" and not possible:
        raise ModelUnavailable(f"bf16 cannot be used on this {device}", "leave out --precision or use fp32")
    key = _key(model, device)
    known = _read(memory).get(key)
    if known is not None and asked in ("auto", known.precision):
        engine = KokoroEngine(config, weights, device, known.precision)
        engine.batch_limit = known.batch_limit
        return engine, known
    if asked != "auto" or pack is None:
        precision = "bf16" if asked == "bf16" else "fp32"
        reason = "asked for" if asked != "auto" else "not measured yet: no voice at hand"
        return KokoroEngine(config, weights, device, precision), Choice(precision=precision, reason=reason)
    engine = KokoroEngine(config, weights, device, "fp32", *["bf16"] * possible)
    choice = _measured(engine, pack, possible)
    engine.use(choice.precision, only=True)
    engine.batch_limit = choice.batch_limit
    _remember(memory, key, choice)
    return engine, choice


def _measured(engine: KokoroEngine, pack: FloatArray, possible: bool) -> Choice:
    phrases = [Phrase(phonemes=each, style=style_row(pack, len(each)), speed=1.0, seed=0) for each in PROBES]
    choice = Choice(precision="fp32", reason=f"nothing on this {engine.device} multiplies bf16 faster")
    if possible:
        factor, decibels = _compare(engine, phrases)
        better = factor >= FASTER and decibels >= CLOSER
        reason = f"bf16 is {factor:.1f} times as fast as fp32, {decibels:.0f} dB from it"
        choice = Choice(precision="bf16" if better else "fp32", reason=reason)
    engine.use(choice.precision)
    limit = _batch_limit(engine, phrases[0])
    return Choice(precision=choice.precision, reason=choice.reason, batch_limit=limit)


def _compare(engine: KokoroEngine, phrases: Sequence[Phrase]) -> tuple[float, float]:
    """How many times faster bf16 is, and the lowest signal-to-noise ratio in dB against fp32."""
    seconds: dict[str, list[float]] = {"fp32": [], "bf16": []}
    decibels = []
    for number in range(ROUNDS + 1):  # the first one warms up
        waves = {}
        for precision, times in seconds.items():
            engine.use(precision)
            began = time.perf_counter()
            waves[precision] = engine.synthesize([phrases[number % len(phrases)]])[0].samples
            times.append(time.perf_counter() - began)
        decibels.append(signal_to_noise(waves["fp32"], waves["bf16"]))
    medians = {precision: statistics.median(times[1:]) for precision, times in seconds.items()}
    return medians["fp32"] / medians["bf16"], min(decibels)


def _batch_limit(engine: KokoroEngine, phrase: Phrase) -> int:
    """The largest batch, doubling, that each time brings more phrases a second."""
    limit, before = 1, _seconds_each(engine, phrase, 1)
    while limit < LARGEST_BATCH:
        each = _seconds_each(engine, phrase, 2 * limit)
        if before / each < WORTH:
            break
        limit, before = 2 * limit, each
    return limit


def _seconds_each(engine: KokoroEngine, phrase: Phrase, count: int) -> float:
    times = []
    for _ in range(2):  # the first one may have to allocate
        began = time.perf_counter()
        engine.synthesize([phrase] * count)
        times.append(time.perf_counter() - began)
    return min(times) / count


def signal_to_noise(signal: FloatArray, other: FloatArray) -> float:
    """dB, of what differs between two waveforms; infinite if nothing does, 0 if their lengths differ."""
    import numpy as np

    if signal.shape != other.shape:
        return 0.0
    noise = float(np.square(signal - other, dtype=np.float64).sum())
    return float(10 * np.log10(np.square(signal, dtype=np.float64).sum() / noise)) if noise else float("inf")


# --- what has been measured before -----------------------------------------------------------------------------------


def _key(model: str, device: str) -> str:
    """What the figures depend on: the model, the program, the machine."""
    parts = [model, *versions(device), platform.machine(), _processor(), str(os.cpu_count())]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            lines = dict(line.split("\t", 1) for line in file if line.startswith(("model name", "flags")))
        return json.dumps(lines, sort_keys=True)
    except (OSError, ValueError):
        return platform.processor()


def _read(path: str) -> dict[str, Choice]:
    try:
        with open(path, encoding="utf-8") as file:
            known = {key: Choice(**value) for key, value in json.load(file).items()}
        return {key: choice for key, choice in known.items() if choice.precision in ("fp32", "bf16")}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        log.warning("measured again", extra={"path": path, "reason": repr(error)})
        return {}


def _remember(path: str, key: str, choice: Choice) -> None:
    known = {**_read(path), key: choice}
    try:
        with open(f"{path}.{os.getpid()}", "w", encoding="utf-8") as file:
            json.dump({key: value.as_dict() for key, value in known.items()}, file, indent=1)
        os.replace(file.name, path)
    except OSError as error:
        log.warning("what was measured is not remembered", extra={"path": path, "reason": str(error)})
