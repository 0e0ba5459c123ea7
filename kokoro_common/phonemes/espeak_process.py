"""espeak-ng's phonemes, from a process of its own: a segmentation fault there must not end the model server.

misaki calls the library through phonemizer, in its own process. In 1.52 the Spanish "'-यक" is such a fault, and so is
one in 7,000 random texts. Here phonemizer does its work in a child of a worker, until a text kills the child.

    EspeakProcess --JSON--> worker process --JSON--> its child: phonemizer's EspeakBackend
                  <--JSON-- worker process <--JSON-- the child, or nothing if it died: the worker says of what

For one thread. The processes end with their owner: the worker at the end of its input, the child with the worker. A
child or worker that was ended from outside costs nothing: the text is asked again.
"""

from __future__ import annotations

import json
import os
import sys
import weakref
from typing import TYPE_CHECKING

from kokoro_common.errors import KokoroError
from kokoro_common.worker import ATTEMPTS, CRASHES, Requests, Worker, WorkerLost, end_child, received, sent
from kokoro_common.worker import command as worker_command

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

SECONDS = 10  # that one text may take; 400 characters take 0.01
WORKER_SECONDS = 15.0  # in addition, for a worker to start and to hand on what its child says; 0.3 on an idle machine


class EspeakCrashed(Exception):
    """A text killed the library, or phonemizer raised over it."""


class EspeakProcess:
    def __init__(self, temporary_dir: str) -> None:
        """`temporary_dir`: where phonemizer puts its copies of the library. Starts nothing yet."""
        self._temporary_dir = temporary_dir
        self._worker: Worker | None = None
        self._end: Callable[[], object] = lambda: None

    def start(self) -> None:
        """Starts the worker without waiting for it. `ask` starts it too, and raises if it cannot be started."""
        try:
            self._running()
        except OSError:
            pass

    def backend(self, **options: object) -> EspeakBackend:
        """Stands in for phonemizer.backend.EspeakBackend(**options), and leaves out "(ko)" where the language changes.

        misaki's English keeps these marks, and would say them.
        """
        return EspeakBackend(self, {"language_switch": "remove-flags", **options})

    def ask(self, options: dict[str, object], text: str) -> list[str]:
        """phonemizer's phonemes of a text. Blocks; each of ATTEMPTS processes has SECONDS and WORKER_SECONDS for it.

        Raises EspeakCrashed; KokoroError for a text that takes longer, and if espeak-ng cannot be used.
        """
        request = json.dumps({"options": options, "text": text}).encode()
        problem = ""
        for _ in range(ATTEMPTS):
            try:
                answer: dict[str, Any] = json.loads(self._running().ask(request, SECONDS + WORKER_SECONDS))
            except (OSError, WorkerLost) as error:
                self._forget_worker()
                problem = error.strerror or str(error) if isinstance(error, OSError) else f"its process: {error}"
                continue
            if "phonemes" in answer:
                phonemes: list[str] = answer["phonemes"]
                return phonemes
            if "crashed" in answer:
                raise EspeakCrashed(answer["crashed"])
            if "hung" in answer:
                raise KokoroError(f"espeak-ng took more than {SECONDS} s over {len(text)} characters", "leave them out")
            if "failed" in answer:  # a clean-up may have taken the files it works with
                self._forget_worker()
            problem = answer.get("failed") or f"its process was ended from outside: {answer['ended']}"
        raise KokoroError(f"espeak-ng cannot be used: {problem}", "see the log of the model server")

    def _forget_worker(self) -> None:
        self._worker = None
        self._end()

    def _running(self) -> Worker:
        os.makedirs(self._temporary_dir, mode=0o700, exist_ok=True)  # a clean-up may have removed it
        if self._worker is None:
            worker = Worker(worker_command(__name__), {**os.environ, "TMPDIR": self._temporary_dir})
            self._worker, self._end = worker, weakref.finalize(self, worker.close)
        return self._worker


