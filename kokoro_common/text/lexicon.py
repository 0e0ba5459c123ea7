"""Pronunciations: what an entry of the lexicon is, which entries go with a text, and where they match in it.

The files with the entries are lexicon_file.py's. Phonemes stand between slashes, anything else is spoken as if it were
written there. A word in lower case counts in any case, one with a capital as it is written.

The client imports this module where there is such a file, so it imports nothing heavy; `edits` with its `typing` waits.
"""

from __future__ import annotations

import itertools
import re
import unicodedata

from kokoro_common.errors import UsageError
from kokoro_common.record import Record
from kokoro_common.text.marks import UNSPACED
from kokoro_common.text.speech import Pronunciation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from kokoro_common.text.edits import Edit

MAX_BYTES = 65_536  # UTF-8 of all words and what is said for them, with one utterance
MAX_CHARACTERS = 200  # in a word, and in what is said for it

# hexgrad/Kokoro-82M, config.json, the keys of "vocab" in the order of their ids, at the pinned revision.
PHONEMES = (
    ';:,.!?—…"()“” \u0303ʣʥʦʨᵝ\uab67AIOQSTWYᵊabcdefhijklmnopqrstuvwxyzɑɐɒæβɔɕçɖðʤəɚɛɜ'
    "ɟɡɥɨɪʝɯɰŋɳɲɴøɸθœɹɾɻʁɽʂʃʈʧʊʋʌɣɤχʎʒʔˈˌːʰʲ↓→↗↘ᵻ"
)
_NO_SOUND = ';:,.!?—…"()“” \u0303ˈˌːʰʲ↓→↗↘'  # those that are marks, stress, length or tone of others
_MEANT = {"g": "ɡ", "'": "ˈ", "’": "ˈ"}  # typed in place of a phoneme: what the keyboard has, and what is meant
_NOT_ALLOWED = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_TOKEN = rf"(?s)\s+|[^\W{UNSPACED}]+|."  # not compiled here: that takes milliseconds, and the client needs none
_RUN = re.compile(r"[a-z0-9_]+")
_CONTRACTION = re.compile(r"['’](?![sS]\b)\w")  # "won" is not in "won't", but "Nguyen" is in "Nguyen's"


class Entry(Record):
    word: str  # blanks single, none at either end
    said: str  # words, or phonemes without their slashes
    phonemes: bool
    lang: str = ""  # letter, a key of voices.catalogue.LANGUAGES; "": all languages
    source: str = "user"  # or "project": the file that has it

    @property
    def written(self) -> str:
        """What is said, as it is written in a file."""
        return f"/{self.said}/" if self.phonemes else self.said

    @property
    def in_any_case(self) -> bool:
        return self.word == self.word.lower()


def counting(entries: Iterable[Entry], lang: str, text: str | None) -> tuple[Pronunciation, ...]:
    """The pronunciation of each word that has an entry for the language, a letter; later entries win.

    With a text, only words that occur in it in any case. Raises UsageError for more than MAX_BYTES.
    """
    folded = None if text is None else " ".join(text.casefold().split())
    runs = set(_RUN.findall(folded or ""))  # spares looking through the text for each word of a large lexicon
    of_language = [entry for entry in entries if entry.lang in ("", lang)]
    of_language.sort(key=lambda entry: (bool(entry.lang), entry.source == "project", not entry.in_any_case))
    pairs: dict[str, str] = {}
    for entry in of_language:
        word = entry.word.casefold()
        run = _RUN.search(word)
        if folded is None or ((run is None or run[0] in runs) and word in folded):
            pairs.pop(entry.word, None)  # else the new one would stand at the old one's place
            pairs[entry.word] = entry.written
    if (size := sum(_size(*pair) for pair in pairs.items())) > MAX_BYTES:
        raise UsageError(
            f"{len(pairs)} pronunciations of {size} bytes count for this text, and {MAX_BYTES} bytes go with one",
            "put those for one language below its [TAG], or remove some",
        )
    return tuple(Pronunciation(word=word, said=said) for word, said in pairs.items())


