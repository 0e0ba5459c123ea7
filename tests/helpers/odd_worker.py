"""A worker process that answers as it is told to: well, or in every wrong way."""

from __future__ import annotations

import os
import signal
import struct

from kokoro_common.worker import HEAD, Requests


def killed() -> bytes:
    os.kill(os.getpid(), signal.SIGKILL)
    return b"never"


def serve() -> None:
    """Each request says how to answer, and after a blank what."""
    requests = Requests()
    replies = requests._replies
    for number, request in requests:
        how, _, said = request.decode().partition(" ")
        data = said.encode()
        if how == "well":
            requests.answer(number, data)
        elif how == "twice":
            requests.answer(number, data)
            requests.answer(number, b"what was said before")
        elif how == "late":  # the answer to the request before, as a process that has lost count
            requests.answer(number - 1, data)
        elif how == "half":
            os.write(replies, HEAD.pack(number, 2 * len(data)) + data)
        elif how == "endless":
            os.write(replies, struct.pack("<II", number, 0xFFFF_FFFF))
        elif how == "noise":
            print("a library says this", flush=True)
            os.write(1, b"and this")
            requests.answer(number, data)
        elif how == "ends":
            os._exit(0)
        elif how == "stops":
            os.kill(os.getpid(), signal.SIGSTOP)
        elif how == "forks":  # a child that is killed
            status, reply = requests.forked(killed)
            requests.answer(number, f"{status} {reply!r}".encode())
        elif how == "leaves":  # a child that lives on
            if os.fork() == 0:
                signal.pause()
            requests.answer(number, data)
        else:
            raise AssertionError(how)
