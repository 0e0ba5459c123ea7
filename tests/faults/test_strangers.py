"""Strangers, liars and crowds on the sockets of live servers: nobody else notices, nothing is left, nothing is told."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import random
import select
import socket
import struct
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from kokoro_common.client.client import Client
from kokoro_common.client.text_source import TextSource
from kokoro_common.daemon.record import ServerRecord
from kokoro_common.daemon.runtime_directory import RuntimeDirectory
from kokoro_common.errors import KokoroError
from kokoro_common.settings import resolve
from kokoro_common.text.speech import Speech
from kokoro_common.voices.catalogue import VOICES
from kokoro_common.wire import callers
from kokoro_common.wire import connection as connections
from kokoro_common.wire.codec import Decoder, encode
from kokoro_common.wire.connection import Busy, Connection, ConnectionLost, NotOurServer, OtherProtocol, call
from kokoro_common.wire.messages import (
    MESSAGES,
    PROTOCOL,
    Accepted,
    AudioChunk,
    Challenge,
    Credit,
    Denied,
    EndOfText,
    Failed,
    Finished,
    Hello,
    Message,
    Ping,
    Pong,
    Proof,
    ProtocolError,
    Route,
    Speak,
    Stop,
    Synthesize,
    TextPart,
    Welcome,
)
from tests.conftest import World
from tests.faults import mutants
from tests.faults.conftest import FULL, Shown, times
from tests.faults.mutants import frame_of

pytestmark = pytest.mark.e2e

MB = 1 << 20
SETTLE_SECONDS = 60.0  # a frame that never ends takes 10, a thousand threads more on a busy machine


class Servers:
    """A live model server and a live voice server, with what they had before they were troubled."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.runtime = RuntimeDirectory(str(world.runtime))
        self.token = self.runtime.token()
        self.ports = {name: json.loads((world.runtime / f"{name}.json").read_text())["port"] for name in NAMES}
        self.processes = {
            name: psutil.Process(json.loads((world.runtime / f"{name}.json").read_text())["pid"]) for name in NAMES
        }
        with ThreadPoolExecutor(8) as pool:  # what a server keeps for ever after its first callers is no leak
            list(pool.map(lambda port: [self.ping(port) for _ in range(20)], 4 * list(self.ports.values())))
        self.measure()

    def measure(self) -> None:
        """What it has from now on is compared with this."""
        self.descriptors: dict[str, int] = {}
        while (now := self._now(psutil.Process.num_fds)) != self.descriptors:  # the last callers are being closed
            self.descriptors = now
            time.sleep(0.3)
        self.memory = self._now(rss)

    def _now(self, measure: Callable[[psutil.Process], int]) -> dict[str, int]:
        return {name: measure(process) for name, process in self.processes.items()}

    def ping(self, port: int) -> None:
        connection = call(port, self.token, "client")
        connection.send(Ping())
        assert isinstance(connection.receive(10)[0], Pong)
        connection.close()

    def settled(self) -> dict[str, int]:
        """How many descriptors too many each server has when it has had time to close them."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while (now := self._now(psutil.Process.num_fds)) != self.descriptors and time.monotonic() < deadline:
            time.sleep(0.05)
        return {name: now[name] - self.descriptors[name] for name in NAMES if now[name] != self.descriptors[name]}

    def growth(self) -> float:
        """MB of the one that has grown most."""
        return round(max(now - self.memory[name] for name, now in self._now(rss).items()) / MB, 1)

    def troubles(self) -> list[str]:
        """What the logs and the process table say of a server that did not take it calmly."""
        logs = "".join(path.read_text() for path in (self.world.cache / "logs").iterdir() if path.name != "kokoro.log")
        bad = [line for line in logs.splitlines() if "raceback" in line or "handler failed" in line or "died" in line]
        bad = [line for line in bad if "stub_engine.py" not in line]  # it knows only some millions of text chunks
        gone = [f"{name} has gone" for name, process in self.processes.items() if not process.is_running()]
        return [line[:600] for line in bad] + gone

    def log_lines(self) -> int:
        return len(self.world.log())

    def token_in_logs(self) -> int:
        forms = (self.token, self.token.hex().encode(), base64.b64encode(self.token), repr(self.token)[2:-1].encode())
        logs = [path.read_bytes() for path in (self.world.cache / "logs").iterdir()]
        return sum(log.count(form) for log in logs for form in forms)


NAMES = ("model", "voice-af_heart")


def rss(process: psutil.Process) -> int:
    size: int = process.memory_info().rss
    return size


@pytest.fixture(scope="module")
def live_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One for all tests here: what a stranger leaves behind would hurt the next one. At the end nothing is left."""
    world = World(tmp_path_factory.mktemp("strangers"))
    (world.path / "home").mkdir()
    world.start_stub_server()
    assert world.say("-o", "warm.wav", "Hello.").returncode == 0  # starts the voice server
    yield world
    ended = world.say("--shutdown", "-q")
    left = world.residue()
    for process in world.servers():
        process.kill()
    assert (ended.returncode, ended.stderr, left) == (0, "", [])


@pytest.fixture
def servers(live_world: World) -> Servers:
    return Servers(live_world)


