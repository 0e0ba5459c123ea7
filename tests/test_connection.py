"""Strangers: without the token nothing is answered, to an impostor nothing is sent, nonsense ends a connection only."""

from __future__ import annotations

import json
import logging
import os
import queue
import random
import socket
import struct
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from kokoro_common import connection as connections
from kokoro_common.connection import (
    Busy,
    Connection,
    ConnectionLost,
    NotOurServer,
    OtherProtocol,
    Peer,
    Switchboard,
    call,
)
from kokoro_common.protocol import PROTOCOL, Challenge, Denied, Hello, Ping, Pong, Proof, Speak, encode

if TYPE_CHECKING:
    from kokoro_common.connection import Delivery

TOKEN = bytes(range(32))


class Server:
    """A switchboard whose inbox is read by a thread that answers Ping."""

    def __init__(self) -> None:
        self.inbox: queue.SimpleQueue[Delivery] = queue.SimpleQueue()
        self.board = Switchboard(TOKEN, "model", 0, self.inbox, logging.getLogger("kokoro.test"))
        self.received: list[object] = []
        self.peers: list[Peer] = []
        self._thread = threading.Thread(target=self._answer)
        self.board.start()
        self._thread.start()

    @property
    def port(self) -> int:
        return self.board.port

    def _answer(self) -> None:
        while True:
            peer, message, _ = self.inbox.get()
            if peer is None:
                return
            self.received.append(message)
            self.peers.append(peer)
            if isinstance(message, Ping):
                peer.post(Pong(done=0))

    def close(self) -> None:
        self.board.close()
        self.inbox.put((None, None, b""))
        self._thread.join(5)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def ping(server: Server) -> None:
    connection = call(server.port, TOKEN, "client")
    connection.send(Ping())
    assert connection.receive(5)[0] == Pong(done=0)
    connection.close()


def test_who_holds_the_token_is_served(server: Server) -> None:
    ping(server)


def test_wrong_tokens_are_denied(server: Server) -> None:
    for _ in range(100):
        with pytest.raises(NotOurServer):  # the server's own proof does not fit the wrong token: nothing more is sent
            call(server.port, os.urandom(32), "client")
    assert server.received == []


def raw_handshake(port: int, proof: str) -> Connection:
    connection = Connection(socket.create_connection(("127.0.0.1", port)), strict=False)
    connection.send(Hello(role="client", protocol=PROTOCOL, version="x", nonce="0" * 32))
    assert isinstance(connection.receive(5)[0], Challenge)
    connection.send(Proof(proof=proof))
    return connection


def test_a_wrong_proof_learns_nothing_but_denied(server: Server) -> None:
    for proof in ("", "0" * 64, "é" * 64, os.urandom(32).hex()):
        connection = raw_handshake(server.port, proof)
        answer = connection.receive(5)[0]
        assert type(answer).__name__ == "Denied"
        with pytest.raises(ConnectionLost):
            connection.receive(5)
        connection.close()
    assert server.received == []


def test_a_servers_own_proof_is_no_ticket(server: Server) -> None:
    connection = Connection(socket.create_connection(("127.0.0.1", server.port)), strict=False)
    connection.send(Hello(role="client", protocol=PROTOCOL, version="x", nonce="0" * 32))
    challenge = connection.receive(5)[0]
    assert isinstance(challenge, Challenge)
    connection.send(Proof(proof=challenge.proof))
    assert type(connection.receive(5)[0]).__name__ == "Denied"
    connection.close()


def impostor(*answers: bytes) -> tuple[socket.socket, threading.Thread, bytearray]:
    """Listens once, sends the answers to whoever calls, and notes what it is sent."""
    listener = socket.create_server(("127.0.0.1", 0))
    seen = bytearray()

    def serve() -> None:
        connection, _ = listener.accept()
        with listener, connection:
            connection.settimeout(5)
            connection.sendall(b"".join(answers))
            while data := connection.recv(9999):
                seen.extend(data)

    thread = threading.Thread(target=serve)
    thread.start()
    return listener, thread, seen


