"""The lexicon's files: what a line means, which files are read, and that no change to a file loses an entry."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kokoro_common.errors import UsageError
from kokoro_common.text import lexicon_file
from kokoro_common.text.lexicon import Entry, counting
from kokoro_common.text.lexicon_file import MAX_FILE_BYTES, PROJECT_FILE, USER_FILE, add, listing, remove

ROOT = Path(__file__).parent.parent.parent


def load(config_dir: str, working_directory: str) -> list[Entry]:
    """As --lex loads it, where there is nothing to tell."""
    told: list[str] = []
    entries = lexicon_file.load(config_dir, working_directory, told.append)
    assert told == []
    return entries


def spoken_with(config_dir: Path, working_directory: Path) -> tuple[dict[str, str], list[str]]:
    """Words and what is said for them, as a text is spoken with them; and what the user is told."""
    told: list[str] = []
    entries = lexicon_file.load(str(config_dir), str(working_directory), told.append, strict=False)
    return {each.word: each.said for each in counting(entries, "a", None)}, told


def written(directory: Path, text: str, name: str = USER_FILE) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_bytes(text.encode())
    return directory


def loaded(directory: Path, text: str) -> list[Entry]:
    """The user's entries of a file with this text, where no project has one."""
    return load(str(written(directory / "config", text)), str(directory))


# --- Reading ---------------------------------------------------------------------------------------------------------


def test_a_file_gives_words_phonemes_and_languages(tmp_path: Path) -> None:
    text = "# mine\n\nNguyen = /wˈɪn/\nSQL\t=  sequel\n[fr]\nkokoro = cocoro\n"
    text += "[ EN_us ]\nNew   York = a = b\n[*]\nC# = C sharp"
    assert loaded(tmp_path, text) == [
        Entry(word="Nguyen", said="wˈɪn", phonemes=True),
        Entry(word="SQL", said="sequel", phonemes=False),
        Entry(word="kokoro", said="cocoro", phonemes=False, lang="f"),
        Entry(word="New York", said="a = b", phonemes=False, lang="a"),
        Entry(word="C#", said="C sharp", phonemes=False),
    ]


@pytest.mark.parametrize(
    "text", ["\ufeffa = b\n", "a = b\r\n", "a = b", "\r\n\r\n  a = b  \r\n# c = d\r\n", "#\n[fr]\n[*]\na=b"]
)
def test_a_file_of_any_editor_reads_the_same(tmp_path: Path, text: str) -> None:
    assert loaded(tmp_path, text) == [Entry(word="a", said="b", phonemes=False)]


@pytest.mark.parametrize("text", ["", "\n", "\ufeff", "# only this", "[fr]\n[es]\n[*]\n"])
def test_a_file_may_have_no_entries(tmp_path: Path, text: str) -> None:
    assert loaded(tmp_path, text) == []