class GoodClient:
    """Pings a server all the time; every ping has to be answered."""

    def __init__(self, servers: Servers, name: str) -> None:
        self._connection = call(servers.ports[name], servers.token, "client")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.sent = 0
        self.seconds: list[float] = []  # of each that was answered

    def _run(self) -> None:
        while not self._stop.wait(0.005):
            self.sent += 1
            began = time.monotonic()
            try:
                self._connection.send(Ping())
                if isinstance(self._connection.receive(10)[0], Pong):
                    self.seconds.append(time.monotonic() - began)
            except (ConnectionLost, TimeoutError):
                return

    def __enter__(self) -> GoodClient:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._connection.close()

    @property
    def p99_ms(self) -> float:
        return round(1000 * sorted(self.seconds)[int(0.99 * len(self.seconds))], 1) if self.seconds else 0.0


@contextlib.contextmanager
def good_clients(servers: Servers) -> Iterator[list[GoodClient]]:
    with GoodClient(servers, NAMES[0]) as first, GoodClient(servers, NAMES[1]) as second:
        yield [first, second]


def assert_calm(row: str, servers: Servers, good: list[GoodClient], shown: Shown, *, mb: int = 10) -> None:
    """Nobody else has noticed: the good clients, the logs, memory, descriptors."""
    for name, client in zip(NAMES, good, strict=True):
        shown(
            row, f"pings of a good client answered, {name}", len(client.seconds), of=client.sent, p99_ms=client.p99_ms
        )
    growth = servers.growth()
    shown(row, "no descriptor left open, no server ended, no handler failed", 1, of=1, mb_more=growth)
    assert servers.settled() == {}
    assert servers.troubles() == []
    assert growth <= mb


# --- B1: frames that are none ----------------------------------------------------------------------------------------


def test_b1_a_million_mutated_frames_end_in_messages_or_protocol_errors(shown: Shown) -> None:
    chance = random.Random(time.time_ns())
    seeds = mutants.seeds()
    refused = 0
    process = psutil.Process()
    before = rss(process)
    for number in range(times(1_000_000)):
        data = mutants.mutated(chance, chance.choice(seeds), chance.choice(seeds))
        decoder = Decoder(strict=number % 2 == 0)
        if number % 4 < 2:
            decoder.trust()
        try:
            for piece in mutants.pieces(chance, data):
                decoder.feed(piece)
        except ProtocolError:
            refused += 1
        except Exception as error:
            raise AssertionError(f"to mutants.txt with it: {data!r}") from error
    grown = round((rss(process) - before) / MB, 1)
    shown("B1", "decodes of mutated frames", number + 1, of=times(1_000_000), refused=refused, mb_more=grown)
    assert grown <= 10


def test_b1_the_corpus_ends_in_messages_or_protocol_errors(shown: Shown) -> None:
    chance = random.Random(1)
    process = psutil.Process()
    runs = [*itertools.product(mutants.corpus().items(), (True, False), (True, False), range(3))]
    before = 0
    for turn in range(2):  # the second time memory must not grow any more
        for (name, stream), strict, trusted, cut in runs:
            decoder = Decoder(strict=strict)
            if trusted:
                decoder.trust()
            try:
                for piece in mutants.pieces(chance, stream) if cut else [stream]:
                    decoder.feed(piece)
            except ProtocolError:
                pass
            except Exception as error:
                raise AssertionError(name) from error
        before = before if turn else rss(process)
    grown = round((rss(process) - before) / MB, 1)
    shown("B1", "decodes of the corpus", 2 * len(runs), of=2 * len(runs), mb_more=grown)
    assert grown <= 10


def kinds_of_malformed(chance: random.Random) -> dict[str, bytes]:
    """One stream of each of the twelve kinds."""
    corpus = mutants.corpus()
    utterance = chance.randbytes(16).hex()
    string = chance.choice(["\\ud800", "\\u0000", "\\u001b[31m", "\\u2028", "\\uffff"])
    text = json.dumps({"type": "Cancel", "utterance": "a" * chance.randrange(99)}).encode()
    hello = encode(Hello(role="client", protocol=PROTOCOL, version="x", nonce="0" * 32))
    ping = encode(Ping())
    speak = Speak(utterance=utterance, speech=Speech(voice="af_heart", lang="a"), route=Route(sink="client"))
    strings: dict[object, object] = {**mutants.PLAIN, str: "@"}
    typed = [encode(message).replace(b'"@"', f'"{string}"'.encode()) for message in mutants.messages(strings)
             if type(message).__name__ not in ("Shutdown", "AudioChunk")]  # fmt: skip

    def of(*beginnings: str) -> bytes:
        return corpus[chance.choice([name for name in corpus if name.startswith(beginnings)])]

    return {
        "1 nothing": b"",
        "2 cut header": chance.randbytes(chance.randint(1, 3)),
        "3 length 0": b"\0\0\0\0" + ping,
        "4 length beyond the limit": struct.pack(">I", chance.choice([2**31, 2**32 - 1, MB + 1, 2 * MB])) + text,
        "5 length beyond the data": struct.pack(">I", len(text) + chance.randint(1, 999)) + text,
        "6 length short of the data": struct.pack(">I", chance.randrange(1, len(text))) + text,
        "7 encoding": of("not UTF-8", "overlong", "UTF-", "byte order"),
        "8 not an object": of("not JSON", "a list", "a number", "null", "a string", "trailing", "two values", "cut"),
        "9 nesting and digits": of("nesting", "25 digits", "5000 digits", "NaN", "1e999", "digits of", "many"),
        "10 keys, fields and types": of("type ", "field ", "a field", "missing", "no such", "integer", "payload "),
        "11 characters": chance.choice(typed),
        "12 order": chance.choice(
            [hello + hello, ping + hello, encode(speak), 2 * encode(speak), encode(Pong(done=1)),
             encode(AudioChunk(utterance=utterance, index=0, payload_bytes=4), b"abcd"),
             encode(EndOfText(utterance=utterance)) + encode(Accepted(utterance=utterance, text_credit=1)),
             encode(Proof(proof="0" * 64)), encode(Welcome(pid=1)) + hello]
        ),
    }  # fmt: skip


