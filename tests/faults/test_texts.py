"""3.D, what is spoken: a thousand hostile texts and all parameters, long sentences, many at once, a library that dies.

Each utterance ends in speech, in a note that there was nothing to speak, or in a named error; no server ends.
"""

from __future__ import annotations

import json
import os
import random
import struct
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kokoro_common.client.client import Client
from kokoro_common.client.conversation import Audio
from kokoro_common.client.text_source import TextSource
from kokoro_common.daemon import starter
from kokoro_common.daemon.runtime_directory import RuntimeDirectory
from kokoro_common.errors import KokoroError
from kokoro_common.phonemes.g2p import ESPEAK_LANGUAGES, G2P
from kokoro_common.settings import resolve
from kokoro_common.text.chunker import Chunker, TextChunk
from kokoro_common.text.marks import speakable
from kokoro_common.text.markup import Markup
from kokoro_common.text.speech import Speech
from kokoro_common.text.ssml import Ssml, Unknown
from kokoro_common.wire.connection import ConnectionLost
from kokoro_common.wire.messages import EndOfText, Failed, Finished, Notice, Route, TextPart
from tests.conftest import ROOT, World
from tests.faults.conftest import FULL, Shown, times
from tests.faults.g2p_model_server import heard_phonemes
from tests.faults.hostile_texts import COUNT, corpus
from tests.phonemes.test_g2p import WORDS

HERE = Path(__file__).parent
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]
ENGLISH = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of misaki and spaCy, when they are imported
LANGUAGES = ["a", "b", *ESPEAK_LANGUAGES]  # without those that need an extra
WORST_SECONDS = 10.0
QUIET = 0.01  # -40 dB
SEGFAULT = "'-यक"  # in Spanish, of the library of espeak-ng 1.52


class Ear:
    def __init__(self) -> None:
        self.heard = bytearray()
        self.left_out = False  # words that the voice cannot read, as a note has said

    @property
    def loud(self) -> bool:
        return bool(self.heard) and float(np.abs(np.frombuffer(self.heard, "<f4")).max()) > QUIET


def speak(world: World, text: str, **options: Any) -> tuple[Ear, Finished | KokoroError]:
    """As `say.py -o - <file` does it: what is no UTF-8 is replaced on the way."""
    ear = Ear()
    reading = os.memfd_create("text")
    try:
        with open(os.dup(reading), "wb") as file:
            file.write(text.encode("utf-8", "surrogatepass"))
        os.lseek(reading, 0, os.SEEK_SET)
        client = Client(resolve({}, world.environment))
        for event in client.speak(TextSource(fd=reading), Speech(**options), Route(sink="client")):
            if isinstance(event, Audio):
                ear.heard += event.pcm
            elif isinstance(event, Notice):
                ear.left_out |= "left out" in event.text
        assert isinstance(event, Finished)
        return ear, event
    except KokoroError as error:
        return ear, error
    finally:
        os.close(reading)


def pids(world: World) -> set[int]:
    return {server.pid for server in world.servers()}


