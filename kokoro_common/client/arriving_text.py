"""A text that arrives from an iterable of strings while it is spoken, such as the answer of a language model."""

from __future__ import annotations

import os
from threading import Thread

from kokoro_common.client.text_source import PART_CHARACTERS, TextSource

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class ArrivingText(TextSource):
    """The strings of an iterable, joined. For one `with` block, in which it can be read.

    The iterable is read on a thread of its own, because its next string may be long in coming, while the server's
    messages do not wait. The thread is ahead by what a pipe holds, 64 kB, and puts its strings there; after the block
    it ends when it gets the next one. An exception of the iterable is raised by `read` when the text before it is gone.
    """

    readable = True

    def __init__(self, parts: Iterable[str]) -> None:
        super().__init__()
        self._parts: Iterable[str] | None = parts
        self._problem: BaseException | None = None  # set by the thread before it closes the pipe
        self._reader = -1

    def __enter__(self) -> ArrivingText:
        self._reader, writer = os.pipe()
        self.fd = self._reader
        parts, self._parts = self._parts, None
        Thread(target=self._pump, args=(parts, writer), name="arriving-text", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.fd = None
        os.close(self._reader)

    def read(self, characters: int = PART_CHARACTERS) -> str | None:
        """As TextSource.read. Raises the exception of the iterable."""
        part = super().read(characters)
        if self.fd is None and self._problem is not None:
            raise self._problem
        return part

    def _pump(self, parts: Iterable[str], writer: int) -> None:
        try:
            for part in parts:
                if not isinstance(part, str):
                    raise TypeError(f"the text has to be made of str, not {type(part).__name__}")
                if not _written(writer, part.encode("utf-8", "replace")):
                    break
        except BaseException as error:
            self._problem = error
        finally:
            os.close(writer)


def _written(writer: int, data: bytes) -> bool:
    """Whether there is still a reader. Blocks while the pipe is full."""
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[os.write(writer, rest) :]
    except BrokenPipeError:
        return False
    return True
