"""espeak-ng's phonemes, from a process of its own: a segmentation fault there must not end the model server.

misaki calls the library through phonemizer, in its own process. In 1.52 the Spanish "'-यक" is such a fault, and so is
one in 7,000 random texts. Here phonemizer does its work in a child of a worker, until a text kills the child.

    EspeakProcess --a line of JSON--> child of the worker: phonemizer's EspeakBackend
                  <--a line of JSON-- child, or the worker, which then forks the next one in a millisecond

For one thread. The processes end with their owner: a child at the end of its standard input, the worker with the child.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import weakref
from typing import TYPE_CHECKING

from kokoro_common.errors import KokoroError
from kokoro_common.worker import command as worker_command

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

SECONDS = 10  # that one text may take; 400 characters take 0.01


class EspeakCrashed(Exception):
    """A text killed the library, or phonemizer raised over it."""


class EspeakProcess:
    def __init__(self, temporary_dir: str) -> None:
        """`temporary_dir`: where phonemizer puts its copies of the library. Starts nothing yet."""
        self._temporary_dir = temporary_dir
        self._worker: subprocess.Popen[bytes] | None = None
        self._end: Callable[[], object] = lambda: None

    def start(self) -> None:
        """Starts the worker without waiting for it. `ask` starts it too, and raises if it cannot be started."""
        try:
            self._running()
        except OSError:
            pass

    def backend(self, **options: object) -> EspeakBackend:
        """Stands in for phonemizer.backend.EspeakBackend(**options)."""
        return EspeakBackend(self, options)

    def ask(self, options: dict[str, object], text: str) -> list[str]:
        """phonemizer's phonemes of a text. Blocks, for SECONDS at most.

        Raises EspeakCrashed; KokoroError for a text that takes longer, and if espeak-ng cannot be used.
        """
        request: dict[str, object] = {"options": options, "text": text}
        answer = self._exchange(request)
        if not answer or "failed" in answer:  # it was killed, or a clean-up has taken the files it works with
            self._forget_worker()
            answer = self._exchange(request)
        if "phonemes" in answer:
            phonemes: list[str] = answer["phonemes"]
            return phonemes
        if "crashed" in answer:
            raise EspeakCrashed(answer["crashed"])
        if "hung" in answer:
            raise KokoroError(f"espeak-ng took more than {SECONDS} s over {len(text)} characters", "leave them out")
        problem = answer.get("failed", "its process was ended twice")
        raise KokoroError(f"espeak-ng cannot be used: {problem}", "see the log of the model server")

    def _exchange(self, request: dict[str, object]) -> dict[str, Any]:
        """The answer; an empty one if the worker has gone."""
        try:
            worker = self._running()
            assert worker.stdin is not None and worker.stdout is not None
            worker.stdin.write(json.dumps(request).encode() + b"\n")
            worker.stdin.flush()
            line = worker.stdout.readline()
        except OSError:
            line = b""
        if line.endswith(b"\n"):
            answer: dict[str, Any] = json.loads(line)
            return answer
        self._forget_worker()
        return {}

    def _forget_worker(self) -> None:
        self._end()
        self._worker = None

    def _running(self) -> subprocess.Popen[bytes]:
        os.makedirs(self._temporary_dir, mode=0o700, exist_ok=True)  # a clean-up may have removed it
        return self._worker or self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        worker = subprocess.Popen(
            worker_command(__name__),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "TMPDIR": self._temporary_dir},
        )
        self._worker, self._end = worker, weakref.finalize(self, _end, worker)
        return worker


class EspeakBackend:
    """As much of phonemizer's EspeakBackend as misaki uses."""

    def __init__(self, process: EspeakProcess, options: dict[str, object]) -> None:
        self._process = process
        self._options = options

    def phonemize(self, texts: list[str]) -> list[str]:
        return [phonemes for text in texts for phonemes in self._process.ask(self._options, text)]


def _end(worker: subprocess.Popen[bytes]) -> None:
    assert worker.stdin is not None and worker.stdout is not None
    try:
        worker.stdin.close()
    except OSError:  # a request that never reached a dead worker
        pass
    worker.stdout.close()
    worker.wait()


# --- In the worker ---------------------------------------------------------------------------------------------------


def serve() -> None:
    """Main of the worker: forks the child that answers, and the next one when a text has killed it.

    The worker reads no request itself: what it had read ahead would be in every child.
    """
    import shutil
    import signal
    import tempfile
    import types

    # Only an unused backend of phonemizer needs it, and the real one imports csvw: 0.3 s and 20 MB, half of it all.
    sys.modules["segments"] = segments = types.ModuleType("segments")
    vars(segments)["__getattr__"] = lambda name: None
    import phonemizer.backend  # noqa: F401 - once, for all children

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program that started us
    status = -1
    while status < 0:
        directory = tempfile.mkdtemp()
        child = os.fork()
        if child == 0:
            tempfile.tempdir = directory  # phonemizer can be told in no other way
            _answer_and_exit()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        shutil.rmtree(directory, ignore_errors=True)
        if status < 0:
            _write({"hung" if status == -signal.SIGALRM else "crashed": f"signal {-status}"})


def _answer_and_exit() -> None:
    """The child. Never returns."""
    import logging
    import resource
    import signal
    import traceback

    logging.disable()  # phonemizer warns of every foreign word
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    backends: dict[str, Any] = {}
    try:
        while line := sys.stdin.buffer.readline():
            signal.alarm(SECONDS)  # ends this process, whatever the library is doing
            answer = _answer(backends, json.loads(line))
            signal.alarm(0)
            _write(answer)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


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


def _write(answer: dict[str, object]) -> None:
    try:
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        os._exit(0)  # the owner has gone
