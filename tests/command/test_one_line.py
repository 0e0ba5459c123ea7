"""Whatever a name, a title or a tag holds, what the user is told about it is one clean, short line."""

from __future__ import annotations

import contextlib
import io
import signal
import subprocess
import unicodedata
from typing import TYPE_CHECKING
from xml.sax.saxutils import quoteattr

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kokoro_common.client.text_source import TextSource
from kokoro_common.command import main
from kokoro_common.command.arguments import note
from kokoro_common.command.follower import Follower
from kokoro_common.command.progress import Messenger
from kokoro_common.command.status import readable
from kokoro_common.errors import KokoroError, UsageError, shell_word
from kokoro_common.text import lexicon, lexicon_file
from kokoro_common.wire.messages import Explained, Notice, ServerState
from kokoro_common.wire.reports import StatusReport, UtteranceReport
from tests.speaking.test_turn import Course

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LONGEST = 1200  # characters of a line, its remedy included
SIGNS = "\n\r\0\b\t\\'\u202e\u2066\ufeff\x7f\udc9b\ud800\x85\u2028\U000e0041é語=- "
SIGNS = [*SIGNS, "\x1b[31m", "\x1b]0;t\x07", "\x9b2J", "\nsay.py: all files were deleted"]
HOSTILE = st.lists(st.sampled_from(SIGNS) | st.text(max_size=3), max_size=8).map("".join) | st.sampled_from(
    ["x" * 3000, "\x1b" * 3000, "\n" * 3000]
)


def on_stderr(act: Callable[[], object]) -> str:
    with contextlib.redirect_stderr(io.StringIO()) as caught:
        act()
    return caught.getvalue()


def on_stdout(act: Callable[[], object]) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as caught:
        act()
    return caught.getvalue()


def dirt(line: str) -> list[str]:
    """What has no business on a terminal; the joiners of emoji and of Persian words have."""
    return [
        f"U+{ord(sign):04X}"
        for sign in line
        if unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Zl", "Zp") and sign not in "\u200c\u200d"
    ]


def assert_clean(line: str, longest: int = LONGEST) -> None:
    assert dirt(line) == [], line
    assert len(line) <= longest


def raised(arguments: list[str]) -> str:
    return on_stderr(lambda: main.main(arguments))


DOORS: dict[str, Callable[[str], str]] = {
    "an error's problem": lambda text: str(UsageError(f"cannot read {text}: no", "check it")),
    "an error's remedy": lambda text: str(KokoroError("no", f"see {text[:400]}")),
    "a note": lambda text: on_stderr(lambda: note(text, quiet=False)).removesuffix("\n"),
    "a server's notice": lambda text: on_stderr(
        lambda: Messenger(quiet=False).hear(Notice(utterance="", text=text))
    ).removesuffix("\n"),
    "a server's state": lambda text: on_stderr(
        lambda: Messenger(quiet=False).hear(ServerState(state="downloading", detail=text, fraction=0.5))
    ).removesuffix("\n"),
    "an unexpected error": lambda text: on_stderr(
        lambda: main._report(ValueError(text), traceback=False)
    ).removesuffix("\n"),
    "-f": lambda text: raised(["-f", f"/nowhere/{text}.epub"]).removesuffix("\n"),
    "-v": lambda text: raised(["-v", f"?x{text}", "x"]).removesuffix("\n"),
    "-o": lambda text: raised(["-o", f"/nowhere/{text}.wav", "x"]).removesuffix("\n"),
    "--cast": lambda text: raised(["--cast", text.replace("=", ""), "x"]).removesuffix("\n"),
    "-s": lambda text: raised(["-s", f"s{text}", "x"]).removesuffix("\n"),
    "--emoji": lambda text: raised([f"--emoji=z{text}", "x"]).removesuffix("\n"),
    "an unknown flag": lambda text: raised([f"--x{text}".replace(" ", "_"), "x"]).removesuffix("\n"),
}  # fmt: skip


@pytest.fixture
def own_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    monkeypatch.setenv("KOKORO_OFFLINE", "1")
    for name in ("RUNTIME", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"KOKORO_{name}_DIR", str(tmp_path / name.lower()))
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("door", DOORS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=HOSTILE)
@example(text="x" * 3000)
@example(text="1\nsay.py: all files were deleted")
def test_what_is_told_is_one_clean_short_line(own_directories: None, door: str, text: str) -> None:
    line = DOORS[door](text)
    assert line, "nothing was told, so this shows nothing"
    assert_clean(line)


@settings(max_examples=60, deadline=None)
@given(text=HOSTILE)
def test_reports_have_as_many_lines_as_entries(text: str) -> None:
    spoken = UtteranceReport(utterance="a", voice=text, state="speaking", client=text, age_s=1.0, seconds=1.0)
    lines = readable(StatusReport(utterances=(spoken, spoken))).split("\n")
    assert len(lines) == 3
    entries = [
        lexicon.Entry(word="SQL", said="sequel", phonemes=False, source=text),
        lexicon.Entry(word="a", said="b", phonemes=False),
    ]
    listed = lexicon_file.listing(entries).split("\n")
    assert len(listed) == 3
    explained = on_stdout(
        lambda: Messenger(quiet=True).hear(Explained(utterance="", index=0, text=text, phonemes=text))
    )
    assert len(explained.split("\n")) == (3 if text else 2)
    for line in (*lines, *listed, *explained.removesuffix("\n").split("\n")):
        assert dirt(line) == []


@settings(max_examples=60, deadline=None)
@given(text=HOSTILE.filter(lambda text: not any("\ud800" <= sign <= "\udfff" for sign in text)))
def test_a_followed_word_does_not_move_the_cursor(text: str) -> None:
    source = TextSource(text)
    follower = Follower(source)
    while source.read() is not None:
        pass
    shown_text = on_stdout(lambda: (follower.show(0, len(text)), follower.end(complete=True)))
    assert dirt(shown_text.replace("\n", "")) == []


@settings(max_examples=100, deadline=None)
@given(value=HOSTILE)
@example(value="1\nsay.py: all files were deleted")
@example(value="x" * 3000)
def test_a_notice_about_markup_is_clean_when_it_leaves_the_server(value: str) -> None:
    """Programs that use the library get it, too."""
    written = "".join(
        sign for sign in value[:700] if sign in "\t\n\r" or (sign >= " " and not "\ud800" <= sign <= "\udfff")
    )
    course = Course()
    named, timed = quoteattr(f"x{written}"), quoteattr(f"y{written}")
    course.begin(f"<speak><break time={timed}/><voice name={named}>Hello there.</voice></speak>", ended=True)
    course.take_floor()
    notices = course.client.got(Notice)
    assert notices, "nothing was told, so this shows nothing"
    for notice in notices:
        assert_clean(notice.text)


@given(path=HOSTILE.map(lambda text: text.replace("\0", "")))
@settings(max_examples=30, deadline=None)
@example(path="a\x1bb's \\c  d")
def test_a_command_in_a_remedy_names_the_very_file(path: str) -> None:
    """Bash reads it, through the cleaning that every remedy gets."""
    with contextlib.suppress(UnicodeEncodeError):  # no file has such a name
        expected = path[:300].encode("utf-8", "surrogateescape")
        line = str(KokoroError("p", f"rm -r {shell_word(path[:300])}"))
        words = line.removeprefix("p; rm -r ")
        done = subprocess.run(["bash", "-c", f"printf %s {words}"], capture_output=True, check=True)
        assert done.stdout == expected