def test_files_that_are_missing_have_no_entries(tmp_path: Path) -> None:
    assert load(str(tmp_path / "none"), str(tmp_path / "nor" / "this")) == []


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("Nguyen", "'Nguyen' is no entry; write WORD = "),
        ("= said", "'' cannot be a word"),
        ("word =", "nothing is said for 'word'"),
        ("[de]", "unknown language 'de'; choose one of en-us"),
        ("[]", "unknown language ''"),
        ("[fr", "'[fr' is no entry"),
        ("[fr] # French", "'[fr] # French' is no entry"),
        ("[sic] = sick", "cannot be a word"),
        ("word = /", "neither words nor phonemes"),
        ("word = //", "neither words nor phonemes"),
        ("word = /wˈɪn", "neither words nor phonemes"),
        ("word = /wˈɪŋg/", "'g' (U+0067) in /wˈɪŋg/ is no phoneme; write ɡ for it"),
        ("word = /w'ɪn/", "write ˈ for it"),
        ("word = /ˈ/", "/ˈ/ has no sound; give phonemes"),
        ("word = /…ː/", "has no sound"),
        ("word = /ẅ/", "(U+1E85) in /ẅ/ is no phoneme; Kokoro's are ;:"),
        ("word = bell\a", "control character"),
        ("wo\rrd = x", "control character"),
        ("a" * 201 + " = x", "too long"),
    ],
)
def test_a_malformed_line_is_named_with_its_remedy(tmp_path: Path, line: str, problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        loaded(tmp_path, f"# one\r\ntwo = three\r\n{line}\r\n")
    assert str(caught.value).startswith(f"{tmp_path}/config/lexicon, line 3: ")
    assert problem in str(caught.value)
    assert caught.value.remedy


def test_a_line_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (written(tmp_path, "") / USER_FILE).write_bytes(b"a = b\n\xe9 = c\n")
    with pytest.raises(UsageError, match="line 2: this is not UTF-8; save it"):
        load(str(tmp_path), str(tmp_path))


@pytest.mark.parametrize("kind", ["directory", "pipe", "large"])
@pytest.mark.parametrize("name", [USER_FILE, PROJECT_FILE])
def test_a_file_that_cannot_be_read_blocks_nothing(tmp_path: Path, name: str, kind: str) -> None:
    if kind == "directory":
        (tmp_path / name).mkdir()
    elif kind == "pipe":
        os.mkfifo(tmp_path / name)
    else:
        (tmp_path / name).write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    said, (told,) = spoken_with(tmp_path, tmp_path)
    assert said == {} and str(tmp_path / name) in told and "; " in told
    assert ("more than 1048576 bytes" if kind == "large" else "no regular file") in told
    if name == USER_FILE:
        with pytest.raises(UsageError, match="more than 1048576 bytes" if kind == "large" else "no regular file"):
            load(str(tmp_path), str(tmp_path))


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_file_that_is_forbidden_is_an_error(tmp_path: Path) -> None:
    (written(tmp_path, "a = b") / USER_FILE).chmod(0)
    with pytest.raises(UsageError, match="cannot be read: Permission denied"):
        load(str(tmp_path), str(tmp_path))


def test_the_nearest_project_alone_counts_and_wins_over_the_user(tmp_path: Path) -> None:
    written(tmp_path / "config", "a = user\nb = user")
    written(tmp_path / "far", "b = far", PROJECT_FILE)
    written(tmp_path / "far" / "near", "a = near", PROJECT_FILE)
    (tmp_path / "far" / "near" / "deep" / "er").mkdir(parents=True)
    entries = load(str(tmp_path / "config"), str(tmp_path / "far" / "near" / "deep" / "er"))
    assert [entry.source for entry in entries] == ["user", "user", "project"]
    assert [(each.word, each.said) for each in counting(entries, "a", None)] == [("b", "user"), ("a", "near")]
    (far,) = counting(load(str(tmp_path / "config"), str(tmp_path / "far")), "a", "b")
    assert (far.word, far.said) == ("b", "far")


@pytest.mark.parametrize("name", [USER_FILE, PROJECT_FILE])
def test_what_is_wrong_in_a_file_stops_no_speech(tmp_path: Path, name: str) -> None:
    text = "one = 1\nsecret stuff\n[klingon]\ntwo = 2\n[*]\nthree = /x#/\nfour = 4\n"
    said, (told,) = spoken_with(tmp_path, written(tmp_path, text, name))
    assert said == {"one": "1", "four": "4"}  # two is not for all languages
    assert told.startswith(f"{tmp_path / name}, line 2: ") and "(3 lines are left out)" in told
    assert ("secret" in told) == (name == USER_FILE)  # a project's may be a link to anything


def test_bytes_that_are_no_text_stop_no_speech(tmp_path: Path) -> None:
    (tmp_path / PROJECT_FILE).write_bytes(os.urandom(1000) + b"\xff")
    said, told = spoken_with(tmp_path / "none", tmp_path)
    assert said == {} and len(told) == 1 and "UTF-8" in told[0]


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_project_file_that_others_may_write_is_passed_over(tmp_path: Path, mode: int) -> None:
    near = written(tmp_path / "near", "a = theirs", PROJECT_FILE)
    written(tmp_path, "a = mine", PROJECT_FILE)
    (near / PROJECT_FILE).chmod(mode)
    said, (told,) = spoken_with(tmp_path / "none", near)
    assert said == {"a": "mine"}  # the nearest that counts
    assert told == f"{near / PROJECT_FILE} is passed over: others may write it; run chmod go-w {near / PROJECT_FILE}"


def test_a_link_of_ours_is_followed(tmp_path: Path) -> None:
    target = written(tmp_path / "dotfiles", "a = b", "shared") / "shared"
    (tmp_path / PROJECT_FILE).symlink_to(target)
    assert spoken_with(tmp_path / "none", tmp_path) == ({"a": "b"}, [])
    tmp_path.chmod(0o777)  # now anybody may have put it there
    said, (told,) = spoken_with(tmp_path / "none", tmp_path)
    assert said == {} and "link" in told


# --- Changes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "lang", "after"),
    [
        ("", "", "SQL = new\n"),
        ("", "fr", "[fr]\nSQL = new\n"),
        ("# c\nSQL = old\n\nz = y", "", "# c\nSQL = new\n\nz = y\n"),
        ("  SQL=old\nsql = old\n", "", "SQL = new\nsql = old\n"),
        ("SQL = 1\nSQL = 2\n", "", "SQL = 1\nSQL = new\n"),
        ("a = b\n\n# French\n[fr]\nSQL = old\n", "", "a = b\nSQL = new\n\n# French\n[fr]\nSQL = old\n"),
        ("SQL = b\n[fr]\nc = d\n\n[es]\ne = f\n", "f", "SQL = b\n[fr]\nc = d\nSQL = new\n\n[es]\ne = f\n"),
        ("[fr]\n", "FR_fr", "[fr]\nSQL = new\n"),
        ("[fr]\na = b\n", "", "[fr]\na = b\n[*]\nSQL = new\n"),
        ("# only this\n", "", "# only this\nSQL = new\n"),
        ("# c\r\na = b\r\n", "", "# c\r\na = b\r\nSQL = new\r\n"),
        ("\ufeffSQL = old\n", "", "SQL = new\n"),
    ],
)
def test_add_changes_one_line(tmp_path: Path, before: str, lang: str, after: str) -> None:
    written(tmp_path, before)
    add(str(tmp_path), "SQL", "new", lang)
    assert (tmp_path / USER_FILE).read_bytes().decode() == after


