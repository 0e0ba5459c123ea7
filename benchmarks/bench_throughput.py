"""What an hour of audio costs, from a line to a book, and whether batches pay. Run from the repository root:

    python -m benchmarks.bench_throughput [--sentences N ...] [--rounds N] [--json FILE]

Texts go through `say.py -f TEXT -o AUDIO.wav` and the real servers, which are warm; cutting, G2P and file are in the
figures. Batches are the engine's alone: a call with N phrases against N calls. KOKORO_MANIFEST names the model.
"""

from __future__ import annotations

import argparse
import random
import time
import wave
from collections.abc import Sequence
from typing import Any

import psutil

from benchmarks.contest import Contestant, Failed, Record, ours, phrase, started, the_model
from benchmarks.measure import Round, new_world, print_machine, quartiles, take_turns
from tests.conftest import World

PARAGRAPH = 6  # sentences
SUBJECTS = "the captain, my sister, an old friend, the whole village, the doctor, a teacher, the night train, nobody"
VERBS = "remembered, carried, had never seen, was waiting for, slowly opened, wrote about, left, would have liked"
OBJECTS = "the letter, a small garden, the last harbour, her brother's house, two boxes, the open window, that song"
WAYS = "in the morning, without a word, for twenty-five years, as the rain stopped, before winter came, on the bridge"


def text_of(sentences: int, seed: int) -> str:
    """English in paragraphs, of some 75 phonemes a sentence."""
    chance = random.Random(seed)
    said = []
    for _ in range(sentences):
        subject, verb, thing, way = (chance.choice(each.split(", ")) for each in (SUBJECTS, VERBS, OBJECTS, WAYS))
        said.append(f"{subject} {verb} {thing} {way}".capitalize() + ".")
    return "\n\n".join(" ".join(said[begin : begin + PARAGRAPH]) for begin in range(0, sentences, PARAGRAPH)) + "\n"


# --- Texts through the servers ---------------------------------------------------------------------------------------


def speak(world: World, sentences: int, seed: int) -> dict[str, Any]:
    """Seconds of the wall and of all processors for one text, and of the audio. Raises Failed."""
    text, audio = world.path / "text.txt", world.path / "audio.wav"
    text.write_text(text_of(sentences, seed))
    busy, began = processor_seconds(world), time.monotonic()
    with world.popen("-q", "-f", str(text), "-o", str(audio)) as client:
        _, errors = client.communicate()
    seconds = time.monotonic() - began
    if client.returncode:
        raise Failed(f"say.py ended with {client.returncode}: {errors.decode(errors='replace').strip()}")
    with wave.open(str(audio)) as file:
        heard = file.getnframes() / file.getframerate()
    return {"seconds": seconds, "cpu": processor_seconds(world) - busy, "audio": heard}


def processor_seconds(world: World) -> float:
    """Of all servers of the world and of their children, those that ended included."""
    return sum(sum(server.cpu_times()[:4]) for server in world.servers())


def cost(world: World, sentences: int, rounds: int) -> dict[str, Any]:
    """`rounds` different texts of a length: hours of work for an hour of audio."""
    runs, failures = [], 0
    for seed in range(rounds):
        try:
            runs.append(speak(world, sentences, seed))
        except (Failed, psutil.Error) as error:
            print(f"  text {seed} of {sentences} sentences failed: {error}")
            failures += 1
    return {"sentences": sentences, "runs": runs, "failures": failures}


def print_cost(entry: dict[str, Any]) -> None:
    walls, busy = ([run[name] / run["audio"] for run in entry["runs"]] for name in ("seconds", "cpu"))
    if not walls:
        print(f"{entry['sentences']:6} sentences: nothing was measured")
        return
    low, median, high = quartiles(walls)
    minutes = quartiles([run["audio"] for run in entry["runs"]])[1] / 60
    print(
        f"{entry['sentences']:6} sentences, {minutes:7.2f} min of audio: "
        f"{median:.3f} ({low:.3f} .. {high:.3f}) h an hour, {quartiles(busy)[1]:.3f} of processors; "
        f"{len(walls)} texts, {entry['failures']} failed"
    )


def measure_texts(environment: dict[str, str], counts: Sequence[int], rounds: int, record: Record) -> None:
    with new_world(environment) as world:
        speak(world, PARAGRAPH, -1)  # starts the servers, loads the model
        for sentences in counts:
            entry = cost(world, sentences, max(1, min(rounds, 50 // sentences)))
            print_cost(entry)
            record.add("texts", entry)


# --- Batches ---------------------------------------------------------------------------------------------------------


def batch(contestant: Contestant, size: int, rounds: int) -> dict[str, Any]:
    """Real-time factors of one call with `size` phrases of 25 to 60 phonemes, and of a call for each."""
    phrases = [phrase(25 + 35 * number // max(1, size - 1)) for number in range(size)]

    def together() -> Round:
        answer = contestant.speak(*phrases)
        return {"together": answer["seconds"] / answer["audio"]}

    def each() -> Round:
        answers = [contestant.speak(one) for one in phrases]
        return {"each": sum(one["seconds"] for one in answers) / sum(one["audio"] for one in answers)}

    print(f"batch of {size}: ", end="", flush=True)
    measured = take_turns([together, each], rounds, warm_up=1)
    return {
        "size": size,
        "failures": rounds - len(measured),
        **{name: [one[name] for one in measured] for name in ("together", "each")},
    }


def print_batch(entry: dict[str, Any]) -> None:
    ratios = [one / both for one, both in zip(entry["each"], entry["together"], strict=True)]
    low, median, high = quartiles(ratios)
    together, each = (quartiles(entry[name])[1] for name in ("together", "each"))
    print(f"  {together:.3f} together, {each:.3f} each: {median:.2f} ({low:.2f} .. {high:.2f}) times faster together")


# ---------------------------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description="What an hour of audio costs, by length of text and in batches.")
    parser.add_argument("--sentences", type=int, nargs="*", default=[1, 6, 25, 100, 400], metavar="N")
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 2, 4, 8], metavar="N")
    parser.add_argument("--precision", default="auto", help="of the engine's batches: fp32, bf16 or auto")
    parser.add_argument("--threads", type=int, default=2, help="of the engine's batches")
    parser.add_argument("--rounds", type=int, default=7, help="fewer for texts of more than 50 / N sentences")
    parser.add_argument("--json", metavar="FILE", help="writes what was measured, after each step")
    options = parser.parse_args()
    model = the_model()
    print_machine()
    record = Record(options.json)
    measure_texts(model.environment, options.sentences, options.rounds, record)
    if options.batches:
        with started([ours(model, options.precision)], options.threads) as (contestant,):
            for size in options.batches:
                entry = {"threads": options.threads, **batch(contestant, size, options.rounds)}
                print_batch(entry)
                record.add("batches", entry)


if __name__ == "__main__":
    main()