def patient_call(port: int, token: bytes) -> Connection:
    """As call(), coming again as often as it is told to: others have taken all places."""
    while True:
        try:
            return call(port, token, "client")
        except Busy as busy:
            time.sleep(busy.retry_after)


def attack(servers: Servers, name: str, stream: bytes, chance: random.Random, *, proven: bool) -> bool:
    """Sends it in pieces and then ends the sending. Whether the server has closed in time."""
    port = servers.ports[name]
    try:
        if proven:
            sock = patient_call(port, servers.token)._socket
        else:
            sock = socket.create_connection(("127.0.0.1", port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except ConnectionResetError:
        return True
    with sock:
        sock.settimeout(10)
        try:
            for piece in mutants.pieces(chance, stream):
                sock.sendall(piece)
            sock.sendall(b"\0\0\0\0" if chance.random() < 0.5 else b"")  # what was no error may be one now
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(1 << 16):
                pass
        except TimeoutError:
            return False
        except OSError:
            pass  # closed with a reset, since there was more to read
    return True


@pytest.mark.timeout(3600 if FULL else 120)
def test_b1_twelve_malformed_kinds_on_live_sockets(servers: Servers, shown: Shown) -> None:
    rounds = times(1_000)
    seconds: list[float] = []

    def one_round(number: int) -> int:
        chance = random.Random(number)
        held = 0
        for stream in kinds_of_malformed(chance).values():
            for name in NAMES:
                began = time.monotonic()
                held += attack(servers, name, stream, chance, proven=(number + len(stream)) % 2 == 0)
                seconds.append(time.monotonic() - began)
        return held

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one_round, range(-100, 0)))  # the heap grows with the first frames of a megabyte, not with all
    servers.measure()
    seconds.clear()
    with good_clients(servers) as good, ThreadPoolExecutor(4) as pool:
        held = sum(pool.map(one_round, range(rounds)))
    shown("B1", "malformed streams of twelve kinds closed", held, of=24 * rounds, slowest_s=round(max(seconds), 2))
    assert_calm("B1", servers, good, shown)


@pytest.mark.timeout(3600 if FULL else 120)
def test_b1_the_corpus_and_foreign_protocols_on_live_sockets(servers: Servers, shown: Shown) -> None:
    rounds = times(100)

    def one_round(number: int) -> int:
        chance = random.Random(number)
        return sum(
            attack(servers, name, stream, chance, proven=(number + place) % 2 == 0)
            for place, stream in enumerate(mutants.corpus().values())
            for name in NAMES
        )

    with good_clients(servers) as good, ThreadPoolExecutor(4) as pool:
        held = sum(pool.map(one_round, range(rounds)))
    of = 2 * rounds * len(mutants.corpus())
    shown("B1", "streams of the corpus, HTTP, TLS, SSH, redis, STUN among them, closed", held, of=of)
    assert_calm("B1", servers, good, shown)


@pytest.mark.timeout(600)
def test_b1_well_typed_messages_that_make_no_sense_fail_no_handler(servers: Servers, shown: Shown) -> None:
    """Each field of each message in turn, where it matters: with an utterance open, from a registered voice server."""
    sent = held = 0
    chance = random.Random(time.time_ns())
    kinds = [kind for kind in MESSAGES.values() if kind.__name__ not in ("Shutdown", "Outdated")]  # they end it
    voices = itertools.cycle(name for name in VOICES if name != "af_heart")
    for name, role in (("model", "client"), ("model", "voice"), (NAMES[1], "client")):
        watching = call(servers.ports[name], servers.token, "client")
        for kind in kinds:
            for message in mutants.hostile(kind, utterance="@", voice="af_heart", lang="a", engine="espeak"):
                if not FULL and chance.random() < 0.75:
                    continue
                if isinstance(message, Synthesize) and len(message.request.text) > 10_000:
                    continue  # the stub engine would make gigabytes of it
                utterance = os.urandom(16).hex()
                if getattr(message, "utterance", "") == "@":
                    message = message.replace(utterance=utterance)
                if role == "voice" and getattr(message, "voice", "") == "af_heart":
                    message = message.replace(voice=next(voices))  # one that no server has registered
                frames = [b""]
                with contextlib.suppress(ValueError):  # too long for a frame
                    frames = [*map(encode, in_its_place(message, role, utterance, next(voices)))]
                sent += 1
                held += survived(servers.ports[name], servers.token, role, b"".join(frames), watching)
        watching.close()
    shown("B1", "well-typed messages that make no sense survived", held, of=sent)
    assert servers.settled() == {}
    assert servers.troubles() == []
    assert servers.world.say("--status").returncode == 0
    assert servers.world.say("-o", "after.wav", "Hello again.").returncode == 0


