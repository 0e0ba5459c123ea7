"""Pronunciations that stick: the user's file and a project's, what of them goes with a text, where they match in it.

    # comment
    Nguyen = /wˈɪn/
    sql = sequel
    [fr]
    kokoro = cocoro

Phonemes stand between slashes, anything else is spoken as if it were written there. A section counts for one language,
`[*]` for all again. A word in lower case counts in any case, one with a capital as it is written.

`say.py` imports this where there is such a file, so it imports nothing heavy; `edits` with its `typing` waits.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import re
import stat
import unicodedata

from kokoro_common.errors import UsageError
from kokoro_common.files import private_directory, write_private
from kokoro_common.record import Record
from kokoro_common.voices.catalogue import LANGUAGES, parse_language

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kokoro_common.text.edits import Edit

USER_FILE = "lexicon"  # in the configuration directory
PROJECT_FILE = ".kokoro-lexicon"  # in the working directory or the nearest one above that has one
MAX_FILE_BYTES = 1 << 20
MAX_BYTES = 65_536  # of UTF-8, words and what is said for them, with one utterance
MAX_CHARACTERS = 200  # of a word, and of what is said for it

# hexgrad/Kokoro-82M, config.json, the keys of "vocab" in the order of their ids, at the pinned revision.
PHONEMES = (
    ';:,.!?—…"()“” \u0303ʣʥʦʨᵝ\uab67AIOQSTWYᵊabcdefhijklmnopqrstuvwxyzɑɐɒæβɔɕçɖðʤəɚɛɜ'
    "ɟɡɥɨɪʝɯɰŋɳɲɴøɸθœɹɾɻʁɽʂʃʈʧʊʋʌɣɤχʎʒʔˈˌːʰʲ↓→↗↘ᵻ"
)
_MEANT = {"g": "ɡ", "'": "ˈ", "’": "ˈ"}  # what a keyboard has in place of a phoneme
_NOT_ALLOWED = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
# Scripts that put no blanks between words: Thai, Lao, Burmese, Khmer, kana, Han.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_TOKEN = rf"(?s)\s+|[^\W{_UNSPACED}]+|."  # compiled, which takes milliseconds, where texts are spoken
_RUN = re.compile(r"[a-z0-9_]+")
_CONTRACTION = re.compile(r"['’](?![sS]\b)\w")  # "won" is not in "won't", but "Nguyen" is in "Nguyen's"


class Entry(Record):
    word: str  # blanks single, none at either end
    said: str  # words, or phonemes without their slashes
    phonemes: bool
    lang: str = ""  # letter, a key of LANGUAGES; "": all of them
    source: str = "user"  # or "project": whose file it is from

    @property
    def written(self) -> str:
        """What is said as it stands in a file."""
        return f"/{self.said}/" if self.phonemes else self.said

    @property
    def in_any_case(self) -> bool:
        return self.word == self.word.lower()


def load(config_dir: str, working_directory: str) -> list[Entry]:
    """The user's entries, then those of the nearest project: of two that are equal the later one counts.

    A project's file may be anybody's: it is read, and says nothing but how words sound. Raises UsageError for a line
    that is no entry and a file that cannot be read; one that is not there has no entries.
    """
    paths = {"user": os.path.join(config_dir, USER_FILE), "project": _project_file(working_directory)}
    lines = (line for source, path in paths.items() for line in _parsed(_read(path), path, source))
    return [entry for _, _, entry in lines if entry is not None]


def wire(entries: Iterable[Entry], lang: str, text: str | None) -> list[list[str]]:
    """[word, said] of what counts for the language, a letter: later ones win. Phonemes are between slashes.

    With a text only the words that occur in it, in any case. Raises UsageError beyond MAX_BYTES.
    """
    folded = None if text is None else " ".join(text.casefold().split())
    runs = set(_RUN.findall(folded or ""))  # spares looking through the text for each word of a large lexicon
    counting = [entry for entry in entries if entry.lang in ("", lang)]
    counting.sort(key=lambda entry: (bool(entry.lang), entry.source == "project", not entry.in_any_case))
    pairs: dict[str, str] = {}
    for entry in counting:
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
    return [[word, said] for word, said in pairs.items()]


class Lexicon:
    """What `wire` made, to be found in texts. Raises ValueError for anything else: it comes over the network."""

    def __init__(self, pairs: Iterable[Sequence[str]]) -> None:
        self._root = _Node()
        size = 0
        for rank, pair in enumerate(pairs):
            if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
                raise ValueError("a pronunciation is a word and what is said for it")
            try:
                entry = _entry(*pair)
            except UsageError as error:
                raise ValueError(str(error)) from None
            if (entry.word, entry.written) != tuple(pair):
                raise ValueError("a pronunciation has blanks that are not single")
            if (size := size + _size(*pair)) > MAX_BYTES:
                raise ValueError(f"the pronunciations have more than {MAX_BYTES} bytes")
            node = self._root
            for token in re.findall(_TOKEN, entry.word):
                node = node.after.setdefault(token.casefold(), _Node())
            node.said["" if entry.in_any_case else entry.word] = (rank, entry)

    def edits(self, text: str) -> list[Edit]:
        """The longest matches, from left to right. Takes time in proportion to the text."""
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
            for place in range(first, len(tokens)):  # which ends with the longest entry
                if tokens[place] not in node.after:
                    break
                node, end = node.after[tokens[place]], borders[place + 1]
                entry = node.entry(text[start:end]) if node.said and _may_end(text, end, end) else None
                match = Edit(start, end, entry.said, entry.phonemes) if entry else match
            found += [match] if match else []
        return found


class _Node:
    """Words that begin alike, token by token, in folded case."""

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
        return not cuts_letter and re.search(f"[{_UNSPACED}]", text[border - 1 : border + 1]) is not None
    return outside < border or not _CONTRACTION.match(text, border)


def add(config_dir: str, word: str, said: str, lang: str = "") -> Entry:
    """Into the user's file: in the place of the same word of the same language, or behind the last one of the language.

    `lang` is a letter, a tag, or "" for all. Nothing else in the file changes. Blocks while another process writes it,
    which takes milliseconds. Raises UsageError.
    """
    entry = _entry(word, said, lang and parse_language(lang))
    _change(config_dir, entry.word, entry.lang, f"{entry.word} = {entry.written}")
    return entry


def remove(config_dir: str, word: str, lang: str = "") -> int:
    """Takes the word, spelled like this and of this language, out of the user's file. How many lines that were.

    Blocks and raises as `add` does.
    """
    there = os.path.lexists(os.path.join(config_dir, USER_FILE))
    return _change(config_dir, " ".join(word.split()), lang and parse_language(lang), None) if there else 0


def listing(entries: Iterable[Entry]) -> str:
    """A line per entry in the order of `load`, no newline at the end."""
    rows = [("WORD", "SAID", "LANGUAGE", "FROM")]
    rows += [(entry.word, entry.written, _tag(entry.lang), entry.source) for entry in entries]
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    padded = ([cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)] for row in rows)
    return "\n".join("  ".join(row).rstrip() for row in padded)


def explained(entries: Iterable[Entry], lang: str, text: str) -> str:
    """What of the text is not said as it is written, a line for each place, no newline at the end."""
    lines = [
        f"{' '.join(text[edit.start : edit.end].split())} -> {f'/{edit.said}/' if edit.phonemes else edit.said}"
        for edit in Lexicon(wire(entries, lang, text)).edits(text)
    ]
    return "\n".join(lines) or "no entry matches"


def _entry(word: str, said: str, lang: str = "", source: str = "user") -> Entry:
    """Checked, blanks made single. Raises UsageError."""
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
    return Entry(word=word, said=said, phonemes=phonemes, lang=lang, source=source)


def _size(word: str, said: str) -> int:
    return len(word.encode()) + len(said.encode())


def _tag(lang: str) -> str:
    return LANGUAGES[lang][1][0] if lang else "*"


def _width(text: str) -> int:
    """Columns of a terminal."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(unicodedata.combining(character) > 0 for character in text)


