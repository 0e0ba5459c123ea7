"""What is made of the measures: words, the gate, the page. No model, no recogniser, no network."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.listening.measures import Figures, Job, broken
from benchmarks.listening.speakers import Clip, NoLanguage
from benchmarks.listening.words import (
    LISTENED,
    Errors,
    Text,
    Word,
    errors,
    plain_words,
    read_texts,
    spread,
)
from benchmarks.packages import NotToBeHad

# --- Words -----------------------------------------------------------------------------------------------------------


def test_words_are_compared_without_case_and_punctuation() -> None:
    assert plain_words("It’s 6:45 — OK, 1,500 or 40%!") == ["it's", "645", "ok", "1500", "or", "40", "percent"]


@pytest.mark.parametrize(
    ("written", "wrong"),
    [
        ("The cat sat.", 0),
        ("the cat", 1),
        ("the big cat sat", 1),
        ("a cat sits", 2),
        ("", 3),
    ],
)
def test_wrong_words_are_counted(written: str, wrong: int) -> None:
    assert errors(Text("plain", "The cat sat.", ("The cat sat.",)), written) == Errors(wrong, 3)


def test_the_nearest_way_of_writing_counts() -> None:
    text = Text("number", "Chapter 7.", ("Chapter 7.", "chapter seven"))
    assert errors(text, "Chapter seven") == Errors(0, 2)
    assert errors(text, "Chapter 7") == Errors(0, 2)


def test_there_are_64_texts_and_a_part_of_them_has_all_kinds() -> None:
    texts = read_texts(*LISTENED)
    assert len(texts) == 64
    assert {text.kind for text in spread(texts, 24)} == set(LISTENED)
    assert all("\\n" not in text.text and text.heard[0] == text.text for text in texts)
    assert sum("\n\n" in text.text for text in texts) == sum(text.kind == "paragraph" for text in texts) == 4


def test_the_gate_reads_ten_sentences() -> None:
    said = " ".join(text.text for text in read_texts("gate"))
    assert sum(said.count(mark) for mark in ".?!") == 10


# --- The gate --------------------------------------------------------------------------------------------------------

FINE: Figures = {"voice": "af_heart", "text": "Here. There.", "wrong": 0, "of": 100, "lead_50": 0.05, "loudness": -24.1,
                 "pauses": [(".", 0.44), (",", 0.2)], "holes": []}  # fmt: skip


def test_nothing_is_said_of_what_is_fine() -> None:
    assert broken([FINE]) == []
    assert broken([{**FINE, "lead_50": 0.10, "wrong": 5, "loudness": -26.0, "pauses": [(".", 0.7), (",", 0.0)]}]) == []


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"wrong": 6}, "6 of 100 words are wrong"),
        ({"lead_50": 0.11}, "0.11 s to the first sound"),
        ({"pauses": [("?", 0.71)]}, "0.71 s between sentences"),
        ({"pauses": [(".", 0.14)]}, "0.14 s between sentences"),
        ({"pauses": [(",", 0.71)]}, "0.71 s of silence within a sentence"),
        ({"holes": [0.8]}, "0.80 s of silence within a sentence"),
        ({"loudness": -26.1}, "-26.1 LUFS instead of -24"),
        ({"loudness": -21.9}, "-21.9 LUFS instead of -24"),
    ],
)
def test_what_is_broken_is_named(fault: Figures, said: str) -> None:
    (found,) = broken([{**FINE, **fault}])
    assert said in found
    assert broken([FINE, {**FINE, **fault, "voice": "bm_george"}]) or "wrong" in fault


def test_a_gate_that_cannot_fetch_says_so_and_passes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import listen

    def fails(**_: bool) -> None:
        raise NotToBeHad("pip download failed")

    monkeypatch.setattr(listen, "prepare", fails)
    assert listen.main(["--gate"]) == 0
    assert capsys.readouterr().out.splitlines() == ["pip download failed", "NOT LISTENED"]


# --- The page --------------------------------------------------------------------------------------------------------


def spoken(speaker: str, seconds: float, pause: float, lead: float) -> Figures:
    return {**FINE, "speaker": speaker, "spoken": seconds, "pauses": [(".", pause)], "lead_50": lead, "lead_60": lead,
            "tail_60": 0.4, "mos": 3.3, "click": -100.0, "true_peak": -3.0}  # fmt: skip


def test_the_page_has_kokoro_beside_ours_before_and_after() -> None:
    from benchmarks.quality import condense, same_run

    before = condense({"speech": [spoken("ours", 2.2, 0.96, 0.3), spoken("kokoro", 2.0, 0.47, 0.3)]})
    after = condense({"speech": [spoken("ours", 2.02, 0.45, 0.03), spoken("kokoro", 2.0, 0.47, 0.3)]})
    lines = {line.split(" | ")[0]: line.split(" | ")[1:] for line in same_run({"before": before, "after": after})}
    assert lines["| "] == ["kokoro, before", "ours, before", "kokoro, after", "ours, after |"]
    assert [cell[:4] for cell in lines["| pause: full stop, s"]] == ["0.47", "0.96", "0.47", "0.45"]
    assert [cell[:5] for cell in lines["| length, first to last edge, of kokoro's"]] == [
        "1.000",
        "1.100",
        "1.000",
        "1.010",
    ]
    assert [cell[:4] for cell in lines["| lead-in to -50 dBFS, s"]] == ["0.30", "0.30", "0.30", "0.03"]


def test_the_page_tells_the_levels_of_voices_and_of_the_embedded_default() -> None:
    from benchmarks.quality import condense, level_file, levels

    def level(speaker: str, voice: str, loudness: float) -> Figures:
        return {**spoken(speaker, 2.0, 0.5, 0.3), "voice": voice, "loudness": loudness}

    raw = {
        "levels": [level("ours", "if_sara", -16.7), level("ours", "af_nova", -28.4), level("ours", "af_heart", -24.5)],
        "embedded": [level("embedded", "af_heart", -19.0)],
    }
    figures = {"before": condense(raw)}
    _, _, ours, embedded = levels(figures)
    assert ours.startswith("| before | 3 | -28.4 (af_nova) | -16.7 (if_sara) | -24.5 | 2 | -3.0 |")
    assert embedded.startswith("| embedded default, before | 1 | -19.0")
    assert level_file(figures).splitlines()[1] == "af_heart\t-24.50\t-3.00"


# --- Rounds ----------------------------------------------------------------------------------------------------------


class Monoglot:
    """A speaker that has English alone."""

    name = "ours"

    def speak(self, text: str, voice: str, path: Path, lang: str = "") -> Clip:
        if not lang and voice[0] not in "ab":
            raise NoLanguage("no extra")
        return Clip(path, [Word(text, 0, 1)])


def test_a_voice_whose_language_is_missing_speaks_english() -> None:
    own, english = Text("level-j", "\u8239", ("\u8239",)), Text("level-a", "The ferry.", ("The ferry.",))
    spoken = [Job(Monoglot(), voice, own, english).speak(Path("x.wav")).words for voice in ("jf_alpha", "af_heart")]
    assert [word.word for (word,) in spoken] == ["The ferry.", "\u8239"]
    with pytest.raises(NoLanguage):
        Job(Monoglot(), "jf_alpha", own).speak(Path("x.wav"))