def sample(count: int) -> list[str]:
    """So many of the corpus, of all kinds."""
    return [each.text for each in corpus()[:: COUNT // count]]


@pytest.fixture
def g2p_world(world: World) -> World:
    """The G2P and everything around it are real, see g2p_model_server.py."""
    return start_g2p_server(world)


def start_g2p_server(world: World) -> World:
    (world.cache / "logs").mkdir(parents=True)
    program = starter.Program(
        name="model",
        path=str(HERE / "g2p_model_server.py"),
        environment=world.environment,
        stderr_path=str(world.cache / "logs" / "model_server.stderr"),
    )
    starter.ensure(RuntimeDirectory(str(world.runtime)), program).close()
    _, first = speak(world, "uno", engine="kokoro", lang="e")  # English takes ten seconds more
    assert isinstance(first, Finished), first
    return world


def outcome(text: str, ear: Ear, ended: Finished | KokoroError, loud: bool) -> str:
    if isinstance(ended, KokoroError):
        return "error" if type(ended) is not KokoroError or ";" in str(ended) else "nameless error"
    if ended.seconds:
        asked_for = any(chunk.pause for chunk in chunks(text, "a")) or not text.strip("っッ")  # a stop, alone
        return "spoken" if loud or asked_for or ear.left_out else "silence"
    return "nothing to speak"  # say.py says so


def test_d1_hostile_texts_with_the_embedded_voice(world: World, shown: Shown) -> None:
    assert world.say("-o", "x.wav", "hello").returncode == 0
    before = pids(world)
    outcomes: Counter[str] = Counter()
    texts = sample(times(COUNT))
    for text in texts:
        ear, ended = speak(world, text, engine="espeak", speed=4.0)
        outcomes[outcome(text, ear, ended, ear.loud)] += 1
        if isinstance(ended, Finished) and not any(chunk.pause or speakable(chunk.text) for chunk in chunks(text, "a")):
            assert not ended.seconds
    assert pids(world) == before
    good = outcomes["spoken"] + outcomes["nothing to speak"] + outcomes["error"]
    shown("D1", "hostile texts to the embedded voice end in speech, a note or a named error", good, of=len(texts),
          restarts=0, **outcomes)  # fmt: skip


def chunks(text: str, lang: str) -> list[TextChunk]:
    chunker = Chunker(lang, Unknown(Markup(lang), Ssml()))
    return [*chunker.feed(text), *chunker.finish()]


def test_d1_hostile_texts_with_the_real_g2p(g2p_world: World, shown: Shown) -> None:
    before = pids(g2p_world)
    outcomes: Counter[str] = Counter()
    texts = sample(times(COUNT))
    worst = 0.0
    for number, text in enumerate(texts):
        began = time.monotonic()
        ear, ended = speak(g2p_world, text, engine="kokoro", lang=LANGUAGES[number % len(LANGUAGES)])
        worst = max(worst, time.monotonic() - began)
        outcomes[outcome(text, ear, ended, any(map(str.isalpha, heard_phonemes(ear.heard))))] += 1
    assert pids(g2p_world) == before
    good = outcomes["spoken"] + outcomes["nothing to speak"] + outcomes["error"]
    shown("D1", "hostile texts through G2P and servers end in speech, a note or a named error", good, of=len(texts),
          restarts=0, worst_seconds=round(worst, 2), **outcomes)  # fmt: skip


@pytest.mark.model
@ENGLISH
def test_d1_no_text_chunk_is_too_much_for_the_g2p(tmp_path: Path, shown: Shown) -> None:
    g2p = G2P(None, str(tmp_path))
    texts = sample(times(COUNT))
    quick = done = 0
    worst = (0.0, "", "")
    for lang in LANGUAGES:
        g2p.warm(lang)
    for number, text in enumerate(texts):
        for lang in LANGUAGES if FULL else [LANGUAGES[number % len(LANGUAGES)]]:
            for chunk in chunks(text, lang)[:4]:
                began = time.monotonic()
                assert isinstance(g2p.spoken(chunk.text, lang).phonemes, str)
                took = time.monotonic() - began
                done += 1
                quick += took < WORST_SECONDS
                worst = max(worst, (round(took, 2), lang, chunk.text[:20]))
    shown("D1", "text chunks of hostile texts to phonemes", quick, of=done, languages=len(LANGUAGES), worst=worst)


# --- Parameters ------------------------------------------------------------------------------------------------------

REFUSED: dict[str, list[object]] = {
    "speed": [0, -1, float("nan"), float("inf"), -float("inf"), 1e-9, 1e-3, 0.2499, 4.001, 1e308, "1", True, None, []],
    "lang": ["", "x", "aa", "A", "\0", 5, None, "a" * 1000],
    "volume": [-0.1, 2.1, float("nan"), float("inf"), "1", None],
    "seed": [0.5, "0", None, True, [1]],
    "engine": ["", "piper", "ESPEAK", None, 1],
    "sink": ["", "file", "/dev/dsp", None],
    "floor": ["", "now", None],
    "voice": ["", "nobody", "af_heart,", "af_heart:nan", "../af_heart", "af_heart" * 100, "\0", "😀", None, 5],
    "utterance": ["", "0", "Z" * 32, "A" * 32, "0" * 33, "😀" * 32, None],
}
TAKEN: dict[str, list[object]] = {
    "speed": [0.25, 4, 1],
    "seed": [-1, -(2**63), 2**80, -(2**80), 0],
    "volume": [0, 2, 1.5],
    "engine": ["espeak"],
}


def answer_to(world: World, **fields: object) -> str:
    """What becomes of a Speak with these fields, as JSON and nothing else made it: the last message, or "closed"."""
    connection = starter.connect(RuntimeDirectory(str(world.runtime)), "voice-af_heart")
    assert connection is not None
    utterance = os.urandom(16).hex()
    speech: dict[str, object] = {"voice": "af_heart", "lang": "a", "engine": "espeak"}
    route: dict[str, object] = {"sink": "client"}
    speak = {"type": "Speak", "utterance": utterance, "speech": speech, "route": route}
    for name, value in fields.items():
        part = speech if name in Speech._fields else route if name in Route._fields else speak
        part[name] = value
    body = json.dumps(speak).encode()
    try:
        connection.send_frame(struct.pack(">I", len(body)) + body)
        connection.send(TextPart(utterance=utterance, text="No."))
        connection.send(EndOfText(utterance=utterance))
        body = json.dumps({"type": "Credit", "utterance": utterance, "bytes": 1 << 20}).encode()
        connection.send_frame(struct.pack(">I", len(body)) + body)
        while True:
            message, _ = connection.receive(20)
            if isinstance(message, Failed):
                return f"failed {message.code}"
            if isinstance(message, Finished):
                return "finished"
    except ConnectionLost:
        return "closed"
    finally:
        connection.close()


def test_d1_parameters_on_the_wire(world: World, shown: Shown) -> None:
    assert world.say("-o", "x.wav", "hello").returncode == 0
    before = pids(world)
    refused = [(name, value, answer_to(world, **{name: value})) for name in REFUSED for value in REFUSED[name]]
    wrong = [each for each in refused if each[2] not in ("failed 1", "failed 2", "failed 5", "closed")]
    taken = [(name, value, answer_to(world, **{name: value})) for name in TAKEN for value in TAKEN[name]]
    wrong += [each for each in taken if each[2] != "finished"]
    assert pids(world) == before
    assert answer_to(world) == "finished"
    count = len(refused) + len(taken)
    shown("D1", "parameters on the wire are refused by name, or taken", count - len(wrong), of=count, wrong=wrong)


def test_d1_parameters_on_the_command_line(world: World, shown: Shown) -> None:
    assert world.say("-o", "x.wav", "hello").returncode == 0
    before = pids(world)
    lines = [["-s", value] for value in ("0", "-1", "nan", "inf", "1e-9", "1e-3", "4.001", "one", "true", "१०", "1,0")]
    lines += [["-r", value] for value in ("0", "-1", "nan", "1e9", "x")]
    lines += [["--volume", value] for value in ("-1", "2.1", "nan", "loud", "")]
    lines += [["--lang", value] for value in ("xx", "a\u0301", "😀", "en-" * 100)]
    lines += [["--seed", value] for value in ("1.5", "x", "nan")]
    lines += [["--engine", value] for value in ("piper", "ESPEAK")]
    lines += [["-v", value] for value in ("nobody", "", "af_heart,,", "😀", "af_heart:-1")]
    held = 0
    for line in lines:
        done = world.say("-o", "x.raw", *line, "hello")
        held += done.returncode in (2, 5) and len(done.stderr.splitlines()) == 1 and done.stderr.startswith("say.py: ")
    for seed in ("-1", str(2**80), str(-(2**80))):
        held += world.say("-o", "x.raw", "--seed", seed, "hello").returncode == 0
    assert pids(world) == before
    shown("D1", "parameters on the command line are one line and an exit code", held, of=len(lines) + 3)


def test_d1_nothing_to_speak_is_said(world: World, shown: Shown) -> None:
    texts = ["", " ", "\n\t", "...", "~~~", "\u200b", "\x1b[31m\x1b[0m", "***", "\u0301", "\ufeff", "?!", "。"]
    done = [world.say("-o", "x.wav", stdin=text.encode()) for text in texts]
    held = sum(each.returncode == 0 and each.stderr.startswith("say.py: nothing to speak") for each in done)
    shown("D1", "nothing speakable is success with a note", held, of=len(texts))


# --- D2 and D3 -------------------------------------------------------------------------------------------------------

NUMBERS = {"a": "1,234,567,890.12", "b": "£98,765.43", "e": "987654321", "f": "99.999.999", "h": "98765432"}


def squeezed(text: str) -> str:
    return "".join(text.split())


def expected_phonemes(g2p: G2P, text: str, lang: str) -> str:
    return squeezed("".join(g2p.spoken(chunk.text, lang).phonemes for chunk in chunks(text, lang)))


@ENGLISH
def test_d2_all_phonemes_of_long_sentences_are_spoken(g2p_world: World, tmp_path: Path, shown: Shown) -> None:
    g2p = G2P(None, str(tmp_path))
    chooser = random.Random(2)
    produced = spoken = 0
    for lang in LANGUAGES:
        words = [chooser.choice(WORDS["a" if lang == "b" else lang].split()) for _ in range(300)]
        numbers = [NUMBERS.get(lang, "987654321")] * 60  # a text chunk of them has more than 510 phonemes
        for text in (" ".join(words), " ".join(numbers)):
            ear, ended = speak(g2p_world, text, engine="kokoro", lang=lang, plain=True)
            assert isinstance(ended, Finished), ended
            whole = expected_phonemes(g2p, text, lang)
            heard = squeezed(heard_phonemes(ear.heard))
            assert heard == whole, (lang, text)
            produced += len(whole)
            spoken += len(heard)
        assert max(len(g2p.spoken(chunk.text, lang).phonemes) for chunk in chunks(text, lang)) > 510
    assert produced > len(LANGUAGES) * 1_000
    shown("D2", "phonemes spoken of those produced", spoken, of=produced, languages=len(LANGUAGES))


def sentences(number: int) -> tuple[str, str]:
    """(text, lang) of one utterance. Each of 8 clients has five of its own, again and again."""
    number %= 40
    chooser = random.Random(number)
    lang = chooser.choice(LANGUAGES)
    words = WORDS["a" if lang == "b" else lang].split()
    lines = [" ".join(chooser.choices(words, k=chooser.randint(2, 7))) for _ in range(chooser.randint(1, 3))]
    return ". ".join(lines) + f". {number}.", lang


def all_at_once(world: World, count: int, **options: object) -> dict[int, bytes]:
    """What 8 clients hear, each with its own share of so many utterances."""
    heard: dict[int, bytes] = {}

    def client(first: int) -> None:
        for number in range(first, count, 8):
            text, lang = sentences(number)
            ear, ended = speak(world, text, lang=lang, **options)
            heard[number] = bytes(ear.heard) if isinstance(ended, Finished) else str(ended).encode()

    threads = [threading.Thread(target=client, args=(first,)) for first in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return heard


@ENGLISH
def test_d3_eight_clients_hear_their_own_phonemes(g2p_world: World, tmp_path: Path, shown: Shown) -> None:
    count = times(2_000)
    heard = all_at_once(g2p_world, count, engine="kokoro", plain=True)
    g2p = G2P(None, str(tmp_path))
    alone = [expected_phonemes(g2p, *sentences(number)) for number in range(40)]
    own = sum(squeezed(heard_phonemes(heard[number])) == alone[number % 40] for number in heard)
    shown("D3", "utterances of 8 clients with the phonemes of a single one", own, of=count)


def test_d3_eight_clients_hear_their_own_samples(world: World, shown: Shown) -> None:
    assert world.say("-o", "x.wav", "hello").returncode == 0
    count = times(2_000)
    heard = all_at_once(world, count, engine="espeak", speed=2.0)
    alone = []
    for text, lang in map(sentences, range(40)):
        alone.append(bytes(speak(world, text, lang=lang, engine="espeak", speed=2.0)[0].heard))
    assert all(alone) and len(set(alone)) == 40
    own = sum(heard[number] == alone[number % 40] for number in heard)
    shown("D3", "utterances of 8 clients with the samples of a single one", own, of=count)


# --- D4 --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def fragile_world(world: World, tmp_path: Path) -> World:
    """espeak's processes abort at "¤" and hang at "§", both paths; the time limit is 1 s."""
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {HERE / "fragile_espeak.py"} {ROOT} {sys.executable} "$@"\n')
    program.chmod(0o755)
    world.environment["FRAGILE_ESPEAK"] = str(program)
    return start_g2p_server(world)


BROKEN = {
    ("espeak", "¤"): "crashes on '¤'",
    ("espeak", "one § two"): "took more than",
    ("kokoro", "one x§ two"): "took more than",
}


def test_d4_espeak_aborts_or_hangs(fragile_world: World, shown: Shown) -> None:
    before = pids(fragile_world)
    count = max(2, times(20))
    for (engine, text), problem in BROKEN.items():
        held, worst = 0, 0.0
        for _ in range(count):
            began = time.monotonic()
            _, broken = speak(fragile_world, f"yes & {text}", engine=engine, lang="e")
            worst = max(worst, time.monotonic() - began)
            ear, good = speak(fragile_world, "uno dos", engine=engine, lang="e")
            held += problem in str(broken) and isinstance(good, Finished) and len(ear.heard) > 0
        shown("D4", f"{engine}: one failed request each, the next is spoken: {problem}", held, of=count,
              worst_seconds=round(worst, 2))  # fmt: skip
    held = 0
    for _ in range(count):
        ear, ended = speak(fragile_world, "uno ¤dos tres", engine="kokoro", lang="e")
        held += isinstance(ended, Finished) and squeezed(heard_phonemes(ear.heard)) == "ˈunotɾˈes"
    shown("D4", "espeak aborts in the G2P: the other words are spoken", held, of=count)
    assert pids(fragile_world) == before


def test_d4_a_segmentation_fault_of_the_library_itself(g2p_world: World, shown: Shown) -> None:
    before = pids(g2p_world)
    count, held = times(20), 0
    for _ in range(count):
        _, ended = speak(g2p_world, SEGFAULT, engine="kokoro", lang="e", plain=True)
        ear, good = speak(g2p_world, "uno", engine="kokoro", lang="e")
        held += isinstance(ended, Finished) and isinstance(good, Finished) and heard_phonemes(ear.heard) == "ˈuno"
    assert pids(g2p_world) == before
    assert str(g2p_world.log("model_server")).count("a word of 4 letters is left out: EspeakCrashed") == count
    shown("D4", "a segmentation fault in espeak-ng", held, of=count)
