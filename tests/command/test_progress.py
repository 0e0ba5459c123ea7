"""The messenger: what is shown of an utterance, on a terminal and elsewhere, and what becomes of its output."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable

import pytest

from kokoro_common.client.conversation import Audio
from kokoro_common.command.progress import Messenger, bar, clock, roughly
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
    ServerState(state="downloading", detail="a.pth", fraction=0.1),
    ServerState(state="downloading", detail="a.pth", fraction=0.2),
    ServerState(state="loading"),
    ServerState(state="ready"),
]


def test_elsewhere_each_state_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, io.StringIO(), *STATES) == "say.py: downloading a.pth\nsay.py: loading the model\n"


def test_on_a_terminal_one_line_is_overwritten_and_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, Terminal(), *STATES)
    lines = text.split("\r")
    assert "\n" not in text
    assert lines[1] == "downloading a.pth [###...........................]  10%"
    assert lines[3].rstrip() == "loading the model" and len(lines[3]) == len(lines[2])
    assert lines[-2].isspace() and lines[-1] == ""


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
    assert stream.getvalue().startswith(f"\r{bar(0.5)}  0:00:50 of audio, ")
    messenger.finish()
    assert f"encoding {bar(0.5)}" in stream.getvalue()


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
