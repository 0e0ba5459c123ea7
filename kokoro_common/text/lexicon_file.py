"""The files of the lexicon, the user's and a project's: read, listed and changed.

    # comment
    Nguyen = /wˈɪn/
    sql = sequel
    [fr]
    kokoro = cocoro

Phonemes stand between slashes, anything else is spoken as if it were written there. A section counts for one language,
`[*]` for all again. A word in lower case counts in any case, one with a capital as it is written.

A text is spoken whatever stands in these files; the verbs of --lex refuse a user's file that is not in order.

The client imports this module where there is such a file, so it imports nothing heavy.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from kokoro_common.errors import UsageError, shown
from kokoro_common.files import is_trusted, private_directory, working_directory, write_private
from kokoro_common.text.lexicon import Entry, checked_entry, counting
from kokoro_common.text.marks import columns
from kokoro_common.text.speech import Pronunciation
from kokoro_common.voices.catalogue import LANGUAGES, parse_language

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

USER_FILE = "lexicon"  # in the configuration directory
PROJECT_FILE = ".kokoro-lexicon"  # in the working directory or the nearest one above that has one
MAX_FILE_BYTES = 1 << 20


def load(config_dir: str, working_directory: str, tell: Callable[[str], object], *, strict: bool = True) -> list[Entry]:
    """The user's entries, then those of the nearest project; of two entries for a word the later one counts.

    Nobody has asked for the project's file: one that another user could have written is passed over, and what cannot be
    read of one is left out; `tell` gets one line about that. So it does about the user's file unless `strict`: then
    UsageError is raised for a line that is no entry and for a file that cannot be read. A missing file has no entries.
    """
    entries: list[Entry] = []
    path = os.path.join(config_dir, USER_FILE)
    if strict:
        entries += (entry for _, _, entry in _parsed(_file_text(path), path, "user") if entry is not None)
    else:
        entries += _what_can_be_read(path, "user", tell)
    if path := _project_file(working_directory, tell):
        entries += _what_can_be_read(path, "project", tell)
    return entries


def pronunciations(
    config_dir: str,
    lang: str,
    text: str | None,
    tell: Callable[[str], object],
    given: Mapping[str, str] | None = None,
) -> tuple[Pronunciation, ...]:
    """The entries for this language that occur in the text, all of them if it is None, to be sent with it.

    `given`: words, and what is said for each, that count above those of the files; UsageError is raised for a wrong
    one. What is wrong with a file stops no speech: `tell` gets a line about it.
    """
    entries = load(config_dir, working_directory(), tell, strict=False)
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


def _project_file(directory: str, tell: Callable[[str], object]) -> str:
    """Path of the nearest project's file that nobody else could have written; "" if there is none."""
    told = False
    for path in _upwards(os.path.abspath(directory)):
        try:
            problem = _foreign(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            problem = f"it cannot be read: {error.strerror}; remove it or mend its mode"
        if not problem:
            return path
        if not told:
            tell(f"{path} is passed over: {problem}")
            told = True
    return ""


def _upwards(directory: str) -> Iterator[str]:
    while True:
        yield os.path.join(directory, PROJECT_FILE)
        if directory == os.path.dirname(directory):
            return
        directory = os.path.dirname(directory)


def _foreign(path: str) -> str:
    """Why a file may be another user's, with a remedy; "" if it is ours or root's. Raises OSError.

    Any user can put a file into /tmp, above the working directory of many, or a link to a file of ours.
    """
    status = os.lstat(path)
    if stat.S_ISLNK(status.st_mode):
        directory = os.stat(os.path.dirname(path))
        exchanged = directory.st_mode & 0o022 and not directory.st_mode & stat.S_ISVTX
        if not (is_trusted(status.st_uid) and is_trusted(directory.st_uid)) or exchanged:
            return "it is a link that another user may have made; remove it"
        status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        return "it is no regular file; remove or rename it"
    if not is_trusted(status.st_uid):
        return "it belongs to another user; copy it to a file of your own"
    if status.st_mode & 0o022:
        return f"others may write it; run chmod go-w {path}"
    return ""


def _what_can_be_read(path: str, source: str, tell: Callable[[str], object]) -> list[Entry]:
    """The entries of a file; one line about the first problem. What else stands in it is not repeated."""
    problems: list[UsageError] = []
    try:
        text = _file_text(path, ours=source == "project")
    except UsageError as error:
        tell(error.line)
        return []
    entries = [entry for _, _, entry in _parsed(text, path, source, problems) if entry is not None]
    if problems:
        more = f" ({len(problems)} lines are left out)" if len(problems) > 1 else " (the line is left out)"
        first = problems[0].line if source == "user" else problems[0].problem.partition(": ")[0] + ": this is no entry"
        tell(first + more)
    return entries


def _file_text(path: str, *, ours: bool = False) -> str:
    """The text of a file, "" if it is missing. Raises UsageError; if it has to be `ours`, for another user's, too."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # O_NONBLOCK: opening a FIFO must not block
        try:
            status = os.fstat(fd)
            if ours and (not is_trusted(status.st_uid) or status.st_mode & 0o022):  # exchanged since it was looked at
                raise UsageError(f"{path} belongs to another user", "remove it")
            if not stat.S_ISREG(status.st_mode):
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


def _parsed(
    text: str, path: str, source: str, problems: list[UsageError] | None = None
) -> list[tuple[str, str, Entry | None]]:
    """Each line, its section's language, and its entry if it has one.

    Raises UsageError with the line's number, or adds it to `problems`. What follows a heading that cannot be read has
    no entries until the next heading: in another language they would be wrong.
    """
    parsed: list[tuple[str, str, Entry | None]] = []
    lang = ""
    skipping = False
    for number, raw in enumerate(text.removesuffix("\n").split("\n") if text else (), 1):
        line = raw.strip()
        entry = None
        try:
            if line.startswith("[") and line.endswith("]"):
                skipping = True
                tag = line[1:-1].strip()
                lang = "" if tag == "*" else parse_language(tag)
                skipping = False
            elif line and not skipping and not line.startswith("#"):
                word, equals, said = line.partition("=")
                if not equals:
                    raise UsageError(
                        f"{line[:48]!r} is no entry", "write WORD = WORDS, WORD = /PHONEMES/ or [LANGUAGE]"
                    )
                entry = checked_entry(word.strip(), said.strip(), lang, source)
        except UsageError as error:
            problem = UsageError(f"{path}, line {number}: {error.problem}", error.remedy)
            if problems is None:
                raise problem from None
            problems.append(problem)
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
