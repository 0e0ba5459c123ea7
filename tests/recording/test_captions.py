"""Captions: every word once, in order, at its time; files that other programs read."""

from __future__ import annotations

import itertools
import json
from datetime import timedelta
from pathlib import Path

import pylrc
import pytest
import srt
import webvtt
from hypothesis import given
from hypothesis import strategies as st

from kokoro_common.errors import OutputError
from kokoro_common.recording.captions import (
    KINDS,
    LINE_WIDTH,
    LINES,
    MAX_CUE_FRAMES,
    CaptionFile,
    Word,
    cues_of,
    lines,
    words_of,
)
from kokoro_common.sound.samples import SAMPLE_RATE
from kokoro_common.text.speech import TimedWord
from kokoro_common.wire.messages import ChunkSpoken
from tests.helpers.players import ffmpeg


def chunk(text: str, *words: tuple[str, int, int], frames: int = 10_000) -> ChunkSpoken:
    """`words`: what was spoken, in order, with first and last frame. The text begins at character 100 of its source."""
    found, place = [], 0
    for word, first, last in words:
        place = text.index(word, place)
        found.append(TimedWord(start=place, end=place + len(word), first_frame=first, last_frame=last))
        place += len(word)
    return ChunkSpoken(
        utterance="",
        index=0,
        text=text,
        start=100,
        places=tuple(100 + at for at in range(len(text))),
        words=tuple(found),
        frames=frames,
    )


def brief(words: list[Word]) -> list[tuple[str, int, int]]:
    return [(word.text, word.first, word.last) for word in words]


def test_marks_belong_to_their_word_and_the_full_stop_to_the_last_one() -> None:
    spoken = chunk('"Well (yes), go."', ("Well", 100, 200), ("yes", 300, 400), ("go", 500, 600))
    words = words_of(spoken, 1_000)
    assert brief(words) == [('"Well', 1_100, 1_200), ("(yes),", 1_300, 1_400), ('go."', 1_500, 11_000)]
    assert [(word.start, word.end) for word in words] == [(100, 105), (106, 112), (113, 117)]


def test_words_that_are_said_as_one_share_its_time_by_their_letters() -> None:
    assert brief(
        words_of(chunk("It has 5 kg now.", ("It", 0, 1), ("has", 2, 3), ("5 kg", 40, 70), ("now", 80, 90)), 0)
    ) == [
        ("It", 0, 1),
        ("has", 2, 3),
        ("5", 40, 50),
        ("kg", 50, 70),
        ("now.", 80, 10_000),
    ]


def test_parts_of_a_written_word_are_one() -> None:
    assert brief(
        words_of(chunk("state-of-the-art ok", ("state", 0, 1), ("of", 1, 2), ("the", 3, 4), ("art", 5, 9)), 0)
    ) == [
        ("state-of-the-art", 0, 9),
        ("ok", 9, 10_000),
    ]


def test_a_dash_belongs_to_the_word_before_it_or_behind_it() -> None:
    assert [word.text for word in words_of(chunk("— a — b —", ("a", 0, 1), ("b", 2, 3)), 0)] == ["— a —", "b —"]


def test_a_word_that_was_not_spoken_takes_no_time_and_is_there() -> None:
    assert brief(words_of(chunk("one zzz two", ("one", 10, 20), ("two", 30, 40)), 0)) == [
        ("one", 10, 20),
        ("zzz", 20, 20),
        ("two", 30, 10_000),
    ]
    assert brief(words_of(chunk("zzz", frames=0), 7)) == [("zzz", 7, 7)]


def test_scripts_without_blanks_are_cut_at_what_was_spoken() -> None:
    words = words_of(chunk("今日は「晴れ」です。", ("今日", 0, 1), ("は", 1, 2), ("晴れ", 3, 4), ("です", 5, 6)), 0)
    assert [word.text for word in words] == ["今日", "は", "「晴れ」", "です。"]
    assert [word.spaced for word in words] == [True, False, False, False]
    assert cues_of(words)[0].text == "今日は「晴れ」です。"


def test_a_pause_has_no_words() -> None:
    assert words_of(chunk("", frames=24_000), 5) == []


TEXTS = st.text(alphabet=st.sampled_from("ab1.,-—()“” 日本。 "), max_size=60).map(lambda text: " ".join(text.split()))


