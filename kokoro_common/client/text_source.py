"""The text of an utterance, given as a whole or read from a descriptor while it is spoken."""

from __future__ import annotations

import os

from kokoro_common.errors import UsageError

PART_CHARACTERS = 16_000  # in one TextPart: at most 64 kB of UTF-8, below MAX_TEXT_PART_BYTES


class TextSource:
    """A text, or a descriptor through which one arrives. `replaced`: bytes that are not UTF-8 became U+FFFD."""

    def __init__(self, text: str = "", fd: int | None = None, echo: int | None = None) -> None:
        """`echo`: a descriptor to which every byte from `fd` is written, unchanged, before it is spoken."""
        import codecs

        self.fd = fd
        self._echo = echo
        # Command-line arguments that are not UTF-8 arrive with lone surrogates.
        try:
            self._text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        except UnicodeEncodeError:  # lone surrogates of another origin
            self._text = text.encode("utf-8", "replace").decode()
        self.replaced = self._text.count("\ufffd") > text.count("\ufffd")  # with LANG=C that is everything but ASCII
        self._position = 0
        self._follow = False
        self._keep = True  # whether text from the descriptor is kept, for another attempt
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    @property
    def readable(self) -> bool:
        """Whether there is more than blanks, or may be."""
        return self.fd is not None or bool(self._text.strip())

    def read(self, characters: int = PART_CHARACTERS) -> str | None:
        """The next part, possibly empty, of at most so many characters; None at the end.

        Blocks while the descriptor has nothing. Raises UsageError if it cannot be read.
        """
        if self._position < len(self._text):
            part = self._text[self._position : self._position + characters]
            self._position += len(part)
            return part
        if self.fd is None:
            return None
        try:
            data = os.read(self.fd, characters)
        except OSError as error:
            raise UsageError(f"the text cannot be read: {error.strerror}", "check the input") from error
        if not data:
            self.fd = None
        if self._echo is not None:
            view = memoryview(data)
            while view:
                view = view[os.write(self._echo, view) :]
        part = self._decoder.decode(data, final=not data)
        self.replaced |= part.count("\ufffd") > data.count("\ufffd".encode())
        if self._keep:
            self._text += part
            self._position = len(self._text)
        return part

    @property
    def buffered(self) -> bool:
        """Whether the next text is here already, whatever comes through the descriptor."""
        return self._position < len(self._text)

    def rewind(self) -> None:
        """Goes back to the beginning, for another attempt."""
        self._position = 0

    def forget(self) -> None:
        """Drops the text that has been read: there will be no other attempt."""
        if not self._follow:
            self._keep = False
            self._text = self._text[self._position :]
            self._position = 0

    def keep_text(self) -> None:
        """Keeps everything that is read from now on in `text`."""
        self._follow = True

    @property
    def text(self) -> str:
        return self._text
