"""Many clients in one process: each says its own words once and looks whether what comes back is its own.

    python -m tests.faults.flood RUNTIME_DIR CLIENTS ROUNDS

All of them connect at the same moment. Prints what became of them as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import Counter

import numpy as np

from kokoro_common import daemon
from kokoro_common.connection import Connection, ConnectionLost, NotOurServer, call
from kokoro_common.errors import ServersBusy
from kokoro_common.paths import RuntimeDirectory
from kokoro_common.protocol import (
    Accepted,
    AudioChunk,
    Cancelled,
    Credit,
    EndOfText,
    Failed,
    Finished,
    ProtocolError,
    Speak,
    TextPart,
)
from tests.stub_engine import decode_samples, tag_of

SECONDS = 60.0  # after which a client that has not ended hangs


def speak(connection: Connection) -> str:
    """Says one sentence and returns what became of it."""
    utterance = os.urandom(16).hex()
    connection.send(Speak(utterance=utterance, voice="af_heart", lang="a", engine="espeak", sink="client"))
    connection.send(Credit(utterance=utterance, bytes=1 << 20))
    pcm = b""
    deadline = time.monotonic() + SECONDS
    while True:
        message, payload = connection.receive(deadline - time.monotonic())
        if isinstance(message, Accepted):
            connection.send(TextPart(utterance=utterance, text="Hello."))
            connection.send(EndOfText(utterance=utterance))
        elif isinstance(message, AudioChunk):
            pcm += payload
        elif isinstance(message, Finished):
            runs = decode_samples(np.frombuffer(pcm, "<f4"))
            whole = [(run.tag, run.chunk, run.first_frame) for run in runs] == [(tag_of(utterance), 0, 0)]
            return "done" if whole else f"foreign samples: {runs}"
        elif isinstance(message, Failed):
            return "busy" if message.retry_after else f"failed: {message.text}"
        elif isinstance(message, Cancelled):
            return "cancelled"


def client(runtime: RuntimeDirectory, gate: threading.Event, results: list[tuple[str, float]]) -> None:
    gate.wait()
    began = time.monotonic()
    connection = None
    try:
        connection = daemon.connect(runtime, "voice-af_heart", patient=True)
        outcome = speak(connection) if connection else f"no server: {why(runtime)}"
    except ServersBusy:
        outcome = "busy"
    except (ConnectionLost, ProtocolError, TimeoutError) as error:
        outcome = f"{type(error).__name__}: {error}"
    finally:
        if connection is not None:
            connection.close()
    results.append((outcome, time.monotonic() - began))


def why(runtime: RuntimeDirectory) -> str:
    record = daemon.note_of(runtime, "voice-af_heart").record
    try:
        call(record.port if record else 0, runtime.token(), "client").close()
    except (ConnectionLost, NotOurServer) as error:
        return f"{type(error).__name__}: {error}"
    return "none at first"


def main(path: str, clients: int, rounds: int) -> None:
    runtime = RuntimeDirectory(path)
    results: list[tuple[str, float]] = []
    threading.stack_size(256 << 10)
    for _ in range(rounds):
        gate = threading.Event()
        threads = [threading.Thread(target=client, args=(runtime, gate, results)) for _ in range(clients)]
        for thread in threads:
            thread.start()
        print("ready", flush=True)
        sys.stdin.readline()  # all processes at once
        gate.set()
        for thread in threads:
            thread.join()
    print(json.dumps({"outcomes": Counter(outcome for outcome, _ in results), "took": [took for _, took in results],
                      "busy": [took for outcome, took in results if outcome == "busy"]}))  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
