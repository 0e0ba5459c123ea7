"""English: misaki's own front end, with a spaCy model or the built-in tagger. Its tokens become the words."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING

from kokoro_common.phonemes.lean_imports import import_spacy, without_plugins
from kokoro_common.phonemes.spoken import UNKNOWN, Part
from kokoro_common.phonemes.tagger import tag

if TYPE_CHECKING:
    import re
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from types import ModuleType
    from typing import Any

log = logging.getLogger("kokoro.g2p")

ARTICLE, LETTER_A = "ɐ", "ˈA"  # misaki's phonemes of "a", and of the letter


class English:
    """The front ends of American and British English, which share what analyses a text. For one thread."""

    def __init__(self, spacy_path: str | None) -> None:
        self._spacy_path = spacy_path
        self._analyse: Callable[[str], Any] | None = None  # text to a tagged spaCy Doc
        self._memory_zone: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext
        self.tagger = ""  # "spacy en_core_web_sm 3.8.0" or "built-in tagger"; "" until it was needed

    def front_end(self, espeak: ModuleType, *, british: bool) -> Callable[[str], list[Part]]:
        """Blocks for a second when it is called first. `espeak`: misaki.espeak, which says unknown words."""
        spacy = import_spacy()
        from misaki import en

        if self._analyse is None:
            with without_plugins(spacy):
                self._analyse, self._memory_zone, self.tagger = _analyser(spacy, self._spacy_path)
        memory_zone = self._memory_zone
        g2p = en.G2P.__new__(en.G2P)  # its __init__ would pip-install a spaCy model that is not there
        g2p.version = None
        g2p.british = british
        g2p.nlp = self._analyse
        g2p.lexicon = en.Lexicon(british)
        g2p.fallback = espeak.EspeakFallback(british)
        g2p.unk = UNKNOWN

        def parts(text: str) -> list[Part]:
            with memory_zone():  # else spaCy keeps every new word for ever
                return _token_parts(g2p(text)[1], _read_by_misaki(text, en.LINK_REGEX))

        return parts


def _analyser(
    spacy: Any, spacy_path: str | None
) -> tuple[Callable[[str], Any], Callable[[], AbstractContextManager[Any]], str]:
    """Returns a function from a text to a tagged spaCy Doc, a block that frees what its Docs leave, and the tagger."""
    if spacy_path is not None:
        try:
            every = spacy.util.load_config(os.path.join(spacy_path, "config.cfg"))["nlp"]["pipeline"]
            # misaki loads all and disables them: 0.2 s, for the same tags.
            nlp = spacy.load(spacy_path, exclude=[name for name in every if name not in ("tok2vec", "tagger")])
            return nlp, nlp.memory_zone, f"spacy {nlp.meta['lang']}_{nlp.meta['name']} {nlp.meta['version']}"
        except (OSError, ValueError, LookupError, ImportError) as error:
            log.warning(
                "the spaCy model in %s cannot be loaded, English uses the built-in tagger: %s", spacy_path, error
            )
    nlp = spacy.blank("en")

    def analyse(text: str) -> Any:
        doc = nlp.tokenizer(text)
        for token, its_tag in zip(doc, tag([t.text for t in doc], [bool(t.whitespace_) for t in doc]), strict=True):
            token.tag_ = its_tag
        return doc

    return analyse, nlp.memory_zone, "built-in tagger"


def _read_by_misaki(text: str, link: re.Pattern[str]) -> list[tuple[int, str]]:
    """The characters of a text that misaki reads, with their places: of "[shown](/phonemes/)" only "shown"."""
    places: list[int] = []
    end = 0
    for match in link.finditer(text):
        places += (*range(end, match.start()), *range(*match.span(1)))
        end = match.end()
    return [(place, text[place]) for place in (*places, *range(end, len(text)))]


def _goes_on(tokens: list[Any]) -> bool:
    """Whether a word follows the first one: an article has one, the letter has not."""
    return len(tokens) > 1 and (bool(tokens[0].whitespace) or tokens[1].text[:1].isalnum())


def _token_parts(tokens: list[Any], shown: list[tuple[int, str]]) -> list[Part]:
    """misaki's tokens as parts. It loses some apostrophes, so each token is looked for after the one before it."""
    parts = []
    rest = iter(shown)
    currency: int | None = None  # where the sign before this token stands: it is spoken after the number
    for number, token in enumerate(tokens):
        places = [next(place for place, shown in rest if shown == sign) for sign in token.text if not sign.isspace()]
        start, end = (places[0], places[-1] + 1) if places else (0, 0)
        phonemes = UNKNOWN if token.phonemes is None else token.phonemes
        if phonemes == ARTICLE and not _goes_on(tokens[number:]):
            phonemes = LETTER_A
        parts.append(Part(phonemes, start if currency is None else currency, end))
        parts.append(Part(token.whitespace, 0, 0))
        currency = start if token.tag == "$" and not phonemes and not token.whitespace else None
    return parts
