"""A process that logs as a voice server does: python log_writer.py NAME PORT TOKEN DIRECTORY LINES MAX_FILE_BYTES.

Its lines are numbered. As severed-N it has no link for a fifth of them. It ends when the other side has taken
all of them, or has been told how many it has not.
"""

from __future__ import annotations

import logging
import queue
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from kokoro_common.daemon.logs import Forwarding, JsonLines, LogFile
from kokoro_common.wire.connection import call
from kokoro_common.wire.messages import LogLine
from kokoro_common.wire.server import Peer

if TYPE_CHECKING:
    from kokoro_common.wire.server import Delivery

MAX_UNSENT = 1 << 20  # bytes: more is not offered, so that the peer is not dropped as one that does not read


def main(name: str, port: str, token: str, directory: str, lines: str, max_file_bytes: str) -> None:
    inbox: queue.SimpleQueue[Delivery] = queue.SimpleQueue()
    peer = Peer(call(int(port), bytes.fromhex(token), "voice"), "model", inbox, logging.Logger("link"))
    threading.Thread(target=peer.serve, daemon=True).start()

    count = int(lines)
    severed = range(count * 2 // 10, count * 4 // 10) if name.startswith("severed") else range(0)
    n = 0

    def post(line: str) -> bool:
        if n in severed or peer.unsent > MAX_UNSENT:
            return False
        peer.post(LogLine(line=line))
        return True

    forwarding = Forwarding(name, post)
    file = LogFile(f"{directory}/{name}.log", int(max_file_bytes))
    logger = logging.Logger("kokoro")
    logger.addHandler(JsonLines(name, [file.append, forwarding.append]))
    pause = threading.Event()
    for n in range(count):
        logger.info("a line", extra={"utterance": f"{n:032x}", "n": n, "text": "line\nafter line"})
        while n not in severed and forwarding.waiting:
            pause.wait(0.01)  # the other side is behind, and nobody waits for us
            forwarding.flush()
    peer.close()
    peer.ended.wait(60)


if __name__ == "__main__":
    main(*sys.argv[1:])
