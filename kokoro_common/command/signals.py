"""Ctrl-C, SIGTERM and SIGHUP: what is unfinished is cleaned up, and then the command dies by the signal.

A shell ends its loop only when the command in it died by SIGINT; an exit code of 130 tells it that the command has
dealt with Ctrl-C by itself. Until `catch`, and after `release`, nothing has to be cleaned up: the signals do what they
do to any program, and no exception can come up in the midst of an import.
"""

from __future__ import annotations

import os
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

CAUGHT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
REPEAT_SECONDS = 0.5  # during which a second signal is the same key press, passed on by a program between (sudo does)
AGAIN_SECONDS = 0.001  # until an exception is raised again that came up where Python had to drop it


class Signals:
    """Raises KeyboardInterrupt or SystemExit in the main thread when a signal arrives, once. A later signal ends the
    process at once: whoever sends it does not want to wait for the clean-up.

        with SIGNALS:  # not inside: libsndfile's callbacks would swallow an exception and damage the file

    A signal that arrives inside such a block raises at its end.
    """

    def __init__(self) -> None:
        self.received = 0  # number of the first signal
        self._since = 0.0  # time.monotonic() when it came
        self._held = False
        self._due = False  # it came while it was held
        self._before: dict[int, Any] = {}  # handlers, by number

    def catch(self) -> None:
        """Installs the handlers. For the main thread. What is ignored stays so: nohup and shell scripts rely on it."""
        if self._before:
            return
        for number in CAUGHT:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)
        self._before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._raise)
        sys.unraisablehook = self._dropped

    def release(self) -> None:
        """Puts the handlers back that were there before. Idempotent."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
        sys.unraisablehook = sys.__unraisablehook__

    def die(self) -> NoReturn:
        """Ends the process by the signal that was received."""
        signal.signal(self.received, signal.SIG_DFL)
        os.kill(os.getpid(), self.received)
        os._exit(128 + self.received)  # the first process of a container does not die by its own signals

    def __enter__(self) -> None:
        self._held = True

    def __exit__(self, *_: object) -> None:
        self._held = False
        if self._due:
            self._due = False
            self._raise()

    def _handle(self, number: int, _frame: object) -> None:
        now = time.monotonic()
        if not self.received:
            self.received, self._since = number, now
            self._due = self._held
            if not self._held:
                self._raise()
        elif now - self._since > REPEAT_SECONDS:
            self.die()

    def _raise(self, *_: object) -> NoReturn:
        if self.received == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + self.received)

    def _dropped(self, dropped: sys.UnraisableHookArgs) -> None:
        """Python cannot raise in finalizers and callbacks, and would only print: it is raised again elsewhere."""
        if self.received and isinstance(dropped.exc_value, (KeyboardInterrupt, SystemExit)):
            signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)
        else:
            sys.__unraisablehook__(dropped)


SIGNALS = Signals()