class Lexicon:
    """Finds in texts the words that `counting` gave. Raises ValueError for others: they come over the network."""

    def __init__(self, pronunciations: Iterable[Pronunciation]) -> None:
        self._root = _Node()
        size = 0
        for rank, each in enumerate(pronunciations):
            try:
                entry = checked_entry(each.word, each.said)
            except UsageError as error:
                raise ValueError(str(error)) from None
            if (entry.word, entry.written) != (each.word, each.said):
                raise ValueError("a pronunciation has blanks that are not single")
            if (size := size + _size(each.word, each.said)) > MAX_BYTES:
                raise ValueError(f"the pronunciations have more than {MAX_BYTES} bytes")
            node = self._root
            for token in re.findall(_TOKEN, entry.word):
                node = node.after.setdefault(token.casefold(), _Node())
            node.said["" if entry.in_any_case else entry.word] = (rank, entry)

    def edits(self, text: str) -> list[Edit]:
        """The longest matches, from left to right. Linear in the text."""
        from kokoro_common.text.edits import Edit

        borders = [token.start() for token in re.finditer(_TOKEN, text)] + [len(text)]
        pieces = [text[start:end] for start, end in itertools.pairwise(borders)]
        tokens = [" " if piece.isspace() else piece.casefold() for piece in pieces]
        found: list[Edit] = []
        for first, start in enumerate(borders[:-1]):
            node = self._root
            if tokens[first] not in node.after or not _may_end(text, start, start - 1):
                continue
            if found and start < found[-1].end:
                continue
            match: Edit | None = None
            for place in range(first, len(tokens)):  # ends at the longest entry at the latest
                if tokens[place] not in node.after:
                    break
                node, end = node.after[tokens[place]], borders[place + 1]
                entry = node.entry(text[start:end]) if node.said and _may_end(text, end, end) else None
                match = Edit(start, end, entry.said, entry.phonemes) if entry else match
            found += [match] if match else []
        return found


class _Node:
    """A node of the trie: the words that begin with the same tokens, in folded case."""

    __slots__ = ("after", "said")

    def __init__(self) -> None:
        self.after: dict[str, _Node] = {}
        self.said: dict[str, tuple[int, Entry]] = {}  # rank and entry of the word that ends here, by spelling; "": any

    def entry(self, stretch: str) -> Entry | None:
        spellings = {"", " ".join(stretch.split())} & self.said.keys()
        return max((self.said[spelling] for spelling in spellings), key=lambda said: said[0], default=(0, None))[1]


def _may_end(text: str, border: int, outside: int) -> bool:
    """Whether a match may have an end at this border: not within a word. `outside`: the character beyond it."""
    if not 0 <= outside < len(text):
        return True
    is_mark = unicodedata.category(text[outside])[0] == "M"
    if is_mark or text[outside].isalnum() or text[outside] == "_":
        cuts_letter = is_mark and outside == border
        return not cuts_letter and re.search(f"[{UNSPACED}]", text[border - 1 : border + 1]) is not None
    return outside < border or not _CONTRACTION.match(text, border)


def explained(entries: Iterable[Entry], lang: str, text: str) -> str:
    """A line for each place of the text that is not said as it is written, no newline at the end."""
    lines = [
        f"{' '.join(text[edit.start : edit.end].split())} -> {f'/{edit.said}/' if edit.phonemes else edit.said}"
        for edit in Lexicon(counting(entries, lang, text)).edits(text)
    ]
    return "\n".join(lines) or "no entry matches"


def checked_entry(word: str, said: str, lang: str = "", source: str = "user") -> Entry:
    """An entry, checked, its blanks made single. Raises UsageError."""
    for part in (word, said):
        if _NOT_ALLOWED.search(part):
            raise UsageError(f"{part[:48]!r} holds a control character or a line end", "leave it out")
        if len(part) > MAX_CHARACTERS:
            raise UsageError(f"{part[:48]!r}... is too long", f"at most {MAX_CHARACTERS} characters fit")
    word, said = " ".join(word.split()), " ".join(said.split())
    if not word or "=" in word or word[0] in "[#":
        raise UsageError(f"{word!r} cannot be a word of the lexicon", "give one without =, and no [ or # first")
    if not said:
        raise UsageError(f"nothing is said for {word!r}", "give words, or phonemes between slashes")
    phonemes = said[0] == "/" or said[-1] == "/"
    if phonemes:
        said, written = said[1:-1].strip(), said
        if written[0] != written[-1] or not said:
            raise UsageError(f"{written!r} is neither words nor phonemes", "put phonemes between slashes: /wˈɪn/")
        if wrong := said.strip(PHONEMES):
            symbol = wrong[0]
            remedy = f"write {_MEANT[symbol]} for it" if symbol in _MEANT else f"Kokoro's are {PHONEMES}"
            raise UsageError(f"{symbol!r} (U+{ord(symbol):04X}) in {written} is no phoneme", remedy)
        if not any(map(str.isalpha, said)) or not said.strip(_NO_SOUND):
            raise UsageError(f"{written} has no sound", "give phonemes with a vowel or consonant: /wˈɪn/")
    return Entry(word=word, said=said, phonemes=phonemes, lang=lang, source=source)


def _size(word: str, said: str) -> int:
    return len(word.encode()) + len(said.encode())
