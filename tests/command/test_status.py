"""The status for a person: honest words for what each utterance does, and who has not answered."""

from __future__ import annotations

from kokoro_common.command.status import NOT_RUNNING, readable
from kokoro_common.wire.reports import StatusReport, UtteranceReport


def report(state: str, seconds: float = 0.0, state_s: float = 0.0) -> UtteranceReport:
    return UtteranceReport(
        utterance="0" * 32, voice="af_heart", state=state, seconds=seconds, client="pid 7", age_s=99.0, state_s=state_s
    )


def test_each_state_says_what_it_means() -> None:
    utterances = (report("speaking", 3.2, 3.5), report("waiting", 0.0, 25.0), report("writing", 12.0, 1.0))
    lines = readable(StatusReport(utterances=utterances)).splitlines()
    assert lines[1:] == [
        "speaking       af_heart, 3.2 s heard, for pid 7",
        "waiting        af_heart, for 25.0 s, for pid 7",
        "writing        af_heart, 12.0 s written, for pid 7",
    ]
    assert "so far" not in "".join(lines)


def test_what_is_paused_says_for_how_long_and_how_it_goes_on() -> None:
    line = readable(StatusReport(utterances=(report("paused", 3.2, 60.0),))).splitlines()[1]
    assert line == "paused         af_heart, for 1 min, 3.2 s heard; {say} --resume goes on, for pid 7"


def test_servers_that_have_not_answered_are_named() -> None:
    assert readable(StatusReport()) == NOT_RUNNING
    silent = StatusReport(silent=("model", "voice-af_heart"))
    assert readable(silent) == "no answer      from the model server, af_heart"
    assert silent.as_json()["silent"] == ["model", "voice-af_heart"]


def test_utterances_that_are_left_out_are_counted() -> None:
    assert readable(StatusReport(utterances=(report("waiting"),), more=412)).endswith("\nand 412 more")
