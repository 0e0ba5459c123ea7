"""Many clients in one process and one thread: each says its own words once and looks whether its own comes back.

    python -m tests.faults.flood RUNTIME_DIR CLIENTS ROUNDS

All of a round connect at the same moment. Prints what became of them as JSON.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import time
from collections import Counter

import numpy as np

from kokoro_common import __version__
from kokoro_common.daemon.record import note_of
from kokoro_common.daemon.runtime_directory import RuntimeDirectory
from kokoro_common.text.speech import Speech
from kokoro_common.wire.codec import Decoder, encode
from kokoro_common.wire.connection import _proof
from kokoro_common.wire.messages import (
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
    Proof,
    Route,
    Speak,
    TextPart,
    Welcome,
)
from tests.helpers.stub_engine import decode_samples, tag_of

SECONDS = 60.0  # after which clients that have not ended hang


class Client:
    def __init__(self, token: bytes, port: int) -> None:
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.began = time.monotonic()
        self.took = 0.0
        self.outcome = ""
        self._token = token
        self._port = port
        self._nonce = os.urandom(16).hex()
        self._utterance = os.urandom(16).hex()
        self._decoder = Decoder(strict=False)
        self._pcm = b""
        self.socket.connect_ex(("127.0.0.1", port))

    def connected(self) -> None:
        self._send(Hello(role="client", protocol=PROTOCOL, version=__version__, nonce=self._nonce))

    def hear(self) -> None:
        data = self.socket.recv(1 << 20)
        if not data:
            self.end("closed without an answer")
        for message, payload in self._decoder.feed(data):
            if isinstance(message, AudioChunk):
                self._pcm += payload
            else:
                self._answer(message)

    def _answer(self, message: Message) -> None:
        utterance = self._utterance
        if isinstance(message, Challenge):
            self._send(Proof(proof=_proof(self._token, "client", "client", self._port, self._nonce, message.nonce)))
            self._decoder.trust()
        elif isinstance(message, Welcome):
            self._send(
                Speak(
                    utterance=utterance,
                    speech=Speech(voice="af_heart", lang="a", engine="espeak"),
                    route=Route(sink="client"),
                )
            )
            self._send(Credit(utterance=utterance, bytes=1 << 20))
        elif isinstance(message, Accepted):
            self._send(TextPart(utterance=utterance, text="Hello."))
            self._send(EndOfText(utterance=utterance))
        elif isinstance(message, Finished):
            runs = decode_samples(np.frombuffer(self._pcm, "<f4"))
            whole = [(run.tag, run.chunk, run.first_frame) for run in runs] == [(tag_of(utterance), 0, 0)]
            self.end("done" if whole else f"foreign samples: {runs}")
        elif isinstance(message, Failed | Denied):
            self.end("busy" if message.retry_after else message.text)

    def end(self, outcome: str) -> None:
        if not self.outcome:
            self.outcome, self.took = outcome, time.monotonic() - self.began
            self.socket.close()

    def _send(self, message: Message) -> None:
        self.socket.send(encode(message))


def flood(token: bytes, port: int, count: int) -> list[Client]:
    poller = select.epoll()
    clients = {client.socket.fileno(): client for client in (Client(token, port) for _ in range(count))}
    for fd in clients:
        poller.register(fd, select.EPOLLOUT)
    talking: set[int] = set()
    left = len(clients)
    deadline = time.monotonic() + SECONDS
    while left and time.monotonic() < deadline:
        for fd, _ in poller.poll(1.0):
            client = clients[fd]
            try:
                if fd in talking:
                    client.hear()
                else:
                    talking.add(fd)
                    client.connected()
                    poller.modify(fd, select.EPOLLIN)
            except OSError as error:
                client.end(str(error))
            left -= bool(client.outcome)
    for client in clients.values():
        client.end("hangs")
    return list(clients.values())


def main(path: str, count: int, rounds: int) -> None:
    runtime = RuntimeDirectory(path)
    record = note_of(runtime, "voice-af_heart").record
    assert record is not None
    results: list[Client] = []
    for _ in range(rounds):
        print("ready", flush=True)
        sys.stdin.readline()  # all processes at once
        results += flood(runtime.token(), record.port, count)
    print(json.dumps({"outcomes": Counter(client.outcome for client in results),
                      "took": [client.took for client in results],
                      "busy": [client.took for client in results if client.outcome == "busy"]}))  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
