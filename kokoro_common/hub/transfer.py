"""One GET request, read on a thread that can be left behind, with a least rate.

A time limit for each read does not help against a hub that drips: a byte every two seconds, in the body, the headers or
the framing, keeps a read going for as long as the hub likes.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

LEAST_RATE = 16 << 10  # bytes a second: the model would take 6 hours
PIECES = 16  # of up to 64 KiB, that wait for the disk


class Transfer:
    """`status` and `length` (None: unknown) are those of the answer; iterating gives its body. For one thread.

    Raises httpx2.HTTPError: refused, cut, no byte for `stall` seconds, or less than LEAST_RATE over that time.
    """

    def __init__(self, url: str, headers: Mapping[str, str], stall: float, check: Callable[[Any], object]) -> None:
        """Blocks until the answer has begun. `check` raises for a response that is a refusal."""
        import httpx2

        self._client = httpx2.Client(follow_redirects=True, timeout=stall)
        self._stall = stall
        self._check = check
        self._waited = 0.0  # seconds, for the hub alone: a slow disk is not its fault
        self._received = 0  # bytes in that time
        self._left = threading.Event()
        self._pieces: queue.Queue[tuple[int, int | None] | bytes | Exception | None] = queue.Queue(PIECES)
        self._thread = threading.Thread(target=self._read, args=(url, dict(headers)), name="hub-get", daemon=True)
        self._thread.start()
        try:
            answer = self._take()
        except BaseException:
            self.close()
            raise
        assert isinstance(answer, tuple)
        self.status, self.length = answer

    def __enter__(self) -> Transfer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[bytes]:
        while isinstance(piece := self._take(), bytes):
            self._received += len(piece)
            yield piece

    def close(self) -> None:
        """Leaves the thread behind, which ends when its read does, `stall` seconds later at most. Idempotent."""
        self._left.set()
        with contextlib.suppress(queue.Empty):  # so that it does not wait for room
            while True:
                self._pieces.get_nowait()
        self._client.close()

    def _take(self) -> tuple[int, int | None] | bytes | None:
        """The next thing that the thread has read. Raises what it raised."""
        while True:
            began = time.monotonic()
            try:
                piece = self._pieces.get(timeout=self._stall - self._waited)
            except queue.Empty:
                self._judge()
                continue
            self._waited += time.monotonic() - began
            if self._waited >= self._stall:
                self._judge()
            if isinstance(piece, Exception):
                raise piece
            return piece

    def _judge(self) -> None:
        """The time of a measurement is over."""
        import httpx2

        rate = self._received / self._stall
        if rate < LEAST_RATE:
            raise httpx2.ReadError("it is too slow" if rate else "no answer in time")
        self._waited, self._received = 0.0, 0

    def _read(self, url: str, headers: dict[str, str]) -> None:
        """On the thread."""
        try:
            with self._client.stream("GET", url, headers=headers) as response:
                self._check(response)
                length = response.headers.get("Content-Length", "")
                self._pieces.put((response.status_code, int(length) if length.isdecimal() else None))
                for data in response.iter_bytes():
                    if self._left.is_set():
                        return
                    if data:
                        self._pieces.put(data)
            self._pieces.put(None)
        except Exception as error:  # raised where the piece is waited for
            self._pieces.put(error)
