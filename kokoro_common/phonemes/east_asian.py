"""The front ends of Japanese and Mandarin, whose words come from MeCab and jieba. Owns the modules of both extras."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from kokoro_common.errors import ModelUnavailable
from kokoro_common.installed import add_extra
from kokoro_common.phonemes.alignment import aligning

if TYPE_CHECKING:
    from collections.abc import Callable

    from kokoro_common.phonemes.spoken import Part


def japanese() -> Callable[[str], list[Part]]:
    """misaki.ja.JAG2P() without its import of pyopenjtalk, and with the dictionary that comes as a wheel."""
    try:
        import fugashi
        import unidic_lite
        from misaki import cutlet
    except ImportError as error:
        raise ModelUnavailable("Japanese needs the extra ja", f"run {add_extra('ja')}") from error
    # Without arguments fugashi prefers the package unidic, whose dictionary is a download of its own.
    arguments = f'-r "{unidic_lite.DICDIR}/mecabrc" -d "{unidic_lite.DICDIR}"'
    cutlet.Tagger = lambda: fugashi.Tagger(arguments)
    g2p = cutlet.Cutlet()
    sentence = re.compile(r"[^。！？]{1,100}[。！？]*|[。！？]+")  # cutlet is cubic in the words of a text
    return aligning(
        lambda text: " ".join(str(g2p(piece)[0]) for piece in sentence.findall(text)),
        lambda text: _places_of([word.surface for word in g2p.tagger(text)], text),
    )


def mandarin(temporary_dir: str) -> Callable[[str], list[Part]]:
    """misaki's legacy front end: the one that Kokoro-82M v1.0 was trained with; 1.1 belongs to another model."""
    try:
        import jieba
        from misaki import zh
    except ImportError as error:
        raise ModelUnavailable("Mandarin needs the extra zh", f"run {add_extra('zh')}") from error
    jieba.setLogLevel(logging.WARNING)  # it has a handler of its own on stderr
    jieba.dt.tmp_dir = temporary_dir  # its cache would be /tmp/jieba.cache, which any user may have written
    g2p = zh.ZHG2P()
    return aligning(lambda text: str(g2p(text)[0]), lambda text: _places_of(jieba.lcut(text), text))


def _places_of(pieces: list[str], text: str) -> list[tuple[int, int]]:
    """The places, in a text, of its pieces that have a letter or digit."""
    spans = []
    end = 0
    for piece in pieces:
        start = text.find(piece, end)
        if start >= 0:
            end = start + len(piece)
            if any(map(str.isalnum, piece)):
                spans.append((start, end))
    return spans