# --- Files -----------------------------------------------------------------------------------------------------------


def _project_file(directory: str) -> str:
    """The nearest one; where there is none, the path that it would have at the root."""
    directory = os.path.abspath(directory)
    while not os.path.lexists(path := os.path.join(directory, PROJECT_FILE)):
        if directory == os.path.dirname(directory):
            break
        directory = os.path.dirname(directory)
    return path


def _read(path: str) -> str:
    """A whole file; "" where there is none. Raises UsageError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe that nobody writes must not hold us
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise UsageError(f"{path} is no regular file", "remove or rename it")
            data = os.read(fd, MAX_FILE_BYTES + 1)
        finally:
            os.close(fd)
        if len(data) > MAX_FILE_BYTES:
            raise UsageError(f"{path} has more than {MAX_FILE_BYTES} bytes", "shorten it")
        return data.decode("utf-8-sig")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path}, line {line}: this is not UTF-8", "save it as UTF-8") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", "mend, remove or rename it") from error


def _parsed(text: str, path: str, source: str) -> list[tuple[str, str, Entry | None]]:
    """Each line, the language that counts there, and its entry if it is one. Raises UsageError with its number."""
    parsed: list[tuple[str, str, Entry | None]] = []
    lang = ""
    for number, raw in enumerate(text.removesuffix("\n").split("\n") if text else (), 1):
        line = raw.strip()
        entry = None
        try:
            if line.startswith("[") and line.endswith("]"):
                tag = line[1:-1].strip()
                lang = "" if tag == "*" else parse_language(tag)
            elif line and not line.startswith("#"):
                word, equals, said = line.partition("=")
                if not equals:
                    raise UsageError(
                        f"{line[:48]!r} is no entry", "write WORD = WORDS, WORD = /PHONEMES/ or [LANGUAGE]"
                    )
                entry = _entry(word.strip(), said.strip(), lang, source)
        except UsageError as error:
            raise UsageError(f"{path}, line {number}: {error.problem}", error.remedy) from None
        parsed.append((raw.removesuffix("\r"), lang, entry))
    return parsed


def _change(config_dir: str, word: str, lang: str, new: str | None) -> int:
    """Rewrites the user's file, with `new` in the line of the word or without it. How many lines had the word."""
    path = os.path.join(config_dir, USER_FILE)
    try:
        private_directory(config_dir)
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            text = _read(path)
            parsed = _parsed(text, path, "user")
            lines = [line for line, _, _ in parsed]
            same = [n for n, (_, _, entry) in enumerate(parsed) if entry and (entry.word, entry.lang) == (word, lang)]
            if new is None:
                lines = [line for n, line in enumerate(lines) if n not in same]
            elif same:
                lines[same[-1]] = new  # the one that counts
            else:
                _insert(lines, parsed, lang, new)
            end = "\r\n" if "\r\n" in text else "\n"
            if new is not None or same:
                _replace(os.path.realpath(path), "".join(line + end for line in lines).encode())
            return len(same)
        finally:
            os.close(lock)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}", "make room there or mend its mode") from error


def _insert(lines: list[str], parsed: list[tuple[str, str, Entry | None]], lang: str, new: str) -> None:
    """Behind the last entry or heading of the language, or at the end."""
    places = [n for n, (line, at, entry) in enumerate(parsed) if at == lang and (entry or line.strip()[:1] == "[")]
    if places:
        lines.insert(places[-1] + 1, new)
    else:
        ends_with = parsed[-1][1] if parsed else ""
        lines += [new] if ends_with == lang else [f"[{_tag(lang)}]", new]


def _replace(path: str, data: bytes) -> None:
    if len(data) > MAX_FILE_BYTES:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    write_private(path, data)
