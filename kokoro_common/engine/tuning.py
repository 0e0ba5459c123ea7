"""Measures what is faster on this machine with this model: bfloat16, and several phrases in one forward.

Measured once, then noted in a file in the cache, by model and machine. Knows the engine, not torch.
"""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import os
import platform
import statistics
import time

from kokoro_common.engine.device import bf16_problem, versions
from kokoro_common.engine.engine import KokoroEngine, Phrase
from kokoro_common.errors import SAY, KokoroError, ModelUnavailable
from kokoro_common.files import read_regular, write_private
from kokoro_common.record import Record
from kokoro_common.voices.pack import style_row

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kokoro_common.voices.pack import FloatArray

log = logging.getLogger("kokoro.tuning")

LEAST_SPEEDUP = 1.3  # by which bf16 must be faster than fp32
LEAST_DECIBELS = 35.0  # signal to noise that bf16 must keep against fp32
LEAST_GAIN = 1.1  # factor in phrases a second that a batch twice as large must bring
LARGEST_BATCH = 8
MAX_NOTES_BYTES = 1 << 20  # of measured.json
ROUNDS = 3  # measured after one that warms up
PROBES = ("ðə kwˈɪk bɹˈWn fˈɑks ʤˈʌmps.", "ˌO vəɹ ðə lˈAzi dˈɔɡ, ænd ðˈɛn ɪt slˈips ɪn ðə sˈʌn.")


class Choice(Record):
    precision: str  # fp32 or bf16
    reason: str  # for a person, with the two figures if they were measured
    batch_limit: int = 1


def make_engine(
    files: tuple[str, str],
    device: str,
    asked: str,
    *,
    model: str,
    pack: FloatArray | None,
    notes: str,
    measuring: Callable[[], object] = lambda: None,
) -> tuple[KokoroEngine, Choice]:
    """The engine with the precision that was asked for, auto, fp32 or bf16. Blocks for seconds.

    `files`: configuration and weights. `model`: their digest. `pack`: the voice to measure with; without one auto is
    fp32 for now. `notes`: path of the file with what was measured before. `measuring` is called before that begins.
    Raises ModelUnavailable, also for bf16 that is asked for where it cannot be had.
    """
    config, weights = files
    problem = bf16_problem(device)
    if asked == "bf16" and problem:
        raise ModelUnavailable(f"bf16 cannot be used: {problem}", f"run {SAY} --shutdown, then use another --precision")
    key = _key(model, device)
    known = _read(notes).get(key)
    if known is not None and known.precision == "bf16" and problem:
        known = None
    if known is None and pack is not None and (device != "cpu" or (asked == "auto" and not problem)):
        measuring()
        known = _measured(config, weights, device, pack, bf16=not problem)
        gc.collect()  # its engine is in cycles, and the loader has stopped the collector
        if known is not None:
            _note(notes, key, known)
    choice = known or Choice(precision="fp32", reason=problem or "not measured yet")
    if asked != "auto" and (known is None or asked != known.precision):
        choice = Choice(precision=asked, reason="asked for", batch_limit=choice.batch_limit)
    engine = KokoroEngine(config, weights, device, choice.precision)
    engine.batch_limit = choice.batch_limit
    return engine, choice


def _measured(config: str, weights: str, device: str, pack: FloatArray, *, bf16: bool) -> Choice | None:
    """Measures with an engine of its own, dropped afterwards. None if that fails; the log says why. Blocks."""
    phrases = [Phrase(phonemes=each, style=style_row(pack, len(each)), speed=1.0, seed=0) for each in PROBES]
    try:
        engine = KokoroEngine(config, weights, device, *(("fp32", "bf16") if bf16 else ("fp32",)))
        choice = _better(engine, phrases) if bf16 else Choice(precision="fp32", reason="fp32 is all there is")
        if device == "cpu":  # several at once never were faster there: docs/experiments.md
            return choice
        engine.use(choice.precision)
        return Choice(precision=choice.precision, reason=choice.reason, batch_limit=_batch_limit(engine, phrases[0]))
    except KokoroError as error:
        log.warning("not measured", extra={"device": device, "reason": str(error)})
        return None


def _better(engine: KokoroEngine, phrases: Sequence[Phrase]) -> Choice:
    seconds: dict[str, list[float]] = {"fp32": [], "bf16": []}
    decibels = []
    for number in range(ROUNDS + 1):
        waves = {}
        for precision, times in seconds.items():
            engine.use(precision)
            began = time.perf_counter()
            waves[precision] = engine.forward([phrases[number % len(phrases)]])[0].samples
            times.append(time.perf_counter() - began)
        decibels.append(signal_to_noise(waves["fp32"], waves["bf16"]))
    speedup = statistics.median(seconds["fp32"][1:]) / statistics.median(seconds["bf16"][1:])
    worst = min(decibels)
    better = speedup >= LEAST_SPEEDUP and worst >= LEAST_DECIBELS
    reason = f"bf16 is {speedup:.1f} times as fast as fp32, {worst:.0f} dB from it"
    return Choice(precision="bf16" if better else "fp32", reason=reason)


def _batch_limit(engine: KokoroEngine, phrase: Phrase) -> int:
    """The largest batch, doubling, that each time brings more phrases a second."""
    limit, before = 1, _seconds_each(engine, phrase, 1)
    while limit < LARGEST_BATCH:
        try:
            each = _seconds_each(engine, phrase, 2 * limit)
        except KokoroError:  # no memory for so many
            break
        if before / each < LEAST_GAIN:
            break
        limit, before = 2 * limit, each
    return limit


def _seconds_each(engine: KokoroEngine, phrase: Phrase, count: int) -> float:
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        engine.forward([phrase] * count)
        times.append(time.perf_counter() - began)
    return min(times) / count


def signal_to_noise(signal: FloatArray, other: FloatArray) -> float:
    """Signal to noise in dB: infinite if the waveforms are equal, 0 if lengths differ or one is not finite."""
    import numpy as np

    if signal.shape != other.shape or not (np.isfinite(signal).all() and np.isfinite(other).all()):
        return 0.0
    noise = float(np.square(signal - other, dtype=np.float64).sum())
    return float(10 * np.log10(np.square(signal, dtype=np.float64).sum() / noise)) if noise else float("inf")


# --- Notes of earlier measurements -----------------------------------------------------------------------------------


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
        known = {key: Choice(**value) for key, value in json.loads(read_regular(path, MAX_NOTES_BYTES)).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        log.warning("measured again", extra={"path": path, "reason": repr(error)[:200]})
        return {}
    return {key: choice for key, choice in known.items() if _is_sane(choice)}


def _is_sane(choice: Choice) -> bool:
    limit: object = choice.batch_limit  # the file may hold anything
    return (
        choice.precision in ("fp32", "bf16")
        and type(choice.reason) is str
        and type(limit) is int
        and 1 <= limit <= LARGEST_BATCH
    )


def _note(path: str, key: str, choice: Choice) -> None:
    known = {**_read(path), key: choice}
    text = json.dumps({key: value.as_dict() for key, value in known.items()}, indent=1)
    try:
        write_private(path, text.encode())
    except OSError as error:
        log.warning("what was measured cannot be noted", extra={"path": path, "reason": str(error)})
