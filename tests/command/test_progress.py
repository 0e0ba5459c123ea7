"""The messenger: what is shown of an utterance, on a terminal and elsewhere, and what becomes of its output."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable

import pytest

from kokoro_common.client.conversation import Audio
from kokoro_common.command.progress import Messenger
from kokoro_common.command.terminal import bar, clock, columns, megabytes, roughly
from kokoro_common.errors import OutputError
from kokoro_common.wire.messages import Accepted, ChunkSpoken, Explained, Notice, Progress, ServerState, Started

ID = "0" * 32


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Output:
    """A render of 100 s that is half done."""

    fraction = 0.5
    folder = "/a folder"
    encoded = False
    seconds = 50.0
    kept = True

    def __init__(self) -> None:
        self.taken: list[object] = []

    def take(self, event: object) -> None:
        self.taken.append(event)

    def finish(self, show: Callable[[float], None]) -> None:
        show(0.5)

    def abandon(self) -> bool:
        return self.kept


def shown(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, *events: object, quiet: bool = False) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    messenger = Messenger(quiet=quiet)
    for event in events:
        messenger.hear(event)  # type: ignore[arg-type]
    return stream.getvalue()


STATES = [
    ServerState(state="starting"),
    ServerState(state="downloading", detail="a.pth", fraction=0.1, done=32_000_000, total=320_000_000),
    ServerState(state="downloading", detail="a.pth", fraction=0.15, done=48_000_000, total=320_000_000),
    ServerState(state="downloading", detail="a.pth", fraction=0.2, done=64_000_000, total=320_000_000),
    ServerState(state="loading"),
    ServerState(state="loading", detail="measuring once what is fastest here"),
    ServerState(state="loading"),
    ServerState(state="ready"),
]


def test_elsewhere_each_state_is_a_line_and_each_tenth_of_a_download(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, io.StringIO(), *STATES[:6], STATES[5], STATES[7]).splitlines() == [
        "say.py: downloading the model: 32 of 320 MB (10%)",
        "say.py: downloading the model: 64 of 320 MB (20%)",
        "say.py: loading the model",
        "say.py: measuring once what is fastest here",
    ]


def test_on_a_terminal_one_line_is_overwritten_and_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = shown(monkeypatch, Terminal(), *STATES)
    lines = text.split("\r")
    assert "\n" not in text
    assert lines[1] == f"downloading the model {bar(0.1)}  10%  32 of 320 MB"
    assert lines[4].rstrip() == "loading the model" and len(lines[4]) == len(lines[3])
    assert lines[-2].isspace() and lines[-1] == ""


def steps(total: int, files: int = 1) -> list[ServerState]:
    return [
        ServerState(
            state="downloading", detail="model.pth", fraction=done / 100, done=total * done // 100, total=total
        )
        for _ in range(files) for done in range(101)
    ]  # fmt: skip


@pytest.mark.parametrize("width", range(20, 101, 4))
def test_no_line_is_wider_than_the_terminal_is_now(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """On a terminal that wraps in its last column, an erased line leaves nothing behind, and nothing scrolls."""
    monkeypatch.setenv("COLUMNS", str(width))
    seconds = iter(range(100_000))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(seconds)))
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    messenger = Messenger(quiet=False)
    output = messenger.output = Output()  # type: ignore[assignment]
    for state in (*steps(327_212_226), ServerState(state="loading", detail="日本語" * 30)):
        messenger.hear(state)
    messenger.hear(Started(utterance=ID, engine="kokoro"))
    messenger.hear(ChunkSpoken(utterance=ID, index=0, text="x", start=0, places=(0,), words=(), frames=1))
    assert output.taken
    messenger.finish()
    messenger.end_line()
    lines = [line for line in stream.getvalue().split("\r") if line.strip()]
    assert len(lines) == 104
    assert max(columns(line.rstrip()) for line in lines) < width
    assert "\n" not in stream.getvalue()
    assert sum("%" in line for line in lines) == 103  # all but the one that says what is loaded


def test_a_terminal_that_has_become_narrower_loses_the_line_that_wraps_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    messenger = Messenger(quiet=False)
    messenger.hear(STATES[1])
    wide = columns(stream.getvalue().split("\r")[-1])
    monkeypatch.setenv("COLUMNS", "25")
    stream.truncate(0)
    messenger.hear(STATES[2])
    assert stream.getvalue().lstrip("\0").startswith(f"\x1b[{(wide - 1) // 25}A\r\x1b[J")


def test_a_download_tells_its_rate_and_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter(range(100_000))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(seconds)))
    monkeypatch.setenv("COLUMNS", "100")
    text = shown(monkeypatch, Terminal(), *steps(300_000_000)[:51])
    assert text.rpartition("\r")[2] == f"downloading the model {bar(0.5)}  50%  150 of 300 MB, 50 s left, 3.0 MB/s"


def test_elsewhere_a_download_is_eleven_lines_and_the_next_one_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(monkeypatch, io.StringIO(), *steps(327_212_226, files=2)).splitlines()
    assert len(lines) == 22
    assert lines[:11] == [
        f"say.py: downloading the model: {megabytes(327_212_226 * tenth // 10, 327_212_226)} ({tenth}0%)".replace(
            "(00%)", "(0%)"
        )
        for tenth in range(11)
    ]


def test_quiet_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    notice = Notice(utterance=ID, text="the embedded default voice speaks")
    assert shown(monkeypatch, Terminal(), *STATES, notice, quiet=True) == ""
    assert shown(monkeypatch, io.StringIO(), notice) == "say.py: the embedded default voice speaks\n"


def test_the_log_is_named_with_the_utterance(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    for log in ("", "/logs/kokoro.log"):
        Messenger(quiet=False, log=log).hear(Accepted(utterance=ID, text_credit=1))
    assert stream.getvalue() == f"say.py: utterance {ID}: grep {ID} /logs/kokoro.log\n"


def test_explanations_go_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    messenger = Messenger(quiet=False)
    messenger.hear(Explained(utterance=ID, index=0, text="Hello.", phonemes="həlˈoʊ."))
    messenger.hear(Explained(utterance=ID, index=1, text="Hola.", phonemes=""))
    assert capsys.readouterr() == ("Hello.\n    həlˈoʊ.\nHola.\n", "")


def test_the_output_takes_audio_words_and_the_engine_and_the_bar_follows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    messenger = Messenger(quiet=False)
    output = messenger.output = Output()  # type: ignore[assignment]
    chunk = ChunkSpoken(utterance=ID, index=0, text="x", start=0, places=(0,), words=(), frames=1)
    events = [Started(utterance=ID, engine="kokoro"), Audio(pcm=b"1234", index=0, words=()), chunk]
    for event in events:
        messenger.hear(event)  # type: ignore[arg-type]
    messenger.hear(Progress(utterance=ID, seconds=1.0))
    assert output.taken == events
    assert messenger.engine == "kokoro"
    assert stream.getvalue().startswith(f"\rwriting {bar(0.5)}  50%  0 s left, 0:00:50 of audio")
    messenger.finish()
    assert f"encoding {bar(0.5)}  50%" in stream.getvalue()


def test_what_was_kept_is_told_with_the_error_or_in_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    messenger = Messenger(quiet=False)
    messenger.output = Output()  # type: ignore[assignment]
    error = OutputError("the disk is full", "free some space")
    messenger.abandon(error)
    kept = "0:00:50 of audio are kept: the same command goes on there"
    assert str(error) == f"the disk is full; free some space; {kept}"
    messenger.abandon(KeyboardInterrupt())
    assert stream.getvalue() == f"say.py: {kept}\n"


def test_times_read_as_a_person_says_them() -> None:
    assert [clock(seconds) for seconds in (0.0, 59.9, 3_723.0)] == ["0:00:00", "0:00:59", "1:02:03"]
    assert [roughly(seconds) for seconds in (5.4, 89.0, 95.0, 5_370.0, 7_500.0)] == [
        "5 s", "89 s", "2 min", "1 h 30 min", "2 h 5 min",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", "the model"),
        ("kokoro-v1_0.pth", "the model"),
        ("voices/af_bella.pt", "the voice af_bella"),
        ("en_core_web_sm-3.8.0-py3-none-any.whl", "spaCy's English model"),
    ],
)
def test_what_is_fetched_is_told_and_no_names_of_files(
    capsys: pytest.CaptureFixture[str], file: str, content: str
) -> None:
    Messenger(quiet=False).hear(
        ServerState(state="downloading", detail=file, fraction=0.1, done=1 << 20, total=10 << 20)
    )
    assert capsys.readouterr().err.startswith(f"say.py: downloading {content}: ")
