"""The least that a shell command must cost: a socket, the handshake and four messages, without kokoro_common.client.

    KOKORO_RUNTIME_DIR=DIR python benchmarks/bare_client.py VOICE TEXT

Frames come from the package's codec, so this client always speaks the protocol of today. The voice's server must be
running. Ends when the text has been accepted.
"""

from __future__ import annotations

import hmac
import json
import os
import socket
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from kokoro_common.text.speech import Speech
from kokoro_common.wire.codec import Decoder, encode
from kokoro_common.wire.messages import (
    PROTOCOL,
    Accepted,
    Challenge,
    Denied,
    EndOfText,
    Failed,
    Hello,
    Message,
    Proof,
    Route,
    Speak,
    TextAccepted,
    TextPart,
    Welcome,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def proof(token: bytes, side: str, role: str, port: int, client_nonce: str, server_nonce: str) -> str:
    text = "\n".join((side, role, str(port), client_nonce, server_nonce))
    return hmac.digest(token, text.encode(), "sha256").hex()


class Line:
    """A socket to one server, blocking, without deadlines."""

    def __init__(self, port: int) -> None:
        self._socket = socket.socket()
        self._socket.connect(("127.0.0.1", port))  # create_connection() would import encodings.idna, 3 ms
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a short message does not wait for an ACK
        self._decoder = Decoder(strict=False)
        self._arrived: list[Any] = []

    def send(self, *messages: Message) -> None:
        self._socket.sendall(b"".join(encode(message) for message in messages))

    def receive(self, kind: type[Message]) -> Any:
        """Returns the next message of this kind; passes over others, such as ServerState. Exits when refused."""
        while True:
            while not self._arrived:
                if not (data := self._socket.recv(1 << 16)):
                    sys.exit("the server has closed the connection")
                self._arrived += self._decoder.feed(data)
            message, _ = self._arrived.pop(0)
            if isinstance(message, kind):
                return message
            if isinstance(message, Denied | Failed):
                sys.exit(message.text)

    def prove(self, token: bytes, port: int) -> None:
        nonce = os.urandom(16).hex()
        self.send(Hello(role="client", protocol=PROTOCOL, version="bare", nonce=nonce))
        challenge = self.receive(Challenge)
        if challenge.proof != proof(token, "server", challenge.role, port, nonce, challenge.nonce):
            sys.exit("this is not our server")
        self.send(Proof(proof=proof(token, "client", "client", port, nonce, challenge.nonce)))
        self._decoder.trust()
        self.receive(Welcome)


def main(voice: str, text: str) -> None:
    runtime = os.environ["KOKORO_RUNTIME_DIR"]
    with open(f"{runtime}/voice-{voice}.json") as file:
        port = json.load(file)["port"]
    with open(f"{runtime}/token", "rb") as file:
        token = file.read()
    server = Line(port)
    server.prove(token, port)
    utterance = os.urandom(16).hex()
    speech = Speech(voice=voice, lang=voice[0])
    server.send(Speak(utterance=utterance, speech=speech, route=Route(wait=False)))
    server.receive(Accepted)
    server.send(TextPart(utterance=utterance, text=text), EndOfText(utterance=utterance))
    server.receive(TextAccepted)


main(*sys.argv[1:])