@given(
    TEXTS, st.lists(st.tuples(st.integers(0, 59), st.integers(1, 5), st.integers(0, 12_000), st.integers(0, 12_000)))
)
def test_every_character_is_in_one_word_and_times_go_forward(
    text: str, spoken: list[tuple[int, int, int, int]]
) -> None:
    taken: list[TimedWord] = []
    for start, length, first, last in sorted(spoken):
        free = not taken or start >= taken[-1].end
        if free and start + length <= len(text) and text[start] != " ":  # a spoken word begins with a character
            taken.append(TimedWord(start=start, end=start + length, first_frame=first, last_frame=last))
    words = words_of(chunk(text).replace(words=tuple(taken)), 50)
    assert "".join(word.text for word in words).replace(" ", "") in ("", text.replace(" ", ""))
    assert bool(words) == (
        any(map(str.isalnum, text)) or bool([each for each in taken if text[each.start : each.end].strip()])
    )
    times = [time for word in words for time in (word.first, word.last)]
    assert times == sorted(times)
    assert not words or (times[0] >= 50 and times[-1] == 10_050)
    places = [place for word in words for place in (word.start, word.end)]
    assert places == sorted(places)


# Cues

LONG = "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness, "
LONG += "it was the epoch of belief and of unbelievably-long-words-that-nobody-would-ever-put-into-any-sentence, I say."


def spoken_words(text: str, frames_each: int = 8_000) -> list[Word]:
    parts = text.split()
    timed = [(part.strip(",.?"), at * frames_each, (at + 1) * frames_each - 500) for at, part in enumerate(parts)]
    return words_of(chunk(text, *timed, frames=len(parts) * frames_each), 0)


def test_a_cue_fits_on_the_screen_and_ends_with_a_clause_where_it_can() -> None:
    words = spoken_words(LONG)
    cues = cues_of(words)
    assert " ".join(cue.text for cue in cues) == LONG
    assert [cue.text for cue in cues][:2] == [
        "It was the best of times, it was the worst of times, it was the age of wisdom,",
        "it was the age of foolishness, it was the epoch of belief and of",
    ]
    for cue in cues:
        assert len(lines(cue.text)) <= LINES
        assert cue.last - cue.first <= MAX_CUE_FRAMES
    assert cues[-1].last == words[-1].last


@given(
    st.lists(st.tuples(st.text("abcde,.", min_size=1, max_size=30), st.integers(0, 90_000)), min_size=1, max_size=40)
)
def test_no_cue_is_too_long_to_read(parts: list[tuple[str, int]]) -> None:
    ends = list(itertools.accumulate(length for _, length in parts))
    starts = [0, *ends[:-1]]
    words = [
        Word(text=text, start=0, end=1, first=first, last=last)
        for (text, _), first, last in zip(parts, starts, ends, strict=True)
    ]
    for cue in cues_of(words):
        assert len(lines(cue.text)) <= LINES
        assert cue.last - cue.first <= MAX_CUE_FRAMES


def test_what_looks_like_a_time_is_none_in_lrc(tmp_path: Path) -> None:
    with CaptionFile(str(tmp_path / "a.lrc"), "lrc") as file:
        file.add(spoken_words("[12:30] Meeting [in] room [00:01.50]"), 99)
    assert (tmp_path / "a.lrc").read_text().startswith("[00:00.00](12:30) Meeting [in] room (00:01.50)\n")


def test_emphasis_is_not_shown() -> None:
    text = "A **bold** _claim_, `x_y` *said* **“so”**. 2 * 3 _"
    assert cues_of(spoken_words(text))[0].text == "A bold claim, x_y said “so”. 2 * 3 _"


def test_two_lines_are_about_as_long() -> None:
    assert lines("it was the age of wisdom, it was the age of foolishness,") == [
        "it was the age of wisdom, it",
        "was the age of foolishness,",
    ]
    assert lines("x" * 60) == ["x" * 60]  # no place to break it
    assert lines("今日は晴れです。" * 4) == ["今日は晴れです。" * 2] * 2


def test_korean_is_broken_at_its_blanks_and_nothing_within_an_emoji() -> None:
    korean = "한국어 문장은 낱말 사이를 띄어 쓰므로 빈칸에서 줄을 바꾼다"
    assert " ".join(lines(korean)) == korean and len(lines(korean)) == 2
    assert lines("x" * 40 + "👨\u200d👩\u200d👧") == ["x" * 40 + "👨\u200d👩\u200d👧"]
    assert lines("か\u3099" * 30) == ["か\u3099" * 15] * 2


