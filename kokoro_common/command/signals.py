"""Ctrl-C, SIGTERM and SIGHUP as exceptions, so that unfinished files are cleaned up before the process ends."""

from __future__ import annotations

import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


class Signals:
    """Raises KeyboardInterrupt or SystemExit in the main thread when a signal arrives.

        with SIGNALS:  # not inside: libsndfile's callbacks would swallow an exception and damage the file

    A signal that arrives inside such a block raises at its end.
    """

    def __init__(self) -> None:
        self.received = 0  # number of the last signal
        self._held = False

    def catch(self) -> None:
        """Installs the handlers. For the main thread."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._handle)

    def __enter__(self) -> None:
        self._held = True

    def __exit__(self, *_: object) -> None:
        self._held = False
        if self.received:
            self._raise()

    def _handle(self, number: int, _frame: object) -> None:
        self.received = number
        if not self._held:
            self._raise()

    def _raise(self) -> NoReturn:
        if self.received == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + self.received)


SIGNALS = Signals()
