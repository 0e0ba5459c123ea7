"""Text on its way to a server: for another attempt it is there at once, whatever the pipe does."""

from __future__ import annotations

import os

from kokoro_common.client.text_source import TextSource


def test_text_that_was_read_needs_no_pipe_when_it_is_sent_again() -> None:
    reading, writing = os.pipe()
    source = TextSource(fd=reading)
    os.write(writing, b"Hello there. ")
    assert source.read() == "Hello there. "
    assert not source.buffered
    source.rewind()
    assert source.buffered
    assert source.read() == "Hello there. "
    assert not source.buffered
    os.close(writing)
    assert [source.read(), source.read()] == ["", None]
    os.close(reading)