def in_its_place(message: Message, role: str, utterance: str, voice: str) -> list[Message]:
    """The message, among those without which nobody would look at it."""
    if role == "voice":
        register = MESSAGES["Register"](voice=voice, pid=os.getpid(), port=1, instance="0" * 32, open=())  # type: ignore[call-arg]
        opened = MESSAGES["UtteranceOpened"](utterance=utterance)  # type: ignore[call-arg]
        if type(message) in (type(register), type(opened)):
            return [message, opened] if type(message) is type(register) else [register, message]
        return [register, opened, message]
    speak = Speak(
        utterance=utterance, speech=Speech(voice="af_heart", lang="a", engine="espeak"), route=Route(sink="client")
    )
    text = TextPart(utterance=utterance, text="Good morning. ")
    before = [] if isinstance(message, Speak) else [speak, Credit(utterance=utterance, bytes=MB), text]
    return [*before, message, text, EndOfText(utterance=utterance)]


def survived(port: int, token: bytes, role: str, data: bytes, watching: Connection) -> bool:
    """Whether others get a status while the messages count, and their connection is closed when nonsense follows."""
    with call(port, token, role)._socket as sock:
        sock.settimeout(10)
        try:
            sock.sendall(data + encode(Ping()))
            heard = b""
            while b'"Pong"' not in heard and b"Ping is not for" not in heard:  # until all has been handled
                if not (more := sock.recv(1 << 16)):
                    break
                heard += more
            watching.send(MESSAGES["StatusRequest"]())
            answered = type(watching.receive(10)[0]).__name__ == "Status"
            sock.sendall(b"\0\0\0\0")
            while sock.recv(1 << 16):
                pass
        except TimeoutError:
            return False
        except ConnectionError:
            return True  # closed before it had read all
    return answered


# --- B2, B3: slow and silent ones ------------------------------------------------------------------------------------


