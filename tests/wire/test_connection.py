"""Strangers: without the token nothing is answered, to an impostor nothing is sent, nonsense ends a connection only."""

from __future__ import annotations

import errno
import itertools
import json
import logging
import os
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from kokoro_common.errors import ServersUnreachable
from kokoro_common.text.speech import Speech
from kokoro_common.wire import callers
from kokoro_common.wire import connection as connections
from kokoro_common.wire import server as wire_server
from kokoro_common.wire.codec import encode
from kokoro_common.wire.connection import Busy, Connection, ConnectionLost, NotOurServer, OtherProtocol, call
from kokoro_common.wire.messages import (
    PROTOCOL,
    AudioChunk,
    Challenge,
    Credit,
    Denied,
    Hello,
    Ping,
    Pong,
    Progress,
    Proof,
    Speak,
)
from kokoro_common.wire.server import Delivery, Inbox, Peer, PeerGone, Switchboard
from tests.helpers.descriptors import no_descriptors, open_descriptors

if TYPE_CHECKING:
    pass

TOKEN = bytes(range(32))


class Server:
    """A switchboard whose inbox is read by a thread that answers Ping."""

    def __init__(self) -> None:
        self.inbox = Inbox()
        self.board = Switchboard("model", 0, self.inbox, logging.getLogger("kokoro.test"))
        self.received: list[object] = []
        self.peers: list[Peer] = []
        self._thread = threading.Thread(target=self._answer, daemon=True)
        self.board.start(TOKEN)
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
        self.inbox.report(PeerGone())
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

    thread = threading.Thread(target=serve, daemon=True)
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
    proof = connections._proof(TOKEN, "client", "client", server.port, "0" * 32, challenge.nonce)
    with pytest.raises(ConnectionLost):
        caller.send(Proof(proof=proof))
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

    thread = threading.Thread(target=serve, daemon=True)
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
    "speech before hello": encode(Speak(utterance="0" * 32, speech=Speech(voice="af_heart", lang="a"))),
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
    assert all(message in (Ping(), PeerGone()) for message in server.received)


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


def test_what_will_be_told_again_is_not_queued_for_a_peer_that_rests() -> None:
    """An hour of progress neither drops it nor grows, and what it has to know still arrives."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, connections.CLIENT_BUFFER_BYTES)
        sock.connect(listener.getsockname())
        accepted, _ = listener.accept()
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, connections.CLIENT_BUFFER_BYTES)
        peer = Peer(Connection(accepted, strict=True), "client", Inbox(), logging.getLogger("kokoro.test"))
        threading.Thread(target=peer.serve).start()
        news = Progress(utterance="0" * 32, seconds=1.0)
        told = sum(peer.offer(news) for _ in range(50_000))  # 5 MB, seven hours at 2 a second
        assert 500 < told < 20_000
        sent = threading.Event()
        for _ in range(1_000):  # 80 KB
            peer.post(Credit(utterance="0" * 32, bytes=1))
        peer.post(Pong(done=1), written=sent)
        assert sent.wait(5)  # nothing waits for the peer to read
        reader = Connection(sock, strict=False)
        reader.trust()
        messages = [reader.receive(5)[0] for _ in range(told + 1_001)]
        assert messages[-1] == Pong(done=1) and messages.count(news) == told
        peer.drop()
        assert peer.ended.wait(5)


def test_a_rest_between_two_messages_is_not_the_fault_of_the_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "FRAME_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as ours:
        accepted, _ = listener.accept()
        connection = Connection(accepted, strict=False)
        connection.trust()
        frame = encode(Pong(done=2))
        ours.sendall(encode(Pong(done=1)) + frame[:5])
        assert connection.receive(5)[0] == Pong(done=1)
        time.sleep(0.4)
        threading.Timer(0.1, ours.sendall, [frame[5:]]).start()
        assert connection.receive(5)[0] == Pong(done=2)
        ours.sendall(frame[:5])
        with pytest.raises(ConnectionLost, match="a frame did not end in time"):  # it began while we waited
            connection.receive(5)
        connection.close()


def test_a_peer_that_does_not_read_is_dropped_and_nobody_waits_for_it() -> None:
    inbox = Inbox()
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        peer = Peer(Connection(accepted, strict=True), "client", inbox, logging.getLogger("kokoro.test"))
        thread = threading.Thread(target=peer.serve)
        thread.start()
        for _ in range(40):  # 20 MB, which nobody reads
            peer.post(AudioChunk(utterance="u", index=0, payload_bytes=500_000), bytes(500_000))
        assert peer.ended.wait(15)
        thread.join(5)
    assert inbox.get(timeout=5) == Delivery(peer, PeerGone())


def test_a_message_that_is_written_arrives_though_its_sender_is_no_more() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        reader = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
        connection = Connection(accepted, strict=True)
        peer = Peer(connection, "client", Inbox(), logging.getLogger("kokoro.test"))
        threading.Thread(target=peer.serve, daemon=True).start()
        written = threading.Event()
        peer.post(Ping(), written=written)
        assert written.wait(5)
        peer.drop()
        with reader:
            receiving = Connection(reader, strict=True)
            assert receiving.receive(5)[0] == Ping()


def test_a_taken_port_is_stepped_over() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        board = Switchboard("model", port, Inbox(), logging.getLogger("kokoro.test"))
        board.start(TOKEN)
        assert board.port != port
        board.close()


def served(server: Server) -> bool:
    """Whether a caller gets its answer now, and is not told to come again."""
    try:
        ping(server)
    except Busy:
        return False
    return True


def read_to_the_end(sock: socket.socket) -> bytes:
    """Raises ConnectionResetError where the answer could have been lost."""
    sock.settimeout(5)
    return b"".join(iter(lambda: sock.recv(9999), b""))


def test_strangers_give_way_to_later_callers_and_hear_busy_without_a_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers, "MAX_UNPROVEN", 2)
    server = Server()
    hello = encode(Hello(role="client", protocol=PROTOCOL, version="x", nonce="0" * 32))
    busy = encode(callers.BUSY)
    inside = call(server.port, TOKEN, "client")
    silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]
    greeting = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]
    for sock in greeting:
        sock.sendall(hello)
    for _ in range(20):
        ping(server)  # the holder of the token gets a place, whoever has them
    for sock in (*silent, *greeting[:-1]):  # one more has a place until it is overdue
        assert read_to_the_end(sock).endswith(busy)  # perhaps after its Challenge
        sock.close()
    greeting[-1].close()
    inside.send(Ping())  # and a place among the proven is nobody else's
    assert inside.receive(5)[0] == Pong(done=0)
    inside.close()
    server.close()


def test_a_proof_that_has_come_counts_before_its_caller_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that accepts is held up: the proof and the next callers are all there when it looks."""
    monkeypatch.setattr(callers, "MAX_UNPROVEN", 1)
    server = Server()
    take, may_go_on, holding = server.board._take, threading.Event(), threading.Event()

    def held_up(*arguments: object) -> bool:
        holding.set()
        may_go_on.wait(10)
        return take(*arguments)  # type: ignore[arg-type]

    caller = Connection(socket.create_connection(("127.0.0.1", server.port)), strict=False)
    caller.send(Hello(role="client", protocol=PROTOCOL, version="x", nonce="0" * 32))
    challenge = caller.receive(5)[0]
    assert isinstance(challenge, Challenge)
    monkeypatch.setattr(server.board, "_take", held_up)
    later = socket.create_connection(("127.0.0.1", server.port))
    assert holding.wait(5)
    caller.send(Proof(proof=connections._proof(TOKEN, "client", "client", server.port, "0" * 32, challenge.nonce)))
    may_go_on.set()
    assert type(caller.receive(5)[0]).__name__ == "Welcome"
    caller.close()
    later.close()
    server.close()


