"""The text of an utterance, given as a whole or read from a descriptor while it is spoken.

What comes through a descriptor may turn out to be a document, such as an EPUB, which is then read to its end first.
"""

from __future__ import annotations

import os

from kokoro_common.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kokoro_common.documents.document import Document

KEPT_CHARACTERS = 8_000_000  # of a text from a descriptor, for another attempt; beyond them there is none
PART_CHARACTERS = 16_000  # in one TextPart: at most 64 kB of UTF-8, below MAX_TEXT_PART_BYTES


class TextSource:
    """A text, or a descriptor through which one arrives. `replaced`: bytes that are not UTF-8 became U+FFFD."""

    def __init__(self, text: str = "", fd: int | None = None, echo: int | None = None, name: str = "") -> None:
        """`echo`: a descriptor to which every byte from `fd` is written, unchanged, before it is spoken. `name`: of
        what comes from `fd`, for errors; with it the first bytes tell what that is, without a name it is text."""
        import codecs

        self.fd = fd
        self.document: Document | None = None  # what came from the descriptor, if it was no text
        self._name = name
        self._head: bytes | None = b"" if name else None  # what has come while it is not known what it is
        self._echo = echo
        # Command-line arguments that are not UTF-8 arrive with lone surrogates.
        try:
            self._text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        except UnicodeEncodeError:  # lone surrogates of another origin
            self._text = text.encode("utf-8", "replace").decode()
        self.replaced = self._text.count("\ufffd") > text.count("\ufffd")  # with LANG=C that is everything but ASCII
        self._position = 0
        self._follow = False
        self.whole = True  # all of the text can be read again from the beginning
        self._keep = True  # whether text from the descriptor is kept, for another attempt
        self._decoder: codecs.IncrementalDecoder = codecs.getincrementaldecoder("utf-8")("replace")

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
        if self._head is not None:
            data = self._begun(self._head + data, ended=not data)
            if self.document is not None:
                return self.read(characters)
        elif self._echo is not None:
            self._pass_on(data)
        part = self._decoder.decode(data, final=self.fd is None)
        self.replaced |= part.count("\ufffd") > data.count("\ufffd".encode())
        if self._keep:
            self._text += part
            self._position = len(self._text)
            if self._position > KEPT_CHARACTERS:
                self.forget()
        self.whole &= self._keep or not part
        return part

    def look(self) -> None:
        """Reads until it is known whether a document or text comes; blocks until then. Raises UsageError."""
        while self._head is not None:
            self.read()
        self._position = 0

    def _begun(self, data: bytes, *, ended: bool) -> bytes:
        """What may be spoken of the first bytes: nothing as long as more of them must tell what they are, or if they
        are a document's, which is read to its end. Raises UsageError for what is no text."""
        from kokoro_common.documents.kind import BINARY, TEXT, UNDECIDED, encoding_of, kind_of

        kind = kind_of(data, ended=ended)
        if kind == BINARY or (kind not in (TEXT, UNDECIDED) and self._echo is not None):
            from kokoro_common.documents.load import no_text

            raise no_text(self._name)
        if kind == UNDECIDED:
            self._head = data
            return b""
        self._head = None
        if kind == TEXT:
            import codecs

            self._decoder = codecs.getincrementaldecoder(encoding_of(data) or "utf-8")("replace")
            if self._echo is not None:
                self._pass_on(data)
            return data
        assert self.fd is not None  # its end alone makes no document
        self._read_document(self.fd, data)
        return b""

    def _read_document(self, fd: int, head: bytes) -> None:
        from kokoro_common.documents.load import read_stream

        try:
            with open(fd, "rb", closefd=False) as file:
                self.document = read_stream(file, self._name, head=head)
        except OSError as error:
            raise UsageError(f"{self._name} cannot be read: {error.strerror}", "check the input") from error
        self.fd = None
        self._text = self.document.text
        self.replaced = self.document.replaced

    def _pass_on(self, data: bytes) -> None:
        assert self._echo is not None
        view = memoryview(data)
        while view:
            view = view[os.write(self._echo, view) :]

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
            self.whole &= not self._position
            self._text = self._text[self._position :]
            self._position = 0

    def keep_text(self) -> None:
        """Keeps everything that is read from now on in `text`."""
        self._follow = True

    @property
    def text(self) -> str:
        return self._text
