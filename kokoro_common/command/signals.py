"""Ctrl-C, SIGTERM and SIGHUP: what is unfinished is cleaned up, and then the command dies by the signal. Ctrl-Z:
speech is paused before the command stops.

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
    from collections.abc import Callable
    from typing import Any, NoReturn

CAUGHT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
REPEAT_SECONDS = 0.5  # during which a second signal is the same key press, passed on by a program between (sudo does)
LATER_SECONDS = 0.1  # until Ctrl-Z is tried again that came while servers were being started
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
        self._suspension: Suspension | None = None

    def catch(self) -> None:
        """Installs the handlers. For the main thread. What is ignored stays so: nohup and shell scripts rely on it."""
        if self._before:
            return
        for number in CAUGHT:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)
        self._before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._again)
        sys.unraisablehook = self._dropped

    def suspend(self, suspension: Suspension) -> None:
        """From now on Ctrl-Z pauses what the suspension is about, and then stops the process. Ends with `release`."""
        if self._before and signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL:  # else the shell has no job control
            self._suspension = suspension
            self._before[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, suspension.handle)

    def release(self) -> None:
        """Puts the handlers back that were there before. Idempotent."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
        self._suspension = None
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

    def _again(self, *_: object) -> None:
        if self.received:
            self._raise()
        if self._suspension is not None:
            self._suspension.again()

    def _raise(self) -> NoReturn:
        if self.received == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + self.received)

    def _dropped(self, dropped: sys.UnraisableHookArgs) -> None:
        """Python cannot raise in finalizers and callbacks, and would only print: it is raised again elsewhere."""
        if self.received and isinstance(dropped.exc_value, (KeyboardInterrupt, SystemExit)):
            signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)
        else:
            sys.__unraisablehook__(dropped)


class Suspension:
    """What Ctrl-Z does while a text is spoken, and `fg` or `bg` afterwards."""

    def __init__(self, may_stop: Callable[[], bool], pause: Callable[[bool], None]) -> None:
        """`may_stop`: whether nobody waits for something that we hold. `pause` is called with whether to pause."""
        self._may_stop = may_stop
        self._pause = pause
        self._due = False  # it was pressed, and we could not stop

    def handle(self, *_: object) -> None:
        """For SIGTSTP. While servers are being started it takes effect when they run; the second time, at once."""
        if self._due or self._may_stop():
            self._stop()
        else:
            self._due = True
            signal.setitimer(signal.ITIMER_REAL, LATER_SECONDS)

    def again(self) -> None:
        if self._due:
            self._due = False
            self.handle()

    def _stop(self) -> None:
        """Blocks until SIGCONT; not at all where nobody could send that, as in a group of processes without a shell."""
        self._due = False
        self._pause(True)
        ours = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, ours)
        self._pause(False)


SIGNALS = Signals()
