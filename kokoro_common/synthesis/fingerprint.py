"""What the samples of a text chunk depend on besides its request."""

from __future__ import annotations

from kokoro_common.record import Record


class Fingerprint(Record):
    """Of one engine. Two engines whose fingerprints are equal give the same samples for the same ChunkRequest."""

    version: str  # of the product
    model: str  # SHA-256 of the weights; espeak-ng for the embedded default
    voices: str  # SHA-256 of the style of the voice or blend; empty for the embedded default
    g2p: str  # which front end: spaCy's model or the built-in tagger
    device: str
    precision: str
    kernel: str  # which code decodes
    threads: int  # of the CPU: sums come in another order
