"""Grapheme to phoneme: one text chunk in, the phonemes of Kokoro's vocabulary out. Owns misaki, spaCy and phonemizer.

The phonemes equal those of kokoro's KPipeline with the same backend, with one difference: KPipeline drops what is
beyond 510 phonemes, `split_phonemes` keeps it. kokoro itself is never imported here.

Thread: everything is used on one thread, the one that made the G2P; espeak-ng has global state.
"""

from __future__ import annotations

import contextlib
import logging
import re
import tempfile
from typing import TYPE_CHECKING

from kokoro_common.errors import ModelUnavailable, UsageError
from kokoro_common.tagger import tag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

log = logging.getLogger("kokoro.g2p")

ESPEAK_LANGUAGES = {"e": "es", "f": "fr-fr", "h": "hi", "i": "it", "p": "pt-br"}  # kokoro.pipeline.LANG_CODES
UNKNOWN = "❓"  # misaki's phoneme for what it cannot say
_LONGEST_WORD = 50  # letters; misaki is cubic in a word's hyphens
_LONGEST_NUMBER = 30  # digits; longer ones are read digit by digit (num2words ends at 10 ** 306)
_CONTROLS = dict.fromkeys((*range(0x20), *range(0x7F, 0xA0)), " ")  # NUL would end the text inside espeak-ng
_INVISIBLE = dict.fromkeys((0xAD, 0x200B, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2060, 0x206A), 0xFEFF))
_MISAKI_CRASHES = (ArithmeticError, AssertionError, LookupError, StopIteration, TypeError, ValueError)


class G2P:
    """Phonemes for all of Kokoro's languages; a language's backend is built when it is first needed, and kept.

    `spacy_path`: directory of an English spaCy model with a tagger; without one, or if it does not load, English uses
    the built-in tagger. `temporary_dir`: where phonemizer puts its copies of the espeak-ng library, one per backend,
    and jieba its cache; a killed process leaves them there for its owner to sweep.
    """

    def __init__(self, spacy_path: str | None, temporary_dir: str) -> None:
        self._spacy_path = spacy_path
        self._temporary_dir = temporary_dir
        self._backends: dict[str, Callable[[str], str]] = {}
        self._analyse: Callable[[str], Any] | None = None  # English text to a tagged spaCy Doc
        self._quality: dict[str, str] = {}

    @property
    def quality(self) -> dict[str, str]:
        """{"en": "spacy en_core_web_sm 3.8.0"} or {"en": "built-in tagger"}; empty until English has been needed."""
        return dict(self._quality)

    def warm(self, lang: str) -> None:
        """Builds the backend of a language now; English takes seconds. Raises what `phonemes` raises."""
        self.phonemes("a", lang)

    def phonemes(self, text: str, lang: str) -> str:
        """The phonemes of a text chunk, "" if there is nothing to say; milliseconds a sentence, after the first.

        `lang`: Kokoro's letter, one of a b e f h i j p z. A word that misaki cannot handle is left out, and the
        log says so.
        Raises ModelUnavailable for a language whose extra is not installed, UsageError for one that does not exist.
        """
        backend = self._backends.get(lang)
        if backend is None:
            backend = self._backends[lang] = self._build(lang)
        phonemes = _survived(backend, _speakable(text, spaced=lang not in "jz"))
        if unknown := phonemes.count(UNKNOWN):
            log.warning("%d unknown words or signs are not spoken", unknown)
        return phonemes.replace(UNKNOWN, "").strip()

    def _build(self, lang: str) -> Callable[[str], str]:
        with _temporary_files_in(self._temporary_dir):
            if lang in ("a", "b"):
                return self._english(british=lang == "b")
            if lang in ESPEAK_LANGUAGES:
                return _espeak(ESPEAK_LANGUAGES[lang])
            if lang == "j":
                return _japanese()
            if lang == "z":
                return _mandarin(self._temporary_dir)
        raise UsageError(f"there is no language {lang!r}", "choose one of a b e f h i j p z")

    def _english(self, british: bool) -> Callable[[str], str]:
        from misaki import en, espeak

        if self._analyse is None:
            self._analyse, self._quality["en"] = _analyser(self._spacy_path)
        g2p = en.G2P.__new__(en.G2P)  # its __init__ would pip-install a spaCy model that is not there
        g2p.version = None
        g2p.british = british
        g2p.nlp = self._analyse
        g2p.lexicon = en.Lexicon(british)
        g2p.fallback = espeak.EspeakFallback(british)
        g2p.unk = UNKNOWN
        _quiet()
        return lambda text: str(g2p(text)[0])


def split_phonemes(phonemes: str, limit: int) -> list[str]:
    """Pieces of at most `limit` phonemes; nothing but blanks between pieces is lost.

    Cuts after the last sentence or clause mark in the second half of a piece, else at the last blank, else in a word.
    """
    if limit < 1:
        raise ValueError(f"limit is {limit}")
    pieces = []
    rest = phonemes.strip()
    while len(rest) > limit:
        end = _cut(rest[: limit + 1], limit)
        pieces.append(rest[:end].rstrip())
        rest = rest[end:].lstrip()
    return [*pieces, rest] if rest else pieces


