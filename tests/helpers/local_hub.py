"""A hub on loopback: what huggingface_hub's client asks for, and faults that can be switched on while it runs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

REPO = "test/Kokoro-Toy"
REVISION = "0123456789abcdef0123456789abcdef01234567"
WHEEL_NAME = "en_core_web_sm-3.8.0-py3-none-any.whl"
BLOCK_BYTES = 1 << 16
DRIP_SECONDS = 0.05
Content = bytes | str | os.PathLike[str]  # or the path of a file


class LocalHub:
    """Serves `files` (name to bytes, or to the path of a file) at `endpoint` while it is entered.

    The attributes set in `healthy` are fault knobs: each holds until it is changed, or for `times` requests.
    """

    def __init__(
        self,
        files: Mapping[str, Content],
        *,
        wheel: bytes = b"",
        repo: str = REPO,
        revision: str = REVISION,
    ) -> None:
        self.files = dict(files)
        self.wheel = wheel  # served at `wheel_url`
        self.repo = repo
        self.revision = revision
        self.requests: list[tuple[str, str]] = []  # (method, path), in the order of arrival
        self.ranges: list[str] = []  # Range headers of the requests that had one
        self.authorized: list[str] = []  # paths that were asked for with a token
        self.closing = threading.Event()  # ends silent and stalled requests
        self.sent = 0  # bytes of bodies
        self._lock = threading.Lock()
        self.healthy()

    def healthy(self) -> None:
        """Switches every fault off."""
        self.status: dict[str, int] = {}  # method to the status it gets, such as {"HEAD": 503}
        self.retry_after = ""  # header that goes with `status`
        self.silent = False  # accepts, never answers
        self.cut_after: int | None = None  # bytes of the body, then the end of the stream
        self.reset_after: int | None = None  # the same, with a TCP reset
        self.stall_after: int | None = None  # bytes of the body, then nothing
        self.wrong_bytes = False  # of the right length
        self.too_long = False  # the body does not end where HEAD said it would
        self.linked_size: int | None = None  # bytes that HEAD tells, whatever the file has
        self.endless = False  # the body has no length and no end
        self.drip: str = ""  # "body" or "headers": a byte every DRIP_SECONDS from there on
        self.redirected = False  # GET is sent on to another address
        self.html = False  # 200 with a page, as a captive portal answers
        self.times: int | None = None  # how many more requests are faulty; None: all

    def __enter__(self) -> LocalHub:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("HandlerOf", (Handler,), {"hub": self}))
        self._server.daemon_threads = False  # server_close waits for every handler
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def wheel_url(self) -> str:
        return f"{self.endpoint}/wheels/{WHEEL_NAME}"

    def gets(self) -> Counter[str]:
        """File name to the number of GET requests for it."""
        return Counter(path.rpartition(f"{self.revision}/")[2] for method, path in self.requests if method == "GET")

    def manifest(self, model: str, config: str) -> dict[str, Any]:
        """The manifest of what this hub serves, as JSON has it."""
        wheel = {"url": self.wheel_url, "sha256": hashlib.sha256(self.wheel).hexdigest()} if self.wheel else None
        return {
            "repo": self.repo,
            "revision": self.revision,
            "model": model,
            "config": config,
            "files": {name: _sha256(content) for name, content in self.files.items()},
            "spacy": wheel,
        }

    def write_manifest(self, path: str | os.PathLike[str], model: str, config: str) -> str:
        """Writes it for KOKORO_MANIFEST and returns the path."""
        with open(path, "w", encoding="utf-8") as file:
            json.dump(self.manifest(model, config), file)
        return os.fspath(path)

    def content_at(self, path: str) -> Content | None:
        if path == f"/wheels/{WHEEL_NAME}":
            return self.wheel
        match = re.fullmatch(rf"/{re.escape(self.repo)}/resolve/{self.revision}/(.+)", path)
        return self.files.get(match[1]) if match else None

    def is_faulty(self, method: str) -> bool:
        """Whether a knob is meant for this request; if so, it counts as one of `times`."""
        body = (self.cut_after, self.reset_after, self.stall_after) != (None, None, None)
        if not (
            self.silent
            or self.html
            or method in self.status
            or (method == "HEAD" and self.linked_size is not None)
            or (method == "GET" and (body or self.wrong_bytes or self.too_long or self.endless or self.drip))
        ):
            return False
        with self._lock:
            if self.times is not None:
                self.times -= 1
            return self.times is None or self.times >= 0


def _sha256(content: Content) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with open(content, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Handler(BaseHTTPRequestHandler):
    """HTTP/1.0: a connection per request, so no handler outlives its request."""

    hub: LocalHub  # set in a subclass for each hub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        # clients hang up on faults, and are killed
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.answer()

    def answer(self) -> None:
        self.hub.requests.append((self.command, self.path))
        if "Authorization" in self.headers:
            self.hub.authorized.append(self.path)
        if "Range" in self.headers:
            self.hub.ranges.append(self.headers["Range"])
        if self.hub.redirected and self.command == "GET" and "?" not in self.path:
            self.send_empty(302, {"Location": f"{self.hub.endpoint}{self.path}?elsewhere"})
            return
        content = self.hub.content_at(self.path.partition("?")[0])
        if content is None:
            self.send_empty(404, {"X-Error-Code": "EntryNotFound"})
            return
        faulty = self.hub.is_faulty(self.command)
        if faulty and self.hub.silent:
            self.hub.closing.wait()
        elif faulty and self.command in self.hub.status:
            self.send_empty(
                self.hub.status[self.command], {"Retry-After": self.hub.retry_after} if self.hub.retry_after else {}
            )
        elif faulty and self.hub.html:
            self.send_page()
        else:
            self.send_file(content, faulty)

    def send_file(self, content: Content, faulty: bool) -> None:
        size = len(content) if isinstance(content, bytes) else os.path.getsize(content)
        if faulty and self.hub.too_long and self.command == "GET":
            size *= 2
        headers = {
            "X-Repo-Commit": self.hub.revision,
            "ETag": f'"{hashlib.sha256(self.path.encode()).hexdigest()}"',  # only has to differ from file to file
            "Accept-Ranges": "bytes",
        }
        start = 0
        if self.command == "GET" and (match := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))):
            start = int(match[1])
            if start >= size:
                self.send_empty(416, {"Content-Range": f"bytes */{size}"})
                return
            headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        if faulty and self.command == "HEAD" and self.hub.linked_size is not None:
            headers["X-Linked-Size"] = str(self.hub.linked_size)
        if faulty and self.command == "GET" and self.hub.endless:
            self.send_without_end()
            return
        if faulty and self.hub.drip == "headers":
            self.drip(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 50_000)
            return
        self.send_response(206 if start else 200)
        for name, value in {**headers, "Content-Length": str(size - start)}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.send_body(content, start, faulty)

    def send_body(self, content: Content, start: int, faulty: bool) -> None:
        if not isinstance(content, bytes):
            with open(content, "rb") as file:
                content = file.read()
        if faulty and self.hub.wrong_bytes:
            content = bytes(byte ^ 1 for byte in content)
        if faulty and self.hub.too_long:
            content += content
        if faulty and self.hub.drip == "body":
            self.drip(content[start:])
            return
        ends = [self.hub.cut_after, self.hub.reset_after, self.hub.stall_after] if faulty else []
        end = min([start + end for end in ends if end is not None] + [len(content)])
        for offset in range(start, end, BLOCK_BYTES):
            self.wfile.write(content[offset : min(offset + BLOCK_BYTES, end)])
            self.hub.sent += min(offset + BLOCK_BYTES, end) - offset
        if faulty and self.hub.stall_after is not None:
            self.hub.closing.wait()
        if faulty and self.hub.reset_after is not None:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def send_without_end(self) -> None:
        self.send_response(200)
        self.end_headers()
        while not self.hub.closing.is_set():
            self.wfile.write(bytes(BLOCK_BYTES))
            self.hub.sent += BLOCK_BYTES

    def drip(self, content: bytes) -> None:
        """Until the client hangs up; the wait is the fault itself."""
        for place in range(len(content)):
            self.wfile.write(content[place : place + 1])
            if self.hub.closing.wait(DRIP_SECONDS):
                return

    def send_page(self) -> None:
        page = b"<html><body>Please log in to this network</body></html>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(page)

    def send_empty(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": "0"}.items():
            self.send_header(name, value)
        self.end_headers()


@pytest.fixture
def local_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., LocalHub]]:
    """Makes LocalHubs; HF_ENDPOINT leads to the latest, and no other Hugging Face setting of this machine counts."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with contextlib.ExitStack() as stack:

        def make(files: Mapping[str, Content], **options: Any) -> LocalHub:
            hub = stack.enter_context(LocalHub(files, **options))
            monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
            return hub

        yield make
