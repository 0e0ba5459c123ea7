"""The files of the lexicon, the user's and a project's: read, listed and changed.

    # comment
    Nguyen = /wˈɪn/
    sql = sequel
    [fr]
    kokoro = cocoro

Phonemes stand between slashes, anything else is spoken as if it were written there. A section counts for one language,
`[*]` for all again. A word in lower case counts in any case, one with a capital as it is written.

The client imports this module where there is such a file, so it imports nothing heavy.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from kokoro_common.errors import UsageError, shown
from kokoro_common.files import private_directory, working_directory, write_private
from kokoro_common.text.lexicon import Entry, checked_entry, counting
from kokoro_common.text.marks import columns
from kokoro_common.text.speech import Pronunciation
from kokoro_common.voices.catalogue import LANGUAGES, parse_language

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

USER_FILE = "lexicon"  # in the configuration directory
PROJECT_FILE = ".kokoro-lexicon"  # in the working directory or the nearest one above that has one
MAX_FILE_BYTES = 1 << 20


def load(config_dir: str, working_directory: str) -> list[Entry]:
    """The user's entries, then those of the nearest project; of two entries for a word the later one counts.

    A project's file may belong to anybody: all it can change is how words sound. A missing file has no entries. Raises
    UsageError for a line that is no entry and for a file that cannot be read.
    """
    paths = {"user": os.path.join(config_dir, USER_FILE), "project": _project_file(working_directory)}
    lines = (line for source, path in paths.items() for line in _parsed(_file_text(path), path, source))
    return [entry for _, _, entry in lines if entry is not None]


def pronunciations(
    config_dir: str, lang: str, text: str | None, given: Mapping[str, str] | None = None
) -> tuple[Pronunciation, ...]:
    """The entries for this language that occur in the text, all of them if it is None, to be sent with it.

    `given`: words, and what is said for each, that count above those of the files. Raises UsageError.
    """
    entries = load(config_dir, working_directory())
    entries += [checked_entry(word, said, lang, "project") for word, said in (given or {}).items()]  # the last counts
    return counting(entries, lang, text)


def add(config_dir: str, word: str, said: str, lang: str = "") -> Entry:
    """Writes an entry into the user's file: over the one for the same word and language, or after the language's last.

    `lang` is a letter, a tag, or "" for all. Nothing else in the file changes. Blocks while another process writes it,
    which takes milliseconds. Raises UsageError.
    """
    entry = checked_entry(word, said, lang and parse_language(lang))
    _change(config_dir, entry.word, entry.lang, f"{entry.word} = {entry.written}")
    return entry


def remove(config_dir: str, word: str, lang: str = "") -> int:
    """Takes the word, in this spelling and for this language, out of the user's file; returns how many lines had it.

    Blocks and raises as `add` does.
    """
    there = os.path.lexists(os.path.join(config_dir, USER_FILE))
    return _change(config_dir, " ".join(word.split()), lang and parse_language(lang), None) if there else 0


def listing(entries: Iterable[Entry]) -> str:
    """A line per entry in the order of `load`, no newline at the end."""
    rows = [("WORD", "SAID", "LANGUAGE", "FROM")]
    rows += [(entry.word, entry.written, _tag(entry.lang), shown(entry.source)) for entry in entries]
    widths = [max(map(columns, column)) for column in zip(*rows, strict=True)]
    padded = ([cell + " " * (width - columns(cell)) for cell, width in zip(row, widths, strict=True)] for row in rows)
    return "\n".join("  ".join(row).rstrip() for row in padded)


def _tag(lang: str) -> str:
    return LANGUAGES[lang][1][0] if lang else "*"


def _project_file(directory: str) -> str:
    """Path of the nearest project's file; if there is none, the path that it would have at the root."""
    directory = os.path.abspath(directory)
    while not os.path.lexists(path := os.path.join(directory, PROJECT_FILE)):
        if directory == os.path.dirname(directory):
            break
        directory = os.path.dirname(directory)
    return path


def _file_text(path: str) -> str:
    """The text of a file, "" if it is missing. Raises UsageError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # O_NONBLOCK: opening a FIFO must not block
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
    """Each line, its section's language, and its entry if it has one. Raises UsageError with the line's number."""
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
                entry = checked_entry(word.strip(), said.strip(), lang, source)
        except UsageError as error:
            raise UsageError(f"{path}, line {number}: {error.problem}", error.remedy) from None
        parsed.append((raw.removesuffix("\r"), lang, entry))
    return parsed


def _change(config_dir: str, word: str, lang: str, new: str | None) -> int:
    """Rewrites the user's file with `new`, or nothing, for the word; returns how many lines had the word."""
    path = os.path.join(config_dir, USER_FILE)
    try:
        private_directory(config_dir)
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            text = _file_text(path)
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
    """Puts a new line after the last entry or heading of the language, or at the end."""
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
