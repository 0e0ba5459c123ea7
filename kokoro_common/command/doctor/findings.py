"""A check of --doctor, and its finding."""

from __future__ import annotations

from kokoro_common.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from kokoro_common.settings import Settings


SENTENCE = "The quick brown fox jumps over the lazy dog."  # spoken, and read, by the checks


class Finding(Record):
    check: str
    text: str  # the good news, or the problem with its remedy
    exit_code: int = 0  # say.py's, if this were the only problem

    @property
    def line(self) -> str:
        """For the terminal: control characters, which a log or a file name may hold, become question marks."""
        text = "".join(sign if sign.isprintable() else "?" for sign in self.text)
        return f"{'problem' if self.exit_code else 'ok':<9}{self.check:<11}{text}"


class Check(Record):
    name: str
    look: Callable[[Settings], str]
    seconds: float = 60.0  # until it counts as hung; long enough for a busy machine
    remedy: str = "install Kokoro Say again"  # for a crash or a hang


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
