"""Grapheme to phoneme: one text chunk in, the phonemes of Kokoro's vocabulary out. Owns misaki, spaCy and phonemizer.

The phonemes equal those of kokoro's KPipeline with the same backend, with one difference: KPipeline drops what is
beyond 510 phonemes, `split_spoken` keeps it. kokoro itself is never imported here, nor what misaki and spaCy bring
along but nobody uses, half of their cost: spaCy's command line and plugins (transformers), phonemizer, which is for
espeak-ng's process.

Where in the text the words stand that the phonemes belong to, and how exactly that is known:
- English: exact, misaki gives the phonemes of each token. A word is a token: "$3.50", "well-known", "and/or".
- Spanish, French, Hindi, Italian, Portuguese: espeak-ng gives one string. A word is what stands between blanks and
  punctuation ("3.5" is two), its phonemes are found by how it sounds alone. Exact, except where espeak fuses words:
  "qu'est-ce que" is one word, or a long stretch is shared out by length, one or two phonemes off.
- Mandarin, Japanese: the same with jieba's and MeCab's words. Where the front end cuts the text otherwise (numbers),
  neighbours share the stretch by length.

Thread: everything is used on one thread, the one that made the G2P. espeak-ng has a process of its own: it crashes.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import itertools
import logging
import os
import re
import sys
from difflib import SequenceMatcher
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, NamedTuple

from kokoro_common.errors import ModelUnavailable, UsageError
from kokoro_common.phonemes.espeak_process import EspeakCrashed, EspeakProcess
from kokoro_common.phonemes.tagger import tag
from kokoro_common.record import Record
from kokoro_common.sound.samples import SAMPLES_PER_DURATION
from kokoro_common.text.edits import STRESSED, Edit, applied

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Iterator, Sequence
    from contextlib import AbstractContextManager
    from typing import Any

log = logging.getLogger("kokoro.g2p")

ENGLISH = "ab"  # spaCy imports torch for it
ESPEAK_LANGUAGES = {"e": "es", "f": "fr-fr", "h": "hi", "i": "it", "p": "pt-br"}  # kokoro.pipeline.LANG_CODES
UNKNOWN = "❓"  # misaki's phoneme for what it cannot say
_LONGEST_WORD = 50  # letters
_MOST_PARTS = 24  # of a word, such as "1", "a" and "-"; misaki is cubic in them: "1a" 200 times took 0.9 s with 50
_LONGEST_NUMBER = 30  # digits; longer ones are read digit by digit (num2words ends at 10 ** 306)
_TRANSLATION: dict[int, str | None] = {
    **dict.fromkeys((*range(0x20), *range(0x7F, 0xA0)), " "),  # NUL would end the text inside espeak-ng
    **dict.fromkeys((0xAD, 0x200B, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2060, 0x206A), 0xFEFF)),
    **dict.fromkeys(range(0xD800, 0xE000)),  # lone surrogates
}
_MANY_PARTS = re.compile(
    rf"(?:\d++|[A-Z]*+[^\W\d_A-Z]++|[A-Z]++|[!-/:-@[-`{{-~‘’]){{{_MOST_PARTS}}}(?=\S)"
)  # possessive, or "7777" would be tried in all ways
_MISAKI_CRASHES = (ArithmeticError, AssertionError, EspeakCrashed, LookupError, StopIteration, TypeError, ValueError)
_MARKS = re.escape(
    ';:,.!?¡¿—…"«»“”(){}[]、，。．！：；？।॥《》「」『』【】（）・～〜'
)  # phonemizer's, and the wide ones
_MARK = re.compile(f"[{_MARKS}]")
_MOST_COMPARED = 1000  # runs; comparing is quadratic, and a text chunk has 200
_ANY_MARK = "."
_STRESS = dict.fromkeys(map(ord, "ˈˌ"))
_RUN = re.compile(rf"[^\s{_MARKS}]+")  # what stands between blanks and marks, in a text or in its phonemes
_RUN_OR_MARKS = re.compile(rf"([^\s{_MARKS}]+)|[{_MARKS}](?:\s*[{_MARKS}])*")


class Word(Record):
    """A word of a text and its phonemes. Words are in order and do not overlap, neither here nor there."""

    start: int  # in characters of the text as it was given
    end: int  # behind its last character
    first: int  # in the phonemes
    last: int  # behind its last phoneme


class Spoken(Record):
    """Phonemes, and the words they belong to. A word of the text that is not spoken is not among them."""

    phonemes: str
    words: tuple[Word, ...]


class _Part(NamedTuple):
    """Some phonemes and the stretch of text that they speak: an empty one for blanks and punctuation."""

    phonemes: str
    start: int
    end: int

    def moved(self, by: int) -> _Part:
        return _Part(self.phonemes, self.start + by, self.end + by)


_BLANK = _Part(" ", 0, 0)
_OBJECT = "\ufffc"  # stands for given phonemes in a line whose backend takes none


class G2P:
    """Phonemes for all of Kokoro's languages; a language's backend is built when it is first needed, and kept.

    `spacy_path`: directory of an English spaCy model with a tagger; without one, or if it does not load, English uses
    the built-in tagger. `temporary_dir`: where phonemizer puts its copies of the espeak-ng library, one per backend,
    and jieba its cache; a killed process leaves them there for its owner to sweep.
    """

    def __init__(self, spacy_path: str | None, temporary_dir: str) -> None:
        self._spacy_path = spacy_path
        self._temporary_dir = temporary_dir
        self._espeak = EspeakProcess(temporary_dir)
        self._backends: dict[str, Callable[[str], list[_Part]]] = {}
        self._analyse: Callable[[str], Any] | None = None  # English text to a tagged spaCy Doc
        self._memory_zone: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext
        self._quality: dict[str, str] = {}

    @property
    def quality(self) -> dict[str, str]:
        """{"en": "spacy en_core_web_sm 3.8.0"} or {"en": "built-in tagger"}; empty until English has been needed."""
        return dict(self._quality)

    def warm(self, lang: str) -> None:
        """Builds the backend of a language now; English takes a second. Raises what `spoken` raises."""
        if lang not in "jz":
            self._espeak.start()  # its imports and ours side by side
        self.spoken("a", lang)

    def spoken(self, text: str, lang: str, edits: Sequence[Edit] = ()) -> Spoken:
        """The phonemes of a text chunk, "" if there is nothing to say, and its words; milliseconds a sentence.

        `lang`: Kokoro's letter, one of a b e f h i j p z. `edits`: what is said instead of what is written; the words
        of one edit are one word. A word that misaki cannot handle is left out, and the log says so.
        Raises ModelUnavailable for a language whose extra is not installed, UsageError for one that does not exist,
        KokoroError when espeak-ng hangs or cannot be used.
        """
        backend = self._backends.get(lang)
        if backend is None:
            backend = self._backends[lang] = self._build(lang)
        line, spans, given = _line(text, lang, edits)
        parts: list[_Part] = []
        begin = 0
        for place, phonemes in given:
            parts += (part.moved(begin) for part in _survived(backend, line[begin:place]))
            parts.append(_Part(phonemes, place, place + 1))
            begin = place + 1
        parts += (part.moved(begin) for part in _survived(backend, line[begin:]))
        if unknown := sum(part.phonemes.count(UNKNOWN) for part in parts):
            log.warning("%d unknown words or signs are not spoken", unknown)
        return _joined(parts, spans)

    def _build(self, lang: str) -> Callable[[str], list[_Part]]:
        if lang in ENGLISH:
            return self._english(british=lang == "b")
        if lang in ESPEAK_LANGUAGES:
            g2p = self._misaki_espeak.EspeakG2P(ESPEAK_LANGUAGES[lang])
            return _aligning(lambda text: str(g2p(text)[0]), _runs)
        if lang == "j":
            return _japanese()
        if lang == "z":
            return _mandarin(self._temporary_dir)
        raise UsageError(f"there is no language {lang!r}", "choose one of a b e f h i j p z")

    def _english(self, british: bool) -> Callable[[str], list[_Part]]:
        spacy = _import_spacy()
        from misaki import en

        if self._analyse is None:
            with _without_plugins(spacy):
                self._analyse, self._memory_zone, self._quality["en"] = _analyser(spacy, self._spacy_path)
        memory_zone = self._memory_zone
        g2p = en.G2P.__new__(en.G2P)  # its __init__ would pip-install a spaCy model that is not there
        g2p.version = None
        g2p.british = british
        g2p.nlp = self._analyse
        g2p.lexicon = en.Lexicon(british)
        g2p.fallback = self._misaki_espeak.EspeakFallback(british)
        g2p.unk = UNKNOWN

        def parts(text: str) -> list[_Part]:
            with memory_zone():  # else spaCy keeps every new word for ever
                return _token_parts(g2p(text)[1], _shown(text, en.LINK_REGEX))

        return parts

    @functools.cached_property
    def _misaki_espeak(self) -> ModuleType:
        """A copy of misaki.espeak that takes our process for phonemizer.

        The real one would call the library in this process, where it crashes, and costs 0.4 s: it imports csvw.
        """
        spec = importlib.util.find_spec("misaki.espeak")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        phonemizer = _stand_in("phonemizer", backend=SimpleNamespace(EspeakBackend=self._espeak.backend))
        nothing = SimpleNamespace(set_library=str, set_data_path=str)  # the process finds both for itself
        try:
            with _standing_in(phonemizer, _stand_in("phonemizer.backend.espeak.wrapper", EspeakWrapper=nothing)):
                spec.loader.exec_module(module)
        except ImportError:  # a later misaki that wants more of phonemizer
            spec.loader.exec_module(module)
        vars(module)["phonemizer"] = phonemizer
        return module


def concatenated(stretches: Sequence[tuple[int, Spoken]]) -> Spoken:
    """Stretches of one text, with the places where they begin in it, as a whole."""
    phonemes = ""
    words: list[Word] = []
    for start, spoken in stretches:
        phonemes += " " * bool(phonemes and spoken.phonemes)
        words += (
            Word(
                start=start + word.start,
                end=start + word.end,
                first=len(phonemes) + word.first,
                last=len(phonemes) + word.last,
            )
            for word in spoken.words
        )
        phonemes += spoken.phonemes
    return Spoken(phonemes=phonemes, words=tuple(words))


def split_spoken(spoken: Spoken, limit: int) -> list[Spoken]:
    """Pieces of at most `limit` phonemes; nothing but blanks between pieces is lost.

    Cuts after the last sentence or clause mark in the second half of a piece, else at the last blank, else in a word.
    Words keep their place in the text; their phonemes count from the beginning of the piece. A word that is cut is in
    the piece where it begins, with those of its phonemes that are there.
    """
    if limit < 1:
        raise ValueError(f"limit is {limit}")
    pieces = []
    phonemes = spoken.phonemes.rstrip()
    begin = len(phonemes) - len(phonemes.lstrip())
    while len(phonemes) - begin > limit:
        cut = begin + _cut(phonemes[begin : begin + limit + 1], limit)
        pieces.append(_piece(spoken, begin, cut))
        begin = cut + len(phonemes[cut:]) - len(phonemes[cut:].lstrip())
    return [*pieces, _piece(spoken, begin, len(phonemes))] if begin < len(phonemes) else pieces


def _piece(spoken: Spoken, begin: int, end: int) -> Spoken:
    phonemes = spoken.phonemes[begin:end].rstrip()
    words = (
        word.replace(first=word.first - begin, last=min(word.last - begin, len(phonemes)))
        for word in spoken.words
        if begin <= word.first < end
    )
    return Spoken(phonemes=phonemes, words=tuple(words))


def word_frames(
    spoken: Spoken,
    durations: Collection[int],
    vocabulary: Container[str],
    samples_per_duration: int = SAMPLES_PER_DURATION,
) -> list[tuple[int, int]]:
    """For each word of a piece the frames, begin and end, that its phonemes take in the audio of the piece.

    `durations` are the engine's, one per token id with the 0 at both ends, or none if there was nothing to say.
    A phoneme outside the model's vocabulary has no token id; a word of nothing else takes no frames.
    Raises ValueError if the durations are not those of these phonemes.
    """
    known = [phoneme in vocabulary for phoneme in spoken.phonemes]
    if not any(known) and len(durations) == 0:
        return [(0, 0)] * len(spoken.words)
    if len(durations) != sum(known) + 2:
        raise ValueError(f"{len(durations)} durations for {sum(known)} phonemes")
    frames = list(itertools.accumulate((int(duration) * samples_per_duration for duration in durations), initial=0))
    token_ids = list(itertools.accumulate(known, initial=1))  # of each phoneme; and the one behind the last
    return [(frames[token_ids[word.first]], frames[token_ids[word.last]]) for word in spoken.words]


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

    `spaced`: the language puts blanks between words. All that is not blank stays as it is, in order.
    """
    text = " ".join(text.translate(_TRANSLATION).split())
    text = re.sub(rf"\d{{{_LONGEST_NUMBER + 1},}}", lambda digits: " ".join(digits[0]), text)
    letter = r"\S" if spaced else "[!-~]"
    text = re.sub(f"{letter}{{{_LONGEST_WORD}}}", r"\g<0> ", text)
    return (_MANY_PARTS.sub(r"\g<0> ", text) if spaced else text).strip()