class EspeakBackend:
    """As much of phonemizer's EspeakBackend as misaki uses."""

    def __init__(self, process: EspeakProcess, options: dict[str, object]) -> None:
        self._process = process
        self._options = options

    def phonemize(self, texts: list[str]) -> list[str]:
        return [phonemes for text in texts for phonemes in self._process.ask(self._options, text)]


# --- In the worker ---------------------------------------------------------------------------------------------------


def serve() -> None:
    """Main of the worker: hands each request to the child, and forks the next one when a text has killed it."""
    import types

    requests = Requests()
    # Only an unused backend of phonemizer needs it, and the real one imports csvw: 0.3 s and 20 MB, half of it all.
    sys.modules["segments"] = segments = types.ModuleType("segments")
    vars(segments)["__getattr__"] = lambda name: None
    import phonemizer.backend  # noqa: F401 - once, for all children

    child = _Child(requests)
    for number, request in requests:
        requests.answer(number, child.answer(number, request))
    child.end()


class _Child:
    """The process that calls the library, of one worker; forked when it is needed."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._pid = 0  # 0: there is none
        self._to = self._from = -1  # descriptors
        self._directory = ""

    def answer(self, number: int, request: bytes) -> bytes:
        """The child's answer, or what became of the child."""
        if self._pid and os.waitpid(self._pid, os.WNOHANG)[0]:  # not over this text
            self._clean_up()
        if not self._pid:
            self._fork()
        try:
            sent(self._to, number, request)
            reply = received(self._from)
        except BrokenPipeError:
            reply = None
        if reply is not None and reply[0] == number:
            return reply[1]
        return json.dumps(self._last_words()).encode()

    def end(self) -> None:
        if self._pid:
            self._last_words()

    def _last_words(self) -> dict[str, str]:
        """Ends the child, if it has not ended yet, by the end of its input."""
        import signal

        os.close(self._to)
        self._to = -1
        status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        self._clean_up()
        if status == -signal.SIGALRM:
            return {"hung": ""}
        crashed = status > 0 or -status in CRASHES
        return {"crashed" if crashed else "ended": f"signal {-status}" if status < 0 else f"exit status {status}"}

    def _fork(self) -> None:
        import tempfile

        self._directory = tempfile.mkdtemp()
        requests, self._to = os.pipe()
        self._from, replies = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._to)
            os.close(self._from)
            self._requests.left_to_the_worker()
            tempfile.tempdir = self._directory  # phonemizer can be told in no other way
            end_child(lambda: _answer_all(requests, replies))
        os.close(requests)
        os.close(replies)

    def _clean_up(self) -> None:
        """After the child has been waited for."""
        import shutil

        self._pid = 0
        for fd in (self._to, self._from):
            if fd >= 0:
                os.close(fd)
        self._to = self._from = -1
        shutil.rmtree(self._directory, ignore_errors=True)


def _answer_all(requests: int, replies: int) -> None:
    """The child, until its input ends or a text ends it."""
    import logging
    import signal

    logging.disable()  # phonemizer warns of every foreign word
    backends: dict[str, Any] = {}
    while (request := received(requests)) is not None:
        signal.alarm(SECONDS)  # ends this process, whatever the library is doing
        answer = json.dumps(_answer(backends, json.loads(request[1]))).encode()
        signal.alarm(0)
        sent(replies, request[0], answer)


def _answer(backends: dict[str, Any], request: dict[str, Any]) -> dict[str, object]:
    try:
        return {"phonemes": _phonemes(backends, request["options"], request["text"])}
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        return {"crashed": repr(error)}
    except (OSError, RuntimeError) as error:  # no library, or no space for a copy of it
        return {"failed": repr(error)}


def _phonemes(backends: dict[str, Any], options: dict[str, Any], text: str) -> list[str]:
    key = json.dumps(options)
    if key not in backends:
        import espeakng_loader
        from phonemizer.backend import EspeakBackend
        from phonemizer.backend.espeak.wrapper import EspeakWrapper

        EspeakWrapper.set_library(espeakng_loader.get_library_path())
        EspeakWrapper.set_data_path(espeakng_loader.get_data_path())
        backends[key] = EspeakBackend(**options)
    phonemes: list[str] = backends[key].phonemize([text])
    return phonemes
