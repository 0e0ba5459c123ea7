"""A lock of the runtime directory that somebody else may hold, waited for with a deadline.

flock knows no deadline, and nothing ends a call of it, so a thread waits in the place of who asks. A thread that was
given up waits on until the holder goes; who asks for the same lock later takes it over. So there are never more such
threads, each with a descriptor, than have been asked for at once.
"""

from __future__ import annotations

import os
import threading

from kokoro_common.errors import ServersUnreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kokoro_common.daemon.runtime_directory import RuntimeDirectory

_changed = threading.Condition()  # held while a _Waiter is read or changed
_given_up: list[_Waiter] = []  # those that wait on, for nobody


class _Waiter:
    """A thread that waits for a lock, once."""

    def __init__(self, runtime: RuntimeDirectory, name: str) -> None:
        self.runtime = runtime
        self.name = name
        self.outcome: int | Exception | None = None  # a descriptor that holds the lock; None: it waits

    def start(self) -> None:
        """Raises RuntimeError if there is no thread for it."""
        threading.Thread(target=self._wait, name=f"lock-{self.name}", daemon=True).start()

    def _wait(self) -> None:
        outcome: int | Exception | None
        try:
            outcome = self.runtime.lock(self.name, wait=True)
        except Exception as error:  # raised by the thread that this one waits for
            outcome = error
        with _changed:
            self.outcome = outcome
            if self in _given_up:
                _given_up.remove(self)
                self.let_go()
            _changed.notify_all()

    def let_go(self) -> None:
        """Of the lock, if it has been taken."""
        if isinstance(self.outcome, int):
            os.close(self.outcome)


class AwaitedLock:
    """For one thread. Leaving the `with` gives up; a lock that was handed out stays with who got it."""

    def __init__(self, runtime: RuntimeDirectory, name: str) -> None:
        self._runtime = runtime
        self._name = name
        self._waiter: _Waiter | None = None

    def __enter__(self) -> AwaitedLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.give_up()

    def within(self, seconds: float) -> int | None:
        """A descriptor that holds the lock, the caller's from now on; None if its holder still has it.

        Blocks for `seconds` at most. Raises ServersUnreachable when the lock cannot be had, OSError.
        """
        if self._waiter is None:
            lock = self._runtime.lock(self._name, wait=False)
            if lock is not None:
                return lock
            self._waiter = self._found_waiter()
        waiter = self._waiter
        with _changed:
            _changed.wait_for(lambda: waiter.outcome is not None, max(0.0, seconds))
            outcome = waiter.outcome
            if outcome is not None:
                self._waiter = None
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def give_up(self) -> None:
        """Idempotent, does not block."""
        waiter, self._waiter = self._waiter, None
        if waiter is None:
            return
        with _changed:
            if waiter.outcome is None:
                _given_up.append(waiter)
            else:
                waiter.let_go()

    def _found_waiter(self) -> _Waiter:
        with _changed:
            for waiter in _given_up:
                if waiter.runtime is self._runtime and waiter.name == self._name:
                    _given_up.remove(waiter)
                    return waiter
        waiter = _Waiter(self._runtime, self._name)
        try:
            waiter.start()
        except RuntimeError as error:
            raise ServersUnreachable(f"there is no thread to wait for {self._name}: {error}", "try again") from error
        return waiter