@pytest.mark.timeout(120)
def test_b2_slow_senders_are_closed_in_time(servers: Servers, shown: Shown) -> None:
    """A byte a second: before the handshake they have 2 s for it, afterwards 10 s for a frame."""
    count = times(200)
    hello = encode(Hello(role="client", protocol=PROTOCOL, version="x", nonce="0" * 32))
    ports = [servers.ports[name] for name in NAMES]
    alive: dict[socket.socket, float] = {}
    for number in range(count):
        port = ports[number // 2 % 2]
        if number % 2:
            alive[socket.create_connection(("127.0.0.1", port))] = 2.0
        else:
            alive[call(port, servers.token, "client")._socket] = 10.0
    began = time.monotonic()
    ends: list[tuple[float, float]] = []
    with good_clients(servers) as good:
        for second in range(20):
            for sock in list(alive):
                try:
                    sock.send(hello[second : second + 1])
                except OSError:
                    pass  # its end is read below
            until = began + second + 1
            while alive and (left := until - time.monotonic()) > 0:
                for sock in select.select(list(alive), [], [], left)[0]:
                    ends.append((time.monotonic() - began, alive.pop(sock)))
                    sock.close()
    held = sum(end <= allowed + 2 for end, allowed in ends)
    shown("B2", "slow senders closed", held, of=count, last_s=round(max(end for end, _ in ends), 1))
    assert_calm("B2", servers, good, shown)


def served_within(servers: Servers, name: str, seconds: float) -> float:
    """How long a new client takes to be served, coming again when it is told to. Fails after `seconds`."""
    began = time.monotonic()
    while True:
        try:
            servers.ping(servers.ports[name])
            return time.monotonic() - began
        except (Busy, NotOurServer) as error:
            assert time.monotonic() < began + seconds, error
            time.sleep(getattr(error, "retry_after", 0.05))


def answer_of(sock: socket.socket) -> bytes:
    """All that came until the server closed; b"reset" if it was one."""
    sock.settimeout(5)
    try:
        return b"".join(iter(lambda: sock.recv(9999), b""))
    except ConnectionResetError:
        return b"reset"


@pytest.mark.timeout(120)
def test_b3_idle_sockets_are_told_and_closed_and_others_come_in_between(servers: Servers, shown: Shown) -> None:
    count = times(2_000)
    lines = servers.log_lines()
    processor = servers.processes["model"].cpu_times()
    began = time.monotonic()
    with good_clients(servers) as good:
        idle = [socket.create_connection(("127.0.0.1", servers.ports["model"])) for _ in range(count)]
        connected = time.monotonic() - began
        delay = served_within(servers, "model", 10)
        answers = [answer_of(sock) for sock in idle]
        for sock in idle:
            sock.close()
        time.sleep(max(0.0, began + 6 - time.monotonic()))
    after = servers.processes["model"].cpu_times()
    busy = sum(answer == encode(callers.BUSY) for answer in answers)
    held = busy + answers.count(b"")
    share = (after.user + after.system - processor.user - processor.system) / (time.monotonic() - began)
    shown("B3", "idle sockets closed, told busy or not, none reset", held, of=count, told_busy=busy,
          connected_s=round(connected, 2), new_client_s=round(delay, 2), cpu_percent=round(100 * share, 1),
          log_lines=servers.log_lines() - lines)  # fmt: skip
    assert_calm("B3", servers, good, shown)
    assert servers.log_lines() - lines <= 10


@pytest.mark.timeout(120)
def test_b3_a_server_short_of_descriptors_tells_its_callers_and_recovers(servers: Servers, shown: Shown) -> None:
    process, limit = servers.processes["model"], 64
    soft, hard = process.rlimit(psutil.RLIMIT_NOFILE)
    lines, processor = servers.log_lines(), process.cpu_times()
    began = time.monotonic()
    with good_clients(servers) as good, contextlib.ExitStack() as stack:
        process.rlimit(psutil.RLIMIT_NOFILE, (limit, hard))
        stack.callback(process.rlimit, psutil.RLIMIT_NOFILE, (soft, hard))
        for _ in range(100):
            stack.enter_context(socket.create_connection(("127.0.0.1", servers.ports["model"])))
        told = served = 0
        for _ in range(20):
            try:
                servers.ping(servers.ports["model"])
                served += 1  # one of the idle ones has just been closed
            except Busy:
                told += 1
        time.sleep(max(0.0, began + 7 - time.monotonic()))  # more than a tick: the record has been looked at
        after = process.cpu_times()
        share = (after.user + after.system - processor.user - processor.system) / (time.monotonic() - began)
        stack.close()
        delay = served_within(servers, "model", 10)
    shown("B3", f"clients told to come again at a limit of {limit} descriptors", told + served, of=20,
          told=told)  # fmt: skip
    shown("B3", "served within 2 s when there are descriptors again", delay <= 2, of=1, seconds=round(delay, 2),
          cpu_percent=round(100 * share, 1), log_lines=servers.log_lines() - lines)  # fmt: skip
    assert_calm("B3", servers, good, shown)
    assert servers.log_lines() - lines <= 10


# --- B4: who does not hold the token, and who is not the server ------------------------------------------------------


def handshake_with(port: int, proof: Callable[[Challenge], str], role: str = "client") -> bytes:
    """Answers the challenge with that proof. All that the server says to it."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        caller = Connection(sock, strict=False)
        caller.send(Hello(role=role, protocol=PROTOCOL, version="x", nonce="0" * 32))
        challenge = caller.receive(5)[0]
        assert isinstance(challenge, Challenge)
        caller.send(Proof(proof=proof(challenge)))
        return answer_of(sock)


def forged(token: bytes, challenge: Challenge, port: int) -> str:
    return connections._proof(token, "client", "client", port, "0" * 32, challenge.nonce)


@pytest.mark.timeout(1200 if FULL else 120)
def test_b4_wrong_tokens_are_denied_and_learn_nothing(servers: Servers, shown: Shown) -> None:
    count, relays = times(10_000), times(200)
    denied = encode(Denied(text="denied"))
    chance = random.Random(1)
    ports = [servers.ports[name] for name in NAMES]

    def forge(number: int) -> bool:
        port, token = ports[number % 2], chance.randbytes(32)
        kinds: list[Callable[[Challenge], str]] = [
            lambda challenge: forged(token, challenge, port),
            lambda challenge: forged(b"", challenge, port),
            lambda challenge: forged(servers.token[:31], challenge, port),
            lambda challenge: forged(servers.token, challenge, port + 1),
            lambda challenge: forged(servers.token, challenge, port)[:63],
            lambda _: "",
            lambda _: token.hex() * 20,
            lambda _: "\0é",
        ]
        return handshake_with(port, kinds[number // 2 % len(kinds)]) == denied

    with ThreadPoolExecutor(4) as pool:
        held = sum(pool.map(forge, range(count)))
        reflected = sum(
            pool.map(
                lambda number: handshake_with(ports[number % 2], lambda challenge: challenge.proof) == denied,
                range(relays),
            )
        )
    shown("B4", "wrong proofs denied, with the same bytes each", held, of=count, accepted=count - held)
    shown("B4", "a server's own proof reflected to it denied", reflected, of=relays)
    assert b'"connection"' not in b"".join(  # it is what a server logs of a caller that has proved itself
        line
        for line in (servers.world.cache / "logs" / "kokoro.log").read_bytes().splitlines()
        if b'"version": "x"' in line
    )
    assert servers.token_in_logs() == 0
    assert servers.settled() == {}
    assert servers.troubles() == []


NOBODY = 65_534


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_b4_another_user_commands_nothing(servers: Servers, shown: Shown) -> None:
    count = times(200)
    for folder in (servers.world.runtime, *servers.world.runtime.parents):
        if folder.owner() == "root" and str(folder).startswith("/tmp/"):
            folder.chmod(0o755 if folder != servers.world.runtime else 0o700)  # nothing but the directory protects it
    held = int(as_nobody(lambda: str(sum(commands_nothing(servers, number) for number in range(count)))))
    shown("B4", "commands of another user refused", held, of=count)
    assert {process.pid for process in servers.world.servers()} == {each.pid for each in servers.processes.values()}


def commands_nothing(servers: Servers, number: int) -> bool:
    """One try in a process of another user: reads the token in some way, or guesses it, and says Shutdown or Stop."""
    assert os.getuid() == NOBODY
    folder = servers.world.runtime
    with contextlib.suppress(OSError, KokoroError, NotOurServer, ConnectionLost):
        if number % 4 == 0:
            token = (folder / "token").read_bytes()
        elif number % 4 == 1:
            token = RuntimeDirectory(str(folder)).token()
        elif number % 4 == 2:
            token = os.urandom(32)
        else:
            os.link(folder / "token", f"/tmp/token-{os.getpid()}")
            token = b""
        connection = call(servers.ports[NAMES[number % 2]], token, "client")
        connection.send(MESSAGES["Shutdown"]())
        return False
    return not os.access(folder / "token", os.R_OK)


def as_nobody(work: Callable[[], str]) -> str:
    """The result of `work` in a child process that has another user id."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from 3.12 on about threads: none of ours runs here
        pid = os.fork()
    if pid == 0:
        result = ""
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            result = work()
        except BaseException as error:
            result = repr(error)
        finally:
            os.write(writing, result.encode())
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        result = file.read()
    os.waitpid(pid, 0)
    return result


class Impostor:
    """Listens where a record says that a server is, answers in one of several ways, and keeps all it is sent."""

    KINDS = (
        "closes",
        "echo",
        "HTTP",
        "random proof",
        "another protocol",
        "relay",
        "busy",
        "odd types",
        "nonsense",
        "silent",
    )

    def __init__(self, live: int) -> None:
        self._live = live  # port of the server that a relay calls
        self.kind = "closes"
        self.seen = bytearray()
        self.callers = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            if self.kind == "end":
                sock.close()
                return
            self.callers += 1
            self._threads.append(threading.Thread(target=self._serve, args=(sock, self.kind)))
            self._threads[-1].start()

    def _serve(self, sock: socket.socket, kind: str) -> None:
        challenge = Challenge(role="model", protocol=PROTOCOL, version="x", nonce="1" * 32, proof="2" * 64)
        first = {
            "HTTP": b"HTTP/1.1 400 Bad Request\r\n\r\n",
            "random proof": encode(challenge),
            "another protocol": encode(challenge.replace(protocol=PROTOCOL + 1)),
            "busy": encode(Denied(text="busy", retry_after=0.01)),
            "odd types": frame_of(
                b'{"type":"Challenge","role":"model","protocol":1,"version":"","nonce":"","proof":7}'
            ),
            "nonsense": os.urandom(99),
        }.get(kind, b"")
        with sock, contextlib.suppress(OSError):
            sock.settimeout(10)
            sock.sendall(first)
            upstream = socket.create_connection(("127.0.0.1", self._live)) if kind == "relay" else None
            while kind != "closes" and (data := sock.recv(1 << 16)):
                self.seen += data
                if kind == "echo":
                    sock.sendall(data)
                if upstream is not None:
                    upstream.sendall(data)
                    sock.sendall(upstream.recv(1 << 16))
            if upstream is not None:
                upstream.close()

    def close(self) -> None:
        self.kind = "end"
        socket.create_connection(("127.0.0.1", self.port)).close()
        self._thread.join()
        for thread in self._threads:
            thread.join()
        self._listener.close()


CANARY = "the canary sings of private things"


@pytest.mark.timeout(1200 if FULL else 120)
def test_b4_an_impostor_in_the_place_of_a_server_sees_neither_token_nor_text(
    servers: Servers, shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every way in which say.py calls a server, with the impostor's port in all records; locks know the real one."""
    for key, value in servers.world.environment.items():
        monkeypatch.setenv(key, value)
    client = Client(resolve())
    ways: dict[str, Callable[[], object]] = {
        "speak": lambda: client.speak(TextSource(CANARY), Speech(engine="espeak"), Route(sink="client")).finish(),
        "speak by way of the model server": lambda: client.speak(
            TextSource(CANARY), Speech(engine="espeak"), Route(sink="client"), device="cpu"
        ).finish(),
        "control": lambda: client.control(Stop()),
        "status": client.status,
        "download": lambda: list(client.download([])),
        "shutdown": lambda: alone.shutdown(),
    }
    folder = servers.world.path / "alone"  # a runtime directory whose servers have died: only records are left
    alone = Client(resolve().replace(runtime_dir=str(folder)))
    desert = RuntimeDirectory(str(folder))
    desert.token()
    impostor = Impostor(servers.ports["model"])
    records = {f"{name}.json": (servers.world.runtime / f"{name}.json").read_bytes() for name in NAMES}
    tries = times(200)
    done = 0
    cases = itertools.islice(itertools.cycle(itertools.product(Impostor.KINDS[:-1], ways)), tries - 2)
    for impostor.kind, way in [*cases, ("silent", "status"), ("silent", "speak")]:
        for runtime in (servers.runtime, desert):
            for name in NAMES:
                runtime.write(f"{name}.json", json.dumps(ServerRecord(pid=1, port=impostor.port).as_dict()).encode())
        with contextlib.suppress(KokoroError):  # there is no model to be had, for one
            ways[way]()
        done += 1
    impostor.close()
    for name, record in records.items():
        servers.runtime.write(name, record)
    sent = Decoder(strict=True)
    hellos = [message for message, _ in sent.feed(bytes(impostor.seen))]
    innocent = sum(isinstance(message, Hello) for message in hellos)
    token_or_text = sum(form in impostor.seen for form in (servers.token, servers.token.hex().encode(), b"canary"))
    shown(
        "B4", "messages that an impostor saw were Hellos", innocent, of=len(hellos), tries=done, calls=impostor.callers
    )
    assert token_or_text == 0
    assert impostor.callers >= tries // 2
    assert not sent.within_frame
    assert servers.token_in_logs() == 0


# --- B6, B7, B8: crowds, and clients that do not read ----------------------------------------------------------------


@pytest.mark.timeout(600 if FULL else 120)
def test_b6_a_crowd_of_callers_is_served_or_told_to_come_again(servers: Servers, shown: Shown) -> None:
    """All at once, and none leaves. A reset would lose an answer."""
    count, token, port = times(5_000), servers.token, servers.ports["model"]
    process = servers.processes["model"]
    before = rss(process)
    began = time.monotonic()
    crowd = {sock.fileno(): sock for sock in (socket.socket() for _ in range(count))}
    nonce = "0" * 32
    hello = encode(Hello(role="client", protocol=PROTOCOL, version="x", nonce=nonce))
    poller = select.epoll()
    for sock in crowd.values():
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            sock.connect(("127.0.0.1", port))
        poller.register(sock, select.EPOLLOUT)
    outcomes: list[str] = []
    said_busy: list[float] = []
    decoders = {fd: Decoder(strict=False) for fd in crowd}
    connected: dict[int, float] = {}

    def hear(fd: int) -> str:
        """What the caller has come to, empty while it goes on."""
        data = crowd[fd].recv(1 << 16)
        if not data:
            return "closed without an answer"
        for message, _ in decoders[fd].feed(data):
            if isinstance(message, Challenge):
                proof = connections._proof(token, "client", "client", port, nonce, message.nonce)
                crowd[fd].send(encode(Proof(proof=proof)))
            elif isinstance(message, Denied) and message.retry_after > 0:
                said_busy.append(time.monotonic() - connected[fd])
                return "busy"
            else:
                return type(message).__name__
        return ""

    peak = before
    while len(outcomes) < count and time.monotonic() < began + 30:
        for fd, event in poller.poll(1.0):
            try:
                if event & select.EPOLLOUT and fd not in connected:
                    connected[fd] = time.monotonic()
                    crowd[fd].send(hello)
                    poller.modify(fd, select.EPOLLIN)
                elif outcome := hear(fd):
                    outcomes.append(outcome)
                    poller.unregister(fd)
                    if outcome != "Welcome":
                        crowd[fd].close()
            except OSError as error:
                outcomes.append(str(error))
                poller.unregister(fd)
        peak = max(peak, rss(process))
    for sock in crowd.values():
        sock.close()
    poller.close()
    took = time.monotonic() - began
    wait_for_few_threads(process)
    figures = {kind: outcomes.count(kind) for kind in ("Welcome", "busy")}
    p99 = round(1000 * sorted(said_busy)[int(0.99 * len(said_busy))], 1) if said_busy else 0.0
    shown("B6", "callers of a crowd served, or told to come again", sum(figures.values()), of=count, **figures,
          others=sorted(set(outcomes) - set(figures)), busy_p99_ms=p99, mb_more=round((peak - before) / MB),
          mb_more_after=round((rss(process) - before) / MB), all_s=round(took, 2))  # fmt: skip
    assert figures["Welcome"] > 0


def wait_for_few_threads(process: psutil.Process) -> None:
    deadline = time.monotonic() + SETTLE_SECONDS
    while (count := process.num_threads()) >= 20:
        assert time.monotonic() < deadline, f"{count} threads"
        time.sleep(0.05)


def test_b6_a_thousand_connected_clients_cost_little_and_give_it_back(servers: Servers, shown: Shown) -> None:
    """Always the whole count: it is the price of the threads that is measured."""
    process, port = servers.processes["model"], servers.ports["model"]
    before, figures = rss(process), []
    for _ in range(10 if FULL else 2):
        crowd = []
        for _ in range(1_000):
            crowd.append(patient_call(port, servers.token))
            crowd[-1].send(Ping())
        held = sum(isinstance(connection.receive(10)[0], Pong) for connection in crowd)
        full = rss(process)
        for connection in crowd:
            connection.close()
        wait_for_few_threads(process)
        figures.append((round((full - before) / MB, 1), round((rss(process) - before) / MB, 1)))
    shown("B6", "of a thousand clients at once answered", held, of=1_000, mb_more_and_after=figures)
    assert all(full < 100 for full, _ in figures)
    assert servers.settled() == {}
    assert figures[-1][1] - figures[0][1] < 5  # the rest is kept for the next thousand, not lost


@pytest.mark.timeout(180)
def test_b7_a_slow_reader_of_audio_is_dropped_and_nobody_else(servers: Servers, shown: Shown) -> None:
    """Reads 1 KB/s, and has given credit for all there is: what it does not take in 10 s ends its connection."""
    count, name = times(50), NAMES[1]
    text = "A sentence that takes its time to be read. " * 40
    slow: list[socket.socket] = []
    for _ in range(count):
        connection = call(servers.ports[name], servers.token, "client")
        connection._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        utterance = os.urandom(16).hex()
        connection.send(
            Speak(
                utterance=utterance,
                speech=Speech(voice="af_heart", lang="a", engine="espeak"),
                route=Route(sink="client"),
            )
        )
        connection.send(Credit(utterance=utterance, bytes=1 << 40))
        connection.send(TextPart(utterance=utterance, text=text))
        connection.send(EndOfText(utterance=utterance))
        slow.append(connection._socket)
    stop = threading.Event()

    def read_slowly() -> None:
        while not stop.wait(1.0):
            for sock in slow:
                with contextlib.suppress(OSError):
                    sock.recv(1024, socket.MSG_DONTWAIT)

    reader = threading.Thread(target=read_slowly)
    reader.start()
    began = time.monotonic()
    frames, longest = 0, 0.0
    with good_clients(servers) as good:
        dropped = 0.0
        while not dropped and time.monotonic() < began + 40:  # meanwhile another one is served whole, and at once
            at = time.monotonic()
            frames += whole_audio(servers, name)
            longest = max(longest, time.monotonic() - at)
            if servers.processes[name].num_fds() - servers.descriptors[name] <= 1:  # the good client's
                dropped = time.monotonic() - began
    still_open = 0 if dropped else servers.processes[name].num_fds() - servers.descriptors[name]
    stop.set()
    reader.join()
    for sock in slow:
        sock.close()
    shown("B7", "slow readers dropped after 10 s", count - still_open, of=count, last_s=round(dropped, 1),
          others_frames=frames, others_longest_s=round(longest, 2))  # fmt: skip
    assert_calm("B7", servers, good, shown, mb=20 + 8 * count)  # what an outbox may hold


def whole_audio(servers: Servers, name: str) -> int:
    """Frames of one utterance, taken in order and to its end."""
    connection = call(servers.ports[name], servers.token, "client")
    utterance, text = os.urandom(16).hex(), "One. Two and three. Four."
    connection.send(
        Speak(
            utterance=utterance, speech=Speech(voice="af_heart", lang="a", engine="espeak"), route=Route(sink="client")
        )
    )
    connection.send(Credit(utterance=utterance, bytes=1 << 22))
    connection.send(TextPart(utterance=utterance, text=text))
    connection.send(EndOfText(utterance=utterance))
    frames = 0
    while True:
        message, payload = connection.receive(10)
        assert not isinstance(message, Failed), message
        frames += len(payload) // 4
        if isinstance(message, Finished):
            assert frames == round(message.seconds * 24_000)
            break
    connection.close()
    assert frames > 0
    return frames


def test_b8_pipelined_commands_are_answered_in_order(servers: Servers, shown: Shown) -> None:
    """A thousand and more at once without reading; each tenth is one with another answer, so order shows."""
    held = 0
    rounds, commands = times(10), 1_000
    for name in NAMES:
        for _ in range(rounds):
            connection = call(servers.ports[name], servers.token, "client")
            asked = ["StatusRequest" if number % 10 == 7 else "Ping" for number in range(commands)]
            connection.send_frame(b"".join(encode(MESSAGES[kind]()) for kind in asked))
            answers = {"Ping": "Pong", "StatusRequest": "Status"}
            held += sum(type(connection.receive(10)[0]).__name__ == answers[kind] for kind in asked)
            connection.close()
    shown("B8", "pipelined commands answered in order", held, of=len(NAMES) * rounds * commands)
    assert servers.settled() == {}


@pytest.mark.parametrize("reads", [True, False], ids=["who takes the answers", "who does not"])
def test_b8_a_flood_of_commands_is_bounded_and_others_come_in_between(
    servers: Servers, shown: Shown, reads: bool
) -> None:
    """Faster than the server can handle them: it does not read ahead, and drops who takes no answers."""
    flood = encode(Ping()) * 20_000
    taken, sent = 0, 0
    until = time.monotonic() + times(30)
    with call(servers.ports[NAMES[1]], servers.token, "client")._socket as sock, good_clients(servers) as good:
        sock.setblocking(False)
        rest = memoryview(flood)
        while (left := until - time.monotonic()) > 0:
            readable, writable, _ = select.select([sock] if reads else [], [sock], [], left)
            try:
                taken += len(sock.recv(1 << 20)) if readable else 0
                sent += (now := sock.send(rest) if writable else 0)
            except OSError:
                break  # dropped
            rest = rest[now:] or memoryview(flood)
        most = servers.growth()
        time.sleep(0 if reads else max(0.0, until - time.monotonic()))
    shown("B8", "floods survived", 1, of=1, reads=reads, commands=sent // len(encode(Ping())), mb_more_meanwhile=most)
    assert taken > 0 or not reads
    assert_calm("B8", servers, good, shown, mb=20)  # the outbox of who takes no answers is 8 MB


# --- A16: other versions ---------------------------------------------------------------------------------------------


def test_a16_another_protocol_is_recognized_on_both_sides_and_nothing_else_is_said(
    servers: Servers, shown: Shown
) -> None:
    """Callers older, the same and newer against live servers; our call() against servers older and newer."""
    tries, held = times(200), 0
    for number in range(tries):
        port, protocol = servers.ports[NAMES[number % 2]], PROTOCOL - 1 + number % 3
        with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
            caller = Connection(sock, strict=False)
            caller.send(Hello(role="client", protocol=protocol, version=f"0.{protocol}", nonce="0" * 32))
            challenge = caller.receive(5)[0]
            assert isinstance(challenge, Challenge)
            expected = connections._proof(servers.token, "server", challenge.role, port, "0" * 32, challenge.nonce)
            held += challenge.proof == expected and challenge.protocol == PROTOCOL
            if protocol != PROTOCOL:
                assert answer_of(sock) == b""
    shown("A16", "callers of any protocol were told the server's, with its proof", held, of=tries)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        told = sum(told_apart(listener, port, PROTOCOL - 1 + number % 2 * 2, servers.token) for number in range(tries))
    shown("A16", "servers of another protocol told from strangers", told, of=tries)


def told_apart(listener: socket.socket, port: int, protocol: int, token: bytes) -> bool:
    def serve() -> None:
        sock, _ = listener.accept()
        with sock:
            caller = Connection(sock, strict=True)
            hello = caller.receive(5)[0]
            assert isinstance(hello, Hello)
            proof = connections._proof(token, "server", "model", port, hello.nonce, "1" * 32)
            caller.send(Challenge(role="model", protocol=protocol, version="0.9", nonce="1" * 32, proof=proof))
            with contextlib.suppress(ConnectionLost):
                caller.receive(5)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        call(port, token, "client")
    except OtherProtocol as error:
        return (error.protocol, error.version) == (protocol, "0.9")
    finally:
        thread.join()
    return False