def test_a_server_that_is_busy_is_told_from_one_that_is_not_there(server: Server) -> None:
    busy = Denied(text="busy", retry_after=0.25)
    for answers in ([busy], [busy, Ping()]):
        listener, thread, _ = impostor(*map(encode, answers))
        with pytest.raises(Busy) as caught:
            call(listener.getsockname()[1], TOKEN, "client")
        thread.join(10)
        assert caught.value.retry_after == 0.25


def test_nobody_is_made_to_wait_for_ever() -> None:
    listener, thread, _ = impostor(encode(Denied(text="busy", retry_after=1e300)))
    with pytest.raises(Busy) as caught:
        call(listener.getsockname()[1], TOKEN, "client")
    thread.join(10)
    assert caught.value.retry_after == connections.MAX_RETRY_SECONDS


CHALLENGE = {"type": "Challenge", "role": "model", "protocol": PROTOCOL, "version": "x", "nonce": "1" * 32}
ODD_ANSWERS = [
    {**CHALLENGE, "proof": 5},
    {**CHALLENGE, "proof": "2" * 64, "role": ["model"]},
    {**CHALLENGE, "proof": "2" * 64, "nonce": {"a": 1}},
    {**CHALLENGE, "proof": "\ud800"},
    {"type": "Denied", "text": "busy", "retry_after": "soon"},
    {"type": "Denied", "text": "busy", "retry_after": float("nan")},
    {"type": "Denied", "text": "no"},
    {"type": "Welcome", "pid": "1"},
    {"type": "AudioChunk", "utterance": "u", "index": 0, "payload_bytes": "4"},
    {"type": "AudioChunk", "utterance": "u", "index": 0, "payload_bytes": 1.5},
]


@pytest.mark.parametrize("answer", ODD_ANSWERS, ids=str)
def test_what_an_impostor_answers_is_an_impostors_and_no_crash(answer: dict[str, object]) -> None:
    body = json.dumps(answer).encode()
    listener, thread, seen = impostor(struct.pack(">I", len(body)) + body)
    with pytest.raises(NotOurServer):
        call(listener.getsockname()[1], TOKEN, "client")
    thread.join(10)
    assert seen.count(b'"type"') == 1


def test_each_side_knows_the_others_version(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "__version__", "7.8.9")
    caller = call(server.port, TOKEN, "client")
    assert caller.version == "7.8.9"
    caller.send(Ping())
    caller.receive(5)
    assert server.peers[0].version == "7.8.9"
    caller.close()


def test_a_caller_of_another_protocol_hears_who_we_are_and_no_more(server: Server) -> None:
    caller = Connection(socket.create_connection(("127.0.0.1", server.port)), strict=False)
    caller.send(Hello(role="client", protocol=PROTOCOL + 1, version="x", nonce="0" * 32))
    challenge = caller.receive(5)[0]
    assert isinstance(challenge, Challenge)
    assert challenge.protocol == PROTOCOL
    with pytest.raises(ConnectionLost):
        caller.receive(5)
    caller.close()
    assert server.received == []


@pytest.mark.parametrize("token", [TOKEN, TOKEN[::-1]], ids=["ours", "a stranger's"])
def test_our_server_of_another_protocol_is_told_from_a_stranger(token: bytes) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    def serve() -> None:
        sock, _ = listener.accept()
        with listener, sock:
            caller = Connection(sock, strict=True)
            hello = caller.receive(5)[0]
            assert isinstance(hello, Hello)
            proof = connections._proof(token, "server", "model", port, hello.nonce, "1" * 32)
            answer = Challenge(role="model", protocol=PROTOCOL + 1, version="9.9", nonce="1" * 32, proof=proof)
            caller.send(answer)
            with pytest.raises(ConnectionLost):
                caller.receive(5)

    thread = threading.Thread(target=serve)
    thread.start()
    with pytest.raises(NotOurServer) as caught:
        call(port, TOKEN, "client")
    thread.join(10)
    if token == TOKEN:
        assert isinstance(caught.value, OtherProtocol)
        assert (caught.value.protocol, caught.value.version) == (PROTOCOL + 1, "9.9")
    else:
        assert type(caught.value) is NotOurServer


