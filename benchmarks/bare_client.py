"""A client written from docs/protocol.md alone, without the package: what a shell command must cost at the least.

    KOKORO_RUNTIME_DIR=DIR python benchmarks/bare_client.py VOICE TEXT

The voice's server must be running. Ends when the text has been accepted.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import socket
import struct
import sys


def proof(token: bytes, side: str, role: str, port: int, client_nonce: str, server_nonce: str) -> str:
    text = "\n".join((side, role, str(port), client_nonce, server_nonce))
    return hmac.new(token, text.encode(), hashlib.sha256).hexdigest()


def send(server: socket.socket, kind: str, **fields: object) -> None:
    body = json.dumps({"type": kind, **fields}).encode()
    server.sendall(struct.pack(">I", len(body)) + body)


def receive(server: socket.socket, kind: str) -> dict[str, str]:
    """The next message of this kind; what comes in between (ServerState) is passed over."""
    while True:
        (length,) = struct.unpack(">I", server.recv(4, socket.MSG_WAITALL))
        message: dict[str, str] = json.loads(server.recv(length, socket.MSG_WAITALL))
        if message["type"] == kind:
            return message
        if message["type"] in ("Denied", "Failed"):
            sys.exit(message["text"])


def main(voice: str, text: str) -> None:
    runtime = os.environ["KOKORO_RUNTIME_DIR"]
    with open(f"{runtime}/voice-{voice}.json") as file:
        port = json.load(file)["port"]
    with open(f"{runtime}/token", "rb") as file:
        token = file.read()
    server = socket.socket()
    server.connect(("127.0.0.1", port))  # create_connection() would import encodings.idna, 3 ms
    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # two short messages in a row do not wait for an ACK

    nonce = os.urandom(16).hex()
    send(server, "Hello", role="client", protocol=2, version="bare", nonce=nonce)
    challenge = receive(server, "Challenge")
    if challenge["proof"] != proof(token, "server", challenge["role"], port, nonce, challenge["nonce"]):
        sys.exit("this is not our server")
    send(server, "Proof", proof=proof(token, "client", "client", port, nonce, challenge["nonce"]))
    receive(server, "Welcome")

    utterance = os.urandom(16).hex()
    send(server, "Speak", utterance=utterance, voice=voice, lang=voice[0], wait=False)
    receive(server, "Accepted")
    send(server, "TextPart", utterance=utterance, text=text)
    send(server, "EndOfText", utterance=utterance)
    receive(server, "TextAccepted")


main(*sys.argv[1:])