_CUTS = tuple(re.compile(rf"[{marks}][)”\"]*\s") for marks in (".!?…", ":;", ",—"))  # in the order of KPipeline


def _cut(head: str, limit: int) -> int:
    for pattern in _CUTS:
        ends = [match.end() for match in pattern.finditer(head) if match.end() > limit // 2]
        if ends:
            return ends[-1]
    blanks = [match.start() for match in re.finditer(r"\s", head)]
    if blanks:
        return blanks[-1]
    log.warning("a word of more than %d phonemes is cut", limit)
    return limit


def _speakable(text: str, spaced: bool) -> str:
    """One line of text without signs that would end or reverse it; monstrous words and numbers in pieces.

    `spaced`: the language puts blanks between words.
    """
    text = text.encode("utf-8", "ignore").decode()  # lone surrogates
    text = " ".join(text.translate({**_CONTROLS, **_INVISIBLE}).split())
    text = re.sub(rf"\d{{{_LONGEST_NUMBER + 1},}}", lambda digits: " ".join(digits[0]), text)
    letter = r"\S" if spaced else "[!-~]"
    return re.sub(f"{letter}{{{_LONGEST_WORD}}}", r"\g<0> ", text).strip()


def _survived(backend: Callable[[str], str], text: str) -> str:
    """The backend's phonemes. If it crashes, the text is halved until only the word that does it is left out."""
    if not text:
        return ""
    try:
        return backend(text)
    except _MISAKI_CRASHES as error:
        words = text.split(" ")
        if len(words) == 1:
            log.warning("a word of %d letters is left out: %s", len(text), type(error).__name__)
            return ""
        halves = " ".join(words[: len(words) // 2]), " ".join(words[len(words) // 2 :])
        return " ".join(filter(None, (_survived(backend, half) for half in halves)))


def _analyser(spacy_path: str | None) -> tuple[Callable[[str], Any], str]:
    """English text to a spaCy Doc with tags, and what tags it."""
    import spacy

    if spacy_path is not None:
        try:
            nlp = spacy.load(spacy_path, enable=["tok2vec", "tagger"])
            return nlp, f"spacy {nlp.meta['lang']}_{nlp.meta['name']} {nlp.meta['version']}"
        except (OSError, ValueError, ImportError) as error:
            log.warning(
                "the spaCy model in %s cannot be loaded, English uses the built-in tagger: %s", spacy_path, error
            )
    tokenizer = spacy.blank("en").tokenizer

    def analyse(text: str) -> Any:
        doc = tokenizer(text)
        for token, its_tag in zip(doc, tag([t.text for t in doc], [bool(t.whitespace_) for t in doc]), strict=True):
            token.tag_ = its_tag
        return doc

    return analyse, "built-in tagger"


def _espeak(language: str) -> Callable[[str], str]:
    from misaki import espeak

    g2p = espeak.EspeakG2P(language)
    _quiet()
    return lambda text: str(g2p(text)[0])


def _japanese() -> Callable[[str], str]:
    """What misaki.ja.JAG2P() is, without its import of pyopenjtalk, and with the dictionary that comes as a wheel."""
    try:
        import fugashi
        import unidic_lite
        from misaki import cutlet
    except ImportError as error:
        raise ModelUnavailable("Japanese needs the extra ja", "run pip install 'kokoro-say[ja]'") from error
    # Without arguments fugashi prefers the package unidic, whose dictionary is a download of its own.
    arguments = f'-r "{unidic_lite.DICDIR}/mecabrc" -d "{unidic_lite.DICDIR}"'
    cutlet.Tagger = lambda: fugashi.Tagger(arguments)
    g2p = cutlet.Cutlet()
    sentence = re.compile(r"[^。！？]{1,100}[。！？]*|[。！？]+")  # cutlet is cubic in the words of a text
    return lambda text: " ".join(str(g2p(piece)[0]) for piece in sentence.findall(text))


def _mandarin(temporary_dir: str) -> Callable[[str], str]:
    """misaki's legacy front end: the one that Kokoro-82M v1.0 was trained with; 1.1 belongs to another model."""
    try:
        import jieba
        from misaki import zh
    except ImportError as error:
        raise ModelUnavailable("Mandarin needs the extra zh", "run pip install 'kokoro-say[zh]'") from error
    jieba.setLogLevel(logging.WARNING)  # it has a handler of its own on stderr
    jieba.dt.tmp_dir = temporary_dir  # its cache would be /tmp/jieba.cache, which any user may have written
    g2p = zh.ZHG2P()
    return lambda text: str(g2p(text)[0])


@contextlib.contextmanager
def _temporary_files_in(directory: str) -> Iterator[None]:
    """phonemizer calls tempfile.mkdtemp() without a directory; there is no other way to tell it where."""
    before, tempfile.tempdir = tempfile.tempdir, directory
    try:
        yield
    finally:
        tempfile.tempdir = before


def _quiet() -> None:
    """phonemizer warns of every foreign word and sets its logger up anew with each backend."""
    logging.getLogger("phonemizer").propagate = False