def test_what_was_added_is_what_is_loaded(tmp_path: Path) -> None:
    config = str(tmp_path / "config")
    added = [
        add(config, "Nguyen", "/wˈɪn/"),
        add(config, " New  York", "new  pork ", "en"),
        add(config, "東京", "tokyo"),
    ]
    assert sorted(map(repr, load(config, str(tmp_path)))) == sorted(map(repr, added))
    assert added[1] == Entry(word="New York", said="new pork", phonemes=False, lang="a")


@pytest.mark.parametrize(
    ("word", "lang", "count", "after"),
    [
        ("SQL", "", 2, "# c\nsql = 3\n[fr]\nSQL = 4\n"),
        ("SQL", "fr", 1, "# c\nSQL = 1\nsql = 3\nSQL = 2\n[fr]\n"),
        ("Sql", "", 0, "# c\nSQL = 1\nsql = 3\nSQL = 2\n[fr]\nSQL = 4\n"),
    ],
)
def test_remove_takes_the_word_of_that_language_alone(
    tmp_path: Path, word: str, lang: str, count: int, after: str
) -> None:
    written(tmp_path, "# c\nSQL = 1\nsql = 3\nSQL = 2\n[fr]\nSQL = 4\n")
    assert remove(str(tmp_path), word, lang) == count
    assert (tmp_path / USER_FILE).read_text() == after


def test_remove_makes_nothing_where_nothing_is(tmp_path: Path) -> None:
    assert remove(str(tmp_path / "config"), "SQL") == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("umask", [0o000, 0o777], ids=oct)
