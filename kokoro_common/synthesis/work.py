"""What the model server's threads are at: pieces made of requests, and a watch on whether a thread still gets on."""

from __future__ import annotations

import hashlib
import threading
import time
from typing import TYPE_CHECKING

from kokoro_common.synthesis.scheduler import Piece

if TYPE_CHECKING:
    from collections.abc import Hashable

    from kokoro_common.phonemes.spoken import Spoken
    from kokoro_common.wire.messages import Synthesize


def piece_seed(seed: int, index: int, part: int) -> int:
    """The random state of a piece depends on its place in its utterance alone, never on what was spoken before."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{index}/{part}".encode()).digest()[:4], "big")


def piece_of(
    owner: Hashable,
    message: Synthesize,
    text: str,
    *,
    part: int = 0,
    last: bool = True,
    g2p: float = 0.0,
    spoken: Spoken | None = None,
) -> Piece:
    """A text chunk, or a part of one, as the scheduler takes it; it begins to wait now."""
    request = message.request
    return Piece(
        owner=owner,
        utterance=message.utterance,
        request=request,
        part=part,
        last=last,
        rest=request.rest,
        engine=request.speech.engine,
        text=text,
        spoken=spoken,
        seed=piece_seed(request.speech.seed, request.index, part),
        g2p=g2p,
        added=time.monotonic(),
        debug=message.debug,
    )


class Work:
    """What one thread is at, for who watches it from another."""

    def __init__(self) -> None:
        self.began: float | None = None  # time.monotonic(); None: it waits for work
        self.done = 0
        self._thread: int | None = None
        self._signs: tuple[int, float] = (0, 0.0)
        self._since = 0.0  # time.monotonic() of the last sign of progress

    def __enter__(self) -> None:
        self._thread = threading.get_ident()
        self.began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.began = None
        self.done += 1

    def still_for(self, now: float) -> float:
        """Seconds without a sign of progress while there is work: nothing done, and no CPU time used on it either."""
        signs = (self.done, self._cpu_seconds())
        if self.began is None or signs != self._signs:
            self._signs, self._since = signs, now
        return now - self._since

    def _cpu_seconds(self) -> float:
        if self._thread is None or not hasattr(time, "pthread_getcpuclockid"):
            return time.process_time()  # macOS: any thread that works is a sign
        return time.clock_gettime(time.pthread_getcpuclockid(self._thread))