def _line(text: str, lang: str, edits: Sequence[Edit]) -> tuple[str, list[tuple[int, int]], list[tuple[int, str]]]:
    """What the backend reads; the stretch of the text that each of its characters says, (-1, -1) for blanks; and where
    in it phonemes are given that the backend does not take. misaki's English takes them, with what is around them."""
    line = ""
    spans: list[tuple[int, int]] = []
    given: list[tuple[int, str]] = []
    for said, start, end, phonemes in applied(text, edits):
        written = text[start:end]
        if phonemes and lang in ENGLISH:
            label = re.sub(r"[\[\]()]", "", written).strip() or "x"
            stretch = f"[{label}](/{re.sub(r'[()/]', '', said)}/)"
        elif phonemes:
            given.append((len(line), said))
            stretch = _OBJECT
        else:
            stretch = said if lang in ENGLISH else STRESSED.sub(r"\1", said)
            if stretch[:1].isspace() and line and not line.endswith(" "):
                line, spans = line + " ", [*spans, (-1, -1)]
            blank = stretch[-1:].isspace()
            stretch = _speakable(stretch, spaced=lang not in "jz") + " " * (blank and not stretch.isspace())
        line += stretch
        if stretch.strip() and said == written:
            spans += ((at, at + 1) if at >= 0 else (-1, -1) for at in _places(stretch, written, start))
        else:
            spans += ((start, end) if character != " " else (-1, -1) for character in stretch)
    return line, spans, given