def test_who_was_turned_away_and_stays_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers, "MAX_UNPROVEN", 0)
    monkeypatch.setattr(callers, "TURNED_AWAY_SECONDS", 0.3)
    server = Server()
    strangers = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(9)]
    for sock in strangers:  # they go on talking, and only listen
        assert read_to_the_end(sock) == encode(callers.BUSY)
    began = time.monotonic()
    while any(not closed_by_the_other(sock) for sock in strangers):
        assert time.monotonic() < began + 5
    for sock in strangers:
        sock.close()
    server.close()


def test_of_those_turned_away_the_oldest_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers, "MAX_UNPROVEN", 0)
    monkeypatch.setattr(callers, "MAX_TURNED_AWAY", 4)
    monkeypatch.setattr(callers, "TURNED_AWAY_SECONDS", 60.0)
    server = Server()
    strangers = []
    for _ in range(9):
        strangers.append(socket.create_connection(("127.0.0.1", server.port)))
        assert read_to_the_end(strangers[-1]) == encode(callers.BUSY)
    began = time.monotonic()
    while not all(closed_by_the_other(sock) for sock in strangers[:5]):
        assert time.monotonic() < began + 5
    assert not any(closed_by_the_other(sock) for sock in strangers[5:])
    for sock in strangers:
        sock.close()
    server.close()


def closed_by_the_other(sock: socket.socket) -> bool:
    """Not only its sending side: what is sent to it comes back as a reset."""
    try:
        sock.send(b"x")
    except OSError:
        return True
    return False


def test_beyond_the_limit_who_proves_itself_hears_busy_and_gets_the_next_free_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wire_server, "MAX_CONNECTIONS", 2)
    server = Server()
    inside = [call(server.port, TOKEN, "client") for _ in range(2)]
    for _ in range(20):
        assert not served(server)
    inside.pop().close()
    assert any(served(server) for _ in range(1000))
    inside.pop().close()
    server.close()


def test_descriptors_are_left_for_other_things_than_callers(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull) as file:
        lowest = file.fileno()
    monkeypatch.setattr(callers, "_descriptors", lambda: lowest + 10 + callers.SPARE_DESCRIPTORS)
    inside = []
    with pytest.raises(Busy):
        while len(inside) < 10:
            inside.append(call(server.port, TOKEN, "client"))
    assert inside
    inside.pop().close()
    assert any(served(server) for _ in range(1000))
    inside.pop().close()
    inside.pop().close()
    silent = socket.create_connection(("127.0.0.1", server.port))
    assert any(served(server) for _ in range(1000))  # the stranger gives its descriptor up, if it must
    for connection in (*inside, silent):
        connection.close()