@pytest.mark.parametrize("kind", ["echo", "relay", "http", "closes", "silent", "random proof"])
def test_an_impostor_on_the_port_sees_a_hello_and_nothing_else(server: Server, kind: str) -> None:
    seen = bytearray()

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            if kind == "closes":
                return
            connection.settimeout(5)
            if kind == "http":
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            if kind == "random proof":
                challenge = Challenge(role="model", protocol=PROTOCOL, version="x", nonce="1" * 32, proof="2" * 64)
                connection.sendall(encode(challenge))
            upstream = socket.create_connection(("127.0.0.1", server.port)) if kind == "relay" else None
            while data := connection.recv(9999):
                seen.extend(data)
                if kind == "echo":
                    connection.sendall(data)
                if upstream is not None:  # hands the live server's proof on: it was made for another port
                    upstream.sendall(data)
                    connection.sendall(upstream.recv(9999))
            if upstream is not None:
                upstream.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        with pytest.raises((NotOurServer, ConnectionLost)):
            call(listener.getsockname()[1], TOKEN, "client")
        thread.join(10)
    assert b"Proof" not in seen
    assert TOKEN not in seen
    assert seen.count(b'"type"') <= 1


STRANGERS = {
    "HTTP": b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 20\r\n\r\n" + b'{"type": "Shutdown"}',
    "TLS": bytes.fromhex("16030100c8010000c40303") + b"\0" * 200,
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "redis": b"*1\r\n$8\r\nFLUSHALL\r\n",
    "STUN": bytes.fromhex("000100002112a442") + b"\0" * 12,
    "speech before hello": encode(Speak(utterance="0" * 32, voice="af_heart", lang="a")),
    "two hellos": 2 * encode(Hello(role="client", protocol=PROTOCOL, version="x", nonce="0" * 32)),
    "a role of its own": encode(Hello(role="admin", protocol=PROTOCOL, version="x", nonce="0" * 32)),
    "random": random.Random(0).randbytes(4000),
    "limit + 1": struct.pack(">I", 4097),
}


@pytest.mark.parametrize("data", STRANGERS.values(), ids=STRANGERS.keys())
def test_strangers_are_disconnected_and_others_are_served_on(server: Server, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as stranger:
        stranger.sendall(data)
        try:
            while stranger.recv(9999):
                pass
        except ConnectionResetError:
            pass
        ping(server)
    assert all(message in (Ping(), None) for message in server.received)


def test_a_stranger_that_says_nothing_is_disconnected(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as stranger:
        stranger.sendall(b"\0")
        ping(server)  # meanwhile others are served
        assert stranger.recv(1) == b""  # after HANDSHAKE_SECONDS


def test_malformed_frames_after_the_handshake_end_that_connection_only(server: Server) -> None:
    for body in (b"[]", b'{"type":"Ping","x":1}', b"\xff\xfe", b'{"type":"Reboot"}'):
        connection = call(server.port, TOKEN, "client")
        connection.send_frame(struct.pack(">I", len(body)) + body)
        with pytest.raises(ConnectionLost):
            connection.receive(5)
        connection.close()
        ping(server)


def test_a_peer_that_does_not_read_is_dropped_and_nobody_waits_for_it() -> None:
    inbox: queue.SimpleQueue[Delivery] = queue.SimpleQueue()
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        peer = Peer(Connection(accepted, strict=True), "client", inbox, logging.getLogger("kokoro.test"))
        thread = threading.Thread(target=peer.serve)
        thread.start()
        for _ in range(40):  # 20 MB, which nobody reads
            peer.post(Speak(utterance="u" * 500_000, voice="v", lang="a"))
        assert peer.ended.wait(15)
        thread.join(5)
    assert inbox.get(timeout=5) == (peer, None, b"")


def test_a_taken_port_is_stepped_over() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        board = Switchboard(TOKEN, "model", port, queue.SimpleQueue(), logging.getLogger("kokoro.test"))
        assert board.port != port
        board.close()