def _places(line: str, text: str, start: int) -> Iterator[int]:
    """Where the characters of the `_speakable` line of a text stand, if that begins at `start`; -1 for blanks."""
    kept = (start + place for place, character in enumerate(text) if character.translate(_TRANSLATION).strip())
    for character in line:
        yield -1 if character == " " else next(kept)


def _survived(backend: Callable[[str], list[_Part]], text: str) -> list[_Part]:
    """The backend's parts. If it crashes, the text is halved until only the word that does it is left out."""
    if not text:
        return []
    try:
        return [part for part in backend(text) if part.phonemes]
    except _MISAKI_CRASHES as error:
        words = text.split(" ")
        if len(words) == 1:
            log.warning("a word of %d letters is left out: %s", len(text), type(error).__name__)
            return []
        half = len(" ".join(words[: len(words) // 2]))
        left = _survived(backend, text[:half])
        right = [part.moved(half + 1) for part in _survived(backend, text[half + 1 :])]
        return [*left, _BLANK, *right] if left and right else left + right


def _joined(parts: list[_Part], spans: list[tuple[int, int]]) -> Spoken:
    """Without blanks at the ends and what is unknown; a word is a part with letters, less the marks around them.

    Neighbours that say the same stretch of the text are one word.
    """
    whole = "".join(part.phonemes for part in parts).replace(UNKNOWN, "")
    words: list[Word] = []
    length = len(whole.lstrip()) - len(whole)
    for part in parts:
        phonemes = part.phonemes.replace(UNKNOWN, "")
        if part.start < part.end and any(map(str.isalpha, phonemes)):
            runs = list(_RUN.finditer(phonemes))
            first, last = length + runs[0].start(), length + runs[-1].end()
            start, end = spans[part.start][0], spans[part.end - 1][1]
            if words and start < words[-1].end:
                start, end, first = words[-1].start, max(end, words[-1].end), words.pop().first
            words.append(Word(start=start, end=end, first=first, last=last))
        length += len(phonemes)
    return Spoken(phonemes=whole.strip(), words=tuple(words))


# --- English: misaki's tokens ----------------------------------------------------------------------------------------


def _import_spacy() -> Any:
    """spaCy without its command line: 0.3 s for typer, jinja2, requests and more."""
    with _standing_in(_stand_in("spacy.cli.info", info=None)):
        import spacy
    return spacy


@contextlib.contextmanager
def _without_plugins(spacy: Any) -> Iterator[None]:
    """No other package may add to spaCy what pipelines are made of. It imports all that would, transformers (1 s) too.

    A spaCy that does it in another way goes on doing it, and a test says so.
    """
    factories = getattr(spacy.registry, "_entry_point_factories", SimpleNamespace(entry_points=True))
    before, factories.entry_points = factories.entry_points, False
    try:
        yield
    finally:
        factories.entry_points = before


def _analyser(
    spacy: Any, spacy_path: str | None
) -> tuple[Callable[[str], Any], Callable[[], AbstractContextManager[Any]], str]:
    """English text to a spaCy Doc with tags; a block that frees what Docs made in it have left; and what tags them."""
    if spacy_path is not None:
        try:
            every = spacy.util.load_config(os.path.join(spacy_path, "config.cfg"))["nlp"]["pipeline"]
            # misaki has them loaded and disabled: 0.2 s, for the same tags.
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


def _shown(text: str, link: re.Pattern[str]) -> list[tuple[int, str]]:
    """The characters, with their places, that misaki reads of a text: of "[shown](/phonemes/)" only what is shown."""
    places: list[int] = []
    end = 0
    for match in link.finditer(text):
        places += (*range(end, match.start()), *range(*match.span(1)))
        end = match.end()
    return [(place, text[place]) for place in (*places, *range(end, len(text)))]


def _token_parts(tokens: list[Any], shown: list[tuple[int, str]]) -> list[_Part]:
    """misaki's tokens as parts. It loses an apostrophe here and there, so each is looked for from the last one on."""
    parts = []
    rest = iter(shown)
    currency: int | None = None  # where the sign before this token stands: it is spoken after the number
    for token in tokens:
        places = [next(place for place, shown in rest if shown == sign) for sign in token.text if not sign.isspace()]
        start, end = (places[0], places[-1] + 1) if places else (0, 0)
        phonemes = UNKNOWN if token.phonemes is None else token.phonemes
        parts.append(_Part(phonemes, start if currency is None else currency, end))
        parts.append(_Part(token.whitespace, 0, 0))
        currency = start if token.tag == "$" and not phonemes and not token.whitespace else None
    return parts


# --- The others: words found in one string of phonemes ---------------------------------------------------------------


def _aligning(
    speak: Callable[[str], str], words_in: Callable[[str], list[tuple[int, int]]]
) -> Callable[[str], list[_Part]]:
    """A backend from a function that gives the phonemes of a text, and one that finds its words."""

    @functools.lru_cache(maxsize=4096)
    def alone(word: str) -> str:
        try:
            return speak(word)
        except _MISAKI_CRASHES:  # the whole did not crash, and only that is spoken
            return ""

    def parts(text: str) -> list[_Part]:
        return _aligned(speak(text), text, words_in(text), alone)

    return parts


def _runs(text: str) -> list[tuple[int, int]]:
    return [run.span() for run in _RUN.finditer(text)]


def _found(pieces: list[str], text: str) -> list[tuple[int, int]]:
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


def _aligned(phonemes: str, text: str, words: list[tuple[int, int]], alone: Callable[[str], str]) -> list[_Part]:
    """The phonemes of a text in parts. Whose they are shows from how each word sounds alone, at the same place.

    Compared are runs of phonemes, stress left away; those that differ lie between some that are equal.
    """
    expected: list[tuple[str, int]] = []  # a run, and the word it belongs to
    before = 0
    for index, (start, end) in enumerate(words):
        if _MARK.search(text, before, start):
            expected.append((_ANY_MARK, -1))
        expected += ((sound, index) for sound, *_ in _sounds(alone(text[start:end])))
        before = end
    actual = _sounds(phonemes)
    spans: dict[int, tuple[int, int]] = {}
    for i, i_end, j, j_end in _stretches([run for run, _ in expected], [run for run, *_ in actual]):
        for index, first, last in _shared(expected[i:i_end], actual[j:j_end]):
            spans[index] = (spans.get(index, (first, last))[0], last)
    return _cut_up(phonemes, words, spans, silent=set(range(len(words))) - {index for _, index in expected})


def _sounds(phonemes: str) -> list[tuple[str, int, int]]:
    """Runs without stress and marks, each with its place."""
    return [
        (match[0].translate(_STRESS) if match[1] else _ANY_MARK, match.start(), match.end())
        for match in _RUN_OR_MARKS.finditer(phonemes)
    ]


def _stretches(expected: list[str], actual: list[str]) -> list[tuple[int, int, int, int]]:
    if max(len(expected), len(actual)) > _MOST_COMPARED:
        return [(0, len(expected), 0, len(actual))]
    return [opcode[1:] for opcode in SequenceMatcher(None, expected, actual, autojunk=False).get_opcodes()]


def _shared(expected: list[tuple[str, int]], actual: list[tuple[str, int, int]]) -> Iterator[tuple[int, int, int]]:
    """Words with their places in the phonemes: run by run, or by length where there are more or fewer than expected."""
    expected = [sound for sound in expected if sound[0] != _ANY_MARK]
    actual = [sound for sound in actual if sound[0] != _ANY_MARK]
    if len(expected) == len(actual):
        yield from ((index, first, last) for (_, index), (_, first, last) in zip(expected, actual, strict=True))
    elif expected and actual:
        begin, end = actual[0][1], actual[-1][2]
        borders = {last for _, _, last in actual}
        scale = (end - begin) / sum(len(sound) for sound, _ in expected)
        first, length = begin, 0
        for sound, index in expected:
            length += len(sound)
            last = begin + round(length * scale)
            last = next((last + away for away in (0, -1, 1, -2, 2) if last + away in borders), last)
            yield index, first, last
            first = last


def _cut_up(
    phonemes: str, words: list[tuple[int, int]], spans: dict[int, tuple[int, int]], silent: set[int]
) -> list[_Part]:
    """A word that is not silent but has no phonemes of its own is fused with the one before it."""
    parts: list[_Part] = []
    done = 0
    for index, (start, end) in enumerate(words):
        first, last = spans.get(index, (done, done))
        if any(map(str.isalpha, phonemes[first:last])):
            parts += (_Part(phonemes[done:first], 0, 0), _Part(phonemes[first:last], start, end))
            done = last
        elif parts and index not in silent:
            parts[-1] = parts[-1]._replace(end=end)
    return [*parts, _Part(phonemes[done:], 0, 0)]


def _japanese() -> Callable[[str], list[_Part]]:
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
    return _aligning(
        lambda text: " ".join(str(g2p(piece)[0]) for piece in sentence.findall(text)),
        lambda text: _found([word.surface for word in g2p.tagger(text)], text),
    )


def _mandarin(temporary_dir: str) -> Callable[[str], list[_Part]]:
    """misaki's legacy front end: the one that Kokoro-82M v1.0 was trained with; 1.1 belongs to another model."""
    try:
        import jieba
        from misaki import zh
    except ImportError as error:
        raise ModelUnavailable("Mandarin needs the extra zh", "run pip install 'kokoro-say[zh]'") from error
    jieba.setLogLevel(logging.WARNING)  # it has a handler of its own on stderr
    jieba.dt.tmp_dir = temporary_dir  # its cache would be /tmp/jieba.cache, which any user may have written
    g2p = zh.ZHG2P()
    return _aligning(lambda text: str(g2p(text)[0]), lambda text: _found(jieba.lcut(text), text))


# --- Imports that leave something out --------------------------------------------------------------------------------


def _stand_in(name: str, **content: object) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(content)
    return module


@contextlib.contextmanager
def _standing_in(*modules: ModuleType) -> Iterator[None]:
    """For the imports within, these are the modules of their names. A module that is here already stays what it is."""
    before = {module.__name__: sys.modules.get(module.__name__) for module in modules}
    sys.modules.update({module.__name__: module for module in modules})
    try:
        yield
    finally:
        for name, module in before.items():
            del sys.modules[name]
            if module is not None:
                sys.modules[name] = module