@given(st.lists(st.text(alphabet="abcdefg,.", min_size=1, max_size=50), min_size=1, max_size=30).map(" ".join))
def test_no_character_is_lost_in_lines_and_cues(text: str) -> None:
    assert " ".join(lines(text)) == text
    assert all(len(line) <= LINE_WIDTH or " " not in line for line in lines(text))
    words = [
        Word(text=word, start=at, end=at + 1, first=at * 9_000, last=at * 9_000 + 9_000)
        for at, word in enumerate(text.split())
    ]
    assert " ".join(cue.text for cue in cues_of(words)) == text


# Files


def written(path: Path, kind: str, seconds: int = 4_500) -> str:
    """Two sentences, one at the beginning and one at the end of so much audio."""
    with CaptionFile(str(path), kind, "A [title]", "An author", source="all of it") as file:
        file.add(spoken_words(LONG), len(LONG.split()) * 8_000)
        end = seconds * SAMPLE_RATE
        last = words_of(chunk("Bye -> now & ever.", ("Bye", 10, 20), ("now", 30, 40), ("ever", 50, 60)), end - 10_000)
        file.add(last, end)
    return path.read_text()


def test_srt_is_read_by_srt(tmp_path: Path) -> None:
    cues = list(srt.parse(written(tmp_path / "out.srt", "srt")))
    assert [cue.index for cue in cues] == list(range(1, len(cues) + 1))
    assert " ".join(cue.content.replace("\n", " ") for cue in cues) == f"{LONG} Bye -> now & ever."
    assert cues[-1].end == timedelta(seconds=4_500)
    assert cues[-1].start == timedelta(milliseconds=4_499_584)  # 9,990 frames before


def test_vtt_is_read_by_webvtt(tmp_path: Path) -> None:
    written(tmp_path / "out.vtt", "vtt")
    cues = webvtt.read(str(tmp_path / "out.vtt"))
    assert cues[-1].raw_text == "Bye -&gt; now &amp; ever."
    assert cues[-1].end == "01:15:00.000"
    assert " ".join(cue.raw_text.replace("\n", " ") for cue in cues[:-1]) == LONG


def test_lrc_is_read_by_pylrc(tmp_path: Path) -> None:
    lyrics = pylrc.parse(written(tmp_path / "out.lrc", "lrc", 3_590))  # it knows no more than 59 minutes
    assert (lyrics.title, lyrics.artist) == ("A (title)", "An author")
    assert " ".join(line.text for line in lyrics) == f"{LONG} Bye -> now & ever. "  # the last one ends it
    assert lyrics[-1].time == 3_590.0


@pytest.mark.parametrize("kind", ["srt", "vtt", "lrc"])
def test_ffmpeg_reads_them(kind: str, tmp_path: Path) -> None:
    written(tmp_path / f"out.{kind}", kind)
    cues = list(srt.parse(ffmpeg("-i", str(tmp_path / f"out.{kind}"), "-f", "srt", "-").decode()))
    said = " ".join(cue.content.replace("\n", " ") for cue in cues if cue.content)
    assert said.replace("&gt;", ">").replace("&lt;", "<").replace("&amp;", "&") == f"{LONG} Bye -> now & ever."
    assert abs(max(cue.start for cue in cues) - timedelta(milliseconds=4_499_584)) <= timedelta(milliseconds=417)


def test_words_are_json_with_their_places(tmp_path: Path) -> None:
    report = json.loads(written(tmp_path / "out.json", "words"))
    assert [word["word"] for word in report["words"]] == [*LONG.split(), "Bye ->", "now", "&", "ever."]
    assert report["words"][0] == {
        "word": "It",
        "start": 0.0,
        "end": 7_500 / 24_000,
        "source_start": 100,
        "source_end": 102,
    }
    assert (report["duration"], report["source"]) == (4_500.0, "all of it")


@pytest.mark.parametrize("kind", KINDS)
def test_captions_of_nothing_are_a_file_too(kind: str, tmp_path: Path) -> None:
    with CaptionFile(str(tmp_path / "out"), kind):
        pass
    assert kind != "words" or json.loads((tmp_path / "out").read_text()) == {"words": [], "duration": 0.0}


def test_until_the_commit_nothing_is_there(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), CaptionFile(str(tmp_path / "out.srt"), "srt") as file:
        file.add(spoken_words(LONG), 99)
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OutputError, match="make the folder first"):
        CaptionFile(str(tmp_path / "missing" / "out.srt"), "srt")