def test_files_and_directory_are_the_owners_alone(tmp_path: Path, umask: int) -> None:
    previous = os.umask(umask)
    try:
        add(str(tmp_path / "config"), "SQL", "sequel")
    finally:
        os.umask(previous)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "config").iterdir()}
    assert modes[USER_FILE] == 0o600
    assert modes.keys() == {USER_FILE, f"{USER_FILE}.lock"}
    assert not any(mode & 0o077 for mode in modes.values())
    assert (tmp_path / "config").stat().st_mode & 0o777 == 0o700


def test_a_link_to_the_file_stays_a_link(tmp_path: Path) -> None:
    target = written(tmp_path / "dotfiles", "a = b\n") / USER_FILE
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / USER_FILE).symlink_to(target)
    add(str(tmp_path / "config"), "c", "d")
    assert (tmp_path / "config" / USER_FILE).is_symlink()
    assert target.read_text() == "a = b\nc = d\n"


@pytest.mark.parametrize(
    ("word", "spoken", "lang", "problem"),
    [
        ("", "x", "", "cannot be a word"),
        ("a=b", "x", "", "cannot be a word"),
        ("[a", "x", "", "cannot be a word"),
        ("#a", "x", "", "cannot be a word"),
        ("a\nb", "x", "", "line end"),
        ("a", " ", "", "nothing is said"),
        ("a", "x\ny", "", "line end"),
        ("a", "/x#/", "", "'#'"),
        ("a", "\udce9", "", "control character"),
        ("a", "x", "de", "unknown language"),
    ],
)
def test_add_refuses_what_could_not_be_read_back(
    tmp_path: Path, word: str, spoken: str, lang: str, problem: str
) -> None:
    with pytest.raises(UsageError, match=problem):
        add(str(tmp_path / "config"), word, spoken, lang)
    assert list(tmp_path.iterdir()) == []


def test_a_malformed_or_full_file_is_left_as_it_is(tmp_path: Path) -> None:
    for text, problem in (("odd\n", "line 1"), ("#" * MAX_FILE_BYTES, "File too large")):
        written(tmp_path, text)
        with pytest.raises(UsageError, match=problem):
            add(str(tmp_path), "a", "b")
        assert (tmp_path / USER_FILE).read_text() == text
    assert {path.name for path in tmp_path.iterdir()} == {USER_FILE, f"{USER_FILE}.lock"}


def test_a_directory_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("")
    with pytest.raises(UsageError, match=r"cannot be written: .*; make room"):
        add(str(tmp_path / "config" / "deeper"), "a", "b")


def test_processes_that_add_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    script = (
        "import sys; from kokoro_common.text.lexicon_file import add; print(flush=True); sys.stdin.readline()\n"
        "for number in range(25): add(sys.argv[1], f'w{sys.argv[2]}x{number}', 'said')"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / "config"), str(which)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for which in range(4)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()  # all are ready
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(b"\n")
            process.stdin.flush()
        for process in processes:
            process.communicate(timeout=30)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert [process.returncode for process in processes] == [0] * 4
    words = {entry.word for entry in load(str(tmp_path / "config"), str(tmp_path))}
    assert words == {f"w{which}x{number}" for which in range(4) for number in range(25)}


# --- For the eye, and the client -------------------------------------------------------------------------------------


def test_a_listing_is_aligned_and_has_no_trailing_blanks() -> None:
    entries = [
        Entry(word="Nguyen", said="wˈɪn", phonemes=True),
        Entry(word="東京", said="bɔ̃", phonemes=True, lang="f", source="project"),
    ]
    assert listing(entries).splitlines() == [
        "WORD    SAID    LANGUAGE  FROM",
        "Nguyen  /wˈɪn/  *         user",
        "東京    /bɔ̃/    fr        project",
    ]
    assert listing([]) == "WORD  SAID  LANGUAGE  FROM"


def test_the_command_may_import_it() -> None:
    script = (
        "import sys; from kokoro_common.text import lexicon, lexicon_file\n"
        "lexicon.counting(lexicon_file.load('/none', '/', print), 'a', 'x'); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-S", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"typing", "json", "pathlib", "dataclasses", "contextlib", "numpy", "msgspec"} & set(done.stdout.split())