def test_a_server_that_cannot_accept_tries_again_with_growing_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    real, tries = server.board._socket, []

    class Exhausted:
        """A listening socket while the process has no descriptor left."""

        def accept(self) -> tuple[socket.socket, object]:
            tries.append(time.monotonic())
            if len(tries) <= 6:
                raise OSError(errno.EMFILE, "Too many open files")
            return real.accept()

        def close(self) -> None:
            real.close()

    monkeypatch.setattr(server.board, "_socket", Exhausted())
    ping(server)
    pauses = [later - earlier for earlier, later in itertools.pairwise(tries[:7])]
    assert all(pause >= 0.01 * 2**number for number, pause in enumerate(pauses))
    server.close()


@pytest.mark.parametrize("name", ["reader", "client-writer"])
def test_no_thread_for_a_caller_is_no_end_of_the_server(
    server: Server, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def start_but_not_that_one(thread: threading.Thread) -> None:
        if thread.name == name:
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start_but_not_that_one)
        with pytest.raises(ConnectionLost):
            ping(server)
    ping(server)


def test_a_caller_that_has_been_reset_before_it_was_greeted_is_no_end_of_the_server(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """macOS sets no option of such a socket."""

    class Reset(socket.socket):
        def setsockopt(self, *_: object) -> None:  # type: ignore[override]
            raise OSError(errno.EINVAL, "Invalid argument")

    def take_reset(callers: callers.Callers) -> bool:
        sock = server.board._socket.accept()[0]
        callers.add(Reset(fileno=sock.detach()))
        return False

    with monkeypatch.context() as patched:
        patched.setattr(server.board, "_take", take_reset)
        stranger = socket.create_connection(("127.0.0.1", server.port))
        assert read_to_the_end(stranger) == b""
    stranger.close()
    ping(server)


def test_without_a_descriptor_nothing_is_called_and_that_is_said(server: Server) -> None:
    with no_descriptors(), pytest.raises(ConnectionLost, match="cannot be called"):
        call(server.port, TOKEN, "client")
    ping(server)


def test_a_socket_that_was_handed_on_is_not_called_however_many_wait_on_it() -> None:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    address = listener.getsockname()
    crowd = [socket.socket() for _ in range(4)]
    for sock in crowd:
        sock.setblocking(False)
        sock.connect_ex(address)
    listener.setblocking(False)
    board = Switchboard("model", 0, Inbox(), logging.getLogger("kokoro.test"))
    with listener.dup() as same:
        board.start(TOKEN, listener.detach())
        same.listen(64)  # else the kernel drops the next call too, until it has tried again
    assert board.port == address[1]
    call(board.port, TOKEN, "client").close()
    for sock in crowd:
        sock.close()
    board.close()


def test_a_port_that_nobody_can_call_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def uncallable(listener: socket.socket) -> tuple[str, int]:
        raise ServersUnreachable("127.0.0.1 cannot be called here", "bring it up")

    before = open_descriptors()
    monkeypatch.setattr(wire_server, "called", uncallable)
    board = Switchboard("model", 0, Inbox(), logging.getLogger("kokoro.test"))
    with pytest.raises(ServersUnreachable):
        board.start(TOKEN)
    assert open_descriptors() == before
    board.close()


def test_who_sends_faster_than_the_server_handles_waits_and_nothing_is_lost() -> None:
    inbox = Inbox()
    board = Switchboard("model", 0, inbox, logging.getLogger("kokoro.test"))
    board.start(TOKEN)
    caller = call(board.port, TOKEN, "client")
    sender = threading.Thread(
        target=lambda: [caller.send(Credit(utterance="u", bytes=number)) for number in range(5_000)]
    )
    sender.start()
    first = inbox.get(timeout=5)
    sender.join(0.5)
    assert inbox._deliveries.qsize() <= wire_server.INBOX_SHARE
    numbers = [first[1].bytes, *(inbox.get(timeout=5)[1].bytes for _ in range(4_999))]
    assert numbers == list(range(5_000))
    sender.join(5)
    caller.close()
    board.close()


def test_a_peer_that_reads_too_slowly_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "WRITE_SECONDS", 1.0)
    inbox = Inbox()
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as slow:
        accepted, _ = listener.accept()
        peer = Peer(Connection(accepted, strict=True), "client", inbox, logging.getLogger("kokoro.test"))
        thread = threading.Thread(target=peer.serve, daemon=True)
        thread.start()
        for _ in range(7):  # 7 MB: within the outbox, beyond what the kernel takes
            peer.post(AudioChunk(utterance="u", index=0, payload_bytes=1_000_000), bytes(1_000_000))
        for _ in range(1_000):  # 0.3 MB/s in small bites: never nothing for a second
            if not peer.ended.wait(0.01):
                slow.recv(3_000)
        assert peer.ended.wait(5)
        thread.join(5)
    assert inbox.get(timeout=5) == Delivery(peer, PeerGone())
